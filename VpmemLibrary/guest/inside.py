"""What a guest's kernel has for its devices, read from its sysfs in one round trip; no tool is needed for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.guest.domain import DeviceKey
from VpmemLibrary.host.transport import Transport, query
from VpmemLibrary.sizes import Size

# A line a region: what tells its device, size, read_only, node, device nodes, its name. A region on a DIMM has an NFIT
# handle; one of virtio-pmem has none and lies under its PCI device.
# Attributes: kernel, Documentation/ABI/testing/sysfs-bus-nfit and drivers/nvdimm/region_devs.c.
_SCRIPT = r"""
cd /sys/bus/nd/devices 2>/dev/null || exit 0
for region in region*; do
    [ -e "$region" ] || continue
    if [ -r "$region/mapping0" ]; then
        IFS=, read -r dimm rest <"$region/mapping0"
        [ -r "$dimm/nfit/handle" ] || continue
        read -r key <"$dimm/nfit/handle"
    else
        path=$(readlink -f "$region")
        path=${path%/virtio[0-9]*}
        key=pci:${path##*/}
    fi
    printf '%s ' "$key"
    for attribute in "$region/size" "$region/read_only" "$region/numa_node"; do
        value=-
        [ -r "$attribute" ] && read -r value <"$attribute"
        printf '%s ' "$value"
    done
    for node in "$region"/*/block/* "$region"/dax*/dax[0-9]* "$region"/dax*/dax*/dax[0-9]*; do
        [ -e "$node/dev" ] && printf '/dev/%s ' "${node##*/}"
    done
    echo "$region"
done
"""

_SHOWN = 200

INSIDE_COMMAND = query(_SCRIPT)
"""What reads a kernel's view of its devices."""


@dataclass(frozen=True, slots=True)
class InsideRegion:
    """A region of a guest's kernel.

    Args:
        name: Its name, e.g. ``region0``.
        key: The memory slot of its NVDIMM, which is the NFIT handle less one (QEMU, hw/acpi/nvdimm.c), or the PCI
            address of its virtio-pmem device.
        size: Its size.
        view: What the kernel says of it; it knows no path and no backing.
    """

    name: str
    key: DeviceKey
    size: Size
    view: Mapping[str, object]


def inside_regions(transport: Transport) -> tuple[InsideRegion, ...]:
    """Return every region that a guest's kernel has, in one round trip.

    Args:
        transport: The way into the guest.

    Raises:
        UnreadableOutputError: The kernel's attributes are not of the documented form.
    """
    result = transport.run(INSIDE_COMMAND).check()
    found = []
    for line in result.lines:
        try:
            key, size, read_only, node, *nodes, name = line.split()
            view: dict[str, object] = {"region size": Size(int(size)), "readonly": bool(int(read_only))}
            if node != "-" and int(node) >= 0:  # a kernel without NUMA says -1
                view["node"] = int(node)
            if nodes:
                view["device node"] = ", ".join(dict.fromkeys(nodes))
            pci = key.removeprefix("pci:")
            found.append(InsideRegion(name, pci if pci != key else int(key, 0) - 1, Size(int(size)), view))
        except ValueError as error:
            raise UnreadableOutputError(
                result, f"The kernel's attributes of a region are not readable: {line[:_SHOWN]!r}"
            ) from error
    return tuple(found)


def inside_devices(
    regions: Iterable[InsideRegion], aliases: Mapping[str, str]
) -> dict[DeviceKey, Mapping[str, object]]:
    """Return what a guest's kernel says of each device, by slot or alias.

    Args:
        regions: Its regions.
        aliases: The alias of each PCI device, by its address in the guest.
    """
    return {aliases.get(str(region.key), region.key): region.view for region in regions}
