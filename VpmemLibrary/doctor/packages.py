"""The packages that have what the doctor misses, for each family of distributions."""

from __future__ import annotations

from VpmemLibrary.host.facts import HostFacts

PACKAGES = {
    "awk": ("mawk", "gawk", "gawk"),
    "bash": ("bash", "bash", "bash"),
    "coreutils": ("coreutils", "coreutils", "coreutils"),
    "flock": ("util-linux", "util-linux", "util-linux"),
    "grep": ("grep", "grep", "grep"),
    "guestfish": ("libguestfs-tools", "guestfs-tools", "guestfs-tools"),
    "nc": ("netcat-openbsd", "nmap-ncat", "netcat-openbsd"),
    "sed": ("sed", "sed", "sed"),
    "sudo": ("sudo", "sudo", "sudo"),
    "xargs": ("findutils", "findutils", "findutils"),
}
"""For each program its package in Debian and Ubuntu, in Fedora and its family, and in SUSE."""

_COREUTILS = {"cat", "chmod", "cut", "date", "ls", "mkdir", "mktemp", "mv", "readlink", "rm", "sort", "stat", "sync"}
_COREUTILS |= {"tr", "uname", "wc"}
_FAMILIES = (
    ({"debian", "ubuntu"}, "apt install"),
    ({"fedora", "rhel", "centos"}, "dnf install"),
    ({"suse", "opensuse", "sles"}, "zypper install"),
)


def install(facts: HostFacts, *programs: str) -> str:
    """Return the command that installs programs on a host's distribution.

    Args:
        facts: What the host is.
        programs: Keys of `PACKAGES`, or programs of coreutils.
    """
    things = dict.fromkeys("coreutils" if each in _COREUTILS else each for each in programs)
    for column, (family, command) in enumerate(_FAMILIES):
        if family & set(facts.distribution_family):
            return f"{command} {' '.join(dict.fromkeys(PACKAGES[each][column] for each in things))}"
    return f"Install {', '.join(things)} with the package manager of the distribution."
