"""Report the status of the lab, and write the hosts file of its hosts."""

from __future__ import annotations

import configparser
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_section import section_of
from VpmemLibrary.lab.cache import CLOUD, MAKING, faults
from VpmemLibrary.lab.image import (
    GUEST_BRIDGE,
    GUEST_COMMAND_LINE,
    GUEST_INITRD,
    GUEST_KERNEL,
    GUEST_KEY_NAME,
)
from VpmemLibrary.lab.lab import ROUGH_PORT, Lab, LabHost
from VpmemLibrary.lab.paths import cache_directory, disk_usage, state_directory
from VpmemLibrary.lab.ports import LOOPBACK
from VpmemLibrary.lab.shapes import Shape
from VpmemLibrary.sizes import MiB
from VpmemLibrary.visible import one_line

ROUGH_USER = "rough"
"""The user of the rough entry. This user has sudo, and a login shell (tcsh) that prints text when it starts."""

_JUMP_USER = "jump"


def host_entry(host: LabHost, *, confined: bool = False, ssh_config: Path | None = None) -> HostEntry:
    """Return a lab host's section of the hosts file, which describes how to reach and use the lab host.

    Args:
        host: The lab host.
        ssh_config: The SSH configuration of the host's rough entry. Without it the lab host is reached as root.
        confined: Let AppArmor confine all guests. By default an emulated lab host confines only the guests that a test
            asks for, because compiling a guest's profile takes as long as the rest of its start.
    """
    has_test_bus = host.shape is Shape.NVDIMM and not host.qemu.image.test_bus_failure
    entry = HostEntry(
        name=host.name,
        tags=("vpmem",),
        value_set_name=host.name,
        address=host.address,
        port=host.port,
        user=host.user,
        key_file=host.key_file,
        known_hosts=host.known_hosts,
        ssh_config="no",  # the section has all options that are needed to reach the lab host
        may_initialize_labels=True,
        may_reboot=host.shape.keeps_content,
        migration_address=host.private_address,
        power_off=_vpmem_lab("power-cut", "--stay-off", host.name) if host.shape.keeps_content else (),
        power_on=_vpmem_lab("power-on", host.name) if host.shape.keeps_content else (),
        cxl_add=_vpmem_lab("cxl-add", host.name) if host.cxl else (),
        cxl_remove=_vpmem_lab("cxl-remove", host.name) if host.cxl else (),
        test_bus_add=_vpmem_lab("test-bus-add", host.name) if has_test_bus else (),
        test_bus_remove=_vpmem_lab("test-bus-remove", host.name) if has_test_bus else (),
        guest_kernel=GUEST_KERNEL,
        guest_initrd=GUEST_INITRD,
        guest_cmdline=GUEST_COMMAND_LINE,
        guest_key_file=host.key_file,
        guest_known_hosts=host.known_hosts,
        guest_host_key_name=GUEST_KEY_NAME,
        guest_bridge=GUEST_BRIDGE,
        guest_confined=confined or host.qemu.accelerator.name == "kvm",
    )
    if ssh_config is None:
        return entry
    return replace(
        entry,
        address=f"rough-{host.name}",
        port=None,
        user=ROUGH_USER,
        key_file=None,
        known_hosts=None,
        ssh_config=str(ssh_config),
        sudo=True,
    )


def hosts_file(hosts: Sequence[LabHost], *, confined: bool = False, ssh_config: Path | None = None) -> str:
    """Return a hosts file with one section for each lab host; see `host_entry`.

    Raises:
        InvalidValueError: A path has a percent sign, which pabot cannot read.
    """
    parser = configparser.ConfigParser(interpolation=None)
    for host in hosts:
        fields = section_of(host_entry(host, confined=confined, ssh_config=ssh_config))
        for field, value in fields.items():
            if "%" in value:
                raise InvalidValueError(field, value, "a path without %: set VPMEM_CACHE and VPMEM_STATE to such paths")
        parser[host.name] = fields
    text = io.StringIO()
    parser.write(text, space_around_delimiters=False)
    return text.getvalue()


def rough_ssh_config(hosts: Sequence[LabHost]) -> str:
    """Return the SSH configuration for the rough entries. Each is behind a jump host, which is the lab host itself."""
    sections = []
    for host in hosts:
        name, jump = f"rough-{host.name}", f"rough-{host.name}-jump"
        sections.append(f"""\
Host {name}
    HostName {LOOPBACK}
    Port {ROUGH_PORT}
    User {ROUGH_USER}
    ProxyJump {jump}

Host {jump}
    HostName {host.address}
    Port {host.port}
    User {_JUMP_USER}

Host {name} {jump}
    IdentityFile "{host.key_file}"
    IdentitiesOnly yes
    UserKnownHostsFile "{host.known_hosts}"
""")
    return "\n".join(sections)


def lab_status(lab: Lab, *, thorough: bool = False) -> dict[str, Any]:
    """Return everything that the lab runs and keeps on disk, as data for JSON. `thorough` compares checksums."""
    hosts = [_host_status(host) for host in lab.hosts()]
    known = {host["name"] for host in hosts}
    unfinished = sorted(path for path in _entries(lab.directory) if path.name not in known)
    network = lab.network.process
    cache = [_cache_status(path, thorough=thorough) for path in cache_entries() if not _of_cloud(path)]
    return {
        "ok": (
            all(host["alive"] or host["elsewhere"] for host in hosts)
            and (network is not None or all(host["elsewhere"] for host in hosts))
            and not unfinished
            and not any(entry["faults"] for entry in cache)
        ),
        "hosts": hosts,
        "network": network.pid if network else None,
        "unfinished": [str(path) for path in unfinished],
        "state_directory": str(state_directory()),
        "cache_directory": str(cache_directory()),
        "cache": cache,
        "guest": {"kernel": GUEST_KERNEL, "initrd": GUEST_INITRD, "command_line": GUEST_COMMAND_LINE},
    }


def status_text(status: dict[str, Any]) -> str:
    """Return the result of `lab_status` as text for people."""
    lines = []
    for host in status["hosts"]:
        state = "CRASHED (vpmem lab up)"
        if host["alive"]:
            state = f"up {host['seconds']:.0f} s, process {host['pid']}"
        elif host["elsewhere"]:
            state = f"on {host['elsewhere']}, which shares this directory"
        lines.append(
            f"{host['name']}  {host['shape']}  {host['release']}  port {host['port']}  {host['accelerator']}  {state}  "
            f"{_mib(host['bytes'])}"
        )
        lines.append(f"  {host['directory']}  ({host['accelerator_reason']})")
    lines += [f"unfinished: {path}" for path in status["unfinished"]]
    if status["network"]:
        lines.append(f"private network  process {status['network']}")
    elif not all(host["elsewhere"] for host in status["hosts"]):
        lines.append("private network  DOWN (vpmem lab up)")
    if not status["hosts"]:
        lines.append("no lab host")
    for entry in status["cache"]:
        wrong = f"  BROKEN: {entry['faults'][0]}" if entry["faults"] else ""
        lines.append(f"cache  {entry['path']}  {_mib(entry['bytes'])}{wrong}")
    guest = status["guest"]
    lines.append(f"guest image on each host: {guest['kernel']} {guest['initrd']}")
    return "\n".join(map(one_line, lines))


def _vpmem_lab(*arguments: str) -> tuple[str, ...]:
    """Return a `vpmem lab` command line that finds this lab in any environment."""
    environment = [f"VPMEM_STATE={state_directory()}", f"VPMEM_CACHE={cache_directory()}"]
    return ("env", *environment, sys.executable, "-m", "VpmemLibrary", "lab", *arguments)


def _host_status(host: LabHost) -> dict[str, Any]:
    process = host.qemu.process
    return {
        "name": host.name,
        "alive": host.alive,
        "elsewhere": host.elsewhere,
        "pid": process.pid if process else None,
        "seconds": round(process.seconds, 1) if process else None,
        "address": host.address,
        "port": host.port,
        "user": host.user,
        "key_file": str(host.key_file),
        "known_hosts": str(host.known_hosts),
        "shape": host.shape.value,
        "release": host.release,
        "accelerator": host.qemu.accelerator.name,
        "accelerator_reason": host.qemu.accelerator.reason,
        "directory": str(host.directory),
        "bytes": disk_usage(host.directory),
    }


def cache_entries() -> list[Path]:
    """Return the directories in the cache, also those that a process is making."""
    return [path for path in _entries(cache_directory()) if path.is_dir()]


def _of_cloud(path: Path) -> bool:
    return path.name.removeprefix(MAKING).startswith(CLOUD)


def _cache_status(path: Path, *, thorough: bool) -> dict[str, Any]:
    wrong = ["a process is making it, or left it unfinished"] if path.name.startswith(MAKING) else []
    return {"path": str(path), "bytes": disk_usage(path), "faults": wrong or faults(path, thorough=thorough)}


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _mib(size: int) -> str:
    return f"{size / MiB:.0f} MiB on disk"
