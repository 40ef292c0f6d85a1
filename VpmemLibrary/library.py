"""The facade: the library's settings and the list of its keyword components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from robot.api.deco import library
from robotlibcore import DynamicCore

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
from VpmemLibrary.keywords.guest.servers import ServerKeywords
from VpmemLibrary.keywords.guest.snapshots import SnapshotKeywords
from VpmemLibrary.keywords.host.claims import ClaimKeywords
from VpmemLibrary.keywords.host.content import ContentKeywords
from VpmemLibrary.keywords.host.filesystems import FileSystemKeywords
from VpmemLibrary.keywords.host.holding import HoldingKeywords
from VpmemLibrary.keywords.host.host_setup import HostSetupKeywords
from VpmemLibrary.keywords.host.hosts import HostKeywords
from VpmemLibrary.keywords.host.ownership import OwnershipKeywords
from VpmemLibrary.keywords.host.performance import PerformanceKeywords
from VpmemLibrary.keywords.host.power import PowerKeywords
from VpmemLibrary.keywords.host.records import RecordKeywords
from VpmemLibrary.keywords.pmem.cxl import CxlKeywords
from VpmemLibrary.keywords.pmem.dax import DaxKeywords
from VpmemLibrary.keywords.pmem.health import HealthKeywords
from VpmemLibrary.keywords.pmem.info_blocks import InfoBlockKeywords
from VpmemLibrary.keywords.pmem.labels import LabelKeywords
from VpmemLibrary.keywords.pmem.namespace_getters import NamespaceGetterKeywords
from VpmemLibrary.keywords.pmem.namespaces import NamespaceKeywords
from VpmemLibrary.keywords.pmem.regions import RegionKeywords
from VpmemLibrary.keywords.pmem.room import RoomKeywords
from VpmemLibrary.keywords.pmem.scrub import ScrubKeywords
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.converters import CONVERTERS
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.version import __version__
from VpmemLibrary.visible import message


@library(scope="GLOBAL", version=__version__, doc_format="MARKDOWN", converters=CONVERTERS)
class VpmemLibrary(DynamicCore):  # type: ignore[misc]  # PythonLibCore is not typed
    """Keywords that prove virtual persistent memory, from the host's NVDIMM to the guest's last byte.

    The library works on real tools only: `ndctl` on a host, libvirt and QEMU for the guests, the guest's own kernel
    for what a guest sees. It reaches a host over SSH or locally, and a guest through its QEMU guest agent, over SSH or
    on its serial console ([Use Guest Channel]).

    ### Table of contents

    %TOC%

    # Hosts

    A host is opened once, by [Open Host], [Open Local Host] or [Open Host From File], and has an alias. Keywords act
    on the current host, which [Switch Host] changes. There is one SSH connection a host and it is kept. Host keys are
    checked: an unknown or changed key is refused. A guest is a host too: [Open Guest As Host] opens a running one, and
    the same keywords then work on what its kernel has.

    ```robotframework
    *** Settings ***
    Library    VpmemLibrary

    *** Test Cases ***
    A Guest Sees The Namespace It Was Given
        Open Host    192.0.2.13    user=qa    sudo=True
        ${region} =    Get Roomiest Region    at_least=256MiB
        ${namespace} =    Create Namespace    ${region}    mode=devdax    size=256MiB
        ${guest} =    Start New Guest    vpmem=${namespace}
        All Views Should Agree    ${guest}
        [Teardown]    Run Keywords    Clean Up Host    AND    Close All Hosts
    ```

    # Naming a namespace, a region, a guest

    Wherever a keyword takes a namespace, it takes the record that another keyword returned, a UUID, a name, or a
    device name such as `namespace0.0`. A record and a UUID always mean the same namespace: device names may change
    when a host boots. A name that two namespaces share is refused rather than guessed. Regions and guests are given
    by record or name in the same way.

    # Sizes

    A size is a whole number of bytes or has a binary unit: `268435456`, `256MiB`, `16GiB`. Decimal units and single
    letters are refused. Sizes in records are integers of bytes that print with the largest exact unit.

    # Assertions

    Getters assert, as in the Browser library. Without an operator they only return the value. The operators are those
    of [robotframework-assertion-engine](https://github.com/MarketSquare/AssertionEngine).

    ```robotframework
    *** Test Cases ***
    Its Size
        Get Namespace Size    ${namespace}    ==    254MiB
        ${size} =    Get Namespace Size    ${namespace}
    ```

    # Ownership

    What a run makes carries its mark: a namespace in its UUID, a guest in its domain's metadata. Keywords that destroy
    take exact targets, and refuse what this run did not make unless told so in words (`foreign=True`).
    [Clean Up Host] removes what this run made and nothing else. All workers of one pabot run share one run id when
    the environment variable `VPMEM_RUN_ID` is set; otherwise every process is a run of its own.

    A run that lives holds a lease of its own on every host where it made something; the host's kernel frees it when
    the worker or its connection dies. So [Reclaim What Dead Runs Left] can tell what a killed run left, and takes it
    back.

    # Claims

    Namespaces that are there already can be handed out to one tenant at a time. [Set Pmem Namespaces] says which, in
    the syntax of Nova's `pmem_namespaces`; [Claim Namespace] and [Claim Namespaces] take them, and [Release Claims]
    wipes them and gives them back. A claim is a lease that the host's kernel holds for this worker's SSH connection:
    it holds between workers and between machines, needs no server, and is free at once when the worker dies. It needs
    `bash` and `flock` on the host.

    # Errors

    A mistake is refused before anything is changed, with what was wrong, the value, and what would be valid. A tool
    that fails gives its command as one can paste it, its exit status and what it wrote on standard error.
    """

    # PythonLibCore lists the components' keywords here as well, and would read each of them a second time as the
    # library's own.
    __dir__ = object.__dir__

    def __init__(self, timeout: timedelta = timedelta(seconds=60), run_id: str | None = None) -> None:
        """Set the library up; nothing is opened, read or imported until a keyword needs it.

        Args:
            timeout: How long a command on a host or in a guest, or a call to libvirt, may take when its keyword says
                nothing.
            run_id: The run's id, 8 hexadecimal digits. By default the environment variable `VPMEM_RUN_ID`, or a
                random one.

        Example:

        ```robotframework
        *** Settings ***
        Library    VpmemLibrary    timeout=2 minutes
        ```
        """
        context = Context(RunMark.of_this_run(run_id), timeout.total_seconds())
        super().__init__(
            [
                HostKeywords(context),
                HoldingKeywords(context),
                HostSetupKeywords(context),
                PowerKeywords(context),
                RegionKeywords(context),
                LabelKeywords(context),
                RoomKeywords(context),
                NamespaceKeywords(context),
                NamespaceGetterKeywords(context),
                InfoBlockKeywords(context),
                ScrubKeywords(context),
                DaxKeywords(context),
                HealthKeywords(context),
                CxlKeywords(context),
                ContentKeywords(context),
                FileSystemKeywords(context),
                ClaimKeywords(context),
                DeviceKeywords(context),
                GuestKeywords(context),
                GuestXmlKeywords(context),
                ChannelKeywords(context),
                HotplugKeywords(context),
                InsideKeywords(context),
                IdentityKeywords(context),
                GuestMemoryKeywords(context),
                AccessKeywords(context),
                MigrationKeywords(context),
                ServerKeywords(context),
                RecordKeywords(context),
                SnapshotKeywords(context),
                PerformanceKeywords(context),
                OwnershipKeywords(context),
            ]
        )

    def run_keyword(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run a keyword for Robot Framework.

        Errors that are not this library's own, such as those of assertions, show text from outside as its own do.

        Args:
            name: The keyword's name.
            args: Its positional arguments.
            kwargs: Its named arguments.

        Returns:
            What the keyword returns.

        Raises:
            Exception: What the keyword raises.
        """
        try:
            return super().run_keyword(name, args, kwargs)
        except VpmemError:
            raise
        except Exception as error:
            error.args = tuple(message(each) if isinstance(each, str) else each for each in error.args)
            raise
