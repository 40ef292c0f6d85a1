"""Several independent readings of one thing, compared field by field.

A view that cannot know a field leaves it out; a field agrees when all views that state it state the same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from VpmemLibrary.errors import ViewsDisagreeError
from VpmemLibrary.visible import one_line

NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One thing in several views.

    Args:
        subject: What is looked at, e.g. ``namespace0.0``.
        views: For each view its name and the fields that it states.

    Example::

        Agreement("namespace0.0", {"ndctl": {"size": 64}, "sysfs": {"size": 64, "node": "dax0.0"}}).require()
    """

    subject: str
    views: Mapping[str, Mapping[str, object]]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that any view states, in the order of first mention."""
        return tuple(dict.fromkeys(field for stated in self.views.values() for field in stated))

    @property
    def disagreements(self) -> tuple[str, ...]:
        """The fields on which views differ."""
        return tuple(field for field in self.fields if len(self._stated(field)) > 1)

    @property
    def header(self) -> tuple[str, ...]:
        """The head of the table: one column a view."""
        return (self.subject, *self.views)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The body of the table: one row a field."""
        return tuple(
            (field, *(str(stated.get(field, NOT_STATED)) for stated in self.views.values())) for field in self.fields
        )

    @property
    def marked(self) -> set[tuple[int, int]]:
        """Row and column of the cells to mark: every stated cell of a field on which views differ."""
        return {
            (i, j)
            for i, field in enumerate(self.fields)
            if field in self.disagreements
            for j, stated in enumerate(self.views.values(), start=1)
            if field in stated
        }

    def table(self) -> str:
        """Return the views as a text table, differing cells between ``>`` and ``<``."""
        marked = self.marked
        body = [
            [f">{cell}<" if (i, j) in marked else cell for j, cell in enumerate(row)] for i, row in enumerate(self.rows)
        ]
        lines = [[one_line(cell) for cell in line] for line in (self.header, *body)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def require(self) -> None:
        """Raise unless all views agree.

        Raises:
            ViewsDisagreeError: The message is the table.
        """
        if self.disagreements:
            raise ViewsDisagreeError(
                f"The views of {one_line(self.subject)} differ in {one_line(', '.join(self.disagreements))}:\n"
                f"{self.table()}"
            )

    def _stated(self, field: str) -> set[object]:
        return {stated[field] for stated in self.views.values() if field in stated}
