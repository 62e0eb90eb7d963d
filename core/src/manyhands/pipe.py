"""A pipe: input → pre-validation hooks → schema → post-validation hooks → output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from manyhands.adapters.base import BaseInputAdapter, BaseOutputAdapter
from manyhands.adapters.names import check_overlap
from manyhands.driver.options import RunOptions
from manyhands.driver.run import Run, executor_name
from manyhands.errors import UsageError
from manyhands.events import Observer
from manyhands.executor import Executor
from manyhands.hooks import BaseHook, check_hook, in_order
from manyhands.records import Entry
from manyhands.report import FlowReport, RunStatus
from manyhands.worker.compile import compile_plan
from manyhands.worker.schema import check_schema


class Pipe:
    """Reads records, runs them through hooks and a schema on an executor, writes what comes out.

    Args:
        input_adapter: where records come from.
        output_adapter: where ok records go; None drops them (see `stream`).
        error_output_adapter: where rejected and dead records go, each with its data, errors and position; None only
            counts them.
        schema_model: pydantic model, dataclass or TypedDict; may be given to the executor instead.
        executor: where chunks run; None is the `sync` backend.
        pre_validation_hooks: run on raw data, by priority.
        post_validation_hooks: run on validated data, by priority.
        max_hook_chunk_size: how many records a plain hook gets at most in one call.
        id_generator: makes an entry's id from its position; None: the position.
        options: order and retries.
        observers: called with each event; see `manyhands.events`.

    Raises:
        UsageError: something given is not what it should be.
    """

    def __init__(  # noqa: PLR0917  # in the order of the data's way
        self,
        input_adapter: BaseInputAdapter,
        output_adapter: BaseOutputAdapter | None = None,
        error_output_adapter: BaseOutputAdapter | None = None,
        schema_model: type[Any] | None = None,
        executor: Executor | None = None,
        pre_validation_hooks: Sequence[BaseHook] = (),
        post_validation_hooks: Sequence[BaseHook] = (),
        *,
        max_hook_chunk_size: int | None = None,
        id_generator: Callable[[int], Any] | None = None,
        options: RunOptions | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.input_adapter: BaseInputAdapter = _needed(_checked("input_adapter", input_adapter, BaseInputAdapter))
        self.output_adapter: BaseOutputAdapter | None = _checked("output_adapter", output_adapter, BaseOutputAdapter)
        self.error_output_adapter: BaseOutputAdapter | None = _checked(
            "error_output_adapter", error_output_adapter, BaseOutputAdapter
        )
        self.executor: Executor = _checked("executor", executor, Executor) or _default_executor()
        self.schema_model: type[Any] | None = _one_schema(schema_model, getattr(self.executor, "schema_model", None))
        self.pre_validation_hooks: list[BaseHook] = _hooks("pre_validation_hooks", pre_validation_hooks)
        self.post_validation_hooks: list[BaseHook] = _hooks("post_validation_hooks", post_validation_hooks)
        self.max_hook_chunk_size: int | None = _positive("max_hook_chunk_size", max_hook_chunk_size)
        self.id_generator: Callable[[int], Any] | None = _checked("id_generator", id_generator, Callable)
        self.options: RunOptions = _checked("options", options, RunOptions) or RunOptions()
        self.observers: list[Observer] = [
            _checked("observers", each, Callable) for each in _sequence("observers", observers)
        ]
        self._run: Run | None = None

    @property
    def report(self) -> FlowReport:
        """The report of the current or last run; before the first a pending one."""
        return self._run.report if self._run else FlowReport(executor_name(self.executor))

    def start(self) -> FlowReport:
        """Start a run in the background.

        Raises:
            UsageError: it is running, or an input or output cannot be opened.
        """
        return self._start(stream=False).report

    def run(self) -> FlowReport:
        """Run to the end. ^C aborts the run and is raised again.

        Raises:
            ManyhandsError: the run failed; what the report calls `exception`.
        """
        self._check_loop()
        earlier = self._run
        try:
            self.start().wait()
        except BaseException:
            self._abort(earlier)
            raise
        return _succeeded(self.report)

    async def run_async(self) -> FlowReport:
        """As `run`, from an event loop; cancelling the task aborts the run."""
        earlier = self._run
        try:
            await self.start().wait_async()
        except BaseException:
            if self._abort(earlier, wait=False):
                await self.report.wait_async()
            raise
        return _succeeded(self.report)

    def stream(self) -> Iterator[Entry]:
        """Run, and yield each entry that was not dropped, in input order: validated and failed ones.

        The run goes only a little ahead of the iteration; leaving it early aborts the run. Outputs are written too.

        Raises:
            ManyhandsError: the run failed; all entries before that were yielded.
        """
        self._check_loop()
        earlier = self._run
        try:
            yield from self._start(stream=True).entries
            self.report.wait()
        except BaseException:  # the reader leaves, ^C, or an error thrown in: nobody is left to read
            self._abort(earlier)
            raise
        _succeeded(self.report)

    def check_files(self, *more: tuple[Path, str]) -> None:
        """See that no output overwrites the input or another output.

        Args:
            more: further files that are written, and what they are.

        Raises:
            OutputError: one would.
        """
        source = self.input_adapter.path
        written = ((self.output_adapter, "the output"), (self.error_output_adapter, "the error output"))
        targets = [(adapter.path, what) for adapter, what in written if adapter is not None and adapter.path]
        check_overlap([(source, "the input")] if source else [], [*targets, *more])

    def shutdown(self) -> None:
        """End the run: a stopped one publishes what is complete, a running one is aborted. Idempotent."""
        if self._run is not None:
            self._run.close()

    def __getstate__(self) -> dict[str, Any]:
        """Without the run: what arrives in a worker has not been started."""
        return {**self.__dict__, "_run": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def _check_loop(self) -> None:
        """See that the thread that is going to wait is not the one that must run the executor's event loop."""
        loop = getattr(self.executor, "loop", None)
        if loop is not None and loop is asyncio._get_running_loop():  # noqa: SLF001  # documented, and raises nothing
            raise UsageError("this would block the event loop that the executor needs: use `await pipe.run_async()`")

    def _abort(self, earlier: Run | None, *, wait: bool = True) -> bool:
        """Abort the run that was begun since `earlier`; there is none if it could not be opened.

        ^C may come as soon as its thread has begun, before its report was returned.
        """
        if self._run is None or self._run is earlier:
            return False
        self._run.abort()
        if wait:
            self.report.wait()
        return True

    def _start(self, *, stream: bool) -> Run:
        if self._run is not None and not self._run.report.is_finished:
            raise UsageError("this pipe is running; wait for its report or abort it")
        self.check_files()
        self._run = Run(self, stream=stream)
        self._run.start()
        return self._run


def _checked(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, type) and kind is not Callable:
        raise UsageError(f"{name} must be an instance, not the class {value.__name__}: pass {value.__name__}(...)")
    if value is None or isinstance(value, kind):
        return value
    raise UsageError(f"{name} must be a {kind.__name__}, not {type(value).__name__}: {value!r}")


def _needed(adapter: Any) -> Any:
    if adapter is None:
        raise UsageError("a pipe needs an input_adapter")
    return adapter


def _sequence(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    raise UsageError(f"{name} must be a list, not {type(value).__name__}: {value!r}")


def _hooks(name: str, value: Any) -> list[BaseHook]:
    return in_order([check_hook(hook) for hook in _sequence(name, value)])


def _positive(name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise UsageError(f"{name} must be a number from 1, not {value!r}")
    return value


def _default_executor() -> Executor:
    from manyhands.plugins.registry import get_executor

    return get_executor("sync")


def _one_schema(of_pipe: Any, of_executor: Any) -> Any:
    if of_pipe is not None and of_executor is not None and of_pipe is not of_executor:
        raise UsageError("the pipe and its executor were given different schemas; give it to one of them")
    schema = of_executor if of_pipe is None else of_pipe
    if schema is not None:
        check_schema(schema)
        compile_plan(schema)  # what cannot be compiled must not come to light in a worker
    return schema


def _succeeded(report: FlowReport) -> FlowReport:
    if report.status is RunStatus.FAILED and report.exception is not None:
        raise report.exception
    return report
