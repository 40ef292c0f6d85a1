"""An open host: what its section of the hosts file sets, its parts in a guest, and how it is closed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from VpmemLibrary.errors import InvalidValueError, UnreachableError, UnsupportedError
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.records import BootSource
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.bus_control import BusControl
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import parse_hosts
from VpmemLibrary.host.power import PowerControl
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.guest_defaults import GuestDefaults
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult, Stream
from VpmemLibrary.transport.local import LocalTransport

RUN = RunMark("0123abcd")
SECTION = """
[rack1]
host_address = local
host_may_reboot = yes
host_may_initialize_labels = yes
host_power_off = off --now
host_power_on = on
host_cxl_add = add
host_cxl_remove = remove
host_migration_address = 192.0.2.13
host_libvirt_uri = qemu:///session
guest_kernel = /boot/vmlinuz
guest_initrd = /boot/initrd
guest_cmdline = quiet
guest_machine = q35
guest_channel = ssh
guest_user = qa
guest_password_env = GUEST_PASSWORD
guest_host_key_name = any-guest
guest_sudo = yes
guest_bridge = br0
guest_confined = no
"""


class Silent(LocalTransport):
    """A machine on which no command may run."""

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        raise AssertionError(f"not expected: {argv}")

    def stream(self, argv: Sequence[str]) -> Stream:
        raise AssertionError(f"not expected: {argv}")


class Answering(Silent):
    """A machine that only answers."""

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        return CommandResult(tuple(argv), 0, b"", b"", 0.0, "machine")


def test_a_section_sets_the_policy_the_guest_defaults_and_the_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_PASSWORD", "hidden")
    monkeypatch.setattr("VpmemLibrary.session.session.transport_to", lambda _: Answering())
    opened = Session(RUN).open(parse_hosts(SECTION, "hosts.dat")[0])
    assert opened.policy == Policy(
        may_reboot=True,
        may_initialize_labels=True,
        power=PowerControl(("off", "--now"), ("on",)),
        cxl=BusControl("CXL device", ("add",), ("remove",)),
    )
    assert opened.guests.defaults == GuestDefaults(
        boot=BootSource(kernel="/boot/vmlinuz", initrd="/boot/initrd", cmdline="quiet"),
        channel=GuestChannel.ssh,
        access=GuestAccess(user="qa", password="hidden", host_key_name="any-guest", sudo=True),
        bridge="br0",
        machine="q35",
        confined=False,
        migration_address="192.0.2.13",
    )
    assert opened.guests.link._daemon.uri == "qemu:///session"


def test_an_empty_section_allows_nothing_and_sets_no_image() -> None:
    (entry,) = parse_hosts("[rack1]\nhost_address = local\n", "hosts.dat")
    assert Policy.of(entry) == Policy()
    assert GuestDefaults.of(entry) == GuestDefaults()


def test_a_guest_password_that_is_not_set_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUEST_PASSWORD", raising=False)
    monkeypatch.setattr("VpmemLibrary.session.session.transport_to", lambda _: Silent())
    session = Session(RUN)
    with pytest.raises(InvalidValueError, match="GUEST_PASSWORD"):
        session.open(parse_hosts(SECTION, "hosts.dat")[0])
    assert session.aliases == []


@pytest.mark.parametrize(("part", "field"), [(Policy(), "may_reboot"), (GuestDefaults(), "bridge")])
def test_settings_change_only_by_replacing_them(part: object, field: str) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        setattr(part, field, True)


def in_guest() -> OpenHost:
    machine = Silent(name="inner")
    guest = Guest(machine, LibvirtLink(machine, uri="test:///default"), "inner")
    return OpenHost(Host("inside", machine), RUN, guest=guest)


def test_a_guest_needs_no_lease_no_lock_and_no_proofs() -> None:
    tenancy = in_guest().tenancy
    tenancy.hold_run_lease()
    assert RUN.owns_uuid(tenancy.new_uuid())
    with tenancy.host_lock("initialize-labels"):
        pass
    assert (tenancy.lease_proofs(), tenancy.entries(), tenancy.leases_of_others()) == ((), (), [])


def test_a_guest_has_no_guests_no_reclaim_and_no_controls() -> None:
    opened = in_guest()
    assert (opened.guests.names(), opened.guests.foreign_running(), opened.guests.remove_own()) == ([], [], [])
    with pytest.raises(UnsupportedError, match="inside is guest inner, opened as a host"):
        _ = opened.tenancy.reclaim
    with pytest.raises(UnsupportedError, match="Kill it by Stop Guest with how=kill"):
        opened.power.require_control()
    with pytest.raises(UnsupportedError, match="no CXL device can be added to a guest"):
        opened.require_cxl_control()


def test_each_change_checks_the_proofs_of_the_open_host(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host("rack1", Silent())
    opened = OpenHost(host, RUN)
    assert host.ndctl.guard._lease_proofs == opened.tenancy.lease_proofs


def test_a_guest_is_found_once_and_forgotten_when_it_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = OpenHost(Host("rack1", Silent()), RUN)
    made: list[str] = []

    def find(_transport: object, _link: object, name: str, **_: object) -> Guest:
        made.append(name)
        return cast(Guest, type("Found", (), {"name": name})())

    monkeypatch.setattr("VpmemLibrary.session.guests.find_guest", find)
    first = opened.guests.find("a")
    assert opened.guests.find("a") is first
    assert opened.guests.find(first) is first
    opened.guests.forget("a")
    assert opened.guests.find("a") is not first
    assert made == ["a", "a"]


def test_everything_is_closed_although_closing_a_guest_fails() -> None:
    closed: list[str] = []

    class Closing(Silent):
        def close(self) -> None:
            closed.append("host")

    class Leases:
        held: tuple[str, ...] = ()

        def release(self, _keys: object) -> None:
            closed.append("released")

        def close(self) -> None:
            closed.append("leases")

    class Failing:
        def close(self) -> None:
            closed.append("guest")
            raise UnreachableError("the guest is gone")

    opened = OpenHost(Host("rack1", Closing()), RUN, leases=Leases())  # type: ignore[arg-type]
    opened.guests._guests["a"] = cast(Guest, Failing())
    with pytest.raises(UnreachableError, match="the guest is gone"):
        opened.close()
    assert closed == ["guest", "released", "leases", "host"]
