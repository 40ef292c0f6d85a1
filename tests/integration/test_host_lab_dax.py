"""Device DAX as RAM and back, and bad blocks that a machine check made, on the lab's real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_under_test import labeled
from msgspec.structs import replace

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import CommandError, UnsupportedError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.dax.memory import total_memory
from VpmemLibrary.pmem.records import DaxMode, MapLocation, Namespace, NamespaceMode
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

AUTO_ONLINE = "/sys/devices/system/memory/auto_online_blocks"
INJECT = "/sys/kernel/debug/mce-inject"
NFIT = "/sys/bus/acpi/drivers/nfit"

# An uncorrected memory error with a valid address, as bank 4 of an AMD processor tells it, of a page (2**12).
_MACHINE_CHECK = {"cpu": "0", "flags": "sw", "status": hex(0xBC << 56 | 8 << 16), "misc": "12"}


@pytest.fixture
def host(lab_transport: SshTransport) -> Host:
    return labeled(Host("lab", lab_transport))


@pytest.fixture
def region(host: Host) -> str:
    return max(host.ndctl.inventory().regions, key=lambda region: region.free_extent).dev


@pytest.fixture
def run(host: Host, request: pytest.FixtureRequest) -> Iterator[RunMark]:
    """A run whose namespaces are removed at the end, after which the host and its RAM must be as they were.

    A bad block that a machine check made stays in the kernel's list until the host reboots.
    """
    before, memory = HostState.read(host), host.dax.total_memory()
    mark = RunMark.of_this_run()
    yield mark
    clean_up(host, mark)
    after = HostState.read(host)
    if "machine_checks" in request.fixturenames:
        after = replace(after, bad_blocks=before.bad_blocks)
    assert before.difference(after) == ()
    assert host.dax.total_memory() == memory


def create(host: Host, region: str, run: RunMark, size: int, mode: NamespaceMode = NamespaceMode.devdax) -> Namespace:
    where = MapLocation.mem if mode is NamespaceMode.devdax else None
    return host.namespaces.create(region, mode=mode, size=Size(size), map_location=where, uuid=run.new_uuid())


def say(host: Host, text: str, path: str) -> None:
    host.run(["sh", "-c", 'echo "$1" >"$2"', "sh", text, path]).check()


@pytest.fixture(params=["offline", "online", "online_kernel", "online_movable"])
def policy(host: Host, request: pytest.FixtureRequest) -> Iterator[str]:
    """What the kernel does with new memory by itself: every policy that there is."""
    before = host.run(["cat", AUTO_ONLINE]).check().text.strip()
    say(host, request.param, AUTO_ONLINE)
    yield request.param
    say(host, before, AUTO_ONLINE)


@pytest.mark.usefixtures("policy")
def test_memory_is_as_asked_for_whatever_the_kernel_does_by_itself(host: Host, region: str, run: RunMark) -> None:
    namespace = create(host, region, run, 256 * MiB)
    before = total_memory(host.transport)
    for online, movable in ((True, True), (False, True), (True, False)):
        memory = host.dax.to_system_ram(namespace, online=online, movable=movable)
        assert memory.mode is DaxMode.system_ram
        assert (memory.online, memory.movable or not movable) == (len(memory.blocks) if online else 0, True)
        assert total_memory(host.transport) - before == (memory.growth if online else 0)
        assert host.dax.to_devdax(namespace).mode is DaxMode.devdax
        assert total_memory(host.transport) == before


@pytest.mark.parametrize("size", [192, 256, 400])
def test_the_growth_is_the_predicted_one(host: Host, region: str, run: RunMark, size: int) -> None:
    """At other places in the region too, so that the whole memory blocks lie otherwise."""
    create(host, region, run, 64 * MiB)
    namespace = create(host, region, run, size * MiB)
    before = host.dax.memory(namespace)
    if not before.growth:
        pytest.skip(f"{size} MiB hold no whole memory block here")
    after = host.dax.to_system_ram(namespace)
    assert after.total - before.total == before.growth == len(after.blocks) * after.block_size


def test_cleaning_up_takes_the_memory_back_first(host: Host, region: str, run: RunMark) -> None:
    namespace = create(host, region, run, 256 * MiB)
    host.dax.to_system_ram(namespace)
    assert [destroyed.label_uuid for destroyed in clean_up(host, run)] == [namespace.label_uuid]


def test_a_policy_that_refuses_unforced_is_daxctls_own(host: Host, region: str, run: RunMark) -> None:
    """What is recorded of daxctl is still so: unforced it refuses with EBUSY where the kernel puts memory online."""
    namespace = create(host, region, run, 256 * MiB)
    if not host.dax.memory(namespace).auto_online.startswith("online"):
        pytest.skip("this kernel puts no new memory online by itself")
    result = host.run(["daxctl", "reconfigure-device", "--mode=system-ram", namespace.chardev])
    assert result.exit_status == 240
    assert host.dax.memory(namespace).mode is DaxMode.devdax


@pytest.fixture
def machine_checks(host: Host) -> Iterator[None]:
    """The kernel's mce-inject module; at the end the NFIT device is bound again, which forgets all bad blocks."""
    if host.run(["modprobe", "mce-inject"]).exit_status:
        pytest.skip("this kernel has no module mce-inject")
    if "AuthenticAMD" not in host.run(["cat", "/proc/cpuinfo"]).check().text:
        pytest.skip("the machine check is one of an AMD processor")
    (device,) = host.run(["sh", "-c", 'cd "$1" && ls -d ACPI*', "sh", NFIT]).check().text.split()
    yield
    host.run(["modprobe", "-r", "mce-inject"]).check()
    say(host, device, f"{NFIT}/unbind")
    say(host, device, f"{NFIT}/bind")
    host.run(["udevadm", "settle"]).check()


def hurt(host: Host, address: int) -> None:
    """Make a page bad by a machine check that only the kernel sees."""
    for name, value in {**_MACHINE_CHECK, "addr": hex(address), "bank": "4"}.items():
        say(host, value, f"{INJECT}/{name}")
    listed = "until grep -q . /sys/bus/nd/devices/region*/badblocks; do sleep 0.1; done"
    host.run(["sh", "-c", listed], timeout=20).check()


def address_of(host: Host, namespace: Namespace) -> int:
    return int(host.run(["cat", f"/sys/bus/nd/devices/{namespace.dev}/resource"]).check().text, 0)


@pytest.mark.usefixtures("machine_checks")
def test_a_bad_block_is_listed_where_it_lies_and_cannot_be_read(host: Host, region: str, run: RunMark) -> None:
    neighbour = create(host, region, run, 16 * MiB)
    block = create(host, region, run, 16 * MiB, NamespaceMode.raw)
    store = ContentStore(host.transport)
    pattern = Pattern("hurt", length=block.size)
    store.write(block.device, pattern)
    store.write(neighbour.device, Pattern("hurt", length=8 * MiB))
    hurt(host, address_of(host, block) + 5 * MiB)
    (bad,) = host.health.bad_blocks(block)
    assert (bad.offset, bad.length) == (5 * MiB, 4 * KiB)
    (there,) = host.health.bad_blocks(region)
    assert bad.dimms == there.dimms == host.ndctl.region(region).dimms
    assert host.health.bad_blocks(bad.dimms[0]) == (there,)
    host.health.views(bad.dimms[0]).require()
    assert host.health.bad_blocks(neighbour) == ()
    with pytest.raises(CommandError, match="Input/output error"):
        store.verify(block.device, pattern)
    with pytest.raises(CommandError, match="Input/output error"):
        store.compare(block.device, neighbour.device, length=8 * MiB)
    store.verify(block.device, Pattern("hurt", length=5 * MiB)).require()


def test_instances_are_cut_from_a_dynamic_region(host: Host) -> None:
    """On a host booted with ``memmap=512M%0x140000000-1+0xefffffff``, its dax4.0 destroyed: not on the usual lab."""
    found = [region for region in host.dax.regions() if region.dynamic and region.available_size >= 128 * MiB]
    if not found:
        pytest.skip("no device-DAX region of this host is dynamic and has 128 MiB available")
    before = found[0]
    made = [host.dax.create(before, size=Size(64 * MiB)), host.dax.create(before, size=Size(32 * MiB))]
    assert [device.size for device in made] == [64 * MiB, 32 * MiB]
    for device in made:
        sysfs = f"/sys/bus/dax/devices/{device.chardev}/size"
        assert int(host.run(["cat", sysfs]).check().text) == device.size
    store = ContentStore(host.transport)
    pattern = Pattern("cut", length=32 * MiB)
    store.write(f"/dev/{made[0].chardev}", pattern)
    assert host.dax.resize(made[0], Size(32 * MiB)).size == 32 * MiB
    store.verify(f"/dev/{made[0].chardev}", pattern).require()
    for device in made:
        host.dax.destroy(device)
    assert host.dax.regions() == tuple(
        before if region.path == before.path else region for region in host.dax.regions()
    )


def test_the_lab_takes_no_injection(host: Host, region: str, run: RunMark) -> None:
    namespace = create(host, region, run, 16 * MiB)
    with pytest.raises(UnsupportedError, match="exit status: 161"):
        host.injection.inject_error(namespace, Size(0), Size(4 * KiB))
    with pytest.raises(UnsupportedError, match="exit status: 251"):
        host.injection.inject_smart("nmem0", spares=4)
    assert host.health.bad_blocks(namespace) == ()
