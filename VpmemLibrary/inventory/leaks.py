"""What is on a host before and after, and the difference in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import Mount
from VpmemLibrary.inventory.mount_ownership import is_made
from VpmemLibrary.model import Inventory
from VpmemLibrary.sizes import Size


@dataclass(frozen=True, slots=True)
class HostState:
    """One look at a host.

    Args:
        available: For each region, how much of it is free.
        namespaces: For each namespace its identity (label UUID, or device where there is no label) and what it is.
        domains: The names of the libvirt domains.
        mounts: The mounts of namespaces, and those at mount points that runs made.
    """

    available: Mapping[str, Size]
    namespaces: Mapping[str, str]
    domains: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()

    @classmethod
    def read(cls, host: Host, domains: Iterable[str] = ()) -> HostState:
        """Return how a host is now.

        Args:
            host: The host.
            domains: The names of its libvirt domains.
        """
        return cls.of(host.ndctl.inventory(), domains, host.mounts.all())

    @classmethod
    def of(cls, inventory: Inventory, domains: Iterable[str] = (), mounts: Iterable[Mount] = ()) -> HostState:
        """Return the state that an inventory shows, with what there is besides."""
        nodes = {namespace.blockdev for namespace in inventory.namespaces if namespace.blockdev}
        return cls(
            available={region.dev: region.available_size for region in inventory.regions},
            namespaces={
                namespace.label_uuid or namespace.dev: (
                    f"{namespace.name or namespace.dev} in {namespace.region}: {namespace.mode or 'no mode'}, "
                    f"{namespace.size}, {namespace.state or 'active'}, UUID {namespace.label_uuid or 'none'}"
                )
                for namespace in inventory.namespaces
            },
            domains=frozenset(domains),
            mounts=frozenset(str(mount) for mount in mounts if mount.node in nodes or is_made(mount)),
        )

    def difference(self, after: HostState) -> tuple[str, ...]:
        """Return what is more, less or other in a later state, a line each; nothing when they are the same."""
        lines = [f"leaked: namespace {after.namespaces[key]}" for key in after.namespaces if key not in self.namespaces]
        lines += [f"gone: namespace {what}" for key, what in self.namespaces.items() if key not in after.namespaces]
        lines += [
            f"changed: namespace {what}; it is now {after.namespaces[key]}"
            for key, what in self.namespaces.items()
            if after.namespaces.get(key, what) != what
        ]
        lines += [f"leaked: domain {name}" for name in sorted(after.domains - self.domains)]
        lines += [f"gone: domain {name}" for name in sorted(self.domains - after.domains)]
        lines += [f"leaked: mount of {mount}" for mount in sorted(after.mounts - self.mounts)]
        lines += [f"gone: mount of {mount}" for mount in sorted(self.mounts - after.mounts)]
        lines += [
            f"changed: free in {region}: {_told(self.available.get(region))}, now {_told(after.available.get(region))}"
            for region in sorted({*self.available, *after.available})
            if self.available.get(region) != after.available.get(region)
        ]
        return tuple(lines)


def _told(size: Size | None) -> str:
    return "no such region" if size is None else str(size)
