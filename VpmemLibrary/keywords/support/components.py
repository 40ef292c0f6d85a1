"""Robot Framework's interface of dynamic libraries, for keywords that are methods of several components."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, get_type_hints

from robot.api import TypeInfo


class ComponentLibrary:
    """A library whose keywords are the methods with ``@keyword`` of its components.

    Robot Framework reads all keywords at every start, so this reads each signature once, and each type once in a
    component.

    Args:
        components: Objects of different classes.
    """

    def __init__(self, components: Iterable[object]) -> None:
        self.keywords: dict[str, Any] = {}
        """The keywords' methods by their names."""
        self._types: dict[str, Mapping[str, TypeInfo]] = {}
        for component in components:
            kind = type(component)
            methods = {name: getattr(component, name) for name in dir(kind) if _is_keyword(getattr(kind, name))}
            self.keywords.update(methods)
            self._types.update(dict.fromkeys(methods, _types(kind.__module__, methods.values())))

    def get_keyword_names(self) -> list[str]:
        """Return the names of all keywords."""
        return sorted(self.keywords)

    def run_keyword(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a keyword and return its value."""
        return self.keywords[name](*args, **kwargs)

    def get_keyword_arguments(self, name: str) -> list[str | tuple[str, Any]]:
        """Return the arguments of a keyword as Robot Framework writes them, those with a default as a pair."""
        arguments: list[str | tuple[str, Any]] = []
        only_named = False
        for argument in inspect.signature(self.keywords[name]).parameters.values():
            if argument.kind is Parameter.KEYWORD_ONLY and not only_named:
                arguments.append("*")
            only_named = only_named or argument.kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL)
            written = _MARKS.get(argument.kind, "") + argument.name
            arguments.append(written if argument.default is Parameter.empty else (written, argument.default))
        return arguments

    def get_keyword_types(self, name: str) -> dict[str, TypeInfo]:
        """Return the types of a keyword's arguments, and of its value as ``return``."""
        types = self._types[name]
        return {argument: types[text] for argument, text in self.keywords[name].__annotations__.items()}

    def get_keyword_tags(self, name: str) -> list[str]:
        """Return the tags of a keyword."""
        return list(self.keywords[name].robot_tags)

    def get_keyword_documentation(self, name: str) -> str:
        """Return the documentation of a keyword. Robot Framework reads that of the library itself."""
        return inspect.getdoc(self.keywords[name]) or "" if name in self.keywords else ""

    def get_keyword_source(self, name: str) -> str:
        """Return the file and the line of a keyword."""
        code = inspect.unwrap(self.keywords[name]).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


_MARKS: Mapping[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _is_keyword(attribute: object) -> bool:
    return hasattr(attribute, "robot_name")


def _types(module: str, methods: Iterable[Callable[..., Any]]) -> dict[str, TypeInfo]:
    """Return the types that the methods' annotations name, by the texts of the annotations."""
    texts = {text for method in methods for text in method.__annotations__.values()}
    annotated = SimpleNamespace(__annotations__={text: text for text in texts})
    hints = get_type_hints(annotated, vars(sys.modules[module]))
    return {text: TypeInfo.from_type_hint(hint) for text, hint in hints.items()}
