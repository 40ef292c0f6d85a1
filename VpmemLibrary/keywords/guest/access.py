"""Keywords that show what a guest's QEMU may reach on its host."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.guest.confinement import Confinement, read_confinement, refusals
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table


class AccessKeywords:
    """Access of guests to the devices of their host."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("guest", "getter"))
    def get_guest_confinement(self, guest: Guest | str) -> Confinement:
        """Return what a running guest's QEMU is confined to on its host, as the host's kernel tells it.

        Args:
            guest: The guest or its name.

        Returns:
            A record with `process`, `profile` (its AppArmor profile; empty where it has none), `enforced`, `user`,
            `group` and `cgroup`.

        Raises:
            GuestError: It is not running.

        Example:

        ```robotframework
        *** Test Cases ***
        Confined
            ${confinement} =    Get Guest Confinement    ${guest}
            Should Be True    ${confinement.enforced}
        ```
        """
        found = self._context.current.guest(guest)
        return read_confinement(found.host, found.qemu())

    @keyword(tags=("guest", "assertion"))
    def guest_should_reach_only_its_own_devices(self, guest: Guest | str) -> None:
        """Fail unless a running guest's QEMU may open its own backings and no other namespace of its host.

        Every namespace's device node in QEMU's own `/dev` is opened, and nothing is read, by a process in QEMU's
        control group, with its user, groups and, where it has one, AppArmor profile. The log has a table.

        Args:
            guest: The guest or its name.

        Raises:
            AssertionError: It may open what is not its own, or may not open what is.
            GuestError: It is not running.
            UnsupportedError: It is confined by SELinux.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Own And No Other
            Guest Should Reach Only Its Own Devices    ${guest}
        ```
        """
        found = self._context.current.guest(guest)
        own = {device.path for device in found.live_devices}
        nodes = {each.device for each in self._context.host.ndctl.inventory().namespaces if each.device}
        qemu = found.qemu()
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
            told = "; ".join(
                f"{path}{' (its own)' if path in own else ''}: {refused[path] or 'may open it'}"
                for path in sorted(wrong)
            )
            raise AssertionError(f"Guest {found.name} does not reach exactly its own devices: {told}.")
