"""Every way to the libvirt of a host, by the programs of this machine; what is said when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from libvirtd import LIBVIRTD, Libvirtd

from VpmemLibrary.errors import InvalidValueError, LibvirtError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.transport.base import CommandResult, Transport
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport

BASE = ("sh", "env", "id", "grep", "cut", "getent", "cat", "sed", "setpriv", "nsenter")
WAYS = {
    "virt-ssh-helper": "virt-ssh-helper",
    "nc": "nc.openbsd",
    "ncat": "ncat",
    "socat": "socat",
    "python3": "python3",
    "perl": "perl",
}

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can start a daemon in a namespace of its own")
needs_libvirtd = pytest.mark.skipif(LIBVIRTD is None, reason="libvirtd is not installed here")


def tools(directory: Path, **programs: str) -> str:
    """Return a PATH with the shell's tools and these programs of this machine alone."""
    directory.mkdir()
    for name, real in {**{each: each for each in BASE}, **programs}.items():
        found = shutil.which(real, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if found is None:
            pytest.skip(f"{real} is not installed here")
        (directory / name).symlink_to(found)
    directory.chmod(0o755)
    return str(directory)


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    daemon = Libvirtd(tmp_path_factory.mktemp("libvirtd"), settings={"unix_sock_rw_perms": "0770"})
    yield daemon
    daemon.close()


def version(transport: Transport, daemon: Daemon = SYSTEM) -> int:
    """Return the version of a host's libvirt, over a connection that is ended again."""
    link = LibvirtLink(transport, daemon=daemon)
    try:
        return int(link.call("read the version", lambda connection: connection.getLibVersion()))
    finally:
        link.close()


def refusal(transport: Transport, daemon: Daemon = SYSTEM) -> str:
    """Return why there is no connection."""
    with pytest.raises(LibvirtError) as caught:
        version(transport, daemon)
    return str(caught.value)


@needs_root
@needs_libvirtd
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("uri", ["qemu:///system", "qemu:///system?socket=/run/libvirt/libvirt-sock"])
def test_each_way_alone_leads_to_libvirt_and_ends_with_the_connection(
    libvirtd: Libvirtd, tmp_path: Path, way: str, uri: str
) -> None:
    if way == "virt-ssh-helper" and "socket" in uri:
        pytest.skip("virt-ssh-helper takes no socket")
    transport = libvirtd.transport(path=tools(tmp_path / "tools", **{way: WAYS[way]}))
    link = LibvirtLink(transport, daemon=Daemon.of(uri))
    assert link.call("read the version", lambda connection: connection.getLibVersion()) > 5_000_000
    assert link.call("list guests", lambda connection: connection.listAllDomains()) == []
    assert len(link.call("list what QEMU can", lambda connection: connection.getCapabilities())) > 500
    link._session.cut()  # as at a deadline: libvirt's own client does not say goodbye
    link.close()
    deadline = time.monotonic() + 30
    while others := _in_namespace(libvirtd, WAYS[way]):
        assert time.monotonic() < deadline, others
        time.sleep(0.05)


def _in_namespace(libvirtd: Libvirtd, program: str) -> list[str]:
    found = shutil.which(program, path="/usr/bin:/bin")
    assert found is not None
    script = 'for each in /proc/[0-9]*; do [ "$(readlink "$each/exe")" != "$1" ] || echo "$each"; done'
    return libvirtd.transport().run(["sh", "-c", script, "sh", str(Path(found).resolve())]).lines


@needs_root
@needs_libvirtd
def test_a_program_that_does_not_work_is_left_for_the_next(libvirtd: Libvirtd, tmp_path: Path) -> None:
    path = tools(tmp_path / "tools", nc="nc.traditional", python3="python3")
    for name in ("virt-ssh-helper", "ncat", "socat"):
        (tmp_path / "tools" / name).write_text("#!/bin/sh\necho error while loading shared libraries >&2\nexit 127\n")
        (tmp_path / "tools" / name).chmod(0o755)
    assert version(libvirtd.transport(path=path)) > 5_000_000


@needs_root
@needs_libvirtd
def test_a_host_without_any_way_names_each_that_was_tried(libvirtd: Libvirtd, tmp_path: Path) -> None:
    path = tools(tmp_path / "tools", nc="nc.traditional")
    (tmp_path / "tools" / "ncat").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "tools" / "ncat").chmod(0o755)
    message = refusal(libvirtd.transport(path=path))
    assert "connect to qemu:///system on rack1" in message
    for said in (
        "virt-ssh-helper is not installed",
        "nc takes no Unix socket",
        "ncat does not run",
        "socat is not installed",
        "python3 is not installed",
        "perl is not installed",
        "install libvirt-clients, netcat-openbsd",
    ):
        assert said in message


@needs_root
@needs_libvirtd
@pytest.mark.parametrize("way", WAYS)
def test_who_may_only_look_is_told_so_when_something_is_changed(libvirtd: Libvirtd, tmp_path: Path, way: str) -> None:
    transport = libvirtd.transport(user="nobody", path=tools(Path(f"/tmp/vpmem-{os.getpid()}"), **{way: WAYS[way]}))
    link = LibvirtLink(transport)
    try:
        assert link.call("list guests", lambda connection: connection.listAllDomains()) == []
        with pytest.raises(LibvirtError, match=r"read only.*\n.*host_sudo = yes.*usermod -aG libvirt USER") as caught:
            link.call("define guest a", lambda connection: connection.defineXML("<domain/>"))
        assert caught.value.code == 29
    finally:
        link.close()
        shutil.rmtree(f"/tmp/vpmem-{os.getpid()}")


@needs_root
@needs_libvirtd
def test_who_may_not_even_look_is_told_the_group(tmp_path: Path) -> None:
    daemon = Libvirtd(tmp_path, settings={"unix_sock_rw_perms": "0770", "unix_sock_ro_perms": "0770"})
    try:
        message = refusal(daemon.transport(user="nobody"))
        assert "The user nobody may not use libvirt's socket /run/libvirt/libvirt-sock" in message
        assert "usermod -aG libvirt nobody" in message
        assert "ermission denied" in message
    finally:
        daemon.close()


@needs_root
@needs_libvirtd
@pytest.mark.skipif(not Path("/usr/lib/polkit-1/polkitd").exists(), reason="polkitd is not installed here")
def test_who_is_refused_by_polkit_may_look_or_is_told_the_group(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looking, neither = tmp_path / "looking", tmp_path / "neither"
    looking.mkdir()
    neither.mkdir()
    daemon = Libvirtd(looking, settings={"auth_unix_rw": "polkit"}, polkit=True)
    try:
        assert version(daemon.transport(user="nobody")) > 5_000_000
        assert "usermod -aG libvirt nobody" in caplog.text
    finally:
        daemon.close()
    daemon = Libvirtd(neither, settings={"auth_unix_rw": "polkit", "auth_unix_ro": "polkit"}, polkit=True)
    try:
        message = refusal(daemon.transport(user="nobody"))
        assert "usermod -aG libvirt nobody" in message
        assert "The host reports" not in message
    finally:
        daemon.close()


@needs_root
@needs_libvirtd
def test_a_daemon_that_does_not_run_is_told_with_where_its_socket_would_be(tmp_path: Path) -> None:
    daemon = Libvirtd(tmp_path, stopped=True)
    try:
        without_helper = daemon.transport(path=tools(tmp_path / "tools", nc="nc.openbsd"))
        for transport in (daemon.transport(), without_helper):
            message = refusal(transport)
            assert "host_through (podman exec -i NAME)" in message
            assert "host_libvirt_uri" in message
        assert "there is no socket of libvirt: virtqemud-sock or libvirt-sock in /run/libvirt /var/run/li" in message
        message = refusal(daemon.transport(), Daemon.of("qemu:///system?socket=/srv/libvirt-sock"))
        assert "there is no socket of libvirt: /srv/libvirt-sock" in message
        assert "No daemon listens at /srv/libvirt-sock. Check this path on the host" in message
    finally:
        daemon.close()


@needs_root
@needs_libvirtd
def test_a_socket_that_a_stopped_daemon_left_is_not_used(libvirtd: Libvirtd, tmp_path: Path) -> None:
    bind = "import socket; socket.socket(socket.AF_UNIX).bind('/run/libvirt/virtqemud-sock')"
    libvirtd.transport().run(["/usr/bin/python3", "-c", bind]).check()
    try:
        assert version(libvirtd.transport(path=tools(tmp_path / "tools", socat="socat"))) > 5_000_000
    finally:
        libvirtd.transport().run(["rm", "/run/libvirt/virtqemud-sock"]).check()


@needs_root
@needs_libvirtd
def test_the_daemon_of_a_session_is_used_when_it_is_asked_for(tmp_path: Path) -> None:
    home = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    os.chown(home, 65534, 65534)
    identity = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "env",
        "-i",
        "PATH=/usr/sbin:/usr/bin",
    ]
    places = [f"HOME={home}", f"XDG_RUNTIME_DIR={home}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*identity, *places, "libvirtd"], stdout=log, stderr=log)
    try:
        socket = home / "libvirt" / "libvirt-sock"
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for way in ("virt-ssh-helper", "socat"):
            path = tools(home / way, **{way: WAYS[way]})
            transport = PrefixedTransport(LocalTransport(), [*identity[:-1], f"PATH={path}", *places])
            assert version(transport, Daemon.of("qemu:///session")) > 5_000_000
        assert version(LocalTransport(), Daemon.of(f"qemu:///session?socket={socket}")) > 5_000_000
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home)


@pytest.mark.parametrize(
    ("uri", "daemon"),
    [
        ("qemu:///system", Daemon("system")),
        ("qemu:///session", Daemon("session")),
        ("qemu+unix:///system?socket=/srv/pod/libvirt-sock", Daemon("system", "/srv/pod/libvirt-sock")),
    ],
)
def test_a_uri_names_a_daemon(uri: str, daemon: Daemon) -> None:
    assert Daemon.of(uri) == daemon == Daemon.of(daemon.uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "qemu",
        "qemu:///",
        "qemu://[::/x",
        "qemu+ssh://rack1/system",
        "xen:///system",
        "qemu:///system#x",
        "qemu:///system?socket=",
        "qemu:///system?socket=libvirt-sock",
        "qemu:///system?no_verify=1",
        "qemu:///system?socket=/a b",
        "qemu:///session?socket=/" + "x" * 200,
        "/run/libvirt/libvirt-sock",
    ],
)
def test_another_uri_is_refused(uri: str) -> None:
    with pytest.raises(InvalidValueError, match=r"libvirt URI .* expected qemu:///system"):
        Daemon.of(uri)


UNITS = """user qa
unit Id=virtqemud.socket
unit LoadState={0}
unit ActiveState={1}
unit Id=virtqemud.service
unit LoadState={0}
unit ActiveState={2}
unit Id=libvirtd.socket
unit LoadState=not-found
unit ActiveState=inactive
unit Id=libvirtd.service
unit LoadState=not-found
unit ActiveState=inactive
"""  # systemd 252


@pytest.mark.parametrize(
    ("printed", "advice"),
    [
        (
            UNITS.format("not-found", "inactive", "inactive"),
            "is not installed on the host: apt install libvirt-daemon-system",
        ),
        (UNITS.format("masked", "inactive", "inactive"), "systemctl unmask virtqemud.socket virtqemud.service && "),
        (UNITS.format("loaded", "inactive", "inactive"), "systemctl enable --now virtqemud.socket"),
        (
            UNITS.format("masked", "inactive", "inactive") + "there /run/libvirt/libvirt-sock\n",
            "systemctl unmask virtqemud",
        ),
        (UNITS.format("loaded", "active", "failed"), "journalctl -b -u virtqemud.service"),
        ("user qa\ndenied /run/libvirt/libvirt-sock\n", "usermod -aG libvirt qa"),
        ("user qa\n", "Start its daemon"),
    ],
)
def test_what_is_wrong_with_a_daemon_is_named_with_its_fix(printed: str, advice: str) -> None:
    assert advice in SYSTEM.advice(CommandResult((), 0, printed.encode(), b"", 0.1), refused=False)
