"""Remove the leftovers of dead runs from a host.

A living run holds its own lease on the host. It takes this lease before it marks any object. So if no worker holds a
run's own lease, the objects with the run's mark are leftovers: the run was killed, or ended without cleaning up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import Struct

from VpmemLibrary.errors import BusyError, LibvirtError, NotFoundError, VpmemError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.domains import guest_names
from VpmemLibrary.guest.domain.states import NO_DOMAIN
from VpmemLibrary.guest.domain.xml import read_devices
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import Mount
from VpmemLibrary.leases.leases import Entry, Holder, Leases, LeasesHeldError, is_permanent_key, living_runs
from VpmemLibrary.leases.reservations import host_lock
from VpmemLibrary.ownership.cleanup import marked_cxl_regions, wipe_namespace, writable
from VpmemLibrary.ownership.marks import run_of, run_of_uuid
from VpmemLibrary.ownership.mounts import mounts_of_runs, unmount
from VpmemLibrary.pmem.guard import LOCKS
from VpmemLibrary.pmem.ndctl import is_namespace
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.pmem.regions.cxl import CxlRegion
from VpmemLibrary.polling import poll

T = TypeVar("T")

_BUSY_TIMEOUT = 60.0
"""Seconds to wait for a dead worker's last command to end. sshd does not end the command when the connection breaks."""

_POLL = 0.5

# A change that a dead worker began holds a lock until the change is done (guard.sh).
_WAIT_FOR_CHANGES = 'for lock in "$1"/*; do [ ! -f "$lock" ] || flock "$lock" true || exit; done'


class Reclaimed(Struct, frozen=True):
    """Descriptions of the removed leftovers, and the errors of the leftovers that remain."""

    done: tuple[str, ...] = ()
    failed: tuple[VpmemError, ...] = ()


class Reclaim:
    """Remove the leftovers of dead runs from one host.

    Args:
        host: The host.
        link: The host's libvirt connection.
        leases: The leases of this worker on the host.
    """

    def __init__(self, host: Host, link: LibvirtLink, leases: Leases) -> None:
        self._host = host
        self._link = link
        self._leases = leases

    def remove_all(self) -> Reclaimed:
        """Remove all leftovers of dead runs: guests, mounts, namespaces, CXL regions, and claims. Try each leftover.

        Do not change an object that does not belong to a dead run. If a dead holder had claimed a namespace that no run
        made, wipe the namespace and release the claim, but do not destroy the namespace.
        """
        done: list[str] = []
        failed: list[VpmemError] = []
        with host_lock(self._leases, "reclaim", self._host.alias):
            self._host.run(["sh", "-c", _WAIT_FOR_CHANGES, "sh", LOCKS], timeout=_BUSY_TIMEOUT).check()
            for what, remove in self._leftovers():
                try:
                    _remove_when_unused(what, remove)
                    done.append(what)
                except VpmemError as error:
                    error.add(f"So this leftover was not removed: {what}.")
                    failed.append(error)
        return Reclaimed(tuple(done), tuple(failed))

    def clean_namespace(self, namespace: Namespace, left_by: Holder) -> None:
        """Clean a namespace that a dead holder left: end the guests of dead runs that use it, then wipe it.

        Args:
            namespace: The namespace. The caller holds its lease.
            left_by: The dead holder.

        Raises:
            BusyError: The namespace is in use, but not by a guest of a dead run; see `wipe_namespace`.
            VpmemError: The wipe failed.
        """
        for guest, _ in self._dead_guests():
            if any(device.path == namespace.device for device in read_devices(guest.xml())):
                lifecycle.remove(guest)
        try:
            wipe_namespace(self._host, namespace)
        except BusyError as error:
            error.add(f"The namespace was left by {left_by}.")
            raise

    def _leftovers(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield a description of each leftover and the function that removes it.

        Search for each kind of leftover only after the caller has handled the earlier kinds.
        """
        for guest, run_id in self._dead_guests():
            yield f"guest {guest.name} of run {run_id}", partial(lifecycle.remove, guest)
        for mount, run_id in self._of_dead_runs(mounts_of_runs(self._host)):
            yield f"mount of {mount} of run {run_id}", partial(_unmount, self._host, mount)
        for namespace, run_id in self._dead_namespaces():
            what = f"namespace {namespace.called} ({namespace.label_uuid or namespace.uuid}) of run {run_id}"
            yield what, partial(self._destroy, namespace)
        regions = [(region, run_of_uuid(region.uuid)) for region in marked_cxl_regions(self._host)]
        for region, run_id in self._of_dead_runs(regions):
            what = f"CXL region {region.dev} ({region.uuid}) of run {run_id}"
            yield what, partial(self._destroy_cxl_region, region)
        for entry in self._leases.entries():
            if not entry.held and not is_permanent_key(entry.key):
                yield f"{entry.key}, {entry.description}", partial(self._release_claim, entry)

    def _dead_guests(self) -> list[tuple[Guest, str]]:
        """Return the guests that dead runs made, each with its run."""
        guests = [Guest(self._host.transport, self._link, name) for name in guest_names(self._link)]
        return self._of_dead_runs([(guest, _run_of_guest(guest)) for guest in guests])

    def _dead_namespaces(self) -> list[tuple[Namespace, str]]:
        """Return the namespaces that dead runs made, each with its run."""
        return self._of_dead_runs([(each, run_of(each)) for each in self._host.ndctl.inventory().namespaces])

    def _of_dead_runs(self, found: Iterable[tuple[T, str]]) -> list[tuple[T, str]]:
        """Return the objects that dead runs made, each with its run.

        Read the leases after the marks, because a run takes its lease before it marks any object.

        Args:
            found: The objects, each with the id of the run that made it, or an empty text.

        Raises:
            UnknownHolderError: A lease is held but its record is unreadable, so any run may be alive.
        """
        made = [(each, run_id) for each, run_id in found if run_id]
        living = living_runs(self._leases.entries()) if made else set()
        return [(each, run_id) for each, run_id in made if run_id not in living]

    def _destroy(self, namespace: Namespace) -> None:
        try:
            self._host.dax.release(namespace)
            found = writable(self._host, namespace)
            if found.device:
                wipe_namespace(self._host, found)
            self._host.namespaces.destroy(found)
        except NotFoundError:
            # The namespace may be gone already.
            if any(is_namespace(each, namespace) for each in self._host.ndctl.inventory().namespaces):
                raise
        if namespace.label_uuid:
            self._leases.remove_stale([namespace.label_uuid])

    def _destroy_cxl_region(self, region: CxlRegion) -> None:
        # The region may be gone already.
        with suppress(NotFoundError):
            self._host.cxl.destroy_region(region)

    def _release_claim(self, entry: Entry) -> None:
        """Release a namespace that a dead holder had claimed: wipe the namespace and remove its lease record."""
        namespaces = {namespace.label_uuid: namespace for namespace in self._host.ndctl.inventory().namespaces}
        if entry.key not in namespaces:
            self._leases.remove_stale([entry.key])
            return
        if entry.unfit:
            self._leases.remove_stale([entry.key])
        try:
            self._leases.take([[entry.key]])
        except LeasesHeldError:
            # Another worker has claimed the namespace meanwhile, and cleans it.
            return
        try:
            self.clean_namespace(namespaces[entry.key], entry.holder)
        except VpmemError as error:
            self._leases.release_as_unfit(entry.key, str(error).splitlines()[0])
            raise
        self._leases.release([entry.key])


def _run_of_guest(guest: Guest) -> str:
    """Return the id of the run that made a guest. Return an empty text if no run made it, or if the guest is gone."""
    try:
        return guest.made_by()
    except LibvirtError as error:
        if error.code != NO_DOMAIN:
            raise
        return ""


def _remove_when_unused(what: str, remove: Callable[[], None]) -> None:
    def removed() -> bool:
        remove()
        return True

    poll(removed, f"{what} to be unused", timeout=_BUSY_TIMEOUT, interval=_POLL, retry_on=BusyError)


def _unmount(host: Host, mount: Mount) -> None:
    unmount(host, mount)
