"""Keywords whose arguments choose the property, the way or the number of results."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import ForeignError, InvalidValueError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.keywords.guest.guests import GuestKeywords, StopMethod
from VpmemLibrary.keywords.host.claims import ClaimKeywords
from VpmemLibrary.keywords.host.hosts import HostKeywords
from VpmemLibrary.keywords.pmem.health import HealthKeywords
from VpmemLibrary.keywords.pmem.namespace_getters import NamespaceGetterKeywords, NamespaceProperty
from VpmemLibrary.keywords.pmem.namespaces import NamespaceKeywords
from VpmemLibrary.keywords.pmem.regions import RegionKeywords, RegionProperty
from VpmemLibrary.keywords.support.assertions import AssertionOperator
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import GiB, MiB, Size

EQUAL = AssertionOperator["=="]
MINE = RunMark("0123abcd")
MARK = "76706d65-6d01-823a-8bcd-5f0e6d2a9c41"

NAMESPACE = {
    "dev": "namespace0.0", "mode": "devdax", "map": "dev", "size": 64 * MiB, "align": 2 * MiB, "name": "ns_0",
    "uuid": "1b1b1b1b-0000-4000-8000-000000000001", "raw_uuid": "2c2c2c2c-0000-4000-8000-000000000002",
}  # fmt: skip
LISTING: list[dict[str, object]] = [
    {
        "provider": "ACPI.NFIT",
        "dev": "ndbus0",
        "dimms": [{"dev": "nmem0"}, {"dev": "nmem1"}],
        "regions": [
            {
                "dev": "region0", "size": GiB, "available_size": 512 * MiB, "max_available_extent": 256 * MiB,
                "type": "pmem", "numa_node": 0, "mappings": [{"dimm": "nmem0"}], "namespaces": [NAMESPACE],
            },
            {"dev": "region1", "size": 2 * GiB, "type": "pmem", "numa_node": 1, "mappings": [{"dimm": "nmem1"}]},
        ],
    },
    {
        "provider": "virtio-pmem",
        "dev": "ndbus1",
        "regions": [{"dev": "region2", "size": GiB, "type": "pmem", "numa_node": 0, "state": "disabled"}],
    },
]  # fmt: skip


def listed() -> Session:
    ndctl = Ndctl(RecordedHost({"ndctl list": left(0, json.dumps(LISTING))}))
    labels = SimpleNamespace(
        labeled=lambda _: (SimpleNamespace(version="1.2", nslot=510),),
        available_slots=lambda _: 508,
        read=lambda _: (SimpleNamespace(size=Size(256 * 1024)), SimpleNamespace(size=Size(128 * 1024))),
    )
    regions = SimpleNamespace(label_state=lambda _: "labeled")
    host = SimpleNamespace(ndctl=ndctl, alias="recorded", labels=labels, regions=regions)
    return cast(Session, SimpleNamespace(host=host))


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["region0", "region1", "region2"]),
        ({"provider": "ACPI.NFIT"}, ["region0", "region1"]),
        ({"provider": "virtio*"}, ["region2"]),
        ({"numa_node": 0}, ["region0", "region2"]),
        ({"numa_node": 1}, ["region1"]),
        ({"size": Size(GiB)}, ["region0", "region2"]),
        ({"on_dimms": True}, ["region0", "region1"]),
        ({"on_dimms": False}, ["region2"]),
        ({"on_dimms": True, "numa_node": 0}, ["region0"]),
        ({"provider": "CXL"}, []),
    ],
)
def test_regions_are_filtered(filters: dict[str, Any], names: list[str]) -> None:
    assert [region.dev for region in RegionKeywords(listed()).get_regions(EQUAL, len(names), **filters)] == names


def test_the_number_of_records_is_asserted_and_the_records_are_returned() -> None:
    keyword = RegionKeywords(listed())
    assert len(keyword.get_regions(AssertionOperator[">="], "2")) == 3
    with pytest.raises(AssertionError, match=r"Regions of recorded '3' \(int\) should be '4'"):
        keyword.get_regions(EQUAL, "4")


@pytest.mark.parametrize(
    ("region", "property_", "value"),
    [
        ("region0", RegionProperty.size, Size(GiB)),
        ("region0", RegionProperty.available_size, Size(512 * MiB)),
        ("region0", RegionProperty.largest_free_extent, Size(256 * MiB)),
        ("region0", RegionProperty.state, "enabled"),
        ("region2", RegionProperty.state, "disabled"),
        ("region0", RegionProperty.label_state, "labeled"),
        ("region0", RegionProperty.label_version, "1.2"),
        ("region0", RegionProperty.label_slots, 510),
        ("region0", RegionProperty.available_label_slots, 508),
        ("region0", RegionProperty.label_area_size, Size(128 * 1024)),
    ],
)
def test_each_property_of_a_region(region: str, property_: RegionProperty, value: object) -> None:
    keyword = RegionKeywords(listed())
    assert keyword.get_region_property(region, property_, EQUAL, str(value)) == value
    with pytest.raises(AssertionError, match=f"{property_.value} of {region}".capitalize()):
        keyword.get_region_property(region, property_, AssertionOperator["!="], str(value))


@pytest.mark.parametrize(
    ("property_", "value"),
    [
        (NamespaceProperty.size, Size(64 * MiB)),
        (NamespaceProperty.mode, "devdax"),
        (NamespaceProperty.state, "active"),
        (NamespaceProperty.name, "ns_0"),
        (NamespaceProperty.uuid, "2c2c2c2c-0000-4000-8000-000000000002"),
        (NamespaceProperty.align, Size(2 * MiB)),
    ],
)
def test_each_property_of_a_namespace(property_: NamespaceProperty, value: object) -> None:
    keyword = NamespaceGetterKeywords(listed())
    assert keyword.get_namespace_property("ns_0", property_, EQUAL, str(value)) == value
    with pytest.raises(AssertionError, match="of ns_0"):
        keyword.get_namespace_property("ns_0", property_, AssertionOperator["!="], str(value))


def test_the_health_is_that_of_one_dimm_or_of_all() -> None:
    def health(name: str) -> Any:
        return SimpleNamespace(dev=name, as_rows=lambda: [("flags", "-")])

    of = SimpleNamespace(dimm=health, dimms=lambda: (health("nmem0"), health("nmem1")))
    keyword = HealthKeywords(cast(Session, SimpleNamespace(host=SimpleNamespace(health=of, alias="recorded"))))
    one, every = keyword.get_dimm_health("nmem1"), keyword.get_dimm_health()
    assert not isinstance(one, tuple)
    assert one.dev == "nmem1"
    assert isinstance(every, tuple)
    assert [each.dev for each in every] == ["nmem0", "nmem1"]


@pytest.mark.parametrize(("how", "way"), [("shutdown", "shut_down"), ("destroy", "destroy"), ("kill", "kill")])
def test_a_guest_is_stopped_in_the_requested_way_and_a_foreign_one_in_none(
    monkeypatch: pytest.MonkeyPatch, how: str, way: str
) -> None:
    stopped: list[str] = []
    for name in ("shut_down", "destroy", "kill"):
        monkeypatch.setattr(lifecycle, name, lambda *_, name=name: stopped.append(name))

    def refuse(_: str) -> None:
        raise ForeignError("not this run's own")

    guests = SimpleNamespace(find=lambda _: SimpleNamespace(require_made_by=refuse))
    session = SimpleNamespace(current=SimpleNamespace(guests=guests), run=MINE)
    keyword = GuestKeywords(cast(Session, session))
    with pytest.raises(ForeignError):
        keyword.stop_guest("other", StopMethod[how])
    assert stopped == []
    keyword.stop_guest("other", StopMethod[how], foreign=True)
    assert stopped == [way]


def test_a_claim_needs_a_label_or_a_property() -> None:
    with pytest.raises(InvalidValueError, match="at least one label, or a name, size, mode or node"):
        ClaimKeywords(Session(MINE, 60)).claim_namespaces()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("first", "second"), {}, "several names together with free=True"),
        (("first",), {"shared": True}, "True together with free=True"),
        ((), {"free": True, "alias": "left"}, "no alias together with free=True"),
    ],
)
def test_arguments_that_contradict_each_other_open_no_host(
    tmp_path: Path, names: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    hosts = tmp_path / "hosts.dat"
    hosts.write_text("[first]\nhost_address = 192.0.2.1\n[second]\nhost_address = 192.0.2.2\n")
    with pytest.raises(InvalidValueError, match=message):
        HostKeywords(Session(MINE, 60)).open_host_from_file(str(hosts), *names, timeout=timedelta(0), **options)


def reconfiguring(namespace: Namespace) -> tuple[NamespaceKeywords, list[tuple[str, str]]]:
    """Return the keywords for a foreign namespace, and where a mark was written."""
    written: list[tuple[str, str]] = []

    def reconfigure(before: Namespace, *, uuid: str | None, **_: object) -> Namespace:
        written.append(("label", uuid or "")) if before.label_uuid else None
        return before

    def write(_: Namespace, *, uuid: str, **__: object) -> None:
        written.append(("info block", uuid))

    host = SimpleNamespace(
        namespaces=SimpleNamespace(reconfigure=reconfigure),
        info_blocks=SimpleNamespace(write=write),
        ndctl=SimpleNamespace(namespace=lambda which: which),
    )
    session = SimpleNamespace(
        host=host,
        current=SimpleNamespace(tenancy=SimpleNamespace(new_uuid=lambda: MARK)),
        own_namespace=lambda which, **_: which,
    )
    return NamespaceKeywords(cast(Session, session)), written


def test_a_foreign_namespace_gets_the_mark_on_request_in_its_label_or_else_in_its_info_block() -> None:
    labeled = Namespace("namespace0.0", NamespaceMode.raw, uuid="1b1b1b1b-0000-4000-8000-000000000001")
    bare = Namespace("namespace1.0", NamespaceMode.raw)
    for namespace, options, marks in (
        (labeled, {"foreign": True}, [("label", "")]),
        (labeled, {"foreign": True, "own": True}, [("label", MARK)]),
        (bare, {"foreign": True}, []),
        (bare, {"foreign": True, "own": True}, [("info block", MARK)]),
    ):
        keywords, written = reconfiguring(namespace)
        keywords.reconfigure_namespace(namespace, mode=NamespaceMode.devdax, **options)
        assert written == marks
    keywords, written = reconfiguring(bare)
    with pytest.raises(InvalidValueError, match=r"in which namespace1\.0 can have a mark"):
        keywords.reconfigure_namespace(bare, mode=NamespaceMode.sector, foreign=True, own=True)
    assert written == []
