"""Read the facts of a host in one round trip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.pmem.decode import whole_number
from VpmemLibrary.sizes import KiB, Size
from VpmemLibrary.transport.base import Transport, query

PROVIDER_MODULES = ("nfit", "nd_e820", "cxl_pmem", "virtio_pmem", "papr_scm", "of_pmem")
"""The kernel modules that find persistent memory. A host needs only the module that finds its own regions."""

MODULES = (
    *("libnvdimm", *PROVIDER_MODULES, "nd_pmem", "nd_btt", "device_dax", "dax_pmem", "kmem"),
    *("kvm", "kvm_intel", "kvm_amd", "kvm_hv", "kvm_pr"),
)
"""The kernel modules of persistent memory and of KVM."""

TOOLS = (
    *(
        "ndctl",
        "daxctl",
        "virsh",
        "virt-ssh-helper",
        "flock",
        "bash",
        "modprobe",
        "awk",
        "grep",
        "sed",
        "xargs",
        "stat",
    ),
    *("cmp", "openssl", "daxio"),
)
"""The programs that this library runs on a host."""

_FACTS = (
    *("hostname", "os_release", "kernel", "architecture", "cpus", "memory", "loaded", "ndctl", "daxctl", "libvirt"),
    *("libvirt_socket", "qemu", "regions", "nodes", "kvm", "user"),
)
_VALUE = r"([a-z_]+)=(.*?)(?= [a-z_]+=|$)"

# The script prints each fact as its name and its value, with a NUL after each. A value may contain any other byte. An
# absent fact has an empty value.
_SCRIPT = r"""
fact() { printf '%s\0' "$1"; shift; "$@" 2>/dev/null; printf '\0'; }
release() { cat /etc/os-release || cat /usr/lib/os-release; }
first() { for program; do command -v "$program" && return; done; }
version() { program=$(first "$@") && "$program" --version; }
module() {
    if [ -d "/sys/module/$1" ]; then echo loaded
    elif modprobe -n -q "$1" || modprobe -q -D "$1" >/dev/null; then echo available # the modprobe of busybox has no -n
    fi
}
regions() {
    for region in /sys/bus/nd/devices/region*; do
        [ -d "$region" ] || continue
        printf '%s' "${region##*/}"
        for value in size available_size numa_node persistence_domain read_only devtype; do
            is=
            { read -r is <"$region/$value"; } 2>/dev/null
            printf ' %s=%s' "$value" "$is"
        done
        is=
        { read -r is <"$region/../provider"; } 2>/dev/null
        printf ' provider=%s\n' "$is"
    done
}
memory() { while read -r name kib _; do [ "$name" != MemTotal: ] || echo "$kib"; done </proc/meminfo; }
cpus() { getconf _NPROCESSORS_ONLN || nproc || grep -c '^processor' /proc/cpuinfo; }
qemu() {
    case $(uname -m) in
    ppc64*) name=ppc64 ;;
    i?86) name=i386 ;;
    armv*) name=arm ;;
    *) name=$(uname -m) ;;
    esac
    version "qemu-system-$name" qemu-kvm /usr/libexec/qemu-kvm
}
nodes() { for node in /sys/devices/system/node/node[0-9]*; do [ -d "$node" ] && echo "${node##*/node}"; done; }
kvm() { [ -e /dev/kvm ] && echo present; ( : <>/dev/kvm ) && echo openable; }
fact hostname uname -n
fact os_release release
fact kernel uname -r
fact architecture uname -m
fact cpus cpus
fact memory memory
fact loaded cut -d ' ' -f 1 /proc/modules
fact ndctl version ndctl
fact daxctl version daxctl
fact libvirt version libvirtd virtqemud virsh
fact libvirt_socket ls /run/libvirt/libvirt-sock /run/libvirt/virtqemud-sock
fact qemu qemu
fact regions regions
fact nodes nodes
fact kvm kvm
fact user id -u
separator=$1; shift
while [ "$1" != "$separator" ]; do fact "module $1" module "$1"; shift; done; shift
for tool; do fact "tool $tool" first "$tool"; done
"""


class RegionFact(Struct, frozen=True):
    """One region, as sysfs describes it. A number that the kernel does not report is None, a text is empty.

    Args:
        provider: The provider of its bus: ``ACPI.NFIT``, ``e820``, ``CXL``, ``virtio-pmem``, or on IBM Power
            ``ibm,persistent-memory:...``.
        type: ``pmem``, ``volatile`` or ``blk``.
    """

    dev: str
    size: Size = Size(0)
    available_size: Size | None = None
    numa_node: int | None = None
    persistence_domain: str = ""
    read_only: bool = False
    provider: str = ""
    type: str = ""

    @property
    def holds_namespaces(self) -> bool:
        """Whether namespaces can be created in this region: it is persistent memory and is writable."""
        return self.type in ("", "pmem") and not self.read_only

    def __str__(self) -> str:
        kind = [self.provider, self.type if self.type != "pmem" else "", "read-only" if self.read_only else ""]
        more = ", ".join(filter(None, kind))
        return f"{self.dev} {self.size}" + (f" ({more})" if more else "")


class HostFacts(Struct, frozen=True):
    """The facts of a host. An absent version or text is empty, an absent number is None.

    Args:
        hostname: The name that the host gives itself.
        distribution: The ID of ``/etc/os-release``, e.g. ``debian``.
        distribution_family: The ID and the IDs of similar distributions, e.g. ``("ubuntu", "debian")``. The own ID is
            first.
        distribution_name: The distribution's name with the version, e.g. ``Debian GNU/Linux 13 (trixie)``.
        kernel: The kernel's release.
        architecture: E.g. ``x86_64``.
        cpus: How many processors are online.
        memory: All RAM of the host, in bytes.
        modules: The kernel modules that are loaded.
        module_states: For each of `MODULES`: ``loaded`` (or built in), ``available``, or empty.
        ndctl: The version of ndctl.
        daxctl: The version of daxctl.
        libvirt: The version of libvirt.
        libvirt_running: Whether libvirt's socket exists.
        qemu: The version of QEMU for the host's own architecture.
        tools: The path of each of `TOOLS` that was searched for. A missing program has an empty path.
        regions: The regions.
        numa_nodes: The numbers of the NUMA nodes.
        kvm_present: Whether ``/dev/kvm`` exists.
        kvm_usable: Whether ``/dev/kvm`` can be opened and its module is loaded. Only a boot shows whether a guest runs.
        root: Whether commands run as root.
    """

    hostname: str = ""
    distribution: str = ""
    distribution_family: tuple[str, ...] = ()
    distribution_name: str = ""
    kernel: str = ""
    architecture: str = ""
    cpus: int | None = None
    memory: Size | None = None
    modules: tuple[str, ...] = ()
    module_states: Mapping[str, str] = field(default_factory=dict)
    ndctl: str = ""
    daxctl: str = ""
    libvirt: str = ""
    libvirt_running: bool = False
    qemu: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[RegionFact, ...] = ()
    numa_nodes: tuple[int, ...] = ()
    kvm_present: bool = False
    kvm_usable: bool = False
    root: bool = False

    def as_rows(self) -> tuple[tuple[str, str], ...]:
        """Return the facts as rows of a table. An absent fact has the value ``absent``."""
        memory_modules = " ".join(f"{name}:{state or 'absent'}" for name, state in self.module_states.items())
        regions = ", ".join(map(str, self.regions))
        return tuple(
            (name, value or "absent")
            for name, value in (
                ("host name", self.hostname),
                ("distribution", self.distribution_name),
                ("kernel", self.kernel),
                ("architecture", self.architecture),
                ("processors", "" if self.cpus is None else str(self.cpus)),
                ("memory", "" if self.memory is None else str(self.memory)),
                ("modules", memory_modules),
                ("ndctl", self.ndctl),
                ("daxctl", self.daxctl),
                (
                    "libvirt",
                    self.libvirt and f"{self.libvirt} ({'running' if self.libvirt_running else 'not running'})",
                ),
                ("QEMU", self.qemu),
                ("regions", regions),
                ("NUMA nodes", " ".join(map(str, self.numa_nodes))),
                ("KVM", "usable" if self.kvm_usable else "present, not usable" if self.kvm_present else ""),
            )
        )


def kvm_modules(architecture: str) -> tuple[str, ...]:
    """Return the kernel modules of KVM on an architecture. Any one of them is enough."""
    if architecture.startswith("ppc64"):
        return ("kvm_hv", "kvm_pr")
    return ("kvm_intel", "kvm_amd") if architecture in ("x86_64", "i686", "i386") else ("kvm",)


def read_facts(transport: Transport) -> HostFacts:
    """Read the facts of a host with one command.

    Args:
        transport: The transport to the host.

    Raises:
        CommandError: The host has no POSIX shell.
        UnreadableOutputError: The output is not complete.
    """
    result = transport.run(query(_SCRIPT, "--", *MODULES, "--", *TOOLS)).check()
    parts = result.stdout.decode("utf-8", "replace").split("\0")
    found = dict(zip(parts[0::2], (part.strip() for part in parts[1::2]), strict=False))
    if not found.keys() >= {*_FACTS, f"tool {TOOLS[-1]}"}:
        raise UnreadableOutputError(result, "The facts of the host are incomplete")
    release = dict(_assignments(found["os_release"]))
    states = {name: found.get(f"module {name}", "") for name in MODULES}
    # On arm64 and s390x, KVM is often built into the kernel. sysfs may not show a built-in module.
    names = kvm_modules(found["architecture"])
    kvm_module = names == ("kvm",) or any(states[name] == "loaded" for name in names)
    return HostFacts(
        hostname=found["hostname"],
        distribution=release.get("ID", ""),
        distribution_family=tuple(f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()),
        distribution_name=release.get("PRETTY_NAME", ""),
        kernel=found["kernel"],
        architecture=found["architecture"],
        cpus=_number(found["cpus"]),
        memory=None if (memory := whole_number(found["memory"])) is None else Size(memory * KiB),
        modules=tuple(found["loaded"].split()),
        module_states=states,
        ndctl=_version(found["ndctl"]),
        daxctl=_version(found["daxctl"]),
        libvirt=_version(found["libvirt"]),
        libvirt_running=bool(found["libvirt_socket"]),
        qemu=_version(found["qemu"]),
        tools={name: found[f"tool {name}"] for name in TOOLS if f"tool {name}" in found},
        regions=tuple(_region(line) for line in sorted(found["regions"].splitlines(), key=_by_number)),
        numa_nodes=tuple(sorted(node for word in found["nodes"].split() if (node := whole_number(word)) is not None)),
        kvm_present="present" in found["kvm"],
        kvm_usable="openable" in found["kvm"] and kvm_module,
        root=found["user"] == "0",
    )


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip().strip("\"'")


def _version(text: str) -> str:
    match = re.search(r"[0-9]+(\.[0-9]+)*", text)
    return match[0] if match else ""


def _number(text: str) -> int | None:
    number = whole_number(text.removeprefix("-"))
    return -number if number is not None and text.startswith("-") else number


def _region(line: str) -> RegionFact:
    dev, _, values = line.partition(" ")
    read = dict(re.findall(_VALUE, values))
    available = whole_number(read.get("available_size", ""))
    return RegionFact(
        dev=dev,
        size=Size(whole_number(read.get("size", "")) or 0),
        available_size=None if available is None else Size(available),
        numa_node=_number(read.get("numa_node", "")),
        persistence_domain=read.get("persistence_domain", ""),
        read_only=read.get("read_only") == "1",
        provider=read.get("provider", ""),
        type=read.get("devtype", "").removeprefix("nd_"),
    )


def _by_number(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]{1,9}", text.partition(" ")[0])]
