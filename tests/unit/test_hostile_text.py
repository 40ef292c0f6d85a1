"""Hostile text in every text argument of every keyword: it runs nothing, and is refused clearly or kept as it is.

The keywords are found by asking the library, so that a new one is tested without a line here. They run on a host whose
commands are recorded instead of run: a text may reach it as one whole argument, and never inside a script. A keyword
that raises before it looks at the text proves nothing, so each text must be found somewhere: in a command, in what a
command reads, in the error, in what the keyword returns, or in what the library keeps.
"""

from __future__ import annotations

import atexit
import inspect
import re
import shlex
import shutil
import subprocess
import tempfile
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory_leases import LeaseTable, MemoryLeases
from recorded_host import RecordedHost, left

from VpmemLibrary import VpmemLibrary
from VpmemLibrary.errors import UnreachableError, VpmemError
from VpmemLibrary.guest.channel.channels import GuestChannel
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.records import BootSource, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.support.assertions import AssertionOperator
from VpmemLibrary.leases.leases import Holder
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.session.guest_defaults import GuestDefaults
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult, shell_line

CANARY = "hostilecanary"
"""In every hostile text, so that it is recognised wherever it turns up."""

SHAPES = (
    "$(touch {})", "`touch {}`", "; touch {}", "| touch {}", "&& touch {}", "' ; touch {} ; '", '" ; touch {} ; "',
    "\ntouch {}\n", "--{}", "-f{}", "../../{}", "/dev/../{}", "/dev/$(touch {})", "{}%s%n", "{}\\", "*{}?", "~{}",
    "{} ", " {}", "<{}/>", "&{};", "]]>{}", "ns {}", "{}\r", "\t{}", "ü{}é中\U0001f4a5",
)  # fmt: skip
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:-]{0,62}", re.ASCII)
"""A good name: a keyword goes on with it, and needs more than a host that runs nothing."""

hostile = st.one_of(
    st.sampled_from(SHAPES).map(lambda shape: shape.format(CANARY)),
    st.integers(min_value=300, max_value=5000).map(lambda length: CANARY + "x" * length),
    st.text(max_size=20).map(lambda text: text + CANARY),
    st.text(max_size=20).map(lambda text: CANARY + text),
).filter(lambda text: not PLAIN.fullmatch(text))

LIBRARY = VpmemLibrary(run_id="0123abcd")

DEVICE = VpmemDevice("/dev/dax0.0", Size(64 * MiB), slot=0)
HOSTS = Path(tempfile.mkdtemp()) / "hosts.dat"
HOSTS.write_text("[local]\nhost_address = local\n")
atexit.register(shutil.rmtree, HOSTS.parent)

GOOD: dict[str, object] = {
    "region": "region0",
    "namespace": "namespace0.0",
    "guest": "test",
    "hosts": str(HOSTS),
    "host": "other",
    "bus": "ndbus0",
    "dimm": "nmem0",
    "device": None,
}
"""Good values by the names of arguments; others have one by their type."""

FAILING: dict[str, object] = {"assertion_operator": AssertionOperator["=="], "expected": 12345}
"""An assertion that fails for any value, so that the user's own text is shown."""

NEEDED: dict[tuple[str, str], dict[str, object]] = {
    ("get_predicted_usable_size", "label_version"): {"mode": NamespaceMode.sector},
    ("set_guest_image", "initrd"): {"kernel": "/boot/kernel"},
    ("set_guest_image", "cmdline"): {"kernel": "/boot/kernel", "initrd": "/boot/initrd"},
    ("set_guest_image", "machine"): {"kernel": "/boot/kernel", "initrd": "/boot/initrd"},
    ("define_guest_from_xml", "name"): {"xml": "<domain type='test'><name>a</name></domain>"},
    ("use_guest_channel", "user"): {"channel": GuestChannel.ssh, "address": "fe80::1%br0"},
    ("use_guest_channel", "host_key_name"): {"channel": GuestChannel.ssh, "address": "fe80::1%br0"},
    ("use_guest_channel", "address"): {"channel": GuestChannel.ssh},
}
"""Further arguments, without which a keyword does not look at the one that is tested."""

_GETTERS = (
    "get_dax_device_mode", "get_memory_total", "get_bad_blocks", "get_dirty_shutdown_count", "get_media_errors",
    "get_file_access", "get_pmem_total", "get_pmem_used",
    "get_backing_kind", "get_guest_process", "get_guest_mapping_flags", "get_guest_region_size",
)  # fmt: skip

UNSEEN: dict[tuple[str, str], str] = {
    **{(name, "message"): "the host gives no value, so that nothing is asserted" for name in _GETTERS},
    ("get_regions", "provider"): "is only compared",
    ("namespace_should_not_exist", "namespace"): "passes, as it should: see the control below",
    ("restore_labels", "region"): "the file of labels comes first, and must be whole",
    ("guest_pattern_should_be_intact", "seed"): "the guest shows no region of its device",
    ("write_pattern_in_guest", "seed"): "the guest shows no region of its device",
    ("host_should_hold_guest_pattern", "seed"): "the guest has no device on the namespace",
    ("start_record_writer", "seed"): "the guest's console has no log",
    ("update_dimm_firmware", "image"): "the DIMM takes no firmware",
}
"""The arguments that no keyword comes to on this host, and why."""

# These open a connection to wherever a text says, which is what they are for.
CONNECTING = {"open_host"}


class Trap(RecordedHost):
    """A host that runs nothing: it keeps what it was to run, lists a few things, and is an empty tool otherwise."""

    def __init__(self) -> None:
        super().__init__(
            {
                "ndctl list": "modes",
                "daxctl list -RDi": "dax-regions",
                "daxctl list": "dax-devices",
                "nstype": left(0, "region0 5\n"),
                "getsize64 absent": left(0, f"block {64 * MiB:d}\n"),
                "boot_id": left(0, "6c4c3b26-08f5-4f0b-8d5a-3f6a4f1a3d33\n"),
                "blkid": left(0, "TYPE=ext4\nUUID=f00d\n"),
            }
        )
        self.ran: list[tuple[str, ...]] = []
        self.read: list[bytes] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        self.ran.append(tuple(argv))
        self.read.append(stdin)
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
        and not issubclass(hint, (Enum, Size, VpmemDevice))
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
    simple: dict[Any, Any] = {
        str: "region0",
        int: 1,
        bool: False,
        Size: Size(64 * MiB),
        Path: Path("/absent"),
        timedelta: timedelta(seconds=1),
    }
    return simple.get(hint, "namespace0.0")


@dataclass
class Outcome:
    """What came of a keyword that was called with a hostile text.

    Args:
        trap: The host.
        error: What was raised.
        kept: All that the text may be found in besides, as text.
    """

    trap: Trap
    error: BaseException | None
    kept: str

    @property
    def reached(self) -> bool:
        """Whether the keyword came as far as to look at the text."""
        words = [word for argv in self.trap.ran for word in argv] + [str(self.error or ""), self.kept]
        return any(CANARY in word for word in words) or any(CANARY.encode() in read for read in self.trap.read)


def calling(name: str, argument: str, text: str) -> Outcome:
    """Call a keyword with a hostile text, on a host that runs nothing."""
    trap = Trap()
    method = LIBRARY.keywords[name]
    session = method.__self__._session
    session._open.clear()
    opened = OpenHost(
        Host("trap", trap, timeout=1),
        session.run,
        policy=Policy(may_reboot=True, may_initialize_labels=True),
        guest_defaults=GuestDefaults(boot=BootSource(kernel="/boot/kernel", initrd="/boot/initrd"), bridge="br0"),
        leases=MemoryLeases(LeaseTable(), Holder("0123abcd", token="1")),  # type: ignore[arg-type]
    )
    opened.guests._link = link = LibvirtLink(trap, uri="test:///default")
    guest = Guest(trap, link, "test", devices=(DEVICE,))
    guest.transport = trap
    opened.guests._guests["test"] = guest
    session.add(OpenHost(Host("other", trap, timeout=1), session.run))
    session.add(opened)
    try:
        positional, named = arguments(method, argument, text)
        result, error = None, None
        try:
            result = method(*positional, **named)
        except (VpmemError, AssertionError) as raised:
            error = raised
        state = [session.aliases, opened.guests.defaults, [*opened.guests._guests]]
        inside = [guest._devices, vars(guest._channel)]
        return Outcome(trap, error, repr([result, *state, *inside]))
    finally:
        link.close()


def arguments(method: Any, argument: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call: the hostile text for one of them, good values for those that are needed."""
    hints = typing.get_type_hints(method)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    parameters = inspect.signature(method).parameters
    several = parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL
    needed = NEEDED.get((method.__name__, argument), {})
    for parameter in parameters.values():
        hostile_one = parameter.name == argument
        if parameter.name in needed:
            value = needed[parameter.name]
        elif argument == "message" and parameter.name in FAILING:
            value = FAILING[parameter.name]
        elif hostile_one:
            value = text
        elif parameter.name == "foreign":
            value = True  # what is refused as another run's is refused before anything else is looked at
        elif parameter.default is not parameter.empty:
            continue
        else:
            value = GOOD[parameter.name] if parameter.name in GOOD else sample(hints.get(parameter.name))
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and not hostile_one:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            named[text] = value
        elif several and parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(value)
        else:
            named[parameter.name] = value
    return positional, named


def scripts(argv: Sequence[str]) -> Iterator[str]:
    """Give what a shell, or awk, would take for a program in a command."""
    for place, word in enumerate(argv):
        if word in ("sh", "bash") and argv[place + 1 : place + 2] == ("-c",):
            yield argv[place + 2]
        if word == "awk":
            yield argv[place + 1]


def unquoted(script: str, text: str) -> str:
    """Return a script without the words that have a text in them and are quoted as `shell_line` does it: no program."""
    try:
        words = {word for word in shlex.split(script) if text in word} if CANARY in script else set()
    except ValueError:  # a quotation mark is left over
        words = set()
    for word in sorted(words, key=len, reverse=True):
        script = script.replace(shell_line([word]), "")
    return script


@pytest.mark.parametrize(
    ("form", "text", "quoted"),
    [
        ("dd 'if={}'", f"$(touch {CANARY})", True),
        ('dd "if={}"', f"$(touch {CANARY})", False),
        ("dd if={}", f"$(touch {CANARY})", False),
        ("dd if={}", f"; touch {CANARY}", False),
        ("dd '{}'", f"'; touch {CANARY} ; '", False),
        ("dd '{}", f"; touch {CANARY}", False),
    ],
)
def test_what_is_quoted_in_a_script_is_told_from_what_is_not(form: str, text: str, quoted: bool) -> None:
    assert (CANARY not in unquoted(form.format(text), text)) is quoted


@pytest.mark.parametrize(("name", "argument"), list(texts()))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
@example(text=f"$(touch {CANARY})")
@example(text=f"/dev/$(touch {CANARY})")  # what has to be an absolute path comes no further with another text
def test_a_hostile_text_runs_nothing(name: str, argument: str, text: str) -> None:
    outcome = calling(name, argument, text)
    assert outcome.reached or (name, argument) in UNSEEN, f"{name} did not look at {text!r}: {outcome.error}"
    for argv in outcome.trap.ran:
        for script in scripts(argv):
            assert CANARY not in unquoted(script, text), f"{text!r} is in a script of {name}: {script}"
        for place, word in enumerate(argv[1:], start=1):  # the first is the program that was asked for
            option = CANARY in word and word.startswith("-") and argv[0] != "sh"
            assert not option or "--" in argv[:place], f"{text!r} is an option of {argv[0]} in {name}: {argv}"
    if outcome.error is not None:
        assert str(outcome.error).strip()


@pytest.mark.parametrize(("name", "argument"), list(UNSEEN), ids="-".join)
def test_an_argument_that_is_seen_by_now_is_no_exception(name: str, argument: str) -> None:
    assert not calling(name, argument, f"/dev/$(touch {CANARY})").reached, "take it out of UNSEEN"


def test_the_control_of_a_keyword_that_passes_for_any_other_text() -> None:
    outcome = calling("namespace_should_not_exist", "namespace", "namespace0.0")
    assert isinstance(outcome.error, AssertionError)
    assert "namespace0.0" in str(outcome.error)


@pytest.mark.parametrize(
    ("name", "argument", "good", "expected"),
    [
        ("create_namespace", "name", "ns_0", "ns_0"),
        ("make_file_system", "target", "/dev/pmem7", "/dev/pmem7"),
        ("run_on_host", "command", "uptime", "uptime"),
        ("run_in_guest", "command", "uptime", "uptime"),
        ("mount_file_system", "mount_point", "/mnt/a b", "/mnt/a b"),
        ("get_namespace_checksum", "namespace", "/dev/pmem7", "/dev/pmem7"),
        ("load_kernel_modules", "modules", "nd_pmem", "nd_pmem"),
    ],
)
def test_a_good_text_has_a_place_of_its_own_in_a_command(name: str, argument: str, good: str, expected: str) -> None:
    """The control: in the place where hostile texts are looked for, a good one is."""
    commands = [*calling(name, argument, good).trap.ran]
    scripts_too = [*commands, *(tuple(shlex.split(script)) for argv in commands for script in scripts(argv))]
    assert any(expected in argv for argv in scripts_too), commands


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
