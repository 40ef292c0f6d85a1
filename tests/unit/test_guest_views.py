"""One device in its views, as recorded from real tools."""

from __future__ import annotations

from typing import Any

import pytest
from recorded_guest import COMMAND_LINE, INACTIVE_XML, LARGE, LIVE_XML, SMALL, VIRTIO, inside, iomem, monitor

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import GuestError, InvalidValueError, UnreadableOutputError, ViewsDisagreeError
from VpmemLibrary.guest.domain.xml import read_devices, read_ram, read_room
from VpmemLibrary.guest.prediction import backing_offset, configured_size, guest_region_size, label_area_offset
from VpmemLibrary.guest.views.argv import argv_devices
from VpmemLibrary.guest.views.inside import inside_devices, inside_regions
from VpmemLibrary.guest.views.memory import system_ram
from VpmemLibrary.guest.views.qmp import pci_aliases, qmp_devices, qmp_memory
from VpmemLibrary.guest.views.views import compare
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult

Views = dict[str, Any]


def readings() -> Views:
    return {
        "asked": (LARGE, SMALL, VIRTIO),
        "xml": read_devices(LIVE_XML),
        "argv": argv_devices(COMMAND_LINE),
        "qmp": qmp_devices(monitor),
        "inside": inside_devices(inside_regions(inside), pci_aliases(monitor)),
        "inactive": read_devices(INACTIVE_XML),
    }


def views(**changes: Any) -> tuple[Agreement, ...]:
    return compare("recorded", **{**readings(), **changes})


def test_the_views_of_a_real_guest_agree() -> None:
    large, small, virtio = views()
    for agreement in (large, small, virtio):
        agreement.require()
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
    assert virtio.subject == "recorded, virtiopmem0"
    for name, stated_by in virtio.views.items():
        assert {"path", "region size"} & set(stated_by), name


@pytest.mark.parametrize("view", ["argv", "qmp"])
@pytest.mark.parametrize(
    ("field", "wrong"),
    [("path", "/dev/dax9.9"), ("size", Size(MiB)), ("shared", False), ("pmem", False), ("label size", Size(0))],
)
def test_a_wrong_field_in_one_view_is_found(view: str, field: str, wrong: object) -> None:
    changed = {slot: dict(stated) for slot, stated in readings()[view].items()}
    changed[1][field] = wrong
    large, small, _ = views(**{view: changed})
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
        views(argv={**argv, 0: argv[1], 1: argv[0]})[0].require()


def test_a_region_is_told_by_its_slot_and_not_by_order() -> None:
    found = {region.key: region.view["region size"] for region in inside_regions(inside)}
    assert found.pop("0000:00:04.0") == guest_region_size(VIRTIO)
    assert found == {0: guest_region_size(LARGE), 1: guest_region_size(SMALL)}


def test_a_virtio_device_is_told_by_its_alias_and_not_by_order() -> None:
    other = {**readings()["qmp"], "virtiopmem1": readings()["qmp"]["virtiopmem0"]}
    with pytest.raises(ViewsDisagreeError, match="absent"):
        views(qmp=other)[3].require()
    assert views(qmp=other)[3].subject == "recorded, virtiopmem1"


@pytest.mark.parametrize("later", [True, False])
def test_a_device_that_qmp_says_came_later_need_not_be_on_the_command_line(later: bool) -> None:
    read = readings()
    argv = {key: view for key, view in read["argv"].items() if key != 1}
    qmp = {**read["qmp"], 1: {**read["qmp"][1], "attached later": later}}
    small = views(argv=argv, qmp=qmp)[1]
    if later:
        small.require()
    else:
        with pytest.raises(ViewsDisagreeError, match="absent"):
            small.require()


def test_ram_is_told_from_persistent_memory() -> None:
    assert system_ram(iomem()) == read_ram(LIVE_XML) == qmp_memory(monitor)[0] == 256 * MiB
    assert qmp_memory(monitor)[1] == sum(guest_region_size(device) for device in (LARGE, SMALL, VIRTIO))
    assert read_room(LIVE_XML).memory == 256 * MiB + sum(device.size for device in (LARGE, SMALL, VIRTIO))


def test_addresses_that_are_hidden_are_no_ram() -> None:
    hidden = CommandResult(("cat", "/proc/iomem"), 0, b"00000000-00000000 : System RAM\n", b"", 0.1)
    with pytest.raises(UnreadableOutputError, match="Only root can read the addresses"):
        system_ram(hidden)


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
    with pytest.raises(InvalidValueError, match="an offset in the guest's region"):
        backing_offset(LARGE, offset)


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        *((read, answer) for read in (qmp_devices, qmp_memory, pci_aliases) for answer in (None, 7, "x", [7])),
        (qmp_devices, [{"type": "nvdimm", "data": {"memdev": "/a", "id": "a", "slot": "x"}}]),
        (qmp_devices, [{"type": "nvdimm"}]),
        (qmp_memory, {"base-memory": "x"}),
        (qmp_memory, {}),
        (pci_aliases, [{"devices": [{"bus": "x", "slot": 1, "function": 0}]}]),
    ],
)
def test_an_odd_answer_of_the_monitor_is_an_error_of_the_library(read: Any, answer: object) -> None:
    with pytest.raises(GuestError, match="QEMU's monitor gave an answer of an undocumented form"):
        read(lambda *_: answer)


@pytest.mark.parametrize("line", ["x", "1 x 0 0 region0", "1 " + "9" * 5000 + " 0 0 region0", "y " * 100_000])
def test_odd_attributes_in_a_guest_are_an_error_that_shows_a_part_of_them(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = CommandResult(("sh",), 0, f"{line}\n".encode(), b"", 0.1)
    monkeypatch.setattr(inside, "run", lambda _: printed)
    with pytest.raises(UnreadableOutputError, match="attributes of a region have another form") as caught:
        inside_regions(inside)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    "device",
    [
        "{",
        '{"a":' * 100_000,
        "nvdimm,slot=x",
        "nvdimm,memdev=m,label-size=1.5X",
        "nvdimm,memdev=m,label-size=" + "9" * 5000,
        "nvdimm,slot=" + "9" * 5000,
        "nvdimm,unarmed=perhaps",
        "nvdimm,node=x",
    ],
)
def test_an_odd_option_of_a_command_line_is_an_error_of_the_library(device: str) -> None:
    with pytest.raises(GuestError, match="option that cannot be read"):
        argv_devices(("qemu", "-object", "memory-backend-file,id=m", "-device", device))
