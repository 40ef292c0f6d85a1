"""One host: its alias, its transport, and the operations on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.host.facts import HostFacts, read_facts
from VpmemLibrary.host.mounts import Mounts
from VpmemLibrary.host.preflight import Preflight, check_facts
from VpmemLibrary.pmem.dax.daxctl import DaxDevices
from VpmemLibrary.pmem.labels.labels import Labels
from VpmemLibrary.pmem.media.btt import Btt
from VpmemLibrary.pmem.media.health import Health
from VpmemLibrary.pmem.media.info_blocks import InfoBlocks
from VpmemLibrary.pmem.media.injection import Injection
from VpmemLibrary.pmem.media.scrub import Scrub
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.regions.cxl import Cxl
from VpmemLibrary.pmem.regions.regions import Regions
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Transport


class Host:
    """A machine whose NVDIMMs, ndctl and libvirt are used.

    Args:
        alias: The host's name in suites.
        transport: The transport to the host.
        timeout: Maximum seconds that one ndctl command may take.
        progress: Called with a line of text after each part of a long read or write.

    Example::

        host = Host("left", SshTransport(SshSettings("192.0.2.13")))
        host.ndctl.inventory()
    """

    def __init__(
        self,
        alias: str,
        transport: Transport,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.alias = alias
        self.transport = transport
        self.ndctl = Ndctl(transport, timeout=timeout)
        self.namespaces = Namespaces(self.ndctl)
        self.regions = Regions(self.ndctl)
        self.labels = Labels(self.ndctl, self.regions)
        self.info_blocks = InfoBlocks(self.ndctl, self.namespaces)
        self.btt = Btt(self.ndctl, self.namespaces, self.info_blocks)
        self.scrub = Scrub(self.ndctl)
        self.content = ContentStore(transport, guard=self.ndctl.guard, progress=progress)
        self.mounts = Mounts(self.ndctl.guard)
        self.dax = DaxDevices(self.ndctl)
        self.health = Health(self.ndctl)
        self.injection = Injection(self.ndctl)
        self.cxl = Cxl(self.ndctl)

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command on the host; see `Transport.run`."""
        return self.transport.run(argv, timeout=timeout, stdin=stdin)

    def set_timeout(self, timeout: float) -> None:
        """Set the maximum seconds that one ndctl command may take from now on."""
        self.ndctl.timeout = timeout

    def facts(self) -> HostFacts:
        """Return the facts of the host, freshly read in one round trip."""
        return read_facts(self.transport)

    def preflight(self) -> Preflight:
        """Check which requirements of persistent memory the host lacks, and how to fix each."""
        return check_facts(self.facts(), self.alias)

    def close(self) -> None:
        """Close the connection. Programs on the host continue to run."""
        self.transport.close()
