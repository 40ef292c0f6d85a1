"""Keywords of a project of its own, which work on the hosts that VpmemLibrary has open."""

from __future__ import annotations

from typing import Any

from command_channel import CommandChannel
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn

from VpmemLibrary.api import Session


@library(scope="GLOBAL", doc_format="MARKDOWN")
class StorageKeywords:
    """Import this library after `VpmemLibrary`. Its keywords use the current host of `VpmemLibrary`."""

    @property
    def _session(self) -> Session:
        """The open hosts. A suite may import VpmemLibrary under another name with `AS`; then use that name here."""
        vpmem: Any = BuiltIn().get_library_instance("VpmemLibrary")
        session: Session = vpmem.session
        return session

    @keyword
    def kernel_should_be_started_with(self, option: str) -> None:
        """Fail unless the kernel of the current host was started with an option, e.g. `memmap=4G!8G`."""
        host = self._session.host
        options = host.transport.read_file("/proc/cmdline").decode().split()
        if option not in options:
            raise AssertionError(f"The kernel of {host.alias} was started without {option}: {' '.join(options)}")

    @keyword
    def use_command_channel(self, guest: str, *program: str) -> None:
        """Reach a guest of the current host through a program on that host, e.g. `ssh` and `vsock/3`."""
        opened = self._session.current
        found = opened.guests.find(guest)
        found.use_own_channel("command", CommandChannel(found.name, opened.host.transport, program))
