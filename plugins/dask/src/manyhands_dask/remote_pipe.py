"""A pipe in a Dask worker: it says how far it is on a board of its own, which is told to the program."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Final

from manyhands.engines.board import Board
from manyhands.engines.places import run_at
from manyhands.engines.task import Outcome, run_pipe
from manyhands_dask.seat import Place, here

if TYPE_CHECKING:
    from manyhands.pipe import Pipe

_BEAT_SECONDS: Final = 0.1


def run_there(pipe: Pipe, number: int) -> Outcome:
    """Run a pipe to its end; called in a seat of a desk.

    Args:
        pipe: which.
        number: of it.

    Raises:
        InputError: its input is not to be seen here; other errors are in the outcome.
    """
    return run_at(f"the worker on {socket.gethostname()}", lambda: _run(pipe, number))


def _run(pipe: Pipe, number: int) -> Outcome:
    place, ended = here(), threading.Event()
    board = Board.create(1, place.folder)
    telling = threading.Thread(target=_tell, args=(board, place, number, ended), name="manyhands-board", daemon=True)
    telling.start()
    try:
        return run_pipe(pipe, board.path, 0)
    finally:
        ended.set()
        telling.join()
        board.remove()
        board.close()


def _tell(board: Board, place: Place, number: int, ended: threading.Event) -> None:
    last = False
    while not last:
        last = ended.wait(_BEAT_SECONDS)
        is_cancelled, is_watched = place.flags()
        if is_watched:
            board.look()
        if is_cancelled:
            board.cancel()
        status = board.read(0)
        if status.heartbeat:
            place.tell(what="news", number=number, status=tuple(status))
