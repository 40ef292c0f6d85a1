"""An ordinary user of a host, who has sudo: commands, queries, streams, leases and libvirt are root's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from VpmemLibrary.errors import AccessDeniedError, CommandTimeoutError, LibvirtError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.libvirt_daemon import Daemon
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import Holder
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.prefixed import PrefixedTransport
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

USER = "vpmem-qa"
SUDOERS = "/etc/sudoers.d/vpmem-qa"
RULE = f"{USER} ALL=(root) NOPASSWD: ALL\n"

MAKE_USER = """
set -e
useradd --create-home --shell /bin/sh "$1"
usermod --password '*' "$1"
install -d -o "$1" -m 700 "/home/$1/.ssh"
install -o "$1" -m 600 /root/.ssh/authorized_keys "/home/$1/.ssh/authorized_keys"
"""


@pytest.fixture
def user(lab_transport: SshTransport) -> Iterator[SshTransport]:
    """An ordinary user of the host, over SSH, whose commands are run through sudo."""
    lab_transport.run(["sh", "-c", MAKE_USER, "sh", USER]).check()
    try:
        with SshTransport(replace(lab_transport.settings, user=USER, sudo=True)) as opened:
            yield opened
    finally:
        lab_transport.run(["rm", "-f", SUDOERS]).check()
        lab_transport.run(["userdel", "--remove", "--force", USER])


@pytest.fixture
def sudo(lab_transport: SshTransport) -> None:
    """A host that has sudo or doas, or the test is skipped."""
    if lab_transport.run(["sh", "-c", "command -v sudo"]).exit_status != 0:
        pytest.skip("sudo is not on that host")


def test_an_ordinary_user_does_all_through_sudo(lab_transport: SshTransport, user: SshTransport, sudo: None) -> None:
    with pytest.raises(AccessDeniedError, match=f"`{USER} ALL=.root. NOPASSWD: ALL` in /etc/sudoers.d/vpmem"):
        user.run(["true"])
    lab_transport.write_file(SUDOERS, RULE.encode(), mode=0o440)
    assert user.run(["id", "-u"]).check().text == "0\n"
    host = Host("lab", user)
    assert host.ndctl.inventory() == Host("lab", lab_transport).ndctl.inventory()
    with pytest.raises(CommandTimeoutError, match="and was ended"):
        user.run(["sleep", "600"], timeout=5)
    leases = HostLeases(user, Holder.here("00000000", secrets.token_hex(8)))
    assert leases.entries() is not None
    leases.close()
    link = LibvirtLink(user)
    assert link.call("read the version", lambda connection: connection.getLibVersion()) > 5_000_000
    link.close()


def test_a_host_without_sudo_is_named(lab_transport: SshTransport, user: SshTransport) -> None:
    if lab_transport.run(["sh", "-c", "command -v sudo || command -v doas"]).exit_status == 0:
        pytest.skip("that host has sudo or doas")
    with pytest.raises(
        AccessDeniedError, match=f"There is neither sudo nor doas on .*, so {USER} cannot run a command"
    ):
        user.run(["true"])


def test_a_user_without_sudo_may_look_at_guests_or_learns_the_group(user: SshTransport) -> None:
    with SshTransport(replace(user.settings, sudo=False)) as plain:
        link = LibvirtLink(plain)
        try:
            with pytest.raises(LibvirtError, match=f"usermod -aG libvirt ({USER}|USER)"):
                link.call("define guest a", lambda connection: connection.defineXML("<domain/>"))
        finally:
            link.close()


@pytest.mark.parametrize("way", ["virt-ssh-helper", "python3", "perl"])
def test_each_way_that_the_host_has_leads_to_libvirt(lab_transport: SshTransport, way: str) -> None:
    folder = f"/run/vpmem-{secrets.token_hex(4)}"
    link_tools = 'mkdir "$1" && cd "$1" && shift && for each; do ln -s "$(command -v "$each")" . || exit; done'
    tools = ["sh", "env", "id", "grep", "cut", "getent", way]
    lab_transport.run(["sh", "-c", link_tools, "sh", folder, *tools]).check()
    try:
        through: Transport = PrefixedTransport(lab_transport, ["env", f"PATH={folder}"])
        link = LibvirtLink(through)
        assert link.call("read the version", lambda connection: connection.getLibVersion()) > 5_000_000
        assert link.call("read the machine", lambda connection: len(connection.getCapabilities())) > 1000
        link.close()
    finally:
        lab_transport.run(["rm", "-r", folder]).check()


def test_a_daemon_that_does_not_run_is_reported_with_what_starts_it(lab_transport: SshTransport) -> None:
    link = LibvirtLink(lab_transport, daemon=Daemon.of("qemu:///system?socket=/srv/pod/libvirt-sock"))
    with pytest.raises(LibvirtError, match="there is no socket of libvirt: /srv/pod/libvirt-sock"):
        link.call("connect", lambda connection: connection)
    link.close()
    units = ["libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service"]
    lab_transport.run(["systemctl", "mask", "--now", "--runtime", *units]).check()
    link = LibvirtLink(lab_transport)
    try:
        with pytest.raises(LibvirtError, match=r"masked there: systemctl unmask .*libvirtd\.socket"):
            link.call("connect", lambda connection: connection)
        lab_transport.run(["systemctl", "unmask", "--runtime", *units]).check()
        with pytest.raises(LibvirtError, match=r"does not run on the host: systemctl enable --now libvirtd\.socket"):
            link.call("connect", lambda connection: connection)
    finally:
        lab_transport.run(["systemctl", "unmask", "--runtime", *units])
        lab_transport.run(["systemctl", "start", "libvirtd.service"]).check()
        link.wait_until_it_answers(60)
        link.close()
