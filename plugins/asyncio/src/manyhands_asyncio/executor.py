"""Chunks in threads whose async hooks share one event loop."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from manyhands.crew import Crew
from manyhands.errors import OptionsError, ProtocolError
from manyhands.executor import BaseExecutor, Capabilities, Progress, checked_count
from manyhands_asyncio.awaiter import LoopAwaiter
from manyhands_asyncio.desks import Desks
from manyhands_asyncio.host import LoopHost
from manyhands_asyncio.keeper import Keeper

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext

_MOST_WORKERS: Final = 32
_QUEUED: Final = 2
"""Chunks that wait beside those that run, so that no thread has to wait for the driver."""


class AsyncIOExecutor(BaseExecutor):
    """Runs async hooks on one event loop, where the calls for different records overlap, and all else in threads.

    All threads together are one worker: `setup` and `teardown` of the hooks are called once and all share a store.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        concurrency: how many calls of async hooks may overlap, of all chunks together.
        max_workers: how many threads may run hooks that are not async, and validation, at a time; those that wait for
            the event loop do not count. None: four more than there are CPUs.
        use_batch_validation: validate a chunk by one call.
        loop: an event loop to use, which is left open. One that runs is used as it is; then nothing may block its
            thread while the pipe runs. One that does not is run in a thread. None: one of the executor's own.
        chunksize: records in a chunk; see `BaseExecutor`.

    Raises:
        OptionsError: a value is not one of these, or the loop is closed.
    """

    name: str = "asyncio"
    capabilities: Capabilities = Capabilities(concurrent=True, reports_progress=True, async_native=True)

    def __init__(
        self,
        schema_model: type[Any] | None = None,
        concurrency: int = 10,
        max_workers: int | None = None,
        use_batch_validation: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        chunksize: int | None = None,
    ) -> None:
        super().__init__(schema_model, chunksize=chunksize, use_batch_validation=use_batch_validation)
        if type(concurrency) is not int or concurrency < 1:
            raise OptionsError(f"concurrency must be a number from 1, not {concurrency!r}")
        _check_loop(loop)
        self.concurrency: int = concurrency
        self.max_workers: int = checked_count("max_workers", max_workers) or min(
            _MOST_WORKERS, (os.cpu_count() or 1) + 4
        )
        self.loop: asyncio.AbstractEventLoop | None = loop
        self._host: LoopHost | None = None
        self._keeper: Keeper | None = None
        self._crew: Crew | None = None
        self._records = self.concurrency  # in a chunk, as far as is known yet

    def start(self, context: WorkerContext) -> None:
        """Run the hooks' `setup`, those of async hooks on the loop."""
        _check_loop(self.loop)
        self._desks = Desks(self.max_workers)
        self._context = context.clone()
        self._host = LoopHost(self.loop)
        self._host.start()
        self._context.awaiter = LoopAwaiter(self._host, self._desks)
        self._keeper = Keeper(self._context)
        self._keeper.setup()
        # Each chunk that waits for the loop has a thread, and so have those that have something else to do.
        size = self.concurrency + self.max_workers
        crew = Crew(self._context.share, self._run, name=self.name, size=size)
        crew.start()
        self._crew = crew

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Queue the chunk for the next thread that is free."""
        if self._crew is not None:
            self._records = max(chunk.count, 1)
            return self._crew.submit(chunk)
        future: Future[ChunkResult] = Future()
        future.set_exception(ProtocolError("submit() before start()"))
        return future

    def shutdown(self, *, cancel: bool = False) -> None:
        """End the threads, run the hooks' `teardown`, and end or release the loop."""
        host, self._host = self._host, None
        keeper, self._keeper = self._keeper, None
        crew, self._crew = self._crew, None
        if host is None:
            return
        stuck = False
        try:
            if crew is not None:
                stuck = self._close_crew(crew, host, cancel=cancel)
            if keeper is not None:
                keeper.teardown()
        finally:
            host.close(wait=not (cancel or stuck))

    def slots(self) -> int:
        """As many as keep the threads busy and `concurrency` calls under way."""
        if self._crew is None:
            return 1
        waiting = ceil(self.concurrency / self._records)
        return min(self.max_workers + waiting, self._crew.size) + self._crew.evicted + _QUEUED

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the thread is that runs the chunk."""
        return self._crew.progress(future) if self._crew else None

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Cancel the async calls of the chunk, abandon its thread and start another: a thread cannot be killed."""
        if self._crew is not None:
            self._crew.evict(future)
        return False

    def _run(self, chunk: Chunk, context: WorkerContext) -> ChunkResult:
        with self._desks:
            return self.process_chunk_on_worker(chunk, context)

    def _close_crew(self, crew: Crew, host: LoopHost, *, cancel: bool) -> bool:
        """End the threads; True if some are left behind, which may wait for the loop for ever."""
        if cancel:
            self._desks.lift()
        evicted = crew.evicted
        crew.close(cancel=cancel)
        if cancel or evicted:
            host.check_responds()
        return crew.stuck > 0


def _check_loop(loop: Any) -> None:
    if loop is None:
        return
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise OptionsError(f"loop must be an event loop of asyncio, not {type(loop).__name__}: {loop!r}")
    if loop.is_closed():
        raise OptionsError("loop is closed: give an open event loop, or none for one of the executor's own")
