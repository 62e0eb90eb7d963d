"""The window of chunks that were read and are not yet written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands import IterableInputAdapter, MemoryOutputAdapter, Pipe
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.driver import loop
from manyhands.driver.ledger import Ledger
from manyhands.errors import ProtocolError

from .support import ScriptedExecutor, wait_until


def feeder_chunks(size: int) -> int:
    """How many chunks of so many records the feeder holds."""
    return max(2, 64 // size)


def chunk(sequence: int, size: int = 4, **bounds: int) -> Chunk:
    return Chunk(sequence, sequence * size, size, ChunkKind.PACKED, b"x" * size, **bounds)


def result(sequence: int, lo: int, hi: int, output: bytes = b"") -> ChunkResult:
    return ChunkResult(sequence, lo, hi, ok=hi - lo, output=output)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.data())
def test_chunks_come_out_whole_once_and_in_order(data: st.DataObject) -> None:
    ordered, size = data.draw(st.booleans()), 6
    ledger, total = Ledger(ordered=ordered), data.draw(st.integers(1, 8))
    for sequence in range(total):
        ledger.open(chunk(sequence, size))
    cuts = [sorted({0, size, *data.draw(st.sets(st.integers(0, size)))}) for _ in range(total)]
    parts = [(n, lo, hi) for n in range(total) for lo, hi in zip(cuts[n], cuts[n][1:], strict=False)]
    missing, seen = dict.fromkeys(range(total), size), []
    for n, lo, hi in data.draw(st.permutations(parts)):
        ledger.settle(result(n, lo, hi, b"out"), chunk(n, size, lo=lo, hi=hi))
        missing[n] -= hi - lo
        for entry in ledger.pop_complete():
            seen.append(entry.chunk.sequence)
            assert missing[entry.chunk.sequence] == 0
            spans = [(part.lo, part.hi) for part in entry.in_order()]
            assert [lo for lo, _ in spans] + [size] == [0] + [hi for _, hi in spans]
    assert seen == list(range(total)) if ordered else sorted(seen) == list(range(total))
    assert (len(ledger), ledger.nbytes) == (0, 0)


def test_bytes_of_chunks_and_results_count_until_they_are_given_out() -> None:
    ledger = Ledger(ordered=True)
    ledger.open(chunk(0, 4))
    ledger.open(chunk(1, 4))
    ledger.settle(result(1, 0, 4, b"12345"), chunk(1, 4))
    assert list(ledger.pop_complete()) == []
    assert ledger.nbytes == 13
    ledger.settle(result(0, 0, 4), chunk(0, 4))
    assert len(list(ledger.pop_complete())) == 2
    assert ledger.nbytes == 0


def test_an_answer_to_another_question_is_refused() -> None:
    ledger = Ledger(ordered=True)
    ledger.open(chunk(0, 4))
    with pytest.raises(ProtocolError, match="records 0 to 2 when it was asked for chunk 0 records 0 to 4"):
        ledger.settle(result(0, 0, 2), chunk(0, 4))


def test_a_range_answered_twice_is_refused() -> None:
    ledger = Ledger(ordered=True)
    ledger.open(chunk(0, 4))
    ledger.settle(result(0, 0, 2), chunk(0, 4, lo=0, hi=2))
    with pytest.raises(ProtocolError, match="twice"):
        ledger.settle(result(0, 0, 2), chunk(0, 4, lo=0, hi=2))


def watched_source(written: Callable[[], int], ahead: list[int]) -> Iterator[Any]:
    for index in count():
        ahead.append(index + 1 - written())
        yield {"k": index}


# With one slot nothing overtakes the head: only what runs is out of the feeder's hands.
@pytest.mark.parametrize(("slots", "window"), [(1, 1), (2, 6), (4, 10)])
@pytest.mark.parametrize("size", [1, 4])
def test_a_slow_head_holds_an_endless_source_at_the_window(slots: int, window: int, size: int) -> None:
    opened, ahead, output = threading.Event(), list[int](), MemoryOutputAdapter()
    # The feeder goes on when half of its chunks are taken.
    least, most = ((window + chunks) * size for chunks in (feeder_chunks(size) // 2, feeder_chunks(size)))
    gate: Callable[[Chunk], object] = lambda chunk: opened.wait() if chunk.sequence == 0 else None  # noqa: E731
    pipe = Pipe(
        IterableInputAdapter(watched_source(lambda: len(output.results), ahead)),
        output,
        executor=ScriptedExecutor(gate=gate, slots=slots, chunksize=size),
    )
    with pipe:
        report = pipe.start()
        try:
            wait_until(lambda: len(ahead) >= least)
        finally:
            opened.set()
        wait_until(lambda: report.ok > 20 * most)
    assert least <= max(ahead) <= most
    assert report.counts["in"] == report.counts["ok"] + report.counts["cancelled"]


def test_the_byte_bound_holds_reading_up_before_the_window_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "WINDOW_BYTES", 1)
    ahead, output, size = list[int](), MemoryOutputAdapter(), 4
    source = islice(watched_source(lambda: len(output.results), ahead), 400)
    executor = ScriptedExecutor(slots=4, chunksize=size, remote=True)
    report = Pipe(IterableInputAdapter(source), output, executor=executor).run()
    assert report.ok == 400
    assert max(ahead) <= (1 + feeder_chunks(size)) * size
