"""The targets that keywords read and write: a namespace of the current host, or a path on it."""

from __future__ import annotations

from VpmemLibrary.errors import ForeignError, InvalidValueError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session


def path_of(session: Session, target: Namespace | str) -> str:
    """Return the path of a namespace's device node from a new listing. Return a given path unchanged.

    Raises:
        NotFoundError: The namespace does not exist.
        InvalidValueError: The namespace is not active.
    """
    if isinstance(target, str) and target.startswith("/"):
        return target
    return _node(session.host.ndctl.namespace(target))


def backing_of(session: Session, device: VpmemDevice | Namespace | str | None) -> str | None:
    """Return the path of the backing of a guest's device, or None if no device was given.

    The device may be given as a device, a namespace or a path.

    Raises:
        NotFoundError: The namespace does not exist.
    """
    if device is None or (isinstance(device, str) and device.startswith("/")):
        return device
    if isinstance(device, Namespace | str):
        return session.host.ndctl.namespace(device).device
    return device.path


def own_target_of(session: Session, target: Namespace | str, *, foreign: bool) -> Namespace | str:
    """Return a target that may be written to: a namespace from a new listing, or a path of no namespace.

    Args:
        session: The open hosts.
        target: A namespace, or a path.
        foreign: Allow a target that this run did not make.

    Raises:
        NotFoundError: The namespace does not exist.
        InvalidValueError: The namespace is not active.
        ForeignError: This run did not make the target, and `foreign` is not set.
    """
    host = session.host
    namespace: Namespace | None
    if isinstance(target, str) and target.startswith("/"):
        namespace = next((ns for ns in host.ndctl.inventory().namespaces if ns.device == target), None)
    else:
        namespace = host.ndctl.namespace(target)
    if namespace is None:
        if not foreign:
            raise ForeignError(
                f"{target} on {host.alias} is not the device of a namespace, so no run made it. Nothing was changed. "
                "Use foreign=True to write to it anyway."
            )
        return str(target)
    if not foreign:
        session.run.require_own(namespace)
    _node(namespace)
    return namespace


def shown_path(target: Namespace | str) -> str:
    """Return the current path of a target, or its path when it was listed."""
    return target if isinstance(target, str) else target.device


def _node(namespace: Namespace) -> str:
    if not namespace.device:
        raise InvalidValueError("namespace", namespace.called, "an active namespace: this one has no device node")
    return namespace.device
