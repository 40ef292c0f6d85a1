"""What the doctor found: one line for each check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from VpmemLibrary.transport.deadline import within
from VpmemLibrary.visible import one_line


class Verdict(StrEnum):
    """What a finding means for a run."""

    ok = "ok"
    """A run works."""
    warning = "warning"
    """A run works, but less of it, or slower."""
    problem = "problem"
    """A run fails, or the check could not be made."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Args:
        check: What was checked.
        verdict: What it means for a run.
        found: What was found.
        fix: The command that fixes it, or what to do where no command can; empty if nothing is to be done.
    """

    check: str
    verdict: Verdict
    found: str
    fix: str = ""

    def __str__(self) -> str:
        """Return the finding as one line."""
        fix = f"  fix: {one_line(self.fix)}" if self.fix else ""
        return f"{self.verdict:<7}  {one_line(self.check)}: {one_line(self.found)}{fix}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings about one host.

    Args:
        host: The host's name.
        findings: One for each check, in the order in which a run needs them.
        seconds: How long the checks took.
    """

    host: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no finding is a problem."""
        return all(finding.verdict is not Verdict.problem for finding in self.findings)

    def count(self, verdict: Verdict) -> int:
        """Return how many findings have a verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """Return the diagnosis as what ``vpmem doctor --json`` prints."""
        return {
            "host": self.host,
            "passed": self.passed,
            "seconds": round(self.seconds, 2),
            "findings": [
                {"check": each.check, "verdict": str(each.verdict), "found": each.found, "fix": each.fix}
                for each in self.findings
            ],
        }


def ok(check: str, found: str) -> Finding:
    """Return the finding that a run works."""
    return Finding(check, Verdict.ok, found)


def warning(check: str, found: str, fix: str = "") -> Finding:
    """Return the finding that a run works, but less of it."""
    return Finding(check, Verdict.warning, found, fix)


def problem(check: str, found: str, fix: str = "") -> Finding:
    """Return the finding that a run fails."""
    return Finding(check, Verdict.problem, found, fix)


def checked(check: str, work: Callable[[], Iterable[Finding]], seconds: float) -> list[Finding]:
    """Return the findings of a check. A check that fails or takes too long hides no other check.

    Args:
        check: What is checked.
        work: Makes the check, in a thread of its own.
        seconds: How long the check may take.

    Returns:
        The findings, or one that says why the check could not be made.
    """
    try:
        return within(seconds, lambda: list(work()))
    except TimeoutError:
        return [problem(check, f"could not be checked: no answer within {seconds:g} s")]
    except Exception as error:  # whatever a host makes a check raise, the other checks go on
        return [problem(check, f"could not be checked: {reason(error)}")]


def reason(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__
