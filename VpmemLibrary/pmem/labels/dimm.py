"""The label area of one DIMM: read, initialised, zeroed and written by the machine's own ndctl.

Each change is proven by the bytes that are read back: ``write-labels`` that fails says "wrote 1 nmem" and exits 0, and
every one of these commands exits 0 for a DIMM that is not there (ndctl 81). A DIMM's regions must be disabled for a
change; ndctl then has the kernel read the labels anew.
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
    """Return what is in the label area of a DIMM.

    Raises:
        UnsupportedError: The DIMM has no label area, or it cannot be read.
    """
    result = ndctl.run(["ndctl", "read-labels", dimm])
    if result.exit_status == 0 and result.stdout:
        return decode_label_area(result.stdout, dimm)
    if result.exit_status not in (0, 1):
        checked(result, f"read the labels of {dimm}")
    raise UnsupportedError(result.describe(f"{dimm} has no label area, or it cannot be read"))


def read_areas(ndctl: Ndctl, region: Region) -> tuple[LabelArea, ...]:
    """Return the label area of each DIMM that a record of a region names.

    Raises:
        UnsupportedError: It names none, or a DIMM has no label area.
    """
    return tuple(read_area(ndctl, dimm) for dimm in require_dimms(ndctl, region))


def require_dimms(ndctl: Ndctl, region: Region) -> tuple[str, ...]:
    """Return the DIMMs that a record of a region names.

    Raises:
        UnsupportedError: It names none, so there is no label area.
    """
    if not region.dimms:
        raise UnsupportedError(
            f"{region.dev} on {ndctl.transport.name} lies on no DIMM (provider {region.provider}), so it has no label "
            "area."
        )
    return region.dimms


def init_area(ndctl: Ndctl, region: Region, dimm: Dimm, version: str, *, force: bool) -> LabelArea:
    """Give a DIMM an empty label area of a version.

    Args:
        ndctl: The machine's ndctl.
        region: The DIMM's region, which is disabled.
        dimm: The DIMM.
        version: ``1.1`` or ``1.2``.
        force: Do it even where there are labels.

    Raises:
        CommandError: It has not such an area afterwards, whatever ndctl's exit status.
    """
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
        region: The DIMM's region, which is disabled.
        dimm: The DIMM.

    Raises:
        CommandError: It is not all zeros afterwards, whatever ndctl's exit status.
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
        region: The DIMM's region, which is disabled.
        dimm: The DIMM.
        data: As many bytes as the area has.

    Raises:
        CommandError: It has other bytes afterwards, whatever ndctl's exit status.
    """
    result = _change(ndctl, ["write-labels"], dimm, *region_on_dimm(region, dimm), stdin=data)
    after = read_area(ndctl, dimm.dev)
    if after.data != data:
        different = sum(one != other for one, other in zip(after.data, data, strict=False))
        raise CommandError(
            result,
            f"The label area of {dimm.dev} was not written though ndctl exited 0: {different} of its "
            f"{int(after.size)} bytes are not those that were given",
        )
    return after


def switch_dimm(ndctl: Ndctl, dimm: Dimm, *, enabled: bool, region: Region | None = None) -> Dimm:
    """Enable or disable a DIMM, and return it as a fresh listing has it.

    Args:
        ndctl: The machine's ndctl.
        dimm: The DIMM.
        enabled: What it is to be.
        region: A region that lies on it, whose lock is taken; the DIMM's own lock without one.

    Raises:
        CommandError: It is not so afterwards, whatever ndctl's exit status; a DIMM whose region is enabled stays so.
    """
    verb = "enable" if enabled else "disable"
    targets = (dimm_target(dimm),) if region is None else region_on_dimm(region, dimm)
    result = _change(ndctl, [f"{verb}-dimm"], dimm, *targets)
    after = ndctl.dimm(dimm)
    if (after.state != "disabled") is not enabled:
        raise CommandError(result, f"{dimm.dev} is not {verb}d though ndctl exited 0")
    return after


def _change(ndctl: Ndctl, command: Sequence[str], dimm: Dimm, *targets: Target, stdin: bytes = b"") -> CommandResult:
    """Run a command of ndctl's on a DIMM."""
    result = ndctl.change(["ndctl", *command, DIMM], *targets, stdin=stdin)
    return checked(result, f"run {command[0]} on {dimm.dev}")
