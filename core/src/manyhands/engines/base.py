"""What all engines have in common; one is made by naming the backend whose workers run the pipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from manyhands.doors.futures import FuturesExecutor, as_futures_executor
from manyhands.engines.run import EngineRun
from manyhands.errors import OptionsError, RunError, UsageError
from manyhands.executor import checked_count
from manyhands.plugins.registry import find
from manyhands.report import FlowReport

if TYPE_CHECKING:
    from manyhands.pipe import Pipe

_GRACE_SECONDS: Final = 0.5


class BaseEngine:
    """Runs each pipe in a worker of an executor; derive from it to name that.

    Args:
        executor: name of the backend whose workers run the pipes.
        n_workers: how many run at a time; None: as many as there are pipes. Where there are fewer, pipes wait.
        stuck_timeout: seconds after which a worker that does not get on is killed, which its pipe survives once; None:
            never. Give it only where workers are processes of their own.
        options: of that backend.

    Raises:
        OptionsError: `n_workers` is no number from 1, or `stuck_timeout` none above 0.
    """

    name: str = "engine"

    def __init__(
        self, executor: str, n_workers: int | None = None, *, stuck_timeout: float | None = None, **options: Any
    ) -> None:
        if stuck_timeout is not None and not (isinstance(stuck_timeout, int | float) and stuck_timeout > 0):
            raise OptionsError(f"stuck_timeout must be None or seconds above 0, not {stuck_timeout!r}")
        self._executor = executor
        self._workers = checked_count("n_workers", n_workers)
        self._stuck_timeout = stuck_timeout
        self._options = options
        self._run: EngineRun | None = None

    def start(self, pipes: Sequence[Pipe]) -> None:
        """Start all pipes and return.

        Raises:
            UsageError: it is running, or there is no pipe.
            BackendError: the backend of the workers cannot be had.
            RunError: there is no room in the temporary folder.
        """
        if self.is_running:
            raise UsageError("this engine is running; wait for its report or shut it down")
        if not len(pipes):
            raise UsageError("an engine needs one pipe at least")
        workers = self._make_workers(len(pipes))
        try:
            self._run = EngineRun(self.name, pipes, workers, self._stuck_timeout)
        except OSError as error:
            raise RunError(f"the engine cannot be started: there is no room for its board: {error}") from error
        self._run.start(_GRACE_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all pipes have ended; False when `timeout` seconds passed first (one deadline for all)."""
        return self._run is None or self._run.report.wait(timeout)

    def shutdown(self, timeout: float | None = None) -> None:
        """End everything. Idempotent; leaves nothing behind.

        Args:
            timeout: seconds that pipes may take to end by themselves; None: half a second.
        """
        if self._run is not None:
            self._run.end(_GRACE_SECONDS if timeout is None else timeout)

    @property
    def is_running(self) -> bool:
        """Some pipe has not ended."""
        return self._run is not None and not self._run.report.is_finished

    @property
    def report(self) -> FlowReport:
        """All pipes together."""
        return self._run.look().report if self._run else FlowReport(self.name, kind="engine")

    @property
    def pipe_reports(self) -> Sequence[FlowReport]:
        """One report for each pipe, in the order of `start`."""
        return self._run.look().reports if self._run else ()

    def _make_workers(self, pipes: int) -> FuturesExecutor:
        has_workers = "max_workers" in find(self._executor).options.model_fields
        return as_futures_executor(self._executor, (self._workers or pipes) if has_workers else None, **self._options)
