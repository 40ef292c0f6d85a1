"""Leases: one protocol, held by both kinds: the host's own (here this machine's kernel) and the one in memory."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lease_kinds import KINDS, leases_of

from VpmemLibrary.errors import InvalidValueError, ToolMissingError
from VpmemLibrary.host.local import LocalStream, LocalTransport
from VpmemLibrary.inventory.host_leases import HostLeases
from VpmemLibrary.inventory.leases import (
    Holder,
    LeaseLostError,
    Leases,
    LeasesHeldError,
    Taken,
    run_key,
    run_of_key,
)
from VpmemLibrary.inventory.memory_leases import LeaseTable

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
    with pytest.raises(LeasesHeldError, match="a: held by run 0123abcd, process"):
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
    one.give_up("a", "the wipe failed: no daxio & no luck=1%")
    with pytest.raises(LeasesHeldError, match=r"unfit since .* gave it back: the wipe failed: no daxio & no luck=1%"):
        two.take([["a"]])
    (entry,) = two.entries()
    assert (entry.held, entry.unfit) == (False, "the wipe failed: no daxio & no luck=1%")
    two.mended(["a"])
    assert two.take([["a"]]) == (Taken("a"),)


def test_what_is_held_is_not_mended(make: Make) -> None:
    one, two = make("1"), make("2")
    one.take([["a"]])
    two.mended(["a"])
    one.require(["a"])
    assert keys_of(two) == {"a": True}


def test_what_is_not_held_cannot_be_given_back(make: Make) -> None:
    one, two = make("1"), make("2")
    one.take([["a"]])
    with pytest.raises(LeaseLostError):
        two.release(["a"])
    with pytest.raises(LeaseLostError):
        two.give_up("a", "no")
    with pytest.raises(LeaseLostError):
        two.require(["a"])
    one.require(["a"])


def test_workers_share_what_they_take_together_until_the_last_goes(make: Make) -> None:
    one, two, three = make("1"), make("2"), make("3")
    one.take([["run-1"]], shared=True)
    assert two.take([["run-1"]], shared=True) == (Taken("run-1"),)
    with pytest.raises(LeasesHeldError):
        three.take([["run-1"]])
    one.release(["run-1"])
    assert keys_of(three) == {"run-1": True}
    two.release(["run-1"])
    assert keys_of(three) == {}


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


# What only a holder on a host can show.


class Watched(LocalTransport):
    """A local transport that knows the processes of its streams."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: list[int] = []

    def stream(self, argv: object) -> LocalStream:
        opened = super().stream(argv)  # type: ignore[arg-type]
        self.pids.append(opened._process.pid)
        return opened


Here = Callable[..., tuple[HostLeases, Watched]]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """Make the leases of one more worker of this machine, by its token, with the transport that has its processes."""
    made: list[HostLeases] = []

    def one(token: str, *, run: str = "0123abcd", directory: Path = tmp_path) -> tuple[HostLeases, Watched]:
        transport = Watched()
        made.append(HostLeases(transport, Holder.here(run, token), directory=str(directory)))
        return made[-1], transport

    yield one
    for each in made:
        each.close()


def test_one_process_holds_many(here: Here) -> None:
    leases, transport = here("1")
    for number in range(40):
        leases.take([[f"ns-{number}"]])
    leases.require([f"ns-{number}" for number in range(40)])
    assert len(transport.pids) == 1


def test_a_holder_that_is_killed_frees_at_once(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2")
    one.take([["a"]])
    _kill(transport.pids[0])
    (taken,) = two.take([["a"]])
    assert taken.left_by is not None
    with pytest.raises(LeaseLostError, match="broke, and with it went the lease of a"):
        one.require(["a"])


def test_a_lease_is_taken_again_where_nobody_had_it_in_between(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2")
    one.take([["a"]])
    one.take([["run-1"]], shared=True)
    _kill(transport.pids[0])
    one.require(["a", "run-1"])
    assert keys_of(two) == {"a": True, "run-1": True}


def test_a_lease_that_another_had_and_gave_back_is_lost(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2")
    one.take([["a"]])
    _kill(transport.pids[0])
    two.take([["a"]])
    two.release(["a"])
    with pytest.raises(LeaseLostError):
        one.release(["a"])


def test_what_is_kept_is_nobody_elses_while_the_host_boots(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2", run="89abcdef")
    one.take([["host"]])
    one.take([["run-0123abcd"]], shared=True)
    one.keep(60)
    _kill(transport.pids[0])
    assert keys_of(two) == {"host": True, "run-0123abcd": True}
    with pytest.raises(LeasesHeldError, match=r"host: kept until 20..-.* UTC for who has the host rebooted, run 0123"):
        two.take([["host"]])
    with pytest.raises(LeasesHeldError):
        two.take([["run-0123abcd"]], shared=True)
    two.mended(["host"])
    one.require(["host", "run-0123abcd"])
    assert [entry.kept_until for entry in two.entries()] == [0, 0]
    _kill(transport.pids[1])
    assert keys_of(two) == {"host": False, "run-0123abcd": False}


def test_a_worker_shares_again_at_once_what_another_of_its_run_keeps(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2")
    one.take([["run-0123abcd"]], shared=True)
    one.keep(60)
    _kill(transport.pids[0])
    with pytest.raises(LeasesHeldError):
        two.take([["run-0123abcd"]])
    two.take([["run-0123abcd"]], shared=True)


def test_a_worker_has_again_at_once_what_it_kept_itself(here: Here) -> None:
    one, transport = here("1")
    again, _ = here("1")
    one.take([["a"]])
    one.keep(60)
    _kill(transport.pids[0])
    again.take([["a"]])


def test_what_its_holder_does_not_come_back_to_is_free_when_its_time_is_over(here: Here, tmp_path: Path) -> None:
    one, transport = here("1")
    two, _ = here("2", run="89abcdef")
    one.take([["a"], ["b"], ["c"]])
    one.keep(60)
    _kill(transport.pids[0])
    for key, from_until in (("a", "1-2"), ("b", "99999999998-99999999999")):  # its time is over; the clock was set back
        record = tmp_path / key
        record.write_text(re.sub("kept=.*", f"kept={from_until}", record.read_text()))
    assert keys_of(two) == {"a": False, "b": False, "c": True}
    assert [taken.left_by is not None for taken in two.take([["a"], ["b"]])] == [True, True]


def test_what_is_kept_no_longer_goes_with_its_holder(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2", run="89abcdef")
    one.take([["a"]])
    one.keep(60)
    one.keep(0)
    _kill(transport.pids[0])
    assert keys_of(two) == {"a": False}


def test_what_is_not_held_is_not_kept(here: Here) -> None:
    one, transport = here("1")
    two, _ = here("2")
    one.keep(60)
    assert transport.pids == []
    one.take([["a"]])
    _kill(transport.pids[0])
    two.take([["a"]])
    with pytest.raises(LeaseLostError):
        one.keep(60)
    assert [entry.kept_until for entry in two.entries()] == [0]


def test_nothing_is_left_of_what_was_given_back(here: Here, tmp_path: Path) -> None:
    leases, _ = here("1")
    leases.take([["a"], ["b"]])
    leases.release(["a", "b"])
    leases.close()
    assert [path.name for path in tmp_path.iterdir()] == [".gate"]


@pytest.mark.parametrize("tool", ["bash", "flock"])
def test_a_host_without_the_tool_is_told_so(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {"bash", "sh", "flock", "mkdir", "rm"} - {tool}:
        (tools / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr("VpmemLibrary.host.local.EXTRA_PATH", "/absent")
    leases, _ = here("1", directory=tmp_path / "leases")
    with pytest.raises(ToolMissingError, match=tool):
        leases.take([["a"]])


def _kill(process: int) -> None:
    """Kill a process and wait for its end: by then the kernel has closed its files, and freed what they locked."""
    os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)
