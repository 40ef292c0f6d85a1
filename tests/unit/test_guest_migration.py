"""The XML that a guest is moved with, held against what libvirt 11.3 made of a recorded guest."""

from __future__ import annotations

import pytest
from lxml import etree
from recorded_guest import INACTIVE_XML, LARGE, LIVE_XML, SMALL, VIRTIO

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.xml import read_devices
from VpmemLibrary.guest.migration import with_backings

THERE = {LARGE.path: "/dev/dax7.0", SMALL.path: LARGE.path, VIRTIO.path: "/srv/a&b"}


@pytest.mark.parametrize("xml", [LIVE_XML, INACTIVE_XML])
def test_every_device_gets_its_backing_on_the_target(xml: str) -> None:
    moved = with_backings(xml, THERE)
    assert [device.path for device in read_devices(moved)] == list(THERE.values())
    back = {there: here for here, there in THERE.items()}
    assert read_devices(with_backings(moved, back)) == read_devices(xml)


def test_a_device_that_is_not_named_stays() -> None:
    assert [device.path for device in read_devices(with_backings(LIVE_XML, {SMALL.path: "/dev/dax1.0"}))] == [
        LARGE.path,
        "/dev/dax1.0",
        VIRTIO.path,
    ]


def test_nothing_else_is_changed() -> None:
    assert etree.canonicalize(with_backings(LIVE_XML, {})) == etree.canonicalize(LIVE_XML)


def test_what_is_no_domain_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="a <domain> element"):
        with_backings("<network/>", {})
