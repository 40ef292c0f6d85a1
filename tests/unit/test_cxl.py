"""CXL memory, on output recorded from cxl 81, ndctl 81 and the kernel (tests/data/ndctl)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from guarded import refusal
from msgspec.structs import replace
from recorded_host import RecordedHost, left, recorded

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    InvalidValueError,
    NotFoundError,
    UnreadableOutputError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up_cxl
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.media.health import Health
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.regions.cxl import Cxl, MediaError
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

RUN = RunMark("01234567")
UUID = "76706d65-6d01-8234-8567-0123456789ab"
Answer = str | CommandResult | list[str | CommandResult]


def host(**answers: Answer) -> RecordedHost:
    """Return a host with the recorded device and no region; answers are named by what is asked."""
    usual: dict[str, Answer] = {
        "errors": "cxl-media-errors-none",
        "decoders": "cxl-root-decoders",
        "memdevs": "cxl-memdevs",
        "regions": "cxl-no-regions",
        "uuids": left(0),
        "listing": "cxl-listing",
    }
    words = {
        "errors": "--media-errors",
        "decoders": "--decoders",
        "memdevs": "list --memdevs",
        "regions": "list --regions",
        "uuids": "/uuid",
        "listing": "ndctl list -X",
        "create": "create-region",
        "destroy": "acts take_apart",
        "inject": "poison inject",
        "clear": "poison clear",
    }
    both = {**usual, **answers}
    return RecordedHost({words[name]: both[name] for name in words if name in both})


def assembled(**answers: Answer) -> RecordedHost:
    """Return a host with the recorded region."""
    return host(**{"regions": "cxl-regions", "uuids": "cxl-uuids", **answers})


def cxl(machine: RecordedHost) -> Cxl:
    return Cxl(Ndctl(machine))


def test_devices_are_read() -> None:
    (memdev,) = cxl(host()).memdevs()
    assert (memdev.dev, memdev.pmem_size, memdev.ram_size, memdev.serial) == ("mem0", 512 * MiB, 0, 1)
    assert memdev.host == "0000:0d:00.0"
    assert cxl(host(memdevs="cxl-no-memdevs")).memdevs() == ()
    assert cxl(host(memdevs=left(0))).memdevs() == ()
    with pytest.raises(NotFoundError, match=r"No CXL memory device 'mem7' on recorded\. There are: mem0"):
        cxl(host()).memdev("mem7")


def test_regions_are_read_with_their_uuid() -> None:
    (region,) = cxl(assembled()).regions()
    assert (region.dev, region.size, region.memory, region.state) == ("region4", 512 * MiB, "pmem", "commit")
    assert (region.memdevs, region.uuid) == (("mem0",), UUID)
    assert cxl(host()).regions() == ()


def test_a_list_with_disabled_devices_is_grouped() -> None:
    """``cxl list -M -i`` groups the devices if some are enabled and some are disabled (ndctl, cxl/filter.c)."""
    printed = """[
      {"anon memdevs": [{"memdev": "mem1", "pmem_size": 268435456, "serial": "0x2", "state": "disabled"}]},
      {"memdevs": [{"memdev": "mem0", "pmem_size": 536870912}]}
    ]"""
    disabled, enabled = cxl(host(memdevs=left(0, printed))).memdevs()
    assert (disabled.dev, disabled.pmem_size, disabled.serial) == ("mem1", 256 * MiB, 2)
    assert (enabled.dev, enabled.pmem_size) == ("mem0", 512 * MiB)


@pytest.mark.parametrize(
    "printed", ['[{"buses": [{"bus": "root0"}]}]', "not json", '{"memdev": "mem0"}', '[{"other": 1}]', "[1]"]
)
def test_what_is_no_list_of_devices_is_not_taken_for_none(printed: str) -> None:
    with pytest.raises(UnreadableOutputError, match="cxl list printed"):
        cxl(host(memdevs=left(0, printed))).memdevs()


def test_a_region_is_assembled_in_the_window_that_takes_it() -> None:
    machine = host(
        create="cxl-create", regions=["cxl-no-regions", "cxl-regions"], uuids=[left(0), recorded("cxl-uuids")]
    )
    region = cxl(machine).create_region(["mem0"], uuid=UUID)
    assert (region.dev, region.provider, region.size) == ("region4", "CXL", 512 * MiB)
    (act,) = machine.acts
    assert act.command == ("acts", "on_memdevs", "1", "mem0", "0x1", *recorded("cxl-create").argv)
    assert act.targets == ("-k cxl",)


def test_a_size_is_given_in_bytes() -> None:
    machine = host(
        create="cxl-create", regions=["cxl-no-regions", "cxl-regions"], uuids=[left(0), recorded("cxl-uuids")]
    )
    cxl(machine).create_region(["mem0"], uuid=UUID, size=Size(256 * MiB))
    assert [argv for argv in machine.asked if "--size=268435456" in argv]


@pytest.mark.parametrize(
    ("memdevs", "size", "error", "text"),
    [
        ([], None, InvalidValueError, "memdevs 'none'"),
        (["mem0", "mem0"], None, InvalidValueError, "no device twice"),
        (["mem1"], None, NotFoundError, "mem0"),
        (["mem0"], Size(100 * MiB), InvalidValueError, r"size '100MiB'.*a multiple of 256MiB, at most the 512MiB"),
        (["mem0"], Size(768 * MiB), InvalidValueError, "at most the 512MiB"),
        (["mem0"], Size(0), InvalidValueError, "a multiple of 256MiB"),
    ],
)
def test_what_cannot_be_is_refused_before_cxl_is_asked(
    memdevs: list[str], size: Size | None, error: type[VpmemError], text: str
) -> None:
    machine = host()
    with pytest.raises(error, match=text):
        cxl(machine).create_region(memdevs, uuid=UUID, size=size)
    assert not [argv for argv in machine.asked if "create-region" in argv]


def test_devices_without_a_window_or_persistent_memory_are_refused() -> None:
    volatile = recorded("cxl-root-decoders").text.replace('"pmem_capable":true,', "")
    with pytest.raises(InvalidValueError, match="below one CXL window of the host that supports persistent memory"):
        cxl(host(decoders=left(0, volatile))).create_region(["mem0"], uuid=UUID)
    ram = recorded("cxl-memdevs").text.replace("pmem_size", "ram_size")
    with pytest.raises(InvalidValueError, match="devices with persistent memory"):
        cxl(host(memdevs=left(0, ram))).create_region(["mem0"], uuid=UUID)


def test_a_failure_has_cxls_words_and_one_that_exits_0_is_a_failure() -> None:
    with pytest.raises(CommandError, match=r"(?s)assemble a region from mem0.*no active memdevs found"):
        cxl(host(create="cxl-create-no-decoder")).create_region(["mem0"], uuid=UUID)
    with pytest.raises(CommandError, match="exited 0, but there is no new region"):
        cxl(host(create="cxl-create")).create_region(["mem0"], uuid=UUID)


def test_a_cxl_that_gives_a_region_no_uuid_names_the_fix() -> None:
    with pytest.raises(UnsupportedError, match=r"no option --uuid.*Fix: a newer ndctl"):
        cxl(host(create=recorded("cxl-create", "76.1"))).create_region(["mem0"], uuid=UUID)


def test_a_region_is_destroyed_in_one_act_by_its_uuid() -> None:
    machine = assembled(destroy="cxl-destroy", regions=["cxl-regions", "cxl-no-regions"])
    cxl(machine).destroy_region("region4")
    (act,) = machine.acts
    assert act.command == ("acts", "take_apart", "region4", UUID)
    assert act.targets == ("-k region4",)


def test_a_region_by_a_record_is_the_one_with_its_uuid() -> None:
    (region,) = cxl(assembled()).regions()
    other = replace(recorded("cxl-uuids"), stdout=b"region4 12345678-1234-4234-8234-123456789abc\n")
    machine = assembled(uuids=other)
    with pytest.raises(NotFoundError, match="No CXL region 'region4'"):
        cxl(machine).destroy_region(region)
    assert machine.acts == []


def test_a_region_that_is_used_or_stays_is_told() -> None:
    inside = refusal(["used it has the active namespace poisoned (namespace4.0), which would be destroyed with it"])
    with pytest.raises(
        BusyError, match=r"CXL region region4 is in use on recorded: .* poisoned .*with it. Nothing was changed"
    ):
        cxl(assembled(destroy=inside)).destroy_region("region4")
    with pytest.raises(NotFoundError, match="CXL region region4"):
        cxl(assembled(destroy=refusal([f"gone CXL region {UUID}"]))).destroy_region("region4")
    with pytest.raises(CommandError, match=r"(?s)Could not destroy CXL region region4.*region4 active"):
        cxl(assembled(destroy="cxl-destroy-active")).destroy_region("region4")
    with pytest.raises(CommandError, match="region4 still exists"):
        cxl(assembled(destroy="cxl-destroy")).destroy_region("region4")
    with pytest.raises(NotFoundError, match="No CXL region 'region9'"):
        cxl(assembled()).destroy_region("region9")


def test_poison_is_listed_injected_and_cleared() -> None:
    line = MediaError(Size(4 * KiB), Size(64), "Injected")
    machine = host(errors="cxl-media-errors", inject="cxl-inject")
    assert cxl(machine).media_errors("mem0") == (line,)
    assert cxl(machine).inject_poison("mem0", Size(4 * KiB)) == (line,)
    (act,) = machine.acts
    assert act.command == ("acts", "on_memdevs", "1", "mem0", "0x1", "poison", "inject", "mem0", "0x1000")
    assert act.targets == ("-k mem0",)
    machine = host(clear="cxl-clear")
    assert cxl(machine).clear_poison("mem0", Size(4 * KiB)) == ()
    assert machine.changes == ["acts on_memdevs 1 mem0 0x1 poison clear mem0 0x1000"]


@pytest.mark.parametrize(
    ("change", "answers", "error", "text"),
    [
        (lambda c: c.inject_poison("mem0", Size(4 * KiB)), {}, CommandError, "the device lists no poison there"),
        (
            lambda c: c.clear_poison("mem0", Size(4 * KiB)),
            {"errors": "cxl-media-errors"},
            CommandError,
            "the device still lists poison there",
        ),
        (lambda c: c.inject_poison("mem0", Size(0)), {"inject": "cxl-inject-beyond"}, CommandError, "I/O error"),
        (lambda c: c.inject_poison("mem0", Size(100)), {}, InvalidValueError, "a multiple of 64 bytes"),
        (lambda c: c.clear_poison("mem0", Size(512 * MiB)), {}, InvalidValueError, "below the 512MiB of mem0"),
        (lambda c: c.inject_poison("mem9", Size(0)), {}, NotFoundError, "mem0"),
    ],
)
def test_poison_that_is_not_as_it_should_be_is_a_failure(
    change: Callable[[Cxl], object], answers: dict[str, Any], error: type[VpmemError], text: str
) -> None:
    with pytest.raises(error, match=text):
        change(cxl(host(**{"inject": "cxl-inject", "clear": "cxl-clear", **answers})))


def test_only_the_runs_own_regions_are_taken_apart() -> None:
    machine = assembled(destroy="cxl-destroy", regions=["cxl-regions", "cxl-regions", "cxl-no-regions"])
    assert [region.dev for region in clean_up_cxl(Host("recorded", machine), RUN)] == ["region4"]
    gone = assembled(destroy=refusal([f"gone CXL region {UUID}"]))
    assert clean_up_cxl(Host("recorded", gone), RUN) == (), "another worker took it apart"
    machine = assembled()
    assert clean_up_cxl(Host("recorded", machine), RunMark("89abcdef")) == ()
    foreign = replace(recorded("cxl-uuids"), stdout=b"region4 12345678-1234-4234-8234-123456789abc\n")
    machine = host(uuids=foreign)
    assert clean_up_cxl(Host("recorded", machine), RUN) == ()
    assert not [argv for argv in machine.asked if argv[0] == "cxl"], "cxl is not needed where no region has a mark"


def test_the_health_of_a_cxl_devices_dimm_agrees_in_ndctl_and_sysfs() -> None:
    answers: dict[str, Any] = {
        "ndctl list -H": "cxl-health",
        "ndctl list -X": "cxl-listing-used",
        "dirty_shutdown": "cxl-sysfs",
    }
    views = Health(Ndctl(RecordedHost(answers))).views("nmem4")
    views.require()
    assert views.views["sysfs"]["id"] == views.views["ndctl"]["id"] == "1"
