"""The progress of a long operation, in the log and on the console."""

from __future__ import annotations

import time

from VpmemLibrary.keywords.support.log import logger

_INTERVAL = 10.0


class ProgressLog:
    """Write every line of progress into the log, and one line every ten seconds on the console too."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, text: str) -> None:
        """Write a line."""
        now = time.monotonic()
        shown = now - self._shown >= _INTERVAL
        if shown:
            self._shown = now
        logger.info(text, also_console=shown)
