"""Show the lab's progress: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from VpmemLibrary.visible import visible


class Progress:
    """A display of steps that take a while. This base class shows nothing."""

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:  # noqa: ARG002  the subclasses use both
        """Show `text` while the block runs. `expected` is the approximate duration in seconds."""
        yield

    def note(self, text: str) -> None:
        """Show a note to the user."""


SILENT = Progress()


class PlainLines(Progress):
    """A display on standard error: one line when a step begins and one line when it has ended."""

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:
        """Print `text` before and after the block."""
        self.note(f"{text} (about {expected:.0f} s) ...")
        began = time.monotonic()
        yield
        self.note(f"{text}: {time.monotonic() - began:.1f} s")

    def note(self, text: str) -> None:
        """Print `text`."""
        if sys.stderr is not None:  # None: the shell closed it (2>&-)
            print(f"[lab] {visible(text)}", file=sys.stderr, flush=True)


class LiveBar(PlainLines):
    """A display in a terminal: a bar that fills while the expected time passes."""

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:
        """Show a bar while the block runs, and a line with the duration afterwards."""
        from rich.console import Console  # noqa: PLC0415
        from rich.markup import escape  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress_bar import ProgressBar  # noqa: PLC0415

        class ExpectedTime(BarColumn):
            def render(self, task: Task) -> ProgressBar:
                task.completed = min(task.elapsed or 0, expected * 0.98)
                return super().render(task)

        console = Console(stderr=True)
        shown = escape(visible(text))
        began = time.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), ExpectedTime(30), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            bars.add_task(shown, total=expected)
            yield
        console.print(f"[green]✓[/] {shown} [dim]{time.monotonic() - began:.1f} s[/]", highlight=False)


def default_progress() -> Progress:
    """Return the live bar if standard error is a terminal, and plain lines otherwise."""
    return LiveBar() if sys.stderr is not None and sys.stderr.isatty() else PlainLines()
