"""The lease holder: what the program on the host does, with this machine's own kernel, file systems and processes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lease_kinds import Watched, Workers, is_alive, kill

from VpmemLibrary.errors import LeaseLostError, ToolMissingError
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import (
    HOST_KEY,
    LeaseRecordError,
    Leases,
    LeasesHeldError,
    LeaseSpaceError,
    Taken,
    UnknownHolderError,
    living_runs,
)

OTHER = "89abcdef"
"""Another run."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a file system or changes its user")


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "leases")
    yield made
    made.close()


def states(leases: Leases) -> dict[str, bool]:
    return {entry.key: entry.held for entry in leases.entries()}


def record(workers: Workers, name: str) -> str:
    return (workers.directory / name).read_text()


def test_one_process_holds_many(workers: Workers) -> None:
    leases, transport = workers.one("1")
    for number in range(20):
        leases.take([[f"ns-{number}"]])
    leases.require([f"ns-{number}" for number in range(20)])
    assert len(transport.pids) == 1


def test_a_time_limit_for_idle_shells_does_not_end_the_holder(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMOUT", "1")
    leases, transport = workers.one("1")
    leases.take([["a"]])
    time.sleep(1.5)
    leases.require(["a"])
    assert len(transport.pids) == 1


def test_many_leases_are_held_although_a_shell_may_open_few_files(workers: Workers) -> None:
    leases, _ = workers.one("1", transport=Watched("prlimit", "--nofile=64:1024"))
    assert len(leases.take([[f"ns-{number}"] for number in range(80)])) == 80


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("--nofile=64", "leases open (ulimit -n limits them)"),
        ("--fsize=0", "perhaps by a limit of the user (ulimit -a)"),
    ],
)
def test_a_limit_of_the_user_is_named(workers: Workers, limit: str, text: str) -> None:
    leases, _ = workers.one("1", transport=Watched("prlimit", limit))
    with pytest.raises(LeaseRecordError, match=re.escape(text)):
        leases.take([[f"ns-{number}"] for number in range(80)])
    assert leases.entries() == ()


def test_nothing_is_left_of_what_was_given_back(workers: Workers) -> None:
    leases, _ = workers.one("1")
    leases.take([["a"], ["b"]])
    leases.take([["run-1"]], shared=True)
    leases.release(["a", "b", "run-1"])
    leases.close()
    assert {path.name for path in workers.directory.iterdir()} == {".gate", ".fence", ".new"}


@pytest.mark.parametrize("tool", ["bash", "flock"])
def test_a_missing_tool_is_named(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {"bash", "sh", "flock", "mkdir", "rm", "stat", "sync", "mv"} - {tool}:
        (tools / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr("VpmemLibrary.transport.local.EXTRA_PATH", "/absent")
    leases, _ = workers.one("1")
    with pytest.raises(ToolMissingError, match=tool):
        leases.take([["a"]])


def test_what_the_shell_of_the_host_prints_first_is_skipped(workers: Workers) -> None:
    leases, _ = workers.one("1", transport=Watched("sh", "-c", 'echo "Last login: never"; exec "$@"', "sh"))
    assert leases.take([["a"]]) == (Taken("a"),)


# The directory


def test_the_directory_is_made_for_its_owner_alone(workers: Workers, tmp_path: Path) -> None:
    leases, _ = workers.one("1", directory=tmp_path / "vpmem/leases")
    leases.take([["a"]])
    modes = {path.relative_to(tmp_path): path.stat().st_mode & 0o777 for path in (tmp_path / "vpmem").rglob("*")}
    assert (tmp_path / "vpmem").stat().st_mode & 0o777 == 0o700
    assert modes.pop(Path("vpmem/leases")) == 0o700
    assert modes.pop(Path("vpmem/leases/.new")) == 0o700
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("place", ["leases", "."])
def test_a_directory_that_others_may_change_is_refused(workers: Workers, place: str) -> None:
    workers.directory.mkdir()
    (workers.directory / ".." / place).resolve().chmod(0o770)
    leases, _ = workers.one("1")
    with pytest.raises(LeaseRecordError, match=r"has mode 770, so others may change it\..*chmod 700"):
        leases.take([["a"]])
    assert list(workers.directory.iterdir()) == []


def test_a_directory_in_one_where_all_may_add_files_will_do(workers: Workers) -> None:
    workers.directory.mkdir()
    workers.directory.parent.chmod(0o1777)
    leases, _ = workers.one("1")
    leases.take([["a"]])


def test_a_link_to_a_directory_is_refused(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    workers.directory.symlink_to("elsewhere")
    leases, _ = workers.one("1")
    with pytest.raises(LeaseRecordError, match="leases is a symbolic link"):
        leases.take([["a"]])
    assert list((tmp_path / "elsewhere").iterdir()) == []


@needs_root
def test_the_directory_of_another_user_is_refused(workers: Workers) -> None:
    workers.directory.mkdir()
    os.chown(workers.directory, 65534, 65534)
    leases, _ = workers.one("1")
    with pytest.raises(LeaseRecordError, match=r"leases belongs to user 65534\..*chown root"):
        leases.take([["a"]])


# Records


def test_a_number_grows_with_each_taking_whoever_takes(workers: Workers) -> None:
    one, _ = workers.one("1")
    two, _ = workers.one("2")
    fences = []
    for leases in (one, two, one):
        leases.take([["a"]])
        found = re.search(r"&token=(\w)&fence=(\d+)&since=\d+$", record(workers, "a"))
        assert found
        fences.append(int(found[2]))
        leases.release(["a"])
    assert fences == [1, 2, 3]


def test_a_damaged_counter_is_not_started_again(workers: Workers) -> None:
    one, _ = workers.one("1")
    one.take([["a"]])
    (workers.directory / ".fence").write_text("\n")
    with pytest.raises(LeaseRecordError, match=r"\.fence holds no number"):
        one.take([["b"]])
    one.require(["a"])


def test_a_proof_is_the_record_and_a_text_in_it(workers: Workers) -> None:
    one, transport = workers.one("1f")
    assert one.proofs() == ()
    one.take([["a"]])
    one.take([["run-1"]], shared=True)
    proofs = {proof.key: proof for proof in one.proofs()}
    assert {key: proof.path for key, proof in proofs.items()} == {
        "a": f"{workers.directory}/a",
        "run-1": f"{workers.directory}/run-1@1f",
    }
    assert proofs["a"].text == "&token=1f&fence=1&"
    transport.kill()
    one.keep(60)
    for proof in one.proofs():
        assert proof.text in Path(proof.path).read_text()
    one.release(["a"])
    one.take([["a"]])
    assert {proof.text for proof in one.proofs()} == {"&token=1f&fence=2&", "&token=1f&fence=3&"}


@pytest.mark.parametrize(
    "content", ["", "\n", "run=x\n", "no record at all\n", "&token=1&fence=1&since=1\n", "\0" * 99]
)
def test_what_has_no_readable_record_was_left_by_an_unknown_holder(workers: Workers, content: str) -> None:
    one, _ = workers.one("1")
    one.entries()
    (workers.directory / "a").write_text(content)
    (entry,) = one.entries()
    assert (entry.held, entry.holder.run_id) == (False, "")
    (taken,) = one.take([["a"]])
    assert taken.left_by is not None
    assert taken.left_by.run_id == ""


def test_a_lock_without_a_record_is_held_by_an_unknown_holder(workers: Workers) -> None:
    one, _ = workers.one("1")
    one.entries()
    path = workers.directory / "a"
    path.touch()
    with path.open() as file, subprocess.Popen(["flock", "-x", str(file.fileno())], pass_fds=[file.fileno()]) as lock:
        assert lock.wait() == 0
        (entry,) = one.entries()
        assert (entry.held, entry.holder.run_id, entry.path) == (True, "", str(path))
        with pytest.raises(UnknownHolderError, match=f"fuser -v {path}"):
            living_runs(one.entries())
        with pytest.raises(LeasesHeldError, match=r"held by run \(unknown\)"):
            one.take([["a"]])
        one.remove_stale(["a"])
        assert path.exists()


@pytest.mark.parametrize("since", ["9" * 12, "9" * 30, "x"])
def test_a_time_that_is_none_is_no_error(workers: Workers, since: str) -> None:
    one, _ = workers.one("1")
    one.entries()
    (workers.directory / "a").write_text(f"run=0123abcd&token=2&fence=1&since={since}\n")
    (entry,) = one.entries()
    assert "since" in entry.description


def test_other_files_in_the_directory_are_no_records(workers: Workers) -> None:
    one, _ = workers.one("1")
    one.entries()
    (workers.directory / "lost+found").mkdir()
    (workers.directory / ".new/a").write_text("half a rec")
    (workers.directory / "a.swp").touch()
    assert one.entries() == ()
    assert one.take([["a"]]) == (Taken("a"),)


def test_an_exclusive_holder_removes_what_dead_sharers_left(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["host"]], shared=True)
    transport.kill()
    two.take([["host"]])
    two.release(["host"])
    with pytest.raises(LeaseLostError):
        one.require(["host"])


def test_what_a_sharer_left_a_day_ago_goes_with_the_next_sharer(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["host"]], shared=True)
    transport.kill()
    two.take([["host"]], shared=True)
    two.release(["host"])
    assert states(two) == {"host": False}
    path = workers.directory / "host@1"
    path.write_text(re.sub(r"since=\d+", f"since={int(time.time()) - 90000}", path.read_text()))
    two.take([["host"]], shared=True)
    two.release(["host"])
    assert states(two) == {}


# A connection that breaks


def test_a_holder_that_is_killed_frees_at_once(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["a"]])
    transport.kill()
    (taken,) = two.take([["a"]])
    assert taken.left_by is not None
    with pytest.raises(LeaseLostError, match="lost its lease of a on local: it is held by run 89abcdef"):
        one.require(["a"])


def test_a_lease_is_renewed_if_nobody_had_it_in_between(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2")
    one.take([["a"]])
    one.take([["run-1"]], shared=True)
    transport.kill()
    one.require(["a", "run-1"])
    assert states(two) == {"a": True, "run-1": True}


def test_a_shared_lease_is_renewed_though_another_worker_shares_it(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, other = workers.one("2")
    three, _ = workers.one("3")
    one.take([["run-1"]], shared=True)
    two.take([["run-1"]], shared=True)
    transport.kill()
    one.require(["run-1"])
    other.kill()
    assert {entry.holder.token: entry.held for entry in three.entries()} == {"1": True, "2": False}
    two.require(["run-1"])


def test_a_lease_that_another_had_and_gave_back_is_lost(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2")
    one.take([["a"]])
    transport.kill()
    two.take([["a"]])
    two.release(["a"])
    with pytest.raises(LeaseLostError, match="its record is gone, so another worker may have had it"):
        one.release(["a"])


def test_a_lease_whose_record_was_removed_is_lost(workers: Workers) -> None:
    one, _ = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["a"]])
    (workers.directory / "a").unlink()
    two.take([["a"]])
    with pytest.raises(LeaseLostError, match="it is held by run 89abcdef"):
        one.require(["a"])


def test_a_lease_whose_record_is_another_file_by_now_is_lost(workers: Workers) -> None:
    """As after a restored backup: nobody has that file locked."""
    one, _ = workers.one("1")
    one.take([["a"]])
    copy = record(workers, "a")
    (workers.directory / "a").unlink()
    (workers.directory / "a").write_text(copy)
    with pytest.raises(LeaseLostError, match="lost its lease of a"):
        one.require(["a"])


def test_a_worker_that_reconnects_ends_its_earlier_holder(workers: Workers) -> None:
    """The controller slept: its connection is gone, and the host has not noticed."""
    one, transport = workers.one("1")
    two, _ = workers.one("2")
    one.take([["a"]])
    before, one._stream = one._stream, None
    one.require(["a"])
    assert not is_alive(transport.pids[0])
    assert is_alive(transport.pids[1])
    assert states(two) == {"a": True}
    assert before is not None
    before.close()


def test_a_holder_that_is_stopped_is_replaced_after_the_timeout(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.leases.host_leases._ANSWER_TIMEOUT", 1.0)
    one, transport = workers.one("1")
    one.take([["a"]])
    os.kill(transport.pids[0], signal.SIGSTOP)
    started = time.monotonic()
    one.require(["a"])
    assert 1 <= time.monotonic() - started < 30
    assert not is_alive(transport.pids[0])


class Cut(Watched):
    """A transport whose connection breaks at a request.

    Args:
        request: How the request begins.
        done: Whether the host still carries it out.
    """

    def __init__(self, request: str, *, done: bool) -> None:
        super().__init__()
        self.request = request
        self.done = done

    def cut(self, leases: HostLeases) -> None:
        """Break the connection of leases at the next such request."""
        stream = leases._stream
        assert stream is not None
        send, receive = stream.send, stream.recv

        def sending(data: bytes) -> None:
            if data.startswith(self.request.encode()):
                if self.done:
                    send(data)
                    while not receive(1 << 16).endswith(b".\n"):
                        pass
                kill(self.pids[-1])
            send(data)

        stream.send = sending  # type: ignore[method-assign]


@pytest.mark.parametrize("taken_since", [False, True])
@pytest.mark.parametrize("done", [False, True])
def test_a_lease_that_is_given_back_while_the_connection_breaks_is_not_lost(
    workers: Workers, done: bool, taken_since: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Cut("release", done=done)
    one, _ = workers.one("1", transport=transport)
    two, _ = workers.one("2", run=OTHER)
    one.take([["a"]])
    one.take([["b"]])
    transport.cut(one)
    if taken_since:
        start = one._start
        monkeypatch.setattr(one, "_start", lambda: (two.take([["a"]]), start()))
    one.release(["a"])
    assert one.held == {"b": False}
    one.require(["b"])
    assert states(two) == ({"a": True, "b": True} if taken_since else {"b": True})


@pytest.mark.parametrize("done", [False, True])
def test_a_lease_that_is_given_up_while_the_connection_breaks_is_unfit(workers: Workers, done: bool) -> None:
    transport = Cut("release_as_unfit", done=done)
    one, _ = workers.one("1", transport=transport)
    one.take([["a"]])
    transport.cut(one)
    one.release_as_unfit("a", "no luck")
    assert one.held == {}
    assert [entry.unfit for entry in one.entries()] == ["no luck"]


@pytest.mark.parametrize("done", [False, True])
def test_a_lease_that_is_taken_while_the_connection_breaks_is_held(workers: Workers, done: bool) -> None:
    transport = Cut("take", done=done)
    one, _ = workers.one("1", transport=transport)
    one.entries()
    transport.cut(one)
    (taken,) = one.take([["a"]])
    assert (taken.left_by is not None) == done  # what the first request took was left by this worker itself
    one.require(["a"])
    assert one.proofs()[0].text in record(workers, "a")


# Failures on the host: an error is answered, and what was held stays held


class FullDisk:
    """A small file system that can be filled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no byte free."""
        with pytest.raises(OSError, match="No space left"), (self.path / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        """Free the space again."""
        (self.path / "fill").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FullDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", path], check=True)
    yield FullDisk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def small(workers: Workers, disk: FullDisk) -> Workers:
    workers.directory = disk.path / "leases"
    return workers


@needs_root
def test_nothing_is_taken_on_a_full_disk(small: Workers, disk: FullDisk) -> None:
    one, transport = small.one("1")
    two, _ = small.one("2", run=OTHER)
    one.take([["run-0123abcd"]], shared=True)
    two.entries()
    disk.fill()
    text = f"no space left in {small.directory} on local: free space there"
    with pytest.raises(LeaseSpaceError, match=text):
        one.take([["a"], ["b"]])
    with pytest.raises(LeaseSpaceError, match=text):
        one.take([["host"]], shared=True)
    assert states(two) == {"run-0123abcd": True}
    assert living_runs(two.entries()) == {"0123abcd"}
    one.require(["run-0123abcd"])
    disk.clear()
    assert two.take([["a"], ["b"]]) == (Taken("a"), Taken("b"))
    assert len(transport.pids) == 1
    assert list((small.directory / ".new").iterdir()) == []


@needs_root
def test_what_a_dead_tenant_left_stays_known_on_a_full_disk(small: Workers, disk: FullDisk) -> None:
    one, transport = small.one("1")
    two, _ = small.one("2", run=OTHER)
    one.take([["a"]])
    transport.kill()
    disk.fill()
    with pytest.raises(LeaseSpaceError):
        two.take([["a"]])
    disk.clear()
    (taken,) = two.take([["a"]])
    assert taken.left_by is not None
    assert taken.left_by.run_id == "0123abcd"


@needs_root
def test_a_lease_stays_held_if_it_cannot_be_marked_as_unfit(small: Workers, disk: FullDisk) -> None:
    one, transport = small.one("1")
    two, _ = small.one("2", run=OTHER)
    one.take([["a"]])
    two.entries()
    disk.fill()
    with pytest.raises(LeaseSpaceError):
        one.release_as_unfit("a", "the wipe failed")
    with pytest.raises(LeasesHeldError):
        two.take([["a"]])
    one.require(["a"])
    transport.kill()
    assert states(two) == {"a": False}


@needs_root
def test_nothing_is_kept_on_a_full_disk(small: Workers, disk: FullDisk) -> None:
    one, transport = small.one("1")
    two, _ = small.one("2", run=OTHER)
    one.take([["a"]])
    two.entries()
    disk.fill()
    with pytest.raises(LeaseSpaceError):
        one.keep(60)
    assert [(entry.held, entry.kept_until) for entry in two.entries()] == [(True, 0)]
    one.require(["a"])
    transport.kill()
    assert states(two) == {"a": False}


def test_a_gate_that_stays_shut_is_an_error_and_frees_nothing(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.leases.host_leases._GATE_TIMEOUT", 0.3)
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["run-0123abcd"]], shared=True)
    gate = workers.directory / ".gate"
    with gate.open() as file:
        with subprocess.Popen(["flock", "-x", str(file.fileno())], pass_fds=[file.fileno()]) as lock:
            assert lock.wait() == 0
        with pytest.raises(LeaseRecordError, match=rf"has had {gate} locked for 0\.3 s; fuser -v {gate} shows"):
            one.require(["run-0123abcd"])
    assert living_runs(two.entries()) == {"0123abcd"}
    one.require(["run-0123abcd"])
    assert len(transport.pids) == 1


class User:
    """A user of this machine that has no processes and no files but its directory of leases."""

    def __init__(self, workers: Workers) -> None:
        number = 50000 + secrets.randbelow(10000)
        self.command = ("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups")
        workers.directory = Path(tempfile.mkdtemp())
        os.chown(workers.directory, number, number)
        self._crowd: list[subprocess.Popen[bytes]] = []

    def crowd(self, processes: int) -> None:
        """Start processes of the user."""
        self._crowd = [
            subprocess.Popen([*self.command, "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
            for _ in range(processes)
        ]
        for each in self._crowd:
            assert each.stdout is not None
            assert each.stdout.readline() == b"\n"

    def end_crowd(self) -> None:
        """End these processes."""
        for each in self._crowd:
            with each:
                each.kill()


@pytest.fixture
def user(workers: Workers) -> Iterator[User]:
    made = User(workers)
    yield made
    made.end_crowd()
    workers.close()
    shutil.rmtree(workers.directory)


@needs_root
def test_a_directory_that_can_no_longer_be_changed_keeps_what_is_held(workers: Workers, user: User) -> None:
    one, transport = workers.one("1", transport=Watched(*user.command))
    one.take([["a"]])
    workers.directory.chmod(0o500)
    with pytest.raises(LeaseRecordError, match="cannot be written: Permission denied"):
        one.take([["b"]])
    with pytest.raises(LeaseRecordError, match="cannot be written: Permission denied"):
        one.release(["a"])
    one.require(["a"])
    two, _ = workers.one("2", run=OTHER, transport=Watched(*user.command))
    assert states(two) == {"a": True}
    workers.directory.chmod(0o700)
    one.release(["a"])
    assert states(two) == {}
    assert len(transport.pids) == 1


@needs_root
def test_a_host_that_starts_no_process_keeps_what_is_held(workers: Workers, user: User) -> None:
    """Bash ends when it cannot fork: its locks must not."""
    few = Watched(*user.command, "prlimit", "--nproc=8")
    one, transport = workers.one("1", transport=few)
    two, _ = workers.one("2", run=OTHER, transport=Watched(*user.command))
    one.take([["run-0123abcd"]], shared=True)
    two.entries()
    user.crowd(8)
    for _ in range(2):
        with pytest.raises(LeaseRecordError, match="could not start a process"), Impatient(transport.pids[0]):
            one.take([["a"]])
        assert living_runs(two.entries()) == {"0123abcd"}
    user.end_crowd()
    one.require(["run-0123abcd"])
    assert one.take([["a"]]) == (Taken("a"),)
    assert len(transport.pids) == 1
    transport.kill()
    assert states(two) == {"run-0123abcd": False, "a": False}


class Impatient:
    """Wake a bash that waits before it tries to fork again, which it does for 15 s in all; any signal ends that."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wake)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _wake(self) -> None:
        while not self._ended.wait(0.1):
            os.kill(self._process, signal.SIGCHLD)


# On the disk


class Sync:
    """A ``sync`` that writes down how it was called and which files there were, and that may fail."""

    def __init__(self, directory: Path, path: Path, *, takes_files: bool = True) -> None:
        self.calls = path / "calls"
        self.failing = path / "failing"
        path.mkdir()
        usage = "Usage: sync [OPTION] [FILE]..." if takes_files else "Usage: sync [OPTION]"
        (path / "sync").write_text(
            f"""#!/bin/sh
[ "$1" != --help ] || {{ echo "{usage}"; exit; }}
echo "$* | $(cd {directory}; echo *) | $(cd {directory}/.new; echo .f* *)" >>{self.calls}
[ ! -e {self.failing} ] || {{ echo "sync: error syncing '$2': Input/output error" >&2; exit 1; }}
"""
        )
        (path / "sync").chmod(0o755)

    def taken(self) -> list[str]:
        """Return the calls since the last time."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [call.strip() for call in calls]


@pytest.fixture
def sync(workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sync:
    made = Sync(workers.directory, tmp_path / "sync")
    monkeypatch.setenv("PATH", f"{tmp_path}/sync:{os.environ['PATH']}")
    return made


def test_a_record_is_on_the_disk_before_it_gets_its_name_and_so_is_its_name(workers: Workers, sync: Sync) -> None:
    one, _ = workers.one("1")
    one.take([["a"]])
    assert sync.taken() == ["-- .new/.fence .new/a | * | .fence a", "-- . | a | .f* *"]
    one.keep(60)
    assert sync.taken() == ["-- .new/a | a | .f* a", "-- . | a | .f* *"]
    one.release_as_unfit("a", "no luck")
    assert sync.taken() == ["-- .new/a | a | .f* a", "-- . | a | .f* *"]


def test_a_record_that_does_not_reach_the_disk_is_none(workers: Workers, sync: Sync) -> None:
    one, transport = workers.one("1")
    one.take([["run-1"]], shared=True)
    sync.failing.touch()
    with pytest.raises(LeaseRecordError, match="cannot be written: Input/output error"):
        one.take([["a"]])
    assert states(one) == {"run-1": True}
    one.require(["run-1"])
    sync.failing.unlink()
    assert one.take([["a"]]) == (Taken("a"),)
    assert len(transport.pids) == 1


def test_a_sync_that_takes_no_files_writes_all_file_systems(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = Sync(workers.directory, tmp_path / "old", takes_files=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/old:{os.environ['PATH']}")
    one, _ = workers.one("1")
    one.take([["a"]])
    assert sync.taken() == ["| * | .fence a", "| a | .f* *"]


# Kept while the host boots


def test_what_is_kept_is_nobody_elses_while_the_host_boots(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["host"]])
    one.take([["run-0123abcd"]], shared=True)
    one.keep(60)
    transport.kill()
    assert states(two) == {"host": True, "run-0123abcd": True}
    assert living_runs(two.entries()) == {"0123abcd"}
    with pytest.raises(
        LeasesHeldError, match=r"host is kept until 20..-.* UTC for a worker that reboots the host: run 0123abcd"
    ):
        two.take([["host"]])
    with pytest.raises(LeasesHeldError):
        two.take([["host"]], shared=True)
    with pytest.raises(LeasesHeldError):
        two.take([["run-0123abcd"]])
    two.remove_stale(["host", "run-0123abcd"])
    one.require(["host", "run-0123abcd"])
    assert [entry.kept_until for entry in two.entries()] == [0, 0]
    transport.kill()
    assert states(two) == {"host": False, "run-0123abcd": False}


def test_workers_share_what_one_of_them_keeps(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2")
    one.take([["run-0123abcd"]], shared=True)
    one.keep(60)
    transport.kill()
    with pytest.raises(LeasesHeldError):
        two.take([["run-0123abcd"]])
    assert two.take([["run-0123abcd"]], shared=True) == (Taken("run-0123abcd"),)
    one.require(["run-0123abcd"])


def test_a_worker_has_again_at_once_what_it_kept_itself(workers: Workers) -> None:
    one, transport = workers.one("1")
    again, _ = workers.one("1")
    one.take([["a"]])
    one.take([["run-1"]], shared=True)
    one.keep(60)
    transport.kill()
    assert again.take([["a"]]) == (Taken("a"),)
    again.take([["run-1"]], shared=True)
    assert [entry.kept_until for entry in again.entries()] == [0, 0]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "from_until", ["1-2", "99999999998-99999999999"], ids=["its time has passed", "the clock was set back"]
)
def test_what_its_holder_does_not_come_back_to_is_free(workers: Workers, from_until: str, shared: bool) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["a"], ["b"]], shared=shared)
    one.keep(60)
    transport.kill()
    path = workers.directory / ("a@1" if shared else "a")
    path.write_text(re.sub("kept=.*", f"kept={from_until}", path.read_text()))
    assert states(two) == {"a": False, "b": True}
    assert two.take([["a"]])[0].left_by is not None


def test_what_is_kept_no_longer_goes_with_its_holder(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["a"]])
    one.take([["run-1"]], shared=True)
    one.keep(60)
    one.keep(0)
    one.require(["a", "run-1"])
    transport.kill()
    assert states(two) == {"a": False, "run-1": False}


def test_what_is_not_held_is_not_kept(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2")
    one.keep(60)
    assert transport.pids == []
    one.take([["a"]])
    transport.kill()
    two.take([["a"]])
    with pytest.raises(LeaseLostError):
        one.keep(60)
    assert [entry.kept_until for entry in two.entries()] == [0]


# A lease that was lost


def test_a_worker_that_lost_its_host_has_nothing_there_but_its_run(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["run-0123abcd"]], shared=True)
    one.take([[HOST_KEY]])
    one.take([["ns-1"]])
    transport.kill()
    two.take([[HOST_KEY]])
    with pytest.raises(
        LeaseLostError,
        match=r"^This worker lost its lease of host on local: it is held by run 89abcdef.*So it also released ns-1\. "
        r"It can change nothing there until it calls Reserve Host",
    ):
        one.require(["ns-1"])
    assert one.held == {"run-0123abcd": True}
    assert living_runs(two.entries()) == {"0123abcd", OTHER} - {OTHER}
    assert two.take([["ns-1"]])[0].left_by is not None  # its bytes were not wiped
    for refused in (one.proofs, lambda: one.take([["ns-2"]]), lambda: one.take([["lock-reclaim"]])):
        with pytest.raises(LeaseLostError, match="lost its lease of host on local"):
            refused()
    assert one.entries()
    two.release([HOST_KEY])
    one.take([[HOST_KEY]])
    assert {proof.key for proof in one.proofs()} == {"run-0123abcd", HOST_KEY}
    one.take([["ns-2"]])


def test_a_region_is_taken_again_by_any_region(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([[HOST_KEY]], shared=True)
    one.take([["region-1"]])
    transport.kill()
    two.take([["region-1"]])
    with pytest.raises(LeaseLostError):
        one.require([HOST_KEY])
    one.take([[HOST_KEY]], shared=True)
    with pytest.raises(LeaseLostError):
        one.proofs()
    one.take([["region-2"]])
    assert len(one.proofs()) == 2


def test_a_lost_claim_is_reported_once(workers: Workers) -> None:
    one, transport = workers.one("1")
    two, _ = workers.one("2", run=OTHER)
    one.take([["ns-1"]])
    transport.kill()
    two.take([["ns-1"]])
    with pytest.raises(LeaseLostError, match="ns-1"):
        one.entries()
    assert one.proofs() == ()
    one.take([["ns-2"]])
