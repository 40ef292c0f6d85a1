"""Keywords that move a guest to another host."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace
from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest import readiness
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.migration import Destination, migrate
from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of
from VpmemLibrary.ownership.cleanup import wipe_namespace
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session


class MigrationKeywords:
    """Keywords for the migration of guests."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest", "destructive"))
    def migrate_guest(
        self,
        guest: Guest | str,
        host: str,
        vpmem: Namespace | str | list[Namespace | str],
        *,
        live: bool = True,
        wipe_source: bool = False,
        foreign: bool = False,
        timeout: timedelta = READY_TIMEOUT,
    ) -> Guest:
        """Migrate a guest and its persistent memory from the current host to another open host.

        The other host becomes the current host. A live migration copies the RAM and the bytes of every device while the
        guest continues to run. The guest does not reboot. An offline migration moves only the definition of a guest
        that is off, and copies no bytes of its devices. The library checks the namespaces on the target before it
        changes anything. If libvirt or QEMU refuses the migration, the guest stays on its host in its previous state.

        Args:
            guest: The guest or its name, on the current host.
            host: The alias of the target host.
            vpmem: The backings on the target host: one namespace or path for each device of the guest, in order. One
                value or a list.
            live: Whether to migrate a running guest. Use `False` for a guest that is off.
            wipe_source: Overwrite the namespaces on the source with zeros after the guest has arrived, if nobody uses
                the namespaces then. The library finds the namespaces by their UUIDs. Without `wipe_source` the
                namespaces keep the bytes that they had when the guest left.
            foreign: Allow a migration of a guest that this run did not make. With `wipe_source`, also allow to wipe
                namespaces that this run did not make.
            timeout: How long to wait until the guest is ready on the target. A migration that takes longer is aborted.

        Returns:
            The guest on the target host.

        Raises:
            NotFoundError: There is no such guest, host or namespace.
            ForeignError: This run did not make the guest or a namespace to wipe, and `foreign` is not set.
            InvalidValueError: A namespace on the target cannot back its device, or another running guest uses the
                namespace.
            LibvirtError: libvirt or QEMU refused the migration. The guest is on its previous host.
            LibvirtTimeoutError: The guest did not move in time. The message reports the guest's state on both hosts.
            GuestError: The guest is off and `live` is set, the guest runs and `live` is not set, or the guest was not
                ready on the target in time.

        Example:

        ```robotframework
        *** Test Cases ***
        To The Other Host
            Switch Host    left
            ${moved} =    Migrate Guest    ${guest}    right    vpmem=ns_on_right
            Guest Pattern Should Be Intact    ${moved}    seed=written on the left    length=16MiB
        ```
        """
        source, target = self._session.current, self._session.find(host)
        if target is source:
            raise InvalidValueError("host", host, "an open host other than the host of the guest")
        found = source.guests.find(guest)
        if not foreign:
            found.require_made_by(self._session.run.run_id)
        # Remember the UUIDs: after the migration, another namespace may have the same path.
        left = [
            own_target_of(self._session, device.path, foreign=foreign)
            for device in (found.devices if wipe_source else ())
        ]
        seconds = timeout.total_seconds()
        with libvirt_deadline(seconds):
            self._session.switch(host)
            try:
                listed = vpmem if isinstance(vpmem, list) else [vpmem]
                backings = [path_of(self._session, each) for each in listed]
                destination = Destination(
                    target.host.transport, target.guests.link, target.guests.defaults.migration_address
                )
                moved = migrate(found, destination, backings, live=live, timeout=seconds)
            except BaseException:
                self._session.switch(source.host.alias)
                raise
            source.guests.forget(found.name)
            arrived = target.guests.adopt(found.name, tuple(replace(device, alias="") for device in moved))
            if live:
                readiness.wait_until_ready(arrived, seconds)
        logger.info(f"Guest {found.name} went from {source.host.alias} to {host}.")
        for each in left:
            _wipe(source, each)
        return arrived


def _wipe(source: OpenHost, left: Namespace | str) -> None:
    if isinstance(left, str):
        source.host.content.wipe(left, must_be_unused=True)
    else:
        wipe_namespace(source.host, source.host.ndctl.namespace(left))
