"""The guard program, run by real shells with real locks and real processes, on a made-up sysfs."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guarded_machine import GuardedMachine, shells

UUID = "76706d65-0123-4abc-8def-0123456789ab"
OTHER = "76706d65-ffff-4abc-8def-0123456789ab"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the processes of others and device nodes need root")


@pytest.fixture(params=shells())
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(tmp_path: Path, shell: str) -> GuardedMachine:
    return filled(GuardedMachine(tmp_path, shell))


@pytest.fixture
def real(tmp_path: Path, shell: str) -> GuardedMachine:
    """Return a machine with made-up devices and the real processes of this one."""
    return filled(GuardedMachine(tmp_path, shell, real_processes=True))


def filled(machine: GuardedMachine) -> GuardedMachine:
    machine.region("region0", "0xba90120012b4dc", "nmem0", "nmem1")
    machine.region("region1", "0xba901c0012b4dd", "nmem2")
    machine.dimm("nmem0", "nfit", "8680-56341200")
    machine.dimm("nmem1", "cxl", "1234-cxl")
    machine.dimm("nmem2", "papr", "5678-papr")
    machine.namespace("namespace0.0", "", block="pmem0", number="259:7")
    machine.namespace("namespace0.1", UUID, dax="dax0.1", number="253:7", holder="dax0.0")
    machine.namespace("namespace1.0", OTHER, block="pmem1s", number="259:8", holder="btt1.0")
    return machine


# What is acted on


def test_a_namespace_is_found_by_its_uuid(machine: GuardedMachine) -> None:
    found = machine.run("-n", UUID, command=["printf", "%s\n", "@region@", "@namespace@", "@node@"])
    assert found.words == ["region0", "namespace0.1", "/dev/dax0.1"]
    assert found.reports == ["acts on region0 namespace0.1 - /dev/dax0.1"]
    assert machine.run("-n", OTHER, command=["echo", "@node@"]).words == ["/dev/pmem1s"]


def test_a_namespace_without_a_label_is_found_by_its_name(machine: GuardedMachine) -> None:
    assert machine.run("-n", "namespace0.0", command=["echo", "@node@"]).words == ["/dev/pmem0"]


@pytest.mark.parametrize("asked", ["0xba901c0012b4dd", "region1"])
def test_a_region_is_found_by_its_cookie_or_its_name(machine: GuardedMachine, asked: str) -> None:
    assert machine.run("-r", asked, command=["echo", "@region@"]).words == ["region1"]


@pytest.mark.parametrize(
    ("asked", "name"), [("8680-56341200", "nmem0"), ("1234-cxl", "nmem1"), ("5678-papr", "nmem2"), ("nmem1", "nmem1")]
)
def test_a_dimm_is_found_by_the_id_that_any_driver_shows(machine: GuardedMachine, asked: str, name: str) -> None:
    assert machine.run("-d", asked, command=["echo", "@dimm@"]).words == [name]


def test_a_region_is_found_by_its_name_only_if_it_is_on_the_dimm_that_is_meant(machine: GuardedMachine) -> None:
    assert machine.run("-r", "region0", "-d", "1234-cxl", command=["echo", "@region@", "@dimm@"]).words == [
        "region0",
        "nmem1",
    ]
    assert machine.run("-r", "region1", "-d", "1234-cxl").refusal == "gone region region1 on dimm 1234-cxl"


@pytest.mark.parametrize(
    ("option", "asked"),
    [
        ("-n", UUID.replace("0123", "4567", 1)),
        ("-n", "namespace0.7"),
        ("-r", "0xba90"),
        ("-r", "region7"),
        ("-d", "8680-5634120"),
        ("-d", "nmem7"),
    ],
)
def test_what_is_gone_is_not_acted_on(machine: GuardedMachine, option: str, asked: str) -> None:
    assert asked in machine.run(option, asked).refusal
    assert machine.run(option, asked).refusal.startswith("gone ")


def test_a_device_that_took_the_name_of_another_is_not_acted_on(machine: GuardedMachine) -> None:
    machine.write(machine.bus / "namespace0.1/uuid", OTHER.replace("ffff", "eeee"))
    assert machine.run("-n", UUID).refusal == f"gone namespace {UUID}"


def test_what_two_devices_are_known_by_is_refused(machine: GuardedMachine) -> None:
    machine.namespace("namespace1.1", UUID)
    machine.region("region2", "0xba901c0012b4dd")
    machine.dimm("nmem3", "nfit", "5678-papr")
    assert machine.run("-n", UUID).refusal == f"ambiguous namespace {UUID}: namespace0.1 and namespace1.1"
    assert machine.run("-r", "0xba901c0012b4dd").refusal.endswith("region1 and region2")
    assert machine.run("-d", "5678-papr").refusal.startswith("ambiguous dimm 5678-papr: nmem")


@pytest.mark.parametrize(
    "options",
    [
        ["-n", ""],
        ["-r", ""],
        ["-d", ""],
        ["-p", ""],
        ["-l", "", "text"],
        ["-l", "/record", ""],
        ["-n", UUID, "-n", OTHER],
        ["-r", "region0", "-u", "-r", "region1"],
        ["-u"],
        ["-x"],
        [UUID],
    ],
)
def test_options_that_mean_nothing_or_two_things_are_refused(machine: GuardedMachine, options: list[str]) -> None:
    machine.run(*options).refusal  # noqa: B018  it fails if the command was run


def test_several_leases_are_no_option_twice(machine: GuardedMachine, tmp_path: Path) -> None:
    records = [str(machine.write(tmp_path / name, f"token {name}")) for name in ("one", "two")]
    assert machine.run("-l", records[0], "token one", "-l", records[1], "token two").words == ["acted"]


# The names in the command


def test_the_names_of_the_moment_are_put_in_wherever_they_stand(machine: GuardedMachine) -> None:
    hostile = ["a b", "", "$(id)", "`id`", "*", "a\nb\n", "'\"\\", "-n", "--", "@other@", "%s"]
    command = ["printf", "<%s>", *hostile, "of=@node@", "@region@/@namespace@/@region@", "@node@@node@"]
    expected = [*hostile, "of=/dev/dax0.1", "region0/namespace0.1/region0", "/dev/dax0.1/dev/dax0.1"]
    assert machine.run("-n", UUID, command=command).stdout == "".join(f"<{each}>" for each in expected).encode()


def test_a_path_is_put_in_as_it_is(machine: GuardedMachine, tmp_path: Path) -> None:
    path = machine.write(tmp_path / "@node@ $(id) '\"")
    assert machine.run("-p", str(path), command=["printf", "%s", "@node@"]).stdout == str(path).encode()


def test_a_command_that_names_what_is_not_there_is_not_run(machine: GuardedMachine) -> None:
    machine.namespace("namespace0.2", OTHER.replace("ffff", "eeee"))
    disabled = machine.run("-n", OTHER.replace("ffff", "eeee"), command=["echo", "of=@node@"])
    assert disabled.refusal == "absent @node@: there is no such name or device node"
    assert "@dimm@" in machine.run("-n", UUID, command=["echo", "@dimm@"]).refusal


# What passes through


def test_the_commands_input_output_and_status_are_its_own(machine: GuardedMachine) -> None:
    data = bytes(range(256)) * 1000
    found = machine.run("-n", UUID, command=["sh", "-c", "cat; printf 'its own\\n' >&2; exit 7"], stdin=data)
    assert (found.status, found.stdout) == (7, data)
    assert found.stderr.endswith(b"its own\n")
    assert machine.run("-n", UUID, command=["no-such-program"]).status == 127
    assert machine.run("-n", UUID, command=["sh", "-c", "kill -9 $$"]).status == -signal.SIGKILL


# Leases


def test_a_lease_is_proven_by_its_record(machine: GuardedMachine, tmp_path: Path) -> None:
    record = machine.write(tmp_path / "a record's file", "run 0123abcd token 5f0e6d")
    assert machine.run("-l", str(record), "token 5f0e6d", "-n", UUID).words == ["acted"]


@pytest.mark.parametrize("lines", [["run ffffffff token 000000"], [], ["another line", "token 5f0e6d"]])
def test_a_lease_that_is_another_workers_stops_the_command(
    machine: GuardedMachine, tmp_path: Path, lines: list[str]
) -> None:
    record = machine.write(tmp_path / "record", *lines)
    assert machine.run("-l", str(record), "token 5f0e6d", "-n", UUID).refusal == f"lost {record}"


def test_every_lease_counts_and_a_record_that_is_missing_is_a_lost_lease(
    machine: GuardedMachine, tmp_path: Path
) -> None:
    good, missing = machine.write(tmp_path / "good", "token 1"), tmp_path / "missing"
    for first, second in ((good, missing), (missing, good)):
        options = ["-l", str(first), "token 1", "-l", str(second), "token 1"]
        assert machine.run(*options, "-n", UUID).refusal == f"lost {missing}"


# The lock

HOLD = ["sh", "-c", "echo holds; read line"]


@contextmanager
def holding(machine: GuardedMachine, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a command that holds a lock until its input ends."""
    process = machine.start(*options, command=HOLD)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        yield process
    finally:
        process.kill()
        if process.stdin and not process.stdin.closed:
            process.communicate()


def waiting(
    machine: GuardedMachine, lock: str, *options: str, command: tuple[str, ...] = ("echo", "@region@", "@namespace@")
) -> subprocess.Popen[bytes]:
    """Start a command and return once it waits for a lock."""
    process = machine.start(*options, command=command)
    assert process.stderr is not None
    assert process.stderr.readline() == f"vpmem-guard: waits for the lock of {lock}\n".encode()
    return process


def release(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"\n", timeout=60)


def test_two_commands_on_a_region_do_not_run_at_once(machine: GuardedMachine) -> None:
    with holding(machine, "-n", UUID) as first:
        second = waiting(machine, "region0", "-n", "namespace0.0")
        assert machine.run("-n", OTHER).words == ["acted"], "another region is not locked"
        release(first)
    stdout, stderr = second.communicate(timeout=60)
    assert (second.returncode, stdout) == (0, b"region0 namespace0.0\n")
    assert stderr.startswith(b"vpmem-guard: has the lock of region0\nvpmem-guard: acts on region0 namespace0.0 ")


def test_the_lock_goes_with_the_command_that_is_killed(machine: GuardedMachine) -> None:
    with holding(machine, "-n", UUID) as first:
        second = waiting(machine, "region0", "-n", UUID)
        first.kill()
        second.communicate(timeout=60)
    assert second.returncode == 0


def test_the_lock_stays_with_the_command_when_its_client_is_killed(machine: GuardedMachine, tmp_path: Path) -> None:
    """A connection that breaks ends the client and not what it began."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = machine.command("-n", UUID, command=["sh", "-c", 'echo $$; read line <"$1"', "sh", str(fifo)])
    client = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command],
        env={**os.environ, **machine.environment},
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert int(client.stdout.readline())
    client.kill()
    client.wait(60)
    second = waiting(machine, "region0", "-n", UUID)
    fifo.write_text("end\n")
    second.communicate(timeout=60)
    assert second.returncode == 0
    client.stdout.close()


def test_a_dimm_is_locked_with_its_regions(machine: GuardedMachine) -> None:
    machine.region("region2", "0x1", "nmem1")
    with holding(machine, "-d", "1234-cxl") as first:
        others = [waiting(machine, name, "-r", name, command=("echo", "@region@")) for name in ("region0", "region2")]
        release(first)
        assert [other.communicate(timeout=60)[0] for other in others] == [b"region0\n", b"region2\n"]
    with holding(machine, "-r", "region2") as first:
        dimm = waiting(machine, "region2", "-d", "1234-cxl", command=("echo", "@dimm@"))
        release(first)
        assert dimm.communicate(timeout=60)[0] == b"nmem1\n"


def test_a_dimm_that_has_no_region_has_a_lock_of_its_own(machine: GuardedMachine) -> None:
    machine.dimm("nmem7", "nfit", "alone")
    with holding(machine, "-d", "alone") as first:
        second = waiting(machine, "nmem7", "-d", "nmem7", command=("echo", "@dimm@"))
        release(first)
        assert second.communicate(timeout=60)[0] == b"nmem7\n"


def test_what_is_on_no_region_has_the_lock_that_is_asked_for(machine: GuardedMachine) -> None:
    with holding(machine, "-k", "cxl") as first:
        second = waiting(machine, "cxl", "-k", "cxl", command=("echo", "acted"))
        release(first)
        assert second.communicate(timeout=60)[0] == b"acted\n"


def test_a_device_that_was_replaced_while_the_lock_was_waited_for_is_not_acted_on(machine: GuardedMachine) -> None:
    with holding(machine, "-r", "region0") as first:
        second = waiting(machine, "region0", "-n", UUID)
        machine.write(machine.bus / "namespace0.1/uuid", OTHER.replace("ffff", "eeee"))
        release(first)
    stdout, stderr = second.communicate(timeout=60)
    assert (second.returncode, stdout) == (113, b"")
    assert stderr.endswith(f"gone namespace {UUID}\n".encode())


def test_a_device_that_got_another_name_meanwhile_is_acted_on_by_its_name_of_now(machine: GuardedMachine) -> None:
    with holding(machine, "-r", "region0") as first:
        second = waiting(machine, "region0", "-n", UUID)
        (machine.bus / "namespace0.1").rename(machine.bus / "namespace0.3")
        release(first)
    assert second.communicate(timeout=60)[0].split() == [b"region0", b"namespace0.3"]


@pytest.mark.parametrize("options", [["-n", UUID], ["-r", "0xba90120012b4dc"]])
def test_a_device_that_moved_to_another_region_meanwhile_is_not_acted_on(
    machine: GuardedMachine, options: list[str]
) -> None:
    with holding(machine, "-r", "region0") as first:
        second = waiting(machine, "region0", *options)
        (machine.bus / "namespace0.1").rename(machine.bus / "namespace5.1")
        (machine.bus / "region0").rename(machine.bus / "region5")
        release(first)
    stdout, stderr = second.communicate(timeout=60)
    assert (second.returncode, stdout) == (113, b"")
    assert stderr.endswith(b"gone from region0: it belongs to region5 now\n")


def test_a_lease_that_was_lost_while_the_lock_was_waited_for_stops_the_command(
    machine: GuardedMachine, tmp_path: Path
) -> None:
    record = machine.write(tmp_path / "record", "token 1")
    with holding(machine, "-r", "region0") as first:
        second = waiting(machine, "region0", "-l", str(record), "token 1", "-n", UUID)
        machine.write(record, "token 2")
        release(first)
    stdout, stderr = second.communicate(timeout=60)
    assert (second.returncode, stdout) == (113, b"")
    assert stderr.endswith(f"lost {record}\n".encode())


def test_the_directory_of_the_locks_is_closed_to_others(machine: GuardedMachine) -> None:
    assert machine.run("-n", UUID).words == ["acted"]
    modes = [path.stat().st_mode & 0o777 for path in (machine.run_directory, machine.run_directory / "locks")]
    assert modes == [0o700, 0o700]


@pytest.mark.parametrize("place", [".", "locks"])
@pytest.mark.parametrize("kind", ["link", "group", "others", "owner"])
def test_a_directory_that_others_can_change_is_refused(machine: GuardedMachine, place: str, kind: str) -> None:
    (machine.run_directory / "locks").mkdir(parents=True, mode=0o700)
    machine.run_directory.chmod(0o700)
    path = machine.run_directory / place
    if kind == "link":
        elsewhere = path.parent / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    elif kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("giving a directory to another user needs root")
        os.chown(path, 65534, -1)
    else:
        path.chmod({"group": 0o770, "others": 0o702}[kind])
    assert machine.run("-n", UUID).refusal.startswith(f"unsafe {os.path.normpath(path)}: ")


def test_a_lock_that_cannot_be_opened_is_a_refusal_and_no_missing_program(machine: GuardedMachine) -> None:
    (machine.run_directory / "locks/region0").mkdir(parents=True)
    for path in (machine.run_directory, machine.run_directory / "locks"):
        path.chmod(0o700)
    assert machine.run("-n", UUID).refusal == f"unsafe {machine.run_directory}/locks/region0: it cannot be written"


def test_a_program_that_is_missing_is_named(machine: GuardedMachine, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    for tool in ("mkdir", "stat", "sh", "dash", "bash", "busybox", "echo", "printf", "sort"):
        for place in ("/usr/bin", "/bin"):
            if Path(place, tool).exists() and not (tools / tool).exists():
                (tools / tool).symlink_to(f"{place}/{tool}")
    machine.environment["PATH"] = str(tools)
    assert machine.run("-n", UUID).refusal == "has no flock"
    path = machine.write(tmp_path / "file")
    assert machine.run("-p", str(path), "-u").refusal.startswith("has no ")
    assert machine.run("-p", str(path), command=["echo", "acted"]).words == ["acted"], "nothing is needed for a path"


# Who uses it: processes


def started(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process and return once it has printed a line; it ends with its input."""
    ready = "print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import mmap, os, sys\n{code}\n{ready}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


@contextmanager
def running(code: str, *arguments: str) -> Iterator[int]:
    """Give the id of a process that has run some Python."""
    process = started(code, *arguments)
    try:
        yield process.pid
    finally:
        process.communicate(timeout=60)


OPEN = "keep = os.open(sys.argv[1], os.O_RDONLY)"
MAP = (
    "keep = os.open(sys.argv[1], os.O_RDWR)\n"
    "mapping = mmap.mmap(keep, 4096, flags={flags}, prot=mmap.PROT_READ)\n"
    "os.close(keep)"
)


def node(path: Path, kind: str, major: int, minor: int) -> str:
    """Make a device node, whatever its name."""
    try:
        os.mknod(path, 0o600 | {"b": 0o060000, "c": 0o020000}[kind], os.makedev(major, minor))
    except PermissionError:
        pytest.skip("making a device node needs CAP_MKNOD")
    return str(path)


def mappable(tmp_path: Path) -> str:
    """Return a block device that nothing uses, by a name that tells nothing: a loop device on no file."""
    path = node(tmp_path / "any name", "b", 7, 255)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ):  # noqa: PTH123
            return path
    except OSError as error:
        pytest.skip(f"the kernel has no loop device that can be mapped: {error}")


@needs_root
def test_a_device_that_a_process_has_open_is_in_use_by_its_number(real: GuardedMachine, tmp_path: Path) -> None:
    path = node(tmp_path / "any name", "c", 1, 7)
    real.namespace("namespace0.5", OTHER.replace("ffff", "dddd"), dax="dax0.5", number="1:7")
    with running(OPEN, path) as pid:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        assert real.run("-n", "namespace0.5", "-u").refusal == f"used process {pid} ({name})"
    assert real.run("-n", "namespace0.5", "-u").words == ["acted"]


@needs_root
def test_a_block_and_a_character_device_of_one_number_are_two_devices(real: GuardedMachine, tmp_path: Path) -> None:
    path = node(tmp_path / "any name", "c", 1, 7)
    real.namespace("namespace0.5", OTHER.replace("ffff", "dddd"), block="pmem0.5", number="1:7")
    with running(OPEN, path):
        assert real.run("-n", "namespace0.5", "-u").words == ["acted"]


@needs_root
@pytest.mark.parametrize("name", ["dax0.1", "pmem0", "dax0.1 (deleted)"])
def test_a_file_of_a_devices_name_is_not_the_device(real: GuardedMachine, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(4096))
    with running(OPEN, str(path)), running(MAP.format(flags="mmap.MAP_SHARED"), str(path)):
        assert real.run("-n", UUID, "-u").words == ["acted"]
        assert real.run("-n", "namespace0.0", "-u").words == ["acted"]


@needs_root
def test_a_device_that_is_mapped_and_no_longer_open_is_in_use(real: GuardedMachine, tmp_path: Path) -> None:
    path = mappable(tmp_path)
    real.namespace("namespace0.5", OTHER.replace("ffff", "dddd"), block="pmem0.5", number="7:255")
    with running(MAP.format(flags="mmap.MAP_SHARED"), path) as pid:
        assert real.run("-n", "namespace0.5", "-u").refusal.startswith(f"used process {pid} (")
        assert real.run("-p", path, "-u").refusal.startswith(f"used process {pid} (")
    assert real.run("-n", "namespace0.5", "-u").words == ["acted"]


@needs_root
@pytest.mark.parametrize("flags", ["mmap.MAP_SHARED", "mmap.MAP_PRIVATE"])
def test_a_file_in_memory_that_is_mapped_is_in_use(real: GuardedMachine, flags: str) -> None:
    path = Path("/dev/shm") / f"vpmem-test-{os.getpid()}"
    path.write_bytes(bytes(4096))
    try:
        with running(MAP.format(flags=flags), str(path)) as pid:
            assert real.run("-p", str(path), "-u").refusal.startswith(f"used process {pid} (")
        assert real.run("-p", str(path), "-u").words == ["acted"]
    finally:
        path.unlink()


@needs_root
def test_a_file_that_a_process_has_open_is_in_use_by_any_name(real: GuardedMachine, tmp_path: Path) -> None:
    path, link = tmp_path / "a file", tmp_path / "another name"
    path.write_bytes(bytes(4096))
    link.hardlink_to(path)
    with running(OPEN, str(path)) as pid:
        assert real.run("-p", str(link), "-u").refusal.startswith(f"used process {pid} (")
    assert real.run("-p", str(link), "-u").words == ["acted"]


@needs_root
def test_all_processes_are_named_and_their_names_are_harmless(real: GuardedMachine, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes(bytes(4096))
    rename = "open('/proc/self/comm', 'wb').write({name!r})\n" + OPEN
    with (
        running(rename.format(name=b"\x1b]0;P\x07\x7f"), str(path)) as first,
        running(rename.format(name=b"a\nvpmem-guard: b"), str(path)) as second,
    ):
        outcome = real.run("-p", str(path), "-u")
    assert outcome.refusal
    assert sorted(outcome.reports) == sorted([f"used process {first} (?]0;P??)", f"used process {second} (a)"])


def test_who_cannot_see_what_others_have_mapped_is_refused(machine: GuardedMachine) -> None:
    process = subprocess.run(
        machine.command("-n", UUID, "-u", command=["echo", "acted"])[4:],
        env={**os.environ, **machine.environment},
        capture_output=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (113, b"")
    assert b"vpmem-guard: blind: mappings of other processes cannot be read" in process.stderr


# Who uses it: the kernel


@pytest.mark.parametrize("options", [["-n", "namespace0.0"], ["-r", "region0"], ["-d", "nmem1"]])
def test_a_namespace_that_is_mounted_is_in_use_and_so_are_its_region_and_its_dimms(
    machine: GuardedMachine, options: list[str]
) -> None:
    line = r"30 1 259:7 / /mnt/a\040b rw - ext4 /dev/pmem0 rw"
    machine.write(machine.proc / "self/mountinfo", "29 1 259:6 / / rw - ext4 /dev/vda rw", line, line)
    assert machine.run(*options, "-u").reports == [r"used mounted at /mnt/a\040b"]
    assert machine.run("-r", "region1", "-u").words == ["acted"]
    assert machine.run("-d", "nmem2", "-u").words == ["acted"]


def test_a_mount_that_only_a_container_sees_counts(machine: GuardedMachine) -> None:
    machine.write(machine.proc / "4711/mountinfo", "30 1 259:7 / /data rw - ext4 /dev/pmem0 rw")
    assert machine.run("-n", "namespace0.0", "-u").refusal == "used mounted at /data"


def test_a_mounted_block_device_of_a_device_dax_nodes_number_is_another_device(machine: GuardedMachine) -> None:
    machine.write(machine.proc / "self/mountinfo", "30 1 253:7 / / rw - ext4 /dev/mapper/root rw")
    assert machine.run("-n", UUID, "-u").words == ["acted"]


def test_a_partition_that_is_mounted_is_a_use_of_the_namespace(machine: GuardedMachine) -> None:
    part = machine.bus / "namespace0.0/block/pmem0/pmem0p1"
    machine.write(part / "dev", "259:9")
    machine.write(part / "partition", "1")
    machine.write(machine.proc / "self/mountinfo", "30 1 259:9 / /mnt rw - ext4 /dev/pmem0p1 rw")
    assert machine.run("-n", "namespace0.0", "-u").refusal == "used mounted at /mnt"


@pytest.mark.parametrize("place", [".", "pmem0p1"])
def test_a_block_device_on_a_namespace_or_its_partition_is_a_use(machine: GuardedMachine, place: str) -> None:
    device = machine.bus / "namespace0.0/block/pmem0"
    machine.write(device / "pmem0p1/dev", "259:9")
    machine.write(device / "pmem0p1/partition", "1")
    machine.write(device / place / "holders/dm-3/dev", "252:3")
    assert machine.run("-n", "namespace0.0", "-u").refusal == "used block device dm-3 on it"


def test_btrfs_on_a_namespace_is_a_use_though_its_mount_has_another_number(machine: GuardedMachine) -> None:
    devices = machine.sys / "fs/btrfs/5f0e6d/devices"
    devices.mkdir(parents=True)
    (devices / "pmem0").symlink_to(machine.bus / "namespace0.0/block/pmem0")
    assert machine.run("-n", "namespace0.0", "-u").refusal == "used a mounted btrfs file system"
    assert machine.run("-n", OTHER, "-u").words == ["acted"]


@needs_root
def test_swap_space_and_loop_devices_are_uses(machine: GuardedMachine, tmp_path: Path) -> None:
    path = node(tmp_path / "pmem0", "b", 259, 7)
    machine.write(machine.proc / "swaps", "Filename Type", f"{path} partition 1 0 -2")
    machine.write(machine.sys / "block/loop3/loop/backing_file", path)
    machine.write(machine.sys / "block/loop4/loop/backing_file", "/no such file")
    assert machine.run("-n", "namespace0.0", "-u").reports == [
        f"used swap space {path}",
        "used block device loop3 on it",
    ]
    assert machine.run("-p", path, "-u").reports == [f"used swap space {path}", "used block device loop3 on it"]
    assert machine.run("-n", OTHER, "-u").words == ["acted"]


def test_a_file_under_a_loop_device_or_swap_is_in_use(machine: GuardedMachine, tmp_path: Path) -> None:
    path = machine.write(tmp_path / "file")
    machine.write(machine.sys / "block/loop3/loop/backing_file", str(path))
    assert machine.run("-p", str(path), "-u").refusal == "used block device loop3 on it"
    machine.write(machine.sys / "block/loop3/loop/backing_file", "/another")
    machine.write(machine.proc / "swaps", "Filename Type", f"{path} file 1 0 -2")
    assert machine.run("-p", str(path), "-u").refusal == f"used swap space {path}"


def test_system_ram_is_a_use_by_the_host_itself(machine: GuardedMachine) -> None:
    driver = machine.sys / "bus/dax/drivers/kmem"
    driver.mkdir(parents=True)
    (machine.bus / "dax0.0/dax0.1/driver").symlink_to(driver)
    assert machine.run("-n", UUID, "-u").refusal == "used the host itself as system RAM"


@needs_root
def test_a_path_is_in_use_by_all_that_the_kernel_has_on_its_device(machine: GuardedMachine, tmp_path: Path) -> None:
    block, dax = node(tmp_path / "one", "b", 259, 7), node(tmp_path / "two", "c", 253, 7)
    for kind, number, device in (
        ("block", "259:7", machine.bus / "namespace0.0/block/pmem0"),
        ("char", "253:7", machine.bus / "dax0.0/dax0.1"),
    ):
        (machine.sys / "dev" / kind).mkdir(parents=True)
        (machine.sys / "dev" / kind / number).symlink_to(device)
    assert machine.run("-p", block, "-u").words == ["acted"]
    assert machine.run("-p", dax, "-u").words == ["acted"]
    machine.write(machine.bus / "namespace0.0/block/pmem0/holders/dm-3/dev", "252:3")
    driver = machine.sys / "bus/dax/drivers/kmem"
    driver.mkdir(parents=True)
    (machine.bus / "dax0.0/dax0.1/driver").symlink_to(driver)
    assert machine.run("-p", block, "-u").refusal == "used block device dm-3 on it"
    assert machine.run("-p", dax, "-u").refusal == "used the host itself as system RAM"


def test_a_path_that_is_no_device_and_no_file_is_gone(machine: GuardedMachine, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert machine.run("-p", str(path), "-u").refusal == f"gone path {path}"


def test_what_nobody_uses_is_acted_on(machine: GuardedMachine) -> None:
    for options in (["-n", UUID], ["-n", OTHER], ["-r", "region0"], ["-d", "nmem0"]):
        assert machine.run(*options, "-u").words == ["acted"]
