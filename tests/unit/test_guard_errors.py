"""The guard as the library runs it: its program is on the host, and what it refuses becomes an error."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from guarded_machine import GuardedMachine

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    LeaseLostError,
    NotFoundError,
    ToolMissingError,
    UnsupportedError,
)
from VpmemLibrary.pmem import guard as guard_module
from VpmemLibrary.pmem.guard import NAMESPACE, NODE, Guard, LeaseProof, Target, act, dimm_target, path_target
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

UUID = "76706d65-0123-4abc-8def-0123456789ab"
TARGET = Target("-n", UUID, "Namespace ns_0 (namespace0.1)")


class RecordingTransport(LocalTransport):
    """This machine, and what was run on it."""

    def __init__(self) -> None:
        super().__init__(name="rack1")
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        self.asked.append(tuple(argv))
        return super().run(argv, timeout=timeout, stdin=stdin)

    @property
    def installed(self) -> int:
        """How many programs were put on the host."""
        return sum("cat >" in " ".join(argv) for argv in self.asked)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuardedMachine:
    """Return a made-up kernel that the guard of this process uses, in a directory of its own."""
    machine = GuardedMachine(tmp_path)
    machine.region("region0", "0xba90", "nmem0")
    machine.namespace("namespace0.1", UUID, block="pmem0", number="259:7")
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(guard_module, "_DIRECTORY", str(machine.run_directory))
    guard_module._path.cache_clear()
    return machine


@pytest.fixture(autouse=True)
def _forget_paths() -> object:
    yield
    guard_module._path.cache_clear()


@pytest.fixture
def transport(machine: GuardedMachine) -> RecordingTransport:
    assert machine.run_directory.parent.is_dir()
    return RecordingTransport()


def program(transport: RecordingTransport) -> Path:
    """Return where the guard is on the host."""
    return Path(guard_module.guard_path())


def test_the_program_is_sent_once(transport: RecordingTransport) -> None:
    guard = Guard(transport)
    for _ in range(3):
        assert guard.run(["echo", NAMESPACE], TARGET).check().text == "namespace0.1\n"
    assert transport.installed == 2, "the guard, and the changes of several commands"
    assert program(transport).read_bytes() == guard_module._program("guard")
    assert program(transport).stat().st_mode & 0o777 == 0o600


def test_a_host_that_booted_gets_the_program_again_and_runs_the_command_once(
    transport: RecordingTransport, tmp_path: Path
) -> None:
    guard = Guard(transport)
    guard.run(["true"], TARGET).check()
    for each in program(transport).parent.glob("guard-*"):
        each.unlink()
    log = tmp_path / "log"
    result = guard.run(["sh", "-c", 'echo ran >>"$1"; cat', "sh", str(log)], TARGET, stdin=b"input")
    assert (result.text, log.read_text(), transport.installed) == ("input", "ran\n", 4)


@pytest.mark.parametrize("status", [2, 126, 127])
def test_a_command_that_was_begun_is_never_run_again(
    transport: RecordingTransport, tmp_path: Path, status: int
) -> None:
    """Its status and words may be those of a shell that did not find the program."""
    log = tmp_path / "log"
    script = f'echo ran >>"$1"; echo "sh: 0: cannot open {program(transport)}: No such file" >&2; exit {status}'
    result = Guard(transport).run(["sh", "-c", script, "sh", str(log)], TARGET)
    assert (result.exit_status, log.read_text(), transport.installed) == (status, "ran\n", 2)


def test_a_program_that_arrived_in_part_is_not_used(machine: GuardedMachine, tmp_path: Path) -> None:
    """A connection that breaks ends the input as its end does."""
    path = machine.run_directory / "guard"
    whole = b"echo one\necho two\n"
    for sent, there in ((whole[:9], False), (b"", False), (whole, True)):
        result = subprocess.run(
            ["sh", "-c", guard_module._INSTALL, "sh", str(machine.run_directory), str(len(whole)), str(path)],
            input=sent,
            capture_output=True,
            check=False,
        )
        assert (result.returncode == 0, path.exists()) == (there, there)
    assert [each.name for each in machine.run_directory.iterdir()] == ["guard"]
    assert machine.run_directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_the_program_is_not_put_where_others_can_change_it(
    machine: GuardedMachine, transport: RecordingTransport, mode: int
) -> None:
    machine.run_directory.mkdir()
    machine.run_directory.chmod(mode)
    with pytest.raises(CommandError, match="that no other user can write to"):
        Guard(transport).run(["true"], TARGET)
    assert not list(machine.run_directory.iterdir())


def test_what_is_gone_is_not_found(transport: RecordingTransport) -> None:
    with pytest.raises(NotFoundError, match=r"ns_1.*rack1"):
        Guard(transport).run(["true"], Target("-n", UUID.replace("0123", "4567", 1), "Namespace ns_1"))


def see(machine: GuardedMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the mappings of this machine's real processes, and at nothing else of them."""
    if os.geteuid() != 0:
        pytest.skip("the processes of others need root")
    monkeypatch.delenv("VPMEM_PROC")
    machine.write(machine.bus / "namespace0.1/block/pmem0/holders/dm-3/dev", "252:3")
    machine.write(machine.bus / "namespace0.1/block/pmem0/holders/md0/dev", "9:0")


def test_what_is_in_use_is_busy_and_all_users_are_named(
    machine: GuardedMachine, transport: RecordingTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(machine, monkeypatch)
    guard = Guard(transport)
    expected = (
        r"Namespace ns_0 \(namespace0.1\) is in use on rack1: block device dm-3 on it, block device md0 on it\. "
        "Nothing was changed"
    )
    with pytest.raises(BusyError, match=expected):
        guard.run(["false"], TARGET, must_be_unused=True)
    assert guard.run(["echo", NODE], TARGET).text == "/dev/pmem0\n", "nobody asked whether it is in use"


def test_a_lost_lease_is_named_by_its_key(transport: RecordingTransport, tmp_path: Path) -> None:
    kept, lost = tmp_path / "kept", tmp_path / "lost"
    kept.write_text("token 1\n")
    lost.write_text("token 2\n")
    proofs = [LeaseProof("host", str(kept), "token 1"), LeaseProof("region-ba90", str(lost), "token 1")]
    guard = Guard(transport, lambda: proofs)
    with pytest.raises(LeaseLostError, match=r"lease of region-ba90 on rack1 .*nothing was changed on Namespace ns_0"):
        guard.run(["true"], TARGET)
    lost.write_text("token 1\n")
    guard.run(["true"], TARGET).check()


def test_leases_are_asked_for_again_before_every_command(transport: RecordingTransport, tmp_path: Path) -> None:
    proofs: list[LeaseProof] = []
    guard = Guard(transport, lambda: proofs)
    guard.run(["true"], TARGET).check()
    proofs.append(LeaseProof("host", str(tmp_path / "absent"), "token 1"))
    with pytest.raises(LeaseLostError, match="host"):
        guard.run(["true"], TARGET)


def test_a_program_that_the_guard_needs_is_named(
    machine: GuardedMachine, transport: RecordingTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(transport)
    guard.run(["true"], TARGET).check()
    tools = machine.run_directory / "bin"
    tools.mkdir()
    for tool in ("sh", "printf", "sort"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr("VpmemLibrary.transport.local.EXTRA_PATH", str(tools))
    with pytest.raises(ToolMissingError, match="flock is not installed on rack1"):
        guard.run(["true"], TARGET)


def test_what_is_ambiguous_unsafe_or_not_to_be_seen_is_unsupported(
    machine: GuardedMachine, transport: RecordingTransport
) -> None:
    guard = Guard(transport)
    with pytest.raises(UnsupportedError, match=r"ns_0 .* was not changed: blind: mappings of other"):
        guard.run(["true"], TARGET, must_be_unused=True)
    with pytest.raises(UnsupportedError, match="absent @dimm@"):
        guard.run(["echo", "@dimm@"], TARGET)
    machine.namespace("namespace0.2", UUID)
    with pytest.raises(UnsupportedError, match="ambiguous namespace"):
        guard.run(["true"], TARGET)
    (machine.run_directory / "locks").chmod(0o770)
    with pytest.raises(UnsupportedError, match="unsafe"):
        guard.run(["true"], Target("-r", "region0", "Region region0"))


def test_an_empty_identity_is_never_any_device(transport: RecordingTransport) -> None:
    with pytest.raises(CommandError, match="was given nothing for -d"):
        Guard(transport).run(["true"], dimm_target(Dimm("")))


def test_a_lock_that_stays_taken_is_busy_and_named_and_nothing_is_done(
    machine: GuardedMachine, transport: RecordingTransport, tmp_path: Path
) -> None:
    guard = Guard(transport)
    guard.run(["true"], TARGET).check()
    other = machine.start("-r", "region0", command=["sh", "-c", "echo holds; read line"])
    assert other.stdout is not None
    assert other.stdout.readline() == b"holds\n"
    acted = tmp_path / "acted"
    started = time.monotonic()
    with pytest.raises(BusyError, match=r"has held the lock of region0 for more than 1 s.*fuser -v .*/locks/region0"):
        guard.run(["touch", str(acted)], TARGET, timeout=1)
    assert time.monotonic() - started < 30
    other.communicate(b"\n", timeout=60)
    guard.run(["true"], TARGET).check()
    assert not acted.exists()


def test_a_command_that_does_not_end_is_no_lock_that_is_taken(transport: RecordingTransport) -> None:
    with pytest.raises(CommandTimeoutError, match=r"sleep 600") as raised:
        Guard(transport).run(["sleep", "600"], TARGET, timeout=1)
    assert raised.value.result.argv == ("sleep", "600")


@pytest.mark.parametrize("said", ["used process 1 (init)", "gone namespace x", "lost /x", "acts on - - - -"])
def test_what_a_command_prints_is_never_taken_for_the_guards_own_words(
    transport: RecordingTransport, said: str
) -> None:
    command = ["sh", "-c", 'echo "vpmem-guard: $1" >&2; exit 113', "sh", said]
    result = Guard(transport).run(command, TARGET)
    assert (result.exit_status, result.error_text) == (113, f"vpmem-guard: {said}\n")


def test_a_change_of_several_commands_may_refuse_as_the_guard_does(
    machine: GuardedMachine, transport: RecordingTransport
) -> None:
    machine.write(machine.sys / "bus/cxl/devices/region0/uuid", UUID)
    with pytest.raises(NotFoundError, match="Region region0"):
        Guard(transport).run(act("take_apart", "region0", "another uuid"), Target("-r", "region0", "Region region0"))


def test_the_guards_words_are_not_in_the_result(transport: RecordingTransport) -> None:
    result = Guard(transport).run(["sh", "-c", "echo its own >&2; exit 3", "sh", NAMESPACE], TARGET)
    assert result.error_text == "its own\n"
    assert result.argv[-1] == "namespace0.1", "the names of the moment are in the command as it is shown"


def test_a_path_is_a_target(transport: RecordingTransport, tmp_path: Path) -> None:
    path = tmp_path / "a file $(id)"
    path.write_text("content")
    assert Guard(transport).run(["cat", NODE], path_target(str(path))).text == "content"
