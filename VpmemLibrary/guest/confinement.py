"""Read the confinement of a guest's QEMU on its host: user, security label and control group."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from VpmemLibrary.errors import UnreadableOutputError, UnsupportedError
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.transport.base import Transport

_READ = r"""
printf '%s\n' "$pid" "$(cat attr/current)" \
    "$(awk '$1 == "Uid:" || $1 == "Gid:" { print $3 }' status | tr '\n' ' ')"
cat cgroup
"""

# A context is user:role:type:range (selinux(8), "SECURITY CONTEXT").
_SELINUX = r"[^:]+:[^:]+:[^:]+:s\d.*"

# A process opens each path and reads nothing. The process has QEMU's control group, user, groups and AppArmor profile,
# if QEMU has a profile. libvirt's profiles allow dd, because QEMU saves through it
# (apparmor.d/abstractions/libvirt-qemu).
#
# libvirt gives QEMU its own /dev, so the path is opened from QEMU's root directory. The process enters this directory
# only as its current directory. So no program and no library is loaded from QEMU's mount namespace, where a compromised
# QEMU might have placed its own. The script follows symbolic links itself, because the kernel would resolve an absolute
# link in the host's own namespace.
_PROBE = r"""
profile=$1 uid=$2 gid=$3
shift 3
case ":$PATH:" in *::* | *:[!/]*) echo "PATH has a relative directory: $PATH" >&2; exit 1 ;; esac
command -v setpriv >/dev/null || { echo "setpriv (util-linux) is not installed" >&2; exit 127; }
groups=$(awk '$1 == "Groups:" { $1 = ""; gsub(/^ +/, ""); gsub(/ /, ","); print }' status)
group=$(awk -F: '$1 == 0 { print $3 }' cgroup)
if [ -w "/sys/fs/cgroup$group/cgroup.procs" ]; then echo $$ >"/sys/fs/cgroup$group/cgroup.procs"; fi
groups=${groups:+--groups=$groups}
cd root || exit
for path; do
    for _ in 1 2 3 4 5 6 7 8; do
        [ -L ".$path" ] || break
        target=$(readlink ".$path")
        case $target in /*) path=$target ;; *) path=${path%/*}/$target ;; esac
    done
    said=$(setpriv --reuid "$uid" --regid "$gid" "${groups:---clear-groups}" \
        ${profile:+aa-exec -p "$profile" --} dd if=".$path" of=/dev/null count=0 2>&1)
    printf '%s %s\n' "$?" "$(printf '%s' "$said" | head -n 1)"
done
"""


class Confinement(Struct, frozen=True):
    """The confinement of a guest's QEMU.

    Args:
        process: The process id of QEMU.
        profile: The AppArmor profile, e.g. ``libvirt-34e321be-...``; empty if QEMU has no profile.
        enforced: Whether the profile denies everything that it does not allow.
        user: The user id.
        group: The group id.
        cgroup: The control group.
    """

    process: int
    profile: str
    enforced: bool
    user: int
    group: int
    cgroup: str


def read_confinement(host: Transport, qemu: QemuProcess) -> Confinement:
    """Return the confinement of a guest's QEMU.

    Args:
        host: The transport to the guest's host.
        qemu: The guest's QEMU.

    Raises:
        GuestError: The guest is not running.
        UnreadableOutputError: The kernel's answer does not have the known form.
    """
    result = qemu.run(host, _READ, reads_only=True).check(
        f"Could not read the confinement of the QEMU of guest {qemu.name}"
    )
    process, *lines = result.lines
    try:
        profile, _, mode = lines[0].rstrip("\0").partition(" ")
        user, group = (int(number) for number in lines[1].split())
        cgroup = next((line.partition("::")[2] for line in lines[2:] if line.startswith("0::")), "")
    except (IndexError, ValueError) as error:
        raise UnreadableOutputError(result, "The kernel did not report the confinement of the process") from error
    confined = profile not in ("", "unconfined")
    return Confinement(int(process), profile if confined else "", mode == "(enforce)", user, group, cgroup)


def refusals(host: Transport, qemu: QemuProcess, confinement: Confinement, paths: Sequence[str]) -> dict[str, str]:
    """Open paths with the confinement of a guest's QEMU. Return the error for each path; empty if the path opens.

    Args:
        host: The transport to the host.
        qemu: The guest's QEMU.
        confinement: The confinement of the guest's QEMU.
        paths: Absolute paths on the host.

    Raises:
        GuestError: The guest is not running.
        UnsupportedError: SELinux confines the guest's QEMU.
    """
    if re.fullmatch(_SELINUX, confinement.profile):
        raise UnsupportedError(
            f"Process {confinement.process} on {host.name} is confined by SELinux ({confinement.profile}). The "
            "library can only test AppArmor. Confine the guest by AppArmor, or not at all (confined=False)."
        )
    who = (confinement.profile, str(confinement.user), str(confinement.group))
    result = qemu.run(host, _PROBE, *who, *paths).check()
    lines = result.lines
    if len(lines) != len(paths):
        raise UnreadableOutputError(result, "The test process reported another number of paths")
    answers = {path: line.partition(" ") for path, line in zip(paths, lines, strict=True)}
    return {
        path: "" if status == "0" else said or f"exit status {status}" for path, (status, _, said) in answers.items()
    }
