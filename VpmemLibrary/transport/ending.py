"""End a command and all processes that it started, and check that they ended."""

from __future__ import annotations

from VpmemLibrary.errors import CommandError, CommandTimeoutError, OutputTooLargeError
from VpmemLibrary.transport.base import OUTPUT_LIMIT, CommandResult

PATIENCE = 2.0
"""Seconds that a command has to end after SIGTERM, and again after SIGKILL."""

HASTE = 0.5
"""Shorter value of `PATIENCE` for an interrupted keyword, which must end soon."""

LIMIT = 5
"""Maximum duration of the whole ending, as a multiple of `PATIENCE` or `HASTE`."""

_TENTHS = 10

# $1 is the command's first process. $2 is how many tenths of a second to wait after each signal. $3 is the boot
# identifier of the process, or empty.
#
# A process belongs to the command if it is in the group of the first process, or descends from that process in any
# session. sshd and the local transport make a process group for a command; dropbear does not. If the parent of a found
# process ends, the process still belongs to the command. The start time of a process distinguishes it from a later
# process with the same PID. Zombies count as ended.
#
# A line of /proc/PID/stat is: PID (NAME) STATE PARENT GROUP ..., with the start time as its 22nd word.
_END = r"""
case $1 in 0 | 1) echo "$1 is no process of a command" >&2; exit 1 ;; esac
[ -r /proc/self/stat ] || { echo '/proc is not mounted there' >&2; exit 1; }
[ -z "$3" ] || {
    read -r boot </proc/sys/kernel/random/boot_id
    [ "$boot" = "$3" ] || { echo 'the host has booted since' >&2; exit 1; }
}
root=$1 tenths=$2 found=' ' numbers=" $1 " newline='
'
look() {
    table= left= grown=1 IFS=$newline
    for each in $(set +f; cat /proc/[0-9]*/stat 2>/dev/null); do
        number=${each%% *} IFS=' '
        set -- ${each##*) }
        table="$table $number:$1:$2:$3:${20}"
    done
    while [ "$grown" ]; do
        grown=
        for each in $table; do
            IFS=:
            set -- $each
            IFS=' '
            case $found in *" $1:$5 "*) continue ;; esac
            if [ "$4" != "$root" ] && [ "$1" != "$root" ]; then
                case $numbers in *" $3 "*) ;; *) continue ;; esac
            fi
            found="$found$1:$5 " numbers="$numbers$1 " grown=1
        done
    done
    for each in $table; do
        IFS=:
        set -- $each
        IFS=' '
        case $found in *" $1:$5 "*) ;; *) continue ;; esac
        case $2 in Z | X) ;; *) left="$left $1" ;; esac
    done
}
await() {
    waited=0
    look
    while [ "$left" ] && [ "$waited" -lt "$tenths" ]; do
        if [ "$1" ]; then kill -KILL "-$root" $left 2>/dev/null; fi
        sleep 0.1 2>/dev/null || sleep 1
        waited=$((waited + 1))
        look
    done
}
set -f
look
[ -z "$left" ] || kill -TERM $left 2>/dev/null
await ''
await kill
[ -z "$left" ] || echo $left
"""


def end_command(pid: int, seconds: float, boot: str = "") -> tuple[str, ...]:
    """Return a command that ends another command with all its processes, and prints the PIDs that do not end.

    Args:
        pid: The first process of the command to end.
        seconds: Seconds to wait after SIGTERM, and again after SIGKILL.
        boot: The boot identifier at the start of the process. After a reboot, nothing is ended. Empty for no check.
    """
    return ("sh", "-c", _END, "sh", str(pid), str(max(1, round(seconds * _TENTHS))), boot)


def remaining_message(ended: CommandResult, pid: int) -> str:
    """Return a message about a command that `end_command` could not end; empty if the command has ended."""
    pids = ended.text.split()
    if ended.exit_status != 0 or not all(each.isdigit() for each in pids):
        return unknown_end_message(
            ended.error_text.strip() or f"the command that ends it exited {ended.exit_status}", pid
        )
    if not pids:
        return ""
    which = f"process {pids[0]} does" if len(pids) == 1 else f"processes {', '.join(pids)} do"
    return f"It could not be ended: {which} not end. See: ps -o pid,stat,etime,args -p {','.join(pids)}"


def unknown_end_message(reason: str, pid: int | None) -> str:
    """Return a message about a command that may still run, with the reason why its state is unknown."""
    how = "" if pid is None else f". See: ps -o pid,stat,etime,args -s {pid}"
    return f"Whether it was ended is unknown: {reason}. It may still run{how}"


OUTPUT_IS_HELD = (
    "Its processes were ended, but its output is still open. It may have started another process outside its process "
    "group, which still runs. See: ps -e -o pid,sid,stat,etime,args"
)


def ended_error(result: CommandResult, timeout: float, *, too_large: bool, remains: str) -> CommandError:
    """Return the error for a command that was ended because it printed too much or took too long.

    `remains` is a message if a process may still run; see `remaining_message`.
    """
    how = f". {remains}" if remains else " and was ended"
    if too_large:
        return OutputTooLargeError(result, f"It printed more than {OUTPUT_LIMIT}{how}")
    return CommandTimeoutError(result, f"It did not end within {timeout:g} s{how}")
