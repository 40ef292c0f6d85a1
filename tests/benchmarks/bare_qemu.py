"""The command line of a guest's QEMU, run without libvirt: what libvirt passes by descriptor gets names instead."""

from __future__ import annotations

from collections.abc import Sequence

MONITOR_PORT = 47625

# QEMU's own word that the guest's agent has opened its port is what libvirt hears as well. The clock is the host's.
RUN = rf"""
set -e
start=$(cut -d' ' -f1 /proc/uptime)
"$@" >/dev/null 2>/tmp/bare-qemu.log &
qemu=$!
trap 'kill "$qemu"' EXIT
until {{ exec 3<>/dev/tcp/127.0.0.1/{MONITOR_PORT}; }} 2>/dev/null; do kill -0 "$qemu"; sleep 0.02; done
echo '{{"execute": "qmp_capabilities"}}' >&3
while read -t 300 -r line <&3; do
    case $line in *VSERPORT_CHANGE*'"open": true'*) break ;; esac
done
case $line in *VSERPORT_CHANGE*) ;; *) cat /tmp/bare-qemu.log >&2; exit 1 ;; esac
echo "$start $(cut -d' ' -f1 /proc/uptime)"
"""


def bare(argv: Sequence[str]) -> list[str]:
    """Return a command that does the same without libvirt.

    Args:
        argv: The command line of a QEMU that libvirt started.
    """
    command = [argv[0]]
    words = iter(argv[1:])
    for word in words:
        if word == "-S":  # libvirt has it wait until the monitor says "cont"
            continue
        if not word.startswith("-"):
            raise ValueError(word)
        value = "" if word in ("-no-user-config", "-nodefaults", "-no-shutdown") else next(words)
        if word == "-add-fd" or '"id":"masterKey0"' in value:
            continue
        if "id=charmonitor," in value:
            value = f"socket,id=charmonitor,host=127.0.0.1,port={MONITOR_PORT},server=on,wait=off"
        elif "id=charchannel0," in value:
            value = "socket,id=charchannel0,path=/run/bare-qemu-agent,server=on,wait=off"
        elif "id=charserial0," in value:
            value = "pty,id=charserial0,logfile=/tmp/bare-qemu-console.log"
        command += [word, value] if value else [word]
    return command
