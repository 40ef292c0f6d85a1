"""Keywords that cut a host's power and give it back."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import logger


class PowerKeywords:
    """The power of a host."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("host", "destructive"))
    def cut_host_power(self, *, timeout: timedelta = timedelta(minutes=2), foreign: bool = False) -> None:
        """Cut the current host's power, without asking the host, and wait until it does not answer any more.

        It is done by the command `host_power_off` of the host's section in the hosts file, run on the machine that the
        tests run on: `ipmitool -E ... chassis power off` for a real host; the lab's hosts file has its own command. The
        command gets its password from the environment variable that `host_power_env` names, here `IPMI_PASSWORD`. So
        no password is in the hosts file, in the list of processes, or in a log.

        What had not reached a disk or an NVDIMM is lost. Only [Restore Host Power] works on the host afterwards.

        What this worker holds on the host, the host itself and its claims among it, stays its own for a quarter of an
        hour, though it is not there to hold it: whoever finds the host booting waits.

        Args:
            timeout: How long it may take until the host is gone.
            foreign: Cut it anyway: without permission, with guests of others running, and with others at work there.

        Raises:
            InvalidValueError: An environment variable that `host_power_env` names is not set; nothing was done.
            UnsupportedError: Its section has no `host_power_off` and `host_power_on`, it is a guest, or it is the
                machine that the tests run on; nothing was done.
            ForeignError: The hosts file does not say `host_may_reboot`, guests of others run, or others hold leases on
                the host, which this worker does not have alone; nothing was done.
            LeaseLostError: What this worker held on the host went with a connection that broke; nothing was done.
            CommandError: The command failed, or the host answers all the same.

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
        opened = self._context.current
        opened.require_power_control()
        if not foreign:
            opened.require_may_reboot("lose its power")
        opened.cut_power(timeout.total_seconds())
        logger.info(f"{opened.host.alias} does not answer any more.")

    @keyword(tags=("host",))
    def restore_host_power(self, *, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Give the current host its power again, after [Cut Host Power], and wait until it answers from another boot.

        SSH answers then, and libvirt as well when it was used before. Guests are off, as after any boot.

        Args:
            timeout: How long it may take until the host answers.

        Raises:
            InvalidValueError: An environment variable that `host_power_env` names is not set.
            UnsupportedError: Its power was not cut by [Cut Host Power].
            CommandError: The command `host_power_on` failed.
            UnreachableError: The host did not answer from another boot in time.

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
        opened = self._context.current
        seconds = opened.restore_power(timeout.total_seconds())
        logger.info(f"{opened.host.alias} answers from another boot after {seconds:.1f} s.")
