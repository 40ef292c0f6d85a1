"""Keywords that define a guest from a user's own XML, and read the XML of any guest."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.definition import for_host
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.xml import build_domain, read_devices
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.guest.devices import devices_of
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.bounded_file import expanded, read_bounded

_LONGEST = 32 * MiB
_DECLARED = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]{1,80}encoding=["']([A-Za-z][\w.-]{0,30})["']""")

_COLUMNS = ("path", "model", "size", "label_size", "align", "access", "pmem", "readonly", "node", "slot")


class GuestXmlKeywords:
    """Keywords for domain XML."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest",))
    def define_guest_from_xml(
        self,
        xml: str,
        vpmem: VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None = None,
        *,
        name: str = "",
        shared_only: bool = True,
    ) -> Guest:
        """Define a guest from your own domain XML, with or without additional devices. The guest is not started.

        If devices are added, the library changes only what the devices need: `maxMemory` and its slots, `memory`, the
        devices, and a NUMA cell with all RAM if the XML has none. The library always adds this run's mark to the
        metadata. The library checks the whole XML before it passes the XML to libvirt, because libvirt accepts several
        mistakes silently.

        Args:
            xml: The XML itself, or the path of a file on the machine that the tests run on.
            vpmem: The devices to add, in order: one device or a list. Each is a namespace or a record from
                [New Vpmem Device].
            name: A name that replaces the name in the XML. The guest then gets a new UUID as well.
            shared_only: Refuse devices without shared access, because such devices do not persist data.

        Returns:
            The defined guest.

        Raises:
            InvalidValueError: The XML is invalid. The message names the element, its value and what is valid. Nothing
                was defined.
            LibvirtError: libvirt refused the domain. The message has libvirt's error code, and no domain is left.

        Example:

        ```robotframework
        *** Test Cases ***
        My Own Machine
            ${guest} =    Define Guest From Xml    ${CURDIR}/fedora.xml    vpmem=ns_0    name=fedora-with-vpmem
            Start Guest    ${guest}
        ```
        """
        devices = devices_of(self._session, vpmem)
        guest = self._session.current.guests.define_from(_text(xml), devices, name=name, unshared=not shared_only)
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
        """Return the XML of the guest that [Define Guest] would define. Nothing is defined.

        Args:
            vpmem: The guest's devices, in order: one device or a list. Each is a namespace or a record from
                [New Vpmem Device].
            name: The guest's name. The default is a generated name that contains the run id.
            memory: The guest's RAM, without the devices.
            vcpus: The number of virtual CPUs.

        Returns:
            The domain XML.

        Raises:
            InvalidValueError: A value is invalid, or no image is set.
            UnsupportedError: The host's QEMU has no suitable machine type for the guest.

        Example:

        ```robotframework
        *** Test Cases ***
        Change It First
            ${xml} =    New Guest Xml    vpmem=ns_0
            ${xml} =    Replace String    ${xml}    isa    pvpanic
            Define Guest From Xml    ${xml}
        ```
        """
        opened = self._session.current
        devices = devices_of(self._session, vpmem)
        spec = opened.guests.spec(name=name, memory=memory, vcpus=vcpus, devices=devices)
        return build_domain(for_host(opened.guests.link, spec))

    @keyword(tags=("guest", "getter"))
    def get_guest_xml(self, guest: Guest | str, *, inactive: bool = False) -> str:
        """Return libvirt's XML of a guest.

        The keyword works on any guest of the host, also on guests that this library did not define.

        Args:
            guest: The guest or its name.
            inactive: Return the XML of the guest's next start instead of the live XML.

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
        return self._session.current.guests.find(guest).xml(inactive=inactive)

    @keyword(tags=("guest", "getter"))
    def get_guest_devices(self, guest: Guest | str, *, inactive: bool = False) -> tuple[VpmemDevice, ...]:
        """Return the persistent-memory devices in a guest's XML, in the order of the XML, and show them in the log.

        The keyword works on any guest of the host, also on guests made by virsh, Nova or oVirt.

        Args:
            guest: The guest or its name.
            inactive: Read the XML of the guest's next start instead of the live XML.

        Returns:
            Records with `path`, `size`, `model`, `label_size`, `align`, `access`, `pmem`, `readonly`, `node` and
            `slot`. A value that the XML does not have is None or False. `access` is the effective access: from the
            device itself, from its NUMA cell, or from the domain's memory backing. Devices of `<qemu:commandline>` come
            last.

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
        found = self._session.current.guests.find(guest)
        devices = read_devices(found.xml(inactive=inactive))
        log_table(
            f"Devices of guest {found.name}",
            _COLUMNS,
            ([_shown(getattr(device, column)) for column in _COLUMNS] for device in devices),
        )
        return devices

    @keyword(tags=("guest", "getter"))
    def get_guests(self) -> list[str]:
        """Return the names of all guests of the current host.

        The list includes guests that this library did not define.

        Returns:
            The sorted names. The list is empty if the host has no guests or no libvirt.

        Example:

        ```robotframework
        *** Test Cases ***
        None Yet
            ${guests} =    Get Guests
            Should Be Empty    ${guests}
        ```
        """
        return self._session.current.guests.names()


def _text(xml: str) -> str:
    """Return domain XML from a text, or from a file in any encoding that XML can declare."""
    if (text := xml.lstrip("\ufeff \t\r\n")).startswith("<"):
        return text
    try:
        data = read_bounded(expanded(Path(xml)), _LONGEST)
        declared = _DECLARED.match(data)
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode(declared[1].decode() if declared else "utf-8-sig").lstrip("\ufeff")
    except (OSError, ValueError, LookupError) as error:  # ValueError: other bytes than the encoding's
        valid = f"domain XML, or the path of a file with domain XML ({error})"
        raise InvalidValueError("xml", xml[:80], valid) from None


def _shown(value: object) -> object:
    return "-" if value is None else value
