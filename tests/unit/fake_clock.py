"""A clock that only waiting moves, so that what would take minutes is over at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class FakeClock:
    """What the code under test takes for the module ``time``.

    Args:
        tick: Seconds that each look at the clock takes, so that a loop that only looks at the clock ends.
    """

    def __init__(self, tick: float = 0.001) -> None:
        self.now = 1000.0
        self._tick = tick

    def monotonic(self) -> float:
        self.now += self._tick
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@contextmanager
def fake_clock(*modules: str) -> Iterator[FakeClock]:
    """Have modules go by a clock of their own, while in the ``with``."""
    clock = FakeClock()
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(f"{module}.time", clock)
        yield clock
