"""Any text from libvirt, QEMU or a guest: the right answer or an error of this library's, in bounded time.

Texts are recorded ones with pieces changed, dropped, doubled and exchanged, so that they reach what reads them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fake_clock import fake_clock
from fuzz import fuzz, fuzzed
from hypothesis import example, given
from hypothesis import strategies as st
from recorded_guest import CAPABILITIES_XML, COMMAND_LINE, DATA, INACTIVE_XML, LIVE_XML, TOOLS
from recorded_host import RecordedHost, left
from test_guest_agent_rules import ALLOWED, DISABLED, INFO

from VpmemLibrary.errors import LibvirtError, VpmemError
from VpmemLibrary.guest.channel.agent import AgentTransport
from VpmemLibrary.guest.channel.agent_rules import refused_commands
from VpmemLibrary.guest.channel.console import Console
from VpmemLibrary.guest.domain.machine import choose_machine, has_kvm, host_architecture
from VpmemLibrary.guest.domain.qemu_features import read_qemu_features
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.template import add_devices, as_own
from VpmemLibrary.guest.domain.xml import (
    has_balloon,
    read_console_log,
    read_devices,
    read_interface,
    read_mark,
    read_name,
    read_plugged_ram,
    read_ram,
    read_room,
)
from VpmemLibrary.guest.domain.xml_checks import check_domain
from VpmemLibrary.guest.hotplug import check_room, in_domain
from VpmemLibrary.guest.views.argv import argv_devices, argv_options, argv_ram
from VpmemLibrary.guest.views.inside import inside_regions
from VpmemLibrary.guest.views.memory import system_ram
from VpmemLibrary.guest.views.qemu_options import config_files, parse_size
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.guest.views.qmp import (
    pci_aliases,
    qmp_addresses,
    qmp_attached_ram,
    qmp_devices,
    qmp_memory,
    qmp_plugged_ram,
)
from VpmemLibrary.guest.views.views import compare
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult

pytestmark = fuzz

LONGEST = 10.0
"""Seconds for one text: a hundred times what it takes, as the machine may be busy."""

DOMAINS = [
    *(path.read_text() for path in sorted(DATA.glob("domain_*.xml"))),
    LIVE_XML,
    INACTIVE_XML,
    "<domain/>",
]
ODD = st.sampled_from(
    [
        *(
            "",
            "0",
            "-1",
            "x",
            "9" * 30,
            "9" * 5000,
            "0x",
            "0x10",
            "1.5",
            "1e9",
            "nan",
            "٣",
            "\u2028",
            "😀",
            "ua-nv",
            "é",
        ),
        *("KiB", "GB", "bytes", "often", "shared", "private", "yes", "dimm", "nvdimm", "virtio-pmem", "virtio-mem"),
        *(
            "sgx-epc",
            "<!-- -->",
            "<![CDATA[1]]>",
            "<?x?>",
            "&amp;",
            "&lt;",
            "&x;",
            "&#0;",
            "/dev/dax0.0",
            "s390x",
            "pseries",
        ),
        *(
            "<memory model='dimm'><target><size>1</size></target></memory>",
            "'",
            "</memory>",
            ",",
            ",,",
            "=",
            "{",
            "}",
            "\0",
        ),
    ]
)


@contextmanager
def only_own_errors() -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except VpmemError as error:
        assert len(str(error)) < 1 << 17
    assert time.monotonic() - began < LONGEST


@st.composite
def mutated(draw: st.DrawFn, texts: list[str], cut: str) -> str:
    """Return one of the texts with a few of its pieces changed."""
    import re  # noqa: PLC0415

    text = draw(st.sampled_from(texts))
    pieces = re.split(cut, text)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(pieces) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                pieces[at] = draw(ODD)
            case 1:
                pieces[at] = draw(st.text(max_size=8))
            case 2:
                pieces[at] = pieces[at] * 2
            case 3:
                pieces[at] = ""
            case _:
                other = draw(st.integers(0, len(pieces) - 1))
                pieces[at], pieces[other] = pieces[other], pieces[at]
    return "".join(pieces)


XML_PIECES = r"(<[^>]*>|(?<==)'[^']*')"


def read_all(xml: str) -> list[Callable[[], object]]:
    new = VpmemDevice("/dev/dax9.0", Size(64 * MiB))
    return [
        lambda: read_devices(xml),
        lambda: (read_room(xml), read_room(xml, libvirt=9_000_000), read_ram(xml), read_plugged_ram(xml)),
        lambda: (read_name(xml), read_mark(xml), read_console_log(xml), read_interface(xml), has_balloon(xml)),
        lambda: check_domain(xml),
        lambda: check_domain(xml, unshared=True, libvirt=9_000_000),
        lambda: check_domain(add_devices(as_own(xml, "0123abcd"), [new])),
        lambda: check_room("a", xml, in_domain(xml, new)),
        lambda: QemuProcess.of("a", xml, "host"),
        lambda: compare("a", asked=read_devices(xml), xml=read_devices(LIVE_XML), argv={}, qmp={}, inside={}),
    ]


@fuzzed
@given(mutated(DOMAINS, XML_PIECES))
@example("<domain>" + "<devices>" * 100_000)
@example('<!DOCTYPE domain [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><domain><name>&b;</name></domain>')
def test_any_domain_xml(xml: str) -> None:
    for read in read_all(xml):
        with only_own_errors():
            read()


@fuzzed
@given(
    mutated([CAPABILITIES_XML[-6000:].partition("<guest>")[2], CAPABILITIES_XML], XML_PIECES),
    st.sampled_from(["", "pc"]),
)
def test_any_capabilities(xml: str, wanted: str) -> None:
    for read in (lambda: choose_machine(xml, wanted), lambda: has_kvm(xml), lambda: host_architecture(xml)):
        with only_own_errors():
            read()


# QEMU's command line

OPTIONS = [
    *COMMAND_LINE[COMMAND_LINE.index("-object") : COMMAND_LINE.index("-object") + 1],
    *("-object", "-device", "-set", "-m", "-machine", "-M", "--device", "-readconfig", "/etc/x"),
    *(option for option in COMMAND_LINE if "nvdimm" in option or "pmem" in option),
    *("nvdimm,memdev=mem1,label-size=2M,slot=1,id=n", "pc-dimm,memdev=mem1", "virtio-pmem-pci,memdev=mem1,id=v"),
    *("memory-backend-file,id=mem1,share=on,mem-path=/a,,b,size=4g,align=2M", "memory-backend-memfd,id=mem1,size=1.5G"),
    *(
        "device.n.label-size=1M",
        "object.mem1.size=0x10",
        "4G,slots=2,maxmem=16G",
        "size=512",
        "pc,nvdimm",
        "q35,nvdimm=on",
    ),
]
COMMAND_LINES = st.lists(mutated(OPTIONS, r"([,=:{}\"])"), max_size=12)


@fuzzed
@given(COMMAND_LINES, st.booleans())
def test_any_command_line(parts: list[str], real: bool) -> None:
    argv = (*COMMAND_LINE, *parts) if real else tuple(parts)
    for read in (argv_devices, argv_ram, argv_options, config_files):
        with only_own_errors():
            read(argv)


@fuzzed
@given(st.lists(st.binary(max_size=40) | st.sampled_from([part.encode() for part in COMMAND_LINE]), max_size=8))
def test_any_bytes_of_a_command_line(parts: list[bytes]) -> None:
    host = RecordedHost({"cmdline": CommandResult(("sh",), 0, b"\0".join(parts), b"", 0.1)})
    with only_own_errors():
        argv_devices(QemuProcess("a", "u", "+0").read(host)[1])


@fuzzed
@given(st.text(max_size=20) | st.from_regex(r"[-+]?[0-9.]{0,8}(x[0-9a-f]{0,20})?[bkmgtpeBKMGTPE]{0,2}") | st.integers())
def test_any_size_of_qemu(text: object) -> None:
    try:
        assert 0 <= parse_size(text) < 1 << 64
    except ValueError as error:
        assert len(str(error)) < 1000  # each of 80 characters may be written out as ten


# QEMU's monitor

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
RECORDED: list[dict[str, Any]] = json.loads((DATA / f"{TOOLS}_qmp.json").read_text())


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return a value of JSON with a few of its parts changed or dropped."""
    whole = {"": json.loads(json.dumps(value))}
    places: list[tuple[Any, Any]] = []

    def collect(container: Any) -> None:
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], dict | list):
                collect(container[key])

    collect(whole)
    for _ in range(draw(st.integers(0, 3))):
        container, key = places[draw(st.integers(0, len(places) - 1))]
        if isinstance(container, dict) and key and draw(st.booleans()):
            container.pop(key, None)
        elif isinstance(container, dict) or key < len(container):
            container[key] = draw(JSON)
    return whole[""]


@st.composite
def monitors(draw: st.DrawFn) -> Callable[[str, Mapping[str, object]], Any]:
    devices = changed(draw, RECORDED[0]["return"])
    kind = draw(st.sampled_from(["dimm", "virtio-mem", "hv-balloon", "cxl", "sgx-epc"]) | st.text(max_size=5))
    if isinstance(devices, list):
        devices.append({"type": kind, "data": changed(draw, RECORDED[0]["return"][0]["data"])})
    pci = changed(draw, RECORDED[-2]["return"])
    summary = changed(draw, RECORDED[-1]["return"])
    listed = changed(
        draw, [{"name": "device[0]", "type": "child<nvdimm>"}, {"name": "x", "type": "child<virtio-pmem-pci>"}]
    )
    refused = draw(st.sampled_from(["pmem", "readonly", "size", "slot", ""]))
    odd = draw(
        st.dictionaries(st.sampled_from(["size", "align", "share", "slot", "mem-path", "label-size"]), JSON, max_size=2)
    )

    def ask(command: str, arguments: Mapping[str, object]) -> Any:
        answers = {
            "query-memory-devices": devices,
            "query-pci": pci,
            "query-memory-size-summary": summary,
            "qom-list": listed,
        }
        if command in answers:
            return answers[command]
        name = str(arguments["property"])
        if name == refused:
            raise VpmemError(f"refused: Property '{name}' not found")
        if name in odd:
            return odd[name]
        return next((e["return"] for e in RECORDED if e["arguments"] == dict(arguments)), 0)

    return ask


@fuzzed
@given(monitors())
def test_any_answer_of_a_monitor(monitor: Callable[[str, Mapping[str, object]], Any]) -> None:
    for read in (qmp_devices, qmp_memory, qmp_plugged_ram, qmp_attached_ram, qmp_addresses, pci_aliases):
        with only_own_errors():
            read(monitor)
    with only_own_errors():
        devices = read_devices(LIVE_XML)
        for agreement in compare("a", asked=devices, xml=devices, argv={}, qmp=qmp_devices(monitor), inside={}):
            agreement.table()


# A guest

ANSWERS = [
    {"return": {}},
    {"return": {"pid": 7}},
    {"return": {"exited": True, "exitcode": 0, "out-data": "eA=="}},
    {"return": INFO},
    {"return": {"id": "mswindows"}},
    {"return": 5},
    {"return": {"count": 1, "buf-b64": "eA==", "eof": True}},
    {"error": {"class": "CommandNotFound", "desc": DISABLED.format("guest-exec")}},
    {"error": {"class": "GenericError", "desc": "the agent is in frozen state"}},
]
TOLD = [
    DISABLED.format("guest-exec"),
    "Failed to execute child process “sh” (No such file or directory)",
    "Failed to execute child process “sh” (Permission denied)",
    "guest agent command timed out: guest agent didn't respond to command within '30' seconds",
]


@st.composite
def answers(draw: st.DrawFn) -> list[str | LibvirtError]:
    found: list[str | LibvirtError] = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            found.append(json.dumps(changed(draw, draw(st.sampled_from(ANSWERS)))))
        elif draw(st.booleans()):
            found.append(
                LibvirtError("ask the agent", draw(st.sampled_from([1, 42, 86, 112])), draw(mutated(TOLD, "( )")))
            )
        else:
            found.append(draw(mutated([json.dumps(answer) for answer in ANSWERS], r"([{}:,\"])")))
    return found


@fuzzed
@given(answers(), st.sampled_from(["run", "read", "write", "ping"]))
def test_any_answer_of_an_agent(given_answers: list[str | LibvirtError], what: str) -> None:
    left_over = list(given_answers)

    def call(_request: str, timeout: int) -> str:
        answer = left_over.pop(0) if len(left_over) > 1 else left_over[0]
        if isinstance(answer, LibvirtError):
            clock.now += timeout
            raise answer
        return answer

    transport = AgentTransport("a", call)
    with fake_clock("VpmemLibrary.guest.channel.agent", "VpmemLibrary.polling") as clock:
        before = clock.now
        with only_own_errors_of(lambda: clock.now - before < 600):
            match what:
                case "run":
                    transport.run(["true"], timeout=3)
                case "read":
                    transport.read_file("/x")
                case "write":
                    transport.write_file("/x", b"abc")
                case _:
                    transport.ping()


@contextmanager
def only_own_errors_of(in_time: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except VpmemError as error:
        assert str(error)
    assert in_time()


RULES = [
    f'FILTER_RPC_ARGS="--allow-rpcs={ALLOWED}"\n',
    "# x\nBLACKLIST_RPC=guest-file-open,guest-exec\n",
    "[general]\nallow-rpcs=guest-ping,guest-exec\nblock-rpcs=guest-exec-status\n",
    "[Service]\nExecStart=/usr/bin/qemu-ga -b guest-exec $ARGS\n",
]


@fuzzed
@given(st.lists(mutated(RULES, r"([=\n\",\[\] ])") | st.text(max_size=60), max_size=3))
def test_any_rules_of_an_agent(texts: list[str]) -> None:
    assert set(refused_commands(*texts)) <= {"guest-ping", "guest-exec", "guest-exec-status"}


@fuzzed
@given(mutated([json.loads(path.read_text())["stdout"] for path in sorted(DATA.glob("linux-*_i*.json"))], r"([ \n])"))
def test_any_attributes_in_a_guest(text: str) -> None:
    result = CommandResult(("sh",), 0, text.encode("utf-8", "surrogatepass"), b"", 0.1)

    class Inside:
        name = "a"

        def run(self, _: object) -> CommandResult:
            return result

    inside: Any = Inside()
    for read in (lambda: inside_regions(inside), lambda: system_ram(result)):
        with only_own_errors():
            read()


@fuzzed
@given(
    st.binary(max_size=200)
    | st.binary(max_size=40).map(lambda data: data + b"Kernel panic - not syncing: x\r\n" + data)
)
def test_any_bytes_of_a_console(data: bytes) -> None:
    console = Console(RecordedHost({"console": CommandResult(("sh",), 0, data, b"", 0.1)}), "/console")
    for read in (console.size, lambda: console.tail(5), lambda: console.panic(0, 5), lambda: console.since(0)):
        with only_own_errors():
            read()


@fuzzed
@given(
    mutated(["/usr/bin/qemu-kvm\nmemory-backend-file options:\n  align=<int>\n  pmem=<bool>\n"], r"([\n=<])"),
    st.integers(0, 2),
)
def test_any_help_of_qemu(text: str, status: int) -> None:
    with only_own_errors():
        assert read_qemu_features(RecordedHost({"help": left(status, text)})).pmem in (True, False, None)
