"""Each field of the hosts file is declared once: the declarations are valid, and docs/hosts-file.md shows them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.hosts_entry import FIELDS, HostEntry
from VpmemLibrary.host.hosts_section import parse_entry, section_of

ROOT = Path(__file__).parents[2]


def examples() -> dict[str, str]:
    return {name: field.example for name, field in FIELDS.items()}


def test_the_page_of_fields_is_current() -> None:
    text = (ROOT / "docs" / "hosts-file.md").read_text()
    page = runpy.run_path(str(ROOT / "scripts" / "hosts_file_page"))["page"]
    assert page(text) == text, "run `make docs`"


def test_the_example_of_each_field_is_valid_and_differs_from_the_default() -> None:
    entry = parse_entry("examples", "rack1", examples())
    for field in FIELDS.values():
        assert getattr(entry, field.attribute) != field.default, field.name


def test_a_section_that_is_written_is_read_as_the_same_host() -> None:
    entry = parse_entry("examples", "rack1", examples())
    section = section_of(entry)
    assert set(section) == set(FIELDS)
    assert parse_entry("written", "rack1", section) == entry


def test_a_section_that_is_written_has_no_field_with_its_default() -> None:
    entry = HostEntry("rack1", "192.0.2.13", guest_confined=False)
    assert section_of(entry) == {"host_address": "192.0.2.13", "guest_confined": "no"}


def test_a_percent_sign_is_written_as_pabot_reads_it() -> None:
    entry = HostEntry("rack1", "fe80::1%eth0", key_file=Path("/keys/50%"))
    section = section_of(entry)
    assert section == {"host_address": "fe80::1%%eth0", "host_key_file": "/keys/50%%"}
    assert parse_entry("written", "rack1", section) == entry


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_mistyped_field_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"expected {name} .the most similar name., or one of guest_bridge, "):
        parse_entry("hosts.dat", "rack1", {"host_address": "192.0.2.13", f"{name}x": "y"})


@pytest.mark.parametrize("name", sorted(name for name, field in FIELDS.items() if field.kind.secret))
def test_a_field_that_may_have_a_password_is_not_shown(name: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_entry("hosts.dat", "rack1", {"host_address": "192.0.2.13", name: "s3cret # comment"})
    assert "s3cret" not in str(caught.value)
