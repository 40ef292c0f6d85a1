"""One device in its views, as recorded from real tools."""

from __future__ import annotations

from typing import Any

import pytest
from recorded_guest import COMMAND_LINE, INACTIVE_XML, LARGE, LIVE_XML, SMALL, inside, inventory, monitor

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import InvalidValueError, NotFoundError, ViewsDisagreeError
from VpmemLibrary.guest.argv import argv_devices
from VpmemLibrary.guest.inside import inside_devices
from VpmemLibrary.guest.prediction import backing_offset, configured_size, guest_region_size, label_area_offset
from VpmemLibrary.guest.qmp import qmp_devices
from VpmemLibrary.guest.views import compare, region_of_handle
from VpmemLibrary.guest.xml import read_devices
from VpmemLibrary.sizes import MiB, Size

Views = dict[str, Any]


def readings() -> Views:
    return {
        "asked": (LARGE, SMALL),
        "xml": read_devices(LIVE_XML),
        "argv": argv_devices(COMMAND_LINE),
        "qmp": qmp_devices(monitor),
        "inside": inside_devices(inside),
        "inactive": read_devices(INACTIVE_XML),
    }


def views(**changes: Any) -> tuple[Agreement, ...]:
    return compare("recorded", **{**readings(), **changes})


def test_the_views_of_a_real_guest_agree() -> None:
    large, small = views()
    large.require()
    small.require()
    for agreement in (large, small):
        assert list(agreement.views) == [
            "asked for",
            "live XML",
            "inactive XML",
            "QEMU command line",
            "QMP",
            "guest's kernel",
        ]
        stated = {field: sum(field in view for view in agreement.views.values()) for field in agreement.fields}
        assert min(stated[field] for field in ("path", "size", "label size", "shared", "pmem", "align")) == 5
        assert stated["region size"] == 3
        assert stated["readonly"] == 6


@pytest.mark.parametrize("view", ["argv", "qmp"])
@pytest.mark.parametrize(
    ("field", "wrong"),
    [("path", "/dev/dax9.9"), ("size", Size(MiB)), ("shared", False), ("pmem", False), ("label size", Size(0))],
)
def test_a_wrong_field_in_one_view_is_found(view: str, field: str, wrong: object) -> None:
    changed = {slot: dict(stated) for slot, stated in readings()[view].items()}
    changed[1][field] = wrong
    large, small = views(**{view: changed})
    large.require()
    with pytest.raises(ViewsDisagreeError, match=field):
        small.require()


def test_a_guest_that_sees_another_size_is_found() -> None:
    inside = {slot: dict(view) for slot, view in readings()["inside"].items()}
    inside[0]["region size"] = Size(128 * MiB)
    with pytest.raises(ViewsDisagreeError, match="region size"):
        views(inside=inside)[0].require()


@pytest.mark.parametrize("view", ["xml", "argv", "qmp", "inside"])
def test_a_view_without_the_device_is_found(view: str) -> None:
    with pytest.raises(ViewsDisagreeError, match="absent"):
        views(**{view: {} if view != "xml" else ()})[0].require()


def test_two_devices_that_changed_places_are_found() -> None:
    argv = readings()["argv"]
    with pytest.raises(ViewsDisagreeError):
        views(argv={0: argv[1], 1: argv[0]})[0].require()


def test_a_region_is_found_by_handle_and_not_by_order() -> None:
    assert region_of_handle(inventory(), 1).size == guest_region_size(LARGE)
    assert region_of_handle(inventory(), 2).size == guest_region_size(SMALL)
    with pytest.raises(NotFoundError, match="handle '3'"):
        region_of_handle(inventory(), 3)


def test_the_command_line_may_be_written_with_commas() -> None:
    old = (
        *("-object", "memory-backend-file,id=memnvdimm0,mem-path=/a,,b,share=yes,size=1G,align=2097152,pmem=yes"),
        *("-device", "nvdimm,node=0,label-size=2M,memdev=memnvdimm0,id=nvdimm0,slot=0"),
    )
    assert argv_devices(old)[0] == {
        "path": "/a,b",
        "size": Size(1024 * MiB),
        "shared": True,
        "pmem": True,
        "readonly": False,
        "align": Size(2 * MiB),
        "label size": Size(2 * MiB),
        "node": 0,
    }


def test_predictions_are_what_the_guest_saw() -> None:
    assert guest_region_size(LARGE) == 252 * MiB
    assert label_area_offset(LARGE) == 252 * MiB
    assert backing_offset(LARGE, 4096) == 4096
    assert configured_size(Size(254 * MiB + 1)) == 256 * MiB


@pytest.mark.parametrize("offset", [-1, 252 * MiB])
def test_a_byte_that_the_guest_does_not_have_is_refused(offset: int) -> None:
    with pytest.raises(InvalidValueError, match="a byte of the guest's region"):
        backing_offset(LARGE, offset)
