"""Chunks in threads of this process."""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from manyhands.crew import Crew
from manyhands.errors import ProtocolError
from manyhands.executor import BaseExecutor, Capabilities, Progress, checked_count

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext

_THREADS_PER_CPU: Final = 5
_QUEUED: Final = 2
"""Chunks that wait beside those that run, so that no thread has to wait for the driver."""


class ThreadExecutor(BaseExecutor):
    """Runs chunks in threads: for hooks and validators that wait for something.

    Each thread is a worker: it calls `setup` and `teardown` of the hooks once, and has a store of its own. The hooks
    themselves are shared by all, so what they keep on `self` must bear that.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        max_workers: how many threads; None: five for each CPU.
        chunksize: records in a chunk; None: 1 in jobs with hooks, else as in `BaseExecutor`.
        use_batch_validation: validate a chunk by one call.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "threads"
    capabilities: Capabilities = Capabilities(concurrent=True, reports_progress=True)

    def __init__(
        self,
        schema_model: type[Any] | None = None,
        max_workers: int | None = None,
        chunksize: int | None = None,
        *,
        use_batch_validation: bool = False,
    ) -> None:
        super().__init__(schema_model, chunksize=chunksize, use_batch_validation=use_batch_validation)
        self.max_workers: int = checked_count("max_workers", max_workers) or _THREADS_PER_CPU * (os.cpu_count() or 1)
        self._crew: Crew | None = None

    def chunksize_for(self, context: WorkerContext) -> int | None:
        """A record each where hooks may wait, so that as many as there are threads wait side by side."""
        return 1 if self.chunksize is None and context.hooked else self.chunksize

    def start(self, context: WorkerContext) -> None:
        """Start the threads; return when one is set up. Those that fail then are logged and done without."""
        size = self.max_workers
        first = size if context.hooked else 1  # the others when the schema turns out to call code that may wait
        crew = Crew(context.clone, self.process_chunk_on_worker, name=self.name, size=size, first=first)
        crew.start()
        self._crew = crew

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Queue the chunk for the next thread that is free."""
        if self._crew is not None:
            return self._crew.submit(chunk)
        future: Future[ChunkResult] = Future()
        future.set_exception(ProtocolError("submit() before start()"))
        return future

    def shutdown(self, *, cancel: bool = False) -> None:
        """Run the hooks' `teardown` in each thread and end it."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.close(cancel=cancel)

    def slots(self) -> int:
        """As many as keep every thread busy."""
        return (self._crew.size + self._crew.evicted if self._crew else self.max_workers) + _QUEUED

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the thread is that runs the chunk."""
        return self._crew.progress(future) if self._crew else None

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Abandon the thread that runs the chunk, and start another: a thread cannot be killed."""
        if self._crew is not None:
            self._crew.evict(future)
        return False
