"""Keywords that move a guest to another host."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.channel.bounded import within
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.migration import Destination, migrate
from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.context import Context, OpenHost
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of
from VpmemLibrary.ownership.cleanup import wipe_namespace
from VpmemLibrary.pmem.records import Namespace


class MigrationKeywords:
    """Guests that go from host to host."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        """Move a guest of the current host, with its persistent memory, to another open host, which becomes current.

        A live migration copies RAM and the bytes of every device while the guest runs on; its boot goes on. An offline
        one moves the definition of a guest that is off, and no byte of a device. The target's namespaces are checked
        before anything is done; where libvirt or QEMU refuses, the guest is and runs where it was.

        Args:
            guest: The guest or its name, on the current host.
            host: The alias of the host that it goes to.
            vpmem: For each of its devices, in order, the namespace on that host (or a path); one or a list.
            live: Whether it runs and is to run on; `False` for one that is off.
            wipe_source: Overwrite the namespaces on the source with zeros once the guest has arrived, if nobody uses
                them by then. They are looked for by their UUIDs. Without it they keep what they held when it left.
            foreign: Allow it on a guest, and with `wipe_source` on namespaces, that this run did not make.
            timeout: How long it may take until the guest is ready on the target. A migration that has not ended by
                then is aborted.

        Returns:
            The guest as it is on the target.

        Raises:
            NotFoundError: There is no such guest, host or namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: A namespace on the target cannot carry its device, or is another running guest's.
            LibvirtError: libvirt or QEMU refused; the guest is where it was.
            LibvirtTimeoutError: The guest did not move in time; the message says in which state it is on either host.
            GuestError: It is off and `live` is set, or the other way round; or it was not ready there in time.

        Example:

        ```robotframework
        *** Test Cases ***
        To The Other Host
            Switch Host    left
            ${moved} =    Migrate Guest    ${guest}    right    vpmem=ns_on_right
            Guest Pattern Should Be Intact    ${moved}    seed=written on the left    length=16MiB
        ```
        """
        source, target = self._context.current, self._context.find(host)
        if target is source:
            raise InvalidValueError("host", host, "another open host than the guest's own")
        found = source.guest(guest)
        if not foreign:
            found.require_made_by(self._context.run.run_id)
        # By their UUIDs: what has such a path once the guest has arrived may be another namespace.
        left = [
            own_target_of(self._context, device.path, foreign=foreign)
            for device in (found.devices if wipe_source else ())
        ]
        seconds = timeout.total_seconds()
        with within(seconds):
            self._context.switch(host)
            try:
                listed = vpmem if isinstance(vpmem, list) else [vpmem]
                backings = [path_of(self._context, each) for each in listed]
                destination = Destination(target.host.transport, target.link, target.migration_address)
                moved = migrate(found, destination, backings, live=live, timeout=seconds)
            except BaseException:
                self._context.switch(source.host.alias)
                raise
            source.forget_guest(found.name)
            arrived = target.adopt_guest(found.name, tuple(replace(device, alias="") for device in moved))
            if live:
                arrived.wait_until_ready(seconds)
        logger.info(f"Guest {found.name} went from {source.host.alias} to {host}.")
        for each in left:
            _wipe(source, each)
        return arrived


def _wipe(source: OpenHost, left: Namespace | str) -> None:
    if isinstance(left, str):
        source.content.wipe(left, unused=True)
    else:
        wipe_namespace(source.host, source.host.ndctl.namespace(left))
