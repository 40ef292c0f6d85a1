"""The command ``vpmem leaks``: report the leaks of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.run_states import read_states, write_states

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def leaks() -> None:
    """Report the leaks of a run: remember the state of its hosts before the run, compare the state after the run."""


@leaks.command()
@click.argument("hosts_file", type=_FILE)
@click.argument("states", type=click.Path(dir_okay=False, path_type=Path))
def remember(hosts_file: Path, states: Path) -> None:
    """Write the current state of every host of HOSTS_FILE to the file STATES."""
    write_states(states, dict(_states(read_hosts(hosts_file), {})))


@leaks.command()
@click.argument("hosts_file", type=_FILE)
@click.argument("states", type=_FILE)
def compare(hosts_file: Path, states: Path) -> None:
    """Compare the current state of every host of HOSTS_FILE with its state in STATES.

    The exit status is 1 if anything was added, removed or changed. New labels of a region are reported, but do not
    count: suites write labels if the hosts file has host_may_initialize_labels = yes.
    """
    before, entries = read_states(states), read_hosts(hosts_file)
    for entry in entries:
        if entry.name not in before:
            raise click.ClickException(f"{states} has no host {entry.name}. It has these hosts: {', '.join(before)}.")
    clean = [_report(name, before[name], after) for name, after in _states(entries, before)]
    raise SystemExit(0 if all(clean) else 1)


def _states(entries: Sequence[HostEntry], before: Mapping[str, HostState]) -> Iterator[tuple[str, HostState]]:
    """Yield the name and the state of each host, in the order of `entries`. Read all hosts in parallel."""
    regions = (before[entry.name].regions if entry.name in before else {} for entry in entries)
    with ThreadPoolExecutor(len(entries)) as pool:
        yield from zip((entry.name for entry in entries), pool.map(_state, entries, regions), strict=True)


def _state(entry: HostEntry, regions: Mapping[str, str]) -> HostState:
    from VpmemLibrary.ownership.marks import RunMark  # noqa: PLC0415  --help does not need it
    from VpmemLibrary.session.reporting import Reporting  # noqa: PLC0415
    from VpmemLibrary.session.session import Session  # noqa: PLC0415

    reporting = Reporting(note=lambda text: click.echo(text, err=True))
    with Session(RunMark("00000000"), reporting=reporting) as session:  # it only reads, so no object gets this mark
        return session.open(entry).state_with(regions)


def _report(name: str, before: HostState, after: HostState) -> bool:
    """Print the report of one host. Return whether the host has no difference."""
    for region in before.labeled_in(after):
        click.echo(f"{name}: {region} has labels that it did not have before")
    known = before.with_labels(after)
    for (what, was), (_, now) in zip(known.rows, after.rows, strict=True):
        click.echo(f"{name}: {what:<10} before {was:>10}   after {now:>10}")
    difference = known.difference(after)
    for line in difference:
        click.echo(f"{name}: {line}")
    click.echo(f"{name}: {'LEFT OVER' if difference else 'nothing is left over'}")
    return not difference
