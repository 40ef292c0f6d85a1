"""Keywords that make and mount file systems on namespaces, and check that their files are DAX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.host.file_dax import FileDax, map_sync, read_file_dax
from VpmemLibrary.host.filesystems import FileSystem, FileSystemType, make_file_system, read_file_system
from VpmemLibrary.host.mounts import DaxOption, Mount
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of, shown_path
from VpmemLibrary.ownership.mounts import new_mount_point, require_own_mount, unmount, unmount_owned
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session

DAX, PAGE_CACHE = "dax", "page cache"


class FileSystemKeywords:
    """File systems, mounts, DAX and MAP_SYNC."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("filesystem", "destructive"))
    def make_file_system(
        self,
        target: Namespace | str,
        type: FileSystemType = FileSystemType.ext4,
        *,
        overwrite: bool = False,
        foreign: bool = False,
    ) -> FileSystem:
        """Make a file system that supports DAX on a namespace or another block device of the current host.

        The block size is 4 KiB, because DAX needs it. XFS is made with `reflink=0`, so that files share no blocks. XFS
        needs a namespace of more than 300 MiB (mkfs.xfs). The keyword reads the new file system back from the device
        itself.

        Args:
            target: An fsdax, sector or raw namespace: its record, UUID, name or device name. Or the path of a block
                device. It must be this run's own, unless `foreign` is set.
            type: `ext4` or `xfs`.
            overwrite: Make the file system even if the device already holds a file system or a partition table.
            foreign: Allow a target that this run did not make.

        Returns:
            A record with `path`, `type` and `uuid`.

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            InvalidValueError: The target is not a block device, or already holds something. Nothing was changed.
            BusyError: The target is in use, or something was written to it in the meantime. Nothing was changed.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was changed.
            CommandError: Making the file system failed.

        Example:

        ```robotframework
        *** Test Cases ***
        A File System
            ${namespace} =    Create Namespace    ${region}    mode=fsdax    size=at least 512MiB
            Make File System    ${namespace}    xfs
            Get File System    ${namespace}    ==    xfs
        ```
        """
        found = own_target_of(self._session, target, foreign=foreign)
        made = make_file_system(self._session.host.ndctl.guard, found, type, overwrite=overwrite)
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
        """Return the type of the file system on a block device. Assert it when an operator is given.

        `blkid` reads the type from the device itself, without its cache.

        Args:
            target: A namespace, or the path of a block device.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected type, e.g. `ext4`.
            message: Your own failure text.

        Returns:
            The type of the file system or of the partition table. Empty when `blkid` recognises neither.

        Raises:
            InvalidValueError: The target is not a block device.
            AssertionError: The type is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Empty Yet
            Get File System    ${namespace}    ==    ${EMPTY}
        ```
        """
        path = path_of(self._session, target)
        found = read_file_system(self._session.host.transport, path)
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

        The keyword checks in the kernel's own mount table that the file system is mounted, and with the requested `dax`
        option. This check is necessary because XFS mounts a device that does not support DAX even with `dax=always`,
        and then silently turns DAX off. The check does not prove that the files are DAX: see [Mount Should Be Dax].
        [Clean Up Host] unmounts the file system.

        Args:
            target: A namespace, or the path of a block device. It must be this run's own, unless `foreign` is set.
            dax: `always`: every file is DAX. `inode`: a file is DAX if its flag says so; a new file inherits the flag
                from its directory. `never`: no file is DAX, as on a sector namespace.
            mount_point: An empty directory. By default the library makes a directory in `/run`. Its name carries this
                run's mark, and the directory is removed when the file system is unmounted.
            foreign: Allow a target that this run did not make. Such a mount is this run's own only if the library made
                its mount point.

        Returns:
            A record with `mount_point`, `source`, `type`, `options`, `dax`, `device` (its number) and `node`.

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            InvalidValueError: The target holds no file system, or the mount point is invalid. Nothing was changed.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was changed.
            CommandError: The file system could not be mounted as requested. It is not mounted.

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
        found = own_target_of(self._session, target, foreign=foreign)
        host = self._session.host
        held = read_file_system(host.transport, shown_path(found))
        self._session.current.tenancy.hold_run_lease()
        mounted = host.mounts.mount(
            found,
            held.known_type(),
            mount_point or new_mount_point(self._session.run),
            options=[f"dax={dax}"],
            make=not mount_point,
        )
        logger.info(f"Mounted {mounted} with {','.join(mounted.options)}.")
        return mounted

    @keyword(tags=("filesystem", "destructive"))
    def unmount_file_system(self, mount: Mount | str, *, foreign: bool = False) -> None:
        """Unmount one file system of the current host. If the library made the mount point, remove it too.

        Args:
            mount: The mount's record, or its mount point. The mount must be this run's own, unless `foreign` is set. It
                is this run's own if this run made the namespace or the mount point.
            foreign: Allow a mount that is not this run's own.

        Raises:
            NotFoundError: Nothing is mounted there, or another device is mounted there now.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was changed.
            ForeignError: The mount is not this run's own, and `foreign` is not set.
            BusyError: The mount is in use. The message lists what uses it.

        Example:

        ```robotframework
        *** Test Cases ***
        Not Any More
            Unmount File System    /mnt
        ```
        """
        host = self._session.host
        found = host.mounts.at(_mount_point(mount))
        if not foreign:
            require_own_mount(self._session.run, found, host.ndctl.inventory().namespaces)
        logger.info(f"Unmounted {unmount(host, found)}.")

    @keyword(tags=("filesystem", "destructive"))
    def unmount_own_file_systems(self) -> None:
        """Unmount all file systems on the current host that are this run's own, and no others.

        A mount is this run's own if this run made its namespace or its mount point. The last mounted file system is
        unmounted first.

        Raises:
            BusyError: A mount is in use. The message lists what uses it. The other mounts were unmounted.

        Example:

        ```robotframework
        *** Settings ***
        Test Teardown    Unmount Own File Systems
        ```
        """
        unmounted = unmount_owned(self._session.host, self._session.run)
        logger.info(f"Unmounted {', '.join(map(str, unmounted)) or 'nothing'}.")

    @keyword(tags=("filesystem", "assertion"))
    def mount_should_be_dax(self, mount: Mount | str) -> None:
        """Fail unless the kernel reports that new files in a mounted file system are DAX.

        Mount options do not prove this. So the keyword writes a new file, checks it, and removes it. statx must report
        the file as DAX (`STATX_ATTR_DAX`, kernel 5.8 and later), and no part of the file may be in the page cache.

        Args:
            mount: The mount's record or its mount point, or a directory or a file in it. An existing file is not
                changed.

        Raises:
            AssertionError: The file is not DAX. The message has what the kernel reports.
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
            raise AssertionError(f"{_mount_point(mount)} on {self._session.host.alias} is not DAX: {found}.")

    @keyword(tags=("filesystem", "getter"))
    def get_file_access(
        self,
        path: Mount | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how the kernel accesses the bytes of a file. Assert it when an operator is given.

        Args:
            path: A file, which is not changed. Or a mount's record, a mount point or another directory: then the
                keyword writes a new file there and removes it.
            assertion_operator: See *Assertions* in the introduction.
            expected: `dax` or `page cache`.
            message: Your own failure text.

        Returns:
            `dax` or `page cache`.

        Raises:
            ViewsDisagreeError: statx and the page cache contradict each other.
            ToolMissingError: xfs_io (xfsprogs) is not installed.
            AssertionError: The access is not as expected.

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
        """Return whether the kernel maps a file with MAP_SYNC. Assert it when an operator is given.

        With MAP_SYNC, a program needs no fsync: bytes that it writes through the mapping and flushes from the
        processor's caches survive a power loss. The kernel grants MAP_SYNC for DAX files on synchronous persistent
        memory, and for device DAX. virtio-pmem is not synchronous. Elsewhere the kernel must refuse MAP_SYNC (mmap(2)).
        The content of the file is not changed.

        Args:
            path: A file or a device-DAX node. Or a mount's record, a mount point or another directory: then the keyword
                maps a new file there and removes it.
            assertion_operator: See *Assertions* in the introduction.
            expected: `granted`, or the name of an error: `EOPNOTSUPP`.
            message: Your own failure text.

        Returns:
            `granted`, or the name of the error.

        Raises:
            ToolMissingError: xfs_io (xfsprogs) is not installed.
            AssertionError: The answer is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Not On Tmpfs
            Get Map Sync    ${mount}    ==    granted
            Get Map Sync    /dev/shm    ==    EOPNOTSUPP
        ```
        """
        name = _mount_point(path)
        answer = map_sync(self._session.host.transport, name)
        return assert_text(answer, assertion_operator, expected, f"MAP_SYNC of {name}", message)

    def _read_dax(self, path: Mount | str) -> FileDax:
        found = read_file_dax(self._session.host.transport, _mount_point(path))
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
