"""Robot Framework's view of keywords that are methods of components."""

from __future__ import annotations

from typing import Any

import pytest
from robot.api import TypeInfo
from robot.api.deco import keyword

from VpmemLibrary.keywords.support.components import ComponentLibrary
from VpmemLibrary.sizes import Size


class First:
    @keyword(tags=("one",))
    def every_kind(
        self, plain: str, given: Size | None = None, *rest: int, named: bool, preset: str = "x", **others: Any
    ) -> list[Size]:
        """Do it.

        All of it.
        """
        return [Size(1)]

    def no_keyword(self) -> None: ...


class Second:
    @keyword
    def only_named(self, *, named: str) -> str:
        return named

    @keyword
    def no_arguments(self) -> None: ...


@pytest.fixture
def library() -> ComponentLibrary:
    return ComponentLibrary([First(), Second()])


def test_only_marked_methods_are_keywords(library: ComponentLibrary) -> None:
    assert library.get_keyword_names() == ["every_kind", "no_arguments", "only_named"]


def test_arguments_are_written_as_robot_framework_reads_them(library: ComponentLibrary) -> None:
    every = ["plain", ("given", None), "*rest", "named", ("preset", "x"), "**others"]
    assert library.get_keyword_arguments("every_kind") == every
    assert library.get_keyword_arguments("only_named") == ["*", "named"]
    assert library.get_keyword_arguments("no_arguments") == []


def test_types_are_those_of_the_annotations(library: ComponentLibrary) -> None:
    types = library.get_keyword_types("every_kind")
    assert {name: str(info) for name, info in types.items()} == {
        "plain": "str",
        "given": "Size | None",
        "rest": "int",
        "named": "bool",
        "preset": "str",
        "others": "Any",
        "return": "list[Size]",
    }
    assert types["given"].nested is not None
    assert types["given"].nested[0].type is Size
    assert all(isinstance(info, TypeInfo) for info in types.values())
    assert str(library.get_keyword_types("no_arguments")["return"]) == "None"


def test_documentation_tags_and_source(library: ComponentLibrary) -> None:
    assert library.get_keyword_documentation("every_kind") == "Do it.\n\nAll of it."
    assert library.get_keyword_documentation("only_named") == ""
    assert library.get_keyword_documentation("__init__") == ""
    assert library.get_keyword_tags("every_kind") == ["one"]
    assert library.get_keyword_tags("only_named") == []
    path, line = library.get_keyword_source("every_kind").rsplit(":", 1)
    assert path == __file__
    assert int(line) == First.every_kind.__code__.co_firstlineno


def test_a_keyword_is_called_with_its_arguments(library: ComponentLibrary) -> None:
    assert library.run_keyword("only_named", (), {"named": "a"}) == "a"
