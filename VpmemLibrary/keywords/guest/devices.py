"""Keywords that describe devices for guests."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import Access, VpmemDevice, VpmemModel
from VpmemLibrary.guest.persistence import Persistence, backing_kind, persistence_of
from VpmemLibrary.guest.prediction import configured_size
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.keywords.support.targets import path_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, MiB, Size

VpmemChoice = VpmemDevice | Namespace | str | list[VpmemDevice | Namespace | str] | None
"""The types that keywords accept for a guest's devices: none, one, or several in order."""


class DeviceKeywords:
    """Keywords for devices that no guest has yet."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest",))
    def new_vpmem_device(
        self,
        backing: Namespace | str,
        *,
        model: VpmemModel = VpmemModel.nvdimm,
        size: Size = ALL,
        label_size: Size = Size(2 * MiB),
        align: Size = Size(2 * MiB),
        shared: bool | None = True,
        pmem: bool = True,
        readonly: bool = False,
        node: int = 0,
    ) -> VpmemDevice:
        """Return the description of a device for [Define Guest] or [Start New Guest]. Nothing is created yet.

        Args:
            backing: A namespace (record, UUID, name or device name), or the absolute path of a device node or file.
            model: `nvdimm`, or `virtio_pmem`. A `virtio_pmem` device has no label area and no NUMA node.
            size: How much of the backing the device uses. `all` uses a whole namespace.
            label_size: The size of the label area, at the end of the backing. `0` means no label area.
            align: The mapping alignment, `alignsize` in libvirt. For devdax it must be the namespace's alignment.
            shared: Whether writes reach the backing. Without shared access nothing persists (QEMU, docs/nvdimm.txt).
                With `None` the domain's XML does not set the access, and QEMU does not share the backing.
            pmem: Whether QEMU may treat the backing as persistent memory.
            readonly: Whether the guest may only read.
            node: The guest's NUMA node to which the device belongs.

        Returns:
            The device's record.

        Raises:
            InvalidValueError: A value is invalid for every guest. The message names the value and what is valid.

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
            self._session,
            backing,
            size=size,
            model=model,
            label_size=None if virtio else label_size or None,
            align=None if virtio else align,
            access=None if shared is None else Access.shared if shared else Access.private,
            pmem=pmem and not virtio,
            readonly=readonly,
            node=None if virtio else node,
        )

    @keyword(tags=("guest", "getter"))
    def get_backing_kind(
        self,
        backing: VpmemDevice | Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the kind of a backing on the current host, and assert it if an operator is given.

        The kind is read from the host's kernel.

        Args:
            backing: A device, a namespace, or the path of a device-DAX node or a file.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected kind. `devdax` is a device-DAX node. `dax file` is a file that statx reports as DAX.
                `plain file` is a file that is accessed through the page cache. `memory file` is a file in tmpfs or
                hugetlbfs.
            message: Your own failure text.

        Returns:
            The kind.

        Raises:
            InvalidValueError: Nothing exists at the backing's path.
            UnsupportedError: No device can use such a backing.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        A File That Is DAX
            ${mount} =    Mount File System    ${namespace}    dax=always
            Run On Host    fallocate    -l    64MiB    ${mount.mount_point}/backing
            Get Backing Kind    ${mount.mount_point}/backing    ==    dax file
        ```
        """
        path = _path_of(self._session, backing)
        kind = backing_kind(self._session.host.transport, path)
        return assert_text(str(kind), assertion_operator, expected, f"Kind of {path}", message)

    @keyword(tags=("prediction",))
    def get_predicted_persistence(self, device: VpmemDevice) -> Persistence:
        """Predict whether data that a guest writes to a device and flushes will persist. No guest is started.

        The prediction uses the device's access, its `pmem` setting and the kind of its backing on the current host:

        - Writes that are not shared never reach the backing.
        - Data in the page cache or in memory survives the end of QEMU, but not a power loss of the host.
        - Only device DAX, and a DAX file that QEMU maps with MAP_SYNC, survive a power loss (QEMU, docs/nvdimm.txt).

        Args:
            device: The device's record.

        Returns:
            A record with `restart` (whether the data survives a destroy and start of the guest), `power_loss` (whether
            the data survives a power loss of the host) and `reason`.

        Raises:
            InvalidValueError: The backing does not exist.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Will Be There
            ${device} =    New Vpmem Device    /srv/backing    size=64MiB    shared=False
            ${predicted} =    Get Predicted Persistence    ${device}
            Should Not Be True    ${predicted.restart}
        ```
        """
        kind = backing_kind(self._session.host.transport, device.path)
        predicted = persistence_of(device, kind)
        logger.info(f"{device.path}, a {kind}: {predicted}.")
        return predicted

    @keyword(tags=("prediction",))
    def get_predicted_device_size(self, size: Size) -> Size:
        """Predict the size that libvirt gives a device on x86: libvirt rounds the size up to 2 MiB.

        Args:
            size: The size in the domain's XML.

        Returns:
            The size of the guest's device.

        Example:

        ```robotframework
        *** Test Cases ***
        Rounded Up
            ${size} =    Get Predicted Device Size    63MiB
            Should Be Equal As Strings    ${size}    64MiB
        ```
        """
        return configured_size(size)


def devices_of(session: Session, vpmem: VpmemChoice) -> tuple[VpmemDevice, ...]:
    """Return the devices for a keyword's argument. A namespace means an nvdimm on the whole namespace.

    Raises:
        NotFoundError: There is no such namespace.
        InvalidValueError: A namespace is not enabled, or a path is given without a size.
    """
    items = vpmem if isinstance(vpmem, list | tuple) else [] if vpmem is None else [vpmem]
    return tuple(item if isinstance(item, VpmemDevice) else device_on(session, item) for item in items)


def _path_of(session: Session, backing: VpmemDevice | Namespace | str) -> str:
    return backing.path if isinstance(backing, VpmemDevice) else path_of(session, backing)


def device_on(
    session: Session,
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
        InvalidValueError: A namespace is not enabled, or a path is given without a size.
    """
    path = backing if isinstance(backing, str) and backing.startswith("/") else ""
    if not path:
        namespace = session.host.ndctl.namespace(backing)
        if not namespace.device:
            raise InvalidValueError("backing", namespace.name or namespace.dev, "a namespace that is enabled")
        path = namespace.device
        size = namespace.size if size is ALL else size
    if size is ALL:
        raise InvalidValueError("size", "all", f"the number of bytes of {path} that the device uses, e.g. 256MiB")
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
