"""The changes that are more than one command, run by the guard against a sysfs and tools of this test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    LeaseLostError,
    NotFoundError,
    ToolMissingError,
    UnreachableError,
)
from VpmemLibrary.ownership.reclaim import _WAIT_FOR_CHANGES
from VpmemLibrary.pmem import guard
from VpmemLibrary.pmem.guard import NAMESPACE, NODE, LeaseProof, act, lock_target, namespace_target, path_target
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.raw_access import RawBytes
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.pmem.regions.cxl import Cxl, CxlMemdev, _on_memdevs
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import READS_ONLY, CommandResult
from VpmemLibrary.transport.local import LocalTransport

MINE = "76706d65-6d01-823a-8bcd-5f0e6d2a9c41"
OTHERS = "76706d65-6dff-8fff-8fff-5f0e6d2a9c42"
UUID = "76706d65-6d01-8234-8567-0123456789ab"

# Stands in for ndctl, daxctl, cxl and dd: writes down how it was called, obeys the file of its verb's name, and enables
# and disables as the kernel does.
TOOL = r"""#!/bin/sh
printf '%s %s\n' "${0##*/}" "$*" >>"$FAKE/ran"
verb=${1##*/}
[ ! -f "$FAKE/$verb" ] || . "$FAKE/$verb"
at=$VPMEM_SYS/bus/nd/devices
for last in "$@"; do :; done
case $1 in
disable-namespace) rm -f "$at/$last/driver" ;;
enable-namespace) touch "$at/$last/driver" ;;
esac
"""


class Fake:
    """A machine's sysfs and tools, in a directory.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "sys/bus/nd/devices"
        self.ndctl = Ndctl(LocalTransport(name="fake"))

    def add(self, dev: str, uuid: str, *, active: bool = True) -> Namespace:
        """Add a namespace, and return its record."""
        at = self.devices / dev
        (at / "block/pmem0").mkdir(parents=True)
        (self.devices / f"region{dev.removeprefix('namespace').partition('.')[0]}").mkdir(exist_ok=True)
        for name, value in {"uuid": uuid, "holder": "", "force_raw": "0", "alt_name": "old"}.items():
            (at / name).write_text(f"{value}\n")
        if active:
            (at / "driver").touch()
        state = "" if active else "disabled"
        return Namespace(dev, NamespaceMode.raw, Size(MiB), name="ns", uuid=uuid, region="region0", state=state)

    def when(self, verb: str, script: str) -> None:
        """Have a tool run these lines when it is called with a verb."""
        (self.root / verb).write_text(script)

    @property
    def ran(self) -> list[str]:
        """How the tools were called."""
        written = self.root / "ran"
        return written.read_text().splitlines() if written.exists() else []

    def value(self, dev: str, name: str) -> str:
        """Return what an attribute of a namespace holds."""
        return (self.devices / dev / name).read_text().strip()

    def active(self, dev: str) -> bool:
        """Return whether a namespace is enabled."""
        return (self.devices / dev / "driver").exists()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ndctl", "daxctl", "cxl", "dd"):
        (tools / name).write_text(TOOL)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("VPMEM_SYS", str(tmp_path / "sys"))
    monkeypatch.setenv("VPMEM_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(guard, "_DIRECTORY", str(tmp_path / "run"))
    guard._path.cache_clear()
    yield Fake(tmp_path)
    guard._path.cache_clear()


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)])
def test_the_acts_run_in_every_shell(fake: Fake, shell: str) -> None:
    fake.add("namespace0.1", MINE)
    program = fake.root / "acts"
    program.write_bytes(guard._program("acts"))
    command = [*((shell, "sh") if shell == "busybox" else (shell,)), str(program), "rename", "namespace0.1", "new"]
    subprocess.run(command, check=True, timeout=60)
    assert (fake.value("namespace0.1", "alt_name"), fake.active("namespace0.1")) == ("new", True)


# A name means another device by now


def test_a_namespace_whose_name_another_has_by_now_is_gone_and_the_other_is_left_alone(fake: Fake) -> None:
    listed = fake.add("namespace0.1", MINE)
    (fake.devices / "namespace0.1/uuid").write_text(f"{OTHERS}\n")
    namespaces = Namespaces(fake.ndctl)
    with pytest.raises(NotFoundError, match=r"ns \(namespace0\.1\)"):
        namespaces.remove(listed)
    assert fake.ran == []


def test_a_namespace_that_has_another_name_by_now_is_found(fake: Fake) -> None:
    listed = fake.add("namespace0.1", MINE)
    (fake.devices / "namespace0.1/uuid").write_text(f"{OTHERS}\n")
    fake.add("namespace0.7", MINE)
    result = Namespaces(fake.ndctl).remove(listed)
    assert fake.ran == ["ndctl disable-namespace namespace0.7", "ndctl destroy-namespace namespace0.7"]
    assert result.argv[2:] == ("destroy", "namespace0.7"), "messages tell the name of that moment"
    assert fake.active("namespace0.1")


class Breaking(LocalTransport):
    """A way to a machine whose connection breaks when an act has begun, and that is there again at once."""

    def __init__(self) -> None:
        super().__init__(name="breaking")
        self.acts: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        result = super().run(argv, timeout=timeout, stdin=stdin)
        if argv[1] == guard.guard_path():
            self.acts.append(tuple(argv))
            raise UnreachableError("the connection broke")
        return result


def test_an_act_is_not_repeated_when_the_connection_broke(fake: Fake) -> None:
    """Nor may the transport do it by itself, as it does with commands that only read."""
    transport = Breaking()
    with pytest.raises(UnreachableError):
        Namespaces(Ndctl(transport)).remove(fake.add("namespace0.1", MINE))
    assert fake.ran == ["ndctl disable-namespace namespace0.1", "ndctl destroy-namespace namespace0.1"]
    (command,) = transport.acts
    assert not any(READS_ONLY in argument for argument in command)


def test_nothing_is_destroyed_once_the_lease_is_lost(fake: Fake) -> None:
    record = fake.root / "lease"
    record.write_text("token=8 run=ffffffff\n")
    fake.ndctl.guard.use_lease_proofs(lambda: [LeaseProof("region-0", str(record), "token=7 ")])
    with pytest.raises(LeaseLostError, match="region-0"):
        Namespaces(fake.ndctl).remove(fake.add("namespace0.1", MINE))
    assert fake.ran == []
    record.write_text("token=7 run=0123abcd\n")
    Namespaces(fake.ndctl).remove(fake.add("namespace0.2", OTHERS))
    assert fake.ran[-1] == "ndctl destroy-namespace namespace0.2"


def test_a_tool_that_is_missing_is_named(fake: Fake) -> None:
    namespace = fake.add("namespace0.1", MINE)
    fake.when("disable-namespace", "exit 127")
    with pytest.raises(ToolMissingError, match="ndctl is not installed"):
        Namespaces(fake.ndctl).remove(namespace)


def test_reclaim_waits_for_a_change_that_a_dead_worker_began(fake: Fake) -> None:
    """The act holds the lock of its region until it ends, also when nobody waits for it any more."""
    target = namespace_target(fake.add("namespace0.1", MINE))
    fake.when("enable-namespace", "printf begun; read -r _")
    argv = ["sh", guard.guard_path(), target.option, target.identity, "--", "ndctl", "enable-namespace", NAMESPACE]
    fake.ndctl.guard.run(["true"], target).check()
    locks = str(fake.root / "run/locks")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as begun:
        assert begun.stdout is not None
        assert begun.stdout.read(5) == b"begun"
        with subprocess.Popen(["sh", "-c", _WAIT_FOR_CHANGES, "sh", locks]) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1)
            begun.communicate(b"\n", timeout=60)
            assert waiting.wait(60) == 0


def test_one_without_a_label_stays_and_is_enabled_again(fake: Fake) -> None:
    listed = fake.add("namespace0.0", "")
    (fake.devices / "namespace0.0/nstype").write_text("4\n")
    Namespaces(fake.ndctl).remove(listed)
    assert [line.split()[1] for line in fake.ran] == ["disable-namespace", "destroy-namespace", "enable-namespace"]
    assert fake.active("namespace0.0")


def test_what_cannot_be_disabled_is_not_destroyed(fake: Fake) -> None:
    fake.when("disable-namespace", "exit 240")
    with pytest.raises(BusyError, match="EBUSY"):
        Namespaces(fake.ndctl).remove(fake.add("namespace0.1", MINE))
    assert fake.ran == ["ndctl disable-namespace namespace0.1"]


# Renaming and reconfiguring


def rename(fake: Fake, namespace: Namespace) -> int:
    return fake.ndctl.change(act("rename", NAMESPACE, "new"), namespace_target(namespace)).exit_status


@pytest.mark.parametrize("active", [True, False])
def test_a_namespace_is_renamed_and_as_active_as_before(fake: Fake, active: bool) -> None:
    assert rename(fake, fake.add("namespace0.1", MINE, active=active)) == 0
    assert (fake.value("namespace0.1", "alt_name"), fake.active("namespace0.1")) == ("new", active)
    assert len(fake.ran) == (2 if active else 0)


@pytest.mark.parametrize("active", [True, False])
def test_a_name_that_the_kernel_does_not_take_fails_and_leaves_it_as_active_as_before(fake: Fake, active: bool) -> None:
    namespace = fake.add("namespace0.1", MINE, active=active)
    (fake.devices / "namespace0.1/alt_name").unlink()
    (fake.devices / "namespace0.1/alt_name").mkdir()
    assert rename(fake, namespace) != 0
    assert fake.active("namespace0.1") is active


def test_a_renamed_one_that_cannot_be_enabled_again_is_a_failure(fake: Fake) -> None:
    fake.when("enable-namespace", "exit 250")
    assert rename(fake, fake.add("namespace0.1", MINE)) == 250


@pytest.mark.parametrize("active", [True, False])
def test_a_change_of_mode_that_fails_has_ndctls_status_and_leaves_it_as_active_as_before(
    fake: Fake, active: bool
) -> None:
    fake.when("create-namespace", "exit 234")
    target = namespace_target(fake.add("namespace0.1", MINE, active=active))
    result = fake.ndctl.change(act("reconfigure", NAMESPACE, "--mode", "devdax"), target)
    assert result.exit_status == 234
    assert fake.active("namespace0.1") is active
    create = "ndctl create-namespace --no-autolabel --reconfig namespace0.1 --mode devdax"
    around = ["ndctl disable-namespace namespace0.1"], ["ndctl enable-namespace namespace0.1"]
    assert fake.ran == ([*around[0], create, *around[1]] if active else [create])


# Bytes behind a mode


def test_bytes_are_read_and_written_with_force_raw_and_all_is_undone(fake: Fake) -> None:
    disabled = fake.add("namespace0.1", MINE, active=False)
    raw = RawBytes(fake.ndctl, disabled)
    fake.when("pmem0", 'cat "$VPMEM_SYS/bus/nd/devices/namespace0.1/force_raw"')
    assert raw.read(512, 2) == b"1\n"
    fake.when("pmem0", 'cat >"$FAKE/written"')
    raw.write(1024, b"bytes")
    assert (fake.root / "written").read_bytes() == b"bytes"
    assert (fake.value("namespace0.1", "force_raw"), fake.active("namespace0.1")) == ("0", False)
    moved = [line for line in fake.ran if line.startswith("dd")]
    assert moved[0].startswith("dd if=/dev/pmem0 bs=4096 skip=512 count=2 iflag=skip_bytes,count_bytes")
    assert moved[1].startswith("dd of=/dev/pmem0 bs=4096 seek=1024 oflag=seek_bytes")


@pytest.mark.parametrize("verb", ["enable-namespace", "pmem0"])
def test_force_raw_is_undone_when_the_act_fails(fake: Fake, verb: str) -> None:
    disabled = fake.add("namespace0.1", MINE, active=False)
    fake.when(verb, "exit 250")
    with pytest.raises(CommandError, match="read raw bytes of ns"):
        RawBytes(fake.ndctl, disabled).read(0, 1)
    assert (fake.value("namespace0.1", "force_raw"), fake.active("namespace0.1")) == ("0", False)


HANG = 'touch "$VPMEM_SYS/bus/nd/devices/namespace0.1/driver"; printf hangs; exec sleep 600'


@pytest.mark.parametrize("ended", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_act_that_is_asked_to_end_undoes_force_raw_itself(fake: Fake, ended: signal.Signals) -> None:
    fake.add("namespace0.1", MINE, active=False)
    fake.when("enable-namespace", f"exec 1>&2; {HANG}")
    program = fake.root / "acts"
    program.write_bytes(guard._program("acts"))
    command = ["sh", str(program), "write", "namespace0.1", "0"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        assert running.stderr.read(5) == b"hangs"
        assert fake.value("namespace0.1", "force_raw") == "1"
        os.killpg(running.pid, ended)
        assert running.wait(60) == 143
    assert (fake.value("namespace0.1", "force_raw"), fake.active("namespace0.1")) == ("0", False)


def test_what_a_killed_act_left_is_undone_by_another(fake: Fake) -> None:
    disabled = fake.add("namespace0.1", MINE, active=False)
    fake.when("enable-namespace", f"trap '' TERM; kill -KILL $PPID; {HANG}")
    with pytest.raises(CommandTimeoutError, match="did not end"):
        RawBytes(Ndctl(LocalTransport(name="fake"), timeout=3), disabled).write(0, b"x")
    assert (fake.value("namespace0.1", "force_raw"), fake.active("namespace0.1")) == ("0", False)
    assert fake.ran == ["ndctl enable-namespace namespace0.1", "ndctl disable-namespace namespace0.1"]


def test_bytes_of_a_namespace_that_is_active_by_now_are_left_alone(fake: Fake) -> None:
    listed = replace(fake.add("namespace0.1", MINE), state="disabled")
    with pytest.raises(BusyError, match="it is active"):
        RawBytes(fake.ndctl, listed).write(0, b"x")
    assert (fake.ran, fake.value("namespace0.1", "force_raw")) == ([], "0")
    (fake.devices / "namespace0.1/driver").unlink()
    (fake.devices / "namespace0.1/holder").write_text("btt0.0\n")
    (fake.devices / "btt0.0").mkdir()
    (fake.devices / "btt0.0/driver").touch()
    with pytest.raises(BusyError, match="it is active"):
        RawBytes(fake.ndctl, listed).write(0, b"x")
    assert fake.ran == []


# Device DAX and CXL


def test_a_device_dax_instance_is_enabled_again_where_the_change_failed(fake: Fake) -> None:
    targets = path_target("/dev/dax4.1"), lock_target("dax4", "")
    assert fake.ndctl.change(act("resize", NODE, "4096"), *targets).exit_status == 0
    assert fake.ran == [
        "daxctl disable-device /dev/dax4.1",
        "daxctl reconfigure-device --size=4096 /dev/dax4.1",
        "daxctl enable-device /dev/dax4.1",
    ]
    fake.when("destroy-device", "exit 250")
    assert fake.ndctl.change(act("remove", NODE), *targets).exit_status == 250
    assert fake.ran[3:] == [
        "daxctl disable-device /dev/dax4.1",
        "daxctl destroy-device /dev/dax4.1",
        "daxctl enable-device /dev/dax4.1",
    ]
    fake.when("disable-device", "exit 240")
    assert fake.ndctl.change(act("remove", NODE), *targets).exit_status == 240
    assert len(fake.ran) == 7


def test_a_cxl_region_is_taken_apart_only_with_its_uuid_and_without_active_namespaces(fake: Fake) -> None:
    region = fake.root / "sys/bus/cxl/devices/region4"
    region.mkdir(parents=True)
    target = lock_target("region4", "CXL region region4")
    (region / "uuid").write_text(f"{OTHERS}\n")
    with pytest.raises(NotFoundError, match="CXL region region4"):
        fake.ndctl.change(act("take_apart", "region4", UUID), target)
    (region / "uuid").write_text(f"{UUID}\n")
    fake.add("namespace4.0", MINE)
    with pytest.raises(BusyError, match=r"it has the active namespace old \(namespace4\.0\)"):
        fake.ndctl.change(act("take_apart", "region4", UUID), target)
    assert fake.ran == []
    (fake.devices / "namespace4.0/driver").unlink()
    fake.ndctl.change(act("take_apart", "region4", UUID), target).check()
    assert fake.ran == ["cxl disable-region region4", "cxl destroy-region region4"]


def test_a_cxl_memory_device_is_known_by_its_serial_number(fake: Fake) -> None:
    memdev, target = CxlMemdev("mem0", serial=0x12), lock_target("mem0", "CXL memory device mem0")
    at, poison = fake.root / "sys/bus/cxl/devices/mem0", fake.root / "sys/kernel/debug/cxl/mem0"
    for directory in (at, poison):
        directory.mkdir(parents=True)
    command = _on_memdevs([memdev], ["poison", "inject", "mem0", "0x1000"])
    (at / "serial").write_text("0x13\n")
    with pytest.raises(NotFoundError, match="CXL memory device mem0"):
        fake.ndctl.change(command, target)
    assert not list(poison.iterdir())
    (at / "serial").write_text("0x12\n")
    fake.ndctl.change(command, target).check()
    assert (poison / "inject_poison").read_text() == "0x1000"
    fake.ndctl.change(_on_memdevs([memdev], ["cxl", "create-region"]), target).check()
    assert fake.ran == ["cxl create-region"]
    assert _on_memdevs([CxlMemdev("mem1")], ["x"])[2:] == ["on_memdevs", "0", "x"]
    assert Cxl(fake.ndctl).region_uuids() is not None
