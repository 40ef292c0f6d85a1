"""Check that a change of a whole DIMM or bus affects nobody but this run.

A DIMM has parts of the namespaces of several runs. No run made a DIMM of a real bus.
"""

from __future__ import annotations

from collections.abc import Iterable

from VpmemLibrary.errors import ForeignError, UnsupportedError
from VpmemLibrary.ownership.marks import run_of_uuid
from VpmemLibrary.pmem.dax.test_bus import TEST_BUS
from VpmemLibrary.pmem.labels.dimm import read_area
from VpmemLibrary.pmem.media.scrub import Scrub
from VpmemLibrary.pmem.records import Bus, Dimm
from VpmemLibrary.session.session import Session

_FIX = "Nothing was changed. Use foreign=True to do it anyway."


def own_dimm(session: Session, which: Dimm | str, *, foreign: bool = False) -> tuple[Dimm, str]:
    """Return a DIMM that may be changed as a whole, and the provider of its bus.

    Args:
        session: The session. The DIMM is on its current host.
        which: The DIMM's record or name.
        foreign: Allow a DIMM on a real bus, and a DIMM with namespaces that this run did not make.

    Raises:
        NotFoundError: The DIMM does not exist.
        ForeignError: The DIMM is on a real bus or has foreign namespaces, and `foreign` is not set. Or others hold
            leases on the host, which `foreign` does not override.
    """
    ndctl = session.host.ndctl
    listed = ndctl.inventory()
    found = ndctl.dimm(which, listed)
    bus = next(bus for bus in listed.buses if found in bus.dimms)
    _require_own(session, bus, [found], f"DIMM {found.dev}", foreign)
    return found, bus.provider


def own_bus(session: Session, which: Bus | str, *, foreign: bool = False) -> Bus:
    """Return a bus whose DIMMs may all be changed. The arguments and errors are those of `own_dimm`."""
    found = Scrub(session.host.ndctl).bus(which)
    _require_own(session, found, found.dimms, f"Bus {found.dev}", foreign)
    return found


def _require_own(session: Session, bus: Bus, dimms: Iterable[Dimm], what: str, foreign: bool) -> None:
    where = f"{what} on {session.host.alias}"
    if others := session.current.tenancy.leases_of_others():
        raise ForeignError(
            f"{where} was not changed, because others use the host: {'; '.join(others)}. Reserve the host first "
            "(Reserve Host)."
        )
    if foreign:
        return
    if not bus.provider.startswith(TEST_BUS):
        raise ForeignError(f"{where} is on a real bus ({bus.provider}), so no run made it. {_FIX}")
    namespaces = sorted({name for dimm in dimms for name in _foreign_labels(session, dimm)})
    if namespaces:
        raise ForeignError(f"{where} has namespaces that this run did not make: {', '.join(namespaces)}. {_FIX}")


def _foreign_labels(session: Session, dimm: Dimm) -> list[str]:
    """Return the names of the foreign namespaces with a label on a DIMM.

    The labels show this also while the regions on the DIMM are disabled, when there are no namespaces.
    """
    try:
        area = read_area(session.host.ndctl, dimm.dev)
    except UnsupportedError:  # the DIMM has no label area, so it has no namespaces with labels
        return []
    return [
        label.name or f"UUID {label.uuid}" for label in area.labels if run_of_uuid(label.uuid) != session.run.run_id
    ]
