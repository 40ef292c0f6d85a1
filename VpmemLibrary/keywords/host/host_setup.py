"""Keywords that make a host ready: kernel modules, and a reboot."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.host.modules import load_modules, loaded_modules, vpmem_modules
from VpmemLibrary.host.reboot import boot_id
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import logger


class HostSetupKeywords:
    """Modules, reboot."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("host",))
    def load_kernel_modules(self, *modules: str) -> tuple[str, ...]:
        """Load the kernel modules of the current host that are missing, and prove that the kernel has them.

        Those that are there are left alone.

        Args:
            modules: The modules' names; by default those that persistent memory needs: `libnvdimm`, `nd_pmem`,
                `nd_btt`, `dax_pmem`, `device_dax`, and what finds the host's memory: `nfit` where it comes from ACPI,
                `nd_e820`, `cxl_pmem`, `virtio_pmem` or `papr_scm` elsewhere.

        Returns:
            The names of those that were missing and are loaded now.

        Raises:
            InvalidValueError: A name is none of a module.
            CommandError: The kernel has no such module, may not load it, or does not have it though modprobe exited 0.

        Example:

        ```robotframework
        *** Test Cases ***
        For System Ram
            Load Kernel Modules    kmem
            Kernel Modules Should Be Loaded    kmem
        ```
        """
        loaded = load_modules(self._context.host.transport, modules)
        logger.info(f"Loaded on {self._context.host.alias}: {', '.join(loaded) or 'nothing, all were there'}.")
        return loaded

    @keyword(tags=("host", "assertion"))
    def kernel_modules_should_be_loaded(self, *modules: str) -> None:
        """Fail unless the current host's kernel has modules, loaded or built in.

        Args:
            modules: The modules' names; by default those that persistent memory needs.

        Raises:
            AssertionError: Some are not there; the message names them.

        Example:

        ```robotframework
        *** Test Cases ***
        Ready
            Kernel Modules Should Be Loaded    nd_pmem    device_dax
        ```
        """
        transport = self._context.host.transport
        wanted = [name.replace("-", "_") for name in modules or vpmem_modules(transport)]
        there = loaded_modules(transport, wanted)
        if absent := [name for name in wanted if name not in there]:
            raise AssertionError(
                f"The kernel of {self._context.host.alias} has not loaded {', '.join(absent)}: see Load Kernel Modules."
            )

    @keyword(tags=("host", "getter"))
    def get_host_boot_id(self) -> str:
        """Return the id of the current host's boot, which is another one after every boot.

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
        return boot_id(self._context.host.transport, timeout=self._context.timeout)

    @keyword(tags=("host", "destructive"))
    def reboot_host(self, *, timeout: timedelta = timedelta(minutes=10), foreign: bool = False) -> None:
        """Reboot the current host in good order and wait until it answers from another boot.

        A host may be rebooted when its section of the hosts file says `host_may_reboot = yes`, no guest runs on it that
        this run did not make, and this worker has the host alone ([Hold Host]) or nobody else has a lease there. A
        guest that is open as a host may be when this run made it.

        What this worker holds on the host, the host itself and its claims among it, stays its own while it boots.

        Args:
            timeout: How long it may take until the host answers again.
            foreign: Reboot it anyway: without permission, with guests of others running, and with others at work there.

        Raises:
            ForeignError: The hosts file does not allow it, guests of others run there, or others hold leases there;
                nothing was done.
            LeaseLostError: What this worker held on the host went with a connection that broke; nothing was done.
            UnsupportedError: It is the machine that the tests run on.
            CommandError: The host refused to reboot.
            UnreachableError: It did not answer from another boot in time.
            GuestError: It is a guest, and did not answer from another boot in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Namespaces Outlive A Reboot
            ${namespace} =    Create Namespace    region0    size=at least 64MiB
            Reboot Host
            Namespace Should Exist    ${namespace.uuid}
        ```
        """
        opened = self._context.current
        if not foreign:
            opened.require_may_reboot()
        seconds = opened.reboot(timeout.total_seconds())
        logger.info(f"{opened.host.alias} answers from another boot after {seconds:.1f} s.")
