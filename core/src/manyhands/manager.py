"""Pipes side by side, or one pipe cut into shards, on an engine."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from manyhands.engine import Engine
from manyhands.engines.merge import MergedRun
from manyhands.engines.split import ShardPipes
from manyhands.errors import OptionsError, UsageError
from manyhands.pipe import Pipe
from manyhands.report import FlowReport, RunStatus


class PipeManager:
    """Runs pipes on an engine, and puts together what the shards of one pipe write.

    Leaving its `with` block ends whatever still runs.

    Args:
        pipes: what runs; each writes its own outputs.
        engine: what runs them; None: `MultiProcessEngine`.

    Raises:
        UsageError: there is no pipe.
        BackendError: the default engine is not installed.
    """

    def __init__(self, pipes: Sequence[Pipe], engine: Engine | None = None) -> None:
        if not len(pipes):
            raise UsageError("a manager needs one pipe at least")
        self._pipes = pipes
        self._engine: Engine = engine if engine is not None else _default_engine()
        self._whole: Pipe | None = None
        self._merged: MergedRun | None = None

    @classmethod
    def parallelize_pipe(cls, pipe: Pipe, workers: int = 4, engine: Engine | None = None) -> Self:
        """A manager that runs one pipe in shards: what it writes is what the pipe alone would write, byte for byte.

        Args:
            pipe: its input is a file of CSV or JSON lines, its outputs are files.
            workers: how many shards.
            engine: what runs them; None: `MultiProcessEngine`.

        Raises:
            UsageError: the pipe cannot be cut into shards; says why, and what to do.
        """
        if not isinstance(workers, int) or workers < 1:
            raise OptionsError(f"workers must be a number from 1, not {workers!r}")
        manager = cls(ShardPipes(pipe, workers), engine)
        manager._whole = pipe
        return manager

    def start(self) -> FlowReport:
        """Start all pipes and return.

        Raises:
            UsageError: they are running, or an input or output cannot be opened.
        """
        self._check_idle()
        if self._whole is None:
            self._engine.start(self._pipes)
        else:
            self._whole.check_files()
            self._merged = MergedRun(self._engine, self._whole, self._pipes)
            self._merged.start()
        return self.report

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all have ended, and their parts are put together; False when `timeout` seconds passed first."""
        return self.report.wait(timeout) if self._merged else self._engine.wait(timeout)

    def run(self) -> FlowReport:
        """Run to the end. ^C aborts the run and is raised again.

        Raises:
            UsageError: they are running; they go on.
            ManyhandsError: the run failed; what the report calls `exception`.
        """
        self._check_idle()
        try:
            self.start()
            self.wait()
        except BaseException:
            self.shutdown()
            raise
        report = self.report
        if report.status is RunStatus.FAILED and report.exception is not None:
            raise report.exception
        return report

    def shutdown(self) -> None:
        """Abort what runs, and wait for its end. Idempotent."""
        if self._merged is not None:
            self._merged.report.abort()
            self._engine.shutdown()
            self._merged.report.wait()
        self._engine.shutdown()

    @property
    def report(self) -> FlowReport:
        """All pipes together."""
        return self._merged.report if self._merged else self._engine.report

    @property
    def pipe_reports(self) -> Sequence[FlowReport]:
        """One report for each pipe, or shard, in order."""
        return self._engine.pipe_reports

    def _check_idle(self) -> None:
        if self._engine.is_running or (self._merged is not None and not self._merged.report.is_finished):
            raise UsageError("this manager is running; wait for its report or shut it down")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def _default_engine() -> Engine:
    from manyhands.plugins.registry import get_engine

    return get_engine("multiprocessing")
