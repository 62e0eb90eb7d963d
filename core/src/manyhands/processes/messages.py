"""Messages on a pipe between a supervisor and its worker.

    kind 1 byte | length of the header 4 | of the first part 8 | of the second part 8 | header | first | second

All numbers are little-endian. Both ends are of one program on one machine, so there is no version in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

_FRAME: Final = Struct("<BIQQ")
_ONE_WRITE: Final = 64 * 1024

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes:
        kind: what it says; the numbers are the users'.
        header: small.
        parts: two payloads, either of which may be empty.
    """

    kind: int
    header: bytes = b""
    parts: tuple[bytes, bytes] = (b"", b"")


def frame(kind: int, header: Buffer = b"", first: Buffer = b"", second: Buffer = b"") -> list[Buffer]:
    """The bytes of a message, as few buffers as possible without a copy of what is large."""
    head = _FRAME.pack(kind, len(header), len(first), len(second)) + header
    if len(first) + len(second) < _ONE_WRITE:
        return [b"".join((head, first, second))]
    return [part for part in (head, first, second) if len(part)]


class Unframer:
    """Makes messages of what was read, in whatever pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = _FRAME.size

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now."""
        self._pieces.append(data)
        self._held += len(data)
        messages: list[Message] = []
        if self._held >= self._wanted:
            rest = self._take_all(b"".join(self._pieces) if len(self._pieces) > 1 else data, messages)
            self._pieces, self._held = ([rest] if rest else []), len(rest)
        return messages

    def _take_all(self, data: bytes, messages: list[Message]) -> bytes:
        """What is left behind the last complete message."""
        offset = 0
        while True:
            self._wanted = _FRAME.size
            if len(data) - offset < _FRAME.size:
                return data[offset:]
            kind, *lengths = _FRAME.unpack_from(data, offset)
            self._wanted += sum(lengths)
            if len(data) - offset < self._wanted:
                return data[offset:]
            start = offset + _FRAME.size
            parts = []
            for length in lengths:
                parts.append(data[start : start + length])
                start += length
            messages.append(Message(kind, parts[0], (parts[1], parts[2])))
            offset = start


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    """Write a message to a pipe that blocks.

    Raises:
        OSError: nobody reads it any more.
    """
    for buffer in buffers:
        view = memoryview(buffer)
        while view:
            view = view[os.write(descriptor, view) :]
