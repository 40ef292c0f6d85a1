"""The contents of the lab's image, and the command that builds it.

The key of a recipe is a hash of everything that determines the image. So any change makes a new image.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError

FILES = Path(__file__).parent / "files"
"""The files that are copied into the image, and the scripts that run while it is built."""

FORMAT = 3
"""The version of the layout of a cached image. Increase it when the layout changes."""

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
    # for the rough entry: a user with sudo, and a login shell that is not a Bourne shell
    *("sudo", "tcsh"),
    # for building the guest image and the root disk: mke2fs reads a tar through libarchive
    *("busybox-static", "qemu-guest-agent", "dropbear-bin", "cpio", "xz-utils", "zstd", "libarchive13t64"),
    # for building the kernel's test bus of NVDIMMs; removed after the build
    *("gcc", "make", "linux-headers-cloud-amd64", "linux-source"),
)

_LEFT_OUT = (
    *("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"),
    "/usr/bin/qemu-system-i386",  # libvirt asks it for its features at each start
)

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_APT_HELPER = "/usr/lib/apt/apt-helper"
_HAS_SUITE_SECONDS = 60


def recipe_key() -> str:
    """Return the hash of everything that determines the image, except its keys and its archives."""
    digest = hashlib.sha256(json.dumps([FORMAT, SUITE, PACKAGES, _LEFT_OUT]).encode())
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            mode = path.stat().st_mode & 0o111
            digest.update(f"{path.relative_to(FILES)}\0{mode != 0}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of the image's packages.

    Args:
        lines: Lines as in apt's sources.list. Without lines, mmdebstrap uses its default for the suite, with all
            updates.
        without: The update suites that no archive has.
    """

    lines: tuple[str, ...]
    without: tuple[str, ...] = ()


def mmdebstrap_command(target: Path, keys: Path, sources: Sources) -> list[str]:
    """Return the command that builds the root file system as a tar.

    A user without privileges gets a user namespace for the build. If the user is root, the scripts of Debian's packages
    run as root in each of mmdebstrap's modes.

    Args:
        target: The tar to write.
        keys: The directory of this installation's keys.
        sources: The sources of the packages.
    """
    return [
        "mmdebstrap",
        "--mode=auto",
        "--variant=apt",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--include={','.join(PACKAGES)}",
        f"--customize-hook=copy-in {shlex.quote(str(FILES))} {shlex.quote(str(keys))} /tmp",
        '--customize-hook=chroot "$1" sh /tmp/files/customize',
        SUITE,
        str(target),
        *sources.lines,
    ]


def find_sources() -> Sources:
    """Return the archives from which the image is built, with the suite's updates and security updates.

    The archive is ``$VPMEM_LAB_MIRROR``, or else the Debian archive that this machine's apt uses. Security updates come
    from the security archive that its apt uses. This machine may run a release other than the image's, so each archive
    is asked whether it has the suite. If the machine's apt uses no Debian archive (for instance on Ubuntu), mmdebstrap
    uses its default.

    Raises:
        InvalidValueError: ``VPMEM_LAB_MIRROR`` is not a URI.
    """
    targets = _index_targets()
    given = _given_mirror()
    archive = given or debian_archive(targets, "Debian")
    if archive is None:
        return Sources(())
    lines, without = [_line(archive, SUITE, given)], []
    security = debian_archive(targets, "Debian-Security")
    for suite, place in ((f"{SUITE}-updates", archive), (f"{SUITE}-security", security)):
        if place is not None and _has_suite(place, suite):
            lines.append(_line(place, suite, given))
        else:
            without.append(suite)
    return Sources(tuple(lines), tuple(without))


def debian_archive(index_targets: Sequence[str], label: str) -> str | None:
    """Return the first URI of a Debian archive in apt's index targets (origin, label, URI; separated by tabs).

    Args:
        index_targets: The lines (``apt-get indextargets``, apt's acquire-additional-files document).
        label: ``Debian`` or ``Debian-Security``. Archives of third parties have another label or origin.
    """
    for line in index_targets:
        found = line.split("\t", 2)
        if found[:2] == ["Debian", label] and len(found) == 3 and found[2]:
            return found[2]
    return None


def _given_mirror() -> str:
    given = os.environ.get("VPMEM_LAB_MIRROR", "")
    if given and "://" not in given and not given.startswith("copy:"):
        raise InvalidValueError("VPMEM_LAB_MIRROR", given, "a URI of a Debian archive: scheme://host/path")
    return given


def _index_targets() -> list[str]:
    result = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return result.stdout.splitlines() if result.returncode == 0 else []


def _line(archive: str, suite: str, given: str) -> str:
    # Only Debian's keys sign Debian's archive. A mirror that the user names may be signed by the user's own key, which
    # this machine's apt trusts.
    signed_by = "" if archive == given else f"[signed-by={_KEYRING}] "
    return f"deb {signed_by}{archive} {suite} main"


def _has_suite(archive: str, suite: str) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        result = subprocess.run(
            [_APT_HELPER, "download-file", f"{archive.rstrip('/')}/dists/{suite}/InRelease", f"{scratch}/InRelease"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_HAS_SUITE_SECONDS,
        )
    return result.returncode == 0
