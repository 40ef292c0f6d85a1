"""Keywords that define a guest from a user's own XML, and read the XML of any guest."""

from __future__ import annotations

from pathlib import Path

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.definition import for_host
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.xml import build_domain, read_devices
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.guest.devices import devices_of
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import MiB, Size

_COLUMNS = ("path", "model", "size", "label_size", "align", "access", "pmem", "readonly", "node", "slot")


class GuestXmlKeywords:
    """Domain XML."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("guest",))
    def define_guest_from_xml(
        self,
        xml: str,
        vpmem: VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None = None,
        *,
        name: str = "",
        shared_only: bool = True,
    ) -> Guest:
        """Define a guest from your own domain XML, with devices added to it, or as it is; it is not started.

        With devices to add, only what they need is changed: `maxMemory` and its slots, a NUMA cell with all RAM where
        there is none, `memory`, and the devices. Either way this run's mark is added to the metadata, and the XML is
        checked as a whole before libvirt sees it: libvirt takes several mistakes in silence.

        Args:
            xml: The XML itself, or the path of a file on the machine that the tests run on.
            vpmem: The devices to add, in order: namespaces, or what [New Vpmem Device] returned; one or a list.
            name: Another name than the XML's; the guest then gets a UUID of its own as well.
            shared_only: Refuse devices that do not persist, as their access is not shared.

        Returns:
            The guest.

        Raises:
            InvalidValueError: The XML asks for what cannot be; the element, its value and what would be valid are
                named, and nothing was defined.
            LibvirtError: libvirt refused; its code is in the message, and no domain is left.

        Example:

        ```robotframework
        *** Test Cases ***
        My Own Machine
            ${guest} =    Define Guest From Xml    ${CURDIR}/fedora.xml    vpmem=ns_0    name=fedora-with-vpmem
            Start Guest    ${guest}
        ```
        """
        devices = devices_of(self._context, vpmem)
        guest = self._context.current.define_guest_from(_text(xml), devices, name=name, unshared=not shared_only)
        logger.info(f"Defined guest {guest.name}.\n{guest.xml()}")
        return guest

    @keyword(tags=("guest",))
    def new_guest_xml(
        self,
        vpmem: VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None = None,
        *,
        name: str = "",
        memory: Size = Size(256 * MiB),
        vcpus: int = 1,
    ) -> str:
        """Return the XML of the guest that [Define Guest] would define; nothing is defined.

        Args:
            vpmem: Its devices, in order: namespaces, or what [New Vpmem Device] returned; one or a list.
            name: Its name; one of this run's own by default.
            memory: Its RAM, without the devices.
            vcpus: Its virtual CPUs.

        Returns:
            The domain XML.

        Raises:
            InvalidValueError: A value cannot be, or no image is set.
            UnsupportedError: The host's QEMU has no machine for the guest.

        Example:

        ```robotframework
        *** Test Cases ***
        Change It First
            ${xml} =    New Guest Xml    vpmem=ns_0
            ${xml} =    Replace String    ${xml}    isa    pvpanic
            Define Guest From Xml    ${xml}
        ```
        """
        opened = self._context.current
        devices = devices_of(self._context, vpmem)
        spec = opened.guest_spec(name=name, memory=memory, vcpus=vcpus, devices=devices)
        return build_domain(for_host(opened.link, spec))

    @keyword(tags=("guest", "getter"))
    def get_guest_xml(self, guest: Guest | str, *, inactive: bool = False) -> str:
        """Return the XML that libvirt has for a guest, whoever defined it.

        Args:
            guest: The guest or its name.
            inactive: The XML of its next start rather than the live one.

        Returns:
            The domain XML.

        Raises:
            NotFoundError: There is no such guest.

        Example:

        ```robotframework
        *** Test Cases ***
        As Libvirt Has It
            ${xml} =    Get Guest Xml    ${guest}
            Should Contain    ${xml}    <pmem/>
        ```
        """
        return self._context.current.guest(guest).xml(inactive=inactive)

    @keyword(tags=("guest", "getter"))
    def get_guest_devices(self, guest: Guest | str, *, inactive: bool = False) -> tuple[VpmemDevice, ...]:
        """Return the persistent-memory devices in a guest's XML, in its order, and show them in the log.

        It works on any guest of the host: made by this library, by virsh, Nova or oVirt.

        Args:
            guest: The guest or its name.
            inactive: Read the XML of its next start rather than the live one.

        Returns:
            Records with `path`, `size`, `model`, `label_size`, `align`, `access`, `pmem`, `readonly`, `node` and
            `slot`; what the XML does not say is None or False. `access` is what holds for the device: its own, or that
            of its NUMA cell, or that of the domain's memory backing. Devices of `<qemu:commandline>` come last.

        Raises:
            NotFoundError: There is no such guest.

        Example:

        ```robotframework
        *** Test Cases ***
        What Nova Made
            ${devices} =    Get Guest Devices    instance-0000002a
            Should Be Equal    ${devices[0].path}    /dev/dax0.0
        ```
        """
        found = self._context.current.guest(guest)
        devices = read_devices(found.xml(inactive=inactive))
        log_table(
            f"Devices of guest {found.name}",
            _COLUMNS,
            ([_shown(getattr(device, column)) for column in _COLUMNS] for device in devices),
        )
        return devices

    @keyword(tags=("guest", "getter"))
    def get_guests(self) -> list[str]:
        """Return the names of all guests of the current host, whoever defined them.

        Returns:
            The names, sorted; empty where there is none, or no libvirt.

        Example:

        ```robotframework
        *** Test Cases ***
        None Yet
            ${guests} =    Get Guests
            Should Be Empty    ${guests}
        ```
        """
        return self._context.current.guest_names()


def _text(xml: str) -> str:
    if xml.lstrip().startswith("<"):
        return xml
    try:
        return Path(xml).read_text(encoding="utf-8")
    except (OSError, ValueError):  # the latter for what no path can hold, or no text is
        raise InvalidValueError("xml", xml[:80], "domain XML, or the path of a file that holds it") from None


def _shown(value: object) -> object:
    return "-" if value is None else value
