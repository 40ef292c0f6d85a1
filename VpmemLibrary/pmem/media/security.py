"""Set, change and remove the passphrases of DIMMs, freeze and unlock DIMMs, and erase them.

ndctl creates a random passphrase in the host's kernel, as an encrypted key. A master key in the kernel's user keyring
encrypts the passphrase. ndctl stores the encrypted passphrase in ``/etc/ndctl/keys`` (ndctl,
Documentation/ndctl/intel-nvdimm-security.txt). So arguments, output and the controller never contain a passphrase or a
master key.

ndctl may fail but exit 0: ``enable-dimm`` without the key reports an enabled DIMM, but the DIMM stays locked (ndctl
81). So each method lists the DIMM again after the change, and checks its state.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    InvalidValueError,
    ToolMissingError,
    UnsupportedError,
)
from VpmemLibrary.pmem.guard import DIMM, act, dimm_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import TOOL_MISSING, checked
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.polling import growing, poll
from VpmemLibrary.transport.base import CommandResult, checked_name
from VpmemLibrary.visible import one_line

KEYS = "/etc/ndctl/keys"
"""The directory in which ndctl stores the encrypted passphrases of a host's DIMMs."""


class EraseMethod(StrEnum):
    """A method to erase all content of a DIMM."""

    crypto = "crypto-erase"
    """The DIMM changes the key that encrypts its content."""
    overwrite = "overwrite"
    """The DIMM overwrites its content. This takes minutes to hours on a real DIMM."""


class SecurityState(Struct, frozen=True):
    """The security state of a DIMM, from ndctl's listing.

    Args:
        dev: The DIMM's name.
        state: ``disabled`` (no passphrase), ``unlocked``, ``locked``, or ``overwrite`` while an overwrite is active.
            Empty if the DIMM has no security: ndctl lists no security state.
        frozen: Whether the DIMM refuses every change of its security until it loses power.
    """

    dev: str
    state: str
    frozen: bool = False

    def __str__(self) -> str:
        return f"{self.state} frozen" if self.frozen else self.state


class Security:
    """The security of one host's DIMMs.

    Args:
        ndctl: The host's ndctl.

    Example::

        security = Security(Ndctl(transport))
        security.set_passphrase("nmem0", "qa-master")
        security.remove_passphrase("nmem0")
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def state(self, which: Dimm | str) -> SecurityState:
        """Return the security state of a DIMM.

        Raises:
            NotFoundError: The DIMM does not exist.
        """
        return _state(self._ndctl.dimm(which))

    def set_passphrase(self, which: Dimm | str, master_key: str, *, master: bool = False) -> SecurityState:
        """Set a new random passphrase on a DIMM. Replace the old passphrase, if any.

        Args:
            which: The DIMM's record or name.
            master_key: The name of the key that encrypts the passphrase, in root's user keyring. If the key does not
                exist, it is created with random content, and exists until the host reboots.
            master: Set the master passphrase instead. The master passphrase can only erase the DIMM.

        Raises:
            NotFoundError: The DIMM does not exist.
            UnsupportedError: The DIMM has no security, or is locked or frozen. Nothing was changed.
            BusyError: A region on the DIMM is enabled. Nothing was changed.
            InvalidValueError: The name of the key is invalid. Nothing was changed.
            CommandError: ndctl failed, or the DIMM has no passphrase afterwards.
        """
        checked_name("master key", master_key)
        found = self._changeable(which)
        state = _state(found).state
        if state == "locked":
            raise self._unsupported(found, "it is locked. Unlock it first")
        # The security state does not show whether a master passphrase exists. The file in which ndctl stores it does.
        exists = self._has_stored_passphrase(found, master=True) if master else state != "disabled"
        verb = "update-passphrase" if exists else "setup-passphrase"
        options = ["--key-handle", f"user:{master_key}", *(["--master-passphrase"] if master else [])]
        action = f"set {'the master' if master else 'a'} passphrase of {found.dev}"
        if state == "disabled" and not master:
            self._remove_stored_passphrase(found, action)
        result = checked(self._run(found, master_key, [verb, DIMM, *options]), action)
        return self._checked_state(result, action, found, ("disabled", "unlocked") if master else ("unlocked",))

    def remove_passphrase(self, which: Dimm | str) -> SecurityState:
        """Remove the passphrase of a DIMM.

        Raises:
            NotFoundError: The DIMM does not exist.
            UnsupportedError: The DIMM has no passphrase, is locked or is frozen. Nothing was changed.
            BusyError: A region on the DIMM is enabled. Nothing was changed.
            CommandError: ndctl failed, for example because the key is missing, or the DIMM still has a passphrase.
        """
        found = self._changeable(which)
        if _state(found).state != "unlocked":
            raise self._unsupported(
                found, f"it is in state {_state(found).state}. A passphrase can be removed only from an unlocked DIMM"
            )
        action = f"remove the passphrase of {found.dev}"
        result = checked(self._run(found, "", ["remove-passphrase", DIMM]), action)
        return self._checked_state(result, action, found, ("disabled",))

    def freeze(self, which: Dimm | str) -> SecurityState:
        """Freeze the security of a DIMM. The DIMM refuses every change of its passphrases until it loses power.

        Raises:
            NotFoundError: The DIMM does not exist.
            UnsupportedError: The DIMM has no security, or is frozen. Nothing was changed.
            CommandError: ndctl failed, or the DIMM is not frozen afterwards.
        """
        found = self._secured(which)
        action = f"freeze the security of {found.dev}"
        result = checked(self._run(found, "", ["freeze-security", DIMM]), action)
        after = self.state(found)
        if not after.frozen:
            raise CommandError(result, f"Could not {action}: ndctl exited 0, but the DIMM is not frozen")
        return after

    def unlock(self, which: Dimm | str) -> SecurityState:
        """Unlock a DIMM: load the keys that are stored on the host, and enable the DIMM.

        Raises:
            NotFoundError: The DIMM does not exist.
            UnsupportedError: The DIMM has no security.
            CommandError: The DIMM is locked afterwards, for example because its key is missing.
        """
        found = self._secured(which, frozen=True)
        action = f"unlock {found.dev}"
        result = checked(self._run(found, "", ["enable-dimm", DIMM], load=True), action)
        after = self.state(found)
        if after.state == "locked":
            raise CommandError(
                result,
                f"Could not {action}: ndctl exited 0, but the DIMM is still locked. Its passphrase must be in {KEYS} "
                "of the host, and the master key that encrypts the passphrase in root's user keyring (keyctl show @u)",
            )
        return after

    def erase(
        self, which: Dimm | str, method: EraseMethod, *, master: bool = False, timeout: float = 600.0
    ) -> SecurityState:
        """Erase all content of a DIMM. Erasing by `EraseMethod.crypto` also removes its passphrase.

        Args:
            which: The DIMM's record or name.
            method: How to erase.
            master: Use the master passphrase. This works only with `EraseMethod.crypto`.
            timeout: Seconds for the whole erasure.

        Raises:
            NotFoundError: The DIMM does not exist.
            InvalidValueError: `master` is set, but the method is not `EraseMethod.crypto`. Nothing was changed.
            UnsupportedError: The DIMM has no security, is frozen, or is locked and `master` is not set. Nothing was
                changed.
            BusyError: A region on the DIMM is enabled. Nothing was changed.
            CommandTimeoutError: The erasure did not end within `timeout`.
            CommandError: ndctl failed, or the security state afterwards is not the expected state.
        """
        if master and method is not EraseMethod.crypto:
            raise InvalidValueError(
                "master",
                master,
                f"False for the method {method}: only {EraseMethod.crypto} supports the master passphrase",
            )
        found = self._changeable(which)
        if _state(found).state == "locked" and not master:
            raise self._unsupported(found, "it is locked. Unlock it first, or use its master passphrase")
        options = [f"--{method}", *(["--master-passphrase"] if master else [])]
        action = f"erase {found.dev} by {method}"
        overwrite = method is EraseMethod.overwrite
        command = ["sanitize-dimm", DIMM, *options]
        result = checked(self._run(found, "", command, keep=overwrite, timeout=timeout), action)
        if overwrite:
            self._wait_for_overwrite(result, found, timeout)
        # An overwritten DIMM may keep its passphrase.
        after = self._checked_state(result, action, found, ("disabled", "unlocked") if overwrite else ("disabled",))
        if after.state == "disabled":
            self._remove_stored_passphrase(found, action)
        return after

    def _wait_for_overwrite(self, result: CommandResult, dimm: Dimm, timeout: float) -> None:
        """Wait until the overwrite that a command started has ended.

        On the test bus of Linux before 6.2, no security state can be read during an overwrite
        (tools/testing/nvdimm/dimm_devs.c). There ``ndctl wait-overwrite`` fails as if the DIMM had no security.
        """
        poll(
            lambda: self.state(dimm).state not in {"", "overwrite"},
            f"the overwrite of {dimm.dev} to end",
            timeout=timeout,
            interval=growing(0.2, 10),
            failure=lambda _: CommandTimeoutError(
                result,
                f"The overwrite of DIMM {dimm.dev} on {self._ndctl.transport.name} did not end within {timeout:g} s. "
                "It continues. Wait longer: Get Dimm Security returns unlocked or disabled when it has ended",
            ),
        )

    def _secured(self, which: Dimm | str, *, frozen: bool = False) -> Dimm:
        """Return a DIMM. Raise if the DIMM has no security, or is frozen and `frozen` is not set."""
        found = self._ndctl.dimm(which)
        state = _state(found)
        if not state.state:
            raise UnsupportedError(
                f"DIMM {found.dev} on {self._ndctl.transport.name} has no security: ndctl lists no security state. "
                "QEMU's NVDIMMs have none. Nothing was changed."
            )
        if state.frozen and not frozen:
            raise self._unsupported(found, "it is frozen until it loses its power")
        return found

    def _changeable(self, which: Dimm | str) -> Dimm:
        """Return a DIMM. Raise if its security cannot change, for example because a region on the DIMM is enabled."""
        found = self._secured(which)
        active = [
            region.dev
            for region in self._ndctl.inventory().regions
            if found.dev in region.dimms and region.state != "disabled"
        ]
        if active:
            raise BusyError(
                f"The security of DIMM {found.dev} on {self._ndctl.transport.name} cannot be changed while regions on "
                f"the DIMM are enabled: {', '.join(active)}. Nothing was changed. Disable the regions first (Disable "
                "Region)."
            )
        return found

    def _unsupported(self, dimm: Dimm, reason: str) -> UnsupportedError:
        return UnsupportedError(
            f"The security of DIMM {dimm.dev} on {self._ndctl.transport.name} was not changed: {reason}."
        )

    def _has_stored_passphrase(self, dimm: Dimm, *, master: bool) -> bool:
        kind = "nvdimm-master" if master else "nvdimm"
        test = [
            "sh",
            "-c",
            'for f in "$1"_*; do [ ! -e "$f" ] || exit 0; done; exit 1',
            "sh",
            f"{KEYS}/{kind}_{dimm.id}",
        ]
        return self._ndctl.run(test).exit_status == 0

    def _remove_stored_passphrase(self, dimm: Dimm, action: str) -> None:
        """Remove the stored passphrase that the DIMM no longer has. Until then, ndctl sets no new passphrase."""
        checked(self._ndctl.change(act("forget_passphrase", dimm.id), dimm_target(dimm)), action)

    def _run(
        self,
        dimm: Dimm,
        master_key: str,
        command: Sequence[str],
        *,
        load: bool = False,
        keep: bool = False,
        timeout: float | None = None,
    ) -> CommandResult:
        """Run ndctl on a DIMM, with access to root's user keyring.

        Args:
            dimm: The DIMM.
            master_key: The name of the key that encrypts its passphrase. Create the key if it does not exist.
            command: The arguments of ndctl.
            load: Load the DIMM's key first.
            keep: Keep the stored passphrase if ndctl removes it.
            timeout: Seconds for the command.
        """
        keyed = ("with_keys", master_key, dimm.id if load else "", "ndctl", *command)
        guarded = act("keep_passphrase", dimm.id, *keyed) if keep else act(*keyed)
        result = self._ndctl.change(guarded, dimm_target(dimm), timeout=timeout)
        if result.exit_status == TOOL_MISSING and "keyctl" in result.error_text:
            raise ToolMissingError(
                result, f"keyctl is not installed on {self._ndctl.transport.name}: install the package keyutils"
            )
        return result

    def _checked_state(self, result: CommandResult, action: str, dimm: Dimm, wanted: tuple[str, ...]) -> SecurityState:
        after = self.state(dimm)
        if after.state not in wanted:
            raise CommandError(
                result, f"Could not {action}: ndctl exited 0, but the security state is {after.state or 'absent'}"
            )
        return after


def _state(dimm: Dimm) -> SecurityState:
    listed = dimm.extra.get("security")
    return SecurityState(
        dimm.dev, "" if listed is None else one_line(str(listed)), bool(dimm.extra.get("security_frozen"))
    )
