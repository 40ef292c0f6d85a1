"""Facts and preflight, on what the facts' script printed on two real machines (tests/data/host)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.host.facts import TOOLS, HostFacts, read_facts
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.modules import vpmem_modules
from VpmemLibrary.host.preflight import PreflightStatus, check_facts
from VpmemLibrary.keywords.host.host_setup import HostSetupKeywords
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import GiB
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

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
    with pytest.raises(UnreadableOutputError, match="incomplete"):
        read_facts(Recorded(b"hostname\0a\0kernel\0"))


def test_this_machine_is_read_too() -> None:
    facts = read_facts(LocalTransport())
    assert facts.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert facts.cpus


def test_a_complete_host_passes(lab: HostFacts) -> None:
    complete = replace(lab, tools={**lab.tools, "openssl": "/usr/bin/openssl", "daxio": "/usr/bin/daxio"})
    preflight = check_facts(complete, "lab")
    assert preflight.passed, preflight.describe()
    assert "passes all checks" in preflight.describe()


def test_every_thing_that_lacks_has_its_line_and_its_mend() -> None:
    preflight = check_facts(read_facts(recording("debian-12_no-pmem")), "bare")
    failed = [item for item in preflight.items if not item.passed]
    assert {"region", "ndctl", "QEMU", "KVM", "module nd_pmem"} <= {item.name for item in failed}
    assert all(item.fix for item in failed)
    lines = preflight.describe().splitlines()
    assert len(lines) == 1 + len(failed)
    assert "Run: apt install ndctl" in preflight.describe()
    assert "Run: apt install pmdk-tools" in preflight.describe()


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
    (item,) = [item for item in check_facts(replace(lab, **old)).items if item.name == name]
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
    assert command in item.fix


def test_a_module_that_can_be_loaded_names_the_command_where_no_region_is(lab: HostFacts) -> None:
    facts = replace(lab, regions=(), module_states={**lab.module_states, "nfit": "available"})
    (item,) = [item for item in check_facts(facts).items if item.name == "region"]
    assert item.fix.startswith("Run: modprobe nfit")


@pytest.mark.parametrize(
    ("architecture", "module", "memmap"),
    [("x86_64", "nfit", True), ("aarch64", "nfit", False), ("s390x", "virtio_pmem", False)],
)
def test_the_advice_for_a_host_without_a_region_fits_its_architecture(
    lab: HostFacts, architecture: str, module: str, memmap: bool
) -> None:
    items = {item.name: item for item in check_facts(replace(lab, architecture=architecture, regions=())).items}
    assert f"module {module}" in items
    assert ("memmap=4G!12G" in items["region"].fix) is memmap


def facts_of(name: str, **changes: str) -> HostFacts:
    """Return the facts of a recorded host in which some texts are others."""
    facts = json.loads((DATA / f"facts_{name}.json").read_text())["facts"] | changes
    return read_facts(Recorded("".join(f"{key}\0{value}\0" for key, value in facts.items()).encode()))


def region_line(provider: str, **values: str) -> str:
    usual = {"size": "1073741824", "available_size": "0", "numa_node": "0", "persistence_domain": "", "read_only": "0"}
    listed = {**usual, "devtype": "nd_pmem", **values, "provider": provider}
    return "region0 " + " ".join(f"{key}={value}" for key, value in listed.items()) + "\n"


@pytest.mark.parametrize(
    ("provider", "module"),
    [
        ("e820", "nd_e820"),
        ("CXL", "cxl_pmem"),
        ("virtio-pmem", "virtio_pmem"),
        ("ibm,persistent-memory:ibm,pmemory@44100000", "papr_scm"),
        ("5000000.pmem", ""),
        ("nfit_test.0", ""),
    ],
)
def test_the_module_nfit_is_needed_only_where_regions_come_from_it(provider: str, module: str) -> None:
    facts = facts_of("debian-13_lab-host", regions=region_line(provider), **{"module nfit": ""})
    items = {item.name: item for item in check_facts(facts).items}
    assert "module nfit" not in items
    assert items["region"].found == f"region0 1GiB ({provider})"
    if module:
        assert items[f"module {module}"].found == "built in"
        loaded = facts_of("debian-13_lab-host", regions=region_line(provider), **{f"module {module}": "loaded"})
        assert {item.name: item for item in check_facts(loaded).items}[f"module {module}"].found == "loaded"


def test_a_host_of_power_without_regions_needs_its_own_module() -> None:
    facts = facts_of(
        "debian-13_lab-host",
        regions="",
        architecture="ppc64le\n",
        **{"module nfit": "", "module papr_scm": "available"},
    )
    items = {item.name: item for item in check_facts(facts).items}
    assert items["module papr_scm"].passed
    assert "module nfit" not in items
    assert items["region"].fix.startswith("Run: modprobe papr_scm. If that finds none, assign a persistent memory")
    assert not facts.kvm_usable  # kvm_amd says nothing there
    assert "kvm_hv or kvm_pr" in items["KVM"].fix


@pytest.mark.parametrize(
    ("values", "said"),
    [({"devtype": "nd_volatile"}, "volatile"), ({"devtype": "nd_blk"}, "blk"), ({"read_only": "1"}, "read-only")],
)
def test_a_region_that_can_have_no_namespace_is_not_the_one_that_is_needed(values: dict[str, str], said: str) -> None:
    facts = facts_of("debian-13_lab-host", regions=region_line("ACPI.NFIT", **values))
    (item,) = [item for item in check_facts(facts).items if item.name == "region"]
    assert not item.passed
    assert f"the host has region0 1GiB (ACPI.NFIT, {said})" in item.needed


@pytest.mark.parametrize(
    ("architecture", "family", "package"),
    [
        ("x86_64", ("debian",), "apt install qemu-system-x86"),
        ("aarch64", ("ubuntu", "debian"), "apt install qemu-system-arm"),
        ("ppc64le", ("sles", "suse"), "zypper install qemu-ppc"),
        ("ppc64le", ("rhel", "fedora"), "dnf install qemu-kvm"),
        ("s390x", ("debian",), "apt install qemu-system"),
    ],
)
def test_the_package_of_qemu_is_that_of_the_architecture(
    lab: HostFacts, architecture: str, family: tuple[str, ...], package: str
) -> None:
    facts = replace(lab, qemu="", architecture=architecture, distribution_family=family)
    (item,) = [item for item in check_facts(facts).items if item.name == "QEMU"]
    assert item.fix == f"Run: {package}"


@pytest.mark.parametrize(
    ("tool", "family", "package"),
    [
        ("awk", ("debian",), "apt install mawk"),
        ("xargs", ("fedora",), "dnf install findutils"),
        ("stat", ("suse",), "zypper install coreutils"),
        ("cmp", ("rhel",), "dnf install diffutils"),
        ("daxio", ("debian",), "apt install pmdk-tools"),
        ("daxio", ("fedora",), "dnf install daxio"),
    ],
)
def test_what_the_programs_on_the_host_need_is_looked_for(
    lab: HostFacts, tool: str, family: tuple[str, ...], package: str
) -> None:
    facts = replace(lab, tools={**lab.tools, tool: ""}, distribution_family=family)
    (item,) = [item for item in check_facts(facts).items if item.name == tool]
    assert item.fix == f"Run: {package}"


class Programs(LocalTransport):
    """This machine, with other programs of some names in front of its own."""

    def __init__(self, directory: Path, **programs: str) -> None:
        super().__init__()
        self._path = f"PATH={directory}:/usr/sbin:/usr/bin:/sbin:/bin"
        for name, script in programs.items():
            program = directory / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        return super().run(["env", self._path, *argv], timeout=timeout, stdin=stdin)


def test_the_qemu_of_power_has_a_name_of_its_own(tmp_path: Path) -> None:
    uname = 'case $1 in -m) echo ppc64le ;; *) exec /usr/bin/uname "$@" ;; esac'
    facts = read_facts(Programs(tmp_path, uname=uname, qemu_system_ppc64="echo QEMU emulator version 9.2.1"))
    assert (facts.architecture, facts.qemu) == ("ppc64le", "9.2.1")
    assert facts.memory == int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert set(facts.tools) == set(TOOLS)


@pytest.mark.parametrize(
    ("printed", "modules"),
    [
        ("x86_64\n", ["nfit"]),
        ("ppc64le\n", ["papr_scm"]),
        ("s390x\n", ["virtio_pmem"]),
        ("x86_64\ne820\nvirtio-pmem\n", ["nd_e820", "virtio_pmem"]),
        ("x86_64\nACPI.NFIT\nCXL\n", ["nfit", "cxl_pmem"]),
        ("ppc64le\nibm,persistent-memory:ibm,pmemory@44100000\n", ["papr_scm"]),
        ("aarch64\n5000000.pmem\n", []),
    ],
)
def test_the_modules_that_are_loaded_by_default_are_those_of_the_host(printed: str, modules: list[str]) -> None:
    usual = ("nd_pmem", "nd_btt", "dax_pmem", "device_dax")
    assert vpmem_modules(Recorded(printed.encode())) == ("libnvdimm", *modules, *usual)


def test_the_vendors_os_release_and_a_modprobe_of_busybox_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/etc/os-release`` may be missing (os-release(5)), and the modprobe of busybox has no dry run."""
    (tmp_path / "modprobe").write_text(
        '#!/bin/sh\n[ "$1" = -n ] && { echo "modprobe: invalid option -- \'n\'" >&2; exit 1; }\n[ "$3" = nd_e820 ]\n'
    )
    (tmp_path / "cat").write_text(
        "#!/bin/sh\ncase $1 in\n/etc/os-release) exit 1 ;;\n/usr/lib/os-release) echo 'ID=\"alpine\"' ;;\nesac\n"
    )
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    facts = read_facts(LocalTransport())
    assert facts.distribution == "alpine"
    assert facts.module_states["nd_e820"] == "available"


def test_a_module_that_is_built_in_counts_as_loaded() -> None:
    """sysfs has no directory of a built-in module without parameters."""
    host = RecordedHost(
        {
            "/sys/module": left(0, "libnvdimm\n"),
            "show-depends nd_pmem": left(0, "builtin nd_pmem\n"),
            "show-depends kmem": left(1, stderr="modprobe: FATAL: Module kmem not found"),
        }
    )
    current = SimpleNamespace(host=SimpleNamespace(transport=host, alias="recorded"))
    keywords = HostSetupKeywords(cast(Session, current))
    keywords.kernel_modules_should_be_loaded("libnvdimm", "nd_pmem")
    with pytest.raises(AssertionError, match=r"lacks kmem\. Call Load Kernel Modules"):
        keywords.kernel_modules_should_be_loaded("libnvdimm", "kmem")
