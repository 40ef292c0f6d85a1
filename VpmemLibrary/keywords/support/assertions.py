"""Getters that assert: ``Get Namespace Property    ns0    size    ==    256MiB``.

The operators are those of robotframework-assertion-engine, as in the Browser library. A size in any notation can be
compared with any other size. A failure message shows both sizes in the same unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assertionengine import AssertionOperator, verify_assertion
from assertionengine.assertion_engine import EvaluationOperators, NumericalOperators

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import Size

__all__ = [
    "AssertionOperator",
    "assert_count",
    "assert_property",
    "assert_size",
    "assert_text",
    "assert_value",
    "literal",
    "verify",
]


def verify(value: Any, operator: AssertionOperator | None, expected: Any, subject: str, message: str | None) -> Any:
    """Return the value, or the result of an evaluating operator. Raise if the assertion does not hold.

    Args:
        value: The value that was found.
        operator: The assertion, or None for no assertion.
        expected: The expected value, of the same type.
        subject: The name of the value in the failure message.
        message: The user's own failure text, in which ``{value}`` and ``{expected}`` are filled in.

    Raises:
        InvalidValueError: The user's text is not a valid format string.
        AssertionError: The assertion does not hold.
    """
    if message:
        try:
            message.format(value="", value_type="", expected="", expected_type="")
        except (ValueError, LookupError, AttributeError, TypeError):
            valid = (
                "a text with {value}, {value_type}, {expected}, {expected_type}, and each other brace twice: {{ or }}"
            )
            raise InvalidValueError("message", message, valid) from None
    return verify_assertion(value, operator, expected, subject, message)


def literal(text: str) -> str:
    """Escape the braces of a failure text, so that `verify` does not fill in anything."""
    return text.replace("{", "{{").replace("}", "}}")


def assert_size(
    size: Size, operator: AssertionOperator | None, expected: object, subject: str, message: str | None
) -> Any:
    """Return the size, or the result of an evaluating operator. Raise if the assertion does not hold.

    Args:
        size: The size that was found.
        operator: The assertion, or None for no assertion.
        expected: A size in any form: ``256MiB``, bytes, another size.
        subject: The name of the size in the failure message.
        message: The user's own failure text.
    """
    if operator is None or operator in EvaluationOperators:
        return verify(size, operator, expected, subject, message)
    if operator not in NumericalOperators:
        raise InvalidValueError(
            "assertion operator", operator.name, "==, !=, <, <=, >, >=, validate or then for a size"
        )
    if not isinstance(expected, (str, int)):
        raise InvalidValueError("expected size", expected, "a size such as 256MiB or 268435456")
    return verify(size, operator, Size.parse(expected), subject, message)


def assert_text(
    text: str, operator: AssertionOperator | None, expected: object, subject: str, message: str | None
) -> Any:
    """Return the text, or raise if the assertion does not hold. `expected` is compared as text."""
    return verify(text, operator, None if expected is None else str(expected), subject, message)


def assert_value(
    value: object, operator: AssertionOperator | None, expected: object, subject: str, message: str | None
) -> Any:
    """Return the value, or raise if the assertion does not hold. `expected` is first converted to the value's type.

    Raises:
        InvalidValueError: `expected` cannot be converted.
    """
    if operator in NumericalOperators and isinstance(value, int) and not isinstance(value, bool):
        try:
            expected = int(str(expected), 0)
        except ValueError:
            raise InvalidValueError("expected value", expected, "a whole number") from None
    return verify(value, operator, expected, subject, message)


def assert_count(
    records: Sequence[object], operator: AssertionOperator | None, expected: object, subject: str, message: str | None
) -> Any:
    """Return the records, or the result of an evaluating operator. Raise if the assertion on their number fails.

    Args:
        records: The records that were found.
        operator: The assertion on the number of records, or None for no assertion.
        expected: The expected number.
        subject: The name of the number in the failure message.
        message: The user's own failure text.
    """
    result = assert_value(len(records), operator, expected, subject, message)
    return result if operator in EvaluationOperators else records


def assert_property(
    value: Size | int | str, operator: AssertionOperator | None, expected: object, subject: str, message: str | None
) -> Any:
    """Return the value of a property, or raise if the assertion does not hold. The value's type selects the rules."""
    if isinstance(value, Size):
        return assert_size(value, operator, expected, subject, message)
    if isinstance(value, int):
        return assert_value(value, operator, expected, subject, message)
    return assert_text(value, operator, expected, subject, message)
