"""What xfs_io 6.13 prints with -C, and what is made of it."""

from __future__ import annotations

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.content.pipeline import Guarded
from VpmemLibrary.content.speed import Operation, Order, Speed, Workload, command, measure, read_speeds
from VpmemLibrary.content.target import Target, TargetKind
from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.keywords.host.performance import PerformanceKeywords
from VpmemLibrary.keywords.support.assertions import AssertionOperator
from VpmemLibrary.keywords.support.drawing import bars_svg
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.guard import Guard, target_of
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import KiB, MiB, Size

RANDOM = Workload(Operation.read, Order.random, Size(4 * KiB), Size(8 * MiB))
PRINTED = """8388608,2048,0:00:00.03,235582116.378,57515.165
8388608,2048,0:00:00.33,25196084.497,6151.388
8388608,2048,0:00:00.05,160000000.000,39062.500
"""


def test_the_fastest_round_counts() -> None:
    assert read_speeds(left(0, PRINTED), RANDOM, 3) == (235582116.378, 57515.165)


@pytest.mark.parametrize(
    "printed", ["", PRINTED[:60], PRINTED.replace("8388608,2048", "8388608,8"), "8388608,2048,0:00:00.00,inf,inf\n" * 3]
)
def test_output_that_is_not_of_the_workload_is_reported(printed: str) -> None:
    with pytest.raises(UnreadableOutputError, match="did not report 3 rounds of random read of 8MiB by 4KiB"):
        read_speeds(left(0, printed), RANDOM, 3)


def test_a_device_is_read_past_the_page_cache_and_a_file_as_its_file_system_does() -> None:
    line = command(Target("/dev/pmem0", TargetKind.block, Size(8 * MiB)), RANDOM, 1)
    assert line[:3] == ("xfs_io", "-r", "-d")
    assert "pread -C -b 4096 -R -Z 7 0 8388608" in line
    assert "-d" not in command(Target("/mnt/f", TargetKind.file, Size(8 * MiB)), RANDOM, 1)


def test_writing_is_flushed_within_the_time() -> None:
    workload = Workload(Operation.write, Order.sequential, Size(MiB), Size(8 * MiB))
    line = command(Target("/dev/pmem0", TargetKind.block, Size(8 * MiB)), workload, 2)
    assert line == ("xfs_io", "-d", *("-c", "pwrite -C -b 1048576 -w 0 8388608") * 2, "/dev/pmem0")


def test_device_dax_and_a_range_past_the_end_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="device-DAX node"):
        measure(RecordedHost({"sh": left(0, "devdax 8388608")}), "/dev/dax0.0", RANDOM)
    with pytest.raises(InvalidValueError, match="within the 4MiB"):
        measure(RecordedHost({"sh": left(0, "block 4194304")}), "/dev/pmem0", RANDOM)


def test_what_is_written_to_is_found_by_its_uuid_and_unused() -> None:
    namespace = Namespace("namespace0.0", NamespaceMode.raw, uuid=RunMark("aaaaaaaa").new_uuid(), blockdev="pmem0")
    host = RecordedHost({"getsize64": left(0, "block 8388608"), "pwrite": left(0, PRINTED.splitlines()[0])})
    guarded = Guarded(Guard(host), target_of(namespace), must_be_unused=True)
    workload = Workload(Operation.write, Order.random, Size(4 * KiB), Size(8 * MiB))
    assert measure(host, "/dev/pmem0", workload, rounds=1, guarded=guarded).where == "/dev/pmem0 on recorded"
    assert [(act.targets, act.unused) for act in host.acts] == [((f"-n {namespace.uuid}",), True)]
    assert host.acts[0].command[-1] == "@node@"


@pytest.mark.parametrize(("block", "length"), [(0, MiB), (512, MiB), (4096, 0), (4096, 4096 * 2 + 512)])
def test_a_workload_that_cannot_be_is_refused(block: int, length: int) -> None:
    with pytest.raises(InvalidValueError):
        Workload(Operation.read, Order.random, Size(block), Size(length))


def test_a_ratio_is_asserted_and_like_is_compared_with_like() -> None:
    keywords = PerformanceKeywords(Session(RunMark("aaaaaaaa"), 60))
    fast, slow = (Speed("/dev/pmem0 on lab-1", RANDOM, rate * MiB, 1e6) for rate in (400.0, 100.0))
    assert keywords.get_bandwidth_ratio(slow, fast) == 0.25
    greater = AssertionOperator[">="]
    assert keywords.get_bandwidth_ratio(fast, slow, greater, 4.0) == 4.0
    with pytest.raises(AssertionError, match=r"100 MiB/s.*'0\.25'.*should be greater than or equal '0\.5'"):
        keywords.get_bandwidth_ratio(slow, fast, greater, 0.5)
    other = Speed("/dev/pmem0", Workload(Operation.read, Order.random, Size(MiB), Size(8 * MiB)), 1.0, 1.0)
    with pytest.raises(InvalidValueError, match="blocks and a length as in"):
        keywords.get_bandwidth_ratio(other, fast)


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars_svg("MiB/s", [("host", 200.0), ("<guest>", 100.0)])
    assert 'width="300" height="16"' in drawn
    assert 'width="150" height="16"' in drawn
    assert "&lt;guest&gt;" in drawn
    assert "100 MiB/s" in drawn
    assert "0 MiB/s" in bars_svg("MiB/s", [("none", 0.0)])
