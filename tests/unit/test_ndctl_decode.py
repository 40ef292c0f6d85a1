"""What ndctl and daxctl printed, as records: output recorded from ndctl 76.1 and 81 (tests/data/ndctl)."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.host.mounts import decode_mounts
from VpmemLibrary.pmem.decode import decode_dax_devices, decode_dax_regions, decode_inventory
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import MiB
from VpmemLibrary.transport.base import CommandResult

DATA = Path(__file__).parents[1] / "data" / "ndctl"
VERSIONS = ("76.1", "81")


def recorded(version: str, state: str) -> CommandResult:
    """Return what a tool left when it was recorded."""
    data = json.loads((DATA / f"ndctl-{version}_{state}.json").read_text())
    return CommandResult(
        argv=tuple(data["argv"]),
        exit_status=data["exit_status"],
        stdout="\n".join(data["stdout"]).encode(),
        stderr="\n".join(data["stderr"]).encode(),
        seconds=0.1,
        host="recorded",
    )


def printed(text: str) -> CommandResult:
    return CommandResult(("ndctl", "list", "-B"), 0, text.encode(), b"", 0.1, "here")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_mode_is_read(version: str) -> None:
    inventory = decode_inventory(recorded(version, "modes"))
    assert [bus.provider for bus in inventory.buses] == ["ACPI.NFIT"]
    region = inventory.regions[0]
    assert (region.dev, region.size, region.align, region.dimms) == ("region0", 1 << 30, 16 * MiB, ("nmem0",))
    assert region.available_size == region.max_available_extent == 640 * MiB
    assert region.numa_node == 0
    by_name = {(ns.name, ns.dev): ns for ns in inventory.namespaces}
    assert [(ns.dev, ns.mode, ns.size) for ns in inventory.namespaces] == [
        ("namespace0.0", NamespaceMode.fsdax, 62 * MiB),
        ("namespace0.1", NamespaceMode.devdax, 62 * MiB),
        ("namespace0.2", NamespaceMode.devdax, 62 * MiB),
        ("namespace0.3", NamespaceMode.sector, 65966080),
        ("namespace0.4", NamespaceMode.raw, 64 * MiB),
        ("namespace0.5", NamespaceMode.raw, 64 * MiB),
    ]
    devdax = by_name["twice", "namespace0.2"]
    assert (devdax.device, devdax.map, devdax.align) == ("/dev/dax0.2", MapLocation.mem, 2 * MiB)
    assert devdax.raw_uuid == devdax.label_uuid != devdax.uuid
    assert by_name["of-fsdax", "namespace0.0"].device == "/dev/pmem0"
    assert by_name["twice", "namespace0.3"].sector_size == 4096
    raw = by_name["of-raw", "namespace0.4"]
    assert raw.label_uuid == raw.uuid != ""
    disabled = by_name["off", "namespace0.5"]
    assert not disabled.active
    assert disabled.device == ""
    assert disabled.label_uuid == disabled.uuid


@pytest.mark.parametrize("version", VERSIONS)
def test_a_namespace_without_a_label_has_no_uuid(version: str) -> None:
    (namespace,) = decode_inventory(recorded(version, "unlabeled")).namespaces
    assert (namespace.uuid, namespace.label_uuid, namespace.mode) == ("", "", NamespaceMode.raw)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_kernels_empty_namespace_is_not_listed(version: str) -> None:
    result = recorded(version, "labeled-empty")
    assert b"namespace0.0" in result.stdout
    inventory = decode_inventory(result)
    assert inventory.namespaces == ()
    assert inventory.regions[0].available_size == 1 << 30


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_is_ordered_by_number(version: str) -> None:
    inventory = decode_inventory(recorded(version, "everything"))
    assert [region.dev for region in inventory.regions] == ["region0", "region1", "region2", "region3"]
    assert [(dimm.dev, dimm.handle) for dimm in inventory.dimms] == [(f"nmem{n}", n + 1) for n in range(4)]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_printed_is_nothing_there(version: str) -> None:
    result = recorded(version, "no-such-region")
    assert (result.exit_status, result.stdout) == (0, b"")
    assert decode_inventory(result).regions == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_disabled_region_says_so(version: str) -> None:
    assert decode_inventory(recorded(version, "region-disabled")).regions[0].state == "disabled"


@pytest.mark.parametrize("version", VERSIONS)
def test_dax_devices_are_read(version: str) -> None:
    devices = decode_dax_devices(recorded(version, "daxctl"))
    assert [(d.chardev, d.size, d.mode, d.align) for d in devices] == [
        ("dax0.1", 62 * MiB, "devdax", 2 * MiB),
        ("dax0.2", 62 * MiB, "devdax", 2 * MiB),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_listing_without_buses_is_not_taken_for_one(version: str) -> None:
    with pytest.raises(UnreadableOutputError, match="a bus has no dev"):
        decode_inventory(recorded(version, "without-buses"))


def test_flags_text_numbers_and_unknown_fields() -> None:
    text = """[{"dev":"ndbus0","scrub_state":"idle","dimms":[{"dev":"nmem0","handle":"0x1","phys_id":"7",
        "flag_failed_arm":true,"flag_smart_event":false,"health":{"x":1}}],
        "regions":[{"dev":"region0","size":"1073741824","namespaces":[
        {"dev":"namespace0.0","mode":"quantum","chardev":"dax0.0","new_field":[1]}]}]}]"""
    inventory = decode_inventory(printed(text))
    (dimm,) = inventory.dimms
    assert (dimm.handle, dimm.phys_id, dimm.flags) == (1, 7, ("failed_arm",))
    assert dimm.extra == {"flag_smart_event": False, "health": {"x": 1}}
    assert inventory.buses[0].extra == {"scrub_state": "idle"}
    (namespace,) = inventory.namespaces
    assert (namespace.mode, namespace.device) == (None, "/dev/dax0.0")
    assert namespace.extra == {"mode": "quantum", "new_field": [1]}
    assert inventory.regions[0].size == 1 << 30


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        '[{"dev":"ndbus0"',
        "[1]",
        "7",
        '[{"provider":"x"}]',
        '[{"dev":"ndbus0","dimms":[{"dev":"nmem0","handle":"one"}]}]',
        '[{"dev":"ndbus0","regions":[{"dev":"region0","size":-1}]}]',
        '[{"dev":"ndbus0","regions":[{"dev":"region0","size":1.5}]}]',
        '[{"dev":["ndbus0"]}]',
        '[{"dev":"ndbus0","regions":"x"}]',
        '[{"dev":"../ndbus0"}]',
        '[{"dev":"ndbus0\\nbus"}]',
        '[{"dev":"ndbus0","regions":[{"dev":"region0","namespaces":[{"dev":"namespace0.0","blockdev":"../sda"}]}]}]',
        '[{"dev":"ndbus0","regions":[{"dev":"region0","size":1e400}]}]',
        '[{"dev":"ndbus0","regions":[{"dev":"region0","size":18446744073709551616}]}]',
    ],
)
def test_what_is_no_listing_is_told_with_command_and_text(text: str) -> None:
    with pytest.raises(UnreadableOutputError) as caught:
        decode_inventory(printed(text))
    assert "ndctl list -B" in str(caught.value)
    assert text in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["dev", "id", "regions", "namespaces", "dimms", "devices", "chardev", "size", "name", "uuid", "x"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '[{"dev":' * 900 + "1" + "}]" * 900,
        '[{"dev":"ndbus' + "9" * 5000 + '"}]',
        '[{"dev":"ndbus0","regions":[{"dev":"region0","size":' + "9" * 5000 + "}]}]",
        '[{"dev":"ndbus0","regions":[{"dev":"region0","size":"' + "9" * 5000 + '"}]}]',
    ],
    ids=["nested", "nested objects", "device", "number", "number as text"],
)
def test_a_listing_without_bounds_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableOutputError) as caught:
        decode_inventory(printed(text))
    assert len(str(caught.value)) < 6000


@pytest.mark.parametrize("text", ['[{"id":"x"}]', "[{}]", '[{"id":1.5}]', '[{"id":' + "9" * 30 + "}]"])
def test_a_device_dax_region_without_a_number_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableOutputError, match=r"id of a region|has no id"):
        decode_dax_regions(printed(text))


def test_a_name_may_be_any_bytes_and_other_texts_are_made_visible() -> None:
    text = b"""[{"dev":"ndbus0","provider":"a\\n\\u001b","regions":[{"dev":"region0","persistence_domain":"\\u202e",
        "namespaces":[{"dev":"namespace0.0","name":"\xff\\n*HTML*","size":1}]}]}]"""
    inventory = decode_inventory(replace(printed(""), stdout=text))
    assert inventory.buses[0].provider == r"a\x0a\x1b"
    assert inventory.regions[0].persistence_domain == r"\u202e"
    (namespace,) = inventory.namespaces
    assert namespace.name == "\ufffd\n*HTML*"
    assert namespace.called == r"'�\n*HTML*' (namespace0.0)"


@given(json_values)
@settings(max_examples=200)
def test_any_json_is_read_or_told_as_unreadable(value: object) -> None:
    for decode in (decode_inventory, decode_dax_devices, decode_dax_regions):
        with suppress(UnreadableOutputError):
            decode(printed(json.dumps(value)))


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200)
def test_any_bytes_are_read_or_unreadable(output: bytes) -> None:
    for decode in (decode_inventory, decode_dax_devices, decode_dax_regions, decode_mounts):
        with suppress(UnreadableOutputError):
            decode(replace(printed(""), stdout=output))


@given(st.text(alphabet="block 0123:/-\n\t\\.rw", max_size=80))
@settings(max_examples=200)
def test_any_table_of_mounts_is_read_or_unreadable(text: str) -> None:
    with suppress(UnreadableOutputError):
        assert all(str(mount).isprintable() for mount in decode_mounts(printed(text)))


@given(st.integers(min_value=0, max_value=len(recorded("81", "modes").stdout) - 2))
def test_a_listing_cut_short_is_never_taken_for_whole(length: int) -> None:
    whole = recorded("81", "modes").text
    if whole[:length].strip():
        with pytest.raises(UnreadableOutputError):
            decode_inventory(printed(whole[:length]))


@pytest.mark.parametrize(
    ("listing", "name"),
    [
        ('[{"dev": "ndbus0"}, {"dev": "ndbus0"}]', "ndbus0"),
        ('[{"dev": "ndbus0", "dimms": [{"dev": "nmem0"}, {"dev": "nmem0"}]}]', "nmem0"),
        ('[{"dev": "ndbus0", "regions": [{"dev": "region0", "size": 1}, {"dev": "region0", "size": 2}]}]', "region0"),
    ],
)
def test_a_device_that_is_listed_twice_makes_a_listing_unreadable(listing: str, name: str) -> None:
    result = CommandResult(("ndctl", "list"), 0, listing.encode(), b"", 0.1)
    with pytest.raises(UnreadableOutputError, match=f"ndctl lists {name} twice"):
        decode_inventory(result)
