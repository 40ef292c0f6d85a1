"""libvirt's own daemon as the system daemon of this machine, in a namespace where nothing else sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport

LIBVIRTD = shutil.which("libvirtd", path="/usr/sbin:/usr/bin")

_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

# Its state is in memory. The user that it runs QEMU as comes with a package that would start it as a service. /etc is a
# copy, because a mount on /etc/group alone ends when another test adds a user meanwhile and so replaces the file.
_START = r"""
set -e
for each in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p $each
    mount -t tmpfs none $each
done
cp -a /etc /run/etc
mount --bind /run/etc /etc
grep -q ^libvirt-qemu: /etc/passwd || echo libvirt-qemu:x:64055:64055::/:/bin/false >>/etc/passwd
grep -q ^libvirt-qemu: /etc/group || echo libvirt-qemu:x:64055: >>/etc/group
mkdir /run/libvirt /run/dbus
mkdir /run/actions
cat >/run/actions/org.libvirt.unix.policy <<'POLICY'
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
    "http://www.freedesktop.org/standards/PolicyKit/1.0/policyconfig.dtd">
<policyconfig>
  <action id="org.libvirt.unix.manage">
    <description>Manage</description>
    <message>Manage</message>
    <defaults>
      <allow_any>auth_admin_keep</allow_any>
      <allow_inactive>auth_admin_keep</allow_inactive>
      <allow_active>auth_admin_keep</allow_active>
    </defaults>
  </action>
</policyconfig>
POLICY
[ "$2" = False ] || mount --bind /run/actions /usr/share/polkit-1/actions
[ "$2" = False ] || dbus-daemon --system --fork
[ "$2" = False ] || /usr/lib/polkit-1/polkitd --no-debug >/dev/null 2>&1 &
[ "$3" = True ] || exec libvirtd -f "$1"
exec sleep 600
"""


_PING_POLKIT = (
    *("dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.PolicyKit1"),
    *("/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.DBus.Peer.Ping"),
)


class Libvirtd:
    """A libvirtd that is root's, and has its sockets in /run/libvirt as others see them who enter its namespace.

    Args:
        directory: Where its configuration is.
        settings: What libvirtd.conf has beside what is set here, e.g. ``auth_unix_rw``.
        polkit: Whether polkit is there to ask.
        stopped: Whether it does not run.
    """

    def __init__(
        self, directory: Path, *, settings: dict[str, str] | None = None, polkit: bool = False, stopped: bool = False
    ) -> None:
        whole = {
            "unix_sock_group": "root",
            "unix_sock_rw_perms": "0777",
            "auth_unix_ro": "none",
            "auth_unix_rw": "none",
            **(settings or {}),
        }
        (directory / "libvirtd.conf").write_text("".join(f'{name} = "{value}"\n' for name, value in whole.items()))
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*_UNSHARE, "sh", "-c", _START, "sh", str(directory / "libvirtd.conf"), *map(str, (polkit, stopped))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait(["test", "-e", "/run/dbus" if stopped else "/run/libvirt/libvirt-sock"], directory / "log")
            if polkit:
                self._wait(_PING_POLKIT, directory / "log")
        except BaseException:
            self.close()
            raise

    def _wait(self, ready: Sequence[str], log: Path) -> None:
        deadline = time.monotonic() + 60
        while self.transport().run(ready).exit_status != 0:
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        children = psutil.Process(self._process.pid).children()
        return children[0].pid if children else 0

    def transport(self, *prefix: str, user: str = "", path: str = "") -> PrefixedTransport:
        """Return the way into its namespace: as root, or as another user."""
        enter: Sequence[str] = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--", *prefix]
        if user:
            enter = [*enter, "setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"]
        environment = ["env", "-u", "XDG_RUNTIME_DIR", f"PATH={path or os.environ['PATH']}", "HOME=/nonexistent"]
        return PrefixedTransport(LocalTransport(name="rack1"), [*enter, *environment])

    def close(self) -> None:
        """End it and all in its namespace."""
        self._process.kill()
        self._process.wait()
