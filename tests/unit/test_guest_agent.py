"""Commands through a guest agent: real processes, and agents that are slow, silent, or answer in any shape."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_clock import fake_clock
from guest_agent import NOT_CONNECTED, NOT_SYNCHRONISED, Agent, silence
from hypothesis import given, settings
from hypothesis import strategies as st

from VpmemLibrary.errors import (
    CommandTimeoutError,
    GuestError,
    LibvirtError,
    ToolMissingError,
    UnreadableOutputError,
    VpmemError,
)
from VpmemLibrary.guest.channel.agent import AgentTransport
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.output import MOST_OUTPUT

MODULE = "VpmemLibrary.guest.channel.agent"
TOO_LONG = "Unable to encode message payload"
WITH_CHILD = 'sleep 600 & echo $$ $! >"$1"; echo part; wait'


@pytest.fixture
def agent() -> Iterator[Agent]:
    made = Agent()
    yield made
    made.close()


@pytest.fixture
def transport(agent: Agent) -> AgentTransport:
    return AgentTransport("a", agent)


def answering(*answers: object) -> AgentTransport:
    """The transport to an agent that returns one thing after the other, and the last one again and again."""
    left = [json.dumps({"return": answer}) for answer in answers]
    return AgentTransport("a", lambda *_: left.pop(0) if len(left) > 1 else left[0])


def fails(agent: Agent, execute: str, error: LibvirtError, times: int = 1) -> Callable[[str], None]:
    """Return what raises in the place of the first answers to a request."""
    left = [error] * times

    def fail(asked: str) -> None:
        if asked == execute and left:
            raise left.pop()

    return fail


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_runs_commands_as_a_host_does(transport: AgentTransport) -> None:
    assert isinstance(transport, Transport)
    result = transport.run(["sh", "-c", "cat; echo no >&2; exit 7"], stdin=b"\0\xff\n")
    assert (result.exit_status, result.stdout, result.stderr) == (7, b"\0\xff\n", b"no\n")
    assert transport.run(["sh", "-c", "kill -TERM $$"]).exit_status == -15
    with pytest.raises(ToolMissingError):
        transport.run(["no-such-program"]).check()


def test_files_are_read_and_written_whole(transport: AgentTransport, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    data = bytes(range(256)) * 9000
    transport.write_file(str(path), data, mode=0o640)
    assert transport.read_file(str(path)) == data
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


# An agent that is slow or silent


@pytest.mark.parametrize("answer", [silence(), silence(NOT_SYNCHRONISED)], ids=["no answer", "not synchronised"])
def test_a_status_without_an_answer_is_read_again_until_the_command_s_deadline(
    agent: Agent, transport: AgentTransport, answer: LibvirtError
) -> None:
    agent.before = fails(agent, "guest-exec-status", answer, times=3)
    assert transport.run(["sh", "-c", "sleep 0.1; echo done"]).text == "done\n"
    assert agent.requests.count("guest-exec") == 1
    assert agent.requests.count("guest-exec-status") > 3


def test_a_status_may_take_longer_than_any_other_answer(agent: Agent, transport: AgentTransport) -> None:
    transport.run(["true"], timeout=100)
    assert agent.requests[1] == "guest-exec-status"
    assert agent.timeouts[1] > 90


def test_a_lost_last_status_is_an_error_and_the_command_is_not_run_again(
    agent: Agent, transport: AgentTransport, tmp_path: Path
) -> None:
    def lose_the_end(asked: str) -> None:
        if asked == "guest-exec-status" and not agent.processes:
            raise silence()

    agent.after = lose_the_end
    command = ["sh", "-c", 'echo run >>"$1"', "sh", str(tmp_path / "runs")]
    with pytest.raises(GuestError, match=r"does not exist[\s\S]*It may have had the result of the command"):
        transport.run(command)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_command_whose_start_was_not_answered_is_not_sent_again(
    agent: Agent, transport: AgentTransport, tmp_path: Path
) -> None:
    agent.after = fails(agent, "guest-exec", silence())
    with pytest.raises(
        GuestError, match=r"unknown whether the guest started the command\. The command was not sent again"
    ):
        transport.run(["sh", "-c", 'echo run >>"$1"', "sh", str(tmp_path / "runs")])
    assert agent.requests == ["guest-exec"]


def test_an_agent_that_was_silent_must_answer_a_ping_before_it_gets_a_command(
    agent: Agent, transport: AgentTransport
) -> None:
    agent.before = fails(agent, "guest-ping", silence(NOT_SYNCHRONISED), times=2)
    assert not transport.ping()
    assert transport.run(["echo", "there"]).text == "there\n"
    assert agent.requests[:4] == ["guest-ping", "guest-ping", "guest-ping", "guest-exec"]
    agent.requests.clear()
    transport.run(["true"])
    assert agent.requests[0] == "guest-exec"


def test_an_absent_agent_is_reported_with_the_fix(agent: Agent, transport: AgentTransport) -> None:
    agent.before = fails(agent, "guest-exec", silence(NOT_CONNECTED))
    with pytest.raises(
        GuestError, match=r"of guest a did not run guest-exec: .*code 86\)\. The guest must run qemu-gu"
    ):
        transport.run(["true"])


def test_output_too_long_for_libvirt_is_not_reported_as_an_absent_agent(
    agent: Agent, transport: AgentTransport
) -> None:
    agent.before = fails(agent, "guest-exec-status", LibvirtError("ask the agent", 39, TOO_LONG))
    with pytest.raises(GuestError, match=r"answer of guest a to .*3 MiB of a command's output\)\. Write") as caught:
        transport.run(["sleep", "0"])
    assert "must run qemu-guest-agent" not in str(caught.value)


# A command whose time is over


def test_a_timeout_ends_the_command_with_its_children(transport: AgentTransport, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s and was ended") as caught:
        transport.run(["sh", "-c", WITH_CHILD, "sh", str(pids)], timeout=1)
    assert (caught.value.result.stdout, caught.value.result.exit_status) == (b"part\n", -9)
    assert not [pid for pid in pids.read_text().split() if runs(int(pid))]


def test_an_interruption_leaves_no_command_behind(agent: Agent, transport: AgentTransport, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    class Interrupted(BaseException):
        pass

    def interrupt(asked: str) -> None:
        if asked == "guest-exec-status" and pids.exists() and len(pids.read_text().split()) == 2 and not raised:
            raised.append(True)
            raise Interrupted

    raised: list[bool] = []
    agent.before = interrupt
    with pytest.raises(Interrupted):
        transport.run(["sh", "-c", WITH_CHILD, "sh", str(pids)])
    assert not [pid for pid in pids.read_text().split() if runs(int(pid))]


def test_an_end_that_was_not_seen_is_not_reported(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._ENDING", 1.0)
    agent.before = fails(agent, "guest-exec-status", silence(), times=1000)
    with pytest.raises(
        CommandTimeoutError, match=r"did not end within 1 s, and was not seen to end: .*guest-ping"
    ) as it:
        AgentTransport("a", agent_after_start(agent)).run(["sleep", "600"], timeout=1)
    assert "was ended" not in str(it.value)
    assert agent.requests.count("guest-exec") == 1


def agent_after_start(agent: Agent) -> Callable[[str, int], str]:
    """Return an agent that starts one command and says nothing from then on."""

    def call(request: str, timeout: int) -> str:
        if agent.requests:
            raise silence()
        return agent(request, timeout)

    return call


def test_a_command_that_cannot_be_ended_is_reported_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._ENDING", 0.5)
    before = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=r"not seen to end: it still ran 0\.5 s after it was killed"):
        answering({"pid": 7, "exited": False}).run(["true"], timeout=0.2)
    assert time.monotonic() - before < 20


def test_a_process_that_the_agent_did_not_start_is_not_killed(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._ENDING", 1.0)
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        foreign = int(shell.stdout.readline())
        exec_ = agent.guest_exec
        started: list[Any] = []

        def lying(**arguments: Any) -> dict[str, Any]:
            started.append(exec_(**arguments))
            return {"pid": foreign} if len(started) == 1 else dict(started[-1])

        def status(pid: int, real: Callable[..., dict[str, Any]] = agent.guest_exec_status) -> dict[str, Any]:
            return {"exited": False} if pid == foreign else real(pid)

        agent.guest_exec, agent.guest_exec_status = lying, status  # type: ignore[assignment,method-assign]
        try:
            with pytest.raises(CommandTimeoutError, match="still ran"):
                AgentTransport("a", agent).run(["true"], timeout=0.2)
            assert len(started) == 2, "something was run to end it"
            assert runs(foreign)
        finally:
            subprocess.run(["kill", str(foreign), str(shell.pid)], check=True)


# An agent whose answers are of any shape


def test_a_file_without_end_is_read_up_to_a_limit() -> None:
    asked = []
    part = {"count": 1 << 20, "buf-b64": base64.b64encode(bytes(1 << 20)).decode(), "eof": False}

    def call(request: str, _timeout: int) -> str:
        asked.append(json.loads(request)["execute"])
        return json.dumps({"return": 5 if asked[-1] == "guest-file-open" else part})

    with pytest.raises(GuestError, match="is larger than 16MiB"):
        AgentTransport("a", call).read_file("/x")
    assert asked.count("guest-file-read") == MOST_OUTPUT // (1 << 20) + 1
    assert asked[-1] == "guest-file-close"


@pytest.mark.parametrize("octets", [0, (1 << 20) + 1])
def test_a_part_of_a_file_that_has_no_bytes_or_too_many_is_an_error(octets: int) -> None:
    part = {"count": octets, "buf-b64": base64.b64encode(bytes(octets)).decode(), "eof": False}
    with pytest.raises(GuestError, match="expected 1 to 1048576 bytes, or the end of the file"):
        answering(5, part).read_file("/x")


def test_a_file_that_comes_byte_by_byte_is_read_until_a_deadline() -> None:
    part = {"count": 1, "buf-b64": "AA==", "eof": False}
    with (
        fake_clock(MODULE, "VpmemLibrary.polling") as clock,
        pytest.raises(GuestError, match=r"was not read within 60 s: the agent sent only the first"),
    ):
        before = clock.now
        answering(5, part).read_file("/x")
    assert clock.now - before < 70


def test_a_file_that_was_written_in_part_is_an_error(agent: Agent, transport: AgentTransport, tmp_path: Path) -> None:
    write = agent.guest_file_write
    agent.guest_file_write = lambda **given: {**write(**given), "count": 1}  # type: ignore[method-assign]
    with pytest.raises(GuestError, match="expected a number 'count' from 3 to 3"):
        transport.write_file(str(tmp_path / "file"), b"abc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        *("", "[]", '"x"', "null", "{}", '{"return": {}}', '{"return": []}', '{"return": null}'),
        *(f'{{"return": {{"pid": {pid}}}}}' for pid in ('"x"', "true", "0", "-1", "1e400", "9" * 5000)),
        *("[" * 100_000, '{"return":' * 100_000),
    ],
    ids=lambda answer: answer[:30],
)
def test_an_odd_answer_to_a_start_is_an_error_that_shows_it(answer: str) -> None:
    with pytest.raises(GuestError, match=r"agent of guest a answered guest-exec with '") as caught:
        AgentTransport("a", lambda *_: answer).run(["true"], timeout=1)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"exited": 1},
        {"exited": "yes"},
        {"exited": True},
        {"exited": True, "exitcode": "x"},
        {"exited": True, "exitcode": True},
        {"exited": True, "exitcode": 1 << 40},
        {"exited": True, "signal": None},
        {"exited": True, "signal": -1},
        {"exited": True, "exitcode": 0, "out-data": "A"},
        {"exited": True, "exitcode": 0, "out-data": "é"},
        {"exited": True, "exitcode": 0, "err-data": 7},
        {"exited": True, "exitcode": 0, "out-truncated": "no"},
    ],
    ids=str,
)
def test_an_odd_status_is_an_error_that_shows_it(status: dict[str, Any]) -> None:
    with pytest.raises(GuestError, match=r"answered guest-exec-status with .*: expected "):
        answering({"pid": 7}, status).run(["true"], timeout=1)


def test_output_that_the_agent_did_not_keep_is_an_error() -> None:
    status = {"exited": True, "exitcode": 0, "out-data": "", "out-truncated": True}
    with pytest.raises(UnreadableOutputError, match="keeps only 16 MiB"):
        answering({"pid": 7}, status).run(["true"])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "pid": st.integers(-1, 5) | JSON,
        "exited": st.booleans() | JSON,
        "exitcode": st.integers(0, 255) | JSON,
        "signal": st.integers(0, 64) | JSON,
        "out-data": st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode()) | JSON,
        "err-data": JSON,
        "out-truncated": JSON,
        "buf-b64": st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode()) | JSON,
        "eof": st.booleans() | JSON,
        "count": st.integers(0, 30) | JSON,
    },
)
ANSWERS = st.one_of(
    st.builds(lambda value: json.dumps({"return": value}), FIELDS | st.integers() | JSON),
    JSON.map(json.dumps),
    st.text(),
    st.sampled_from([silence(), silence(NOT_SYNCHRONISED), LibvirtError("ask the agent", 1, "No such file")]),
)


@settings(max_examples=200)
@given(st.lists(ANSWERS, min_size=1, max_size=8), st.sampled_from(["run", "read", "write", "ping"]))
def test_any_answer_of_an_agent_raises_only_errors_of_the_library_and_in_time(
    answers: list[str | LibvirtError], what: str
) -> None:
    left = list(answers)
    asked = 0

    def call(_request: str, timeout: int) -> str:
        nonlocal asked
        asked += 1
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, LibvirtError):
            clock.now += timeout
            raise answer
        return answer

    with fake_clock(MODULE, "VpmemLibrary.polling") as clock:
        transport = AgentTransport("a", call)
        before = clock.now
        try:
            match what:
                case "run":
                    transport.run(["true"], timeout=3)
                case "read":
                    transport.read_file("/x")
                case "write":
                    transport.write_file("/x", b"abc")
                case _:
                    transport.ping()
        except VpmemError as error:
            assert str(error)
        assert clock.now - before < 300
        assert asked < 100_000
