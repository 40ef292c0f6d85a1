"""Find out which run made a namespace or a CXL region. The mark is the UUID of the namespace's label or of the region.

A namespace without a label has the mark in the UUID of its info block, so only while it is active.

The mark is a UUID of version 8, which RFC 9562 reserves for applications: ``76706d65-6dRR-8RRR-vRRR-xxxxxxxxxxxx``. It
has the fixed text "vpmem", the run's id in eight hexadecimal digits R, and 48 random bits. The first digit v of the
fourth group is always 8, the variant. A label keeps the mark through reboots and while the namespace is disabled. The
mark does not depend on the namespace's name.
"""

from __future__ import annotations

import os
import re
import secrets

from msgspec import Struct

from VpmemLibrary.errors import ForeignError, InvalidValueError
from VpmemLibrary.pmem.records import Namespace

RUN_ID_VARIABLE = "VPMEM_RUN_ID"
"""The environment variable that gives all workers of one run the same id."""

_MAGIC = "vpmem".encode("ascii").hex()
_MARK = re.compile(
    rf"{_MAGIC[:8]}-{_MAGIC[8:]}([0-9a-f]{{2}})-8([0-9a-f]{{3}})-8([0-9a-f]{{3}})-[0-9a-f]{{12}}", re.ASCII
)


class RunMark(Struct, frozen=True):
    """The mark that a run puts on the objects that it makes.

    Args:
        run_id: The run's id: eight hexadecimal digits.

    Example: ``RunMark("0123abcd").new_uuid()`` returns e.g. ``76706d65-6d01-823a-8bcd-5f0e6d2a9c41``.

    Raises:
        InvalidValueError: The id is not eight hexadecimal digits.
    """

    run_id: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8}", self.run_id, flags=re.ASCII):
            raise InvalidValueError("run id", self.run_id, "8 hexadecimal digits in lower case, e.g. 0123abcd")

    @classmethod
    def of_this_run(cls, run_id: str | None = None) -> RunMark:
        """Return the mark of this run. The run's id is `run_id`, else ``VPMEM_RUN_ID``, else random.

        Raises:
            InvalidValueError: The id is not eight hexadecimal digits.
        """
        return cls(run_id or os.environ.get(RUN_ID_VARIABLE) or secrets.token_hex(4))

    def new_uuid(self) -> str:
        """Return a new unique UUID that has this run's mark."""
        first, second, third = self.run_id[:2], self.run_id[2:5], self.run_id[5:]
        return f"{_MAGIC[:8]}-{_MAGIC[8:]}{first}-8{second}-8{third}-{secrets.token_hex(6)}"

    def owns(self, namespace: Namespace) -> bool:
        """Return whether this run made a namespace."""
        return run_of(namespace) == self.run_id

    def owns_uuid(self, uuid: str) -> bool:
        """Return whether a UUID has this run's mark."""
        return run_of_uuid(uuid) == self.run_id

    def require_own(self, namespace: Namespace) -> None:
        """Raise unless this run made a namespace.

        Raises:
            ForeignError: Another run made the namespace, or no run made it.
        """
        maker = run_of(namespace)
        if maker == self.run_id:
            return
        made = f"run {maker} made it" if maker else "no run made it: it has no mark"
        raise ForeignError(
            f"Namespace {namespace.called} (UUID {namespace.label_uuid or 'none'}) is not this run's own: {made}, and "
            f"this is run {self.run_id}. Nothing was changed. Use foreign=True to change or destroy it anyway."
        )


def run_of(namespace: Namespace) -> str:
    """Return the id of the run that made a namespace. Return an empty text if no run made it."""
    return run_of_uuid(namespace.label_uuid or namespace.uuid)


def run_of_uuid(uuid: str) -> str:
    """Return the id of the run that marked a UUID. Return an empty text if the UUID has no mark."""
    match = _MARK.fullmatch(uuid)
    return "".join(match.groups()) if match else ""
