"""The error records of what was given up: its worker cannot write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import RecordTimeout, WorkerLost
from manyhands.records import ErrorDetail, Outcome
from manyhands.worker.failures import describe, detail, words
from manyhands.worker.pipeline import ChunkRecords

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext
    from manyhands.worker.encode import Encoder


def dead_letters(
    chunk: Chunk, lo: int, hi: int, error: Exception, *, context: WorkerContext, encoder: Encoder | None
) -> ChunkResult:
    """The result of records that are given up.

    Args:
        chunk: that holds them.
        lo: index of the first of them in its payload.
        hi: index behind the last.
        error: why; they are dead if their worker died or they took too long, otherwise rejected.
        context: the job.
        encoder: of error records; None leaves them as they are.
    """
    dead = isinstance(error, WorkerLost | RecordTimeout)
    outcome = Outcome.DEAD if dead else Outcome.REJECTED
    records, reasons = ChunkRecords(chunk.narrowed(lo, hi), context), _reasons(error)
    lost = [records.error_record(index, _raw(records, index), reasons, outcome=outcome) for index in range(lo, hi)]
    errors = lost if encoder is None else encoder.join([encoder.encode(record) for record in lost])
    return ChunkResult(chunk.sequence, lo, hi, rejected=0 if dead else hi - lo, errors=errors)


def _raw(records: ChunkRecords, index: int) -> Any:
    try:
        return records.pristine(index)
    except Exception as error:  # noqa: BLE001  # what kept the worker from reading it keeps us from it
        return f"<unreadable: {words(error)}>"


def _reasons(error: Exception) -> list[ErrorDetail]:
    """The same words on every backend and in every run: no pid, no time."""
    if isinstance(error, WorkerLost | RecordTimeout):
        return [detail(type(error).__name__, str(error))]
    return describe(error)
