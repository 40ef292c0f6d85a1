"""What a guest's kernel has for its devices, read from its sysfs in one round trip; no tool is needed for it."""

from __future__ import annotations

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.host.transport import Transport
from VpmemLibrary.sizes import Size

# A line a region that lies on one DIMM with an NFIT handle: region, handle, size, read_only, node, device nodes.
# Attributes: kernel, Documentation/ABI/testing/sysfs-bus-nfit and drivers/nvdimm/region_devs.c.
_SCRIPT = r"""
cd /sys/bus/nd/devices 2>/dev/null || exit 0
for region in region*; do
    [ -r "$region/mapping0" ] || continue
    IFS=, read -r dimm rest <"$region/mapping0"
    [ -r "$dimm/nfit/handle" ] || continue
    for attribute in "$dimm/nfit/handle" "$region/size" "$region/read_only" "$region/numa_node"; do
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

INSIDE_COMMAND = ("sh", "-c", _SCRIPT)
"""What reads a kernel's view of its devices."""


def inside_devices(transport: Transport) -> dict[int, dict[str, object]]:
    """Return, for each memory slot, what the kernel says of the NVDIMM in it; it knows no path and no backing.

    The slot is the DIMM's NFIT handle less one (QEMU, hw/acpi/nvdimm.c).

    Args:
        transport: The way into the guest.

    Raises:
        UnreadableOutputError: The kernel's attributes are not of the documented form.
    """
    result = transport.run(INSIDE_COMMAND).check()
    found: dict[int, dict[str, object]] = {}
    for line in result.text.splitlines():
        try:
            handle, size, read_only, node, *nodes, _ = line.split()
            view: dict[str, object] = {"region size": Size(int(size)), "readonly": bool(int(read_only))}
            if node != "-" and int(node) >= 0:  # a kernel without NUMA says -1
                view["node"] = int(node)
            if nodes:
                view["device node"] = ", ".join(dict.fromkeys(nodes))
            found[int(handle, 0) - 1] = view
        except ValueError as error:
            raise UnreadableOutputError(
                result, f"The kernel's attributes of a region are not readable: {line}"
            ) from error
    return found
