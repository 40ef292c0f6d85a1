"""What the running QEMU says of its memory devices through its monitor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from VpmemLibrary.sizes import Size

Monitor = Callable[[str, Mapping[str, object]], Any]
"""What runs one QMP command and returns what it returned."""

_KINDS = ("nvdimm", "virtio-pmem")


def qmp_devices(monitor: Monitor) -> dict[int, dict[str, object]]:
    """Return, for each memory slot, what ``query-memory-devices`` and the backend's own properties say.

    The size that QMP gives is without the label area (QEMU, hw/mem/nvdimm.c); the backend's is the whole.
    """
    found: dict[int, dict[str, object]] = {}
    for entry in monitor("query-memory-devices", {}):
        if entry["type"] not in _KINDS:
            continue
        data = entry["data"]
        backend = str(data["memdev"])

        def of(name: str, path: str = backend) -> Any:
            return monitor("qom-get", {"path": path, "property": name})

        whole = Size(of("size"))
        view: dict[str, object] = {
            "path": of("mem-path"),
            "size": whole,
            "shared": of("share"),
            "pmem": of("pmem"),
            "align": Size(of("align")),
        }
        slot = int(data.get("slot", len(found)))
        if entry["type"] == "nvdimm":
            device = f"/machine/peripheral/{data['id']}"
            view["label size"] = Size(of("label-size", device))
            view["readonly"] = of("unarmed", device)
            view["node"] = int(data["node"])
            view["region size"] = Size(data["size"])
        found[slot] = view
    return found
