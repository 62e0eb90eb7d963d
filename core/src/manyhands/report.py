"""The live report of a run, and the handle to stop it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from manyhands.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyhands.chunks import ChunkResult
    from manyhands.live import Look, WorkerView


class RunStatus(StrEnum):
    """Where a run stands. The last three are final, and so is `STOPPED` once the pipe is shut down."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


class RunControl:
    """What the person wants of a run; read by the driver between two steps.

    Args:
        cancelled: set on abort; workers in this process look at it before each record.
    """

    def __init__(self, cancelled: threading.Event) -> None:
        self.cancelled = cancelled
        self.paused: threading.Event = threading.Event()
        self.closing: threading.Event = threading.Event()
        self.wake: Callable[[], None] = lambda: None


class FlowReport:
    """Counts and status of a run, live and final. Safe to read from any thread.

    Args:
        executor: name of the executor, or engine.
        control: how to reach the driver.
        kind: which of them.
    """

    def __init__(
        self, executor: str, control: RunControl | None = None, kind: Literal["executor", "engine"] = "executor"
    ) -> None:
        self.executor = executor
        self.kind: Literal["executor", "engine"] = kind
        self.status: RunStatus = RunStatus.PENDING
        self.exception: BaseException | None = None
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.ok: int = 0
        self.rejected: int = 0
        self.dead: int = 0
        self.dropped: int = 0
        self.cancelled: int = 0
        self.read: int = 0
        self.fraction: float | None = None
        self.stages: dict[str, float] = {}
        self.workers: dict[str, dict[str, int]] = {}
        self.reached: int = 0
        self.crew_size: int = 1
        self._look: Look = tuple
        self._control = control or RunControl(threading.Event())
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def counts(self) -> dict[str, int]:
        """Records read, and how many had each outcome."""
        return {
            "in": self.read,
            "ok": self.ok,
            "rejected": self.rejected,
            "dead": self.dead,
            "dropped": self.dropped,
            "cancelled": self.cancelled,
        }

    @property
    def total_processed(self) -> int:
        """Records that have an outcome, cancelled ones not counted."""
        return self.ok + self.rejected + self.dead + self.dropped

    def look(self) -> Sequence[WorkerView]:
        """What each worker is doing, a tenth of a second ago at most; () where nothing is known of them.

        Nothing is sampled unless this is called again and again.
        """
        return self._look()

    @property
    def success_count(self) -> int:
        """Records that reached the output."""
        return self.ok

    @property
    def error_count(self) -> int:
        """Records that were rejected or are dead."""
        return self.rejected + self.dead

    @property
    def duration(self) -> float:
        """Seconds from the start to the end, or to now."""
        if self.start_time is None:
            return 0.0
        return (self.end_time or time.monotonic()) - self.start_time

    @property
    def items_per_second(self) -> float:
        """Records with an outcome per second of the run so far."""
        return self.total_processed / self.duration if self.duration else 0.0

    @property
    def is_finished(self) -> bool:
        """The run has ended, in whatever way."""
        return self._finished.is_set()

    @property
    def is_stopped(self) -> bool:
        """The run was asked to stop and not to continue."""
        return self._control.paused.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; a stopped run has not ended.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            False when the time ran out first.
        """
        return self._finished.wait(timeout)

    async def wait_async(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # as `wait`
        """As `wait`, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set)

        self._on_finish(tell)
        try:
            await asyncio.wait_for(ended.wait(), timeout)
        except TimeoutError:
            return self.is_finished
        finally:
            self._forget(tell)
        return True

    def stop(self) -> None:
        """Start no further chunk. What is under way is finished and written; `continue_` goes on.

        Raises:
            UsageError: an engine runs it.
        """
        if self.kind == "engine":
            raise UsageError("a run on an engine cannot be stopped and go on; abort it")
        self._control.paused.set()
        self._control.wake()

    def continue_(self) -> None:
        """Go on after `stop`."""
        with self._lock:
            self._control.paused.clear()
            if self.status is RunStatus.STOPPED and not self.is_finished:
                self.status = RunStatus.RUNNING
        self._control.wake()

    def abort(self) -> None:
        """End the run: no new record starts, nothing is published. A run that has ended stays as it ended."""
        self._control.cancelled.set()
        self._control.wake()

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, as `--report` writes it."""
        return {
            "status": str(self.status),
            self.kind: self.executor,
            "counts": self.counts,
            "duration": round(self.duration, 6),
            "rows_per_second": round(self.items_per_second, 1),
            # Copied in one step each: the driver may be adding to them.
            "stages": {stage: round(seconds, 6) for stage, seconds in self.stages.copy().items()},
            "workers": {worker: dict(sums) for worker, sums in self.workers.copy().items()},
            "exception": None if self.exception is None else _describe(self.exception),
        }

    # The rest is for the driver.

    def show(self, look: Look, size: int) -> None:
        """Where `look` gets the workers from.

        Args:
            look: gives them.
            size: how many there will be, about: a display keeps room for so many.
        """
        self._look, self.crew_size = look, size

    def begin(self) -> None:
        """The run starts now."""
        self.start_time = time.monotonic()
        self.status = RunStatus.RUNNING

    def pause(self) -> None:
        """Everything under way is written and nothing new starts."""
        with self._lock:
            if self.is_stopped and not self.is_finished:
                self.status = RunStatus.STOPPED

    def add(self, result: ChunkResult) -> None:
        """Count what was written; nothing once the run has ended, in whatever way."""
        if self.is_finished:
            return
        self.ok += result.ok
        self.rejected += result.rejected
        self.dropped += result.dropped
        self.dead += result.dead
        for stage, seconds in result.stages.items():
            self.spend(stage, seconds)
        if result.worker:
            worker = self.workers.setdefault(result.worker, {"chunks": 0, "records": 0})
            worker["chunks"] += 1
            worker["records"] += result.hi - result.lo

    def spend(self, stage: str, seconds: float) -> None:
        """Add to a stage's seconds."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def conclude(self, status: RunStatus, exception: BaseException | None = None) -> None:
        """The final sums; what was read and has no outcome is cancelled."""
        with self._lock:
            if not self._finished.is_set():
                self.end_time = time.monotonic()
                self.exception = exception
                self.cancelled = self.read - self.total_processed
                self.status = status

    def end(self, status: RunStatus, exception: BaseException | None = None) -> None:
        """The run has ended, and whoever waits may go. Only the first call counts."""
        self.conclude(status, exception)
        with self._lock:
            self._finished.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            with suppress(RuntimeError):  # its event loop has been closed
                callback()

    def _on_finish(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._finished.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._lock, suppress(ValueError):
            self._callbacks.remove(callback)


def _describe(error: BaseException) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)}
