"""Waiting for the services of the cloud: an end, a silence and a refusal are errors with the end of the log."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from VpmemLibrary.cloud.container import Container
from VpmemLibrary.cloud.http import Api, HttpError, request
from VpmemLibrary.cloud.services import Service, wait_for, wait_until_ready
from VpmemLibrary.cloud.settings import Ports, Settings
from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.paths import private_directory
from VpmemLibrary.lab.ports import free_port
from VpmemLibrary.lab.process import kill_process, start_process


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as keystone and glance do, so far as requests here go."""

    seen: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        status = {"/refuse": 503, "/choices": 300}.get(self.path, 200)
        text = json.dumps({"path": self.path, "long": "x" * 1000}).encode()
        self.send_response(status)
        if self.path == "/v3/auth/tokens":
            self.send_header("X-Subject-Token", "a-token")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        made.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(private_directory(tmp_path / "cloud"), tmp_path)
    yield made
    kill_process(made.service_directory("keystone"))


def start(container: Container, script: str) -> None:
    directory = container.service_directory("keystone")
    directory.mkdir(parents=True)
    start_process(directory, ["sh", "-c", script], container.log("keystone"), dict(os.environ))


def test_a_service_that_ended_is_an_error_at_once_with_its_log(container: Container) -> None:
    start(container, "echo no such option >&2; exit 1")
    began = time.monotonic()
    while container.service("keystone"):
        time.sleep(0.01)
    with pytest.raises(LabError, match=r"keystone ended(?s:.*)vpmem cloud down(?s:.*)keystone\.log:\nno such option"):
        wait_until_ready(container, Service("keystone", ["x"], free_port()))
    assert time.monotonic() - began < 30


def test_a_service_that_never_answers_is_an_error_at_the_deadline(container: Container) -> None:
    start(container, "echo starting; exec sleep 600")
    port = free_port()
    service = Service("keystone", ["x"], port, f"http://127.0.0.1:{port}/v3")
    with pytest.raises(LabError, match=r"Waited 0\.5 s for keystone to answer(?s:.*)refused(?s:.*)\nstarting"):
        wait_until_ready(container, service, timeout=0.5)


def test_a_service_is_ready_when_it_answers_or_listens(
    container: Container, server: http.server.ThreadingHTTPServer
) -> None:
    start(container, "exec sleep 600")
    port = server.server_address[1]
    wait_until_ready(container, Service("keystone", ["x"], port, f"http://127.0.0.1:{port}/choices"), timeout=10)
    wait_until_ready(container, Service("keystone", ["x"], port), timeout=10)
    wait_until_ready(container, Service("keystone", ["x"]), timeout=10)


def test_an_answer_of_an_error_means_not_yet(container: Container, server: http.server.ThreadingHTTPServer) -> None:
    start(container, "exec sleep 600")
    url = f"http://127.0.0.1:{server.server_address[1]}/refuse"
    with pytest.raises(LabError, match=r"status 503: .{5,400}"):
        wait_for(container, "keystone", lambda: bool(request("GET", url)), "to list networks", 0.3)


def test_no_proxy_of_this_machine_is_used(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert request("GET", f"http://127.0.0.1:{server.server_address[1]}/").status == 200


def test_an_error_has_the_start_of_the_answer(server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(HttpError) as failure:
        request("GET", f"http://127.0.0.1:{server.server_address[1]}/refuse")
    assert "was answered with status 503" in str(failure.value)
    assert len(str(failure.value)) < 500


def test_the_administrator_logs_in_once_and_sends_files_whole(
    server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    port = server.server_address[1]
    api = Api(Settings(Ports(*[port] * 9), "secret"))
    assert api.get("placement", "/resource_providers")["path"] == "/resource_providers"
    (tmp_path / "file").write_bytes(b"x" * 100000)
    with (tmp_path / "file").open("rb") as file:
        api.send("PUT", "glance", "/v2/images/1/file", file=file, size=100000)
    seen = server.seen  # type: ignore[attr-defined]
    assert [path for _, path, _, _ in seen] == ["/v3/auth/tokens", "/resource_providers", "/v2/images/1/file"]
    assert {headers["X-Auth-token".title()] for _, _, headers, _ in seen[1:]} == {"a-token"}
    assert len(seen[2][3]) == 100000
