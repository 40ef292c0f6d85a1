"""Label areas in a file: the bytes of every DIMM of a region, and which DIMMs they came from.

The file begins with one line of its own and one of JSON; after that come the bytes of each label area, as
``ndctl read-labels`` gives them, in the order of the JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.sizes import Size

_FIRST_LINE = b"vpmem label areas 1\n"
_FORM = "a file that Save Labels wrote"


@dataclass(frozen=True, slots=True)
class SavedArea:
    """The label area of one DIMM.

    Args:
        dimm: The DIMM's device name when it was saved.
        id: The DIMM's id, which does not change.
        data: All bytes of the area.
    """

    dimm: str
    id: str
    data: bytes = field(repr=False)

    @property
    def size(self) -> Size:
        """Its bytes."""
        return Size(len(self.data))


@dataclass(frozen=True, slots=True)
class SavedLabels:
    """The label areas of one region.

    Args:
        host: The host that they came from.
        region: The region's name when they were saved.
        areas: One for each DIMM.
    """

    host: str
    region: str
    areas: tuple[SavedArea, ...]

    def write(self, path: Path) -> None:
        """Write a file, whole or not at all.

        Raises:
            InvalidValueError: It cannot be written there.
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
            raise InvalidValueError("label file", str(path), f"one that can be written ({error.strerror})") from error

    @classmethod
    def read(cls, path: Path) -> SavedLabels:
        """Return what a file holds.

        Raises:
            InvalidValueError: It is absent, is no such file, or was cut off or changed.
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
                    raise InvalidValueError("label file", str(path), f"one whose bytes for {dimm['dev']} are whole")
                areas.append(SavedArea(dimm["dev"], dimm["id"], data))
            return cls(head["host"], head["region"], tuple(areas))
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InvalidValueError("label file", str(path), f"{_FORM} ({error!r})") from error

    def matched(self, dimms: Sequence[Dimm], sizes: Sequence[Size], *, elsewhere: bool = False) -> dict[str, bytes]:
        """Return the bytes for each DIMM of a region.

        Args:
            dimms: The region's DIMMs.
            sizes: The bytes of each one's label area.
            elsewhere: Take DIMMs in their order instead of the ones with the same ids.

        Raises:
            InvalidValueError: They are other DIMMs, and `elsewhere` is not set; or their number or a size differs.
        """
        ids = [dimm.id for dimm in dimms]
        came = f"{self.region} of {self.host}"
        if len(ids) != len(self.areas):
            raise InvalidValueError("labels", came, f"those of {len(ids)} DIMMs; they are of {len(self.areas)}")
        areas = self.areas if elsewhere else tuple(area for each in ids for area in self.areas if area.id == each)
        if len(areas) != len(ids) or ("" in ids and not elsewhere):
            there = ", ".join(f"{dimm.dev} (id {dimm.id or 'none'})" for dimm in dimms)
            saved = ", ".join(f"{area.dimm} (id {area.id or 'none'})" for area in self.areas)
            raise InvalidValueError(
                "labels", came, f"those of {there}; they are of {saved}. Say elsewhere=True to use them all the same"
            )
        for area, dimm, size in zip(areas, dimms, sizes, strict=True):
            if area.size != size:
                raise InvalidValueError("labels", came, f"{size} for {dimm.dev}; for {area.dimm} they are {area.size}")
        return {dimm.dev: area.data for area, dimm in zip(areas, dimms, strict=True)}
