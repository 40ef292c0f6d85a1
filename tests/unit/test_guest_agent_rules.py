"""Agents that refuse commands: what they are, what a user is told, and what works all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_agent import NOT_CONNECTED, Agent, silence

from VpmemLibrary.errors import AgentRefusedError, GuestError, LibvirtError, UnsupportedError
from VpmemLibrary.guest.channel.agent import AgentTransport
from VpmemLibrary.guest.channel.agent_rules import refused_commands

DISABLED = "Command {} has been disabled: the command is not allowed"
INFO = {
    "version": "8.2.0",
    "supported_commands": [
        {"name": "guest-exec", "enabled": False, "success-response": True},
        {"name": "guest-exec-status", "enabled": False, "success-response": True},
        {"name": "guest-ping", "enabled": True, "success-response": True},
    ],
}
ALLOWED = (
    "guest-sync-delimited,guest-sync,guest-ping,guest-get-time,guest-set-time,guest-info,guest-shutdown,"
    "guest-fsfreeze-status,guest-fsfreeze-freeze,guest-fsfreeze-thaw,guest-get-osinfo"
)


class Refusing(Agent):
    """An agent that refuses commands, as libvirt reports it or as the agent itself answers."""

    def __init__(self, refused: dict[str, str], *, raw: bool = False) -> None:
        super().__init__()
        self._refused = refused
        self._raw = raw
        self.info: object = INFO
        self.system = "rhel"

    def __call__(self, request: str, timeout: int) -> str:
        execute = json.loads(request)["execute"]
        if execute not in self._refused:
            return super().__call__(request, timeout)
        told = self._refused[execute]
        if self._raw:
            return json.dumps({"error": {"class": "CommandNotFound", "desc": told}})
        text = f"internal error: unable to execute QEMU agent command '{execute}': {told}"
        raise LibvirtError("ask the agent", 1, text)

    def guest_info(self) -> object:
        return self.info

    def guest_get_osinfo(self) -> dict[str, Any]:
        return {"id": self.system}


@pytest.fixture
def made() -> Iterator[list[Refusing]]:
    agents: list[Refusing] = []
    yield agents
    for agent in agents:
        agent.close()


@pytest.mark.parametrize("raw", [False, True])
def test_an_agent_that_may_not_run_commands_is_not_ready_and_says_what_to_change(raw: bool) -> None:
    transport = AgentTransport("a", Refusing({"guest-exec": DISABLED.format("guest-exec")}, raw=raw))
    for look in (transport.ping, lambda: transport.run(["true"]), lambda: transport.write_file("/x", b"")):
        with pytest.raises(
            AgentRefusedError, match=r"refuses guest-exec: .*FILTER_RPC_ARGS.*allow-rpcs|allow-rpcs"
        ) as caught:
            look()
        text = str(caught.value)
        for needed in ("guest-exec,guest-exec-status", "block-rpcs", "FILTER_RPC_ARGS", "qemu-ga.conf", "serial"):
            assert needed in text
        assert "must run qemu-guest-agent on the channel" not in text
        assert isinstance(caught.value, GuestError)
    with pytest.raises(
        AgentRefusedError, match=r"qemu-guest-agent 8.2.0\. .* refuses: guest-exec, guest-exec-status\."
    ):
        transport.ping()


@pytest.mark.parametrize("info", [{}, {"version": 7}, {"supported_commands": 3}, [], None])
def test_an_agent_that_tells_little_of_itself_is_refused_all_the_same(info: object) -> None:
    agent = Refusing({"guest-exec": "The command guest-exec has been disabled for this instance"})
    agent.info = info
    with pytest.raises(AgentRefusedError, match="allow-rpcs"):
        AgentTransport("a", agent).ping()
    both = Refusing({"guest-exec": DISABLED.format("guest-exec"), "guest-info": DISABLED.format("guest-info")})
    with pytest.raises(AgentRefusedError, match="does not report which commands"):
        AgentTransport("a", both).ping()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("Command guest-exec has been disabled: the agent is in frozen state", "virsh domfsthaw a"),
        ("The command guest-exec has not been found", "older than QEMU 2.5"),
        ("this feature or command is not currently supported", "no such command"),
        ("Failed to execute child process “sh” (Permission denied)", "virt_qemu_ga_run_unconfined"),
    ],
)
def test_each_refusal_is_named(told: str, message: str) -> None:
    with pytest.raises(AgentRefusedError, match=message):
        AgentTransport("a", Refusing({"guest-exec": told})).ping()


def test_files_are_moved_by_commands_where_the_agent_refuses_files(made: list[Refusing], tmp_path: Path) -> None:
    made.append(Refusing({"guest-file-open": DISABLED.format("guest-file-open")}))
    transport = AgentTransport("a", made[0])
    data = bytes(range(256)) * 100
    transport.write_file(str(tmp_path / "file"), data, mode=0o640)
    assert transport.read_file(str(tmp_path / "file")) == data
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_an_agent_is_ready_once_it_runs_a_command(made: list[Refusing]) -> None:
    made.append(Refusing({}))
    assert AgentTransport("a", made[0]).ping()
    assert made[0].requests[:2] == ["guest-ping", "guest-exec"]


def test_a_guest_that_runs_windows_is_named() -> None:
    agent = Refusing({"guest-exec": "Failed to execute helper program: The system cannot find the file specified."})
    assert AgentTransport("a", agent).ping() is False
    agent.system = "mswindows"
    with pytest.raises(UnsupportedError, match="the guest runs Windows"):
        AgentTransport("a", agent).ping()


def test_an_absent_agent_is_not_ready_and_is_told_with_its_channel(made: list[Refusing]) -> None:
    made.append(Refusing({}))

    def absent(_: str) -> None:
        raise silence(NOT_CONNECTED)

    made[0].before = absent
    transport = AgentTransport("a", made[0])
    assert transport.ping() is False
    with pytest.raises(GuestError, match=r"<target type='virtio' name='org.qemu.guest_agent.0'/>"):
        transport.run(["true"], timeout=0.1)


def test_a_domain_that_is_gone_is_no_absent_program() -> None:
    def gone(_request: str, _timeout: int) -> str:
        raise LibvirtError("ask the agent", 42, "Domain not found: no domain with matching name 'a'")

    with pytest.raises(GuestError, match="Domain not found"):
        AgentTransport("a", gone).run(["true"])


# The rules of an agent that does not run yet


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        ((f'FILTER_RPC_ARGS="--allow-rpcs={ALLOWED}"\n',), ("guest-exec", "guest-exec-status")),
        ((f"FILTER_RPC_ARGS='--allow-rpcs={ALLOWED},guest-exec,guest-exec-status'\n",), ()),
        (('FILTER_RPC_ARGS="--block-rpcs=guest-file-open,guest-exec"',), ("guest-exec",)),
        (("BLACKLIST_RPC=guest-file-open,guest-exec,guest-exec-status",), ("guest-exec", "guest-exec-status")),
        (('BLOCK_RPCS="guest-exec"',), ("guest-exec",)),
        (('# FILTER_RPC_ARGS="--block-rpcs=guest-exec"\nFILTER_RPC_ARGS=""\n',), ()),
        (("[general]\nblock-rpcs=guest-exec\n",), ("guest-exec",)),
        (("[general]\nallow-rpcs = guest-ping; guest-exec; guest-exec-status\n",), ()),
        (
            ("\ufeff[general]\nallow-rpcs=guest-ping,guest-exec,guest-exec-status\nblock-rpcs=guest-exec\n",),
            ("guest-exec",),
        ),
        (("[general]\nallow-rpcs=guest-ping,guest-exec\n", "FILTER_RPC_ARGS=--allow-rpcs=guest-exec-status"), ()),
        (("ExecStart=/usr/bin/qemu-ga --method=virtio-serial -b guest-exec",), ("guest-exec",)),
        (('FILTER_RPC_ARGS="--allow-rpcs=guest-ping,\\\n# old \\\nguest-exec,\\\nguest-exec-status"\n',), ()),
        (("ExecStart=/usr/bin/qemu-ga \\\n  -m virtio-serial \\\n  --block-rpcs=guest-exec\n",), ("guest-exec",)),
        (("DAEMON_ARGS=-bguest-exec",), ("guest-exec",)),
        (("[general]\nblock-rpcs=guest-get-users\n",), ()),
        (("", "no file of any form\n[", "\0\ud800"), ()),
    ],
)
def test_what_an_agent_s_configuration_refuses_is_found(texts: tuple[str, ...], refused: tuple[str, ...]) -> None:
    assert refused_commands(*texts) == refused
