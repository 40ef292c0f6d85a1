"""The libvirt daemon of a host: find its socket, connect to the socket on the host, and give advice on failures.

One command on the host tries these programs in order: virt-ssh-helper (libvirt 6.8 and newer), a netcat that supports
Unix sockets, ncat, socat, Python, Perl. The first program that works is used.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.transport.base import CommandResult, query
from VpmemLibrary.visible import block

SYSTEM_URI = "qemu:///system"

_VALID = "qemu:///system or qemu:///session, with ?socket=/path/of/its/socket if the socket is elsewhere on the host"
_PATH = r"/[A-Za-z0-9_.+@=/-]{1,106}"
_SHOWN = 2000

_IN_A_CONTAINER = (
    "If libvirt runs in a container, set host_through (podman exec -i NAME), or set host_libvirt_uri to "
    "qemu:///system?socket=PATH with the path of libvirt's socket on the host."
)

READ_ONLY_ADVICE = (
    "libvirt gives this user read access only: log in as root, or use sudo (host_sudo = yes), or add the user to the "
    "group libvirt on the host (usermod -aG libvirt USER) and connect again"
)
"""The advice for a user that has read access only and wants to change guests."""


class Daemon(Struct, frozen=True):
    """A libvirt daemon on a host.

    Args:
        kind: ``system`` or ``session``.
        socket: The path of the daemon's socket on the host. Empty means libvirt's default paths.
    """

    kind: str = "system"
    socket: str = ""

    @classmethod
    def of(cls, uri: str, what: str = "libvirt URI") -> Daemon:
        """Return the daemon that a URI names.

        Args:
            uri: The URI.
            what: The name of the setting, for the message.

        Raises:
            InvalidValueError: The URI does not name a QEMU daemon on the host itself.

        Example: ``Daemon.of("qemu:///system?socket=/srv/libvirt/libvirt-sock")``.
        """
        try:
            parts = urlsplit(uri)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise InvalidValueError(what, uri, _VALID) from None
        kind, socket = parts.path.removeprefix("/"), options.get("socket", "")
        if (
            parts.scheme not in {"qemu", "qemu+unix"}
            or parts.netloc
            or parts.fragment
            or kind not in {"system", "session"}
            or set(options) - {"socket"}
            or ("socket" in options and not re.fullmatch(_PATH, socket))
        ):
            raise InvalidValueError(what, uri, _VALID)
        return cls(kind, socket)

    @property
    def uri(self) -> str:
        """The URI of the daemon, for messages."""
        return f"qemu:///{self.kind}" + (f"?socket={self.socket}" if self.socket else "")

    def connecting(self, *, read_only: bool = False) -> tuple[str, ...]:
        """Return the command that connects its standard input and output to the daemon.

        Args:
            read_only: Use the read-only socket. This socket is also used if the user may open no other.
        """
        suffix = "-ro" if read_only else ""
        return ("sh", "-c", _FIND + _CONNECT, "sh", self.kind, self.socket, suffix, _PYTHON, _PERL)

    def inspecting(self) -> tuple[str, ...]:
        """Return the command that reports the daemon's sockets and systemd units. `advice` reads its result."""
        return query(_FIND + _INSPECT, self.kind, self.socket, "")

    def advice(self, inspected: CommandResult, *, refused: bool) -> str:
        """Return what the user can do so that the daemon accepts the connection. Empty if the cause is unknown.

        Args:
            inspected: The result of the command that `inspecting` returns.
            refused: Whether the daemon answered and refused the user.
        """
        facts = [line.split(" ", 1) for line in inspected.lines if " " in line]
        user = next((value.strip() for key, value in facts if key == "user"), "") or "USER"
        denied = [value for key, value in facts if key == "denied"]
        usable = [value for key, value in facts if key == "usable"]
        there = [value for key, value in facts if key == "there"]
        if refused or (denied and not there):
            which = f" {', '.join(denied)}" if denied else ""
            return (
                f"The user {user} may not use libvirt's socket{which}. As root, add the user to the group libvirt "
                f"(usermod -aG libvirt {user}) and connect again. Or use sudo (host_sudo = yes), or log in as root."
            )
        if usable or inspected.exit_status != 0:
            return ""
        if self.socket:
            return f"No daemon listens at {self.socket}. Check this path on the host, and that its container runs."
        if self.kind == "session":
            return "This user has no session daemon. Run `virsh -c qemu:///session`, or install virt-ssh-helper."
        return _advice_on_units(_units(facts))


SYSTEM = Daemon()
"""The daemon that is used by default."""


def _units(facts: list[list[str]]) -> dict[str, dict[str, str]]:
    """Return the properties of systemd's units, by the units' names."""
    units: dict[str, dict[str, str]] = {}
    properties: dict[str, str] = {}
    for key, value in facts:
        if key != "unit":
            continue
        name, _, state = value.partition("=")
        if name == "Id":
            properties = units.setdefault(state, {})
        else:
            properties[name] = state
    return units


def _advice_on_units(units: dict[str, dict[str, str]]) -> str:
    there = {name: unit for name, unit in units.items() if unit.get("LoadState") not in {None, "not-found"}}
    if units and not there:
        return (
            "libvirt's QEMU daemon is not installed on the host: apt install libvirt-daemon-system (Debian), or dnf "
            f"install libvirt-daemon-driver-qemu (Fedora). {_IN_A_CONTAINER}"
        )
    for name, unit in there.items():
        if unit.get("ActiveState") == "failed":
            return f"{name} failed on the host: see journalctl -b -u {name}, then run systemctl restart {name}."
    if any(unit.get("ActiveState") == "active" for name, unit in there.items() if name.endswith(".service")):
        return ""
    unmasked = [name for name, unit in there.items() if unit.get("LoadState") != "masked"]
    if there and not unmasked:
        names = " ".join(there)
        return f"{' and '.join(there)} are masked there: systemctl unmask {names} && systemctl start {_first(there)}."
    if unmasked:
        return f"libvirt's daemon does not run on the host: systemctl enable --now {_first(unmasked)}."
    return f"libvirt has no socket in /run/libvirt. Start its daemon. {_IN_A_CONTAINER}"


def _first(names: list[str] | dict[str, dict[str, str]]) -> str:
    """Return the unit to start. Prefer a socket, because a socket starts its service."""
    return next((name for name in names if name.endswith(".socket")), next(iter(names)))


def complaint(result: CommandResult) -> str:
    """Return the error output of the command of `Daemon.connecting`, shortened if it is long."""
    text = result.error_text.strip()
    return block(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ...")


# $1 is the kind of the daemon, $2 its socket if the caller knows it, $3 the end of the socket's name. The script sets
# the variable socket to the socket to use, and denied to a socket that this user may not open. The script prefers a
# socket on which a daemon listens, because a stopped daemon may leave its socket file. /proc/net/unix shows the
# listening sockets of its own network namespace only.
_FIND = r"""
kind=$1 given=$2 suffix=$3 python=$4 perl=$5 socket= listening= denied= other=
login=${SUDO_USER:-$DOAS_USER}
case $kind in
system) set -- /run/libvirt /var/run/libvirt /usr/local/var/run/libvirt ;;
*)
    if [ "$login" ] && [ "$(id -u)" = 0 ]; then
        other=yes home=$(getent passwd "$login" | cut -d: -f6)
        set -- "/run/user/$(id -u "$login")/libvirt" "$home/.cache/libvirt"
    else
        [ "$XDG_RUNTIME_DIR" ] || XDG_RUNTIME_DIR=/run/user/$(id -u)
        if [ -d "$XDG_RUNTIME_DIR" ]; then export XDG_RUNTIME_DIR; else unset XDG_RUNTIME_DIR; fi
        set -- "${XDG_RUNTIME_DIR:-/nowhere}/libvirt" "${XDG_CACHE_HOME:-$HOME/.cache}/libvirt"
    fi
    ;;
esac
consider() {
    [ -S "$2" ] || return
    if [ ! -w "$2" ]; then denied=${denied:-$2}; return; fi
    [ "$1" = any ] || grep -q -e "${2#/var}\$" /proc/net/unix 2>/dev/null || return
    [ "$socket" ] || { socket=$2; [ "$1" = any ] || listening=$2; }
}
find_socket() {
    for how in listening any; do
        [ -z "$given" ] || consider "$how" "$given"
        [ -z "$given" ] || continue
        for folder in "$@"; do
            consider "$how" "$folder/virtqemud-sock$suffix"
            consider "$how" "$folder/libvirt-sock$suffix"
        done
    done
}
find_socket "$@"
if [ -z "$socket$suffix$given" ] && [ "$denied" ]; then
    suffix=-ro
    find_socket "$@"
    [ "$socket" ] || suffix=
fi
"""

_CONNECT = r"""
unset PERL_UNICODE PERL5OPT PYTHONHOME
tried=
is_there() { command -v "$1" >/dev/null 2>&1 || { tried="$tried $1 is not installed;"; return 1; }; }
works() { "$@" </dev/null >/dev/null 2>&1 || { tried="$tried $1 does not run;"; return 1; }; }
if [ "$given$other" ]; then tried=" virt-ssh-helper finds no such socket;"
elif is_there virt-ssh-helper && works virt-ssh-helper --version; then
    exec virt-ssh-helper ${suffix:+-r} "qemu:///$kind"
fi
if [ -z "$socket" ]; then
    if [ "$denied" ]; then echo "permission denied: $denied" >&2
    else echo "there is no socket of libvirt: ${given:-virtqemud-sock or libvirt-sock in $*}" >&2; fi
    exit 1
fi
for each in nc nc.openbsd netcat; do
    is_there $each || continue
    help=$($each -h 2>&1 </dev/null)
    case $help in *"-q "*) quit=-q0 ;; *) quit= ;; esac
    if echo "$help" | grep -q -e '-[0-9A-Za-z]*U'; then exec $each $quit -U "$socket"; fi
    tried="$tried $each takes no Unix socket (-U);"
done
is_there ncat && works ncat --version && exec ncat -U "$socket"
is_there socat && works socat -V && exec socat - "UNIX-CONNECT:$socket"
for each in python3 /usr/libexec/platform-python python python2; do
    is_there $each && works $each -c 'import socket, threading' && exec $each -c "$python" "$socket"
done
is_there perl && works perl -MSocket -e 1 && exec perl -e "$perl" "$socket"
echo "no program here connects to $socket:$tried install libvirt-clients, netcat-openbsd, ncat, socat or python3" >&2
exit 1
"""

_PYTHON = """
import os, socket, sys, threading
there = socket.socket(socket.AF_UNIX)
try:
    there.connect(sys.argv[1])
except Exception:
    sys.exit("%s: %s" % (sys.argv[1], sys.exc_info()[1]))
def carry():
    try:
        while True:
            data = os.read(0, 65536)
            if not data:
                break
            there.sendall(data)
    finally:
        os._exit(0)
thread = threading.Thread(target=carry)
thread.daemon = True
thread.start()
while True:
    data = there.recv(65536)
    if not data:
        os._exit(0)
    while data:
        data = data[os.write(1, data):]
"""

_PERL = r"""
use Socket;
my $there;
socket($there, AF_UNIX, SOCK_STREAM, 0) && connect($there, sockaddr_un($ARGV[0])) or die "$ARGV[0]: $!\n";
sub carry {
    my ($from, $to) = @_;
    while (sysread($from, my $data, 65536)) {
        while (length $data) {
            my $sent = syswrite($to, $data) or return;
            substr($data, 0, $sent, "");
        }
    }
}
my $parent = $$;
defined(my $child = fork) or die "fork: $!\n";
if ($child) { carry(\*STDIN, $there); kill 9, $child } else { carry($there, \*STDOUT); kill 15, $parent }
"""

_INSPECT = r"""
echo "user ${login:-$(id -un)}"
[ -z "$listening" ] || echo "usable $listening"
[ -z "$socket" ] || echo "there $socket"
[ -z "$denied" ] || echo "denied $denied"
command -v systemctl >/dev/null && systemctl show -p Id -p LoadState -p ActiveState \
    virtqemud.socket virtqemud.service libvirtd.socket libvirtd.service 2>/dev/null | sed -n 's/^./unit &/p'
exit 0
"""
