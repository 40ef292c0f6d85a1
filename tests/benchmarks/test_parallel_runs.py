"""The same work by one, two and four workers, on one lab host and on two: by pabot, as the suites are run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ratios import timed

from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.lab.lab import Lab
from VpmemLibrary.lab.progress import default_progress
from VpmemLibrary.lab.report import hosts_file
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session

pytestmark = pytest.mark.benchmark
WORK = Path(__file__).parents[2] / "resources" / "workers" / "share_of_work.robot"
WANTED = 1.7
"""How many times as fast two workers on two hosts are as one on one, at least."""


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Path]]:
    """A hosts file with the first of two lab hosts, and one with both; their regions have labels."""
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "lab"))
    lab = Lab(default_progress())
    try:
        files = {}
        machines = lab.up(2)
        for count in (1, 2):
            files[count] = tmp_path / f"{count}.dat"
            files[count].write_text(hosts_file(machines[:count]))
        with Session(RunMark.of_this_run()) as session:
            for entry in read_hosts(files[2]):
                regions = session.open(entry).host.regions
                for region in regions.unlabeled():
                    regions.initialize_labels(region)
        yield files
    finally:
        lab.down()


def run(hosts: Path, workers: int, output: Path) -> None:
    """Have all the work done; a piece that fails is no figure."""
    command = [sys.executable, "-m", "pabot.pabot", "--processes", str(workers), "--testlevelsplit", "--no-pabotlib"]
    command += ["--outputdir", str(output), "--variable", f"HOSTS:{hosts}", str(WORK)]
    output.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # pabot starts `robot` by its name
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, cwd=output, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"


def test_the_speed_up_by_workers_and_hosts(hosts: dict[int, Path], tmp_path: Path) -> None:
    run(hosts[2], 2, tmp_path / "uncounted")  # the first start on a host is slower than any other
    seconds = {
        (workers, count): timed(partial(run, hosts[count], workers, tmp_path / f"{workers}-{count}"))
        for count in hosts
        for workers in (1, 2, 4)
    }
    one = seconds[1, 1]
    for (workers, count), took in seconds.items():
        print(f"\n{workers} workers, {count} lab hosts: {took:6.1f} s, {one / took:.2f} times as fast", end="")
    print(f" (wanted of two workers on two hosts: {WANTED})")
    assert one / seconds[2, 2] >= WANTED
