"""Getters that assert."""

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.keywords.support.assertions import (
    AssertionOperator,
    assert_size,
    assert_text,
    assert_value,
    literal,
    verify,
)
from VpmemLibrary.sizes import MiB, Size

SIZE = Size(254 * MiB)


@pytest.mark.parametrize("expected", ["254MiB", "266338304", 266338304, Size(254 * MiB)])
def test_a_size_equals_however_it_is_written(expected: object) -> None:
    assert assert_size(SIZE, AssertionOperator["=="], expected, "Size", None) == SIZE


def test_without_an_operator_nothing_is_asserted() -> None:
    assert assert_size(SIZE, None, None, "Size", None) == SIZE


@pytest.mark.parametrize(("operator", "expected"), [("==", "256MiB"), ("!=", "254MiB"), ("<", "254MiB"), (">", "1GiB")])
def test_a_wrong_size_fails_with_both_in_words(operator: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=rf"Usable size of ns '254MiB' \(size\) should .*'{expected}'"):
        assert_size(SIZE, AssertionOperator[operator], expected, "Usable size of ns", None)


@pytest.mark.parametrize("expected", ["254MB", "much", None, 1.5])
def test_an_expected_size_that_is_none_is_refused(expected: object) -> None:
    with pytest.raises(InvalidValueError, match="size"):
        assert_size(SIZE, AssertionOperator["=="], expected, "Size", None)


def test_an_operator_for_text_is_refused_for_a_size() -> None:
    with pytest.raises(InvalidValueError, match="assertion operator"):
        assert_size(SIZE, AssertionOperator["contains"], "2", "Size", None)


def test_text_compares_as_text() -> None:
    assert assert_text("devdax", AssertionOperator["=="], "devdax", "Mode", None) == "devdax"
    with pytest.raises(AssertionError, match=r"Mode 'devdax' .* should be 'fsdax'"):
        assert_text("devdax", AssertionOperator["=="], "fsdax", "Mode", None)


def test_a_number_compares_as_a_number() -> None:
    assert assert_value(17, AssertionOperator["=="], "17", "Process", None) == 17
    assert assert_value(17, AssertionOperator["!="], "0x12", "Process", None) == 17
    with pytest.raises(AssertionError):
        assert_value(17, AssertionOperator["!="], "17", "Process", None)
    with pytest.raises(InvalidValueError, match="whole number"):
        assert_value(17, AssertionOperator["=="], "seventeen", "Process", None)


def test_the_users_own_message_is_used() -> None:
    with pytest.raises(AssertionError, match="too small"):
        assert_size(SIZE, AssertionOperator[">"], "1GiB", "Size", "too small")


@pytest.mark.parametrize("message", ["{", "}", "{other}", "{0}", "{value.nothing}", "{value[0]}"])
def test_a_text_that_cannot_be_filled_in_is_refused(message: str) -> None:
    with pytest.raises(InvalidValueError, match=r"message .* cannot be used"):
        assert_text("a", AssertionOperator["=="], "a", "It", message)


def test_a_text_of_the_users_own_is_filled_in() -> None:
    with pytest.raises(AssertionError, match=r"^'a' is not 'b' \{x\}$"):
        assert_text("a", AssertionOperator["=="], "b", "It", "{value} is not {expected} {{x}}")


def test_a_text_from_elsewhere_is_a_failure_s_text_as_it_is() -> None:
    fault = "Server s is in ERROR: sh -c '[ -c x ] || { echo {0} >&2; }' failed"
    assert verify("ERROR", AssertionOperator["=="], "ERROR", "Status", literal(fault)) == "ERROR"
    with pytest.raises(AssertionError) as caught:
        verify("ERROR", AssertionOperator["=="], "ACTIVE", "Status", literal(fault))
    assert str(caught.value) == fault
