"""Text from outside as it is shown: nothing in it steers a terminal, forges a line, or is taken for HTML."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import CommandError, InvalidValueError, LibvirtError, NotFoundError, VpmemError
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.visible import block, message, one_line, quoted, visible

ANY = st.text(st.characters(), max_size=40)
"""Any text at all, lone surrogates included."""

STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control and format characters (bidirectional ones among them), surrogates, and line separators."""


def steering(text: str, allowed: str = "") -> list[str]:
    return [character for character in text if unicodedata.category(character) in STEERING and character not in allowed]


@given(ANY)
@example("\x1b]0;PWNED\x07\x1b[2J\r\x7f\x9b31m\u0085")
@example("\u202eabc\u2066\u2069\u200e\u2028\u2029\ud800\ufeff")
@settings(max_examples=200)
def test_no_control_character_is_left(text: str) -> None:
    assert steering(visible(text), allowed="\n\t") == []
    assert steering(one_line(text)) == []
    assert steering(quoted(text)) == []
    assert visible(visible(text)) == visible(text)
    visible(text).encode()  # no surrogate is left that could not be written


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40))
@settings(max_examples=200)
def test_a_text_without_control_characters_stays_as_it_is(text: str) -> None:
    assert visible(text) == one_line(text) == text


def test_control_characters_are_shown_as_numbers() -> None:
    assert visible("a\x1b[31m\r\n\tb\x9b\u202e\u2028\ud800") == r"a\x1b[31m\x0d" + "\n\tb" + r"\x9b\u202e\u2028\ud800"
    assert one_line("a\n\tb") == r"a\x0a\x09b"


@pytest.mark.parametrize("separator", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\u0085", "\u2028", "\u2029"])
def test_a_text_forges_no_line(separator: str) -> None:
    forged = f"x{separator}exit status: 0 after 0.1 s"
    result = CommandResult(("tool", forged), 1, forged.encode(), forged.encode(), 0.1, "here")
    lines = str(CommandError(result)).splitlines()
    assert [line for line in lines if line.startswith("exit status")] == ["exit status: 1 after 0.10 s"]
    for error in (
        InvalidValueError("name", forged, "a name"),
        NotFoundError("namespace", forged, [forged, Namespace("namespace0.0", name=forged).called], where="here"),
    ):
        assert len(str(error).splitlines()) == 1
    assert len(str(LibvirtError("start", 1, forged)).split("\nexit")) == 1
    assert len(Agreement(forged, {"a": {"x": forged}, "b": {"x": 1}}).table().splitlines()) == 2


@given(st.sampled_from(["*HTML*", "*html*", " *HTML* ", "\n*Html*", "\x1b*HTML*", "\u2028*HTML*"]), ANY)
@settings(max_examples=200)
def test_no_message_is_taken_for_html(beginning: str, rest: str) -> None:
    text = beginning + rest
    named = Namespace("namespace0.0", name=text).called
    added = VpmemError("")
    added.add(text)
    for shown in (message(text), str(VpmemError(text)), str(added), f"{named} is in use"):
        assert not shown.strip().upper().startswith("*HTML*")
        assert rest.isprintable() is False or rest in shown or repr(rest)[1:-1] in shown


def test_what_is_added_to_an_error_is_made_visible_too() -> None:
    error = VpmemError("a")
    error.add("b\x1b[2J")
    assert str(error) == "a\nb\\x1b[2J"


def test_a_name_is_quoted_when_it_is_unusual() -> None:
    assert Namespace("namespace0.0", name="ns_0").called == "ns_0 (namespace0.0)"
    assert Namespace("namespace0.0", name="two words").called == "'two words' (namespace0.0)"
    assert Namespace("namespace0.0", name="a\x1b\n").called == r"'a\x1b\n' (namespace0.0)"
    assert Namespace("namespace0.0").called == "namespace0.0"


def test_a_block_is_indented_below_its_first_line() -> None:
    assert "stderr: " + block("a\nexit status: 0") == "stderr: a\n    exit status: 0"


def test_a_message_is_bounded() -> None:
    error = InvalidValueError("domain XML", "<a>" * 10_000_000, "XML")
    assert len(str(error)) < 70_000
    assert str(error).startswith("domain XML '<a><a>")
    assert str(error).endswith(" characters)")
    for _ in range(1000):
        error.add("x" * 1000)
    assert len(str(error)) < 70_000
