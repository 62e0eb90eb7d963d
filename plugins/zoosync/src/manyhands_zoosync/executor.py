"""Chunks in worker processes, through shared memory."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from manyhands.cpus import cpus
from manyhands.errors import ProtocolError, RunAborted, WorkerInitError
from manyhands.executor import BaseExecutor, Capabilities, Compression, Progress, checked_count
from manyhands.processes.launch import StartMethod, known_start_method
from manyhands_zoosync.chunkdesk import ChunkDesk, arena_bytes
from manyhands_zoosync.chunkstaff import ChunkStaff
from manyhands_zoosync.dispatcher import Dispatcher
from manyhands_zoosync.job import ChunkJob
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import best_kind
from manyhands_zoosync.plugin import CAPABILITIES

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext

_LOOK_SECONDS: Final = 0.05
_RING_BYTES: Final = 2 << 20
_SLOTS_PER_WORKER: Final = 32


class ZoosyncExecutor(BaseExecutor):
    """Runs chunks in worker processes that take them out of shared memory by themselves.

    Chunks and results lie in memory that all of them see; pipes carry nothing but a byte to wake who sleeps. A worker
    claims a chunk when it has nothing else to do, so no chunk waits for a worker that is busy while another is not. A
    worker that dies is replaced at once; the chunk that it had begun is run again, narrowed down to the record that
    kills, and only that one is given up. No worker outlives this process, however it ends, and nothing has a name that
    could be left behind.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        max_workers: processes; None: one for each CPU that this process may use.
        chunksize: records in a chunk; None: raw blocks of about 256 KiB, or 1000 records.
        compression: `"lz4"` to compress what travels.
        use_batch_validation: validate a chunk by one call, unless the schema calls code of the person's.
        start_method: `forkserver` forks workers from a fresh interpreter that has nothing but manyhands loaded;
            `spawn` starts a fresh interpreter for each.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "zoosync"
    capabilities: Capabilities = CAPABILITIES
    _crew: _Crew | None = None
    _context: WorkerContext | None = None

    def __init__(
        self,
        schema_model: type[Any] | None = None,
        max_workers: int | None = None,
        chunksize: int | None = None,
        compression: Compression = None,
        *,
        use_batch_validation: bool = False,
        start_method: StartMethod = "forkserver",
    ) -> None:
        super().__init__(
            schema_model, chunksize=chunksize, use_batch_validation=use_batch_validation, compression=compression
        )
        self.max_workers: int = checked_count("max_workers", max_workers) or cpus()
        self.start_method: StartMethod = known_start_method(start_method)

    def start(self, context: WorkerContext) -> None:
        """Start the workers, and wait until one is ready.

        Raises:
            UnpicklableError: something of the job cannot travel.
            WorkerInitError: no worker could start.
        """
        dumped = context.dumps()
        try:
            self._crew = crew = _Crew(dumped, context, self.max_workers, self.start_method)
        except (OSError, RuntimeError) as error:
            raise WorkerInitError(f"the workers cannot be started: {error}") from error
        self._context = context
        while not crew.staff.started.wait(_LOOK_SECONDS):
            if context.cancelled.is_set():
                raise RunAborted("the run was aborted")
        broken = crew.staff.error
        if broken is not None:
            raise broken if isinstance(broken, WorkerInitError) else WorkerInitError(str(broken))

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Let the next free worker have the chunk."""
        crew = self._running
        future = crew.dispatcher.submit(chunk)
        if crew.staff.ended.is_set():
            crew.staff.fail_rest()
        return future

    def shutdown(self, *, cancel: bool = False) -> None:
        """End the workers: after what they have, or at once."""
        crew = self._crew
        if crew is None:
            return
        crew.staff.finish(cancel=cancel)
        while not crew.staff.ended.wait(_LOOK_SECONDS):
            if not cancel and self._context is not None and self._context.cancelled.is_set():
                cancel = True
                crew.staff.finish(cancel=True)
        # Not before: who was interrupted while waiting may ask again.
        self._crew = None
        crew.staff.close()

    def slots(self) -> int:
        """What the workers run, and what waits so that none of them does."""
        return self._running.dispatcher.slots

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the chunk's worker is."""
        crew = self._running
        return crew.dispatcher.progress(future, crew.staff.name_of)

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Kill the chunk's worker; another takes its place."""
        self._running.staff.evict(future)
        return True

    @property
    def _running(self) -> _Crew:
        if self._crew is None:
            raise ProtocolError("this executor is used before start() or after shutdown()")
        return self._crew


class _Crew:
    """All that there is while there are workers.

    Args:
        dumped: the job as bytes.
        context: the job.
        workers: how many.
        start_method: how they start.

    Raises:
        OSError: there is no memory, or there are no descriptors, for it.
        RuntimeError: this system has no thread for it.
    """

    def __init__(self, dumped: bytes, context: WorkerContext, workers: int, start_method: StartMethod) -> None:
        layout = Layout(_SLOTS_PER_WORKER * workers, workers, _RING_BYTES, arena_bytes())
        argv = [argument for argument in sys.argv if isinstance(argument, str)]
        job = ChunkJob(layout, best_kind(), 1, dumped, argv)
        with ExitStack() as opened:
            saved = job.save()
            opened.callback(saved.close)
            desk = ChunkDesk(layout, job.lock)
            opened.callback(desk.close)
            self.dispatcher: Dispatcher = Dispatcher(desk, workers, context.max_hook_chunk_size)
            self.staff: ChunkStaff = ChunkStaff(
                desk, self.dispatcher, saved, workers, start_method, hooked=context.hooked
            )
            self.staff.start()
            opened.pop_all()
