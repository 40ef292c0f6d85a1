"""The settings of one cloud: its ports, its secret, and the text of each configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from VpmemLibrary.cloud.container import STATE
from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.paths import open_private
from VpmemLibrary.lab.ports import LOOPBACK, free_port

REGION = "RegionOne"
"""The name of the cloud's only region. DevStack uses the same name."""

DATABASES = ("keystone", "placement", "glance", "neutron", "nova_api", "nova_cell0", "nova")
"""The databases of the services."""

CLOUD_NAME = "vpmem-lab"
"""The cloud's name in its clouds.yaml."""

MICROVERSION = "2.96"
"""The microversion of the compute API in the lab's clouds.yaml. OpenStack 2025.1 has 2.1 to 2.100."""

_RPC_SECONDS = 600
_SERVICE_DOWN_SECONDS = 900

Sections = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of a cloud's services. A lab host reaches a service by the same port of its own loopback."""

    database: int
    broker: int
    erlang: int
    epmd: int
    keystone: int
    placement: int
    glance: int
    neutron: int
    nova: int

    @classmethod
    def choose(cls) -> Ports:
        """Return ports that no process listens on."""
        chosen: list[int] = []
        for _ in fields(cls):
            chosen.append(free_port(chosen))
        return cls(*chosen)

    @classmethod
    def read(cls, path: Path) -> Ports:
        """Return the ports in a file that `write` made.

        Raises:
            LabError: The file cannot be read.
        """
        try:
            found = cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise LabError(f"{path} cannot be read ({error}). Remove the cloud: vpmem cloud down") from error
        if not all(type(port) is int for port in asdict(found).values()):
            raise LabError(f"{path} has a port that is not a number. Remove the cloud: vpmem cloud down")
        return found

    def write(self, path: Path) -> None:
        """Write the ports to a file."""
        with open_private(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode())


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one cloud.

    Args:
        ports: The ports of its services.
        secret: The password of all its users. Each installation has its own secret.
    """

    ports: Ports
    secret: str

    def url(self, service: str) -> str:
        """Return the URL of a service: ``keystone``, ``placement``, ``glance``, ``neutron`` or ``nova``."""
        return f"http://{LOOPBACK}:{getattr(self.ports, service)}"

    @property
    def catalogue(self) -> dict[str, tuple[str, str]]:
        """The type of each service in keystone's catalogue, with the service's name and URL."""
        return {
            "identity": ("keystone", f"{self.url('keystone')}/v3"),
            "placement": ("placement", self.url("placement")),
            "image": ("glance", self.url("glance")),
            "network": ("neutron", self.url("neutron")),
            "compute": ("nova", f"{self.url('nova')}/v2.1"),
        }

    @property
    def broker(self) -> str:
        """The URL of the message broker."""
        return f"rabbit://nova:{self.secret}@{LOOPBACK}:{self.ports.broker}/"

    def database(self, name: str) -> str:
        """Return the URL of a database."""
        return f"mysql+pymysql://os:{self.secret}@{LOOPBACK}:{self.ports.database}/{name}?charset=utf8"

    @property
    def account(self) -> dict[str, object]:
        """The options by which a service logs in to keystone as the service user."""
        return {
            "auth_type": "password",
            "auth_url": f"{self.url('keystone')}/v3",
            "username": "service",
            "password": self.secret,
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }

    def configuration(self) -> dict[str, str]:
        """Return the configuration files of the control plane: each file's path below ``etc``, and its text."""
        return {
            "keystone/keystone.conf": _ini(self._keystone()),
            "placement/placement.conf": _ini(self._placement()),
            "glance/glance-api.conf": _ini(self._glance()),
            "neutron/neutron.conf": _ini(self._neutron()),
            "nova/nova.conf": _ini(self._nova()),
            "rabbitmq/rabbitmq.conf": self._rabbitmq(),
            "rabbitmq/plugins": "[].\n",
        }

    def clouds_yaml(self) -> str:
        """Return the clouds.yaml for users of this cloud. The text is JSON, which is also valid YAML."""
        cloud = {
            "auth": {
                "auth_url": f"{self.url('keystone')}/v3",
                "username": "admin",
                "password": self.secret,
                "project_name": "admin",
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": REGION,
            "identity_api_version": 3,
            "compute_default_microversion": MICROVERSION,
        }
        return json.dumps({"clouds": {CLOUD_NAME: cloud}}, indent=1) + "\n"

    def compute(self, host: str, address: str, pmem_namespaces: str) -> str:
        """Return the nova.conf of nova-compute on a lab host.

        Args:
            host: The lab host's name.
            address: Its address on the network between the lab hosts. With a common address, two hosts would look like
                hosts with shared storage.
            pmem_namespaces: The value of nova.conf's option ``pmem_namespaces``.
        """
        client = {**self.account, "region_name": REGION}
        return _ini(
            {
                "DEFAULT": {
                    **self._rpc,
                    "host": host,
                    "my_ip": address,
                    "compute_driver": "libvirt.LibvirtDriver",
                    "state_path": "/var/lib/nova",
                    "instances_path": "/var/lib/nova/instances",
                    "force_raw_images": True,
                    "use_cow_images": False,
                    "reserved_host_memory_mb": 768,
                    "cpu_allocation_ratio": 16.0,
                    "vif_plugging_is_fatal": False,
                    "vif_plugging_timeout": 0,
                    "shutdown_timeout": 180,
                    # Nova 34 ends only after this time, because its clean-up of libvirt's events does not end.
                    "manager_shutdown_timeout": 15,
                    "resume_guests_state_on_host_boot": False,
                    "running_deleted_instance_action": "log",
                    "periodic_fuzzy_delay": 0,
                    "update_resources_interval": 900,
                    "sync_power_state_interval": 1800,
                    "allow_resize_to_same_host": True,
                    "log_file": "/var/log/nova/nova-compute.log",
                },
                "libvirt": {
                    "virt_type": "kvm",
                    "cpu_mode": "host-passthrough",
                    "hw_machine_type": "x86_64=pc",
                    "images_type": "flat",
                    "pmem_namespaces": pmem_namespaces,
                    "inject_partition": -2,
                    "mem_stats_period_seconds": 0,
                    "wait_soft_reboot_seconds": 300,
                    "live_migration_scheme": "ssh",
                    "live_migration_inbound_addr": address,
                },
                # libvirt finds the processor of an emulated host incompatible with itself.
                "workarounds": {"skip_cpu_compare_on_dest": True},
                "image_cache": {"manager_interval": -1},
                "vnc": {"enabled": False},
                "spice": {"enabled": False},
                "serial_console": {"enabled": False},
                "placement": {**client, "endpoint_override": self.url("placement")},
                "glance": {"endpoint_override": self.url("glance")},
                "neutron": {**client, "endpoint_override": self.url("neutron")},
                "service_user": {"send_service_user_token": False},
                "nova_sys_admin": {"helper_command": f"{preload('privsep-helper')} --config-file /etc/nova/nova.conf"},
                "oslo_concurrency": {"lock_path": "/run/nova"},
                "oslo_messaging_rabbit": _NO_HEARTBEATS,
            }
        )

    @property
    def _rpc(self) -> dict[str, object]:
        # An emulated host may need minutes for an answer.
        return {
            "transport_url": self.broker,
            "rpc_response_timeout": _RPC_SECONDS,
            "long_rpc_timeout": 6 * _RPC_SECONDS,
            "report_interval": 60,
            "service_down_time": _SERVICE_DOWN_SECONDS,
        }

    @property
    def _tokens(self) -> dict[str, Mapping[str, object]]:
        """The section by which a service checks the tokens of its users."""
        options = {
            "www_authenticate_uri": f"{self.url('keystone')}/v3",
            # Nova 34 sends the service user's token as well, which has no other role.
            "service_token_roles": "admin",
            **self.account,
        }
        return {"keystone_authtoken": options}

    def _keystone(self) -> Sections:
        return {
            "database": {"connection": self.database("keystone")},
            "token": {"provider": "fernet", "expiration": 86400},
            "fernet_tokens": {"key_repository": f"{STATE}/fernet"},
            "fernet_receipts": {"key_repository": f"{STATE}/fernet"},
            "credential": {"key_repository": f"{STATE}/credential"},
            "identity": {"password_hash_rounds": 4},
        }

    def _placement(self) -> Sections:
        return {"placement_database": {"connection": self.database("placement")}, **self._tokens}

    def _glance(self) -> Sections:
        return {
            "DEFAULT": {"enabled_backends": "files:file"},
            "glance_store": {"default_backend": "files"},
            "files": {"filesystem_store_datadir": f"{STATE}/images"},
            "os_glance_staging_store": {"filesystem_store_datadir": f"{STATE}/staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": f"{STATE}/tasks"},
            "database": {"connection": self.database("glance")},
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": "/usr/share/glance-common/glance-api-paste.ini",
            },
            "oslo_concurrency": _LOCKS,
            **self._tokens,
        }

    def _neutron(self) -> Sections:
        return {
            "DEFAULT": {
                "core_plugin": "ml2",
                # Without an agent, requests for networks fail unless these plugins are loaded.
                "service_plugins": "router,port_forwarding",
                "transport_url": self.broker,
                "state_path": f"{STATE}/neutron",
                "api_paste_config": "/usr/share/neutron-common/api-paste.ini",
                "notify_nova_on_port_status_changes": False,
                "notify_nova_on_port_data_changes": False,
                "auth_strategy": "keystone",
            },
            "database": {"connection": self.database("neutron")},
            "ml2": {"type_drivers": "local", "tenant_network_types": "local", "mechanism_drivers": ""},
            "oslo_concurrency": _LOCKS,
            "oslo_messaging_rabbit": _NO_HEARTBEATS,
            **self._tokens,
        }

    def _nova(self) -> Sections:
        client = {**self.account, "region_name": REGION}
        return {
            "DEFAULT": {
                **self._rpc,
                "host": "cloud",
                "my_ip": LOOPBACK,
                "state_path": f"{STATE}/nova",
                "allow_resize_to_same_host": True,
            },
            "api": {"auth_strategy": "keystone"},
            "api_database": {"connection": self.database("nova_api")},
            "database": {"connection": self.database("nova")},
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 5},
            "filter_scheduler": {
                "enabled_filters": "ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,NUMATopologyFilter"
            },
            "placement": {**client, "endpoint_override": self.url("placement")},
            "glance": {"endpoint_override": self.url("glance")},
            "neutron": {**client, "endpoint_override": self.url("neutron")},
            "service_user": {"send_service_user_token": False},
            "oslo_concurrency": _LOCKS,
            "oslo_messaging_rabbit": _NO_HEARTBEATS,
            **self._tokens,
        }

    def _rabbitmq(self) -> str:
        return f"""\
listeners.tcp.1 = {LOOPBACK}:{self.ports.broker}
default_user = nova
default_pass = {self.secret}
loopback_users = none
vm_memory_high_watermark.absolute = 512MB
"""


def preload(command: str) -> str:
    """Return the command line of a command of nova-preload on a compute host."""
    return f"/usr/bin/python3 -IS /usr/lib/vpmem/nova-preload {command} /run/nova-preload.socket"


_LOCKS: Mapping[str, object] = {"lock_path": f"{STATE}/lock"}
_NO_HEARTBEATS: Mapping[str, object] = {"heartbeat_timeout_threshold": 0}


def _ini(sections: Sections) -> str:
    lines: list[str] = []
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{option} = {_value(value)}" for option, value in options.items()), ""]
    return "\n".join(lines)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
