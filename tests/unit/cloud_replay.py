"""A server that answers as the services of a real cloud did: keystone, placement, glance, neutron and nova of OpenStack
2025.1 of Debian 13 (tests/data/cloud)."""

from __future__ import annotations

import http.server
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "data/cloud/openstack-2025.1.json"


class Replay(http.server.ThreadingHTTPServer):
    """Answers each request with the recorded answers to it, in their order. The last answer is repeated."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        recorded = json.loads(RECORDED.read_text())
        self.seen: list[str] = []
        self.bodies: dict[str, bytes] = {}
        """The body of the last request of each kind."""
        self.headers: dict[str, dict[str, str]] = {}
        """The headers of the last request of each kind."""
        self.ended = threading.Event()
        self.answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._ports: dict[str, int] = recorded["ports"]
        for exchange in recorded["exchanges"]:
            key = f"{exchange['service']} {exchange['method']} {exchange['path']} {exchange['name']}".rstrip()
            self.answers[key].append(exchange)

    @property
    def url(self) -> str:
        """The URL of this server."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, key: str, *answers: tuple[int, str]) -> None:
        """Answer the requests of one kind with these statuses and texts: 0 is no answer, -1 a lost connection."""
        self.answers[key] = [
            {
                "status": status,
                "body": text,
                "headers": {"Content-Type": "application/json" if text.startswith("{") else "text/html"},
            }
            for status, text in answers
        ]

    def forget(self, server_id: str) -> None:
        """Answer, after the recorded answers, that there is no such server, as Nova does when it has deleted it."""
        text = json.dumps({"itemNotFound": {"code": 404, "message": f"Instance {server_id} could not be found."}})
        headers = {"Content-Type": "application/json"}
        self.answers[f"nova GET /v2.1/servers/{server_id}"].append({"status": 404, "body": text, "headers": headers})

    def here(self, text: str) -> str:
        """Return a recorded text with the URLs of this server."""
        for service, port in self._ports.items():
            text = text.replace(f"http://127.0.0.1:{port}", f"{self.url}/{service}")
        return text


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Replay

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service, _, path = self.path.removeprefix("/").partition("/")
        key = f"{service} {self.command} /{path} {made(sent)}".rstrip()
        self.server.seen.append(key)
        self.server.bodies[key] = sent
        self.server.headers[key] = dict(self.headers)
        found = self.server.answers.get(key)
        if not found:
            self.send_error(500, f"not recorded: {key}")
            return
        exchange = found.pop(0) if len(found) > 1 else found[0]
        if exchange["status"] <= 0:
            self.close_connection = True
            if exchange["status"] == 0:
                self.server.ended.wait(60)
            return
        body = self.server.here(exchange["body"]).encode()
        self.send_response(exchange["status"])
        for name, value in exchange["headers"].items():
            self.send_header(name, self.server.here(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def made(sent: bytes) -> str:
    """Return the name of what a request makes, which identifies requests to the same path. Empty if there is none."""
    try:
        (wanted,) = json.loads(sent).values()
        return str(wanted.get("name", ""))
    except (ValueError, AttributeError):
        return ""


@contextmanager
def replay() -> Iterator[Replay]:
    """Run the server in a thread during the ``with``."""
    with Replay() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def write_clouds_yaml(path: Path, server: Replay, **changes: Any) -> None:
    """Write a clouds.yaml with the cloud ``recorded``, which is this server.

    Args:
        path: The file.
        server: The server.
        changes: Values of the cloud that replace the usual ones.
    """
    auth = {
        "auth_url": f"{server.url}/keystone/v3",
        "username": "admin",
        "password": "geheim",
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    cloud = {
        "auth": auth,
        "region_name": "RegionOne",
        "identity_api_version": 3,
        "compute_default_microversion": "2.96",
    }
    path.write_text(json.dumps({"clouds": {"recorded": cloud | changes}}))
