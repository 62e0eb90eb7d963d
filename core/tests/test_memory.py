"""An endless source needs no more memory the longer it runs."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest

from manyhands import BaseExecutor, BaseOutputAdapter, IterableInputAdapter, Pipe
from manyhands.adapters.base import EntryWriter, Writer
from manyhands.chunks import Chunk
from manyhands_sync import SyncFifoExecutor

from .support import ScriptedExecutor, wait_until

RECORD_BYTES = 1000


class SlowOutput(BaseOutputAdapter):
    """Takes a millisecond a chunk, far longer than it takes to read one."""

    def __init__(self) -> None:
        self.records = 0
        self._never = threading.Event()

    def open(self, columns: tuple[str, ...] | None) -> Writer:
        return EntryWriter(self._take)

    def has(self, records: int) -> bool:
        return self.records >= records

    def _take(self, entries: list[Any]) -> None:
        self.records += len(entries)
        self._never.wait(0.001)


def endless() -> Iterator[dict[str, Any]]:
    return ({"k": index, "text": f"{index:0{RECORD_BYTES}}"} for index in count())


@pytest.mark.parametrize("kind", ["sync", "threads", "processes"])
def test_memory_stays_flat_with_a_fast_source_and_a_slow_sink(kind: str) -> None:
    def dawdle(chunk: Chunk) -> None:
        if chunk.sequence % 10 == 0:
            threading.Event().wait(0.005)  # the head is slower than those behind it

    executor: BaseExecutor = SyncFifoExecutor(chunksize=10)
    if kind != "sync":
        executor = ScriptedExecutor(chunksize=10, slots=4, remote=kind == "processes", gate=dawdle)
    output, peaks = SlowOutput(), []
    with Pipe(IterableInputAdapter(endless()), output, executor=executor) as pipe:
        tracemalloc.start()
        try:
            pipe.start()
            for records in (1000, 2500, 4000):
                wait_until(partial(output.has, records))
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
        finally:
            tracemalloc.stop()
    assert max(peaks) < 1.5 * min(peaks)
    assert max(peaks) < 4000 * RECORD_BYTES / 2
