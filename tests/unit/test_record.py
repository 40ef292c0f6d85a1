"""Records with fields that are not shown or not compared."""

from __future__ import annotations

import copy
import pickle

import pytest
import rich.pretty
from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.record import compare_without, hide_fields


@hide_fields("password")
@compare_without("origin")
class Login(Struct, frozen=True):
    user: str
    password: str = ""
    origin: str = ""


class HostLogin(Login, frozen=True):
    host: str = ""


SECRET = Login("qa", "secret", "here")


@pytest.mark.parametrize("record", [SECRET, HostLogin("qa", "secret", host="a"), replace(SECRET, user="b")])
def test_a_hidden_field_is_shown_nowhere(record: Login) -> None:
    for shown in (repr(record), str(record), f"{record}", rich.pretty.pretty_repr(record), repr([record])):
        assert "secret" not in shown
        assert record.user in shown


def test_a_record_is_shown_with_its_other_fields() -> None:
    assert repr(SECRET) == "Login(user='qa', origin='here')"
    assert repr(HostLogin("qa", host="a")) == "HostLogin(user='qa', origin='', host='a')"


def test_an_ignored_field_makes_no_difference() -> None:
    same, other = replace(SECRET, origin="there"), replace(SECRET, password="x")
    assert (same == SECRET, same != SECRET, hash(same) == hash(SECRET)) == (True, False, True)
    assert (other == SECRET, other != SECRET) == (False, True)
    assert len({SECRET, same, other}) == 2


def test_records_of_different_kinds_are_different() -> None:
    assert HostLogin("qa", "secret", "here") != SECRET
    others: list[object] = ["qa", None]
    assert SECRET not in others


@pytest.mark.parametrize("decorate", [hide_fields, compare_without])
def test_a_field_that_does_not_exist_is_refused(decorate: object) -> None:
    with pytest.raises(TypeError, match="Login has no field passwort"):
        decorate("passwort")(Login)  # type: ignore[operator]


def test_a_copy_has_every_field() -> None:
    for again in (copy.copy(SECRET), copy.deepcopy(SECRET), pickle.loads(pickle.dumps(SECRET))):
        assert again == SECRET
        assert (again.password, again.origin) == ("secret", "here")
