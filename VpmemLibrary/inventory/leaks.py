"""What is on a host before and after, and the difference in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import Mount
from VpmemLibrary.host.transport import query
from VpmemLibrary.inventory.leases import Entry, is_namespace_key
from VpmemLibrary.inventory.mount_ownership import is_made
from VpmemLibrary.model import Inventory, Namespace, Region
from VpmemLibrary.sizes import Size

FILES = ("/var/lib/libvirt/images", "/var/lib/libvirt/qemu", "/var/lib/vpmem", "/dev/shm")  # noqa: S108
"""Where files of guests and suites lie that could be forgotten; in ``/tmp`` it is those that mktemp named."""

# The records of leases are told by what they say. libvirt has a directory qmp-XXXXXX while it asks a QEMU what it can
# do, whenever it sees fit (qemu_process.c, qemuProcessQMPInit).
_SCRIPT = r"""
for place; do
    [ ! -d "$place" ] || find "$place" -xdev -mindepth 1 -not -path '/var/lib/vpmem/leases*' \
        -not -path '/var/lib/libvirt/qemu/qmp-??????' -not -path '/var/lib/libvirt/qemu/qmp-??????/*'
done
find /tmp -xdev -mindepth 1 -maxdepth 1 -name 'tmp.*'
"""


@dataclass(frozen=True, slots=True)
class HostState:
    """One look at a host.

    Args:
        available: For each region, how much of it is free.
        namespaces: For each namespace its identity (label UUID, or device where there is no label) and what it is.
        domains: The names of the libvirt domains.
        mounts: The mounts of namespaces, and those at mount points that runs made.
        files: The files and directories in `FILES`.
        leases: For each namespace that is held, was left or is unfit, by whom.
        unlabeled: For each region without labels its one namespace, by its identity in `namespaces`.
    """

    available: Mapping[str, Size]
    namespaces: Mapping[str, str]
    domains: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    leases: Mapping[str, str] = field(default_factory=dict)
    unlabeled: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, host: Host, domains: Iterable[str] = (), entries: Iterable[Entry] = ()) -> HostState:
        """Return how a host is now.

        Args:
            host: The host.
            domains: The names of its libvirt domains.
            entries: The records of its leases.
        """
        files = host.run(query(_SCRIPT, *FILES)).check().lines
        inventory = host.ndctl.inventory()
        return replace(
            cls.of(inventory, domains, host.mounts.all()),
            files=frozenset(files),
            leases={entry.key: entry.told for entry in entries if is_namespace_key(entry.key)},
            unlabeled={region.dev: _only(region) for region in host.regions.unlabeled(inventory)},
        )

    @classmethod
    def of(cls, inventory: Inventory, domains: Iterable[str] = (), mounts: Iterable[Mount] = ()) -> HostState:
        """Return the state that an inventory shows, with what there is besides."""
        nodes = {namespace.blockdev for namespace in inventory.namespaces if namespace.blockdev}
        return cls(
            available={region.dev: region.available_size for region in inventory.regions},
            namespaces={
                _identity(namespace): (
                    f"{namespace.name or namespace.dev} in {namespace.region}: {namespace.mode or 'no mode'}, "
                    f"{namespace.size}, {namespace.state or 'active'}, UUID {namespace.label_uuid or 'none'}"
                )
                for namespace in inventory.namespaces
            },
            domains=frozenset(domains),
            mounts=frozenset(str(mount) for mount in mounts if mount.node in nodes or is_made(mount)),
        )

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """How much there is of each, as rows of a table."""
        return (
            ("free", str(Size(sum(self.available.values())))),
            ("namespaces", str(len(self.namespaces))),
            ("domains", str(len(self.domains))),
            ("mounts", str(len(self.mounts))),
            ("files", str(len(self.files))),
            ("leases", str(len(self.leases))),
        )

    def labeled_in(self, after: HostState) -> tuple[str, ...]:
        """Return the regions that had no labels, and have them in a later state: suites may have initialised them."""
        return tuple(sorted(self.unlabeled.keys() - after.unlabeled.keys() & after.available.keys()))

    def with_labels(self, after: HostState) -> HostState:
        """Return this state as if those regions had had their labels before: what is free there is what is free now.

        So a namespace that is left in one of them is still more than there was.
        """
        labeled = self.labeled_in(after)
        raw = {self.unlabeled[region] for region in labeled}
        return replace(
            self,
            available={**self.available, **{region: after.available[region] for region in labeled}},
            namespaces={key: what for key, what in self.namespaces.items() if key not in raw},
            unlabeled={region: key for region, key in self.unlabeled.items() if region not in labeled},
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
        for what, before, now in (
            ("domain", self.domains, after.domains),
            ("file", self.files, after.files),
            ("mount of", self.mounts, after.mounts),
        ):
            lines += [f"leaked: {what} {name}" for name in sorted(now - before)]
            lines += [f"gone: {what} {name}" for name in sorted(before - now)]
        lines += [f"leaked: lease of {key}, {told}" for key, told in after.leases.items() if key not in self.leases]
        lines += [
            f"changed: free in {region}: {_told(self.available.get(region))}, now {_told(after.available.get(region))}"
            for region in sorted({*self.available, *after.available})
            if self.available.get(region) != after.available.get(region)
        ]
        return tuple(lines)


def _identity(namespace: Namespace) -> str:
    return namespace.label_uuid or namespace.dev


def _only(region: Region) -> str:
    """Return the identity of the namespace that fills a region without labels; empty while the region is disabled."""
    return _identity(region.namespaces[0]) if region.namespaces else ""


def _told(size: Size | None) -> str:
    return "no such region" if size is None else str(size)
