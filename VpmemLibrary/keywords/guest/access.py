"""Keywords that show which host devices a guest's QEMU can open."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.guest import inspection
from VpmemLibrary.guest.confinement import Confinement, read_confinement, refusals
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.session.session import Session


class AccessKeywords:
    """Keywords for the access of guests to the devices of their host."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest", "getter"))
    def get_guest_confinement(self, guest: Guest | str) -> Confinement:
        """Return the confinement of a running guest's QEMU, as the host's kernel reports it.

        Args:
            guest: The guest or its name.

        Returns:
            A record with `process`, `profile` (the AppArmor profile; empty if there is none), `enforced`, `user`,
            `group` and `cgroup`.

        Raises:
            GuestError: The guest is not running.

        Example:

        ```robotframework
        *** Test Cases ***
        Confined
            ${confinement} =    Get Guest Confinement    ${guest}
            Should Be True    ${confinement.enforced}
        ```
        """
        found = self._session.current.guests.find(guest)
        return read_confinement(found.host, inspection.qemu_process(found))

    @keyword(tags=("guest", "assertion"))
    def guest_should_reach_only_its_own_devices(self, guest: Guest | str) -> None:
        """Fail unless a running guest's QEMU can open its own backings and no other namespace of its host.

        A test process opens the device node of every namespace in QEMU's own `/dev`, and reads nothing. The process
        runs in QEMU's control group, with QEMU's user and groups, and with QEMU's AppArmor profile if there is one. The
        log has a table.

        Args:
            guest: The guest or its name.

        Raises:
            AssertionError: The guest's QEMU can open a device that is not its own, or cannot open its own device.
            GuestError: The guest is not running.
            UnsupportedError: SELinux confines the guest.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Own And No Other
            Guest Should Reach Only Its Own Devices    ${guest}
        ```
        """
        found = self._session.current.guests.find(guest)
        own = {device.path for device in found.live_devices}
        nodes = {each.device for each in self._session.host.ndctl.inventory().namespaces if each.device}
        qemu = inspection.qemu_process(found)
        refused = refusals(found.host, qemu, read_confinement(found.host, qemu), sorted(own | nodes))
        wrong = {path for path, reason in refused.items() if bool(reason) is (path in own)}
        rows = [(path, "yes" if path in own else "no", reason or "may open it") for path, reason in refused.items()]
        log_table(
            f"What the QEMU of guest {found.name} may reach",
            ("device", "its own", "outcome"),
            rows,
            marked={(number, 2) for number, row in enumerate(rows) if row[0] in wrong},
        )
        if wrong:
            reasons = "; ".join(
                f"{path}{' (its own)' if path in own else ''}: {refused[path] or 'may open it'}"
                for path in sorted(wrong)
            )
            raise AssertionError(f"Guest {found.name} can open other devices, or not all its own: {reasons}.")
