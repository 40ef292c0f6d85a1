"""The lab's image. It is built once from the recipe, cached, checked, and rebuilt when it is broken.

The image contains the root disk, kernel and initramfs of the lab host, the guest image (inside the root disk), and the
keys of this installation. It also contains the tools that the lab runs on this machine: QEMU, qemu-img and mke2fs.
"""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.cache import cached
from VpmemLibrary.lab.paths import cache_directory
from VpmemLibrary.lab.progress import SILENT, Progress
from VpmemLibrary.lab.recipe import DEFAULT_RELEASE, find_sources, mmdebstrap_command, recipe_key
from VpmemLibrary.lab.tools import ToolError, run_tool

GUEST_KERNEL = "/var/lib/libvirt/boot/vpmem-guest.kernel"
"""The guest's kernel on every lab host, where libvirt's QEMU may read it."""

GUEST_INITRD = "/var/lib/libvirt/boot/vpmem-guest.initrd"
"""The guest's initramfs on every lab host."""

GUEST_COMMAND_LINE = (
    "console=ttyS0 quiet mitigations=off audit=0 nokaslr nowatchdog tsc=reliable no_timer_check cryptomgr.notests "
    "init_on_alloc=0 swiotlb=noforce lsm= rootfstype=ramfs "
    "initcall_blacklist=jent_mod_init,crypto_kdf108_init,init_encrypted"
)
"""The guest's kernel command line.

As on a lab host, it switches off features that are slow under emulation and useless here. The guest has no security
modules, and its root is in ramfs, which is filled faster than tmpfs. It does not start the parts of the kernel's
cryptography that test themselves or look for missing modules.
"""

GUEST_BRIDGE = "vpmem0"
"""The bridge on every lab host that guests with a network are connected to."""

GUEST_KEY_NAME = "vpmem-guest"
"""The name of the guests' SSH key in a lab host's known_hosts. All guests have the same key."""

_TOOLS = (
    "./boot",
    "./usr/bin/qemu-img",
    "./usr/bin/qemu-system-x86_64",
    "./usr/lib/x86_64-linux-gnu",
    "./usr/lib64",
    "./usr/sbin/mke2fs",
    "./usr/share/qemu",
    "./usr/share/seabios",
)
_ROOT_DISK_SIZE = "6G"
_ADVICE = {
    r"No space left on device|Disk quota exceeded": "Free 4 GiB in the cache (VPMEM_CACHE) and in TMPDIR: `df -h`.",
    r"subuid|subgid|newuidmap|chroot mode|uid_map|unshare": (
        "Without root, the build needs user namespaces, the package uidmap, and a range of ids: sudo usermod "
        "--add-subuids 100000-165535 --add-subgids 100000-165535 $USER. In a container without user namespaces, run "
        "as root. Where AppArmor restricts them: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    ),
    r"does not have a Release file": (
        "No archive that apt uses on this machine has this release. Name an archive that has it, "
        "VPMEM_LAB_MIRROR=URI, or use another release: --release"
    ),
    r"Release file .* is expired": (
        "The archive is no longer updated, or this machine's clock is ahead: see `date`. Name an archive that is "
        "updated: VPMEM_LAB_MIRROR=URI"
    ),
    r"Unable to locate package|is not installable|has no installation candidate": (
        "The archive has only a part of this release, for instance a kernel without its headers while the archive is "
        "being updated. Try again later, or name another archive: VPMEM_LAB_MIRROR=URI"
    ),
    r"NO_PUBKEY|not signed|is not valid yet|EXPKEYSIG|[Ee]xpired(?! \(invalid since)": (
        "Check this machine's clock and that debian-archive-keyring is that of Debian 13 or newer, or name another "
        "archive: VPMEM_LAB_MIRROR=URI"
    ),
    r"Could not (resolve|connect)|Failed to fetch|[Cc]onnection (failed|timed out)": (
        "Name an archive that this machine reaches by VPMEM_LAB_MIRROR=URI, or a proxy by http_proxy=URI or apt.conf."
    ),
    r"did not end within": "A nearer archive is faster: VPMEM_LAB_MIRROR=URI",
}
"""The advice for a failed build, by a pattern in its message or output."""
_BUILD_SECONDS = 3600


class Image(Struct, frozen=True):
    """A finished image in the cache.

    Args:
        directory: The image's directory.
        tools_directory: The directory of the image whose tools run on this machine. By default it is the image's own.
    """

    directory: Path
    tools_directory: Path | None = None

    @property
    def key(self) -> str:
        """The name that identifies this image."""
        return self.directory.name

    @property
    def root_disk(self) -> Path:
        """The lab host's root file system: ext4, sparse, never written to."""
        return self.directory / "root.ext4"

    @property
    def kernel(self) -> Path:
        """The lab host's kernel, unpacked."""
        return self.directory / "tools/boot/vmlinux"

    @property
    def initrd(self) -> Path:
        """The lab host's initramfs."""
        return self.directory / "tools/boot/lab-host.initrd"

    @property
    def test_bus_failure(self) -> str:
        """Why the image has no test bus: the last lines of its build. The text is empty if the image has a test bus."""
        return self._failure("test-bus")

    def notes(self) -> list[str]:
        """Return what lab hosts of this image lack, because a module could not be built for their kernel."""
        lacks = {
            "test-bus": "lab hosts of this image have no test bus",
            "svm-exit": "guests on emulated lab hosts of this image may stop (KVM internal error, suberror 3)",
        }
        return [
            f"{what}, because the module could not be built for their kernel:\n{failure}"
            for name, what in lacks.items()
            if (failure := self._failure(name))
        ]

    def _failure(self, name: str) -> str:
        """Return the last lines of a module's build that failed, or an empty text."""
        try:
            return (self.directory / f"tools/boot/{name}.log").read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            return ""

    @property
    def key_file(self) -> Path:
        """The private key for the login as root."""
        return self.directory / "keys/id_ed25519"

    @property
    def host_public_key(self) -> str:
        """The lab hosts' public key in the form of known_hosts: type and base64."""
        return self._public_key("host_ed25519")

    @property
    def guest_public_key(self) -> str:
        """The guests' public key, like `host_public_key`.

        It differs from the hosts' key, so that no guest can pose as its host.
        """
        return self._public_key("guest_ed25519")

    @property
    def firmware(self) -> tuple[Path, ...]:
        """The directories of QEMU's firmware files."""
        share = self.tools / "usr/share"
        return (share / "qemu", share / "seabios")

    def _public_key(self, name: str) -> str:
        return " ".join((self.directory / f"keys/{name}.pub").read_text().split()[:2])

    def tool(self, name: str) -> list[str]:
        """Return the first part of a command line that runs one of the image's programs on this machine.

        The program runs through the image's own loader and libraries, so it needs neither root nor a chroot.
        """
        tools = self.tools
        for directory in ("usr/bin", "usr/sbin"):
            if (tools / directory / name).exists():
                loader, libraries = tools / "usr/lib64/ld-linux-x86-64.so.2", tools / "usr/lib/x86_64-linux-gnu"
                return [str(loader), "--library-path", str(libraries), str(tools / directory / name)]
        raise LabError(f"The lab's image in {tools.parent} has no {name}.")

    @property
    def tools(self) -> Path:
        """The directory with the tools that run on this machine."""
        return (self.tools_directory or self.directory) / "tools"


def image_name(release: str = DEFAULT_RELEASE) -> str:
    """Return the name of this version's image of a release in the cache."""
    return f"image-{recipe_key(release)}"


def find_or_build_image(progress: Progress = SILENT, release: str = DEFAULT_RELEASE) -> Image:
    """Return this version's image of a release from the cache. Build the image if it is missing or broken.

    The tools that run on this machine are always those of the default release, because QEMU 7.2 of Debian 12 cannot
    emulate a lab host.

    Raises:
        LabError: A tool is missing or fails.
    """
    tools = None if release == DEFAULT_RELEASE else find_or_build_image(progress).directory
    entry = cached(
        cache_directory() / image_name(release),
        lambda directory: _build(Image(directory, tools), progress, release),
        progress,
    )
    return Image(entry, tools)


def _build(image: Image, progress: Progress, release: str) -> None:
    if (machine := platform.machine()) != "x86_64":
        raise LabError(f"The lab needs an x86-64 machine, and this one is {machine}. Use hosts of your own: HOSTS=FILE")
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is not installed here: apt-get install mmdebstrap debian-archive-keyring uidmap")
    keys = image.directory / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host_ed25519", "guest_ed25519", "id_ed25519"):
        _write_key(keys / name)
    sources = find_sources(release)
    for note in sources.notes("the lab host"):
        progress.note(note)
    with tempfile.TemporaryDirectory(dir=image.directory, prefix="tmp-") as scratch:
        archive = Path(scratch) / "root.tar"
        with progress.step(f"installing Debian ({release}) for the lab host", 110):
            # Without Debian's own initramfs, because no lab host boots from it, and making it takes long.
            run_build(mmdebstrap_command(archive, keys, sources, release), "install Debian", INITRD="No")
        with progress.step("making its disk", 6):
            tools = image.directory / "tools"
            tools.mkdir()
            run_build(
                ["tar", "-C", str(tools), "-xf", str(archive), "--no-same-owner", *_TOOLS], "unpack the lab's tools"
            )
            run_build(
                [
                    *image.tool("mke2fs"),
                    # With a journal, because lab hosts lose their power on purpose.
                    *("-q", "-t", "ext4", "-J", "size=32", "-E", "lazy_itable_init=1,nodiscard"),
                    *("-d", str(archive), str(image.root_disk), _ROOT_DISK_SIZE),
                ],
                "make the lab host's disk",
            )
    for note in image.notes():
        progress.note(note)


def _write_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b" vpmem-lab\n")


def run_build(command: Sequence[str], purpose: str, *, timeout: float = _BUILD_SECONDS, **environment: str) -> None:
    """Run a program that builds an image. `purpose` is for messages, e.g. ``install Debian``.

    Raises:
        ToolError: The program failed, or did not end in time. The message says what to do, if the cause is known.
    """
    try:
        run_tool(command, purpose, timeout=timeout, environment=environment)
    except ToolError as error:
        for pattern, advice in _ADVICE.items():
            if re.search(pattern, f"{error}\n{error.output}"):
                error.add(advice)
        raise
