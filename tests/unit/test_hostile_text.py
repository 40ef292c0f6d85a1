"""Hostile text in every text argument of every keyword: it runs nothing, and is refused clearly or kept as it is.

The keywords are found by asking the library, so that a new one is tested without a line here. They run on a host whose
commands are recorded instead of run: a text may reach it as one whole argument, and never inside a script.
"""

from __future__ import annotations

import inspect
import subprocess
import types
import typing
from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recorded_host import RecordedHost, left

from VpmemLibrary import VpmemLibrary
from VpmemLibrary.errors import UnreachableError, VpmemError
from VpmemLibrary.guest.domain import BootSource, VpmemDevice
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.transport import CommandResult, shell_line
from VpmemLibrary.keywords.context import OpenHost
from VpmemLibrary.nova.flavor import Flavor
from VpmemLibrary.sizes import MiB, Size

CANARY = "hostile-canary"
"""In every hostile text, so that it is recognised wherever it turns up."""

SHAPES = (
    "$(touch {})", "`touch {}`", "; touch {}", "| touch {}", "&& touch {}", "' ; touch {} ; '", '" ; touch {} ; "',
    "\ntouch {}\n", "--{}", "-f{}", "../../{}", "/dev/../{}", "/dev/$(touch {})", "{}%s%n", "{}\\", "*{}?", "~{}",
    "{} ", " {}", "<{}/>", "&{};", "]]>{}", "ns {}", "{}\r", "\t{}", "ü{}é中\U0001f4a5",
)  # fmt: skip
hostile = st.one_of(
    st.sampled_from(SHAPES).map(lambda shape: shape.format(CANARY)),
    st.integers(min_value=300, max_value=5000).map(lambda length: CANARY + "x" * length),
    st.text(max_size=20).map(lambda text: text + CANARY),
    st.text(max_size=20).map(lambda text: CANARY + text),
)

LIBRARY = VpmemLibrary(run_id="0123abcd")

# These open a connection to wherever a text says, which is what they are for.
CONNECTING = {"open_host"}


class Trap(RecordedHost):
    """A host that runs nothing: it keeps what it was to run, and answers as an empty tool would."""

    def __init__(self) -> None:
        super().__init__({"ndctl list": "modes", "daxctl list": "dax-listing"})
        self.ran: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        self.ran.append(tuple(argv))
        try:
            return super().run(argv, timeout=timeout, stdin=stdin)
        except AssertionError:
            return left(0)

    def stream(self, argv: Sequence[str]) -> Any:
        self.ran.append(tuple(argv))
        raise UnreachableError("this host has no streams")

    def read_file(self, path: str) -> bytes:
        self.ran.append(("cat", path))
        return b""

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self.ran.append(("tee", path))


def texts() -> Iterator[tuple[str, str]]:
    """Give every keyword with each of its arguments that takes a text."""
    for name, method in LIBRARY.keywords.items():
        hints = typing.get_type_hints(method)
        for argument in inspect.signature(method).parameters:
            if name not in CONNECTING and takes_text(hints.get(argument)) and not wants_record(method, argument):
                yield name, argument


def takes_text(hint: Any) -> bool:
    if hint is str:
        return True
    return typing.get_origin(hint) in (Union, types.UnionType) and str in typing.get_args(hint)


def wants_record(method: Any, argument: str) -> bool:
    """Whether a keyword needs, beside an argument, a record that only a real host can give."""
    hints = typing.get_type_hints(method)
    needed = [
        hints.get(parameter.name)
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != argument and parameter.default is parameter.empty
    ]
    return any(
        inspect.isclass(hint)
        and hint.__module__.startswith("VpmemLibrary.")
        and not issubclass(hint, (Enum, Size, Flavor, VpmemDevice))
        for hint in needed
    )


def sample(hint: Any) -> Any:
    """Return a good value of a type, for the arguments that are not the hostile one."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return sample(next(each for each in typing.get_args(hint) if each is not types.NoneType))
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return next(iter(hint))
    if hint is VpmemDevice:
        return VpmemDevice("/dev/dax0.0", Size(64 * MiB), slot=0)
    if hint is Flavor:
        return Flavor("f", pmem=("SMALL",))
    simple: dict[Any, Any] = {
        str: "region0",
        int: 1,
        bool: False,
        Size: Size(64 * MiB),
        Path: Path("/absent"),
        timedelta: timedelta(seconds=1),
    }
    return simple.get(hint, "namespace0.0")


def calling(name: str, argument: str, text: str) -> tuple[Trap, BaseException | None]:
    """Call a keyword with a hostile text, on a host that runs nothing, and return that host and what was raised."""
    trap = Trap()
    method = LIBRARY.keywords[name]
    context = method.__self__._context
    context._open.clear()
    opened = OpenHost(Host("trap", trap, timeout=1), context.run)
    opened.boot = BootSource(kernel="/boot/kernel", initrd="/boot/initrd")
    opened.show_alive = lambda: None  # type: ignore[method-assign]  # a lease needs a stream
    context.add(opened)
    hints = typing.get_type_hints(method)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    several = inspect.signature(method).parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name != argument and parameter.default is not parameter.empty:
            continue
        value = text if parameter.name == argument else sample(hints.get(parameter.name))
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and parameter.name != argument:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            named[text] = value
        elif several and parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(value)
        else:
            named[parameter.name] = value
    try:
        method(*positional, **named)
    except (VpmemError, AssertionError) as error:
        return trap, error
    return trap, None


def scripts(argv: Sequence[str]) -> Iterator[str]:
    """Give what a shell, or awk, would take for a program in a command."""
    for place, word in enumerate(argv):
        if word in ("sh", "bash") and argv[place + 1 : place + 2] == ("-c",):
            yield argv[place + 2]
        if word == "awk":
            yield argv[place + 1]


@pytest.mark.parametrize(("name", "argument"), list(texts()))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
@example(text=f"$(touch {CANARY})")
@example(text=f"/dev/$(touch {CANARY})")  # what has to be an absolute path comes no further with another text
def test_a_hostile_text_runs_nothing(name: str, argument: str, text: str) -> None:
    trap, error = calling(name, argument, text)
    for argv in trap.ran:
        for script in scripts(argv):
            assert CANARY not in script, f"{text!r} is in a script of {name}: {script}"
        for place, word in enumerate(argv[1:], start=1):  # the first is the program that was asked for
            option = CANARY in word and word.startswith("-") and argv[0] != "sh"
            assert not option or "--" in argv[:place], f"{text!r} is an option of {argv[0]} in {name}: {argv}"
    if error is not None:
        assert str(error).strip()


@given(text=hostile.filter(lambda text: "\0" not in text))
@settings(max_examples=40, deadline=None)
def test_a_shell_gives_a_text_back_as_it_was(text: str) -> None:
    line = shell_line(["printf", "%s", text])
    try:
        expected = text.encode()
    except UnicodeEncodeError:
        return
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout == expected


def test_there_are_many_of_them() -> None:
    assert len(list(texts())) > 100
