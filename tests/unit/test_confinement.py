"""What confines guests on a host, and what can be tried of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from recorded_guest import CAPABILITIES_XML

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.confinement import Confinement, refusals
from VpmemLibrary.guest.domain.definition import best_hypervisor, read_security_driver
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.transport.local import LocalTransport


def link_to(capabilities: str) -> LibvirtLink:
    class Connection:
        def getCapabilities(self) -> str:  # noqa: N802  libvirt's name
            return capabilities

    class Link:
        def call(self, _what: str, work: Callable[[Any], Any]) -> Any:
            return work(Connection())

    return cast(LibvirtLink, Link())


def test_the_security_driver_of_a_host_is_read() -> None:
    assert read_security_driver(link_to(CAPABILITIES_XML)) == "apparmor"
    assert best_hypervisor(link_to(CAPABILITIES_XML)) == "kvm"


def test_owners_alone_are_no_security_driver() -> None:
    owners_alone = CAPABILITIES_XML.replace("<model>apparmor</model>", "<model>dac</model>")
    assert owners_alone != CAPABILITIES_XML
    assert read_security_driver(link_to(owners_alone)) == ""
    assert read_security_driver(link_to("<capabilities><host/></capabilities>")) == ""


def test_no_entity_in_the_capabilities_of_a_host_is_resolved(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("apparmor")
    models = {"&of_a_file;": f'SYSTEM "{said.as_uri()}"', "&inside;": '"apparmor"'}
    for entity, definition in models.items():
        text = (
            f"<!DOCTYPE capabilities [<!ENTITY {entity[1:-1]} {definition}>]>"
            f"<capabilities><host><secmodel><model>{entity}</model></secmodel></host></capabilities>"
        )
        assert read_security_driver(link_to(text)) == ""
    with pytest.raises(InvalidValueError, match="a <capabilities> element"):
        read_security_driver(link_to("<domain/>"))


def test_what_selinux_confines_is_refused_with_what_can_be_tried() -> None:
    context = "system_u:system_r:svirt_t:s0:c107,c982"
    confinement = Confinement(process=1, profile=context, enforced=False, user=107, group=107, cgroup="/")
    with pytest.raises(UnsupportedError, match=r"SELinux \(system_u.*confined=False"):
        refusals(LocalTransport(), QemuProcess("a", "", "+107"), confinement, ["/dev/dax0.0"])
