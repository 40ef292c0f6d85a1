"""Name the states of a domain as virsh does."""

from __future__ import annotations

NO_DOMAIN = 42
"""VIR_ERR_NO_DOMAIN: libvirt's error code for a domain that does not exist."""

GONE = "gone"
"""The state of a domain that does not exist. libvirt has no name for it."""

OFF = "shut off"
ALIVE = ("running", "idle", "paused", "in shutdown")
"""The states in which a guest has a QEMU process."""

# libvirt's virDomainState, virDomainShutoffReason and virDomainPausedReason, named as virsh names them.
_STATES = ("no state", "running", "idle", "paused", "in shutdown", OFF, "crashed", "pmsuspended")
_OFF_REASONS = ("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon")
_PAUSED_REASONS = (
    *("unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot", "shutting down"),
    *("creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "api error"),
)
_REASONS = {OFF: _OFF_REASONS, "paused": _PAUSED_REASONS}


def state_name(state: int) -> str:
    """Return virsh's name of a state: ``running``, ``shut off`` ..."""
    return _STATES[state]


def reason_text(name: str, reason: int) -> str:
    """Return the reason of a state in brackets, e.g. `` (destroyed)``; empty if the state has no reason worth naming.

    Args:
        name: The state's name.
        reason: libvirt's number of the reason.
    """
    reasons = _REASONS.get(name, ())
    return f" ({reasons[reason]})" if 0 <= reason < len(reasons) else ""
