"""Keywords that cut the power of a host and restore it."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.session.session import Session


class PowerKeywords:
    """The power of a host."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("host", "destructive"))
    def cut_host_power(self, *, timeout: timedelta = timedelta(minutes=2), foreign: bool = False) -> None:
        """Cut the current host's power without a shutdown, and wait until the host no longer answers.

        The keyword runs the command `host_power_off` from the host's section in the hosts file. The command runs on the
        machine that the tests run on. For a real host, this is e.g. `ipmitool -E ... chassis power off`. The lab's
        hosts file has its own command. The command gets its password from the environment variable that
        `host_power_env` names, in this example `IPMI_PASSWORD`. So the password is not in the hosts file, the list of
        processes, or a log.

        Data that did not reach a disk or an NVDIMM is lost. Afterwards, only [Restore Host Power] works on the host.

        This worker keeps its leases on the host, that is, its reservation of the host and its claims, for 15 minutes.
        Other workers wait for the host during this time.

        Args:
            timeout: How long to wait until the host no longer answers.
            foreign: Cut the power even without permission, while foreign guests run on the host, or while other workers
                use it.

        Raises:
            InvalidValueError: An environment variable that `host_power_env` names is not set. Nothing was done.
            UnsupportedError: The host's section has no `host_power_off` and `host_power_on`, the host is a guest, or it
                is the machine that the tests run on. Nothing was done.
            ForeignError: The hosts file does not have `host_may_reboot`, or foreign guests run on the host. Or other
                workers have leases on the host, and this worker does not have the host alone. Nothing was done.
            LeaseLostError: This worker lost a lease on the host because its connection broke. Nothing was done.
            CommandError: The command failed, or the host still answers.

        Example:

        ```robotframework
        *** Test Cases ***
        Bytes Outlive The Power
            Write Pattern    ns_0    seed=flushed
            Cut Host Power
            Restore Host Power
            Pattern Should Be Intact    ns_0    seed=flushed
        ```
        """
        opened = self._session.current
        opened.power.require_control()
        if not foreign:
            opened.power.require_permission("lose its power")
        opened.power.cut(timeout.total_seconds())
        logger.info(f"{opened.host.alias} does not answer any more.")

    @keyword(tags=("host",))
    def restore_host_power(self, *, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Restore the current host's power after [Cut Host Power], and wait until it answers with a new boot id.

        The keyword waits for SSH. If libvirt was used before, the keyword waits for libvirt as well. Guests are off, as
        after any boot.

        Args:
            timeout: How long to wait until the host answers.

        Raises:
            InvalidValueError: An environment variable that `host_power_env` names is not set.
            UnsupportedError: The power was not cut by [Cut Host Power].
            CommandError: The command `host_power_on` failed.
            UnreachableError: The host did not answer with a new boot id within `timeout`.

        Example:

        ```robotframework
        *** Test Cases ***
        Off And On
            ${before} =    Get Host Boot Id
            Cut Host Power
            Restore Host Power
            ${after} =    Get Host Boot Id
            Should Not Be Equal    ${after}    ${before}
        ```
        """
        opened = self._session.current
        seconds = opened.power.restore(timeout.total_seconds())
        logger.info(f"{opened.host.alias} answers from another boot after {seconds:.1f} s.")
