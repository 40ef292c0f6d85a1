"""Renaming, reconfiguring, and requests that a region cannot meet, on output recorded from ndctl 81."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_bad_input import message_of
from test_ndctl_changes import Machine, left, recorded

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    InvalidValueError,
    NotFoundError,
    OutOfSpaceError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.pmem.decode import decode_inventory
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.plan import plan_namespace
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import NO_DEVICE
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

DEVDAX = NamespaceMode.devdax


class Divided(Machine):
    """A machine whose region0 is divided as recorded: two gaps of 32 MiB, and what follows is free."""

    def __init__(self, *listings: CommandResult | str, room: str = "", users: str = "") -> None:
        super().__init__(*(listings or ("room-listed",)), users=users)
        self.answers["room"] = [left(0, room) if room else recorded("room")]
        self.answers["rename"] = [left(0)]

    @staticmethod
    def _kind(argv: tuple[str, ...]) -> str:
        if argv[0] == "sh" and "resource" in argv[2]:
            return "room"
        return Machine._kind(argv)

    @property
    def changed(self) -> list[tuple[str, ...]]:
        """What was run but readings, in order."""
        return [argv for argv in self.asked if self._kind(argv) != "room"]


def listed(state: str, *changes: tuple[str, str]) -> CommandResult:
    """Return a recorded listing with some of its text changed."""
    text = recorded(state).text
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return replace(recorded(state), stdout=text.encode())


def test_a_plan_tells_what_will_be_usable() -> None:
    machine = Divided()
    plan = plan_namespace(Ndctl(machine), "region0", mode=DEVDAX, size=Size(64 * MiB), name="ns_0")
    assert (plan.size, plan.usable) == (64 * MiB, 62 * MiB)
    assert plan.options == (
        *("--mode", "devdax", "--map", "dev", "--align", "2097152"),
        *("--name", "ns_0", "--size", "67108864"),
    )
    whole = plan_namespace(Ndctl(machine), "region0", mode=NamespaceMode.raw)
    assert (whole.size, whole.usable) == (None, GiB - 160 * MiB)
    assert machine.changed == []


def test_a_request_that_no_piece_can_meet_is_told_every_piece() -> None:
    listing = listed("room-listed", ('"max_available_extent":905969664', '"max_available_extent":33554432'))
    room = recorded("room").text.replace("1073741824", "167772160")
    machine = Divided(listing, room=room)
    with pytest.raises(
        OutOfSpaceError,
        match=r"has 32MiB \(.* in total, in several extents\)\. Free extents: 32MiB at 32MiB, 32MiB at 96MiB\.",
    ):
        plan_namespace(Ndctl(machine), "region0", mode=DEVDAX, size=Size(48 * MiB))


@pytest.mark.parametrize("size", [None, Size(GiB)])
def test_a_gibibyte_that_its_own_alignment_uses_up_is_refused(size: Size | None) -> None:
    machine = Divided("labeled-empty", room="region0 0x180000000 1073741824\n")
    with pytest.raises(InvalidValueError, match="more than 1GiB, the metadata and padding"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=size, align=Size(GiB))
    assert machine.changed == []


def test_with_an_alignment_of_a_gibibyte_all_is_whole_gibibytes() -> None:
    sizes = [(f'"{key}":1073741824', f'"{key}":4294967296') for key in ("size", "available_size")]
    listing = listed(
        "labeled-empty", *sizes, ('"max_available_extent":1073741824', '"max_available_extent":3489660928')
    )
    machine = Divided(listing, room=f"region0 0x180000000 {4 * GiB}\nnamespace0.0 0x180000000 {768 * MiB}\n")
    plan = plan_namespace(Ndctl(machine), "region0", mode=DEVDAX, align=Size(GiB))
    assert (plan.size, plan.usable) == (3 * GiB, 2 * GiB)  # from 6.75 to 9.75 GiB of memory
    with pytest.raises(InvalidValueError, match="expected a multiple of 1GiB"):
        plan_namespace(Ndctl(machine), "region0", mode=DEVDAX, align=Size(GiB), size=Size(64 * MiB))
    with pytest.raises(OutOfSpaceError):
        plan_namespace(Ndctl(Divided()), "region0", mode=DEVDAX, align=Size(GiB))


def test_room_that_another_took_before_it_was_placed_is_told() -> None:
    machine = Divided("labeled-empty", room="region0 0x180000000 1073741824\nnamespace0.0 0x180000000 1073741824\n")
    with pytest.raises(OutOfSpaceError, match="no room"):
        plan_namespace(Ndctl(machine), "region0", mode=DEVDAX, align=Size(GiB), size=Size(GiB))


def test_what_a_failed_create_left_is_not_taken_for_another_that_took_the_room() -> None:
    (half,) = decode_inventory(recorded("half-made")).namespaces
    full = listed("half-made", ('"available_size":1056964608', '"available_size":0'))
    full = replace(full, stdout=full.stdout.replace(b'"max_available_extent":1056964608', b'"max_available_extent":0'))
    machine = Divided("labeled-empty", full)
    machine.answers["create-namespace"] = [recorded("create-half")]
    machine.answers["destroy"] = [left(0)]
    with pytest.raises(CommandError) as caught:
        Namespaces(Ndctl(machine)).create(
            "region0", mode=NamespaceMode.sector, size=Size(16 * MiB), uuid=half.label_uuid
        )
    assert recorded("create-half").exit_status == NO_DEVICE
    assert not isinstance(caught.value, OutOfSpaceError)
    assert machine.acts[-1].command == ("acts", "destroy", "@namespace@")
    assert machine.acts[-1].targets == (f"-n {half.label_uuid}",)


def test_a_half_made_namespace_is_shown_and_told_from_the_empty_one() -> None:
    (half,) = decode_inventory(recorded("half-made")).namespaces
    assert (half.name, half.active, half.size, half.mode) == ("half", False, 0, NamespaceMode.sector)
    assert half.label_uuid == half.raw_uuid != half.uuid


def test_disabled_ones_of_every_mode_are_raw_with_their_label() -> None:
    inventory = decode_inventory(recorded("disabled-modes"))
    assert {ns.name for ns in inventory.namespaces} == {f"of-{mode}" for mode in NamespaceMode}
    for namespace in inventory.namespaces:
        assert (namespace.mode, namespace.active, namespace.device) == (NamespaceMode.raw, False, "")
        assert namespace.size == 32 * MiB
        assert namespace.label_uuid == namespace.uuid


@pytest.mark.parametrize("name", ["", "-x", "a b", "$(reboot)", "x\n", "ä", "n" * 64, "--region"])
def test_what_cannot_be_a_name_is_refused_before_anything_is_disabled(name: str) -> None:
    machine = Divided("modes")
    with pytest.raises(InvalidValueError, match="letter or digit first"):
        Namespaces(Ndctl(machine)).rename("of-devdax", name)
    assert machine.changed == []


def test_one_without_a_label_has_no_name_to_change() -> None:
    machine = Divided("unlabeled")
    (namespace,) = decode_inventory(recorded("unlabeled")).namespaces
    bare = listed("unlabeled", (f'"uuid":"{namespace.uuid}"', '"uuid":""')) if namespace.uuid else "unlabeled"
    machine = Divided(bare)
    with pytest.raises(UnsupportedError, match="no label"):
        Namespaces(Ndctl(machine)).rename(namespace.dev, "new")
    assert machine.changed == []


def test_one_in_use_keeps_its_name() -> None:
    machine = Divided("modes", users="mounted at /mnt\n")
    with pytest.raises(BusyError, match="mounted at /mnt"):
        Namespaces(Ndctl(machine)).rename("of-fsdax", "new")
    assert machine.changed == []


def off(name: str) -> CommandResult:
    """Return the recorded modes, the disabled one of them with another name."""
    return listed("modes", ('"name":"off"', f'"name":"{name}"'))


def test_a_disabled_one_is_renamed_and_stays_disabled() -> None:
    machine = Divided("modes", off("new"))
    after = Namespaces(Ndctl(machine)).rename("off", "new")
    assert (after.name, after.active) == ("new", False)
    (act,) = machine.acts
    assert act.command == ("acts", "rename", "@namespace@", "new")
    assert act.targets == (f"-n {after.label_uuid}",)
    assert act.unused


def test_one_that_a_rename_left_disabled_is_told_and_enabled_again_where_the_act_failed() -> None:
    active = listed("modes", ('"name":"of-raw"', '"name":"new"'))
    disabled = listed("modes", ('"name":"of-raw"', '"name":"new","state":"disabled"'))
    machine = Divided("modes", disabled)
    with pytest.raises(CommandError, match="was renamed to new, but it is disabled now"):
        Namespaces(Ndctl(machine)).rename("of-raw", "new")
    machine = Divided("modes", disabled, active)
    machine.answers["rename"] = [left(-9)]
    machine.answers["enable-namespace"] = [left(0)]
    with pytest.raises(CommandTimeoutError):
        Namespaces(Ndctl(machine)).rename("of-raw", "new")
    assert [act.command[1] for act in machine.acts] == ["rename", "enable-namespace"]


def test_a_name_that_the_kernel_did_not_keep_is_a_failure() -> None:
    machine = Divided("modes")
    with pytest.raises(CommandError, match="has the name 'off' though the kernel accepted 'new'"):
        Namespaces(Ndctl(machine)).rename("off", "new")
    machine = Divided("modes")
    machine.answers["rename"] = [left(2, stderr="sh: write error: Device or resource busy")]
    with pytest.raises(CommandError, match="Could not rename off"):
        Namespaces(Ndctl(machine)).rename("off", "new")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": NamespaceMode.sector, "sector_size": 1000}, InvalidValueError, "512 or 520"),
        ({"mode": NamespaceMode.fsdax, "sector_size": 520}, InvalidValueError, "512 or 4096"),
        ({"mode": DEVDAX, "sector_size": 512}, InvalidValueError, "mode devdax has no sectors"),
        ({"mode": NamespaceMode.raw, "map_location": MapLocation.mem}, InvalidValueError, "only fsdax and devdax"),
        ({"mode": DEVDAX, "align": Size(3)}, InvalidValueError, "4KiB or 2MiB or 1GiB"),
        ({"mode": DEVDAX, "align": Size(GiB)}, InvalidValueError, "a multiple of 1GiB"),
        ({"mode": DEVDAX, "uuid": "nonsense"}, InvalidValueError, "a UUID"),
        ({"namespace": "nix", "mode": DEVDAX}, NotFoundError, "nix"),
    ],
)
def test_a_wrong_change_of_mode_is_refused_before_anything_is_disabled(
    options: dict[str, object], error: type[VpmemError], text: str
) -> None:
    machine = Divided("modes", room=f"region0 0x180000000 {GiB}\nnamespace0.2 0x180000000 {64 * MiB}\n")
    with pytest.raises(error, match=text):
        Namespaces(Ndctl(machine)).reconfigure(**{"namespace": "namespace0.2", **options})  # type: ignore[arg-type]
    assert machine.changed == []


def test_a_change_of_mode_that_would_leave_nothing_usable_is_refused() -> None:
    room = f"region0 0x180000000 {GiB}\nnamespace0.5 0x180000000 {GiB}\n"
    machine = Divided("modes", room=room)
    with pytest.raises(InvalidValueError, match="metadata and padding"):
        Namespaces(Ndctl(machine)).reconfigure("off", mode=DEVDAX, align=Size(GiB))
    assert machine.changed == []


def test_a_failed_change_of_mode_leaves_an_active_one_enabled() -> None:
    active, disabled = recorded("modes"), listed("modes", ('"name":"of-raw"', '"name":"of-raw","state":"disabled"'))
    machine = Divided(active, active, disabled, active)
    machine.answers["reconfigure"] = [left(234)]
    machine.answers["enable-namespace"] = [left(0)]
    with pytest.raises(CommandError, match="reconfigure of-raw"):
        Namespaces(Ndctl(machine)).reconfigure("of-raw", mode=DEVDAX, uuid=str(uuid.uuid4()))
    assert [argv[1] for argv in machine.asked] == ["reconfigure", "enable-namespace"]


def test_a_mode_is_changed_in_one_act_that_is_proven() -> None:
    identity = str(uuid.uuid4())
    of_raw = Ndctl(Divided("modes")).namespace("of-raw")
    changed = listed("modes", (of_raw.label_uuid, identity))
    machine = Divided("modes", "modes", changed)
    machine.answers["reconfigure"] = [left(0)]
    after = Namespaces(Ndctl(machine)).reconfigure("of-raw", mode=NamespaceMode.raw, uuid=identity)
    assert (after.label_uuid, after.dev) == (identity, of_raw.dev)
    (act,) = machine.acts
    assert act.command[:3] == ("acts", "reconfigure", "@namespace@")
    assert act.command[-4:] == ("--uuid", identity, "--name", "of-raw")
    assert (act.targets, act.unused) == ((f"-n {of_raw.label_uuid}",), True)


@pytest.mark.parametrize("which", ["of-raw", "namespace3.0"])
def test_a_change_of_mode_that_changed_nothing_is_a_failure_though_ndctl_exited_0(which: str) -> None:
    """With a label the new UUID is missed, without one the new mode."""
    machine = Divided("modes" if which == "of-raw" else "unlabeled")
    machine.answers["reconfigure"] = [left(0)]
    with pytest.raises(CommandError, match=r"Could not reconfigure .* as devdax though ndctl exited 0"):
        Namespaces(Ndctl(machine)).reconfigure(which, mode=DEVDAX)


def test_whatever_happens_while_one_is_disabled_it_is_enabled_again() -> None:
    active, disabled = recorded("modes"), listed("modes", ('"name":"of-raw"', '"name":"of-raw","state":"disabled"'))

    def machine(*listings: CommandResult) -> Divided:
        made = Divided(*listings)
        made.answers["disable-namespace"] = [left(0)]
        made.answers["enable-namespace"] = [left(0)]
        return made

    used = machine(active, disabled, active)
    with Namespaces(Ndctl(used)).disabled("of-raw") as idle:
        assert not idle.active
    assert [argv[1] for argv in used.asked] == ["disable-namespace", "enable-namespace"]
    used = machine(active, disabled, disabled, active)
    with pytest.raises(RuntimeError), Namespaces(Ndctl(used)).disabled("of-raw"):
        raise RuntimeError
    assert [argv[1] for argv in used.asked] == ["disable-namespace", "enable-namespace"]


def test_the_alignment_is_always_told_as_ndctl_takes_it_from_an_attempt_before() -> None:
    for mode in (NamespaceMode.fsdax, DEVDAX):
        plan = plan_namespace(Ndctl(Divided()), "region0", mode=mode, size=Size(16 * MiB))
        assert plan.options[plan.options.index("--align") + 1] == str(2 * MiB)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_block_device_of_any_mode_has_a_sector_size(sector_size: int) -> None:
    for mode in (NamespaceMode.fsdax, NamespaceMode.raw, NamespaceMode.sector):
        plan = plan_namespace(Ndctl(Divided()), "region0", mode=mode, size=Size(16 * MiB), sector_size=sector_size)
        assert plan.options[plan.options.index("--sector-size") + 1] == str(sector_size)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("Namespace Should Fit    region0    size=100M", "KiB, MiB, GiB, TiB"),
        ("Namespace Should Fit    region0    mode=dax", "'devdax', 'fsdax', 'raw' and 'sector'"),
        ("Get Predicted Usable Size    64MiB    mode=sector    label_version=2.0", "1.1 or 1.2"),
        ("Tear Sector Metadata    ns_0    everything", "'backup', 'info', 'log', 'map' and 'write'"),
        ("Write Info Block    ns_0    mode=fsdax    map=cpu", "'dev' and 'mem'"),
        ("Create Namespace    region0    sector_size=4k", "cannot be converted to integer"),
        ("Wait For Scrub    ndbus0    timeout=soon", "cannot be converted to timedelta"),
        ("Rename Namespace    ns_0    ns_1", "No open host"),
    ],
)
def test_a_mistake_in_a_suite_is_told(tmp_path: Path, step: str, expected: str) -> None:
    assert expected in message_of(tmp_path, step)
