"""A cached directory is made whole or not at all, by one process at a time, and a broken one is made anew."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from VpmemLibrary.lab.cache import cached, discard, faults, identity
from VpmemLibrary.lab.progress import SILENT


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, directory: Path) -> None:
        self.calls += 1
        (directory / "below").mkdir()
        (directory / "below/data").write_bytes(b"x" * 100)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache/image-1"


def test_is_made_once(place: Path) -> None:
    maker = Maker()
    assert cached(place, maker, SILENT) == place
    assert cached(place, maker, SILENT) == place
    assert maker.calls == 1
    assert faults(place, thorough=True) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: (place / "below/data").unlink(),
        lambda place: (place / "below/data").write_bytes(b"x" * 99),
        lambda place: (place / "manifest.json").unlink(),
        lambda place: (place / "manifest.json").write_text("{"),
        lambda place: (place / "manifest.json").write_text("[]"),
    ],
)
def test_a_broken_one_is_noticed_and_made_again(place: Path, harm: object) -> None:
    maker = Maker()
    cached(place, maker, SILENT)
    assert callable(harm)
    harm(place)
    assert faults(place)
    cached(place, maker, SILENT)
    assert maker.calls == 2
    assert faults(place, thorough=True) == []


def test_a_discarded_one_is_made_again_and_one_that_was_replaced_since_stays(place: Path) -> None:
    maker = Maker()
    cached(place, maker, SILENT)
    first = identity(place)
    keeper = os.open(place, os.O_RDONLY)  # its number is not given to another directory while it is open
    try:
        discard(place, first, SILENT)
        assert not place.exists()
        discard(place, first, SILENT)
        cached(place, maker, SILENT)
        discard(place, first, SILENT)
    finally:
        os.close(keeper)
    assert maker.calls == 2
    assert faults(place) == []


def test_changed_contents_of_the_same_size_are_found_on_request(place: Path) -> None:
    cached(place, Maker(), SILENT)
    (place / "below/data").write_bytes(b"y" * 100)
    assert faults(place) == []
    assert faults(place, thorough=True) == ["below/data has changed: its checksum differs"]


def test_a_hole_and_zeros_are_the_same(place: Path) -> None:
    def make(directory: Path) -> None:
        with (directory / "disk").open("wb") as file:
            file.truncate(20 << 20)
            os.pwrite(file.fileno(), b"end", (20 << 20) - 3)

    cached(place, make, SILENT)
    with (place / "disk").open("r+b") as file:
        os.pwrite(file.fileno(), bytes(8 << 20), 0)
    assert faults(place, thorough=True) == []
    with (place / "disk").open("r+b") as file:
        os.pwrite(file.fileno(), b"!", 9 << 20)
    assert faults(place, thorough=True) == ["disk has changed: its checksum differs"]


def test_a_failed_make_leaves_nothing(place: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        cached(place, fail, SILENT)
    assert [path.name for path in place.parent.iterdir()] == ["image-1.lock"]


def test_what_a_killed_process_left_half_made_is_removed(place: Path) -> None:
    half = place.parent / ".making-image-1-abc"
    half.mkdir(parents=True)
    (half / "root.tar").touch()
    cached(place, Maker(), SILENT)
    assert not half.exists()


def test_two_processes_at_once_make_it_once(place: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from VpmemLibrary.lab.cache import cached
        from VpmemLibrary.lab.progress import PlainLines

        def make(directory):
            with open(sys.argv[2], "a") as log:
                log.write("made\\n")
            (directory / "data").touch()
            while not Path(sys.argv[3]).exists():
                time.sleep(0.01)

        cached(Path(sys.argv[1]), make, PlainLines())
        """
    )
    log, go = tmp_path / "log", tmp_path / "go"
    command = [sys.executable, "-c", script, str(place), str(log), str(go)]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not log.exists():
        assert first.poll() is None
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert "waiting for another process that is making image-1" in second.stderr.readline()
    go.touch()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    second.stderr.close()
    assert first.stderr is not None
    first.stderr.close()
    assert log.read_text() == "made\n"
