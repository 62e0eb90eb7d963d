"""Waits for the shards of a pipe, and puts their parts together, in order, as they come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from manyhands.driver.run import ERROR_COLUMNS, known_columns
from manyhands.engines.parts import WholeOutput
from manyhands.report import FlowReport, RunControl, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyhands.engine import Engine
    from manyhands.live import WorkerView
    from manyhands.pipe import Pipe

_LOOK_SECONDS: Final = 0.05


class MergedRun:
    """One run of a pipe in shards.

    Args:
        engine: runs them.
        whole: the pipe.
        shards: the pipes of its shards.

    Attributes:
        report: all shards together; it ends when the outputs have been put together.

    Raises:
        UsageError: an output cannot be created; nothing stays open.
    """

    def __init__(self, engine: Engine, whole: Pipe, shards: Sequence[Pipe]) -> None:
        self._engine = engine
        self._shards = shards
        self._control = RunControl(threading.Event())
        self._control.wake = self._pass_on
        self._taken = 0
        self._outputs = _open_outputs(whole)
        self.report: FlowReport = FlowReport(engine.report.executor, self._control, "engine")
        self.report.show(self._look, len(shards))
        self._thread = threading.Thread(target=self._drive, name="manyhands-merge", daemon=True)

    def start(self) -> None:
        """Run in a thread of its own."""
        self.report.begin()
        try:
            self._engine.start(self._shards)
            self._thread.start()
        except BaseException as error:
            self._engine.shutdown()
            self._discard()
            self.report.end(RunStatus.FAILED, error)
            raise

    def _pass_on(self) -> None:
        if self._control.cancelled.is_set():
            self._engine.report.abort()

    def _look(self) -> Sequence[WorkerView]:
        return self._engine.report.look()

    def _add_up(self) -> None:
        now = self._engine.report
        for name in ("read", "ok", "rejected", "dead", "dropped"):
            setattr(self.report, name, getattr(now, name))
        self.report.reached, self.report.fraction = now.reached, now.fraction

    def _drive(self) -> None:
        status, error = RunStatus.FAILED, None
        try:
            if self._merge():
                self._finish()  # while the engine ends its workers
            self._engine.wait()
            status, error = self._engine.report.status, self._engine.report.exception
            if status is RunStatus.COMPLETED:
                self._publish()
        except BaseException as caught:  # noqa: BLE001  # it is in the report
            status, error = RunStatus.FAILED, caught
        try:
            if status is not RunStatus.COMPLETED:
                self._engine.shutdown()
                self._discard()
            self._add_up()
            self.report.stages |= self._engine.report.stages
            self.report.workers |= self._engine.report.workers
        except BaseException as caught:  # noqa: BLE001  # as above, unless something else is
            error = error or caught
        self.report.end(status, error)  # in any case: somebody waits for it

    def _merge(self) -> bool:
        """Take the parts over; False when one is not complete."""
        for number, report in enumerate(self._engine.pipe_reports):
            while not report.wait(_LOOK_SECONDS):
                self._add_up()
                for output in self._outputs:
                    output.follow(number)
            if report.status is not RunStatus.COMPLETED:
                return False
            for output in self._outputs:
                output.append(number)
            self._taken = number + 1
        return True

    def _finish(self) -> None:
        for output in self._outputs:
            output.finish()

    def _publish(self) -> None:
        for output in self._outputs:
            output.publish()

    def _discard(self) -> None:
        for output in self._outputs:
            output.discard(self._taken)


def _open_outputs(whole: Pipe) -> list[WholeOutput]:
    opened: list[WholeOutput] = []
    try:
        if whole.output_adapter is not None:
            opened.append(WholeOutput(whole.output_adapter, known_columns(whole)))
        if whole.error_output_adapter is not None:
            opened.append(WholeOutput(whole.error_output_adapter, ERROR_COLUMNS))
    except BaseException:
        for output in opened:
            output.discard(0)
        raise
    return opened
