"""Save label areas in a file: the bytes of every DIMM of a region, and the DIMMs' names and ids.

The file begins with a format line and a line of JSON. The bytes of each label area follow, in the order of the JSON and
as ``ndctl read-labels`` prints them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.record import hide_fields
from VpmemLibrary.sizes import Size

_FIRST_LINE = b"vpmem label areas 1\n"
_FORM = "a file that Save Labels wrote"


@hide_fields("data")
class SavedArea(Struct, frozen=True):
    """The saved label area of one DIMM.

    Args:
        dimm: The DIMM's device name at the time of saving.
        id: The DIMM's permanent id.
        data: All bytes of the label area.
    """

    dimm: str
    id: str
    data: bytes

    @property
    def size(self) -> Size:
        """The size of the label area in bytes."""
        return Size(len(self.data))


class SavedLabels(Struct, frozen=True):
    """The saved label areas of one region.

    Args:
        host: The host of the region.
        region: The region's name at the time of saving.
        areas: The saved label area of each DIMM.
    """

    host: str
    region: str
    areas: tuple[SavedArea, ...]

    def write(self, path: Path) -> None:
        """Write the label areas to a file. The file is written completely or not at all.

        Raises:
            InvalidValueError: The path is not writable.
        """
        head = {
            "host": self.host,
            "region": self.region,
            "dimms": [
                {
                    "dev": area.dimm,
                    "id": area.id,
                    "size": int(area.size),
                    "sha256": hashlib.sha256(area.data).hexdigest(),
                }
                for area in self.areas
            ],
        }
        content = _FIRST_LINE + json.dumps(head).encode() + b"\n" + b"".join(area.data for area in self.areas)
        new = path.with_name(f"{path.name}.new")
        try:
            new.write_bytes(content)
            new.replace(path)
        except OSError as error:
            raise InvalidValueError("label file", str(path), f"a writable path ({error.strerror})") from error

    @classmethod
    def read(cls, path: Path) -> SavedLabels:
        """Read saved label areas from a file.

        Raises:
            InvalidValueError: The file does not exist, has another format, is incomplete, or was changed.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvalidValueError("label file", str(path), f"{_FORM} ({error.strerror})") from error
        if not content.startswith(_FIRST_LINE):
            raise InvalidValueError("label file", str(path), _FORM)
        line, _, rest = content.removeprefix(_FIRST_LINE).partition(b"\n")
        try:
            head = json.loads(line)
            areas = []
            for dimm in head["dimms"]:
                data, rest = rest[: dimm["size"]], rest[dimm["size"] :]
                if hashlib.sha256(data).hexdigest() != dimm["sha256"]:
                    raise InvalidValueError("label file", str(path), f"a file with all bytes of {dimm['dev']}")
                areas.append(SavedArea(dimm["dev"], dimm["id"], data))
            return cls(head["host"], head["region"], tuple(areas))
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InvalidValueError("label file", str(path), f"{_FORM} ({error!r})") from error

    def matched(self, dimms: Sequence[Dimm], sizes: Sequence[Size], *, elsewhere: bool = False) -> dict[str, bytes]:
        """Return the saved bytes for each DIMM of a region.

        Args:
            dimms: The region's DIMMs.
            sizes: The size of each DIMM's label area.
            elsewhere: Match the DIMMs by their order. By default, match them by their ids.

        Raises:
            InvalidValueError: The labels are from other DIMMs and `elsewhere` is not set, or the number of DIMMs or a
                size differs.
        """
        ids = [dimm.id for dimm in dimms]
        came = f"{self.region} of {self.host}"
        if len(ids) != len(self.areas):
            raise InvalidValueError(
                "labels", came, f"labels of {len(ids)} DIMMs; the file has labels of {len(self.areas)}"
            )
        areas = self.areas if elsewhere else tuple(area for each in ids for area in self.areas if area.id == each)
        if len(areas) != len(ids) or ("" in ids and not elsewhere):
            there = ", ".join(f"{dimm.dev} (id {dimm.id or 'none'})" for dimm in dimms)
            saved = ", ".join(f"{area.dimm} (id {area.id or 'none'})" for area in self.areas)
            raise InvalidValueError(
                "labels",
                came,
                f"labels of {there}; the file has labels of {saved}. Use elsewhere=True to write them anyway",
            )
        for area, dimm, size in zip(areas, dimms, sizes, strict=True):
            if area.size != size:
                raise InvalidValueError(
                    "labels", came, f"{size} for {dimm.dev}; the file has {area.size} for {area.dimm}"
                )
        return {dimm.dev: area.data for area, dimm in zip(areas, dimms, strict=True)}
