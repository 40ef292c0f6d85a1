"""Buses that the lab does not have: listings after public reports (tests/data/bus), with any size step, type and id."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_namespace_changes import Divided
from test_ndctl_changes import LABELS, Machine, left, recorded

from VpmemLibrary.errors import (
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    OutOfSpaceError,
    ToolMissingError,
    UnreadableOutputError,
    UnsupportedError,
    ViewsDisagreeError,
)
from VpmemLibrary.keywords.pmem.namespace_getters import NamespaceGetterKeywords, NamespaceProperty
from VpmemLibrary.keywords.pmem.regions import RegionKeywords
from VpmemLibrary.keywords.pmem.room import RoomKeywords
from VpmemLibrary.keywords.support.converters import to_size
from VpmemLibrary.leases.leases import region_key
from VpmemLibrary.pmem.decode import decode_dax_devices, decode_dax_regions, decode_inventory
from VpmemLibrary.pmem.guard import region_target
from VpmemLibrary.pmem.labels.area import decode_label_area
from VpmemLibrary.pmem.labels.labels import Labels
from VpmemLibrary.pmem.media.health import KERNEL_SCRIPT, Health
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.plan import plan_namespace, smallest_size, step_of
from VpmemLibrary.pmem.namespaces.views import namespace_views
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.prediction import (
    ALIGNMENTS,
    default_region_align,
    predict_usable_size,
    size_step,
    smallest_valid_size,
)
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.pmem.regions.regions import LabelState, Regions
from VpmemLibrary.pmem.regions.room import decode_room
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, AtLeast, GiB, KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult, query
from VpmemLibrary.transport.local import LocalTransport

DATA = Path(__file__).parents[1] / "data" / "bus"
DEVDAX = NamespaceMode.devdax


def bus(name: str) -> CommandResult:
    return left(0, (DATA / f"{name}.json").read_text())


def changed(result: CommandResult, **values: object) -> CommandResult:
    """Return a listing in which every region has other values; None takes a value away."""
    buses = json.loads(result.text)
    for region in (region for each in buses for region in each.get("regions", [])):
        region.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del region[key]
    return replace(result, stdout=json.dumps(buses).encode())


def region_of(result: CommandResult) -> Region:
    (region,) = decode_inventory(result).regions
    return region


def keywords(machine: Machine) -> RegionKeywords:
    host = SimpleNamespace(ndctl=Ndctl(machine), alias="recorded")
    return RegionKeywords(cast(Session, SimpleNamespace(host=host)))


# Any size step


def test_six_interleaved_dimms_have_a_step_of_96_mib() -> None:
    region = region_of(bus("six-way"))
    for mode in NamespaceMode:
        assert step_of(region, mode) == 96 * MiB
    assert step_of(region, DEVDAX, Size(GiB)) == 6 * GiB
    assert [str(smallest_size(region, Size(size * MiB))) for size in (0, 64, 96, 97, 256)] == [
        *("96MiB", "96MiB", "96MiB", "192MiB", "288MiB")
    ]
    assert step_of(region_of(changed(bus("six-way"), align=None)), DEVDAX) == 96 * MiB  # a kernel before 5.8


@pytest.mark.parametrize(
    ("ways", "align"), [(1, 16), (2, 16), (3, 48), (4, 16), (6, 96), (8, 16), (12, 192), (16, 16), (24, 384)]
)
def test_a_regions_own_alignment_is_that_of_the_kernel(ways: int, align: int) -> None:
    assert default_region_align(ways) == align * MiB
    assert size_step(ways=ways, align=Size(2 * MiB)) == align * MiB if ways <= 8 else True


@given(
    st.integers(1, 64).map(lambda ways: size_step(ways=ways, align=Size(2 * MiB))), st.integers(0, 1 << 44).map(Size)
)
def test_the_smallest_size_is_allowed_and_no_smaller_one_is(step: Size, at_least: Size) -> None:
    size = smallest_valid_size(at_least, step)
    assert size >= max(at_least, Size(16 * MiB))
    assert size % step == 0
    assert size - step < max(at_least, Size(16 * MiB))


def test_a_plan_takes_the_smallest_size_of_at_least_some_bytes() -> None:
    ndctl = Ndctl(Machine(bus("six-way")))
    plan = plan_namespace(ndctl, "region0", mode=DEVDAX, size=AtLeast(64 * MiB))
    assert (plan.size, plan.options[-2:]) == (96 * MiB, ("--size", str(96 * MiB)))
    assert plan.usable == predict_usable_size(Size(96 * MiB), mode=DEVDAX) == 94 * MiB
    with pytest.raises(InvalidValueError, match="'64MiB' cannot be used: expected a multiple of 96MiB, at least 96MiB"):
        plan_namespace(ndctl, "region0", mode=DEVDAX, size=Size(64 * MiB))
    with pytest.raises(InvalidValueError, match=r"a multiple of 96MiB.*: 192MiB or 288MiB"):
        plan_namespace(ndctl, "region0", mode=DEVDAX, size=Size(256 * MiB))
    whole = plan_namespace(ndctl, "region0", mode=NamespaceMode.raw)
    assert (whole.size, whole.usable) == (None, 1629940088832)


def test_all_of_a_piece_that_is_no_multiple_of_the_step_is_the_multiple_below_it() -> None:
    listing = changed(bus("six-way"), max_available_extent=1000 * MiB)
    plan = plan_namespace(Ndctl(Machine(listing)), "region0", mode=DEVDAX)
    assert (plan.size, plan.options[-1]) == (960 * MiB, str(960 * MiB))


def test_a_gibibyte_on_each_of_six_dimms_depends_on_where_it_begins() -> None:
    machine = Divided(bus("six-way"), room=f"region0 {0x3060000000:#x} 1629940088832\n")
    plan = plan_namespace(Ndctl(machine), "region0", mode=DEVDAX, align=Size(GiB), size=AtLeast(GiB))
    assert (plan.size, plan.usable) == (6 * GiB, 5 * GiB)  # from 194 to 199 GiB of memory


def test_the_room_of_a_region_is_told_in_its_own_step() -> None:
    step = 96 * MiB
    room = decode_room(
        left(0, f"region0 0x100000000 {10 * step}\nnamespace0.1 {0x100000000 + step:#x} {step}"), align=step
    )
    assert [(extent.offset, extent.size) for extent in room.free] == [(0, step), (2 * step, 8 * step)]


def test_a_size_of_at_least_is_read_from_a_suite() -> None:
    size = to_size("at least 64MiB")
    assert isinstance(size, AtLeast)
    assert (size, str(size)) == (64 * MiB, "at least 64MiB")
    assert to_size("all") is ALL
    assert not isinstance(to_size("64MiB"), AtLeast)
    with pytest.raises(InvalidValueError, match="binary unit"):
        to_size("at least 64MB")


def test_the_keywords_name_step_and_smallest_size() -> None:
    keyword = keywords(Machine(bus("six-way")))
    assert keyword.get_region_size_step("region0") == 96 * MiB
    assert keyword.get_smallest_namespace_size("region0", Size(100 * MiB)) == 192 * MiB
    assert keyword.get_smallest_namespace_size("region0", Size(100 * MiB), align=Size(GiB)) == 6 * GiB


def test_pages_of_64_kib_have_their_own_alignments_and_smaller_page_maps() -> None:
    plan = plan_namespace(Ndctl(Machine(bus("power"))), "region0", mode=DEVDAX, size=AtLeast(GiB))
    assert "--align 16777216" in " ".join(plan.options)
    assert plan.usable == GiB - 16 * MiB
    assert predict_usable_size(Size(GiB), mode=DEVDAX, align=Size(2 * MiB)) == GiB - 18 * MiB
    with pytest.raises(InvalidValueError, match="64KiB or 16MiB"):
        plan_namespace(Ndctl(Machine(bus("power"))), "region0", mode=DEVDAX, align=Size(GiB))
    assert 4 * KiB in ALIGNMENTS


@pytest.mark.parametrize("given", [lambda listing: "region0", region_of], ids=["name", "record"])
def test_the_predicted_size_is_that_of_the_regions_machine(given: Callable[[CommandResult], Region | str]) -> None:
    listing = bus("power")
    host = SimpleNamespace(ndctl=Ndctl(Machine(listing)), alias="recorded")
    keyword = RoomKeywords(cast(Session, SimpleNamespace(host=host)))
    assert keyword.get_predicted_usable_size(Size(GiB), region=given(listing)) == GiB - 16 * MiB
    assert keyword.get_predicted_usable_size(Size(GiB)) == GiB - 18 * MiB


def test_the_tables_of_a_sector_namespace_without_labels_depend_on_dimms() -> None:
    """Measured on lab hosts with kernel 6.12: a region of 1 GiB on an NVDIMM without labels, and on virtio-pmem."""
    keyword = RoomKeywords(cast(Session, SimpleNamespace(host=None)))
    sizes = {
        dimms: keyword.get_predicted_usable_size(Size(GiB), mode=NamespaceMode.sector, region=Region("r", dimms=dimms))
        for dimms in (("nmem3",), ())
    }
    assert sizes == {("nmem3",): 1046500 * KiB, (): 1046496 * KiB}


# Regions that can have namespaces


def test_the_roomiest_region_is_one_that_can_have_namespaces() -> None:
    keyword = keywords(Machine(bus("blk-and-volatile")))
    assert [region.type for region in keyword.get_regions()] == ["pmem", "blk", "volatile"]
    assert keyword.get_region_with_largest_free_extent().dev == "region0"
    with pytest.raises(UnsupportedError, match="No region of recorded has 8GiB free in one piece: region0 4GiB"):
        keyword.get_region_with_largest_free_extent(at_least=Size(8 * GiB))


def test_a_host_without_persistent_regions_is_told_what_it_has() -> None:
    listing = replace(bus("blk-and-volatile"), stdout=bus("blk-and-volatile").stdout.replace(b'"pmem"', b'"hmem"'))
    with pytest.raises(UnsupportedError, match="region0 hmem, region1 blk, region2 volatile"):
        keywords(Machine(listing)).get_region_with_largest_free_extent()


@pytest.mark.parametrize(("region", "kind"), [("region1", "blk"), ("region2", "volatile")])
def test_no_namespace_is_cut_from_a_region_of_another_type(region: str, kind: str) -> None:
    machine = Machine(bus("blk-and-volatile"))
    with pytest.raises(UnsupportedError, match=f"{region} on recorded is of type {kind}"):
        Namespaces(Ndctl(machine)).create(region, mode=DEVDAX)
    assert machine.asked == []


def test_a_blk_region_is_not_one_without_labels() -> None:
    machine = Machine(bus("blk-and-volatile"), nstype="4")
    assert [region.dev for region in Regions(Ndctl(machine)).unlabeled()] == ["region0"]


def test_a_read_only_region_is_neither_roomy_nor_changed() -> None:
    machine = Machine("everything")
    machine.answers["nstype"] = [left(0, "region0 5 1\nregion1 5 1\nregion2 5 1\nregion3 5 0\n")]
    assert keywords(machine).get_region_with_largest_free_extent().dev == "region3"
    with pytest.raises(UnsupportedError, match="region0 on recorded is read-only"):
        plan_namespace(Ndctl(machine), "region0", mode=DEVDAX)


def test_a_read_only_region_gets_no_labels() -> None:
    """Labels would replace its namespace by free space in which no namespace can be created."""
    machine = Machine("everything")
    machine.answers["nstype"] = [left(0, "region0 4 1\nregion1 5 0\nregion2 5 0\nregion3 4 0\n")]
    regions = Regions(Ndctl(machine))
    assert [region.dev for region in regions.unlabeled()] == ["region0", "region3"]
    assert [region.dev for region in regions.initializable()] == ["region3"]


# What ndctl prints


def test_an_iset_id_is_the_same_64_bits_however_it_is_printed() -> None:
    region = region_of(bus("negative-iset-id"))
    assert region.iset_id == 0xB3FBDA901A1B8A22 == -5477544209317918174 % (1 << 64)
    assert region_key(region) == f"region-{region.iset_id:x}"
    assert region_target(region).identity == "0xb3fbda901a1b8a22"
    for printed in ("0xb3fbda901a1b8a22", str(-5477544209317918174), 0xB3FBDA901A1B8A22):
        assert region_of(changed(bus("negative-iset-id"), iset_id=printed)) == region


def test_several_buses_of_an_old_ndctl_are_read() -> None:
    inventory = decode_inventory(bus("ndctl-62_several-buses"))
    assert [(each.dev, each.provider) for each in inventory.buses] == [
        ("ndbus0", "ACPI.NFIT"),
        ("ndbus1", "e820"),
        ("ndbus2", "virtio-pmem"),
    ]
    regions = {region.dev: region for region in inventory.regions}
    assert list(regions) == ["region0", "region1", "region4", "region5"]
    assert (regions["region0"].numa_node, regions["region0"].available_size) == (None, 0)
    assert (regions["region1"].size, regions["region1"].iset_id) == (16 * GiB, 0xDEADBEEF0BADCAFE)
    assert regions["region1"].free_extent == 16 * GiB  # a kernel before 4.20 lists no largest extent
    assert [dimm.handle for dimm in inventory.dimms] == [1, 0x80000001]
    (dax,) = regions["region0"].namespaces
    assert (dax.mode, dax.device) == (DEVDAX, "/dev/dax0.0")
    assert dax.uuid == "1e2f3a4b-0000-4000-8000-00c0ffee0001"


@pytest.mark.parametrize(
    ("printed", "mode"), [("memory", NamespaceMode.fsdax), ("dax", DEVDAX), ("sector", NamespaceMode.sector)]
)
def test_the_modes_of_old_versions_have_their_present_names(printed: str, mode: NamespaceMode) -> None:
    listed = {"dev": "namespace0.0", "mode": printed, "size": 8587837440}
    listing = changed(bus("six-way"), namespaces=[listed])
    (namespace,) = region_of(listing).namespaces
    assert (namespace.mode, namespace.extra) == (mode, {})


@pytest.mark.parametrize("unknown", [-1, (1 << 64) - 1])
def test_free_bytes_that_ndctl_could_not_read_are_no_room(unknown: int) -> None:
    region = region_of(changed(bus("six-way"), available_size=unknown, max_available_extent=unknown))
    assert (region.available_size, region.max_available_extent, region.free_extent) == (0, None, 0)
    (dax,) = decode_dax_regions(left(0, f'[{{"id":0,"size":4096,"available_size":{unknown}}}]'))
    assert dax.available_size == 0


@pytest.mark.parametrize("text", ["", "\n", "[]", "[[]]", "null", "[null]", "[\n]\n"])
def test_nothing_is_nothing_in_any_form(text: str) -> None:
    for decode in (decode_inventory, decode_dax_devices, decode_dax_regions):
        assert not getattr(decoded := decode(left(0, text)), "buses", decoded)


@pytest.mark.parametrize(
    "form",
    [
        "ndctl: warning: something\n{}",
        "[WARN] a wrapper says so\n{}",
        "{{not json}}\n[1] 4711\n{}",
        "\ufeff{}",
        "{}\nwarning: something after it\n",
        "[{}]",
        "[[{}]]",
    ],
    ids=["warning", "in brackets", "job", "mark", "after", "nested", "twice nested"],
)
def test_text_around_a_listing_and_more_nesting_are_left_out(form: str) -> None:
    listing = bus("six-way").text.strip()
    assert decode_inventory(left(0, form.format(listing))) == decode_inventory(bus("six-way"))


@pytest.mark.parametrize(
    "text", ["warning: nothing more\n", "warning\n[", '[{"dev":"ndbus0"}]\n[{"dev":"ndbus1"}]', "[]garbage"]
)
def test_text_without_one_whole_listing_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableOutputError, match="not complete JSON"):
        decode_inventory(left(0, text))


def test_half_of_a_name_is_shown_as_such() -> None:
    namespaces = '"namespaces":[{"dev":"namespace0.0","name":"\\ud83d","size":1}]'
    text = f'[{{"dev":"ndbus0","regions":[{{"dev":"region0",{namespaces}}}]}}]'
    (namespace,) = decode_inventory(left(0, text)).namespaces
    assert namespace.name == "\N{REPLACEMENT CHARACTER}"


def test_the_health_of_power_is_read() -> None:
    machine = Machine(bus("power"))
    machine.answers["other"] = [left(0, "dimm nmem0\nflags smart_notify\n")]
    (dimm,) = Health(Ndctl(machine)).dimms()
    assert (dimm.health_state, dimm.life_used, dimm.shutdown_state) == ("critical", 0, "clean")
    assert (dimm.flags, dimm.kernel_flags) == (("smart_event",), ("smart_notify",))
    machine.answers["other"] = [left(0, "dimm nmem0\nid 8a6b1b2c-7a30-4f4c-8f0e-2a17c0de0001\nflags smart_notify\n")]
    views = Health(Ndctl(machine)).views("nmem0")
    views.require()
    assert views.views["sysfs"]["flags"] == "smart_event"


def test_an_empty_file_of_flags_means_that_no_flag_is_set(tmp_path: Path) -> None:
    (tmp_path / "nmem0" / "papr").mkdir(parents=True)
    (tmp_path / "nmem0" / "papr" / "flags").write_text("")
    (tmp_path / "nmem1" / "nfit").mkdir(parents=True)
    (tmp_path / "nmem1" / "nfit" / "flags").mkdir()  # cannot be read
    script = KERNEL_SCRIPT.replace("/sys/bus/nd/devices", str(tmp_path))
    printed = LocalTransport().run(query(script, "nmem0", "nmem1", "--")).check()
    assert printed.lines == ["dimm nmem0", "state disabled", "flags ", "dimm nmem1", "state disabled"]
    machine = Machine(bus("power"))
    machine.answers["other"] = [printed]
    (dimm,) = Health(Ndctl(machine)).dimms()
    assert dimm.kernel_flags == ()


def test_capabilities_that_are_none_are_passed_over() -> None:
    for value in (None, "x", [None], [{"mode": "devdax", "alignments": ["x", None, -1, True]}], {"mode": "devdax"}):
        region = region_of(changed(bus("six-way"), capabilities=value)) if value else region_of(bus("six-way"))
        assert step_of(region, DEVDAX) == 96 * MiB


def test_what_vanishes_between_two_listings_is_named() -> None:
    without_regions = json.loads(bus("power").text)
    without_regions[0]["regions"] = []
    gone = left(0, json.dumps(without_regions))
    machine = Machine(bus("power"), gone)
    machine.answers["other"] = [left(0)]
    with pytest.raises(NotFoundError, match="Region region0 is no longer on recorded"):
        Health(Ndctl(machine)).bad_blocks("region0")
    with pytest.raises(NotFoundError, match=r"No DIMM 'nmem0' on recorded\. There is none"):
        Health(Ndctl(Machine(left(0)))).views("nmem0")
    ndctl = Ndctl(Machine(bus("power"), left(0)))
    with pytest.raises(NotFoundError, match=r"No DIMM 'nmem0' on recorded\. There is none"):
        Labels(ndctl, Regions(ndctl)).saved("region0")


def test_an_alignment_that_an_old_ndctl_does_not_list_is_no_disagreement() -> None:
    """ndctl 61.5 lists no alignment of namespaces."""
    namespace = Namespace("namespace0.0", NamespaceMode.fsdax, Size(4 * MiB), map=MapLocation.dev, blockdev="pmem0")
    machine = Machine(left(0))
    sysfs = "holder=pfn0.1\nmode=memory\nname=\nsize=4194304\nuuid=\nholder_mode=pmem\nholder_align=2097152\n"
    machine.answers["other"] = [left(0, f"{sysfs}node_kind=block\nnode_size=4194304\n")]
    namespace_views(machine, namespace).require()
    assert "map" not in namespace_views(machine, replace(namespace, map=None)).views["ndctl"]
    with pytest.raises(ViewsDisagreeError, match="differ in align"):
        namespace_views(machine, replace(namespace, align=Size(4 * KiB))).require()
    listing = changed(bus("six-way"), namespaces=[{"dev": "namespace0.0", "mode": "fsdax", "size": 4 * MiB}])
    host = SimpleNamespace(ndctl=Ndctl(Machine(listing)), alias="recorded")
    getters = NamespaceGetterKeywords(cast(Session, SimpleNamespace(host=host)))
    with pytest.raises(UnsupportedError, match="ndctl of recorded lists no alignment of namespace0"):
        getters.get_namespace_property("namespace0.0", NamespaceProperty.align)


# A region that is full or in pieces


@pytest.mark.parametrize("status", [237, 245, 228])
def test_a_region_that_another_filled_is_out_of_space_in_each_version_of_ndctl(status: int) -> None:
    full = changed(bus("six-way"), available_size=0, max_available_extent=0)
    machine = Machine(bus("six-way"), full)
    machine.answers["create-namespace"] = [left(status, stderr="failed to create namespace: whatever")]
    with pytest.raises(NoSpaceError, match="no room for a namespace of 96MiB in region0: nothing of it is free"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=AtLeast(MiB))


def test_a_region_in_pieces_is_out_of_space_where_the_kernel_lists_their_sum_alone() -> None:
    pieces = changed(bus("six-way"), available_size=576 * MiB, max_available_extent=None)
    start = 1 << 32
    taken = "".join(f"namespace0.{n} {start + n * 192 * MiB:#x} {96 * MiB}\n" for n in range(6))
    machine = Divided(pieces, room=f"region0 {start:#x} {12 * 96 * MiB}\n{taken}")
    machine.answers["create-namespace"] = [
        left(245, stderr="failed to create namespace: Resource temporarily unavailable")
    ]
    with pytest.raises(
        NoSpaceError, match=r"has 96MiB \(576MiB in total, in several extents\)\. Free extents: 96MiB at"
    ):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(192 * MiB))


def test_a_full_region_is_out_of_space_whatever_the_listing_says() -> None:
    machine = Machine(bus("six-way"))
    machine.answers["create-namespace"] = [left(245)]
    with pytest.raises(OutOfSpaceError, match="ndctl found no room in region0, though 1518GiB are free"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(96 * MiB))


def test_a_size_that_the_kernel_finds_no_piece_for_is_out_of_space() -> None:
    full = changed(bus("six-way"), available_size=96 * MiB, max_available_extent=0)
    machine = Machine(bus("six-way"), full)
    stderr = "  Error: create namespace: namespace0.3: set_size failed: No such device or address"
    machine.answers["create-namespace"] = [left(250, stderr=stderr)]
    with pytest.raises(NoSpaceError, match="no room"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(96 * MiB))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            "libndctl: ndctl_pfn_enable: pfn0.0: failed to enable\nfailed to create: No space left on device",
            NoSpaceError,
        ),
        ("error destroying namespaces: Device or resource busy\n", "DeviceBusyError"),
        ("failed: Permission denied", "needs root"),
        ("failed: Operation not supported", "EOPNOTSUPP"),
        ("failed: etwas ganz anderes", "CommandError"),
    ],
)
def test_an_exit_status_of_1_means_what_stderr_ends_with(words: str, error: Any) -> None:
    with pytest.raises(Exception) as caught:
        checked(left(1, stderr=words), "do it")
    found = {type(caught.value).__name__, type(caught.value)}
    assert error in found or str(error) in str(caught.value)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ToolMissingError, match="ndctl is not installed"):
        checked(replace(left(127, stderr="sh: 1: ndctl: not found"), argv=("ndctl", "list")), "list")


# Labels


def test_a_sector_namespace_of_16_mib_is_refused_under_labels_1_1() -> None:
    machine = Machine("labeled-empty")

    machine.answers["read-labels"] = [
        replace(left(0), stdout=gzip.decompress((LABELS / "empty-1.1.bin.gz").read_bytes()))
    ]
    ndctl = Ndctl(machine)
    with pytest.raises(InvalidValueError, match=r"sector under labels 1\.1"):
        plan_namespace(ndctl, "region0", mode=NamespaceMode.sector, size=Size(16 * MiB))
    assert plan_namespace(ndctl, "region0", mode=NamespaceMode.sector, size=AtLeast(16 * MiB)).size == 32 * MiB
    assert (
        plan_namespace(Ndctl(Machine("labeled-empty")), "region0", mode=NamespaceMode.sector, size=AtLeast(1)).size
        == 16 * MiB
    )


def test_labels_of_a_region_that_shares_a_dimm_are_no_problem() -> None:
    """The DIMM of region0 has its labels, and is one of two of region1, which has none of those namespaces."""
    both = json.loads(recorded("modes").text)
    listing = decode_inventory(left(0, json.dumps(both)))
    assert listing.regions[0].dimms == ("nmem0",)
    # What the labels of tests/data/labels describe belongs to region9; region0 beside it has nothing.

    area = gzip.decompress((LABELS / "used-1.2.bin.gz").read_bytes())

    labels = decode_label_area(area, "nmem0").labels
    cookie = labels[0].isetcookie
    buses = [
        {
            "dev": "ndbus0",
            "dimms": [{"dev": "nmem0"}, {"dev": "nmem1"}],
            "regions": [
                {"dev": "region0", "type": "pmem", "iset_id": 7, "mappings": [{"dimm": "nmem0"}]},
                {
                    "dev": "region1",
                    "type": "pmem",
                    "iset_id": cookie - (1 << 64) if cookie >> 63 else cookie,
                    "mappings": [{"dimm": "nmem0"}, {"dimm": "nmem1"}],
                },
            ],
        }
    ]
    machine = Machine(left(0, json.dumps(buses)))
    machine.answers["read-labels"] = [replace(left(0), stdout=area)]
    machine.answers["check-labels"] = [left(0)]
    ndctl = Ndctl(machine)
    assert Labels(ndctl, Regions(ndctl)).problems("region0") == ()
    buses[0]["regions"].pop()  # type: ignore[attr-defined]
    machine.answers["list"] = [left(0, json.dumps(buses))]
    assert len(Labels(ndctl, Regions(ndctl)).problems("region0")) == len(labels)


def test_cxl_memory_without_labels_has_not_lost_them() -> None:

    listing = recorded("labeled-empty")
    machine = Machine(replace(listing, stdout=listing.stdout.replace(b"ACPI.NFIT", b"CXL")))
    blank = [replace(left(0), stdout=gzip.decompress((LABELS / "zeroed.bin.gz").read_bytes()))]
    machine.answers["read-labels"] = blank
    assert Regions(Ndctl(machine)).label_state("region0") is LabelState.labeled
    machine = Machine("labeled-empty")
    machine.answers["read-labels"] = blank
    assert Regions(Ndctl(machine)).label_state("region0") is LabelState.lost
