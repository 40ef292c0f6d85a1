"""What a keyword costs beside the bare command, beside a new `ssh` for each command, and what decoding costs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ratios import compare, require

from VpmemLibrary import VpmemLibrary
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import transport_to
from VpmemLibrary.pmem.decode import LIST_COMMAND, decode_inventory
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.transport.base import CommandResult, Transport, shell_line

pytestmark = pytest.mark.benchmark
ROUNDS = 15
NAMESPACES = 10_000
RECORDING = Path(__file__).parent.parent / "data" / "ndctl" / "ndctl-81_modes.json"


@pytest.fixture
def library(lab_hosts: Path, entry: HostEntry) -> Iterator[VpmemLibrary]:
    opened = VpmemLibrary()
    opened.keywords["open_host_from_file"](str(lab_hosts), entry.name)
    yield opened
    opened.keywords["close_all_hosts"]()


@pytest.fixture
def transport(entry: HostEntry) -> Iterator[Transport]:
    opened = transport_to(entry)
    yield opened
    opened.close()


@pytest.mark.lab
@pytest.mark.parametrize("keyword", ["get_namespaces", "get_regions", "get_dimm_health"])
def test_a_query_beside_the_bare_command(library: VpmemLibrary, transport: Transport, keyword: str) -> None:
    ours, bare = compare(library.keywords[keyword], lambda: transport.run(LIST_COMMAND), ROUNDS)
    require(f"{keyword} against the same command over one connection", ours, bare, 1.05)


@pytest.mark.lab
def test_a_query_beside_a_new_ssh_for_each_command(library: VpmemLibrary, entry: HostEntry) -> None:
    ssh = [
        *("ssh", "-F", "none", "-p", str(entry.port), "-i", str(entry.key_file), "-o", "IdentitiesOnly=yes"),
        *("-o", f"UserKnownHostsFile={entry.known_hosts}", "-o", "BatchMode=yes", f"{entry.user}@{entry.address}"),
        shell_line(LIST_COMMAND),
    ]
    ours, fresh = compare(
        library.keywords["get_namespaces"],
        lambda: subprocess.run(ssh, check=True, capture_output=True),
        5,
    )
    require("get_namespaces against a new ssh", ours, fresh, 0.20)


@pytest.mark.lab
def test_a_create_and_destroy_beside_the_bare_commands(library: VpmemLibrary, transport: Transport) -> None:
    library.keywords["initialize_unlabeled_regions"]()
    region: Region = library.keywords["get_region_with_largest_free_extent"]()

    def ours() -> None:
        namespace = library.keywords["create_namespace"](region, size=region.size.parse("64MiB"))
        library.keywords["destroy_namespace"](namespace)

    def bare() -> None:
        create = ["ndctl", "create-namespace", "-r", region.dev, "-m", "devdax", "-s", "64M"]
        made = json.loads(transport.run(create).check().stdout)
        transport.run(["ndctl", "destroy-namespace", "--force", made["dev"]]).check()

    require("create and destroy, checked and proven, against the bare commands", *compare(ours, bare, 5), 3)


def test_decoding_beside_json_alone() -> None:
    recorded = json.loads("\n".join(json.loads(RECORDING.read_text())["stdout"]))[0]
    region = next(region for region in recorded["regions"] if len(region.get("namespaces", [])) > 1)
    each = [namespace for namespace in region["namespaces"] if namespace["uuid"].strip("0-")]
    regions = [
        {
            **region,
            "dev": f"region{number}",
            "namespaces": [{**namespace, "dev": f"namespace{number}.{i}"} for i, namespace in enumerate(each)],
        }
        for number in range(-(-NAMESPACES // len(each)))
    ]
    text = json.dumps([{**recorded, "regions": regions}]).encode()
    result = CommandResult(LIST_COMMAND, 0, text, b"", 0.0)
    assert len(decode_inventory(result).namespaces) >= NAMESPACES
    ours, alone = compare(lambda: decode_inventory(result), lambda: json.loads(text), 9)
    require(f"decoding {NAMESPACES} namespaces against json.loads", ours, alone, 3)
