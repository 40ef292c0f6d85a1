"""The hosts file: how to reach each host. The file has one section for each host.

pabot reads the same file as ``--resourcefile``. pabot treats two sections with the same fields as one resource, so no
two sections may be equal.

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

from pathlib import Path

from VpmemLibrary.errors import InvalidValueError, NotFoundError
from VpmemLibrary.host.hosts_entry import LOCAL, HostEntry
from VpmemLibrary.host.hosts_section import parse_entry
from VpmemLibrary.host.hosts_text import LARGEST, decode, sections
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.bounded_file import expanded
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport
from VpmemLibrary.transport.ssh.address import SSH_PORT, host_and_port
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.settings import SshSettings


def read_hosts(path: Path) -> tuple[HostEntry, ...]:
    """Return the hosts of a file, in the order of the file.

    Args:
        path: The hosts file.

    Raises:
        InvalidValueError: The file is absent or malformed, has an unknown field, or has one host twice.
    """
    try:
        with expanded(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: the text contains a character that no path may have
        reason = getattr(error, "strerror", None) or str(error)
        valid = f"a readable file with one [section] for each host ({reason})"
        raise InvalidValueError("hosts file", str(path), valid) from None
    return parse_hosts(decode(data, str(path)), str(path))


def parse_hosts(text: str, where: str) -> tuple[HostEntry, ...]:
    """Return the hosts of a text that has the form of a hosts file.

    Args:
        text: The text.
        where: The path of the file, for messages.

    Raises:
        InvalidValueError: The text is malformed, has an unknown field, or has one host twice.
    """
    entries = tuple(parse_entry(where, name, section) for name, section in sections(text, where).items())
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
    settings = getattr(direct, "settings", None)
    return settings.configured if isinstance(settings, SshSettings) else ""


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
            password=entry.password(),
            key_file=entry.key_file,
            known_hosts=entry.known_hosts,
            sudo=entry.sudo,
            config=ConfigFiles.named(entry.ssh_config),
        )
    )


def _direct_transport_to(entry: HostEntry) -> Transport:
    if entry.address == LOCAL:
        return LocalTransport(sudo=entry.sudo, name=entry.name)
    from VpmemLibrary.transport.ssh.transport import SshTransport  # noqa: PLC0415  large, and local runs need no SSH

    return SshTransport(settings_of(entry))


def _refuse_equal(file: str, entries: tuple[HostEntry, ...]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for entry in entries:
        port = entry.port or SSH_PORT
        target = (entry.address.lower().removesuffix("."), port)
        if target in seen:
            raise InvalidValueError(
                f"host_address of {file} [{entry.name}]",
                host_and_port(entry.address, port),
                f"another host than [{seen[target]}], because two workers would use the same host at the same time",
            )
        seen[target] = entry.name
