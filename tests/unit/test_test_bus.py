"""A host's NVDIMMs are exchanged for a test bus only on an idle host, and no memory of a test bus is mapped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from recorded_host import RecordedHost, left
from test_health import TEST_BUS, host

from VpmemLibrary.content.target import inspect_path
from VpmemLibrary.errors import BusyError, CommandError, ForeignError, UnsupportedError, VpmemError
from VpmemLibrary.guest.domain.checks import check_backings
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.host.bus_control import BusControl
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.pmem.test_bus import TestBusKeywords as Keywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.dax.daxctl import DaxDevices
from VpmemLibrary.pmem.dax.test_bus import ON_TEST_BUS
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size


class Opened:
    """The keywords with one open host, whose libvirt runs `guests`, and that nobody else uses."""

    def __init__(
        self, machine: RecordedHost, bus: Path | None, patch: pytest.MonkeyPatch, *, may_reboot: bool = True
    ) -> None:
        self.guests: list[str] = []
        session = Session(RunMark("01234567"), 60)
        control = BusControl("test bus", add=("touch", str(bus)), remove=("rm", str(bus))) if bus else None
        opened = OpenHost(
            Host("recorded", machine), session.run, policy=Policy(may_reboot=may_reboot, test_bus=control)
        )
        patch.setattr(opened.guests, "running", lambda: self.guests)
        patch.setattr(opened.guests, "foreign_running", list)
        patch.setattr(opened.tenancy, "leases_of_others", list)
        session.add(opened)
        self.keywords = Keywords(session)


def test_a_test_bus_is_added_and_its_regions_are_returned_the_largest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = tmp_path / "bus"
    regions = Opened(host(**TEST_BUS), bus, monkeypatch).keywords.add_test_bus()
    assert bus.exists()
    assert [region.provider for region in regions] == ["nfit_test.0"] * len(regions)
    assert len(regions) > 1
    assert [region.size for region in regions] == sorted((region.size for region in regions), reverse=True)


def test_a_command_that_succeeds_without_a_test_bus_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = tmp_path / "bus"
    with pytest.raises(VpmemError, match="no test bus although host_test_bus_add succeeded"):
        Opened(host(), bus, monkeypatch).keywords.add_test_bus()
    with pytest.raises(VpmemError, match=r"still has regions of a test bus.*region"):
        Opened(host(**TEST_BUS), bus, monkeypatch).keywords.remove_test_bus()
    assert not bus.exists()
    with pytest.raises(CommandError, match="The test bus could not be removed"):
        Opened(host(), bus, monkeypatch).keywords.remove_test_bus()


def test_a_test_bus_is_added_only_to_an_idle_host_that_may_be_rebooted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = tmp_path / "bus"
    with pytest.raises(UnsupportedError, match="Set host_test_bus_add and host_test_bus_remove in"):
        Opened(host(**TEST_BUS), None, monkeypatch).keywords.add_test_bus()
    opened = Opened(host(**TEST_BUS), bus, monkeypatch)
    opened.guests = ["one", "two"]
    for change in (opened.keywords.add_test_bus, opened.keywords.remove_test_bus):
        with pytest.raises(BusyError, match=r"guests run there \(one, two\)\. Stop them first"):
            change()
    with pytest.raises(ForeignError, match=r"may not have its NVDIMMs exchanged for a test bus: .*host_may_reboot"):
        Opened(host(**TEST_BUS), bus, monkeypatch, may_reboot=False).keywords.add_test_bus()
    assert not bus.exists()


def test_the_place_in_sysfs_tells_a_device_of_a_test_bus(tmp_path: Path) -> None:
    for bus, status in (("nfit_test.0", 0), ("LNXSYSTM:00", 1)):
        device = tmp_path / bus / "ndbus1" / "region4" / "dax4.0"
        device.mkdir(parents=True)
        number = tmp_path / f"252:{status}"
        number.symlink_to(device)
        asked = subprocess.run(["sh", "-c", f'{ON_TEST_BUS}\non_test_bus "$1"', "sh", str(number)], check=False)
        assert asked.returncode == status


def test_no_device_of_a_test_bus_is_mapped() -> None:
    with pytest.raises(UnsupportedError, match=r"/dev/dax4\.0 on .* is on a test bus .*Nothing was changed"):
        inspect_path(RecordedHost({"echo": left(0, "test-bus 0\n")}), "/dev/dax4.0")
    device = VpmemDevice(path="/dev/pmem4", size=Size(16 * MiB))
    with pytest.raises(UnsupportedError, match=r"/dev/pmem4 on .* is on a test bus"):
        check_backings(RecordedHost({"for path": left(0, "t 16777216 0 block:103:0 0\n")}), [device])


def test_memory_of_a_test_bus_does_not_become_system_ram() -> None:
    listing = host().run(["ndctl", "list", "-X"]).text.replace("ACPI.NFIT", "nfit_test.0")
    machine = host(listing=left(0, listing))
    with pytest.raises(UnsupportedError, match="is on a test bus"):
        DaxDevices(Ndctl(machine)).to_system_ram("small")
    assert not machine.changes
