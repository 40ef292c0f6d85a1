"""Who uses a device node on a machine.

ndctl itself asks only the block layer (an exclusive open). It does not see a program that has a device-DAX node
mapped, such as a guest's QEMU: disabling the namespace would pull the memory from under it. A device-DAX node that is
system RAM is in use too, by the machine itself.
"""

from __future__ import annotations

import re

from VpmemLibrary.errors import BusyError
from VpmemLibrary.host.transport import Transport
from VpmemLibrary.model import Namespace

# Paths are matched by their last part, as a program in a mount namespace of its own shows other paths.
_SCRIPT = r"""
for pid in $(
    {
        grep -lsE "/$2( \(deleted\))?\$" /proc/[0-9]*/maps | cut -d/ -f3
        ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v node="/$1" '
            /^\/proc\// { split($0, part, "/"); pid = part[3] }
            / -> / && substr($0, length($0) - length(node) + 1) == node { print pid }'
    } | sort -u
); do
    printf 'process %s (%s)\n' "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)"
done
awk -v node="/dev/$1" '$1 == node { print "mounted at " $2 }' /proc/mounts
driver=$(readlink "/sys/bus/dax/devices/$1/driver" 2>/dev/null)
[ "${driver##*/}" = kmem ] && echo "the machine itself as system RAM"
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
    result = transport.run(["sh", "-c", _SCRIPT, "sh", node, re.escape(node)]).check()
    if users := result.text.splitlines():
        raise BusyError(f"{called} is in use on {transport.name}: {', '.join(users)}.")
