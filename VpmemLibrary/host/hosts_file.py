"""The hosts file: how to reach each host. The file has one section a host.

pabot reads the same file as ``--resourcefile``, so one file serves plain ``robot``, pabot and this library. pabot takes
two sections with the same fields for one resource. Therefore no two sections may be equal.

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
from VpmemLibrary.transport.bounded_file import expanded
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport
from VpmemLibrary.transport.ssh.address import SSH_PORT, check_user, checked_port, host_and_port, parse_address
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.tokens import home
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport

LOCAL = "local"
"""The address of the machine on which this process runs."""

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
"""Fields of several words. They may have several lines."""
_SECRET = _COMMANDS | {"host_power_env", "host_cxl_env", "host_password_env", "guest_password_env"}
"""Fields that may contain a password, also by mistake."""

_CHANNELS = ("agent", "ssh", "serial")


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One section of a hosts file.

    Args:
        name: The section's name, which becomes the host's alias.
        address: A name, an IP address, or an alias of the SSH configuration. ``local`` means this machine, without SSH.
        port: The SSH port. None means the port of the SSH configuration, or 22.
        user: The user that logs in. None means the user of the SSH configuration, or ``root``.
        key_file: The private key. None means the SSH agent and the user's own keys.
        known_hosts: The file with the host's key. None means the user's own file.
        ssh_config: ``no`` ignores the user's SSH configuration. A path is read instead of the user's file.
        password_env: The environment variable with the password, so that no file contains the password.
        sudo: Whether commands run as root, through sudo or doas.
        through: A program and its arguments that run every command, e.g. ``nsenter -t 1 -m --``.
        libvirt_uri: The libvirt daemon of the host to use, e.g. ``qemu:///session``. See `libvirt_daemon.Daemon`.
        may_initialize_labels: Whether labels may be written to a region without labels. This destroys the region's
            content.
        migration_address: The address at which QEMU of other hosts reaches this host. If empty, libvirt uses the host's
            name.
        may_reboot: Whether tests may reboot the host, and cut its power if they can.
        power: The commands that cut the host's power and restore it. None if there are none. They get passwords from
            the environment variables that ``host_power_env`` names, so that no file contains a password.
        cxl: The commands that add a CXL device to the host and remove it. None if there are none.
        guest_kernel: A kernel on the host from which guests boot.
        guest_initrd: The initramfs of `guest_kernel`.
        guest_nfit_test_initrd: An initramfs of `guest_kernel` that loads the kernel's nfit_test module, for injections.
        guest_cmdline: The command line of `guest_kernel`.
        guest_disk: A disk image on the host from which guests boot, instead of `guest_kernel`.
        guest_machine: QEMU's machine type of guests. If empty, ``pc``, or ``q35`` if QEMU has no ``pc``.
        guest_channel: How commands run in guests: ``agent``, ``ssh`` or ``serial``.
        guest_user: The user that logs in to guests, over SSH or on the serial console.
        guest_key_file: The private key of `guest_user`, on this machine.
        guest_known_hosts: The file with the guests' SSH key.
        guest_host_key_name: The name of the guests' SSH key in that file. If empty, each guest's address.
        guest_password_env: The environment variable with the password of `guest_user`.
        guest_sudo: Whether commands in guests run through sudo.
        guest_bridge: A bridge of the host to which guests with a network are connected.
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
        """Return the password of the user that logs in to guests. Return None if there is no password.

        Raises:
            InvalidValueError: The environment variable with the password is not set.
        """
        return _password(self, "guest_password_env", self.guest_password_env)


def read_hosts(path: Path) -> tuple[HostEntry, ...]:
    """Return the hosts of a file, in the order of the file.

    Args:
        path: The hosts file.

    Raises:
        InvalidValueError: The file is absent, has another form, has an unknown field, or names one host twice.
    """
    try:
        with expanded(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: the text contains a character that no path may have
        reason = getattr(error, "strerror", None) or str(error)
        valid = f"a file that exists and can be read, with one [section] a host ({reason})"
        raise InvalidValueError("hosts file", str(path), valid) from None
    return parse_hosts(decode(data, str(path)), str(path))


def parse_hosts(text: str, where: str) -> tuple[HostEntry, ...]:
    """Return the hosts that a text in the form of a hosts file describes.

    Args:
        text: The text.
        where: The origin of the text, for messages.

    Raises:
        InvalidValueError: The text has another form, has an unknown field, or names one host twice.
    """
    entries = tuple(_entry(where, name, fields) for name, fields in sections(text, where).items())
    _refuse_equal(where, entries)
    return entries


def find_host(entries: tuple[HostEntry, ...], name: str = "") -> HostEntry:
    """Return the host called `name`, or the first host if `name` is empty.

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
    """Return the transport to a host. Do not connect yet.

    Raises:
        InvalidValueError: The environment variable with the password is not set, or the SSH configuration is wrong.
        UnreachableError: The SSH configuration requires a canonical name, and the host has none.
    """
    direct = _direct_transport_to(entry)
    return PrefixedTransport(direct, entry.through) if entry.through else direct


def configured(transport: Transport) -> str:
    """Describe in one line which settings of a transport come from the SSH configuration. Empty if none do."""
    direct = transport.inner if isinstance(transport, PrefixedTransport) else transport
    return direct.settings.configured if isinstance(direct, SshTransport) else ""


def settings_of(entry: HostEntry) -> SshSettings:
    """Return the SSH settings of a host. The section of the host overrides the SSH configuration.

    Raises:
        InvalidValueError: For the same reasons as `transport_to`.
        UnreachableError: For the same reason as `transport_to`.
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
    """Return the address, user and port of a section. A user or port that the section does not set is None."""
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
    """Return the commands of two fields that must be given together. Return None if neither is given."""
    commands = _words(where, one, fields, shown=False), _words(where, other, fields, shown=False)
    if bool(commands[0]) != bool(commands[1]):
        raise InvalidValueError(f"{other if commands[0] else one} of {where}", "", valid)
    return commands if commands[0] else None


def _variables(where: str, field: str, fields: dict[str, str], used: bool) -> dict[str, str]:
    """Return the environment variables that the commands of a section get."""
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
