"""Content that is written under the guard, piece by piece, to a device that is a file; and by a clock of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from guarded_machine import GuardedMachine

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore, deadline
from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    ContentDiffersError,
    LeaseLostError,
    NotFoundError,
    UnsupportedError,
)
from VpmemLibrary.pmem import guard as guard_module
from VpmemLibrary.pmem.guard import Guard, LeaseProof
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import GiB, KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult, Transport
from VpmemLibrary.transport.local import LocalTransport

UUID = "76706d65-0123-4abc-8def-0123456789ab"
PAGE = 4 * KiB
SIZE = 40 * PAGE
PIECE = 16 * PAGE


class RealGuard(Guard):
    """The guard of this machine, whose namespaces' devices are files; and what happens before each act.

    Args:
        transport: This machine.
        devices: Where the files are: ``/dev`` is made-up as well.
        before: Called with the number of each act.
    """

    def __init__(self, transport: Transport, devices: Path, before: Callable[[int], None]) -> None:
        super().__init__(transport)
        self._devices = devices
        self._before = before
        self.acts: list[tuple[tuple[str, ...], bool]] = []

    def run(self, command: Sequence[str], *targets: guard_module.Target, **options: object) -> CommandResult:
        """Run an act: the device's path becomes that of its file once the guard has found it."""
        self._before(len(self.acts))
        self.acts.append((tuple(target.identity for target in targets), bool(options["must_be_unused"])))
        if targets[0].option == "-p":
            return super().run(command, *targets, **options)  # type: ignore[arg-type]
        in_devices = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(self._devices)]
        replaced = [word.replace("@node@", ".@node@") for word in command]
        return super().run([*in_devices, *replaced], *targets, **options)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuardedMachine:
    machine = GuardedMachine(tmp_path)
    machine.region("region0", "0xba90")
    machine.namespace("namespace0.1", UUID, block="pmem0.1", number="259:7")
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(guard_module, "_DIRECTORY", str(machine.run_directory))
    guard_module._path.cache_clear()
    return machine


@pytest.fixture(autouse=True)
def _forget_paths() -> object:
    yield
    guard_module._path.cache_clear()


def real_processes() -> None:
    """Look at the real processes of this machine: its fixture puts the environment back."""
    if os.geteuid() != 0:
        pytest.skip("the processes of others need root")
    del os.environ["VPMEM_PROC"]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Return the file that is the namespace's device."""
    path = tmp_path / "dev" / "pmem0.1"
    path.parent.mkdir()
    path.write_bytes(b"\xff" * SIZE)
    return path


class Listed(Namespace, frozen=True):
    """A namespace whose device's path is that of its file."""

    path: str = ""

    @property
    def device(self) -> str:
        return self.path


@pytest.fixture
def namespace(device: Path) -> Namespace:
    return Listed("namespace0.1", NamespaceMode.raw, uuid=UUID, name="ns_0", blockdev="pmem0.1", path=str(device))


@pytest.fixture
def guard(machine: GuardedMachine, tmp_path: Path) -> RealGuard:
    assert machine.bus.is_dir()
    return RealGuard(LocalTransport(name="rack1"), tmp_path, lambda _: None)


@pytest.fixture
def store(guard: RealGuard) -> ContentStore:
    return ContentStore(guard.transport, guard=guard, piece=PIECE)


def test_a_namespace_is_written_by_its_uuid_in_pieces_that_are_acts(
    store: ContentStore, guard: RealGuard, namespace: Namespace, device: Path
) -> None:
    pattern = Pattern("seed", length=SIZE)
    transfer = store.write(namespace, pattern)
    assert guard.acts == [((UUID,), False)] * 3
    assert (transfer.path, transfer.length, transfer.offset) == (str(device), SIZE, 0)
    whole = device.read_bytes()
    assert ContentStore(LocalTransport()).verify(str(device), pattern).intact, "in one piece"
    assert store.verify(str(device), pattern).intact, "in three, without a guard"
    assert len(guard.acts) == 3
    store.write(str(device), Pattern("other", length=SIZE))
    assert guard.acts[3:] == [((str(device),), False)] * 3
    assert device.read_bytes() != whole


def test_the_piece_that_differs_first_is_found_and_all_are_counted(
    store: ContentStore, namespace: Namespace, device: Path
) -> None:
    pattern = Pattern("seed", length=SIZE)
    store.write(namespace, pattern)
    data = bytearray(device.read_bytes())
    for offset in (PIECE + 5, PIECE + 6, SIZE - 1):
        data[offset] ^= 1
    device.write_bytes(data)
    found = store.verify(str(device), pattern)
    assert (found.differing, found.first, found.transfer.length) == (3, PIECE + 5, SIZE)


def test_a_wipe_is_written_and_proven_under_the_guard_and_its_progress_is_reported(
    guard: RealGuard, namespace: Namespace, device: Path
) -> None:
    reported: list[str] = []
    store = ContentStore(guard.transport, guard=guard, piece=PIECE, progress=reported.append)
    store.wipe(namespace, PAGE, SIZE - 2 * PAGE)
    assert device.read_bytes() == b"\xff" * PAGE + bytes(SIZE - 2 * PAGE) + b"\xff" * PAGE
    assert guard.acts == [((UUID,), False)] * 6
    assert reported == [
        f"{action}: {done} of 152KiB"
        for action in (f"write zeros to {device}", f"compare {device} with zeros")
        for done in ("64KiB", "128KiB", "152KiB")
    ]
    reported.clear()
    store.wipe(namespace, 0, PIECE)
    assert not reported, "one piece has no progress"


def test_a_copy_goes_in_pieces_too(store: ContentStore, guard: RealGuard, namespace: Namespace, device: Path) -> None:
    source = device.parent / "@node@ 'source'"
    source.write_bytes(bytes(range(256)) * (SIZE // 256))
    store.copy(str(source), namespace)
    assert device.read_bytes() == source.read_bytes()
    assert guard.acts == [((UUID,), False)] * 3


def test_what_is_in_use_is_neither_wiped_nor_copied_to(
    machine: GuardedMachine,
    store: ContentStore,
    namespace: Namespace,
    device: Path,
) -> None:
    real_processes()
    machine.write(machine.bus / "namespace0.1/block/pmem0.1/holders/dm-3/dev", "252:3")
    steps: tuple[Callable[[], object], ...] = (
        lambda: store.wipe(namespace, must_be_unused=True),
        lambda: store.zero(namespace, must_be_unused=True),
        lambda: store.copy(str(device), namespace, must_be_unused=True),
    )
    for step in steps:
        with pytest.raises(BusyError, match=r"ns_0 \(namespace0.1\) is in use on rack1: block device dm-3"):
            step()
    assert device.read_bytes() == b"\xff" * SIZE


def test_a_use_that_begins_between_two_pieces_ends_the_wipe_which_says_how_far_it_came(
    machine: GuardedMachine,
    store: ContentStore,
    guard: RealGuard,
    namespace: Namespace,
    device: Path,
) -> None:
    real_processes()
    held = machine.bus / "namespace0.1/block/pmem0.1/holders/dm-3/dev"
    guard._before = lambda number: None if number != 2 else (machine.write(held, "252:3"), None)[1]
    with pytest.raises(BusyError, match=r"dm-3 on it(.|\n)*128KiB of 160KiB were done before"):
        store.wipe(namespace, must_be_unused=True)
    assert device.read_bytes() == bytes(2 * PIECE) + b"\xff" * (SIZE - 2 * PIECE)


def test_a_namespace_that_is_replaced_between_two_pieces_is_not_written_to(
    machine: GuardedMachine, store: ContentStore, guard: RealGuard, namespace: Namespace, device: Path
) -> None:
    """The name and the path are another namespace's then."""
    uuid = machine.bus / "namespace0.1/uuid"
    other = UUID.replace("0123", "ffff", 1)
    guard._before = lambda number: None if number != 1 else (machine.write(uuid, other), None)[1]
    with pytest.raises(NotFoundError, match=r"ns_0(.|\n)*64KiB of 160KiB were done before"):
        store.write(namespace, Pattern("seed", length=SIZE))
    assert device.read_bytes()[PIECE:] == b"\xff" * (SIZE - PIECE)


def test_a_lease_that_is_lost_between_two_pieces_ends_the_writing(
    machine: GuardedMachine, store: ContentStore, guard: RealGuard, namespace: Namespace, device: Path
) -> None:
    record = machine.write(machine.proc / "record", "token 1")
    guard.use_lease_proofs(lambda: [LeaseProof("host", str(record), "token 1")])
    guard._before = lambda number: None if number != 2 else (machine.write(record, "token 2"), None)[1]
    with pytest.raises(LeaseLostError, match=r"lease of host(.|\n)*128KiB of 160KiB were done before"):
        store.zero(namespace)
    assert device.read_bytes() == bytes(2 * PIECE) + b"\xff" * (SIZE - 2 * PIECE)


@pytest.mark.parametrize("change", ["shorter", "longer", "gone"])
def test_a_device_of_another_size_by_now_is_not_written_to(
    store: ContentStore, guard: RealGuard, namespace: Namespace, device: Path, change: str
) -> None:
    """The length of a whole wipe comes from the look before it."""

    def before(number: int) -> None:
        if change == "gone":
            device.unlink()
        else:
            device.write_bytes(b"\xff" * (SIZE + (PAGE if change == "longer" else -PAGE)))

    guard._before = before
    with pytest.raises(CommandError, match=f"{device.name} is no longer a file of {SIZE} bytes"):
        store.wipe(namespace)
    assert not device.exists() if change == "gone" else set(device.read_bytes()) == {0xFF}


def test_a_wipe_whose_proof_fails_says_that_it_was_not_proven(
    machine: GuardedMachine, store: ContentStore, guard: RealGuard, namespace: Namespace
) -> None:
    uuid = machine.bus / "namespace0.1/uuid"
    guard._before = lambda number: None if number != 4 else (machine.write(uuid), None)[1]
    with pytest.raises(
        NotFoundError, match=r"64KiB of 160KiB were done before the failure(.|\n)*overwritten .* was not read again"
    ):
        store.wipe(namespace)


def test_who_uses_something_is_asked_of_a_guard_only(device: Path) -> None:
    with pytest.raises(UnsupportedError, match="has no guard"):
        ContentStore(LocalTransport()).wipe(str(device), must_be_unused=True)
    assert device.read_bytes() == b"\xff" * SIZE


# A clock


class SlowMachine(LocalTransport):
    """A machine with one large device that writes and reads at some bytes a second, and has no clock but its own.

    Args:
        size: The bytes of the device.
        rate: How many of them a second.
        hangs_at: The offset from which on nothing ends.
    """

    def __init__(self, size: int, rate: float, hangs_at: int | None = None) -> None:
        super().__init__(name="slow")
        self.scripts: list[str] = []
        self.seconds = 0.0
        self.longest = 0.0
        self.written = 0
        self._size, self._rate, self._hangs_at = size, rate, hangs_at

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        script = argv[2]
        self.scripts.append(script)
        self.longest = max(self.longest, timeout)
        number = re.search(r"\b(?:seek|skip)=([0-9]+)", script)
        if number is None:
            return CommandResult(tuple(argv), 0, f"block {self._size}\n".encode(), b"", 0.1)
        found = re.search(r"\b(?:count=|head -c )([0-9]+)", script)
        size = re.search(r"\bbs=([0-9]+)", script)
        assert found is not None
        assert size is not None
        length = int(found[1]) * (int(size[1]) if "if=/dev/zero" in script else 1)
        took = length / self._rate
        hangs = self._hangs_at is not None and int(number[1]) >= self._hangs_at
        if hangs or took > timeout:
            self.seconds += timeout
            result = CommandResult(tuple(argv), -15, b"", b"", timeout)
            raise CommandTimeoutError(result, f"It did not end within {timeout:g} s")
        self.seconds += took
        self.written += length if "seek=" in script else 0
        stages = "".join(f"\nstage {each} 0\n" for each in range(script.count("stage %s")))
        return CommandResult(tuple(argv), 0, b"0\n", f"{length} bytes copied\n{stages}".encode(), took)


def test_three_terabytes_are_wiped_as_long_as_they_move() -> None:
    machine = SlowMachine(3 * 1024 * GiB, 450e6)
    transfer = ContentStore(machine).wipe("/dev/pmem0")
    assert machine.written == transfer.length == 3 * 1024 * GiB
    assert machine.seconds > 4 * 3600 - 1200
    assert transfer.seconds == pytest.approx(machine.seconds / 2)
    assert machine.longest < 600, "a device that hangs is noticed within minutes"


def test_the_slowest_device_that_moves_is_waited_for() -> None:
    machine = SlowMachine(8 * GiB, 5e6)
    ContentStore(machine).wipe("/dev/pmem0")
    assert machine.written == 8 * GiB


def test_a_device_that_hangs_is_noticed_within_a_pieces_deadline() -> None:
    machine = SlowMachine(1024 * GiB, 450e6, hangs_at=100 * GiB)
    with pytest.raises(CommandTimeoutError, match="100GiB of 1TiB were done before"):
        ContentStore(machine).wipe("/dev/pmem0")
    assert machine.seconds < 100 * GiB / 450e6 + deadline(GiB) + 1


def test_commands_have_plain_numbers() -> None:
    """coreutils' head knows 2MiB, and busybox's does not."""
    machine = SlowMachine(3 * GiB, 450e6)
    store = ContentStore(machine, piece=Size(2 * GiB))
    store.write("/dev/pmem0", Pattern("seed", length=Size(3 * GiB)))
    store.wipe("/dev/pmem0", Size(0), Size(3 * GiB))
    assert f"head -c {2 * GiB} " in machine.scripts[1]
    assert not [script for script in machine.scripts if re.search(r"[0-9](B|[KMGT]iB)\b", script)]


@pytest.mark.parametrize("length", [PAGE, MiB, GiB, 1024 * GiB])
def test_a_deadline_follows_from_the_length(length: int) -> None:
    assert deadline(length) >= 60 + length / 5e6
    assert deadline(2 * length) > deadline(length)


def test_a_wipe_that_left_something_in_a_later_piece_is_no_wipe(
    store: ContentStore, guard: RealGuard, namespace: Namespace, device: Path
) -> None:
    def before(number: int) -> None:
        if number == 3:  # all is written
            data = bytearray(device.read_bytes())
            data[SIZE - 1] = 1
            device.write_bytes(data)

    guard._before = before
    with pytest.raises(ContentDiffersError, match=f"1 of {SIZE} bytes from 0B differ, the first at byte {SIZE - 1}"):
        store.wipe(namespace)
