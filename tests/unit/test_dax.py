"""Device DAX as RAM and back: what is predicted, refused, proven and undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded_host import RecordedHost, left, recorded

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    DeviceBusyError,
    InvalidValueError,
    NotFoundError,
    OutOfSpaceError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.pmem.dax.daxctl import DaxDevices
from VpmemLibrary.pmem.dax.memory import read_dax_memory, total_memory
from VpmemLibrary.pmem.decode import DAX_REGIONS_COMMAND, decode_dax_regions
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.prediction import predict_memory_growth
from VpmemLibrary.pmem.records import DaxMode
from VpmemLibrary.sizes import GiB, KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

BLOCK = Size(128 * MiB)
WITHOUT = 4016824 * KiB
RAM = "reconfigure-device --mode=system-ram"
BACK = "reconfigure-device --mode=devdax"


def host(*, users: str = "", **answers: str | CommandResult | list[str | CommandResult]) -> RecordedHost:
    """Return a host on which dax0.0 is a device of 254 MiB and dax0.1 one of 62 MiB; some answers are other ones."""
    usual: dict[str, str | CommandResult | list[str | CommandResult]] = {
        "memory": "dax-memory-devdax",
        "module": left(0),
        "listing": "dax-listing",
        "devices": "dax-devices",
        "regions": "dax-regions",
        "dynamic": left(0),
    }
    words = {
        "memory": "auto_online",
        "module": "modprobe",
        "listing": "ndctl list",
        "devices": "daxctl list -Di",
        "regions": "daxctl list -RDi",
        "dynamic": "dax_region/create",
        "to_ram": RAM,
        "to_devdax": BACK,
        "acts_remove": "acts remove",
        "acts_resize": "acts resize",
    }
    both = {**usual, **answers}
    named = {words.get(name, name.replace("_", "-")): answer for name, answer in both.items()}
    return RecordedHost(named, users=users)


def dax(machine: RecordedHost) -> DaxDevices:
    return DaxDevices(Ndctl(machine))


@pytest.mark.parametrize(
    ("start", "size", "growth"),
    [
        (0x180200000, 254 * MiB, 128 * MiB),
        (0x180000000, 256 * MiB, 256 * MiB),
        (0x180200000, 126 * MiB, 0),
        (0x180200000, 62 * MiB, 0),
        (0x187E00000, 130 * MiB, 128 * MiB),
        (0x187E00000, 129 * MiB, 0),
    ],
)
def test_only_whole_memory_blocks_are_predicted(start: int, size: int, growth: int) -> None:
    assert predict_memory_growth([(start, start + size - 1)], BLOCK) == growth


def test_every_piece_counts_by_itself_and_a_page_map_inside_is_taken_off() -> None:
    pieces = [(0, GiB - 1), (2 * GiB + 1, 2 * GiB + BLOCK), (4 * GiB, 4 * GiB + BLOCK - 1)]
    assert predict_memory_growth(pieces, BLOCK) == GiB + BLOCK
    assert predict_memory_growth(pieces[:1], BLOCK, map_inside=True) == GiB - GiB // 64


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 36), st.sampled_from([128 * MiB, 256 * MiB, 2 * GiB]))
def test_a_prediction_is_whole_blocks_and_loses_less_than_two(start: int, size: int, block: int) -> None:
    growth = predict_memory_growth([(start, start + size - 1)], Size(block))
    assert growth % block == 0
    assert size - 2 * block < growth <= size


def test_the_kernels_word_of_a_device() -> None:
    memory = read_dax_memory(host(), "dax0.0")
    assert (memory.mode, memory.driver, memory.size) == (DaxMode.devdax, "device_dax", 254 * MiB)
    assert (memory.block_size, memory.blocks, memory.auto_online) == (BLOCK, (), "online")
    assert (memory.ranges, memory.growth) == (((0x180200000, 0x18FFFFFFF),), BLOCK)
    assert memory.total == WITHOUT
    assert memory.state == "devdax"


@pytest.mark.parametrize(
    ("state", "online", "movable", "grown"),
    [("normal", 1, False, BLOCK), ("movable", 1, True, BLOCK), ("offline", 0, True, 0)],
)
def test_the_kernels_word_of_system_ram(state: str, online: int, movable: bool, grown: int) -> None:
    memory = read_dax_memory(host(memory=f"dax-memory-{state}"), "dax0.0")
    assert memory.mode is DaxMode.system_ram
    assert (memory.online, memory.movable, memory.all_offline) == (online, movable, not online)
    assert [block.number for block in memory.blocks] == [0x188000000 // BLOCK]
    assert memory.total == WITHOUT + grown
    assert memory.state == f"system-ram, {online} of 1 memory blocks of 128MiB online"


def test_one_that_no_driver_holds_is_disabled_and_one_that_is_not_there_names_the_others() -> None:
    disabled = read_dax_memory(host(memory="dax-memory-disabled"), "dax0.1")
    assert (disabled.mode, disabled.state, disabled.growth) == (None, "disabled", 0)
    with pytest.raises(NotFoundError, match=r"There are: dax0\.0, dax0\.1"):
        read_dax_memory(host(memory="dax-memory-absent"), "dax9.9")


def test_a_block_that_is_going_offline_is_neither_online_nor_offline() -> None:
    printed = recorded("dax-memory-movable")
    going = replace(printed, stdout=printed.stdout.replace(b"49 online Movable", b"49 going-offline Movable"))
    memory = read_dax_memory(host(memory=going), "dax0.0")
    assert (memory.online, memory.all_offline) == (0, False)


def test_what_only_root_is_told_is_missed() -> None:
    printed = recorded("dax-memory-devdax")
    hidden = replace(printed, stdout=printed.stdout.replace(b"range=6444548096 6710886399", b""))
    with pytest.raises(CommandError, match=r"did not report the address of dax0\.0"):
        read_dax_memory(host(memory=hidden), "dax0.0")
    with pytest.raises(CommandError, match="no MemTotal"):
        total_memory(RecordedHost({"awk": left(0)}))


def test_regions_are_read_and_only_the_kernel_says_which_are_dynamic() -> None:
    assert recorded("dax-regions").argv == DAX_REGIONS_COMMAND
    regions = decode_dax_regions(recorded("dax-regions"))
    assert sorted((region.id, region.devices[0].chardev, int(region.size)) for region in regions) == [
        (0, "dax0.0", 254 * MiB),
        (0, "dax0.1", 62 * MiB),
    ]
    assert not any(region.dynamic for region in dax(host()).regions())
    dynamic = dax(host(dynamic=left(0, regions[0].path + "\n"))).regions()
    assert [region.dynamic for region in dynamic] == [True, False]
    assert dax(host(regions=left(0))).regions() == ()


@pytest.mark.parametrize("which", ["ram", "dax0.0", "/dev/dax0.0", "namespace0.0"])
def test_an_instance_is_found_by_its_name_and_by_its_namespace(which: str) -> None:
    assert dax(host()).device(which).chardev == "dax0.0"
    namespace = dax(host()).namespace(which)
    assert namespace is not None
    assert namespace.name == "ram"


def test_a_namespace_without_an_instance_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="an active namespace of mode devdax"):
        dax(host(listing="modes")).memory("of-fsdax")
    with pytest.raises(NotFoundError, match=r"dax9\.9"):
        dax(host()).device("dax9.9")


def test_what_the_kernel_put_into_another_zone_is_moved_by_offline_and_online() -> None:
    machine = host(
        to_ram="dax-system-ram",
        offline_memory="dax-offline",
        online_memory="dax-online",
        memory=["dax-memory-devdax", "dax-memory-normal", "dax-memory-offline", "dax-memory-movable"],
    )
    after = dax(machine).to_system_ram("ram")
    assert (after.online, after.movable, after.total) == (1, True, WITHOUT + BLOCK)
    assert machine.changes == [
        "daxctl reconfigure-device --mode=system-ram --force @node@",
        "daxctl offline-memory @node@",
        "daxctl online-memory @node@",
    ]
    ram = Ndctl(machine).namespace("ram").label_uuid
    assert {act.targets for act in machine.acts} == {(f"-n {ram}",)}
    assert [act.unused for act in machine.acts] == [True, False, False]


def test_where_the_kernel_leaves_it_to_others_nothing_is_forced() -> None:
    printed = recorded("dax-memory-devdax")
    machine = host(
        to_ram="dax-system-ram",
        memory=[
            replace(printed, stdout=printed.stdout.replace(b"auto_online=online", b"auto_online=offline")),
            "dax-memory-movable",
        ],
    )
    dax(machine).to_system_ram("ram", timeout=5)
    assert machine.changes == ["daxctl reconfigure-device --mode=system-ram @node@"]


def test_system_ram_may_stay_offline_or_be_not_movable() -> None:
    machine = host(
        to_ram="dax-system-ram",
        offline_memory="dax-offline",
        memory=["dax-memory-devdax", "dax-memory-normal", "dax-memory-offline"],
    )
    assert dax(machine).to_system_ram("ram", online=False).all_offline
    assert machine.changes[0] == "daxctl reconfigure-device --mode=system-ram --no-online --force @node@"
    machine = host(to_ram="dax-system-ram", memory=["dax-memory-devdax", "dax-memory-normal"])
    assert not dax(machine).to_system_ram("ram", movable=False).movable
    assert machine.changes == ["daxctl reconfigure-device --mode=system-ram --no-movable @node@"]


def test_one_that_is_as_asked_for_is_left_alone() -> None:
    machine = host(memory="dax-memory-movable")
    assert dax(machine).to_system_ram("ram").online == 1
    assert dax(machine).online("ram").online == 1
    assert dax(host(memory="dax-memory-offline")).offline("ram").all_offline
    assert dax(host()).to_devdax("ram").mode is DaxMode.devdax
    assert machine.changes == []


def small(printed: CommandResult) -> CommandResult:
    return replace(printed, stdout=printed.stdout.replace(b"6444548096 6710886399", b"6712983552 6777995263"))


def without_blocks(printed: CommandResult) -> CommandResult:
    return replace(printed, stdout=printed.stdout.replace(b"block_size=8000000", b"block_size="))


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ({"memory": small(recorded("dax-memory-devdax"))}, InvalidValueError, "a whole memory block of 128MiB"),
        ({"memory": without_blocks(recorded("dax-memory-devdax"))}, UnsupportedError, "CONFIG_MEMORY_HOTPLUG"),
        ({"module": left(1)}, UnsupportedError, "no module kmem"),
        ({"users": "process 7 (qemu-system-x86)\n"}, BusyError, r"dax0\.0 \(ram .* is in use on .*process 7"),
    ],
)
def test_what_cannot_be_ram_is_refused_before_anything_is_changed(
    answers: dict[str, Any], error: type[VpmemError], text: str
) -> None:
    machine = host(**answers)
    with pytest.raises(error, match=text):
        dax(machine).to_system_ram("ram")
    assert machine.changes == []


@pytest.mark.parametrize(
    ("failure", "error", "text"),
    [
        ("dax-too-small", CommandError, r"Could not make dax0\.0 .* system RAM: .*EINVAL.* is now devdax"),
        ("dax-reconfigure-absent", CommandError, r"though daxctl exited 0\. dax0\.0 .* is now devdax"),
        ("dax-auto-online", DeviceBusyError, "is now devdax"),
    ],
)
def test_a_failed_change_leaves_a_device_and_tells_so(failure: str, error: type[CommandError], text: str) -> None:
    machine = host(
        to_ram=failure,
        to_devdax="dax-back",
        memory=["dax-memory-devdax", "dax-memory-disabled", "dax-memory-disabled", "dax-memory-devdax"]
        if failure == "dax-reconfigure-absent"
        else ["dax-memory-devdax", "dax-memory-disabled", "dax-memory-devdax"],
    )
    with pytest.raises(error, match=text):
        dax(machine).to_system_ram("ram")
    assert machine.changes[-1] == "daxctl reconfigure-device --mode=devdax @node@"


def test_memory_without_a_numa_node_is_named_as_the_cause() -> None:
    """VMware and some firmware assign no NUMA node, so the kernel's kmem refuses the instance."""
    listed = '[{"chardev":"dax0.0","size":266338304,"align":2097152,"mode":"devdax"}]'
    refused = left(237, stderr="libdaxctl: daxctl_dev_enable: dax0.0: failed to enable")
    machine = host(
        to_ram=refused,
        to_devdax="dax-back",
        memory=["dax-memory-devdax", "dax-memory-disabled", "dax-memory-devdax"],
        devices=left(0, listed),
    )
    with pytest.raises(CommandError, match=r"is now devdax\. daxctl lists no target_node for it"):
        dax(machine).to_system_ram("ram")


def test_it_becomes_a_device_by_way_of_offline() -> None:
    machine = host(
        offline_memory="dax-offline",
        to_devdax="dax-back",
        memory=["dax-memory-movable", "dax-memory-offline", "dax-memory-devdax"],
    )
    assert dax(machine).to_devdax("ram").mode is DaxMode.devdax
    assert machine.changes == ["daxctl offline-memory @node@", "daxctl reconfigure-device --mode=devdax @node@"]


def test_daxctls_own_refusal_is_passed_on_unless_forced() -> None:
    machine = host(to_devdax="dax-back-online", memory="dax-memory-movable")
    with pytest.raises(DeviceBusyError, match=r"1 of 1 memory blocks .*: the device is in use \(EBUSY\)(.|\n)*240"):
        dax(machine).to_devdax("ram", force=False)
    with pytest.raises(CommandError, match="though daxctl exited 0: it is system-ram"):
        dax(host(to_devdax="dax-reconfigure-absent", memory="dax-memory-offline")).to_devdax("ram")


@pytest.mark.parametrize("failure", [left(-15), left(240, stderr="failed to offline memory"), "dax-offline"])
def test_memory_that_cannot_be_moved_is_online_again_and_the_state_told(failure: CommandResult | str) -> None:
    printed = recorded("dax-memory-movable")
    going = replace(printed, stdout=printed.stdout.replace(b"49 online Movable", b"49 going-offline Movable"))
    machine = host(
        offline_memory=failure,
        online_memory="dax-online",
        memory=["dax-memory-movable", going, "dax-memory-movable"],
    )
    with pytest.raises(
        DeviceBusyError, match=r"cannot be moved\. No content is lost: .* 1 of 1 .* online in zone Movable"
    ):
        dax(machine).offline("ram", timeout=5)
    assert machine.changes == ["daxctl offline-memory @node@", "daxctl online-memory @node@"]


def test_online_is_proven() -> None:
    with pytest.raises(CommandError, match="0 of 1 memory blocks of 128MiB online though daxctl exited 0"):
        dax(host(online_memory="dax-online", memory="dax-memory-offline")).online("ram")
    with pytest.raises(UnsupportedError, match="not movable: put it offline first"):
        dax(host(memory="dax-memory-normal")).online("ram")
    for change in (DaxDevices.online, DaxDevices.offline):
        with pytest.raises(UnsupportedError, match="it has no memory to put online or offline"):
            change(dax(host()), "ram")


def test_a_namespace_is_released_only_from_system_ram() -> None:
    machine = host()
    namespace = Ndctl(machine).namespace("ram")
    assert not dax(machine).release(namespace)
    assert not dax(machine).release(replace(namespace, chardev=""))
    assert machine.changes == []
    ram: dict[str, object] = {"daxregion": {"devices": [{"chardev": "dax0.0", "mode": "system-ram"}]}}  # ndctl 81
    for listed in (ram, {}):  # whether it is, the kernel is asked: here it is not
        asked = len(machine.asked)
        assert not dax(machine).release(replace(namespace, extra=listed))
        assert len(machine.asked) > asked
    machine = host(
        offline_memory="dax-offline",
        to_devdax="dax-back",
        memory=["dax-memory-movable", "dax-memory-movable", "dax-memory-offline", "dax-memory-devdax"],
    )
    assert dax(machine).release(replace(namespace, extra=ram))


@pytest.mark.parametrize(
    "change",
    [
        lambda devices: devices.create("0", size=Size(16 * MiB)),
        lambda devices: devices.resize("dax0.1", Size(16 * MiB)),
        lambda devices: devices.destroy("dax0.1"),
    ],
)
def test_a_static_region_is_left_as_it_is(change: Callable[[DaxDevices], object]) -> None:
    """What daxctl itself would do is recorded: it exits 228 or 250, and destroy leaves the instance disabled."""
    assert [recorded(f"dax-{name}-static").exit_status for name in ("create", "resize", "destroy")] == [228, 250, 250]
    assert read_dax_memory(host(memory="dax-memory-disabled"), "dax0.1").mode is None
    machine = host()
    with pytest.raises(UnsupportedError, match="is static"):
        change(dax(machine))
    assert machine.changes == []


def dynamic(*, users: str = "", **answers: str | CommandResult | list[str | CommandResult]) -> RecordedHost:
    """Return a host that booted with special-purpose memory: a dynamic region of 512 MiB."""
    usual: dict[str, str | CommandResult | list[str | CommandResult]] = {
        "regions": "dynamic-regions-created",
        "devices": "dynamic-devices-two",
        "memory": "dax-memory-dynamic",
        "dynamic": left(0, "/platform/hmem.4\n"),
        "listing": left(0),
        "create_device": "dynamic-create",
        "acts_remove": "dynamic-destroy",
    }
    return host(users=users, **{**usual, **answers})


def test_an_instance_is_cut_from_a_dynamic_region_and_proven() -> None:
    machine = dynamic(regions="dynamic-regions", devices=["dynamic-devices", "dynamic-devices-created"])
    made = dax(machine).create("4", size=Size(64 * MiB))
    assert (made.chardev, made.size) == ("dax4.1", 64 * MiB)
    assert machine.changes == ["daxctl create-device --region=4 --size=67108864"]
    assert machine.acts[0].targets == ("-k dax4",)
    (region,) = dax(dynamic()).regions()
    assert (region.dynamic, region.available_size) == (True, 416 * MiB)
    with pytest.raises(CommandError, match="new instances: none"):
        dax(dynamic(devices="dynamic-devices")).create(region)
    with pytest.raises(CommandError, match=r"new instances: dax4\.1 of 64MiB"):
        dax(dynamic(devices=["dynamic-devices", "dynamic-devices-created"])).create(region, size=Size(32 * MiB))
    with pytest.raises(InvalidValueError, match="a multiple of 2MiB"):
        dax(dynamic()).create(region, size=Size(3 * MiB))
    with pytest.raises(OutOfSpaceError, match="416MiB available, not 512MiB"):
        dax(dynamic()).create(region, size=Size(512 * MiB))
    with pytest.raises(NotFoundError, match="No device-DAX region '7'"):
        dax(dynamic()).create("7")


def test_an_instance_of_a_dynamic_region_is_destroyed_and_resized_and_proven() -> None:
    machine = dynamic(devices="dynamic-devices")
    dax(machine).destroy("dax4.1")
    (act,) = machine.acts
    assert act.command == ("acts", "remove", "@node@")
    assert (act.targets, act.unused) == (("-p /dev/dax4.1", "-k dax4"), True)
    with pytest.raises(CommandError, match="still exists with 64MiB though daxctl exited 0"):
        dax(dynamic()).destroy("dax4.1")
    resized = replace(recorded("dynamic-devices-two"), stdout=b'[{"chardev":"dax4.1","size":33554432}]')
    answers: dict[str, Any] = {"acts_resize": left(0)}
    machine = dynamic(devices=["dynamic-devices-two", resized], **answers)
    assert dax(machine).resize("dax4.1", Size(32 * MiB)).size == 32 * MiB
    (act,) = machine.acts
    assert act.command == ("acts", "resize", "@node@", "33554432")
    assert (act.targets, act.unused) == (("-p /dev/dax4.1", "-k dax4"), True)
    with pytest.raises(CommandError, match="has 64MiB though daxctl exited 0"):
        dax(dynamic(**answers)).resize("dax4.1", Size(32 * MiB))
    with pytest.raises(OutOfSpaceError, match="can have at most 480MiB"):
        dax(dynamic()).resize("dax4.1", Size(512 * MiB))


def test_an_instance_that_could_not_be_destroyed_is_told() -> None:
    machine = dynamic(acts_remove="dax-destroy-static")
    with pytest.raises(CommandError, match=r"destroy dax4\.1"):
        dax(machine).destroy("dax4.1")


def test_system_ram_and_what_is_in_use_are_not_destroyed() -> None:
    cases: list[tuple[dict[str, str], type[VpmemError]]] = [
        ({"memory": "dax-memory-movable"}, UnsupportedError),
        ({"users": "process 7 (sleep)\n"}, BusyError),
    ]
    for answers, error in cases:
        machine = dynamic(**answers)
        with pytest.raises(error, match=r"make it a device first|process 7"):
            dax(machine).destroy("dax4.1")
        assert machine.changes == []


def test_an_instance_without_bytes_gives_no_memory() -> None:
    memory = read_dax_memory(dynamic(memory="dax-memory-without-bytes"), "dax4.0")
    assert (memory.size, memory.growth, memory.state) == (0, 0, "disabled")
