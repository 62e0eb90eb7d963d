"""Hooks and pipes that the tests of the backend share."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from pydantic import BaseModel

from manyhands import BaseHook, FlowReport, HookStore, IterableInputAdapter, MemoryOutputAdapter, Pipe

LIMIT = 20.0
"""Seconds after which something that must happen has not."""


class Row(BaseModel):
    n: int


class Awaits(BaseHook):
    """Calls a coroutine function for each record."""

    def __init__(self, execute: Callable[..., Any], **steps: Callable[[HookStore], Any]) -> None:
        super().__init__()
        self._execute, self._steps = execute, steps

    def setup(self, store: HookStore) -> Any:
        return self._steps["setup"](store) if "setup" in self._steps else None

    async def execute(self, entries: list[Any], store: HookStore) -> Any:
        return await self._execute(entries, store)

    def teardown(self, store: HookStore) -> Any:
        return self._steps["teardown"](store) if "teardown" in self._steps else None


class Does(Awaits):
    """Calls a function for each batch."""

    def execute(self, entries: list[Any], store: HookStore) -> Any:  # type: ignore[override]
        return self._execute(entries, store)


class Overlap:
    """Counts the calls that overlap; each waits until `wanted` of them have, at least once."""

    def __init__(self, wanted: int) -> None:
        self.now = self.most = 0
        self.wanted = wanted
        self.lock = threading.Lock()

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    async def call(self, entries: list[Any], store: HookStore) -> None:
        self.enter()
        end = monotonic() + LIMIT
        while self.most < self.wanted and monotonic() < end:  # noqa: ASYNC110  # an event would order the calls
            await asyncio.sleep(0)
        for _ in range(5):  # let in whoever may
            await asyncio.sleep(0)
        self.leave()

    def block(self, entries: list[Any], store: HookStore) -> None:
        self.enter()
        end = monotonic() + LIMIT
        while self.most < self.wanted and monotonic() < end:
            sleep(0.001)
        sleep(0.002)
        self.leave()


class Picky(BaseHook):
    """Fails on some records, drops others."""

    async def execute(self, entries: list[Any], store: HookStore) -> list[Any]:
        await asyncio.sleep(0)
        position = entries[0]["position"]
        if position % 97 == 13:
            raise ValueError(f"no {position}")
        entries[0]["metadata"]["seen"] = True
        return entries if position % 10 else []


async def pass_by(entries: list[Any], store: HookStore) -> None:
    await asyncio.sleep(0)


def rows(count: int) -> IterableInputAdapter:
    return IterableInputAdapter([{"n": n} for n in range(count)])


def pipe_of(executor: Any, count: int, *hooks: BaseHook, **others: Any) -> Pipe:
    return Pipe(
        rows(count),
        MemoryOutputAdapter(),
        MemoryOutputAdapter(),
        executor=executor,
        pre_validation_hooks=hooks,
        **others,
    )


def run(executor: Any, count: int, *hooks: BaseHook, **others: Any) -> tuple[FlowReport, list[Any], list[Any]]:
    pipe = pipe_of(executor, count, *hooks, **others)
    return pipe.run(), pipe.output_adapter.results, pipe.error_output_adapter.results  # type: ignore[union-attr]


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that somebody else runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
