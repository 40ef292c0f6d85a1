"""Find out which commands the guest agent in a disk image refuses. Do not change the image."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import resources

from VpmemLibrary.doctor.findings import Finding, ok, problem
from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.guest.channel.agent_rules import AGENT_COMMANDS, refused_commands
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.packages import install
from VpmemLibrary.transport.base import CommandResult, Transport, query

FILES = (
    "/etc/qemu-ga/qemu-ga.conf",
    "/etc/qemu/qemu-ga.conf",
    "/etc/sysconfig/qemu-ga",
    "/etc/default/qemu-guest-agent",
)
"""The files in which distributions store the rules of the agent."""

IMAGE_TIMEOUT = 120.0
"""Maximum seconds to read an image. Without hardware acceleration, the appliance of libguestfs boots slowly."""

_SCRIPT = resources.files("VpmemLibrary.doctor").joinpath("image.sh").read_text("ascii")
_RULE = "s/^(?=\\s*(?:block-?rpcs|blacklist|allow-?rpcs|BLACKLIST_RPC|BLOCK_RPCS|FILTER_RPC_ARGS|DAEMON_ARGS)\\s*=)/# /"


def check_image(transport: Transport, image: str, host: HostFacts) -> Iterator[Finding]:
    """Check the rules of the guest agent in a disk image of the host.

    Raises:
        CommandError: The host could not run the script.
        UnreadableOutputError: The script did not run to its end.
    """
    result = transport.run(query(_SCRIPT, image, *FILES), timeout=IMAGE_TIMEOUT).check()
    yield from decode_image(result, host, image)


def decode_image(result: CommandResult, host: HostFacts, image: str) -> Iterator[Finding]:
    """Return the findings from the output of the script.

    Raises:
        UnreadableOutputError: The script did not run to its end.
    """
    check = "guest image"
    tool, *texts = result.text.split("\0")
    shown = shlex.quote(image)
    if tool == "absent":
        yield problem(check, f"there is no {image} on the host", f"ls -l {shown}")
    elif tool == "unreadable":
        yield problem(check, f"{image} cannot be read by this user", "Run commands as root: host_sudo = yes, or --sudo")
    elif tool == "none":
        yield problem(
            check,
            f"{image} is not a raw ext4 image, and the host has no libguestfs, which reads other images",
            install(host, "guestfish"),
        )
    elif tool == "refused":
        yield problem(check, f"libguestfs found no operating system in {image}", f"virt-inspector -a {shown}")
    elif len(texts) < 1:
        raise UnreadableOutputError(result, "The script that reads the image did not run to its end")
    else:
        files = _files(texts[0])
        refused = refused_commands(*(text for _, text in files), commands=AGENT_COMMANDS)
        if refused:
            rules = ", ".join(name for name, text in files if refused_commands(text, commands=AGENT_COMMANDS))
            edits = " ".join(f"--edit {shlex.quote(f'{name}:{_RULE}')}" for name in rules.split(", "))
            yield problem(
                check,
                f"its agent refuses {', '.join(refused)} because of {rules}",
                f"virt-customize -a {shown} {edits}  (or guest_channel = ssh in the hosts file)",
            )
        else:
            yield ok(check, f"no file in {image} disables an agent command that the library needs (read by {tool})")


def _files(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^== (/\S+)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=False))
