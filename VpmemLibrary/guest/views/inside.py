"""Read the devices of a guest's kernel from sysfs, in one round trip and without any tool in the guest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.guest.domain.records import DeviceKey
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import Transport, query

# Prints one line for each region: key, size, read_only, NUMA node, address, device nodes, name. The key identifies the
# device. A region on a DIMM has an NFIT handle. On POWER a region has no handle; it is below a device whose name ends
# with an index, and the index has the memory slot in its low 28 bits (QEMU, hw/ppc/spapr_drc.c). A region of
# virtio-pmem has no handle; it is below its PCI device in sysfs. Any other region (of memmap=, of CXL) is ignored,
# because the hypervisor does not list it.
# Attributes: kernel, Documentation/ABI/testing/sysfs-bus-nfit and drivers/nvdimm/region_devs.c.
_SCRIPT = r"""
cd /sys/bus/nd/devices 2>/dev/null || exit 0
for region in region*; do
    [ -e "$region" ] || continue
    path=$(readlink -f "$region")
    if [ -r "$region/mapping0" ]; then
        IFS=, read -r dimm rest <"$region/mapping0"
        if [ -r "$dimm/nfit/handle" ]; then
            read -r key <"$dimm/nfit/handle"
        else
            key=${path##*ibm,pmemory@}
            key=${key%%/*}
            case $key in '' | *[!0-9a-f]*) continue ;; esac
            key=$(((0x$key & 0xfffffff) + 1))
        fi
    else
        case $path in */virtio[0-9]*) ;; *) continue ;; esac
        path=${path%/virtio[0-9]*}
        key=pci:${path##*/}
    fi
    printf '%s ' "$key"
    for attribute in "$region/size" "$region/read_only" "$region/numa_node"; do
        value=-
        [ -r "$attribute" ] && read -r value <"$attribute"
        printf '%s ' "$value"
    done
    if [ -r "$region/resource" ] && read -r value <"$region/resource"; then printf '@%s ' "$value"; fi
    for node in "$region"/*/block/* "$region"/dax*/dax[0-9]* "$region"/dax*/dax*/dax[0-9]*; do
        [ -e "$node/dev" ] && printf '/dev/%s ' "${node##*/}"
    done
    echo "$region"
done
"""

_SHOWN = 200

INSIDE_COMMAND = query(_SCRIPT)
"""The command that reads the kernel's view of its devices."""


class InsideRegion(Struct, frozen=True):
    """A region of a guest's kernel.

    Args:
        name: The region's name, e.g. ``region0``.
        key: The memory slot of its NVDIMM, which is the NFIT handle minus one (QEMU, hw/acpi/nvdimm.c), or the PCI
            address of its virtio-pmem device.
        size: The region's size.
        view: The attributes that the kernel reports. The kernel does not know the backing.
        address: The region's address in the guest's memory; None if the kernel does not report it.
    """

    name: str
    key: DeviceKey
    size: Size
    view: Mapping[str, object]
    address: int | None = None


def inside_regions(transport: Transport) -> tuple[InsideRegion, ...]:
    """Return all regions of NVDIMMs and virtio-pmem devices in a guest's kernel, in one round trip.

    Args:
        transport: The transport into the guest.

    Raises:
        UnreadableOutputError: The kernel's attributes do not have the documented form.
    """
    result = transport.run(INSIDE_COMMAND).check()
    found = []
    for line in result.lines:
        try:
            key, size, read_only, node, *nodes, name = line.split()
            view: dict[str, object] = {"region size": Size(int(size)), "readonly": bool(int(read_only))}
            if node != "-" and int(node) >= 0:  # a kernel without NUMA says -1
                view["node"] = int(node)
            address = next((int(node[1:], 0) for node in nodes if node.startswith("@")), None)
            if nodes := [node for node in nodes if not node.startswith("@")]:
                view["device node"] = ", ".join(dict.fromkeys(nodes))
            pci = key.removeprefix("pci:")
            identifier: DeviceKey = pci if pci != key else int(key, 0) - 1
            found.append(InsideRegion(name, identifier, Size(int(size)), view, address))
        except ValueError as error:
            raise UnreadableOutputError(
                result, f"The kernel's attributes of a region have another form: {line[:_SHOWN]!r}"
            ) from error
    return tuple(found)


def inside_devices(
    regions: Iterable[InsideRegion], aliases: Mapping[str, str], addresses: Mapping[int, str] | None = None
) -> dict[DeviceKey, Mapping[str, object]]:
    """Return what a guest's kernel reports of each device, by slot or alias.

    Args:
        regions: The regions of the guest's kernel.
        aliases: The alias of each PCI device, by its PCI address in the guest.
        addresses: The backing's path of each device without an alias, by its address in the guest's memory.
    """
    return {device_key(region, aliases, addresses or {}): region.view for region in regions}


def device_key(region: InsideRegion, aliases: Mapping[str, str], addresses: Mapping[int, str]) -> DeviceKey:
    """Return the slot or the alias of a region's device. See `inside_devices`."""
    if isinstance(region.key, int):
        return region.key
    return aliases.get(region.key) or addresses.get(-1 if region.address is None else region.address) or region.key
