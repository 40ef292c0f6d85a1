"""Report to Robot Framework what a session does: in the log, and for long operations on the console."""

from __future__ import annotations

import time

from VpmemLibrary.keywords.support.log import LoggedTransport, logger
from VpmemLibrary.session.reporting import Reporting

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


def robot_reporting() -> Reporting:
    """Return the functions by which a session reports to Robot Framework."""
    return Reporting(wrap=LoggedTransport, note=logger.info, progress=ProgressLog())
