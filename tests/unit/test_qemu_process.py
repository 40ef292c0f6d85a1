"""Which process is a guest's QEMU, shown with real processes: some of them only look like it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_guest import COMMAND_LINE, INACTIVE_XML, LIVE_XML

from VpmemLibrary.errors import CommandError, GuestError
from VpmemLibrary.guest.confinement import read_confinement, refusals
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.transport.local import LocalTransport

NOBODY = 65534
ROOM = 30.0
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="a process of another user is started, which takes root")


_RUN = ': >"$0"; while :; do sleep 1; done'


class Zoo:
    """Processes that are or look like a guest's QEMU, in a directory that every user may enter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.uuid = str(uuid.uuid4())
        self.name = f"zoo-{self.uuid[:8]}"
        self._started: list[subprocess.Popen[bytes]] = []
        for program in ("qemu-system-decoy", "qemu/other"):
            (directory / program).parent.mkdir(exist_ok=True)
            shutil.copy("/bin/sh", directory / program)

    def start(self, *before: str, program: str = "qemu-system-decoy", identifier: str = "", script: str = _RUN) -> int:
        """Start a process whose arguments are a QEMU's, through the command `before`, and return its id."""
        ready = self.directory / f"ready-{len(self._started)}"
        argv = [
            *before, str(self.directory / program), "-c", script, str(ready),
            "-name", f"guest={self.name},debug-threads=on", "-uuid", identifier or self.uuid,
        ]  # fmt: skip
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        self._started.append(process)
        deadline = time.monotonic() + ROOM
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert ready.exists(), f"{argv} did not start"
        return process.pid

    def qemu(self, user: str = "") -> QemuProcess:
        """Return what the guest's QEMU is known by; by default it is run by this process's user."""
        return QemuProcess(self.name, self.uuid, user or f"+{os.getuid()}")

    def end(self, pid: int) -> None:
        """End a process and wait until it is gone."""
        process = next(each for each in self._started if each.pid == pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                self.end(process.pid)


@pytest.fixture
def zoo() -> Iterator[Zoo]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        found = Zoo(Path(directory))
        try:
            yield found
        finally:
            found.close()


def test_a_process_is_found_by_its_executable_user_and_uuid(zoo: Zoo) -> None:
    pid = zoo.start()
    found, argv = zoo.qemu().read(LocalTransport())
    assert found == pid
    assert argv[-2:] == ("-uuid", zoo.uuid)


def test_a_user_may_be_named(zoo: Zoo) -> None:
    pid = zoo.start()
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert zoo.qemu(name).read(LocalTransport())[0] == pid
    with pytest.raises(CommandError, match="no-such-user"):
        zoo.qemu("no-such-user").read(LocalTransport())


@as_root
def test_a_process_of_another_user_with_the_guests_arguments_is_not_its_qemu(zoo: Zoo) -> None:
    decoy = zoo.start(*AS_NOBODY)
    with pytest.raises(GuestError, match=f"not running.*{zoo.uuid}"):
        zoo.qemu().read(LocalTransport())
    own = zoo.start()
    assert zoo.qemu().read(LocalTransport())[0] == own != decoy


@as_root
def test_a_process_in_a_user_namespace_of_its_own_is_not_its_qemu(zoo: Zoo) -> None:
    attempt = subprocess.run([*AS_NOBODY, "unshare", "-Urm", "true"], capture_output=True, check=False)
    if attempt.returncode != 0:
        pytest.skip("this machine gives users no namespaces of their own")
    zoo.start(*AS_NOBODY, "unshare", "-Urm")
    with pytest.raises(GuestError, match="not running"):
        zoo.qemu(f"+{NOBODY}").read(LocalTransport())
    plain = zoo.start(*AS_NOBODY)
    assert zoo.qemu(f"+{NOBODY}").read(LocalTransport())[0] == plain


def test_another_program_or_another_uuid_is_not_its_qemu(zoo: Zoo) -> None:
    zoo.start(program="qemu/other")
    zoo.start(identifier=str(uuid.uuid4()))
    with pytest.raises(GuestError, match="not running"):
        zoo.qemu().read(LocalTransport())


def test_two_processes_that_could_be_it_are_refused(zoo: Zoo) -> None:
    pids = zoo.start(), zoo.start()
    with pytest.raises(
        GuestError, match=f"look like the QEMU of guest .*: processes ({pids[0]} and {pids[1]}|{pids[1]} and {pids[0]})"
    ):
        zoo.qemu().read(LocalTransport())


def test_a_child_of_qemu_is_not_qemu(zoo: Zoo) -> None:
    pid = zoo.start(script='(: >"$0"; while :; do sleep 1; done) & (while :; do sleep 1; done) & wait')
    for _ in range(20):
        assert zoo.qemu().read(LocalTransport())[0] == pid


def test_a_kill_ends_the_one_process(zoo: Zoo) -> None:
    zoo.start()
    other = zoo.start(program="qemu/other")
    zoo.qemu().kill(LocalTransport(), timeout=ROOM)
    with pytest.raises(GuestError, match="not running"):
        zoo.qemu().read(LocalTransport())
    os.kill(other, 0)


def test_a_process_that_ended_before_the_signal_is_reported(zoo: Zoo) -> None:
    pid = zoo.start()
    ender = threading.Timer(1, zoo.end, [pid])
    ender.start()
    with pytest.raises(GuestError, match="not running"):
        zoo.qemu().kill(LocalTransport(), timeout=ROOM, after=3)
    ender.join()


@as_root
def test_no_program_is_looked_up_in_the_namespace_of_a_qemu(zoo: Zoo) -> None:
    attack = zoo.directory / "attack"
    attack.write_text(f"#!/bin/sh\nid >>{zoo.directory}/it-ran\n")
    attack.chmod(0o755)
    setpriv = shutil.copy(str(shutil.which("setpriv")), zoo.directory / "setpriv")
    covered = [str(shutil.which(name)) for name in ("setpriv", "dd", "head")]
    secret, public, given, link = (zoo.directory / name for name in ("secret", "public", "given", "link"))
    public.touch(mode=0o644)
    for path in (secret, given):
        path.touch(mode=0o600)
    link.symlink_to(given)
    mounts = [*((attack, path) for path in covered), (public, given)]
    pid = zoo.start(
        "unshare", "-m", "sh", "-c", " && ".join(f"mount --bind {a} {b}" for a, b in mounts) + ' && exec "$@"', "sh",
        str(setpriv), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--",
    )  # fmt: skip
    assert Path(f"/proc/{pid}/root{covered[0]}").samefile(attack), "the attacker's namespace has his programs"
    qemu = zoo.qemu(f"+{NOBODY}")
    confinement = read_confinement(LocalTransport(), qemu)
    assert (confinement.process, confinement.user) == (pid, NOBODY)
    paths = [str(path) for path in (secret, public, given, link)]
    refused = refusals(LocalTransport(), qemu, confinement, [*paths, "/no/such/file"])
    assert "Permission denied" in refused[str(secret)]
    assert refused[str(public)] == ""
    assert refused[str(given)] == "", "in its own namespace QEMU may open it"
    assert refused[str(link)] == ""
    assert "No such file" in refused["/no/such/file"]
    assert not (zoo.directory / "it-ran").exists()


def test_a_path_with_a_relative_directory_is_refused(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.start()
    confinement = read_confinement(LocalTransport(), zoo.qemu())
    for path in (f"bin:{os.environ['PATH']}", f"{os.environ['PATH']}::/bin"):
        monkeypatch.setenv("PATH", path)
        with pytest.raises(CommandError, match="PATH has a relative directory"):
            refusals(LocalTransport(), zoo.qemu(), confinement, ["/"])


def test_what_a_qemu_is_known_by_is_read_from_the_live_xml() -> None:
    found = QemuProcess.of("recorded", LIVE_XML, "here")
    assert found == QemuProcess("recorded", COMMAND_LINE[COMMAND_LINE.index("-uuid") + 1], "+64055")
    named = LIVE_XML.replace("<label>+64055:+64055</label>", "<label>libvirt-qemu:kvm</label>")
    assert QemuProcess.of("recorded", named, "here").user == "libvirt-qemu"
    unlabeled = LIVE_XML.replace("model='dac'", "model='other'")
    assert QemuProcess.of("recorded", unlabeled, "here").user == "+0"


def test_a_guest_that_libvirt_has_off_has_no_process() -> None:
    with pytest.raises(GuestError, match="recorded is not running on here"):
        QemuProcess.of("recorded", INACTIVE_XML, "here")
