"""Each keyword of the library is proven by a suite, and the names of user keywords say whether they fail or skip."""

from __future__ import annotations

import pytest
from robot_files import calls, normal, reached

from VpmemLibrary import VpmemLibrary
from VpmemLibrary.OpenStack import OpenStack

SKIPPING = {normal(name) for name in ("Skip", "Skip If", "Pass Execution", "Pass Execution If")}


def user_keywords() -> list[str]:
    return sorted(calls()[0].values())


def keyword_names() -> list[str]:
    return [
        name.replace("_", " ").title() for made in (VpmemLibrary(), OpenStack()) for name in made.get_keyword_names()
    ]


@pytest.mark.parametrize("name", keyword_names())
def test_each_keyword_is_used_by_a_suite_or_an_example(name: str) -> None:
    assert normal(name) in set(reached(""))


@pytest.mark.parametrize("name", user_keywords())
def test_each_user_keyword_is_used(name: str) -> None:
    assert normal(name) in set(reached(""))


@pytest.mark.parametrize("name", [name for name in user_keywords() if "Should" in name.split()])
def test_a_keyword_that_says_should_never_skips(name: str) -> None:
    assert SKIPPING & set(reached(normal(name))) == set()


@pytest.mark.parametrize("name", [name for name in user_keywords() if "Skip" not in name.split()])
def test_a_keyword_that_skips_by_itself_says_so(name: str) -> None:
    assert SKIPPING & set(calls()[1].get(normal(name), ())) == set()
