"""Chunks and results as bytes, for backends whose workers are other processes.

A message is a header, which is small msgpack, and parts, which are payloads as they are: they need not be copied into
one another. Entries and error records that have no bytes yet are packed here; nothing is pickled. Both ends must have
the same version of manyhands: what is in a header is nobody else's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgpack

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.errors import EncodeError
from manyhands.worker import codec
from manyhands.worker.batch import reject
from manyhands.worker.failures import stable
from manyhands.worker.pipeline import ChunkRecords

if TYPE_CHECKING:
    from manyhands.records import Entry, ErrorRecord
    from manyhands.worker.context import WorkerContext

Buffer = bytes | bytearray | memoryview

_KINDS: Final = (ChunkKind.RAW, ChunkKind.PACKED, ChunkKind.CALLS)


def dump_chunk(chunk: Chunk) -> tuple[bytes, Buffer]:
    """A chunk on its way to a worker.

    Args:
        chunk: raw, packed or of calls: what the driver submits where records cross processes.

    Returns:
        Header and payload.
    """
    c = chunk
    kind = _KINDS.index(c.kind)
    header: bytes = msgpack.packb((c.sequence, c.start, c.count, kind, c.line, c.compressed, c.lo, c.hi, c.attempt))
    return header, c.payload


def load_chunk(header: Buffer, payload: bytes) -> Chunk:
    """The chunk again.

    Args:
        header: the first that `dump_chunk` gave.
        payload: the second.
    """
    sequence, start, count, kind, line, compressed, lo, hi, attempt = msgpack.unpackb(header)
    return Chunk(sequence, start, count, _KINDS[kind], payload, line, compressed, lo, hi, attempt)


def dump_result(result: ChunkResult, chunk: Chunk, context: WorkerContext) -> tuple[bytes, list[bytes]]:
    """A result on its way back.

    Args:
        result: what became of the chunk; entries in it that cannot travel are rejected.
        chunk: the chunk.
        context: the job.

    Returns:
        Header, and parts: output and errors.
    """
    output, errors = result.output, result.errors
    listed = (isinstance(output, list), isinstance(errors, list))
    if isinstance(output, list):
        output = _pack_entries(result, output, chunk, context)
        errors = result.errors
    if isinstance(errors, list):
        errors = _pack_errors(errors)
    r = result
    header: bytes = msgpack.packb(
        (r.sequence, r.lo, r.hi, r.ok, r.rejected, r.dropped, r.stages, r.worker, listed, bool(context.compression))
    )
    return header, [codec.compress(part, context.compression) for part in (output, errors)]


def load_result(header: Buffer, parts: Sequence[bytes]) -> ChunkResult:
    """The result again.

    Args:
        header: the first that `dump_result` or `RemoteWorker.run` gave.
        parts: the second.

    Raises:
        Exception: a value of an output is of a class that cannot be imported here.
    """
    *values, listed, compressed = msgpack.unpackb(header)
    output, errors = (
        _unpack(part, is_list=is_list, compressed=compressed) for part, is_list in zip(parts, listed, strict=True)
    )
    sequence, lo, hi, ok, rejected, dropped, stages, worker = values
    return ChunkResult(sequence, lo, hi, ok, rejected, dropped, output, errors, stages, worker)


def _unpack(part: bytes, *, is_list: bool, compressed: bool) -> Any:
    data = codec.decompress(part) if compressed else part
    return codec.loads(data) if is_list else data


def _pack_entries(result: ChunkResult, entries: list[Entry], chunk: Chunk, context: WorkerContext) -> bytes:
    """The entries that can travel; the others become error records of the result, in their place."""
    try:
        return codec.dumps(entries)
    except EncodeError:
        pass  # one by one they say which it was
    packable: list[Entry] = []
    refused: list[Entry] = []
    for entry in entries:
        try:
            codec.dumps(entry)
        except EncodeError as error:
            reject(entry, error)
            refused.append(entry)
        else:
            packable.append(entry)
    records = ChunkRecords(chunk, context)
    errors: Any = result.errors or []
    result.errors = sorted([*errors, *map(records.error_of, refused)], key=lambda record: record["position"])
    result.ok, result.rejected = len(packable), len(result.errors)
    return codec.dumps(packable)


def _pack_errors(errors: list[ErrorRecord]) -> bytes:
    try:
        return codec.dumps(errors)
    except EncodeError:
        return codec.dumps([{**error, "metadata": _packable(error["metadata"])} for error in errors])


def _packable(value: Any) -> Any:
    """What hooks left on an entry, with the text of what cannot travel in its place."""
    if type(value) is dict:
        return {str(key): _packable(item) for key, item in value.items()}
    try:
        codec.dumps(value)
    except EncodeError:
        return stable(repr(value))
    return value
