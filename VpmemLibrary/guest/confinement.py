"""What keeps a guest's QEMU on its host to its own devices: its user, its security label and its control group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from VpmemLibrary.errors import UnreadableOutputError, UnsupportedError
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.transport.base import Transport

_READ = r"""
printf '%s\n' "$pid" "$(cat attr/current)" \
    "$(awk '$1 == "Uid:" || $1 == "Gid:" { print $3 }' status | tr '\n' ' ')"
cat cgroup
"""

# A context is user:role:type:range (selinux(8), "SECURITY CONTEXT").
_SELINUX = re.compile(r"[^:]+:[^:]+:[^:]+:s\d.*")

# Each path is opened, and nothing is read, by a process of QEMU's control group, user, groups and, where it has one,
# AppArmor profile. libvirt's profiles allow dd: QEMU saves through it (apparmor.d/abstractions/libvirt-qemu).
#
# libvirt gives QEMU a /dev of its own. The path is opened from QEMU's root directory, which is entered as the current
# directory alone: no program, and no library of one, is looked up in QEMU's mount namespace, where a QEMU that was
# taken over might have put its own. So a symbolic link is followed here: the kernel would look up an absolute one
# in the host's own namespace.
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


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a guest's QEMU runs as.

    Args:
        process: Its process id.
        profile: Its AppArmor profile, e.g. ``libvirt-34e321be-...``; empty where it has none.
        enforced: Whether what the profile does not allow is denied.
        user: Its user id.
        group: Its group id.
        cgroup: Its control group.
    """

    process: int
    profile: str
    enforced: bool
    user: int
    group: int
    cgroup: str


def read_confinement(host: Transport, qemu: QemuProcess) -> Confinement:
    """Return what a guest's QEMU is confined to.

    Args:
        host: The way to its host.
        qemu: The guest's QEMU.

    Raises:
        GuestError: The guest is not running.
        UnreadableOutputError: The kernel does not tell it in a known form.
    """
    result = qemu.run(host, _READ, reads_only=True).check(f"Could not look at the QEMU of guest {qemu.name}")
    process, *lines = result.lines
    try:
        profile, _, mode = lines[0].rstrip("\0").partition(" ")
        user, group = (int(number) for number in lines[1].split())
        cgroup = next((line.partition("::")[2] for line in lines[2:] if line.startswith("0::")), "")
    except (IndexError, ValueError) as error:
        raise UnreadableOutputError(result, "The kernel did not tell what the process is confined to") from error
    confined = profile not in ("", "unconfined")
    return Confinement(int(process), profile if confined else "", mode == "(enforce)", user, group, cgroup)


def refusals(host: Transport, qemu: QemuProcess, confinement: Confinement, paths: Sequence[str]) -> dict[str, str]:
    """Return why a process as confined as a guest's QEMU may not open each path; empty for one that it may.

    Args:
        host: The way to the host.
        qemu: The guest's QEMU.
        confinement: What the guest's QEMU is confined to.
        paths: Absolute paths on the host.

    Raises:
        GuestError: The guest is not running.
        UnsupportedError: It is confined by SELinux.
    """
    if _SELINUX.fullmatch(confinement.profile):
        raise UnsupportedError(
            f"Process {confinement.process} on {host.name} is confined by SELinux ({confinement.profile}), as which "
            "nothing can be tried here: have it confined by AppArmor, or not at all (confined=False)."
        )
    who = (confinement.profile, str(confinement.user), str(confinement.group))
    result = qemu.run(host, _PROBE, *who, *paths).check()
    lines = result.lines
    if len(lines) != len(paths):
        raise UnreadableOutputError(result, "Not every path was tried")
    told = {path: line.partition(" ") for path, line in zip(paths, lines, strict=True)}
    return {path: "" if status == "0" else said or f"exit status {status}" for path, (status, _, said) in told.items()}
