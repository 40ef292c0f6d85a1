"""Cutting a host's power: by commands of this machine, proven by the host's silence and another boot."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from VpmemLibrary.errors import (
    CommandError,
    ForeignError,
    InvalidValueError,
    UnreachableError,
    UnreadableOutputError,
    UnsupportedError,
)
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.power import PowerControl, cut_power, restore_power
from VpmemLibrary.host.reboot import boot_id, own_boot_id, wait_for_another_boot
from VpmemLibrary.keywords.host.power import PowerKeywords
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import Holder, LeaseRecordError
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult, Stream
from VpmemLibrary.transport.local import LocalTransport


class Switched(LocalTransport):
    """A host whose power is a file, in which the number of its boot stands."""

    def __init__(self, plug: Path) -> None:
        super().__init__(name="switched")
        self.plug = plug
        self.streams: list[Stream] = []

    def stream(self, argv: Sequence[str]) -> Stream:
        self.streams.append(super().stream(argv))
        return self.streams[-1]

    def close(self) -> None:
        for stream in self.streams:
            stream.close()

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        if not self.plug.exists():
            raise UnreachableError("switched does not answer")
        number = self.plug.read_text()
        answer = boot(int(number)) if number else ""
        return CommandResult(tuple(argv), 0, answer.encode(), b"", 0.0, "switched")


def boot(number: int) -> str:
    return str(uuid.UUID(int=number))


@pytest.fixture
def host(tmp_path: Path) -> Switched:
    plug = tmp_path / "plug"
    plug.write_text("1")
    return Switched(plug)


def control(host: Switched, boot: str = "2") -> PowerControl:
    on = (sys.executable, "-c", "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])")
    return PowerControl(off=("rm", str(host.plug)), on=(*on, str(host.plug), boot))


def opened(host: Switched, power: PowerControl | None = None, *, may_reboot: bool = True) -> tuple[Session, OpenHost]:
    session = Session(RunMark("aaaaaaaa"), 60)
    found = OpenHost(
        Host("switched", host),
        session.run,
        policy=Policy(may_reboot=may_reboot, power=power),
        leases=leases_on(host, host.plug.parent, session.run.run_id),
    )
    return session, session.add(found)


def test_a_host_whose_power_was_cut_comes_back_with_another_boot(host: Switched) -> None:
    before = cut_power(host, control(host), timeout=5)
    assert before == boot(1)
    assert not host.plug.exists()
    restore_power(host, control(host), before, timeout=5)
    assert host.plug.read_text() == "2"


def test_a_host_that_answers_after_its_power_should_be_cut_is_told(host: Switched) -> None:
    with pytest.raises(CommandError, match=r"switched still answers 0\.1 s after the power cut"):
        cut_power(host, PowerControl(("true",), ("true",)), timeout=0.1)


def test_a_command_that_fails_is_told_with_its_status(host: Switched) -> None:
    with pytest.raises(CommandError, match=r"could not be cut[\s\S]*exit status: 1"):
        cut_power(host, PowerControl(("false",), ("true",)), timeout=5)
    with pytest.raises(CommandError, match=r"power could not be restored[\s\S]*exit status: 1"):
        restore_power(host, PowerControl(("true",), ("false",)), "1", timeout=5)


def test_a_command_gets_its_password_from_the_environment(
    host: Switched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    off = ("sh", "-c", 'printf %s "$IPMI_PASSWORD" >"$1"; rm "$2"', "sh", str(seen), str(host.plug))
    monkeypatch.delenv("IPMI_PASSWORD", raising=False)
    monkeypatch.setenv("RACK_1_PASSWORD", "s3cret-bmc")
    cut_power(host, PowerControl(off, ("true",), {"IPMI_PASSWORD": "RACK_1_PASSWORD"}), timeout=5)
    assert seen.read_text() == "s3cret-bmc"


def test_a_password_that_is_not_set_is_said_before_anything_is_done(
    host: Switched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RACK_1_PASSWORD", raising=False)
    unset = PowerControl(("rm", str(host.plug)), ("true",), {"IPMI_PASSWORD": "RACK_1_PASSWORD"})
    with pytest.raises(InvalidValueError, match="'RACK_1_PASSWORD' cannot be used: expected a variable that is set"):
        cut_power(host, unset, timeout=5)
    assert host.plug.exists()


FAILS = "echo $IPMI_PASSWORD $*; echo $* >&2; exit 1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ipmitool", "-U", "admin", "-P", "s3cret-bmc"),
        ("ipmitool", "-Ps3cret-bmc"),
        ("fence_ipmilan", "--password=s3cret-bmc"),
        ("fence_ipmilan", "--passwd", "s3cret-bmc"),
        ("redfishtool", "-p", "s3cret-bmc"),
        ("env", "IPMI_PASSWORD=s3cret-bmc", "ipmitool", "-E"),
        ("curl", "-u", "admin:s3cret-bmc", "https://admin:s3cret-bmc@rack1"),
        ("sh", "-c", "ipmitool -P 's3cret-bmc' chassis power off"),
        ("tool", "--api-token", "s3cret-bmc"),
        ("tool", "s3cret-bmc"),  # the value of the variable, wherever it turns up
    ],
)
@pytest.mark.parametrize("script", [FAILS, FAILS.replace("exit 1", "sleep 60")])
def test_no_secret_of_a_command_that_fails_is_shown(
    host: Switched, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], script: str
) -> None:
    monkeypatch.setenv("IPMI_PASSWORD", "s3cret-bmc" if arguments == ("tool", "s3cret-bmc") else "another-s3cret")
    command = ("sh", "-c", script, "sh", *arguments)
    control = PowerControl(command, command, {"IPMI_PASSWORD": "IPMI_PASSWORD"})
    with pytest.raises(CommandError) as caught:
        cut_power(host, control, timeout=0.5 if "sleep" in script else 30)
    assert arguments[0] in str(caught.value)
    assert "***" in str(caught.value)
    for shown in (str(caught.value), repr(caught.value), repr(caught.value.result), repr(control)):
        assert "s3cret" not in shown


def test_an_empty_answer_is_no_other_boot(host: Switched) -> None:
    before = boot_id(host)
    host.plug.write_text("")
    with pytest.raises(UnreadableOutputError, match="has no boot id"):
        boot_id(host)
    with pytest.raises(UnreachableError, match=r"did not come back within 1 s after its reboot: .*has no boot id"):
        wait_for_another_boot(host, before, timeout=1, after="its reboot")


def test_the_same_boot_is_no_restored_power(host: Switched) -> None:
    before = cut_power(host, control(host), timeout=5)
    with pytest.raises(UnreachableError, match="after power was restored: it still answered from the previous boot"):
        restore_power(host, control(host, boot="1"), before, timeout=1)


def test_this_machine_keeps_its_power(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with pytest.raises(UnsupportedError, match="This host runs the tests"):
        cut_power(LocalTransport(), PowerControl(("touch", str(done)), ("true",)), timeout=5)
    assert own_boot_id()
    assert not done.exists()


def test_a_host_without_the_commands_or_the_permission_is_left_as_it_is(host: Switched) -> None:
    session, _ = opened(host)
    with pytest.raises(UnsupportedError, match="Set host_power_off and host_power_on"):
        PowerKeywords(session).cut_host_power()
    session, _ = opened(host, control(host), may_reboot=False)
    with pytest.raises(ForeignError, match=r"Host switched may not lose its power: .*host_may_reboot"):
        PowerKeywords(session).cut_host_power()
    assert host.plug.exists()


def test_a_host_with_guests_of_others_keeps_its_power(host: Switched, monkeypatch: pytest.MonkeyPatch) -> None:
    session, found = opened(host, control(host))
    monkeypatch.setattr(found.guests, "foreign_running", lambda: ["theirs"])
    with pytest.raises(ForeignError, match="switched runs guests that this run did not make: theirs"):
        PowerKeywords(session).cut_host_power()
    assert host.plug.exists()


def test_power_is_restored_only_after_it_was_cut(host: Switched, monkeypatch: pytest.MonkeyPatch) -> None:
    session, found = opened(host, control(host))
    monkeypatch.setattr(found.guests, "foreign_running", list)
    keywords = PowerKeywords(session)
    with pytest.raises(UnsupportedError, match="The power of switched is on"):
        keywords.restore_host_power()
    keywords.cut_host_power(timeout=timedelta(seconds=5))
    assert not host.plug.exists()
    keywords.restore_host_power(timeout=timedelta(seconds=5))
    assert host.plug.read_text() == "2"
    with pytest.raises(UnsupportedError, match="The power of switched is on"):
        keywords.restore_host_power()


@pytest.fixture
def others(tmp_path: Path) -> Iterator[HostLeases]:
    """The leases of a worker of another run on the host."""
    leases = leases_on(LocalTransport(), tmp_path, "bbbbbbbb")
    yield leases
    leases.close()


@pytest.fixture
def holding(host: Switched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, OpenHost]]:
    """This run, which has the host for itself; nobody else has guests on it."""
    session, found = opened(host, control(host))
    monkeypatch.setattr(found.guests, "foreign_running", list)
    found.tenancy.reservations.reserve_host(0)
    yield session, found
    found.tenancy.leases.close()


def leases_on(host: LocalTransport, directory: Path, run: str) -> HostLeases:
    return HostLeases(host, Holder.here(run, run), directory=str(directory / "leases"))


def test_a_host_without_power_is_kept_for_who_cut_it(
    host: Switched, holding: tuple[Session, OpenHost], others: HostLeases
) -> None:
    keywords = PowerKeywords(holding[0])
    keywords.cut_host_power(timeout=timedelta(seconds=5))
    (kept,) = others.entries()
    assert time.time() + 800 < kept.kept_until < time.time() + 1000
    keywords.restore_host_power(timeout=timedelta(seconds=5))
    (held,) = others.entries()
    assert (held.held, held.kept_until) == (True, 0)
    host.close()
    assert [entry.held for entry in others.entries()] == [False]


def test_a_host_whose_power_could_not_be_cut_is_kept_no_longer(
    host: Switched, others: HostLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, found = opened(host, PowerControl(("false",), ("true",)))
    monkeypatch.setattr(found.guests, "foreign_running", list)
    found.tenancy.reservations.reserve_host(0)
    with pytest.raises(CommandError, match="could not be cut"):
        PowerKeywords(session).cut_host_power()
    host.close()
    assert [entry.held for entry in others.entries()] == [False]


def test_a_host_whose_lease_cannot_be_kept_keeps_its_power(
    host: Switched, holding: tuple[Session, OpenHost], tmp_path: Path
) -> None:
    (tmp_path / "leases/.new/host").mkdir()  # so that no record can be written there
    with pytest.raises(LeaseRecordError, match="leases cannot be written: Is a directory"):
        PowerKeywords(holding[0]).cut_host_power(timeout=timedelta(seconds=5))
    assert host.plug.exists()


def test_a_host_on_which_others_are_at_work_keeps_its_power(
    host: Switched, others: HostLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, found = opened(host, control(host))
    monkeypatch.setattr(found.guests, "foreign_running", list)
    others.take([["run-bbbbbbbb"]], shared=True)
    others.take([["region-1"]])
    found.tenancy.hold_run_lease()
    with pytest.raises(
        ForeignError,
        match=r"Other workers use switched: region-1 is held by run bbbbbbbb, .*; "
        r"run-bbbbbbbb is held by run bbbbbbbb, .*Use foreign=True .* Or reserve the host first",
    ):
        PowerKeywords(session).cut_host_power()
    assert host.plug.exists()
    others.release(["region-1", "run-bbbbbbbb"])
    PowerKeywords(session).cut_host_power(timeout=timedelta(seconds=5))
    assert not host.plug.exists()
    host.close()


def test_another_worker_of_the_same_run_counts_as_others(
    host: Switched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, found = opened(host, control(host))
    monkeypatch.setattr(found.guests, "foreign_running", list)
    found.tenancy.hold_run_lease()
    sibling = HostLeases(LocalTransport(), Holder.here(session.run.run_id, "2"), directory=str(tmp_path / "leases"))
    sibling.take([[f"run-{session.run.run_id}"]], shared=True)
    with pytest.raises(ForeignError, match="run-aaaaaaaa is held by run aaaaaaaa"):
        PowerKeywords(session).cut_host_power()
    PowerKeywords(session).cut_host_power(timeout=timedelta(seconds=5), foreign=True)
    assert not host.plug.exists()
    sibling.close()
    host.close()


def test_a_host_that_is_this_workers_alone_may_lose_its_power(
    host: Switched, holding: tuple[Session, OpenHost], others: HostLeases
) -> None:
    others.take([["run-bbbbbbbb"]], shared=True)
    PowerKeywords(holding[0]).cut_host_power(timeout=timedelta(seconds=5))
    assert not host.plug.exists()


def test_a_host_is_kept_while_it_reboots(
    host: Switched, holding: tuple[Session, OpenHost], others: HostLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_booted: list[int] = []

    def reboot(_transport: object, *, timeout: float) -> float:
        host.close()
        while_it_booted.extend(entry.kept_until for entry in others.entries())
        return timeout

    monkeypatch.setattr("VpmemLibrary.session.power.reboot", reboot)
    holding[1].power.reboot(300)
    (until,) = while_it_booted
    assert time.time() + 300 < until < time.time() + 500
    assert [(entry.held, entry.kept_until) for entry in others.entries()] == [(True, 0)]
