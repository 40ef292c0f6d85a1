"""What the command line of a running QEMU says of its persistent-memory devices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise

from VpmemLibrary.errors import GuestError
from VpmemLibrary.guest.domain import DeviceKey
from VpmemLibrary.sizes import KiB, Size

_SHOWN = 2000
_SUFFIXES = {"": 1, "B": 1, "K": KiB, "M": KiB**2, "G": KiB**3, "T": KiB**4}


def argv_devices(argv: tuple[str, ...]) -> dict[DeviceKey, dict[str, object]]:
    """Return what QEMU's command line says of each nvdimm, by its memory slot, and virtio-pmem device, by its alias.

    Args:
        argv: The command line, one item an argument.

    Raises:
        GuestError: An option is not of the form that QEMU takes.
    """
    try:
        return _devices(argv)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        line = " ".join(argv)[:_SHOWN]
        raise GuestError(f"QEMU's command line has an option that cannot be read ({error!r}): {line}") from error


def _devices(argv: tuple[str, ...]) -> dict[DeviceKey, dict[str, object]]:
    options = list(pairwise(argv))
    backends = {str(o.get("id")): o for flag, text in options if flag == "-object" for o in [_option(text, "qom-type")]}
    found: dict[DeviceKey, dict[str, object]] = {}
    for flag, text in options:
        if flag != "-device":
            continue
        device = _option(text, "driver")
        if device.get("driver") not in ("nvdimm", "virtio-pmem-pci"):
            continue
        backend = backends.get(str(device.get("memdev")), {})
        if device.get("driver") == "nvdimm":
            found[int(str(device.get("slot", len(found))))] = _nvdimm(device, backend)
        else:
            found[str(device.get("id"))] = _view(backend)
    return found


def _view(backend: Mapping[str, object]) -> dict[str, object]:
    view: dict[str, object] = {
        "path": backend.get("mem-path", ""),
        "size": _bytes(backend.get("size")),
        "shared": _true(backend.get("share")),
        "pmem": _true(backend.get("pmem")),
        "readonly": _true(backend.get("readonly")),
    }
    if "align" in backend:
        view["align"] = _bytes(backend["align"])
    return view


def _nvdimm(device: Mapping[str, object], backend: Mapping[str, object]) -> dict[str, object]:
    view = _view(backend)
    view["readonly"] = view["readonly"] or _true(device.get("unarmed"))
    view["label size"] = _bytes(device.get("label-size", 0))
    if "node" in device:
        view["node"] = int(str(device["node"]))
    return view


def _option(text: str, first: str) -> dict[str, object]:
    """Return an option as a dictionary; QEMU takes JSON or ``key=value,...``, in which a comma is written twice."""
    if text.startswith("{"):
        decoded = json.loads(text)
        return decoded if isinstance(decoded, dict) else {}
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    pairs = [part.split("=", 1) if "=" in part else [part, "on"] for part in parts[1:]]
    head = parts[0].split("=", 1) if "=" in parts[0] else [first, parts[0]]
    return {head[0]: head[1], **dict(pairs)}


def _true(value: object) -> bool:
    return value is True or value in ("on", "yes", "true")


def _bytes(value: object) -> Size:
    if isinstance(value, int):
        return Size(value)
    text = str(value or 0)
    return Size(int(text.rstrip("BKMGT")) * _SUFFIXES[text.lstrip("0123456789")])
