"""The contents of the lab's image, and the command that builds it.

The key of a recipe is a hash of everything that determines the image. So any change makes a new image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError

FILES = Path(__file__).parent / "files"
"""The files that are copied into the image, and the scripts that run while it is built."""

FORMAT = 3
"""The version of the layout of a cached image. Increase it when the layout changes."""

DEFAULT_RELEASE = "trixie"
"""Debian 13: QEMU 10.0 (7.2 makes the lab host's kernel panic under emulation), libvirt 11.3, ndctl 81."""

COMPUTE_RELEASES = {release: f"{release}-nova" for release in (DEFAULT_RELEASE, "sid")}
"""The releases of the lab's cloud, each with the release of its compute hosts: with the packages of nova-compute."""

RELEASES = ("bookworm", DEFAULT_RELEASE, "forky", *COMPUTE_RELEASES.values())
"""The releases of Debian that a lab host can have."""

_PACKAGES = (
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
    "keyutils",  # for the passphrases of DIMMs
    # for building the kernel's test bus of NVDIMMs; removed after the build
    *("gcc", "make", "linux-headers-cloud-amd64", "linux-source"),
)

_INSTEAD: dict[str, dict[str, tuple[str, ...]]] = {
    "bookworm": {
        "cxl": (),  # the package ndctl contains this program
        "libarchive13t64": ("libarchive13",),
        "zstd": ("zstd", "lz4"),  # lz4 compresses the kernel
    },
    "forky": {"login": ("login", "passwd")},
    "sid": {"login": ("login", "passwd")},
}
"""The packages of a release that replace a package of the default release."""

_COMPUTE_PACKAGES = ("python3-nova", "python3-libvirt", "nova-common")

_LEFT_OUT = (
    *("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"),
    "/usr/bin/qemu-system-i386",  # libvirt would query the features of this program at each start
)

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_APT_HELPER = "/usr/lib/apt/apt-helper"
_RELEASE_FILE_SECONDS = 60
_ACCESS = re.compile(r"Acquire::((https?|ftp)::|(Check-Valid-Until|Check-Date|ForceIPv[46]|Retries) )", re.IGNORECASE)


def packages(release: str) -> tuple[str, ...]:
    """Return the packages that a lab host of a release has."""
    instead = _INSTEAD.get(_suite(release), {})
    found = tuple(each for package in _PACKAGES for each in instead.get(package, (package,)))
    return (*found, *_COMPUTE_PACKAGES) if release in COMPUTE_RELEASES.values() else found


def recipe_key(release: str = DEFAULT_RELEASE) -> str:
    """Return the hash of everything that determines the image of a release, except its keys and its archives."""
    digest = hashlib.sha256(json.dumps([FORMAT, release, packages(release), _LEFT_OUT]).encode())
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            mode = path.stat().st_mode & 0o111
            digest.update(f"{path.relative_to(FILES)}\0{mode != 0}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Sources(Struct, frozen=True):
    """The sources of the image's packages.

    Args:
        lines: Lines as in apt's sources.list. Without lines, mmdebstrap uses its default for the suite, with all
            updates.
        without: The update suites that no archive has.
        expired: The suites whose Release file is past its date. The image is built from them anyway. The suites of the
            default release are never listed here, because apt checks their date.
        settings: Settings of this machine's apt for reaching an archive, e.g. a proxy.
    """

    lines: tuple[str, ...]
    without: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def notes(self, built: str) -> list[str]:
        """Return what a user should know of the archives. `built` is what is built, e.g. ``the lab host``."""
        return [
            *(f"{built} is built without {s}: no archive that apt uses on this machine has it" for s in self.without),
            *(f"the archive of {s} was last updated long ago: its Release file is past its date" for s in self.expired),
        ]


def mmdebstrap_command(target: Path, keys: Path, sources: Sources, release: str = DEFAULT_RELEASE) -> list[str]:
    """Return the command that builds the root file system of a release as the tar `target`.

    The root file system has the keys of this installation.

    A user without privileges gets a user namespace for the build. If the user is root, the scripts of Debian's packages
    run as root in each of mmdebstrap's modes.
    """
    return [
        "mmdebstrap",
        "--mode=auto",
        "--variant=apt",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--aptopt={setting}" for setting in sources.settings),
        *(['--aptopt=Acquire::Check-Valid-Until "false"'] if sources.expired else []),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--include={','.join(packages(release))}",
        f"--customize-hook=copy-in {shlex.quote(str(FILES))} {shlex.quote(str(keys))} /tmp",
        '--customize-hook=chroot "$1" sh /tmp/files/customize',
        # The settings may have a proxy's password. Nothing on a lab host uses apt.
        *(['--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"'] if sources.settings else []),
        _suite(release),
        str(target),
        *sources.lines,
    ]


def find_sources(release: str = DEFAULT_RELEASE) -> Sources:
    """Return the archives from which the image of a release is built, with the release's updates and security updates.

    The archive is ``$VPMEM_LAB_MIRROR``, or else the Debian archive that this machine's apt uses. Security updates come
    from the security archive that its apt uses. This machine may run a release other than the image's, so each archive
    is asked whether it has the suite. If the machine's apt uses no Debian archive (for instance on Ubuntu), mmdebstrap
    uses its default.

    mmdebstrap reads no settings of this machine's apt, so the settings for reaching an archive are passed on.

    Raises:
        InvalidValueError: ``VPMEM_LAB_MIRROR`` is not a URI.
    """
    release = _suite(release)
    targets = _index_targets()
    given = _given_mirror()
    archive = given or _first_mirror(debian_archive(targets, "Debian"))
    settings = _access_settings()
    if archive is None:
        return Sources((), settings=settings)
    lines, without = [_line(archive, release, given)], []
    described = {} if release == DEFAULT_RELEASE else {release: _release_file(archive, release)}
    security = _first_mirror(debian_archive(targets, "Debian-Security"))
    for suite, place in ((f"{release}-updates", archive), (f"{release}-security", security)):
        found = None if place is None else _release_file(place, suite)
        if place is not None and found is not None:
            lines.append(_line(place, suite, given))
            described[suite] = found
        else:
            without.append(suite)
    expired = [] if release == DEFAULT_RELEASE else [suite for suite, text in described.items() if _is_expired(text)]
    return Sources(tuple(lines), tuple(without), tuple(expired), settings)


def _suite(release: str) -> str:
    """Return the name of the release in an archive."""
    return release.removesuffix("-nova")


def debian_archive(index_targets: Sequence[str], label: str) -> str | None:
    """Return the first URI of a Debian archive in apt's index targets (origin, label, URI; separated by tabs).

    Args:
        index_targets: The lines (``apt-get indextargets``, apt's acquire-additional-files document).
        label: ``Debian`` or ``Debian-Security``. Archives of third parties have another label or origin.
    """
    for line in index_targets:
        found = line.split("\t", 2)
        # A machine that was installed from a disc may still name the disc, which has no other release.
        if found[:2] == ["Debian", label] and len(found) == 3 and found[2] and not found[2].startswith("cdrom:"):
            return found[2]
    return None


def _first_mirror(archive: str | None) -> str | None:
    """Return the first archive of a list of mirrors (apt-transport-mirror(1)), which Debian's cloud images use.

    apt-helper reads no such lists. Any other archive is returned unchanged.
    """
    if archive is None or not archive.startswith("mirror+file:"):
        return archive
    path = Path("/" + archive.removeprefix("mirror+file:").strip("/"))
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return archive
    return next((line.split()[0] for line in lines if line.split() and not line.lstrip().startswith("#")), archive)


def _given_mirror() -> str:
    given = os.environ.get("VPMEM_LAB_MIRROR", "")
    if given and "://" not in given and not given.startswith("copy:"):
        raise InvalidValueError("VPMEM_LAB_MIRROR", given, "a URI of a Debian archive: scheme://host/path")
    return given


def _index_targets() -> list[str]:
    return _lines(["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"])


def _access_settings() -> tuple[str, ...]:
    """Return the settings of this machine's apt for reaching an archive, as lines of an apt.conf."""
    found = _lines(["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire"])
    return tuple(line for line in found if _ACCESS.match(line))


def _lines(command: Sequence[str]) -> list[str]:
    """Return the lines that one of apt's programs prints. Return no line if it fails, or if there is no apt."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return result.stdout.splitlines() if result.returncode == 0 else []


def _line(archive: str, suite: str, given: str) -> str:
    # Only Debian's keys sign Debian's archive. A mirror that the user names may be signed by the user's own key, which
    # this machine's apt trusts.
    signed_by = "" if archive == given else f"[signed-by={_KEYRING}] "
    return f"deb {signed_by}{archive} {suite} main"


def _release_file(archive: str, suite: str) -> str | None:
    """Return the Release file of a suite, which describes it. Return None if the archive does not have the suite."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            result = subprocess.run(
                [
                    _APT_HELPER,
                    "download-file",
                    f"{archive.rstrip('/')}/dists/{suite}/InRelease",
                    f"{scratch}/InRelease",
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_RELEASE_FILE_SECONDS,
            )
            return Path(scratch, "InRelease").read_text("utf-8", "replace") if result.returncode == 0 else None
        except (OSError, subprocess.TimeoutExpired):
            return None


def _is_expired(release_file: str | None) -> bool:
    """Return whether a Release file is past its date. A Release file without a valid date does not expire."""
    found = re.search(r"^Valid-Until: (.+)$", release_file or "", re.MULTILINE)
    try:
        return found is not None and parsedate_to_datetime(found[1]) < datetime.now(UTC)
    except (ValueError, TypeError):  # TypeError: the date has no time zone
        return False
