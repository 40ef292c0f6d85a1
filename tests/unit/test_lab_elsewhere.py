"""The lab on machines that differ from a fresh Debian: directories, apt's settings, and what the system refuses."""

from __future__ import annotations

import errno
import grp
import os
import platform
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
from click.testing import CliRunner
from fake_qemu import FAKE_QEMU

from VpmemLibrary.cli import main as cli
from VpmemLibrary.errors import InvalidValueError, LabError
from VpmemLibrary.lab import acceleration, cache, image, process, progress, recipe
from VpmemLibrary.lab import cli as lab_cli
from VpmemLibrary.lab import lab as lab_module
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.lab import Lab, ssh_command
from VpmemLibrary.lab.paths import cache_directory, disk_usage, state_directory
from VpmemLibrary.lab.process import find_process, kill_process, start_qemu
from VpmemLibrary.lab.progress import SILENT
from VpmemLibrary.lab.qemu_host import Accelerator, MemoryFile, QemuHost
from VpmemLibrary.lab.tools import run_tool

DATA = Path(__file__).parents[1] / "data/lab"

PROBED = acceleration.PROBE_MARK.decode()
PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "state"))


# --- directories ------------------------------------------------------------------------------------------------------


def test_a_home_of_no_user_is_refused_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPMEM_STATE", "~no-such-user/lab")
    with pytest.raises(InvalidValueError, match="VPMEM_STATE '~no-such-user/lab' cannot be used"):
        state_directory()


def test_a_relative_default_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VPMEM_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/vpmem"))
    with pytest.raises(InvalidValueError, match=r"'~/\.cache/vpmem' cannot be used(?s:.*)HOME(?s:.*)VPMEM_CACHE"):
        cache_directory()


@pytest.mark.parametrize("variable", ["VPMEM_CACHE", "VPMEM_STATE"])
def test_a_file_in_place_of_a_directory_is_an_error_of_the_lab(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(LabError, match=rf"exists: '{tmp_path}/file'(?s:.*)set VPMEM_CACHE and VPMEM_STATE"):
        Lab().up()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "free space there"),
        (errno.EFBIG, "free space there"),
        (errno.EACCES, "sudo(?s:.*)noexec"),
        (errno.EROFS, "set VPMEM_CACHE"),
        (errno.ENOLCK, "no locks"),
        (errno.ENOTEMPTY, "set VPMEM_CACHE"),
    ],
)
def test_what_the_system_refuses_is_named_with_its_path_and_what_to_do(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/cache/image-1")

    monkeypatch.setattr(lab_module, "find_or_build_image", refuse)
    with pytest.raises(LabError, match=rf"{os.strerror(number)}: '/cache/image-1'(?s:.*){advice}"):
        Lab().up()
    result = CliRunner().invoke(cli.main, ["lab", "up"])
    assert result.exit_code == 1
    assert "Error: The lab cannot continue" in result.output


def test_a_file_that_cannot_be_written_is_an_error_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/srv/hosts.dat")

    monkeypatch.setattr(lab_cli, "lab_status", refuse)
    result = CliRunner().invoke(cli.main, ["lab", "status"])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "Error: [Errno 30] Read-only file system: '/srv/hosts.dat'" in result.output


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_directories_are_of_this_user_alone_under_any_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        Lab().down()
        cache.cached(tmp_path / "cache/image-1", lambda _: None, SILENT)
    finally:
        os.umask(before)
    for name in ("state", "cache", "cache/image-1"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_the_disk_usage_of_a_directory_that_another_process_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").write_bytes(b"x" * 4096)
    used = disk_usage(tmp_path)
    monkeypatch.setattr(os, "walk", lambda _: [(str(tmp_path), ["gone"], ["there", "gone-too"])])
    assert disk_usage(tmp_path) == used > 0


def test_a_file_system_that_does_not_know_holes_has_its_data_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seek(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    place = tmp_path / "cache/image-1"

    def make(directory: Path) -> None:
        (directory / "disk").write_bytes(b"x" * (5 << 20))

    cache.cached(place, make, SILENT)
    monkeypatch.setattr(os, "lseek", seek)
    assert cache.faults(place, thorough=True) == []
    (place / "disk").write_bytes(b"x" * ((5 << 20) - 1) + b"y")
    assert cache.faults(place, thorough=True) == ["disk has changed: its checksum differs"]


def test_spaces_commas_and_percent_signs_reach_ssh_and_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ssh_command("root@127.0.0.1", 22001, Path("/home/a b/100%/key"), Path("/home/a b/100%/known_hosts"))
    said = subprocess.run(["ssh", "-G", *command[1:]], check=True, capture_output=True, text=True).stdout
    found = {line.partition(" ")[2] for line in said.replace('"', "").replace("%%", "%").splitlines()}
    assert found >= {"/home/a b/100%/key", "/home/a b/100%/known_hosts"}
    monkeypatch.setattr(Image, "tool", lambda *_: ["qemu"])
    qemu = QemuHost(tmp_path / "lab-1", Image(tmp_path), Accelerator("tcg"), disks=[Path("/a,b/disk")])
    options = qemu._command(1, MemoryFile(Path("/a,b/memory"), shared=True), "none")
    assert any("mem-path=/a,,b/memory,offset=0,share=on" in option for option in options)
    assert any("file=/a,,b/disk,format=raw" in option for option in options)


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_machine_that_a_killed_process_was_about_to_save_is_ended(tmp_path: Path) -> None:
    left = tmp_path / "cache/.making-state-1-abc"
    left.mkdir(parents=True)
    start_qemu(left, FAKE_QEMU)
    orphan = find_process(left)
    assert orphan is not None
    cache.cached(tmp_path / "cache/state-1", lambda _: None, SILENT)
    assert not left.exists()
    with pytest.raises(ProcessLookupError):
        process.Process.find(orphan.pid)


def test_clean_removes_what_a_killed_process_left_and_nothing_that_is_being_made(tmp_path: Path) -> None:
    left, making = tmp_path / "cache/.making-state-1-abc", tmp_path / "cache/.making-state-2-abc"
    left.mkdir(parents=True)
    making.mkdir()
    (tmp_path / "cache/state-1.lock").touch()
    start_qemu(left, FAKE_QEMU)
    orphan = find_process(left)
    assert orphan is not None
    with cache.locked(tmp_path / "cache/state-2.lock", SILENT, "making state-2"):
        assert Lab().clean() == [left]
    assert making.exists()
    with pytest.raises(ProcessLookupError):
        process.Process.find(orphan.pid)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "ended by SIGKILL, as the kernel does when memory runs out: a lab host needs up to 4096 MiB"),
        (signal.SIGBUS, "ended by SIGBUS, as the kernel does when a file system is full: look at `df -h "),
    ],
)
def test_a_host_that_ran_out_of_memory_or_disk_says_so(number: int, said: str, tmp_path: Path) -> None:
    qemu = QemuHost(tmp_path / "lab-1", Image(tmp_path), Accelerator("tcg"))
    qemu.directory.mkdir()
    start_qemu(qemu.directory, FAKE_QEMU)
    running = qemu.process
    assert running is not None
    assert "ended by" not in qemu.log
    os.kill(running.pid, number)
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    assert qemu.process is None
    assert said in qemu.log
    kill_process(qemu.directory)
    assert "ended by" not in qemu.log


def test_a_tool_that_does_not_end_is_an_error_of_the_lab() -> None:
    with pytest.raises(LabError, match=r"Could not make the disk: sleep did not end within 0\.1 s"):
        run_tool(["sleep", "60"], "make the disk", timeout=0.1)


def test_a_closed_standard_error_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    progress.default_progress().note("said to nobody")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("group", "mode", "advice"),
    [
        ("kvm", 0o660, "sudo usermod -aG kvm $USER and log in again"),
        ("libvirt", 0o660, "sudo usermod -aG libvirt $USER and log in again"),
        ("kvm", 0o600, "sudo chmod 666 "),
        ("", 0o660, "sudo chmod 666 "),
    ],
)
def test_the_way_to_kvm_is_one_that_helps(
    group: str, mode: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    os.chown(device, -1, device.stat().st_gid or 993)

    def named(_: int) -> grp.struct_group:
        if not group:
            raise KeyError("no such group")
        return grp.struct_group((group, "x", 993, []))

    monkeypatch.setattr(grp, "getgrgid", named)
    monkeypatch.setattr(acceleration, "_may_use", lambda _: False)
    found = acceleration.find_accelerator(Image(tmp_path), device=device)
    assert found.name == "tcg"
    assert f"({advice}" in found.reason


def test_the_probe_and_the_lab_hosts_have_the_same_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = tmp_path / "arguments"
    (tmp_path / "cache").mkdir()
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(Image, "tool", lambda *_: ["sh", "-c", f'echo "$*" >{arguments}; echo "$0"', PROBED])
    assert acceleration.find_accelerator(Image(tmp_path), device=tmp_path / "kvm").name == "kvm"
    processor = "-cpu host,arch-capabilities=off"
    assert processor in arguments.read_text()
    assert processor in " ".join(Accelerator("kvm").arguments)


# --- the build --------------------------------------------------------------------------------------------------------


def test_another_architecture_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(LabError, match="needs an x86-64 machine, and this one is aarch64"):
        image.find_or_build_image()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("E: unable to pick chroot mode automatically", "--add-subuids"),
        ("newuidmap: write to uid_map failed: Operation not permitted", "apparmor_restrict_unprivileged_userns=0"),
        ("dpkg: error: failed to write: No space left on device", "TMPDIR"),
        ("W: GPG error: The following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131", "keyring"),
        ("EXPKEYSIG 0E98404D386FA1D9 Debian Archive Automatic Signing Key", "keyring"),
        ("Err:1 http://a trixie InRelease\\n  Could not resolve 'a'", "http_proxy"),
        ("caf\\351", "caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_build_that_fails_says_what_to_do(said: str, advice: str) -> None:
    with pytest.raises(LabError) as failure:
        image.run_build(["sh", "-c", f'printf "%b" "{said}" | sed "s/x/x/" >&2; exit 25'], "install Debian")
    assert advice in str(failure.value)


@pytest.mark.parametrize(
    ("recorded", "advice"),
    [
        ("apt-2.6.1-no-release", "No archive that apt uses on this machine has this release"),
        ("apt-2.6.1-expired-release", "The archive is no longer updated"),
        ("apt-2.6.1-no-package", "a kernel without its headers"),
    ],
)
def test_an_archive_that_cannot_be_used_is_an_error_with_one_piece_of_advice(recorded: str, advice: str) -> None:
    path = DATA / f"{recorded}.txt"
    with pytest.raises(LabError) as failure:
        image.run_build(["sh", "-c", f"cat {path} >&2; exit 25"], "install Debian")
    assert advice in str(failure.value)
    assert str(failure.value).count("VPMEM_LAB_MIRROR") == 1


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a program stand for each of apt's, which does what is given."""

    def stands(does: str) -> None:
        for name in ("apt-get", "apt-config", "apt-helper"):
            (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
            (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(recipe, "_APT_HELPER", str(tmp_path / "apt-helper"))
    monkeypatch.delenv("VPMEM_LAB_MIRROR", raising=False)
    return stands


APT_CONFIG = """\
Acquire::http::Proxy "http://proxy.example:3142/";
Acquire::https::Proxy::mirror.example "DIRECT";
Acquire::http::Proxy-Auto-Detect "/usr/bin/auto-apt-proxy";
Acquire::Check-Valid-Until "false";
Acquire::AllowInsecureRepositories "1";
Acquire::cdrom::mount "/media/cdrom/";
Acquire::Languages:: "de";
"""


def test_the_proxies_of_apt_are_those_of_the_build(apt: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "config").write_text(APT_CONFIG)
    apt(f'[ "$1" != dump ] || cat {tmp_path}/config')
    sources = recipe.find_sources()
    assert sources.settings == tuple(APT_CONFIG.splitlines()[:4])
    command = recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/t/keys"), sources)
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example:3142/";' in command
    assert any(part.startswith("--customize-hook=rm -f ") for part in command)


@pytest.mark.parametrize("does", ["exit 100", "printf '\\377\\n'", "exec sleep 60"])
def test_an_apt_that_does_not_answer_leaves_the_choice_to_mmdebstrap(
    does: str, apt: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **given: run(*args, **{**given, "timeout": 0.5}))
    apt(does)
    assert recipe.find_sources() == recipe.Sources(())
    assert recipe._release_file("http://archive.example", "trixie-updates") is None


def test_a_machine_without_apt_leaves_the_choice_to_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(recipe, "_APT_HELPER", str(tmp_path / "none"))
    monkeypatch.delenv("VPMEM_LAB_MIRROR", raising=False)
    assert recipe.find_sources() == recipe.Sources(())
    assert recipe._release_file("http://archive.example", "trixie-updates") is None


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_list_of_mirrors_is_replaced_by_its_first_and_a_disc_is_skipped(ending: str, tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text("# mirrors\n\nhttps://one.example/debian\tpriority:1\nhttps://two.example/\n")
    assert recipe._first_mirror(f"mirror+file:{tmp_path}/debian.list{ending}") == "https://one.example/debian"
    for other in (f"mirror+file:{tmp_path}/none", "http://archive.example/debian/", None):
        assert recipe._first_mirror(other) == other
    lines = ["Debian\tDebian\tcdrom:[Debian GNU/Linux 12.5.0]/", "Debian\tDebian\thttp://archive.example/debian/"]
    assert recipe.debian_archive(lines, "Debian") == "http://archive.example/debian/"


# --- scripts/setup ----------------------------------------------------------------------------------------------------


def setup(tmp_path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up on a machine that has these programs, a few of the system's, and no usable Python."""
    (tmp_path / "project/scripts").mkdir(parents=True)
    (tmp_path / "project/scripts/setup").write_bytes((PROJECT / "scripts/setup").read_bytes())
    (tmp_path / "bin").mkdir()
    for name in ("dirname", "env", "cat", "sha256sum", "bash"):
        found = next(path for path in map(Path, ("/usr/bin", "/bin")) if (path / name).exists())
        (tmp_path / "bin" / name).symlink_to(found / name)
    for name, does in {"python3": "exit 1", "sudo": 'exec "$@"', **programs}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": str(tmp_path / "bin"), "http_proxy": "http://proxy.example:3128"}
    command = ["/bin/bash", str(tmp_path / "project/scripts/setup")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_machine_without_apt_is_reported(tmp_path: Path) -> None:
    done = setup(tmp_path)
    assert done.returncode == 1
    assert "this machine has no apt-get: use Debian or Ubuntu" in done.stderr


def test_an_archive_out_of_order_does_not_stop_the_set_up(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    apt = f'echo "$http_proxy $*" >>{journal}; [[ $1 != update ]] || exit 100'
    done = setup(tmp_path, **{"apt-get": apt})
    assert "apt-get update failed; trying without it" in done.stdout
    assert "proxy.example:3128 install -y" in journal.read_text()
    assert "Python 3.11 or newer is needed with its venv and headers" in done.stderr


def test_an_installation_that_fails_names_the_packages(tmp_path: Path) -> None:
    done = setup(tmp_path, **{"apt-get": "exit 100"})
    assert done.returncode == 1
    assert "apt-get could not install python3-venv" in done.stderr
