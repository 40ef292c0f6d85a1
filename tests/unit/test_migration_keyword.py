"""What a migration wipes on the host that the guest came from."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import BusyError, ForeignError, NotFoundError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.guest.migration import MigrationKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult

MINE, OTHER = RunMark("0123abcd"), RunMark("ffffffff")
UUID, FOREIGN = MINE.new_uuid(), OTHER.new_uuid()
LENGTH = 16 * MiB


class Guest:
    """A guest as the keyword needs it."""

    name = "moving"
    devices = (VpmemDevice(path="/dev/dax0.1", size=Size(LENGTH)),)

    def require_made_by(self, run_id: str) -> None:
        assert run_id == MINE.run_id


def listing(**uuids: str) -> CommandResult:
    """Return an inventory of namespaces with these devices."""
    namespaces = [
        {"dev": f"namespace0.{number}", "mode": "devdax", "uuid": uuid, "raw_uuid": uuid, "chardev": f"dax0.{number}"}
        for number, uuid in ((name.removeprefix("dax"), uuid) for name, uuid in uuids.items())
    ]
    return left(0, json.dumps([{"dev": "ndbus0", "regions": [{"dev": "region0", "namespaces": namespaces}]}]))


def copied(stages: int, printed: str = "") -> CommandResult:
    said = "".join(f"\nstage {number} 0\n" for number in range(stages))
    return left(0, printed, f"{LENGTH} bytes{said}")


def migrated(
    monkeypatch: pytest.MonkeyPatch, after: CommandResult, *, users: str = ""
) -> tuple[Callable[..., object], RecordedHost]:
    """Return the keyword on two hosts, and the source; its inventory is another one after the migration."""
    source = RecordedHost(
        {
            "ndctl list": [listing(dax1=UUID), after],
            "daxio -z": copied(1),
            "wc -c": copied(3, "0\n"),
            "subsystem": left(0, f"devdax {LENGTH}\n"),
        },
        users=users,
    )
    target = RecordedHost({"ndctl list": listing(dax7=UUID)})
    session = Session(MINE, 60)
    for alias, host in (("right", target), ("left", source)):
        opened = OpenHost(Host(alias, host), MINE)
        opened.guests._link = object()  # type: ignore[assignment]
        monkeypatch.setattr(opened.guests, "find", lambda _: Guest())
        monkeypatch.setattr(opened.guests, "adopt", lambda *_: Guest())
        session.add(opened)
    session.switch("left")
    monkeypatch.setattr("VpmemLibrary.keywords.guest.migration.readiness.wait_until_ready", lambda *_: None)
    monkeypatch.setattr("VpmemLibrary.keywords.guest.migration.migrate", lambda *_, **__: Guest.devices)
    return MigrationKeywords(session).migrate_guest, source


def test_the_namespace_that_the_guest_left_is_wiped_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its device's path is another run's by then: both were destroyed and created, or the host booted."""
    keyword, source = migrated(monkeypatch, listing(dax1=FOREIGN, dax2=UUID))
    keyword("moving", "right", "/dev/dax7.0", wipe_source=True)
    assert [(act.targets, act.unused) for act in source.acts] == [((f"-n {UUID}",), True)] * 2
    assert [argv[-1] for argv in source.asked if "subsystem" in " ".join(argv) and "-z" not in argv] == ["/dev/dax0.2"]


def test_a_namespace_that_is_gone_is_no_longer_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    keyword, source = migrated(monkeypatch, listing(dax1=FOREIGN))
    with pytest.raises(NotFoundError, match=UUID):
        keyword("moving", "right", "/dev/dax7.0", wipe_source=True)
    assert not source.acts


def test_a_namespace_that_somebody_uses_by_then_is_not_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    keyword, source = migrated(monkeypatch, listing(dax1=UUID), users="process 7 (qemu)")
    with pytest.raises(BusyError, match=r"process 7 \(qemu\)"):
        keyword("moving", "right", "/dev/dax7.0", wipe_source=True)
    assert not source.acts


def test_a_foreign_namespace_is_not_left_to_be_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    keyword, source = migrated(monkeypatch, listing())
    source._answers["ndctl", "list"] = [listing(dax1=FOREIGN)]
    with pytest.raises(ForeignError):
        keyword("moving", "right", "/dev/dax7.0", wipe_source=True)
    assert not source.acts


def test_nothing_is_wiped_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    keyword, source = migrated(monkeypatch, listing(dax1=UUID))
    keyword("moving", "right", "/dev/dax7.0")
    assert not source.asked
