"""Robot Framework's interface of dynamic libraries, for keywords that are methods of several components."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
        function = inspect.unwrap(self.keywords[name])
        code = function.__code__  # faster to read than inspect.signature
        named_at, others_at = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
        positional = code.co_varnames[1:named_at]  # without self
        named = code.co_varnames[named_at:others_at]
        others = iter(code.co_varnames[others_at:])
        values = function.__defaults__ or ()
        defaults = dict(zip(positional[len(positional) - len(values) :], values, strict=True))
        defaults.update(function.__kwdefaults__ or {})

        def written(names: Iterable[str]) -> list[str | tuple[str, Any]]:
            return [(name, defaults[name]) if name in defaults else name for name in names]

        arguments = written(positional)
        if code.co_flags & inspect.CO_VARARGS:
            arguments.append("*" + next(others))
        elif named:
            arguments.append("*")
        arguments += written(named)
        if code.co_flags & inspect.CO_VARKEYWORDS:
            arguments.append("**" + next(others))
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


def _is_keyword(attribute: object) -> bool:
    return hasattr(attribute, "robot_name")


def _types(module: str, methods: Iterable[Callable[..., Any]]) -> dict[str, TypeInfo]:
    """Return the types that the methods' annotations name, by the texts of the annotations."""
    texts = {text for method in methods for text in method.__annotations__.values()}
    annotated = SimpleNamespace(__annotations__={text: text for text in texts})
    hints = get_type_hints(annotated, vars(sys.modules[module]))
    return {text: TypeInfo.from_type_hint(hint) for text, hint in hints.items()}
