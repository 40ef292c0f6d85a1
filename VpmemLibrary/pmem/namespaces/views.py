"""Compare one namespace in ndctl, in sysfs and at its device node."""

from __future__ import annotations

import re

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import NotFoundError, UnreadableOutputError
from VpmemLibrary.pmem.decode import whole_number
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, Transport, query

# The kernel's names of the modes of a namespace (drivers/nvdimm/namespace_devs.c, mode_show).
_KERNEL_MODES = {"raw": "raw", "memory": "fsdax", "dax": "devdax", "safe": "sector"}

# The kernel's names of the page map's locations (drivers/nvdimm/pfn_devs.c, mode_show).
_KERNEL_MAPS = {"ram": "mem", "pmem": "dev"}

# The size of a claimed namespace is the size of its holder (a pfn, dax or btt device). The size of a raw namespace is
# the size of its block device.
_SCRIPT = r"""
sys=/sys/bus/nd/devices/$1
[ -d "$sys" ] || exit 3
value() {
    value=
    { IFS= read -r value <"$2"; } 2>/dev/null || [ -n "$value" ] || [ "$3" ] || return
    printf '%s=%s\n' "$1" "$value"
}
value holder "$sys/holder" empty
holder=$value
value mode "$sys/mode" empty
value name "$sys/alt_name" empty
if [ -n "$holder" ]; then
    value size "/sys/bus/nd/devices/$holder/size" empty
    value uuid "/sys/bus/nd/devices/$holder/uuid" empty
    for name in mode align sector_size; do value "holder_$name" "/sys/bus/nd/devices/$holder/$name"; done
else
    value uuid "$sys/uuid" empty
fi
if [ -b "$2" ]; then
    printf 'node_kind=block\nnode_size=%s\n' "$(blockdev --getsize64 "$2")"
elif [ -c "$2" ]; then
    number=$(stat -c '%t:%T' "$2")
    echo node_kind=character
    value node_size "/sys/dev/char/$((0x${number%:*})):$((0x${number#*:}))/size" empty
fi
"""


def namespace_views(transport: Transport, namespace: Namespace) -> Agreement:
    """Return three independent views of the namespace, read in one round trip.

    Args:
        transport: The connection to the namespace's machine.
        namespace: The namespace's record from ndctl.

    Raises:
        NotFoundError: The kernel has no such namespace.
    """
    result = transport.run(query(_SCRIPT, namespace.dev, namespace.device))
    if result.exit_status == 3:
        raise NotFoundError("namespace in sysfs", namespace.dev, [], where=transport.name)
    result.check()
    found = dict(line.split("=", 1) for line in result.lines if "=" in line)
    if not found.keys() >= {"mode", "name", "uuid"}:
        raise UnreadableOutputError(result, "sysfs did not report the mode, name and UUID")
    ndctl: dict[str, object] = {
        "mode": str(namespace.mode),
        "usable size": namespace.size,
        "name": namespace.name,
        "UUID": namespace.uuid,
        "node": "character" if namespace.chardev else "block" if namespace.blockdev else "none",
    }
    more: dict[str, object] = {}
    if namespace.mode in (NamespaceMode.fsdax, NamespaceMode.devdax):
        more = {"map": namespace.map and str(namespace.map), "align": namespace.align}
    elif namespace.mode is NamespaceMode.sector:
        more = {"sector size": namespace.sector_size}
    ndctl |= {field: value for field, value in more.items() if value is not None}  # old versions do not list all
    sysfs: dict[str, object] = {
        "mode": _KERNEL_MODES.get(found["mode"], found["mode"]),
        "name": found["name"],
        "UUID": found["uuid"],
    }
    if "holder_mode" in found:
        sysfs["map"] = _KERNEL_MAPS.get(found["holder_mode"], found["holder_mode"])
    if "holder_align" in found:
        sysfs["align"] = _size(result, found["holder_align"])
    if selected := re.search(r"\[([0-9]{1,9})\]", found.get("holder_sector_size", "")):
        sysfs["sector size"] = int(selected[1])
    if "size" in found:
        sysfs["usable size"] = _size(result, found["size"])
    node: dict[str, object] = {"node": found.get("node_kind", "none")}
    if "node_size" in found:
        node["usable size"] = _size(result, found["node_size"])
    return Agreement(namespace.dev, {"ndctl": ndctl, "sysfs": sysfs, "device node": node})


def _size(result: CommandResult, text: str) -> Size:
    number = whole_number(text)
    if number is None:
        raise UnreadableOutputError(result, f"sysfs reported an invalid size: {text[:40]!r}")
    return Size(number)
