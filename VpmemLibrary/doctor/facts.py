"""Read the doctor's own facts of a host with one command. The command changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import resources

from msgspec import Struct

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.leases.host_leases import DIRECTORY
from VpmemLibrary.pmem.guard import LOCKS
from VpmemLibrary.transport.base import CommandResult, Transport, query

GUARD_TOOLS = ("flock", "stat", "awk", "readlink", "grep", "sed", "xargs", "sort", "tr", "cut", "mktemp", "sync", "mv")
"""The programs that the guard and the lease holder run on a host, besides bash."""

RUN_DIRECTORY = LOCKS.rpartition("/")[0]
_SCRIPT = resources.files("VpmemLibrary.doctor").joinpath("facts.sh").read_text("ascii")
_TIMEOUT = 18.0


class DoctorFacts(Struct, frozen=True):
    """The facts that the doctor read on a host.

    Args:
        values: The text of each fact, by the fact's name.
        asked: The time of this machine before the question, in seconds since 1970.
        answered: The time of this machine after the answer, in seconds since 1970.
    """

    values: Mapping[str, str]
    asked: float
    answered: float

    def __getitem__(self, name: str) -> str:
        """Return the text of a fact. Return an empty text if the host does not have the fact."""
        return self.values.get(name, "")

    def lines(self, name: str) -> list[str]:
        """Return the lines of a fact."""
        return self[name].split("\n") if self[name] else []

    @property
    def root(self) -> bool:
        """Whether root read the facts."""
        return self["uid"] == "0"


def read_doctor_facts(transport: Transport) -> DoctorFacts:
    """Read the doctor's facts of a host.

    Raises:
        CommandError: The host could not run the script.
        UnreadableOutputError: The script did not run to its end.
    """
    asked = time.time()
    command = query(_SCRIPT, RUN_DIRECTORY, DIRECTORY, *GUARD_TOOLS)
    result = transport.run(command, timeout=_TIMEOUT).check()
    return decode_doctor_facts(result, asked, time.time())


def decode_doctor_facts(result: CommandResult, asked: float, answered: float) -> DoctorFacts:
    """Return the facts that the script printed.

    Raises:
        UnreadableOutputError: The script did not run to its end.
    """
    parts = result.text.split("\0")
    values = dict(zip(parts[0::2], (part.strip() for part in parts[1::2]), strict=False))
    if "end" not in values:
        raise UnreadableOutputError(result, "The doctor's script did not run to its end")
    return DoctorFacts(values, asked, answered)
