"""Two ways to do one thing, timed by turns in one run: only their ratio means anything on a machine that others use."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds something takes, without the garbage collector, which timeit switches off."""
    return timeit.timeit(work, number=1)


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of both ways, each round doing both, after one round that is not counted."""
    ours(), theirs()
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def require(what: str, ours: list[float], theirs: list[float], most: float) -> None:
    """Print the medians of both ways and their ratio, and fail if the ratio is larger than wanted.

    Args:
        what: What is compared, for the message.
        ours: Seconds of each round of the library's way.
        theirs: Seconds of each round of the other way.
        most: How many times as long the library's way may take.
    """
    mine, other = statistics.median(ours), statistics.median(theirs)
    found = (
        f"{what}: {mine * 1000:.2f} ms against {other * 1000:.2f} ms over {len(ours)} rounds: "
        f"{mine / other:.2f} times as long (wanted: {most} at most)"
    )
    print(f"\n{found}")
    assert mine <= most * other, found
