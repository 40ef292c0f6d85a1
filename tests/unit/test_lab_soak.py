"""The soak's figures, and the guest that it boots."""

from __future__ import annotations

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.lab.nested import BootTimes, domain_xml
from VpmemLibrary.lab.soak import Outcome, main, summary
from VpmemLibrary.sizes import MiB, Size


def test_lost_guests_are_counted_and_left_out_of_the_times() -> None:
    outcomes = [
        Outcome("lab-1", "soak-1", BootTimes(6.0, 20.0)),
        Outcome("lab-2", "soak-2", BootTimes(7.0, 30.0)),
        Outcome("lab-2", "soak-3", None, "it died"),
    ]
    assert summary(outcomes).splitlines() == [
        "3 guests, 1 lost",
        "virsh create: min 6.0 s, median 6.5 s, max 7.0 s",
        "ready: min 20.0 s, median 25.0 s, max 30.0 s",
    ]


@pytest.mark.parametrize("given", ["0", "-1", "many", ""])
def test_a_number_of_guests_that_makes_no_sense_is_refused(given: str) -> None:
    with pytest.raises(InvalidValueError, match="a whole number of guests"):
        main([given])


def test_the_domain_has_the_memory_of_its_cell_and_its_device() -> None:
    lxml = pytest.importorskip("lxml.etree")
    domain = lxml.fromstring(domain_xml("a", "/dev/dax0.0", Size(254 * MiB)))
    assert domain.findtext("memory") == str((256 + 254) * 1024)
    assert domain.findtext("devices/memory/source/path") == "/dev/dax0.0"
    assert lxml.fromstring(domain_xml("a")).find("devices/memory") is None
