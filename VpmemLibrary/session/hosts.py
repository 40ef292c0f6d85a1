"""The hosts that a session can open: the sections of a hosts file, or the hosts of the running lab."""

from __future__ import annotations

from pathlib import Path

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import read_hosts

LAB = "lab"
"""The word that means the running lab, in place of the path of a hosts file."""


def entries_of(hosts: str) -> tuple[HostEntry, ...]:
    """Return the sections of a hosts file, or of the running lab.

    Args:
        hosts: The path of the hosts file, or ``lab``.

    Raises:
        InvalidValueError: The hosts file does not exist, its format is invalid, or no lab is running.
    """
    return _lab_hosts() if hosts == LAB else read_hosts(Path(hosts))


def _lab_hosts() -> tuple[HostEntry, ...]:
    from VpmemLibrary.lab.lab import Lab  # noqa: PLC0415  most runs do not use the lab
    from VpmemLibrary.lab.report import host_entry  # noqa: PLC0415

    running = [host for host in Lab().hosts() if host.alive]
    if not running:
        raise InvalidValueError(
            "hosts file", LAB, "a running lab, or the path of a file: start a lab with `vpmem lab up`"
        )
    return tuple(host_entry(host) for host in running)
