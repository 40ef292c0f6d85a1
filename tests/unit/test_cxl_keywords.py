"""The keywords of CXL memory touch only what is the run's own, and add and remove a device by the user's commands."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from recorded_host import RecordedHost
from test_cxl import assembled, host

from VpmemLibrary.errors import CommandError, ForeignError, UnsupportedError
from VpmemLibrary.host.bus_control import BusControl
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.pmem.cxl import CxlKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import KiB, Size
from VpmemLibrary.transport.base import CommandResult

OWN, OTHER = RunMark("01234567"), RunMark("89abcdef")


def keywords(machine: RecordedHost, run: RunMark = OWN, cxl: BusControl | None = None) -> CxlKeywords:
    """Return the keywords with one open host."""
    session = Session(run, 60)
    session.add(OpenHost(Host("recorded", machine), run, policy=Policy(cxl=cxl)))
    return CxlKeywords(session)


def test_a_device_is_added_and_removed_by_the_commands(tmp_path: Path) -> None:
    device = tmp_path / "device"
    control = BusControl("CXL device", add=("touch", str(device)), remove=("rm", str(device)))
    (memdev,) = keywords(host(), cxl=control).add_cxl_device()
    assert (memdev.dev, device.exists()) == ("mem0", True)
    keywords(host(), cxl=control).remove_cxl_device()
    assert not device.exists()
    with pytest.raises(CommandError, match=r"(?s)could not be removed.*No such file"):
        keywords(host(), cxl=control).remove_cxl_device(timeout=timedelta(seconds=5))


def test_without_the_commands_no_device_is_added() -> None:
    for keyword in (keywords(host()).add_cxl_device, keywords(host()).remove_cxl_device):
        with pytest.raises(UnsupportedError, match="Set host_cxl_add and host_cxl_remove"):
            keyword()


def test_a_device_with_a_foreign_region_stays(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.touch()
    control = BusControl("CXL device", add=("true",), remove=("rm", str(device)))
    with pytest.raises(ForeignError, match="CXL regions that this run did not make: region4"):
        keywords(assembled(), OTHER, control).remove_cxl_device()
    assert device.exists()


def test_a_foreign_region_is_taken_apart_only_when_told_so() -> None:
    regions: list[str | CommandResult] = ["cxl-regions", "cxl-regions", "cxl-regions", "cxl-no-regions"]
    machine = assembled(destroy="cxl-destroy", regions=regions)
    with pytest.raises(ForeignError, match=r"CXL region region4 \(UUID 76706d65.*Use foreign=True"):
        keywords(machine, OTHER).destroy_cxl_region("region4")
    assert machine.acts == []
    keywords(machine, OTHER).destroy_cxl_region("region4", foreign=True)
    assert [act.command[1] for act in machine.acts] == ["take_apart"]


def test_poison_is_put_only_where_the_run_has_the_region_to_itself() -> None:
    machine = assembled(errors="cxl-media-errors", inject="cxl-inject")
    for foreign in (keywords(machine, OTHER), keywords(host())):
        for keyword in (foreign.inject_poison, foreign.clear_poison):
            with pytest.raises(
                ForeignError,
                match="CXL memory device mem0 of recorded has no region of this run, or also has other regions",
            ):
                keyword("mem0", offset=Size(4 * KiB))
    assert machine.acts == []
    used = assembled(listing="cxl-listing-used", inject="cxl-inject")
    with pytest.raises(ForeignError, match=r"Namespace .*poisoned.* is not this run's own: no run made it"):
        keywords(used).inject_poison("mem0", offset=Size(4 * KiB))
    assert used.acts == []
    (error,) = keywords(machine).inject_poison("mem0", offset=Size(4 * KiB))
    assert error.offset == 4 * KiB
    assert machine.changes == ["acts on_memdevs 1 mem0 0x1 poison inject mem0 0x1000"]
    assert len(keywords(machine).get_media_errors("mem0")) == 1
