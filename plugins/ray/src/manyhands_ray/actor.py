"""What runs in a worker: the class of the actors. Every answer is bytes, so that Ray pickles none of it."""

from __future__ import annotations

import array
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgpack
import ray

from manyhands.errors import WorkerInitError
from manyhands.worker import pickles
from manyhands.worker.failures import words
from manyhands.worker.remote import RemoteWorker
from manyhands.worker.tuning import tune_process
from manyhands.worker.versions import versions
from manyhands_ray.board import Board, pid_space
from manyhands_ray.output import Output

DISTRIBUTION: Final = "manyhands-ray"
"""Of which a worker must have the same version as the program."""

Outcome = tuple[bool, bytes, bytes, list[bytes]]

_CALL_SECONDS: Final = 0.005
"""A call begins no further chunk after that."""

ASIDE: Final = "aside"
"""The concurrency group of what is asked while a chunk runs."""


class Actor:
    """A worker. All is called by the one thread in which chunks run, but for what says `aside`."""

    def __init__(self) -> None:
        self._output = Output()
        self._worker: RemoteWorker | None = None
        self._board: Board | None = None
        self._word: Any = array.array("Q", [0])
        self._cancelled = False

    def hello(self, path: str, token: int) -> bytes:
        """Who this is, and what runs here.

        Args:
            path: of the board.
            token: the number on it; a worker that cannot see it is on another machine.
        """
        with suppress(OSError, ValueError):
            board = Board(Path(path))
            self._board = board if board.token == token else None
        if self._board is not None:
            self._word = self._board.word
        host = socket.gethostname()
        about = {"pid": os.getpid(), "host": host, "near": self._board is not None, "space": pid_space()}
        packed: bytes = msgpack.packb({**about, "versions": versions(DISTRIBUTION)})
        return packed

    def set_up(self, job: bytes) -> bytes:
        """Load the job and run the hooks' `setup`; the answer holds the name of this worker.

        Args:
            job: what `WorkerContext.dumps` gave.
        """
        return self._answer(lambda: self._set_up(job))

    def run(self, message: bytes, call: int) -> bytes:
        """Run chunks, as many as there is time for, but for the first, and as the program wants by then.

        Args:
            message: a list of header and payload, as `dump_chunk` gives them, packed.
            call: number of the call, which waits until the board permits it to go on; 0: it need not.
        """
        if call and self._board is not None:
            self._board.wait(call)
        outcomes: list[Outcome] = []
        end = monotonic() + _CALL_SECONDS
        for header, payload in msgpack.unpackb(message):
            if (outcomes and monotonic() > end) or not self._begins(call):
                break
            outcomes.append(self._outcome(partial(self._run, header, payload)))
        packed: bytes = msgpack.packb(outcomes)
        return packed

    def tear_down(self) -> bytes:
        """Run the hooks' `teardown`."""
        return self._answer(self._tear_down)

    @ray.method(concurrency_group=ASIDE)  # type: ignore[untyped-decorator]  # Ray's own has no types
    def attend(self, seconds: float, cancel: bool, look: bool) -> bytes:
        """Aside: where the worker is, what it has printed, and how far the pipe is that runs in it.

        Args:
            seconds: to wait until it prints something.
            cancel: let that pipe end.
            look: somebody wants to see where that is.
        """
        output = self._output.take(seconds)
        packed: bytes = msgpack.packb((self._word[0], output, self._note(cancel=cancel, look=look)))
        return packed

    @staticmethod
    def _note(*, cancel: bool, look: bool) -> bytes:
        # Imported with the first pipe, in another thread: it may be there in part.
        messenger: Any = getattr(sys.modules.get("manyhands_ray.away"), "messenger", None)
        note: bytes = messenger.exchange(cancel=cancel, look=look) if messenger is not None else b""
        return note

    @ray.method(concurrency_group=ASIDE)  # type: ignore[untyped-decorator]  # as above
    def cancel(self) -> None:
        """Aside: no new record may start."""
        self._cancelled = True

    def _set_up(self, job: bytes) -> tuple[bytes, list[bytes]]:
        # Ray's thread has no name that tells it from others; this one is what reports call the worker.
        threading.current_thread().name = f"{os.getpid()}@{socket.gethostname()}"
        self._output.take_over()
        self._worker = RemoteWorker(job, self._is_cancelled, self._word)
        tune_process()
        return f"{os.getpid()}/{threading.current_thread().name}".encode(), []

    def _run(self, header: bytes, payload: bytes) -> tuple[bytes, list[bytes]]:
        if self._worker is None:
            raise WorkerInitError("a chunk came to a worker that is not set up")
        return self._worker.run(header, payload)

    def _begins(self, call: int) -> bool:
        return self._board is None or self._board.begin(call)

    def _tear_down(self) -> tuple[bytes, list[bytes]]:
        if self._worker is not None:
            self._worker.teardown()
        return b"", []

    def _is_cancelled(self) -> bool:
        return self._cancelled or (self._board is not None and self._board.is_cancelled)

    def _answer(self, call: Callable[[], tuple[bytes, list[bytes]]]) -> bytes:
        packed: bytes = msgpack.packb(self._outcome(call))
        return packed

    def _outcome(self, call: Callable[[], tuple[bytes, list[bytes]]]) -> Outcome:
        """Whether the call raised, what was printed, and what it returned."""
        failed, parts = False, list[bytes]()
        try:
            header, parts = call()
        except BaseException as error:  # noqa: BLE001  # Ray would wrap it into an exception of its own
            failed, header = True, pickles.dump_failure(_without_exit(error))
        return failed, self._output.take(), header, parts


def _without_exit(error: BaseException) -> BaseException:
    """What may be raised in the program: nothing that would end it."""
    if isinstance(error, Exception):
        return error
    return WorkerInitError(f"code of the job raised {type(error).__name__}: {words(error)}")
