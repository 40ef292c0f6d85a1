"""Start and end guests: start, shut down, reboot, destroy, kill, save, restore, undefine."""

from __future__ import annotations

from VpmemLibrary.errors import GuestError, LibvirtError
from VpmemLibrary.guest.channel.channels import GuestChannel
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.domain.checks import check_backings, refuse_present
from VpmemLibrary.guest.domain.domains import refuse_shared
from VpmemLibrary.guest.domain.qemu_features import pmem_explained
from VpmemLibrary.guest.domain.states import ALIVE, NO_DOMAIN, OFF
from VpmemLibrary.guest.guest import START_TIMEOUT, Guest
from VpmemLibrary.guest.inspection import qemu_process
from VpmemLibrary.guest.readiness import current_boot_id, failure_text, wait_until_rebooted

_SHORT_NAME = 20
_QEMU_DIRECTORY = "/var/lib/libvirt/qemu"

# The name of a directory has the number and the name of the domain. Another guest's name may end with this name.
# libvirt 9.0 has the sockets of channels below this directory too. A later libvirt has them below /run.
_REMOVE_LEFTOVERS = r"""
cd "$2" || exit
for left in domain-*-"$1" ram/*-"$1" channel/target/domain-*-"$1"; do
    number=${left##*/}
    number=${number#domain-}
    number=${number%-"$1"}
    case $number in '' | *[!0-9]*) ;; *) rm -rf -- "$left" || exit ;; esac
done
"""


def start(guest: Guest, *, share_backing: bool = False, timeout: float = START_TIMEOUT) -> None:
    """Start a guest. Do not wait until it is ready.

    Args:
        guest: The guest.
        share_backing: Allow another running guest to use a backing of these devices.
        timeout: Seconds until libvirt must have started the guest.

    Raises:
        InvalidValueError: A backing is absent (QEMU would create it), is too small, or another running guest uses it
            (QEMU would share it).
        LibvirtError: libvirt or QEMU refused.
        LibvirtTimeoutError: The guest was not started within `timeout`. The message gives its state.
    """
    with guest.state_at_timeout(), libvirt_deadline(timeout):
        check_backings(guest.host, guest.devices)
        if not share_backing:
            refuse_shared(guest.host, guest.link, guest.name, guest.devices)
        console = guest.console
        guest.boot_console_start = console.size() if console.appended else 0
        with pmem_explained():
            guest.act("start", lambda domain: domain.create(), timeout=timeout)


def shut_down(guest: Guest, timeout: float) -> None:
    """Shut a guest down through its operating system and wait until it is off.

    Args:
        guest: The guest.
        timeout: Seconds.

    Raises:
        GuestError: The guest is not off within `timeout`. It is left running.
    """
    with libvirt_deadline(timeout) as deadline:
        guest.act("shut down", lambda domain: domain.shutdown())
        _wait_until_off(guest, deadline, f"did not shut down within {timeout:g} s")


def reboot(guest: Guest, timeout: float) -> None:
    """Reboot a guest from inside and wait until the new boot answers through the channel.

    Args:
        guest: The guest.
        timeout: Seconds.

    Raises:
        GuestError: The guest ended, panicked, or no new boot answered within `timeout`. The message has the last
            console lines.
    """
    import libvirt  # noqa: PLC0415

    with libvirt_deadline(timeout):
        before = current_boot_id(guest)
        guest.boot_console_start = guest.console.size()
        method = libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT if guest.channel is GuestChannel.agent else 0  # 0: any method
        guest.act("reboot", lambda domain: domain.reboot(method))
        wait_until_rebooted(guest, before, timeout)


def destroy(guest: Guest) -> None:
    """End a guest's QEMU without a shutdown. The domain stays defined.

    Raises:
        LibvirtError: libvirt could not end QEMU.
    """
    guest.act("destroy", lambda domain: domain.destroy())


def kill(guest: Guest, timeout: float, *, after: float = 0.0) -> None:
    """Kill a guest's QEMU by SIGKILL, which QEMU cannot notice. Wait until libvirt lists the domain as off.

    Args:
        guest: The guest.
        timeout: Seconds until the domain must be off.
        after: Seconds until the signal is sent, counted on the host.

    Raises:
        GuestError: The guest is not running, or is not off within `timeout`.
        CommandError: The signal could not be sent.
    """
    with libvirt_deadline(timeout):
        qemu = qemu_process(guest)
    qemu.kill(guest.host, timeout=timeout, after=after)
    with libvirt_deadline(timeout) as deadline:
        _wait_until_off(guest, deadline, f"is not off {timeout:g} s after its QEMU was killed")


def save(guest: Guest, timeout: float) -> None:
    """Save a guest's memory to disk and end the guest (libvirt's managed save). The next start restores it.

    Args:
        guest: The guest.
        timeout: Seconds.

    Raises:
        LibvirtError: libvirt could not save the guest. The guest is still running.
        LibvirtTimeoutError: The guest was not saved within `timeout`. The message gives its state.
        GuestError: libvirt saved the guest but did not list it as off within `timeout`.
    """
    with libvirt_deadline(timeout) as deadline:
        guest.run_job("save", lambda domain: domain.managedSave(0), timeout)
        for _ in guest.attempts("saved", deadline):
            if guest.state_and_reason()[0] == OFF and is_saved(guest):
                return
        raise GuestError(failure_text(guest, f"was not saved within {timeout:g} s"))


def is_saved(guest: Guest) -> bool:
    """Return whether the next start restores saved memory."""
    return bool(guest.act("look for the saved memory of", lambda domain: domain.hasManagedSaveImage(0)))


def save_to_file(guest: Guest, path: str, *, timeout: float = START_TIMEOUT) -> None:
    """Write a guest's memory and domain to a file on the host, and end its QEMU (libvirt's virDomainSave).

    Args:
        guest: The guest.
        path: The path of the file, which must not exist yet.
        timeout: Seconds until the guest must be saved.

    Raises:
        InvalidValueError: The path is relative or exists already.
        LibvirtError: libvirt could not save the guest. The guest is still running.
        LibvirtTimeoutError: The guest was not saved within `timeout`. The message gives its state.
    """
    refuse_present(guest.host, path)
    guest.run_job("save", lambda domain: domain.save(path), timeout)


def restore_from_file(guest: Guest, path: str, *, timeout: float = START_TIMEOUT) -> None:
    """Restore a guest from a file of `save_to_file`. The file stays, so that it can be restored again.

    Args:
        guest: The guest.
        path: The file on the host.
        timeout: Seconds until the guest must run.

    Raises:
        InvalidValueError: Another running guest uses a backing of these devices.
        LibvirtError: libvirt could not restore: the guest is running, or the file is no saved guest.
        LibvirtTimeoutError: The guest was not restored within `timeout`. The message gives its state.
    """
    with guest.state_at_timeout(), libvirt_deadline(timeout):
        refuse_shared(guest.host, guest.link, guest.name, guest.devices)
        action = f"restore guest {guest.name} from {path}"
        guest.link.call(action, lambda connection: connection.restore(path), timeout=timeout)


def undefine(guest: Guest) -> None:
    """Remove the domain, and the files that libvirt kept if QEMU ended with the host. The guest must be off.

    Raises:
        GuestError: The guest runs. libvirt would keep it as a transient domain, which is gone after a host reboot.
        LibvirtError: libvirt could not remove the domain.
        CommandError: libvirt's files could not be removed.
    """
    import libvirt  # noqa: PLC0415

    state, _ = guest.state_and_reason()
    if state in ALIVE:
        raise GuestError(
            f"Guest {guest.name} is {state} on {guest.link.host}, so it was not undefined. Stop it first (Stop Guest)."
        )
    remove_power_loss_leftovers(guest)
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM  # required for a domain with UEFI variables
    )
    guest.act("undefine", lambda domain: domain.undefineFlags(flags))


def remove(guest: Guest) -> None:
    """End a guest if it runs, and remove its domain. The guest may be gone at any moment.

    Raises:
        LibvirtError: libvirt could not end QEMU, or could not remove the domain.
        CommandError: libvirt's files could not be removed.
    """
    try:
        if guest.state() != OFF:
            destroy(guest)
        undefine(guest)
    except LibvirtError as error:
        if error.code != NO_DOMAIN:
            raise


def remove_power_loss_leftovers(guest: Guest) -> None:
    """Remove libvirt's files for a guest's QEMU after the host lost power while the guest ran.

    libvirt removes these files when QEMU ends, but it does not notice a QEMU that ended together with the host. The
    names of its directories contain only the first 20 letters of the guest's name (libvirt, virDomainDefGetShortName).
    So nothing is removed for a guest with a longer name.

    Raises:
        CommandError: The files could not be removed.
    """
    if guest.state() == OFF and len(guest.name) <= _SHORT_NAME:
        guest.host.run(["sh", "-c", _REMOVE_LEFTOVERS, "sh", guest.name, _QEMU_DIRECTORY]).check()


def _wait_until_off(guest: Guest, deadline: float, failure: str) -> None:
    for _ in guest.attempts("off", deadline):
        if guest.state_and_reason()[0] not in ALIVE:
            return
    raise GuestError(failure_text(guest, failure))
