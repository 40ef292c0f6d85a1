"""The command line of a lab host's QEMU, and what it lets other users of this machine see."""

from __future__ import annotations

import itertools
import os
import socket
import stat
from pathlib import Path

import pytest
from fake_qemu import FAKE_QEMU

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.paths import private_directory
from VpmemLibrary.lab.ports import free_port, is_free
from VpmemLibrary.lab.qemu_host import Accelerator, QemuHost
from VpmemLibrary.lab.qmp import Monitor, connect_unix
from VpmemLibrary.lab.shapes import LABEL_SIZE, REGION_SIZE, Shape
from VpmemLibrary.sizes import GiB, MiB, Size


@pytest.fixture
def qemu(tmp_path: Path) -> QemuHost:
    image = Image(tmp_path / "image")
    program = tmp_path / "image/tools/usr/bin/qemu-system-x86_64"
    program.parent.mkdir(parents=True)
    program.touch()
    directory = tmp_path / "lab-1"
    directory.mkdir()
    return QemuHost(directory, image, Accelerator("tcg"))


def test_a_region_is_a_multiple_of_16_mib_and_its_label_area_large_enough() -> None:
    assert REGION_SIZE % (16 * MiB) == 0
    assert LABEL_SIZE >= 128 << 10


def test_emulation_gets_one_cpu() -> None:
    assert Accelerator("tcg").cpus == 1


def test_kvm_gets_the_cpus_that_this_process_may_use_up_to_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for usable, cpus in (({7}, 1), ({1, 3, 5}, 3), (set(range(16)), 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, usable=usable: usable)
        assert Accelerator("kvm").cpus == cpus


def test_what_is_right_for_emulation_only_is_left_out_with_kvm(qemu: QemuHost) -> None:
    with_kvm = QemuHost(qemu.directory, qemu.image, Accelerator("kvm")).state_key
    for option in ("highres=off", "kvm.halt_poll_ns=0"):
        assert option in qemu.state_key
        assert option not in with_kvm


def test_memory_and_disks_beside_its_own_are_used(qemu: QemuHost) -> None:
    other = QemuHost(qemu.directory, qemu.image, qemu.accelerator, memory=Size(8 * GiB), disks=(Path("/d/more.ext4"),))
    assert "size=8192M" in other.state_key
    assert f"id=ram0,size={8 * GiB - 256 * MiB:d}" in other.state_key
    assert "file=/d/more.ext4,format=raw" in other.state_key
    assert qemu.state_key.count("virtio-blk-pci") == 1


def test_the_shape_is_the_same_in_every_directory_and_changes_with_the_way_of_running(qemu: QemuHost) -> None:
    other = QemuHost(qemu.directory.parent / "elsewhere/lab-2", qemu.image, qemu.accelerator)
    (same, shape) = (other.state_key.replace("vpmem-lab-2", ""), qemu.state_key.replace("vpmem-lab-1", ""))
    assert same == shape
    assert QemuHost(qemu.directory, qemu.image, Accelerator("kvm")).state_key != qemu.state_key


def test_a_host_that_takes_a_cxl_device_has_another_shape(qemu: QemuHost) -> None:
    other = QemuHost(qemu.directory, qemu.image, qemu.accelerator, cxl=True)
    assert "cxl" not in qemu.state_key
    for part in ("cxl=on", "pxb-cxl", "cxl-rp", "clearcpuid=hypervisor"):
        assert part in other.state_key


@pytest.mark.parametrize(
    ("shape", "files", "devices"),
    [
        (Shape.NVDIMM, {f"nvdimm{number}" for number in range(4)}, {"nvdimm": 4}),
        (Shape.NFIT_TEST, {f"nvdimm{number}" for number in range(4)}, {"nvdimm": 4}),
        (
            Shape.CXL,
            {f"cxl{number}{of}" for number in range(3) for of in ("", "-labels")},
            {"cxl-type3": 3, "cxl-rp": 3, "pxb-cxl": 1},
        ),
        (Shape.UNLABELED, {"pmem0", "pmem1"}, {"virtio-pmem-pci": 2}),
    ],
)
def test_each_shape_has_its_devices_and_their_files(
    shape: Shape, files: set[str], devices: dict[str, int], qemu: QemuHost
) -> None:
    host = QemuHost(qemu.directory, qemu.image, qemu.accelerator, shape=shape)
    assert {path.name for path in host.memory_files} == files
    command = host.state_key.split()
    kinds = [value.split(",")[0] for option, value in itertools.pairwise(command) if option == "-device"]
    kinds = [kind for kind in kinds if kind in {"nvdimm", "cxl-type3", "cxl-rp", "pxb-cxl", "virtio-pmem-pci"}]
    assert {kind: kinds.count(kind) for kind in kinds} == devices
    backed = [value.split("mem-path=")[1].split(",")[0] for value in command if "mem-path=" in value]
    assert set(backed) == files
    assert ("vpmem.cxl-regions=2" in command) == (shape is Shape.CXL)


def test_it_reaches_nothing_of_this_machine_and_nobody_listens_to_its_network(qemu: QemuHost) -> None:
    command = qemu.state_key.split()
    networks = [value for option, value in itertools.pairwise(command) if option == "-netdev"]
    user, private = networks
    assert "restrict=on" in user.split(",")
    assert private.startswith("stream,id=private,addr.type=unix,addr.path=,")


def test_its_files_and_sockets_are_its_user_s_alone(qemu: QemuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "tool", lambda *_: ["sh", "-c", 'for path; do :; done; touch "$path"', "qemu-img"])
    monkeypatch.setattr(QemuHost, "_command", lambda *_: FAKE_QEMU)
    before = os.umask(0o002)
    try:
        qemu.directory.rmdir()
        qemu.create(Path("base"), "raw")
        qemu.start(free_port())
    finally:
        qemu.kill()
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in qemu.directory.iterdir()}
    modes["."] = stat.S_IMODE(qemu.directory.stat().st_mode)
    assert {"disk.qcow2", "nvdimm0", "qemu.log", "qmp.sock", "arguments"} < modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").mkdir(mode=0o755)
    assert stat.S_IMODE(private_directory(tmp_path / "hosts").stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "hosts")
    with pytest.raises(LabError, match="link is not a directory of this user"):
        private_directory(tmp_path / "link")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(LabError, match="hosts is not a directory of this user"):
        private_directory(tmp_path / "hosts")


def test_a_qemu_that_cannot_start_is_an_error_with_its_words(qemu: QemuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QemuHost, "_command", lambda *_: ["sh", "-c", "echo could not open disk >&2; exit 1"])
    with pytest.raises(LabError, match="could not open disk"):
        qemu.start(free_port())
    assert qemu.process is None


def test_a_port_that_another_process_has_is_named_with_what_to_do(qemu: QemuHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            LabError,
            match=rf"Another process uses port {port} of 127\.0\.0\.1, which belongs to lab-1.*vpmem lab reset lab-1",
        ):
            qemu.start(port)
    assert is_free(port)


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
