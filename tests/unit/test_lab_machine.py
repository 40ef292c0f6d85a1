"""The machine's command line, and that no process but its own is ever ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.machine import LABEL_SIZE, REGION_SIZE, Accelerator, Machine
from VpmemLibrary.lab.qmp import Monitor, connect_unix
from VpmemLibrary.sizes import MiB


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    image = Image(tmp_path / "image")
    program = tmp_path / "image/tools/usr/bin/qemu-system-x86_64"
    program.parent.mkdir(parents=True)
    program.touch()
    directory = tmp_path / "lab-1"
    directory.mkdir()
    return Machine(directory, image, Accelerator("tcg"))


def test_a_region_is_a_multiple_of_16_mib_and_its_label_area_large_enough() -> None:
    assert REGION_SIZE % (16 * MiB) == 0
    assert LABEL_SIZE >= 128 << 10


def test_emulation_gets_one_cpu() -> None:
    assert Accelerator("tcg").cpus == 1
    assert Accelerator("kvm").cpus >= 1


def test_the_shape_is_the_same_in_every_directory_and_changes_with_the_way_of_running(machine: Machine) -> None:
    other = Machine(machine.directory.parent / "elsewhere/lab-2", machine.image, machine.accelerator)
    (same, shape) = (other.shape.replace("vpmem-lab-2", ""), machine.shape.replace("vpmem-lab-1", ""))
    assert same == shape
    assert Machine(machine.directory, machine.image, Accelerator("kvm")).shape != machine.shape


def test_what_takes_a_cxl_device_is_another_machine(machine: Machine) -> None:
    other = Machine(machine.directory, machine.image, machine.accelerator, cxl=True)
    assert "cxl" not in machine.shape
    for part in ("cxl=on", "pxb-cxl", "cxl-rp", "clearcpuid=hypervisor"):
        assert part in other.shape


def test_lab_hosts_side_by_side_share_a_private_network_and_other_labs_have_another(machine: Machine) -> None:
    beside = Machine(machine.directory.parent / "lab-2", machine.image, machine.accelerator)
    elsewhere = Machine(machine.directory.parent / "elsewhere/lab-1", machine.image, machine.accelerator)
    assert beside.private_group == machine.private_group != elsewhere.private_group


def test_a_process_that_got_the_same_number_later_is_not_the_machine(machine: Machine) -> None:
    own = psutil.Process()
    known = {"pid": own.pid, "started": own.create_time() - 60}
    (machine.directory / "process.json").write_text(json.dumps(known))
    assert machine.process is None
    machine.kill()
    assert own.is_running()


def test_its_own_process_is_ended(machine: Machine) -> None:
    child = subprocess.Popen(["sleep", "60"])
    known = {"pid": child.pid, "started": psutil.Process(child.pid).create_time()}
    (machine.directory / "process.json").write_text(json.dumps(known))
    assert machine.process is not None
    machine.kill()
    assert machine.process is None
    assert child.wait(timeout=5) == -signal.SIGKILL


def test_a_process_that_ended_and_that_nobody_collected_is_gone(machine: Machine) -> None:
    child = subprocess.Popen(["sleep", "60"])
    known = {"pid": child.pid, "started": psutil.Process(child.pid).create_time()}
    (machine.directory / "process.json").write_text(json.dumps(known))
    child.kill()
    machine.kill()
    assert machine.process is None
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    child.wait()


def test_an_unreadable_record_of_the_process_is_none(machine: Machine) -> None:
    (machine.directory / "process.json").write_text("{")
    assert machine.process is None


def test_a_qemu_that_cannot_start_is_an_error_with_its_words(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "_command", lambda *_: ["sh", "-c", "echo could not open disk >&2; exit 1"])
    with pytest.raises(LabError, match="could not open disk"):
        machine.start(1)
    assert machine.process is None


def test_a_socket_with_a_long_path_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    monkeypatch.chdir(directory)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("qmp.sock")
        server.listen()
        assert len(os.fsencode(directory / "qmp.sock")) > 108
        connect_unix(directory / "qmp.sock").close()


def test_no_monitor_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"qmp\.sock does not answer"), Monitor(tmp_path / "qmp.sock"):
        pass
