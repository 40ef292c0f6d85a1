"""Keywords that write patterns and prove them, on a host and in a guest."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.keywords.context import Context
from VpmemLibrary.model import Namespace
from VpmemLibrary.sizes import ALL, Size


class ContentKeywords:
    """Content of namespaces."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _store(self) -> ContentStore:
        return self._context.current.content

    def _target(self, namespace: Namespace | str) -> Namespace:
        return self._context.host.ndctl.namespace(namespace)

    @keyword(tags=("content", "destructive"))
    def write_pattern(
        self, namespace: Namespace | str, *, seed: str, offset: Size = Size(0), length: Size = ALL
    ) -> None:
        """Write a pattern to a namespace of the current host, and flush it.

        The pattern is made on the host itself: no byte of it travels. Its bytes depend on the seed and on where they
        lie, so bytes that moved are found out.

        Args:
            namespace: Its record, UUID, name or device name. It must be this run's own.
            seed: Any text; the same seed gives the same bytes on every machine.
            offset: Where to begin, in bytes from the namespace's first usable one; a multiple of 4 KiB.
            length: How much to write, a multiple of 4 KiB; `all` is to the end.

        Raises:
            ForeignError: This run did not make it.
            InvalidValueError: Offset or length is not aligned, or reaches past the end.
            CommandError: A tool failed.

        Example:

        ```robotframework
        *** Test Cases ***
        Bytes
            Write Pattern    ns_0    seed=first tenant
            Pattern Should Be Intact    ns_0    seed=first tenant
        ```
        """
        target = self._target(namespace)
        self._context.run.require_own(target)
        pattern = Pattern(seed=seed, offset=offset, length=target.size - offset if length is ALL else length)
        logger.info(f"Wrote {self._store.write(target.device, pattern)}.")

    @keyword(tags=("content", "assertion"))
    def pattern_should_be_intact(
        self, namespace: Namespace | str, *, seed: str, offset: Size = Size(0), length: Size = ALL
    ) -> None:
        """Fail unless a namespace of the current host holds a pattern, compared byte for byte on the host.

        Args:
            namespace: Its record, UUID, name or device name.
            seed: The pattern's seed.
            offset: Where it begins.
            length: How much to compare; `all` is to the end.

        Raises:
            AssertionError: It differs; the message has the first differing offset and how many bytes differ.

        Example:

        ```robotframework
        *** Test Cases ***
        Still There
            Pattern Should Be Intact    ns_0    seed=first tenant
        ```
        """
        target = self._target(namespace)
        pattern = Pattern(seed=seed, offset=offset, length=target.size - offset if length is ALL else length)
        self._store.verify(target.device, pattern).require()

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
        target = self._target(namespace)
        return self._store.checksum(target.device, offset, target.size - offset if length is ALL else length)
