"""Keywords that write, check, compare, copy and wipe content on a host. The bytes never leave the host."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore, Transfer, Verification
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of, shown_path
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, Size


class ContentKeywords:
    """Content of namespaces, devices and files."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _store(self) -> ContentStore:
        return self._session.host.content

    @keyword(tags=("content", "destructive"))
    def write_pattern(
        self,
        namespace: Namespace | str,
        *,
        seed: str,
        offset: Size = Size(0),
        length: Size = ALL,
        force: bool = False,
        foreign: bool = False,
    ) -> Transfer:
        """Write a pattern to a namespace, device or file of the current host, and flush it.

        The host itself generates the pattern, so its bytes do not travel over the network. Each byte depends on the
        seed and on its offset, so bytes that moved are detected. The log shows the throughput.

        Args:
            namespace: The namespace: its record, UUID, name or device name. Or the path of a device or file. A
                namespace must be this run's own, unless `foreign` is set. A file is never this run's own, so it needs
                `foreign`.
            seed: Any text. The same seed gives the same bytes on every machine.
            offset: Where to begin, in bytes from the first usable byte of the namespace; a multiple of 4 KiB.
            length: How much to write, a multiple of 4 KiB. `all` writes to the end.
            force: Do not check the range before writing: let the tool refuse a range past the end of a device. daxio
                then writes the part that fits and exits 0. This keyword reports that as a failure.
            foreign: Allow a target that this run did not make.

        Returns:
            The transfer: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            InvalidValueError: Offset or length is not aligned, or the range ends past the end of the target. Nothing
                was written.
            CommandError: A tool failed.

        Example:

        ```robotframework
        *** Test Cases ***
        Bytes
            Write Pattern    ns_0    seed=first tenant
            Pattern Should Be Intact    ns_0    seed=first tenant
        ```
        """
        target = own_target_of(self._session, namespace, foreign=foreign)
        pattern = Pattern(seed=seed, offset=offset, length=self._length(shown_path(target), offset, length))
        return _logged("Wrote", self._store.write(target, pattern, force=force))

    @keyword(tags=("content", "assertion"))
    def pattern_should_be_intact(
        self,
        namespace: Namespace | str,
        *,
        seed: str,
        offset: Size = Size(0),
        length: Size = ALL,
        at: Size = ALL,
        force: bool = False,
    ) -> Transfer:
        """Fail unless a namespace, device or file of the current host holds a pattern.

        The host itself compares the bytes.

        Args:
            namespace: The namespace: its record, UUID, name or device name. Or the path of a device or file.
            seed: The seed of the pattern.
            offset: Where in the pattern the compared piece begins.
            length: How much to compare. `all` compares to the end.
            at: Where in the target the piece begins, if not at `offset`. For example, the raw view of a namespace has
                the same bytes at other offsets.
            force: Do not check the range before reading: let the tool refuse a range past the end of a device.

        Returns:
            The transfer: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            AssertionError: The bytes differ. The message has the first differing offset and the number of differing
                bytes.

        Example:

        ```robotframework
        *** Test Cases ***
        Still There
            Pattern Should Be Intact    ns_0    seed=first tenant
        ```
        """
        path = path_of(self._session, namespace)
        place = offset if at is ALL else at
        pattern = Pattern(seed=seed, offset=offset, length=self._length(path, place, length))
        return _proven(self._store.verify(path, pattern, at=place, force=force))

    @keyword(tags=("content", "destructive"))
    def wipe_content(
        self, target: Namespace | str, *, offset: Size = Size(0), length: Size = ALL, foreign: bool = False
    ) -> Transfer:
        """Overwrite a namespace, device or file of the current host with zeros, then read it to check for zeros.

        The keyword works in pieces of 1 GiB. Each piece has its own timeout, so the whole wipe may take hours. The
        progress is shown in the log, and on the console every ten seconds. Before each piece, the keyword finds the
        namespace again by its UUID, and checks that it is still unused and that this worker still has its leases. After
        a failure, use `offset` to continue from that place.

        Args:
            target: The namespace: its record, UUID, name or device name. Or the path of a device or file.
            offset: Where to begin; a multiple of 4 KiB.
            length: How much to wipe, a multiple of 4 KiB. `all` wipes to the end.
            foreign: Allow a target that this run did not make.

        Returns:
            The transfer: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            BusyError: The target is in use. Nothing was written, or only the part that the message names.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was written, or only
                the part that the message names.
            InvalidValueError: Offset or length is not aligned, or the range ends past the end of the target. Nothing
                was written.
            ContentDiffersError: Some bytes are not zero although the tools reported success.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Of The First Tenant Is Left
            Wipe Content    ns_0
            Content Should Be Zero    ns_0
        ```
        """
        found = own_target_of(self._session, target, foreign=foreign)
        return _logged("Wiped", self._store.wipe(found, offset, None if length is ALL else length, must_be_unused=True))

    @keyword(tags=("content", "destructive"))
    def copy_content(
        self,
        source: Namespace | str,
        target: Namespace | str,
        *,
        offset: Size = Size(0),
        at: Size = ALL,
        length: Size = ALL,
        foreign: bool = False,
    ) -> Transfer:
        """Copy the content of a namespace, device or file of the current host to another target, and flush it.

        Args:
            source: The source namespace: its record, UUID, name or device name. Or the path of a device or file.
            target: The target namespace, device or file, in the same forms.
            offset: Where to begin reading; a multiple of 4 KiB.
            at: Where to begin writing. The default is `offset`.
            length: How much to copy, a multiple of 4 KiB. `all` copies to the end of the source.
            foreign: Allow a target that this run did not make.

        Returns:
            The transfer: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            BusyError: The target is in use. Nothing was written, or only the part that the message names.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was written, or only
                the part that the message names.
            InvalidValueError: A range is not aligned, or ends past the end of the source or the target. Nothing was
                written.

        Example:

        ```robotframework
        *** Test Cases ***
        A Second One With The Same Bytes
            Copy Content    ns_0    ns_1
            Content Should Be Equal    ns_0    ns_1
        ```
        """
        found = own_target_of(self._session, target, foreign=foreign)
        copied = self._store.copy(
            path_of(self._session, source),
            found,
            offset=offset,
            at=None if at is ALL else at,
            length=None if length is ALL else length,
            must_be_unused=True,
        )
        return _logged("Copied", copied)

    @keyword(tags=("content", "assertion"))
    def content_should_be_equal(
        self,
        first: Namespace | str,
        second: Namespace | str,
        *,
        offset: Size = Size(0),
        at: Size = ALL,
        length: Size = ALL,
    ) -> Transfer:
        """Fail unless two namespaces, devices or files of the current host hold the same bytes.

        Args:
            first: The first namespace: its record, UUID, name or device name. Or the path of a device or file.
            second: The second namespace, device or file, in the same forms.
            offset: Where to begin; a multiple of 4 KiB.
            at: Where to begin in the second one. The default is `offset`.
            length: How much to compare. `all` compares to the end of both, and equally many bytes must be left in both.

        Returns:
            The transfer of the first target: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a
            second).

        Raises:
            AssertionError: The bytes differ. The message has the first differing offset and the number of differing
                bytes. The count stops at 1 MiB.

        Example:

        ```robotframework
        *** Test Cases ***
        Twins
            Content Should Be Equal    ns_0    ns_1    length=16MiB
        ```
        """
        return _proven(
            self._store.compare(
                path_of(self._session, first),
                path_of(self._session, second),
                offset=offset,
                at=None if at is ALL else at,
                length=None if length is ALL else length,
            )
        )

    @keyword(tags=("content", "assertion"))
    def content_should_be_zero(
        self, target: Namespace | str, *, offset: Size = Size(0), length: Size = ALL
    ) -> Transfer:
        """Fail unless a namespace, device or file of the current host holds only zeros.

        Args:
            target: The namespace: its record, UUID, name or device name. Or the path of a device or file.
            offset: Where to begin; a multiple of 4 KiB.
            length: How much to check. `all` checks to the end.

        Returns:
            The transfer: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            AssertionError: Some bytes are not zero. The message has the first such offset and the number of such bytes.

        Example:

        ```robotframework
        *** Test Cases ***
        The Next Tenant Reads Zeros
            Content Should Be Zero    ns_0
        ```
        """
        path = path_of(self._session, target)
        return _proven(self._store.verify_zero(path, offset, None if length is ALL else length))

    @keyword(tags=("content", "getter"))
    def get_namespace_checksum(self, namespace: Namespace | str, *, offset: Size = Size(0), length: Size = ALL) -> str:
        """Return the SHA-256 checksum of a namespace's bytes, computed on the host.

        Args:
            namespace: The namespace: its record, UUID, name or device name.
            offset: Where to begin.
            length: How much to read. `all` reads to the end.

        Returns:
            64 hexadecimal digits.

        Example:

        ```robotframework
        *** Test Cases ***
        Unchanged
            ${before} =    Get Namespace Checksum    ns_0
            Disable Namespace    ns_0
            Enable Namespace    ns_0
            ${after} =    Get Namespace Checksum    ns_0
            Should Be Equal    ${after}    ${before}
        ```
        """
        return self._store.checksum(path_of(self._session, namespace), offset, None if length is ALL else length)

    def _length(self, path: str, offset: Size, length: Size) -> Size:
        return self._store.size(path) - offset if length is ALL else length


def _logged(done: str, transfer: Transfer) -> Transfer:
    logger.info(f"{done} {transfer}.")
    return transfer


def _proven(verification: Verification) -> Transfer:
    """Return the transfer. Raise if the content is not as expected."""
    verification.require()
    return _logged("Read", verification.transfer)
