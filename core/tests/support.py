"""An executor whose workers die, dawdle, refuse and lie by script, and what the tests of the driver share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, replace
from queue import SimpleQueue
from random import Random
from signal import SIGKILL
from time import monotonic, sleep
from typing import Any

from pydantic import BaseModel, model_validator

from manyhands import BaseExecutor, BaseHook, Capabilities, IterableInputAdapter, MemoryOutputAdapter, Pipe, RunOptions
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.errors import ExecutorBroken, TeardownError, WorkerLost
from manyhands.events import Event, RecordDead
from manyhands.records import Entry
from manyhands.report import FlowReport
from manyhands.worker import codec
from manyhands.worker.cell import ProgressCell, read_progress
from manyhands.worker.context import WorkerContext

LIMIT = 20.0
"""Seconds after which something that must happen has not."""

Task = tuple[Chunk, Future[ChunkResult]]
Script = Callable[[Chunk, int], str]


class Killed(KeyboardInterrupt):
    """Takes the worker that meets it down."""


@dataclass
class Killers:
    """Records that kill their worker: always, or only the first time.

    Attributes:
        deaths: how often each did.
    """

    always: set[int] = field(default_factory=set)
    once: set[int] = field(default_factory=set)
    deaths: Counter[int] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, index: int) -> None:
        """Process a record."""
        with self._lock:
            if index in self.always or (index in self.once and not self.deaths[index]):
                self.deaths[index] += 1
                raise Killed


class Watch(BaseHook):
    """Counts how often each record runs, and lets the killers among them act."""

    def __init__(self, killers: Killers | None = None, *, replay: bool = True) -> None:
        super().__init__(priority=0)
        self.replay = replay
        self.ran: Counter[int] = Counter()
        self._killers = killers or Killers()

    def execute(self, entries: list[Entry], store: Any) -> None:
        for entry in entries:
            self.ran[entry["position"]] += 1
            self._killers.meet(entry["position"])


def lethal_model(killers: Killers) -> type[BaseModel]:
    """A schema in whose validator the killers act."""

    class Lethal(BaseModel):
        k: int
        n: int

        @model_validator(mode="before")
        @classmethod
        def meet(cls, data: Any) -> Any:
            killers.meet(data["k"])
            return data

    return Lethal


def honest(chunk: Chunk, times: int) -> str:
    """The script of a backend without faults."""
    return "run"


def seeded(seed: int, *faults: str) -> Script:
    """A script that draws a fault for the first attempts at each chunk, and reorders all the time.

    A loss is drawn once a chunk at most: a record in two ranges that died twice would rightly be suspected.
    """

    def script(chunk: Chunk, times: int) -> str:
        random = Random(f"{seed} {chunk.sequence} {chunk.lo} {chunk.hi} {times}")
        first = chunk.attempt == 0 and times < 4
        drawn = random.choice(["run", "defer", *faults]) if first else random.choice(["run", "defer"])
        return "run" if drawn == "defer" and times > 6 else drawn

    return script


class ScriptedExecutor(BaseExecutor):
    """Threads that run chunks as workers of a real backend would, unless the script says otherwise.

    Args:
        script: what happens when a worker takes a chunk for the n-th time: `run`; `defer` (others first); `return`
            (hand it back); `lose` (die when it has run); `raise`; `break`; or a way to lie.
        slots: workers.
        progress: a dead worker left behind where it was.
        remote: chunks and results travel as bytes.
        gate: called by the worker before it runs a chunk.
    """

    name = "scripted"

    def __init__(
        self,
        script: Script = honest,
        *,
        slots: int = 2,
        progress: bool = True,
        remote: bool = False,
        gate: Callable[[Chunk], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.capabilities = Capabilities(concurrent=slots > 1, crosses_process=remote, reports_progress=progress)
        self.submitted: list[Chunk] = []
        self.shutdowns = 0
        self._script, self._slots, self._gate = script, slots, gate
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._times: Counter[tuple[int, int, int]] = Counter()
        self._threads: list[threading.Thread] = []
        self._context: WorkerContext | None = None
        self._last: ChunkResult | None = None
        self._cancelled = False
        self._failed: TeardownError | None = None

    def start(self, context: WorkerContext) -> None:
        self._context, self._cancelled = context, False
        ready: SimpleQueue[BaseException | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, args=(ready,)) for _ in range(self._slots)]
        for thread in self._threads:
            thread.start()
        for error in [ready.get() for _ in self._threads]:
            if error is not None:
                raise error

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        self.submitted.append(replace(chunk, payload=None, kind=ChunkKind.LIST))  # not to hold all records
        future: Future[ChunkResult] = Future()
        self._tasks.put((_travelled(chunk) if self.capabilities.crosses_process else chunk, future))
        return future

    def shutdown(self, *, cancel: bool = False) -> None:
        self.shutdowns += 1
        self._cancelled = cancel
        for _ in self._threads:
            self._tasks.put(None)
        while self._threads:
            self._threads.pop().join()
        if self._failed is not None:
            raise self._failed

    def slots(self) -> int:
        return self._slots

    def _work(self, ready: SimpleQueue[BaseException | None]) -> None:
        worker = _Worker(self._context)
        try:
            worker.begin()
        except Exception as error:  # noqa: BLE001  # it is raised by `start`
            ready.put(error)
            return
        ready.put(None)
        while (task := self._tasks.get()) is not None:
            if not self._cancelled:
                self._take(worker, *task)
        try:
            worker.end()
        except TeardownError as error:
            self._failed = error

    def _take(self, worker: _Worker, chunk: Chunk, future: Future[ChunkResult]) -> None:
        key = (chunk.sequence, chunk.lo, chunk.hi)
        self._times[key] += 1
        action = self._script(chunk, self._times[key])
        if action == "defer":
            self._tasks.put((chunk, future))
        elif action == "return":
            future.cancel()
        else:
            if self._gate is not None:
                self._gate(chunk)
            self._finish(worker, action, chunk, future)

    def _finish(self, worker: _Worker, action: str, chunk: Chunk, future: Future[ChunkResult]) -> None:
        try:
            result: Any = self._answer(worker, action, chunk)
        except Killed:
            left = worker.progress(chunk) if self.capabilities.reports_progress else None
            worker.replace()
            future.set_exception(WorkerLost(signal=SIGKILL, progress=left))
        except Exception as error:  # noqa: BLE001  # what a worker raises, its future raises
            future.set_exception(error)
        else:
            future.set_result(result)

    def _answer(self, worker: _Worker, action: str, chunk: Chunk) -> Any:
        if action == "raise":
            raise RuntimeError("the backend hiccuped")
        if action == "break":
            raise ExecutorBroken("no worker can start")
        result = worker.run(chunk)
        if self.capabilities.crosses_process:
            result = _travelled(result)
        before, self._last = self._last, result
        if action == "lose":
            worker.replace()
            raise WorkerLost(exitcode=3)
        return result if action == "run" else LIES[action](result, before)


class _Word(list[int]):
    """What a supervisor reads after a death: here the stack unwinds, which would say that the worker is idle."""

    def __setitem__(self, index: Any, word: Any) -> None:
        if word >> 28 & 0b111:
            super().__setitem__(index, word)


class _Worker:
    def __init__(self, context: WorkerContext | None) -> None:
        assert context is not None
        self._job = context
        self._word = _Word([0])

    def begin(self) -> None:
        self._context = self._job.clone()
        self._context.cell = ProgressCell(self._word)
        self._context.setup()

    def run(self, chunk: Chunk) -> ChunkResult:
        return BaseExecutor.process_chunk_on_worker(chunk, self._context)

    def progress(self, chunk: Chunk) -> Any:
        return read_progress(self._word[0], chunk, self._job.max_hook_chunk_size)

    def replace(self) -> None:
        self.end()
        self.begin()

    def end(self) -> None:
        self._context.teardown()


def _lie(**changes: Callable[[ChunkResult], Any]) -> Callable[[ChunkResult, ChunkResult | None], Any]:
    def tell(result: ChunkResult, before: ChunkResult | None) -> ChunkResult:
        for name, change in changes.items():
            setattr(result, name, change(result))
        return result

    return tell


LIES: dict[str, Callable[[ChunkResult, ChunkResult | None], Any]] = {
    "one record more": _lie(ok=lambda result: result.ok + 1),
    "one record less": _lie(ok=lambda result: result.ok - 1),
    "a record doubled": _lie(
        output=lambda result: result.output + result.output[:1], ok=lambda result: result.ok + 1, dropped=lambda _: -1
    ),
    "another chunk": _lie(sequence=lambda result: result.sequence + 1),
    "another range": _lie(lo=lambda result: result.lo + 1),
    "records lost on the way": _lie(output=lambda result: result.output[1:]),
    "records never counted": _lie(dropped=lambda result: result.ok, ok=lambda result: 0),
    "the result before": lambda result, before: result if before is None else before,
    "nothing": lambda result, before: None,
}


def _travelled(thing: Any) -> Any:
    """What the other process has of a chunk or a result."""
    plain = codec.loads(codec.dumps({each.name: getattr(thing, each.name) for each in fields(thing)}))
    return type(thing)(**plain)


@dataclass
class Ran:
    """What came of a run."""

    report: FlowReport
    ok: list[Entry]
    errors: list[Any]
    events: list[Event]

    @property
    def values(self) -> list[Any]:
        return [entry["validated_data"] for entry in self.ok]

    @property
    def positions(self) -> list[int]:
        return [entry["position"] for entry in self.ok]

    def with_outcome(self, outcome: str) -> list[int]:
        """Positions of the error records of an outcome."""
        return [record["position"] for record in self.errors if record["outcome"] == outcome]

    @property
    def deaths_told(self) -> list[int]:
        return [event.position for event in self.events if isinstance(event, RecordDead)]


def run_pipe(
    records: Iterable[Any],
    executor: BaseExecutor,
    *,
    schema: Any = None,
    pre: Sequence[BaseHook] = (),
    post: Sequence[BaseHook] = (),
    options: RunOptions | None = None,
    **others: Any,
) -> Ran:
    """Run records to the end and collect what comes out."""
    output, errors, events = MemoryOutputAdapter(), MemoryOutputAdapter(), list[Event]()
    pipe = Pipe(
        IterableInputAdapter(records),
        output,
        errors,
        schema,
        executor,
        pre,
        post,
        options=options,
        observers=[events.append],
        **others,
    )
    report = pipe.run()
    return Ran(report, output.results, errors.results, events)


def rows(count: int, bad: Iterable[int] = ()) -> list[dict[str, Any]]:
    """Records 0 to count; the bad ones do not fit the schema."""
    refused = set(bad)
    return [{"k": index, "n": "bad" if index in refused else index} for index in range(count)]


def wait_until(true: Callable[[], object], seconds: float = LIMIT) -> None:
    """Return as soon as it is; fail when it is not for too long."""
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, "it never happened"
        sleep(0.001)
