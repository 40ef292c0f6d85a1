"""ndctl on one machine: list the devices and run ndctl commands.

Every reading is a fresh listing. The modules `namespaces` and `regions` contain the changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from VpmemLibrary.errors import (
    AmbiguousError,
    NotFoundError,
    UnsupportedError,
)
from VpmemLibrary.pmem.decode import DAX_LIST_COMMAND, LIST_COMMAND, decode_dax_devices, decode_inventory
from VpmemLibrary.pmem.guard import Guard, Target
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import DaxDevice, Dimm, Inventory, Namespace, Region
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Transport, query

Item = TypeVar("Item", Region, Dimm)

_DEVICE = r"(?a)namespace[0-9]+\.[0-9]+"
_LABELED = "5"  # ND_DEVICE_NAMESPACE_PMEM, linux/ndctl.h: the region's namespaces come from labels
_NSTYPES = r"""
for region in "$@"; do
    type= read_only=
    read -r type <"/sys/bus/nd/devices/$region/nstype"
    { read -r read_only <"/sys/bus/nd/devices/$region/read_only"; } 2>/dev/null
    printf '%s %s %s\n' "$region" "$type" "$read_only"
done
"""


class Ndctl:
    """ndctl on one machine.

    Args:
        transport: The transport to the machine: a host or a guest.
        timeout: Seconds that one ndctl command may take.

    Example::

        ndctl = Ndctl(transport)
        for namespace in ndctl.inventory().namespaces:
            print(namespace.uuid, namespace.mode, namespace.size)
    """

    def __init__(self, transport: Transport, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.transport = transport
        self.timeout = timeout
        self.guard = Guard(transport)

    # Listings

    def inventory(self) -> Inventory:
        """Return all buses, DIMMs, regions and namespaces, also those that are disabled.

        Raises:
            ToolMissingError: ndctl is not installed.
            UnreadableOutputError: ndctl printed something other than its JSON.
            CommandError: ndctl failed.
        """
        return decode_inventory(checked(self.run(LIST_COMMAND), "list the inventory"))

    def namespace(self, which: Namespace | str) -> Namespace:
        """Return one namespace from a fresh listing.

        Args:
            which: The namespace's record, UUID, device name or name. A record is matched by its label UUID, because
                device names change between boots. A record without a label is matched by its device name.

        Raises:
            NotFoundError: The namespace does not exist. The message lists the existing namespaces.
            AmbiguousError: Several namespaces have that name.
        """
        namespaces = self.inventory().namespaces
        found = [namespace for namespace in namespaces if is_namespace(namespace, which)]
        if len(found) > 1:
            each = ", ".join(f"{namespace.dev} (UUID {namespace.label_uuid or namespace.uuid})" for namespace in found)
            raise AmbiguousError(
                f"{len(found)} namespaces on {self.transport.name} are called {which!r}: {each}. "
                "Give its UUID or device name."
            )
        if not found:
            there = [f"{ns.called} {ns.uuid}".rstrip() for ns in namespaces]
            raise NotFoundError("namespace", _asked(which), there, where=self.transport.name)
        return found[0]

    def region(self, which: Region | str) -> Region:
        """Return one region from a fresh listing.

        Args:
            which: The region's record or name, e.g. ``region0``.

        Raises:
            NotFoundError: The region does not exist. The message lists the existing regions.
        """
        return self._one("region", _asked(which), self.inventory().regions)

    def regions_beside(self, which: Region | str, listed: Inventory | None = None) -> tuple[Region, ...]:
        """Return one region, followed by every other region that shares a DIMM with it.

        Args:
            which: The region's record or name.
            listed: A recent listing to use. By default, the method lists again.

        Raises:
            NotFoundError: The region does not exist.
        """
        regions = (listed or self.inventory()).regions
        found = self._one("region", _asked(which), regions)
        dimms = set(found.dimms)
        return (found, *(each for each in regions if each.dev != found.dev and dimms & set(each.dimms)))

    def dimm(self, which: Dimm | str, listed: Inventory | None = None) -> Dimm:
        """Return one DIMM from a fresh listing.

        Args:
            which: The DIMM's record or name, e.g. ``nmem0``.
            listed: A recent listing to use. By default, the method lists again.

        Raises:
            NotFoundError: The DIMM does not exist. The message lists the existing DIMMs.
        """
        return self._one("DIMM", _asked(which), (listed or self.inventory()).dimms)

    def dax_devices(self) -> tuple[DaxDevice, ...]:
        """Return every device-DAX instance that daxctl lists.

        Raises:
            ToolMissingError: daxctl is not installed.
            UnreadableOutputError: daxctl printed something other than its JSON.
        """
        return decode_dax_devices(self.run(DAX_LIST_COMMAND).check())

    # Running commands

    def run(self, command: Iterable[str], *, stdin: bytes = b"") -> CommandResult:
        """Run a command on the machine within this object's timeout. Return the result even if the command fails."""
        return self.transport.run(list(command), timeout=self.timeout, stdin=stdin)

    def change(
        self,
        command: Sequence[str],
        *targets: Target,
        must_be_unused: bool = False,
        timeout: float | None = None,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Run a command that makes a change, under the guard. See `Guard.run`.

        Args:
            command: The command, one item per argument.
            targets: The targets that the command changes.
            must_be_unused: Refuse the change if a target is in use.
            timeout: Seconds for the whole call. The default is this object's timeout.
            stdin: The bytes that the command reads from standard input.

        Raises:
            NotFoundError: A target no longer exists. Nothing was changed.
            BusyError: A target is in use, or its region stayed locked. Nothing was changed.
            LeaseLostError: The caller has lost one of its leases. Nothing was changed.
            CommandTimeoutError: The command did not end within `timeout`.
        """
        seconds = self.timeout if timeout is None else timeout
        return self.guard.run(command, *targets, must_be_unused=must_be_unused, timeout=seconds, stdin=stdin)

    def labeled(self, regions: Iterable[Region]) -> set[str]:
        """Return the names of the regions among `regions` that take their namespaces from labels."""
        return {name for name, (nstype, _) in self._kinds(regions).items() if nstype == _LABELED}

    def read_only(self, regions: Iterable[Region]) -> set[str]:
        """Return the names of the read-only regions among `regions`. ndctl does not list this property."""
        return {name for name, (_, read_only) in self._kinds(regions).items() if read_only == "1"}

    def require_namespace_support(self, region: Region) -> None:
        """Raise if no namespace can be created in a region.

        Raises:
            UnsupportedError: The region is disabled, is read-only, is not persistent memory, or has no labels. The
                message says how to fix it.
        """
        where = f"{region.dev} on {self.transport.name}"
        if not region.holds_namespaces:
            raise UnsupportedError(
                f"{where} is of type {region.type}, so no namespace can be created in it. Use a region of type pmem."
            )
        if region.state == "disabled":
            raise UnsupportedError(f"{where} is disabled: enable it first.")
        nstype, read_only = self._kinds([region])[region.dev]
        if read_only == "1":
            raise UnsupportedError(
                f"{where} is read-only, so no namespace can be created in it. A DIMM of the region failed to arm (flag "
                "failed_arm), or the host of this guest made the region read-only. Use another region."
            )
        if nstype == _LABELED:
            return
        fix = (
            "Initialize its labels first (initialize_labels). This destroys the content of its only namespace."
            if region.dimms
            else f"Its provider {region.provider} has no label area: use or reconfigure its only namespace."
        )
        raise UnsupportedError(f"{where} has no labels, so no namespace can be created in it. {fix}")

    def _kinds(self, regions: Iterable[Region]) -> dict[str, tuple[str, str]]:
        """Return the kernel's `nstype` and `read_only` values for each region."""
        names = [region.dev for region in regions]
        if not names:
            return {}
        result = self.run(query(_NSTYPES, *names)).check("The kernel has no such region")
        found = {}
        for line in result.lines:
            name, _, kinds = line.partition(" ")
            nstype, _, read_only = kinds.partition(" ")
            found[name] = (nstype, read_only)
        return {name: found.get(name, ("", "")) for name in names}

    def _one(self, what: str, asked: str, items: tuple[Item, ...]) -> Item:
        for item in items:
            if item.dev == asked:
                return item
        raise NotFoundError(what, asked, [item.dev for item in items], where=self.transport.name)


def _asked(which: Namespace | Region | Dimm | str) -> str:
    return which if isinstance(which, str) else (getattr(which, "label_uuid", "") or which.dev)


def is_namespace(namespace: Namespace, which: Namespace | str) -> bool:
    """Return whether a listed namespace matches `which`. See `Ndctl.namespace`."""
    if isinstance(which, Namespace):
        if which.label_uuid:
            return namespace.label_uuid == which.label_uuid
        return namespace.dev == which.dev
    if re.fullmatch(_DEVICE, which):
        return namespace.dev == which
    if is_uuid(which):
        return which.lower() in (namespace.label_uuid, namespace.uuid)
    return bool(which) and namespace.name == which


def is_uuid(text: str) -> bool:
    """Return whether ndctl accepts a text as a UUID."""
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None
