"""Flavors, the domain XML of a server beside Nova's own, and what a server goes through when things fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import BootSource
from VpmemLibrary.guest.domain.xml_checks import check_domain
from VpmemLibrary.nova.domain import server_devices, server_domain
from VpmemLibrary.nova.flavor import Flavor, flavor_of
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import KiB, MiB, Size

SHAPES = Path(__file__).parents[2] / "resources" / "domains"
BOOT = BootSource(kernel="/boot/vmlinuz", initrd="/boot/initrd")
RAM = Size(256 * MiB)
# The sizes of the namespaces in Nova's functional test: 4 GiB - 2 MiB each.
NOVAS_SIZE = Size(4292870144)


def namespace(number: int = 0, size: Size = NOVAS_SIZE) -> Namespace:
    return Namespace(
        f"namespace0.{number}",
        NamespaceMode.devdax,
        size,
        f"ns_{number}",
        align=Size(2 * MiB),
        chardev=f"dax0.{number}",
    )


def domain(flavor: Flavor, *namespaces: Namespace) -> etree._Element:
    xml = server_domain("instance-1", flavor, namespaces, BOOT, run_id="0123abcd", hypervisor="kvm")
    check_domain(xml)
    return etree.fromstring(xml.encode())


def plain(element: etree._Element | None) -> object:
    """Return an element as a value that can be compared: blanks between elements do not count."""
    assert element is not None
    return element.tag, sorted(element.items()), (element.text or "").strip(), [plain(child) for child in element]


@pytest.mark.parametrize(
    ("shape", "sizes"), [("nova", [NOVAS_SIZE]), ("nova_two_devices", [NOVAS_SIZE, Size(1022 * MiB)])]
)
def test_memory_is_what_nova_writes_element_by_element(shape: str, sizes: list[Size]) -> None:
    text = (SHAPES / f"{shape}.xml").read_text()
    total = 256 * KiB
    for number, size in enumerate(sizes):
        mark = f"_{number + 1}" if len(sizes) > 1 else ""
        text = text.replace(f"@PATH{mark}@", f"/dev/dax0.{number}").replace(f"@KIB{mark}@", str(size // KiB))
        total += size // KiB
    novas = etree.fromstring(text.replace("@MAXIMUM@", str(total)).encode())
    flavor = Flavor("with-vpmem", RAM, pmem=("L",) * len(sizes))
    ours = domain(flavor, *(namespace(number, size) for number, size in enumerate(sizes)))
    for tag in ("maxMemory", "memory"):
        assert plain(ours.find(tag)) == plain(novas.find(tag))
    assert ours.find("currentMemory") is None
    assert [plain(each) for each in ours.findall("devices/memory")] == [
        plain(each) for each in novas.findall("devices/memory")
    ]


def test_novas_own_numbers() -> None:
    (device,) = server_devices([namespace()])
    assert device.size // KiB == 4192256
    memory = domain(Flavor("f", Size(4096 * MiB), pmem=("4GB", "SMALL")), namespace(), namespace(1)).find("maxMemory")
    assert memory is not None
    assert (memory.text, memory.get("slots")) == (str(4194304 + 2 * 4192256), "2")


def test_sizes_are_whole_numbers_also_of_a_namespace_that_is_no_multiple_of_a_kibibyte() -> None:
    size = domain(Flavor("f", pmem=("L",)), namespace(size=Size(64 * MiB + 1))).findtext("devices/memory/target/size")
    assert size == "65536"


def test_devices_keep_the_order_and_the_alignment_of_their_namespaces() -> None:
    second = replace(namespace(1), align=Size(1024 * MiB))
    devices = server_devices([second, namespace(0)])
    assert [device.path for device in devices] == ["/dev/dax0.1", "/dev/dax0.0"]
    assert [device.align for device in devices] == [Size(1024 * MiB), Size(2 * MiB)]


def test_a_server_without_persistent_memory_has_no_room_for_any() -> None:
    ours = domain(Flavor("plain"))
    assert ours.find("maxMemory") is None
    assert ours.findall("devices/memory") == []


def test_a_namespace_without_a_device_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="this one has no device"):
        server_devices([replace(namespace(), chardev="", state="disabled")])


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("4GB,SMALL", ("4GB", "SMALL")),
        ("SMALL,4GB,SMALL", ("SMALL", "4GB", "SMALL")),
        (" 4GB , SMALL", ("4GB", "SMALL")),
        ("", ()),
        ("  ", ()),
    ],
)
def test_the_extra_spec_is_labels_in_order(spec: str, labels: tuple[str, ...]) -> None:
    assert flavor_of("f", ram=RAM, vcpus=1, extra_specs={"hw:pmem": spec}).pmem == labels


@pytest.mark.parametrize("spec", [",", "4GB,", ",SMALL", "4GB,,SMALL"])
def test_an_empty_label_is_refused(spec: str) -> None:
    with pytest.raises(InvalidValueError, match="none of them empty"):
        flavor_of("f", ram=RAM, vcpus=1, extra_specs={"hw:pmem": spec})


def test_another_extra_spec_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"extra spec 'hw:pmm'"):
        flavor_of("f", ram=RAM, vcpus=1, extra_specs={"hw:pmm": "4GB"})


@pytest.mark.parametrize(("ram", "vcpus"), [(Size(1), 1), (Size(32 * MiB), 1), (RAM + 1, 1), (RAM, 0)])
def test_what_no_server_can_have_is_refused(ram: Size, vcpus: int) -> None:
    with pytest.raises(InvalidValueError):
        flavor_of("f", ram=ram, vcpus=vcpus, extra_specs={})
