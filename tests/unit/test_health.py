"""Health, bad blocks and injections, on output recorded from ndctl 81 and the kernel (tests/data/ndctl)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded_host import RecordedHost, left, recorded

from VpmemLibrary.errors import (
    CommandError,
    InvalidValueError,
    NotFoundError,
    UnreadableOutputError,
    UnsupportedError,
    ViewsDisagreeError,
    VpmemError,
)
from VpmemLibrary.pmem.media.health import HEALTH_COMMAND, BadBlock, Health, sectors_of
from VpmemLibrary.pmem.media.injection import Injection
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

BAD = 589824 * 512
"""The offset of the recorded bad page in region0: 32 MiB into a namespace that begins at 256 MiB."""


def host(**answers: str | CommandResult | list[str | CommandResult]) -> RecordedHost:
    usual: dict[str, str | CommandResult | list[str | CommandResult]] = {
        "sysfs": "health-sysfs",
        "health": "health",
        "listing": "dax-listing",
    }
    words = {"health": "ndctl list -H", "listing": "ndctl list -X", "sysfs": "dirty_shutdown", "place": "holder"}
    both = {**usual, **answers}
    return RecordedHost({words.get(name, name.replace("_", "-")): answer for name, answer in both.items()})


def health(**answers: str | CommandResult | list[str | CommandResult]) -> Health:
    return Health(Ndctl(host(**answers)))


TEST_BUS: dict[str, str | CommandResult | list[str | CommandResult]] = {
    "sysfs": "test-bus-sysfs",
    "health": "test-bus-health",
    "listing": "test-bus-health",
}
"""The outputs recorded on a bus of the kernel's nfit_test module. Its DIMMs report SMART values."""


def edited(old: str, new: str, state: str = "health-sysfs") -> CommandResult:
    """Return a recorded output in which `new` replaces the first `old`."""
    printed = recorded(state)
    assert old in printed.text
    return replace(printed, stdout=printed.text.replace(old, new, 1).encode())


def without_smart(dev: str) -> CommandResult:
    """Return the listing of the test bus, in which one DIMM does not answer ndctl."""
    printed = recorded("test-bus-health")
    buses = json.loads(printed.text)
    (dimm,) = (dimm for dimm in buses[0]["dimms"] if dimm["dev"] == dev)
    del dimm["health"]
    return replace(printed, stdout=json.dumps(buses).encode())


def test_a_value_that_a_dimm_does_not_report_is_absent_rather_than_zero() -> None:
    assert recorded("health").argv[: len(HEALTH_COMMAND)] == HEALTH_COMMAND
    dimms = health().dimms()
    assert [dimm.dev for dimm in dimms] == ["nmem0", "nmem1", "nmem2", "nmem3"]
    silent = dimms[0]
    assert (silent.flags, silent.kernel_flags, silent.values) == ((), (), {})
    for value in (silent.health_state, silent.temperature, silent.spares, silent.alarms, silent.dirty_shutdown_count):
        assert value is None
    assert [value for name, value in silent.as_rows() if name.startswith("flags")] == ["none", "none"]
    assert [value for name, value in silent.as_rows()].count("absent") == 9
    with pytest.raises(UnsupportedError, match=r"absent: neither its SMART health nor the kernel .* It is not 0"):
        health().dirty_shutdown_count("nmem0")
    with pytest.raises(NotFoundError, match="nmem0, nmem1"):
        health().dimm("nmem7")


def test_the_values_that_a_dimm_reports_are_read() -> None:
    dimm = health(**TEST_BUS).dimm("nmem0")
    assert (dimm.health_state, dimm.temperature, dimm.spares, dimm.life_used) == ("non-critical", 23, 75, 5)
    assert (dimm.controller_temperature, dimm.kernel_flags) == (25, ("smart_notify",))
    assert (dimm.alarms, dimm.shutdown_state) == (("temperature", "spares"), "clean")
    assert (dimm.shutdown_count, dimm.dirty_shutdown, dimm.dirty_shutdown_count) == (42, 42, 42)
    assert dimm.values["temperature_threshold"] == 40
    health(**TEST_BUS).views("nmem0").require()


def test_the_count_of_smart_comes_first_and_zero_is_a_count() -> None:
    """The kernel read its count when it found the DIMM, so SMART's count is the newer one."""
    assert health(**{**TEST_BUS, "health": "test-bus-health-injected"}).dirty_shutdown_count("nmem0") == 43
    none = edited("dirty_shutdown 42", "dirty_shutdown 0", "test-bus-sysfs")
    assert health(**{**TEST_BUS, "sysfs": none, "health": without_smart("nmem0")}).dirty_shutdown_count("nmem0") == 0
    silent = edited("dirty_shutdown 42\n", "", "test-bus-sysfs")
    assert health(**{**TEST_BUS, "sysfs": silent}).dirty_shutdown_count("nmem0") == 42


def test_counts_of_dirty_shutdowns_disagree_only_if_smart_has_fewer_than_the_kernel_had() -> None:
    for fine in (
        {},
        {"sysfs": edited("dirty_shutdown 42\n", "", "test-bus-sysfs")},
        {"health": without_smart("nmem0")},
        {"health": "test-bus-health-injected"},
    ):
        views = health(**{**TEST_BUS, **fine}).views("nmem0")
        views.require()
    more = {**TEST_BUS, "sysfs": edited("dirty_shutdown 42", "dirty_shutdown 44", "test-bus-sysfs")}
    with pytest.raises(ViewsDisagreeError, match=r"differ in dirty shutdowns"):
        health(**more).views("nmem0").require()


def test_flags_of_the_kernel_that_ndctl_does_not_have_are_a_disagreement() -> None:
    views = health().views("nmem0")
    views.require()
    assert {"flags", "handle", "id", "bad in region0"} <= set(views.fields)
    armed = health(sysfs=edited("flags ", "flags not_armed smart_notify "))
    assert armed.dimm("nmem0").kernel_flags == ("not_armed", "smart_notify")
    with pytest.raises(ViewsDisagreeError, match=r"(?s)differ in flags.*>none<.*>failed_arm<"):
        armed.views("nmem0").require()


def test_bad_blocks_of_a_region_and_of_its_dimm() -> None:
    for where in ("region0", "nmem0"):
        (bad,) = health(health="bad-devdax").bad_blocks(where)
        assert (bad.offset, bad.length, bad.dimms) == (BAD, 4 * KiB, ("nmem0",))
        assert str(bad) == "4KiB at 288MiB on nmem0"
        assert health().bad_blocks(where) == ()
    every = edited("region region0", "".join(f"region region{number}\n" for number in range(4)))
    assert health(health="bad-devdax", listing="health", sysfs=every).bad_blocks("nmem1") == ()
    with pytest.raises(NotFoundError, match="No region 'region9'"):
        health().bad_blocks("region9")


def test_bad_blocks_of_a_namespace_count_from_its_first_usable_byte() -> None:
    (bad,) = health(health="bad-devdax", place="bad-devdax-place").bad_blocks("small")
    assert (bad.offset, bad.length) == (30 * MiB, 4 * KiB)
    assert health(health="bad-devdax", place=left(0, f"{6 << 30} {6 << 30} {256 << 20}")).bad_blocks("ram") == ()


def test_those_that_ndctl_lists_for_a_raw_namespace_are_its_regions() -> None:
    """ndctl 81 lists for a raw namespace the offsets in its region, and the bad blocks of its neighbours."""
    raw = next(
        namespace
        for bus in json.loads(recorded("bad-raw").text)
        for region in bus["regions"]
        for namespace in region.get("namespaces", ())
        if namespace.get("name") == "bad"
    )
    assert raw["badblocks"][0]["offset"] * 512 == BAD
    (bad,) = health(health="bad-raw", listing="bad-raw", place="bad-raw-place").bad_blocks("bad")
    assert bad.offset == 32 * MiB


@pytest.mark.parametrize(
    ("begin", "length", "piece"),
    [(0, 100, (10, 20)), (10, 20, (0, 20)), (15, 100, (0, 15)), (0, 15, (10, 5)), (30, 9, (0, 0)), (0, 10, (10, 0))],
)
def test_the_part_of_a_bad_block_within_a_range(begin: int, length: int, piece: tuple[int, int]) -> None:
    part = BadBlock(Size(10), Size(20)).within(begin, length)
    assert part.length == piece[1]
    assert not piece[1] or part.offset == piece[0]


def test_a_region_without_a_list_is_not_one_without_bad_blocks() -> None:
    without = edited("\nregion region0", "")
    for where in ("region0", "nmem0", "ram"):
        with pytest.raises(UnsupportedError, match="keeps no list of bad blocks for region0"):
            health(sysfs=without).bad_blocks(where)


def test_bad_blocks_agree_in_ndctl_and_sysfs() -> None:
    health(health="bad-devdax", sysfs="bad-sysfs").views("nmem0").require()
    with pytest.raises(ViewsDisagreeError, match=r"(?s)bad in region0.*4KiB at 288MiB.*none"):
        health(health="bad-devdax").views("nmem0").require()


def injection(**answers: str | CommandResult | list[str | CommandResult]) -> tuple[Injection, RecordedHost]:
    machine = host(**answers)
    return Injection(Ndctl(machine)), machine


def test_a_bus_without_injection_refuses_with_its_reason_command_and_status() -> None:
    inject, machine = injection(inject_error="inject-error")
    for change in (inject.inject_error, inject.uninject_error):
        with pytest.raises(
            UnsupportedError, match=r"(?s)\(ACPI\.NFIT\) does not support this injection.*--block=2048.*161"
        ):
            change("small", Size(MiB), Size(4 * KiB))
    small = Ndctl(machine).namespace("small").label_uuid
    assert [act.targets for act in machine.acts] == [(f"-n {small}",)] * 2
    inject, _ = injection(inject_smart="inject-smart")
    with pytest.raises(UnsupportedError, match=r"(?s)SMART values into nmem0.*--spares=4 @dimm@.*exit status: 251"):
        inject.inject_smart("nmem0", spares=4)
    with pytest.raises(UnsupportedError, match="uninject-all"):
        inject.uninject_smart("nmem0")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda i: i.inject_error("small", Size(100), Size(512)), InvalidValueError, "offset '100B'"),
        (lambda i: i.inject_error("small", Size(0), Size(0)), InvalidValueError, "at least one sector"),
        (lambda i: i.inject_error("small", Size(62 * MiB), Size(512)), InvalidValueError, "within the 62MiB"),
        (lambda i: i.inject_error("nix", Size(0), Size(512)), NotFoundError, "small"),
        (lambda i: i.inject_smart("nmem0"), InvalidValueError, "at least one value"),
        (lambda i: i.inject_smart("nmem9", spares=4), NotFoundError, "nmem0"),
        (lambda i: i.inject_smart("nmem0", spares=101), InvalidValueError, "spares 101.*0 to 100"),
        (lambda i: i.inject_smart("nmem0", temperature=10.5), InvalidValueError, "temperature 10.5.*whole degrees"),
        (lambda i: i.inject_smart("nmem0", controller_temperature=-3000), InvalidValueError, "from -2047 to 2047"),
    ],
)
def test_an_injection_that_cannot_be_never_reaches_the_bus(
    change: Callable[[Injection], object], error: type[VpmemError], text: str
) -> None:
    inject, machine = injection()
    with pytest.raises(error, match=text):
        change(inject)
    assert not [argv for argv in machine.asked if "inject" in " ".join(argv)]


def test_an_injected_error_is_found_where_it_was_put() -> None:
    bad = {"sysfs": "test-bus-bad-sysfs", "health": "test-bus-bad", "listing": "test-bus-bad"}
    answers = {**bad, "place": "test-bus-bad-place"}
    inject, machine = injection(**answers, inject_error="test-bus-inject-error")
    (found,) = inject.inject_error("hurt", Size(MiB), Size(4 * KiB))
    assert str(found) == "4KiB at 1MiB on nmem3"
    assert machine.changes == ["ndctl inject-error --block=2048 --count=8 @namespace@"]
    assert inject.uninject_error("hurt", Size(MiB), Size(4 * KiB)) == (found,)
    health(**bad).views("nmem0").require()
    with pytest.raises(CommandError, match="the kernel lists no bad block there"):
        inject.inject_error("hurt", Size(0), Size(4 * KiB))


def test_an_injection_that_is_not_listed_afterwards_is_a_failure() -> None:
    inject, _ = injection(inject_error="test-bus-inject-error", place="bad-devdax-place")
    with pytest.raises(CommandError, match="the kernel lists no bad block there"):
        inject.inject_error("small", Size(30 * MiB), Size(4 * KiB))


def test_smart_values_are_given_as_ndctl_takes_them_and_read_back() -> None:
    after = {**TEST_BUS, "health": "test-bus-health-injected"}
    inject, machine = injection(**after, inject_smart="test-bus-inject-smart")
    assert inject.inject_smart("nmem0", temperature=90.0).temperature == 90
    found = inject.inject_smart("nmem0", temperature=90, spares=1, fatal=True, unsafe_shutdown=True)
    assert (found.temperature, found.spares, found.health_state, found.shutdown_count) == (90, 1, "fatal", 43)
    given = tuple(recorded("test-bus-inject-smart").argv)
    assert given == ("ndctl", "inject-smart", "--media-temperature=90", "--spares=1", "--fatal", *given[-2:])
    assert (*given[:-1], "@dimm@") in machine.asked
    assert {act.targets for act in machine.acts} == {(f"-d {Ndctl(machine).dimm('nmem0').id}",)}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"temperature": 91}, r"the temperature of nmem0 reads 90\.0, not 91"),
        ({"controller_temperature": 80}, r"the controller temperature of nmem0 reads 25\.0, not 80"),
        ({"spares": 0}, "the spares of nmem0 reads 1, not 0"),
    ],
)
def test_a_value_that_is_not_read_back_is_a_failure_whatever_ndctl_exits_with(
    values: dict[str, Any], text: str
) -> None:
    inject, _ = injection(**{**TEST_BUS, "health": "test-bus-health-injected"}, inject_smart="test-bus-inject-smart")
    with pytest.raises(CommandError, match=text):
        inject.inject_smart("nmem0", **values)


@pytest.mark.parametrize(("values", "text"), [({"fatal": True}, "health"), ({"unsafe_shutdown": True}, "shutdown")])
def test_a_state_that_is_not_read_back_is_a_failure(values: dict[str, Any], text: str) -> None:
    inject, _ = injection(**TEST_BUS, inject_smart="test-bus-inject-smart")
    with pytest.raises(CommandError, match=text):
        inject.inject_smart("nmem0", **values)


def test_a_value_that_the_dimm_refuses_is_reported_with_ndctls_message() -> None:
    inject, _ = injection(**TEST_BUS, inject_smart="test-bus-inject-controller")
    with pytest.raises(CommandError, match=r"(?s)ctrl-temperature=50.*exit status: 250.*ctrl_temperature cmd invalid"):
        inject.inject_smart("nmem0", controller_temperature=50)


def test_a_failed_injection_names_the_values_that_were_injected_before() -> None:
    hurt: list[str | CommandResult] = ["test-bus-health", "test-bus-health-injected"]
    inject, _ = injection(**{**TEST_BUS, "health": hurt}, inject_smart="test-bus-inject-controller")
    with pytest.raises(CommandError, match=r"Injected before the failure: temperature 90, health fatal\. Uninject"):
        inject.inject_smart("nmem0", temperature=90, controller_temperature=50, fatal=True)
    inject, _ = injection(**TEST_BUS, inject_smart="test-bus-inject-controller")
    with pytest.raises(CommandError, match=r"Nothing was changed in nmem0\."):
        inject.inject_smart("nmem0", temperature=90, controller_temperature=50)


def test_errors_are_not_injected_below_a_block_translation_table() -> None:
    printed = recorded("dax-listing")
    buses = json.loads(printed.text)
    (small,) = (
        each
        for bus in buses
        for region in bus["regions"]
        for each in region.get("namespaces", [])
        if each.get("name") == "small"
    )
    small["mode"] = "sector"
    inject, machine = injection(listing=replace(printed, stdout=json.dumps(buses).encode()))
    with pytest.raises(UnsupportedError, match=r"its mode is sector.*Use a namespace of mode raw, fsdax or devdax"):
        inject.inject_error("small", Size(0), Size(512))
    assert not machine.changes


def test_sectors_are_whole() -> None:
    assert sectors_of("offset", Size(4 * KiB)) == 8
    with pytest.raises(InvalidValueError, match=r"length '1B'.*512 bytes"):
        sectors_of("length", Size(1))


@pytest.mark.parametrize(
    "line",
    ["bad 1", "bad x y", "bad 1 2 3", "bad " + "9" * 5000 + " 1", "bad \u00b2 1", "region region0\nbad -1 1"],
)
def test_a_list_of_bad_blocks_of_another_form_is_unreadable(line: str) -> None:
    with pytest.raises(UnreadableOutputError, match="list of bad blocks has the line"):
        health(sysfs=left(0, f"region region0\n{line}\n")).bad_blocks("region0")


@pytest.mark.parametrize("listed", [[1], [{}], [{"offset": 1}], [{"offset": "x", "length": 1}], [{"offset": -1}]])
def test_a_bad_block_without_a_place_is_unreadable(listed: list[object]) -> None:
    text = [{"dev": "ndbus0", "regions": [{"dev": "region0", "badblocks": listed}]}]
    with pytest.raises(UnreadableOutputError, match="A bad block of region0 has no offset and length"):
        health(health=left(0, json.dumps(text)), listing=left(0, json.dumps(text))).bad_blocks("region0")


@given(
    st.dictionaries(
        st.sampled_from(
            ["health_state", "temperature_celsius", "spares_percentage", "shutdown_count", "alarm_spares", "x"]
        ),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5) | st.just([]),
    ),
    st.dictionaries(
        st.sampled_from(["flags", "dirty_shutdown", "handle", "phys_id", "id", "state"]),
        st.text(st.characters(exclude_characters="\n"), max_size=8) | st.integers().map(str) | st.just("9" * 5000),
    ),
)
@settings(max_examples=200)
def test_any_health_is_shown_as_it_is_or_as_absent(values: dict[str, object], kernel: dict[str, str]) -> None:
    dimm = {"dev": "nmem0", "health": values}
    text = json.dumps([{"dev": "ndbus0", "dimms": [dimm], "regions": []}])
    sysfs = "dimm nmem0\n" + "".join(f"{name} {value}\n" for name, value in kernel.items())
    asked = health(
        health=left(0, text),
        listing=left(0, text),
        sysfs=replace(left(0), stdout=sysfs.encode("utf-8", "surrogatepass")),
    )
    (shown,) = asked.dimms()
    assert all(value.isprintable() for row in shown.as_rows() for value in row)
    assert asked.views("nmem0").table()


def test_a_temperature_beyond_all_bounds_is_absent() -> None:
    text = json.dumps([{"dev": "ndbus0", "dimms": [{"dev": "nmem0", "health": {"temperature_celsius": 10**400}}]}])
    (shown,) = health(health=left(0, text)).dimms()
    assert shown.temperature is None
