"""One worker in the test's own thread, for the tests of what a worker does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from manyhands import BaseHook, HookStore
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.records import Entry
from manyhands.worker import codec
from manyhands.worker.context import WorkerContext
from manyhands.worker.pipeline import process_chunk_on_worker


@contextmanager
def working(context: WorkerContext) -> Iterator[WorkerContext]:
    """The context of a worker that is set up, and torn down in the end."""
    context.setup()
    try:
        yield context
    finally:
        context.teardown()


def as_list(rows: Sequence[Any], sequence: int = 0, start: int = 0) -> Chunk:
    return Chunk(sequence, start, len(rows), ChunkKind.LIST, list(rows))


def as_packed(rows: Sequence[Any], start: int = 0, *, compressed: bool = False) -> Chunk:
    payload = codec.compress(codec.dumps(list(rows)), "lz4" if compressed else None)
    return Chunk(0, start, len(rows), ChunkKind.PACKED, payload, compressed=compressed)


def as_raw(text: bytes, count: int, start: int = 0, line: int | None = None, *, compressed: bool = False) -> Chunk:
    payload = codec.compress(text, "lz4") if compressed else text
    return Chunk(0, start, count, ChunkKind.RAW, payload, line, compressed)


def run(rows: Sequence[Any] | Chunk, **job: Any) -> ChunkResult:
    """What becomes of the rows in a job of these hooks, this schema and these encoders."""
    chunk = rows if isinstance(rows, Chunk) else as_list(rows)
    with working(WorkerContext(**job)) as context:
        return process_chunk_on_worker(chunk, context)


def values(result: ChunkResult) -> list[Any]:
    return [entry["validated_data"] for entry in entries(result)]


def positions(result: ChunkResult) -> list[int]:
    return [entry["position"] for entry in entries(result)]


def entries(result: ChunkResult) -> list[Entry]:
    assert isinstance(result.output, list)
    return result.output


def refusals(result: ChunkResult) -> dict[int, list[tuple[str, str]]]:
    """Type and message of each error by position of the record."""
    assert isinstance(result.errors, list)
    return {record["position"]: [(e["type"], e["message"]) for e in record["errors"]] for record in result.errors}


class Does(BaseHook):
    """Executes a function."""

    def __init__(
        self, execute: Callable[[list[Entry], HookStore], Any], priority: int = 50, *, replay: bool = True
    ) -> None:
        super().__init__(priority)
        self._execute = execute
        self.replay = replay

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        return self._execute(entries, store)


class Awaits(Does):
    """Executes a coroutine function."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        return await self._execute(entries, store)


class Fails(BaseHook):
    """Counts how often it sees each record and fails on some."""

    def __init__(self, *bad: int, replay: bool = True) -> None:
        super().__init__()
        self.bad = bad
        self.replay = replay
        self.seen: list[int] = []

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            self.seen.append(entry["position"])
            entry["raw_data"]["touched"] = entry["raw_data"].get("touched", 0) + 1
            if entry["position"] in self.bad:
                raise RuntimeError(f"no {entry['position']}")
