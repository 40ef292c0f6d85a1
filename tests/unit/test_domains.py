"""The domains of a host that others work on as well: one may go while they are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import libvirt
import pytest

from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.domains import made_guests, running_guests
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec
from VpmemLibrary.guest.domain.xml import build_domain

BOOT = BootSource(kernel="/boot/kernel")


def refused(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("libvirt refused")
    error.err = (code, 0, "refused", 0, "", None, None, 0, 0)
    return error


class Domain:
    """A domain of a run, or one whose description cannot be had."""

    def __init__(self, name: str, run_id: str = "", failure: int = 0) -> None:
        self._name, self._run_id, self._failure = name, run_id, failure

    def name(self) -> str:
        return self._name

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802  libvirt's name
        if self._failure:
            raise refused(self._failure)
        return build_domain(GuestSpec(name=self._name, boot=BOOT, run_id=self._run_id))


def link_to(*domains: Domain) -> LibvirtLink:
    class Connection:
        def listAllDomains(self, _which: int) -> list[Domain]:  # noqa: N802  libvirt's name
            return list(domains)

    class Link:
        def call(self, _what: str, work: Callable[[Any], Any]) -> Any:
            return work(Connection())

    return cast(LibvirtLink, Link())


GONE = Domain("gone", failure=libvirt.VIR_ERR_NO_DOMAIN)
MINE, OTHERS, NOBODYS = Domain("mine", "0123abcd"), Domain("others", "ffffffff"), Domain("nobodys")


def test_a_domain_that_goes_while_they_are_listed_is_not_listed() -> None:
    link = link_to(MINE, GONE, OTHERS, NOBODYS)
    assert made_guests(link, "0123abcd") == ["mine"]
    assert running_guests(link) == [("mine", "0123abcd"), ("others", "ffffffff"), ("nobodys", "")]


def test_any_other_failure_is_told() -> None:
    with pytest.raises(libvirt.libvirtError):
        made_guests(link_to(MINE, Domain("broken", failure=libvirt.VIR_ERR_INTERNAL_ERROR)), "0123abcd")
