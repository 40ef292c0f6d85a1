"""`vpmem cloud`: the lab's cloud from a terminal."""

from __future__ import annotations

import json
import shlex

import click

from VpmemLibrary.cloud.boot_image import IMAGE_NAME
from VpmemLibrary.cloud.container import last_lines
from VpmemLibrary.cloud.lab_cloud import LabCloud
from VpmemLibrary.cloud.report import cloud_status, status_text
from VpmemLibrary.cloud.settings import CLOUD_NAME
from VpmemLibrary.errors import NotFoundError
from VpmemLibrary.lab.network import MOST_HOSTS
from VpmemLibrary.lab.progress import default_progress
from VpmemLibrary.lab.recipe import COMPUTE_RELEASES


@click.group()
def cloud() -> None:
    """Manage a real OpenStack whose compute hosts are lab hosts with emulated NVDIMMs. The cloud needs root."""


@cloud.command()
@click.option(
    "--hosts", type=click.IntRange(1, MOST_HOSTS), default=1, show_default=True, help="How many compute hosts."
)
@click.option(
    "--release",
    type=click.Choice(list(COMPUTE_RELEASES)),
    default=None,
    help="The release of Debian whose OpenStack a new cloud has.  [default: trixie]",
)
@click.option(
    "--confined",
    is_flag=True,
    help="Let AppArmor confine the servers of new compute hosts. Under emulation, each start takes six seconds more.",
)
def up(hosts: int, release: str | None, confined: bool) -> None:
    """Start the cloud and its compute hosts, and wait until servers can be created.

    The first time, this installs OpenStack, makes its databases and builds the compute hosts' image (some fifteen
    minutes). Afterwards it takes a minute or two. Running services and compute hosts are not touched.
    """
    found = LabCloud(default_progress())
    computes = found.up(hosts, release=release or "", confined=confined)
    click.echo(f"compute hosts: {', '.join(compute.name for compute in computes)}; image of servers: {IMAGE_NAME}")
    click.echo(f"export OS_CLIENT_CONFIG_FILE={shlex.quote(str(found.clouds_yaml))} OS_CLOUD={CLOUD_NAME}")


@cloud.command()
@click.argument("name")
def connect(name: str) -> None:
    """Connect the compute host NAME to the cloud again after a reboot, and start its nova-compute."""
    LabCloud(default_progress()).connect(name)
    click.echo(f"compute host: {name}")


@cloud.command()
def down() -> None:
    """End the cloud and its compute hosts, and remove their files. The cache stays."""
    click.echo("the cloud is removed" if LabCloud(default_progress()).down() else "there was no cloud")


@cloud.command()
def clean() -> None:
    """Remove from the cache everything that this version of the cloud does not use."""
    for path in LabCloud(default_progress()).clean():
        click.echo(f"removed: {path}")


@cloud.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """Show every service of the cloud and every compute host.

    Exits with 1 if a part of the cloud has ended.
    """
    found = cloud_status(LabCloud())
    click.echo(json.dumps(found, indent=2) if as_json else status_text(found))
    if not found["ok"]:
        raise SystemExit(1)


@cloud.command()
@click.argument("name")
@click.option("--lines", type=click.IntRange(1), default=50, show_default=True, help="How many lines.")
def log(name: str, lines: int) -> None:
    """Print the last lines of a log. NAME is a service, or a compute host for the log of its nova-compute."""
    found = LabCloud()
    computes = {compute.name: compute for compute in found.compute_hosts()}
    services = [service.name for service in found.services]
    if name in computes:
        click.echo(computes[name].log(lines))
    elif name in services:
        click.echo(last_lines(found.container.log(name), lines))
    else:
        raise NotFoundError("service or compute host", name, [*services, *computes])
