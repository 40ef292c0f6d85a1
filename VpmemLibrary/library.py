"""The Robot Framework library: its settings and the list of its keyword components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from robot.api.deco import library

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.keywords.guest.access import AccessKeywords
from VpmemLibrary.keywords.guest.channels import ChannelKeywords
from VpmemLibrary.keywords.guest.devices import DeviceKeywords
from VpmemLibrary.keywords.guest.guest_memory import GuestMemoryKeywords
from VpmemLibrary.keywords.guest.guest_xml import GuestXmlKeywords
from VpmemLibrary.keywords.guest.guests import GuestKeywords
from VpmemLibrary.keywords.guest.hotplug import HotplugKeywords
from VpmemLibrary.keywords.guest.identity import IdentityKeywords
from VpmemLibrary.keywords.guest.inside import InsideKeywords
from VpmemLibrary.keywords.guest.migration import MigrationKeywords
from VpmemLibrary.keywords.guest.snapshots import SnapshotKeywords
from VpmemLibrary.keywords.host.claims import ClaimKeywords
from VpmemLibrary.keywords.host.content import ContentKeywords
from VpmemLibrary.keywords.host.filesystems import FileSystemKeywords
from VpmemLibrary.keywords.host.host_setup import HostSetupKeywords
from VpmemLibrary.keywords.host.hosts import HostKeywords
from VpmemLibrary.keywords.host.ownership import OwnershipKeywords
from VpmemLibrary.keywords.host.performance import PerformanceKeywords
from VpmemLibrary.keywords.host.power import PowerKeywords
from VpmemLibrary.keywords.host.records import RecordKeywords
from VpmemLibrary.keywords.pmem.cxl import CxlKeywords
from VpmemLibrary.keywords.pmem.dax import DaxKeywords
from VpmemLibrary.keywords.pmem.firmware import FirmwareKeywords
from VpmemLibrary.keywords.pmem.health import HealthKeywords
from VpmemLibrary.keywords.pmem.info_blocks import InfoBlockKeywords
from VpmemLibrary.keywords.pmem.labels import LabelKeywords
from VpmemLibrary.keywords.pmem.monitor import MonitorKeywords
from VpmemLibrary.keywords.pmem.namespace_getters import NamespaceGetterKeywords
from VpmemLibrary.keywords.pmem.namespaces import NamespaceKeywords
from VpmemLibrary.keywords.pmem.regions import RegionKeywords
from VpmemLibrary.keywords.pmem.room import RoomKeywords
from VpmemLibrary.keywords.pmem.scrub import ScrubKeywords
from VpmemLibrary.keywords.pmem.security import SecurityKeywords
from VpmemLibrary.keywords.pmem.test_bus import TestBusKeywords
from VpmemLibrary.keywords.support.components import ComponentLibrary
from VpmemLibrary.keywords.support.converters import CONVERTERS
from VpmemLibrary.keywords.support.progress import robot_reporting
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session
from VpmemLibrary.version import __version__
from VpmemLibrary.visible import message


@library(scope="GLOBAL", version=__version__, doc_format="MARKDOWN", converters=CONVERTERS)
class VpmemLibrary(ComponentLibrary):
    """Keywords that test virtual persistent memory, from the host's NVDIMM to the guest's last byte.

    %TOC%

    # Hosts

    [Open Host], [Open Local Host] or [Open Host From File] opens a host. Keywords act on the current host
    ([Switch Host]). An unknown or changed host key is refused.

    ```robotframework
    *** Test Cases ***
    A Guest Sees Its Namespace
        Open Host    192.0.2.13    user=qa    sudo=True
        ${region} =    Get Region With Largest Free Extent
        ${namespace} =    Create Namespace    ${region}    mode=devdax    size=256MiB
        ${guest} =    Start New Guest    vpmem=${namespace}
        All Views Should Agree    ${guest}
        [Teardown]    Run Keywords    Clean Up Host    AND    Close All Hosts
    ```

    # Guests

    The library reaches a guest through its QEMU guest agent, SSH or its serial console ([Use Guest Channel]).
    [Open Guest As Host] opens a guest for the keywords of hosts.

    # Arguments

    A namespace is a record, a UUID, a name or a device name. A region or a guest is a record or a name. A size is
    whole bytes or has a binary unit: `256MiB`.

    # Assertions

    Getters return a value, and assert it with an [operator](https://github.com/MarketSquare/AssertionEngine):
    `Get Namespace Property    ${namespace}    size    ==    254MiB`.

    # Ownership

    A run marks the objects that it makes. Keywords that change or destroy refuse other objects, unless `foreign=True`
    is given. [Clean Up Host] removes the run's own objects. Workers of one run share the variable `VPMEM_RUN_ID`.

    # Leases

    A lease is a lock of the host's kernel. It ends with its worker or the worker's connection. A run has a lease on
    each host where it made something. [Clean Up After Dead Runs] removes the leftovers of dead runs. A claim is the
    lease of one tenant on one namespace ([Claim Namespaces]).

    # Errors

    A keyword refuses an invalid argument before it changes anything. The message has the value and what is valid. If
    a tool fails, the message has the tool's command, exit status and standard error.
    """

    def __init__(self, timeout: timedelta = timedelta(seconds=60), run_id: str | None = None) -> None:
        """Configure the library. Hosts are opened and modules are imported only when a keyword needs them.

        Args:
            timeout: How long a command on a host or in a guest, or a call to libvirt, may take if the keyword has no
                timeout of its own.
            run_id: The run's id, 8 hexadecimal digits. The default is the environment variable `VPMEM_RUN_ID`, or a
                random id.

        Example:

        ```robotframework
        *** Settings ***
        Library    VpmemLibrary    timeout=2 minutes
        ```
        """
        session = Session(RunMark.of_this_run(run_id), timeout.total_seconds(), reporting=robot_reporting())
        self.session = session
        """The open hosts of this run, for libraries of other projects; see docs/extending.md."""
        super().__init__(
            [
                HostKeywords(session),
                HostSetupKeywords(session),
                PowerKeywords(session),
                RegionKeywords(session),
                LabelKeywords(session),
                RoomKeywords(session),
                NamespaceKeywords(session),
                NamespaceGetterKeywords(session),
                InfoBlockKeywords(session),
                ScrubKeywords(session),
                DaxKeywords(session),
                HealthKeywords(session),
                MonitorKeywords(session),
                SecurityKeywords(session),
                FirmwareKeywords(session),
                CxlKeywords(session),
                TestBusKeywords(session),
                ContentKeywords(session),
                FileSystemKeywords(session),
                ClaimKeywords(session),
                DeviceKeywords(session),
                GuestKeywords(session),
                GuestXmlKeywords(session),
                ChannelKeywords(session),
                HotplugKeywords(session),
                InsideKeywords(session),
                IdentityKeywords(session),
                GuestMemoryKeywords(session),
                AccessKeywords(session),
                MigrationKeywords(session),
                RecordKeywords(session),
                SnapshotKeywords(session),
                PerformanceKeywords(session),
                OwnershipKeywords(session),
            ]
        )

    def run_keyword(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a keyword for Robot Framework.

        Make the messages of other errors, such as assertion errors, safe to show. The library's own errors are safe.

        Args:
            name: The keyword's name.
            args: Its positional arguments.
            kwargs: Its named arguments.

        Returns:
            The keyword's return value.

        Raises:
            Exception: The keyword raised it.
        """
        try:
            return super().run_keyword(name, args, kwargs)
        except VpmemError:
            raise
        except Exception as error:
            error.args = tuple(message(each) if isinstance(each, str) else each for each in error.args)
            raise
