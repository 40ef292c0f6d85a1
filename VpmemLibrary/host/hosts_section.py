"""Turn the section of a hosts file into an entry, and back. `hosts_entry` declares the fields."""

from __future__ import annotations

from collections.abc import Mapping

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.hosts_entry import FIELDS, LOCAL, HostEntry
from VpmemLibrary.host.hosts_text import checked_value, refuse_unknown
from VpmemLibrary.transport.ssh.address import parse_address

_SWITCHED = "a command, because the section has the other of host_power_off and host_power_on: set both or neither"
_PLUGGED = "a command, because the section has the other of host_cxl_add and host_cxl_remove: set both or neither"
_EXCHANGED = (
    "a command, because the section has the other of host_test_bus_add and host_test_bus_remove: set both or neither"
)


def parse_entry(file: str, name: str, section: Mapping[str, str]) -> HostEntry:
    """Return the host that a section describes.

    Args:
        file: The path of the file, for messages.
        name: The name of the section.
        section: The fields of the section as the file has them. An empty field counts as absent.

    Raises:
        InvalidValueError: A field is unknown or its value is invalid, or two fields contradict each other.
    """
    where = f"{file} [{name}]"
    refuse_unknown(where, section, FIELDS)
    values = {}
    for field_name, text in section.items():
        if text:
            declaration = FIELDS[field_name]
            kind = declaration.kind
            value = checked_value(where, field_name, text, FIELDS, words=kind.words, secret=kind.secret)
            values[declaration.attribute] = kind.parse(value, f"{field_name} of {where}")
    values |= _target(where, values)
    entry = HostEntry(name=name, **values)
    _check_commands(where, entry, ("host_power_off", "host_power_on", "host_power_env"), _SWITCHED)
    _check_commands(where, entry, ("host_cxl_add", "host_cxl_remove", "host_cxl_env"), _PLUGGED)
    test_bus = ("host_test_bus_add", "host_test_bus_remove", "host_test_bus_env")
    _check_commands(where, entry, test_bus, _EXCHANGED)
    return entry


def section_of(entry: HostEntry) -> dict[str, str]:
    """Return the section of a hosts file that describes a host, without the fields that have their default."""
    section = {}
    for name, declaration in FIELDS.items():
        value = getattr(entry, declaration.attribute)
        if value != declaration.default:
            section[name] = declaration.kind.write(value).replace("%", "%%")
    return section


def _target(where: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the address, user and port of a section. The address may contain the user and the port.

    A user or port that the section does not set is None.
    """
    what = f"host_address of {where}"
    text, user, port = str(values.get("address", "")), values.get("user"), values.get("port")
    if not text:
        raise InvalidValueError(what, text, "a name, an IP address, or `local`")
    if text == LOCAL:
        return {}
    address = parse_address(text, what)
    for name, given, inside in (("host_user", user, address.user), ("host_port", port, address.port)):
        if given is not None and inside is not None and given != inside:
            valid = f"{inside!r} as in host_address, or no field {name}"
            raise InvalidValueError(f"{name} of {where}", given, valid)
    return {"address": address.host, "user": user or address.user, "port": port or address.port}


def _check_commands(where: str, entry: HostEntry, names: tuple[str, str, str], valid: str) -> None:
    """Raise if a section has only one of two commands, or variables without commands.

    Args:
        where: The file and its section, for messages.
        entry: The section.
        names: The fields of the two commands and of their variables.
        valid: What a section may have, for messages.
    """
    first, second, variables = (getattr(entry, FIELDS[name].attribute) for name in names)
    if bool(first) != bool(second):
        raise InvalidValueError(f"{names[1] if first else names[0]} of {where}", "", valid)
    if variables and not first:
        raise InvalidValueError(f"{names[2]} of {where}", ", ".join(variables), f"{names[0]} and {names[1]} as well")
