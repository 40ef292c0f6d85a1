"""What the lab's image is made of, and the command that makes it.

The key of a recipe is a hash of all that shapes the image, so that a change of any of it makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError

FILES = Path(__file__).parent / "files"
"""What is put into the image, and the scripts that run while it is made."""

FORMAT = 2
"""Raised when the layout of a cached image changes."""

SUITE = "trixie"
"""Debian 13: QEMU 10.0 (7.2 makes the lab host's kernel panic under emulation), libvirt 11.3, ndctl 81."""

PACKAGES = (
    # a system
    *("systemd", "systemd-sysv", "dbus", "login", "udev", "kmod", "iproute2", "apparmor", "openssh-server"),
    "linux-image-cloud-amd64",
    # a compute host
    *("libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86", "qemu-utils"),
    # persistent memory
    *("ndctl", "daxctl", "cxl", "pmdk-tools", "e2fsprogs", "xfsprogs", "util-linux-extra", "acl", "openssl"),
    # for the guest image and for making both: mke2fs reads a tar through libarchive
    *("busybox-static", "qemu-guest-agent", "dropbear-bin", "cpio", "xz-utils", "zstd", "libarchive13t64"),
    # for the kernel's own test bus of NVDIMMs, and gone when that is built
    *("gcc", "make", "linux-headers-cloud-amd64", "linux-source"),
)

_LEFT_OUT = (
    *("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"),
    "/usr/bin/qemu-system-i386",  # libvirt asks it what it can do whenever it starts
)


def recipe_key() -> str:
    """Return the hash of everything that shapes the image but its keys and its mirror."""
    digest = hashlib.sha256(json.dumps([FORMAT, SUITE, PACKAGES, _LEFT_OUT]).encode())
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            mode = path.stat().st_mode & 0o111
            digest.update(f"{path.relative_to(FILES)}\0{mode != 0}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def mmdebstrap_command(target: Path, keys: Path, mirror: str | None) -> list[str]:
    """Return the command that makes the root file system as a tar.

    Args:
        target: The tar to make.
        keys: The directory of this installation's keys.
        mirror: The archive's URI, or None for mmdebstrap's own default of the suite.
    """
    command = [
        "mmdebstrap",
        "--mode=auto",
        "--variant=apt",
        "--components=main",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--include={','.join(PACKAGES)}",
        f"--customize-hook=copy-in {shlex.quote(str(FILES))} {shlex.quote(str(keys))} /tmp",
        '--customize-hook=chroot "$1" sh /tmp/files/customize',
        SUITE,
        str(target),
    ]
    return [*command, mirror] if mirror else command


def find_mirror() -> str | None:
    """Return the URI of a Debian archive: ``$VPMEM_LAB_MIRROR``, else what this machine's apt uses.

    None where apt uses no Debian archive, as on Ubuntu: mmdebstrap then takes its default for the suite.

    Raises:
        InvalidValueError: ``VPMEM_LAB_MIRROR`` is not a URI.
    """
    given = os.environ.get("VPMEM_LAB_MIRROR")
    if given:
        if "://" not in given and not given.startswith("copy:"):
            raise InvalidValueError("VPMEM_LAB_MIRROR", given, "a URI of a Debian archive: scheme://host/path")
        return given
    result = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return debian_archive(result.stdout.splitlines()) if result.returncode == 0 else None


def debian_archive(index_targets: Sequence[str]) -> str | None:
    """Return the first URI of the Debian archive among apt's index targets (origin, label, URI; tab between).

    Security updates and third parties have another label or origin (``apt-get indextargets``, apt's
    acquire-additional-files document).
    """
    for line in index_targets:
        origin, label, uri = line.split("\t", 2)
        if (origin, label) == ("Debian", "Debian") and uri:
            return uri
    return None
