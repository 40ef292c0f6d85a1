"""The command ``vpmem hosts``: check a hosts file."""

from __future__ import annotations

from pathlib import Path

import click

from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.transport.ssh.address import SSH_PORT, host_and_port
from VpmemLibrary.visible import one_line

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("hosts_file", type=_FILE)
@click.option("--count", is_flag=True, help="Print only the number of hosts in the file.")
def hosts(hosts_file: Path, count: bool) -> None:
    """Check a HOSTS_FILE and show its hosts. Contact no host."""
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
        table.add_row(*(Text(one_line(cell)) for cell in cells))  # Text prevents rich from reading the cell as markup
    Console().print(table)
