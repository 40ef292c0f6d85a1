"""Show the lab's progress: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from VpmemLibrary.visible import visible


class Progress(Protocol):
    """A display of steps that take a while."""

    def step(self, text: str, expected: float) -> AbstractContextManager[None]:
        """Show `text` while the block runs. `expected` is the approximate duration in seconds."""

    def note(self, text: str) -> None:
        """Show a note to the user."""


class Silent:
    """A display that shows nothing."""

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:  # noqa: ARG002  the protocol's arguments
        """Run the block."""
        yield

    def note(self, text: str) -> None:
        """Ignore `text`."""


class PlainLines:
    """A display on standard error: one line when a step begins and one line when it has ended."""

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:
        """Print `text` before and after the block."""
        _print(f"{text} (about {expected:.0f} s) ...")
        began = time.monotonic()
        yield
        _print(f"{text}: {time.monotonic() - began:.1f} s")

    def note(self, text: str) -> None:
        """Print `text`."""
        _print(text)


class LiveBar:
    """A display in a terminal: a bar that fills while the expected time passes."""

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:
        """Show a bar while the block runs, and a line with the duration afterwards."""
        import threading  # noqa: PLC0415

        from rich.console import Console  # noqa: PLC0415
        from rich.markup import escape  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        console = Console(stderr=True)
        shown = escape(visible(text))
        began = time.monotonic()
        done = threading.Event()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task(shown, total=expected)

            def fill() -> None:
                while not done.wait(0.1):
                    bars.update(task, completed=min(time.monotonic() - began, expected * 0.98))

            filler = threading.Thread(target=fill, daemon=True)
            filler.start()
            try:
                yield
            finally:
                done.set()
                filler.join()
        console.print(f"[green]✓[/] {shown} [dim]{time.monotonic() - began:.1f} s[/]", highlight=False)

    def note(self, text: str) -> None:
        """Print `text`."""
        _print(text)


def default_progress() -> Progress:
    """Return the live bar if standard error is a terminal, and plain lines otherwise."""
    return LiveBar() if sys.stderr is not None and sys.stderr.isatty() else PlainLines()


def _print(text: str) -> None:
    if sys.stderr is not None:  # None: the shell closed it (2>&-)
        print(f"[lab] {visible(text)}", file=sys.stderr, flush=True)
