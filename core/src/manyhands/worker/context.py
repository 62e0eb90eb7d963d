"""The job as a worker needs it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from manyhands.errors import ProtocolError, UnpicklableError
from manyhands.executor import Compression
from manyhands.hooks import BaseHook
from manyhands.worker.surroundings import Surroundings

if TYPE_CHECKING:
    from manyhands.worker.awaiting import Awaiter
    from manyhands.worker.cell import ProgressCell
    from manyhands.worker.encode import Encoder
    from manyhands.worker.pipeline import Worker
    from manyhands.worker.rows import Decoder


@dataclass(eq=False)
class WorkerContext:
    """The compiled job: what `process_chunk_on_worker` needs beside the chunk. One per worker.

    An executor calls `setup` once on each worker before its first chunk and `teardown` once after its last. Workers
    in other processes get a copy by `dumps` and `loads`, threads by `clone`.

    Attributes:
        schema_model: pydantic model, dataclass or TypedDict; None validates nothing.
        pre_hooks, post_hooks: the hooks around validation, in the order they run.
        decoder: reads raw blocks; None when records come as objects.
        json_input: records come from JSON, so the schema's JSON rules apply to them.
        encoder, error_encoder: make bytes of the results; None returns entries.
        compression: how payloads travel between processes.
        max_hook_chunk_size: how many records a plain hook gets at most in one call; None: the whole chunk.
        use_batch_validation: see `manyhands.worker.plan`.
        concurrency: how many calls of async hooks may overlap.
        id_generator: makes an entry's id from its position; None: the position itself.
        record_timeout: seconds that a call of an async hook may take; None: for ever.
        surroundings: time zone, locale and decimal context of whoever made the job.
        cell: where the worker says which record it is at; set by executors that report progress.
        awaiter: runs the coroutines of hooks; None: each worker has an event loop of its own.
        cancelled: set when no new record may start; shared by workers in one process.
    """

    schema_model: Any | None = None
    pre_hooks: Sequence[BaseHook] = ()
    post_hooks: Sequence[BaseHook] = ()
    decoder: Decoder | None = None
    json_input: bool = False
    encoder: Encoder | None = None
    error_encoder: Encoder | None = None
    compression: Compression = None
    max_hook_chunk_size: int | None = None
    use_batch_validation: bool = False
    concurrency: int = 1
    id_generator: Callable[[int], Any] | None = None
    record_timeout: float | None = None
    surroundings: Surroundings = field(default_factory=Surroundings.here, repr=False)
    cell: ProgressCell | None = field(default=None, repr=False)
    awaiter: Awaiter | None = field(default=None, repr=False)
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _abandoned: bool = field(default=False, init=False, repr=False)
    _worker: Worker | None = field(default=None, init=False, repr=False)
    _twin: Worker | None = field(default=None, init=False, repr=False)

    @property
    def worker(self) -> Worker:
        """The compiled pipeline with its store and loop.

        Raises:
            ProtocolError: `setup` was not called on this worker.
        """
        if self._worker is None:
            raise ProtocolError("WorkerContext.setup() must be called on each worker before its first chunk")
        return self._worker

    @property
    def hooked(self) -> bool:
        """The job has hooks."""
        return bool(self.pre_hooks or self.post_hooks)

    @property
    def enveloped(self) -> bool:
        """Records travel through the worker as entries: somebody looks at them."""
        return self.hooked or self.encoder is None

    @property
    def replayable(self) -> bool:
        """Every hook may run again on the same records."""
        return all(hook.replay for hook in (*self.pre_hooks, *self.post_hooks))

    def setup(self) -> None:
        """Compile the schema and run the hooks' `setup`.

        Raises:
            WorkerInitError: a hook's setup failed.
            ProtocolError: this worker was set up before.
        """
        from manyhands.worker.pipeline import Worker

        if self._worker is not None:
            raise ProtocolError("WorkerContext.setup() was called twice on one worker")
        self.surroundings.enter_thread()
        worker = Worker(self, self._twin)
        if self._twin is None:
            worker.hooks.setup()
        self._worker = worker

    def teardown(self) -> None:
        """Run the hooks' `teardown`. Idempotent.

        Raises:
            TeardownError: a hook's teardown failed.
        """
        worker, self._worker = self._worker, None
        if worker is not None and self._twin is None:
            worker.hooks.teardown()

    @property
    def stopped(self) -> bool:
        """No new record may start."""
        return self._abandoned or self.cancelled.is_set()

    def abandon(self) -> None:
        """Start no new record here and cancel what is awaited; called from another thread, which waits for nothing."""
        self._abandoned = True
        worker = self._worker
        if worker is not None:
            worker.hooks.interrupt(worker.thread)

    def until_cancelled(self, rows: list[Any], *, slow: bool) -> Iterator[Any]:
        """The rows, as long as the run is not aborted.

        Args:
            rows: the rows.
            slow: each may take long: look every few rows, which costs 0.15 µs a row, not only once.

        Raises:
            RecordsCancelled: it is.
        """
        if not slow:
            return iter(rows if self._may_go_on() else ())
        stretches = (rows[first : first + _STRETCH] for first in range(0, len(rows), _STRETCH) if self._may_go_on())
        return chain.from_iterable(stretches)

    def _may_go_on(self) -> bool:
        from manyhands.worker.plan import RecordsCancelled

        if self.stopped:
            raise RecordsCancelled
        return True

    def clone(self) -> WorkerContext:
        """A context for another worker in this process: the same job, a store of its own."""
        return WorkerContext(**{name: getattr(self, name) for name in _SHARED}, cancelled=self.cancelled)

    def share(self) -> WorkerContext:
        """A context for another thread of this worker, which is set up: the same hooks, store and event loop.

        Its own `setup` and `teardown` call no hook.
        """
        shared = self.clone()
        shared._twin = self.worker  # noqa: SLF001  # of the same class
        return shared

    def dumps(self) -> bytes:
        """The job by cloudpickle, for a private channel to a worker process.

        Raises:
            UnpicklableError: names what cannot travel.
        """
        for name in _SHARED:
            _check_picklable(name, getattr(self, name))
        dumped: bytes = cloudpickle.dumps(({name: getattr(self, name) for name in _SHARED}, _enums_of_main()))
        return dumped

    @staticmethod
    def loads(data: bytes) -> WorkerContext:
        """The context again, in a worker process of its own. Only for bytes of one's own parent: this unpickles."""
        job, enums = cloudpickle.loads(data)
        # Members travel by the name of their class, which is to be found here as it is there.
        vars(sys.modules["__main__"]).update(enums)
        context = WorkerContext(**job)
        context.surroundings.enter_process()
        return context


_STRETCH: Final = 8

# What makes up the job; the rest belongs to one worker or one process.
_SHARED = tuple(f.name for f in fields(WorkerContext) if f.init and f.name not in ("cell", "awaiter", "cancelled"))


def _enums_of_main() -> dict[str, type[Enum]]:
    """The enumerations of a program's own script, which a worker cannot import."""
    return {
        name: value
        for name, value in vars(sys.modules["__main__"]).items()
        if isinstance(value, type) and issubclass(value, Enum) and value.__module__ == "__main__"
    }


def _check_picklable(name: str, value: Any) -> None:
    parts = value if isinstance(value, list | tuple) else [value]
    for part in parts:
        try:
            cloudpickle.dumps(part)
        except Exception as error:
            what, advice = name, ""
            if isinstance(part, BaseHook):
                what = f"{type(part).__name__} ({name.removesuffix('_hooks')}-validation hook)"
                advice = "; make it in the hook's setup"
            raise UnpicklableError(f"{what} cannot be sent to a worker process: {error}{advice}") from error
