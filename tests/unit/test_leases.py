"""Leases: one protocol, held by both kinds: the host's own (here this machine's kernel) and the one in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lease_kinds import KINDS, leases_of
from memory_leases import LeaseTable

from VpmemLibrary.errors import InvalidValueError, LeaseLostError
from VpmemLibrary.leases.leases import (
    Entry,
    Holder,
    Leases,
    LeasesHeldError,
    Taken,
    UnknownHolderError,
    living_runs,
    run_key,
    run_of_key,
)

Make = Callable[[str], Leases]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make the leases of one more worker of the same host, by its token."""
    made: list[Leases] = []
    table = LeaseTable()

    def one(token: str) -> Leases:
        leases = leases_of(request.param, token, tmp_path, table)
        made.append(leases)
        return leases

    yield one
    for each in made:
        each.close()


def keys_of(leases: Leases) -> dict[str, bool]:
    return {entry.key: entry.held for entry in leases.entries()}


def test_a_lease_is_held_by_one_and_free_once_given_back(make: Make) -> None:
    one, two = make("1"), make("2")
    assert one.take([["a"]]) == (Taken("a"),)
    with pytest.raises(LeasesHeldError, match="a is held by run 0123abcd, process"):
        two.take([["a"]])
    assert keys_of(two) == {"a": True}
    one.release(["a"])
    assert keys_of(two) == {}
    assert two.take([["a"]]) == (Taken("a"),)


def test_each_slot_gets_its_first_free_key_in_order(make: Make) -> None:
    one, two = make("1"), make("2")
    two.take([["b"]])
    taken = one.take([["b", "c", "d"], ["a"], ["b", "c", "d"]])
    assert [each.key for each in taken] == ["c", "a", "d"]


def test_all_are_taken_or_none(make: Make) -> None:
    one, two = make("1"), make("2")
    two.take([["b"]])
    with pytest.raises(LeasesHeldError) as caught:
        one.take([["a"], ["b"]])
    assert caught.value.slot == 1
    assert [entry.key for entry in caught.value.entries] == ["b"]
    assert keys_of(one) == {"b": True}
    two.take([["a"]])


def test_one_does_not_get_its_own_again(make: Make) -> None:
    one = make("1")
    one.take([["a"]])
    with pytest.raises(LeasesHeldError):
        one.take([["a"]])
    with pytest.raises(LeasesHeldError):
        one.take([["b"], ["b"]])
    one.require(["a"])


def test_a_holder_that_ends_frees_at_once_and_its_record_tells(make: Make) -> None:
    one, two = make("1"), make("2")
    one.take([["a"]])
    one.close()
    assert keys_of(two) == {"a": False}
    (taken,) = two.take([["a"]])
    assert taken.left_by is not None
    assert (taken.left_by.run_id, taken.left_by.token) == ("0123abcd", "1")
    two.release(["a"])
    assert two.take([["a"]]) == (Taken("a"),)


def test_what_is_given_up_is_not_handed_out_until_mended(make: Make) -> None:
    one, two = make("1"), make("2")
    one.take([["a"]])
    one.release_as_unfit("a", "the wipe failed: no daxio & no luck=1%")
    with pytest.raises(LeasesHeldError, match=r"unfit since .* released it: the wipe failed: no daxio & no luck=1%"):
        two.take([["a"]])
    (entry,) = two.entries()
    assert (entry.held, entry.unfit) == (False, "the wipe failed: no daxio & no luck=1%")
    two.remove_stale(["a"])
    assert two.take([["a"]]) == (Taken("a"),)


def test_what_is_held_is_not_mended(make: Make) -> None:
    one, two = make("1"), make("2")
    one.take([["a"]])
    two.remove_stale(["a"])
    one.require(["a"])
    assert keys_of(two) == {"a": True}


def test_what_is_not_held_cannot_be_given_back(make: Make) -> None:
    one, two = make("1"), make("2")
    one.take([["a"]])
    with pytest.raises(LeaseLostError):
        two.release(["a"])
    with pytest.raises(LeaseLostError):
        two.release_as_unfit("a", "no")
    with pytest.raises(LeaseLostError):
        two.require(["a"])
    one.require(["a"])


def test_workers_share_what_they_take_together_until_the_last_goes(make: Make) -> None:
    one, two, three = make("1"), make("2"), make("3")
    one.take([["run-1"]], shared=True)
    assert two.take([["run-1"]], shared=True) == (Taken("run-1"),)
    assert {entry.holder.token for entry in three.entries()} == {"1", "2"}
    with pytest.raises(LeasesHeldError):
        three.take([["run-1"]])
    one.release(["run-1"])
    assert keys_of(three) == {"run-1": True}
    two.release(["run-1"])
    assert keys_of(three) == {}


def test_each_worker_that_shares_a_lease_is_seen_to_be_alive_or_dead(make: Make) -> None:
    one, two, three = make("1"), make("2"), make("3")
    one.take([["run-1"]], shared=True)
    two.take([["run-1"]], shared=True)
    one.close()
    assert {entry.holder.token: entry.held for entry in three.entries()} == {"1": False, "2": True}
    assert three.take([["run-1"]], shared=True) == (Taken("run-1"),)  # one that shares it is alive
    three.release(["run-1"])
    two.release(["run-1"])
    assert three.take([["run-1"]])[0].left_by is not None
    assert [entry.holder.token for entry in three.entries()] == ["3"]


def test_a_worker_knows_what_it_holds(make: Make) -> None:
    one = make("1")
    one.take([["a"]])
    one.take([["run-1"]], shared=True)
    assert one.held == {"a": False, "run-1": True}
    one.release(["a"])
    assert one.held == {"run-1": True}


@pytest.mark.parametrize("key", ["", "../a", "A", "a b", "-a", "a" * 65, ".gate", "ä", "a\n"])
def test_what_is_no_key_is_refused(make: Make, key: str) -> None:
    with pytest.raises(InvalidValueError):
        make("1").take([[key]])


def test_nothing_to_choose_from_is_refused(make: Make) -> None:
    with pytest.raises(LeasesHeldError):
        make("1").take([[]])


def test_many_at_once_never_hold_one_twice(make: Make) -> None:
    keys = [f"ns-{number}" for number in range(12)]
    got: list[str] = []
    refused: list[LeasesHeldError] = []

    def work(worker: int) -> None:
        leases = make(str(worker))
        for _ in range(2):
            try:
                got.extend(each.key for each in leases.take([keys]))
            except LeasesHeldError as error:
                refused.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(keys)
    assert len(refused) == 4


def test_a_run_has_a_key_of_its_own() -> None:
    assert run_of_key(run_key("0123abcd")) == "0123abcd"
    assert run_of_key("76706d65-6d01-823a-8bcd-5f0e6d2a9c41") == ""


def test_the_runs_that_hold_their_lease_are_alive() -> None:
    entries = [
        Entry("run-aaaaaaaa", Holder("aaaaaaaa"), held=True),
        Entry("run-bbbbbbbb", Holder("bbbbbbbb"), held=False),
        Entry("host", Holder("cccccccc"), held=True),
        Entry("a", Holder(""), held=False),
    ]
    assert living_runs(entries) == {"aaaaaaaa"}


def test_nobody_is_dead_for_certain_while_an_unknown_holder_has_a_lease() -> None:
    entries = [Entry("host", Holder(""), held=True, path="/leases/host")]
    with pytest.raises(UnknownHolderError, match=r"the lease of host, and its record is unreadable.*fuser -v /leases"):
        living_runs(entries)
