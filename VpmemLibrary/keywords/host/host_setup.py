"""Keywords that prepare a host: load its kernel modules, and reboot it."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.host.modules import built_in, load_modules, loaded_modules, vpmem_modules
from VpmemLibrary.host.reboot import boot_id
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.session.session import Session


class HostSetupKeywords:
    """Kernel modules and reboot."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("host",))
    def load_kernel_modules(self, *modules: str) -> tuple[str, ...]:
        """Load the missing kernel modules of the current host, and check that the kernel has them.

        Modules that are already loaded are not changed.

        Args:
            modules: The modules' names. The default is the modules that persistent memory needs: `libnvdimm`,
                `nd_pmem`, `nd_btt`, `dax_pmem`, `device_dax`, and the module that finds the host's memory. That module
                is `nfit` for memory from ACPI, and `nd_e820`, `cxl_pmem`, `virtio_pmem` or `papr_scm` elsewhere.

        Returns:
            The names of the modules that were missing and are loaded now.

        Raises:
            InvalidValueError: A name is not a valid name of a module.
            CommandError: The kernel does not have such a module, may not load it, or does not list it although modprobe
                exited 0.

        Example:

        ```robotframework
        *** Test Cases ***
        For System Ram
            Load Kernel Modules    kmem
            Kernel Modules Should Be Loaded    kmem
        ```
        """
        loaded = load_modules(self._session.host.transport, modules)
        logger.info(f"Loaded on {self._session.host.alias}: {', '.join(loaded) or 'nothing, all were there'}.")
        return loaded

    @keyword(tags=("host", "assertion"))
    def kernel_modules_should_be_loaded(self, *modules: str) -> None:
        """Fail unless the current host's kernel has the modules, loaded or built in.

        Args:
            modules: The modules' names. The default is the modules that persistent memory needs.

        Raises:
            AssertionError: Some modules are missing. The message names them.

        Example:

        ```robotframework
        *** Test Cases ***
        Ready
            Kernel Modules Should Be Loaded    nd_pmem    device_dax
        ```
        """
        transport = self._session.host.transport
        wanted = [name.replace("-", "_") for name in modules or vpmem_modules(transport)]
        there = loaded_modules(transport, wanted)
        if absent := [name for name in wanted if name not in there and not built_in(transport, name)]:
            raise AssertionError(
                f"The kernel of {self._session.host.alias} lacks {', '.join(absent)}. Call Load Kernel Modules."
            )

    @keyword(tags=("host", "getter"))
    def get_host_boot_id(self) -> str:
        """Return the id of the current host's boot. Every boot has a different id.

        Returns:
            A UUID, from `/proc/sys/kernel/random/boot_id`.

        Example:

        ```robotframework
        *** Test Cases ***
        Another Boot
            ${before} =    Get Host Boot Id
            Reboot Host
            ${after} =    Get Host Boot Id
            Should Not Be Equal    ${before}    ${after}
        ```
        """
        return boot_id(self._session.host.transport, timeout=self._session.timeout)

    @keyword(tags=("host", "destructive"))
    def reboot_host(self, *, timeout: timedelta = timedelta(minutes=10), foreign: bool = False) -> None:
        """Reboot the current host in good order and wait until it answers with a new boot id.

        A host may be rebooted if all of these conditions are true:

        - Its section of the hosts file has `host_may_reboot = yes`.
        - Every guest that runs on it was made by this run.
        - This worker has the host alone ([Reserve Host]), or no other worker has a lease there.

        A guest that is open as a host may be rebooted if this run made it.

        While the host boots, this worker keeps its leases there: its reservation of the host and its claims.

        Args:
            timeout: How long to wait until the host answers again.
            foreign: Reboot the host even without permission, while foreign guests run on it, or while other workers use
                it.

        Raises:
            ForeignError: The hosts file does not allow a reboot, foreign guests run on the host, or other workers have
                leases there. Nothing was done.
            LeaseLostError: This worker lost a lease on the host because its connection broke. Nothing was done.
            UnsupportedError: The host is the machine that the tests run on.
            CommandError: The host refused to reboot.
            UnreachableError: The host did not answer with a new boot id within `timeout`.
            GuestError: The host is a guest, and did not answer with a new boot id within `timeout`.

        Example:

        ```robotframework
        *** Test Cases ***
        Namespaces Outlive A Reboot
            ${namespace} =    Create Namespace    region0    size=at least 64MiB
            Reboot Host
            Namespace Should Exist    ${namespace.uuid}
        ```
        """
        opened = self._session.current
        if not foreign:
            opened.power.require_permission()
        seconds = opened.power.reboot(timeout.total_seconds())
        logger.info(f"{opened.host.alias} answers from another boot after {seconds:.1f} s.")
