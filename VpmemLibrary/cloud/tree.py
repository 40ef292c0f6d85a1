"""The tree: the root file system of the control plane, made of Debian's packages by mmdebstrap."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.cache import cached
from VpmemLibrary.lab.image import run_build
from VpmemLibrary.lab.paths import cache_directory
from VpmemLibrary.lab.progress import Progress
from VpmemLibrary.lab.recipe import Sources, find_sources

PACKAGES = (
    *("python3-keystone", "python3-placement", "python3-glance", "glance-common"),
    *("python3-nova", "nova-common", "python3-neutron", "neutron-common", "neutron-api"),
    *("uwsgi-core", "uwsgi-plugin-python3", "rabbitmq-server", "mariadb-server-core", "mariadb-client-core"),
)

_FORMAT = 1
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
_HOOKS = (
    # Erlang looks up the host of its own node, localhost, and must find the IPv4 address alone.
    """printf '127.0.0.1 localhost\\n' >"$1/etc/hosts\"""",
    # The settings may have a proxy's password. Nothing in the tree uses apt.
    """rm -rf "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*""",
)
_ISOLATED = (
    # mmdebstrap mounts parts of this machine in the tree. No other process sees these mounts, so an unfinished tree can
    # be removed. If this process is killed, the kernel ends mmdebstrap with all its children.
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_BUILD_SECONDS = 3600


def tree_name(release: str) -> str:
    """Return the name of a release's tree in the cache. It contains a hash of everything that determines the tree.

    The archives and the versions of the packages are not in the hash.
    """
    recipe = json.dumps([_FORMAT, release, PACKAGES, _LEFT_OUT, _HOOKS])
    return f"cloud-tree-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def find_or_build_tree(release: str, progress: Progress) -> Path:
    """Return the root directory of a release's tree in the cache. Build the tree if it is missing or broken.

    Raises:
        LabError: mmdebstrap is missing, or it failed. The message has the last lines of its output, and what to do.
    """
    made = cached(
        cache_directory() / tree_name(release), lambda directory: _build(directory, release, progress), progress
    )
    return made / "root"


def mmdebstrap_command(target: Path, release: str, sources: Sources) -> list[str]:
    """Return the command that builds the tree of a release in the directory `target`."""
    return [
        *_ISOLATED,
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--aptopt={setting}" for setting in sources.settings),
        *(['--aptopt=Acquire::Check-Valid-Until "false"'] if sources.expired else []),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--include={','.join(PACKAGES)}",
        *(f"--customize-hook={hook}" for hook in _HOOKS),
        release,
        str(target),
        *sources.lines,
    ]


def _build(directory: Path, release: str, progress: Progress) -> None:
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is not installed here: apt-get install mmdebstrap debian-archive-keyring")
    sources = find_sources(release)
    for note in sources.notes("the cloud"):
        progress.note(note)
    with progress.step(f"installing OpenStack's packages ({release}) for the cloud", 260):
        command = mmdebstrap_command(directory / "root", release, sources)
        run_build(command, "install OpenStack's packages", timeout=_BUILD_SECONDS)
