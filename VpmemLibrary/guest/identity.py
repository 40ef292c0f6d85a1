"""Identify a guest's device by the bytes of its label area, and compare its labels. The bytes move with the backing."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.prediction import label_area_offset
from VpmemLibrary.pmem.labels.area import LabelArea, decode_label_area
from VpmemLibrary.pmem.records import Region

_ABSENT = "(no such namespace)"


class DeviceIdentity(Struct, frozen=True):
    """The identity of a device, from its label area alone. It does not depend on a guest, a slot or a device node.

    Args:
        checksum: The SHA-256 of the label area.
        labels: The UUID and the name in each label, sorted.
    """

    checksum: str
    labels: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        names = ", ".join(f"{name or '(no name)'} {uuid}" for uuid, name in self.labels)
        return f"{names or 'no labels'}; label area {self.checksum[:12]}"


def read_label_area(host: ContentStore, device: VpmemDevice) -> tuple[DeviceIdentity, LabelArea]:
    """Return the identity of a device and its label area. The host reads both at the end of the backing.

    Args:
        host: The content store of the host.
        device: The device.

    Raises:
        InvalidValueError: The device has no label area.
    """
    data = host.read(device.path, label_area_offset(device), device.label_size or 0)
    area = decode_label_area(data, f"label area of {device.path}")
    labels = tuple(sorted((label.uuid, label.name) for label in area.labels))
    return DeviceIdentity(hashlib.sha256(data).hexdigest(), labels), area


def compare_labels(area: LabelArea, region: Region) -> Agreement:
    """Compare the labels that the host reads in a label area with the namespaces that the guest's kernel lists.

    Args:
        area: The label area as the host reads it.
        region: The region in the guest.
    """
    read = {label.uuid: label.name for label in area.labels}
    listed = {namespace.label_uuid: namespace.name for namespace in region.namespaces if namespace.label_uuid}
    return Agreement(
        f"{area.dimm} and {region.dev}",
        {
            "host's bytes": {uuid: read.get(uuid, _ABSENT) for uuid in {**read, **listed}},
            "guest's kernel": {uuid: listed.get(uuid, _ABSENT) for uuid in {**read, **listed}},
        },
    )


def cookie_problem(area: LabelArea, region: Region) -> str:
    """Return why a guest's kernel ignores labels of another interleave set; empty if the set is the same.

    A label contains the cookie of the interleave set in which it was written. QEMU derives a DIMM's serial number from
    its memory slot (hw/acpi/nvdimm.c), and the cookie depends on the serial number. So the kernel ignores the labels of
    a device that moved to another slot.

    Args:
        area: The label area as the host reads it.
        region: The region in the guest.
    """
    cookies = {label.isetcookie for label in area.labels}
    if not cookies or region.iset_id is None or region.iset_id in cookies:
        return ""
    written = ", ".join(f"{cookie:#x}" for cookie in sorted(cookies))
    return (
        f"The kernel ignores the labels: they were written in interleave set {written}, and {region.dev} is interleave "
        f"set {region.iset_id:#x}. The set of a QEMU NVDIMM depends on its memory slot: put the device back into its "
        "former slot."
    )
