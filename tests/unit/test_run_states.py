"""The states of hosts in a file, as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.run_states import read_states, write_states
from VpmemLibrary.sizes import Size

STATE = HostState(
    available={"region0": Size(1 << 30)},
    namespaces={"76706d65-6d01-823a-8bcd-5f0e6d2a9c41": "ns \u00e4 in region0: devdax, 64MiB, active, UUID x"},
    domains=frozenset({"a", "b"}),
    mounts=frozenset({"/dev/pmem0 at /mnt"}),
    files=frozenset({"/dev/shm/x y"}),
    leases={"76706d65-6d01-823a-8bcd-5f0e6d2a9c41": "left by run 0123abcd"},
    unlabeled={"region3": "namespace3.0"},
    bad_blocks=frozenset({"4KiB at 1MiB in region0"}),
    smart={"nmem0": "spares 75, health non-critical"},
    regions={"0x400000002": "region0"},
)


def test_states_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_states(tmp_path / "states.json", {"lab-1": STATE, "lab-2": HostState({}, {})})
    assert read_states(tmp_path / "states.json") == {"lab-1": STATE, "lab-2": HostState({}, {})}


@pytest.mark.parametrize("text", ["", "[]", '{"lab-1": {}}', '{"lab-1": 1}', "\udcff"])
def test_another_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "states.json"
    path.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(InvalidValueError, match=r"states.json.*vpmem leaks remember"):
        read_states(path)
