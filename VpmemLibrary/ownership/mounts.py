"""Whose a mount is: that of the run whose mark its mount point carries, or whose namespace is mounted."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable

from VpmemLibrary.errors import ForeignError, VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import Mount
from VpmemLibrary.ownership.marks import RunMark, run_of
from VpmemLibrary.pmem.records import Namespace

_POINT = re.compile(r"/run/vpmem-([0-9a-f]{8})-[0-9a-f]{6}", re.ASCII)
_NODE = "pmem"  # how the kernel calls the block device of every namespace: drivers/nvdimm/namespace_devs.c


def new_mount_point(run: RunMark) -> str:
    """Return a mount point that nothing else has and that tells a run, e.g. ``/run/vpmem-0123abcd-5f0e6d``."""
    return f"/run/vpmem-{run.run_id}-{secrets.token_hex(3)}"


def is_made(mount: Mount) -> bool:
    """Whether a run made the mount point, so that it goes with the mount."""
    return _POINT.fullmatch(mount.mount_point) is not None


def mount_run(mount: Mount, namespaces: Iterable[Namespace]) -> str:
    """Return the id of the run whose a mount is; empty when it is no run's.

    Args:
        mount: The mount.
        namespaces: The namespaces of its host.
    """
    if made := _POINT.fullmatch(mount.mount_point):
        return made[1]
    return next((run_of(each) for each in namespaces if each.blockdev and each.blockdev == mount.node), "")


def mounts_of_runs(host: Host) -> list[tuple[Mount, str]]:
    """Return every mount of a host that a run made, the last mounted first, with the run's id."""
    mounts = [mount for mount in reversed(host.mounts.all()) if is_made(mount) or mount.node.startswith(_NODE)]
    namespaces = host.ndctl.inventory().namespaces if mounts else ()
    made = [(mount, mount_run(mount, namespaces)) for mount in mounts]
    return [(mount, maker) for mount, maker in made if maker]


def require_own_mount(run: RunMark, mount: Mount, namespaces: Iterable[Namespace]) -> None:
    """Raise unless a mount is a run's own.

    Raises:
        ForeignError: It is another run's, or none's.
    """
    maker = mount_run(mount, namespaces)
    if maker != run.run_id:
        made = f"run {maker} made it" if maker else "no run made it"
        raise ForeignError(
            f"{mount} is not this run's own: {made}, and this is run {run.run_id}. It was left as it is. "
            "Say foreign=True to unmount it all the same."
        )


def unmount(host: Host, mount: Mount) -> Mount:
    """Unmount one mount; a mount point that a run made goes with it.

    Raises:
        NotFoundError: It is not mounted there any more.
        BusyError: It is in use.
        CommandError: It could not be unmounted.
    """
    return host.mounts.unmount(mount, remove=is_made(mount))


def unmount_owned(host: Host, run: RunMark) -> tuple[Mount, ...]:
    """Unmount everything on a host that is a run's own, and return what it was; see `unmount_of`."""
    return unmount_of(host, lambda maker: maker == run.run_id)


def unmount_of(host: Host, wanted: Callable[[str], bool]) -> tuple[Mount, ...]:
    """Unmount everything on a host that certain runs made, the last mounted first, and return what it was.

    All of it is tried; the first failure is raised afterwards.

    Args:
        host: The host.
        wanted: Tells of a run's id whether its mounts are meant; what no run made is never unmounted.

    Raises:
        BusyError: Something is in use.
    """
    unmounted, failures = [], []
    for mount, maker in mounts_of_runs(host):
        if not wanted(maker):
            continue
        try:
            unmounted.append(unmount(host, mount))
        except VpmemError as error:  # the others go all the same; this one is told afterwards
            failures.append(error)
    if failures:
        raise failures[0]
    return tuple(unmounted)
