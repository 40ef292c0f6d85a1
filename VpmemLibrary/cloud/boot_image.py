"""The image that servers of the lab's cloud boot: kernel and initramfs of the lab's guests, and an empty disk."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from VpmemLibrary.cloud.http import Api
from VpmemLibrary.lab.cache import cached
from VpmemLibrary.lab.image import GUEST_COMMAND_LINE, GUEST_INITRD
from VpmemLibrary.lab.lab import LabHost
from VpmemLibrary.lab.paths import cache_directory
from VpmemLibrary.lab.progress import Progress
from VpmemLibrary.sizes import MiB

IMAGE_NAME = "vpmem-guest"
"""The image's name in glance. It has the QEMU guest agent, ndctl and daxctl."""

_DISK_SIZE = 1 * MiB
_IDS = uuid.UUID("5f2d6d0e-70dd-4d9f-9a52-3c0a8f6a2b11")


@dataclass(frozen=True, slots=True)
class BootImages:
    """The ids in glance of the kernel and the initramfs that servers boot."""

    kernel: str
    initrd: str


def boot_images(host: LabHost) -> BootImages:
    """Return the ids of the kernel and the initramfs. They are the same in all clouds with the same lab image."""
    return BootImages(_image_id("kernel", host), _image_id("initrd", host))


def initrd_name(image: str) -> str:
    """Return the name of the cache directory with the initramfs of an image of the lab."""
    return f"cloud-initrd-{image}"


def upload_image(api: Api, host: LabHost, directory: Path, progress: Progress) -> None:
    """Upload the parts of the image that glance does not have.

    Raises:
        HttpError: glance did not answer, or refused a request.
        CommandError: The initramfs could not be read on the lab host.
    """
    if api.get("glance", f"/v2/images?name={IMAGE_NAME}&status=active")["images"]:
        return
    boot = boot_images(host)
    initrd = cached(
        cache_directory() / initrd_name(host.qemu.image.key),
        lambda fresh: _fetch_initrd(host, fresh),
        progress,
    )
    disk = directory / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(_DISK_SIZE)
    properties = {
        "kernel_id": boot.kernel,
        "ramdisk_id": boot.initrd,
        "os_command_line": GUEST_COMMAND_LINE,
        "hw_qemu_guest_agent": "yes",
        "hw_disk_bus": "virtio",
        "hw_rng_model": "virtio",
    }
    with progress.step("uploading the image of servers", 5):
        _upload(api, host.qemu.image.kernel, boot.kernel, name=f"{IMAGE_NAME}-kernel", **_format("aki", "aki"))
        _upload(api, initrd / "initrd", boot.initrd, name=f"{IMAGE_NAME}-initrd", **_format("ari", "ari"))
        _upload(api, disk, _image_id("disk", host), name=IMAGE_NAME, **_format("bare", "raw"), **properties)


def _image_id(part: str, host: LabHost) -> str:
    return str(uuid.uuid5(_IDS, f"{part} {host.qemu.image.key}"))


def _fetch_initrd(host: LabHost, directory: Path) -> None:
    with host.transport() as transport:
        (directory / "initrd").write_bytes(transport.read_file(GUEST_INITRD))


def _format(container: str, disk: str) -> dict[str, str]:
    return {"container_format": container, "disk_format": disk}


def _upload(api: Api, path: Path, identity: str, **properties: str) -> None:
    found = {each["id"]: each["status"] for each in api.get("glance", "/v2/images")["images"]}
    if identity not in found:
        api.send("POST", "glance", "/v2/images", data={"id": identity, "visibility": "public", **properties})
    if found.get(identity) != "active":
        with path.open("rb") as file:
            api.send("PUT", "glance", f"/v2/images/{identity}/file", file=file, size=path.stat().st_size)
