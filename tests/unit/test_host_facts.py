"""Facts and preflight, on what the facts' script printed on two real machines (tests/data/host)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.host.facts import HostFacts, read_facts
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.local import LocalTransport
from VpmemLibrary.host.preflight import PreflightStatus, check_facts
from VpmemLibrary.host.transport import CommandResult
from VpmemLibrary.sizes import GiB

DATA = Path(__file__).parents[1] / "data" / "host"


class Recorded(LocalTransport):
    """A transport that answers with what was recorded."""

    def __init__(self, stdout: bytes) -> None:
        super().__init__()
        self.runs = 0
        self._stdout = stdout

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        self.runs += 1
        return CommandResult(tuple(argv), 0, self._stdout, b"", 0.1, "recorded")


def recording(name: str) -> Recorded:
    facts = json.loads((DATA / f"facts_{name}.json").read_text())["facts"]
    return Recorded("".join(f"{key}\0{value}\0" for key, value in facts.items()).encode())


@pytest.fixture
def lab() -> HostFacts:
    return read_facts(recording("debian-13_lab-host"))


def test_a_lab_host_is_read_in_one_round_trip() -> None:
    transport = recording("debian-13_lab-host")
    facts = Host("lab", transport).facts()
    assert transport.runs == 1
    assert facts.distribution_family == ("debian",)
    assert (facts.ndctl, facts.daxctl, facts.libvirt, facts.qemu) == ("81", "81", "11.3.0", "10.0.13")
    assert facts.kernel.startswith("6.12.")
    assert facts.libvirt_running
    assert facts.kvm_usable
    assert facts.root
    assert [(region.dev, region.size, region.numa_node) for region in facts.regions] == [
        (f"region{number}", GiB, 0) for number in range(4)
    ]
    assert "libnvdimm" in facts.modules
    assert facts.module_states["kvm_amd"] == "loaded"


def test_what_is_absent_is_said_to_be() -> None:
    facts = read_facts(recording("debian-12_no-pmem"))
    assert (facts.ndctl, facts.qemu, facts.regions) == ("", "", ())
    assert facts.kvm_present
    assert not facts.kvm_usable
    rows = dict(facts.as_rows())
    assert rows["ndctl"] == rows["regions"] == "absent"
    assert rows["KVM"] == "present, not usable"


def test_half_an_answer_is_told() -> None:
    with pytest.raises(UnreadableOutputError, match="not whole"):
        read_facts(Recorded(b"hostname\0a\0kernel\0"))


def test_this_machine_is_read_too() -> None:
    facts = read_facts(LocalTransport())
    assert facts.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert facts.cpus


def test_a_complete_host_passes(lab: HostFacts) -> None:
    complete = replace(lab, tools={**lab.tools, "openssl": "/usr/bin/openssl", "daxio": "/usr/bin/daxio"})
    preflight = check_facts(complete, "lab")
    assert preflight.passed, preflight.describe()
    assert "has all" in preflight.describe()


def test_every_thing_that_lacks_has_its_line_and_its_mend() -> None:
    preflight = check_facts(read_facts(recording("debian-12_no-pmem")), "bare")
    failed = [item for item in preflight.items if not item.passed]
    assert {"region", "ndctl", "QEMU", "KVM", "module nd_pmem"} <= {item.name for item in failed}
    assert all(item.mend for item in failed)
    lines = preflight.describe().splitlines()
    assert len(lines) == 1 + len(failed)
    assert "Run: apt install ndctl" in preflight.describe()
    assert "Run: apt install daxio" in preflight.describe()


@pytest.mark.parametrize(
    ("name", "old", "found"),
    [
        ("kernel", {"kernel": "4.17.19-generic"}, "4.17.19-generic"),
        ("ndctl", {"ndctl": "61.2"}, "61.2"),
        ("libvirt", {"libvirt": "4.10.0"}, "4.10.0"),
        ("QEMU", {"qemu": "3.0.1"}, "3.0.1"),
    ],
)
def test_a_version_below_the_floor_is_too_old(lab: HostFacts, name: str, old: dict[str, str], found: str) -> None:
    (item,) = [item for item in check_facts(replace(lab, **old)).items if item.name == name]  # type: ignore[arg-type]
    assert (item.status, item.found) == (PreflightStatus.too_old, found)
    assert "newer" in item.needed


@pytest.mark.parametrize("version", ["62", "62.1", "71.1", "100"])
def test_a_version_at_the_floor_or_above_passes(lab: HostFacts, version: str) -> None:
    (item,) = [item for item in check_facts(replace(lab, ndctl=version)).items if item.name == "ndctl"]
    assert item.passed


@pytest.mark.parametrize(
    ("family", "command"),
    [
        (("ubuntu", "debian"), "apt install ndctl"),
        (("rocky", "rhel", "centos", "fedora"), "dnf install ndctl"),
        (("opensuse-leap", "suse", "opensuse"), "zypper install ndctl"),
        (("gentoo",), "Install ndctl with the package manager"),
    ],
)
def test_the_mend_is_that_of_the_distribution(lab: HostFacts, family: tuple[str, ...], command: str) -> None:
    (item,) = [
        item for item in check_facts(replace(lab, ndctl="", distribution_family=family)).items if item.name == "ndctl"
    ]
    assert item.status is PreflightStatus.missing
    assert command in item.mend


def test_a_module_that_can_be_loaded_names_the_command_where_no_region_is(lab: HostFacts) -> None:
    facts = replace(lab, regions=(), module_states={**lab.module_states, "nfit": "available"})
    (item,) = [item for item in check_facts(facts).items if item.name == "region"]
    assert item.mend.startswith("Run: modprobe nfit")
