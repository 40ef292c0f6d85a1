"""The command ``vpmem doctor``: find the problems of a host before a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from VpmemLibrary.doctor.findings import Diagnosis, Verdict
from VpmemLibrary.host.hosts_entry import LOCAL, HostEntry
from VpmemLibrary.host.hosts_file import find_host, read_hosts
from VpmemLibrary.visible import one_line

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_COLOURS = {Verdict.ok: "green", Verdict.warning: "yellow", Verdict.problem: "red"}


@click.command()
@click.argument("host", default=LOCAL)
@click.option("--user", help="The user for the log-in. The default is in the SSH configuration, or is root.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The SSH port. The default is in the SSH configuration, or is 22."
)
@click.option("--key-file", type=_FILE, help="A private key.")
@click.option("--known-hosts", type=_FILE, help="The file with the host's key.")
@click.option("--sudo", is_flag=True, help="Run commands as root, through sudo or doas.")
@click.option("--hosts", "hosts_file", type=_FILE, help="A hosts file that describes HOST in a section.")
@click.option("--guest-image", default="", help="A disk image on HOST. Check the rules of its guest agent too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(
    *,
    host: str,
    user: str | None,
    port: int | None,
    key_file: Path | None,
    known_hosts: Path | None,
    sudo: bool,
    hosts_file: Path | None,
    guest_image: str,
    as_json: bool,
) -> None:
    """Find problems of HOST that would break a run, and print a fix for each problem. Change nothing on HOST.

    HOST is a name or an address. The default is this machine. With --hosts, HOST is the name of a section in the hosts
    file. The exit status is 0 if there is no problem, 1 if there is a problem, and 2 if the command line is wrong.
    """
    if hosts_file is not None:
        entry = find_host(read_hosts(hosts_file), "" if host == LOCAL else host)
    else:
        entry = HostEntry(
            name=host, address=host, port=port, user=user, key_file=key_file, known_hosts=known_hosts, sudo=sudo
        )
    diagnosis = _diagnose(entry, guest_image)
    if as_json:
        click.echo(json.dumps(diagnosis.as_json(), indent=2))
    else:
        print_diagnosis(diagnosis)
    raise SystemExit(0 if diagnosis.passed else 1)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print one line for each finding, and a summary. Use colours on a terminal."""
    from rich.console import Console  # noqa: PLC0415  slow to import
    from rich.text import Text  # noqa: PLC0415

    console = Console(soft_wrap=True)  # no hard line breaks, so that a command can be copied and pasted
    for finding in diagnosis.findings:
        line = Text(str(finding))
        line.stylize(_COLOURS[finding.verdict], 0, len(finding.verdict))
        console.print(line)
    counts = ", ".join(f"{diagnosis.count(verdict)} {verdict}" for verdict in Verdict)
    console.print(Text(one_line(f"Host {diagnosis.host}: {counts} ({diagnosis.seconds:.1f} s).")))


def _diagnose(entry: HostEntry, guest_image: str) -> Diagnosis:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from VpmemLibrary.doctor.diagnosis import diagnose  # noqa: PLC0415  --help does not need it

    with Console(stderr=True).status(Text(f"Checking {one_line(entry.name)} ...")):  # prints only to a terminal
        return diagnose(entry, guest_image=guest_image)
