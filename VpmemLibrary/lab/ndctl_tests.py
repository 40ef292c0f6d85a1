"""Run ndctl's own tests on a lab host with the kernel's test bus. They show whether the lab host is sound.

The tests come from ndctl's source package, which is in the archive of the lab host's packages. They run unchanged, and
the downloaded package is removed afterwards. Run this module as ``python -m VpmemLibrary.lab.ndctl_tests [TEST ...]``.
It prints the result of each test, and exits with 1 if a test failed.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from VpmemLibrary.errors import CommandTimeoutError, LabError, VpmemError
from VpmemLibrary.lab.lab import Lab
from VpmemLibrary.lab.progress import Progress, default_progress
from VpmemLibrary.lab.recipe import Sources, find_sources
from VpmemLibrary.lab.shapes import Shape
from VpmemLibrary.lab.tools import run_tool
from VpmemLibrary.transport.base import Transport

TEST_SECONDS = 900.0
"""Seconds within which a test must end. The longest test takes two minutes on an emulated lab host."""

_SKIPPED = 77
_USES_TEST_BUS = re.compile(r"^modprobe nfit_test$|/security\.sh nfit$", re.MULTILINE)
_FETCH_SECONDS = 300.0
_PACKAGES = ("jq", "libjq1", "libonig5", "xxd", "bsdextrautils", "uuid-runtime", "parted", "libparted2t64")
_NOT_HERE = {
    # The cookie of a region is made of its DIMMs' serial numbers and its offsets in them (drivers/acpi/nfit/core.c,
    # acpi_nfit_init_interleave_set).
    "label-compat.sh": "its labels have the cookie of DIMMs of 32 MiB, and the lab host's DIMMs have 256 MiB",
}
"""Tests that cannot pass on a lab host, with the reason."""
_TREE = "/root/ndctl"
# The tests look for the programs in the source directory, as after a build, and load nfit_test by its name.
_PREPARE = f"""
set -e
cd {_TREE}
dpkg --force-depends --install *.deb
for program in ndctl daxctl cxl; do mkdir $program; ln -s /usr/bin/$program $program/$program; done
modules=/usr/lib/modules/$(uname -r)
mkdir -p "$modules/updates"
cp /usr/lib/vpmem/test-bus-modules/*.ko "$modules/updates"
depmod
"""


def fetch(sources: Sources, directory: Path) -> None:
    """Download ndctl's source and the packages that its tests need into a directory.

    Raises:
        LabError: apt-get failed, or this machine's apt uses no Debian archive.
    """
    if not sources.lines:
        raise LabError("This machine's apt uses no Debian archive. Name one: VPMEM_LAB_MIRROR=URI")
    lists, cache = directory / "lists", directory / "cache"
    for path in (lists / "partial", cache / "archives/partial"):
        path.mkdir(parents=True)
    both = [re.sub(r"^deb\b", kind, line) for kind in ("deb", "deb-src") for line in sources.lines]
    (directory / "sources.list").write_text("\n".join(both) + "\n")
    settings = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": lists,
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": cache,
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    (directory / "apt.conf").write_text("\n".join([*lines, *sources.settings]) + "\n")
    for arguments in (
        ["update"],
        ["--only-source", "--download-only", "--tar-only", "source", "ndctl"],
        ["download", *_PACKAGES],
    ):
        run_tool(
            ["env", "-C", str(directory), "apt-get", "--quiet", *arguments],
            "download ndctl's tests",
            timeout=_FETCH_SECONDS,
            environment={"APT_CONFIG": str(directory / "apt.conf")},
        )


def pack(directory: Path) -> tuple[Path, list[str]]:
    """Pack ndctl's tests and the downloaded packages for the lab host.

    Returns:
        The tar archive, and the names of the tests that use the test bus and need no compiled program.

    Raises:
        LabError: The directory has no source of ndctl, or its source has no such test.
    """
    archive = next(directory.glob("ndctl_*.orig.tar.*"), None)
    if archive is None:
        raise LabError(f"apt-get downloaded no source of ndctl into {directory}.")
    with tarfile.open(archive) as source:
        source.extractall(directory, filter="data")
    (tests,) = directory.glob("ndctl-*/test")
    texts = {path.name: path.read_text("utf-8", "replace") for path in sorted(tests.glob("*.sh"))}
    names = [name for name, text in texts.items() if _USES_TEST_BUS.search(text)]
    names = [name for name in names if "$TEST_PATH" not in texts[name]]  # the directory of compiled programs
    if not names:
        raise LabError(f"{archive.name} has no test for nfit_test.")
    packed = directory / "tests.tar"
    with tarfile.open(packed, "w") as target:
        target.add(tests, "test")
        for package in directory.glob("*.deb"):
            target.add(package, package.name)
    return packed, names


def run_test(host: Transport, name: str) -> tuple[str, str]:
    """Run one of the tests on the lab host.

    Returns:
        ``passed``, ``skipped`` or ``FAILED``, and the last lines of the output if the test did not pass.
    """
    if name in _NOT_HERE:
        return "skipped", _NOT_HERE[name]
    try:
        result = host.run(["sh", "-c", f"cd {_TREE}/test && ./{name} 2>&1"], timeout=TEST_SECONDS)
    except CommandTimeoutError as error:
        return "FAILED", str(error)
    output = "\n".join(result.text.strip().splitlines()[-12:])
    if result.exit_status == 0:
        return "passed", ""
    return ("skipped" if result.exit_status == _SKIPPED else "FAILED"), output


@contextmanager
def _host(progress: Progress) -> Iterator[Transport]:
    lab = Lab(progress)
    if lab.hosts():
        raise LabError(f"{lab.directory} has lab hosts, which the tests would change: vpmem lab down")
    try:
        (host,) = lab.up(1, shape=Shape.NFIT_TEST)
        with host.transport() as transport:
            yield transport
    finally:
        lab.down()


def main(wanted: Collection[str]) -> int:
    """Run the tests, by default all, and return the exit status."""
    progress = default_progress()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with progress.step("downloading ndctl's tests", 20):
            fetch(find_sources(), directory)
        packed, names = pack(directory)
        content = packed.read_bytes()
    if unknown := set(wanted) - set(names):
        raise LabError(f"ndctl has no test {', '.join(sorted(unknown))} that runs here. There are: {', '.join(names)}")
    failed = 0
    with _host(progress) as host:
        host.run(["mkdir", "-p", _TREE]).check()
        host.run(["tar", "-C", _TREE, "-xf", "-", "--no-same-owner"], stdin=content).check()
        host.run(["sh", "-c", _PREPARE], timeout=_FETCH_SECONDS).check()
        for test in [test for test in names if not wanted or test in wanted]:
            result, output = run_test(host, test)
            failed += result == "FAILED"
            print(f"{result}  {test}", *(f"    {line}" for line in output.splitlines()), sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except VpmemError as failure:
        sys.exit(f"error: {failure}")
