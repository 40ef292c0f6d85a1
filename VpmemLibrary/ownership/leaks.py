"""Record the state of a host before and after a run, and describe the difference."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import Mount
from VpmemLibrary.leases.leases import Entry, is_namespace_key, region_key
from VpmemLibrary.ownership.mounts import is_made
from VpmemLibrary.pmem.media.injected import read_injected
from VpmemLibrary.pmem.records import Inventory, Namespace, Region
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import Transport, query
from VpmemLibrary.visible import one_line

QEMU_DIRECTORY = "/var/lib/libvirt/qemu"
"""A directory whose owner is the user that runs QEMU. The name of this user depends on the distribution."""

FILES = ("/var/lib/libvirt/images", QEMU_DIRECTORY, "/var/lib/vpmem", "/etc/ndctl/keys")
"""The directories in which only root and libvirt create files. Guests and suites may leave files here."""

SHARED = "/dev/shm"  # noqa: S108
"""A directory in which every user of the host creates files.

A run's files here belong to root, to QEMU's user, or to the user that runs the library's commands.
"""

TEMPORARY = "/tmp"  # noqa: S108
"""A directory like `SHARED`, in which only the files with a name from mktemp count."""

# Names are separated by NUL, because a name may contain any other byte. Exit status 1 of find is ignored: a file
# vanished meanwhile, or a directory is unreadable. A run causes neither.
# The records of leases are left out, because `HostState.leases` has them. The directories qmp-XXXXXX are left out:
# libvirt may make such a directory at any time to ask a QEMU for its features (qemu_process.c, qemuProcessQMPInit).
_SCRIPT = r"""
looked() { [ "$1" -le 1 ] || exit "$1"; }
qemu=$1 shared=$2 temporary=$3
shift 3
for place; do
    [ ! -d "$place" ] || find "$place" -xdev -mindepth 1 ! -path '/var/lib/vpmem/leases*' \
        ! -path '/var/lib/libvirt/qemu/qmp-??????' ! -path '/var/lib/libvirt/qemu/qmp-??????/*' -print0 || looked "$?"
done
set -- -user 0 -o -user "$(id -u)"
[ ! -d "$qemu" ] || set -- "$@" -o -user "$(stat -c %u "$qemu")"
[ ! -d "$shared" ] || find "$shared" -xdev -mindepth 1 -type d ! \( "$@" \) -prune -o \( "$@" \) -print0 || looked "$?"
find "$temporary" -xdev -mindepth 1 -maxdepth 1 -name 'tmp.*' \( "$@" \) -print0 || looked "$?"
exit 0
"""


class HostState(Struct, frozen=True):
    """The state of a host at one moment.

    Args:
        available: The free size of each region.
        namespaces: A description of each namespace, by the UUID of its label, or by its device if it has no label.
        domains: The names of the libvirt domains.
        mounts: The mounts of namespaces, and the mounts at mount points that runs made.
        files: The files and directories that guests and suites may have left; see `left_files`.
        leases: For each namespace with a lease record, by its key: a description of the holder.
        unlabeled: For each region without labels: the key of its only namespace in `namespaces`.
        bad_blocks: The bad blocks of the regions.
        smart: For each DIMM that supports injections: the SMART values that can be injected.
        regions: The name of each region in this state, by what identifies the region after a boot of the host.
    """

    available: Mapping[str, Size]
    namespaces: Mapping[str, str]
    domains: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    leases: Mapping[str, str] = field(default_factory=dict)
    unlabeled: Mapping[str, str] = field(default_factory=dict)
    bad_blocks: frozenset[str] = frozenset()
    smart: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        host: Host,
        domains: Iterable[str] = (),
        entries: Iterable[Entry] = (),
        regions: Mapping[str, str] | None = None,
    ) -> HostState:
        """Return the current state of a host.

        Args:
            host: The host.
            domains: The names of its libvirt domains.
            entries: The records of its leases.
            regions: The names of the regions in an earlier state, with which this one is compared. After a boot of the
                host, a region may have another number.
        """
        inventory = host.ndctl.inventory()
        injected = read_injected(host.ndctl, inventory)
        names = _names(inventory, regions or {})
        return replace(
            cls.of(inventory, domains, host.mounts.all(), regions),
            files=left_files(host.transport),
            leases={entry.key: entry.description for entry in entries if is_namespace_key(entry.key)},
            unlabeled={names[region.dev]: _only(region) for region in host.regions.unlabeled(inventory)},
            bad_blocks=frozenset(f"{bad} in {names.get(region, region)}" for region, bad in injected.bad_blocks),
            smart={
                dimm: ", ".join(f"{name} {value}" for name, value in values.items())
                for dimm, values in injected.smart.items()
            },
        )

    @classmethod
    def of(
        cls,
        inventory: Inventory,
        domains: Iterable[str] = (),
        mounts: Iterable[Mount] = (),
        regions: Mapping[str, str] | None = None,
    ) -> HostState:
        """Return the state in an inventory, with the given domains, mounts and names of regions; see `read`."""
        names = _names(inventory, regions or {})
        nodes = {namespace.blockdev for namespace in inventory.namespaces if namespace.blockdev}
        return cls(
            available={names[region.dev]: region.available_size for region in inventory.regions},
            namespaces={
                _identity(namespace): (
                    f"{namespace.name or namespace.dev} in {names.get(namespace.region, namespace.region)}: "
                    f"{namespace.mode or 'no mode'}, "
                    f"{namespace.size}, {namespace.state or 'active'}, UUID {namespace.label_uuid or 'none'}"
                )
                for namespace in inventory.namespaces
            },
            domains=frozenset(domains),
            mounts=frozenset(str(mount) for mount in mounts if mount.node in nodes or is_made(mount)),
            regions={_identity_of_region(region, inventory): names[region.dev] for region in inventory.regions},
        )

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """The amounts of this state, as rows of a table."""
        return (
            ("free", str(Size(sum(self.available.values())))),
            ("namespaces", str(len(self.namespaces))),
            ("domains", str(len(self.domains))),
            ("mounts", str(len(self.mounts))),
            ("files", str(len(self.files))),
            ("leases", str(len(self.leases))),
            ("bad blocks", str(len(self.bad_blocks))),
        )

    def labeled_in(self, after: HostState) -> tuple[str, ...]:
        """Return the regions that have labels only in the later state. Suites may have initialised these labels."""
        return tuple(sorted(self.unlabeled.keys() - after.unlabeled.keys() & after.available.keys()))

    def with_labels(self, after: HostState) -> HostState:
        """Return this state as if the regions of `labeled_in` had always had labels.

        Take the free size of these regions from the later state. A namespace that a run left in such a region is still
        in the difference.
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
        """Describe in one line each what a later state added, removed or changed. No lines mean no difference.

        A line shows control characters in a name, such as a line feed, as numbers.
        """
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
            ("bad block", self.bad_blocks, after.bad_blocks),
        ):
            lines += [f"leaked: {what} {name}" for name in sorted(now - before)]
            lines += [f"gone: {what} {name}" for name in sorted(before - now)]
        lines += [
            f"leaked: lease of {key}, {description}"
            for key, description in after.leases.items()
            if key not in self.leases
        ]
        lines += [
            f"changed: free in {region}: {_size_text(self.available.get(region))}, "
            f"now {_size_text(after.available.get(region))}"
            for region in sorted({*self.available, *after.available})
            if self.available.get(region) != after.available.get(region)
        ]
        lines += [
            f"changed: SMART values of {dimm}: {values}; now {after.smart[dimm]}"
            for dimm, values in self.smart.items()
            if after.smart.get(dimm, values) != values
        ]
        return tuple(map(one_line, lines))


def left_files(
    transport: Transport,
    places: Sequence[str] = FILES,
    *,
    shared: str = SHARED,
    temporary: str = TEMPORARY,
    qemu: str = QEMU_DIRECTORY,
) -> frozenset[str]:
    """Return the files and directories that guests and suites may have left on a machine.

    Args:
        transport: The transport to the machine.
        places: Directories in which every file counts.
        shared: A directory in which the files of other users do not count; see `SHARED`.
        temporary: A directory like `shared`; see `TEMPORARY`.
        qemu: A directory whose owner is the user that runs QEMU.

    Raises:
        ToolMissingError: The machine has no find.
        CommandError: The search on the machine failed.
    """
    result = transport.run(query(_SCRIPT, qemu, shared, temporary, *places)).check()
    return frozenset(os.fsdecode(name) for name in result.stdout.split(b"\0") if name)


def _identity(namespace: Namespace) -> str:
    return namespace.label_uuid or namespace.dev


def _names(inventory: Inventory, known: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each region, by its device: its known name, or else the device.

    A region keeps its device and gets another cookie when its labels are initialised in another version.
    """
    names = {
        region.dev: known[identity]
        for region in inventory.regions
        if (identity := _identity_of_region(region, inventory)) in known
    }
    taken = {*names.values()}
    new = (region.dev for region in inventory.regions if region.dev not in names)
    return names | {device: f"{device} (new)" if device in taken else device for device in new}


def _identity_of_region(region: Region, inventory: Inventory) -> str:
    """Return the key of the region's leases, or the device if regions share the key."""
    keys = [region_key(each) for each in inventory.regions]
    key = region_key(region)
    return key if keys.count(key) == 1 else region.dev


def _only(region: Region) -> str:
    """Return the identity of the only namespace of a region without labels; empty while the region is disabled."""
    return _identity(region.namespaces[0]) if region.namespaces else ""


def _size_text(size: Size | None) -> str:
    return "no such region" if size is None else str(size)
