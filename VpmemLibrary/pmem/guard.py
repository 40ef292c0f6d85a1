"""Run checks and changes on a host as one command: on the right device, unused, under a lock and a valid lease.

A device name such as ``namespace0.1`` may mean a different device a moment later. Another worker may destroy one
namespace and create the next, or the host may reboot. Therefore no command gets a device name from an earlier command.
A change identifies its target by a permanent property: the UUID of a label, the cookie of an interleave set, or the id
of a DIMM. The program ``guard.sh`` finds the device, checks it and runs the change, all in one process on the host.

This module sends the program to the host once, into memory (``/run``), so that each act is one short command. It also
sends ``acts.sh``, which contains the changes that need more than one ndctl command.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    GoneError,
    LeaseLostError,
    ToolMissingError,
    UnsupportedError,
)
from VpmemLibrary.pmem.records import Dimm, Namespace, Region
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Transport

NAMESPACE = "@namespace@"
"""Placeholder in a command for the namespace's name at the time of the run."""

NODE = "@node@"
"""Placeholder in a command for the path of the device, e.g. ``/dev/dax0.1``."""

REGION = "@region@"
"""Placeholder in a command for the region's name at the time of the run."""

DIMM = "@dimm@"
"""Placeholder in a command for the DIMM's name at the time of the run."""

_DIRECTORY = "/run/vpmem"
LOCKS = f"{_DIRECTORY}/locks"
"""The directory of the lock files that changes lock. Each file has the name of its region or DIMM."""

_REFUSED = 113
_WAITS = "waits for the lock of "
_ACTS = "acts on "
_MARK = re.compile("|".join((REGION, NAMESPACE, DIMM, NODE)))
_LINE = re.compile(rb"^vpmem-guard: (.*)\n?", re.MULTILINE)
_BEGINS = re.compile(rb"^vpmem-guard: acts on .*\n?", re.MULTILINE)
_NO_SUCH_FILE = (2, 126, 127)  # the exit statuses of dash, bash and busybox if the script does not exist

# The program is first written to a temporary file, so that an incomplete program never runs. A broken connection looks
# like the normal end of the input. Therefore the script also compares the size.
_INSTALL = r"""
umask 077
[ -d "$1" ] || mkdir -p -- "$1" || exit
[ -O "$1" ] && case $(ls -ld -- "$1") in d????-??-*) true ;; *) false ;; esac || {
    echo "$1 must be a directory that belongs to this user, and that no other user can write to" >&2
    exit 1
}
cat > "$3.$$" && [ "$(wc -c < "$3.$$")" -eq "$2" ] && mv -f -- "$3.$$" "$3" && exit
echo "$3 was not written completely" >&2
rm -f -- "$3.$$"
exit 1
"""


class LeaseProof(Struct, frozen=True):
    """Proof that a lease still belongs to the caller: a record file on the host and a text in this file.

    Args:
        key: The name of the leased resource.
        path: The record file on the host.
        text: The text that the record contains while the lease belongs to the caller.
    """

    key: str
    path: str
    text: str


class Target(Struct, frozen=True):
    """The target of a guarded command.

    Args:
        option: The guard's option for this kind of target.
        identity: The permanent property that identifies the target.
        called: The target's name in messages. Empty for a target that only helps to identify another target.
    """

    option: str
    identity: str
    called: str


def namespace_target(namespace: Namespace) -> Target:
    """Return a namespace as a target. Identify it by its label's UUID, or by its name if it has no label."""
    return Target("-n", namespace.label_uuid or namespace.dev, f"Namespace {namespace.called}")


def region_target(region: Region) -> Target:
    """Return a region as a target. Identify it by its interleave set's cookie, or by its name if it has no cookie."""
    cookie = f"{region.iset_id % (1 << 64):#x}" if region.iset_id else region.dev
    return Target("-r", cookie, f"Region {region.dev}")


def dimm_target(dimm: Dimm) -> Target:
    """Return a DIMM as a target. Identify it by its unique id, or by its name if it has no id."""
    return Target("-d", dimm.id or dimm.dev, f"DIMM {dimm.dev}")


def region_on_dimm(region: Region, dimm: Dimm) -> tuple[Target, Target]:
    """Return targets for a region that stay valid when its labels change: its name and the id of one of its DIMMs.

    The cookie is unsuitable here. It depends on the label version, and on whether the DIMM is enabled.
    """
    return Target("-r", region.dev, f"Region {region.dev}"), Target("-d", dimm.id or dimm.dev, "")


def lock_target(lock: str, called: str) -> Target:
    """Return a target for something without a region or DIMM. All workers that change it take the lock `lock`."""
    return Target("-k", lock, called)


def path_target(path: str) -> Target:
    """Return a block device, device-DAX node or file as a target."""
    return Target("-p", path, path)


def target_of(where: Namespace | str) -> Target:
    """Return a namespace or a path as a target."""
    return path_target(where) if isinstance(where, str) else namespace_target(where)


class Guard:
    """Run changes on one host under its guard.

    Args:
        transport: The connection to the host.
        lease_proofs: Returns the proofs of the caller's leases on the host. By default, there are none.

    Example::

        guard = Guard(transport)
        guard.run(["ndctl", "destroy-namespace", NAMESPACE], namespace_target(namespace), must_be_unused=True).check()
    """

    def __init__(self, transport: Transport, lease_proofs: Callable[[], Sequence[LeaseProof]] = tuple) -> None:
        self._transport = transport
        self._installed = False
        self._lease_proofs = lease_proofs

    @property
    def transport(self) -> Transport:
        """The connection to the host."""
        return self._transport

    def use_lease_proofs(self, lease_proofs: Callable[[], Sequence[LeaseProof]]) -> None:
        """Set the function that returns the proofs. The guard checks these proofs before each change."""
        self._lease_proofs = lease_proofs

    def run(
        self,
        command: Sequence[str],
        *targets: Target,
        must_be_unused: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Run a command on its targets, under the locks of their regions. Return the result even if the command fails.

        Args:
            command: The command, one item per argument. The placeholders `NAMESPACE`, `NODE`, `REGION` and `DIMM` are
                replaced by the current names.
            targets: The targets of the command.
            must_be_unused: Refuse the command if a target is in use.
            timeout: Seconds for the whole call, including the wait for the lock.
            stdin: The bytes that the command reads from standard input.

        Raises:
            NotFoundError: A target no longer exists. Nothing was changed.
            BusyError: A target is in use, or its region stayed locked. Nothing was changed.
            LeaseLostError: The caller has lost one of its leases. Nothing was changed.
            CommandTimeoutError: The command did not end within `timeout`.
            ToolMissingError: A program that the guard needs is not installed on the host.
            UnsupportedError: The caller may not see which processes use the target, or the guard's directory is not
                safe.
        """
        proofs = list(self._lease_proofs())
        options = [word for proof in proofs for word in ("-l", proof.path, proof.text)]
        for target in targets:
            options += [target.option, target.identity]
        if must_be_unused:
            options.append("-u")
        argv = ["sh", guard_path(), *options, "--", *command]
        try:
            result = self._run(argv, timeout, stdin)
        except CommandTimeoutError as error:
            if waited := _waits_for(_reports(error.result, command)):
                raise BusyError(
                    f"Another command on {self._transport.name} has held the lock of {waited} for more than "
                    f"{timeout:g} s, so nothing was changed. Find its process: fuser -v {LOCKS}/{waited}."
                ) from error
            raise CommandTimeoutError(_as_run(error.result, command), error.meaning) from error
        reports = _reports(result, command)
        clean = _as_run(result, command)
        if result.exit_status == _REFUSED and reports and not reports[-1].startswith(_ACTS):
            self._refused(clean, reports, targets, proofs)
        return clean

    def _run(self, argv: Sequence[str], timeout: float, stdin: bytes) -> CommandResult:
        if not self._installed:
            self._install()
        result = self._transport.run(argv, timeout=timeout, stdin=stdin)
        if (
            result.exit_status in _NO_SUCH_FILE
            and guard_path().encode() in result.stderr
            and not _LINE.search(result.stderr)
        ):
            self._install()  # the host rebooted since, and the command has not started
            result = self._transport.run(argv, timeout=timeout, stdin=stdin)
        return result

    def _install(self) -> None:
        for name in ("acts", "guard"):  # install the guard last: if it exists, both programs exist
            program = _program(name)
            command = ["sh", "-c", _INSTALL, "sh", _DIRECTORY, str(len(program)), _path(name)]
            self._transport.run(command, stdin=program).check(
                f"Could not write the program that guards changes to {_DIRECTORY} on {self._transport.name}"
            )
        self._installed = True

    def _refused(
        self, result: CommandResult, reports: Sequence[str], targets: Sequence[Target], proofs: Sequence[LeaseProof]
    ) -> None:
        host = self._transport.name
        called = ", ".join(target.called for target in targets if target.called) or "The host"
        word, _, rest = reports[-1].partition(" ")
        match word:
            case "used":
                users = [line.removeprefix("used ") for line in reports if line.startswith("used ")]
                raise BusyError(f"{called} is in use on {host}: {', '.join(users)}. Nothing was changed.")
            case "gone":
                raise GoneError(called, host)
            case "lost":
                lost = next((proof.key for proof in proofs if proof.path == rest), rest)
                raise LeaseLostError(
                    f"This worker no longer has the lease of {lost} on {host} ({rest}), so nothing was changed on "
                    f"{called}. Reserve the host or region again."
                )
            case "has":
                raise ToolMissingError(result, f"{rest.removeprefix('no ')} is not installed on {host}")
            case "blind:" | "unsafe" | "ambiguous" | "absent":
                raise UnsupportedError(f"{called} on {host} was not changed: {reports[-1]}.")
            case _:
                raise CommandError(result, f"{called} on {host} was not changed: {reports[-1]}")


def act(name: str, *arguments: str) -> list[str]:
    """Return the command line for one of the acts in ``acts.sh``."""
    return ["sh", _path("acts"), name, *arguments]


def guard_path() -> str:
    """Return the path of the guard program on a host. The file name contains the program's version."""
    return _path("guard")


@cache
def _program(name: str) -> bytes:
    return files("VpmemLibrary.pmem").joinpath(f"{name}.sh").read_bytes()


@cache
def _path(name: str) -> str:
    return f"{_DIRECTORY}/{name}-{hashlib.sha256(_program(name)).hexdigest()[:12]}"


def _reports(result: CommandResult, command: Sequence[str]) -> list[str]:
    """Return the report lines of the guard, and of the act if the command is an act in ``acts.sh``."""
    own, _ = _parts(result, command)
    return [line.decode("utf-8", "replace") for line in _LINE.findall(own)]


def _parts(result: CommandResult, command: Sequence[str]) -> tuple[bytes, bytes]:
    """Split stderr into the guard's output and the command's output.

    The command may print lines that look like the guard's lines.
    """
    begins = _BEGINS.search(result.stderr)
    end = begins.end() if begins and list(command[:2]) != act("")[:2] else len(result.stderr)
    return result.stderr[:end], result.stderr[end:]


def _waits_for(reports: Sequence[str]) -> str:
    """Return the name of the lock that a command still waits for. Return an empty text if it does not wait."""
    return reports[-1].removeprefix(_WAITS) if reports and reports[-1].startswith(_WAITS) else ""


def _as_run(result: CommandResult, command: Sequence[str]) -> CommandResult:
    """Return a result without the guard's output, with the placeholders of the command replaced by names."""
    acts = (line.removeprefix(_ACTS) for line in _reports(result, command) if line.startswith(_ACTS))
    given = dict(zip((REGION, NAMESPACE, DIMM, NODE), next(acts, "").split(" ", 3), strict=False))
    argv = tuple(_MARK.sub(lambda mark: given.get(mark[0], mark[0]), argument) for argument in command)
    own, rest = _parts(result, command)
    return replace(result, argv=argv, stderr=_LINE.sub(b"", own) + rest)
