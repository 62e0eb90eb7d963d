"""Which record is to blame when a worker dies, a chunk fails or takes too long, and what runs again.

    the worker told where it was    prefix | suspect | tail        run apart, the suspect is charged
    it could not tell               the same range again, then     halves, until one record is left
    several records took too long   sixteenths of them, until one record is left
    one record, alone, over budget  it is given up

With progress a killer costs two deaths, without log2(records) more. No record but a suspect is ever charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from manyhands.chunks import Chunk
from manyhands.driver.ledger import Attempt
from manyhands.errors import RecordTimeout, WorkerLost

_BACKOFF_SECONDS = 0.05
_LONGEST_SECONDS = 1.0
_PARTS = 16

Span = tuple[int, int]
"""A half-open range of records, as indexes into a chunk's payload."""


@dataclass(slots=True)
class Verdict:
    """What follows from a failure.

    Attributes:
        again: ranges to submit.
        given_up: ranges of records to give up.
    """

    again: list[Attempt] = field(default_factory=list)
    given_up: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Budget:
    """How often the same records are tried again.

    Attributes:
        crashes: after the death of their worker.
        errors: after another failure of the executor.
        timeouts: after they took too long.
        replayable: every hook of the job may run again on the same records; if not, nothing is tried again.
    """

    crashes: int = 1
    errors: int = 0
    timeouts: int = 0
    replayable: bool = True


def judge_crash(attempt: Attempt, lost: WorkerLost, budget: Budget) -> Verdict:
    """The worker died on this range."""
    chunk = attempt.chunk
    if not budget.replayable:
        return Verdict(given_up=[(chunk.lo, chunk.hi)])
    lo, hi = _suspects(attempt, lost)
    charged = attempt.crashes + 1
    if hi - lo < chunk.size:
        again = [Attempt(part) for part in _around(chunk, [(lo, hi)])]
        return Verdict(again=[*again, Attempt(chunk.narrowed(lo, hi), crashes=charged)])
    if charged <= budget.crashes:
        return Verdict(again=[attempt.again(crashes=charged)])
    if chunk.size == 1:
        return Verdict(given_up=[(chunk.lo, chunk.hi)])
    return Verdict(again=[attempt.part(part, crashes=budget.crashes) for part in _parts(chunk.lo, chunk.hi, 2)])


def judge_error(attempt: Attempt, budget: Budget) -> Verdict:
    """The executor failed on this range without a death."""
    chunk = attempt.chunk
    if not budget.replayable:
        return Verdict(given_up=[(chunk.lo, chunk.hi)])
    charged = attempt.errors + 1
    if charged <= budget.errors:
        return Verdict(again=[attempt.again(errors=charged)])
    if chunk.size == 1:
        return Verdict(given_up=[(chunk.lo, chunk.hi)])
    return Verdict(again=[attempt.part(part, errors=budget.errors) for part in _parts(chunk.lo, chunk.hi, 2)])


def judge_timeout(attempt: Attempt, late: RecordTimeout, budget: Budget) -> Verdict:
    """Records of this range took too long."""
    chunk = attempt.chunk
    if not budget.replayable:
        return Verdict(given_up=[(chunk.lo, chunk.hi)])
    suspects = _within(chunk, late.records)
    verdict = Verdict(again=[Attempt(part) for part in _around(chunk, suspects)])
    for lo, hi in suspects:
        if hi - lo > 1:
            verdict.again += [attempt.part(part) for part in _parts(lo, hi, _PARTS)]
        elif attempt.timeouts < budget.timeouts:
            verdict.again.append(attempt.part((lo, hi), timeouts=attempt.timeouts + 1))
        else:
            verdict.given_up.append((lo, hi))
    return verdict


def backoff(failures: int) -> float:
    """Seconds to wait before the same range runs again: 0.05, doubled with each failure, at most 1."""
    return float(min(_BACKOFF_SECONDS * 2 ** (failures - 1), _LONGEST_SECONDS))


def _suspects(attempt: Attempt, lost: WorkerLost) -> Span:
    """The records under way within the range; all of it where nothing is known."""
    chunk = attempt.chunk
    if lost.progress is None:
        return chunk.lo, chunk.hi
    return _within(chunk, [(lost.progress.lo, lost.progress.hi)])[0]


def _within(chunk: Chunk, spans: Sequence[Span]) -> list[Span]:
    """The parts of the spans that the range holds; all of it where they hold nothing of it."""
    cut = [(max(lo, chunk.lo), min(hi, chunk.hi)) for lo, hi in spans]
    return [(lo, hi) for lo, hi in cut if lo < hi] or [(chunk.lo, chunk.hi)]


def _around(chunk: Chunk, suspects: Sequence[Span]) -> Iterator[Chunk]:
    """What the chunk holds beside them: nobody there is to blame."""
    lo = chunk.lo
    for first, end in [*sorted(suspects), (chunk.hi, chunk.hi)]:
        if lo < first:
            yield chunk.narrowed(lo, first)
        lo = end


def _parts(lo: int, hi: int, count: int) -> list[Span]:
    """The range in so many parts of about one size, fewer if it has fewer records."""
    count = min(count, hi - lo)
    cuts = [lo + (hi - lo) * index // count for index in range(count + 1)]
    return list(pairwise(cuts))
