"""A worker in a process that somebody else keeps: a process pool, a cluster, a queue.

chunk ─ dump_chunk ─▶ header, payload ─▶ RemoteWorker.run ─▶ header, parts ─ load_result ─▶ result
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, MutableSequence
from types import SimpleNamespace
from typing import Final

from manyhands.errors import ManyhandsError, ProtocolError
from manyhands.processes.signals import do_nothing
from manyhands.worker.cell import ProgressCell
from manyhands.worker.context import WorkerContext
from manyhands.worker.failures import as_init_error
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.transport import dump_result, load_chunk

_STRAY: Final = "a process that a hook has forked came back from the hook; it is ended\n"


class RemoteWorker:
    """The worker's side of a backend whose chunks leave the process. Made in the worker, it is set up.

    Nothing is asked of the way there and back but that it carries bytes, and that nobody else can write to it: the job
    is unpickled. All calls come from the thread that made it. A process that has it in its main thread ignores SIGINT
    from then on: ^C reaches all processes of a terminal, and it is the program that ends its workers.

    Args:
        job: what `WorkerContext.dumps` gave, or on other machines `with_sources` of `manyhands.worker.shipping`.
        cancelled: says whether the run is aborted; then no further record begins. It is called for each batch of
            records, or for each record, so it should take microseconds: `Path.exists` does. None: it never is.
        word: memory with one unsigned 64-bit number, in which the program can read by `read_progress` where the worker
            is: `memoryview.cast("Q")`, an array. None: nobody reads it.

    Raises:
        WorkerInitError: the job cannot be loaded here, or a hook's `setup` failed.
    """

    def __init__(
        self,
        job: bytes,
        cancelled: Callable[[], bool] | None = None,
        word: MutableSequence[int] | memoryview | None = None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, do_nothing)  # SIG_IGN would be inherited by whatever hooks start
        self._pid = os.getpid()
        self._context = _loaded(job)
        if cancelled is not None:
            self._context.cancelled = SimpleNamespace(is_set=cancelled)  # type: ignore[assignment]  # only that is used
        if word is not None:
            self._context.cell = ProgressCell(word)
        self._context.setup()

    def run(self, header: bytes, payload: bytes) -> tuple[bytes, list[bytes]]:
        """Run a chunk.

        Args:
            header: the first that `dump_chunk` gave.
            payload: the second.

        Returns:
            Header and parts, for `load_result`.

        Raises:
            Exception: what the chunk's future is to fail with; see `process_chunk_on_worker`.
        """
        chunk = load_chunk(header, payload)
        try:
            return dump_result(process_chunk_on_worker(chunk, self._context), chunk, self._context)
        finally:
            self._end_strays()

    def teardown(self) -> None:
        """Run the hooks' `teardown`. Idempotent.

        Raises:
            TeardownError: one of them failed.
        """
        self._context.teardown()

    def _end_strays(self) -> None:
        if os.getpid() != self._pid:
            sys.stderr.write(_STRAY)
            sys.stderr.flush()
            os._exit(1)


def _loaded(job: bytes) -> WorkerContext:
    try:
        return WorkerContext.loads(job)
    except ManyhandsError:
        raise
    except Exception as error:
        raise as_init_error(error) from error


_here: Final = threading.local()


def set_up(job: bytes, cancelled: Callable[[], bool] | None = None) -> None:
    """Make the `RemoteWorker` of this thread: for pools of processes, which call functions by name.

    Args:
        job: as there.
        cancelled: as there.

    Raises:
        WorkerInitError: as there.
    """
    _here.worker = RemoteWorker(job, cancelled)


def run(header: bytes, payload: bytes) -> tuple[bytes, list[bytes]]:
    """See `RemoteWorker.run`: this thread's.

    Args:
        header: as there.
        payload: as there.

    Raises:
        ProtocolError: this thread has none.
    """
    return _worker().run(header, payload)


def tear_down() -> None:
    """See `RemoteWorker.teardown`: this thread's.

    Raises:
        ProtocolError: this thread has none.
        TeardownError: as there.
    """
    _worker().teardown()


def _worker() -> RemoteWorker:
    worker: RemoteWorker | None = getattr(_here, "worker", None)
    if worker is None:
        raise ProtocolError("set_up() must be called first, in the same thread of the worker process")
    return worker
