"""Check devices and their backings before a guest is defined. libvirt accepts some mistakes without an error."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError
from VpmemLibrary.guest.domain.records import Access, VpmemDevice, VpmemModel
from VpmemLibrary.guest.prediction import POWER, POWER_STEP, SIZE_STEP, SMALLEST_LABEL, guest_region_size
from VpmemLibrary.pmem.dax.test_bus import ON_TEST_BUS, mapping_refused
from VpmemLibrary.sizes import KiB, Size
from VpmemLibrary.transport.base import Transport, query

# Prints one line for each path with these fields: the kind (c(haracter), b(lock), t(est bus), f(ile) or -); the size in
# bytes; the alignment of a devdax node; an identity that does not depend on the path (device number, or file system and
# inode); the allocated bytes of a file.
_LOOK = (
    ON_TEST_BUS
    + r"""
for path in "$@"; do
    if [ -c "$path" ]; then
        number=$(stat -L -c '%t:%T' -- "$path")
        sys=/sys/dev/char/$((0x${number%:*})):$((0x${number#*:}))
        size= align=
        [ -r "$sys/size" ] && read -r size <"$sys/size"
        if [ -r "$sys/align" ]; then read -r align <"$sys/align"
        elif [ -r "$sys/device/align" ]; then read -r align <"$sys/device/align"
        fi
        kind=c
        ! on_test_bus "$sys" || kind=t
        printf '%s %s %s %s 0\n' "$kind" "${size:-0}" "${align:-0}" "char:$number"
    elif [ -b "$path" ]; then
        number=$(stat -L -c '%t:%T' -- "$path")
        kind=b
        ! on_test_bus "/sys/dev/block/$((0x${number%:*})):$((0x${number#*:}))" || kind=t
        printf '%s %s 0 %s 0\n' "$kind" "$(blockdev --getsize64 "$path")" "block:$number"
    elif [ -f "$path" ]; then
        blocks=$(stat -L -c %b -- "$path") unit=$(stat -L -c %B -- "$path")
        printf 'f %s %s\n' "$(stat -L -c '%s 0 file:%d:%i' -- "$path")" "$((blocks * unit))"
    else printf -- '- 0 0 - 0\n'
    fi
done
"""
)

# A dangling link counts as present, because a program that writes to the path would follow the link.
_IS_THERE = r"""
if [ -e "$1" ] || [ -L "$1" ]; then echo there; else echo absent; fi
"""


_LINE = r"([ctbf-]) ([0-9]{1,18}) ([0-9]{1,18}) ([^ ]+) ([0-9]{1,18})"


class _Backing(Struct, frozen=True):
    kind: str
    size: Size
    align: Size
    identity: str
    allocated: Size


def check_device(device: VpmemDevice, *, unshared: bool = False, architecture: str = "x86_64") -> None:
    """Raise if a device is invalid.

    Args:
        device: The device.
        unshared: Allow a device without shared access, on which nothing persists.
        architecture: The guest's architecture.

    Raises:
        InvalidValueError: A value is invalid. The message names the value and what would be valid.
    """
    if not device.path.startswith("/"):
        raise InvalidValueError("path", device.path, "an absolute path on the host, e.g. /dev/dax0.0")
    if architecture in POWER and device.size <= (device.label_size or 0):
        raise InvalidValueError(
            f"size of {device.path}", str(device.size), f"{POWER_STEP} or more besides the label area on {architecture}"
        )
    if device.size <= 0 or (device.size % SIZE_STEP and architecture not in POWER):
        below, above = device.size.down_to(SIZE_STEP), device.size.up_to(SIZE_STEP)
        near = " or ".join(str(size) for size in (below, above) if size) or str(SIZE_STEP)
        raise InvalidValueError(f"size of {device.path}", str(device.size), f"a multiple of {SIZE_STEP}: {near}")
    if device.align is not None and (device.align < 4096 or device.align & (device.align - 1)):
        raise InvalidValueError(f"align of {device.path}", str(device.align), "a power of two from 4KiB, e.g. 2MiB")
    if device.model is VpmemModel.virtio_pmem:
        _check_virtio(device)
    else:
        _check_nvdimm(device)
    if device.access is not Access.shared and not unshared:
        raise InvalidValueError(
            f"access of {device.path}",
            str(device.access or "none"),
            "shared: with any other access no write reaches the backing, and nothing persists",
        )


def check_devices(
    devices: Iterable[VpmemDevice],
    *,
    unshared: bool = False,
    cells: int | None = None,
    given: int = 0,
    architecture: str = "x86_64",
) -> None:
    """Raise if a device is invalid, two devices share a backing, or a NUMA node does not exist in the guest.

    Args:
        devices: All devices of a guest.
        unshared: Allow devices without shared access, on which nothing persists.
        cells: The number of NUMA nodes of the guest; None leaves the check to libvirt.
        given: How many devices at the start of `devices` the guest already has. Only the paths of these devices are
            checked.
        architecture: The guest's architecture.

    Raises:
        InvalidValueError: A value is invalid. The message names the value.
    """
    seen: set[str] = set()
    for number, device in enumerate(devices):
        if device.path in seen:
            raise InvalidValueError("path", device.path, "another backing for each device of a guest")
        seen.add(device.path)
        if number < given:
            continue
        check_device(device, unshared=unshared, architecture=architecture)
        if cells is not None and device.node is not None and device.node >= cells:
            raise InvalidValueError(
                f"node of {device.path}", device.node, f"a NUMA node of the guest: 0 to {cells - 1}"
            )


def check_backings(transport: Transport, devices: Iterable[VpmemDevice]) -> None:
    """Raise if a backing is absent or cannot carry its device. libvirt would create a file for an absent backing.

    Raises:
        InvalidValueError: The backing is absent, is too small, has a coarser alignment, is device DAX without shared
            access, is a sparse file that QEMU would allocate completely, or is the backing of another device. The
            message names the path and the problem.
        UnsupportedError: The backing is on a test bus.
    """
    wanted = list(devices)
    seen: dict[str, str] = {}
    for device, backing in zip(wanted, _look(transport, [device.path for device in wanted]), strict=True):
        if backing.kind == "-":
            raise InvalidValueError("path", device.path, f"a device node or file that exists on {transport.name}")
        if backing.kind == "t":
            raise mapping_refused(device.path, transport.name)
        _check_backing(device, backing)
        if other := seen.get(backing.identity):
            raise InvalidValueError("path", device.path, f"another backing: it is the same as {other}")
        seen[backing.identity] = device.path


def refuse_present(transport: Transport, path: str) -> None:
    """Raise unless a path is absolute and does not exist.

    Args:
        transport: The transport to the host.
        path: The path.

    Raises:
        InvalidValueError: The path is relative, or it exists. A dangling link exists.
        CommandError: The host could not check the path.
    """
    if path.startswith("/"):
        result = transport.run(query(_IS_THERE, path)).check(f"Could not check whether {path} exists")
        if result.text == "absent\n":
            return
    raise InvalidValueError("path", path, f"an absolute path on {transport.name} that does not exist yet")


def _check_backing(device: VpmemDevice, backing: _Backing) -> None:
    virtio = device.model is VpmemModel.virtio_pmem
    if backing.size < device.size:
        raise InvalidValueError(
            f"size of {device.path}", str(device.size), f"at most the size of the backing, {backing.size}"
        )
    if virtio and backing.align > 4 * KiB:
        raise InvalidValueError(
            f"backing {device.path} with the alignment",
            str(backing.align),
            "a file or a block device, such as an fsdax namespace: libvirt gives a virtio-pmem device no alignment",
        )
    # QEMU, system/physmem.c: "backing store align is larger than 'align' option"
    if (device.align or Size(4 * KiB)) < backing.align:
        raise InvalidValueError(
            f"align of {device.path}", str(device.align or "none"), f"{backing.align}, the alignment of the backing"
        )
    # Kernel, drivers/dax/device.c, check_vma: "attempted private mapping"
    if backing.kind == "c" and device.access is not Access.shared:
        raise InvalidValueError(
            f"access of {device.path}", str(device.access or "none"), "shared: device DAX cannot be mapped otherwise"
        )
    # libvirt, qemu_command.c: everything except persistent memory is preallocated
    preallocated = not (virtio or device.pmem) and device.access is Access.shared
    if backing.kind == "f" and backing.allocated < device.size and preallocated:
        raise InvalidValueError(
            f"path of {device.model} device",
            device.path,
            f"a fully allocated file (fallocate -l {int(backing.size)} {shlex.quote(device.path)}): only "
            f"{backing.allocated} of {backing.size} are allocated, and QEMU would allocate the rest at the start",
        )


def backing_identities(transport: Transport, paths: Sequence[str]) -> dict[str, str]:
    """Return the identity of each path. Two paths with the same identity are the same backing."""
    found = zip(paths, _look(transport, paths), strict=True)
    return {path: path if backing.kind == "-" else backing.identity for path, backing in found}


def _look(transport: Transport, paths: Sequence[str]) -> list[_Backing]:
    if not paths:
        return []
    result = transport.run(query(_LOOK, *paths)).check()
    lines = [found.groups() for line in result.lines if (found := re.fullmatch(_LINE, line))]
    if len(lines) != len(paths):
        raise UnreadableOutputError(result, "The host did not report the kind of each backing")
    return [
        _Backing(kind, Size(int(size)), Size(int(align)), identity, Size(int(allocated)))
        for kind, size, align, identity, allocated in lines
    ]


def _check_nvdimm(device: VpmemDevice) -> None:
    if device.node is None or device.node < 0:
        raise InvalidValueError(f"node of {device.path}", device.node, "a NUMA node of the guest, e.g. 0")
    if device.label_size is None:
        return
    if device.label_size < SMALLEST_LABEL or device.label_size >= device.size:
        raise InvalidValueError(
            f"label_size of {device.path}",
            str(device.label_size),
            f"at least {SMALLEST_LABEL} and less than the device's {device.size}, e.g. 2MiB",
        )
    if guest_region_size(device) == 0:
        raise InvalidValueError(
            f"label_size of {device.path}",
            str(device.label_size),
            f"a label area that leaves a region of at least {device.align}",
        )


def _check_virtio(device: VpmemDevice) -> None:
    if device.label_size is not None:
        raise InvalidValueError(
            f"label_size of {device.path}", str(device.label_size), "no label_size: virtio-pmem has no label area"
        )
    if device.node is not None:
        raise InvalidValueError(f"node of {device.path}", device.node, "no node: virtio-pmem is a PCI device")
    if device.align is not None:
        raise InvalidValueError(f"align of {device.path}", str(device.align), "no align: virtio-pmem has no alignment")
    if device.pmem:
        raise InvalidValueError(
            f"pmem of {device.path}", device.pmem, "False: virtio-pmem flushes by a request to the host"
        )
    if device.readonly:
        raise InvalidValueError(f"readonly of {device.path}", device.readonly, "False: virtio-pmem is always writable")
