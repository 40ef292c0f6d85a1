"""The packages with the programs that a host lacks, for each family of distributions."""

from __future__ import annotations

from VpmemLibrary.host.facts import HostFacts

PACKAGES = {
    "awk": ("mawk", "gawk", "gawk"),
    "bash": ("bash", "bash", "bash"),
    "cmp": ("diffutils", "diffutils", "diffutils"),
    "coreutils": ("coreutils", "coreutils", "coreutils"),
    "daxctl": ("daxctl", "daxctl", "ndctl"),
    "daxio": ("pmdk-tools", "daxio", "pmdk-tools"),
    "flock": ("util-linux", "util-linux", "util-linux"),
    "grep": ("grep", "grep", "grep"),
    "guestfish": ("libguestfs-tools", "guestfs-tools", "guestfs-tools"),
    "libvirt": ("libvirt-daemon-system", "libvirt-daemon-kvm", "libvirt-daemon-qemu"),
    "nc": ("netcat-openbsd", "nmap-ncat", "netcat-openbsd"),
    "ndctl": ("ndctl", "ndctl", "ndctl"),
    "openssl": ("openssl", "openssl", "openssl"),
    "sed": ("sed", "sed", "sed"),
    "sudo": ("sudo", "sudo", "sudo"),
    "xargs": ("findutils", "findutils", "findutils"),
}
"""The package of each program: on Debian and Ubuntu, on Fedora and its family, and on SUSE."""

QEMU_PACKAGES = {
    "x86_64": ("qemu-system-x86", "qemu-kvm", "qemu-x86"),
    "aarch64": ("qemu-system-arm", "qemu-kvm", "qemu-arm"),
    "ppc64le": ("qemu-system-ppc", "qemu-kvm", "qemu-ppc"),
    "s390x": ("qemu-system", "qemu-kvm", "qemu-s390x"),
}
"""The packages of QEMU for each architecture. On s390x the package differs between the releases of Debian."""

_COREUTILS = {"cat", "chmod", "cut", "date", "ls", "mkdir", "mktemp", "mv", "readlink", "rm", "sort", "stat", "sync"}
_COREUTILS |= {"tr", "uname", "wc"}
_FAMILIES = (
    ({"debian", "ubuntu"}, "apt install"),
    ({"fedora", "rhel", "centos"}, "dnf install"),
    ({"suse", "opensuse", "sles"}, "zypper install"),
)


def install(facts: HostFacts, *things: str) -> str:
    """Return the command that installs programs on a host. If the distribution is unknown, return a sentence instead.

    Args:
        facts: The facts of the host.
        things: Keys of `PACKAGES`, ``qemu``, or programs of coreutils.

    Example: ``install(facts, "flock", "awk")`` returns ``apt install util-linux mawk`` for Debian.
    """
    for column, (family, command) in enumerate(_FAMILIES):
        if family & set(facts.distribution_family):
            return f"{command} {' '.join(_packages(facts, things, column))}"
    names = ", ".join(_packages(facts, things, 0))
    return f"Install {names} with the package manager of the distribution (these are Debian's names of the packages)."


def _packages(facts: HostFacts, things: tuple[str, ...], column: int) -> dict[str, None]:
    qemu = QEMU_PACKAGES.get(facts.architecture, QEMU_PACKAGES["x86_64"])
    table = PACKAGES | {"qemu": qemu} | dict.fromkeys(_COREUTILS, PACKAGES["coreutils"])
    return dict.fromkeys(table[each][column] for each in things)
