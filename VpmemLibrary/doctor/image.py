"""Find out which commands the guest agent in a disk image refuses. The image is not changed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import resources

from VpmemLibrary.doctor.findings import Finding, ok, problem
from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.packages import install
from VpmemLibrary.transport.base import CommandResult, Transport, query

AGENT_COMMANDS = (
    "guest-ping",
    "guest-exec",
    "guest-exec-status",
    "guest-file-open",
    "guest-file-read",
    "guest-file-write",
    "guest-file-flush",
    "guest-file-close",
)
"""The commands of the QEMU guest agent that the channel ``agent`` uses."""

FILES = (
    "/etc/qemu-ga/qemu-ga.conf",
    "/etc/qemu/qemu-ga.conf",
    "/etc/sysconfig/qemu-ga",
    "/etc/default/qemu-guest-agent",
)
"""The files in which distributions store the rules of the agent."""

IMAGE_TIMEOUT = 120.0
"""Maximum seconds to read an image. libguestfs boots its appliance slowly if there is no hardware acceleration."""

_SCRIPT = resources.files("VpmemLibrary.doctor").joinpath("image.sh").read_text("ascii")
# A rule is a setting of a configuration file, or an option in a setting that has the agent's command line.
_LIST = r"[ \t]*[\"']?([A-Za-z0-9_,; -]*)"
_BLOCKS = re.compile(rf"^\s*(?:block-?rpcs|blacklist|BLACKLIST_RPC|BLOCK_RPCS)[ \t]*={_LIST}", re.MULTILINE)
_BLOCK_OPTIONS = re.compile(r"^[^#\n]*?(?:--block-rpcs|--blacklist|(?<![\w-])-b)[ =]*([A-Za-z0-9_,-]+)", re.MULTILINE)
_ALLOWS = re.compile(rf"^\s*(?:allow-?rpcs|ALLOW_RPCS)[ \t]*={_LIST}", re.MULTILINE)
_ALLOW_OPTIONS = re.compile(r"^[^#\n]*?(?:--allow-rpcs|(?<![\w-])-a)[ =]*([A-Za-z0-9_,-]+)", re.MULTILINE)
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
        refused = refused_commands(texts[0])
        if refused:
            rules = ", ".join(name for name, text in _files(texts[0]) if refused_commands(text))
            edits = " ".join(f"--edit {shlex.quote(f'{name}:{_RULE}')}" for name in rules.split(", "))
            yield problem(
                check,
                f"its agent refuses {', '.join(refused)} because of {rules}",
                f"virt-customize -a {shown} {edits}  (or guest_channel = ssh in the hosts file)",
            )
        else:
            yield ok(check, f"no file in {image} forbids the agent a command that is needed (read by {tool})")


def refused_commands(text: str) -> tuple[str, ...]:
    """Return the commands of `AGENT_COMMANDS` that an agent refuses if its configuration files have this text."""
    blocked = _listed(text, _BLOCKS, _BLOCK_OPTIONS)
    allowed = _listed(text, _ALLOWS, _ALLOW_OPTIONS)
    return tuple(each for each in AGENT_COMMANDS if each in blocked or (allowed and each not in allowed))


def _listed(text: str, *patterns: re.Pattern[str]) -> set[str]:
    return {
        name
        for pattern in patterns
        for match in pattern.finditer(text)
        for name in re.split(r"[,; ]+", match[1])
        if name
    }


def _files(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^== (/\S+)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=False))
