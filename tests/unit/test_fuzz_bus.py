"""Text from a host's tools and kernel, changed at random: it is read, or is an error of this library."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from test_ndctl_changes import left

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.host.facts import read_facts
from VpmemLibrary.host.modules import vpmem_modules
from VpmemLibrary.host.preflight import check_facts
from VpmemLibrary.pmem.dax.daxctl import DaxDevices
from VpmemLibrary.pmem.dax.memory import read_dax_memory
from VpmemLibrary.pmem.decode import decode_dax_devices, decode_dax_regions, decode_inventory
from VpmemLibrary.pmem.labels.labels import Labels
from VpmemLibrary.pmem.media.health import Health
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.plan import plan_namespace
from VpmemLibrary.pmem.namespaces.views import namespace_views
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.pmem.regions.cxl import Cxl
from VpmemLibrary.pmem.regions.regions import Regions
from VpmemLibrary.pmem.regions.room import decode_room
from VpmemLibrary.sizes import AtLeast, MiB
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

pytestmark = fuzz

DATA = Path(__file__).parents[1] / "data"


def _recorded() -> list[CommandResult]:
    found = []
    for path in sorted((DATA / "ndctl").glob("*.json")):
        data = json.loads(path.read_text())
        if isinstance(data, dict) and "stdout" in data:
            found.append(left(data["exit_status"], "\n".join(data["stdout"]), "\n".join(data["stderr"])))
    return found + [left(0, path.read_text()) for path in sorted((DATA / "bus").glob("*.json"))]


RECORDED = _recorded()
LISTINGS = [result for result in RECORDED if result.stdout.lstrip().startswith(b"[")]
INVENTORIES = [result for result in LISTINGS if b'"ndbus' in result.stdout]
TEXTS = [result.text for result in RECORDED if result.stdout and result not in LISTINGS]

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 66), 1 << 66),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["0x", "0x1f", "-1", "9" * 5000, "region0", "nmem0", "\ud800", "unknown", "16 GiB", [], {}, [[]]]),
)


@st.composite
def listings(draw: st.DrawFn, recorded: list[CommandResult] = INVENTORIES) -> bytes:
    """Draw a recorded listing in which a few values are others, are missing, are given twice or lie deeper."""
    whole = deepcopy(json.loads(draw(st.sampled_from(recorded)).text))
    for _ in range(draw(st.integers(0, 4))):
        _change(draw, whole)
    text = json.dumps(whole, indent=draw(st.sampled_from([None, 2])))
    before, after = draw(
        st.sampled_from([("", ""), ("warning: x\n", ""), ("[x]\n", "\nnote\n"), ("\ufeff", ""), ("[", "]")])
    )
    output = f"{before}{text}{after}".encode("utf-8", "surrogatepass")
    return output[: draw(st.integers(0, len(output)))] if draw(st.integers(0, 9)) == 0 else output


def _change(draw: st.DrawFn, whole: Any) -> None:
    here = whole
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        inner = here[key]
        if isinstance(inner, (dict, list)) and inner and draw(st.integers(0, 5)):
            here = inner
            continue
        match draw(st.sampled_from(["value", "value", "missing", "deeper", "alone", "twice"])):
            case "value":
                here[key] = deepcopy(draw(values))
            case "missing":
                del here[key]
            case "deeper":
                here[key] = [inner]
            case "alone":
                here[key] = inner[0] if isinstance(inner, list) and inner else str(inner)
            case "twice" if isinstance(here, list):
                here.append(deepcopy(inner))
        return


@st.composite
def texts(draw: st.DrawFn, recorded: list[str] = TEXTS) -> bytes:
    """Draw a recorded text in which a few pieces are others."""
    output = draw(st.sampled_from(recorded)).encode()
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(output)))
        end = draw(st.integers(begin, min(len(output), begin + 20)))
        piece = draw(st.sampled_from([b"", b"\n", b" ", b"=", b"-", b"\xff", b"\0", b"9" * 5000, b"0x", b"\xc2\xb2"]))
        output = output[:begin] + piece + output[end:]
    return output


class Host(LocalTransport):
    """A host whose ndctl prints one text and whose other programs print another."""

    def __init__(self, listing: bytes, other: bytes, status: int = 0) -> None:
        super().__init__(name="fuzzed")
        self._listing, self._other, self._status = listing, other, status

    def run(self, argv: Any, *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        listed = argv[0] in ("ndctl", "daxctl", "cxl") and argv[1] == "list"
        changes = any(word in ("create-namespace", "destroy") for word in argv)
        status = self._status if changes else 0
        return CommandResult(tuple(argv), status, self._listing if listed else self._other, self._other, 0.1, self.name)


def read(*calls: Callable[[], object]) -> None:
    for call in calls:
        with suppress(VpmemError):
            repr(call())


@given(listings())
@fuzzed
def test_any_listing_of_ndctl(output: bytes) -> None:
    read(lambda: decode_inventory(CommandResult(("ndctl", "list"), 0, output, b"", 0.1)))


@given(listings(LISTINGS))
@fuzzed
def test_any_listing_of_daxctl(output: bytes) -> None:
    result = CommandResult(("daxctl", "list"), 0, output, b"", 0.1)
    read(lambda: decode_dax_devices(result), lambda: decode_dax_regions(result))


@given(listings(LISTINGS), texts())
@fuzzed
def test_any_listing_of_cxl(output: bytes, other: bytes) -> None:
    cxl = Cxl(Ndctl(Host(output, other)))
    read(cxl.memdevs, cxl.regions, cxl.region_uuids, lambda: cxl.media_errors("mem0"))


@given(
    listings(),
    texts(),
    st.tuples(
        st.sampled_from(["region0", "region1"]),
        st.sampled_from(NamespaceMode),
        st.sampled_from([None, AtLeast(64 * MiB), 96 * MiB]),
    ),
    st.integers(0, 255),
)
@fuzzed
def test_any_host_under_the_changes_of_namespaces(
    output: bytes, other: bytes, asked: tuple[str, NamespaceMode, Any], status: int
) -> None:
    region, mode, size = asked
    ndctl = Ndctl(Host(output, other, status))
    dax = DaxDevices(ndctl)
    labels = Labels(ndctl, Regions(ndctl))
    read(
        lambda: plan_namespace(ndctl, region, mode=mode, size=size),
        lambda: Namespaces(ndctl).create(region, mode=mode, size=size),
        lambda: labels.problems(region),
        lambda: labels.available_slots(region),
        lambda: Regions(ndctl).label_state(region),
        lambda: [health.as_rows() for health in Health(ndctl).dimms()],
        lambda: Health(ndctl).views("nmem0"),
        lambda: Health(ndctl).bad_blocks(region),
        dax.regions,
        lambda: [dax.release(namespace) for namespace in ndctl.inventory().namespaces],
    )


@given(texts())
@fuzzed
def test_any_text_of_sysfs(output: bytes) -> None:
    host = Host(b"", output)
    result = CommandResult(("sh",), 0, output, b"", 0.1)
    read(
        lambda: decode_room(result, align=96 * MiB),
        lambda: read_dax_memory(host, "dax0.0"),
        lambda: namespace_views(host, Namespace("namespace0.0", NamespaceMode.devdax)),
        lambda: vpmem_modules(host),
    )


FACTS = [
    "".join(f"{key}\0{value}\0" for key, value in json.loads(path.read_text())["facts"].items())
    for path in sorted((DATA / "host").glob("facts_*.json"))
]


@given(texts(FACTS))
@fuzzed
def test_any_facts(output: bytes) -> None:
    def facts() -> object:
        found = read_facts(Host(b"", output))
        return found.as_rows(), check_facts(found, "h").describe()

    read(facts)


@given(texts(), st.integers(-15, 255))
@fuzzed
def test_any_failure_of_ndctl(stderr: bytes, status: int) -> None:
    read(lambda: checked(CommandResult(("ndctl", "x"), status, b"", stderr, 0.1), "do it"))
