"""A pipe of the engine on another machine, where the engine's board cannot be seen.

It writes to a board of its own there. What stands on that goes with the answers of `Actor.attend` to the program, which
writes it onto the engine's; whether the run is to end goes the other way.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgpack

from manyhands.engines.board import Board, Status
from manyhands.engines.places import run_at
from manyhands.engines.task import Outcome, run_pipe
from manyhands_ray.board import pid_space

if TYPE_CHECKING:
    from manyhands.pipe import Pipe


class Messenger:
    """What runs in this worker, if that is a pipe away from its engine."""

    def __init__(self) -> None:
        self._running: tuple[Path, int, Board] | None = None

    def run(self, pipe: Pipe, path: Path, number: int) -> Outcome:
        """Run a pipe to its end, whatever that is.

        Args:
            pipe: which.
            path: of the board, on the machine of the engine.
            number: of the pipe.
        """
        with ExitStack() as stack:
            board = stack.enter_context(Board.create(number + 1))
            stack.callback(board.remove)
            self._running = (path, number, board)
            stack.callback(lambda: setattr(self, "_running", None))
            return run_pipe(pipe, board.path, number)

    def exchange(self, *, cancel: bool, look: bool) -> bytes:
        """What stands on the board here; nothing where no pipe runs.

        Args:
            cancel: let the pipe end.
            look: somebody wants to see where it is.
        """
        running = self._running
        if running is None:
            return b""
        path, number, board = running
        with suppress(ValueError):  # it was just closed
            if cancel:
                board.cancel()
            if look:
                board.look()
            packed: bytes = msgpack.packb((str(path), number, tuple(board.read(number))))
            return packed
        return b""


messenger: Final = Messenger()
"""Of this process."""


def run_away(pipe: Pipe, path: Path, number: int, space: str) -> Outcome:
    """Run a pipe in a worker, which may be on another machine than the board; errors name that.

    Args:
        pipe: which.
        path: of the board.
        number: of the pipe.
        space: where the board is, as `pid_space` says it; machines may share the folder that it is in.
    """
    is_near = space == pid_space() != "" and path.exists()
    run = run_pipe if is_near else messenger.run
    return run_at(f"the node {socket.gethostname()}", lambda: run(pipe, path, number))


def copy(note: bytes) -> tuple[bool, bool]:
    """Write onto the engine's board what `Messenger.exchange` has told.

    Args:
        note: of it.

    Returns:
        Whether the pipe is to end, and whether somebody wants to see where it is.
    """
    path, number, fields = msgpack.unpackb(note)
    with suppress(OSError), Board(Path(path)) as board:  # OSError: the run has ended
        status = Status(*fields)
        if status.heartbeat:  # by the clock of another machine
            board.write(number, status._replace(heartbeat=time.monotonic_ns()))
        return board.is_cancelled, board.is_watched
    return True, False
