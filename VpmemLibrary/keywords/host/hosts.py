"""Keywords that open hosts, tell what they are, and run commands on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from robot.api.deco import keyword
from robot.api.types import Secret

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.hosts_file import HostEntry, find_host
from VpmemLibrary.host.libvirt_daemon import SYSTEM_URI, Daemon
from VpmemLibrary.keywords.host.opening import entries_of, keep, open_entry, open_through
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.converters import to_bytes
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.transport.base import CommandResult, Transport
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import ThroughTransport
from VpmemLibrary.transport.ssh.address import parse_address
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshTransport


class HostKeywords:
    """Hosts: open, switch, close, facts, preflight, commands."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("host",))
    def open_host(
        self,
        address: str,
        user: str | None = None,
        *,
        port: int | None = None,
        alias: str = "",
        password: Secret | None = None,
        key_file: Path | None = None,
        key_passphrase: Secret | None = None,
        known_hosts: Path | None = None,
        host_key: HostKeyPolicy | None = None,
        sudo: bool = False,
        through: Sequence[str] = (),
        libvirt_uri: str = SYSTEM_URI,
        connect_timeout: timedelta | None = None,
        ssh_config: str = "yes",
    ) -> str:
        """Open a host over SSH and make it the current one.

        The connection is made at once, so that a host that cannot be reached is reported here. It is kept and shared by
        all keywords, libvirt's traffic included. The user's own `known_hosts` is read and never written.

        The address may be an alias of `~/.ssh/config`, which is honoured as `ssh` does it, jump hosts and proxy
        commands included. What is given here wins over it. The log says what came from it.

        Args:
            address: The host's name or IP address, or `user@host:port`, `[IPv6]:port`, `ssh://user@host:port`.
            user: Who logs in; by default who the address or the SSH configuration says, else `root`.
            port: The SSH port; by default the one that the address or the SSH configuration says, else 22.
            alias: The name by which other keywords know the host; the address without user and port by default.
            password: The password, as a `Secret`. Without one, the key file, the agent and the user's keys are tried.
            key_file: A private key.
            key_passphrase: What the private key is locked with, as a `Secret`.
            known_hosts: The file that holds the host's key; `~/.ssh/known_hosts` by default.
            host_key: `strict` refuses an unknown or changed key; `accept_new` takes an unknown one for this run. By
                default what `StrictHostKeyChecking` says, else `strict`; a changed key is refused in any case.
            sudo: Run commands as root, through `sudo -n` or, where there is no sudo, `doas -n`.
            through: A program and its arguments, as a list, that every command is run through, e.g. `chroot`.
            libvirt_uri: Which libvirt daemon of the host is used: `qemu:///system` or `qemu:///session`. Add `?socket=`
                and a path for a socket elsewhere on the host, e.g. of a container's libvirt.
            connect_timeout: How long each step of connecting may take; by default `ConnectTimeout`, else 15 s.
            ssh_config: `no` reads no SSH configuration; a path reads that file in place of the user's and the system's.

        Returns:
            The alias.

        Raises:
            InvalidValueError: The alias is taken, the address or the libvirt URI is of none of these forms, or the SSH
                configuration has a line that is wrong.
            HostKeyError: The host's key is unknown or has changed.
            AccessDeniedError: The host refused the credentials.
            UnreachableError: The host cannot be reached.

        Example:

        ```robotframework
        *** Test Cases ***
        Two Hosts
            Open Host    192.0.2.13    user=qa    sudo=True    alias=left
            Open Host    qa@192.0.2.14:2222    password=${PASSWORD}    alias=right
            Switch Host    left
        ```
        """
        request = SshRequest(
            address,
            port=port,
            user=user,
            password=None if password is None else password.value,
            key_file=key_file,
            key_passphrase=None if key_passphrase is None else key_passphrase.value,
            known_hosts=known_hosts,
            host_key=host_key,
            sudo=sudo,
            connect_timeout=None if connect_timeout is None else connect_timeout.total_seconds(),
            config=ConfigFiles.named(ssh_config),
        )
        settings = resolve(request)
        name = alias or parse_address(address).host
        return open_through(self._context, name, _through(SshTransport(settings), through), Daemon.of(libvirt_uri))

    @keyword(tags=("host",))
    def open_local_host(
        self, alias: str = "local", *, sudo: bool = False, through: Sequence[str] = (), libvirt_uri: str = SYSTEM_URI
    ) -> str:
        """Open the machine that the tests run on and make it the current host.

        Args:
            alias: The name by which other keywords know the host.
            sudo: Run commands as root, through `sudo -n` or, where there is no sudo, `doas -n`.
            through: A program and its arguments, as a list, that every command is run through: `nsenter` leaves a
                container for the machine itself.
            libvirt_uri: Which libvirt daemon of the host is used: `qemu:///system` or `qemu:///session`. Add `?socket=`
                and a path for a socket elsewhere on the host, e.g. of a container's libvirt.

        Returns:
            The alias.

        Raises:
            InvalidValueError: The alias is taken.

        Example:

        ```robotframework
        *** Test Cases ***
        This Machine
            Open Local Host
            Host Should Support Vpmem

        Out Of A Container
            VAR    @{machine} =    nsenter    -t    1    -m    --
            Open Local Host    machine    through=${machine}
        ```
        """
        transport = _through(LocalTransport(sudo=sudo), through)
        return open_through(self._context, alias, transport, Daemon.of(libvirt_uri))

    @keyword(tags=("host",))
    def open_host_from_file(self, hosts: str, name: str = "", *, alias: str = "", through: Sequence[str] = ()) -> str:
        """Open a host that a hosts file describes and make it the current one.

        A hosts file has one section a host and is also what pabot takes as `--resourcefile`. The fields
        `guest_kernel`, `guest_initrd`, `guest_cmdline` or `guest_disk` say what guests boot from on that host, as
        [Set Guest Image] does.

        Args:
            hosts: The file's path, or `lab` for the lab that is running on this machine.
            name: The section; the first one by default.
            alias: The name by which other keywords know the host; the section's name by default.
            through: A program and its arguments, as a list, that every command is run through, in place of the
                section's `host_through`.

        Returns:
            The alias.

        Raises:
            InvalidValueError: The file is absent or is not of the form.
            NotFoundError: No section has that name.
            UnreachableError: The host cannot be reached.

        Example:

        ```robotframework
        *** Test Cases ***
        The Third Host Of The Rack
            Open Host From File    ${CURDIR}/hosts.dat    rack1-pmem3
        ```
        """
        entry = find_host(entries_of(hosts), name)
        return open_entry(self._context, replace(entry, through=tuple(through)) if through else entry, alias)

    @keyword(tags=("host", "guest"))
    def open_guest_as_host(self, guest: Guest | str, alias: str = "") -> str:
        """Open a running guest of the current host as a host of its own, and make it the current one.

        A guest is a host too: every keyword for a host's regions, labels, namespaces, content, file systems and state
        then works on what the guest's kernel has, through the channel that the guest is looked into by at that moment:
        its QEMU guest agent, or what [Use Guest Channel] said. Namespaces that are made there carry this run's mark as
        well. Labels may be initialised, and the guest be rebooted by [Reboot Host], when this run made the guest. No
        libvirt is reached in a guest, so keywords that need one are refused.

        Closing it ends nothing in the guest. It is closed with its host, and when [Clean Up Host] removes the guest.

        Args:
            guest: The guest or its name.
            alias: The name by which other keywords know it as a host; the guest's name by default.

        Returns:
            The alias.

        Raises:
            InvalidValueError: The alias is taken.
            NotFoundError: There is no such guest.
            UnsupportedError: The current host is a guest itself.
            GuestError: The guest is not running, or does not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        A Namespace In The Guest's Device
            ${guest} =    Start New Guest    vpmem=${device}
            Open Guest As Host    ${guest}    alias=inside
            Initialize Labels    region0
            ${namespace} =    Create Namespace    region0    mode=fsdax    size=at least 64MiB
            Namespace Views Should Agree    ${namespace}
            Close Host    inside
        ```
        """
        outer = self._context.current
        outer.refuse_inside()
        found = outer.guest(guest)
        own = found.made_by() == self._context.run.run_id
        alias = keep(self._context, alias or found.name, found.transport, inside=found)
        opened = self._context.find(alias)
        opened.may_initialize_labels = opened.may_reboot = own
        return alias

    @keyword(tags=("host", "getter"))
    def get_host_entry(self, hosts: str, name: str = "") -> HostEntry:
        """Return how a hosts file says that a host is reached; nothing is opened.

        The record has no password: of passwords it has the names of environment variables. How the record is shown in
        the log has no arguments of the commands that switch the host's power and CXL devices.

        Args:
            hosts: The file's path, or `lab` for the lab that is running on this machine.
            name: The section; the first one by default.

        Returns:
            A record with `name`, `address`, `port`, `user`, `key_file`, `known_hosts`, `sudo` and more.

        Raises:
            InvalidValueError: The file is absent or is not of the form.
            NotFoundError: No section has that name.

        Example:

        ```robotframework
        *** Test Cases ***
        As Another User
            ${entry} =    Get Host Entry    ${CURDIR}/hosts.dat    rack1-pmem3
            Open Host    ${entry.address}    guest    port=${entry.port}
        ```
        """
        return find_host(entries_of(hosts), name)

    @keyword(tags=("host", "getter"))
    def get_host_names(self, hosts: str) -> list[str]:
        """Return the names of the hosts in a hosts file, sorted; nothing is opened.

        Args:
            hosts: The file's path, or `lab` for the lab that is running on this machine.

        Returns:
            The names of the sections.

        Raises:
            InvalidValueError: The file is absent or is not of the form.

        Example:

        ```robotframework
        *** Test Cases ***
        Two Of Them
            ${names} =    Get Host Names    ${CURDIR}/hosts.dat
            Skip If    len($names) < 2    Only one host is given.
        ```
        """
        return sorted(entry.name for entry in entries_of(hosts))

    @keyword(tags=("host",))
    def switch_host(self, alias: str) -> str:
        """Make another open host the current one.

        Args:
            alias: The host's alias.

        Returns:
            The alias of the host that was the current one.

        Raises:
            NotFoundError: No host is open by that alias; the message names those that are.

        Example:

        ```robotframework
        *** Test Cases ***
        There And Back
            ${before} =    Switch Host    right
            Run On Host    uptime
            Switch Host    ${before}
        ```
        """
        return self._context.switch(alias)

    @keyword(tags=("host",))
    def close_host(self, alias: str = "") -> None:
        """End the connections to a host; what runs on it goes on running.

        Guests of it that are open as hosts are closed with it. Closing such a guest leaves its host open.

        Args:
            alias: The host's alias; the current host by default.

        Raises:
            NotFoundError: No host is open by that alias.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Close Host
        ```
        """
        self._context.close(alias)

    @keyword(tags=("host",))
    def close_all_hosts(self) -> None:
        """End the connections to every open host; harmless when none is open.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Close All Hosts
        ```
        """
        self._context.close_all()

    @keyword(tags=("host", "getter"))
    def get_open_hosts(self) -> list[str]:
        """Return which hosts are open.

        Returns:
            Their aliases, in the order of opening.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Open
            ${aliases} =    Get Open Hosts
            Should Be Empty    ${aliases}
        ```
        """
        return self._context.aliases

    @keyword(tags=("host", "getter"))
    def get_host_facts(self) -> HostFacts:
        """Return what the current host is, in one read, and show it in the log.

        Returns:
            A record with `kernel`, `modules`, `ndctl`, `daxctl`, `libvirt`, `qemu`, `regions`, `numa_nodes`,
            `kvm_usable` and more; what is not there is empty or None.

        Raises:
            CommandError: The host has no POSIX shell.

        Example:

        ```robotframework
        *** Test Cases ***
        The Host Has KVM
            ${facts} =    Get Host Facts
            Should Be True    ${facts.kvm_usable}
        ```
        """
        facts = self._context.host.facts()
        log_table(f"Facts of {self._context.host.alias}", ("fact", "value"), facts.as_rows())
        return facts

    @keyword(tags=("host", "assertion"))
    def host_should_support_vpmem(self) -> None:
        """Fail unless the current host has all that virtual persistent memory needs.

        Every item is shown in the log with what was found; the failure lists each missing one with its mend. The floors
        are those that Nova documents for vPMEM: kernel 4.18, QEMU 3.1, libvirt 5.0, ndctl 62.

        Raises:
            UnsupportedError: Something is missing; one line an item, with the exact mend.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Host Should Support Vpmem
        ```
        """
        preflight = self._context.host.preflight()
        rows = [(item.name, item.status, item.found, item.needed, item.mend) for item in preflight.items]
        marked = {(i, 1) for i, item in enumerate(preflight.items) if not item.passed}
        log_table(
            f"Preflight of {self._context.host.alias}",
            ("item", "status", "found", "needed", "mend"),
            rows,
            marked=marked,
        )
        if not preflight.passed:
            raise UnsupportedError(preflight.describe())

    @keyword(tags=("host",))
    def run_on_host(
        self,
        *command: str,
        timeout: timedelta | None = None,
        stdin: str | Secret = "",
        expected_status: int | None = 0,
    ) -> CommandResult:
        """Run a command on the current host.

        The command is a list of arguments and no shell reads it: `|`, `;` and `*` mean nothing. The log shows it in a
        form that can be pasted into a shell.

        All arguments are logged, and every user of the host can read them in its list of processes: do not give a
        password as an argument. Give it as `stdin`, as a `Secret`, which no log shows. What the command prints is
        logged at level DEBUG, and is part of the message when the command fails.

        Args:
            command: The program and its arguments, one each.
            timeout: How long it may take; the library's own timeout by default. It is ended when it takes longer.
            stdin: What the command reads; a `Secret` is shown at no log level, other text at level TRACE.
            expected_status: The exit status that it must have; `None` for any.

        Returns:
            A result with `exit_status`, `text` (standard output), `error_text`, `stdout` and `stderr` (bytes),
            `seconds` and `command`.

        Raises:
            CommandError: Another exit status; the message has the command, the status and standard error.
            CommandTimeoutError: It took too long.
            UnreachableError: The connection broke.

        Example:

        ```robotframework
        *** Test Cases ***
        Kernel
            ${result} =    Run On Host    uname    -r
            Should Start With    ${result.text}    6.

        A Password By Standard Input
            VAR    ${PASSWORD: Secret}    %{QA_PASSWORD}
            Run On Host    cryptsetup    open    /dev/pmem0    vault    --key-file    -    stdin=${PASSWORD}
        ```
        """
        seconds = self._context.timeout if timeout is None else timeout.total_seconds()
        return self._context.host.run(command, timeout=seconds, stdin=to_bytes(stdin)).expect(expected_status)

    @keyword(tags=("host",))
    def set_command_timeout(self, timeout: timedelta) -> timedelta:
        """Set how long a command on a host or in a guest, or a call to libvirt, may take when its keyword says nothing.

        It holds for every open host and for those that are opened later.

        Args:
            timeout: The new timeout, e.g. `2 minutes`; more than 0.

        Returns:
            The timeout that held before.

        Raises:
            InvalidValueError: It is not more than 0; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        A Slow Host
            ${before} =    Set Command Timeout    5 minutes
            Create Namespace    region0    mode=fsdax
            [Teardown]    Set Command Timeout    ${before}
        ```
        """
        if timeout <= timedelta():
            raise InvalidValueError("timeout", str(timeout), "more than 0, e.g. 2 minutes")
        before = timedelta(seconds=self._context.timeout)
        self._context.set_timeout(timeout.total_seconds())
        return before


def _through(transport: Transport, prefix: Sequence[str]) -> Transport:
    return ThroughTransport(transport, prefix) if prefix else transport
