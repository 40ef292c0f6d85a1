"""Boot fifty nested guests on two lab hosts, one at a time on each host, and report whether the lab loses any guest.

Run this module as ``python -m VpmemLibrary.lab.soak [GUESTS]``. It prints every boot time, and exits with 1 if a guest
was lost. A lost guest is never retried.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError, VpmemError
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.nested import BootTimes, boot_guest, domain_xml, end_guest, make_devdax
from VpmemLibrary.lab.progress import default_progress
from VpmemLibrary.sizes import MiB, Size

GUESTS = 50
HOSTS = 2
_NAMESPACE = Size(256 * MiB)


class Outcome(Struct, frozen=True):
    """The outcome of one guest: its boot times, or the reason why it was lost."""

    host: str
    guest: str
    times: BootTimes | None
    reason: str = ""


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the results of a soak as text."""
    lost = [outcome for outcome in outcomes if outcome.times is None]
    lines = [f"{len(outcomes)} guests, {len(lost)} lost"]
    times = [outcome.times for outcome in outcomes if outcome.times is not None]
    for what, seconds in (("virsh create", [t.started for t in times]), ("ready", [t.ready for t in times])):
        if seconds:
            low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
            lines.append(f"{what}: min {low:.1f} s, median {middle:.1f} s, max {high:.1f} s")
    return "\n".join(lines)


def soak(hosts: Sequence[LabHost], guests: int) -> list[Outcome]:
    """Boot `guests` guests, distributed over `hosts`, and return the outcome of each guest."""
    outcomes: list[Outcome] = []
    numbers = iter(range(1, guests + 1))
    lock = threading.Lock()

    def work(host: LabHost) -> None:
        with host.transport() as transport:
            device, size = make_devdax(transport, "soak", _NAMESPACE)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                name = f"soak-{number}"
                try:
                    outcome = Outcome(host.name, name, boot_guest(transport, domain_xml(name, device, size), name))
                except VpmemError as error:
                    outcome = Outcome(host.name, name, None, str(error))
                finally:
                    end_guest(transport, name)
                with lock:
                    outcomes.append(outcome)
                    _show(outcome, len(outcomes), guests)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(work, hosts))
    return outcomes


def main(arguments: Sequence[str]) -> int:
    """Run the soak on new lab hosts and return the exit status."""
    given = arguments[0] if arguments else str(GUESTS)
    if not given.isascii() or not given.isdigit() or int(given) == 0:
        raise InvalidValueError("GUESTS", given, "a whole number of guests, e.g. 50")
    lab = Lab(default_progress())
    hosts = lab.up(HOSTS)
    hosts = [lab.reset(host.name) for host in hosts]
    began = time.monotonic()
    outcomes = soak(hosts, int(given))
    print(summary(outcomes))
    print(f"total: {time.monotonic() - began:.0f} s")
    return 1 if any(outcome.times is None for outcome in outcomes) else 0


def _show(outcome: Outcome, done: int, of: int) -> None:
    if outcome.times is None:
        said = f"LOST: {outcome.reason}"
    else:
        said = f"ready after {outcome.times.ready:.1f} s (virsh create {outcome.times.started:.1f} s)"
    print(f"[{done}/{of}] {outcome.host} {outcome.guest}: {said}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except VpmemError as failure:
        sys.exit(f"error: {failure}")
