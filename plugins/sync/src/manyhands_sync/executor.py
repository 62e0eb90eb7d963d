"""Chunks one after another, first in, first out."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from manyhands.errors import ProtocolError
from manyhands.executor import BaseExecutor, Capabilities

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext


class SyncFifoExecutor(BaseExecutor):
    """Runs each chunk in `submit` itself: nothing is concurrent, everything is easy to debug."""

    name: str = "sync"
    capabilities: Capabilities = Capabilities(inline=True)
    _context: WorkerContext | None = None

    def start(self, context: WorkerContext) -> None:
        """Run the hooks' `setup` here."""
        context.setup()
        self._context = context

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Run the chunk and return its finished future."""
        future: Future[ChunkResult] = Future()
        try:
            if self._context is None:
                raise ProtocolError("submit() before start()")  # noqa: TRY301  # into the future with the others
            future.set_result(self.process_chunk_on_worker(chunk, self._context))
        except Exception as error:  # noqa: BLE001  # the driver decides what a failed chunk means
            future.set_exception(error)
        return future

    def shutdown(self, *, cancel: bool = False) -> None:  # noqa: ARG002  # nothing ever waits
        """Run the hooks' `teardown`."""
        context, self._context = self._context, None
        if context is not None:
            context.teardown()
