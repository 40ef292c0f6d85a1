"""Keywords that define, start, stop and undefine guests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.guest.channel.bounded import within
from VpmemLibrary.guest.domain.records import BootSource, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.guest.devices import devices_of
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text, assert_value
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import checked_name

READY_TIMEOUT = timedelta(minutes=3)
"""A guest under emulation is ready in half a minute; a host that is busy as well may take several times that."""


class GuestKeywords:
    """Guests: their domains and their lives."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("guest",))
    def set_guest_image(
        self, *, kernel: str = "", initrd: str = "", cmdline: str = "", disk: str = "", machine: str = ""
    ) -> None:
        """Say what guests of the current host boot from, when a keyword does not say it itself.

        Args:
            kernel: A kernel, as an absolute path on the host that libvirt's QEMU may read.
            initrd: Its initramfs.
            cmdline: Its command line.
            disk: Or a disk image with an operating system of its own.
            machine: QEMU's machine type; what `guest_machine` of the hosts file says by default, or else `pc`, or `q35`
                where the host's QEMU has no `pc` or is about to drop it.

        Raises:
            InvalidValueError: Neither a kernel nor a disk is given, or both are, a path is relative, or `machine` is no
                name.

        Example:

        ```robotframework
        *** Test Cases ***
        My Own Guest
            Set Guest Image    disk=/var/lib/libvirt/images/fedora.qcow2
            ${guest} =    Start New Guest    vpmem=ns_0
        ```
        """
        boot = BootSource(kernel=kernel, initrd=initrd, cmdline=cmdline, disk=disk)
        machine = checked_name("machine", machine) if machine else ""
        opened = self._context.current
        opened.boot, opened.machine = boot, machine or opened.machine

    @keyword(tags=("guest",))
    def define_guest(
        self,
        vpmem: VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None = None,
        *,
        name: str = "",
        memory: Size = Size(256 * MiB),
        vcpus: int = 1,
        numa_cells: int = 1,
        spare_slots: int = 2,
        spare_memory: Size = Size(4 * GiB),
        share_backing: bool = False,
        shared_only: bool = True,
        network: bool = False,
        confined: bool | None = None,
    ) -> Guest:
        """Define a guest on the current host; it is not started.

        Mistakes that libvirt or QEMU would take and that would end in a guest that does not persist, or in somebody
        else's device, are refused before anything is defined. The domain is validated against libvirt's schema and
        carries this run's mark in its metadata.

        Args:
            vpmem: Its devices, in order: namespaces, or what [New Vpmem Device] returned; one or a list.
            name: Its name; one of this run's own by default.
            memory: Its RAM, without the devices.
            vcpus: Its virtual CPUs.
            numa_cells: Its NUMA nodes, numbered from 0; RAM and CPUs are dealt out to them.
            spare_slots: For how many more devices there is a memory slot, for [Attach Vpmem Device].
            spare_memory: For how large devices there is room, for [Attach Vpmem Device].
            share_backing: Another running guest may have a backing of its devices, which both then write to.
            shared_only: Refuse devices that do not persist, as their access is not shared.
            network: Give it an interface on the host's bridge for guests (`guest_bridge` of the hosts file).
            confined: Whether the host's security driver (AppArmor, SELinux) confines its QEMU; as `guest_confined` of
                the hosts file says by default, which is yes when it says nothing.

        Returns:
            The guest.

        Raises:
            InvalidValueError: A device cannot be (named, with what would be valid), or no image or bridge is set.
            LibvirtError: libvirt refused; its code is in the message, and no domain is left.

        Example:

        ```robotframework
        *** Test Cases ***
        Define And Start
            ${guest} =    Define Guest    vpmem=ns_0    memory=512MiB
            Start Guest    ${guest}
        ```
        """
        opened = self._context.current
        devices = devices_of(self._context, vpmem)
        spec = opened.guest_spec(
            name=name,
            memory=memory,
            vcpus=vcpus,
            devices=devices,
            numa_cells=numa_cells,
            spare_slots=spare_slots,
            spare_memory=spare_memory,
            network=network,
            confined=confined,
        )
        guest = opened.define_guest(spec, share_backing=share_backing, unshared=not shared_only)
        logger.info(f"Defined guest {guest.name}.\n{guest.xml()}")
        return guest

    @keyword(tags=("guest",))
    def start_guest(
        self, guest: Guest | str, *, share_backing: bool = False, timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Start a guest and wait until it answers: its agent, or what [Use Guest Channel] chose.

        A guest that dies, panics or does not answer in time fails here, with the last lines of its console.

        Args:
            guest: The guest or its name.
            share_backing: Another running guest may have a backing of its devices, which both then write to.
            timeout: How long it may take to be ready.

        Raises:
            NotFoundError: There is no such guest.
            InvalidValueError: A backing is absent, too small, or another running guest has it.
            LibvirtError: libvirt or QEMU refused to start it.
            LibvirtTimeoutError: libvirt did not start it in time; the message says in which state it is.
            GuestError: It died or was not ready in time; the message has its last console lines.
            AgentRefusedError: Its agent answers and refuses to run commands, as in RHEL 9.4 and newer; the message says
                what to change.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Start Guest    ${guest}
            Get Guest State    ${guest}    ==    running
        ```
        """
        found = self._context.current.guest(guest)
        seconds = timeout.total_seconds()
        with within(seconds):
            found.start(share_backing=share_backing, timeout=seconds)
            found.wait_until_ready(seconds)

    @keyword(tags=("guest",))
    def wait_until_guest_is_ready(self, guest: Guest | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Wait until a running guest can be looked into: after libvirt's daemon was restarted, or a start elsewhere.

        Args:
            guest: The guest or its name.
            timeout: How long it may take.

        Raises:
            NotFoundError: There is no such guest.
            GuestError: It ended, panicked or was not ready in time; the message has its last console lines.

        Example:

        ```robotframework
        *** Test Cases ***
        Libvirt Comes Back
            Run On Host    systemctl    restart    libvirtd
            Wait Until Guest Is Ready    ${guest}
        ```
        """
        self._context.current.guest(guest).wait_until_ready(timeout.total_seconds())

    @keyword(tags=("guest",))
    def start_new_guest(
        self,
        vpmem: VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None = None,
        *,
        name: str = "",
        memory: Size = Size(256 * MiB),
        vcpus: int = 1,
        numa_cells: int = 1,
        spare_slots: int = 2,
        spare_memory: Size = Size(4 * GiB),
        share_backing: bool = False,
        shared_only: bool = True,
        network: bool = False,
        confined: bool | None = None,
        timeout: timedelta = READY_TIMEOUT,
    ) -> Guest:
        """Define a guest, start it and wait until it answers: [Define Guest] and [Start Guest] in one.

        Args:
            vpmem: Its devices, in order: namespaces, or what [New Vpmem Device] returned; one or a list.
            name: Its name; one of this run's own by default.
            memory: Its RAM, without the devices.
            vcpus: Its virtual CPUs.
            numa_cells: Its NUMA nodes, numbered from 0; RAM and CPUs are dealt out to them.
            spare_slots: For how many more devices there is a memory slot, for [Attach Vpmem Device].
            spare_memory: For how large devices there is room, for [Attach Vpmem Device].
            share_backing: Another running guest may have a backing of its devices, which both then write to.
            shared_only: Refuse devices that do not persist, as their access is not shared.
            network: Give it an interface on the host's bridge for guests.
            confined: Whether AppArmor or SELinux confines its QEMU; as the hosts file says by default.
            timeout: How long it may take to be ready.

        Returns:
            The guest.

        Raises:
            InvalidValueError: A device cannot be, or no image is set.
            LibvirtError: libvirt or QEMU refused.
            GuestError: It died or was not ready in time; the message has its last console lines.

        Example:

        ```robotframework
        *** Test Cases ***
        A Guest On Two Namespaces
            ${guest} =    Start New Guest    vpmem=${{['ns_0', 'ns_1']}}
            All Views Should Agree    ${guest}
        ```
        """
        guest: Guest = self.define_guest(
            vpmem,
            name=name,
            memory=memory,
            vcpus=vcpus,
            numa_cells=numa_cells,
            spare_slots=spare_slots,
            spare_memory=spare_memory,
            network=network,
            confined=confined,
            share_backing=share_backing,
            shared_only=shared_only,
        )
        self.start_guest(guest, share_backing=share_backing, timeout=timeout)
        return guest

    @keyword(tags=("guest",))
    def stop_guest(self, guest: Guest | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Shut a guest down as its operating system does it, and wait until it is off.

        Args:
            guest: The guest or its name.
            timeout: How long it may take.

        Raises:
            GuestError: It did not shut down in time; it is left running.

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            Stop Guest    ${guest}
            Get Guest State    ${guest}    ==    shut off
        ```
        """
        self._context.current.guest(guest).shutdown(timeout.total_seconds())

    @keyword(tags=("guest",))
    def reboot_guest(self, guest: Guest | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Reboot a guest from inside and wait until it answers again from another boot.

        The other boot is proven by the kernel's boot id, not assumed.

        Args:
            guest: The guest or its name.
            timeout: How long it may take.

        Raises:
            GuestError: It died, or no other boot answered in time; the message has its last console lines.

        Example:

        ```robotframework
        *** Test Cases ***
        Again
            Reboot Guest    ${guest}
        ```
        """
        self._context.current.guest(guest).reboot(timeout.total_seconds())

    @keyword(tags=("guest", "destructive"))
    def destroy_guest(self, guest: Guest | str, *, foreign: bool = False) -> None:
        """End a guest's QEMU without asking the guest, as pulling its plug; its domain stays defined.

        Args:
            guest: The guest or its name.
            foreign: Allow it on a guest that this run did not make.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.

        Example:

        ```robotframework
        *** Test Cases ***
        Plug
            Destroy Guest    ${guest}
            Start Guest    ${guest}
        ```
        """
        self._owned(guest, foreign).destroy()

    @keyword(tags=("guest", "destructive"))
    def undefine_guest(self, guest: Guest | str, *, foreign: bool = False) -> None:
        """Remove a guest's domain from libvirt; the guest must be off. Its backings are not touched.

        Args:
            guest: The guest or its name.
            foreign: Allow it on a guest that this run did not make.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            LibvirtError: It is running.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Destroy Guest    ${guest}
            Undefine Guest    ${guest}
        ```
        """
        self._context.current.undefine_guest(self._owned(guest, foreign))

    @keyword(tags=("guest", "destructive"))
    def save_guest(self, guest: Guest | str, *, foreign: bool = False, timeout: timedelta = READY_TIMEOUT) -> None:
        """Write a running guest's memory to its host's disk and end its QEMU; its next start goes on where it was.

        It is libvirt's managed save. The saved memory holds the bytes of its nvdimm devices as well, and its next
        start writes them back: what anybody wrote to a shared backing meanwhile is gone then.

        Args:
            guest: The guest or its name.
            foreign: Allow it on a guest that this run did not make.
            timeout: How long it may take.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            LibvirtError: libvirt could not; the guest runs on.
            LibvirtTimeoutError: It was not saved in time, and the save was aborted; the message says in which state
                the guest is.

        Example:

        ```robotframework
        *** Test Cases ***
        Goes On
            ${boot} =    Get Guest Boot Id    ${guest}
            Save Guest    ${guest}
            Start Guest    ${guest}
            Get Guest Boot Id    ${guest}    ==    ${boot}
        ```
        """
        self._owned(guest, foreign).save(timeout.total_seconds())

    @keyword(tags=("guest", "destructive"))
    def save_guest_to_file(
        self, guest: Guest | str, path: str, *, foreign: bool = False, timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Write a running guest's memory to a file on its host and end its QEMU, for [Restore Guest From File].

        The bytes of its nvdimm devices are in the file as well as its RAM. The file is the caller's to remove. Choose
        a directory that only root can write to: in `/var/tmp`, any user of the host may put a link at the path.

        Args:
            guest: The guest or its name.
            path: The file, an absolute path at which nothing is.
            foreign: Allow it on a guest that this run did not make.
            timeout: How long it may take.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: The path is relative, or something is there (a link that leads nowhere, too).
            LibvirtError: libvirt could not; the guest runs on.
            LibvirtTimeoutError: It was not saved in time, and the save was aborted; the message says in which state
                the guest is.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same Moment Twice
            Save Guest To File    ${guest}    /var/lib/libvirt/qemu/save/moment
            Restore Guest From File    ${guest}    /var/lib/libvirt/qemu/save/moment
            Destroy Guest    ${guest}
            Restore Guest From File    ${guest}    /var/lib/libvirt/qemu/save/moment
            [Teardown]    Run On Host    rm    -f    /var/lib/libvirt/qemu/save/moment
        ```
        """
        self._owned(guest, foreign).save_to(path, timeout=timeout.total_seconds())

    @keyword(tags=("guest",))
    def restore_guest_from_file(self, guest: Guest | str, path: str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Have a guest go on where [Save Guest To File] saved it, and wait until its agent answers.

        The file stays and may be used again. The bytes of its nvdimm devices are written back as they were saved,
        as its RAM is: what anybody wrote to a shared backing since is gone then.

        Args:
            guest: The guest, which is off, or its name.
            path: The file on its host.
            timeout: How long it may take until the agent answers.

        Raises:
            NotFoundError: There is no such guest.
            InvalidValueError: Another running guest has a backing of its devices.
            LibvirtError: The guest runs, or the file is no saved guest.
            LibvirtTimeoutError: It was not restored in time; the message says in which state the guest is.
            GuestError: Its agent did not answer in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Goes On
            ${boot} =    Get Guest Boot Id    ${guest}
            Save Guest To File    ${guest}    /var/lib/libvirt/qemu/save/moment
            Restore Guest From File    ${guest}    /var/lib/libvirt/qemu/save/moment
            Get Guest Boot Id    ${guest}    ==    ${boot}
        ```
        """
        found = self._context.current.guest(guest)
        seconds = timeout.total_seconds()
        with within(seconds):
            found.restore_from(path, timeout=seconds)
            found.wait_until_ready(seconds)

    @keyword(tags=("guest", "destructive"))
    def kill_guest(self, guest: Guest | str, *, foreign: bool = False, timeout: timedelta = READY_TIMEOUT) -> None:
        """End a guest's QEMU by SIGKILL, which it cannot notice, and wait until libvirt has the guest off.

        [Destroy Guest] ends it by SIGTERM first, so that QEMU can put things in order; a crash cannot.

        Args:
            guest: The guest or its name.
            foreign: Allow it on a guest that this run did not make.
            timeout: How long it may take until the guest is off.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            GuestError: It is not running, or was not off in time.

        Example:

        ```robotframework
        *** Test Cases ***
        What Was Flushed Outlives QEMU
            Write Pattern In Guest    ${guest}    seed=flushed    length=1MiB
            Kill Guest    ${guest}
            Host Should Hold Guest Pattern    ${guest}    ns_0    seed=flushed    length=1MiB
        ```
        """
        self._owned(guest, foreign).kill(timeout.total_seconds())

    @keyword(tags=("guest", "getter"))
    def get_guest_state(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a guest's state as libvirt has it, and assert it when an operator is given.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The state that is expected: `running`, `paused`, `shut off`, `crashed` ...
            message: Your own failure text.

        Returns:
            The state, in virsh's words.

        Raises:
            NotFoundError: There is no such guest.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Get Guest State    ${guest}    ==    running
        ```
        """
        found = self._context.current.guest(guest)
        return assert_text(found.state(), assertion_operator, expected, f"State of guest {found.name}", message)

    @keyword(tags=("guest", "getter"))
    def get_guest_process(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the process id of a guest's QEMU on the host, and assert it when an operator is given.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The process id that is expected.
            message: Your own failure text.

        Returns:
            The process id.

        Raises:
            GuestError: It is not running.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Another QEMU
            ${before} =    Get Guest Process    ${guest}
            Destroy Guest    ${guest}
            Start Guest    ${guest}
            Get Guest Process    ${guest}    !=    ${before}
        ```
        """
        found = self._context.current.guest(guest)
        return assert_value(
            found.process(), assertion_operator, expected, f"QEMU's process id of guest {found.name}", message
        )

    @keyword(tags=("guest", "getter"))
    def get_guest_console(self, guest: Guest | str, lines: int = 50) -> str:
        """Return the last lines that a guest wrote on its serial console.

        Args:
            guest: The guest or its name.
            lines: How many lines.

        Returns:
            The lines; empty when it wrote none or has no console log.

        Example:

        ```robotframework
        *** Test Cases ***
        What It Said
            ${text} =    Get Guest Console    ${guest}
            Should Contain    ${text}    Linux version
        ```
        """
        return self._context.current.guest(guest).console_tail(lines)

    def _owned(self, guest: Guest | str, foreign: bool) -> Guest:
        found = self._context.current.guest(guest)
        if not foreign:
            found.require_made_by(self._context.run.run_id)
        return found
