"""Acts on a host that check and act as one command: on the right device, unused, under a lock and a valid lease.

A device name such as ``namespace0.1`` may mean another device a moment later: another worker destroys one and creates
the next, or the host reboots. So no name crosses two commands. A change names its target by what stays (the UUID of a
label, the cookie of an interleave set, the id of a DIMM), and the program ``guard.sh`` finds the device, checks it and
runs the change, all in one process on the host.

The program is sent to the host once and kept in memory there (``/run``), so that each act is one short command. So is
``acts.sh``: the changes that are more than one command of ndctl's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

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
"""Stands in a command for the name that the namespace has when the command runs."""

NODE = "@node@"
"""Stands in a command for the path of the device, e.g. ``/dev/dax0.1``."""

REGION = "@region@"
"""Stands in a command for the name that the region has when the command runs."""

DIMM = "@dimm@"
"""Stands in a command for the name that the DIMM has when the command runs."""

_DIRECTORY = "/run/vpmem"
LOCKS = f"{_DIRECTORY}/locks"
"""Where the locks are that changes hold, each in a file of the name of its region or DIMM."""

_REFUSED = 113
_WAITS = "waits for the lock of "
_ACTS = "acts on "
_MARK = re.compile("|".join((REGION, NAMESPACE, DIMM, NODE)))
_LINE = re.compile(rb"^vpmem-guard: (.*)\n?", re.MULTILINE)
_BEGINS = re.compile(rb"^vpmem-guard: acts on .*\n?", re.MULTILINE)
_NO_SUCH_FILE = (2, 126, 127)  # how dash, bash and busybox end when they cannot open their script

# The file takes its name whole, so that a program that is half sent is never run: a connection that breaks ends the
# input as its end does, hence the size.
_INSTALL = r"""
umask 077
[ -d "$1" ] || mkdir -p -- "$1" || exit
[ -O "$1" ] && case $(ls -ld -- "$1") in d????-??-*) true ;; *) false ;; esac || {
    echo "$1 must be a directory of the user that runs this, that no other user can write to" >&2
    exit 1
}
cat > "$3.$$" && [ "$(wc -c < "$3.$$")" -eq "$2" ] && mv -f -- "$3.$$" "$3" && exit
echo "$3 was not written whole" >&2
rm -f -- "$3.$$"
exit 1
"""


@dataclass(frozen=True, slots=True)
class LeaseProof:
    """What shows that a lease is still the caller's: a record file on the host and the text that it must contain.

    Args:
        key: What the lease is for.
        path: The record's file on the host.
        text: What the record contains as long as the lease is the caller's.
    """

    key: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a guarded command acts on.

    Args:
        option: The guard's option for its kind.
        identity: What it is known by.
        called: How messages name it; empty for a target that only tells which other one is meant.
    """

    option: str
    identity: str
    called: str


def namespace_target(namespace: Namespace) -> Target:
    """Return a namespace as a target: by the UUID of its label, or by its name where it has no label."""
    return Target("-n", namespace.label_uuid or namespace.dev, f"Namespace {namespace.called}")


def region_target(region: Region) -> Target:
    """Return a region as a target: by the cookie of its interleave set, or by its name where it has none."""
    cookie = f"{region.iset_id % (1 << 64):#x}" if region.iset_id else region.dev
    return Target("-r", cookie, f"Region {region.dev}")


def dimm_target(dimm: Dimm) -> Target:
    """Return a DIMM as a target: by its unique id, or by its name where it has none."""
    return Target("-d", dimm.id or dimm.dev, f"DIMM {dimm.dev}")


def region_on_dimm(region: Region, dimm: Dimm) -> tuple[Target, Target]:
    """Return a region as targets that a change of its labels leaves valid: its name, and the id of a DIMM of it.

    The cookie depends on the version of the labels, and on whether the DIMM is enabled.
    """
    return Target("-r", region.dev, f"Region {region.dev}"), Target("-d", dimm.id or dimm.dev, "")


def lock_target(lock: str, called: str) -> Target:
    """Return what has no region or DIMM as a target, by the lock that all who change it take."""
    return Target("-k", lock, called)


def path_target(path: str) -> Target:
    """Return a block device, device-DAX node or file as a target."""
    return Target("-p", path, path)


def target_of(where: Namespace | str) -> Target:
    """Return a namespace, or what has a path, as a target."""
    return path_target(where) if isinstance(where, str) else namespace_target(where)


class Guard:
    """Runs changes on one host under its guard.

    Args:
        transport: The way to the host.
        fence: Returns what shows that the caller's leases on the host are still its own; nothing by default.

    Example::

        guard = Guard(transport)
        guard.run(["ndctl", "destroy-namespace", NAMESPACE], namespace_target(namespace), unused=True).check()
    """

    def __init__(self, transport: Transport, fence: Callable[[], Sequence[LeaseProof]] = tuple) -> None:
        self._transport = transport
        self._installed = False
        self.fence = fence

    @property
    def transport(self) -> Transport:
        """The way to the host."""
        return self._transport

    def run(
        self,
        command: Sequence[str],
        *targets: Target,
        unused: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Run a command on a target, under the lock of its region, and return what it left, whatever its exit status.

        Args:
            command: The command, one item an argument; `NAMESPACE`, `NODE`, `REGION` and `DIMM` in it become names.
            targets: What it acts on.
            unused: Whether nobody may use the target.
            timeout: Seconds for all of it, the wait for the lock included.
            stdin: What the command reads.

        Raises:
            NotFoundError: The target is not there any more; nothing was changed.
            BusyError: It is in use, or its region stayed locked; nothing was changed.
            LeaseLostError: A lease of the caller is not its own any more; nothing was changed.
            CommandTimeoutError: The command did not end in time.
            ToolMissingError: The host lacks a program that the guard needs.
            UnsupportedError: The caller may not see what others use, or the guard's directory is not safe.
        """
        proofs = list(self.fence())
        options = [word for proof in proofs for word in ("-l", proof.path, proof.text)]
        for target in targets:
            options += [target.option, target.identity]
        if unused:
            options.append("-u")
        argv = ["sh", guard_path(), *options, "--", *command]
        try:
            result = self._run(argv, timeout, stdin)
        except CommandTimeoutError as error:
            if waited := _waits_for(_reports(error.result, command)):
                raise BusyError(
                    f"Another command on {self._transport.name} has had the lock of {waited} for more than "
                    f"{timeout:g} s, so nothing was changed. Look at the processes that have "
                    f"{LOCKS}/{waited} open (fuser -v)."
                ) from error
            raise CommandTimeoutError(_as_run(error.result, command), error.meaning) from error
        reports = _reports(result, command)
        clean = _as_run(result, command)
        if result.exit_status == _REFUSED and reports and not reports[-1].startswith(_ACTS):
            self._refused(clean, reports, targets, proofs)
        return clean

    def require_unused(self, *targets: Target, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Raise if anybody uses a target.

        Raises:
            NotFoundError: The target is not there any more.
            BusyError: It is in use.
        """
        self.run(["true"], *targets, unused=True, timeout=timeout).check()

    def _run(self, argv: Sequence[str], timeout: float, stdin: bytes) -> CommandResult:
        if not self._installed:
            self._install()
        result = self._transport.run(argv, timeout=timeout, stdin=stdin)
        if (
            result.exit_status in _NO_SUCH_FILE
            and guard_path().encode() in result.stderr
            and not _LINE.search(result.stderr)
        ):
            self._install()  # the host booted since, and nothing was begun
            result = self._transport.run(argv, timeout=timeout, stdin=stdin)
        return result

    def _install(self) -> None:
        for name in ("acts", "guard"):  # the guard last: where it is, both are
            program = _program(name)
            command = ["sh", "-c", _INSTALL, "sh", _DIRECTORY, str(len(program)), _path(name)]
            self._transport.run(command, stdin=program).check(
                f"The program that guards changes could not be put into {_DIRECTORY} on {self._transport.name}"
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
                    f"The lease of {lost} on {host} is not this worker's any more ({rest}), so nothing was changed on "
                    f"{called}. Acquire the host or region again."
                )
            case "has":
                raise ToolMissingError(result, f"{rest.removeprefix('no ')} is not installed on {host}")
            case "blind:" | "unsafe" | "ambiguous" | "absent":
                raise UnsupportedError(f"{called} on {host} was left as it is: {reports[-1]}.")
            case _:
                raise CommandError(result, f"{called} on {host} was left as it is: {reports[-1]}")


def act(name: str, *arguments: str) -> list[str]:
    """Return the command for one of the changes in ``acts.sh``."""
    return ["sh", _path("acts"), name, *arguments]


def guard_program() -> bytes:
    """Return the program that is sent to hosts."""
    return _program("guard")


def guard_path() -> str:
    """Return where the program is on a host; its name says which version it is."""
    return _path("guard")


@cache
def _program(name: str) -> bytes:
    return files("VpmemLibrary.pmem").joinpath(f"{name}.sh").read_bytes()


@cache
def _path(name: str) -> str:
    return f"{_DIRECTORY}/{name}-{hashlib.sha256(_program(name)).hexdigest()[:12]}"


def _reports(result: CommandResult, command: Sequence[str]) -> list[str]:
    """Return what the guard reported, and what one of the changes in ``acts.sh`` did."""
    own, _ = _parts(result, command)
    return [line.decode("utf-8", "replace") for line in _LINE.findall(own)]


def _parts(result: CommandResult, command: Sequence[str]) -> tuple[bytes, bytes]:
    """Return what the guard printed, and what the command did: any command may print a line as the guard's are."""
    begins = _BEGINS.search(result.stderr)
    end = begins.end() if begins and list(command[:2]) != act("")[:2] else len(result.stderr)
    return result.stderr[:end], result.stderr[end:]


def _waits_for(reports: Sequence[str]) -> str:
    """Return whose lock a command still waits for; empty when it waits for none."""
    return reports[-1].removeprefix(_WAITS) if reports and reports[-1].startswith(_WAITS) else ""


def _as_run(result: CommandResult, command: Sequence[str]) -> CommandResult:
    """Return a result as the command alone would have left it, with the names that it was given."""
    acts = (line.removeprefix(_ACTS) for line in _reports(result, command) if line.startswith(_ACTS))
    given = dict(zip((REGION, NAMESPACE, DIMM, NODE), next(acts, "").split(" ", 3), strict=False))
    argv = tuple(_MARK.sub(lambda mark: given.get(mark[0], mark[0]), argument) for argument in command)
    own, rest = _parts(result, command)
    return replace(result, argv=argv, stderr=_LINE.sub(b"", own) + rest)
