"""Check that a change of a whole DIMM or bus affects only this run.

A DIMM may have namespaces of several runs. A DIMM on a real bus is foreign, because no run made it.
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


def require_own_dimm(session: Session, which: Dimm | str, *, foreign: bool = False) -> tuple[Dimm, str]:
    """Return a DIMM, and the provider of its bus. Raise if this run may not change the whole DIMM.

    Args:
        session: The session. The DIMM is on its current host.
        which: The DIMM's record or name.
        foreign: Allow a DIMM on a real bus, and a DIMM with foreign namespaces.

    Raises:
        NotFoundError: The DIMM does not exist.
        ForeignError: The DIMM is on a real bus or has foreign namespaces, and `foreign` is not set.
        ForeignError: Other workers have leases on the host. This is an error even if `foreign` is set.
    """
    ndctl = session.host.ndctl
    listed = ndctl.inventory()
    found = ndctl.dimm(which, listed)
    bus = next(bus for bus in listed.buses if found in bus.dimms)
    _require_own(session, bus, [found], f"DIMM {found.dev}", foreign)
    return found, bus.provider


def require_own_bus(session: Session, which: Bus | str, *, foreign: bool = False) -> Bus:
    """Return a bus. Raise if this run may not change all DIMMs of the bus.

    The arguments and errors are the same as for `require_own_dimm`.
    """
    found = Scrub(session.host.ndctl).bus(which)
    _require_own(session, found, found.dimms, f"Bus {found.dev}", foreign)
    return found


def _require_own(session: Session, bus: Bus, dimms: Iterable[Dimm], what: str, foreign: bool) -> None:
    where = f"{what} on {session.host.alias}"
    if others := session.current.tenancy.leases_of_others():
        raise ForeignError(
            f"{where} was not changed, because other workers have leases on the host: {'; '.join(others)}. "
            "Reserve the host first (Reserve Host)."
        )
    if foreign:
        return
    if not bus.provider.startswith(TEST_BUS):
        raise ForeignError(f"{where} is foreign: its bus is real (provider {bus.provider}), so no run made it. {_FIX}")
    namespaces = sorted({name for dimm in dimms for name in _foreign_labels(session, dimm)})
    if namespaces:
        raise ForeignError(f"{where} has namespaces that this run did not make: {', '.join(namespaces)}. {_FIX}")


def _foreign_labels(session: Session, dimm: Dimm) -> list[str]:
    """Return the names of the foreign namespaces with a label on a DIMM.

    While the regions on the DIMM are disabled, ndctl lists no namespaces. The labels on the DIMM remain.
    """
    try:
        area = read_area(session.host.ndctl, dimm.dev)
    except UnsupportedError:  # the DIMM has no label area, so it has no namespaces with labels
        return []
    return [
        label.name or f"UUID {label.uuid}" for label in area.labels if run_of_uuid(label.uuid) != session.run.run_id
    ]
