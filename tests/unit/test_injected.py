"""Bad blocks and SMART values that outlive a run, on recorded output (tests/data/ndctl)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from recorded_host import RecordedHost, left, recorded

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.pmem.media.injected import Injected, read_injected
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.transport.base import CommandResult

QUIET = "\n".join(line for line in recorded("test-bus-injected").lines if line.startswith("dimm"))


def host(**answers: str | CommandResult) -> RecordedHost:
    usual: dict[str, str | CommandResult] = {
        "injected": "test-bus-injected",
        "sysfs": "test-bus-sysfs",
        "health": "test-bus-health-injected",
        "listing": "test-bus-health",
        "rest": left(0),
    }
    words = {
        "injected": "dsm_mask",
        "sysfs": "dirty_shutdown",
        "health": "ndctl list -H",
        "listing": "ndctl list -X",
        "rest": "",
    }
    return RecordedHost({words[name]: answer for name, answer in (usual | answers).items()})


def injected(machine: RecordedHost) -> Injected:
    ndctl = Ndctl(machine)
    return read_injected(ndctl, ndctl.inventory())


def test_bad_blocks_and_the_values_of_dimms_with_injection_are_read() -> None:
    found = injected(host())
    assert [f"{bad} in {region}" for region, bad in found.bad_blocks] == ["4KiB at 1MiB in region0"]
    assert list(found.smart) == ["nmem0", "nmem1", "nmem2", "nmem3"]
    assert found.smart["nmem1"] == {
        "temperature": 23,
        "controller temperature": 25,
        "spares": 75,
        "health": "non-critical",
        "last shutdown": "clean",
    }


def test_temperatures_of_a_real_bus_are_left_out() -> None:
    """They change without an injection."""
    listing = recorded("test-bus-health")
    real = replace(listing, stdout=listing.stdout.replace(b"nfit_test.", b"ACPI.NFIT"))
    assert injected(host(listing=real)).smart["nmem1"] == {
        "spares": 75,
        "health": "non-critical",
        "last shutdown": "clean",
    }


@pytest.mark.parametrize("dimms", ["", "dimm nmem0 0 0x470\n", "dimm nmem0 1 0x7ffff476\n"])
def test_no_health_is_read_if_no_dimm_supports_injection(dimms: str) -> None:
    machine = host(injected=left(0, dimms))
    assert injected(machine) == Injected()
    assert not any("-H" in command for command in machine.asked)


@pytest.mark.parametrize("line", ["bad region0 2048", "bad region0 2048 eight", "anything"])
def test_another_line_is_unreadable(line: str) -> None:
    with pytest.raises(UnreadableOutputError):
        injected(host(injected=left(0, line)))


def test_the_leak_report_has_bad_blocks_and_injected_values() -> None:
    before = HostState.read(Host("rack1", host(injected=left(0, QUIET), health="test-bus-health")))
    after = HostState.read(Host("rack1", host()))
    assert before.difference(before) == ()
    assert before.difference(after) == (
        "leaked: bad block 4KiB at 1MiB in region0",
        "changed: SMART values of nmem0: temperature 23.0, controller temperature 25.0, spares 75, "
        "health non-critical, last shutdown clean; now temperature 90.0, controller temperature 25.0, spares 1, "
        "health fatal, last shutdown dirty",
    )
    assert after.difference(before)[0] == "gone: bad block 4KiB at 1MiB in region0"
