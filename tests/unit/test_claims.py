"""Claims on one host and over a fleet: inventories in recorded form, leases in memory."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from memory_leases import MemoryLeases
from msgspec.structs import replace
from recorded_fleet import LARGE, SMALL, Machine, inventory_of

from VpmemLibrary.claims.claims import Claim, ClaimableHost, ClaimRequest, ExhaustedError, Fleet, Offer
from VpmemLibrary.errors import CommandError, InvalidValueError, LeaseLostError, NotFoundError
from VpmemLibrary.leases.leases import Holder
from VpmemLibrary.pmem.records import Inventory, Namespace, NamespaceMode
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult


def names(claims: tuple[Claim, ...]) -> list[str]:
    return [claim.namespace.name for claim in claims]


def test_one_namespace_for_each_wish_in_their_order() -> None:
    host = Machine("left", regions=1).seen_by("1")
    claims = host.claim([SMALL, LARGE, SMALL])
    assert names(claims) == ["ns_1", "ns_0", "ns_2"]
    assert [claim.label for claim in claims] == ["SMALL", "4GB", "SMALL"]


def test_exhaustion_names_who_holds_what_since_when() -> None:
    machine = Machine("left", namespaces=3, regions=1)
    machine.seen_by("1").claim([SMALL, SMALL])
    with pytest.raises(ExhaustedError) as caught:
        machine.seen_by("2").claim([SMALL])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    for name in ("ns_1", "ns_2"):
        assert f"{name} on left is held by run 0123abcd, worker 1 on ?, since {today}" in str(caught.value)


def test_what_is_given_back_is_claimed_again_once_it_was_wiped() -> None:
    machine = Machine("left", namespaces=2, regions=1)
    one, two = machine.seen_by("1"), machine.seen_by("2")
    claims = one.claim([SMALL])
    wiped: list[str] = []
    one.release(claims, lambda namespace: wiped.append(namespace.dev))
    assert wiped == ["namespace0.1"]
    assert names(two.claim([SMALL])) == ["ns_1"]
    with pytest.raises(LeaseLostError):
        one.release(claims, lambda namespace: wiped.append(namespace.dev))
    assert wiped == ["namespace0.1"]


def failing(*_: object) -> None:
    raise CommandError(CommandResult(("daxio",), 1, b"", b"no space", 0.0))


def test_what_could_not_be_wiped_is_not_handed_out_again() -> None:
    machine = Machine("left", namespaces=3, regions=1)
    one, two = machine.seen_by("1"), machine.seen_by("2")
    claims = one.claim([SMALL, LARGE])
    with pytest.raises(CommandError):
        one.release(claims, lambda namespace: failing() if namespace.name == "ns_1" else None)
    assert names(two.claim([LARGE])) == ["ns_0"]
    assert names(two.claim([SMALL])) == ["ns_2"]
    with pytest.raises(ExhaustedError, match="ns_1 on left is unfit since"):
        two.claim([SMALL])


def test_what_a_dead_holder_left_is_made_clean_first() -> None:
    machine = Machine("left", namespaces=2, regions=1)
    dead, alive = machine.seen_by("1"), machine.seen_by("2")
    dead.claim([SMALL])
    dead.leases.close()
    assert names(alive.claim([SMALL])) == ["ns_1"]
    assert machine.cleaned == ["ns_1"]


def test_what_cannot_be_made_clean_is_not_handed_out_and_the_rest_is_given_back() -> None:
    machine = Machine("left", namespaces=2, regions=1)
    machine.clean = failing
    dead, alive = machine.seen_by("1"), machine.seen_by("2")
    dead.claim([SMALL])
    dead.leases.close()
    with pytest.raises(CommandError, match="Cleaning it failed, so nobody can claim it"):
        alive.claim([LARGE, SMALL])
    assert names(alive.claim([LARGE])) == ["ns_0"]
    with pytest.raises(ExhaustedError, match="unfit"):
        alive.claim([SMALL])


def test_a_claim_is_the_same_namespace_whatever_the_kernel_calls_it_now() -> None:
    machine = Machine("left", namespaces=2, regions=1)
    host = machine.seen_by("1")
    before = machine.inventory.namespaces[1]
    renumbered = inventory_of(2, 1)
    moved = replace(renumbered.namespaces[0], raw_uuid=before.raw_uuid, name="ns_1")
    machine.inventory = Inventory(
        (type(renumbered.buses[0])("ndbus0", regions=(type(renumbered.regions[0])("region0", namespaces=(moved,)),)),)
    )
    (claim,) = host.claim([SMALL])
    assert (claim.namespace.dev, claim.namespace.raw_uuid) == ("namespace0.0", before.raw_uuid)


def test_a_namespace_that_is_gone_is_told_and_nothing_is_held() -> None:
    machine = Machine("left", namespaces=2, regions=1)
    host = machine.seen_by("1")
    machine.inventory = Inventory()
    with pytest.raises(NotFoundError, match="ns_1"):
        host.claim([SMALL])
    assert host.used() == {}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ClaimRequest(name="ns_3"), "ns_3"),
        (ClaimRequest(mode=NamespaceMode.devdax, node=1), "ns_1"),
        (ClaimRequest("SMALL", node=0), "ns_2"),
        (ClaimRequest(size=inventory_of(1).namespaces[0].size), "ns_0"),
    ],
)
def test_a_request_by_name_node_size_or_mode(wanted: ClaimRequest, found: str) -> None:
    assert names(Machine("left").seen_by("1").claim([wanted])) == [found]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([ClaimRequest("small")], "1 of label small"),
        ([ClaimRequest(mode=NamespaceMode.fsdax)], "1 of mode fsdax"),
        ([ClaimRequest(size=Size(MiB))], "1 of 1MiB"),
        ([LARGE, LARGE], "2 of label 4GB"),
        ([ClaimRequest(name="ns_0", node=1)], "1 of name ns_0, NUMA node 1"),
    ],
)
def test_what_could_never_be_met_is_refused_before_anything_is_held(
    requests: list[ClaimRequest], expected: str
) -> None:
    host = Machine("left").seen_by("1")
    with pytest.raises(InvalidValueError) as caught:
        host.claim(requests)
    assert expected in str(caught.value)
    assert host.used() == {}


def test_a_namespace_without_a_label_is_not_offered() -> None:
    host = Machine("left").seen_by("1")
    with pytest.raises(InvalidValueError, match="a namespace with a label"):
        host.offer([Offer(Namespace("namespace0.0", NamespaceMode.devdax))])


def test_workers_spread_over_the_regions_of_a_host() -> None:
    machine = Machine("left", namespaces=8, regions=2)
    regions = []
    for worker in range(2):
        leases = MemoryLeases(machine.table, Holder("0123abcd", token=str(worker)))
        host = ClaimableHost("left", leases, lambda: machine.inventory, machine.clean, spread=worker)
        host.offer(machine.offers)
        regions.append({claim.namespace.region for claim in host.claim([SMALL, SMALL])})
    assert regions == [{"region0"}, {"region1"}]


def test_a_fleet_claims_all_wishes_on_one_host() -> None:
    machines = [Machine("left", namespaces=1), Machine("right", namespaces=3)]
    claims = Fleet([machine.seen_by("1") for machine in machines]).claim([LARGE, SMALL, SMALL])
    assert {claim.host for claim in claims} == {"right"}


def test_an_exhausted_fleet_names_the_holders_on_every_host() -> None:
    machines = [Machine(f"host-{number}", namespaces=1) for number in range(30)]
    fleet = Fleet([machine.seen_by("1") for machine in machines])
    claims = [fleet.claim([LARGE])[0] for _ in machines]
    assert len({claim.key for claim in claims}) == 30
    with pytest.raises(ExhaustedError, match=r"(?s)All namespaces of label 4GB are held:.*worker 1.*and 10 more"):
        fleet.claim([LARGE])
    with pytest.raises(InvalidValueError, match="namespaces that one of the hosts has"):
        fleet.claim([SMALL])


@pytest.mark.parametrize("hosts", [200])
def test_a_thousand_claims_of_64_workers_never_hold_one_twice(hosts: int) -> None:
    machines = [Machine(f"host-{number}", namespaces=9) for number in range(hosts)]
    claims: list[Claim] = []
    workers = [Fleet([machine.seen_by(str(worker)) for machine in machines], str(worker)) for worker in range(64)]
    together = threading.Barrier(len(workers))

    def work(fleet: Fleet, times: int) -> None:
        together.wait()
        for _ in range(times):
            claims.extend(fleet.claim([SMALL]))

    shares = [1000 // len(workers) + (worker < 1000 % len(workers)) for worker in range(len(workers))]
    threads = [threading.Thread(target=work, args=each) for each in zip(workers, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 1000
    assert Counter(claim.key for claim in claims).most_common(1)[0][1] == 1
    assert sum(len(machine.seen_by("0").used()) for machine in machines) == 1000
