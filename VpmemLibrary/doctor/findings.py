"""The findings of the doctor: one line for each check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.transport.deadline import call_with_deadline
from VpmemLibrary.visible import one_line


class Verdict(StrEnum):
    """The consequence of a finding for a run."""

    ok = "ok"
    """A run works."""
    warning = "warning"
    """A run works, but with fewer features, or slower."""
    problem = "problem"
    """A run fails, or the check was not possible."""


class Finding(Struct, frozen=True):
    """The result of one check.

    Args:
        check: The name of the check.
        verdict: The consequence for a run.
        found: What was found.
        fix: The command that fixes the problem, or what to do without a command. Empty if there is nothing to fix.
    """

    check: str
    verdict: Verdict
    found: str
    fix: str = ""

    def __str__(self) -> str:
        """Return the finding as one line."""
        fix = f"  fix: {one_line(self.fix)}" if self.fix else ""
        return f"{self.verdict:<7}  {one_line(self.check)}: {one_line(self.found)}{fix}"


class Diagnosis(Struct, frozen=True):
    """All findings about one host.

    Args:
        host: The host's name.
        findings: The findings of all checks, in the order in which a run needs the checks.
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
        """Return the diagnosis in the form that ``vpmem doctor --json`` prints."""
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
    """Return the finding that a run works with fewer features, or slower."""
    return Finding(check, Verdict.warning, found, fix)


def problem(check: str, found: str, fix: str = "") -> Finding:
    """Return the finding that a run fails."""
    return Finding(check, Verdict.problem, found, fix)


def run_check(check: str, work: Callable[[], Iterable[Finding]], seconds: float) -> list[Finding]:
    """Return the findings of a check. If the check fails or takes too long, this is a finding too."""
    try:
        return call_with_deadline(seconds, lambda: list(work()))
    except TimeoutError:
        return [problem(check, f"could not be checked: no answer within {seconds:g} s")]
    except Exception as error:  # any error that a host causes must not stop the other checks
        return [problem(check, f"could not be checked: {reason(error)}")]


def reason(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__
