"""Firmware of DIMMs and their events, on what ndctl 81 lists and prints on a test bus (kernel 6.12)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import CommandError, InvalidValueError, NotFoundError, UnsupportedError, VpmemError
from VpmemLibrary.pmem.media.firmware import Firmware
from VpmemLibrary.pmem.media.monitor import DimmEventKind, DimmMonitor, decode_event
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

READY: dict[str, Any] = {"current_version": 0, "can_update": True}
ARMED = {**READY, "next_version": 281474976689101, "activate_state": "armed"}
BUSY = {**ARMED, "activate_state": "busy"}
IDLE = {**ARMED, "activate_state": "idle"}


def listed(dimm: dict[str, Any] | None, bus: dict[str, Any] | None) -> CommandResult:
    nmem = {"dev": "nmem0", "id": "cdab-0a-07e0-ffffffff", "handle": 0, "phys_id": 0}
    there: dict[str, Any] = {"provider": "nfit_test.0", "dev": "ndbus0", "scrub_state": "idle"}
    there |= {"firmware": bus} if bus else {}
    return left(0, json.dumps([{**there, "dimms": [{**nmem, **({"firmware": dimm} if dimm else {})}]}]))


def bus(state: str | None) -> dict[str, Any]:
    return {"activate_method": "suspend"} | ({"activate_state": state} if state else {})


def firmware(*listings: CommandResult, timeout: float = 5, **answers: CommandResult) -> tuple[Firmware, RecordedHost]:
    given = {name.replace("_", "-"): answer for name, answer in answers.items()}
    machine = RecordedHost({"ndctl list": list(listings), **given})
    return Firmware(Ndctl(machine), timeout=timeout), machine


def test_firmware_is_that_of_the_listing() -> None:
    found = firmware(listed(ARMED, bus("armed")))[0].state("nmem0")
    assert (found.version, found.next_version, found.can_update, found.activation) == (0, 0xFFFFFFFFABCD, True, "armed")
    plain = firmware(listed(None, None))[0].state("nmem0")
    assert (plain.version, plain.next_version, plain.can_update, plain.activation) == (None, None, False, "")
    with pytest.raises(NotFoundError, match="nmem0"):
        firmware(listed(READY, None))[0].state("nmem9")


def test_an_update_is_armed_afterwards() -> None:
    updated, machine = firmware(
        listed(READY, bus("idle")), listed(READY, bus("idle")), listed(ARMED, bus("armed")), update_firmware=left(0)
    )
    assert updated.update("nmem0", "/root/fw.img").activation == "armed"
    (act,) = machine.acts
    assert act.command == ("ndctl", "update-firmware", "--firmware", "/root/fw.img", "@dimm@")


def test_an_update_that_is_not_armed_is_a_failure_although_ndctl_exits_0() -> None:
    for after, text in ((READY, "has no waiting update"), (IDLE, "did not arm the update")):
        updated, _ = firmware(
            listed(READY, bus("idle")), listed(READY, bus("idle")), listed(after, bus("idle")), update_firmware=left(0)
        )
        with pytest.raises(CommandError, match=text):
            updated.update("nmem0", "/root/fw.img")


def test_an_image_that_ndctl_refuses_is_shown_with_its_words() -> None:
    for said in ("Input file size is 0.", "Error: Firmware file size greater than DIMM store"):
        updated, _ = firmware(listed(READY, bus("idle")), update_firmware=left(1, "", f"{said}\nupdated 0 nmem.\n"))
        with pytest.raises(CommandError, match=said):
            updated.update("nmem0", "/root/fw.img")


def test_what_cannot_be_updated_or_activated_is_refused_before_any_change() -> None:
    updated, machine = firmware(listed(None, None))
    with pytest.raises(UnsupportedError, match="does not accept firmware updates"):
        updated.update("nmem0", "/root/fw.img")
    with pytest.raises(InvalidValueError, match="absolute path"):
        updated.update("nmem0", "fw.img")
    with pytest.raises(UnsupportedError, match="does not support firmware activation"):
        updated.activate("ndbus0")
    for state, text in (
        ("idle", "No DIMM of bus ndbus0"),
        ("overflow", "longer than the bus allows.*force=True to activate anyway"),
    ):
        with pytest.raises(UnsupportedError, match=text):
            firmware(listed(READY, bus(state)))[0].activate("ndbus0")
    assert machine.acts == []


def test_an_activation_is_waited_for() -> None:
    armed = listed(ARMED, bus("armed"))
    activated, machine = firmware(
        armed,
        armed,
        listed(BUSY, bus(None)),
        listed(BUSY, bus(None)),
        listed(IDLE, bus("idle")),
        activate_firmware=left(0),
    )
    assert activated.activate("ndbus0").state == "idle"
    assert machine.changes == ["ndctl activate-firmware ndbus0"]
    stuck, _ = firmware(armed, armed, listed(BUSY, bus(None)), timeout=0.1, activate_firmware=left(0))
    with pytest.raises(CommandError, match=r"ndctl exited 0, but the activation did not end in 0\.1 s"):
        stuck.activate("nfit_test.0")


EVENT = (
    b'{"timestamp":"1764374400.123","pid":4711,"event":{"dimm-spares-remaining":false,"dimm-media-temperature":true,'
    b'"dimm-health-state":true},"dimm":{"dev":"nmem0","id":"cdab-0a-07e0-ffffffff","handle":0,"phys_id":0,'
    b'"health":{"health_state":"fatal","temperature_celsius":90.0}}}'
)


def test_an_event_has_its_dimm_its_kinds_and_the_health_at_that_moment() -> None:
    event = decode_event(EVENT)
    assert event is not None
    assert (event.dimm, event.kinds) == ("nmem0", ("dimm-media-temperature", "dimm-health-state"))
    assert event.health["temperature_celsius"] == 90
    for line in (
        b"",
        b"{",
        b"[]",
        b'{"event":[],"dimm":{}}',
        b'{"event":{},"dimm":{"dev":7}}',
        b"\xff\xfe",
        b"[" * 9999,
    ):
        assert decode_event(line) is None


class Monitored(LocalTransport):
    """A transport whose ``ndctl monitor`` is a script of this test."""

    def __init__(self, script: str) -> None:
        super().__init__(name="monitored")
        self.script = script

    def stream(self, argv: Any) -> Any:
        return super().stream(["sh", "-c", self.script])


def test_an_event_is_waited_for_and_a_next_call_waits_for_a_later_one() -> None:
    line = EVENT.decode()
    mark = '{"watching":true}'
    monitor = DimmMonitor(Monitored(f"echo '{line}'; echo '{mark}'; echo 'noise'; echo '{line}'; echo '{line}'; cat"))
    monitor.wait_until_watching(20)
    for _ in range(2):
        assert monitor.wait("nmem0", DimmEventKind.health_state, timeout=20).health["health_state"] == "fatal"
    with pytest.raises(VpmemError, match=r"no dimm-health-state of nmem0 within 0\.2 s.*nmem0: dimm-media-temperature"):
        monitor.wait("nmem0", DimmEventKind.health_state, timeout=0.2)
    with pytest.raises(InvalidValueError, match="dimm-health-state"):
        monitor.wait("nmem0", "fire", timeout=1)
    monitor.close()
    monitor.close()


def test_a_monitor_that_ends_is_an_error_with_its_output() -> None:
    monitor = DimmMonitor(Monitored("echo 'no dimms to monitor'"))
    with pytest.raises(VpmemError, match=r"ndctl monitor on monitored ended\. It printed: no dimms to monitor"):
        monitor.wait("nmem0", DimmEventKind.spares, timeout=20)
    with pytest.raises(VpmemError, match=r"ended\. It printed: no dimms to monitor"):
        monitor.wait_until_watching(20)


def test_a_monitor_that_does_not_watch_is_an_error_at_the_deadline() -> None:
    monitor = DimmMonitor(Monitored("cat >/dev/null"))
    with pytest.raises(VpmemError, match=r"did not watch its DIMMs within 0\.1 s"):
        monitor.wait_until_watching(0.1)
    monitor.close()
