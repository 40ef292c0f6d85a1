"""The format of the lines on a serial console. It tolerates kernel messages between and inside lines.

Many programs write to a console. The kernel may write at any time, even in the middle of a line. So each line begins
with a nonce, has a length or a checksum, and has an end mark. A damaged line counts as missing and is requested again.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import secrets
import zlib
from collections.abc import Iterator

from msgspec import Struct

from VpmemLibrary.errors import GuestError
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.output import MOST_OUTPUT
from VpmemLibrary.transport.serial.script import FIRST, PART, SUM

LINE = 512
"""Characters of a file in one request. A terminal's line has at most 4095 characters (kernel, drivers/tty/n_tty.c)."""

MOST_PARTS = MOST_OUTPUT // PART + 1
"""Maximum number of parts of a command's result."""

_LONGEST = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS
_NUMBER = re.compile(r"[0-9]{1,9}")


class ScriptAnswer(Struct, frozen=True):
    """The script's answer to request `number`."""

    number: int
    words: tuple[str, ...]


class Part(Struct, frozen=True):
    """One part of a command's result. Request `number` ran the command. `index` counts from 0."""

    number: int
    index: int
    data: bytes


def new_nonce() -> str:
    """Return a random word for the beginning of all lines of a session. No other text on the console has this word."""
    return secrets.token_hex(4)


def checksum(data: bytes) -> str:
    """Return the first characters of the output of ``md5sum``. Every busybox has ``md5sum``. Some lack ``cksum``."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()[:SUM]


def file_sum(data: bytes) -> str:
    """Return the text that identifies a file in a request: its checksum, or ``-`` for an empty file."""
    return checksum(data) if data else "-"


def request_line(nonce: str, number: int, text: str) -> bytes:
    """Return the line of a request."""
    body = f"{number} {text}"
    return f": {nonce} {len(body)} {body}\n".encode()


def packed(data: bytes, packing: str) -> bytes:
    """Return bytes in the form that the script unpacks. `packing` is the script's command: ``gzip ...``, or ``cat``."""
    return gzip.compress(data) if packing.startswith("gzip") else data


def unpacked(data: bytes, packing: str) -> bytes:
    """Return the original bytes of received data; see `packed`.

    Raises:
        GuestError: The data is damaged, or larger than `MOST_OUTPUT`.
    """
    if packing.startswith("gzip"):
        unpacker = zlib.decompressobj(_GZIP)
        try:
            data = unpacker.decompress(data, MOST_OUTPUT + 1)
        except zlib.error as error:
            raise GuestError(f"The result of a command cannot be unpacked by gzip ({error}).") from error
        if len(data) <= MOST_OUTPUT and not unpacker.eof:
            raise GuestError("The end of a command's result is missing.")
    if len(data) > MOST_OUTPUT:
        raise GuestError(
            f"The output of a command has more than {Size(MOST_OUTPUT)}, so it cannot be read. Write the output to a "
            "file in the guest."
        )
    return data


def file_lines(data: bytes) -> list[str]:
    """Return a file as base64 lines, one line for each request."""
    text = base64.b64encode(data).decode()
    return [text[start : start + LINE] for start in range(0, len(text), LINE)]


class Reader:
    """Find answers and parts in the output of a console."""

    def __init__(self, nonce: str) -> None:
        self._answer = re.compile(rb"@%b (\d{1,4}) " % nonce.encode())
        self._part = re.compile(rb"#%b (\d{6}) ([0-9a-f]{8}) (\d{6}) ([A-Za-z0-9+/]+={0,2}) \." % nonce.encode())
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[ScriptAnswer | Part]:
        """Yield the answers and parts in the lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LONGEST:]
        for line in lines:
            yield from self._answers(line)
            yield from self._parts(line)

    def _answers(self, line: bytes) -> Iterator[ScriptAnswer]:
        at = 0
        while found := self._answer.search(line, at):
            at, end = found.end(), found.end() + int(found[1])
            if line[end : end + 2] != b" .":
                continue
            number, *words = line[at:end].decode("ascii", "replace").split(" ")
            at = end  # search after this answer, so that all answers together are at most as long as the line
            if _NUMBER.fullmatch(number):
                yield ScriptAnswer(int(number), tuple(words))

    def _parts(self, line: bytes) -> Iterator[Part]:
        for found in self._part.finditer(line):
            if checksum(found[4]) != found[2].decode():
                continue
            index, data = int(found[3]) - FIRST, _octets(found[4])
            if 0 <= index < MOST_PARTS and 0 < len(data) <= PART:
                yield Part(int(found[1]), index, data)


def _octets(text: bytes) -> bytes:
    """Return the bytes of a part, or no bytes if the text is not base64."""
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""
