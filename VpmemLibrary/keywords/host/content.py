"""Keywords that write, prove, compare, copy and wipe content on a host; no byte of it travels."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore, Transfer, Verification
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of, shown_path
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import ALL, Size


class ContentKeywords:
    """Content of namespaces, devices and files."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _store(self) -> ContentStore:
        return self._context.current.content

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

        The pattern is made on the host itself: no byte of it travels. Its bytes depend on the seed and on where they
        lie, so bytes that moved are found out. How fast it was is shown in the log.

        Args:
            namespace: Its record, UUID, name or device name; or the path of a device or file. It must be this run's
                own; a file never is.
            seed: Any text; the same seed gives the same bytes on every machine.
            offset: Where to begin, in bytes from the namespace's first usable one; a multiple of 4 KiB.
            length: How much to write, a multiple of 4 KiB; `all` is to the end.
            force: Leave it to the tool to refuse a range past the end of a device. daxio then writes what fits and
                exits 0, which this keyword reports as the failure that it is.
            foreign: Allow it on what this run did not make.

        Returns:
            What was written: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: Offset or length is not aligned, or reaches past the end; nothing was written.
            CommandError: A tool failed.

        Example:

        ```robotframework
        *** Test Cases ***
        Bytes
            Write Pattern    ns_0    seed=first tenant
            Pattern Should Be Intact    ns_0    seed=first tenant
        ```
        """
        target = own_target_of(self._context, namespace, foreign=foreign)
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
        """Fail unless a namespace, device or file of the current host holds a pattern, compared on the host.

        Args:
            namespace: Its record, UUID, name or device name; or the path of a device or file.
            seed: The pattern's seed.
            offset: Where the piece begins in the pattern.
            length: How much to compare; `all` is to the end.
            at: Where the piece lies, if not at its own offset: the bytes of a namespace lie elsewhere in its raw view.
            force: Leave it to the tool to refuse a range past the end of a device.

        Returns:
            What was read: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            AssertionError: It differs; the message has the first differing offset and how many bytes differ.

        Example:

        ```robotframework
        *** Test Cases ***
        Still There
            Pattern Should Be Intact    ns_0    seed=first tenant
        ```
        """
        path = path_of(self._context, namespace)
        place = offset if at is ALL else at
        pattern = Pattern(seed=seed, offset=offset, length=self._length(path, place, length))
        return _proven(self._store.verify(path, pattern, at=place, force=force))

    @keyword(tags=("content", "destructive"))
    def wipe_content(
        self, target: Namespace | str, *, offset: Size = Size(0), length: Size = ALL, foreign: bool = False
    ) -> Transfer:
        """Overwrite a namespace, device or file of the current host with zeros, and prove that nothing else is left.

        It is done in pieces of 1 GiB, each with a deadline of its own, so it may take hours. The log has how far it
        came, and the console every ten seconds. Before each piece is written, the namespace is looked for by its UUID,
        it must still be unused, and this worker's leases its own. What failed can go on from there with `offset`.

        Args:
            target: A namespace's record, UUID, name or device name; or the path of a device or file.
            offset: Where to begin; a multiple of 4 KiB.
            length: How much; a multiple of 4 KiB, `all` is to the end.
            foreign: Allow it on what this run did not make.

        Returns:
            What was written: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use; nothing was written, or a part as the message says.
            LeaseLostError: A lease of this worker is another's now; likewise.
            InvalidValueError: Offset or length is not aligned, or reaches past the end; nothing was written.
            ContentDiffersError: Something is left though the tools reported success.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Of The First Tenant Is Left
            Wipe Content    ns_0
            Content Should Be Zero    ns_0
        ```
        """
        found = own_target_of(self._context, target, foreign=foreign)
        return _logged("Wiped", self._store.wipe(found, offset, None if length is ALL else length, unused=True))

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
        """Write to one namespace, device or file of the current host what another holds, and flush it.

        Args:
            source: A namespace's record, UUID, name or device name; or the path of a device or file.
            target: Another one.
            offset: Where to begin reading; a multiple of 4 KiB.
            at: Where to begin writing; at `offset` by default.
            length: How much; a multiple of 4 KiB, `all` is to the end of the source.
            foreign: Allow writing to what this run did not make.

        Returns:
            What was written: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            BusyError: The target is in use; nothing was written, or a part as the message says.
            LeaseLostError: A lease of this worker is another's now; likewise.
            InvalidValueError: A range is not aligned, or reaches past an end; nothing was written.

        Example:

        ```robotframework
        *** Test Cases ***
        A Second One With The Same Bytes
            Copy Content    ns_0    ns_1
            Content Should Be Equal    ns_0    ns_1
        ```
        """
        found = own_target_of(self._context, target, foreign=foreign)
        copied = self._store.copy(
            path_of(self._context, source),
            found,
            offset=offset,
            at=None if at is ALL else at,
            length=None if length is ALL else length,
            unused=True,
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
            first: A namespace's record, UUID, name or device name; or the path of a device or file.
            second: Another one.
            offset: Where to begin; a multiple of 4 KiB.
            at: Where to begin on the second one; at `offset` by default.
            length: How much; `all` is to the ends of both, which must be equally far.

        Returns:
            What was read of the first one: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            AssertionError: They differ; the message has the first differing offset and how many bytes differ, counted
                up to 1 MiB of them.

        Example:

        ```robotframework
        *** Test Cases ***
        Twins
            Content Should Be Equal    ns_0    ns_1    length=16MiB
        ```
        """
        return _proven(
            self._store.compare(
                path_of(self._context, first),
                path_of(self._context, second),
                offset=offset,
                at=None if at is ALL else at,
                length=None if length is ALL else length,
            )
        )

    @keyword(tags=("content", "assertion"))
    def content_should_be_zero(
        self, target: Namespace | str, *, offset: Size = Size(0), length: Size = ALL
    ) -> Transfer:
        """Fail unless a namespace, device or file of the current host holds zeros and nothing else.

        Args:
            target: A namespace's record, UUID, name or device name; or the path of a device or file.
            offset: Where to begin; a multiple of 4 KiB.
            length: How much; `all` is to the end.

        Returns:
            What was read: `path`, `offset`, `length`, `seconds`, `throughput` (MiB a second).

        Raises:
            AssertionError: It holds something; the message has the first offset and how many bytes.

        Example:

        ```robotframework
        *** Test Cases ***
        The Next Tenant Reads Zeros
            Content Should Be Zero    ns_0
        ```
        """
        path = path_of(self._context, target)
        return _proven(self._store.verify_zero(path, offset, None if length is ALL else length))

    @keyword(tags=("content", "getter"))
    def get_namespace_checksum(self, namespace: Namespace | str, *, offset: Size = Size(0), length: Size = ALL) -> str:
        """Return the SHA-256 of a namespace's bytes, computed on the host.

        Args:
            namespace: Its record, UUID, name or device name.
            offset: Where to begin.
            length: How much to read; `all` is to the end.

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
        return self._store.checksum(path_of(self._context, namespace), offset, None if length is ALL else length)

    def _length(self, path: str, offset: Size, length: Size) -> Size:
        return self._store.size(path) - offset if length is ALL else length


def _logged(done: str, transfer: Transfer) -> Transfer:
    logger.info(f"{done} {transfer}.")
    return transfer


def _proven(verification: Verification) -> Transfer:
    """Return what was read, or raise if it is not what it should be."""
    verification.require()
    return _logged("Read", verification.transfer)
