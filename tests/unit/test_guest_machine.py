"""The machine type of a guest, and what the host's QEMU takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_guest import CAPABILITIES_XML
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import InvalidValueError, LibvirtError, UnsupportedError
from VpmemLibrary.guest.domain.definition import best_hypervisor, for_host
from VpmemLibrary.guest.domain.machine import Machine, choose_machine, has_kvm, host_architecture, read_machines
from VpmemLibrary.guest.domain.qemu_features import pmem_explained, read_qemu_features
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec
from VpmemLibrary.guest.domain.xml import build_domain
from VpmemLibrary.transport.local import LocalTransport

BOOT = BootSource(kernel="/k")


def capabilities(machines: str, architecture: str = "x86_64", kvm: str = "kvm") -> str:
    return (
        f"<capabilities><host><cpu><arch>{architecture}</arch></cpu></host><guest><os_type>hvm</os_type>"
        f"<arch name='{architecture}'>{machines}<domain type='qemu'/><domain type='{kvm}'/></arch></guest>"
        "</capabilities>"
    )


def machine(name: str, *, deprecated: bool = False) -> str:
    return f"<machine maxCpus='255'{' deprecated=' + repr('yes') if deprecated else ''}>{name}</machine>"


def test_the_machines_of_a_real_qemu_are_read() -> None:
    machines = read_machines(CAPABILITIES_XML)
    assert Machine("pc", "pc-i440fx-10.0") in machines
    assert Machine("pc-q35-5.2", deprecated=True) in machines
    assert host_architecture(CAPABILITIES_XML) == "x86_64"
    assert choose_machine(CAPABILITIES_XML) == "pc"
    assert choose_machine(CAPABILITIES_XML, "pc-q35-9.1") == "pc-q35-9.1"


@pytest.mark.parametrize(
    ("machines", "chosen"),
    [
        (machine("pc-q35-rhel10.0.0") + machine("q35"), "q35"),
        (machine("pc", deprecated=True) + machine("q35"), "q35"),
        (machine("pc", deprecated=True), "pc"),
        (machine("pc-q35-rhel9.4.0", deprecated=True) + machine("pc-q35-rhel9.6.0"), "pc-q35-rhel9.6.0"),
        (machine("q35") + machine("pc"), "pc"),
    ],
)
def test_a_machine_is_one_that_qemu_has(machines: str, chosen: str) -> None:
    assert choose_machine(capabilities(machines)) == chosen
    with pytest.raises(InvalidValueError, match=r"guest_machine 'pc-0.1' .*a machine of the host's QEMU: "):
        choose_machine(capabilities(machines), "pc-0.1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (capabilities(machine("virt"), "aarch64"), "The host is aarch64.*`virt`, ACPI.*Define Guest From Xml"),
        (capabilities(machine("pseries"), "ppc64le"), "The host is ppc64le.*`pseries`.*label area"),
        (capabilities(machine("isapc") + machine("none")), "neither pc nor q35.*guest_machine.*isapc, none"),
        ("<capabilities/>", "no x86_64 machine"),
    ],
)
def test_a_host_without_a_machine_for_guests_says_why(text: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        choose_machine(text)


def test_kvm_counts_for_the_host_s_own_architecture_alone() -> None:
    assert has_kvm(CAPABILITIES_XML)
    assert not has_kvm(capabilities(machine("pc"), kvm="xen"))
    other = capabilities(machine("pc")).replace("<arch>x86_64", "<arch>aarch64")
    assert not has_kvm(other)
    own = "<guest><arch name='aarch64'><domain type='kvm'/></arch></guest></capabilities>"
    assert not has_kvm(other.replace("kvm", "qemu").replace("</capabilities>", own))


class Link:
    """A libvirt whose capabilities are given."""

    def __init__(self, text: str) -> None:
        self.text = text

    def getCapabilities(self) -> str:  # noqa: N802  libvirt's name
        return self.text

    def call(self, _what: str, work: Callable[[Any], Any]) -> Any:
        return work(self)


def test_a_guest_gets_the_machine_of_its_host() -> None:
    link: Any = Link(capabilities(machine("q35"), kvm="xen"))
    spec = for_host(link, GuestSpec(name="a", boot=BOOT, hypervisor="auto", spare_slots=3))
    assert (spec.machine, spec.hypervisor, best_hypervisor(link)) == ("q35", "qemu", "qemu")
    xml = build_domain(spec)
    assert re.search("<type arch=.x86_64. machine=.q35.>hvm", xml)
    assert xml.count("pcie-root-port") == 3
    assert "machine=" not in build_domain(GuestSpec(name="a", boot=BOOT))
    with pytest.raises(InvalidValueError, match="machine '-M' cannot be used"):
        GuestSpec(name="a", boot=BOOT, machine="-M")


# QEMU's memory backends

HELP = "memory-backend-file options:\n  align=<int>\n  discard-data=<bool>\n  mem-path=<str>\n{}  share=<bool>\n"


@pytest.mark.parametrize(("printed", "pmem"), [("  pmem=<bool>\n", True), ("", False)])
def test_whether_qemu_takes_pmem_is_asked_of_itself(printed: str, pmem: bool) -> None:
    host = RecordedHost({"memory-backend-file,help": left(0, "/usr/libexec/qemu-kvm\n" + HELP.format(printed))})
    features = read_qemu_features(host)
    assert (features.program, features.pmem) == ("/usr/libexec/qemu-kvm", pmem)
    assert "mem-path" in features.properties


@pytest.mark.parametrize("answer", [left(0), left(1, "/usr/bin/qemu\nno such option\n"), left(0, "/q\n?"), left(126)])
def test_a_qemu_that_does_not_tell_is_not_known(answer: Any) -> None:
    assert read_qemu_features(RecordedHost({"memory-backend-file,help": answer})).pmem is None


def test_a_qemu_outside_path_is_found(tmp_path: Path) -> None:
    program = tmp_path / "qemu-kvm"
    program.write_text(f"#!/bin/sh\n[ \"$4\" = memory-backend-file,help ] && printf '{HELP.format('')}'\n")
    program.chmod(0o755)
    features = read_qemu_features(LocalTransport(), str(program))
    assert (features.program, features.pmem) == (str(program), False)


@pytest.mark.parametrize(
    "text",
    [
        "unsupported configuration: nvdimm pmem property is not available with this QEMU binary",
        "internal error: QEMU unexpectedly closed the monitor: Property 'memory-backend-file.pmem' not found",
        "Lack of libpmem support while setting the 'pmem=on' of memory-backend-file",
    ],
)
def test_a_start_that_fails_for_want_of_pmem_says_what_to_do(text: str) -> None:
    with (
        pytest.raises(LibvirtError, match=r"(?s)built without libpmem.*pmem=False of New Vpmem Device"),
        pmem_explained(),
    ):
        raise LibvirtError("start guest a", 67, text)


def test_another_failure_of_a_start_is_left_as_it_is() -> None:
    with pytest.raises(LibvirtError) as caught, pmem_explained():
        raise LibvirtError("start guest a", 38, "cannot open /dev/pmem0: not found")
    assert "libpmem" not in str(caught.value)
