"""How several function maps share one executor: each has a seat at its table.

An executor is made for one driver. Here it serves as many as there are maps open, maybe of several threads, so one lock
sees to it that they submit one after the other, and the slots are shared by what is under way.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

from manyhands.chunks import Chunk, ChunkResult
from manyhands.driver.interrupts import Interrupts
from manyhands.errors import RunAborted, UsageError
from manyhands.worker.calls import dump_code
from manyhands.worker.shipping import own_modules, own_sources

if TYPE_CHECKING:
    from manyhands.driver.dispatch import Settled
    from manyhands.executor import Capabilities, Compression, Executor, Progress


class Table:
    """An executor and the maps that use it.

    Args:
        executor: started when the first map begins.

    Attributes:
        lock: held while one of them submits. An inline executor makes the calls meanwhile, and they may map as well.
        seats: of maps that are open or have calls under way.
        pid: of the process whose workers they are.
        is_closed: no map may submit any more.
        is_finished: the executor may be used by others.
        known: modules whose sources workers on other machines get when they start.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.lock: AbstractContextManager[bool] = threading.RLock()
        self.seats: set[Seat] = set()
        self.pid: int = os.getpid()
        self.is_closed: bool = False
        self.is_finished: bool = False
        self.known: frozenset[str] = frozenset(own_modules() if executor.capabilities.distributed else ())

    def check_process(self) -> None:
        """See that the workers are those of this process.

        Raises:
            UsageError: this is a fork of the one that has them.
        """
        if os.getpid() != self.pid:
            raise UsageError(f"the workers of this pool belong to process {self.pid}, of which this is a fork")

    def close(self) -> None:
        """Let no map submit any more, and wake those that wait."""
        self.is_closed = True
        with self.lock:
            for seat in self.seats:
                seat.inbox.put(None)


class _Inbox(SimpleQueue["Settled | None"]):
    """Where a map learns that its futures are done; those that are not are on the way.

    Args:
        interrupts: not held back while it waits.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.on_the_way: set[Settled | None] = set()

    def put(self, item: Settled | None, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        self.on_the_way.discard(item)
        super().put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Settled | None:
        try:
            self._interrupts.release()
            return super().get(block, timeout)
        finally:
            self._interrupts.hold()


class Seat:
    """The executor as one map sees it.

    Args:
        table: where it is.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._executor = table.executor
        self._is_taken = False
        self.capabilities: Capabilities = table.executor.capabilities
        # An inline executor makes the calls while it submits: they must stay interruptible.
        self.interrupts: Interrupts = Interrupts(enabled=not self.capabilities.inline)
        self.inbox: _Inbox = _Inbox(self.interrupts)

    def as_executor(self) -> Executor:
        """All that a dispatcher uses of an executor is here."""
        return cast("Executor", self)

    @property
    def table(self) -> object:
        """Where it is: the same for all maps of a pool."""
        return self._table

    @property
    def crosses_process(self) -> bool:
        """Calls must travel."""
        return self.capabilities.crosses_process

    def code(self) -> bytes:
        """For workers on other machines: the person's own modules that were imported after they started."""
        return dump_code(own_sources(self._table.known)) if self.capabilities.distributed else b""

    @property
    def compression(self) -> Compression:
        """Of what travels."""
        compression: Compression = getattr(self._executor, "compression", None)
        return compression

    @property
    def workers(self) -> int:
        """How many share the calls."""
        return getattr(self._executor, "max_workers", None) or self._executor.slots()

    @property
    def overlap(self) -> int:
        """Calls in one chunk that let async ones overlap as they may."""
        return int(getattr(self._executor, "concurrency", 1)) if self.capabilities.async_native else 1

    def chunksize(self, wanted: int | None) -> int | None:
        """Calls in a chunk: as wanted for this map, else for the executor; None: as may be."""
        return wanted if wanted is not None else getattr(self._executor, "chunksize", None)

    def take(self) -> None:
        """Begin; what is put into the inbox wakes the map.

        Raises:
            RunAborted: the pool is closed.
        """
        with self._table.lock:
            self._is_taken = True
            self._table.seats.add(self)
        self.check()

    def leave(self) -> None:
        """End. Calls under way go on, and take up slots until they are done."""
        with self._table.lock:
            self._is_taken = False
            self._table.seats = {seat for seat in self._table.seats if seat.is_in_use}

    @property
    def is_in_use(self) -> bool:
        """Its map is open, or has left calls under way."""
        return self._is_taken or bool(self.inbox.on_the_way)

    def check(self) -> None:
        """See that the pool is open.

        Raises:
            RunAborted: it is not.
            UsageError: this process has no workers.
        """
        self._table.check_process()
        if self._table.is_closed:
            raise RunAborted("the pool was closed before this map was through")

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """See `Executor.submit`."""
        with self._table.lock:
            self.check()
            future = self._executor.submit(chunk)
        self.inbox.on_the_way.add(future)
        return future

    def slots(self) -> int:
        """The executor's without those that other maps use; one at least, so that each map gets on."""
        slots = self._executor.slots()
        if len(self._table.seats) > 1:
            others = sum(len(seat.inbox.on_the_way) for seat in list(self._table.seats) if seat is not self)
            return max(slots - others, 1)
        return slots

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """See `Executor.progress`."""
        return self._executor.progress(future)

    def evict(self, future: Future[ChunkResult]) -> bool:
        """See `Executor.evict`."""
        with self._table.lock:
            return self._executor.evict(future)
