"""Keywords that say what device a guest is to have."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain import Access, VpmemDevice, VpmemModel
from VpmemLibrary.guest.prediction import configured_size
from VpmemLibrary.keywords.context import Context
from VpmemLibrary.model import Namespace
from VpmemLibrary.sizes import ALL, MiB, Size

VpmemChoice = VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None
"""What keywords take for a guest's devices: nothing, one, or several in order."""


class DeviceKeywords:
    """Devices, before a guest has them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("guest",))
    def new_vpmem_device(
        self,
        backing: Namespace | str,
        *,
        model: VpmemModel = VpmemModel.nvdimm,
        size: Size = ALL,
        label_size: Size = Size(2 * MiB),
        align: Size = Size(2 * MiB),
        shared: bool = True,
        pmem: bool = True,
        readonly: bool = False,
        node: int = 0,
    ) -> VpmemDevice:
        """Return a device for a guest, for [Define Guest], [Start New Guest]; nothing is done with it yet.

        Args:
            backing: A namespace (record, UUID, name or device name), or the absolute path of a device node or file.
            model: `nvdimm`, or `virtio_pmem`, which has no label area and no node.
            size: How much of the backing the device has; `all` is all of a namespace.
            label_size: The size of its label area, at the end of the backing; `0` for a device without labels.
            align: The mapping alignment, in libvirt `alignsize`: that of the namespace for devdax.
            shared: Whether writes reach the backing. Without it nothing persists (QEMU, docs/nvdimm.txt).
            pmem: Whether QEMU may take the backing for persistent memory.
            readonly: Whether the guest may not write.
            node: The guest's NUMA node that has it.

        Returns:
            The device's record.

        Raises:
            InvalidValueError: A value that no guest can have, named with what would be valid.

        Example:

        ```robotframework
        *** Test Cases ***
        Without A Label Area
            ${device} =    New Vpmem Device    ns_0    label_size=0
            ${guest} =    Start New Guest    vpmem=${device}
        ```
        """
        virtio = model is VpmemModel.virtio_pmem
        return device_on(
            self._context,
            backing,
            size=size,
            model=model,
            label_size=None if virtio else label_size or None,
            align=None if virtio else align,
            access=Access.shared if shared else Access.private,
            pmem=pmem and not virtio,
            readonly=readonly,
            node=None if virtio else node,
        )

    @keyword(tags=("prediction",))
    def get_predicted_device_size(self, size: Size) -> Size:
        """Return what libvirt makes of the size of a device on x86: it is rounded up to 2 MiB.

        Args:
            size: The size that a domain's XML states.

        Returns:
            The size that the guest's device has.

        Example:

        ```robotframework
        *** Test Cases ***
        Rounded Up
            ${size} =    Get Predicted Device Size    63MiB
            Should Be Equal As Strings    ${size}    64MiB
        ```
        """
        return configured_size(size)


def devices_of(context: Context, vpmem: VpmemChoice) -> tuple[VpmemDevice, ...]:
    """Return the devices that a keyword was given; a namespace means all of it, as an nvdimm.

    Raises:
        NotFoundError: There is no such namespace.
        InvalidValueError: A namespace is not enabled, or a path comes without a size.
    """
    items = vpmem if isinstance(vpmem, list | tuple) else [] if vpmem is None else [vpmem]
    return tuple(item if isinstance(item, VpmemDevice) else device_on(context, item) for item in items)


def device_on(
    context: Context,
    backing: Namespace | str,
    *,
    size: Size = ALL,
    model: VpmemModel = VpmemModel.nvdimm,
    label_size: Size | None = Size(2 * MiB),
    align: Size | None = Size(2 * MiB),
    access: Access | None = Access.shared,
    pmem: bool = True,
    readonly: bool = False,
    node: int | None = 0,
) -> VpmemDevice:
    """Return a device on a namespace of the current host, or on a path.

    Raises:
        NotFoundError: There is no such namespace.
        InvalidValueError: A namespace is not enabled, or a path comes without a size.
    """
    path = backing if isinstance(backing, str) and backing.startswith("/") else ""
    if not path:
        namespace = context.host.ndctl.namespace(backing)
        if not namespace.device:
            raise InvalidValueError("backing", namespace.name or namespace.dev, "a namespace that is enabled")
        path = namespace.device
        size = namespace.size if size is ALL else size
    if size is ALL:
        raise InvalidValueError("size", "all", f"how many bytes of {path} the device has, e.g. 256MiB")
    return VpmemDevice(
        path=path,
        size=Size.parse(size),
        model=model,
        label_size=label_size,
        align=align,
        access=access,
        pmem=pmem,
        readonly=readonly,
        node=node,
    )
