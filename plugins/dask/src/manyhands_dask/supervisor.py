"""The thread of a run on a cluster: an event loop of its own, so that nobody else's is touched."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from manyhands.errors import ExecutorBroken, ManyhandsError, ProtocolError, RunAborted, WorkerInitError
from manyhands.worker.shipping import with_sources
from manyhands_dask.cluster import Cluster
from manyhands_dask.crew import Crew
from manyhands_dask.dispatch import AHEAD
from manyhands_dask.shop import Shop

if TYPE_CHECKING:
    from distributed import Client

    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.executor import Progress
    from manyhands.worker.context import WorkerContext
    from manyhands_dask.engine import Relay

_LOOK_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 1.0


class Supervisor:
    """A run on a cluster.

    Args:
        context: the job.
        cluster: where.
        most: chunks that run at a time at most; None: all that can.
        relay: passes on what pipes tell, where they run.
        resources: what each of them takes of its worker's.

    Raises:
        UnpicklableError: something of the job cannot travel.
    """

    def __init__(
        self,
        context: WorkerContext,
        cluster: Cluster,
        most: int | None,
        resources: Mapping[str, float],
        relay: Relay | None = None,
    ) -> None:
        self._context = context
        self._cluster = cluster
        self._most = most
        self._resources = resources
        self._relay = relay
        self._job = with_sources(context.dumps())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._crew: Crew | None = None
        self._end: asyncio.Event
        self._is_cancelled = False
        self._is_closed = False
        self._lock = threading.Lock()
        self.started: threading.Event = threading.Event()
        self.ended: threading.Event = threading.Event()
        self.error: ManyhandsError | None = None
        self._thread = threading.Thread(target=self._drive, name="manyhands-dask", daemon=True)

    def start(self) -> None:
        """Begin; `started` is set when a worker is ready or none can be, which is `error` then."""
        self._thread.start()

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Run a chunk."""
        future: Future[ChunkResult] = Future()
        with self._lock:
            if self._is_closed:
                raise ProtocolError("submit() after shutdown()")
            error = self.error
            if error is None and not self._call(lambda crew: crew.chunks.submit(chunk, future)):
                error = ExecutorBroken("the executor has ended")
        if error is not None:
            future.set_running_or_notify_cancel()
            future.set_exception(error)
        return future

    def slots(self) -> int:
        """Chunks worth having in flight."""
        crew = self._crew
        return max((2 + AHEAD) * crew.ready, 1) if crew is not None else 1

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where a chunk is."""
        task = self._crew.chunks.tasks.get(future) if self._crew is not None else None
        hand = task.hand if task is not None else None
        return hand.progress(task) if hand is not None and task is not None and task.has_begun else None

    def evict(self, future: Future[ChunkResult]) -> None:
        """Kill what runs a chunk."""
        self._call(lambda crew: crew.chunks.evict(future))

    def shutdown(self, *, cancel: bool) -> None:
        """Let it end: after what there is to do, or at once."""
        with self._lock:
            self._is_closed = True
            self._is_cancelled = self._is_cancelled or cancel
            loop = self._loop
        if loop is not None and not self.ended.is_set():
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _wake(self) -> None:
        self._end.set()
        if self._crew is not None:
            self._crew.changed.set()

    def _call(self, function: Callable[[Crew], object]) -> bool:
        """Call it in the thread of the run, unless that has just ended."""
        crew, loop = self._crew, self._loop
        if crew is None or loop is None:
            raise ProtocolError("this executor is used before start() or after shutdown()")
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(function, crew)
            return True
        return False

    def _drive(self) -> None:
        try:
            asyncio.run(self._run())
        except ManyhandsError as error:
            self._fail(error)
        except BaseException as error:  # noqa: BLE001  # whoever waits must hear of it
            self._fail(ExecutorBroken(f"the Dask backend fails: {type(error).__name__}: {error}"))
        finally:
            self.started.set()
            self.ended.set()

    def _fail(self, error: ManyhandsError) -> None:
        with self._lock:
            self.error = self.error or error

    async def _run(self) -> None:
        self._end = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._is_closed:  # before there was a loop to be told
                self._end.set()
        working = asyncio.create_task(self._work())
        ending = asyncio.create_task(self._end_early())
        await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
        ending.cancel()
        try:
            await working
        except asyncio.CancelledError:
            self._fail(RunAborted("the run was aborted"))

    async def _end_early(self) -> None:
        """While a cluster is started or connected to, that can be cancelled; later it is ended in order."""
        await self._end.wait()
        if self._crew is not None:
            await asyncio.Event().wait()  # until it is cancelled

    async def _work(self) -> None:
        async with self._cluster.connected(self._resources) as client:
            crew = self._crew = Crew(self._shop(client), self._most, self._relay, hooked=self._context.hooked)
            watching = asyncio.create_task(crew.watch())
            try:
                await self._accompany(crew, watching)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
                for hand in crew.hands.values():
                    hand.close()
                await self._close(crew)

    def _shop(self, client: Client) -> Shop:
        run = f"manyhands-{os.getpid()}-{uuid4().hex[:8]}"
        batch_size, replayable = self._context.max_hook_chunk_size, self._context.replayable
        return Shop(client, run, self._job, self._resources, batch_size, replayable)

    async def _close(self, crew: Crew) -> None:
        await crew.close()
        if crew.teardown_error is not None and not self._is_hasty:
            self._fail(crew.teardown_error)
        crew.chunks.fail_all(self.error or ExecutorBroken("the executor was shut down"))

    async def _accompany(self, crew: Crew, watching: asyncio.Task[None]) -> None:
        """From the start to the end of the run."""
        while not self._end.is_set() and not watching.done():
            if not self.started.is_set() and crew.is_surveyed:
                if crew.refusal is not None:
                    raise crew.refusal
                if crew.ready:
                    self.started.set()
            self._pass_on_flags(crew)
            await self._change(crew, watching)
        if not watching.done():
            await self._dismiss(crew, watching)
        if watching.done() and not crew.is_ending:
            self._fail(as_error(watching))

    def _pass_on_flags(self, crew: Crew, *, is_over: bool = False) -> None:
        of_engine = self._relay.flags() if self._relay is not None else (False, False)
        flags = (is_over or self._context.cancelled.is_set(), *of_engine)
        for hand in crew.hands.values():
            if hand.flags != flags:
                hand.flags = flags
                hand.tell(what="flags", flags=flags)

    async def _change(self, crew: Crew, watching: asyncio.Task[None]) -> None:
        crew.changed.clear()
        waiting = asyncio.create_task(crew.changed.wait())
        await asyncio.wait([waiting, watching], timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _dismiss(self, crew: Crew, watching: asyncio.Task[None]) -> None:
        """Let everything be done, and the seats be left."""
        crew.is_closing = True
        while not self._is_hasty and not crew.chunks.is_idle and not watching.done():
            self._pass_on_flags(crew)
            await self._change(crew, watching)
        if watching.done():
            return
        crew.is_ending = True
        if self._is_hasty:
            crew.chunks.cancel()
            self._pass_on_flags(crew, is_over=True)
        for hand in crew.hands.values():
            hand.tell(what="end")
        await self._see_out(crew, watching)

    async def _see_out(self, crew: Crew, watching: asyncio.Task[None]) -> None:
        hasty_since: float | None = None
        while not watching.done() and not all(hand.is_out for hand in crew.hands.values()):
            if self._is_hasty:
                hasty_since = hasty_since or monotonic()
                self._pass_on_flags(crew, is_over=True)
                if monotonic() - hasty_since > _GRACE_SECONDS:
                    crew.kill_those_at_work()
            await self._change(crew, watching)

    @property
    def _is_hasty(self) -> bool:
        return self._is_cancelled or self._context.cancelled.is_set()


def as_error(watching: asyncio.Task[None]) -> ManyhandsError:
    """Why it has ended."""
    error = watching.exception()
    if isinstance(error, ManyhandsError):
        return error
    return WorkerInitError(f"the Dask backend fails: {type(error).__name__}: {error}")
