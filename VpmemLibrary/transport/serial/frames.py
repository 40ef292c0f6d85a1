"""The lines that go over a serial console, made so that what a kernel writes in between cannot pass for a part of them.

A console is everybody's: the kernel writes to it whenever it likes, in the middle of a line as well. So each line has
a nonce in front, its length or its checksum, and an end; what is damaged is not there, and is asked for again.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from VpmemLibrary.errors import GuestError
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.limits import MOST_OUTPUT
from VpmemLibrary.transport.serial.script import FIRST, PART, SUM

LINE = 512
"""Characters of a file in one request: a terminal's line has 4095 at the most (kernel, drivers/tty/n_tty.c)."""

MOST_PARTS = MOST_OUTPUT // PART + 1
"""The most parts that the result of a command has."""

_LONGEST = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script said to a request.

    Args:
        number: The request's number.
        words: What it said.
    """

    number: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a command's result.

    Args:
        number: The number of the request that ran the command.
        index: Which part it is, from 0.
        data: Its bytes.
    """

    number: int
    index: int
    data: bytes


def new_nonce() -> str:
    """Return what a session's lines begin with: letters and digits that nothing else on a console has."""
    return secrets.token_hex(4)


def checksum(data: bytes) -> str:
    """Return the first characters of what ``md5sum`` prints, which any busybox has, as ``cksum`` it may lack."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()[:SUM]


def file_sum(data: bytes) -> str:
    """Return what a request tells of a file: its checksum, or ``-`` of an empty one."""
    return checksum(data) if data else "-"


def request_line(nonce: str, number: int, text: str) -> bytes:
    """Return the line of a request."""
    body = f"{number} {text}"
    return f": {nonce} {len(body)} {body}\n".encode()


def packed(data: bytes, packing: str) -> bytes:
    """Return bytes as they are sent.

    Args:
        data: The bytes.
        packing: What the script packs with: ``gzip ...``, or ``cat`` for nothing.
    """
    return gzip.compress(data) if packing.startswith("gzip") else data


def unpacked(data: bytes, packing: str) -> bytes:
    """Return what was sent as `data`.

    Args:
        data: The bytes as they came.
        packing: What the script packs with: ``gzip ...``, or ``cat`` for nothing.

    Raises:
        GuestError: It is damaged, or larger than `MOST_OUTPUT`.
    """
    if packing.startswith("gzip"):
        unpacker = zlib.decompressobj(_GZIP)
        try:
            data = unpacker.decompress(data, MOST_OUTPUT + 1)
        except zlib.error as error:
            raise GuestError(f"The result of a command was not packed by gzip ({error}).") from error
        if len(data) <= MOST_OUTPUT and not unpacker.eof:
            raise GuestError("The end of a command's result is missing.")
    if len(data) > MOST_OUTPUT:
        raise GuestError(
            f"The output of a command has more than {Size(MOST_OUTPUT)}, which is the most that is read. Write it to a "
            "file in the guest."
        )
    return data


def file_lines(data: bytes) -> list[str]:
    """Return a file as base64, a line each for a request of its own."""
    text = base64.b64encode(data).decode()
    return [text[start : start + LINE] for start in range(0, len(text), LINE)]


class Reader:
    """Finds answers and parts among all that a console shows, and keeps the rest for messages.

    Args:
        nonce: The session's nonce.
    """

    def __init__(self, nonce: str) -> None:
        self._answer = re.compile(rb"@%b (\d{1,4}) " % nonce.encode())
        self._part = re.compile(rb"#%b (\d{6}) ([0-9a-f]{8}) (\d{6}) ([A-Za-z0-9+/]+={0,2}) \." % nonce.encode())
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Answer | Part]:
        """Return what is whole in the lines that end with `data`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LONGEST:]
        for line in lines:
            yield from self._answers(line)
            yield from self._parts(line)

    def _answers(self, line: bytes) -> Iterator[Answer]:
        at = 0
        while found := self._answer.search(line, at):
            at, end = found.end(), found.end() + int(found[1])
            if line[end : end + 2] != b" .":
                continue
            number, *words = line[at:end].decode("ascii", "replace").split(" ")
            at = end  # an answer is never inside another one: all answers together are no longer than the line
            if _NUMBER.fullmatch(number):
                yield Answer(int(number), tuple(words))

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
