"""One section of a hosts file. This module declares each field of the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.bus_control import BusControl
from VpmemLibrary.host.hosts_fields import (
    COMMAND,
    HOST_PATH,
    KERNEL_COMMAND_LINE,
    LIBVIRT_URI,
    PATH,
    PORT,
    SECRET_COMMAND,
    SSH_CONFIG,
    TAGS,
    TEXT,
    USER,
    VARIABLE,
    VARIABLES,
    YES_NO,
    Declaration,
    declarations,
    declared,
    one_of,
)
from VpmemLibrary.host.libvirt_daemon import SYSTEM_URI
from VpmemLibrary.host.power import PowerControl
from VpmemLibrary.record import hide_fields

LOCAL = "local"
"""The address of the machine on which this process runs."""


class HostEntry(Struct, frozen=True):
    """One section of a hosts file. The name of the section becomes the host's alias.

    The declarations below and docs/hosts-file.md describe the attributes.

    Example: ``HostEntry("rack1", "192.0.2.13", user="qa", sudo=True)``.
    """

    name: str
    address: str
    port: int | None = declared(
        None,
        "host_port",
        PORT,
        "The SSH port.",
        absent="the port of `host_address` or of the SSH configuration, else 22",
        example="2222",
    )
    user: str | None = declared(
        None,
        "host_user",
        USER,
        "The user that logs in.",
        absent="the user of `host_address` or of the SSH configuration, else `root`",
        example="qa",
    )
    key_file: Path | None = declared(
        None,
        "host_key_file",
        PATH,
        "The private key for the login.",
        absent="the SSH agent and the user's own keys",
        example="~/.ssh/id_ed25519",
    )
    password_env: str = declared(
        "",
        "host_password_env",
        VARIABLE,
        "The environment variable with the password, so that no file contains the password.",
        absent="no password",
        example="RACK1_PASSWORD",
    )
    known_hosts: Path | None = declared(
        None,
        "host_known_hosts",
        PATH,
        "The file with the host's key. It is read and never written.",
        absent="the files of the SSH configuration, else the files that ssh reads",
        example="/etc/ssh/rack_known_hosts",
    )
    ssh_config: str = declared(
        "",
        "host_ssh_config",
        SSH_CONFIG,
        "`no` reads no SSH configuration. A path is read in place of `~/.ssh/config` and `/etc/ssh/ssh_config`.",
        absent="both files are read",
        example="no",
    )
    sudo: bool = declared(
        False,
        "host_sudo",
        YES_NO,
        "Run commands as root through `sudo -n`, or `doas -n` if there is no sudo. The rule must allow /bin/sh or "
        "ALL without a password.",
        example="yes",
    )
    through: tuple[str, ...] = declared(
        (),
        "host_through",
        COMMAND,
        "A program and its arguments that run every command.",
        absent="commands run directly",
        example="nsenter -t 1 -m --",
    )
    libvirt_uri: str = declared(
        SYSTEM_URI,
        "host_libvirt_uri",
        LIBVIRT_URI,
        "The libvirt daemon: `qemu:///system`, `qemu:///session`, or either with `?socket=PATH`, e.g. for libvirt "
        "in a container.",
        example="qemu:///session",
    )
    may_initialize_labels: bool = declared(
        False,
        "host_may_initialize_labels",
        YES_NO,
        "Tests may write labels to regions without labels, which destroys the content of their raw namespaces.",
        example="yes",
    )
    may_reboot: bool = declared(
        False,
        "host_may_reboot",
        YES_NO,
        "Tests may reboot the host if no foreign guest runs on it, and cut its power if the section has the commands.",
        example="yes",
    )
    migration_address: str = declared(
        "",
        "host_migration_address",
        TEXT,
        "The address at which the QEMU of other hosts reaches this host, for live migration.",
        absent="libvirt uses the host's name",
        example="10.1.0.13",
    )
    power_off: tuple[str, ...] = declared(
        (),
        "host_power_off",
        SECRET_COMMAND,
        "The command that cuts the host's power. It runs on the controller, and only if `host_may_reboot` is `yes`.",
        absent="the power is not cut",
        example="ipmitool -I lanplus -H rack1-bmc3 -U qa -E chassis power off",
    )
    power_on: tuple[str, ...] = declared(
        (),
        "host_power_on",
        SECRET_COMMAND,
        "The command that restores the host's power. A section has both commands or neither.",
        absent="the power is not cut",
        example="ipmitool -I lanplus -H rack1-bmc3 -U qa -E chassis power on",
    )
    power_env: Mapping[str, str] = declared(
        {},
        "host_power_env",
        VARIABLES,
        "The environment variables that these two commands get, so that no file contains a password: `ipmitool -E` "
        "reads `IPMI_PASSWORD`. Write `IPMI_PASSWORD=RACK1_PASSWORD` if another variable has the value.",
        absent="the commands get no variable with a password",
        example="IPMI_PASSWORD",
    )
    cxl_add: tuple[str, ...] = declared(
        (),
        "host_cxl_add",
        SECRET_COMMAND,
        "The command that adds a CXL device to the running host, e.g. through a switch's fabric manager. It runs "
        "on the controller.",
        absent="tests of CXL memory need a device that is already there",
        example="fabric-manager bind rack1-pmem3",
    )
    cxl_remove: tuple[str, ...] = declared(
        (),
        "host_cxl_remove",
        SECRET_COMMAND,
        "The command that removes the CXL device. A section has both commands or neither.",
        absent="tests of CXL memory need a device that is already there",
        example="fabric-manager unbind rack1-pmem3",
    )
    cxl_env: Mapping[str, str] = declared(
        {},
        "host_cxl_env",
        VARIABLES,
        "The environment variables that these two commands get, as in `host_power_env`.",
        absent="the commands get no variable with a password",
        example="FABRIC_TOKEN",
    )
    test_bus_add: tuple[str, ...] = declared(
        (),
        "host_test_bus_add",
        SECRET_COMMAND,
        "The command that exchanges the host's NVDIMMs for a test bus of the kernel's nfit_test module, which supports "
        "injected errors, passphrases and firmware. It runs on the controller, and only if `host_may_reboot` is `yes`.",
        absent="tests of injections, passphrases and firmware need a test bus that is already there",
        example="ssh root@rack1-pmem3 test-bus on",
    )
    test_bus_remove: tuple[str, ...] = declared(
        (),
        "host_test_bus_remove",
        SECRET_COMMAND,
        "The command that brings the NVDIMMs back. A section has both commands or neither.",
        absent="tests of injections, passphrases and firmware need a test bus that is already there",
        example="ssh root@rack1-pmem3 test-bus off",
    )
    test_bus_env: Mapping[str, str] = declared(
        {},
        "host_test_bus_env",
        VARIABLES,
        "The environment variables that these two commands get, as in `host_power_env`.",
        absent="the commands get no variable with a password",
        example="RACK1_TOKEN",
    )
    guest_kernel: str = declared(
        "",
        "guest_kernel",
        HOST_PATH,
        "A kernel from which guests boot.",
        absent="guests boot from `guest_disk`",
        example="/var/lib/libvirt/boot/guest.kernel",
    )
    guest_initrd: str = declared(
        "",
        "guest_initrd",
        HOST_PATH,
        "The initramfs of `guest_kernel`.",
        absent="the kernel boots without one",
        example="/var/lib/libvirt/boot/guest.initrd",
    )
    guest_cmdline: str = declared(
        "",
        "guest_cmdline",
        KERNEL_COMMAND_LINE,
        "The kernel command line of `guest_kernel`.",
        absent="empty",
        example="console=ttyS0 quiet",
    )
    guest_disk: str = declared(
        "",
        "guest_disk",
        HOST_PATH,
        "A disk image from which guests boot, instead of a kernel.",
        absent="guests boot from `guest_kernel`",
        example="/var/lib/libvirt/images/guest.qcow2",
    )
    guest_machine: str = declared(
        "",
        "guest_machine",
        TEXT,
        "QEMU's machine type for guests.",
        absent="`pc`, or `q35` if QEMU has no `pc` or has deprecated it",
        example="q35",
    )
    guest_channel: str = declared(
        "agent",
        "guest_channel",
        one_of("agent", "ssh", "serial"),
        "How commands run in guests: through the QEMU guest agent, over SSH through the host, or through a shell "
        "on the serial console.",
        example="ssh",
    )
    guest_user: str = declared(
        "root",
        "guest_user",
        TEXT,
        "The user that logs in to guests, over SSH or on the serial console.",
        example="qa",
    )
    guest_key_file: Path | None = declared(
        None,
        "guest_key_file",
        PATH,
        "The private key of `guest_user`, on the controller.",
        absent="the SSH agent and the user's own keys",
        example="~/.ssh/guest_key",
    )
    guest_password_env: str = declared(
        "",
        "guest_password_env",
        VARIABLE,
        "The environment variable with the password of `guest_user`.",
        absent="no password",
        example="GUEST_PASSWORD",
    )
    guest_sudo: bool = declared(
        False,
        "guest_sudo",
        YES_NO,
        "Run commands in guests as root, as `host_sudo` does on the host.",
        example="yes",
    )
    guest_known_hosts: Path | None = declared(
        None,
        "guest_known_hosts",
        PATH,
        "The file with the guests' SSH host key.",
        absent="`~/.ssh/known_hosts`",
        example="~/.ssh/guest_known_hosts",
    )
    guest_host_key_name: str = declared(
        "",
        "guest_host_key_name",
        TEXT,
        "The name of the guests' SSH host key in that file.",
        absent="each guest's address",
        example="vpmem-guest",
    )
    guest_bridge: str = declared(
        "",
        "guest_bridge",
        TEXT,
        "A bridge of the host to which guests with a network are connected.",
        absent="guests get no network",
        example="br0",
    )
    guest_confined: bool = declared(
        True,
        "guest_confined",
        YES_NO,
        "Whether the host's security driver (AppArmor, SELinux) confines guests. Tests of confinement always confine "
        "their guests.",
        example="no",
    )
    tags: tuple[str, ...] = declared(
        (),
        "tags",
        TAGS,
        "Tags of the host for pabot's value sets, in your own suites that use them.",
        absent="no tags",
        example="vpmem, numa",
    )
    value_set_name: str = declared(
        "",
        "host_name",
        TEXT,
        "The host's name for pabot's value sets, in your own suites that use them.",
        absent="no name",
        example="rack1-pmem3",
    )

    @property
    def power(self) -> PowerControl | None:
        """The commands that cut the host's power and restore it. None if there are none."""
        return PowerControl(self.power_off, self.power_on, self.power_env) if self.power_off else None

    @property
    def cxl(self) -> BusControl | None:
        """The commands that add a CXL device to the host and remove it. None if there are none."""
        return BusControl("CXL device", self.cxl_add, self.cxl_remove, self.cxl_env) if self.cxl_add else None

    @property
    def test_bus(self) -> BusControl | None:
        """The commands that add a test bus to the host and remove it. None if there are none."""
        if not self.test_bus_add:
            return None
        return BusControl("test bus", self.test_bus_add, self.test_bus_remove, self.test_bus_env)

    def password(self) -> str | None:
        """Return the password of the user that logs in to the host. Return None if there is no password.

        Raises:
            InvalidValueError: The environment variable with the password is not set.
        """
        return self._password_in("host_password_env", self.password_env)

    def guest_password(self) -> str | None:
        """Return the password of the user that logs in to guests. Return None if there is no password.

        Raises:
            InvalidValueError: The environment variable with the password is not set.
        """
        return self._password_in("guest_password_env", self.guest_password_env)

    def _password_in(self, name: str, variable: str) -> str | None:
        password = os.environ.get(variable) if variable else None
        if variable and password is None:
            raise InvalidValueError(f"{name} of [{self.name}]", variable, "an environment variable that is set")
        return password


_ADDRESS = Declaration(
    "host_address",
    TEXT,
    "A name, an IP address, an alias of `~/.ssh/config`, `user@host:port`, `[IPv6]:port` or `ssh://user@host:port`. "
    "`local` is this machine, without SSH.",
    absent="the section is refused",
    example="192.0.2.13",
    attribute="address",
)

FIELDS = {_ADDRESS.name: _ADDRESS, **declarations(HostEntry)}
"""The fields that a section may have, each with its declaration."""

hide_fields(*(field.attribute for field in FIELDS.values() if field.kind is SECRET_COMMAND))(HostEntry)
