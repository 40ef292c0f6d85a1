"""Keywords that define, start, stop and undefine guests."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from msgspec.structs import replace
from robot.api.deco import keyword

from VpmemLibrary.guest import inspection, lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.domain.records import BootSource, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.guest.devices import devices_of
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text, assert_value
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import checked_name

READY_TIMEOUT = timedelta(minutes=3)
"""Three minutes: an emulated guest is ready in half a minute, and on a busy host in several times as long."""


class StopMethod(StrEnum):
    """How to stop a guest.

    - `shutdown`: Its operating system shuts it down.
    - `destroy`: libvirt ends its QEMU by SIGTERM without a shutdown, like a pulled power plug. QEMU can end cleanly.
    - `kill`: SIGKILL ends its QEMU, like a crash of QEMU.
    """

    shutdown = "shutdown"
    destroy = "destroy"
    kill = "kill"


class GuestKeywords:
    """Keywords for the life cycle of guests."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest",))
    def set_guest_image(
        self, *, kernel: str = "", initrd: str = "", cmdline: str = "", disk: str = "", machine: str = ""
    ) -> None:
        """Set the kernel or disk image that new guests of the current host boot from.

        The setting applies to every keyword that does not name an image itself.

        Args:
            kernel: The absolute path of a kernel on the host. libvirt's QEMU must be able to read the file.
            initrd: The kernel's initramfs.
            cmdline: The kernel's command line.
            disk: A disk image with its own operating system, instead of a kernel.
            machine: QEMU's machine type. The default is `guest_machine` of the hosts file. Without that setting it is
                `pc`, or `q35` if the host's QEMU has no `pc` or is about to remove it.

        Raises:
            InvalidValueError: Neither a kernel nor a disk is given, both are given, a path is relative, or `machine` is
                not a valid name.

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
        guests = self._session.current.guests
        guests.set_defaults(replace(guests.defaults, boot=boot, machine=machine or guests.defaults.machine))

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
        """Define a guest on the current host. The guest is not started.

        The library refuses some mistakes that libvirt or QEMU would accept, before it defines anything. Such a mistake
        would lead to a guest that loses its data, or to a guest that uses a device of another user. The domain is
        validated against libvirt's schema. Its metadata has this run's mark.

        Args:
            vpmem: The guest's devices, in order: one device or a list. Each is a namespace or a record from
                [New Vpmem Device].
            name: The guest's name. The default is a generated name that contains the run id.
            memory: The guest's RAM, without the devices.
            vcpus: The number of virtual CPUs.
            numa_cells: The number of the guest's NUMA nodes, which are numbered from 0. RAM and CPUs are divided among
                them.
            spare_slots: The number of free memory slots for [Attach Vpmem Device].
            spare_memory: The total size of the devices that [Attach Vpmem Device] can add.
            share_backing: Allow a backing that another running guest uses. Both guests then write to the backing.
            shared_only: Refuse devices without shared access, because such devices do not persist data.
            network: Give the guest a network interface on the host's bridge for guests (`guest_bridge` of the hosts
                file).
            confined: Whether the host's security driver (AppArmor, SELinux) confines the guest's QEMU. The default is
                `guest_confined` of the hosts file, or yes if the hosts file has no such setting.

        Returns:
            The defined guest.

        Raises:
            InvalidValueError: A device is invalid (the message names the value and what is valid), or no image or
                bridge is set.
            LibvirtError: libvirt refused the domain. The message has libvirt's error code, and no domain is left.

        Example:

        ```robotframework
        *** Test Cases ***
        Define And Start
            ${guest} =    Define Guest    vpmem=ns_0    memory=512MiB
            Start Guest    ${guest}
        ```
        """
        opened = self._session.current
        devices = devices_of(self._session, vpmem)
        spec = opened.guests.spec(
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
        guest = opened.guests.define(spec, share_backing=share_backing, unshared=not shared_only)
        logger.info(f"Defined guest {guest.name}.\n{guest.xml()}")
        return guest

    @keyword(tags=("guest",))
    def start_guest(
        self, guest: Guest | str, *, share_backing: bool = False, timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Start a guest and wait until it answers through its channel.

        The channel is the guest's QEMU guest agent, or the channel that [Use Guest Channel] chose.

        The keyword fails if the guest ends, panics or does not answer in time. The message then has the last lines of
        the guest's console.

        Args:
            guest: The guest or its name.
            share_backing: Allow a backing that another running guest uses. Both guests then write to the backing.
            timeout: How long to wait until the guest is ready.

        Raises:
            NotFoundError: There is no such guest.
            InvalidValueError: A backing does not exist, is too small, or is used by another running guest.
            LibvirtError: libvirt or QEMU refused to start the guest.
            LibvirtTimeoutError: libvirt did not start the guest in time. The message reports the guest's state.
            GuestError: The guest ended or was not ready in time. The message has its last console lines.
            AgentRefusedError: The guest's agent answers but refuses to run commands, as in RHEL 9.4 and newer. The
                message says what to change.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Start Guest    ${guest}
            Get Guest State    ${guest}    ==    running
        ```
        """
        found = self._session.current.guests.find(guest)
        seconds = timeout.total_seconds()
        with libvirt_deadline(seconds):
            lifecycle.start(found, share_backing=share_backing, timeout=seconds)
            readiness.wait_until_ready(found, seconds)

    @keyword(tags=("guest",))
    def wait_until_guest_is_ready(self, guest: Guest | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Wait until a running guest answers through its channel.

        Use this keyword after a restart of libvirt's daemon, or after something other than [Start Guest] started the
        guest.

        Args:
            guest: The guest or its name.
            timeout: How long to wait.

        Raises:
            NotFoundError: There is no such guest.
            GuestError: The guest ended, panicked or was not ready in time. The message has its last console lines.

        Example:

        ```robotframework
        *** Test Cases ***
        Libvirt Comes Back
            Run On Host    systemctl    restart    libvirtd
            Wait Until Guest Is Ready    ${guest}
        ```
        """
        readiness.wait_until_ready(self._session.current.guests.find(guest), timeout.total_seconds())

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
        """Define a guest, start it and wait until it answers.

        This keyword combines [Define Guest] and [Start Guest].

        Args:
            vpmem: The guest's devices, in order: one device or a list. Each is a namespace or a record from
                [New Vpmem Device].
            name: The guest's name. The default is a generated name that contains the run id.
            memory: The guest's RAM, without the devices.
            vcpus: The number of virtual CPUs.
            numa_cells: The number of the guest's NUMA nodes, which are numbered from 0. RAM and CPUs are divided among
                them.
            spare_slots: The number of free memory slots for [Attach Vpmem Device].
            spare_memory: The total size of the devices that [Attach Vpmem Device] can add.
            share_backing: Allow a backing that another running guest uses. Both guests then write to the backing.
            shared_only: Refuse devices without shared access, because such devices do not persist data.
            network: Give the guest a network interface on the host's bridge for guests.
            confined: Whether AppArmor or SELinux confines the guest's QEMU. The default is the setting of the hosts
                file.
            timeout: How long to wait until the guest is ready.

        Returns:
            The running guest.

        Raises:
            InvalidValueError: A device is invalid, or no image is set.
            LibvirtError: libvirt or QEMU refused the guest.
            GuestError: The guest ended or was not ready in time. The message has its last console lines.

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

    @keyword(tags=("guest", "destructive"))
    def stop_guest(
        self,
        guest: Guest | str,
        how: StopMethod = StopMethod.shutdown,
        *,
        foreign: bool = False,
        timeout: timedelta = READY_TIMEOUT,
    ) -> None:
        """Stop a guest and wait until it is off. Its domain stays defined.

        Args:
            guest: The guest or its name.
            how: `shutdown`, `destroy` or `kill`.
            foreign: Allow this keyword to stop a guest that this run did not make.
            timeout: How long to wait until the guest is off.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            GuestError: The guest is not off in time. A guest that did not shut down continues to run. With
                `kill`: or the guest was not running.
            LibvirtError: With `shutdown` or `destroy`: the guest was not running.

        Example:

        ```robotframework
        *** Test Cases ***
        What Was Flushed Outlives QEMU
            Write Pattern In Guest    ${guest}    seed=flushed    length=1MiB
            Stop Guest    ${guest}    how=kill
            Get Guest State    ${guest}    ==    shut off
            Host Should Hold Guest Pattern    ${guest}    ns_0    seed=flushed    length=1MiB
        ```
        """
        found = self._owned(guest, foreign)
        if how is StopMethod.destroy:
            lifecycle.destroy(found)
        elif how is StopMethod.kill:
            lifecycle.kill(found, timeout.total_seconds())
        else:
            lifecycle.shut_down(found, timeout.total_seconds())

    @keyword(tags=("guest",))
    def reboot_guest(self, guest: Guest | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Reboot a guest from inside and wait until it answers again.

        The keyword waits for another boot id of the kernel, which proves that the guest has booted again.

        Args:
            guest: The guest or its name.
            timeout: How long to wait until the guest answers again.

        Raises:
            GuestError: The guest ended, or no new boot answered in time. The message has its last console lines.

        Example:

        ```robotframework
        *** Test Cases ***
        Again
            Reboot Guest    ${guest}
        ```
        """
        lifecycle.reboot(self._session.current.guests.find(guest), timeout.total_seconds())

    @keyword(tags=("guest", "destructive"))
    def undefine_guest(self, guest: Guest | str, *, foreign: bool = False) -> None:
        """Remove a guest's domain from libvirt.

        The guest must be off. Its backings are not changed.

        Args:
            guest: The guest or its name.
            foreign: Allow this keyword to change a guest that this run did not make.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            GuestError: The guest is running. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Stop Guest    ${guest}    how=destroy
            Undefine Guest    ${guest}
        ```
        """
        self._session.current.guests.undefine(self._owned(guest, foreign))

    @keyword(tags=("guest", "destructive"))
    def save_guest(
        self, guest: Guest | str, path: str = "", *, foreign: bool = False, timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Save a running guest's memory on its host and end its QEMU.

        Without `path`, this keyword uses libvirt's managed save, and the next start resumes the guest. With `path`,
        [Restore Guest From File] resumes the guest, as often as needed. The caller must remove the file. Choose a
        directory that only root can write to: in `/var/tmp`, any user of the host can put a symbolic link at the path.

        The saved memory includes the bytes of the guest's nvdimm devices. Resuming the guest writes these bytes back,
        and so overwrites later writes of others to a shared backing.

        Args:
            guest: The guest or its name.
            path: The absolute path of a file on the host. Nothing may exist at the path. The default is libvirt's own
                place for saved guests.
            foreign: Allow this keyword to change a guest that this run did not make.
            timeout: How long the save may take.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            InvalidValueError: The path is relative, or something exists at the path (a broken symbolic link counts).
            LibvirtError: libvirt could not save the guest. The guest still runs.
            LibvirtTimeoutError: The guest was not saved in time, and the save was aborted. The message reports the
                guest's state.

        Example:

        ```robotframework
        *** Test Cases ***
        Goes On
            ${boot} =    Get Guest Boot Id    ${guest}
            Save Guest    ${guest}
            Start Guest    ${guest}
            Get Guest Boot Id    ${guest}    ==    ${boot}

        The Same Moment Twice
            Save Guest    ${guest}    /var/lib/libvirt/qemu/save/moment
            Restore Guest From File    ${guest}    /var/lib/libvirt/qemu/save/moment
            Stop Guest    ${guest}    how=destroy
            Restore Guest From File    ${guest}    /var/lib/libvirt/qemu/save/moment
            [Teardown]    Run On Host    rm    -f    /var/lib/libvirt/qemu/save/moment
        ```
        """
        found = self._owned(guest, foreign)
        if path:
            lifecycle.save_to_file(found, path, timeout=timeout.total_seconds())
        else:
            lifecycle.save(found, timeout.total_seconds())

    @keyword(tags=("guest",))
    def restore_guest_from_file(self, guest: Guest | str, path: str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Restore a guest from a file of [Save Guest] and wait until the guest answers.

        The guest resumes where it was saved. The file stays and can be used again. The saved bytes of the guest's
        nvdimm devices are written back, like its RAM. The saved bytes overwrite later writes of others to a shared
        backing.

        Args:
            guest: The guest or its name. The guest must be off.
            path: The file on its host.
            timeout: How long to wait until the guest's agent answers.

        Raises:
            NotFoundError: There is no such guest.
            InvalidValueError: Another running guest uses a backing of this guest's devices.
            LibvirtError: The guest is running, or the file is not a saved guest.
            LibvirtTimeoutError: The guest was not restored in time. The message reports the guest's state.
            GuestError: The guest's agent did not answer in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Goes On
            ${boot} =    Get Guest Boot Id    ${guest}
            Save Guest    ${guest}    /var/lib/libvirt/qemu/save/moment
            Restore Guest From File    ${guest}    /var/lib/libvirt/qemu/save/moment
            Get Guest Boot Id    ${guest}    ==    ${boot}
        ```
        """
        found = self._session.current.guests.find(guest)
        seconds = timeout.total_seconds()
        with libvirt_deadline(seconds):
            lifecycle.restore_from_file(found, path, timeout=seconds)
            readiness.wait_until_ready(found, seconds)

    @keyword(tags=("guest", "getter"))
    def get_guest_state(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a guest's state as libvirt reports it, and assert it if an operator is given.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected state: `running`, `paused`, `shut off`, `crashed` ...
            message: Your own failure text.

        Returns:
            The state, in the words of virsh.

        Raises:
            NotFoundError: There is no such guest.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Get Guest State    ${guest}    ==    running
        ```
        """
        found = self._session.current.guests.find(guest)
        return assert_text(found.state(), assertion_operator, expected, f"State of guest {found.name}", message)

    @keyword(tags=("guest", "getter"))
    def get_guest_process(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the process id of a guest's QEMU on the host, and assert it if an operator is given.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected process id.
            message: Your own failure text.

        Returns:
            The process id.

        Raises:
            GuestError: The guest is not running.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Another QEMU
            ${before} =    Get Guest Process    ${guest}
            Stop Guest    ${guest}    how=destroy
            Start Guest    ${guest}
            Get Guest Process    ${guest}    !=    ${before}
        ```
        """
        found = self._session.current.guests.find(guest)
        return assert_value(
            inspection.process_id(found),
            assertion_operator,
            expected,
            f"QEMU's process id of guest {found.name}",
            message,
        )

    @keyword(tags=("guest", "getter"))
    def get_guest_console(self, guest: Guest | str, lines: int = 50) -> str:
        """Return the last lines that a guest wrote on its serial console.

        Args:
            guest: The guest or its name.
            lines: The number of lines.

        Returns:
            The lines. The text is empty if the guest wrote nothing or has no console log.

        Example:

        ```robotframework
        *** Test Cases ***
        What It Said
            ${text} =    Get Guest Console    ${guest}
            Should Contain    ${text}    Linux version
        ```
        """
        return self._session.current.guests.find(guest).console.tail(lines)

    def _owned(self, guest: Guest | str, foreign: bool) -> Guest:
        found = self._session.current.guests.find(guest)
        if not foreign:
            found.require_made_by(self._session.run.run_id)
        return found
