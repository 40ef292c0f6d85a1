"""Guests that others defined: access, memory devices of every model, and devices on QEMU's command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from recorded_guest import COMMAND_LINE, DATA, INACTIVE_XML, LIVE_XML, inside, monitor

from VpmemLibrary.errors import GuestError, InvalidValueError, UnsupportedError, ViewsDisagreeError
from VpmemLibrary.guest.domain.records import Access, VpmemDevice, VpmemModel, in_slots
from VpmemLibrary.guest.domain.template import add_devices, as_own
from VpmemLibrary.guest.domain.xml import (
    has_balloon,
    read_devices,
    read_name,
    read_plugged_ram,
    read_ram,
    read_room,
)
from VpmemLibrary.guest.domain.xml_checks import check_domain
from VpmemLibrary.guest.migration import with_backings
from VpmemLibrary.guest.prediction import configured_size
from VpmemLibrary.guest.views.argv import argv_devices, argv_ram
from VpmemLibrary.guest.views.inside import INSIDE_COMMAND, InsideRegion, device_key, inside_devices, inside_regions
from VpmemLibrary.guest.views.memory import system_ram
from VpmemLibrary.guest.views.qemu_options import config_files, parse_option, parse_size
from VpmemLibrary.guest.views.qmp import (
    pci_aliases,
    qmp_addresses,
    qmp_attached_ram,
    qmp_devices,
    qmp_memory,
    qmp_plugged_ram,
)
from VpmemLibrary.guest.views.views import compare, device_view
from VpmemLibrary.keywords.guest.guest_xml import _text as xml_text
from VpmemLibrary.sizes import GiB, KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

NVDIMM = "<memory model='nvdimm'{}><source><path>/dev/dax0.0</path></source>{}</memory>"
TARGET = "<target><size unit='MiB'>512</size><node>{}</node></target>"
CELL = "<cell id='{}' cpus='{}' memory='512' unit='MiB'{}/>"


def case(name: str) -> str:
    return (DATA / f"domain_{name}.xml").read_text()


def domain(devices: str, *, before: str = "", cells: str = CELL.format(0, 0, ""), room: str = "slots='8'") -> str:
    numa = f"<cpu><numa>{cells}</numa></cpu>" if cells else ""
    return (
        f"<domain type='kvm'><name>a</name><maxMemory {room} unit='GiB'>64</maxMemory><memory unit='GiB'>2</memory>"
        f"{before}<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>{numa}"
        f"<devices>{devices}</devices></domain>"
    )


# Access: of the device, of its cell, of the whole domain


@pytest.mark.parametrize("own", ["", " access='shared'", " access='private'"])
@pytest.mark.parametrize("cell", ["", " memAccess='shared'", " memAccess='private'"])
@pytest.mark.parametrize("whole", ["", "shared", "private"])
def test_the_access_is_of_the_device_then_of_its_cell_then_of_the_domain(own: str, cell: str, whole: str) -> None:
    backing = f"<memoryBacking><access mode='{whole}'/></memoryBacking>" if whole else ""
    cells = CELL.format(0, 0, "") + CELL.format(1, 1, cell)
    (device,) = read_devices(domain(NVDIMM.format(own, TARGET.format(1)), before=backing, cells=cells))
    first = next((text for text in (own, cell, whole) if text), "")
    expected = Access.shared if "shared" in first else Access.private if "private" in first else None
    assert device.access is expected
    assert device_view(device)["shared"] is (expected is Access.shared)


@pytest.mark.parametrize("name", ["cell_memaccess_shared", "memory_backing_shared"])
def test_a_domain_that_shares_its_memory_shares_its_nvdimm(name: str) -> None:
    xml = case(name)
    check_domain(xml)
    share = {"qom-type": "memory-backend-file", "share": "on", "size": "512M", "id": "m", "mem-path": "/x"}
    argv = ("-object", ",".join(f"{key}={value}" for key, value in share.items()), "-device", "nvdimm,memdev=m")
    assert device_view(read_devices(xml)[0])["shared"] is argv_devices(argv)[0]["shared"] is True
    with pytest.raises(InvalidValueError, match="nothing persists"):
        check_domain(xml.replace("'shared'", "'private'"))


def test_another_cell_s_access_is_not_the_device_s() -> None:
    cells = CELL.format(0, 0, "") + CELL.format(1, 1, " memAccess='shared'")
    (device,) = read_devices(domain(NVDIMM.format("", TARGET.format(0)), cells=cells))
    assert device.access is None


def test_a_virtio_pmem_device_has_no_cell_and_must_say_shared_itself() -> None:
    virtio = NVDIMM.replace("nvdimm", "virtio-pmem").format("{}", "<target><size unit='MiB'>64</size></target>")
    shared = "<memoryBacking><access mode='shared'/></memoryBacking>"
    cells = CELL.format(0, 0, " memAccess='private'")
    assert read_devices(domain(virtio.format(""), before=shared, cells=cells))[0].access is Access.shared
    with pytest.raises(InvalidValueError, match=r"access of /dev/dax0.0 'none'.*libvirt requires"):
        check_domain(domain(virtio.format(""), before=shared))
    check_domain(domain(virtio.format(" access='shared'"), room=""))


@pytest.mark.parametrize(
    "xml",
    [
        domain(NVDIMM.format(" access='often'", TARGET.format(0))),
        domain(NVDIMM.format("", TARGET.format(0)), cells=CELL.format(0, 0, " memAccess='often'")),
        domain(NVDIMM.format("", TARGET.format(0)), before="<memoryBacking><access mode='often'/></memoryBacking>"),
    ],
)
def test_an_access_that_libvirt_does_not_know_is_refused_with_those_that_it_does(xml: str) -> None:
    with pytest.raises(InvalidValueError, match=r"'often' cannot be used: expected shared or private"):
        read_devices(xml)


def test_only_discard_of_an_nvdimm_that_is_wanted_is_refused() -> None:
    check_domain(domain(NVDIMM.format(" access='shared' discard='no'", TARGET.format(0))))
    with pytest.raises(InvalidValueError, match=r"discard of /dev/dax0.0 'yes'"):
        check_domain(domain(NVDIMM.format(" access='shared' discard='yes'", TARGET.format(0))))


def test_a_device_that_is_added_has_the_access_of_the_domain() -> None:
    new = VpmemDevice("/dev/dax1.0", Size(512 * MiB), access=None)
    added = add_devices(case("memory_backing_shared"), [new])
    assert [device.access for device in read_devices(added)] == [Access.shared, Access.shared]
    with pytest.raises(InvalidValueError, match="nothing persists"):
        add_devices(case("dimm_beside_nvdimm"), [new])


# Memory devices of other models

OTHERS = (
    "<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory>"
    "<memory model='virtio-mem'><target><size unit='GiB'>1</size><node>0</node><block unit='MiB'>2</block>"
    "<requested unit='MiB'>128</requested></target></memory>"
    "<memory model='sgx-epc'><target><size unit='MiB'>16</size></target></memory>"
    "<memory model='from-the-future'><target><size unit='MiB'>32</size></target></memory>"
)
SHARED = NVDIMM.format(" access='shared'", TARGET.format(0))


def test_a_dimm_beside_an_nvdimm_has_a_slot_and_is_ram() -> None:
    xml = case("dimm_beside_nvdimm")
    check_domain(xml)
    (device,) = read_devices(xml)
    assert (device.slot, device.handle, device.size) == (1, 2, 512 * MiB)
    assert (read_ram(xml), read_plugged_ram(xml), read_room(xml).memory) == (1024 * MiB, 256 * MiB, 1792 * MiB)
    assert read_room(xml).used_slots == 2
    with pytest.raises(InvalidValueError, match=r"slots of <maxMemory> '1'.*2 or more"):
        check_domain(xml.replace("slots='8'", "slots='1'"))


def test_memory_devices_of_every_model_are_counted_as_libvirt_counts_them() -> None:
    xml = domain(OTHERS + SHARED, room="slots='2'")
    check_domain(xml)
    (device,) = read_devices(xml)
    assert (device.path, device.slot) == ("/dev/dax0.0", 1)
    assert read_plugged_ram(xml) == 384 * MiB
    assert read_room(xml).memory == (512 + 256 + 1024 + 16 + 32 + 512) * MiB
    assert (read_room(xml).used_slots, read_room(xml, libvirt=9_004_000).used_slots) == (2, 5)
    with pytest.raises(InvalidValueError, match=r"slots of <maxMemory> '2'.*5 or more"):
        check_domain(xml, libvirt=9_004_000)


def test_a_device_is_added_beside_others_with_the_slots_that_they_need() -> None:
    xml = domain(OTHERS + SHARED, room="slots='2'")
    added = add_devices(xml, [VpmemDevice("/dev/dax1.0", Size(64 * MiB))])
    assert read_room(added).slots == 3
    assert [device.slot for device in read_devices(added)] == [1, 2]


def test_slots_that_are_stated_stay_and_others_get_the_lowest_free_one() -> None:
    stated = SHARED.replace("</memory>", "<address type='dimm' slot='0' base='0x100000000'/></memory>")
    xml = domain(OTHERS + stated + SHARED)
    assert [device.slot for device in read_devices(xml)] == [0, 2]
    assert [device.slot for device in read_devices(domain(OTHERS + stated.replace(" slot='0'", "")))] == [1]
    alone = VpmemDevice("/a", Size(GiB))
    assert [device.slot for device in in_slots([alone, alone.in_slot(1), alone], taken=[0])] == [2, 1, 3]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("<size>1024</size>", MiB),
        ("<size unit='KiB'>1024</size>", MiB),
        ("<size unit='k'>1024</size>", MiB),
        ("<size unit='KB'>1024</size>", 1024000),
        ("<size unit='bytes'>1048576</size>", MiB),
        ("<size unit='b'>1048575</size>", MiB),
        ("<size unit='MB'>1</size>", 977 * KiB),
        ("<size unit='GB'>1</size>", 976563 * KiB),
        ("<size unit='gib'> 1\n</size>", GiB),
        ("<size unit='T'>1</size>", 1024 * GiB),
        ("<size unit='MiB'><!-- of /dev/dax0.0 --><![CDATA[1]]></size>", MiB),
    ],
)
def test_a_size_is_read_in_every_unit_of_libvirt(size: str, expected: int) -> None:
    target = f"<target>{size}<node>0</node></target>"
    assert read_devices(domain(NVDIMM.format("", target)))[0].size == expected


@pytest.mark.parametrize("size", ["<size>x</size>", "<size>1.5</size>", f"<size>{'9' * 5000}</size>", "<size>٣</size>"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    target = f"<target>{size}<node>0</node></target>"
    with pytest.raises(InvalidValueError, match="<size> of the domain XML") as caught:
        read_devices(domain(NVDIMM.format("", target)))
    assert len(str(caught.value)) < 400


def test_an_alias_of_the_user_s_own_is_kept() -> None:
    named = SHARED.replace("</memory>", "<alias name='ua-nv'/></memory>")
    assert read_devices(domain(named))[0].alias == "ua-nv"


def test_metadata_comments_and_other_namespaces_change_nothing() -> None:
    odd = LIVE_XML.replace(
        "<metadata>",
        "<metadata><!-- <memory model='nvdimm'/> --><n:x xmlns:n='urn:n'><memory model='nvdimm'/></n:x><?php echo ?>",
    )
    assert read_devices(f"<?xml version='1.0' encoding='ISO-8859-1'?>{odd}") == read_devices(LIVE_XML)


def test_a_comment_inside_a_text_hides_no_part_of_it() -> None:
    xml = domain(SHARED, cells="").replace("<name>a", "<name><!-- old -->a").replace("'>2<", "'><?x y?>2<!-- z --><")
    new = VpmemDevice("/dev/dax1.0", Size(512 * MiB))
    own = add_devices(as_own(xml, "0123abcd", name="b"), [new])
    assert (read_name(own), read_ram(own)) == ("b", 1536 * MiB)
    assert "<!-- here -->" in as_own(xml.replace("<devices>", "<devices><!-- here -->"), "0123abcd")


@pytest.mark.parametrize("where", ["<path>&e;", "<path>/dev/&e;"])
def test_an_entity_is_refused_and_not_read_as_nothing(where: str) -> None:
    xml = "<!DOCTYPE domain [<!ENTITY e '/dev/dax0.0'>]>" + domain(SHARED.replace("<path>/dev/dax0.0", where))
    for read in (read_devices, check_domain, lambda text: as_own(text, "0123abcd")):
        with pytest.raises(InvalidValueError, match="without entities"):
            read(xml)
    assert read_devices("<!DOCTYPE domain>" + domain(SHARED))[0].path == "/dev/dax0.0"


def test_devices_larger_than_all_memory_leave_no_negative_ram() -> None:
    xml = domain(SHARED.replace(">512<", ">2048<"), cells="")
    with pytest.raises(InvalidValueError, match=r"<memory> of the domain XML '2GiB'.*more than its memory devices"):
        add_devices(xml, [VpmemDevice("/dev/dax1.0", Size(512 * MiB))])


def test_an_xml_without_end_is_refused_by_its_length() -> None:
    with pytest.raises(InvalidValueError, match="at most 8388608"):
        read_devices(f"<domain>{' ' * (9 << 20)}</domain>")


# NUMA


def test_a_numa_cell_is_left_to_a_libvirt_that_makes_one() -> None:
    xml = case("no_numa_cell")
    check_domain(xml)
    check_domain(xml, libvirt=9_006_000)
    assert (read_devices(xml)[0].node, read_ram(xml)) == (0, 1536 * MiB)
    with pytest.raises(InvalidValueError, match=r"domain XML 'without <numa>'.*older than 9.6"):
        check_domain(xml, libvirt=9_005_000)
    with pytest.raises(InvalidValueError, match="domain XML 'without <maxMemory>'"):
        check_domain(xml.replace("<maxMemory slots='4' unit='GiB'>8</maxMemory>", ""))
    with pytest.raises(InvalidValueError, match=r"node of /var.* 1 .*: 0"):
        check_domain(xml.replace("</size></target>", "</size><node>1</node></target>"))


@pytest.mark.parametrize(
    ("architecture", "machine", "message"),
    [
        ("s390x", "s390-ccw-virtio", "arch of the domain XML 's390x'.*QEMU has no NVDIMM on s390x"),
        ("riscv64", "virt", "arch of the domain XML 'riscv64'"),
        ("x86_64", "microvm", "machine of the domain XML 'microvm'.*pc or q35"),
        ("aarch64", "virt-10.0", "<acpi/> in <features>, and UEFI"),
        ("ppc64le", "pseries", "label_size of .*pSeries"),
    ],
)
def test_a_machine_that_can_have_no_nvdimm_is_refused_with_the_reason(
    architecture: str, machine: str, message: str
) -> None:
    xml = case("no_numa_cell").replace("arch='x86_64' machine='q35'", f"arch='{architecture}' machine='{machine}'")
    with pytest.raises(InvalidValueError, match=message):
        check_domain(xml)


def test_a_guest_on_power_or_arm_is_taken() -> None:
    power = case("no_numa_cell").replace("arch='x86_64' machine='q35'", "arch='ppc64le' machine='pseries'")
    uuid = "<uuid>94d02aa7-b6f2-4a01-a98b-bb4ad5be5e8c</uuid><source>"
    label = "<label><size unit='KiB'>128</size></label></target>"
    check_domain(power.replace("<source>", uuid).replace("</target>", label), libvirt=7_000_000)
    assert configured_size(Size(600 * MiB), "ppc64le", 128 * KiB) == 512 * MiB + 128 * KiB
    arm = case("no_numa_cell").replace("arch='x86_64' machine='q35'", "arch='aarch64' machine='virt'")
    check_domain(arm.replace("<devices>", "<features><acpi/></features><devices>"))


# QEMU's command line


@pytest.mark.parametrize(
    ("text", "default", "size"),
    [
        ("4g", "B", 4 * GiB),
        ("4G", "B", 4 * GiB),
        ("1.5G", "B", 1536 * MiB),
        (".5M", "B", 512 * KiB),
        ("0x200000", "B", 2 * MiB),
        ("0X10M", "B", 16 * MiB),
        ("512", "M", 512 * MiB),
        ("512B", "M", 512),
        ("262144k", "M", 256 * MiB),
        ("1T", "B", 1024 * GiB),
        ("1p", "B", 1 << 50),
        ("2e", "B", 1 << 61),
        (268435456, "B", 256 * MiB),
    ],
)
def test_a_size_of_qemu_is_read(text: object, default: str, size: int) -> None:
    assert parse_size(text, default) == size


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1.5", "4GiB", "4GB", "1e3", "0x", "16E", "9" * 5000, None, True, "1 G"]
)
def test_what_is_no_size_of_qemu_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a (size|whole)"):
        parse_size(text)


def test_options_are_read_in_every_form() -> None:
    assert parse_option("nvdimm,memdev=a,,b,unarmed,label-size=2M", "driver") == {
        "driver": "nvdimm",
        "memdev": "a,b",
        "unarmed": "on",
        "label-size": "2M",
    }
    assert parse_option("id=m,noshare,qom-type=memory-backend-ram", "qom-type")["share"] == "off"
    assert parse_option(' {"driver": "nvdimm"}', "driver") == {"driver": "nvdimm"}


FILE = "memory-backend-file,id={0},share=on,mem-path=/{0},size=64M"
JSON = '{{"driver": "nvdimm", "memdev": "{}"{}}}'


def test_devices_without_a_slot_get_theirs_as_qemu_gives_them() -> None:
    argv = (
        *("qemu", "-object", FILE.format("a"), "--object", FILE.format("b"), "-object", FILE.format("c")),
        *("-device", JSON.format("c", ', "slot": 2'), "-device", JSON.format("a", "")),
        *("--device", "pc-dimm,memdev=d", "-device", "nvdimm,memdev=b"),
    )
    # QEMU makes those of key=value options first, and each takes the lowest slot that is free then.
    assert {key: view["path"] for key, view in argv_devices(argv).items()} == {1: "/b", 2: "/c", 3: "/a"}
    assert list(argv_devices(argv[-4:], taken=[0])) == [2]


def test_an_nvdimm_of_power_may_have_a_driver_of_its_own() -> None:
    backend = "memory-backend-file,id=m,share=on,mem-path=/x,size=1G"
    argv = ("-object", backend, "-device", "pc-dimm", "-device", "spapr-nvdimm,memdev=m,label-size=128K,uuid=u")
    assert argv_devices(argv)[1]["label size"] == 128 * KiB

    def ask(command: str, arguments: Mapping[str, object]) -> Any:
        answer = nameless(command, arguments)
        return json.loads(json.dumps(answer).replace("child<nvdimm>", "child<spapr-nvdimm>"))

    assert qmp_devices(ask) == qmp_devices(nameless)


def test_a_memfd_is_shared_unless_it_says_otherwise() -> None:
    def shared(backend: str) -> object:
        return argv_devices(("-object", backend, "-device", "nvdimm,memdev=m"))[0]["shared"]

    assert shared("memory-backend-memfd,id=m,size=1G") is True
    assert shared("memory-backend-memfd,id=m,size=1G,share=off") is False
    assert shared("memory-backend-ram,id=m,size=1G") is False
    assert shared("memory-backend-file,id=m,size=1G,share") is True


def test_what_is_set_later_counts() -> None:
    argv = ("-object", FILE.format("a"), "-device", "nvdimm,id=n,memdev=a", "-set", "device.n.label-size=1M")
    assert argv_devices((*argv, "-set", "object.a.size=0x8000000"))[0] | {} == {
        "path": "/a",
        "shared": True,
        "pmem": False,
        "readonly": False,
        "size": 128 * MiB,
        "label size": MiB,
    }


def test_the_ram_of_a_command_line_has_its_dimms() -> None:
    assert argv_ram(COMMAND_LINE) == 256 * MiB
    dimm = ("-object", "memory-backend-ram,id=d,size=256M", "-device", "pc-dimm,memdev=d")
    assert argv_ram(("-m", "1G,slots=2,maxmem=4G", *dimm)) == 1280 * MiB
    assert argv_ram(("-m", "512", "-m", "slots=2,maxmem=16G")) == 512 * MiB
    assert argv_ram(("-m", "1G", "-device", "virtio-mem-pci,memdev=x")) is None
    assert argv_ram(("qemu",)) is None


def test_devices_of_a_domain_s_own_command_line_are_read_and_checked() -> None:
    xml = case("qemu_commandline")
    check_domain(xml)
    assert read_devices(xml) == (
        VpmemDevice("/mnt/pmem0/vmfile", Size(4 * GiB), align=Size(2 * MiB), pmem=False, slot=0),
    )
    with pytest.raises(InvalidValueError, match="without nvdimm=on"):
        check_domain(xml.replace("nvdimm=on", "usb=off"))
    check_domain(xml.replace("'-machine'", "'-M'").replace("nvdimm=on", "q35,nvdimm"))
    with pytest.raises(InvalidValueError, match=r"slots of the domain XML 0 .*slots=1"):
        check_domain(xml.replace("slots=2,", ""))
    with pytest.raises(InvalidValueError, match="nothing persists"):
        check_domain(xml.replace("share=on,", ""))
    with pytest.raises(InvalidValueError, match="memory-backend-file with a mem-path"):
        check_domain(xml.replace("id=mem1", "id=mem2"))
    with pytest.raises(InvalidValueError, match="<qemu:commandline> of the domain XML"):
        read_devices(xml.replace("size=4g", "size=4q"))


def test_an_option_and_its_value_in_one_argument_is_refused() -> None:
    arg = "<qemu:arg value='{}'/>"
    one = arg.format("-object memory-backend-file,id=m,share=on,mem-path=/x,size=1G -device nvdimm,memdev=m")
    xml = domain("").replace("<domain", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'")
    line = "<qemu:commandline>{}</qemu:commandline></domain>"
    with pytest.raises(InvalidValueError, match="<qemu:arg> of the domain XML '-object memory-backend-file"):
        check_domain(xml.replace("</domain>", line.format(one)))
    check_domain(xml.replace("</domain>", line.format(arg.format("-device") + arg.format("virtio-rng-pci,id=- m 1"))))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_a_file_with_domain_xml_may_have_any_encoding(tmp_path: Path, encoding: str) -> None:
    declared = "<?xml version='1.0' encoding='ISO-8859-1'?>\n" if encoding.startswith("iso") else ""
    xml = domain(SHARED.replace("/dev/dax0.0", "/mnt/für/a"))
    path = tmp_path / "guest.xml"
    path.write_text(declared + xml, encoding=encoding)
    for given in (str(path), "\ufeff" + declared + xml):
        assert read_devices(xml_text(given))[0].path == "/mnt/für/a"


@pytest.mark.parametrize("path", ["/nonexistent", "/", "/dev/zero", "a\0b", ""])
def test_what_is_neither_xml_nor_a_file_with_it_is_refused_with_the_reason(path: str) -> None:
    with pytest.raises(InvalidValueError, match=r"the path of a file with domain XML \(.+\)"):
        xml_text(path)


def test_a_device_of_the_command_line_cannot_be_given_another_backing() -> None:
    xml = case("qemu_commandline")
    assert "/mnt/pmem0/vmfile" in with_backings(xml, {"/mnt/pmem0/vmfile": "/mnt/pmem0/vmfile"})
    with pytest.raises(UnsupportedError, match=r"<qemu:commandline> .* adds"):
        with_backings(xml, {"/mnt/pmem0/vmfile": "/mnt/pmem1/vmfile"})


def test_a_device_that_may_be_in_a_configuration_file_says_so() -> None:
    argv = tuple(part for part in COMMAND_LINE if "nvdimm1" not in part)
    files = config_files((*argv, "-readconfig", "/etc/vm.cfg"))
    views = compare(
        "a",
        asked=(),
        xml=read_devices(LIVE_XML),
        argv=argv_devices(argv),
        qmp=qmp_devices(monitor),
        inside={},
        inactive=read_devices(INACTIVE_XML),
        config_files=files,
    )
    assert views[1].views["QEMU command line"] == {"stated in": "/etc/vm.cfg"}
    assert views[0].views["QEMU command line"]["path"] == "/dev/dax0.1"


# QEMU's monitor


def without(*properties: str) -> Any:
    """Return the recorded monitor of a QEMU that lacks some properties."""

    def ask(command: str, arguments: Mapping[str, object]) -> Any:
        if command == "qom-get" and arguments["property"] in properties:
            raise GuestError(
                'QEMU\'s monitor of guest a refused qom-get: {"error":{"class":"GenericError",'
                f'"desc":"Property \'memory-backend-file.{arguments["property"]}\' not found"}}'
            )
        return monitor(command, arguments)

    return ask


def test_a_qemu_without_libpmem_has_no_pmem() -> None:
    with_pmem, found = qmp_devices(monitor), qmp_devices(without("pmem", "unarmed", "readonly", "hotplugged"))
    assert [view["pmem"] for view in found.values()] == [False, False, False]
    assert [{**view, "pmem": True} for key, view in found.items() if key in (0, 1)] == [with_pmem[0], with_pmem[1]]
    with pytest.raises(GuestError, match="size"):
        qmp_devices(without("size"))


def test_another_refusal_of_the_monitor_is_no_absent_property() -> None:
    def ask(command: str, arguments: Mapping[str, object]) -> Any:
        if command == "qom-get" and arguments["property"] == "pmem":
            raise GuestError("QEMU's monitor of guest a refused qom-get: it is busy")
        return monitor(command, arguments)

    with pytest.raises(GuestError, match="it is busy"):
        qmp_devices(ask)


def nameless(command: str, arguments: Mapping[str, object]) -> Any:
    """Answer as a QEMU whose devices were given no id."""
    anonymous = "/machine/peripheral-anon"
    if command == "query-memory-devices":
        entries = [{**entry, "data": {**entry["data"]}} for entry in monitor(command, arguments)]
        for entry in entries:
            del entry["data"]["id"]
        return [*entries, {"type": "hv-balloon", "data": {"id": "b"}}, {"type": "cxl", "data": 7}]
    if command == "qom-list":
        types = ("nvdimm", "nvdimm", "virtio-pmem-pci", "pc-dimm")
        children = [{"name": f"device[{number}]", "type": f"child<{kind}>"} for number, kind in enumerate(types)]
        return [{"name": "type", "type": "string"}, *children]
    path = str(arguments.get("path", ""))
    if path.startswith(anonymous):
        number = int(path[-2])
        told = {"slot": 1 - number, "memaddr": 4622123008}  # in another order than by their slots
        if (name := arguments["property"]) in told:
            return told[str(name)]
        device = "virtiopmem0" if number == 2 else f"nvdimm{1 - number}"
        return monitor(command, {**arguments, "path": f"/machine/peripheral/{device}"})
    return monitor(command, arguments)


def test_devices_without_an_id_are_known_by_slot_or_address() -> None:
    named, found = qmp_devices(monitor), qmp_devices(nameless)
    assert found == {0: named[0], 1: named[1], "/dev/pmem1": named["virtiopmem0"]}
    assert qmp_addresses(nameless) == {4622123008: "/dev/pmem1"}
    assert qmp_addresses(monitor) == {}
    region = InsideRegion("region2", "0000:00:04.0", Size(62 * MiB), {}, 4622123008)
    assert device_key(region, {}, qmp_addresses(nameless)) == "/dev/pmem1"
    assert device_key(replace(region, address=None), {}, qmp_addresses(nameless)) == "0000:00:04.0"


def test_the_views_of_devices_without_an_id_agree() -> None:
    anonymous = tuple(
        part.replace('"id":"nvdimm', '"x":"nvdimm').replace('"id":"virtiopmem0",', "") for part in COMMAND_LINE
    )
    regions = tuple(replace(region, address=4622123008) for region in inside_regions(inside))
    devices = tuple(replace(device, alias="") for device in read_devices(LIVE_XML))
    views = compare(
        "a",
        asked=devices,
        xml=devices,
        argv=argv_devices(anonymous),
        qmp=qmp_devices(nameless),
        inside=inside_devices(regions, {}, qmp_addresses(nameless)),
    )
    assert len(views) == 3
    for agreement in views:
        agreement.require()


def test_a_pci_device_without_an_id_has_no_alias() -> None:
    assert "" not in pci_aliases(monitor).values()


def test_dimms_are_ram_and_not_persistent() -> None:
    def ask(command: str, arguments: Mapping[str, object]) -> Any:
        answer = monitor(command, arguments)
        if command == "query-memory-devices":
            dimm = {"size": 256 * MiB, "hotplugged": True, "memdev": "/objects/memdimm0", "id": "dimm0"}
            return [{"type": "dimm", "data": dimm}, *answer, {"type": "virtio-mem", "data": {"size": 4 * MiB}}]
        return answer | {"plugged-memory": answer["plugged-memory"] + 260 * MiB}

    assert qmp_memory(ask) == qmp_memory(monitor)
    assert (qmp_plugged_ram(ask), qmp_attached_ram(ask)) == (260 * MiB, 256 * MiB)
    assert qmp_plugged_ram(monitor) == 0


# In the guest


def test_persistent_memory_that_a_guest_made_ram_is_not_counted_as_ram() -> None:
    lines = "00001000-3fffffff : System RAM\n100000000-10fffffff : System RAM (virtio_mem)\n"
    kmem = "  200000000-20fffffff : System RAM (kmem)\n"
    assert system_ram(CommandResult(("cat",), 0, (lines + kmem).encode(), b"", 0.1)) == (1024 + 256) * MiB


def test_the_address_of_a_region_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "pci:0000:00:04.0 65011712 0 -1 @0x113800000 /dev/pmem2 region2\n0x1 1 0 0 @0 region0\n"
    monkeypatch.setattr(inside, "run", lambda _: CommandResult(("sh",), 0, line.encode(), b"", 0.1))
    virtio, nvdimm = inside_regions(inside)
    assert (virtio.address, virtio.view["device node"]) == (0x113800000, "/dev/pmem2")
    assert (nvdimm.key, "device node" in nvdimm.view) == (0, False)


def test_a_region_of_a_guest_on_power_is_known_by_its_slot(tmp_path: Path) -> None:
    devices = tmp_path / "devices"
    devices.mkdir()
    for number, index in enumerate(["90000000", "90000003", "nothing"]):
        region = tmp_path / "ibm,persistent-memory" / f"ibm,persistent-memory:ibm,pmemory@{index}" / f"region{number}"
        region.mkdir(parents=True)
        (devices / region.name).symlink_to(region)
        (devices / f"nmem{number}").mkdir()
        for name, text in {"mapping0": f"nmem{number},0,268435456,0", "size": "268435456", "read_only": "0"}.items():
            (region / name).write_text(f"{text}\n")
    script = [*INSIDE_COMMAND]
    assert "/sys/bus/nd/devices" in script[2]
    script[2] = script[2].replace("/sys/bus/nd/devices", str(devices))

    class Guest:
        def run(self, _: object) -> CommandResult:
            done = subprocess.run(script, capture_output=True, check=True)
            return CommandResult(tuple(script), 0, done.stdout, done.stderr, 0.1)

    power: Any = Guest()
    assert [(region.key, region.size) for region in inside_regions(power)] == [(0, 256 * MiB), (3, 256 * MiB)]


def test_two_devices_on_one_backing_are_compared_each_with_itself() -> None:
    first, second, _ = read_devices(LIVE_XML)
    twice = (first, replace(second, path=first.path))
    virtio = replace(first, model=VpmemModel.virtio_pmem, slot=None, alias="virtiopmem0")
    live = (*twice, virtio, replace(virtio, alias="virtiopmem1", size=Size(MiB)))
    views = compare("a", asked=live, xml=live, argv={}, qmp={}, inside={})
    assert [agreement.subject for agreement in views] == ["a, slot 0", "a, slot 1", "a, virtiopmem0", "a, virtiopmem1"]
    assert [agreement.views["live XML"]["size"] for agreement in views] == [first.size, second.size, first.size, MiB]
    with pytest.raises(ViewsDisagreeError):
        views[0].require()


def test_a_domain_has_a_balloon_unless_it_says_none() -> None:
    assert not has_balloon(LIVE_XML)
    assert has_balloon(case("no_numa_cell"))
