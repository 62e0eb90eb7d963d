"""Hooks and pipes that the tests of the backend share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from manyhands import (
    BaseHook,
    Chunk,
    ChunkKind,
    FlowReport,
    HookStore,
    IterableInputAdapter,
    MemoryOutputAdapter,
    Pipe,
    WorkerContext,
)
from manyhands_threads import ThreadExecutor

LIMIT = 20.0
"""Seconds after which something that must happen has not."""


class Row(BaseModel):
    n: int


class Does(BaseHook):
    """Calls functions."""

    def __init__(
        self, execute: Callable[..., Any], setup: Callable[..., Any] = lambda store: None, **other: Any
    ) -> None:
        super().__init__()
        self._execute, self._setup = execute, setup
        self._teardown = other.get("teardown", lambda store: None)

    def setup(self, store: HookStore) -> Any:
        return self._setup(store)

    def execute(self, entries: list[Any], store: HookStore) -> Any:
        return self._execute(entries, store)

    def teardown(self, store: HookStore) -> Any:
        return self._teardown(store)


class Picky(BaseHook):
    """Fails on some records, drops others."""

    def execute(self, entries: list[Any], store: HookStore) -> list[Any]:
        for entry in entries:
            if entry["position"] % 97 == 13:
                raise ValueError(f"no {entry['position']}")
        return [entry for entry in reversed(entries) if entry["position"] % 10]


def keep(entries: list[Any], store: HookStore) -> None:
    pass


def rows(count: int) -> IterableInputAdapter:
    return IterableInputAdapter([{"n": n} for n in range(count)])


def run(executor: Any, count: int, *hooks: BaseHook, **others: Any) -> tuple[FlowReport, list[Any], list[Any]]:
    output, errors = MemoryOutputAdapter(), MemoryOutputAdapter()
    pipe = Pipe(rows(count), output, errors, executor=executor, pre_validation_hooks=hooks, **others)
    return pipe.run(), output.results, errors.results


def chunk(sequence: int, count: int = 1) -> Chunk:
    return Chunk(sequence, sequence * count, count, ChunkKind.LIST, [{"n": n} for n in range(count)])


@contextmanager
def started(executor: ThreadExecutor, *hooks: BaseHook) -> Iterator[ThreadExecutor]:
    executor.start(WorkerContext(pre_hooks=hooks))
    try:
        yield executor
    finally:
        executor.shutdown()
