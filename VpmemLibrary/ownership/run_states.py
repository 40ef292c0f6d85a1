"""Keep the states of a run's hosts in a file, to find the run's leaks later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.sizes import Size

_FORM = "states of hosts as `vpmem leaks remember` writes them"


def write_states(path: Path, states: Mapping[str, HostState]) -> None:
    """Write the state of each host, by the host's name."""
    path.write_text(json.dumps({name: _encoded(state) for name, state in states.items()}, indent=1) + "\n", "utf-8")


def read_states(path: Path) -> dict[str, HostState]:
    """Return the state of each host, by the host's name.

    Raises:
        InvalidValueError: `write_states` did not write the file.
    """
    try:
        return {name: _decoded(fields) for name, fields in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InvalidValueError("states", str(path), _FORM) from error


def _encoded(state: HostState) -> dict[str, object]:
    return {
        "available": {region: int(size) for region, size in state.available.items()},
        "namespaces": dict(state.namespaces),
        "domains": sorted(state.domains),
        "mounts": sorted(state.mounts),
        "files": sorted(state.files),
        "leases": dict(state.leases),
        "unlabeled": dict(state.unlabeled),
        "bad_blocks": sorted(state.bad_blocks),
        "smart": dict(state.smart),
        "regions": dict(state.regions),
    }


def _decoded(fields: Mapping[str, Any]) -> HostState:
    return HostState(
        available={region: Size(size) for region, size in fields["available"].items()},
        namespaces=dict(fields["namespaces"]),
        domains=frozenset(fields["domains"]),
        mounts=frozenset(fields["mounts"]),
        files=frozenset(fields["files"]),
        leases=dict(fields["leases"]),
        unlabeled=dict(fields["unlabeled"]),
        bad_blocks=frozenset(fields["bad_blocks"]),
        smart=dict(fields["smart"]),
        regions=dict(fields["regions"]),
    )
