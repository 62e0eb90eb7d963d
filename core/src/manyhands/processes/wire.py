"""Messages between a launcher and its fork server: JSON that takes file descriptors along."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

Message = dict[str, Any]

_HEAD: Final = 4
"""Bytes that say how long the message is; the descriptors travel with them."""

_ROOM: Final = socket.CMSG_LEN(256 * array.array("i").itemsize)
_SEND_FLAGS: Final[int] = getattr(socket, "MSG_NOSIGNAL", 0)  # whoever embeds us may have brought SIGPIPE back
_RECEIVE_FLAGS: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def send(peer: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send a message and copies of descriptors.

    Raises:
        ConnectionError: the peer has gone.
        OSError: a descriptor cannot be sent; nothing was.
    """
    body = json.dumps(message).encode()
    head = len(body).to_bytes(_HEAD, "big")
    # Not socket.send_fds: it forgets its flags up to Python 3.11.
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    peer.sendmsg([head], rights, _SEND_FLAGS)
    peer.sendall(body, _SEND_FLAGS)


def receive(peer: socket.socket) -> tuple[Message, list[int]]:
    """The next message and its descriptors, which belong to the caller.

    There may be fewer than were sent: as many as this process may still open.

    Raises:
        EOFError: the peer has gone.
    """
    head, rights, *_ = peer.recvmsg(_HEAD, _ROOM, _RECEIVE_FLAGS)
    fds = array.array("i")
    for *_, data in rights:
        fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)  # not every system can receive them so
    try:
        head += _read(peer, _HEAD - len(head))
        message: Message = json.loads(_read(peer, int.from_bytes(head, "big")))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, list(fds)


def _read(peer: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
