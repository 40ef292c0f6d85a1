"""A lab host of these tests' own, made, broken, cut off and removed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.image import GUEST_KEY_NAME
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.nested import boot_guest, domain_xml, end_guest, make_devdax
from VpmemLibrary.lab.process import Process
from VpmemLibrary.lab.progress import PlainLines
from VpmemLibrary.lab.report import lab_status
from VpmemLibrary.lab.shapes import REGION_SIZE, Shape
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPMEM_STATE", str(tmp_path_factory.mktemp("state")))
        found = Lab(PlainLines())
        try:
            yield found
        finally:
            found.down()


@pytest.fixture
def host(lab: Lab) -> LabHost:
    return lab.up()[0]


@pytest.fixture
def transport(host: LabHost) -> Iterator[SshTransport]:
    with host.transport() as found:
        yield found


def regions(transport: SshTransport) -> list[dict[str, object]]:
    buses = json.loads(transport.run(["ndctl", "list", "-B", "-R", "-D"]).check().text)
    return [region for bus in buses for region in bus["regions"]]


def test_a_build_makes_the_image_and_the_saved_state_and_no_host(lab: Lab) -> None:
    image, state = lab.build()
    assert (image / "root.ext4").exists()
    assert (state / "memory").exists()
    assert lab.hosts() == []


def test_it_is_a_compute_host_in_order(transport: SshTransport) -> None:
    assert transport.run(["systemctl", "is-system-running"]).text == "running\n"
    assert transport.run(["hostname"]).text == "lab-1\n"
    assert "<domain type='kvm'" in transport.run(["virsh", "capabilities"]).check().text
    # What libvirt knew of QEMU when the state was saved holds: its configuration was written at the restore.
    known = ["find", "/var/cache/libvirt/qemu/capabilities", "-name", "*.xml"]
    assert transport.run(known).check().text
    assert transport.run([*known, "-newer", "/etc/libvirt/libvirtd.conf"]).check().text == ""
    assert [region["size"] for region in regions(transport)] == [int(REGION_SIZE)] * 4
    assert "libvirt" in transport.run(["aa-status"]).check().text
    assert abs(float(transport.run(["date", "+%s.%N"]).text) - time.time()) < 30


def test_a_guest_on_devdax_answers(lab: Lab, host: LabHost) -> None:
    with lab.reset(host.name).transport() as transport:
        device, size = make_devdax(transport, "test", Size(256 * MiB))
        try:
            times = boot_guest(transport, domain_xml("test", device, size), "test")
        finally:
            end_guest(transport, "test")
    assert 0 < times.started < times.ready


def test_up_leaves_a_running_host_as_it_is(lab: Lab, host: LabHost) -> None:
    assert host.qemu.process == lab.up()[0].qemu.process


def test_a_killed_host_is_noticed_and_replaced(lab: Lab, host: LabHost) -> None:
    process = host.qemu.process
    assert process is not None
    descriptor = os.pidfd_open(process.pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    assert select.select([descriptor], [], [], 10)[0]
    os.close(descriptor)
    assert not host.alive
    assert not lab_status(lab)["ok"]
    fresh = lab.up()[0]
    assert fresh.alive
    assert fresh.qemu.process != process
    with fresh.transport() as transport:
        assert transport.run(["true"]).exit_status == 0


def test_nvdimms_survive_a_power_cut_and_a_reboot_and_a_reset_empties_them(lab: Lab) -> None:
    host = lab.reset(lab.up()[0].name)
    with host.transport() as transport:
        device, _ = make_devdax(transport, "kept", Size(64 * MiB))
        made = transport.run(["ndctl", "list", "-N"]).check().text
    host.power_cut()  # right after it was made: nothing that makes it this host may be lost
    assert not host.alive
    host.power_on()
    with host.transport() as transport:
        assert transport.run(["ndctl", "list", "-N"]).check().text == made
        assert transport.run(["systemctl", "is-system-running", "--wait"], timeout=120).text == "running\n"
        assert transport.run(["hostname"]).text == "lab-1\n"
        assert transport.run(["test", "-c", device]).exit_status == 0
        boot = transport.read_file("/proc/sys/kernel/random/boot_id")
    host.reboot()
    with host.transport() as transport:
        assert transport.read_file("/proc/sys/kernel/random/boot_id") != boot
        assert transport.run(["ndctl", "list", "-N"]).check().text == made
    with lab.reset(host.name).transport() as transport:
        assert transport.run(["ndctl", "list", "-N"]).check().text != made


def test_it_reaches_nothing_of_this_machine(transport: SshTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = str(server.getsockname()[1])
        refused = transport.run(["busybox", "nc", "-w", "3", "10.0.2.2", port], timeout=30)
        assert refused.exit_status != 0
        with pytest.raises(BlockingIOError):
            server.accept()


def test_nobody_else_can_open_what_it_is_made_of(lab: Lab, host: LabHost) -> None:
    for directory in (lab.directory, host.directory, lab.network.directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    made = ("disk.qcow2", "nvdimm0", "console.log", "console.sock", "qmp.sock", "qemu.log")
    for path in (*(host.directory / name for name in made), lab.network.directory / "lab-1.sock"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_guests_have_an_ssh_key_of_their_own(host: LabHost) -> None:
    keys = {line.split()[0]: line.split()[2] for line in host.known_hosts.read_text().splitlines()}
    of_guests = keys.pop(GUEST_KEY_NAME)
    assert keys
    assert of_guests not in keys.values()


def reaches(host: LabHost, other: LabHost) -> bool:
    ping = ["busybox", "ping", "-c", "1", "-W", "2", other.private_address]
    deadline = time.monotonic() + 60
    with host.transport() as transport:
        while transport.run(ping, timeout=30).exit_status != 0:
            if time.monotonic() > deadline:
                return False
    return True


def test_hosts_reach_each_other_after_a_power_cut_and_after_their_switch_ended(lab: Lab) -> None:
    first, second = lab.up(2)
    assert reaches(first, second)
    second.power_cut()
    second.power_on()
    assert reaches(first, second)
    lab.network.kill()
    assert not lab_status(lab)["ok"]
    assert [host.qemu.process for host in lab.up(2)] == [first.qemu.process, second.qemu.process]
    assert reaches(second, first)


def assemble(host: LabHost) -> str:
    """Assemble a region from a lab host's CXL device, and return what cxl lists of it."""
    command = ["cxl", "create-region", "--type=pmem", "--decoder=decoder0.0", "--memdevs", "mem0"]
    with host.transport() as transport:
        return transport.run(command).check().text


def test_a_host_for_cxl_is_given_a_device_and_another_in_its_place_after_a_reboot(lab: Lab) -> None:
    ordinary, host = lab.up(2, cxl=True)
    assert (ordinary.cxl, host.cxl) == (False, True)
    assert lab.up(2)[1].cxl, "a host that runs is left as it is"
    host.add_cxl_device()
    assert '"size":536870912' in assemble(host)
    host.reboot()
    host.add_cxl_device()
    assert '"size":536870912' in assemble(host)
    with host.transport() as transport:
        for step in ("disable-region", "destroy-region"):
            transport.run(["cxl", step, "all"]).check()
    host.remove_cxl_device()
    with host.transport() as transport:
        assert "CXL" not in transport.run(["ndctl", "list", "--buses"]).check().text
    with pytest.raises(LabError, match=r"lab-2 has no CXL device"):
        host.remove_cxl_device()


def namespaces(transport: SshTransport) -> list[dict[str, object]]:
    """Return the namespaces of all regions, without their device names, which a boot may change."""
    buses = json.loads(transport.run(["ndctl", "list", "-B", "-R", "-N"]).check().text)
    found = [each for bus in buses for region in bus["regions"] for each in region.get("namespaces", [])]
    return [{key: each[key] for key in ("name", "uuid", "mode", "size") if key in each} for each in found]


def test_hosts_of_other_shapes_have_two_regions_and_cxl_regions_survive_a_warm_reboot(lab: Lab) -> None:
    """Both hosts boot, because no saved state fits them. One boots while the other reboots, to save a minute."""
    running = len(lab.hosts())
    cxl = lab.up(running + 1, shape="cxl")[-1]
    with cxl.transport() as transport:
        assert [(region["size"], region["type"]) for region in regions(transport)] == [(int(REGION_SIZE), "pmem")] * 2
        device, _ = make_devdax(transport, "kept", Size(64 * MiB))
        transport.run(["daxio", f"--output={device}", "--len=4096"], stdin=b"kept".ljust(4096)).check()
        before = namespaces(transport)
    with ThreadPoolExecutor() as pool:
        rebooted = pool.submit(cxl.reboot)
        unlabeled = lab.up(running + 2, shape="unlabeled")[-1]
        rebooted.result()
    assert [lab.host(host.name).shape for host in (cxl, unlabeled)] == [Shape.CXL, Shape.UNLABELED]
    with cxl.transport() as transport:
        assert namespaces(transport) == before
        (device,) = transport.run(["find", "/dev", "-name", "dax*.*"]).check().text.split()
        assert transport.run(["daxio", f"--input={device}", "--len=4096"]).check().stdout == b"kept".ljust(4096)
    with unlabeled.transport() as transport:
        assert [region["size"] for region in regions(transport)] == [int(REGION_SIZE)] * 2
        # Without a label or an info block there is no UUID. The kernel maps this memory, so ndctl calls the mode fsdax.
        assert namespaces(transport) == [{"mode": "fsdax", "size": int(REGION_SIZE)}] * 2


def test_down_leaves_nothing(lab: Lab, host: LabHost) -> None:
    hosts = lab.hosts()
    assert host.name in [each.name for each in hosts]
    processes = [lab.network.process, *(each.qemu.process for each in hosts)]
    assert lab.down() == [each.name for each in hosts]
    for process in processes:
        assert process is not None
        with pytest.raises(ProcessLookupError):
            Process.find(process.pid)
    assert list(Path(lab.directory).iterdir()) == []
    assert lab_status(lab)["hosts"] == []
