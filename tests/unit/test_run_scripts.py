"""Runs of the suites by the project's scripts: what they leave to look at, and what becomes of one that is killed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAMS = {
    # Keeps a journal, and lab hosts as directories.
    "vpmem": """\
echo "vpmem $*" >>"$JOURNAL"
case "$1 $2" in
    "lab up") mkdir -p "$VPMEM_STATE/hosts/lab-1" ;;
    "lab down") rm -rf "$VPMEM_STATE/hosts" ;;
    "lab hosts-file") mkdir -p "$(dirname "${!#}")" && echo '[lab-1]' >"${!#}" ;;
    "hosts --count") echo 1 ;;
esac
""",
    # Says that it runs, and waits as long as it is wanted.
    "pabot": """\
trap 'echo "pabot is interrupted" >>"$JOURNAL"; exit 253' INT
echo "pabot $*" >>"$JOURNAL"
called=$*
while (($#)); do [[ $1 = --outputdir ]] && mkdir -p "$2/pabot_results/0" && touch "$2/output.xml"; shift; done
[[ $called != *hx-06* ]] || exit "$ROUGH_STATUS"
echo runs >"$STARTED"
[[ -z $WAITS ]] || { while :; do read -r -t 1 <>"$NEVER" || true; done; }
""",
    "rebot": """\
while (($#)); do
    [[ $1 = --outputdir ]] && directory=$2
    [[ $1 = --output ]] && output=$2
    [[ $1 = --log && $2 = NONE ]] && no_log=yes
    shift
done
cd "$directory" && touch "$output"
[[ -n ${no_log:-} ]] || touch log.html report.html
""",
    "robot": 'exit "$SELECTS"\n',
    "python": "",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the real scripts and programs that only say what they are asked for."""
    shutil.copytree(SCRIPTS, tmp_path / "project" / "scripts")
    bin_directory = tmp_path / "project" / ".venv" / "bin"
    bin_directory.mkdir(parents=True)
    for name, script in PROGRAMS.items():
        (bin_directory / name).write_text(f"#!/bin/bash\n{script}")
        (bin_directory / name).chmod(0o755)
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "never")
    return tmp_path / "project"


class Start(Protocol):
    """Starts a run with variables of the environment; its pabot may go on until it is interrupted."""

    def __call__(self, *, waits: bool = False, **environment: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    runs: list[subprocess.Popen[str]] = []

    def started(*, waits: bool = False, **environment: str) -> subprocess.Popen[str]:
        places = {name.upper(): str(project.parent / name) for name in ("journal", "started", "never")}
        run = subprocess.Popen(
            [project / "scripts" / "acceptance"],
            env={
                "PATH": os.environ["PATH"],
                "SELECTS": "252",
                "ROUGH_STATUS": "0",
                **places,
                "WAITS": "yes" if waits else "",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        runs.append(run)
        return run

    yield started
    for run in runs:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def wait_for_pabot(project: Path) -> None:
    started = os.open(project.parent / "started", os.O_RDWR)  # for writing as well: it waits for no writer then
    try:
        assert select.select([started], [], [], 60)[0], "pabot was not started"
        assert os.read(started, 100) == b"runs\n"
    finally:
        os.close(started)


def end(run: subprocess.Popen[str]) -> str:
    said, _ = run.communicate(timeout=60)
    return said


def journal(project: Path) -> list[str]:
    return (project.parent / "journal").read_text().splitlines()


def test_what_a_person_opens_is_at_the_top_and_all_else_below(start: Start, project: Path) -> None:
    (project / "results").mkdir()
    (project / "results" / "old.xml").touch()
    run = start()
    wait_for_pabot(project)
    said = end(run)
    assert run.returncode == 0, said
    top = {path.name for path in (project / "results").iterdir()}
    assert top == {".running", "log.html", "report.html", "leaks.txt", "details"}
    assert (project / "results" / "details" / "output.xml").is_file()
    assert (project / "results" / "details" / "suites" / "pabot_results" / "0").is_dir()
    assert f"log:    {project}/results/log.html" in said


def test_a_run_ends_the_lab_that_it_started_and_no_other(start: Start, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "users-own"
    (other / "hosts" / "lab-1").mkdir(parents=True)
    run = start(VPMEM_STATE=str(other))
    wait_for_pabot(project)
    said = end(run)
    assert run.returncode == 0, said
    assert journal(project)[0] == "vpmem lab up --hosts 3 --shape nvdimm --release trixie"
    assert journal(project)[-1] == "vpmem lab down"
    assert (other / "hosts" / "lab-1").is_dir()
    assert not (project / ".lab" / "hosts").exists()


def test_a_run_on_another_kind_of_lab_host_has_results_of_its_own(start: Start, project: Path) -> None:
    (project / "results" / "runs" / "bookworm").mkdir(parents=True)
    run = start(SHAPE="cxl")
    wait_for_pabot(project)
    end(run)
    assert journal(project)[0] == "vpmem lab up --hosts 3 --shape cxl --release trixie"
    (pabot,) = [line for line in journal(project) if line.startswith("pabot")]
    assert "--settag hx-02" in pabot
    assert {path.name for path in (project / "results" / "runs").iterdir()} == {"bookworm", "cxl"}
    assert (project / "results" / "runs" / "cxl" / "log.html").is_file()


@pytest.mark.parametrize(
    "given",
    [{"SHAPE": "round"}, {"RELEASE": "sid"}, {"SHAPE": "cxl", "RELEASE": "forky"}, {"SHAPE": "cxl", "HOSTS": "x"}],
)
def test_a_kind_of_lab_host_that_does_not_exist_is_refused(given: dict[str, str], start: Start, project: Path) -> None:
    run = start(**given)  # type: ignore[arg-type]
    said = end(run)
    assert run.returncode == 2, said
    assert "SHAPE" in said
    assert not (project.parent / "journal").exists()


def test_a_run_on_hosts_starts_no_lab(start: Start, project: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.dat"
    hosts.touch()
    run = start(HOSTS=str(hosts))
    wait_for_pabot(project)
    end(run)
    assert not any(line.startswith("vpmem lab") for line in journal(project))
    assert any(f"--variable HOSTS:{hosts} " in line for line in journal(project))


def test_the_next_run_takes_down_the_lab_of_one_that_was_killed_and_says_so(start: Start, project: Path) -> None:
    killed = start(waits=True)
    wait_for_pabot(project)
    killed.send_signal(signal.SIGKILL)
    end(killed)  # its output ends when pabot, which has it too, has ended
    assert journal(project)[-1] == "pabot is interrupted"
    assert (project / ".lab" / "hosts" / "lab-1").is_dir()
    run = start()
    wait_for_pabot(project)
    said = end(run)
    assert run.returncode == 0, said
    assert "An earlier run was killed and left its lab: it is taken down." in said
    assert journal(project)[-1] == "vpmem lab down"
    assert not (project / ".lab" / "hosts").exists()


def test_a_second_run_beside_the_first_is_refused_and_changes_nothing(start: Start, project: Path) -> None:
    first = start(waits=True)
    wait_for_pabot(project)
    before = journal(project)
    second = start()
    said = end(second)
    assert second.returncode == 2
    assert f"A run of this directory is still going on: process {first.pid}" in said
    assert journal(project) == before
    assert (project / ".lab" / "hosts" / "lab-1").is_dir()
    first.kill()
    end(first)


ROUGH_SUITES = ("host_setup", "namespace_modes", "guest_on_devdax", "claims", "persistence", "content")


def rough_runs(project: Path) -> list[str]:
    return [line for line in journal(project) if line.startswith("pabot") and "--settag hx-06" in line]


def test_a_run_on_the_lab_runs_some_suites_again_by_the_rough_entries(start: Start, project: Path) -> None:
    run = start(SELECTS="0", ROBOT_OPTIONS="--loglevel TRACE")
    wait_for_pabot(project)
    said = end(run)
    assert run.returncode == 0, said
    hosts = project / "results/details/rough/hosts.dat"
    assert f"vpmem lab hosts-file --rough {hosts}" in journal(project)
    (rough,) = rough_runs(project)
    assert f"--variable HOSTS:{hosts} --loglevel TRACE" in rough
    assert rough.endswith(" ".join(f"suites/{name}.robot" for name in ROUGH_SUITES))
    assert all((SCRIPTS.parent / f"suites/{name}.robot").is_file() for name in ROUGH_SUITES)


def test_a_failure_by_the_rough_entries_fails_the_run(start: Start, project: Path) -> None:
    run = start(SELECTS="0", ROUGH_STATUS="3")
    wait_for_pabot(project)
    end(run)
    assert run.returncode == 3


@pytest.mark.parametrize(
    ("rough", "suites", "selects"), [("no", "", "0"), ("", "suites/labels.robot", "0"), ("", "", "252")]
)
def test_a_run_is_not_by_the_rough_entries_where_it_is_not_wanted(
    rough: str, suites: str, selects: str, start: Start, project: Path
) -> None:
    run = start(ROUGH=rough, SUITES=suites, SELECTS=selects)
    wait_for_pabot(project)
    said = end(run)
    assert run.returncode == 0, said
    assert rough_runs(project) == []


def test_a_run_by_the_rough_entries_alone_can_be_asked_for(start: Start, project: Path) -> None:
    run = start(SELECTS="0", ROUGH="claims", SUITES="suites/claims.robot")
    wait_for_pabot(project)
    said = end(run)
    assert run.returncode == 0, said
    (rough,) = rough_runs(project)
    assert rough.endswith(" suites/claims.robot")


def test_rough_entries_on_hosts_of_ones_own_are_refused(start: Start, tmp_path: Path) -> None:
    run = start(HOSTS=str(tmp_path / "hosts.dat"), ROUGH="claims")
    assert "ROUGH needs the lab" in end(run)
    assert run.returncode == 2


def test_tests_alone_are_chosen_by_the_seed(tmp_path: Path) -> None:
    suite = tmp_path / "suite.robot"
    names = [f"Number {number} [of] *?" for number in range(9)]
    suite.write_text("*** Test Cases ***\n" + "".join(f"{name}\n    Log    {name}\n" for name in names))

    def chosen(seed: str) -> list[str]:
        environment = {**os.environ, "SEED": seed, "TESTS": "3", "RESULTS": str(tmp_path), "ROBOT_OPTIONS": ""}
        run = subprocess.run(
            [sys.executable, SCRIPTS / "chosen_tests", suite],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.count("1 test, 1 passed, 0 failed") >= 3
        return [line for line in run.stdout.splitlines() if "| PASS |" in line and line.startswith("Number")]

    first = chosen("1")
    assert len(set(first)) == 3
    assert chosen("1") == first
    assert chosen("2") != first


def test_a_test_that_fails_alone_fails_the_run(tmp_path: Path) -> None:
    suite = tmp_path / "suite.robot"
    suite.write_text("*** Test Cases ***\nFails\n    Fail    alone\n")
    environment = {**os.environ, "SEED": "1", "RESULTS": str(tmp_path), "ROBOT_OPTIONS": ""}
    run = subprocess.run(
        [sys.executable, SCRIPTS / "chosen_tests", suite], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "failed alone: Fails (suite.robot)" in run.stderr
