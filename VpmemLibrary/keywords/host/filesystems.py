"""Keywords for file systems on namespaces: made, mounted, and whether their files are DAX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.host.file_dax import FileDax, map_sync, read_file_dax
from VpmemLibrary.host.filesystems import FileSystem, FileSystemType, make_file_system, read_file_system
from VpmemLibrary.host.mounts import DaxOption, Mount
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of, shown_path
from VpmemLibrary.ownership.mounts import new_mount_point, require_own_mount, unmount, unmount_owned
from VpmemLibrary.pmem.records import Namespace

DAX, PAGE_CACHE = "dax", "page cache"


class FileSystemKeywords:
    """File systems, mounts, DAX, MAP_SYNC."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("filesystem", "destructive"))
    def make_file_system(
        self,
        target: Namespace | str,
        type: FileSystemType = FileSystemType.ext4,
        *,
        overwrite: bool = False,
        foreign: bool = False,
    ) -> FileSystem:
        """Make a file system that can be DAX on one namespace of the current host, or on another block device.

        Its blocks are 4 KiB, as DAX needs them; XFS is told to share none between files (`reflink=0`), and wants a
        namespace of more than 300 MiB (mkfs.xfs). That it is there is read from the device itself.

        Args:
            target: An fsdax, sector or raw namespace: its record, UUID, name or device name; or the path of a block
                device. It must be this run's own.
            type: `ext4` or `xfs`.
            overwrite: Make it though the device holds a file system, or a partition table, already.
            foreign: Allow it on what this run did not make.

        Returns:
            A record with `path`, `type` and `uuid`.

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: It is no block device, or holds something already; nothing was changed.
            BusyError: It is in use, or holds something by now; nothing was changed.
            LeaseLostError: A lease of this worker is another's now; nothing was changed.
            CommandError: It could not be made.

        Example:

        ```robotframework
        *** Test Cases ***
        A File System
            ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 512MiB
            Make File System    ${namespace}    xfs
            Get File System    ${namespace}    ==    xfs
        ```
        """
        found = own_target_of(self._context, target, foreign=foreign)
        made = make_file_system(self._context.host.ndctl.guard, found, type, overwrite=overwrite)
        logger.info(f"Made {made.type} with UUID {made.uuid} on {made.path}.")
        return made

    @keyword(tags=("filesystem", "getter"))
    def get_file_system(
        self,
        target: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the type of the file system on a block device, and assert it when an operator is given.

        It is read from the device itself by `blkid`, without its cache.

        Args:
            target: A namespace, or the path of a block device.
            assertion_operator: See *Assertions* in the introduction.
            expected: The type that is expected, e.g. `ext4`.
            message: Your own failure text.

        Returns:
            The type, or that of a partition table; empty when nothing is known on it.

        Raises:
            InvalidValueError: It is no block device.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Empty Yet
            Get File System    ${namespace}    ==    ${EMPTY}
        ```
        """
        path = path_of(self._context, target)
        found = read_file_system(self._context.host.transport, path)
        return assert_text(found.type, assertion_operator, expected, f"File system on {path}", message)

    @keyword(tags=("filesystem",))
    def mount_file_system(
        self,
        target: Namespace | str,
        *,
        dax: DaxOption = DaxOption.always,
        mount_point: str = "",
        foreign: bool = False,
    ) -> Mount:
        """Mount the file system on a namespace of the current host, or on another block device.

        That it is mounted, and with the `dax` option that was asked for, is read from the kernel's own table: XFS
        mounts with `dax=always` what cannot be DAX and turns it off in silence. That its files *are* DAX is another
        matter: see [Mount Should Be Dax]. [Clean Up Host] unmounts it.

        Args:
            target: A namespace, or the path of a block device. It must be this run's own.
            dax: `always`: every file is DAX. `inode`: those whose flag says so, which a file has from its directory.
                `never`: none, as on a sector namespace.
            mount_point: An empty directory; by default one is made in `/run`, whose name carries this run's mark and
                which goes with the mount.
            foreign: Allow it on what this run did not make. Such a mount is this run's own only at a mount point that
                the library made.

        Returns:
            A record with `mount_point`, `source`, `type`, `options`, `dax`, `device` (its number) and `node`.

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: It holds no file system, or the mount point cannot be one; nothing was changed.
            LeaseLostError: A lease of this worker is another's now; nothing was changed.
            CommandError: It could not be mounted as asked for; it is not mounted then.

        Example:

        ```robotframework
        *** Test Cases ***
        Mounted
            Make File System    ${namespace}    ext4
            ${mount} =    Mount File System    ${namespace}    dax=always
            Mount Should Be Dax    ${mount}
            Unmount File System    ${mount}
        ```
        """
        found = own_target_of(self._context, target, foreign=foreign)
        host = self._context.host
        held = read_file_system(host.transport, shown_path(found))
        self._context.current.show_alive()
        mounted = host.mounts.mount(
            found,
            held.known_type(),
            mount_point or new_mount_point(self._context.run),
            options=[f"dax={dax}"],
            make=not mount_point,
        )
        logger.info(f"Mounted {mounted} with {','.join(mounted.options)}.")
        return mounted

    @keyword(tags=("filesystem", "destructive"))
    def unmount_file_system(self, mount: Mount | str, *, foreign: bool = False) -> None:
        """Unmount one mount of the current host; a mount point that the library made goes with it.

        Args:
            mount: Its record, or its mount point. It must be this run's own: a mount of a namespace that it made, or at
                a mount point that it made.
            foreign: Allow it on a mount that is not.

        Raises:
            NotFoundError: Nothing is mounted there, or another device by now.
            LeaseLostError: A lease of this worker is another's now; nothing was changed.
            ForeignError: It is not this run's own, and `foreign` is not set.
            BusyError: It is in use; the message says by whom.

        Example:

        ```robotframework
        *** Test Cases ***
        Not Any More
            Unmount File System    /mnt
        ```
        """
        host = self._context.host
        found = host.mounts.at(_mount_point(mount))
        if not foreign:
            require_own_mount(self._context.run, found, host.ndctl.inventory().namespaces)
        logger.info(f"Unmounted {unmount(host, found)}.")

    @keyword(tags=("filesystem", "destructive"))
    def unmount_own_file_systems(self) -> None:
        """Unmount everything on the current host that is this run's own, the last mounted first; nothing else.

        Its own are the mounts of namespaces that it made, and those at mount points that it made.

        Raises:
            BusyError: Something is in use; the message says by whom. The others are unmounted.

        Example:

        ```robotframework
        *** Settings ***
        Test Teardown    Unmount Own File Systems
        ```
        """
        unmounted = unmount_owned(self._context.host, self._context.run)
        logger.info(f"Unmounted {', '.join(map(str, unmounted)) or 'nothing'}.")

    @keyword(tags=("filesystem", "getter"))
    def get_mounts(self) -> tuple[Mount, ...]:
        """Return the mounts of block devices on the current host, and show them in the log.

        Returns:
            Records with `mount_point`, `source`, `type`, `options`, `dax`, `device` (its number) and `node` (the block
            device that has that number), as the kernel's table has them.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Options
            ${mounts} =    Get Mounts
            Log    ${mounts[-1].options}
        ```
        """
        mounts = tuple(mount for mount in self._context.host.mounts.all() if mount.node)
        _log_mounts(f"Mounts of {self._context.host.alias}", mounts)
        return mounts

    @keyword(tags=("filesystem", "assertion"))
    def mount_should_be_dax(self, mount: Mount | str) -> None:
        """Fail unless new files in a mounted file system are DAX, by the word of the kernel; options prove nothing.

        A new file is written and removed again. statx must say that it is DAX (`STATX_ATTR_DAX`, kernel 5.8 and later),
        and the page cache must hold none of it.

        Args:
            mount: Its record or its mount point, or a directory or a file in it. An existing file is not changed.

        Raises:
            AssertionError: They are not DAX; the message says what the kernel says.
            ViewsDisagreeError: statx and the page cache contradict each other.
            ToolMissingError: xfs_io (xfsprogs) is not installed.

        Example:

        ```robotframework
        *** Test Cases ***
        Proven
            Mount Should Be Dax    ${mount}
        ```
        """
        found = self._read_dax(mount)
        if not found.dax:
            raise AssertionError(f"{_mount_point(mount)} on {self._context.host.alias} is not DAX: {found}.")

    @keyword(tags=("filesystem", "getter"))
    def get_file_access(
        self,
        path: Mount | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how the kernel reaches the bytes of a file, and assert it when an operator is given.

        Args:
            path: A file, which is not changed; or a mount's record, a mount point or another directory, in which a new
                file is written and removed again.
            assertion_operator: See *Assertions* in the introduction.
            expected: `dax` or `page cache`.
            message: Your own failure text.

        Returns:
            `dax` or `page cache`.

        Raises:
            ViewsDisagreeError: statx and the page cache contradict each other.
            ToolMissingError: xfs_io (xfsprogs) is not installed.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        By Its Flag
            ${mount} =    Mount File System    ${namespace}    dax=inode
            Get File Access    ${mount}    ==    page cache
        ```
        """
        found = self._read_dax(path)
        access = DAX if found.dax else PAGE_CACHE
        return assert_text(access, assertion_operator, expected, f"Access to {_mount_point(path)}", message)

    @keyword(tags=("filesystem", "getter"))
    def get_map_sync(
        self,
        path: Mount | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return whether the kernel maps a file with MAP_SYNC, and assert it when an operator is given.

        Where it does, what a program writes through the mapping and flushes from the processor's caches is found again
        after a power loss, without fsync. It does so for DAX files on persistent memory that is synchronous, which
        virtio-pmem is not, and for device DAX; elsewhere it must refuse (mmap(2)). Nothing of the file is changed.

        Args:
            path: A file or a device-DAX node; or a mount's record, a mount point or another directory, in which a new
                file is mapped and removed again.
            assertion_operator: See *Assertions* in the introduction.
            expected: `granted`, or the name of an error: `EOPNOTSUPP`.
            message: Your own failure text.

        Returns:
            `granted`, or the name of the error.

        Raises:
            ToolMissingError: xfs_io (xfsprogs) is not installed.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Not On Tmpfs
            Get Map Sync    ${mount}    ==    granted
            Get Map Sync    /dev/shm    ==    EOPNOTSUPP
        ```
        """
        name = _mount_point(path)
        answer = map_sync(self._context.host.transport, name)
        return assert_text(answer, assertion_operator, expected, f"MAP_SYNC of {name}", message)

    def _read_dax(self, path: Mount | str) -> FileDax:
        found = read_file_dax(self._context.host.transport, _mount_point(path))
        logger.info(f"{found}.")
        return found


def _mount_point(mount: Mount | str) -> str:
    return mount if isinstance(mount, str) else mount.mount_point


def _log_mounts(caption: str, mounts: Iterable[Mount]) -> None:
    log_table(
        caption,
        ("mount point", "node", "type", "dax", "source", "options"),
        ((m.mount_point, m.node, m.type, m.dax or "-", m.source, ",".join(m.options)) for m in mounts),
    )
