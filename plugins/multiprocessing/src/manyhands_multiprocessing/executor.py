"""Chunks in worker processes of our own."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from manyhands.cpus import cpus
from manyhands.errors import ProtocolError, RunAborted, WorkerInitError
from manyhands.executor import BaseExecutor, Capabilities, Compression, Progress, checked_count
from manyhands.processes.launch import StartMethod, known_start_method
from manyhands_multiprocessing.plugin import CAPABILITIES
from manyhands_multiprocessing.supervisor import Staffing, Supervisor

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext

_LOOK_SECONDS: Final = 0.05


class MultiProcessingExecutor(BaseExecutor):
    """Runs chunks in worker processes, each with a pipe of its own, supervised by one thread.

    A worker that dies is replaced at once; the chunk that it had begun is run again, narrowed down to the record that
    kills, and only that one is given up. No worker outlives this process, however it ends.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        max_workers: processes; None: one for each CPU that this process may use.
        chunksize: records in a chunk; None: raw blocks of about 256 KiB, or 1000 records.
        compression: `"lz4"` to compress what travels.
        use_batch_validation: validate a chunk by one call, unless the schema calls code of the person's.
        start_method: `forkserver` forks workers from a fresh interpreter that has nothing but manyhands loaded;
            `spawn` starts a fresh interpreter for each.
        max_chunks_per_worker: after so many chunks a worker is replaced by a new one; None: never.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "multiprocessing"
    capabilities: Capabilities = CAPABILITIES
    _supervisor: Supervisor | None = None
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
        max_chunks_per_worker: int | None = None,
    ) -> None:
        super().__init__(
            schema_model, chunksize=chunksize, use_batch_validation=use_batch_validation, compression=compression
        )
        self.max_workers: int = checked_count("max_workers", max_workers) or cpus()
        self.max_chunks_per_worker: int | None = checked_count("max_chunks_per_worker", max_chunks_per_worker)
        self.start_method: StartMethod = known_start_method(start_method)

    def start(self, context: WorkerContext) -> None:
        """Start the workers, and wait until one is ready.

        Raises:
            UnpicklableError: something of the job cannot travel.
            WorkerInitError: no worker could start.
        """
        staffing = Staffing(self.max_workers, self.start_method, self.max_chunks_per_worker)
        try:
            supervisor = Supervisor(context, staffing)
            supervisor.start()
        except (OSError, RuntimeError) as error:
            raise WorkerInitError(f"the workers cannot be started: {error}") from error
        self._context, self._supervisor = context, supervisor
        while not supervisor.started.wait(_LOOK_SECONDS):
            if context.cancelled.is_set():
                raise RunAborted("the run was aborted")
        if supervisor.error is not None:
            raise (
                supervisor.error
                if isinstance(supervisor.error, WorkerInitError)
                else WorkerInitError(str(supervisor.error))
            )

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Give the chunk to the next free worker."""
        return self._running.submit(chunk)

    def shutdown(self, *, cancel: bool = False) -> None:
        """End the workers: after what they have, or at once."""
        supervisor = self._supervisor
        if supervisor is None:
            return
        supervisor.shutdown(cancel=cancel)
        while not supervisor.ended.wait(_LOOK_SECONDS):
            if not cancel and self._context is not None and self._context.cancelled.is_set():
                cancel = True
                supervisor.shutdown(cancel=True)
        # Not before: who was interrupted while waiting may ask again.
        self._supervisor = None
        supervisor.close()

    def slots(self) -> int:
        """What the workers run and hold, and one more for each to go on with."""
        return self.max_workers * (2 + self._running.ahead)

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the chunk's worker is."""
        return self._running.progress(future)

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Kill the chunk's worker; another takes its place."""
        self._running.evict(future)
        return True

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise ProtocolError("this executor is used before start() or after shutdown()")
        return self._supervisor
