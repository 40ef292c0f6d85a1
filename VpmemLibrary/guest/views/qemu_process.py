"""Find the QEMU process of a guest on its host.

A process counts as the guest's QEMU only if all of these are true:

- its executable is a QEMU;
- all its user ids are the user id that libvirt gave the guest;
- it is in the host's own user namespace;
- its arguments contain the guest's UUID.

Any user of the host can start a QEMU with these arguments. Only root can start a process as the guest's user.

Every command that needs the process finds it again. So no process id is passed from one command to the next.
"""

from __future__ import annotations

from msgspec import Struct

from VpmemLibrary.errors import GuestError, UnreadableOutputError
from VpmemLibrary.guest.domain.xml import parse_domain
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, READS_ONLY, CommandResult, Transport

# The shell enters the process's directory in /proc and stays there. The kernel ties an open directory to its process.
# Once the process is gone, a read by a relative path fails, even if another process got the same process id.
#
# libvirt's pid file only says which process to check first. It is not trusted, because its directory may belong to
# QEMU's own user.
_FIND = r"""
name=$1 uuid=$2 user=$3
shift 3
case $user in
    +*) user=${user#+} ;;
    *[!0-9]*) user=$(id -u -- "$user") || exit ;;
esac
newline='
'
is_qemu() {
    [ -n "$1" ] && cd "/proc/$1" || return
    links=$(readlink exe ns/user /proc/self/ns/user) || return
    own=${links##*"$newline"} links=${links%"$newline"*}
    [ "${links##*"$newline"}" = "$own" ] || return
    links=${links%"$newline"*}
    case ${links##*/} in *qemu* | kvm | 'kvm (deleted)') ;; *) return 1 ;; esac
    while read -r key ids; do
        case $key in
            PPid:) parent=$ids ;;
            Uid:) break ;;
        esac
    done <status
    [ "$key" = Uid: ] || return
    for id in $ids; do [ "$id" = "$user" ] || return; done
    grep -zqxF -e "$uuid" cmdline || return
    # A child of QEMU looks like QEMU until it executes its own program.
    ! (is_qemu "$parent")
} 2>/dev/null
pid=
read -r pid 2>/dev/null <"/run/libvirt/qemu/$name.pid"
case $pid in *[!0-9]*) pid= ;; esac
is_qemu "$pid" || {
    pid=
    cd /proc || exit
    for candidate in $(ls -l [0-9]*/exe 2>/dev/null | sed -n '/qemu\|kvm/s,^.* \([0-9]*\)/exe -> .*,\1,p'); do
        (is_qemu "$candidate") || continue
        [ -z "$pid" ] || { echo "processes $pid and $candidate" >&2; exit 4; }
        pid=$candidate
    done
    is_qemu "$pid" || exit 3
}
"""
_GONE = 3
_SEVERAL = 4

# The last check and the signal are two steps. Another process cannot get the process id in between. The kernel assigns
# ids in increasing order (idr_alloc_cyclic), so an id is reused only after pid_max other ids, at least 32768. A pidfd
# would not make this safer, and it needs a program that hosts may lack: Python, or util-linux 2.41.
_KILL = r"""
sleep "$1"
read -r _ <stat || exit 3
kill -KILL "$pid"
"""


class QemuProcess(Struct, frozen=True):
    """The attributes that identify a running guest's QEMU among all processes of its host.

    Args:
        name: The guest's name.
        uuid: The UUID of the guest's domain.
        user: The user that libvirt runs QEMU as: a name, or ``+`` and a number.

    Example: ``QemuProcess("a", "fdac04e7-f81a-4a2d-98aa-bddb17feca36", "+64055").read(transport)``.
    """

    name: str
    uuid: str
    user: str

    @classmethod
    def of(cls, name: str, xml: str, host: str) -> QemuProcess:
        """Return the attributes of a guest's QEMU from the live XML.

        Args:
            name: The guest's name.
            xml: The live XML of the guest.
            host: The host's name, for messages.

        Raises:
            GuestError: The guest is not running.
        """
        domain = parse_domain(xml)
        if domain.get("id") is None:
            raise _not_running(name, host, "libvirt lists it as off")
        label = domain.findtext("./seclabel[@model='dac']/label") or ""
        # Without a label libvirt does not change the user: QEMU runs as libvirt's daemon does.
        return cls(name, domain.findtext("./uuid") or "", label.partition(":")[0] or "+0")

    def read(self, transport: Transport) -> tuple[int, tuple[str, ...]]:
        """Return QEMU's process id and its command line.

        Args:
            transport: The transport to the host, as root. Other users cannot see the executables of other users'
                processes.

        Raises:
            GuestError: There is no such process, or there are several.
        """
        result = self.run(transport, "printf '%s\\0' \"$pid\"\nexec cat cmdline\n", reads_only=True)
        pid, *argv = result.check().stdout.rstrip(b"\0").split(b"\0")
        if not pid.isdigit() or not argv:
            raise UnreadableOutputError(result, "The host's process table gave no command line")
        return int(pid), tuple(part.decode("utf-8", "replace") for part in argv)

    def kill(self, transport: Transport, *, timeout: float, after: float = 0.0) -> None:
        """Send SIGKILL to QEMU.

        Args:
            transport: The transport to the host.
            timeout: Seconds that the command may take in addition to `after`.
            after: Seconds until the signal is sent, counted on the host.

        Raises:
            GuestError: There is no such process, or it ended before the signal was sent.
            CommandError: The signal could not be sent.
        """
        self.run(transport, _KILL, f"{after:.3f}", timeout=after + timeout).check()

    def run(
        self,
        transport: Transport,
        script: str,
        *arguments: str,
        timeout: float = DEFAULT_TIMEOUT,
        reads_only: bool = False,
    ) -> CommandResult:
        """Run a shell script in QEMU's directory in ``/proc``, with QEMU's process id in ``$pid``.

        Args:
            transport: The transport to the host.
            script: The script.
            arguments: The script's arguments, ``$1`` and so on.
            timeout: Seconds that the script may take.
            reads_only: Whether the script changes nothing and leaves nothing running.

        Raises:
            GuestError: There is no such process, or there are several.
        """
        whole = (READS_ONLY if reads_only else "") + _FIND + script
        command = ["sh", "-c", whole, "sh", self.name, self.uuid, self.user, *arguments]
        result = transport.run(command, timeout=timeout)
        looked_for = f"an executable called qemu, user {self.user}, and -uuid {self.uuid}"
        if result.exit_status == _GONE:
            raise _not_running(self.name, transport.name, f"no process there has {looked_for}")
        if result.exit_status == _SEVERAL:
            raise GuestError(
                f"Several processes of {transport.name} look like the QEMU of guest {self.name}: "
                f"{result.error_text.strip()} have {looked_for}."
            )
        return result


def _not_running(name: str, host: str, reason: str) -> GuestError:
    return GuestError(f"Guest {name} is not running on {host}: it has no QEMU process ({reason}).")
