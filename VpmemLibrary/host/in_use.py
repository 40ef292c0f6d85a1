"""Who uses a device node on a machine.

ndctl itself asks only the block layer (an exclusive open). It does not see a program that has a device-DAX node
mapped, such as a guest's QEMU: disabling the namespace would pull the memory from under it. A device-DAX node that is
system RAM is in use too, by the machine itself.
"""

from __future__ import annotations

import re

from VpmemLibrary.errors import BusyError
from VpmemLibrary.host.transport import Transport, query
from VpmemLibrary.model import Namespace

# Paths are matched by their last part, as a program in a mount namespace of its own shows other paths. One program
# reads all there is: each one more that is started costs as much as the rest.
_SCRIPT = r"""
{
    grep -sE "/$2( \(deleted\))?\$" /proc/[0-9]*/maps /dev/null
    ls -l /proc/[0-9]*/fd 2>/dev/null
} | awk -v node="/$1" '
    function used(pid) {
        if (pid in told) return
        told[pid] = 1
        comm = ""
        getline comm < ("/proc/" pid "/comm")
        print "process " pid " (" comm ")"
    }
    FILENAME == "/proc/mounts" { if ($1 == "/dev" node) print "mounted at " $2; next }
    /^\/proc\// { split($0, part, "/"); pid = part[3] }
    /^\/proc\/[0-9]+\/maps:/ { used(pid); next }
    / -> / && substr($0, length($0) - length(node) + 1) == node { used(pid) }
' - /proc/mounts || exit
[ -e "/sys/bus/dax/drivers/kmem/$1" ] && echo "the machine itself as system RAM"
exit 0
"""


def refuse_in_use(transport: Transport, namespace: Namespace) -> None:
    """Raise if a process has the namespace's node open or mapped, or it is mounted.

    Args:
        transport: The way to the machine.
        namespace: The namespace; without a node it is in use by nobody.

    Raises:
        BusyError: The message names the processes and mount points.
    """
    if node := namespace.chardev or namespace.blockdev:
        refuse_used_node(transport, node, namespace.called)


def refuse_used_node(transport: Transport, node: str, called: str) -> None:
    """Raise if a process has a device node open or mapped, or it is mounted.

    Args:
        transport: The way to the machine.
        node: The node's name in ``/dev``.
        called: How the message names it.

    Raises:
        BusyError: The message names the processes and mount points.
    """
    result = transport.run(query(_SCRIPT, node, re.escape(node))).check()
    if users := result.lines:
        raise BusyError(f"{called} is in use on {transport.name}: {', '.join(users)}.")
