"""What keeps a guest's QEMU on its host to its own devices: its user, its security label and its control group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from VpmemLibrary.errors import UnreadableOutputError, UnsupportedError
from VpmemLibrary.host.transport import Transport, query

_READ = r"""
cd "/proc/$1" || exit 1
printf '%s\n' "$(cat attr/current)" "$(awk '$1 == "Uid:" || $1 == "Gid:" { print $3 }' status | tr '\n' ' ')"
cat cgroup
"""

# A context is user:role:type:range (selinux(8), "SECURITY CONTEXT").
_SELINUX = re.compile(r"[^:]+:[^:]+:[^:]+:s\d.*")

# Each path is opened, and nothing is read, by a process of QEMU's mount namespace (libvirt gives it a /dev of its own),
# control group, user, groups and, where it has one, AppArmor profile. libvirt's profiles allow dd: QEMU saves through
# it (apparmor.d/abstractions/libvirt-qemu).
_PROBE = r"""
process=$1 profile=$2 uid=$3 gid=$4
shift 4
groups=$(awk '$1 == "Groups:" { $1 = ""; gsub(/^ +/, ""); gsub(/ /, ","); print }' "/proc/$process/status")
group=$(awk -F: '$1 == 0 { print $3 }' "/proc/$process/cgroup")
if [ -w "/sys/fs/cgroup$group/cgroup.procs" ]; then echo $$ >"/sys/fs/cgroup$group/cgroup.procs"; fi
groups=${groups:+--groups=$groups}
for path; do
    said=$(nsenter -t "$process" -m setpriv --reuid "$uid" --regid "$gid" "${groups:---clear-groups}" \
        ${profile:+aa-exec -p "$profile" --} dd if="$path" of=/dev/null count=0 2>&1)
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


def read_confinement(host: Transport, process: int) -> Confinement:
    """Return what a process is confined to.

    Args:
        host: The way to its host.
        process: Its id.

    Raises:
        CommandError: There is no such process.
        UnreadableOutputError: The kernel does not tell it in a known form.
    """
    result = host.run(query(_READ, str(process))).check(f"Could not look at process {process}")
    lines = result.lines
    try:
        profile, _, mode = lines[0].rstrip("\0").partition(" ")
        user, group = (int(number) for number in lines[1].split())
        cgroup = next((line.partition("::")[2] for line in lines[2:] if line.startswith("0::")), "")
    except (IndexError, ValueError) as error:
        raise UnreadableOutputError(result, "The kernel did not tell what the process is confined to") from error
    confined = profile not in ("", "unconfined")
    return Confinement(process, profile if confined else "", mode == "(enforce)", user, group, cgroup)


def refusals(host: Transport, confinement: Confinement, paths: Sequence[str]) -> dict[str, str]:
    """Return why a process as confined as a guest's QEMU may not open each path; empty for one that it may.

    Args:
        host: The way to the host.
        confinement: What the guest's QEMU is confined to.
        paths: Absolute paths on the host.

    Raises:
        UnsupportedError: It is confined by SELinux.
    """
    if _SELINUX.fullmatch(confinement.profile):
        raise UnsupportedError(
            f"Process {confinement.process} on {host.name} is confined by SELinux ({confinement.profile}), as which "
            "nothing can be tried here: have it confined by AppArmor, or not at all (confined=False)."
        )
    who = (str(confinement.process), confinement.profile, str(confinement.user), str(confinement.group))
    result = host.run(["sh", "-c", _PROBE, "sh", *who, *paths]).check()
    lines = result.lines
    if len(lines) != len(paths):
        raise UnreadableOutputError(result, "Not every path was tried")
    told = {path: line.partition(" ") for path, line in zip(paths, lines, strict=True)}
    return {path: "" if status == "0" else said or f"exit status {status}" for path, (status, _, said) in told.items()}
