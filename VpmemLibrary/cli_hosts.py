"""The commands that look at hosts: ``vpmem doctor`` and ``vpmem hosts``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.host.hosts_file import LOCAL, HostEntry, configured, find_host, read_hosts, transport_to
from VpmemLibrary.host.ssh_address import SSH_PORT, host_and_port
from VpmemLibrary.visible import one_line

if TYPE_CHECKING:
    from VpmemLibrary.host.preflight import Preflight

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("host", default=LOCAL)
@click.option("--user", help="Who logs in; by default what ~/.ssh/config says, or root.")
@click.option("--port", type=click.IntRange(1, 65535), help="The SSH port; by default what ~/.ssh/config says, or 22.")
@click.option("--key-file", type=_FILE, help="A private key.")
@click.option("--known-hosts", type=_FILE, help="The file with the host's key.")
@click.option("--sudo", is_flag=True, help="Run commands through sudo -n.")
@click.option("--hosts", "hosts_file", type=_FILE, help="A hosts file that describes HOST in a section.")
def doctor(
    *,
    host: str,
    user: str | None,
    port: int | None,
    key_file: Path | None,
    known_hosts: Path | None,
    sudo: bool,
    hosts_file: Path | None,
) -> None:
    """Say, item by item, what HOST has and lacks for virtual persistent memory, and how to mend it.

    HOST is a name or an address, this machine by default, or with --hosts a section of that file. Exits 0 if nothing
    is lacking, 1 if something is, and 2 if the host cannot be asked.
    """
    if hosts_file is not None:
        entry = find_host(read_hosts(hosts_file), "" if host == LOCAL else host)
    else:
        entry = HostEntry(
            name=host, address=host, port=port, user=user, key_file=key_file, known_hosts=known_hosts, sudo=sudo
        )
    preflight = _ask(entry)
    _print(preflight)
    raise SystemExit(0 if preflight.passed else 1)


@click.command()
@click.argument("hosts_file", type=_FILE)
@click.option("--count", is_flag=True, help="Print only how many hosts the file has.")
def hosts(hosts_file: Path, count: bool) -> None:
    """Check a HOSTS_FILE and show the hosts that it describes; none of them is reached."""
    entries = read_hosts(hosts_file)
    if count:
        click.echo(len(entries))
        return
    from rich.console import Console  # noqa: PLC0415  slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("host", "address", "user", "sudo", "guests boot from")
    for entry in entries:
        cells = (
            entry.name,
            host_and_port(entry.address, entry.port or SSH_PORT),
            entry.user or "-",
            "yes" if entry.sudo else "no",
            entry.guest_kernel or entry.guest_disk or "-",
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))  # as text, not as rich's markup
    Console().print(table)


def _ask(entry: HostEntry) -> Preflight:
    from VpmemLibrary.host.host import Host  # noqa: PLC0415  the command line answers --help without it

    transport = transport_to(entry)
    if note := configured(transport):
        click.echo(note, err=True)
    host = Host(entry.name, transport)
    try:
        return host.preflight()
    except VpmemError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
    finally:
        host.close()


def _print(preflight: Preflight) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("item", "status", "found", "needed for")
    for item in preflight.items:
        colour = "green" if item.passed else "red"
        table.add_row(
            Text(item.name), Text(item.status, style=colour), Text(one_line(item.found) or "-"), Text(item.needed)
        )
    Console().print(table)
    # The mends stand below the table in whole lines, so that they can be pasted.
    click.echo(preflight.describe())
