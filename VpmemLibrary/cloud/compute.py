"""A compute host of the cloud: nova-compute with the libvirt driver on a lab host, and the tunnel to its services."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from VpmemLibrary.cloud.boot_image import BootImages
from VpmemLibrary.cloud.container import last_lines
from VpmemLibrary.cloud.http import Api, HttpError
from VpmemLibrary.cloud.settings import Settings, preload
from VpmemLibrary.errors import CommandError, LabError, UnreachableError
from VpmemLibrary.lab.image import GUEST_INITRD, GUEST_KERNEL
from VpmemLibrary.lab.lab import PRIVATE_ADDRESSES, LabHost
from VpmemLibrary.lab.paths import private_directory
from VpmemLibrary.lab.ports import LOOPBACK
from VpmemLibrary.lab.process import Process, find_process, kill_process, start_process
from VpmemLibrary.polling import poll
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import Transport

PMEM_NAMESPACES = "4GB:ns_0,SMALL:ns_1|ns_2"
"""The setting of the compute hosts, with the labels and namespaces of Nova's own functional test."""

NAMESPACES = {"ns_0": Size(64 * MiB), "ns_1": Size(32 * MiB), "ns_2": Size(32 * MiB)}
"""The namespaces of a compute host, with the size that each occupies in region0."""

UNIT = "nova-compute"
"""The name of the systemd unit of nova-compute on a lab host."""

LOG = "/var/log/nova/nova-compute.log"
"""The log of nova-compute on a lab host."""

READY_SECONDS = 600.0
"""Far more seconds than nova-compute needs under emulation until placement has its inventory."""

_OUTPUT = "/var/log/nova/output.log"
_TUNNEL_SECONDS = 60.0
_STEP_SECONDS = 300.0
_POLL = 1.0
_PID_FILE = "/run/nova-compute.pid"
_UNIT_FILE = f"""\
[Unit]
Requires=nova-preload.service
After=nova-preload.service

[Service]
Type=forking
PIDFile={_PID_FILE}
ExecStart={preload("start")} {_PID_FILE}
TimeoutStartSec=300
KillMode=mixed
StandardOutput=append:{_OUTPUT}
StandardError=append:{_OUTPUT}
"""
# Under emulation, AppArmor's profiles add six seconds to the start of a server. libvirt reads this when it starts.
_UNCONFINED = (
    *("sh", "-ec"),
    "echo 'security_driver = \"none\"' >>/etc/libvirt/qemu.conf; systemctl try-restart libvirtd",
)
_IDS = uuid.UUID("0b0c5e8e-2c38-4f0a-9a55-7a5b7b0f6c1e")
_SERVICES = ("broker", "keystone", "placement", "glance", "neutron")


class ComputeHost:
    """A lab host as a compute host of the cloud.

    Args:
        host: The lab host. Its image has the packages of nova-compute.
        directory: The directory of the tunnel's process, on this machine.
        settings: The cloud's settings.
    """

    def __init__(self, host: LabHost, directory: Path, settings: Settings) -> None:
        self._host = host
        self._directory = directory
        self._settings = settings

    @property
    def name(self) -> str:
        """The name of the lab host, which is its name in Nova as well."""
        return self._host.name

    @property
    def tunnel(self) -> Process | None:
        """The process of the tunnel, if it runs."""
        return find_process(self._directory)

    @property
    def active(self) -> bool:
        """Whether nova-compute runs.

        Raises:
            UnreachableError: The lab host does not answer.
        """
        with self._host.transport() as transport:
            return _active(transport)

    def log(self, lines: int) -> str:
        """Return the last lines of nova-compute's log and of its unit.

        Raises:
            UnreachableError: The lab host does not answer.
        """
        with self._host.transport() as transport:
            return _log(transport, lines)

    def start(self, images: BootImages, *, confined: bool = False) -> bool:
        """Connect the lab host to the services, and start nova-compute if it does not run. Return whether it started.

        A lab host that gets nova-compute for the first time also gets its namespaces and its settings.

        Args:
            images: The images that servers boot.
            confined: Let AppArmor confine servers under emulation as well. With KVM it always does.

        Raises:
            LabError: The tunnel does not work.
            CommandError: A step on the lab host failed.
        """
        self._connect()
        with self._host.transport() as transport:
            if _active(transport):
                return False
            if transport.run(["test", "-e", "/var/lib/nova/compute_id"]).exit_status != 0:
                self._configure(transport, images)
                if not confined and self._host.qemu.accelerator.name != "kvm":
                    transport.run(_UNCONFINED, timeout=_STEP_SECONDS).check()
            command = ["systemctl", "start", UNIT]
            transport.run(command, timeout=_STEP_SECONDS).check("nova-compute could not be started")
        return True

    def wait(self, api: Api, timeout: float = READY_SECONDS) -> None:
        """Wait until Nova knows this compute host, and placement has its persistent memory. Give it a zone of its own.

        Raises:
            LabError: nova-compute ended, or was not ready in time. The message has the last lines of its log.
        """
        with self._host.transport() as transport:

            def ready() -> bool:
                if not _active(transport):
                    raise LabError(f"nova-compute ended on {self.name}. The end of its log:\n{_log(transport, 20)}")
                # Not the inventory of a new host: a test may have added a setting to the host's configuration.
                if not _known(api, self.name) or not pmem_total(api, self.name):
                    return False
                give_own_zone(api, self.name)
                return True

            poll(
                ready,
                f"nova-compute on {self.name}",
                timeout=timeout,
                interval=_POLL,
                retry_on=HttpError,
                failure=lambda error: LabError(
                    f"nova-compute on {self.name} was not ready within {timeout:g} s{f' ({error})' if error else ''}. "
                    f"The end of its log:\n{_log(transport, 20)}"
                ),
            )

    def disconnect(self) -> None:
        """End the tunnel."""
        kill_process(self._directory)

    def _connect(self) -> None:
        """Start the tunnel, if it does not run: the services' ports on the lab host's loopback lead to this machine.

        A lab host reaches nothing on this machine otherwise.
        """
        if self.tunnel is not None:
            return
        private_directory(self._directory)
        ports = [getattr(self._settings.ports, service) for service in _SERVICES]
        forwards = [part for port in ports for part in ("-R", f"{LOOPBACK}:{port}:{LOOPBACK}:{port}")]
        options = ["BatchMode=yes", "ExitOnForwardFailure=yes", "ConnectTimeout=30", "LogLevel=ERROR"]
        command = [
            *self._host.ssh_command[:-1],
            *(part for option in options for part in ("-o", option)),
            *("-N", *forwards, self._host.ssh_command[-1]),
        ]
        log = self._directory / "tunnel.log"
        child = start_process(self._directory, command, log, {"PATH": "/usr/bin:/bin"})
        with self._host.transport() as transport:

            def forwarded() -> bool:
                if child.poll() is not None:
                    raise LabError(f"The tunnel to {self.name} ended:\n{last_lines(log)}")
                listening = transport.run(["ss", "-Hltn"], timeout=_STEP_SECONDS).check().text
                return all(f"{LOOPBACK}:{port} " in listening for port in ports)

            poll(
                forwarded,
                f"the tunnel to {self.name}",
                timeout=_TUNNEL_SECONDS,
                interval=_POLL / 5,
                failure=lambda _: LabError(
                    f"The tunnel to {self.name} was not ready within {_TUNNEL_SECONDS:g} s:\n{last_lines(log)}"
                ),
            )

    def _configure(self, transport: Transport, images: BootImages) -> None:
        for name, size in NAMESPACES.items():
            if name == "ns_0":
                _initialize_labels(transport)
            command = ["ndctl", "create-namespace", "-r", "region0", "-m", "devdax", "-n", name, "-s", str(int(size))]
            transport.run(command, timeout=_STEP_SECONDS).check()
        base = "/var/lib/nova/instances/_base"
        directories = ["/etc/nova", base, "/run/nova", "/var/log/nova"]
        transport.run(["install", "-d", *directories]).check()
        # With the boot images in its cache, nova-compute does not download them for its first server.
        for source, image in ((GUEST_KERNEL, images.kernel), (GUEST_INITRD, images.initrd)):
            target = f"{base}/{hashlib.sha1(image.encode(), usedforsecurity=False).hexdigest()}"
            transport.run(["cp", source, target], timeout=_STEP_SECONDS).check()
        text = self._settings.compute(self.name, self._host.private_address, PMEM_NAMESPACES)
        transport.write_file("/etc/nova/nova.conf", text.encode())
        # Without this file, nova-compute refuses to start if libvirt has a domain. The id stays the same in this cloud,
        # so that a lab host that was replaced is the same compute node.
        identity = uuid.uuid5(_IDS, f"{self._settings.secret} {self._settings.ports} {self.name}")
        self._let_in_others(transport)
        transport.write_file(f"/etc/systemd/system/{UNIT}.service", _UNIT_FILE.encode(), mode=0o644)
        transport.run(["systemctl", "daemon-reload"], timeout=_STEP_SECONDS).check()
        transport.write_file("/var/lib/nova/compute_id", str(identity).encode())

    def _let_in_others(self, transport: Transport) -> None:
        """Let root log in from one compute host to another, as Nova does to move a server between them.

        All lab hosts accept the lab's own key, and have the same host key.
        """
        image = self._host.qemu.image
        transport.write_file("/root/.ssh/id_ed25519", image.key_file.read_bytes())
        transport.write_file("/root/.ssh/known_hosts", f"{PRIVATE_ADDRESSES} {image.host_public_key}\n".encode())


def give_own_zone(api: Api, host: str) -> None:
    """Put a compute host alone into an availability zone, if it is in none. A server of this zone stays on the host.

    Raises:
        HttpError: Nova did not answer, or refused a request. It refuses a compute host that it does not know yet.
    """
    found = api.get("nova", "/v2.1/os-aggregates")["aggregates"]
    zone = next((each for each in found if each["name"] == host), None)
    if zone is None:
        wanted = {"aggregate": {"name": host, "availability_zone": f"zone-{host}"}}
        zone = json.loads(api.send("POST", "nova", "/v2.1/os-aggregates", data=wanted).body)["aggregate"]
    if host not in zone.get("hosts", []):
        api.send("POST", "nova", f"/v2.1/os-aggregates/{zone['id']}/action", data={"add_host": {"host": host}})


def pmem_total(api: Api, host: str) -> dict[str, int]:
    """Return how many namespaces of each resource class placement has for a compute host.

    Raises:
        HttpError: placement did not answer, or refused the request.
    """
    found = api.get("placement", f"/resource_providers?name={host}")["resource_providers"]
    if not found:
        return {}
    inventories = api.get("placement", f"/resource_providers/{found[0]['uuid']}/inventories")["inventories"]
    return {name: each["total"] for name, each in inventories.items() if name.startswith("CUSTOM_PMEM_NAMESPACE_")}


def _known(api: Api, host: str) -> bool:
    listed = api.get("nova", "/v2.1/os-hypervisors")["hypervisors"]
    return host in {each["hypervisor_hostname"] for each in listed}


def _active(transport: Transport) -> bool:
    return transport.run(["systemctl", "is-active", "--quiet", UNIT]).exit_status == 0


def _initialize_labels(transport: Transport) -> None:
    listed = json.loads(transport.run(["ndctl", "list", "-D", "-r", "region0"]).check().text)
    dimm = (listed[0] if isinstance(listed, list) else listed)["dev"]
    steps: Sequence[Sequence[str]] = (
        ["disable-region", "region0"],
        ["init-labels", "-f", dimm],
        ["enable-region", "region0"],
    )
    for step in steps:
        transport.run(["ndctl", *step], timeout=_STEP_SECONDS).check()


def _log(transport: Transport, lines: int) -> str:
    try:
        log = transport.run(["tail", "-n", str(lines), LOG]).text
        output = transport.run(["tail", "-n", str(lines), _OUTPUT]).text  # of a start that failed before the log
    except (UnreachableError, CommandError) as error:
        return f"(no log: {error})"
    return f"{output}{log}".strip() or "(empty)"
