"""How far a long operation came, in the log and on the console."""

from __future__ import annotations

import time

from VpmemLibrary.keywords.support.log import logger

_INTERVAL = 10.0


class ProgressLog:
    """Writes every line of progress into the log, and one in ten seconds to the console too."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, text: str) -> None:
        """Write a line."""
        now = time.monotonic()
        shown = now - self._shown >= _INTERVAL
        if shown:
            self._shown = now
        logger.info(text, also_console=shown)
