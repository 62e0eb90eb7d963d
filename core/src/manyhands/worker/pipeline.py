"""The one pipeline of every backend: unpack → pre hooks → validate → post hooks → pack.

    Chunk ─ unpack ─┬─ rows ─ validate ─ encode ──────────────────────────┬─ ChunkResult
                    └─ entries ─ pre hooks ─ validate ─ post hooks ─ encode ┘

The upper way is for jobs without hooks whose output has an encoder: rows never get an envelope.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.errors import ProtocolError
from manyhands.records import Entry, ErrorDetail, ErrorRecord, Outcome
from manyhands.worker import codec
from manyhands.worker.batch import HookedPath, map_all, reject
from manyhands.worker.calls import process_calls
from manyhands.worker.compile import compile_plan
from manyhands.worker.failures import describe, detail
from manyhands.worker.hook_runner import HookRunner
from manyhands.worker.plan import Plan, Rejected, load_json
from manyhands.worker.rows import BadRow, escaped, snapshot

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext
    from manyhands.worker.encode import Encoder

_SLICE: Final = 250
"""Rows that go through the stages together on the way without hooks: a whole block at a time took 1.6 times as long."""


def process_chunk_on_worker(chunk: Chunk, context: WorkerContext) -> ChunkResult:
    """Run the records of a chunk.

    Args:
        chunk: the records.
        context: the job, set up on this worker.

    Returns:
        Every record of the chunk's range as ok, rejected or dropped. A record that fails is rejected and leaves its
        neighbours unharmed; only what kills the worker, or the backend's own failure, raises.
    """
    cell = context.cell
    if cell is None:
        return context.worker.process(chunk)
    cell.begin(chunk)
    try:
        result = context.worker.process(chunk)
    except Exception:
        cell.end()
        raise
    cell.end()  # not if it ends by anything else, which kills the worker: where that was must stay to be seen
    return result


def calls_code(context: WorkerContext, plan: Plan) -> bool:
    """Whether functions of the person's see records. Of maps the chunks say it, `ChunkKind.CALLS`.

    Args:
        context: the job.
        plan: of its schema.
    """
    return context.hooked or context.id_generator is not None or plan.calls_code


class Worker:
    """A job compiled for one worker.

    Args:
        context: the job.
        twin: the same worker as another thread has it: its plan and hooks are used.
    """

    def __init__(self, context: WorkerContext, twin: Worker | None = None) -> None:
        self._context = context
        self._plan: Plan = twin._plan if twin else _plan(context)  # noqa: SLF001  # of the same class
        self.hooks: HookRunner = twin.hooks if twin else _hook_runner(context)
        self.thread: int = threading.get_ident()
        self._name = f"{os.getpid()}/{threading.current_thread().name}"

    @property
    def calls_code(self) -> bool:
        """Functions of the person's run in it, which may wait for something."""
        context = self._context
        is_map = context.schema_model is None and context.encoder is None
        return is_map or calls_code(context, self._plan)

    def process(self, chunk: Chunk) -> ChunkResult:
        """See `process_chunk_on_worker`."""
        result = ChunkResult(chunk.sequence, chunk.lo, chunk.hi, worker=self._name)
        if chunk.kind is ChunkKind.CALLS:
            process_calls(chunk, self._context, result)
            return result
        records = ChunkRecords(chunk, self._context)
        (self._process_entries if self._context.enveloped else self._process_rows)(chunk, records, result)
        return result

    def _process_rows(self, chunk: Chunk, records: ChunkRecords, result: ChunkResult) -> None:
        """A slice at a time through all stages, so that its rows and values stay in the processor's cache."""
        stages = result.stages = {"unpack": 0.0, "validate": 0.0, "pack": 0.0}
        pieces: list[bytes] = []
        errors: list[ErrorRecord] = []
        first, begun = chunk.lo, perf_counter()
        for rows in records.slices(chunk.size if self._plan.batch else _SLICE, owned=self._plan.calls_code):
            unpacked = perf_counter()
            rejected: Rejected = {}
            values = self._validate(rows, rejected, range(first, first + len(rows)), exact=self._is_exact(chunk))
            validated = perf_counter()
            pieces += self._encode_slice(values, rejected, chunk, first)
            result.ok += len(rows) - len(rejected)
            errors += self._describe(records, rows, rejected, first)
            first += len(rows)
            stages["unpack"] += unpacked - begun
            stages["validate"] += validated - unpacked
            begun = perf_counter()
            stages["pack"] += begun - validated
        self._pack(result, pieces, errors)
        stages["pack"] += perf_counter() - begun

    def _validate(self, rows: list[Any], rejected: Rejected, indexes: range, *, exact: bool) -> list[Any]:
        cell, rest = self._context.cell, self._context.until_cancelled(rows, slow=self._plan.calls_code)
        if cell is None:
            return self._plan.validate_batch(rows, rejected, rest)
        if exact:
            values = self._plan.validate_rows(rows, rejected, cell.track(rest, "validate", indexes))
        else:
            cell.batch("validate", indexes.start)
            values = self._plan.validate_batch(rows, rejected, rest)
        cell.batch("pack", indexes.start)
        return values

    def _is_exact(self, chunk: Chunk) -> bool:
        """Whether each record is announced, which costs 5 % of a run, or only what runs together.

        A schema without functions of the person's kills nobody as a rule. Should it do so once, the retry tells.
        """
        return self._plan.calls_code or chunk.attempt > 0

    def _encode_slice(self, values: list[Any], rejected: Rejected, chunk: Chunk, first: int) -> list[bytes]:
        # What comes from Python may be an instance of the model, whose keys may be in another order.
        have_one_shape = values and chunk.kind is ChunkKind.RAW
        together = self._encoder.together(self._plan) if have_one_shape and not self._is_exact(chunk) else None
        if together is not None:
            with suppress(Exception):  # the values one by one say which it was
                return [together(values)]
        return self._encode_values(values, rejected, chunk, first)

    def _encode_values(self, values: list[Any], rejected: Rejected, chunk: Chunk, first: int) -> list[bytes]:
        unwritten: Rejected = {}
        indexes = (first + place for place in range(len(values) + len(rejected)) if place not in rejected)
        parts = self._encode(self._encoder.for_values(self._plan), values, unwritten, chunk, indexes)
        if unwritten:
            # Which rows the values belong to is only worked out when one of them cannot be written.
            good = [index for index in range(len(values) + len(rejected)) if index not in rejected]
            rejected.update({good[place]: error for place, error in unwritten.items()})
        return parts

    def _encode(
        self,
        encode: Callable[[Any], bytes],
        values: list[Any],
        unwritten: Rejected,
        chunk: Chunk,
        indexes: Iterable[int],
    ) -> list[bytes]:
        """The bytes of the values; each is announced by its index in the payload where the chunk is exact."""
        cell = self._context.cell
        if cell is None or not self._is_exact(chunk):
            return map_all(encode, values, unwritten)
        parts = map_all(encode, values, unwritten, cell.track(values, "pack", indexes))
        cell.batch("pack", chunk.lo)
        return parts

    def _describe(
        self, records: ChunkRecords, rows: list[Any], rejected: Rejected, first: int
    ) -> Iterator[ErrorRecord]:
        for index in sorted(rejected):
            # Only functions of the person's could have changed the row.
            raw = records.pristine(first + index) if self._plan.calls_code else rows[index]
            yield records.error_record(first + index, raw, describe(rejected[index]))

    def _process_entries(self, chunk: Chunk, records: ChunkRecords, result: ChunkResult) -> None:
        begun = perf_counter()
        rows = records.fresh()
        unpacked = perf_counter()
        path = HookedPath(self._context, self._plan, self.hooks, exact=self._is_exact(chunk))
        ok, failed = path.run(rows, chunk.start, chunk.lo, records.fresh)
        packing = perf_counter()
        if self._context.cell is not None:
            self._context.cell.batch("pack", chunk.lo)
        result.dropped = chunk.size - len(ok) - len(failed)
        parts = ok if self._context.encoder is None else self._encode_entries(ok, failed, chunk)
        result.ok = len(parts)
        self._pack(result, parts, [records.error_of(entry) for entry in failed])
        result.stages = {"unpack": unpacked - begun, **path.stages, "pack": perf_counter() - packing}

    def _encode_entries(self, entries: list[Entry], failed: list[Entry], chunk: Chunk) -> list[bytes]:
        """The bytes of the entries that can be written; the others are added to `failed`, by position."""
        unwritten: Rejected = {}
        records = list(map(itemgetter("validated_data"), entries))
        if self._context.post_hooks:
            encode = self._encoder.for_records(self._plan, records)
        else:  # they are still the values that the schema made
            encode = self._encoder.for_values(self._plan)
        indexes = [entry["position"] - chunk.start for entry in entries]
        parts = self._encode(encode, records, unwritten, chunk, indexes)
        for index, error in unwritten.items():
            reject(entries[index], error)
            failed.append(entries[index])
        failed.sort(key=itemgetter("position"))
        return parts

    @property
    def _encoder(self) -> Encoder:
        if self._context.encoder is None:
            raise ProtocolError("a job without an encoder has nothing to encode with")
        return self._context.encoder

    def _pack(self, result: ChunkResult, parts: list[Any], errors: list[ErrorRecord]) -> None:
        encoder, error_encoder = self._context.encoder, self._context.error_encoder
        result.rejected = len(errors)
        result.output = parts if encoder is None else encoder.join(parts)
        result.errors = (
            errors if error_encoder is None else error_encoder.join([error_encoder.encode(each) for each in errors])
        )


def _plan(context: WorkerContext) -> Plan:
    return compile_plan(context.schema_model, batch=context.use_batch_validation)


def _hook_runner(context: WorkerContext) -> HookRunner:
    hooks = [*context.pre_hooks, *context.post_hooks]
    return HookRunner(hooks, context.concurrency, timeout=context.record_timeout, awaiter=context.awaiter)


class ChunkRecords:
    """The records of a chunk's range, decoded as often as asked.

    Args:
        chunk: the chunk.
        context: the job that says how to decode.
    """

    def __init__(self, chunk: Chunk, context: WorkerContext) -> None:
        self._chunk = chunk
        self._decoder = context.decoder

    def borrowed(self) -> list[Any]:
        """The rows of the range for whoever does not change them."""
        if self._chunk.kind is not ChunkKind.LIST:
            return self.fresh()
        rows: list[Any] = self._chunk.payload[self._chunk.lo : self._chunk.hi]
        return rows

    def fresh(self) -> list[Any]:
        """The rows of the range, decoded from the payload or copied: nobody else holds them."""
        if self._chunk.kind is ChunkKind.LIST:
            return list(map(_copied, self.borrowed()))
        rows = self._all()
        self._check_count(len(rows))
        return rows if self._chunk.size == len(rows) else rows[self._chunk.lo : self._chunk.hi]

    def slices(self, size: int, *, owned: bool) -> Iterator[list[Any]]:
        """The rows of the range, a few at a time.

        Args:
            size: how many.
            owned: the caller may change them.
        """
        chunk = self._chunk
        if chunk.kind is ChunkKind.RAW and chunk.size == chunk.count and self._decoder is not None:
            return self._counted(self._decoder.slices(self._payload(), chunk.count, size))
        rows = self.fresh() if owned else self.borrowed()
        return (rows[first : first + size] for first in range(0, len(rows), size))

    def pristine(self, index: int) -> Any:
        """A row as it was read, by its index in the payload."""
        return self._pristine[index - self._chunk.lo]

    def error_of(self, entry: Entry) -> ErrorRecord:
        """The error record of a failed entry."""
        index = entry["position"] - self._chunk.start
        return self.error_record(index, self.pristine(index), entry["errors"], metadata=entry["metadata"])

    def error_record(
        self,
        index: int,
        raw: Any,
        errors: list[ErrorDetail],
        *,
        outcome: Outcome = Outcome.REJECTED,
        metadata: dict[str, Any] | None = None,
    ) -> ErrorRecord:
        """One object of the error output.

        Args:
            index: of the record in the payload.
            raw: the row as it was read.
            errors: why.
            outcome: rejected or dead.
            metadata: what hooks left on the entry.
        """
        record: ErrorRecord = {"position": self._chunk.start + index}
        if self._chunk.line is not None:
            record["line"] = self._chunk.line + self._lines[index]
        shown = _readable(raw)
        return {**record, "outcome": outcome, "raw_data": shown, "errors": errors, "metadata": metadata or {}}

    def _counted(self, slices: Iterator[list[Any]]) -> Iterator[list[Any]]:
        count = 0
        for rows in slices:
            count += len(rows)
            yield rows
        self._check_count(count)

    def _check_count(self, count: int) -> None:
        if count != self._chunk.count:
            raise ProtocolError(f"the chunk was cut as {self._chunk.count} records, but decodes to {count}")

    @cached_property
    def _pristine(self) -> list[Any]:
        return self.fresh()

    @cached_property
    def _lines(self) -> list[int]:
        return self._decoder.lines(self._payload()) if self._decoder else []

    def _all(self) -> list[Any]:
        if self._chunk.kind is ChunkKind.PACKED:
            packed: list[Any] = codec.loads(self._payload())
            return packed
        if self._decoder is None:
            raise ProtocolError("a raw block came to a job without a decoder")
        return self._decoder.rows(self._payload())

    def _payload(self) -> bytes:
        payload: bytes = self._chunk.payload
        return codec.decompress(payload) if self._chunk.compressed else payload


def _copied(record: Any) -> Any:
    try:
        return snapshot(record)
    except RecursionError:
        name = type(record).__name__
        return BadRow(f"<{name}>", detail("recursion", f"this {name} is nested too deeply, or holds itself"))


def _readable(row: Any) -> Any:
    """The row as the error output shows it: parsed where it can be."""
    if isinstance(row, BadRow):
        return row.raw
    if type(row) is not bytes:
        return row
    try:
        return load_json(row)
    except Exception:  # noqa: BLE001  # it need not be JSON
        return escaped(row)
