"""A guest that is open as a host: what works in it, what is refused, and what closes what."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import libvirt
import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import ForeignError, InvalidValueError, LibvirtTimeoutError, UnreachableError, UnsupportedError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec
from VpmemLibrary.guest.domain.xml import build_domain
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.guest.guest_xml import GuestXmlKeywords
from VpmemLibrary.keywords.guest.guests import GuestKeywords
from VpmemLibrary.keywords.host.host_setup import HostSetupKeywords
from VpmemLibrary.keywords.host.hosts import HostKeywords
from VpmemLibrary.keywords.host.ownership import OwnershipKeywords
from VpmemLibrary.keywords.pmem.labels import LabelKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult

MINE = "0123abcd"


class Machine(RecordedHost):
    """A machine without persistent memory that tells whether it was closed."""

    def __init__(self, *, silent: bool = False) -> None:
        nothing = dict.fromkeys(("ndctl list", "mountinfo", "find", "bus/cxl", "bus/nd", "true"), left(0))
        super().__init__({**nothing, "cat": left(0, "a boot\n")})
        self.closed = False
        self.silent = silent

    def run(self, argv: Any, **options: Any) -> CommandResult:
        if self.silent:
            raise UnreachableError("nobody answers")
        return super().run(argv, **options)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def session() -> Session:
    session = Session(RunMark(MINE), 60)
    session.add(OpenHost(Host("outer", Machine()), session.run))
    return session


@pytest.fixture
def link() -> Iterator[LibvirtLink]:
    opened = LibvirtLink(Machine(), uri="test:///default")
    yield opened
    # All connections of a process to this driver share its domains, also with another test's connection.
    opened.call("undefine", remove_domains)
    opened.close()


def remove_domains(connection: libvirt.virConnect) -> None:
    """Undefine all domains except the one that the driver itself has."""
    for domain in connection.listAllDomains():
        if domain.name() != "test":
            domain.undefine()


def guest_of(link: LibvirtLink, run_id: str = MINE, name: str = "a") -> Guest:
    """Return a guest of libvirt's test driver whose inside is a machine."""
    spec = GuestSpec(name=name, boot=BootSource(kernel="/k"), run_id=run_id, hypervisor="test")
    link.call("define", lambda connection: connection.defineXML(build_domain(spec)))
    guest = Guest(Machine(), link, name)
    guest.transport = Machine()
    return guest


def test_a_command_timeout_holds_for_calls_to_libvirt(session: Session) -> None:
    opened = session.current.guests.link
    HostKeywords(session).set_command_timeout(timedelta(milliseconds=200))
    with pytest.raises(LibvirtTimeoutError, match=r"within 0\.2 s on recorded"):
        opened._call("wait", lambda _: threading.Event().wait(60))
    opened.close()


def test_a_guest_becomes_the_current_host_under_its_name_or_an_alias(session: Session, link: LibvirtLink) -> None:
    guest = guest_of(link)
    assert HostKeywords(session).open_guest_as_host(guest) == "a"
    assert session.current_alias == "a"
    assert session.host.transport is guest.transport
    session.switch("outer")
    assert HostKeywords(session).open_guest_as_host(guest, alias="inside") == "inside"
    assert session.aliases == ["outer", "a", "inside"]


def test_labels_may_be_initialised_in_a_guest_of_this_run_only(session: Session, link: LibvirtLink) -> None:
    HostKeywords(session).open_guest_as_host(guest_of(link), alias="own")
    assert session.current.policy.may_initialize_labels
    session.switch("outer")
    HostKeywords(session).open_guest_as_host(guest_of(link, "ffffffff", "b"), alias="foreign")
    assert not session.current.policy.may_initialize_labels
    with pytest.raises(UnsupportedError, match="Labels of foreign may not be changed"):
        LabelKeywords(session).get_region_for_labels()
    with pytest.raises(ForeignError, match="Guest b may not be rebooted: this run did not make it"):
        HostSetupKeywords(session).reboot_host()


def test_what_needs_libvirt_is_refused_and_what_lists_guests_finds_none(session: Session, link: LibvirtLink) -> None:
    HostKeywords(session).open_guest_as_host(guest_of(link), alias="inside")
    refused = "inside is guest a, opened as a host. The library uses no libvirt in a guest"
    steps: tuple[Callable[[], object], ...] = (
        lambda: GuestKeywords(session).define_guest(),
        lambda: GuestXmlKeywords(session).new_guest_xml(),
        lambda: GuestXmlKeywords(session).define_guest_from_xml("<domain/>"),
        lambda: GuestKeywords(session).get_guest_state("a"),
        lambda: HostKeywords(session).open_guest_as_host("a"),
    )
    for step in steps:
        with pytest.raises(UnsupportedError, match=refused):
            step()
    assert GuestXmlKeywords(session).get_guests() == []
    assert session.current.guests.foreign_running() == []


def test_clean_up_in_a_guest_leaves_the_guests_of_its_host(session: Session, link: LibvirtLink) -> None:
    guest = guest_of(link)
    HostKeywords(session).open_guest_as_host(guest, alias="inside")
    OwnershipKeywords(session).remember_host_state()
    OwnershipKeywords(session).clean_up_host()
    OwnershipKeywords(session).host_state_should_be_unchanged()
    assert guest.state() == "shut off"
    assert session.aliases == ["outer", "inside"]


def test_a_guest_that_does_not_answer_is_not_opened(session: Session, link: LibvirtLink) -> None:
    guest = guest_of(link)
    guest.transport = Machine(silent=True)
    with pytest.raises(UnreachableError):
        HostKeywords(session).open_guest_as_host(guest)
    assert (session.aliases, session.current_alias) == (["outer"], "outer")


def test_an_alias_that_is_taken_is_refused(session: Session, link: LibvirtLink) -> None:
    with pytest.raises(InvalidValueError, match="alias 'outer'"):
        HostKeywords(session).open_guest_as_host(guest_of(link), alias="outer")


def test_closing_a_host_closes_the_guests_in_it_and_no_other(session: Session, link: LibvirtLink) -> None:
    session.add(OpenHost(Host("other", Machine()), session.run))
    HostKeywords(session).open_guest_as_host(guest_of(link, name="b"), alias="in other")
    session.switch("outer")
    HostKeywords(session).open_guest_as_host(guest_of(link), alias="in outer")
    session.close("outer")
    assert session.aliases == ["other", "in other"]
    session.close_all()
    assert session.aliases == []


def test_closing_a_guest_leaves_its_host_open_and_current(session: Session, link: LibvirtLink) -> None:
    outer = session.host.transport
    HostKeywords(session).open_guest_as_host(guest_of(link), alias="inside")
    session.close("inside")
    assert session.current_alias == "outer"
    assert isinstance(outer, Machine)
    assert not outer.closed


def test_guests_that_a_cleanup_removes_are_closed(
    session: Session, link: LibvirtLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        session.switch("outer")
        HostKeywords(session).open_guest_as_host(guest_of(link, name=name))
    session.switch("outer")
    monkeypatch.setattr(session.current.guests, "remove_own", lambda: ["a"])
    OwnershipKeywords(session).clean_up_host()
    assert session.aliases == ["outer", "b"]
