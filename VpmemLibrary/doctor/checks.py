"""Check the facts that the doctor read on a host. No check runs a command on the host."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from urllib.parse import parse_qs

from VpmemLibrary.doctor.facts import GUARD_TOOLS, RUN_DIRECTORY, DoctorFacts
from VpmemLibrary.doctor.findings import Finding, ok, problem, warning
from VpmemLibrary.doctor.libvirt import LibvirtFacts
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.packages import install
from VpmemLibrary.host.preflight import Preflight
from VpmemLibrary.leases.host_leases import DIRECTORY
from VpmemLibrary.pmem.namespaces.plan import smallest_size, step_of
from VpmemLibrary.pmem.records import NamespaceMode, Region
from VpmemLibrary.sizes import KiB, MiB, Size

CLOCK_TOLERANCE = 5.0
"""Maximum difference between the clock of a host and the clock of this machine, in seconds."""

_BASH_FLOOR = (4, 3)
_NUMBER = re.compile("[0-9]{1,18}")
_LEAST_SPACE = Size(16 * MiB)
_NVDIMM_MACHINE = re.compile(r"(pc|q35|virt|pseries)(-.*)?")
_APPARMOR = "/sys/module/apparmor/parameters/enabled Y"
_SELINUX = "/sys/fs/selinux/enforce"
_REGION_TYPES = ("pmem", "")  # a test bus and old tools report no type
_DAMAGE = "disabled"


def check_preflight(preflight: Preflight) -> Iterator[Finding]:
    """Return one finding for each item of the preflight."""
    for item in preflight.items:
        if item.passed:
            yield ok(item.name, item.found)
        else:
            found = f"{item.status} (found: {item.found or 'nothing'}; needed: {item.needed})"
            yield problem(item.name, found, item.fix.removeprefix("Run: "))


def check_tools(facts: DoctorFacts, host: HostFacts) -> Iterator[Finding]:
    """Check the programs that the guard and the lease holder need."""
    missing = [tool for tool in GUARD_TOOLS if not facts[f"tool {tool}"]]
    if missing:
        yield problem("guard", f"the host has no {', '.join(missing)}", install(host, *missing))
    else:
        yield ok("guard", f"the host has {', '.join(GUARD_TOOLS)}")
    version = re.search(r"version ([0-9]{1,9})\.([0-9]{1,9})", facts["bash"])
    if version and (int(version[1]), int(version[2])) < _BASH_FLOOR:
        yield problem("bash version", f"{version[1]}.{version[2]}; the lease holder needs 4.3", install(host, "bash"))


def check_directories(facts: DoctorFacts) -> Iterator[Finding]:
    """Check the directories of locks and leases: the user can write to them, and the file systems have free space."""
    for check, path, fact in (("locks", RUN_DIRECTORY, "run"), ("leases' directory", DIRECTORY, "lease_directory")):
        lines = facts.lines(fact)
        if len(lines) < 5:
            yield problem(check, f"{path} could not be checked: the host did not describe it")
            continue
        there, writable, owned, mode = lines[:4]
        space = lines[4].split()  # df: device, blocks, used, available, per cent, mount point
        free = Size(int(space[3]) * KiB // MiB * MiB) if len(space) > 3 and _NUMBER.fullmatch(space[3]) else None
        if writable != "yes":
            yield problem(check, f"{there} cannot be written by user {facts['user']}", _as_root(facts, there))
        elif there == path and (owned != "yes" or not re.fullmatch(r"d....-..-..?", mode)):
            yield problem(
                check,
                f"{path} must belong to user {facts['user']}, and no other user may write to it; its mode is {mode}",
                f"chown {facts['user']} {path} && chmod go-w {path}",
            )
        elif free is not None and free < _LEAST_SPACE:
            found = f"{there} has {free} free, but needs {_LEAST_SPACE}"
            yield problem(check, found, f"df -h {there}, then remove files that nobody needs")
        else:
            yield ok(check, f"{path} can be written" if free is None else f"{path} can be written, {free} free")


def check_clock(facts: DoctorFacts) -> Iterator[Finding]:
    """Check that the clock of the host and the clock of this machine agree."""
    if not _NUMBER.fullmatch(facts["now"]):
        yield problem("clock", "could not be checked: the host did not print its time")
        return
    now = int(facts["now"])
    # The host printed whole seconds, at an unknown moment between the question and the answer.
    ahead = max(0.0, now - facts.answered) - max(0.0, facts.asked - (now + 1))
    if abs(ahead) <= CLOCK_TOLERANCE:
        yield ok("clock", "the same time as on this machine")
        return
    side = "ahead of" if ahead > 0 else "behind"
    yield warning("clock", f"{abs(ahead):.0f} s {side} this machine's", "timedatectl set-ntp true")


def check_leases(facts: DoctorFacts) -> Iterator[Finding]:
    """Check whether another run has leases on the host."""
    locked = set(facts.lines("locks"))
    held: list[str] = []
    left: list[str] = []
    for line in facts.lines("leases"):
        name, _, rest = line.partition(" ")
        inode, _, record = rest.partition(" ")
        fields = {key: values[0] for key, values in parse_qs(record).items()}
        who = (
            f"{name.partition('@')[0]} by run {fields.get('run', 'unknown')} from {fields.get('controller', 'unknown')}"
        )
        if "unfit" in fields:
            left.append(f"{name.partition('@')[0]} is unfit: {fields['unfit']}")
        elif inode in locked:
            held.append(who)
        else:
            left.append(who)
    if held:
        yield warning("leases", f"held: {'; '.join(held)}", "Wait until that run ends, or end it on its controller")
    elif left:
        yield ok("leases", f"{len(left)} leftovers of ended runs, which the next run removes: {'; '.join(left)}")
    else:
        yield ok("leases", "no run has a lease on the host")


def check_relay(facts: DoctorFacts, host: HostFacts) -> Iterator[Finding]:
    """Check that the host has a program that connects to libvirt's socket."""
    relays = facts.lines("relays")
    working = [each for each in relays if each != "nc without -U"]
    if working:
        yield ok("libvirt relay", ", ".join(working))
        return
    found = (
        "the host has no virt-ssh-helper, and its nc does not support unix sockets (-U)"
        if relays
        else "the host has no program that connects to libvirt's socket"
    )
    yield problem("libvirt relay", found, install(host, "nc"))


def check_sockets(facts: DoctorFacts) -> Iterator[Finding]:
    """Check which of libvirt's sockets exist, and whether the user may use them."""
    sockets = dict(line.rpartition(" ")[::2] for line in facts.lines("sockets"))
    system = {path: state for path, state in sockets.items() if path.startswith("/run/libvirt/")}
    writing = {path: state for path, state in system.items() if not path.endswith("-ro")}
    if "open" in writing.values():
        yield ok("libvirt socket", ", ".join(path for path, state in writing.items() if state == "open"))
        return
    if writing:
        found = f"{', '.join(writing)} may not be used by user {facts['user']}"
        yield problem("libvirt socket", found, f"usermod -aG libvirt {facts['user']}")
        return
    found = "there is no socket in /run/libvirt"
    if system:
        found = f"only the read-only socket is there: {', '.join(system)}"
    elif sockets:
        found = f"only a session daemon runs ({', '.join(sockets)}); persistent memory needs libvirt's system daemon"
    yield problem("libvirt socket", found, "systemctl enable --now virtqemud.socket (or libvirtd.socket)")


def check_qemu(facts: DoctorFacts) -> Iterator[Finding]:
    """Check that QEMU's memory backend has the property pmem."""
    if not facts["qemu"]:
        return  # the preflight reports a missing QEMU
    options = facts["pmem"]
    if not options:
        yield problem(
            "QEMU pmem",
            f"could not be checked: {facts['qemu']} did not list the options of memory-backend-file",
            f"{facts['qemu']} -object memory-backend-file,help",
        )
    elif re.search(r"^ *pmem=", options, re.MULTILINE):
        yield ok("QEMU pmem", "memory-backend-file has pmem")
    else:
        yield warning(
            "QEMU pmem",
            f"{facts['qemu']} was built without libpmem: memory-backend-file has no pmem, so devices cannot have it",
            "Use a QEMU that was built with --enable-libpmem. RHEL 10 has no such QEMU",
        )


def check_machines(facts: LibvirtFacts) -> Iterator[Finding]:
    """Check that libvirt has a machine type that supports NVDIMMs."""
    capable = [name for name in facts.machines if _NVDIMM_MACHINE.fullmatch(name)]
    if not facts.machines:
        found = "libvirt has no machine type of the host's architecture: it found no QEMU, or could not start QEMU"
        yield problem(
            "machine types",
            found,
            "virsh -c qemu:///system capabilities, and libvirt's log: journalctl -u virtqemud -u libvirtd",
        )
    elif not capable:
        yield problem(
            "machine types",
            f"none of {', '.join(facts.machines[:8])} supports NVDIMMs: pc, q35, virt and pseries do",
            "Install the QEMU of the host's own architecture with all its machine types",
        )
    else:
        short = [name for name in ("pc", "q35", "virt", "pseries") if name in capable] or capable[:3]
        default = facts.machine or "none"
        found = f"{', '.join(short)} support NVDIMMs; libvirt's default is {default}"
        if _NVDIMM_MACHINE.fullmatch(default):
            yield ok("machine types", found)
        else:
            yield warning("machine types", found, f"Name the machine type when you define guests: {short[0]}")


def check_confinement(facts: DoctorFacts, models: Sequence[str], *, confined: bool) -> Iterator[Finding]:
    """Check whether guests are confined as the host's entry requires.

    Args:
        facts: The facts that the doctor read.
        models: The security models of libvirt, e.g. ``apparmor``. Empty if libvirt did not answer.
        confined: Whether the host's entry requires confined guests.
    """
    lines = facts.lines("security")
    kernel = "AppArmor" if _APPARMOR in lines else ""
    if any(line.startswith(f"{_SELINUX} ") for line in lines):
        kernel = "SELinux, enforcing" if f"{_SELINUX} 1" in lines else "SELinux, permissive"
    drivers = [model for model in models if model in ("apparmor", "selinux")]
    off = " (the hosts file says guest_confined = no)" if not confined else ""
    if kernel and models and not drivers:
        yield warning(
            "confinement",
            f"the kernel has {kernel}, but libvirt confines no guest",
            'Remove security_driver = "none" from /etc/libvirt/qemu.conf, and restart libvirt',
        )
    elif drivers:
        yield ok("confinement", f"{kernel or 'the kernel'}: libvirt confines guests by {', '.join(drivers)}{off}")
    else:
        yield ok("confinement", f"{kernel or 'no AppArmor and no SELinux'}{off}")


def check_regions(
    regions: Sequence[Region], unlabeled: Sequence[str], *, may_label: bool, read_only: Collection[str] = ()
) -> Iterator[Finding]:
    """Check whether namespaces can be created in each region.

    Args:
        regions: All regions.
        unlabeled: The names of the regions that have label areas without labels.
        may_label: Whether the host's entry lets suites write labels.
        read_only: The names of the read-only regions.
    """
    usable = 0
    for region in regions:
        check = f"region {region.dev}"
        if region.type not in _REGION_TYPES:
            yield ok(check, f"{region.size}, of type {region.type}: not persistent memory, so it is not used")
            continue
        step = step_of(region, NamespaceMode.devdax)
        ways = f", interleaved over {region.ways} DIMMs" if region.ways > 1 else ""
        what = f"{region.size}, sizes in steps of {step}{ways}"
        if region.state == _DAMAGE:
            yield warning(check, f"{what}; it is disabled", f"ndctl enable-region {region.dev}")
        elif region.dev in read_only:
            fix = f"ndctl list -D {' '.join(f'-d {dimm}' for dimm in region.dimms)}  (flag_failed_arm names a DIMM)"
            yield warning(check, f"{what}; it is read-only, so no namespace can be created in it", fix)
        elif not region.dimms:
            usable += 1
            yield warning(check, f"{what}; it has no DIMM and so no labels: one namespace fills it")
        elif region.dev in unlabeled:
            usable += may_label
            commands = f"ndctl disable-region {region.dev} && ndctl init-labels {' '.join(region.dimms)}"
            found = f"{what}; without labels one namespace fills it"
            if may_label:
                yield ok(check, f"{found}; suites may write labels")
            else:
                fix = f"{commands} && ndctl enable-region {region.dev}  (destroys the namespaces of the region), or "
                yield warning(check, found, f"{fix}host_may_initialize_labels = yes in the hosts file")
        else:
            usable += 1
            smallest = smallest_size(region, Size(0))
            room = region.free_extent.down_to(step)
            if room < smallest:
                fix = f"ndctl list -N -r {region.dev}, then ndctl destroy-namespace for a namespace that nobody needs"
                yield warning(check, f"{what}; full", fix)
            else:
                yield ok(check, f"{what}; namespaces from {smallest} to {room} fit")
    if regions and not usable:
        yield problem("regions", "no namespace can be created in any region", "See the findings of the regions")


def _as_root(facts: DoctorFacts, path: str) -> str:
    if not facts.root:
        return "Run commands as root: host_sudo = yes in the hosts file, or --sudo"
    return f"mount -o remount,rw {path}"
