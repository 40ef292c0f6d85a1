"""Read and write the info blocks of one machine's namespaces, with the machine's own ndctl."""

from __future__ import annotations

from VpmemLibrary.errors import CommandError, InvalidValueError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.guard import NAMESPACE, namespace_target
from VpmemLibrary.pmem.media.info_block import HEAD, InfoBlock, MappedInfoBlock, decode_info_blocks
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.plan import mode_options
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.prediction import predict_usable_size
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode
from VpmemLibrary.sizes import Size

# The kernel's names for the mode in a label of version 1.2 (holder_class). For such a namespace, the kernel looks only
# for an info block of this kind (drivers/nvdimm/pfn_devs.c and dax_devs.c, nd_pfn_probe and nd_dax_probe).
_CLASSES = {NamespaceMode.fsdax: "pfn", NamespaceMode.devdax: "dax"}
_SCRIPT = r"""
sys=/sys/bus/nd/devices/$1
resource= class=
read -r resource <"$sys/resource"
{ read -r class <"$sys/holder_class"; } 2>/dev/null
printf '%s:%s\n' "$resource" "$class"
"""


class InfoBlocks:
    """The info blocks of namespaces.

    An active namespace hides its info block. Therefore a namespace is disabled for reading or writing, and enabled
    again if it was active. A namespace in use is refused.

    Args:
        ndctl: The machine's ndctl.
        namespaces: The machine's namespaces.

    Example::

        InfoBlocks(ndctl, namespaces).read("ns_0").data_offset
    """

    def __init__(self, ndctl: Ndctl, namespaces: Namespaces) -> None:
        self._ndctl = ndctl
        self._namespaces = namespaces

    def read(self, namespace: Namespace | str) -> InfoBlock:
        """Return the info block of a namespace. A broken block is returned too. See `InfoBlock.faults`.

        Args:
            namespace: The namespace's record, UUID, device name or name.

        Raises:
            NotFoundError: The namespace does not exist, or it is raw and has no info block.
            BusyError: The namespace is in use.
            CommandError: ndctl failed.
        """
        with self._namespaces.disabled(namespace) as idle:
            return self._read(idle)

    def write(
        self,
        namespace: Namespace | str,
        *,
        mode: NamespaceMode,
        map_location: MapLocation | None = None,
        align: Size | None = None,
        uuid: str = "",
    ) -> InfoBlock:
        """Write a new info block to a namespace and return it. The namespace gets the block's mode. Its label stays.

        This method writes only the first 8 KiB. With the map ``dev``, the kernel then writes the page map over the
        bytes that follow. Use this method only in tests. `Namespaces.reconfigure` changes a mode permanently.

        Args:
            namespace: The namespace's record, UUID, device name or name.
            mode: fsdax or devdax.
            map_location: The location of the page map. The default is ``dev``.
            align: The mapping alignment. The default is 2 MiB.
            uuid: The block's own UUID. The default is a random UUID.

        Raises:
            InvalidValueError: The mode is neither fsdax nor devdax, or a value is invalid. Nothing was changed.
            UnsupportedError: The namespace's label requires another mode. Nothing was changed.
            NotFoundError: The namespace does not exist.
            BusyError: The namespace is in use. Nothing was changed.
            CommandError: ndctl failed, or the new block differs from the request. ndctl's exit status may still be 0.
        """
        if mode not in _CLASSES:
            raise InvalidValueError("mode", str(mode), "fsdax or devdax, because ndctl writes no other info block")
        before = self._ndctl.namespace(namespace)
        options = mode_options(self._ndctl.region(before.region), mode, map_location, align, None)
        options += ["--uuid", uuid] if uuid else []
        with self._namespaces.disabled(before) as idle:
            start = self._refuse_bound(idle, mode)
            predict_usable_size(idle.size, mode=mode, map_location=map_location, align=align, start=start)
            command = ["ndctl", "write-infoblock", NAMESPACE, *options, "--offset", str(start)]
            result = self._ndctl.change(command, namespace_target(idle), must_be_unused=True)
            checked(result, f"write the info block of {before.called}")
            written = self._read(idle)
            faults = written.faults(idle.label_uuid)
            if (written.mode, _map_of(written)) != (mode, map_location or MapLocation.dev):
                faults += (f"its mode is {written.mode} and its map {_map_of(written) or 'none'}",)
            if uuid not in ("", written.uuid):
                faults += (f"its UUID is {written.uuid}",)
            if faults:
                raise CommandError(
                    result, f"{before.called} has an info block that differs from the written one: {'; '.join(faults)}"
                )
        return written

    def _read(self, idle: Namespace) -> InfoBlock:
        result = self._ndctl.change(["ndctl", "read-infoblock", NAMESPACE], namespace_target(idle))
        checked(result, f"read the info block of {idle.called}")
        if len(result.stdout) < HEAD:
            raise UnreadableOutputError(result, f"ndctl exited 0, but printed {len(result.stdout)} bytes, not {HEAD}")
        blocks = decode_info_blocks(result.stdout)
        if not blocks:
            raise NotFoundError("info block of", idle.called, [], where=self._ndctl.transport.name)
        # An older namespace in this place may have left an info block too. That block has another parent UUID.
        own = [block for block in blocks if block.parent_uuid == idle.label_uuid] or blocks
        return next((block for block in own if not block.faults(idle.label_uuid)), own[0])

    def _refuse_bound(self, idle: Namespace, mode: NamespaceMode) -> int:
        """Return the namespace's start address in memory.

        Raise UnsupportedError if the kernel would not look for an info block of this mode.
        """
        result = self._ndctl.change(["sh", "-c", _SCRIPT, "sh", NAMESPACE], namespace_target(idle)).check()
        start, _, bound = result.text.strip().partition(":")
        if bound and bound != _CLASSES[mode]:
            raise UnsupportedError(
                f"The label of {idle.called} requires another mode (holder_class {bound}), so the kernel would ignore "
                f"an info block for {mode}. Reconfigure the namespace instead."
            )
        try:
            return int(start, 0)
        except ValueError:
            raise UnreadableOutputError(result, f"sysfs does not report where {idle.called} begins") from None


def _map_of(block: InfoBlock) -> MapLocation | None:
    return block.map if isinstance(block, MappedInfoBlock) else None
