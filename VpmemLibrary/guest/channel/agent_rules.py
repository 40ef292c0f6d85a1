"""Find out which commands a guest agent refuses, and what to change if it refuses commands that this library uses.

qemu-ga reads its rules from options and from a configuration file. The lists of both are combined, and a command that
is in both an allow list and a block list is refused (QEMU, docs/interop/qemu-ga.rst). RHEL 9.4 and newer have an allow
list without guest-exec. Older RHEL has a block list with guest-exec.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterable, Sequence

from VpmemLibrary.errors import AgentRefusedError, GuestError

USED_COMMANDS = ("guest-ping", "guest-exec", "guest-exec-status")
"""The agent commands that this library always needs."""

FILE_COMMANDS = ("guest-file-open", "guest-file-read", "guest-file-write", "guest-file-flush", "guest-file-close")
"""The agent commands that transfer files. If the agent refuses these, the library uses commands in the guest."""

AGENT_COMMANDS = (*USED_COMMANDS, *FILE_COMMANDS)

OTHER_CHANNEL = "Or use another channel: guest_channel = ssh or serial in the hosts file, or Use Guest Channel."

_LONGEST = 1 << 20
_OPTION = re.compile(
    r"(?:--(?P<name>allow-rpcs|block-rpcs|blacklist)|(?<![\w-])-(?P<letter>[ab]))(?:\s*=\s*|\s+|(?<=-[ab]))(?P<list>\S*)"
)
_VARIABLE = re.compile(r"^\s*(?:export\s+)?(?P<name>[A-Z_]+)=(?P<value>.*)$", re.MULTILINE)
_KEYS = {"allow-rpcs": True, "block-rpcs": False, "blacklist": False, "a": True, "b": False}
_LISTS = {"ALLOW_RPCS": True, "BLOCK_RPCS": False, "BLACKLIST_RPC": False}
"""The variables of /etc/sysconfig/qemu-ga that contain a list. Any other variable contains options."""

_DISABLED = re.compile(r"has been disabled|is disabled|not allowed")
_FROZEN = re.compile(r"frozen state|is frozen")
_UNKNOWN = re.compile(r"has not been found|CommandNotFound|[Uu]nknown command|not currently supported")
_DENIED = re.compile(r"Permission denied|Operation not permitted")


def refused_commands(*texts: str, commands: Sequence[str] = USED_COMMANDS) -> tuple[str, ...]:
    """Return the agent commands that an agent with this configuration refuses.

    Args:
        texts: The configuration of a guest's agent, in any order: /etc/qemu/qemu-ga.conf (or
            /etc/qemu-ga/qemu-ga.conf), /etc/sysconfig/qemu-ga, /etc/default/qemu-guest-agent, the agent's unit file.
        commands: The commands to check.

    Example: ``refused_commands('FILTER_RPC_ARGS="--allow-rpcs=guest-ping"') == ("guest-exec", "guest-exec-status")``.
    """
    allowed: set[str] = set()
    blocked: set[str] = set()
    for text in texts:
        for allow, names in _rules(text[:_LONGEST].lstrip("\ufeff")):
            (allowed if allow else blocked).update(names)
    return tuple(command for command in commands if command in blocked or (allowed and command not in allowed))


def refusal(name: str, execute: str, answer: str, details: str = "") -> GuestError | None:
    """Return the error for an agent's refusal of a command; None if its answer is not a refusal.

    Args:
        name: The guest.
        execute: The agent command.
        answer: The agent's answer.
        details: Further facts about the agent.
    """
    what = f"The agent of guest {name} refuses {execute}: {answer}.{f' {details}' if details else ''}"
    if _FROZEN.search(answer):
        return AgentRefusedError(
            f"{what} The guest's file systems are frozen (guest-fsfreeze-freeze), for a snapshot or a backup. To thaw "
            f"them, run `virsh domfsthaw {name}`. {OTHER_CHANNEL}"
        )
    if _DISABLED.search(answer):
        return AgentRefusedError(f"{what} {_advice((execute,))}")
    if _UNKNOWN.search(answer):
        return AgentRefusedError(
            f"{what} The agent has no such command: it is older than QEMU 2.5, or is not qemu-guest-agent. Install a "
            f"newer qemu-guest-agent in the guest. {OTHER_CHANNEL}"
        )
    if _DENIED.search(answer):
        return AgentRefusedError(
            f"{what} SELinux in the guest may deny the command: run `ausearch -m avc -c qemu-ga` there to see it, and "
            "`setsebool -P virt_qemu_ga_run_unconfined on` (for files virt_qemu_ga_read_nonsecurity_files) to allow "
            f"it. Or the agent's user has no permission. {OTHER_CHANNEL}"
        )
    return None


def _advice(commands: Iterable[str]) -> str:
    listed = ",".join(dict.fromkeys([*commands, *USED_COMMANDS[1:]]))
    return (
        f"In the guest, add {listed} to allow-rpcs, and remove it from block-rpcs. These lists are in "
        "/etc/sysconfig/qemu-ga (FILTER_RPC_ARGS; before RHEL 9.4 BLOCK_RPCS or BLACKLIST_RPC), /etc/qemu/qemu-ga.conf "
        f"or /etc/qemu-ga/qemu-ga.conf. Then run `systemctl restart qemu-guest-agent`. {OTHER_CHANNEL}"
    )


def _rules(text: str) -> list[tuple[bool, set[str]]]:
    """Return each list of commands in a configuration, and whether the list allows them."""
    found: list[tuple[bool, set[str]]] = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
    lines = "\n".join(lines).replace("\\\n", "").split("\n")  # a line with a backslash at its end continues
    for match in _VARIABLE.finditer("\n".join(lines)):
        if match["name"] in _LISTS:
            found.append((_LISTS[match["name"]], _names(_unquoted(match["value"]))))
    for line in lines:
        for option in _OPTION.finditer(line):
            found.append((_KEYS[option["name"] or option["letter"]], _names(option["list"])))
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        parser.read_string("\n".join(lines))
    except configparser.Error:  # the text has another format
        return found
    for section in parser.sections():
        for key, value in parser[section].items():
            if key in _KEYS and len(key) > 1:
                found.append((_KEYS[key], _names(value)))
    return found


def _names(value: str) -> set[str]:
    return {name for name in re.split(r"[,;\s]+", value.strip().strip("\"'")) if re.fullmatch(r"[a-z0-9-]+", name)}


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value, comments=True))
    except ValueError:
        return value
