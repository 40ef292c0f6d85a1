"""Find the run that a mount belongs to: the run that marked the mount point, or that made the mounted namespace."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable

from VpmemLibrary.errors import ForeignError, VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import Mount
from VpmemLibrary.ownership.marks import RunMark, run_of
from VpmemLibrary.pmem.records import Namespace

_POINT = r"(?a)/run/vpmem-([0-9a-f]{8})-[0-9a-f]{6}"
# The beginning of the name of every namespace's block device (kernel, drivers/nvdimm/namespace_devs.c).
_NODE = "pmem"


def new_mount_point(run: RunMark) -> str:
    """Return a new unique mount point with a run's id in its name, e.g. ``/run/vpmem-0123abcd-5f0e6d``."""
    return f"/run/vpmem-{run.run_id}-{secrets.token_hex(3)}"


def is_made(mount: Mount) -> bool:
    """Return whether a run made the mount point. `unmount` removes such a mount point."""
    return re.fullmatch(_POINT, mount.mount_point) is not None


def mount_run(mount: Mount, namespaces: Iterable[Namespace]) -> str:
    """Return the id of the run that a mount belongs to. Return an empty text if the mount belongs to no run.

    Args:
        mount: The mount.
        namespaces: The namespaces of the mount's host.
    """
    if made := re.fullmatch(_POINT, mount.mount_point):
        return made[1]
    return next((run_of(each) for each in namespaces if each.blockdev and each.blockdev == mount.node), "")


def mounts_of_runs(host: Host) -> list[tuple[Mount, str]]:
    """Return every mount of a host that belongs to a run, with the run's id. The latest mount comes first."""
    mounts = [mount for mount in reversed(host.mounts.all()) if is_made(mount) or mount.node.startswith(_NODE)]
    namespaces = host.ndctl.inventory().namespaces if mounts else ()
    made = [(mount, mount_run(mount, namespaces)) for mount in mounts]
    return [(mount, maker) for mount, maker in made if maker]


def require_own_mount(run: RunMark, mount: Mount, namespaces: Iterable[Namespace]) -> None:
    """Raise unless a mount belongs to this run.

    Raises:
        ForeignError: The mount belongs to another run, or to no run.
    """
    maker = mount_run(mount, namespaces)
    if maker != run.run_id:
        made = f"run {maker} made it" if maker else "no run made it"
        raise ForeignError(
            f"{mount} is not this run's own: {made}, and this is run {run.run_id}. Nothing was changed. Use "
            "foreign=True to unmount it anyway."
        )


def unmount(host: Host, mount: Mount) -> Mount:
    """Unmount a file system. Remove its mount point if a run made the mount point.

    Raises:
        NotFoundError: The mount is gone.
        BusyError: The mount is in use.
        CommandError: The unmount failed.
    """
    return host.mounts.unmount(mount, remove=is_made(mount))


def unmount_owned(host: Host, run: RunMark) -> tuple[Mount, ...]:
    """Unmount all mounts of a host that belong to a run, and return them; see `unmount_of`."""
    return unmount_of(host, lambda maker: maker == run.run_id)


def unmount_of(host: Host, wanted: Callable[[str], bool]) -> tuple[Mount, ...]:
    """Unmount all mounts of a host that belong to certain runs, and return them. The latest mount comes first.

    Try all mounts, then raise the first failure. Never unmount a mount that belongs to no run.

    Args:
        host: The host.
        wanted: Returns whether to unmount the mounts of a run. Its argument is the run's id.

    Raises:
        BusyError: A mount is in use.
    """
    unmounted, failures = [], []
    for mount, maker in mounts_of_runs(host):
        if not wanted(maker):
            continue
        try:
            unmounted.append(unmount(host, mount))
        except VpmemError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return tuple(unmounted)
