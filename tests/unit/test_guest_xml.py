"""Domain XML, built and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace
from recorded_guest import INACTIVE_XML, LARGE, LIVE_XML, SMALL, VIRTIO

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import Access, BootSource, GuestSpec, VpmemDevice, VpmemModel
from VpmemLibrary.guest.domain.xml import build_domain, read_console_log, read_devices, read_mark
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.sizes import KiB, MiB, Size

BOOT = BootSource(kernel="/boot/kernel", initrd="/boot/initrd", cmdline="console=ttyS0")


def spec(**changes: Any) -> GuestSpec:
    return GuestSpec(**{"name": "a", "boot": BOOT, "devices": (LARGE, SMALL), "run_id": "0123abcd", **changes})


def test_what_libvirt_made_of_a_guest_is_what_was_asked_for() -> None:
    live = (replace(LARGE, alias="nvdimm0"), replace(SMALL, alias="nvdimm1"), replace(VIRTIO, alias="virtiopmem0"))
    assert read_devices(LIVE_XML) == live


def test_slots_are_given_when_a_guest_starts() -> None:
    assert [device.path for device in read_devices(INACTIVE_XML)] == [LARGE.path, SMALL.path, VIRTIO.path]


def test_devices_read_back_as_they_were_built() -> None:
    devices = (
        VpmemDevice(path="/dev/dax0.0", size=Size(254 * MiB)),
        VpmemDevice(path="/x/y", size=Size(64 * MiB), label_size=None, align=None, access=None, pmem=False),
        VpmemDevice(path="/z", size=Size(64 * MiB), access=Access.private, readonly=True, node=3),
        VpmemDevice(
            path="/v", size=Size(64 * MiB), model=VpmemModel.virtio_pmem, label_size=None, node=None, pmem=False
        ),
    )
    assert read_devices(build_domain(spec(devices=devices))) == devices


def test_memory_is_ram_and_devices_and_there_are_slots_for_more() -> None:
    domain = etree.fromstring(build_domain(spec(memory=Size(512 * MiB))))
    assert int(domain.findtext("memory", "")) == (512 + 254 + 62) * KiB
    assert int(domain.findtext("maxMemory", "")) > (512 + 254 + 62) * KiB
    element = domain.find("maxMemory")
    assert element is not None
    assert int(element.get("slots", "")) > 2


def test_a_security_driver_is_told_to_leave_a_guest_alone_only_where_there_is_one() -> None:
    def told(*, confined: bool, driver: str) -> list[tuple[str | None, str | None]]:
        domain = etree.fromstring(build_domain(spec(confined=confined), security_driver=driver))
        return [(element.get("type"), element.get("model")) for element in domain.findall("seclabel")]

    assert told(confined=False, driver="apparmor") == [("none", "apparmor")]
    assert told(confined=False, driver="") == []
    assert told(confined=True, driver="apparmor") == []


def test_the_mark_tells_the_run() -> None:
    assert read_mark(build_domain(spec())) == "0123abcd"
    assert read_mark("<domain><name>x</name></domain>") == ""


def test_the_console_is_kept_in_a_file() -> None:
    assert read_console_log(LIVE_XML) == ("/var/log/libvirt/qemu/recorded-console.log", False)
    assert read_console_log("<domain/>") == ("", False)


@given(path=st.text(min_size=1).map(lambda text: f"/{text}"))
def test_any_path_reads_back_as_it_is_or_is_refused(path: str) -> None:
    device = VpmemDevice(path=path, size=Size(64 * MiB))
    try:
        xml = build_domain(spec(devices=(device,)))
    except InvalidValueError as error:
        assert error.what == "path"
        return
    assert read_devices(xml)[0].path == path


@given(name=st.text())
def test_any_name_is_taken_as_it_is_or_refused(name: str) -> None:
    try:
        asked = spec(name=name)
    except InvalidValueError as error:
        assert error.what == "guest name"
        return
    assert etree.fromstring(build_domain(asked)).findtext("name") == name


def test_no_file_is_read_through_an_entity(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not read me")
    xml = f"""<!DOCTYPE domain [<!ENTITY x SYSTEM "file://{secret}">]><domain><devices>
        <memory model="nvdimm"><source><path>/&x;</path></source><target><size>65536</size></target></memory>
        </devices></domain>"""
    assert "do not read me" not in str(read_devices(xml))


def test_what_is_no_xml_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="domain XML"):
        read_devices("not xml")


@pytest.fixture
def connection() -> Iterator[Any]:
    opened = libvirt.open("test:///default")
    yield opened
    opened.close()


def test_libvirts_own_parser_reads_the_same_devices(connection: Any) -> None:
    domain = connection.defineXML(build_domain(spec(hypervisor="test")))
    try:
        devices = read_devices(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        assert [(d.path, d.size, d.label_size, d.align, d.access, d.pmem, d.node) for d in devices] == [
            (d.path, d.size, d.label_size, d.align, d.access, d.pmem, d.node) for d in (LARGE, SMALL)
        ]
        assert read_mark(domain.XMLDesc(0)) == "0123abcd"
    finally:
        domain.undefine()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either a kernel"),
        ({"kernel": "/k", "disk": "/d"}, "either a kernel"),
        ({"disk": "/d", "initrd": "/i"}, "a kernel as well"),
        ({"kernel": "k"}, "an absolute path"),
        ({"kernel": "/k", "initrd": "../i"}, "an absolute path"),
    ],
)
def test_a_wrong_image_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        BootSource(**values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "-rf"}, "guest name"),
        ({"name": "a b"}, "guest name"),
        ({"name": ""}, "guest name"),
        ({"memory": Size(MiB)}, "at least 64MiB"),
        ({"memory": Size(256 * MiB + 1)}, "whole MiB"),
        ({"vcpus": 0}, "1 or more"),
    ],
)
def test_a_wrong_guest_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        spec(**changes)


def test_a_guest_that_is_paused_says_why(connection: Any) -> None:
    class Link:
        host = "h"

        def act(self, name: str, _: str, work: Any, *, timeout: float | None = None) -> Any:
            return work(connection.lookupByName(name))

    host: Any = None
    link: Any = Link()
    guest = Guest(host, link, "test")
    assert guest.state_and_reason() == ("running", "")
    connection.lookupByName("test").suspend()
    assert guest.state_and_reason() == ("paused", " (user)")
    assert guest.state_for_message() == "it is paused (user) on h"
