"""Compare several independent readings (views) of one thing, field by field.

A view leaves out a field that it does not know. A field agrees if all views that have the field have the same value.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from VpmemLibrary.errors import ViewsDisagreeError
from VpmemLibrary.visible import one_line

NOT_STATED = "not stated"


class Agreement(Struct, frozen=True):
    """Several views of one thing.

    Args:
        subject: The name of the thing, e.g. ``namespace0.0``.
        views: The name of each view, with the fields that the view has.

    Example::

        Agreement("namespace0.0", {"ndctl": {"size": 64}, "sysfs": {"size": 64, "node": "dax0.0"}}).require()
    """

    subject: str
    views: Mapping[str, Mapping[str, object]]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that any view has, in the order of their first appearance."""
        return tuple(dict.fromkeys(field for stated in self.views.values() for field in stated))

    @property
    def disagreements(self) -> tuple[str, ...]:
        """The fields on which views differ."""
        return tuple(field for field in self.fields if len(self._stated(field)) > 1)

    @property
    def header(self) -> tuple[str, ...]:
        """The header row of the table: one column for each view."""
        return (self.subject, *self.views)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows of the table: one row for each field."""
        return tuple(
            (field, *(str(stated.get(field, NOT_STATED)) for stated in self.views.values())) for field in self.fields
        )

    @property
    def marked(self) -> set[tuple[int, int]]:
        """The row and column of each cell to mark: every filled cell of a field on which views differ."""
        return {
            (i, j)
            for i, field in enumerate(self.fields)
            if field in self.disagreements
            for j, stated in enumerate(self.views.values(), start=1)
            if field in stated
        }

    def table(self) -> str:
        """Return the views as a text table. Differing cells are between ``>`` and ``<``."""
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
            ViewsDisagreeError: The views differ in a field. The message is the table.
        """
        if self.disagreements:
            raise ViewsDisagreeError(
                f"The views of {one_line(self.subject)} differ in {one_line(', '.join(self.disagreements))}:\n"
                f"{self.table()}"
            )

    def _stated(self, field: str) -> set[object]:
        return {stated[field] for stated in self.views.values() if field in stated}
