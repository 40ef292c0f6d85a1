"""Report the processes of the lab's cloud, and its files in the cache."""

from __future__ import annotations

from typing import Any

from VpmemLibrary.cloud.compute import ComputeHost
from VpmemLibrary.cloud.lab_cloud import LabCloud
from VpmemLibrary.cloud.services import Service
from VpmemLibrary.cloud.settings import CLOUD_NAME
from VpmemLibrary.errors import VpmemError
from VpmemLibrary.lab.cache import CLOUD
from VpmemLibrary.lab.report import cache_entries
from VpmemLibrary.visible import one_line


def cloud_status(cloud: LabCloud) -> dict[str, Any]:
    """Return the status of the cloud, as data for JSON."""
    cache = [str(path) for path in cache_entries() if CLOUD in path.name]
    if not cloud.exists:
        return {"ok": True, "exists": False, "services": [], "compute": [], "cache": cache}
    container = cloud.container.process
    services = [_service(cloud, service) for service in cloud.services]
    computes = [_compute(compute) for compute in cloud.compute_hosts()]
    return {
        "ok": container is not None
        and all(service["pid"] for service in services)
        and all(compute["tunnel"] and compute["active"] for compute in computes),
        "exists": True,
        "name": CLOUD_NAME,
        "release": cloud.release,
        "clouds_yaml": str(cloud.clouds_yaml),
        "directory": str(cloud.directory),
        "container": container.pid if container else None,
        "services": services,
        "compute": computes,
        "cache": cache,
    }


def status_text(status: dict[str, Any]) -> str:
    """Return the result of `cloud_status` as text for people."""
    cache = [f"cache           {path}" for path in status["cache"]]
    if not status["exists"]:
        return "\n".join(map(one_line, ["there is no cloud", *cache]))
    lines = [f"{'control plane':<16}{_process(status['container'])}  {status['release']}"]
    for service in status["services"]:
        port = f"  port {service['port']}" if service["port"] else ""
        lines.append(f"{service['name']:<16}{_process(service['pid'])}{port}")
    for compute in status["compute"]:
        active = "up" if compute["active"] else f"DOWN {compute['reason'] or '(vpmem cloud up)'}"
        lines.append(f"{compute['name']:<16}nova-compute {active}, tunnel {_process(compute['tunnel'])}")
    lines.append(f"OS_CLIENT_CONFIG_FILE={status['clouds_yaml']} OS_CLOUD={status['name']}")
    return "\n".join(map(one_line, [*lines, *cache]))


def _service(cloud: LabCloud, service: Service) -> dict[str, Any]:
    process = cloud.container.service(service.name)
    log = str(cloud.container.log(service.name))
    return {"name": service.name, "pid": process.pid if process else None, "port": service.port, "log": log}


def _compute(compute: ComputeHost) -> dict[str, Any]:
    tunnel = compute.tunnel
    active, reason = False, ""
    try:
        active = compute.active
    except VpmemError as error:
        reason = str(error)
    return {"name": compute.name, "tunnel": tunnel.pid if tunnel else None, "active": active, "reason": reason}


def _process(pid: int | None) -> str:
    return f"process {pid}" if pid else "DOWN (vpmem cloud up)"
