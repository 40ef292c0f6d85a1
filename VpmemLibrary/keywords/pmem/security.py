"""Keywords for the passphrases of DIMMs, and for the erasure of DIMMs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.dax.test_bus import TEST_BUS
from VpmemLibrary.pmem.media.security import EraseMethod, Security, SecurityState
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.session.dimms import require_own_dimm
from VpmemLibrary.session.session import Session


class SecurityKeywords:
    """Keywords for the security of DIMMs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _security(self) -> Security:
        return Security(self._session.host.ndctl)

    @keyword(tags=("dimm", "getter"))
    def get_dimm_security(
        self,
        dimm: Dimm | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the security state of a DIMM, and assert it if an operator is given.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected state: `disabled` (no passphrase), `unlocked`, `locked`, `overwrite` (an overwrite is
                active) or an empty text (the DIMM has no security). A frozen DIMM has `frozen` after its state, e.g.
                `unlocked frozen`.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such DIMM. The message lists the existing DIMMs.
            AssertionError: The state is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        The DIMM Has No Passphrase
            Get Dimm Security    nmem0    ==    disabled
        ```
        """
        found = self._security.state(dimm)
        return assert_text(str(found), assertion_operator, expected, f"Security of {found.dev}", message)

    @keyword(tags=("dimm", "destructive"))
    def set_passphrase(
        self, dimm: Dimm | str, *, master_key: str = "", master: bool = False, foreign: bool = False
    ) -> str:
        """Give a DIMM a passphrase, or change its passphrase.

        ndctl creates the passphrase in the host's kernel. Neither the passphrase nor a key is ever in an argument, in
        the log, or on the machine that runs the tests. ndctl stores the passphrase in `/etc/ndctl/keys` of the host,
        encrypted by a master key.

        The regions on the DIMM must be disabled. A DIMM with a passphrase is locked after it lost its power:
        [Unlock Dimm] unlocks it.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            master_key: The name of the master key, a key of type `user` in root's user keyring on the host. On a test
                bus the default is a random key of this run, which exists until the host reboots. A real DIMM needs a
                master key of your own, because the DIMM is useless once its key is lost.
            master: Set the master passphrase. It can only erase the DIMM, even if the DIMM is locked.
            foreign: Allow a DIMM on a real bus, and a DIMM with namespaces that this run did not make.

        Returns:
            The security state afterwards, as in [Get Dimm Security].

        Raises:
            ForeignError: The DIMM is on a real bus or has foreign namespaces, and `foreign` is not set. Or other
                workers have leases on the host.
            InvalidValueError: The DIMM is on a real bus, and there is no `master_key`.
            UnsupportedError: The DIMM has no security, or it is locked or frozen.
            BusyError: A region on the DIMM is enabled.
            ToolMissingError: keyctl is not installed on the host (package keyutils).
            CommandError: ndctl failed, or the DIMM has no passphrase afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        A DIMM Gets A Passphrase
            Disable Region    region0
            Set Passphrase    nmem0
            Get Dimm Security    nmem0    ==    unlocked
        ```
        """
        found, provider = require_own_dimm(self._session, dimm, foreign=foreign)
        if not master_key and not provider.startswith(TEST_BUS):
            raise InvalidValueError(
                "master_key", master_key, f"a key in root's user keyring of {self._session.host.alias}: keyctl show @u"
            )
        key = master_key or f"vpmem-{self._session.run.run_id}"
        return self._logged(self._security.set_passphrase(found, key, master=master))

    @keyword(tags=("dimm", "destructive"))
    def remove_passphrase(self, dimm: Dimm | str, *, foreign: bool = False) -> str:
        """Remove the passphrase of a DIMM.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`. It must be unlocked, and the regions on it disabled.
            foreign: As in [Set Passphrase].

        Returns:
            The security state afterwards, as in [Get Dimm Security].

        Raises:
            ForeignError: As in [Set Passphrase].
            UnsupportedError: The DIMM has no passphrase, or it is locked or frozen.
            BusyError: A region on the DIMM is enabled.
            CommandError: ndctl failed, for example because the key is missing.

        Example:

        ```robotframework
        *** Test Cases ***
        The Passphrase Goes
            Remove Passphrase    nmem0
            Get Dimm Security    nmem0    ==    disabled
        ```
        """
        found, _ = require_own_dimm(self._session, dimm, foreign=foreign)
        return self._logged(self._security.remove_passphrase(found))

    @keyword(tags=("dimm", "destructive"))
    def freeze_dimm_security(self, dimm: Dimm | str, *, foreign: bool = False) -> str:
        """Freeze the security of a DIMM: the DIMM refuses every change until its power is cut.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            foreign: As in [Set Passphrase].

        Returns:
            The security state afterwards, e.g. `unlocked frozen`.

        Raises:
            ForeignError: As in [Set Passphrase].
            UnsupportedError: The DIMM has no security, or is frozen.
            CommandError: ndctl failed, or the DIMM is not frozen afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        A Frozen DIMM Refuses Changes
            Freeze Dimm Security    nmem0
            Run Keyword And Expect Error    *frozen*    Set Passphrase    nmem0
        ```
        """
        found, _ = require_own_dimm(self._session, dimm, foreign=foreign)
        return self._logged(self._security.freeze(found))

    @keyword(tags=("dimm",))
    def unlock_dimm(self, dimm: Dimm | str) -> str:
        """Enable a DIMM that is locked, with the keys of the host.

        The keyword checks the state afterwards, because ndctl reports success for a DIMM that stays locked.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.

        Returns:
            The security state afterwards, as in [Get Dimm Security].

        Raises:
            UnsupportedError: The DIMM has no security.
            CommandError: The DIMM is still locked, for example because its key is missing.

        Example:

        ```robotframework
        *** Test Cases ***
        After A Power Cut
            Unlock Dimm    nmem0
            Enable Region    region0
        ```
        """
        return self._logged(self._security.unlock(dimm))

    @keyword(tags=("dimm", "destructive"))
    def erase_dimm(
        self,
        dimm: Dimm | str,
        how: EraseMethod = EraseMethod.crypto,
        *,
        master: bool = False,
        timeout: timedelta = timedelta(minutes=10),
        foreign: bool = False,
    ) -> str:
        """Erase all content of a DIMM.

        The labels are a part of the content. All namespaces on the DIMM are lost, even those with a part on another
        DIMM. The regions on the DIMM must be disabled.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            how: `crypto` (the DIMM forgets the key of its content, and its passphrase) or `overwrite` (minutes to hours
                on a real DIMM; the DIMM may keep its passphrase).
            master: Use the master passphrase, which also erases a locked DIMM. Only with `crypto`.
            timeout: How long the erasure may take.
            foreign: As in [Set Passphrase].

        Returns:
            The security state afterwards, as in [Get Dimm Security].

        Raises:
            ForeignError: As in [Set Passphrase].
            InvalidValueError: `master` is set with `overwrite`.
            UnsupportedError: The DIMM has no security, or it is locked or frozen.
            BusyError: A region on the DIMM is enabled.
            CommandTimeoutError: The erasure did not end within `timeout`.
            CommandError: ndctl failed, or the DIMM is in another state afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Left
            Disable Region    region0
            Erase Dimm    nmem0    overwrite
        ```
        """
        found, _ = require_own_dimm(self._session, dimm, foreign=foreign)
        return self._logged(self._security.erase(found, how, master=master, timeout=timeout.total_seconds()))

    def _logged(self, state: SecurityState) -> str:
        logger.info(f"Security of {state.dev}: {state}")
        return str(state)
