"""A fleet of hosts with inventories of the form that ndctl 81 was recorded in, and leases in memory."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

from memory_leases import LeaseTable, MemoryLeases

from VpmemLibrary.claims.claims import ClaimableHost, ClaimRequest, Offer
from VpmemLibrary.leases.leases import Holder
from VpmemLibrary.pmem.decode import decode_inventory
from VpmemLibrary.pmem.records import Inventory, Namespace
from VpmemLibrary.transport.base import CommandResult

RECORDED = json.loads((Path(__file__).parent / "data" / "ndctl" / "ndctl-81_modes.json").read_text())
SMALL, LARGE = ClaimRequest("SMALL"), ClaimRequest("4GB")


def inventory_of(namespaces: int, regions: int = 2) -> Inventory:
    """Return an inventory in the form of a recorded one: so many devdax namespaces, dealt out to regions."""
    (bus, *_) = json.loads("\n".join(RECORDED["stdout"]))
    region = next(each for each in bus["regions"] if each.get("namespaces"))
    devdax = next(each for each in region["namespaces"] if each["mode"] == "devdax")
    made = []
    for place in range(regions):
        mine = [
            {**devdax, "dev": f"namespace{place}.{number}", "name": f"ns_{number}", "uuid": str(uuid.uuid4())}
            | {"raw_uuid": str(uuid.uuid4()), "numa_node": place}
            for number in range(place, namespaces, regions)
        ]
        made.append({**region, "dev": f"region{place}", "namespaces": mine})
    text = json.dumps([{**bus, "regions": made}])
    return decode_inventory(CommandResult(("ndctl",), 0, text.encode(), b"", 0.0))


class Machine:
    """A host as its workers see it: one inventory, one table of leases."""

    def __init__(self, alias: str, namespaces: int = 4, regions: int = 2) -> None:
        self.alias = alias
        self.inventory = inventory_of(namespaces, regions)
        self.table = LeaseTable()
        self.cleaned: list[str] = []
        self.clean: Callable[[Namespace, Holder], None] = lambda namespace, _: self.cleaned.append(namespace.name)
        self.offers = [
            Offer(namespace, "4GB" if namespace.name == "ns_0" else "SMALL") for namespace in self.inventory.namespaces
        ]

    def seen_by(self, worker: str) -> ClaimableHost:
        leases = MemoryLeases(self.table, Holder("0123abcd", worker=f"worker {worker}", token=worker))
        seen = ClaimableHost(self.alias, leases, lambda: self.inventory, self.clean)
        seen.offer(self.offers)
        return seen
