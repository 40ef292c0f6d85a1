"""Decode the output of ``ndctl list`` and ``daxctl list`` into typed records.

ndctl prints nothing and exits 0 if nothing matches. With ``-B``, ndctl otherwise always prints an array of buses.
Without ``-B``, ndctl prints one object or an array of another kind. Unknown fields are kept in `extra`.

The machine may be a guest that sends false data. Device names and numbers are accepted only in the kernel's own form.
The name in a label may be any text. Control characters in all other texts are made visible.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.pmem.records import (
    Bus,
    DaxDevice,
    DaxRegion,
    Dimm,
    Inventory,
    MapLocation,
    Namespace,
    NamespaceMode,
    Region,
)
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.visible import one_line

LIST_COMMAND = ("ndctl", "list", "-BDRNi", "-X", "-vvv")
"""List everything: idle devices, device-DAX nodes, label UUIDs, NUMA nodes and the capabilities of each region."""

DAX_LIST_COMMAND = ("daxctl", "list", "-Di")
"""List every device-DAX instance, including disabled instances."""

DAX_REGIONS_COMMAND = ("daxctl", "list", "-RDi")
"""List every device-DAX region with its instances, including disabled instances."""

_JSON = json.JSONDecoder(strict=False)
_VALUE = re.compile(r"^[\[{]", re.MULTILINE)
_CANDIDATES = 50
_SURROGATE = re.compile("[\ud800-\udfff]")
_is_device = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII).fullmatch
_LONGEST_NUMBER = 24
_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1
_NO_UUID = "00000000-0000-0000-0000-000000000000"
_FLAG = "flag_"
_MODES = {str(mode): mode for mode in NamespaceMode}
# Old versions of ndctl have other names for two modes (ndctl 58).
_MODES |= {"memory": NamespaceMode.fsdax, "dax": NamespaceMode.devdax}
_MAPS = {str(where): where for where in MapLocation}


def decode_inventory(result: CommandResult) -> Inventory:
    """Decode the output of ``ndctl list -B...``. Return an empty inventory if ndctl printed nothing.

    Every level is sorted by device number. ndctl's own order is the order in which the kernel found the devices.

    Args:
        result: The result of a command that exited 0.

    Raises:
        UnreadableOutputError: The output is not in ndctl's format.
    """
    buses = [_bus(Fields(result, "bus", item)) for item in printed_items(result)]
    inventory = Inventory(tuple(sorted(buses, key=lambda bus: _by_number(bus.dev))))
    for devices in (inventory.buses, inventory.dimms, inventory.regions, inventory.namespaces):
        names = Counter(device.dev for device in devices)
        if twice := [name for name, number in names.items() if number > 1]:
            raise UnreadableOutputError(result, f"ndctl lists {one_line(twice[0])} twice")
    return inventory


def decode_dax_devices(result: CommandResult) -> tuple[DaxDevice, ...]:
    """Decode the output of ``daxctl list -D``. Return an empty tuple if daxctl printed nothing.

    Raises:
        UnreadableOutputError: The output is not in daxctl's format.
    """
    devices = [_dax_device(Fields(result, "device", item)) for item in printed_items(result)]
    return tuple(sorted(devices, key=lambda device: _by_number(device.chardev)))


def decode_dax_regions(result: CommandResult) -> tuple[DaxRegion, ...]:
    """Decode the output of ``daxctl list -RD``. Return an empty tuple if daxctl printed nothing.

    daxctl does not distinguish static from dynamic regions. Therefore all returned regions are static.

    Raises:
        UnreadableOutputError: The output is not in daxctl's format.
    """
    return tuple(_dax_region(Fields(result, "region", item)) for item in printed_items(result))


def whole_number(text: str) -> int | None:
    """Parse a 64-bit whole number that the kernel wrote, in decimal or as ``0x1f``. Return None for any other text.

    Args:
        text: The text that the kernel wrote.
    """
    match = re.fullmatch(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}", text, re.ASCII)
    return int(text, 16 if "x" in text else 10) if match else None


def printed_items(result: CommandResult) -> list[Any]:
    """Return the items of the list that a tool printed.

    Return an empty list for no output. Return a list of one item for a single object.

    Args:
        result: The result of a command that exited 0.

    Raises:
        UnreadableOutputError: The tool printed no complete JSON value.
    """
    if not result.stdout.strip():
        return []
    printed = printed_json(result)
    while isinstance(printed, list) and len(printed) == 1 and isinstance(printed[0], list):
        printed = printed[0]
    return [item for item in (printed if isinstance(printed, list) else [printed]) if item is not None]


def printed_json(result: CommandResult) -> Any:
    """Return the JSON value that a tool printed. Ignore lines of text before and after the value.

    Wrappers and libraries also print warnings on standard output. The JSON value begins at the first line that begins
    with a bracket and is not a line of text.

    Args:
        result: The result of a command that exited 0.

    Raises:
        UnreadableOutputError: The tool printed no complete JSON value.
    """
    text = result.text.removeprefix("\ufeff")  # a name in a label may be invalid UTF-8
    begins = [0, *(match.start() for match in islice(_VALUE.finditer(text), _CANDIDATES))]
    reason: Exception | None = None
    for begin in begins:
        try:
            value, end = _JSON.raw_decode(text, _skip_blanks(text, begin))
        except (ValueError, RecursionError) as error:
            reason = reason or error
            # If the value breaks off after its first line, the listing is incomplete.
            if isinstance(error, json.JSONDecodeError) and _is_text(text, begin, error.pos):
                continue
            reason = error
            break
        rest = text[end:].lstrip(" \t\r")
        if not rest or (rest.startswith("\n") and not _VALUE.search(rest)):
            return value
        reason = ValueError(f"more follows after character {end}")
        if rest.startswith("\n"):
            break
    raise UnreadableOutputError(result, f"The command exited 0, but its output is not complete JSON ({reason})")


def _skip_blanks(text: str, begin: int) -> int:
    return len(text) - len(text[begin:].lstrip())


def _is_text(text: str, begin: int, position: int) -> bool:
    """Return whether a line of text begins at `begin`: the line is not valid JSON, and more lines follow."""
    first_line_ends = text.find("\n", _skip_blanks(text, begin))
    return first_line_ends > -1 and position < first_line_ends


def _bus(fields: Fields) -> Bus:
    dev, provider = fields.device("dev"), fields.text("provider")
    dimms = [_dimm(item) for item in fields.children("dimms", "DIMM")]
    regions = [_region(item, dev, provider) for item in fields.children("regions", "region")]
    return Bus(
        dev=dev,
        provider=provider,
        dimms=tuple(sorted(dimms, key=lambda dimm: _by_number(dimm.dev))),
        regions=tuple(sorted(regions, key=lambda region: _by_number(region.dev))),
        extra=fields.rest(),
    )


def _dimm(fields: Fields) -> Dimm:
    return Dimm(
        dev=fields.device("dev"),
        id=fields.text("id"),
        handle=fields.bits("handle", 32),
        phys_id=fields.bits("phys_id", 16),
        state=fields.text("state"),
        flags=fields.flags(),
        extra=fields.rest(),
    )


def _region(fields: Fields, bus: str, provider: str) -> Region:
    dev = fields.device("dev")
    mappings = list(fields.children("mappings", "mapping"))
    namespaces = [_namespace(item, dev, bus) for item in fields.children("namespaces", "namespace")]
    return Region(
        dev=dev,
        size=fields.size("size") or Size(0),
        available_size=fields.room("available_size") or Size(0),
        max_available_extent=fields.room("max_available_extent"),
        align=fields.size("align"),
        type=fields.text("type"),
        numa_node=fields.node_number("numa_node"),
        iset_id=fields.bits("iset_id", 64),
        persistence_domain=fields.text("persistence_domain"),
        state=fields.text("state"),
        bus=bus,
        provider=provider,
        dimms=tuple(mapping.device("dimm") for mapping in mappings),
        namespaces=tuple(sorted((ns for ns in namespaces if not _is_seed(ns)), key=_by_last_number)),
        extra=fields.rest(),
    )


def _namespace(fields: Fields, region: str, bus: str) -> Namespace:
    return Namespace(
        dev=fields.device("dev"),
        mode=fields.member("mode", _MODES),
        size=fields.size("size") or Size(0),
        name=fields.name("name"),
        uuid=fields.uuid("uuid"),
        raw_uuid=fields.uuid("raw_uuid"),
        map=fields.member("map", _MAPS),
        align=fields.size("align"),
        sector_size=fields.number("sector_size"),
        blockdev=fields.node("blockdev"),
        chardev=fields.node("chardev") or fields.dax_device(),
        state=fields.text("state"),
        numa_node=fields.node_number("numa_node"),
        region=region,
        bus=bus,
        extra=fields.rest(),
    )


def _is_seed(namespace: Namespace) -> bool:
    """Return whether a namespace is the empty one that the kernel keeps in each region for the next create."""
    return not namespace.uuid and namespace.size == 0 and not namespace.active


def _dax_device(fields: Fields) -> DaxDevice:
    return DaxDevice(
        chardev=fields.device("chardev"),
        size=fields.size("size") or Size(0),
        mode=fields.text("mode"),
        align=fields.size("align"),
        target_node=fields.node_number("target_node"),
        state=fields.text("state"),
        extra=fields.rest(),
    )


def _dax_region(fields: Fields) -> DaxRegion:
    devices = [_dax_device(item) for item in fields.children("devices", "device")]
    return DaxRegion(
        id=fields.required_number("id"),
        path=fields.text("path"),
        size=fields.size("size") or Size(0),
        available_size=fields.room("available_size") or Size(0),
        align=fields.size("align"),
        devices=tuple(sorted(devices, key=lambda device: _by_number(device.chardev))),
        extra=fields.rest(),
    )


Member = TypeVar("Member", bound=StrEnum)


class Fields:
    """Read the fields of one JSON object. `rest` returns the fields that were not read."""

    __slots__ = ("_left", "_result", "_what")

    def __init__(self, result: CommandResult, what: str, item: object) -> None:
        self._result = result
        self._what = what
        if not isinstance(item, dict):
            raise self._unreadable(f"a {what} should be an object, not {_shown(item)}")
        self._left: dict[str, Any] = item  # this object may be changed, because it was parsed only for this decoding

    def text(self, key: str) -> str:
        """Return a text with its control characters made visible."""
        value = self._left.pop(key, "")
        if type(value) is str and value.isprintable():  # a fast path, because ten thousand namespaces have many texts
            return value
        return one_line(self._as_text(key, value))

    def name(self, key: str) -> str:
        """Return a text unchanged, including control characters."""
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", self._as_text(key, self._left.pop(key, "")))

    def device(self, key: str) -> str:
        """Return the name of a device. The field is required."""
        if name := self.node(key):
            return name
        raise self._unreadable(f"a {self._what} has no {key}")

    def node(self, key: str) -> str:
        """Return the name of a device, or an empty text."""
        value = self._left.pop(key, "")
        if type(value) is str and (not value or _is_device(value)):
            return value
        if value is None:
            return ""
        raise self._unreadable(f"{key} of a {self._what} should be the name of a device, not {_shown(value)}")

    def uuid(self, key: str) -> str:
        text = self.text(key)
        return "" if text == _NO_UUID else text.lower()

    def number(self, key: str) -> int | None:
        """Return a 64-bit whole number. The value may also be a text in decimal or hexadecimal."""
        value = self._left.pop(key, None)
        number = value
        if isinstance(value, str) and len(value) <= _LONGEST_NUMBER:
            with suppress(ValueError):
                number = int(value, 16 if "x" in value.lower() else 10)
        if number is None or (type(number) is int and _SMALLEST <= number <= _LARGEST):
            return number
        raise self._unreadable(f"{key} of a {self._what} should be a whole number of 64 bits, not {_shown(value)}")

    def bits(self, key: str, width: int) -> int | None:
        """Return an identifier of `width` bits. Older versions print a negative number if the first bit is set."""
        value = self.number(key)
        return None if value is None else value % (1 << width)

    def node_number(self, key: str) -> int | None:
        """Return the number of a NUMA node. Return None for -1."""
        value = self.number(key)
        return None if value is None or value < 0 else value

    def required_number(self, key: str) -> int:
        number = self.number(key)
        if number is None:
            raise self._unreadable(f"a {self._what} has no {key}")
        return number

    def size(self, key: str) -> Size | None:
        value = self.number(key)
        if value is None:
            return None
        if value < 0:
            raise self._unreadable(f"{key} of a {self._what} should not be negative: {value}")
        return Size(value)

    def room(self, key: str) -> Size | None:
        """Return free bytes. Return None for a number with all 64 bits set: ndctl could not read the free bytes."""
        if self._left.get(key) in (-1, _LARGEST):
            del self._left[key]
        return self.size(key)

    def member(self, key: str, members: Mapping[str, Member]) -> Member | None:
        """Return a member of an enumeration. An unknown value stays in `rest`."""
        value = self._left.get(key)
        if type(value) is not str or value not in members:
            return None
        del self._left[key]
        return members[value]

    def flag(self, key: str) -> bool:
        """Return whether a flag is set."""
        return self._left.pop(key, None) is True

    def dax_device(self) -> str:
        """Return the node of a devdax namespace from its DAX region. The DAX region stays in `rest`."""
        try:
            node = self._left["daxregion"]["devices"][0]["chardev"]
        except (KeyError, IndexError, TypeError):
            return ""
        return node if isinstance(node, str) and _is_device(node) else ""

    def flags(self) -> tuple[str, ...]:
        """Return the names of the set flags without their prefix: ``flag_failed_arm`` becomes ``failed_arm``."""
        names = [key for key, value in self._left.items() if key.startswith(_FLAG) and value is True]
        for name in names:
            del self._left[name]
        return tuple(name.removeprefix(_FLAG) for name in names)

    def children(self, key: str, what: str) -> Iterable[Fields]:
        value = self._left.pop(key, None)
        if value is None:
            return []
        items = [item for item in (value if isinstance(value, list) else [value]) if item is not None]
        return [Fields(self._result, what, item) for item in items]

    def rest(self) -> Mapping[str, object]:
        return self._left

    def _as_text(self, key: str, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, (dict, list)):
            raise self._unreadable(f"{key} of a {self._what} should be a text, not {_shown(value)}")
        return str(value)

    def _unreadable(self, reason: str) -> UnreadableOutputError:
        return UnreadableOutputError(self._result, f"The command exited 0, but {reason}")


def _shown(value: object) -> str:
    """Return a value for a message. Show only the type of objects and lists, because they may be nested too deep."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:200]


def _by_number(dev: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"[0-9]+", dev)], dev


def _by_last_number(namespace: Namespace) -> tuple[int, str]:
    """Return a sort key for the namespaces of one region. Their names differ only in the last number."""
    return len(namespace.dev), namespace.dev
