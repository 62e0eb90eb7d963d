"""The backend under test, and how to run things on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from manyhands.adapters.base import BaseInputAdapter
from manyhands.adapters.json import JSONOutputAdapter
from manyhands.adapters.python import IterableInputAdapter
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.driver.options import RunOptions
from manyhands.errors import BackendError, UsageError
from manyhands.events import Observer
from manyhands.executor import Capabilities, Executor
from manyhands.hooks import BaseHook
from manyhands.pipe import Pipe
from manyhands.plugins.registry import find, get_executor
from manyhands.plugins.spec import Backend
from manyhands.testing.contract import broken
from manyhands.testing.ran import Ran
from manyhands.worker import codec
from manyhands.worker.context import WorkerContext

REFERENCE: Final = "sync"
"""The backend in which nothing is concurrent: what it makes of a job is what all must make of it."""

RUN_SECONDS: Final = 60.0
"""A run that takes longer hangs."""

PATIENCE: Final = 20.0
"""Seconds within which what has to happen happens, on a busy machine too."""

_ABORT_SECONDS: Final = 10.0
_LEAK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.002

Source = Iterable[Any] | BaseInputAdapter


class Bench:
    """A backend under test.

    Args:
        name: of the backend.
        options: with which the tests make it.
        folder: for files of the test; short, so that sockets may be put there.
        left: tells, after some seconds of grace, what the test leaves behind.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], folder: Path, left: Callable[[float], list[str]] = lambda _: []
    ) -> None:
        self.name = name
        self.options: dict[str, Any] = dict(options)
        self.folder = folder
        self.description: Backend = find(name)
        self.observed: dict[str, bool] = {}
        self._left = left
        self._pipes: list[Pipe] = []

    def end(self) -> None:
        """Shut down what a case that failed left running: the next one may need its workers."""
        for pipe in self._pipes:
            with suppress(Exception):  # that case has said what is wrong
                pipe.shutdown()

    @property
    def capabilities(self) -> Capabilities:
        """What the plugin declares."""
        return self.description.capabilities

    @property
    def workers(self) -> int:
        """How many chunks may run at a time, as far as the options tell; at least 2 where more than one may."""
        if not self.capabilities.concurrent:
            return 1
        given = self.options.get("max_workers")
        return given if isinstance(given, int) else 2

    @property
    def executor_class(self) -> type[Any]:
        """What the plugin's description names."""
        module, _, attribute = self.description.load.partition(":")
        made: type[Any] = getattr(import_module(module), attribute)
        return made

    def broken(self, key: str, detail: str) -> str:
        """The message of a case that failed.

        Args:
            key: of the clause; see `manyhands.testing.contract`.
            detail: the fault, without the backend's name.
        """
        return broken(key, f"{self.name}: {detail}")

    def observe(self, capability: str, *, seen: bool, by: str) -> None:
        """Compare what was seen of a capability with what is declared.

        Args:
            capability: a field of `Capabilities`.
            seen: it was.
            by: what was seen, in words.
        """
        self.observed[capability] = seen
        declared = getattr(self.capabilities, capability)
        fault = f"{self.name} declares {capability}, but {by}" if declared else f"{by}: declare {capability}"
        assert seen == declared, broken("capabilities", fault if declared else f"{self.name}: {fault}")

    def offered(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the options that the backend has."""
        names = self.description.options.model_fields
        return {name: value for name, value in options.items() if name in names}

    def make(self, **options: Any) -> Executor:
        """An executor, with those of the options that the backend has."""
        return get_executor(self.name, **{**self.options, **self.offered(options)})

    def pipe(
        self,
        source: Source,
        *,
        schema: Any = None,
        pre: Sequence[BaseHook] = (),
        post: Sequence[BaseHook] = (),
        how: RunOptions | None = None,
        observers: Sequence[Observer] = (),
        max_hook_chunk_size: int | None = None,
        **options: Any,
    ) -> Pipe:
        """A pipe that writes lines of JSON.

        Args:
            source: an adapter, or records.
            schema: validates them.
            pre: hooks before that.
            post: hooks behind it.
            how: options of the driver.
            observers: of events.
            max_hook_chunk_size: as in `Pipe`.
            options: of the executor; those that the backend does not have are left out.
        """
        folder = self.folder / f"run{len(self._pipes) + 1}"
        folder.mkdir()
        pipe = Pipe(
            source if isinstance(source, BaseInputAdapter) else IterableInputAdapter(source),
            JSONOutputAdapter(folder / "output.jsonl"),
            JSONOutputAdapter(folder / "errors.jsonl"),
            schema,
            self.make(**options),
            pre,
            post,
            max_hook_chunk_size=max_hook_chunk_size,
            options=how,
            observers=observers,
        )
        self._pipes.append(pipe)
        return pipe

    def run(self, source: Source, **job: Any) -> Ran:
        """Run a pipe to its end.

        Args:
            source: an adapter, or records.
            job: the other arguments of `pipe`.

        Raises:
            ManyhandsError: the run failed.
        """
        ran = self.finish(self.pipe(source, **job))
        if ran.report.exception is not None:
            raise ran.report.exception
        return ran

    def finish(self, pipe: Pipe, *, seconds: float = RUN_SECONDS) -> Ran:
        """Start a pipe that was not started and wait for its end, whatever it is; a run that hangs is aborted.

        Args:
            pipe: one that `pipe` made.
            seconds: after which it hangs.
        """
        if pipe.report.start_time is None and not pipe.report.is_finished:
            pipe.start()
        if not pipe.report.wait(seconds):
            pipe.report.abort()
            ended = "" if pipe.report.wait(_ABORT_SECONDS) else ", nor when it is aborted"
            counts = {name: count for name, count in pipe.report.counts.items() if count}
            raise AssertionError(self.broken("hang", f"a run does not end within {seconds:g} s{ended}; {counts}"))
        return Ran.of(pipe)

    def reference(self, source: Source, **job: Any) -> Ran:
        """As `run`, on the backend in which nothing is concurrent.

        Raises:
            UsageError: it is not installed.
        """
        try:
            bench = Bench(REFERENCE, {}, Path(mkdtemp(prefix="reference", dir=self.folder)))
        except BackendError as error:
            raise UsageError(f"the kit compares with the backend {REFERENCE!r}: {error}") from error
        return bench.run(source, **job)

    def chunk(self, records: Sequence[Any], sequence: int = 0, *, start: int = 0) -> Chunk:
        """Records as the driver sends them: as they are inside one process, else packed.

        Args:
            records: the records.
            sequence: number of the chunk.
            start: position of the first record.
        """
        rows = list(records)
        if self.capabilities.crosses_process:
            return Chunk(sequence, start, len(rows), ChunkKind.PACKED, codec.dumps(rows))
        return Chunk(sequence, start, len(rows), ChunkKind.LIST, rows)

    @contextmanager
    def started(self, context: WorkerContext, *, cancel: bool = False, **options: Any) -> Iterator[Executor]:
        """An executor between `start` and `shutdown`, for cases that call `submit` themselves.

        Args:
            context: the job; what the driver takes over from the executor is set on it here, too.
            cancel: how it is shut down; if the case fails, always so.
            options: of the executor; those that the backend does not have are left out.
        """
        executor = self.make(**options)
        self.adapt(context, executor)
        executor.start(context)
        try:
            yield executor
        except BaseException:
            executor.shutdown(cancel=True)
            raise
        executor.shutdown(cancel=cancel)

    def wait_for(self, *futures: Future[ChunkResult], seconds: float = PATIENCE) -> None:
        """Wait until the futures of chunks are done; fail if one never is.

        Args:
            futures: in the order in which the chunks were submitted.
            seconds: to wait.
        """
        became(lambda: all(future.done() for future in futures), seconds)
        undone = [place for place, future in enumerate(futures) if not future.done()]
        fault = f"{len(undone)} of {len(futures)} futures are not done after {seconds:g} s, those of chunks {undone}"
        assert not undone, self.broken("hang", fault)

    def results(self, *futures: Future[ChunkResult]) -> list[ChunkResult]:
        """The results of chunks that no record harms; fail if there is none of one of them.

        Args:
            futures: in the order in which the chunks were submitted.
        """
        self.wait_for(*futures)
        try:
            return [future.result() for future in futures]
        except Exception as error:
            fault = f"the future of a chunk that harms nobody has no result but {error!r}"
            raise AssertionError(self.broken("chunks", fault)) from error

    @staticmethod
    def adapt(context: WorkerContext, executor: Executor) -> WorkerContext:
        """Set on a job what the driver takes over from the executor.

        Args:
            context: the job.
            executor: that will run it.
        """
        for name in ("compression", "use_batch_validation", "concurrency"):
            setattr(context, name, getattr(executor, name, getattr(context, name)))
        return context

    def check_leaks(self) -> None:
        """Fail if the test leaves anything behind."""
        left = self._left(_LEAK_SECONDS)
        assert not left, self.broken("leaks", f"left behind: {', '.join(left)}")

    def wait_until(
        self, predicate: Callable[[], object], what: str, seconds: float = PATIENCE, key: str = "hang"
    ) -> None:
        """Wait until something is so; fail if it never is.

        Args:
            predicate: tells.
            what: it is, in words.
            seconds: to wait.
            key: of the clause that is broken otherwise.
        """
        if not became(predicate, seconds):
            raise AssertionError(self.broken(key, f"within {seconds:g} s it never happened that {what}"))


def became(predicate: Callable[[], object], seconds: float) -> bool:
    """Wait until something is so; False if it is not in time."""
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
