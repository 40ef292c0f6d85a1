"""The services of the control plane: their commands, and the checks that they are ready."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from VpmemLibrary.cloud.container import STATE, Container, last_lines
from VpmemLibrary.cloud.http import HttpError, request
from VpmemLibrary.cloud.settings import Ports, Settings
from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.ports import LOOPBACK
from VpmemLibrary.polling import poll
from VpmemLibrary.sizes import MiB

READY_SECONDS = 300.0
"""Maximum seconds until a service answers. A service needs far less, also on a loaded machine."""

_POLL = 0.2


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the control plane.

    Args:
        name: The service's name, e.g. ``nova-api``.
        argv: Its command in the container.
        port: The loopback port that it listens on. None if it listens on no port.
        url: The URL that answers when the service is ready. Empty if it has none.
        environment: Its environment variables.
    """

    name: str
    argv: Sequence[str]
    port: int | None = None
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def database(ports: Ports) -> Service:
    """Return the database server."""
    argv = [
        *("mariadbd", "--no-defaults", "--user=root", f"--datadir={STATE}/db", f"--socket={STATE}/db.sock"),
        *(f"--bind-address={LOOPBACK}", f"--port={ports.database}", "--skip-name-resolve", "--skip-log-bin"),
        # Otherwise two log-ins of one user at the same time fail, because keystone writes the time of each log-in.
        "--innodb-snapshot-isolation=OFF",
        *("--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=300"),
    ]
    return Service("mariadb", argv, ports.database)


def broker(ports: Ports) -> Service:
    """Return the message broker."""
    home = f"{STATE}/rabbitmq"
    environment = {
        "HOME": home,
        "RABBITMQ_NODENAME": "vpmem@localhost",
        "RABBITMQ_DIST_PORT": str(ports.erlang),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(ports.epmd),
        "RABBITMQ_MNESIA_BASE": f"{home}/db",
        "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_CONFIG_FILE": f"{STATE}/etc/rabbitmq/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{STATE}/etc/rabbitmq/plugins",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    return Service("rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], ports.broker, environment=environment)


def openstack(settings: Settings) -> list[Service]:
    """Return the services of OpenStack. All of them can be started at once."""
    etc, ports = f"{STATE}/etc", settings.ports
    nova_conf = ("--config-file", f"{etc}/nova/nova.conf")
    return [
        _wsgi(
            "keystone",
            ports.keystone,
            f"{settings.url('keystone')}/v3",
            ["--module", "keystone.wsgi.api", "--processes", "1", "--threads", "4"],
            OS_KEYSTONE_CONFIG_DIR=f"{etc}/keystone",
            OS_KEYSTONE_CONFIG_FILES="keystone.conf",
        ),
        _wsgi(
            "placement",
            ports.placement,
            f"{settings.url('placement')}/",
            ["--module", "placement.wsgi.api", "--processes", "1", "--threads", "4"],
            OS_PLACEMENT_CONFIG_DIR=f"{etc}/placement",
        ),
        _wsgi(
            "glance",
            ports.glance,
            f"{settings.url('glance')}/",
            # nova-compute sends the image of a server's disk in parts that are larger than the default of 1 MiB.
            [
                *("--module", "glance.common.wsgi_app:init_app()", "--processes", "1", "--threads", "1"),
                *("--chunked-input-limit", str(16 * MiB)),
            ],
            OS_GLANCE_CONFIG_DIR=f"{etc}/glance",
        ),
        _wsgi(
            "neutron",
            ports.neutron,
            f"{settings.url('neutron')}/",
            ["--module", "neutron.wsgi.api", "--processes", "1", "--threads", "1"],
            OS_NEUTRON_CONFIG_DIR=f"{etc}/neutron",
            OS_NEUTRON_CONFIG_FILES="neutron.conf",
        ),
        _wsgi(
            "nova-api",
            ports.nova,
            f"{settings.url('nova')}/",
            # Without --rem-header, an answer without a body has two Content-Length headers.
            [
                *("--module", "nova.wsgi.osapi_compute", "--processes", "2", "--threads", "1"),
                *("--rem-header", "Content-Length"),
            ],
            OS_NOVA_CONFIG_DIR=f"{etc}/nova",
        ),
        Service("nova-conductor", ["python3", "-c", "from nova.cmd.conductor import main; main()", *nova_conf]),
        Service("nova-scheduler", ["python3", "-c", "from nova.cmd.scheduler import main; main()", *nova_conf]),
    ]


def start_missing(container: Container, services: Sequence[Service]) -> list[str]:
    """Start the services that do not run. Return their names."""
    missing = [service for service in services if container.service(service.name) is None]
    for service in missing:
        container.start_service(service.name, service.argv, service.environment)
    return [service.name for service in missing]


def wait_until_ready(container: Container, service: Service, timeout: float = READY_SECONDS) -> None:
    """Wait until a service answers at its URL, or else listens on its port.

    Raises:
        LabError: The service ended, or was not ready in time. The message has the last lines of its log.
    """
    if service.url:
        wait_for(container, service.name, lambda: request("GET", service.url).status < 400, "to answer", timeout)
    elif service.port is not None:
        wait_for(container, service.name, lambda: listens(service.port or 0), "to listen", timeout)


def wait_for(container: Container, name: str, condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Wait for a condition that a service must meet. An `HttpError` means "not yet".

    Raises:
        LabError: The service ended, or the condition was not met in time. The message has the last lines of its log.
    """

    def met() -> bool:
        if container.service(name) is None:
            raise LabError(f"{name} ended while the cloud was started. {_log(container, name)}")
        return condition()

    poll(
        met,
        f"{name} {what}",
        timeout=timeout,
        interval=_POLL,
        retry_on=HttpError,
        failure=lambda error: LabError(
            f"Waited {timeout:g} s for {name} {what}, without success{f' ({error})' if error else ''}. "
            f"{_log(container, name)}"
        ),
    )


def listens(port: int) -> bool:
    """Return whether a process listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _log(container: Container, name: str) -> str:
    path = container.log(name)
    return f"Remove the cloud (vpmem cloud down) and try again. The end of {path}:\n{last_lines(path)}"


def _wsgi(name: str, port: int, url: str, program: Sequence[str], **environment: str) -> Service:
    argv = [
        *("uwsgi", "--plugins", "http,python3", "--enable-threads", "--lazy-apps", "--master", "--die-on-term"),
        *("--add-header", "Connection: close", "--http-socket", f"{LOOPBACK}:{port}", *program),
    ]
    return Service(name, argv, port, url, environment)
