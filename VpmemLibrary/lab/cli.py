"""`vpmem lab`: the lab from a terminal."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import click

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.lab import Lab
from VpmemLibrary.lab.network import MOST_HOSTS
from VpmemLibrary.lab.progress import default_progress
from VpmemLibrary.lab.recipe import DEFAULT_RELEASE, RELEASES
from VpmemLibrary.lab.report import hosts_file, lab_status, rough_ssh_config, status_text
from VpmemLibrary.lab.shapes import Shape

_HOST = click.argument("host", default="", required=False)
_RELEASE = click.option(
    "--release",
    type=click.Choice(RELEASES),
    default=DEFAULT_RELEASE,
    show_default=True,
    help="The release of Debian of new lab hosts.",
)


@click.group()
def lab() -> None:
    """Manage disposable hosts with emulated NVDIMMs, for a machine that has no NVDIMMs."""


@lab.command()
@click.option("--hosts", type=click.IntRange(1, MOST_HOSTS), default=1, show_default=True, help="How many lab hosts.")
@click.option(
    "--cxl",
    is_flag=True,
    help="Let the last lab host take a CXL device while it runs. Such a lab host is booted, not restored.",
)
@click.option(
    "--shape",
    type=click.Choice([shape.value for shape in Shape]),
    default=Shape.NVDIMM.value,
    show_default=True,
    help="The persistent memory of new lab hosts.",
)
@_RELEASE
def up(hosts: int, cxl: bool, shape: str, release: str) -> None:
    """Start lab hosts and wait until they answer SSH.

    The first time, this builds an image and a saved state (some four minutes). Afterwards it takes seconds. Running lab
    hosts are not touched. Crashed lab hosts are replaced.
    """
    for host in Lab(default_progress()).up(hosts, cxl=cxl, shape=shape, release=release):
        click.echo(f"{host.name}  {shlex.join(host.ssh_command)}")


@lab.command()
@_RELEASE
def build(release: str) -> None:
    """Build the image and the saved state that lab hosts need, in the cache.

    The first `up` does the same. No lab host is started.
    """
    for path in Lab(default_progress()).build(release):
        click.echo(path)


@lab.command()
def down() -> None:
    """End all lab hosts and remove their files. The cache stays."""
    names = Lab(default_progress()).down()
    click.echo(f"removed: {', '.join(names)}" if names else "there was no lab host")


@lab.command()
def clean() -> None:
    """Remove from the cache everything that neither this version nor a lab host uses."""
    for path in Lab(default_progress()).clean():
        click.echo(f"removed: {path}")


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verify", is_flag=True, help="Compare the cache with its checksums, not only its sizes.")
def status(as_json: bool, verify: bool) -> None:
    """Show every lab host and all files that the lab keeps on disk.

    Exits with 1 if a lab host has crashed or a part of the cache is broken.
    """
    found = lab_status(Lab(), thorough=verify)
    click.echo(json.dumps(found, indent=2) if as_json else status_text(found))
    if not found["ok"]:
        raise SystemExit(1)


@lab.command(context_settings={"ignore_unknown_options": True})
@_HOST
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(host: str, command: tuple[str, ...]) -> None:
    """Log in to a lab host (by default the first one), or run COMMAND there."""
    argv = [*Lab().host(host).ssh_command, *command]
    try:
        os.execvp(argv[0], argv)  # noqa: S606  ssh replaces this process, so that the terminal works as usual
    except FileNotFoundError as error:
        raise LabError("ssh is not installed here: apt-get install openssh-client") from error


@lab.command()
@_HOST
def console(host: str) -> None:
    """Open a lab host's serial console. Press Ctrl-] to leave it."""
    from VpmemLibrary.lab.console import use_console  # noqa: PLC0415

    use_console(Lab().host(host).qemu)


@lab.command()
@_HOST
def reset(host: str) -> None:
    """Replace a lab host by a new one: its NVDIMMs are all zeros, and no earlier change remains."""
    click.echo(f"{Lab(default_progress()).reset(host).name} was replaced by a new lab host")


@lab.command()
@_HOST
def reboot(host: str) -> None:
    """Reboot a lab host cleanly. Its disk and NVDIMMs keep their contents."""
    found = Lab().host(host)
    with default_progress().step(f"rebooting {found.name}", 35):
        found.reboot()


@lab.command("power-cut")
@_HOST
@click.option("--stay-off", is_flag=True, help="Leave the power off.")
def power_cut(host: str, stay_off: bool) -> None:
    """Cut a lab host's power, then boot it again. Its disk and NVDIMMs keep the data that had reached them."""
    found = Lab().host(host)
    found.power_cut()
    if not stay_off:
        with default_progress().step(f"booting {found.name} again", 35):
            found.power_on()


@lab.command("power-on")
@_HOST
def power_on(host: str) -> None:
    """Switch a lab host's power on again, and boot it."""
    found = Lab().host(host)
    with default_progress().step(f"booting {found.name} again", 35):
        found.power_on()


@lab.command("cxl-add")
@_HOST
def cxl_add(host: str) -> None:
    """Add a CXL device to a lab host. Its persistent memory is all zeros."""
    found = Lab().host(host)
    with default_progress().step(f"giving {found.name} a CXL device", 8):
        found.add_cxl_device()


@lab.command("cxl-remove")
@_HOST
def cxl_remove(host: str) -> None:
    """Remove a lab host's CXL device and all its data."""
    Lab().host(host).remove_cxl_device()


@lab.command("test-bus-add")
@_HOST
def test_bus_add(host: str) -> None:
    """Exchange a lab host's NVDIMMs for the kernel's test bus. Their content stays unchanged."""
    found = Lab().host(host)
    with default_progress().step(f"exchanging the NVDIMMs of {found.name} for a test bus", 10):
        found.set_test_bus(True)


@lab.command("test-bus-remove")
@_HOST
def test_bus_remove(host: str) -> None:
    """Remove a lab host's test bus and all its data, and bring the NVDIMMs back."""
    Lab().host(host).set_test_bus(False)


@lab.command("hosts-file")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--confined",
    is_flag=True,
    help="Let AppArmor confine every guest. Under emulation this doubles the time of its start.",
)
@click.option(
    "--rough", is_flag=True, help="Reach the hosts through a jump host, as a user with sudo and an unusual shell."
)
def write_hosts_file(path: Path, confined: bool, rough: bool) -> None:
    """Write the running lab hosts to a hosts file, for use by suites.

    With --rough, also write the SSH configuration that the hosts file names: PATH.ssh_config.
    """
    hosts = [host for host in Lab().hosts() if host.alive]
    if not hosts:
        raise LabError("No lab host runs: vpmem lab up")
    path.parent.mkdir(parents=True, exist_ok=True)
    ssh_config = path.resolve().with_name(f"{path.name}.ssh_config") if rough else None
    if ssh_config:
        ssh_config.write_text(rough_ssh_config(hosts), "utf-8")
    path.write_text(hosts_file(hosts, confined=confined, ssh_config=ssh_config), "utf-8")
