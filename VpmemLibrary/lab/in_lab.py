"""Run the lab inside a lab host. This tests the lab with KVM on a machine that has no KVM.

An emulated lab host can virtualise, so the lab inside it finds KVM. Everything is some 20 times slower than on a real
machine. Run this module as ``python -m VpmemLibrary.lab.in_lab``. It prints each step, and exits with 1 if a step
fails.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from VpmemLibrary.errors import LabError, VpmemError
from VpmemLibrary.lab.image import Image, find_or_build_image
from VpmemLibrary.lab.paths import cache_directory, private_directory, state_directory
from VpmemLibrary.lab.ports import free_port, known_hosts_line
from VpmemLibrary.lab.progress import Progress, default_progress
from VpmemLibrary.lab.qemu_host import Accelerator, QemuHost
from VpmemLibrary.lab.state import connect, wait_for_ssh
from VpmemLibrary.lab.tools import run_tool
from VpmemLibrary.polling import attempts
from VpmemLibrary.sizes import GiB, Size
from VpmemLibrary.transport.base import Transport

HOSTS = 2
"""The number of lab hosts inside the lab host. Each of them runs one nested guest."""

_MEMORY = Size(8 * GiB)
_DISK_SIZE = "16G"
_PYTHON = "3.13"
"""The image's Python version."""

_PROJECT = Path(__file__).parents[2]
PACKAGES = (
    *("paramiko", "bcrypt", "cffi", "cryptography", "invoke", "pycparser", "pynacl"),
    *("click", "platformdirs", "qemu-qmp"),
    *("rich", "markdown-it-py", "mdurl", "pygments"),
)
"""The Python packages that the lab needs."""

_BOOT_SECONDS = 600.0
_UP_SECONDS = 3600.0
_GUESTS_SECONDS = 3600.0
_SHORT_SECONDS = 300.0
_POLL = 5.0
_ENVIRONMENT = {
    "VPMEM_CACHE": "/mnt/cache",
    "VPMEM_STATE": "/mnt/state",
    "PYTHONPATH": "/mnt/project:/mnt/packages",
    "PYTHONUNBUFFERED": "1",
}


def locked_requirements(text: str, names: Sequence[str]) -> str:
    """Return the entries for some packages in the text of a lock file: the versions and the hashes of the files.

    Raises:
        LabError: The lock file has no entry for a package.
    """
    entries = {}
    for entry in re.split(r"\n(?=[^\s#])", text):
        found = re.match(r"([A-Za-z0-9._-]+)==", entry)
        if found:
            entries[re.sub(r"[._-]+", "-", found[1]).lower()] = entry
    missing = [name for name in names if name not in entries]
    if missing:
        raise LabError(f"requirements/dev.txt has no {', '.join(missing)}: the lab needs it.")
    return "\n".join(entries[name] for name in names) + "\n"


def main() -> int:
    """Run the lab in a lab host and return the exit status."""
    progress = default_progress()
    image = find_or_build_image(progress)
    root = private_directory(state_directory()) / "in-lab"
    with _outer_host(root, image, progress) as (qemu, host):
        host.run(["mount", "/dev/vdb", "/mnt"]).check()
        shown = _show(qemu, host, progress)
    print(f"lab in a lab host: {', '.join(shown)}: all with KVM")
    return 0


def _show(qemu: QemuHost, host: Transport, progress: Progress) -> list[str]:
    """Run the lab's steps, each within its deadline. Return the names of the features that the steps have shown."""
    shown = []
    with progress.step("lab in lab: trying KVM, boot, warm-up, save, restore of two hosts", 900):
        _inside(host, qemu, ["VpmemLibrary", "lab", "up", "--hosts", str(HOSTS)], _UP_SECONDS, progress)
    status = json.loads(_inside(host, qemu, ["VpmemLibrary", "lab", "status", "--json"], _SHORT_SECONDS, None))
    used = [(each["name"], each["accelerator"], each["alive"]) for each in status["hosts"]]
    if used != [(f"lab-{number}", "kvm", True) for number in range(1, HOSTS + 1)]:
        raise LabError(f"In the lab host, not all lab hosts run with KVM: {used}")
    shown += ["probe", "boot", "warm-up with a nested guest", "save", f"restore of {HOSTS} hosts from one state"]
    with progress.step(f"lab in lab: {HOSTS} hosts restored again, a nested guest booted on each", 600):
        said = _inside(host, qemu, ["VpmemLibrary.lab.soak", str(HOSTS)], _GUESTS_SECONDS, progress)
    if f"{HOSTS} guests, 0 lost" not in said:
        raise LabError(f"In the lab host, nested guests were lost:\n{said}")
    shown.append(f"{HOSTS} nested guests")
    _inside(host, qemu, ["VpmemLibrary", "lab", "down"], _SHORT_SECONDS, progress)
    return shown


@contextmanager
def _outer_host(root: Path, image: Image, progress: Progress) -> Iterator[tuple[QemuHost, Transport]]:
    """Boot an emulated lab host with more memory and a second disk that contains the lab. Remove it afterwards."""
    qemu = QemuHost(root / "outer", image, Accelerator("tcg"), memory=_MEMORY, disks=(root / "lab.ext4",))
    qemu.kill()
    shutil.rmtree(root, ignore_errors=True)
    private_directory(root)
    try:
        with progress.step("making a disk with the lab for the lab host", 30):
            _make_disk(root / "lab.ext4", image)
        qemu.create(image.root_disk, "raw")
        port = free_port()
        known_hosts = qemu.directory / "known_hosts"
        known_hosts.write_text(known_hosts_line(port, image.host_public_key))
        qemu.start(port, disk_cache="unsafe")
        with connect(image, port, known_hosts) as host:
            with progress.step("booting the emulated lab host", 40):
                wait_for_ssh(qemu, host, _BOOT_SECONDS)
            yield qemu, host
    finally:
        qemu.kill()
        shutil.rmtree(root)


def _make_disk(disk: Path, image: Image) -> None:
    """Make a disk that contains the image, this project and the Python packages that the lab needs."""
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix=".in-lab-") as name:
        tree = Path(name)
        # Links, not copies, because the image is a gigabyte and is in the same file system.
        (tree / "cache").mkdir()
        run_tool(["cp", "-al", str(image.directory), str(tree / "cache")], "link the image", timeout=_BOOT_SECONDS)
        package = tree / "project/VpmemLibrary"
        shutil.copytree(_PROJECT / "VpmemLibrary", package, ignore=shutil.ignore_patterns("__pycache__"))
        wanted = tree / "packages.txt"
        wanted.write_text(locked_requirements((_PROJECT / "requirements/dev.txt").read_text(), PACKAGES))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        platforms = [f"--platform=manylinux_2_{number}_x86_64" for number in (17, 28, 34)]
        target = ["--target", str(tree / "packages"), "--python-version", _PYTHON, "--only-binary=:all:", "--no-deps"]
        run_tool(
            [*pip, *target, *platforms, "--platform=manylinux2014_x86_64", "-r", str(wanted)],
            "get Python packages",
            timeout=_BOOT_SECONDS,
        )
        run_tool(
            [*image.tool("mke2fs"), "-q", "-t", "ext4", "-d", str(tree), str(disk), _DISK_SIZE],
            "make a disk",
            timeout=_BOOT_SECONDS,
        )


def _inside(host: Transport, qemu: QemuHost, module: Sequence[str], timeout: float, progress: Progress | None) -> str:
    """Run a module of this project in the lab host, show its output, and return the output.

    The command runs in the background of the lab host. Its output is polled, so new lines are shown while it runs.

    Raises:
        LabError: The command failed, or did not end in time. The message has its output.
    """
    log = "/run/in-lab.log"
    environment = " ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
    command = f"env {environment} timeout {timeout:g} python3 -m {' '.join(module)}"
    script = f"rm -f {log}.status; (({command}) >{log} 2>&1 </dev/null; echo $? >{log}.status) >/dev/null 2>&1 &"
    host.run(["sh", "-c", script], timeout=_SHORT_SECONDS).check()
    seen = 0
    for _ in attempts(f"{module[0]} in the lab host", timeout=timeout + _SHORT_SECONDS, interval=_POLL):
        ended = host.run(["cat", f"{log}.status"], timeout=_SHORT_SECONDS)
        said = host.run(["cat", log], timeout=_SHORT_SECONDS).text
        lines = said.splitlines()
        for line in lines[seen:] if progress else []:
            assert progress is not None  # noqa: S101  no lines without it
            progress.note(f"    {line}")
        seen = len(lines)
        if ended.exit_status == 0:
            if ended.text.strip() != "0":
                raise LabError(f"In the lab host, {module[0]} ended with status {ended.text.strip()}:\n{said}")
            return said
        if qemu.process is None:
            break
    raise LabError(f"In the lab host, {module[0]} did not end:\n{said}\n{qemu.console_tail()}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except VpmemError as failure:
        sys.exit(f"error: {failure}")
