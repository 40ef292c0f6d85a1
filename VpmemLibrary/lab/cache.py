"""Directories that are created completely or not at all, and checked before use.

A directory is created under a lock with a temporary name, gets a manifest of its files, and is renamed to its final
name. So an incomplete directory is never used. A second process waits for the first and does not repeat its work.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from VpmemLibrary.lab.process import kill_process
from VpmemLibrary.lab.progress import Progress

MANIFEST = "manifest.json"
_CHUNK = 1 << 22
CLOUD = "cloud-"
"""The beginning of the name of each directory of the lab's cloud."""

MAKING = ".making-"
"""The beginning of a directory's name while the directory is being created."""


def cached(directory: Path, make: Callable[[Path], None], progress: Progress) -> Path:
    """Return `directory`. Create it if it is missing, or if its file sizes differ from its manifest.

    `make` fills the empty directory that it receives.
    """
    if not faults(directory):
        return directory
    with locked(directory.parent / f"{directory.name}.lock", progress, f"making {directory.name}"):
        wrong = faults(directory)
        if not wrong:
            return directory
        if directory.exists():
            progress.note(f"{directory} is broken ({wrong[0]}): making it again")
        for leftover in directory.parent.glob(f"{MAKING}{directory.name}-*"):
            kill_process(leftover)  # the QEMU of a host that a killed process was saving
            shutil.rmtree(leftover)
        fresh = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f"{MAKING}{directory.name}-"))
        try:
            make(fresh)
            _write_manifest(fresh)
            if directory.exists():
                shutil.rmtree(directory)
            fresh.rename(directory)
        finally:
            if fresh.exists():
                shutil.rmtree(fresh)
    return directory


def remove_unfinished(parent: Path) -> list[Path]:
    """Remove the directories that killed processes left unfinished, and end their QEMUs. Return these directories."""
    removed = []
    for path in sorted(parent.glob(f"{MAKING}*")):
        name = path.name.removeprefix(MAKING).rpartition("-")[0]
        with (
            suppress(FileNotFoundError),
            (parent / f"{name}.lock").open("r+b") as lock,
        ):  # without a lock file, `cached` did not make it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            kill_process(path)
            shutil.rmtree(path)
            removed.append(path)
    return removed


def identity(directory: Path) -> int:
    """Return a number that differs between a cached directory and a later directory of the same name."""
    return directory.stat().st_ino


def discard(directory: Path, which: int, progress: Progress) -> None:
    """Remove the cached directory with the identity `which`, unless another process has replaced it since."""
    with locked(directory.parent / f"{directory.name}.lock", progress, f"making {directory.name}"):
        if directory.exists() and identity(directory) == which:
            shutil.rmtree(directory)


def faults(directory: Path, *, thorough: bool = False) -> list[str]:
    """Return the faults of a cached directory. `thorough` also compares the contents with their checksums."""
    try:
        files = json.loads((directory / MANIFEST).read_text("utf-8"))["files"]
        listed = [(str(name), entry["size"], entry["sha256"]) for name, entry in files.items()]
    except FileNotFoundError:
        return [f"{MANIFEST} is missing" if directory.exists() else "it does not exist"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]
    wrong = []
    for name, size, checksum in listed:
        path = directory / name
        try:
            found = path.stat().st_size if path.is_file() else None
        except (OSError, ValueError):  # ValueError: the name is invalid as a file name
            found = None
        if found is None:
            wrong.append(f"{name} is missing")
        elif found != size:
            wrong.append(f"{name} has {found} bytes, not {size}")
        elif thorough and _checksum(path) != checksum:
            wrong.append(f"{name} has changed: its checksum differs")
    return wrong


@contextmanager
def locked(path: Path, progress: Progress, purpose: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`. The kernel frees the lock when the process ends for any reason."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process that is {purpose}", 60):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_manifest(directory: Path) -> None:
    files = {
        str(path.relative_to(directory)): {"size": path.stat().st_size, "sha256": _checksum(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    (directory / MANIFEST).write_text(json.dumps({"files": files}, indent=1))


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file's data and of the data's offsets. Skip holes: a disk consists mostly of holes."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for begin, end in _extents(file.fileno(), path.stat().st_size):
            for offset in range(begin, end, _CHUNK):
                chunk = os.pread(file.fileno(), min(_CHUNK, end - offset), offset)
                if chunk.count(0) != len(chunk):
                    digest.update(offset.to_bytes(8, "big") + chunk)
    return digest.hexdigest()


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges with data in whole chunks, so that allocated zeros and holes give the same checksum."""
    position = 0
    while position < size:
        try:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # the file system does not report holes
                yield from ((begin, min(begin + _CHUNK, size)) for begin in range(position, size, _CHUNK))
            return  # there is only a hole up to the end
        begin = data // _CHUNK * _CHUNK
        hole = os.lseek(descriptor, data, os.SEEK_HOLE)
        end = min(-(-hole // _CHUNK) * _CHUNK, size)
        yield max(begin, position), end
        position = end
