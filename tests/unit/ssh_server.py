"""An SSH server in this process that really runs the commands, and connects to where it is asked to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import paramiko

from VpmemLibrary.transport.ssh.transport import SshSettings

PASSWORD = "correct horse"


class Sessions(paramiko.ServerInterface):
    """Lets one user in, by password or key, and runs each command in a process group of its own, as sshd does."""

    def __init__(self, key: paramiko.PKey, server: Server, transport: paramiko.Transport) -> None:
        self._key = key
        self._server = server
        self._transport = transport

    def get_allowed_auths(self, username: str) -> str:
        return "password,publickey"

    def check_auth_password(self, username: str, password: str) -> int:
        good = (username, password) == ("qa", PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED  # type: ignore[attr-defined,no-any-return]

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == "qa" and key == self._key
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED  # type: ignore[attr-defined,no-any-return]

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED  # type: ignore[attr-defined,no-any-return]

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.answers.wait()  # meanwhile this thread of the server answers nothing at all
        line = self._server.prints_first.encode() + command
        threading.Thread(target=self._run, args=(channel, line), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if not self._server.forwards:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED  # type: ignore[attr-defined,no-any-return]
        try:
            target = socket.create_connection(destination, 5)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED  # type: ignore[attr-defined,no-any-return]
        self._server.forwarded.append(destination)
        threading.Thread(target=self._forward, args=(chanid, target), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED  # type: ignore[attr-defined,no-any-return]

    def _forward(self, chanid: int, target: socket.socket) -> None:
        channel = self._transport.accept()
        while channel is not None and channel.chanid != chanid:
            channel = self._transport.accept()
        if channel is None:
            return
        ends: tuple[tuple[paramiko.Channel | socket.socket, paramiko.Channel | socket.socket], ...]
        ends = ((channel, target), (target, channel))
        for source, sink in ends:
            threading.Thread(target=_carry, args=(source, sink), daemon=True).start()

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        assert isinstance(channel.transport, InOrder)
        channel.transport.wait_for_reply(channel.remote_chanid)
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin and process.stdout and process.stderr
        output, errors, entry = process.stdout, process.stderr, process.stdin

        def feed() -> None:
            with contextlib.suppress(OSError):
                while data := channel.recv(65536):
                    entry.write(data)
                    entry.flush()
            with contextlib.suppress(OSError):
                entry.close()

        def drain_errors() -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := os.read(errors.fileno(), 65536):
                    channel.sendall_stderr(data)

        threading.Thread(target=feed, daemon=True).start()
        reader = threading.Thread(target=drain_errors, daemon=True)
        reader.start()
        with contextlib.suppress(OSError, EOFError):
            while data := os.read(output.fileno(), 65536):
                if (lost := self._server.loses) and lost in data:
                    channel.sendall(data[: data.index(lost)])
                    channel.send_exit_status(0)
                    self._transport.close()
                    return
                channel.sendall(data)
        reader.join()
        status = process.wait()
        with contextlib.suppress(OSError, EOFError):
            if status >= 0:
                channel.send_exit_status(status)
            else:
                _send_exit_signal(channel, signal.Signals(-status).name.removeprefix("SIG"))
            channel.close()


def _carry(source: paramiko.Channel | socket.socket, sink: paramiko.Channel | socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError, EOFError):
        sink.close()


def _send_exit_signal(channel: paramiko.Channel, name: str) -> None:
    """Tell the client as sshd does (RFC 4254, section 6.10); paramiko's server cannot by itself."""
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)
    message.add_string(name)
    message.add_boolean(False)
    message.add_string("")
    message.add_string("")
    channel.transport._send_user_message(message)  # type: ignore[union-attr]  # not in the stubs


class InOrder(paramiko.Transport):
    """A server's side that can tell when the client was told that its command is taken: sshd does nothing before."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._replied = threading.Condition()
        self._taken: set[int] = set()

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc]  # not in the stubs
        sent = data.asbytes()
        if sent[:1] == paramiko.common.cMSG_CHANNEL_SUCCESS:
            with self._replied:
                self._taken.add(int.from_bytes(sent[1:5], "big"))
                self._replied.notify_all()

    def wait_for_reply(self, channel: int) -> None:
        with self._replied:
            self._replied.wait_for(lambda: channel in self._taken)
            self._taken.discard(channel)


class Server:
    """An SSH server on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.host_key = paramiko.ECDSAKey.generate()
        self.user_key = paramiko.RSAKey.generate(2048)
        self.key_file = directory / "id_rsa"
        self.user_key.write_private_key_file(str(self.key_file))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.known_hosts = directory / "known_hosts"
        self.transports: list[paramiko.Transport] = []
        self.forwards = True
        self.forwarded: list[tuple[str, int]] = []
        self.answers = threading.Event()
        """Whether requests to run a command are answered."""
        self.answers.set()
        self.prints_first = ""
        """A shell's command that is run before each command, as sshrc is."""
        self.loses = b""
        """The text at which the connection is lost, after the exit status was sent, as sshd may do it."""
        self.know(self.host_key)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def know(self, key: paramiko.PKey) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n")

    def settings(self) -> SshSettings:
        return SshSettings(
            "127.0.0.1",
            port=self.port,
            user="qa",
            key_file=self.key_file,
            known_hosts=self.known_hosts,
            use_agent=False,
            connect_timeout=10,
        )

    def break_connections(self) -> None:
        for transport in self.transports:
            transport.close()

    def close(self) -> None:
        self.answers.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # or the thread would go on accepting what is another server's
        self._thread.join(10)
        self._socket.close()
        self.break_connections()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                transport = InOrder(connection)
                transport.add_server_key(self.host_key)
                self.transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=Sessions(self.user_key, self, transport), event=threading.Event())
