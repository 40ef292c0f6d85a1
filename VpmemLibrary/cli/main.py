"""The command ``vpmem``."""

from __future__ import annotations

import errno
import importlib

import click

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.version import __version__

_COMMANDS = {
    "lab": ("VpmemLibrary.lab.cli:lab", "Disposable hosts with emulated NVDIMMs."),
    "cloud": ("VpmemLibrary.cloud.cli:cloud", "An OpenStack cloud whose compute hosts are lab hosts."),
    "doctor": (
        "VpmemLibrary.cli.doctor:doctor",
        "Find the problems of a host that would break a run, and their fixes.",
    ),
    "leaks": ("VpmemLibrary.cli.leaks:leaks", "Report the leaks of a run: compare its hosts before and after the run."),
    "hosts": ("VpmemLibrary.cli.hosts:hosts", "Check a hosts file and show its hosts."),
}
"""The location and the purpose of each subcommand, so that ``vpmem --help`` imports no subcommand."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand only when a user calls the subcommand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names of all subcommands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one subcommand."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command. Show only the message of an error of this library or of the system."""
        try:
            return super().invoke(ctx)
        except VpmemError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click handles a closed pipe: it ends without a message
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vpmem")
def main() -> None:
    """Test virtual persistent memory, from the host's NVDIMM to the guest's last byte."""
