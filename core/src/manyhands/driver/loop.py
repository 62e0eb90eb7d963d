"""The driver of a pipe: one loop for every executor.

    Feeder ─ chunks ─▶ Dispatcher ─ complete chunks ─▶ Sink

It runs in a thread of its own, never in the caller's event loop.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from manyhands.chunks import Chunk
from manyhands.driver.deadletter import dead_letters
from manyhands.driver.dispatch import Dispatcher, Inbox
from manyhands.driver.sample import Sampler
from manyhands.errors import RunAborted
from manyhands.events import Observers, RunEnded, RunStarted
from manyhands.report import FlowReport, RunControl, RunStatus

if TYPE_CHECKING:
    from manyhands.driver.feeder import Feeder
    from manyhands.driver.options import RunOptions
    from manyhands.driver.sink import Sink
    from manyhands.executor import Executor
    from manyhands.worker.context import WorkerContext

WINDOW_BYTES: Final = 64 * 1024 * 1024
"""Chunks and results that wait to be written may take so much memory before reading pauses."""


class Driver:
    """One run of a pipe.

    Args:
        executor: where chunks run.
        context: the job.
        feeder: where chunks come from.
        sink: where results go.
        report: kept up to date.
        control: what the person wants.
        options: order, retries and time limits.
        observers: told of every event.
        inbox: where wake-ups and finished futures arrive.

    Raises:
        OptionsError: the executor cannot keep the time limits.
    """

    def __init__(
        self,
        executor: Executor,
        context: WorkerContext,
        *,
        feeder: Feeder,
        sink: Sink,
        report: FlowReport,
        control: RunControl,
        options: RunOptions,
        observers: Observers,
        inbox: Inbox,
    ) -> None:
        self._executor = executor
        self._context = context
        self._feeder = feeder
        self._sink = sink
        self._report = report
        self._control = control
        self._observers = observers
        bury = partial(dead_letters, context=context, encoder=sink.error_encoder)
        self._sampler = Sampler(executor, context, report)
        self._dispatcher = Dispatcher(
            executor,
            options,
            bury,
            replayable=context.replayable,
            observers=observers,
            inbox=inbox,
            on_result=self._sampler.count,
        )
        self._ledger = self._dispatcher.ledger

    def run(self) -> None:
        """Run to the end, whatever it is. Never raises: the report has the exception."""
        self._report.begin()
        status, error = RunStatus.COMPLETED, None
        try:
            self._executor.start(self._context)
            self._observers.emit(RunStarted, self._report.executor)
            self._feeder.start()
            self._loop()
            self._feeder.close()
            self._executor.shutdown()
            self._check_abort()
            self._sink.publish()
            status = RunStatus.STOPPED if self._control.closing.is_set() else RunStatus.COMPLETED
        except RunAborted:
            status = RunStatus.ABORTED
        except BaseException as caught:  # noqa: BLE001  # it is in the report, and raised by Pipe.run
            status, error = RunStatus.FAILED, caught
        if status in (RunStatus.ABORTED, RunStatus.FAILED):
            error = self._clean_up(error)
        self._report.spend("read", self._feeder.seconds)
        self._report.conclude(status, error)
        # Before anyone who waits is let go: the run is not over while its observers are still called.
        self._observers.emit(RunEnded, str(status), self._report.counts)
        self._report.end(status, error)

    def _clean_up(self, error: BaseException | None) -> BaseException | None:
        """End everything; the first error is the one to tell."""
        self._control.cancelled.set()
        for step in (self._feeder.close, lambda: self._executor.shutdown(cancel=True), self._sink.discard):
            try:
                step()
            except Exception as further:  # noqa: BLE001  # the other steps must run
                error = error or further
        return error

    def _loop(self) -> None:
        while not self._through():
            self._check_abort()
            begun = self._dispatcher.submit_all(self._take)
            self._dispatcher.settle_all(0 if begun else self._feeder.patience)
            self._write_complete()
            if self._sampler.sample(self._dispatcher.running):
                self._estimate()
            if self._control.paused.is_set() and not len(self._ledger):
                self._report.pause()
        if not self._control.closing.is_set():
            self._feeder.check()

    def _through(self) -> bool:
        if len(self._ledger):
            return False
        return self._feeder.exhausted or self._control.closing.is_set()

    def _check_abort(self) -> None:
        if self._control.cancelled.is_set():
            raise RunAborted("the run was aborted")

    def _take(self) -> Chunk | None:
        stays = self._control.paused.is_set() or self._control.closing.is_set() or self._control.cancelled.is_set()
        if stays or not self._has_room():
            return None
        chunk = self._feeder.take()
        if chunk is not None:
            self._report.read += chunk.size
            self._sampler.begin(chunk)
        return chunk

    def _has_room(self) -> bool:
        """Bounds what is read and not written, so that one slow chunk at the head does not let the rest pile up.

        Twice the slots and two chunks more, fewer where they exceed `WINDOW_BYTES`; the feeder holds two on top.
        """
        open_chunks = len(self._ledger)
        room = open_chunks < 2 * self._dispatcher.slots + 2 and self._ledger.nbytes < WINDOW_BYTES
        return not open_chunks or room

    def _write_complete(self) -> None:
        for entry in self._ledger.pop_complete():
            begun = perf_counter()
            parts = entry.in_order()
            self._sink.write(parts)
            for part in parts:
                self._report.add(part)
            self._report.spend("write", perf_counter() - begun)
        self._estimate()

    def _estimate(self) -> None:
        fraction = self._feeder.consumed(max(self._report.reached, self._report.total_processed))
        if fraction is not None:  # what is read ahead may make it smaller, and nobody likes a bar that goes back
            self._report.fraction = max(fraction, self._report.fraction or 0.0)
