"""What one worker has of a host for itself, with the leases of this machine's own kernel and those in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from VpmemLibrary.errors import BusyError
from VpmemLibrary.host.local import LocalTransport
from VpmemLibrary.inventory.holds import Holds
from VpmemLibrary.inventory.host_leases import HostLeases
from VpmemLibrary.inventory.leases import HOST_KEY, Holder, Leases, is_standing_key, region_key
from VpmemLibrary.inventory.memory_leases import LeaseTable, MemoryLeases
from VpmemLibrary.model import Region

LEFT, RIGHT = Region("region0", iset_id=0x52512D7913A64A05), Region("region1", iset_id=0x52512D7913A64A06)

Make = Callable[[str], tuple[Holds, Leases]]


@pytest.fixture(params=["host", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make what one more worker of the same host has, with its leases, by its token."""
    made: list[Leases] = []
    table = LeaseTable()

    def one(token: str) -> tuple[Holds, Leases]:
        holder = Holder.here("0123abcd", token)
        leases: Leases = (
            HostLeases(LocalTransport(), holder, directory=str(tmp_path / "leases"))
            if request.param == "host"
            else MemoryLeases(table, holder)
        )
        made.append(leases)
        return Holds(leases, "lab"), leases

    yield one
    for each in made:
        each.close()


def test_a_region_is_had_by_one_worker_and_the_next_gets_another(make: Make) -> None:
    (one, _), (two, _), (three, _) = make("1"), make("2"), make("3")
    assert one.region([LEFT, RIGHT], 0) == LEFT
    assert two.region([LEFT, RIGHT], 0) == RIGHT
    with pytest.raises(
        BusyError,
        match=r"^Region region0 of lab is held by run 0123abcd, process .*; Region region1 of lab is held by .*\. "
        r"Nothing was given back within 0 s",
    ):
        three.region([LEFT, RIGHT], 0)
    one.release()
    assert three.region([LEFT, RIGHT], 0) == LEFT


def test_nobody_has_the_host_while_somebody_has_a_region(make: Make) -> None:
    (one, _), (two, _) = make("1"), make("2")
    one.region([LEFT], 0)
    with pytest.raises(BusyError, match="Host lab is held by run 0123abcd"):
        two.host(0)
    one.release()
    two.host(0)
    with pytest.raises(BusyError, match="Host lab is held by run 0123abcd"):
        one.region([RIGHT], 0)


def test_who_gets_no_region_has_nothing_of_the_host(make: Make) -> None:
    (one, _), (two, leases), (three, _) = make("1"), make("2"), make("3")
    one.region([LEFT], 0)
    with pytest.raises(BusyError):
        two.region([LEFT], 0)
    one.release()
    three.host(0)
    assert {entry.key for entry in leases.entries() if entry.held} == {HOST_KEY}


def test_a_host_that_one_has_is_had_at_once(make: Make) -> None:
    holds, _ = make("1")
    holds.host(0)
    holds.host(0)


def test_what_went_with_a_power_cut_is_had_again_or_told(make: Make) -> None:
    (one, leases), (two, others) = make("1"), make("2")
    one.region([LEFT], 0)
    leases.release([HOST_KEY, region_key(LEFT)])  # as when no record had reached the disk
    one.renew(0)
    leases.require([HOST_KEY, region_key(LEFT)])
    leases.release([region_key(LEFT)])
    others.take([[region_key(LEFT)]])
    with pytest.raises(BusyError, match="Region region0 of lab is held by"):
        one.renew(0)
    two.release()


def test_a_region_is_known_by_its_interleave_set_and_else_by_its_name() -> None:
    assert region_key(LEFT) == region_key(Region("region7", iset_id=LEFT.iset_id)) == "region-52512d7913a64a05"
    assert region_key(Region("region3")) == "region-region3"


@pytest.mark.parametrize("key", [HOST_KEY, region_key(LEFT)])
def test_a_host_and_a_region_are_nothing_to_be_taken_back(key: str) -> None:
    assert is_standing_key(key)
    assert not is_standing_key("run-0123abcd")
