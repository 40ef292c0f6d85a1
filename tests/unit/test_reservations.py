"""What one worker has of a host for itself, with the leases of this machine's own kernel and those in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lease_kinds import KINDS, leases_of
from memory_leases import LeaseTable

from VpmemLibrary.errors import BusyError, UnreachableError
from VpmemLibrary.leases.leases import HOST_KEY, Leases, host_lock_key, is_permanent_key, region_key
from VpmemLibrary.leases.reservations import Reservations, host_lock
from VpmemLibrary.pmem.records import Region

LEFT, RIGHT = Region("region0", iset_id=0x52512D7913A64A05), Region("region1", iset_id=0x52512D7913A64A06)

Make = Callable[[str], tuple[Reservations, Leases]]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make what one more worker of the same host has, with its leases, by its token."""
    made: list[Leases] = []
    table = LeaseTable()

    def one(token: str) -> tuple[Reservations, Leases]:
        leases = leases_of(request.param, token, tmp_path, table)
        made.append(leases)
        return Reservations(leases, "lab"), leases

    yield one
    for each in made:
        each.close()


def test_a_region_is_had_by_one_worker_and_the_next_gets_another(make: Make) -> None:
    (one, _), (two, _), (three, _) = make("1"), make("2"), make("3")
    assert one.reserve_region([LEFT, RIGHT], 0) == LEFT
    assert two.reserve_region([LEFT, RIGHT], 0) == RIGHT
    with pytest.raises(
        BusyError,
        match=r"^Region region0 of lab is held by run 0123abcd, process .*; Region region1 of lab is held by .*\. "
        r"Nothing was released within 0 s",
    ):
        three.reserve_region([LEFT, RIGHT], 0)
    one.release()
    assert three.reserve_region([LEFT, RIGHT], 0) == LEFT


def test_nobody_has_the_host_while_somebody_has_a_region(make: Make) -> None:
    (one, _), (two, _) = make("1"), make("2")
    one.reserve_region([LEFT], 0)
    with pytest.raises(BusyError, match="Host lab is held by run 0123abcd"):
        two.reserve_host(0)
    one.release()
    two.reserve_host(0)
    with pytest.raises(BusyError, match="Host lab is held by run 0123abcd"):
        one.reserve_region([RIGHT], 0)


def test_who_gets_no_region_has_nothing_of_the_host(make: Make) -> None:
    (one, _), (two, leases), (three, _) = make("1"), make("2"), make("3")
    one.reserve_region([LEFT], 0)
    with pytest.raises(BusyError):
        two.reserve_region([LEFT], 0)
    one.release()
    three.reserve_host(0)
    assert {entry.key for entry in leases.entries() if entry.held} == {HOST_KEY}


def test_a_host_that_one_has_is_had_at_once(make: Make) -> None:
    reservations, _ = make("1")
    reservations.reserve_host(0)
    reservations.reserve_host(0)


def test_a_worker_that_shares_a_host_does_not_have_it_alone(make: Make) -> None:
    reservations, _ = make("1")
    assert not reservations.has_host_alone
    reservations.reserve_region([LEFT], 0)
    with pytest.raises(BusyError, match="This worker shares host lab"):
        reservations.reserve_host(0)
    assert not reservations.has_host_alone
    reservations.release()
    reservations.reserve_host(0)
    assert reservations.has_host_alone
    assert reservations.reserve_region([LEFT], 0) == LEFT
    assert reservations.has_host_alone


def test_a_region_is_known_by_its_interleave_set_and_else_by_its_name() -> None:
    assert region_key(LEFT) == region_key(Region("region7", iset_id=LEFT.iset_id)) == "region-52512d7913a64a05"
    assert region_key(Region("region3")) == "region-region3"


@pytest.mark.parametrize("key", [HOST_KEY, region_key(LEFT), host_lock_key("reclaim")])
def test_the_keys_of_a_host_a_region_and_a_host_lock_are_no_leftovers(key: str) -> None:
    assert is_permanent_key(key)
    assert not is_permanent_key("run-0123abcd")


def test_work_that_two_must_not_do_at_once_is_done_by_one_after_the_other(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, one), (_, two) = make("1"), make("2")
    monkeypatch.setattr("VpmemLibrary.leases.reservations._LOCK_TIMEOUT", 0)
    with host_lock(one, "reclaim", "lab"):
        with (
            pytest.raises(
                BusyError, match="No host lock for reclaim on lab within 0 s: lock-reclaim is held by run 0123"
            ),
            host_lock(two, "reclaim", "lab"),
        ):
            pytest.fail("two workers had the host lock")
        with host_lock(two, "another-work", "lab"):
            pass
    with host_lock(two, "reclaim", "lab"):
        pass


def test_a_host_that_goes_down_while_one_waits_is_waited_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had it takes it again first, within the grace; it is had once that one gives it back."""
    (one, _), (two, leases) = make("1"), make("2")
    one.reserve_host(0)
    now = [0.0]
    take, entries = leases.take, leases.entries

    def answers() -> None:
        if 1 <= now[0] < 4:
            _unreachable()

    def taking(*slots: Any, **how: Any) -> Any:
        answers()
        assert now[0] < 1 or now[0] > 4 + 15, "taken before its last holder could have it again"
        return take(*slots, **how)

    def looking() -> Any:
        answers()
        return entries()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 30:
            one.release()

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    for module in ("polling", "leases.reservations"):
        monkeypatch.setattr(f"VpmemLibrary.{module}.time", clock)
    monkeypatch.setattr(leases, "take", taking)
    monkeypatch.setattr(leases, "entries", looking)
    two.reserve_host(60)
    assert now[0] == 30


def test_a_host_that_is_not_there_from_the_start_is_told_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    reservations, leases = make("1")
    monkeypatch.setattr(leases, "take", lambda *_, **__: _unreachable())
    with pytest.raises(UnreachableError):
        reservations.reserve_host(60)


def _unreachable() -> None:
    raise UnreachableError("lab does not answer")
