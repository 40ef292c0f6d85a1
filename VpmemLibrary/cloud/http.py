"""Requests to the services of the lab's own cloud over HTTP, without any proxy of this machine."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from VpmemLibrary.cloud.settings import Settings
from VpmemLibrary.errors import LabError

_REQUEST_SECONDS = 120.0
_SHOWN = 300
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpError(LabError):
    """A service of the cloud did not answer, or refused a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(
    method: str,
    url: str,
    *,
    body: bytes | IO[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = _REQUEST_SECONDS,
) -> Answer:
    """Send a request and return the answer.

    Raises:
        HttpError: No answer came in time, or its status is 400 or higher. The message has the start of the answer.
    """
    sent = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310  loopback
    try:
        with _OPENER.open(sent, timeout=timeout) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        said = error.read(_SHOWN).decode("utf-8", "replace")
        if error.code < 400:
            return Answer(error.code, dict(error.headers), said.encode())
        raise HttpError(f"{method} {url} was answered with status {error.code}: {said}") from error
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise HttpError(f"{method} {url} was not answered: {error}") from error


class Api:
    """The APIs of a cloud, used as its administrator."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = ""

    def get(self, service: str, path: str) -> Any:
        """Send a GET request for a path. Return the answer's JSON as data.

        Raises:
            HttpError: The service did not answer, or refused the request.
        """
        return json.loads(self.send("GET", service, path).body)

    def send(
        self,
        method: str,
        service: str,
        path: str,
        *,
        data: object = None,
        file: IO[bytes] | None = None,
        size: int = 0,
    ) -> Answer:
        """Send a request with a token of the administrator.

        Args:
            method: The method, e.g. ``POST``.
            service: ``keystone``, ``placement``, ``glance``, ``neutron`` or ``nova``.
            path: The path of the URL.
            data: The body, as data for JSON.
            file: The body, as a file.
            size: The size of the file, in bytes.

        Raises:
            HttpError: The service did not answer, or refused the request.
        """
        headers = {"X-Auth-Token": self._authenticated(), "OpenStack-API-Version": "placement 1.36"}
        body: bytes | IO[bytes] | None = None
        if data is not None:
            body, headers["Content-Type"] = json.dumps(data).encode(), "application/json"
        elif file is not None:
            body, headers["Content-Type"], headers["Content-Length"] = file, "application/octet-stream", str(size)
        return request(method, f"{self._settings.url(service)}{path}", body=body, headers=headers)

    def _authenticated(self) -> str:
        if not self._token:
            user = {"name": "admin", "domain": {"name": "Default"}, "password": self._settings.secret}
            identity = {"methods": ["password"], "password": {"user": user}}
            scope = {"project": {"name": "admin", "domain": {"name": "Default"}}}
            answer = request(
                "POST",
                f"{self._settings.url('keystone')}/v3/auth/tokens",
                body=json.dumps({"auth": {"identity": identity, "scope": scope}}).encode(),
                headers={"Content-Type": "application/json"},
            )
            self._token = {name.lower(): value for name, value in answer.headers.items()}["x-subject-token"]
        return self._token
