"""Each chunk gives its own result, whatever its kind and its bounds, by a future like any other."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

import pytest

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.testing.bench import PATIENCE, Bench
from manyhands.testing.cases.needs import needs
from manyhands.testing.notes import Counting, Gate, Held, Meeting, Notebook, Witness
from manyhands.testing.script import deterministic_failure
from manyhands.worker import codec
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.rows import JSONLinesDecoder

RECORDS: Final = 6


class ChunkCases:
    """`submit`, chunk by chunk."""

    def test_each_chunk_gives_its_own_result(self, bench: Bench) -> None:
        sizes = [3, 1, 5, 2, 4, 1, 1, 3]
        chunks = [bench.chunk(_rows(size), n, start=100 * n) for n, size in enumerate(sizes)]
        # Two workers have one at a time, where there are two: results that they exchange show.
        both = Meeting(bench.folder, PATIENCE) if bench.capabilities.concurrent else None
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, both), Counting()])) as executor:
            futures = [executor.submit(chunk) for chunk in chunks]
            results = bench.results(*futures)
        for chunk, result in zip(chunks, results, strict=True):
            _check(bench, chunk, result)

    def test_a_chunk_that_was_narrowed_runs_those_records_alone(self, bench: Bench) -> None:
        bounds = [(0, 1), (2, 4), (5, 6)]
        chunks = [bench.chunk(_rows(RECORDS), n, start=10 * n).narrowed(*part) for n, part in enumerate(bounds)]
        hook = Witness(bench.folder)
        with bench.started(WorkerContext(pre_hooks=[hook, Counting()])) as executor:
            for chunk in chunks:
                _check(bench, chunk, *bench.results(executor.submit(chunk)))
        seen = [position for note in hook.notes.read("execute") for position in note.positions]
        wanted = [10 * n + index for n, part in enumerate(bounds) for index in range(*part)]
        assert seen == wanted, bench.broken("chunks", f"of records {wanted} its hooks saw {seen}")

    def test_packed_records_are_taken(self, bench: Bench) -> None:
        _run_payload(bench, ChunkKind.PACKED, codec.dumps(_rows(RECORDS)))

    def test_raw_blocks_are_taken(self, bench: Bench) -> None:
        _run_payload(bench, ChunkKind.RAW, b"".join(json.dumps(row).encode() + b"\n" for row in _rows(RECORDS)))

    @needs(not_="crosses_process")
    def test_lists_of_records_are_taken(self, bench: Bench) -> None:
        _run_payload(bench, ChunkKind.LIST, _rows(RECORDS))

    @pytest.mark.parametrize("encoded", [False, True], ids=["entries", "bytes"])
    def test_a_result_accounts_for_each_record(self, bench: Bench, *, encoded: bool) -> None:
        hook = deterministic_failure(bench.folder / "script", {1: ["raise"], 2: ["drop"], 4: ["reject"]})
        encoder = JSONEncoder() if encoded else None
        context = WorkerContext(pre_hooks=[hook], encoder=encoder, error_encoder=encoder)
        with bench.started(context) as executor:
            (result,) = bench.results(executor.submit(bench.chunk(_rows(RECORDS))))
        told = (result.ok, result.rejected, result.dropped)
        assert told == (3, 2, 1), bench.broken("chunks", f"of 6 records 2 failed and 1 was dropped, it gave {result}")
        parts = [len(part.splitlines() if isinstance(part, bytes) else part) for part in (result.output, result.errors)]
        fault = f"with {told[0]} ok and {told[1]} rejected it holds {parts[0]} and {parts[1]}"
        assert parts == [3, 2], bench.broken("chunks", fault)

    def test_an_attempt_starts_from_untouched_records(self, bench: Bench) -> None:
        rows = _rows(RECORDS)
        chunk = bench.chunk(rows, 1)
        with bench.started(WorkerContext(pre_hooks=[Counting()])) as executor:
            for again in (chunk, chunk.narrowed(0, RECORDS), chunk.narrowed(0, RECORDS)):
                _check(bench, again, *bench.results(executor.submit(again)))
        assert rows == _rows(RECORDS), bench.broken("chunks", f"hooks changed the records of the chunk itself: {rows}")

    def test_submit_gives_a_new_future_each_time(self, bench: Bench) -> None:
        heard: list[Any] = []
        called = threading.Semaphore(0)

        def hear(done: object) -> None:
            heard.append(done)
            called.release()

        with bench.started(WorkerContext(pre_hooks=[Counting()])) as executor:
            futures = [executor.submit(bench.chunk(_rows(1), n, start=n)) for n in range(3)]
            real = [type(future) for future in futures if not isinstance(future, Future)]
            assert not real, bench.broken("futures", f"submit() returned {real[0]}")
            assert len(set(futures)) == len(futures), bench.broken("futures", "submit() returned one future twice")
            for future in futures:
                future.add_done_callback(hear)
            missed = [n for n in range(3) if not called.acquire(timeout=PATIENCE)]
        assert not missed, bench.broken("futures", f"of 3 futures {len(missed)} never called who waits for them")
        assert set(heard) == set(futures), bench.broken("futures", "callbacks were given other futures")

    @needs(not_="inline")
    def test_whoever_cancels_a_chunk_that_waits_harms_no_other(self, bench: Bench) -> None:
        gate, notes = Gate(bench.folder), Notebook(bench.folder)
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, Held(gate, PATIENCE))])) as executor:
            count = executor.slots() + 2 * bench.workers + 2
            futures = [executor.submit(bench.chunk(_rows(1), n, start=n)) for n in range(count)]
            bench.wait_until(lambda: notes.read("execute"), "a chunk began")
            cancelled = [n for n in range(count // 2, count) if futures[n].cancel()]
            gate.open()
            results = bench.results(*(futures[n] for n in range(count) if n not in cancelled))
        lost = [result.sequence for result in results if result.ok != 1]
        assert not lost, bench.broken("futures", f"chunks {lost} have no record after others were cancelled")

    @needs(not_="inline")
    def test_shutdown_with_cancel_cancels_what_has_not_begun(self, bench: Bench) -> None:
        notes = Notebook(bench.folder)
        executor = bench.make()
        hook = Witness(bench.folder, Held(Gate(bench.folder), 0.4))
        executor.start(bench.adapt(WorkerContext(pre_hooks=[hook]), executor))
        try:
            count = executor.slots() + 4 * bench.workers + 2
            futures = [executor.submit(bench.chunk(_rows(1), n, start=n)) for n in range(count)]
            bench.wait_until(lambda: notes.read("execute"), "a chunk began")
        finally:
            executor.shutdown(cancel=True)
        begun = {position for note in notes.read("execute") for position in note.positions}
        assert len(begun) < count, bench.broken("cancelling", f"shutdown(cancel=True) let all {count} chunks run")
        undone = [n for n in range(count) if not futures[n].done()]
        assert not undone, bench.broken("hang", f"after shutdown(cancel=True) the futures of chunks {undone} are open")
        # A worker may just have got its chunk, which then has begun though no hook has seen it.
        kept = [n for n in range(count) if n not in begun and not futures[n].cancelled()]
        fault = f"no hook had seen chunks {kept}, and shutdown(cancel=True) did not cancel their futures"
        assert len(kept) <= bench.workers, bench.broken("cancelling", fault)


def _rows(count: int) -> list[dict[str, Any]]:
    return [{"k": k, "times": 0} for k in range(count)]


def _run_payload(bench: Bench, kind: ChunkKind, payload: Any) -> None:
    """Run a chunk of this kind, whole and in part, and compressed where it is bytes."""
    chunk = Chunk(0, 10, RECORDS, kind, payload)
    parts = [chunk, replace(chunk, sequence=1, lo=1, hi=3)]
    if isinstance(payload, bytes):
        small = codec.compress(payload, "lz4")
        parts += [replace(part, sequence=part.sequence + 2, payload=small, compressed=True) for part in parts]
    decoder = JSONLinesDecoder() if kind is ChunkKind.RAW else None
    context = WorkerContext(pre_hooks=[Counting()], decoder=decoder, json_input=decoder is not None)
    with bench.started(context) as executor:
        for part in parts:
            _check(bench, part, *bench.results(executor.submit(part)))


def _check(bench: Bench, chunk: Chunk, result: ChunkResult) -> None:
    """The result of a chunk of `_rows` that went through `Counting` is what it must be."""
    asked, told = ((each.sequence, each.lo, each.hi) for each in (chunk, result))
    fault = f"chunk {asked[0]} with records {asked[1]} to {asked[2]} gave the result of chunk {told}"
    assert told == asked, bench.broken("chunks", fault)
    assert isinstance(result.output, list), bench.broken("chunks", f"a job without an encoder gave {result.output!r}")
    found = [(entry["position"], entry["validated_data"]) for entry in result.output]
    wanted = [(chunk.start + k, {"k": k, "times": 1}) for k in range(chunk.lo, chunk.hi)]
    assert found == wanted, bench.broken("chunks", f"chunk {asked} gave records {found}, not {wanted}")
    assert result.ok == chunk.size, bench.broken("chunks", f"chunk {asked} counts {result.ok} records as ok")
