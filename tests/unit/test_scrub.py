"""Scrubs and clearing errors, on what ndctl 81 says of QEMU's NVDIMMs, which know neither, and of a bus that does."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from test_ndctl_changes import Machine, left, recorded

from VpmemLibrary.errors import (
    AmbiguousError,
    BusyError,
    CommandError,
    NotFoundError,
    UnreadableOutputError,
    UnsupportedError,
)
from VpmemLibrary.pmem.media.scrub import Scrub, ScrubState
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.transport.base import CommandResult


def scrubbing(state: str) -> CommandResult:
    """Return the recorded modes on a bus that can scrub."""
    text = recorded("modes").text.replace('"dev":"ndbus0"', f'"dev":"ndbus0","scrub_state":"{state}"', 1)
    return replace(recorded("modes"), stdout=text.encode())


def test_a_bus_is_found_by_name_and_by_provider() -> None:
    scrub = Scrub(Ndctl(Machine("modes")))
    assert scrub.bus("ndbus0") == scrub.bus("ACPI.NFIT") == scrub.bus(scrub.bus("ndbus0"))
    text = recorded("modes").text.strip().removeprefix("[").removesuffix("]")
    second = re.sub(r'"(nmem|region|namespace)([0-9])', r'"\g<1>1\2', text.replace("ndbus0", "ndbus1"))
    several = Scrub(Ndctl(Machine(replace(recorded("modes"), stdout=f"[{text},{second}]".encode()))))
    assert several.bus("ndbus1").dev == "ndbus1"
    with pytest.raises(AmbiguousError, match=r"2 buses on recorded have the provider 'ACPI\.NFIT': ndbus0, ndbus1"):
        several.bus("ACPI.NFIT")
    with pytest.raises(NotFoundError, match=r"No bus 'ndbus9' on recorded\. There are: ndbus0 \(ACPI\.NFIT\)"):
        scrub.bus("ndbus9")


@pytest.mark.parametrize(("listing", "state"), [("test-bus-scrubbed", "idle"), ("test-bus-scrubbing", "active")])
def test_the_state_is_the_one_that_is_listed(listing: str, state: str) -> None:
    assert Scrub(Ndctl(Machine(listing))).state("nfit_test.0") == state


def test_a_scrub_is_started_waited_for_and_its_errors_cleared() -> None:
    machine = Machine("test-bus-scrubbed")
    for verb in ("start-scrub", "wait-scrub"):
        machine.answers[verb] = [recorded(f"test-bus-{verb}")]
    scrub = Scrub(Ndctl(machine))
    scrub.start("nfit_test.0")
    scrub.wait("nfit_test.0", timeout=5)
    assert machine.asked == [("ndctl", "start-scrub", "ndbus0"), ("ndctl", "wait-scrub", "ndbus0")]
    machine = Machine("test-bus-bad")
    machine.answers["clear-errors"] = [recorded("test-bus-clear-errors")]
    Scrub(Ndctl(machine)).clear_errors("hurt", scrub=True, timeout=5)
    assert machine.asked[-1] == ("ndctl", "clear-errors", "--scrub", "@namespace@")


def test_a_bus_that_cannot_scrub_says_so_in_every_step() -> None:
    machine = Machine("modes")
    for verb in ("start-scrub", "wait-scrub", "clear-errors"):
        machine.answers[verb] = [recorded(verb)]
    scrub = Scrub(Ndctl(machine))
    assert scrub.state("ndbus0") is ScrubState.unsupported
    steps: tuple[Callable[[], None], ...] = (
        lambda: scrub.start("ndbus0"),
        lambda: scrub.wait("ndbus0", timeout=5),
        lambda: scrub.clear_errors("of-fsdax", timeout=5),
    )
    for step in steps:
        with pytest.raises(
            UnsupportedError, match=r"its bus \(ACPI\.NFIT\) does not support this\. Nothing was changed\."
        ):
            step()


def test_what_is_unknown_is_not_taken_for_idle() -> None:
    machine = Machine(scrubbing("odd"))
    with pytest.raises(UnreadableOutputError, match="'odd'"):
        Scrub(Ndctl(machine)).state("ndbus0")


def test_a_scrub_that_runs_is_not_started_again() -> None:
    machine = Machine(scrubbing("active"))
    Scrub(Ndctl(machine)).start("ndbus0")
    assert machine.asked == []


def test_a_wait_that_ends_too_early_is_a_failure() -> None:
    machine = Machine(scrubbing("active"))
    machine.answers["wait-scrub"] = [left(0)]
    with pytest.raises(CommandError, match="scrub of ndbus0 is still active"):
        Scrub(Ndctl(machine)).wait("ndbus0", timeout=5)


@pytest.mark.parametrize(
    ("namespace", "text"),
    [("namespace0.3", "sector namespace"), ("off", "is disabled"), ("of-sectors", "No namespace")],
)
def test_what_ndctl_would_skip_or_clear_too_much_of_is_refused(namespace: str, text: str) -> None:
    machine = Machine("modes")
    with pytest.raises((UnsupportedError, NotFoundError), match=text):
        Scrub(Ndctl(machine)).clear_errors(namespace, timeout=5)
    assert machine.asked == []


def test_errors_of_one_in_use_are_not_cleared() -> None:
    machine = Machine("modes", users="mounted at /mnt\n")
    with pytest.raises(BusyError, match="mounted at /mnt"):
        Scrub(Ndctl(machine)).clear_errors("of-fsdax", timeout=5)
    assert machine.asked == []


def test_errors_are_cleared_under_the_lock_of_the_region() -> None:
    machine = Machine(scrubbing("idle"))
    machine.answers["clear-errors"] = [left(0)]
    Scrub(Ndctl(machine)).clear_errors("of-fsdax", scrub=True, timeout=5)
    (act,) = machine.acts
    assert act.command == ("ndctl", "clear-errors", "--scrub", "@namespace@")
    assert act.targets == (f"-n {Ndctl(machine).namespace('of-fsdax').label_uuid}",)
    assert act.unused
