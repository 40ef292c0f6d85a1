"""Patterns, written and proven with the machine's own tools on files of this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.pipeline import SECOND_INPUT, run_pipeline
from VpmemLibrary.content.store import COUNTED, ContentStore
from VpmemLibrary.content.target import Target, TargetKind, inspect_path
from VpmemLibrary.errors import (
    CommandError,
    ContentDiffersError,
    InvalidValueError,
    ToolMissingError,
    UnsupportedError,
)
from VpmemLibrary.sizes import KiB, MiB
from VpmemLibrary.transport.local import LocalTransport

PAGE = 4 * KiB
SIZE = 3 * MiB + 5 * PAGE


def keystream(pattern: Pattern) -> bytes:
    """Return the pattern as an independent implementation of the cipher makes it."""
    cipher = Cipher(algorithms.AES128(bytes.fromhex(pattern.key)), modes.CTR(bytes.fromhex(pattern.counter)))
    return cipher.encryptor().update(bytes(pattern.length))


@pytest.fixture
def store() -> ContentStore:
    return ContentStore(LocalTransport())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a file's 'name'"
    path.write_bytes(bytes(SIZE))
    return path


def test_what_is_written_is_the_keystream_and_nothing_beside_it(store: ContentStore, path: Path) -> None:
    pattern = Pattern("seed", length=MiB + PAGE, offset=2 * PAGE)
    transfer = store.write(str(path), pattern)
    data = path.read_bytes()
    assert data == bytes(2 * PAGE) + keystream(pattern) + bytes(SIZE - MiB - 3 * PAGE)
    assert (transfer.length, transfer.offset) == (MiB + PAGE, 2 * PAGE)
    assert transfer.throughput > 0
    store.verify(str(path), pattern).require()


def test_a_piece_is_the_same_bytes_as_in_the_whole(store: ContentStore, path: Path) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    piece = Pattern("seed", length=2 * PAGE, offset=MiB)
    assert store.verify(str(path), piece).intact
    assert not store.verify(str(path), piece, at=MiB + PAGE).intact
    assert not store.verify(str(path), Pattern("other", length=PAGE)).intact


def test_a_pattern_may_lie_elsewhere_than_where_it_was_made(store: ContentStore, path: Path) -> None:
    pattern = Pattern("guest", length=MiB)
    store.write(str(path), pattern, at=MiB)
    assert store.verify(str(path), pattern, at=MiB).intact
    assert path.read_bytes()[MiB : 2 * MiB] == keystream(pattern)


@pytest.mark.parametrize("damaged", [[0], [SIZE - 1], [MiB, MiB + 1, 2 * MiB + 7]])
def test_the_first_difference_and_their_number_are_reported(
    store: ContentStore, path: Path, damaged: list[int]
) -> None:
    pattern = Pattern("seed", length=SIZE)
    store.write(str(path), pattern)
    data = bytearray(path.read_bytes())
    for offset in damaged:
        data[offset] ^= 0xFF
    path.write_bytes(data)
    found = store.verify(str(path), pattern)
    assert (found.differing, found.first) == (len(damaged), damaged[0])
    with pytest.raises(ContentDiffersError, match=f"{len(damaged)} of {SIZE} bytes.*first at byte {damaged[0]}"):
        found.require()


def test_the_reported_offset_is_the_targets(store: ContentStore, path: Path) -> None:
    pattern = Pattern("seed", length=MiB)
    store.write(str(path), pattern, at=MiB)
    data = bytearray(path.read_bytes())
    data[MiB + 77] ^= 1
    path.write_bytes(data)
    assert store.verify(str(path), pattern, at=MiB).first == MiB + 77


def test_zeros_are_written_and_proven(store: ContentStore, path: Path) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    store.zero(str(path), offset=PAGE, length=MiB)
    assert path.read_bytes()[PAGE : PAGE + MiB] == bytes(MiB)
    assert store.verify_zero(str(path), offset=PAGE, length=MiB).intact
    assert store.verify_zero(str(path)).first == 0
    store.zero(str(path))
    assert store.verify_zero(str(path)).intact
    assert path.stat().st_size == SIZE


def test_a_wipe_is_proven_and_stays_in_its_range(store: ContentStore, path: Path) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    before = path.read_bytes()
    assert store.wipe(str(path), PAGE, MiB).length == MiB
    assert path.read_bytes() == before[:PAGE] + bytes(MiB) + before[PAGE + MiB :]
    store.wipe(str(path))
    assert path.read_bytes() == bytes(SIZE)


def test_a_wipe_that_left_something_is_no_wipe(
    store: ContentStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    monkeypatch.setattr(Target, "zeroer", lambda *_: ("sh", "-c", f"echo {SIZE} bytes >&2"))
    with pytest.raises(ContentDiffersError, match="does not contain zeros"):
        store.wipe(str(path))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    other = tmp_path / "$(another) one"
    other.write_bytes(bytes(SIZE))
    return other


def test_a_copy_is_the_same_bytes_and_nothing_beside_them(store: ContentStore, path: Path, other: Path) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    data = path.read_bytes()
    copied = store.copy(str(path), str(other), offset=PAGE, at=MiB, length=MiB)
    assert (copied.path, copied.offset, copied.length) == (str(other), MiB, MiB)
    assert other.read_bytes() == bytes(MiB) + data[PAGE : PAGE + MiB] + bytes(SIZE - 2 * MiB)
    store.copy(str(path), str(other))
    assert other.read_bytes() == path.read_bytes() == data


def test_equal_targets_are_equal(store: ContentStore, path: Path, other: Path) -> None:
    for each in (path, other):
        store.write(str(each), Pattern("seed", length=SIZE))
    found = store.compare(str(path), str(other))
    assert (found.intact, found.transfer.length, found.first) == (True, SIZE, None)
    store.copy(str(path), str(other), offset=0, at=MiB, length=MiB)
    assert store.compare(str(path), str(other), offset=0, at=MiB, length=MiB).intact
    assert not store.compare(str(path), str(other), offset=MiB, at=0, length=PAGE).intact


@pytest.mark.parametrize("damaged", [[0], [SIZE - 1], [MiB, MiB + 1, 2 * MiB + 7]])
def test_the_first_byte_that_two_differ_in_and_their_number_are_reported(
    store: ContentStore, path: Path, other: Path, damaged: list[int]
) -> None:
    for each in (path, other):
        store.write(str(each), Pattern("seed", length=SIZE))
    data = bytearray(other.read_bytes())
    for offset in damaged:
        data[offset] ^= 0x80
    other.write_bytes(data)
    found = store.compare(str(path), str(other))
    assert (found.differing, found.first, found.more) == (len(damaged), damaged[0], False)
    with pytest.raises(ContentDiffersError, match=f"the content of .*another.* at 0B: {len(damaged)} of {SIZE} bytes"):
        found.require()
    if damaged[0] >= MiB:
        assert store.compare(str(path), str(other), offset=MiB).first == damaged[0]


def test_more_than_is_counted_is_reported_as_more(store: ContentStore, path: Path, other: Path) -> None:
    path.write_bytes(b"\xff" * SIZE)
    found = store.compare(str(path), str(other))
    assert (found.differing, found.first, found.more) == (COUNTED, 0, True)
    with pytest.raises(ContentDiffersError, match=f"more than {COUNTED} of {SIZE}"):
        found.require()


def test_targets_of_other_lengths_are_not_compared_as_if_they_were_equal(
    store: ContentStore, path: Path, tmp_path: Path
) -> None:
    shorter = tmp_path / "shorter"
    shorter.write_bytes(bytes(MiB))
    with pytest.raises(InvalidValueError, match=f"{SIZE} bytes from .*{MiB} from"):
        store.compare(str(path), str(shorter))
    with pytest.raises(InvalidValueError, match="range"):
        store.compare(str(path), str(shorter), length=2 * MiB)
    assert store.compare(str(path), str(shorter), length=MiB).intact


def test_a_reader_that_fails_is_no_difference(store: ContentStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with a bad block: one of the two readers ends early, and cmp sees the other one go on."""
    readers = iter([("sh", "-c", "head -c 4096 /dev/zero; exit 5"), ("head", "-c", str(SIZE), "/dev/zero")])
    monkeypatch.setattr(Target, "reader", lambda *_: next(readers))
    with pytest.raises(CommandError, match="compare"):
        store.compare(str(path), str(path))


def test_a_forced_range_is_still_refused_of_a_file(store: ContentStore, path: Path) -> None:
    with pytest.raises(InvalidValueError, match="range"):
        store.write(str(path), Pattern("seed", length=PAGE), at=SIZE, force=True)
    assert path.stat().st_size == SIZE


def test_what_runs_beside_a_pipeline_is_checked_too() -> None:
    first = ["printf", "one"]
    both = run_pipeline(
        LocalTransport(), [first, ["cat", "-", SECOND_INPUT]], action="try", timeout=30, beside=["printf", "two"]
    )
    assert both.text == "onetwo"
    with pytest.raises(CommandError, match=r"exit status: 6"):
        run_pipeline(
            LocalTransport(), [first, ["cat", "-", SECOND_INPUT]], action="try", timeout=30,
            beside=["sh", "-c", "exit 6"],
        )  # fmt: skip


def test_a_checksum_is_sha_256(store: ContentStore, path: Path) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    data = path.read_bytes()
    assert store.checksum(str(path)) == hashlib.sha256(data).hexdigest()
    assert store.checksum(str(path), PAGE, MiB) == hashlib.sha256(data[PAGE : PAGE + MiB]).hexdigest()


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (PAGE - 1, 2), (SIZE - 5, 5), (MiB + 3, PAGE)])
def test_a_few_bytes_are_read_from_anywhere(store: ContentStore, path: Path, offset: int, length: int) -> None:
    store.write(str(path), Pattern("seed", length=SIZE))
    assert store.read(str(path), offset, length) == path.read_bytes()[offset : offset + length]


@pytest.mark.parametrize(
    ("length", "at"), [(SIZE + PAGE, 0), (PAGE, SIZE), (SIZE, PAGE), (PAGE, -PAGE), (PAGE, 7), (PAGE, 1 << 62)]
)
def test_a_range_outside_is_refused_and_nothing_is_written(
    store: ContentStore, path: Path, length: int, at: int
) -> None:
    with pytest.raises(InvalidValueError, match=r"range|offset"):
        store.write(str(path), Pattern("seed", length=length), at=at)
    assert path.read_bytes() == bytes(SIZE)


@pytest.mark.parametrize("wrong", ["absent", "relative/path", "-o"])
def test_a_path_that_is_absent_is_not_made(store: ContentStore, tmp_path: Path, wrong: str) -> None:
    path = str(tmp_path / wrong) if wrong == "absent" else wrong
    with pytest.raises(InvalidValueError, match="path"):
        store.write(path, Pattern("seed", length=PAGE))
    assert not Path(path).exists()


@pytest.mark.parametrize("path", ["/dev/null", "/", "/dev/zero"])
def test_what_holds_no_bytes_is_refused(store: ContentStore, path: str) -> None:
    with pytest.raises(UnsupportedError, match=path):
        store.write(path, Pattern("seed", length=PAGE))


@pytest.mark.parametrize(
    "arguments",
    [{"seed": ""}, {"length": 0}, {"length": 100}, {"length": -PAGE}, {"offset": 1}, {"offset": -PAGE}],
)
def test_a_pattern_that_cannot_be_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidValueError, match=next(iter(arguments))):
        Pattern(**{"seed": "s", "length": PAGE, **arguments})  # type: ignore[arg-type]


def test_a_file_is_known_by_its_size(path: Path) -> None:
    target = inspect_path(LocalTransport(), str(path))
    assert (target.kind, target.size) == (TargetKind.file, SIZE)


@given(st.text(min_size=1), st.text(min_size=1))
def test_other_seeds_are_other_keys(one: str, other: str) -> None:
    assert (Pattern(one, length=PAGE).key == Pattern(other, length=PAGE).key) == (one == other)


@pytest.mark.parametrize(
    ("stages", "cause"),
    [
        ([["sh", "-c", "exit 3"], ["cat"], ["cat"]], "exit status: 3"),
        ([["true"], ["sh", "-c", "exit 4"], ["cat"]], "exit status: 4"),
        ([["head", "-c", "9000000", "/dev/zero"], ["cat"], ["sh", "-c", "exit 5"]], "exit status: 5"),
    ],
)
def test_every_stage_of_a_pipeline_counts(stages: list[list[str]], cause: str) -> None:
    with pytest.raises(CommandError, match=f"Could not try: .* failed(.|\n)*{cause}"):
        run_pipeline(LocalTransport(), stages, action="try", timeout=30)


@pytest.mark.parametrize("ignored", ["", "trap '' PIPE; "])
def test_a_last_stage_that_ends_early_with_success_is_left_to_the_caller(ignored: str) -> None:
    stages = [
        ["sh", "-c", f"{ignored}exec head -c 9000000 /dev/zero"],
        ["openssl", "enc", "-aes-128-ctr", "-K", "0" * 32, "-iv", "0" * 32],
        ["head", "-c", "4096"],
    ]
    assert len(run_pipeline(LocalTransport(), stages, action="try", timeout=30).stdout) == 4096


def test_a_cipher_that_fails_by_itself_is_the_cause() -> None:
    stages = [["head", "-c", "9000000", "/dev/zero"], ["openssl", "enc", "-no-such-cipher"], ["wc", "-c"]]
    with pytest.raises(CommandError, match="Could not try: openssl failed"):
        run_pipeline(LocalTransport(), stages, action="try", timeout=30)


def test_a_stage_that_is_not_installed_is_reported_with_its_package() -> None:
    with pytest.raises(ToolMissingError, match=r"no-such-tool is not installed \(package no-such-tool\)"):
        run_pipeline(LocalTransport(), [["true"], ["no-such-tool"], ["cat"]], action="try", timeout=30)


def test_arguments_of_a_pipeline_are_quoted_once() -> None:
    hostile = "a b'c\"$(id)`id`\\n; exit 9"
    result = run_pipeline(LocalTransport(), [["printf", "%s", hostile], ["cat"]], action="try", timeout=30)
    assert result.text == hostile
