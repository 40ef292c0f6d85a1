"""What is refused, proven and undone when regions and labels change, on what ndctl 81 left (tests/data)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_label_area import recorded_bytes
from test_ndctl_changes import Machine, left, recorded

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    ForeignError,
    InvalidValueError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.pmem.labels import LabelKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.regions import namespaces_on, require_own_region
from VpmemLibrary.pmem.labels.file import SavedArea, SavedLabels
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.pmem.regions.regions import LabelState
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult

DATA = Path(__file__).parents[1] / "data" / "labels"


def answer(state: str) -> CommandResult:
    data = json.loads((DATA / f"ndctl-81_{state}.json").read_text())
    stdout, stderr = ("\n".join(data[stream]) for stream in ("stdout", "stderr"))
    return replace(left(data["exit_status"], stdout, stderr), argv=tuple(data["argv"]))


def area(state: str | bytes) -> CommandResult:
    return replace(left(0), stdout=recorded_bytes(state) if isinstance(state, str) else state)


class LabelMachine(Machine):
    """A transport whose region goes off and on, with label areas: one after the other, the last one again and again.

    Args:
        found: The listing while the region is enabled, or the only one.
        areas: What is read of the label area.
    """

    def __init__(
        self, found: CommandResult, *, areas: Sequence[str | bytes], nstype: str = "5", users: str = ""
    ) -> None:
        super().__init__(found, nstype=nstype, users=users)
        self.found = found
        self.answers["read-labels"] = [area(each) for each in areas]
        self.answers["disable-region"] = [left(0, stderr="disabled 1 region")]
        self.answers["enable-region"] = [left(0, stderr="enabled 1 region")]

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        result = super().run(argv, timeout=timeout, stdin=stdin)
        if "disabled 1 region" in result.error_text:
            self.answers["list"] = [disabled(self.found)]
        if "enabled 1 region" in result.error_text:
            self.answers["list"] = [self.found]
        return result

    @property
    def changes(self) -> list[str]:
        """The ndctl commands that were to change something."""
        return [act.command[1] for act in self.acts]


def listing(state: str) -> CommandResult:
    return answer(f"listing-{state}")


def disabled(result: CommandResult) -> CommandResult:
    """Return a listing in which the region is disabled: its namespaces are not listed."""
    data = json.loads(result.text)
    (region,) = data[0]["regions"]
    region["state"] = "disabled"
    region.pop("namespaces", None)
    return replace(result, stdout=json.dumps(data).encode())


USED = listing("1.2")
FREE = recorded("labeled-empty")


# Regions


def test_an_enable_that_exits_0_and_enables_nothing_is_a_failure() -> None:
    machine = LabelMachine(recorded("region-disabled"), areas=[])
    machine.answers["enable-region"] = [recorded("enable-region-absent")]
    with pytest.raises(CommandError, match="enabled 0 regions"):
        Host("h", machine).regions.enable("region0")


def test_a_region_whose_dimm_is_disabled_is_not_enabled_whatever_ndctl_exits_with() -> None:
    machine = LabelMachine(listing("without-dimm"), areas=[])
    machine.answers["enable-region"] = [answer("enable-region-without-dimm")]
    with pytest.raises(CommandError, match=r"Could not enable region0(.|\n)*exit status: 0(.|\n)*failed to enable"):
        Host("h", machine).regions.enable("region0")


def test_a_count_that_is_not_one_is_a_failure_whatever_the_listing_says() -> None:
    machine = LabelMachine(FREE, areas=[])
    machine.answers["list"] = [recorded("region-disabled"), FREE]
    machine.answers["enable-region"] = [left(0, stderr="enabled 2 regions")]
    with pytest.raises(CommandError, match="enabled 2 regions"):
        Host("h", machine).regions.enable("region0")


def test_a_region_in_use_is_not_disabled() -> None:
    machine = LabelMachine(USED, areas=[], users="process 7 (qemu-system-x86)\n")
    with pytest.raises(BusyError, match="process 7"):
        Host("h", machine).regions.disable("region0")
    with pytest.raises(BusyError, match="process 7"), Host("h", machine).regions.disabled_with_neighbours("region0"):
        pytest.fail("it is in use")
    assert machine.changes == []


def test_a_dimm_whose_region_is_enabled_is_not_disabled() -> None:
    machine = LabelMachine(USED, areas=[])
    machine.answers["disable-dimm"] = [answer("disable-dimm-active")]
    with pytest.raises(CommandError, match="nmem0 is active, skipping"):
        Host("h", machine).regions.disable_dimm("nmem0")
    machine.answers["disable-dimm"] = [left(0, stderr="disabled 0 nmem")]
    with pytest.raises(CommandError, match="nmem0 is not disabled though ndctl exited 0"):
        Host("h", machine).regions.disable_dimm("nmem0")


def test_a_disable_of_a_region_that_changed_nothing_is_a_failure_though_ndctl_exited_0() -> None:
    machine = LabelMachine(USED, areas=[])
    machine.answers["disable-region"] = [left(0)]
    with pytest.raises(CommandError, match="Could not disable region0: it is enabled though ndctl exited 0"):
        Host("h", machine).regions.disable("region0")


def test_an_enable_of_a_dimm_that_changed_nothing_is_a_failure_though_ndctl_exited_0() -> None:
    off = json.loads(USED.text)
    off[0]["dimms"][0]["state"] = "disabled"
    machine = LabelMachine(replace(USED, stdout=json.dumps(off).encode()), areas=[])
    machine.answers["enable-dimm"] = [left(0, stderr="enabled 1 nmem")]
    with pytest.raises(CommandError, match="nmem0 is not enabled though ndctl exited 0"):
        Host("h", machine).regions.enable_dimm("nmem0")


def test_a_region_and_its_dimms_are_changed_by_the_dimms_id() -> None:
    """The cookie depends on the version of the labels, and on whether the DIMM is enabled."""
    machine = LabelMachine(USED, areas=["used-1.2", "zeroed"])
    machine.answers["zero-labels"] = [answer("zero")]
    Host("h", machine).labels.zero("region0")
    assert {act.targets for act in machine.acts} == {("-r region0", "-d 8680-56341200")}
    assert [act.command[-1] for act in machine.acts] == ["@region@", "@dimm@", "@region@"]
    assert [act.unused for act in machine.acts] == [True, False, False]


@pytest.mark.parametrize(
    ("found", "data", "nstype", "state"),
    [
        (USED, "used-1.2", "5", LabelState.labeled),
        (listing("zeroed"), "zeroed", "5", LabelState.lost),
        (recorded("unlabeled"), "zeroed", "4", LabelState.unlabeled),
        (recorded("unlabeled"), "used-1.2", "4", LabelState.ignored),
    ],
)
def test_what_the_kernel_makes_of_labels(found: CommandResult, data: str, nstype: str, state: LabelState) -> None:
    regions = Host("h", LabelMachine(found, areas=[data], nstype=nstype)).regions
    assert regions.label_state(json.loads(found.text)[0]["regions"][0]["dev"]) is state


def test_a_dimm_without_a_label_area_is_told() -> None:
    machine = LabelMachine(USED, areas=[])
    machine.answers["read-labels"] = [answer("read-absent")]
    assert Host("h", machine).regions.label_state("region0") is LabelState.none
    with pytest.raises(UnsupportedError, match="nmem0 has no label area, or it cannot be read"):
        Host("h", machine).labels.read("region0")


# Initialising


def test_labels_are_not_ended_unless_told_so_in_words() -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    with pytest.raises(InvalidValueError, match=r"overwrite.*one \(namespace0\.0\)"):
        Host("h", machine).regions.initialize_labels("region0")
    with pytest.raises(InvalidValueError, match=r"1\.1 or 1\.2"):
        Host("h", machine).regions.initialize_labels("region0", version="2.0", overwrite=True)
    hidden = LabelMachine(disabled(USED), areas=["used-1.2"])
    with pytest.raises(InvalidValueError, match=r"one \(UUID 413b338f"):
        Host("h", hidden).regions.initialize_labels("region0")
    empty = LabelMachine(FREE, areas=["empty-1.2"])
    with pytest.raises(InvalidValueError, match="labels, without a namespace"):
        Host("h", empty).regions.initialize_labels("region0")
    assert machine.changes == hidden.changes == empty.changes == []


def test_a_region_is_enabled_again_when_its_labels_could_not_be_made() -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    machine.answers["init-labels"] = [answer("init-without-force")]
    with pytest.raises(CommandError, match=r"run init-labels on nmem0(.|\n)*already initialized"):
        Host("h", machine).regions.initialize_labels("region0", overwrite=True)
    assert machine.changes == ["disable-region", "init-labels", "enable-region"]


def test_what_could_not_be_enabled_again_is_told_beside_the_failure() -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    machine.answers["init-labels"] = [answer("init-without-force")]
    machine.answers["enable-region"] = [answer("enable-region-without-dimm")]
    with pytest.raises(
        CommandError, match=r"already initialized(.|\n)*could not be enabled again(.|\n)*enabled 0 regions"
    ):
        Host("h", machine).regions.initialize_labels("region0", overwrite=True)


@pytest.mark.parametrize("after", ["used-1.2", "empty-1.1", "zeroed"])
def test_labels_that_are_not_what_was_asked_for_are_a_failure(after: str) -> None:
    machine = LabelMachine(USED, areas=["used-1.2", after])
    machine.answers["init-labels"] = [left(0, stderr="initialized 1 nmem")]
    with pytest.raises(CommandError, match="not initialised though ndctl exited 0: it has version"):
        Host("h", machine).regions.initialize_labels("region0", overwrite=True)
    assert machine.changes[-1] == "enable-region"


def test_labels_of_another_version_are_zeroed_before_new_labels_are_written() -> None:
    """The second index block of the old version would remain in a large label area, and be used again."""
    machine = LabelMachine(USED, areas=["empty-1.1", "zeroed", "empty-1.2"])
    machine.answers["zero-labels"] = [left(0, stderr="zeroed 1 nmem")]
    machine.answers["init-labels"] = [left(0, stderr="initialized 1 nmem")]
    Host("h", machine).regions.initialize_labels("region0", overwrite=True)
    assert machine.changes == ["disable-region", "zero-labels", "init-labels", "enable-region"]


def test_a_region_whose_labels_are_lost_is_initialised_without_a_word() -> None:
    machine = LabelMachine(listing("zeroed"), areas=["zeroed", "empty-1.1"])
    machine.answers["init-labels"] = [left(0, stderr="initialized 1 nmem")]
    after = Host("h", machine).regions.initialize_labels("region0", version="1.1")
    (act,) = [act for act in machine.acts if "init-labels" in act.command]
    assert act.command == ("ndctl", "init-labels", "--label-version", "1.1", "@dimm@")
    assert act.targets == ("-r region0", "-d 8680-56341200")
    assert (after.dev, after.state) == ("region0", "")


def test_a_listing_for_each_step_is_enough() -> None:
    """What there is, what lies beside it, disabled, before it is enabled again, enabled."""
    machine = LabelMachine(listing("zeroed"), areas=["zeroed", "empty-1.2"])
    machine.answers["init-labels"] = [left(0, stderr="initialized 1 nmem")]
    Host("h", machine).regions.initialize_labels("region0")
    assert machine.listed == 5


def test_a_region_that_was_disabled_is_enabled_once_it_has_labels() -> None:
    machine = LabelMachine(listing("zeroed"), areas=["zeroed", "empty-1.2"])
    machine.answers["list"] = [disabled(listing("zeroed"))]
    machine.answers["init-labels"] = [left(0, stderr="initialized 1 nmem")]
    assert Host("h", machine).regions.initialize_labels("region0").state == ""
    assert machine.changes == ["init-labels", "enable-region"]


# Zeroing and writing


def test_a_write_that_fails_and_exits_0_is_a_failure_and_the_region_is_enabled_again() -> None:
    """ndctl 81 counts a DIMM before it writes: "wrote 1 nmem" and status 0, whatever happens then."""
    machine = LabelMachine(USED, areas=["used-1.2"])
    machine.answers["write-labels"] = [answer("write-active")]
    with pytest.raises(CommandError, match=r"was not written though ndctl exited 0(.|\n)*abort label write"):
        Host("h", machine).labels.write("region0", {"nmem0": recorded_bytes("empty-1.2")})
    assert machine.changes == ["disable-region", "write-labels", "enable-region"]


def test_a_zeroing_that_changed_nothing_is_a_failure() -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    machine.answers["zero-labels"] = [answer("zero-absent")]
    with pytest.raises(CommandError, match="not all zeros though ndctl exited 0"):
        Host("h", machine).labels.zero("region0")
    assert machine.changes == ["disable-region", "zero-labels", "enable-region"]


def test_what_was_zeroed_and_written_is_read_back() -> None:
    machine = LabelMachine(USED, areas=["used-1.2", "zeroed"])
    machine.answers["zero-labels"] = [answer("zero")]
    Host("h", machine).labels.zero("region0")
    data = recorded_bytes("used-1.2")
    machine = LabelMachine(USED, areas=["zeroed", data])
    machine.answers["write-labels"] = [left(0, stderr="wrote 1 nmem")]
    Host("h", machine).labels.write("region0", {"nmem0": data})


def test_there_must_be_something_to_zero() -> None:
    machine = LabelMachine(recorded("unlabeled"), areas=["zeroed"], nstype="4")
    with pytest.raises(UnsupportedError, match="no labels to zero"):
        Host("h", machine).labels.zero("region3")
    assert machine.changes == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "labels of all DIMMs of the region: nmem0"),
        ({"nmem0": bytes(131072), "nmem1": bytes(131072)}, "labels of all DIMMs of the region: nmem0"),
        ({"nmem0": bytes(4096)}, "'4096 bytes' cannot be used: expected 131072 bytes"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_changed(data: dict[str, bytes], text: str) -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    with pytest.raises(InvalidValueError, match=text):
        Host("h", machine).labels.write("region0", data)
    assert machine.changes == []


# What there is


def test_labels_without_one_kind_have_no_version() -> None:
    host = Host("h", LabelMachine(recorded("unlabeled"), areas=["zeroed"], nstype="4"))
    with pytest.raises(UnsupportedError, match=r"region3 on recorded has no labels: nmem\d has no valid index block"):
        host.labels.labeled("region3")


def test_the_kernels_own_count_must_be_a_number() -> None:
    machine = LabelMachine(USED, areas=[])
    machine.answers["other"] = [left(0, "nmem0 506\n")]
    assert Host("h", machine).labels.available_slots("region0") == 506
    for answer in ("nmem0 \n", f"nmem0 {'9' * 5000}\n", "nmem0 \u0665\n"):
        machine.answers["other"] = [left(0, answer, "cat: No such device")]
        with pytest.raises(CommandError, match="does not report the free slots of nmem0"):
            Host("h", machine).labels.available_slots("region0")


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_recorded_labels_and_the_recorded_listing_agree(version: str) -> None:
    machine = LabelMachine(listing(version), areas=[f"used-{version}"])
    machine.answers["check-labels"] = [answer(f"check-{version}")]
    assert Host("h", machine).labels.problems("region0") == ()


def test_labels_and_kernel_that_disagree_are_told_both_ways() -> None:
    machine = LabelMachine(USED, areas=["by-the-kernel"])
    machine.answers["check-labels"] = [answer("check-zeroed")]
    problems = Host("h", machine).labels.problems("region0")
    assert "the kernel has no namespace for the label auto (UUID 3d363fa2-e20d-4d60-aa5f-0b4a8864c8ea)" in problems
    assert "namespace one (namespace0.0) (UUID 413b338f-4327-4232-81b9-4c0cb112a16b) has no label" in problems
    assert "nmem0: ndctl check-labels exits 1: successfully verified 0 nmem label" in problems
    assert len(problems) == 5


# Saving


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    saved = Host("h", LabelMachine(USED, areas=["used-1.2"])).labels.saved("region0")
    assert [(each.dimm, each.id, each.size) for each in saved.areas] == [("nmem0", "8680-56341200", Size(131072))]
    path = tmp_path / "labels"
    saved.write(path)
    assert SavedLabels.read(path) == saved
    assert [each.name for each in tmp_path.iterdir()] == ["labels"]
    with pytest.raises(InvalidValueError, match="a writable path"):
        saved.write(tmp_path / "absent" / "labels")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda content: b"", "a file that Save Labels wrote"),
        (lambda content: content[131072:], "a file that Save Labels wrote"),
        (lambda content: content[:-1], "a file with all bytes of nmem0"),
        (lambda content: content[:-1] + b"x", "a file with all bytes of nmem0"),
        (lambda content: content.replace(b'"dimms"', b'"other"'), "a file that Save Labels wrote"),
        (lambda content: content.replace(b'"8680', b"8680"), "a file that Save Labels wrote"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, spoil: object, text: str) -> None:
    assert callable(spoil)
    path = tmp_path / "labels"
    SavedLabels("h", "region0", (SavedArea("nmem0", "8680-1", recorded_bytes("used-1.2")),)).write(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InvalidValueError, match=text):
        SavedLabels.read(path)
    with pytest.raises(InvalidValueError, match="No such file"):
        SavedLabels.read(tmp_path / "absent")


def test_labels_go_back_to_the_dimms_that_they_came_from() -> None:
    one, two = SavedArea("nmem0", "8680-1", b"1" * 1024), SavedArea("nmem1", "8680-2", b"2" * 1024)
    saved = SavedLabels("lab-1", "region0", (one, two))
    here = [Dimm("nmem4", id="8680-2"), Dimm("nmem5", id="8680-1")]
    other = [Dimm("nmem4", id="8680-2"), Dimm("nmem5", id="8680-9")]
    size = Size(1024)
    assert saved.matched(here, [size, size]) == {"nmem4": two.data, "nmem5": one.data}
    with pytest.raises(InvalidValueError, match=r"region0 of lab-1.*nmem5 \(id 8680-9\).*elsewhere=True"):
        saved.matched(other, [size, size])
    assert saved.matched(other, [size, size], elsewhere=True) == {"nmem4": one.data, "nmem5": two.data}
    for elsewhere in (False, True):
        with pytest.raises(InvalidValueError, match="labels of 1 DIMMs; the file has labels of 2"):
            saved.matched(here[:1], [size], elsewhere=elsewhere)
        with pytest.raises(InvalidValueError, match=r"expected 2KiB for nmem5; the file has 1KiB for nmem."):
            saved.matched(here, [size, Size(2048)], elsewhere=elsewhere)
    nameless = SavedLabels("lab-1", "region0", (replace(one, id=""),))
    with pytest.raises(InvalidValueError, match="id none"):
        nameless.matched([Dimm("nmem4")], [size])


def test_the_labels_of_another_dimm_change_nothing() -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    saved = SavedLabels("lab-1", "region1", (SavedArea("nmem1", "8680-57341200", recorded_bytes("empty-1.2")),))
    with pytest.raises(InvalidValueError, match="elsewhere=True"):
        Host("h", machine).labels.restore("region0", saved)
    assert machine.changes == []


# Whose a region is


def test_a_disabled_region_is_known_by_its_labels() -> None:
    machine = LabelMachine(disabled(USED), areas=["used-1.2"])
    host = Host("h", machine)
    assert [namespace.name for namespace in namespaces_on(host, "region0")] == ["one", "three", "four"]
    with pytest.raises(ForeignError, match=r"one \(slot 1 of nmem0\).*no run made it"):
        require_own_region(host, RunMark("0123abcd"), "region0")


def test_a_region_without_namespaces_is_everybodys() -> None:
    for found, data, nstype in ((FREE, "empty-1.2", "5"), (recorded("unlabeled"), "zeroed", "4")):
        host = Host("h", LabelMachine(found, areas=[data], nstype=nstype))
        region = host.ndctl.inventory().regions[0]
        assert namespaces_on(host, region) == ()
        require_own_region(host, RunMark("0123abcd"), region)


def test_labels_beside_the_listing_are_not_told_twice() -> None:
    host = Host("h", LabelMachine(USED, areas=["used-1.2"]))
    assert [namespace.name for namespace in namespaces_on(host, "region0")] == ["one", "three", "four"]


def test_a_failure_of_the_caller_enables_the_region_again() -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    with pytest.raises(VpmemError, match="within"), Host("h", machine).regions.disabled_with_neighbours("region0"):
        raise VpmemError("within")
    assert machine.changes == ["disable-region", "enable-region"]


@pytest.mark.parametrize("change", ["zero", "write", "restore", "initialize"])
def test_what_is_not_confirmed_once_the_region_is_disabled_changes_nothing(change: str) -> None:
    machine = LabelMachine(USED, areas=["used-1.2"])
    host = Host("h", machine)

    def refuse() -> None:
        assert host.ndctl.region("region0").state == "disabled"
        raise ForeignError("another run's came meanwhile")

    data = recorded_bytes("empty-1.2")
    saved = SavedLabels("lab-1", "region0", (SavedArea("nmem0", "8680-56341200", data),))
    steps: dict[str, Callable[[], object]] = {
        "zero": lambda: host.labels.zero("region0", confirm=refuse),
        "write": lambda: host.labels.write("region0", {"nmem0": data}, confirm=refuse),
        "restore": lambda: host.labels.restore("region0", saved, confirm=refuse),
        "initialize": lambda: host.regions.initialize_labels("region0", overwrite=True, confirm=refuse),
    }
    with pytest.raises(ForeignError, match="meanwhile"):
        steps[change]()
    assert machine.changes == ["disable-region", "enable-region"]


def test_labels_of_a_namespace_that_another_run_made_after_the_first_look_stay() -> None:
    """The first look, what there is to zero, and then, with the region disabled, the other run's labels."""
    machine = LabelMachine(FREE, areas=["empty-1.2", "empty-1.2", "used-1.2"])
    session = Session(RunMark("0123abcd"), 60)
    session.add(OpenHost(Host("h", machine), session.run))
    with pytest.raises(ForeignError, match=r"one \(slot 1 of nmem0\)"):
        LabelKeywords(session).zero_labels("region0")
    assert machine.changes == ["disable-region", "enable-region"]


def test_a_region_without_a_dimm_can_have_no_labels() -> None:
    """A region of the kernel parameter `memmap=` (bus e820)."""
    region = {"dev": "region0", "size": 1 << 30, "available_size": 0, "type": "pmem"}
    machine = LabelMachine(left(0, json.dumps([{"provider": "e820", "dev": "ndbus0", "regions": [region]}])), areas=[])
    session = Session(RunMark("0123abcd"), 60)
    session.add(OpenHost(Host("h", machine), session.run, policy=Policy(may_initialize_labels=True)))
    with pytest.raises(
        UnsupportedError, match=r"region0 has no DIMM, so no label area\. Use a host whose DIMMs have label areas"
    ):
        LabelKeywords(session).get_region_for_labels()
