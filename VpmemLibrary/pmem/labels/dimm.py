"""Read, initialize, zero and write the label area of one DIMM, with the machine's own ndctl.

This module reads the bytes back after each change, because ndctl's exit status proves nothing (ndctl 81). A failed
``write-labels`` prints "wrote 1 nmem" and exits 0. All these commands exit 0 for a DIMM that does not exist.
A DIMM's regions must be disabled for a change. After the change, ndctl makes the kernel read the labels again.
"""

from __future__ import annotations

from collections.abc import Sequence

from VpmemLibrary.errors import CommandError, UnsupportedError
from VpmemLibrary.pmem.guard import DIMM, Target, dimm_target, region_on_dimm
from VpmemLibrary.pmem.labels.area import LabelArea, decode_label_area
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import Dimm, Region
from VpmemLibrary.transport.base import CommandResult


def read_area(ndctl: Ndctl, dimm: str) -> LabelArea:
    """Return the content of a DIMM's label area.

    Raises:
        UnsupportedError: The DIMM has no label area, or the label area is unreadable.
    """
    result = ndctl.run(["ndctl", "read-labels", dimm])
    if result.exit_status == 0 and result.stdout:
        return decode_label_area(result.stdout, dimm)
    if result.exit_status not in (0, 1):
        checked(result, f"read the labels of {dimm}")
    raise UnsupportedError(result.describe(f"{dimm} has no label area, or it cannot be read"))


def read_areas(ndctl: Ndctl, region: Region) -> tuple[LabelArea, ...]:
    """Return the label area of each DIMM in a region's record.

    Raises:
        UnsupportedError: The record has no DIMMs, or a DIMM has no label area.
    """
    return tuple(read_area(ndctl, dimm) for dimm in require_dimms(ndctl, region))


def require_dimms(ndctl: Ndctl, region: Region) -> tuple[str, ...]:
    """Return the DIMMs in a region's record.

    Raises:
        UnsupportedError: The record has no DIMMs, so the region has no label area.
    """
    if not region.dimms:
        raise UnsupportedError(
            f"{region.dev} on {ndctl.transport.name} has no DIMM (provider {region.provider}), so it has no label area."
        )
    return region.dimms


def init_area(ndctl: Ndctl, region: Region, dimm: Dimm, version: str, *, force: bool) -> LabelArea:
    """Write an empty label area of a label version to a DIMM.

    Labels of another version are zeroed first. In a label area of more than 128 KiB, the index blocks of labels 1.1 and
    1.2 have different sizes. So ``ndctl init-labels`` would leave the second index block of the other version there,
    and the kernel and ndctl would use it again (ndctl 81, kernel 6.12).

    Args:
        ndctl: The machine's ndctl.
        region: The DIMM's region, which must be disabled.
        dimm: The DIMM.
        version: ``1.1`` or ``1.2``.
        force: Overwrite existing labels.

    Raises:
        CommandError: The DIMM does not have the new label area afterwards. ndctl's exit status may still be 0.
    """
    if read_area(ndctl, dimm.dev).version not in ("", version):
        zero_area(ndctl, region, dimm)
    forced = ["--force"] if force else []
    command = ["init-labels", "--label-version", version, *forced]
    result = _change(ndctl, command, dimm, *region_on_dimm(region, dimm))
    after = read_area(ndctl, dimm.dev)
    if after.problems or after.version != version or after.labels:
        found = f"has version {after.version or 'none'} and {len(after.labels)} labels"
        wrong = "".join(f"\n{line}" for line in after.problems)
        raise CommandError(
            result, f"The labels of {dimm.dev} were not initialised though ndctl exited 0: it {found}{wrong}"
        )
    return after


def zero_area(ndctl: Ndctl, region: Region, dimm: Dimm) -> LabelArea:
    """Fill the label area of a DIMM with zeros.

    Args:
        ndctl: The machine's ndctl.
        region: The DIMM's region, which must be disabled.
        dimm: The DIMM.

    Raises:
        CommandError: The label area is not all zeros afterwards. ndctl's exit status may still be 0.
    """
    result = _change(ndctl, ["zero-labels"], dimm, *region_on_dimm(region, dimm))
    after = read_area(ndctl, dimm.dev)
    if not after.blank:
        raise CommandError(result, f"The label area of {dimm.dev} is not all zeros though ndctl exited 0")
    return after


def write_area(ndctl: Ndctl, region: Region, dimm: Dimm, data: bytes) -> LabelArea:
    """Write all bytes of the label area of a DIMM.

    Args:
        ndctl: The machine's ndctl.
        region: The DIMM's region, which must be disabled.
        dimm: The DIMM.
        data: The new bytes of the whole label area.

    Raises:
        CommandError: The label area has different bytes afterwards. ndctl's exit status may still be 0.
    """
    result = _change(ndctl, ["write-labels"], dimm, *region_on_dimm(region, dimm), stdin=data)
    after = read_area(ndctl, dimm.dev)
    if after.data != data:
        different = sum(one != other for one, other in zip(after.data, data, strict=False))
        raise CommandError(
            result,
            f"The label area of {dimm.dev} was not written though ndctl exited 0: {different} of its "
            f"{int(after.size)} bytes differ from the new bytes",
        )
    return after


def switch_dimm(ndctl: Ndctl, dimm: Dimm, *, enabled: bool, region: Region | None = None) -> Dimm:
    """Enable or disable a DIMM. Return the DIMM from a fresh listing.

    Args:
        ndctl: The machine's ndctl.
        dimm: The DIMM.
        enabled: Whether to enable or disable the DIMM.
        region: The region on the DIMM whose lock the change takes. By default, the change takes the DIMM's own lock.

    Raises:
        CommandError: The DIMM is not in the wanted state afterwards. ndctl's exit status may still be 0. A DIMM with an
            enabled region stays enabled.
    """
    verb = "enable" if enabled else "disable"
    targets = (dimm_target(dimm),) if region is None else region_on_dimm(region, dimm)
    result = _change(ndctl, [f"{verb}-dimm"], dimm, *targets)
    after = ndctl.dimm(dimm)
    if (after.state != "disabled") is not enabled:
        raise CommandError(result, f"{dimm.dev} is not {verb}d though ndctl exited 0")
    return after


def _change(ndctl: Ndctl, command: Sequence[str], dimm: Dimm, *targets: Target, stdin: bytes = b"") -> CommandResult:
    """Run an ndctl command on a DIMM."""
    result = ndctl.change(["ndctl", *command, DIMM], *targets, stdin=stdin)
    return checked(result, f"run {command[0]} on {dimm.dev}")
