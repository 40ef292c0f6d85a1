"""What is refused, proven and undone when namespaces change, on output recorded from ndctl 81 (tests/data/ndctl)."""

from __future__ import annotations

import errno
import gzip
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from guarded import Act, is_installation, unwrapped, used
from msgspec.structs import replace

from VpmemLibrary.errors import (
    AmbiguousError,
    BusyError,
    CommandError,
    CommandTimeoutError,
    DeviceBusyError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    OutOfSpaceError,
    ToolMissingError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.pmem.decode import LIST_COMMAND, decode_inventory
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.pmem.regions.regions import Regions
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

DATA = Path(__file__).parents[1] / "data" / "ndctl"
LABELS = Path(__file__).parents[1] / "data" / "labels"
DEVDAX = NamespaceMode.devdax


def recorded(state: str, version: str = "81") -> CommandResult:
    data = json.loads((DATA / f"ndctl-{version}_{state}.json").read_text())
    return CommandResult(
        argv=tuple(data["argv"]),
        exit_status=data["exit_status"],
        stdout="\n".join(data["stdout"]).encode(),
        stderr="\n".join(data["stderr"]).encode(),
        seconds=0.1,
        host="recorded",
    )


def left(status: int, stdout: str = "", stderr: str = "") -> CommandResult:
    return CommandResult(("sh",), status, stdout.encode(), stderr.encode(), 0.1, "recorded")


class Machine(LocalTransport):
    """A transport that answers each kind of command with recorded results, the last one again and again.

    Args:
        listings: What is listed, one after the other.
        nstype: What the kernel says of the namespaces of each region.
        users: Who uses all that there is, one a line: acts on what must be unused are refused.
    """

    def __init__(self, *listings: CommandResult | str, nstype: str = "5", users: str = "") -> None:
        super().__init__(name="recorded")
        self.asked: list[tuple[str, ...]] = []
        self.acts: list[Act] = []
        self.listed = 0
        self._users = users
        self.answers: dict[str, list[CommandResult]] = {
            "list": [recorded(item) if isinstance(item, str) else item for item in listings],
            "nstype": [left(0, "".join(f"region{number} {nstype}\n" for number in range(4)))],
            "read-labels": [replace(left(0), stdout=gzip.decompress((LABELS / "empty-1.2.bin.gz").read_bytes()))],
        }

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        if is_installation(argv):
            return left(0)
        if act := unwrapped(argv):
            if act.unused and self._users:
                return used(self._users)
            self.acts.append(act)
            argv = act.command
        kind = self._kind(tuple(argv))
        self.listed += kind == "list"
        if kind not in self.answers:
            raise AssertionError(f"not expected: {argv}")
        if kind not in ("list", "nstype", "read-labels"):
            self.asked.append(tuple(argv))
        results = self.answers[kind]
        result = results.pop(0) if len(results) > 1 else results[0]
        result = replace(result, argv=tuple(argv))
        if result.exit_status == -9:
            raise CommandTimeoutError(result, "It did not end within 60 s and was ended")
        return result

    @staticmethod
    def _kind(argv: tuple[str, ...]) -> str:
        if argv[0] in ("ndctl", "acts"):
            return argv[1]
        return "nstype" if "nstype" in argv[2] else "other"


def with_namespace(state: str, label: str, *, disabled: bool) -> CommandResult:
    """Return a recorded listing in which the namespace of-raw has another label UUID."""
    result = recorded(state)
    data = json.loads(result.text)
    for namespace in data[0]["regions"][0]["namespaces"]:
        if namespace.get("name") == "of-raw":
            namespace["uuid"] = label
            if disabled:
                namespace["state"] = "disabled"
                del namespace["blockdev"]
    return replace(result, stdout=json.dumps(data).encode())


@pytest.mark.parametrize(
    ("which", "dev"),
    [("of-fsdax", "namespace0.0"), ("namespace0.3", "namespace0.3"), ("982f5669-a574-4b66-a1fc-d04e7e72a392", None)],
)
def test_a_namespace_is_found_by_name_device_and_uuid(which: str, dev: str | None) -> None:
    found = Ndctl(Machine("modes")).namespace(which)
    assert dev is None or found.dev == dev
    assert Ndctl(Machine("modes")).namespace(found) == found
    assert Ndctl(Machine("modes")).namespace(found.label_uuid.upper()) == found


def test_one_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(NotFoundError, match=r"No namespace 'nix' on recorded\. There are: of-fsdax \(namespace0\.0\)"):
        Ndctl(Machine("modes")).namespace("nix")
    with pytest.raises(NotFoundError, match="There is none"):
        Ndctl(Machine("no-such-region")).namespace("nix")
    with pytest.raises(NotFoundError, match="region0"):
        Ndctl(Machine("modes")).region("region7")
    with pytest.raises(NotFoundError, match="nmem0"):
        Ndctl(Machine("modes")).dimm("nmem7")


def test_a_name_that_two_have_is_not_guessed() -> None:
    with pytest.raises(AmbiguousError, match=r"namespace0\.2.*namespace0\.3"):
        Ndctl(Machine("modes")).namespace("twice")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"size": Size(100_000_000)}, InvalidValueError, "80MiB or 96MiB"),
        ({"size": Size(0)}, InvalidValueError, "16MiB"),
        ({"size": Size(2 * GiB)}, OutOfSpaceError, "the largest that fits has 640MiB"),
        ({"name": "-x"}, InvalidValueError, "name '-x'"),
        ({"name": "a b"}, InvalidValueError, "name 'a b'"),
        ({"align": Size(3)}, InvalidValueError, "4KiB or 2MiB or 1GiB"),
        ({"sector_size": 512}, InvalidValueError, "mode devdax has no sectors"),
        ({"mode": NamespaceMode.fsdax, "sector_size": 520}, InvalidValueError, "512 or 4096"),
        ({"mode": NamespaceMode.sector, "map_location": MapLocation.mem}, InvalidValueError, "only fsdax and devdax"),
        ({"mode": NamespaceMode.raw, "align": Size(2 * MiB)}, InvalidValueError, "only fsdax and devdax"),
        ({"mode": NamespaceMode.sector, "sector_size": 1000}, InvalidValueError, "512 or 520"),
        ({"uuid": "nonsense"}, InvalidValueError, "a UUID"),
        ({"region": "region9"}, NotFoundError, "region0"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_changed(
    options: dict[str, object], error: type[VpmemError], text: str
) -> None:
    machine = Machine("modes")
    with pytest.raises(error, match=text):
        Namespaces(Ndctl(machine)).create(**{"region": "region0", "mode": DEVDAX, **options})  # type: ignore[arg-type]
    assert machine.asked == []


def test_a_region_without_labels_is_refused_with_the_mend() -> None:
    machine = Machine("unlabeled", nstype="4")
    with pytest.raises(UnsupportedError, match="initialize_labels"):
        Namespaces(Ndctl(machine)).create("region3", mode=DEVDAX)
    assert machine.asked == []
    assert [region.dev for region in Regions(Ndctl(machine)).unlabeled()] == ["region3"]


def test_a_create_is_proven_by_another_listing() -> None:
    identity = str(uuid.uuid4())
    machine = Machine("modes", with_namespace("modes", identity, disabled=False))
    machine.answers["create-namespace"] = [left(0, "{}")]
    created = Namespaces(Ndctl(machine)).create(
        "region0", mode=NamespaceMode.raw, size=Size(64 * MiB), name="of-raw", uuid=identity
    )
    assert (created.name, created.label_uuid) == ("of-raw", identity)
    (act,) = machine.acts
    command = act.command
    assert act.targets == (f"-r {Ndctl(machine).region('region0').iset_id:#x}",)
    assert command[:2] == ("ndctl", "create-namespace")
    assert "--no-autolabel" in command
    assert command[command.index("--region") + 1] == "@region@"
    assert command[command.index("--size") + 1] == "67108864"


def test_a_create_that_made_nothing_is_a_failure_though_ndctl_exited_0() -> None:
    machine = Machine("modes")
    machine.answers["create-namespace"] = [left(0)]
    with pytest.raises(CommandError, match=r"ndctl exited 0 but created no namespace in region0(.|\n)*It left nothing"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(64 * MiB))


def test_a_disable_that_changed_nothing_is_a_failure_though_ndctl_exited_0() -> None:
    machine = Machine("modes")
    machine.answers["disable-namespace"] = [left(0, stderr="disabled 1 namespace")]
    with pytest.raises(DeviceBusyError, match=r"of-fsdax .* is still active though ndctl exited 0"):
        Namespaces(Ndctl(machine)).disable("of-fsdax")


def test_an_enable_that_changed_nothing_is_a_failure_though_ndctl_exited_0() -> None:
    machine = Machine("modes")
    machine.answers["enable-namespace"] = [left(0, stderr="enabled 1 namespace")]
    with pytest.raises(CommandError, match=r"off .* is still disabled though ndctl exited 0"):
        Namespaces(Ndctl(machine)).enable("off")


@pytest.mark.parametrize("failure", [left(status_of(errno.ENXIO)), left(-9)])
def test_what_a_failed_create_left_is_removed_and_nothing_else(failure: CommandResult) -> None:
    identity = str(uuid.uuid4())
    leaked = with_namespace("modes", identity, disabled=True)
    machine = Machine("modes", leaked, "modes")
    machine.answers["create-namespace"] = [failure]
    machine.answers["destroy"] = [left(0, stderr="destroyed 1 namespace")]
    with pytest.raises(CommandError):
        Namespaces(Ndctl(machine)).create("region0", mode=NamespaceMode.sector, uuid=identity)
    assert [(act.command, act.targets) for act in machine.acts if act.command[1] != "create-namespace"] == [
        (("acts", "destroy", "@namespace@"), (f"-n {identity}",))
    ]


def test_a_failed_create_that_left_nothing_removes_nothing() -> None:
    machine = Machine("modes")
    machine.answers["create-namespace"] = [recorded("create-misaligned")]
    with pytest.raises(CommandError, match="EINVAL"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(64 * MiB))
    assert len(machine.asked) == 1


def test_no_space_is_told_apart_from_no_device() -> None:
    full = replace(recorded("modes"), stdout=recorded("modes").stdout.replace(b"671088640", b"0"))
    machine = Machine("modes", full)
    machine.answers["create-namespace"] = [recorded("create-too-large")]
    with pytest.raises(NoSpaceError, match="nothing of it is free"):
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(64 * MiB))
    machine = Machine("modes")
    machine.answers["create-namespace"] = [recorded("create-no-region")]
    with pytest.raises(CommandError, match="ENODEV") as caught:
        Namespaces(Ndctl(machine)).create("region0", mode=DEVDAX, size=Size(64 * MiB))
    assert not isinstance(caught.value, OutOfSpaceError)


def test_one_in_use_is_neither_disabled_nor_destroyed() -> None:
    machine = Machine("modes", users="process 7 (qemu-system-x86)\nmounted at /mnt\n")
    with pytest.raises(BusyError, match=r"process 7 \(qemu-system-x86\), mounted at /mnt"):
        Namespaces(Ndctl(machine)).destroy("of-devdax")
    with pytest.raises(BusyError):
        Regions(Ndctl(machine)).disable("region0")
    with pytest.raises(BusyError):
        Regions(Ndctl(machine)).initialize_labels("region0", overwrite=True)
    assert machine.asked == []


def test_one_that_ndctl_finds_in_use_is_not_destroyed() -> None:
    machine = Machine("modes")
    machine.answers["destroy"] = [recorded("disable-mounted")]
    with pytest.raises(DeviceBusyError, match="Device or resource busy"):
        Namespaces(Ndctl(machine)).destroy("of-fsdax")
    (act,) = machine.acts
    assert act.unused


def test_a_destroy_that_changed_nothing_is_a_failure_whatever_its_status() -> None:
    machine = Machine("modes")
    machine.answers["destroy"] = [left(0, stderr="destroyed 1 namespace")]
    with pytest.raises(CommandError, match="still exists though ndctl exited 0"):
        Namespaces(Ndctl(machine)).destroy("of-fsdax")


@pytest.mark.parametrize("version", ["76.1", "81"])
@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        ("create-misaligned", CommandError, "EINVAL"),
        ("create-bad-option", CommandError, "does not know one of the options"),
        ("destroy-active", DeviceBusyError, "in use"),
        ("destroy-absent", CommandError, "ENXIO"),
        ("disable-mounted", BusyError, "in use"),
    ],
)
def test_statuses_are_translated(version: str, state: str, error: type[CommandError], text: str) -> None:
    result = recorded(state, version)
    with pytest.raises(error, match=text) as caught:
        checked(result, "do it")
    assert f"exit status: {result.exit_status}" in str(caught.value)
    assert result.error_text.strip().splitlines()[0] in str(caught.value)


def test_a_missing_ndctl_is_told() -> None:
    with pytest.raises(ToolMissingError, match="ndctl is not installed"):
        Ndctl(Machine(left(127))).inventory()


def test_garbage_and_a_hang_are_told_with_the_command() -> None:
    with pytest.raises(VpmemError, match="ndctl list -BDRNi"):
        Ndctl(Machine(left(0, "no json"))).inventory()
    with pytest.raises(CommandTimeoutError, match="ndctl list -BDRNi"):
        Ndctl(Machine(left(-9))).inventory()


def test_the_listing_that_was_recorded_is_the_one_that_is_asked_for() -> None:
    assert recorded("everything").argv == LIST_COMMAND
    assert decode_inventory(recorded("everything")).namespaces
