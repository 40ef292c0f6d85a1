"""The run's mark, the guard of what is foreign, cleanup, and the leak report."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from VpmemLibrary.cli.leaks import _report
from VpmemLibrary.errors import BusyError, CommandError, ForeignError, InvalidValueError, NotFoundError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up, writable
from VpmemLibrary.ownership.leaks import HostState, left_files
from VpmemLibrary.ownership.marks import RUN_ID_VARIABLE, RunMark, run_of
from VpmemLibrary.pmem.guard import Target
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.records import Bus, Inventory, Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport

run_ids = st.integers(min_value=0, max_value=0xFFFFFFFF).map(lambda number: f"{number:08x}")
MINE, OTHER = RunMark("0123abcd"), RunMark("ffffffff")


def active(label: str, **fields: object) -> Namespace:
    """Return an active namespace with an info block: its own UUID is not the label's."""
    namespace = Namespace("namespace0.0", NamespaceMode.devdax, Size(62 * MiB), "ns", str(uuid.uuid4()), label)
    return replace(namespace, **{"region": "region0", **fields})


@given(run_ids)
def test_a_mark_is_a_uuid_of_version_8_that_tells_its_run(run_id: str) -> None:
    mark = RunMark(run_id)
    text = mark.new_uuid()
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 8, uuid.RFC_4122)
    assert mark.owns(active(text))
    assert run_of(active(text)) == run_id


def test_marks_differ() -> None:
    assert len({MINE.new_uuid() for _ in range(1000)}) == 1000


def test_the_mark_is_read_from_the_label_whatever_the_state() -> None:
    label = MINE.new_uuid()
    assert MINE.owns(active(label))
    assert MINE.owns(Namespace("namespace0.0", NamespaceMode.raw, uuid=label))
    assert MINE.owns(Namespace("namespace0.0", NamespaceMode.raw, uuid=label, state="disabled"))
    assert not MINE.owns(replace(active(OTHER.new_uuid()), uuid=label))


def test_the_mark_of_one_without_a_label_is_read_from_its_info_block() -> None:
    bare = Namespace("namespace0.0", NamespaceMode.fsdax, uuid=MINE.new_uuid())
    assert MINE.owns(bare)
    assert not MINE.owns(replace(bare, mode=NamespaceMode.raw, uuid="", state="disabled"))


@given(st.uuids())
def test_other_uuids_are_no_marks(other: uuid.UUID) -> None:
    assert not run_of(active(str(other)))


def test_what_is_foreign_is_refused_with_its_maker() -> None:
    MINE.require_own(active(MINE.new_uuid()))
    with pytest.raises(ForeignError, match="run ffffffff made it, and this is run 0123abcd"):
        MINE.require_own(active(OTHER.new_uuid()))
    with pytest.raises(ForeignError, match="no mark"):
        MINE.require_own(active(str(uuid.uuid4())))


def test_the_run_id_is_given_by_argument_environment_or_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_ID_VARIABLE, "00000007")
    assert RunMark.of_this_run("00000001").run_id == "00000001"
    assert RunMark.of_this_run().run_id == "00000007"
    monkeypatch.delenv(RUN_ID_VARIABLE)
    assert RunMark.of_this_run() != RunMark.of_this_run()


@pytest.mark.parametrize("run_id", ["", "123", "0123ABCD", "0123abcg", "0123abcd\n", "0123abcd0"])
def test_a_run_id_that_is_none_is_refused(run_id: str) -> None:
    with pytest.raises(InvalidValueError, match="run id"):
        RunMark(run_id)


IN_USE: dict[str, Any] = {"chardev": "dax0.7", "extra": {"daxregion": {"devices": [{"mode": "devdax"}]}}}


class Shelf:
    """In the place of ndctl: namespaces that can be listed and destroyed, one perhaps in use, one not destroyed.

    Args:
        namespaces: The namespaces.
        busy: The name of one that is in use.
        stuck: The name of one that stays though it is destroyed.
        lost: The name of one that another worker destroys once it was listed.
        denied: The name of one that the guard does not find though it is there.
    """

    def __init__(
        self, *namespaces: Namespace, busy: str = "", stuck: str = "", lost: str = "", denied: str = ""
    ) -> None:
        self.namespaces = [
            replace(namespace, dev=f"namespace0.{n}", **(IN_USE if namespace.name == busy else {}))
            for n, namespace in enumerate(namespaces)
        ]
        self.listed = 0
        self._busy = busy
        self._stuck = stuck
        self._lost = lost
        self._denied = denied

    def inventory(self) -> Inventory:
        self.listed += 1
        region = Region("region0", Size(1 << 30), Size(1 << 29), namespaces=tuple(self.namespaces))
        self.namespaces = [namespace for namespace in self.namespaces if namespace.name != self._lost]
        return Inventory((Bus("ndbus0", regions=(region,)),))

    def change(self, command: Sequence[str], target: Target, *, must_be_unused: bool = False) -> CommandResult:
        """Destroy the namespace whose UUID is given, as the guard finds it."""
        assert command[2:] == ["destroy", "@namespace@"]
        assert must_be_unused
        found = [each for each in self.namespaces if each.label_uuid == target.identity and each.name != self._denied]
        if not found:
            raise NotFoundError("target", target.called, [], where="here")
        (namespace,) = found
        if namespace.name == self._busy:
            raise BusyError(f"{target.called} is in use on here: process 77 (qemu). Nothing was changed.")
        if namespace.name != self._stuck:
            self.namespaces.remove(namespace)
        return CommandResult(tuple(command), 0, b"", b"destroyed 1 namespace\n", 0.1)


def host_with(*namespaces: Namespace, **options: str) -> Host:
    host = Host("here", LocalTransport())
    shelf = Shelf(*namespaces, **options)
    host.ndctl, host.namespaces = shelf, Namespaces(shelf)  # type: ignore[assignment, arg-type]
    return host


def names(host: Host) -> list[str]:
    return [namespace.name for namespace in host.ndctl.inventory().namespaces]


def test_cleaning_up_takes_what_is_own_and_nothing_else() -> None:
    host = host_with(
        active(MINE.new_uuid(), name="mine"),
        active(OTHER.new_uuid(), name="other"),
        active(str(uuid.uuid4()), name="unmarked"),
        Namespace("namespace1.0", NamespaceMode.raw, name="without label"),
    )
    assert [ns.name for ns in clean_up(host, MINE)] == ["mine"]
    assert names(host) == ["other", "unmarked", "without label"]


def test_one_in_use_does_not_keep_the_others() -> None:
    host = host_with(*(active(MINE.new_uuid(), name=name) for name in ("a", "held", "c")), busy="held")
    with pytest.raises(BusyError, match=r"held.*process 77"):
        clean_up(host, MINE)
    assert names(host) == ["held"]


def test_one_listing_proves_that_all_are_gone() -> None:
    host = host_with(*(active(MINE.new_uuid(), name=name) for name in ("a", "b", "c")))
    assert [ns.name for ns in clean_up(host, MINE)] == ["a", "b", "c"]
    assert host.ndctl.listed == 2  # type: ignore[attr-defined]


def test_one_that_another_worker_destroyed_meanwhile_is_no_failure_and_not_told_as_destroyed() -> None:
    host = host_with(*(active(MINE.new_uuid(), name=name) for name in ("a", "lost", "c")), lost="lost")
    assert [ns.name for ns in clean_up(host, MINE)] == ["a", "c"]
    assert names(host) == []


def test_one_that_is_called_gone_and_is_still_listed_is_a_failure() -> None:
    host = host_with(*(active(MINE.new_uuid(), name=name) for name in ("a", "hidden", "c")), denied="hidden")
    with pytest.raises(NotFoundError, match="hidden"):
        clean_up(host, MINE)
    assert names(host) == ["hidden"]


def test_nothing_of_its_own_is_one_listing() -> None:
    host = host_with(active(OTHER.new_uuid(), name="other"))
    assert clean_up(host, MINE) == ()
    assert host.ndctl.listed == 1  # type: ignore[attr-defined]


def test_one_that_is_still_there_is_told_whatever_ndctl_says() -> None:
    host = host_with(*(active(MINE.new_uuid(), name=name) for name in ("a", "stays", "c")), stuck="stays")
    with pytest.raises(CommandError, match=r"stays .* still exists though ndctl exited 0"):
        clean_up(host, MINE)
    assert names(host) == ["stays"]


class OnBus:
    """In the place of ndctl: a region on a bus of a provider, whose namespaces change their mode."""

    def __init__(self, provider: str) -> None:
        self.provider = provider

    def region(self, which: str) -> Region:
        return Region(which, provider=self.provider)

    def reconfigure(self, namespace: Namespace, *, mode: NamespaceMode, uuid: str) -> Namespace:
        return replace(namespace, mode=mode, uuid=uuid, raw_uuid="", chardev="", blockdev="pmem0")


@pytest.mark.parametrize(
    ("provider", "mode", "becomes"),
    [("nfit_test.0", "devdax", "raw"), ("nfit_test.0", "fsdax", "fsdax"), ("ACPI.NFIT", "devdax", "devdax")],
)
def test_device_dax_on_a_test_bus_becomes_raw_before_a_wipe(provider: str, mode: str, becomes: str) -> None:
    host, bus = Host("here", LocalTransport()), OnBus(provider)
    host.ndctl = host.namespaces = bus  # type: ignore[assignment]
    old = active(OTHER.new_uuid(), mode=NamespaceMode(mode))
    found = writable(host, old)
    assert found.mode == becomes
    assert OTHER.owns(found)
    assert (found == old) is (mode == becomes)


def state(*namespaces: Namespace, free: int = 1 << 30, domains: tuple[str, ...] = ()) -> HostState:
    region = Region("region0", Size(1 << 30), Size(free), namespaces=namespaces)
    return HostState.of(Inventory((Bus("ndbus0", regions=(region,)),)), domains)


def test_the_same_is_no_difference() -> None:
    label = MINE.new_uuid()
    before = state(active(label, dev="namespace0.1"))
    assert before.difference(state(active(label, dev="namespace0.7"))) == ()


def test_what_leaked_went_or_changed_has_a_line_each() -> None:
    kept, gone, leaked = active(MINE.new_uuid(), name="kept"), active("g", name="gone"), active("l", name="leaked")
    before = state(kept, gone, domains=("a", "b"))
    after = state(replace(kept, mode=NamespaceMode.fsdax), leaked, free=512 * MiB, domains=("b", "c"))
    difference = before.difference(after)
    assert [line.split(" in ")[0] for line in difference[:3]] == [
        "leaked: namespace leaked",
        "gone: namespace gone",
        "changed: namespace kept",
    ]
    assert difference[3:] == ("leaked: domain c", "gone: domain a", "changed: free in region0: 1GiB, now 512MiB")


def unlabeled_state() -> HostState:
    raw = Namespace(dev="namespace0.0", mode=NamespaceMode.raw, region="region0", size=Size(1 << 30))
    return replace(state(raw, free=0), unlabeled={"region0": "namespace0.0"})


def test_labels_that_a_region_got_are_told_apart_from_leaks() -> None:
    before, after = unlabeled_state(), state()
    assert before.labeled_in(after) == ("region0",)
    assert before.with_labels(after).difference(after) == ()
    assert before.difference(after) == (
        "gone: namespace namespace0.0 in region0: raw, 1GiB, active, UUID none",
        "changed: free in region0: 0B, now 1GiB",
    )


def test_what_is_left_in_a_region_that_got_labels_is_a_leak() -> None:
    before, after = unlabeled_state(), state(active("l", name="leaked"), free=1 << 29)
    (told,) = before.with_labels(after).difference(after)
    assert told.startswith("leaked: namespace leaked in region0")


def test_labels_that_are_lost_are_a_difference() -> None:
    before, after = state(), unlabeled_state()
    assert before.labeled_in(after) == ()
    assert before.with_labels(after).difference(after)


A, B, C = (
    Region(f"region{number}", Size(1 << 30), Size(size), iset_id=cookie)
    for number, (size, cookie) in enumerate([(1 << 30, 0xA), (1 << 29, 0xB), (1 << 28, 0xC)])
)


def regions_state(*regions: Region, known: HostState | None = None) -> HostState:
    inventory = Inventory((Bus("ndbus0", regions=regions),))
    return HostState.of(inventory, regions=known.regions if known else None)


def test_a_region_with_another_number_after_a_boot_is_the_same() -> None:
    before = regions_state(A, replace(B, namespaces=(active("x", region="region1"),)))
    moved = replace(B, dev="region0", namespaces=(active("x", region="region0"),))
    assert before.difference(regions_state(replace(A, dev="region1"), moved, known=before)) == ()
    assert before.difference(regions_state(replace(A, dev="region1"), moved))


def test_a_new_region_with_the_number_of_another_one_is_a_difference() -> None:
    before = regions_state(A)
    after = regions_state(replace(C, dev="region0"), replace(A, dev="region1"), known=before)
    assert before.difference(after) == ("changed: free in region0 (new): no such region, now 256MiB",)


def test_a_region_whose_cookie_changes_with_its_labels_keeps_its_name() -> None:
    before = regions_state(A, B)
    assert before.difference(regions_state(A, replace(B, iset_id=0xD), known=before)) == ()


def test_regions_that_share_a_cookie_are_told_apart_by_their_numbers() -> None:
    before = regions_state(A, replace(B, iset_id=0xA))
    changed = replace(B, iset_id=0xA, available_size=Size(0))
    assert before.difference(regions_state(A, changed, known=before)) == ("changed: free in region1: 512MiB, now 0B",)


def test_a_hostile_name_forges_no_line_of_the_report() -> None:
    forged = "/dev/shm/x\x1b]0;PWNED\x07\x1b[2J\nrack1: nothing is left over"
    before = state()
    namespace = active(MINE.new_uuid(), name="a\nrack1: nothing is left over\x1b[2J")
    after = replace(state(namespace, domains=("b\nx",)), files=frozenset([forged]), leases={"k": "held by a\nb"})
    lines = before.difference(after)
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert r"leaked: file /dev/shm/x\x1b]0;PWNED\x07\x1b[2J\x0arack1: nothing is left over" in lines


NOBODY = 65534


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_files_of_other_users_are_no_leaks(tmp_path: Path) -> None:
    shared, temporary, images, qemu = (tmp_path / name for name in ("shm", "tmp", "images", "qemu"))
    for directory in (shared, temporary, images, qemu, shared / "theirs", shared / "ours"):
        directory.mkdir()
    os.chown(qemu, 64055, 64055)
    os.chown(shared / "theirs", NOBODY, NOBODY)
    for owner, path in (
        (0, shared / "ours" / "a\nb"),
        (0, shared / "theirs" / "in a directory that its owner may replace"),
        (0, temporary / "tmp.root"),
        (0, temporary / "other"),
        (64055, shared / "of QEMU"),
        (NOBODY, shared / "x\x1b[2J\nrack1: nothing is left over"),
        (NOBODY, shared / "vpmem-0123abcd-1"),
        (NOBODY, temporary / "tmp.l4fl0kqp"),
        (NOBODY, images / "of a guest\udcff"),
    ):
        path.touch()
        os.chown(path, owner, owner)
    found = left_files(LocalTransport(), [str(images)], shared=str(shared), temporary=str(temporary), qemu=str(qemu))
    assert found == {
        str(path)
        for path in (
            shared / "ours",
            shared / "ours" / "a\nb",
            shared / "of QEMU",
            temporary / "tmp.root",
            images / "of a guest\udcff",
        )
    }


def test_files_are_looked_for_where_a_directory_is_closed_or_absent(tmp_path: Path) -> None:
    (tmp_path / "tmp.here").touch()
    (tmp_path / "closed").mkdir(mode=0)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else ["env"]
    for directory in (tmp_path, *tmp_path.parents):
        if directory == tmp_path or directory.name.startswith(("pytest-", "popen-")):
            directory.chmod(0o755)
    found = left_files(
        PrefixedTransport(LocalTransport(), user),
        [str(tmp_path / "absent"), str(tmp_path)],
        shared=str(tmp_path / "absent"),
        temporary=str(tmp_path),
        qemu=str(tmp_path / "absent"),
    )
    assert found == {str(tmp_path / "tmp.here"), str(tmp_path / "closed")}


def test_a_machine_without_find_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    (tmp_path / "id").symlink_to("/usr/bin/id")
    bare = PrefixedTransport(LocalTransport(), ["env", f"PATH={tmp_path}"])
    with pytest.raises(CommandError, match=r"stderr: .*find: .*not found"):
        left_files(bare, [str(tmp_path)])


def test_the_report_shows_what_a_file_says_of_a_host_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Names from outside come from the difference alone, which is in whole lines."""
    after = replace(state(), files=frozenset(["/dev/shm/x\nrack1: nothing is left over"]))
    assert not _report("rack1", state(), after)
    printed = capsys.readouterr().out.splitlines()
    assert "rack1: nothing is left over" not in printed
    assert printed[-1] == "rack1: LEFT OVER"
