"""The hosts file: how to reach each host, one section a host.

It is the file that pabot reads as ``--resourcefile``, so that one file serves plain ``robot``, pabot and this library.
pabot takes two sections with the same fields for one resource, so no two sections may be equal.

Example::

    [rack1-pmem3]
    tags = vpmem
    host_address = 192.0.2.13
    host_user = qa
    host_key_file = ~/.ssh/id_ed25519
    host_sudo = yes
    host_power_off = ipmitool -I lanplus -H rack1-bmc3 -U qa -E chassis power off
    host_power_on = ipmitool -I lanplus -H rack1-bmc3 -U qa -E chassis power on
    host_power_env = IPMI_PASSWORD
    guest_kernel = /var/lib/libvirt/boot/vmlinuz
    guest_initrd = /var/lib/libvirt/boot/initrd
"""

from __future__ import annotations

import configparser
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError, NotFoundError
from VpmemLibrary.host.control import HIDDEN, passed_on
from VpmemLibrary.host.cxl_control import CxlControl
from VpmemLibrary.host.hosts_text import LARGEST, checked_value, decode, refuse_unknown, sections
from VpmemLibrary.host.libvirt_daemon import SYSTEM_URI, Daemon
from VpmemLibrary.host.power import PowerControl
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import ThroughTransport
from VpmemLibrary.transport.ssh.address import SSH_PORT, check_user, checked_port, host_and_port, parse_address
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.tokens import home
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport

LOCAL = "local"
"""The address of the machine that this process runs on."""

_FIELDS = {
    "tags",
    "host_name",
    "host_address",
    "host_port",
    "host_user",
    "host_key_file",
    "host_known_hosts",
    "host_ssh_config",
    "host_password_env",
    "host_sudo",
    "host_through",
    "host_may_initialize_labels",
    "host_libvirt_uri",
    "host_may_reboot",
    "host_migration_address",
    "host_power_off",
    "host_power_on",
    "host_power_env",
    "host_cxl_add",
    "host_cxl_remove",
    "host_cxl_env",
    "guest_kernel",
    "guest_initrd",
    "guest_nfit_test_initrd",
    "guest_cmdline",
    "guest_disk",
    "guest_machine",
    "guest_channel",
    "guest_user",
    "guest_key_file",
    "guest_known_hosts",
    "guest_host_key_name",
    "guest_password_env",
    "guest_sudo",
    "guest_bridge",
    "guest_confined",
}

_COMMANDS = {"host_power_off", "host_power_on", "host_cxl_add", "host_cxl_remove"}
_WORDS = _COMMANDS | {"tags", "host_through", "host_power_env", "host_cxl_env", "guest_cmdline"}
"""Fields of several words, which may stand on several lines."""
_SECRET = _COMMANDS | {"host_power_env", "host_cxl_env", "host_password_env", "guest_password_env"}
"""Fields that may have a password, by mistake or not."""

_CHANNELS = ("agent", "ssh", "serial")


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One section of a hosts file.

    Args:
        name: The section's name, which becomes the host's alias.
        address: Name or IP address, or an alias of the SSH configuration; ``local`` means this machine, without SSH.
        port: The SSH port; None leaves it to the SSH configuration, and is 22 without one.
        user: Who logs in; None leaves it to the SSH configuration, and is ``root`` without one.
        key_file: The private key; without one the agent and the user's own keys are tried.
        known_hosts: The file that holds the host's key; without one the user's own.
        ssh_config: ``no`` if the user's SSH configuration is not read, or the file that is read in its place.
        password_env: The environment variable that holds the password, so that none stands in a file.
        sudo: Whether commands are run as root, through sudo or doas.
        through: A program and its arguments that every command is run through, e.g. ``nsenter -t 1 -m --``.
        libvirt_uri: Which libvirt daemon of the host is used, e.g. ``qemu:///session``; see `libvirt_daemon.Daemon`.
        may_initialize_labels: Whether a region without labels may be given them, which ends what it held.
        migration_address: The address by which other hosts' QEMU reaches it; without one, libvirt takes its name.
        may_reboot: Whether tests may reboot it, and cut its power where they can.
        power: What cuts its power and gives it back; None where nothing does. Its commands get passwords by the
            environment variables that ``host_power_env`` names, so that none stands in the file.
        cxl: What gives it a CXL device and takes it away; None where nothing does.
        guest_kernel: A kernel on the host that guests boot from.
        guest_initrd: Its initramfs.
        guest_nfit_test_initrd: An initramfs for that kernel with the kernel's nfit_test module loaded, for injections.
        guest_cmdline: Its command line.
        guest_disk: Or a disk image on the host that guests boot from.
        guest_machine: QEMU's machine type for guests; without one ``pc``, or ``q35`` where QEMU has no ``pc``.
        guest_channel: How guests are looked into: ``agent``, ``ssh`` or ``serial``.
        guest_user: Who logs in to guests, over SSH or on the serial console.
        guest_key_file: The private key for it, on this machine.
        guest_known_hosts: The file that holds the guests' SSH key.
        guest_host_key_name: The name that it has the key under; without one each guest's address.
        guest_password_env: The environment variable that holds the password.
        guest_sudo: Whether commands in guests are run through sudo.
        guest_bridge: A bridge of the host that guests with a network are put on.
        guest_confined: Whether the host's security driver (AppArmor, SELinux) confines guests that are defined here.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    key_file: Path | None = None
    known_hosts: Path | None = None
    ssh_config: str = ""
    password_env: str = ""
    sudo: bool = False
    through: tuple[str, ...] = ()
    libvirt_uri: str = SYSTEM_URI
    may_initialize_labels: bool = False
    may_reboot: bool = False
    migration_address: str = ""
    power: PowerControl | None = None
    cxl: CxlControl | None = None
    guest_kernel: str = ""
    guest_initrd: str = ""
    guest_nfit_test_initrd: str = ""
    guest_cmdline: str = ""
    guest_disk: str = ""
    guest_machine: str = ""
    guest_channel: str = "agent"
    guest_user: str = "root"
    guest_key_file: Path | None = None
    guest_known_hosts: Path | None = None
    guest_host_key_name: str = ""
    guest_password_env: str = ""
    guest_sudo: bool = False
    guest_bridge: str = ""
    guest_confined: bool = True

    def guest_password(self) -> str | None:
        """Return the password of who logs in to guests; None when there is none.

        Raises:
            InvalidValueError: The environment variable that should hold it is not set.
        """
        return _password(self, "guest_password_env", self.guest_password_env)


def read_hosts(path: Path) -> tuple[HostEntry, ...]:
    """Return the hosts of a file, in its order.

    Args:
        path: The hosts file.

    Raises:
        InvalidValueError: The file is absent, is not of this form, has an unknown field, or names one host twice.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError):  # the latter for what no path can hold
        raise InvalidValueError("hosts file", str(path), "a file that exists, with one [section] a host") from None
    return parse_hosts(decode(data, str(path)), str(path))


def parse_hosts(text: str, where: str) -> tuple[HostEntry, ...]:
    """Return the hosts that a text in the form of a hosts file describes.

    Args:
        text: The text.
        where: Where it is from, for messages.

    Raises:
        InvalidValueError: It is not of this form, has an unknown field, or names one host twice.
    """
    entries = tuple(_entry(where, name, fields) for name, fields in sections(text, where).items())
    _refuse_equal(where, entries)
    return entries


def find_host(entries: tuple[HostEntry, ...], name: str = "") -> HostEntry:
    """Return the host called `name`, or the first one when `name` is empty.

    Raises:
        NotFoundError: No section has that name.
    """
    if not name:
        return entries[0]
    for entry in entries:
        if entry.name == name:
            return entry
    raise NotFoundError("host", name, [entry.name for entry in entries], where="the hosts file")


def transport_to(entry: HostEntry) -> Transport:
    """Return the way to a host; nothing is connected yet.

    Raises:
        InvalidValueError: The environment variable that should hold the password is not set, or the SSH configuration
            is wrong.
        UnreachableError: The SSH configuration asks for a canonical name, and there is none.
    """
    direct = _direct_transport_to(entry)
    return ThroughTransport(direct, entry.through) if entry.through else direct


def configured(transport: Transport) -> str:
    """Return in one line what of the way to a host is from the SSH configuration; empty if nothing is."""
    direct = transport.inner if isinstance(transport, ThroughTransport) else transport
    return direct.settings.configured if isinstance(direct, SshTransport) else ""


def settings_of(entry: HostEntry) -> SshSettings:
    """Return how a host is reached over SSH: as its section says, and for the rest as the SSH configuration says.

    Raises:
        InvalidValueError: As `transport_to` raises it.
        UnreachableError: As `transport_to` raises it.
    """
    return resolve(
        SshRequest(
            entry.address,
            port=entry.port,
            user=entry.user,
            password=_password(entry, "host_password_env", entry.password_env),
            key_file=entry.key_file,
            known_hosts=entry.known_hosts,
            sudo=entry.sudo,
            config=ConfigFiles.named(entry.ssh_config),
        )
    )


def _direct_transport_to(entry: HostEntry) -> Transport:
    if entry.address == LOCAL:
        return LocalTransport(sudo=entry.sudo, name=entry.name)
    return SshTransport(settings_of(entry))


def _password(entry: HostEntry, field: str, variable: str) -> str | None:
    password = os.environ.get(variable) if variable else None
    if variable and password is None:
        raise InvalidValueError(f"{field} of [{entry.name}]", variable, "an environment variable that is set")
    return password


def _entry(file: str, name: str, raw: dict[str, str]) -> HostEntry:
    where = f"{file} [{name}]"
    refuse_unknown(where, raw, _FIELDS)
    fields = {
        field: checked_value(where, field, value, _FIELDS, words=field in _WORDS, secret=field in _SECRET)
        for field, value in raw.items()
        if value
    }
    address, user, port = _target(where, fields)
    return HostEntry(
        name=name,
        address=address,
        port=port,
        user=user,
        key_file=_path(where, "host_key_file", fields),
        known_hosts=_path(where, "host_known_hosts", fields),
        ssh_config=_ssh_config(where, fields),
        password_env=fields.get("host_password_env", ""),
        sudo=_boolean(where, "host_sudo", fields),
        through=_words(where, "host_through", fields),
        libvirt_uri=Daemon.of(fields.get("host_libvirt_uri", SYSTEM_URI), f"host_libvirt_uri of {where}").uri,
        may_initialize_labels=_boolean(where, "host_may_initialize_labels", fields),
        may_reboot=_boolean(where, "host_may_reboot", fields),
        migration_address=fields.get("host_migration_address", ""),
        power=_power(where, fields),
        cxl=_cxl(where, fields),
        guest_kernel=fields.get("guest_kernel", ""),
        guest_initrd=fields.get("guest_initrd", ""),
        guest_nfit_test_initrd=fields.get("guest_nfit_test_initrd", ""),
        guest_cmdline=fields.get("guest_cmdline", ""),
        guest_disk=fields.get("guest_disk", ""),
        guest_machine=fields.get("guest_machine", ""),
        guest_channel=_channel(where, fields),
        guest_user=fields.get("guest_user", "root"),
        guest_key_file=_path(where, "guest_key_file", fields),
        guest_known_hosts=_path(where, "guest_known_hosts", fields),
        guest_host_key_name=fields.get("guest_host_key_name", ""),
        guest_password_env=fields.get("guest_password_env", ""),
        guest_sudo=_boolean(where, "guest_sudo", fields),
        guest_bridge=fields.get("guest_bridge", ""),
        guest_confined=_boolean(where, "guest_confined", fields, default="yes"),
    )


def _target(where: str, fields: dict[str, str]) -> tuple[str, str | None, int | None]:
    """Return address, user and port of a section; None for what it does not say."""
    what = f"host_address of {where}"
    text = fields.get("host_address", "")
    if not text:
        raise InvalidValueError(what, text, "a name, an IP address, or `local`")
    user, port = fields.get("host_user"), fields.get("host_port")
    number = None if port is None else checked_port(port, f"host_port of {where}")
    if user is not None:
        check_user(user, f"host_user of {where}")
    if text == LOCAL:
        return text, user, number
    address = parse_address(text, what)
    for field, given, inside in (("host_user", user, address.user), ("host_port", number, address.port)):
        if given is not None and inside is not None and given != inside:
            valid = f"the same as in host_address, which has {inside!r}, or no such field"
            raise InvalidValueError(f"{field} of {where}", given, valid)
    return address.host, user or address.user, number or address.port


def _ssh_config(where: str, fields: dict[str, str]) -> str:
    value = fields.get("host_ssh_config", "")
    config = ConfigFiles.named(value)
    return value if config.file is None else home(value, f"host_ssh_config of {where}")


def _channel(where: str, fields: dict[str, str]) -> str:
    value = fields.get("guest_channel", _CHANNELS[0])
    if value not in _CHANNELS:
        raise InvalidValueError(f"guest_channel of {where}", value, "one of " + ", ".join(_CHANNELS))
    return value


def _path(where: str, field: str, fields: dict[str, str]) -> Path | None:
    value = fields.get(field, "")
    return Path(home(value, f"{field} of {where}")) if value else None


def _words(where: str, field: str, fields: dict[str, str], *, shown: bool = True) -> tuple[str, ...]:
    value = fields.get(field, "")
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise InvalidValueError(
            f"{field} of {where}",
            value if shown else HIDDEN,
            f"a program and its arguments, quoted as in a shell ({error})",
        ) from None


def _power(where: str, fields: dict[str, str]) -> PowerControl | None:
    valid = "a command: a host is switched off and on, or neither"
    both = _both(where, "host_power_off", "host_power_on", fields, valid)
    variables = _variables(where, "host_power_env", fields, bool(both))
    return PowerControl(*both, variables) if both else None


def _cxl(where: str, fields: dict[str, str]) -> CxlControl | None:
    valid = "a command: a CXL device is added and removed, or neither"
    both = _both(where, "host_cxl_add", "host_cxl_remove", fields, valid)
    variables = _variables(where, "host_cxl_env", fields, bool(both))
    return CxlControl(*both, variables) if both else None


def _both(
    where: str, one: str, other: str, fields: dict[str, str], valid: str
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the commands of two fields that are given together, or None where neither is."""
    commands = _words(where, one, fields, shown=False), _words(where, other, fields, shown=False)
    if bool(commands[0]) != bool(commands[1]):
        raise InvalidValueError(f"{other if commands[0] else one} of {where}", "", valid)
    return commands if commands[0] else None


def _variables(where: str, field: str, fields: dict[str, str], used: bool) -> dict[str, str]:
    """Return which environment variables the commands of a section get."""
    variables = passed_on(where, field, fields.get(field, "").replace(",", " ").split())
    if variables and not used:
        raise InvalidValueError(f"{field} of {where}", ", ".join(variables), "a command that gets it in the section")
    return variables


def _boolean(where: str, field: str, fields: dict[str, str], *, default: str = "no") -> bool:
    value = fields.get(field, default)
    states = configparser.ConfigParser.BOOLEAN_STATES
    if value.lower() not in states:
        raise InvalidValueError(f"{field} of {where}", value, "yes or no")
    return states[value.lower()]


def _refuse_equal(file: str, entries: tuple[HostEntry, ...]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for entry in entries:
        port = entry.port or SSH_PORT
        target = (entry.address.lower().removesuffix("."), port)
        if target in seen:
            raise InvalidValueError(
                f"host_address of {file} [{entry.name}]",
                host_and_port(entry.address, port),
                f"another host than [{seen[target]}]: two sections for one host would be used by two workers at once",
            )
        seen[target] = entry.name
