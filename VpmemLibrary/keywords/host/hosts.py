"""Keywords that open hosts, describe hosts, and run commands on hosts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace
from robot.api.deco import keyword
from robot.api.types import Secret

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import find_host
from VpmemLibrary.host.libvirt_daemon import SYSTEM_URI, Daemon
from VpmemLibrary.keywords.support.converters import to_bytes
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.session.free_hosts import open_free_host
from VpmemLibrary.session.hosts import entries_of
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult, Transport
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport
from VpmemLibrary.transport.ssh.address import parse_address
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.settings import HostKeyPolicy


class HostKeywords:
    """Open, switch and close hosts; read their facts; check what they support; run commands."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
        """Open a host over SSH and make it the current host.

        The keyword connects immediately, so an unreachable host is reported here. All keywords share this connection,
        and libvirt uses it too. The library reads the user's own `known_hosts` but never writes to it.

        The address may be an alias of `~/.ssh/config`. The library follows that file as `ssh` does, including jump
        hosts and proxy commands. The arguments of this keyword take precedence over the file. The log lists the
        settings that came from the file.

        Args:
            address: The host's name or IP address, or `user@host:port`, `[IPv6]:port`, `ssh://user@host:port`.
            user: The user to log in as. The default is the user in the address or in the SSH configuration, else
                `root`.
            port: The SSH port. The default is the port in the address or in the SSH configuration, else 22.
            alias: The name of the host in other keywords. The default is the address without user and port.
            password: The password, as a `Secret`. Without a password, the library tries the key file, the agent and the
                user's keys.
            key_file: A private key.
            key_passphrase: The passphrase of the private key, as a `Secret`.
            known_hosts: The file that has the host's key. The default is `~/.ssh/known_hosts`.
            host_key: `strict` refuses an unknown or changed key. `accept_new` accepts an unknown key for this run. The
                default is the value of `StrictHostKeyChecking`, else `strict`. A changed key is always refused.
            sudo: Run commands as root, with `sudo -n`. If the host has no sudo, the library uses `doas -n`.
            through: A program and its arguments, as a list. Every command runs through this program, e.g. `chroot`.
            libvirt_uri: The libvirt daemon to use on the host: `qemu:///system` or `qemu:///session`. Add `?socket=`
                and a path if the socket is elsewhere on the host, e.g. for libvirt in a container.
            connect_timeout: The timeout of each step of connecting. The default is `ConnectTimeout`, else 15 s.
            ssh_config: `no` reads no SSH configuration. A path reads this file instead of the user's and the system's
                files.

        Returns:
            The alias.

        Raises:
            InvalidValueError: Another open host has the alias, the address or the libvirt URI has an invalid form, or a
                line of the SSH configuration is invalid.
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
        from VpmemLibrary.transport.ssh.transport import SshTransport  # noqa: PLC0415  large; needed only to connect

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
        transport = _through(SshTransport(settings), through)
        return _opened(self._session.open_transport(transport, name, libvirt=Daemon.of(libvirt_uri)))

    @keyword(tags=("host",))
    def open_local_host(
        self, alias: str = "local", *, sudo: bool = False, through: Sequence[str] = (), libvirt_uri: str = SYSTEM_URI
    ) -> str:
        """Open the machine that the tests run on and make it the current host.

        Args:
            alias: The name of the host in other keywords.
            sudo: Run commands as root, with `sudo -n`. If the host has no sudo, the library uses `doas -n`.
            through: A program and its arguments, as a list. Every command runs through this program. For example,
                `nsenter` leaves a container and runs commands on the machine itself.
            libvirt_uri: The libvirt daemon to use on the host: `qemu:///system` or `qemu:///session`. Add `?socket=`
                and a path if the socket is elsewhere on the host, e.g. for libvirt in a container.

        Returns:
            The alias.

        Raises:
            InvalidValueError: Another open host has the alias.

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
        return _opened(self._session.open_transport(transport, alias, libvirt=Daemon.of(libvirt_uri)))

    @keyword(tags=("host",))
    def open_host_from_file(
        self,
        hosts: str,
        *names: str,
        alias: str = "",
        through: Sequence[str] = (),
        free: bool = False,
        shared: bool = False,
        timeout: timedelta = timedelta(hours=2),
    ) -> str:
        """Open a host that a hosts file describes and make it the current host.

        A hosts file has one section for each host. pabot accepts the same file as `--resourcefile`. The fields
        `guest_kernel`, `guest_initrd`, `guest_cmdline` and `guest_disk` set what guests boot from on that host, as
        [Set Guest Image] does.

        With `free=True`, the keyword opens the first host that no worker has, and reserves it as [Reserve Host] does.
        If all hosts are reserved, it waits for the first host that becomes free. So any number of workers, of one test
        controller or of several, can share the hosts of a file. The keyword skips a host that is unreachable or cannot
        write its leases. A worker that needs several hosts should choose each next host from the names after the
        previous host's name, so that two workers never wait for each other.

        Args:
            hosts: The path of the hosts file, or `lab` for the lab that is running on this machine.
            names: The section of the host. The default is the first section. With `free`, all acceptable sections, in
                the order in which they are tried; the default is all sections of the file. Empty names are ignored.
            alias: The name of the host in other keywords. The default is the name of the section. Not valid together
                with `free`.
            through: A program and its arguments, as a list. Every command runs through this program. This list replaces
                the section's `host_through`.
            free: Open the first host that no worker has, and reserve it for this worker.
            shared: With `free`, share the host with other workers that also share it. Then no worker has it alone.
            timeout: With `free`, how long to wait for a free host.

        Returns:
            The alias.

        Raises:
            InvalidValueError: The hosts file does not exist or its format is invalid. Or the arguments do not fit
                together: several names or `shared` without `free`, or `alias` with `free`.
            NotFoundError: No section has one of the names.
            UnreachableError: The host is unreachable. With `free`: all hosts are unreachable.
            BusyError: Other workers still have all hosts. The message names the holders, and says since when.
            LeaseRecordError: No reachable host can write its leases.

        Example:

        ```robotframework
        *** Test Cases ***
        The Third Host Of The Rack
            Open Host From File    ${CURDIR}/hosts.dat    rack1-pmem3

        Any Host That No Other Worker Has
            Open Host From File    ${CURDIR}/hosts.dat    free=True    timeout=30 minutes
        ```
        """
        entries = entries_of(hosts)
        named = [name for name in names if name]
        chosen = [find_host(entries, name) for name in named] or list(entries if free else entries[:1])
        if through:
            chosen = [replace(entry, through=tuple(through)) for entry in chosen]
        if free:
            if alias:
                raise InvalidValueError("alias", alias, "no alias together with free=True: it is the section's name")
            found = open_free_host(self._session, chosen, shared=shared, timeout=timeout.total_seconds())
            logger.info(f"This worker has host {found.alias}.")
            return found.alias
        if len(named) > 1:
            raise InvalidValueError("names", ", ".join(named), "one name, or several names together with free=True")
        if shared:
            raise InvalidValueError("shared", "True", "False, or True together with free=True")
        return _opened(self._session.open(chosen[0], alias))

    @keyword(tags=("host", "guest"))
    def open_guest_as_host(self, guest: Guest | str, alias: str = "") -> str:
        """Open a running guest of the current host as a host, and make it the current host.

        All keywords for regions, labels, namespaces, content, file systems and host state then work in the guest, on
        the devices that its kernel has. They use the channel that the guest has when this keyword runs: the QEMU guest
        agent, or the channel that [Use Guest Channel] set. New namespaces in the guest carry this run's mark as well.

        If this run made the guest, its labels may be initialised, and [Reboot Host] may reboot it. The library does not
        use libvirt in a guest, so keywords that need libvirt are refused.

        Closing this host stops nothing in the guest. It is also closed when the host that it runs on is closed, and
        when [Clean Up Host] removes the guest.

        Args:
            guest: The guest or its name.
            alias: The name of the guest as a host in other keywords. The default is the guest's name.

        Returns:
            The alias.

        Raises:
            InvalidValueError: Another open host has the alias.
            NotFoundError: The guest does not exist.
            UnsupportedError: The current host is itself a guest.
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
        return _opened(self._session.open_guest(guest, alias))

    @keyword(tags=("host", "getter"))
    def get_host_entry(self, hosts: str, name: str = "") -> HostEntry:
        """Return how to reach a host, as its section of a hosts file describes it. Open nothing.

        The record has no passwords, only the names of the environment variables that have them. In the log, the record
        does not show the arguments of the commands that switch the host's power and CXL devices.

        Args:
            hosts: The path of the hosts file, or `lab` for the lab that is running on this machine.
            name: The section of the host. The default is the first section.

        Returns:
            A record with `name`, `address`, `port`, `user`, `key_file`, `known_hosts`, `sudo` and more.

        Raises:
            InvalidValueError: The hosts file does not exist or its format is invalid.
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
        """Return the names of the hosts in a hosts file, sorted. Open nothing.

        Args:
            hosts: The path of the hosts file, or `lab` for the lab that is running on this machine.

        Returns:
            The names of the sections.

        Raises:
            InvalidValueError: The hosts file does not exist or its format is invalid.

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
    def reserve_host(self, *, shared: bool = False, timeout: timedelta = timedelta(hours=2)) -> None:
        """Reserve the current host for this worker alone. Wait while another worker has the host.

        The reservation is a lease that the host's own kernel keeps. It also works between test controllers on different
        machines. It ends with the worker's connection or when the host is closed. It keeps out only workers that
        reserve the host too. A worker that needs several hosts should reserve them in the order of their names, so that
        two workers never wait for each other. Workers may also share a host, with one region for each worker: see
        [Reserve Region].

        The lease is lost if the connection breaks and another worker reserves the host. Then every keyword that changes
        the host fails, until this keyword has reserved the host again.

        Args:
            shared: Share the host with other workers that also share it. Then no worker has the host alone.
            timeout: How long to wait.

        Raises:
            BusyError: Another worker still has the host, or this worker shares it. The message names the holder, and
                says since when.
            LeaseLostError: This worker lost the host that it had reserved. The next call reserves the host again.
            ToolMissingError: The host has no bash or no flock.

        Example:

        ```robotframework
        *** Test Cases ***
        Alone
            Open Host    192.0.2.13
            Reserve Host    timeout=10 minutes
        ```
        """
        self._session.current.tenancy.reservations.reserve_host(timeout.total_seconds(), shared=shared)

    @keyword(tags=("host",))
    def switch_host(self, alias: str) -> str:
        """Make another open host the current host.

        Args:
            alias: The host's alias.

        Returns:
            The alias of the previous current host.

        Raises:
            NotFoundError: No open host has that alias. The message lists the aliases of the open hosts.

        Example:

        ```robotframework
        *** Test Cases ***
        There And Back
            ${before} =    Switch Host    right
            Run On Host    uptime
            Switch Host    ${before}
        ```
        """
        return self._session.switch(alias)

    @keyword(tags=("host",))
    def close_host(self, alias: str = "") -> None:
        """Close the connections to a host. Programs that run on the host continue.

        Guests of this host that are open as hosts are closed too. If you close such a guest, the host that it runs on
        stays open.

        Args:
            alias: The host's alias. The default is the current host.

        Raises:
            NotFoundError: No open host has that alias.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Close Host
        ```
        """
        self._session.close(alias)

    @keyword(tags=("host",))
    def close_all_hosts(self) -> None:
        """Close the connections to every open host. Do nothing when no host is open.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Close All Hosts
        ```
        """
        self._session.close_all()

    @keyword(tags=("host", "getter"))
    def get_current_host(self) -> str:
        """Return the alias of the current host, on which keywords act.

        Returns:
            The alias.

        Raises:
            NotFoundError: No host is open.

        Example:

        ```robotframework
        *** Test Cases ***
        There And Back
            ${host} =    Get Current Host
            Open Guest As Host    ${guest}    alias=inside
            Switch Host    ${host}
        ```
        """
        return self._session.current.alias

    @keyword(tags=("host", "getter"))
    def get_open_hosts(self) -> list[str]:
        """Return the aliases of the open hosts.

        Returns:
            The aliases, in the order in which the hosts were opened.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Open
            ${aliases} =    Get Open Hosts
            Should Be Empty    ${aliases}
        ```
        """
        return self._session.aliases

    @keyword(tags=("host", "getter"))
    def get_host_facts(self) -> HostFacts:
        """Return the facts of the current host, such as versions and regions, and show them in the log.

        All facts come from one read of the host.

        Returns:
            A record with `kernel`, `modules`, `ndctl`, `daxctl`, `libvirt`, `qemu`, `regions`, `numa_nodes`,
            `kvm_usable` and more. A fact that the host does not have is empty or None.

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
        facts = self._session.host.facts()
        log_table(f"Facts of {self._session.host.alias}", ("fact", "value"), facts.as_rows())
        return facts

    @keyword(tags=("host", "assertion"))
    def host_should_support_vpmem(self) -> None:
        """Fail unless the current host has everything that virtual persistent memory needs.

        The log shows every required item and its value on the host. The failure lists each missing item and how to fix
        it. The minimum versions are those that Nova documents for vPMEM: kernel 4.18, QEMU 3.1, libvirt 5.0, ndctl 62.

        Raises:
            UnsupportedError: Something is missing. The message has one line for each missing item, with the exact fix.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Host Should Support Vpmem
        ```
        """
        preflight = self._session.host.preflight()
        rows = [(item.name, item.status, item.found, item.needed, item.fix) for item in preflight.items]
        marked = {(i, 1) for i, item in enumerate(preflight.items) if not item.passed}
        log_table(
            f"Preflight of {self._session.host.alias}",
            ("item", "status", "found", "needed", "fix"),
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

        The command is a list of arguments. No shell reads it, so `|`, `;` and `*` have no special meaning. The log
        shows the command in a form that can be pasted into a shell.

        Do not give a password as an argument. All arguments are logged, and every user of the host can read them in the
        host's list of processes. Give a password as `stdin`, as a `Secret`, which no log shows. The output of the
        command is logged at level DEBUG. If the command fails, the output is part of the message.

        Args:
            command: The program and its arguments, one each.
            timeout: The timeout of the command. The default is the library's own timeout. A command that takes longer
                is ended.
            stdin: The standard input of the command. A `Secret` is shown at no log level, other text at level TRACE.
            expected_status: The expected exit status. `None` accepts any exit status.

        Returns:
            A result with `exit_status`, `text` (standard output), `error_text`, `stdout` and `stderr` (bytes),
            `seconds` and `command`.

        Raises:
            CommandError: The exit status is not the expected one. The message has the command, the status and standard
                error.
            CommandTimeoutError: The command did not end within the timeout.
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
        seconds = self._session.timeout if timeout is None else timeout.total_seconds()
        return self._session.host.run(command, timeout=seconds, stdin=to_bytes(stdin)).expect(expected_status)

    @keyword(tags=("host",))
    def set_command_timeout(self, timeout: timedelta) -> timedelta:
        """Set the default timeout of commands on hosts and in guests, and of libvirt calls.

        The timeout applies when a keyword does not set its own. It applies to every open host and to hosts that are
        opened later.

        Args:
            timeout: The new timeout, e.g. `2 minutes`; more than 0.

        Returns:
            The previous timeout.

        Raises:
            InvalidValueError: The timeout is not more than 0. Nothing was changed.

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
        before = timedelta(seconds=self._session.timeout)
        self._session.set_timeout(timeout.total_seconds())
        return before


def _opened(opened: OpenHost) -> str:
    logger.info(f"Opened host {opened.alias}.")
    return opened.alias


def _through(transport: Transport, prefix: Sequence[str]) -> Transport:
    return PrefixedTransport(transport, prefix) if prefix else transport
