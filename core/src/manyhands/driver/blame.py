"""Which record is to blame when a worker dies or a chunk fails, and what runs again.

    the worker told where it was    prefix | suspect | tail        run apart, the suspect is charged
    it could not tell               the same range again, then     halves, until one record is left
    one record, alone, over budget  it is given up

With progress a killer costs two deaths, without log2(records) more. No record but a suspect is ever charged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from manyhands.driver.ledger import Attempt
from manyhands.errors import WorkerLost

_BACKOFF_SECONDS = 0.05
_LONGEST_SECONDS = 1.0


@dataclass(slots=True)
class Verdict:
    """What follows from a failure.

    Attributes:
        again: ranges to submit.
        given_up: half-open range of records to give up, as indexes into the payload.
    """

    again: list[Attempt] = field(default_factory=list)
    given_up: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How often the same records are tried again.

    Attributes:
        crashes: after the death of their worker.
        errors: after another failure of the executor.
        replayable: every hook of the job may run again on the same records; if not, nothing is tried again.
    """

    crashes: int = 1
    errors: int = 0
    replayable: bool = True


def judge_crash(attempt: Attempt, lost: WorkerLost, budget: Budget) -> Verdict:
    """The worker died on this range."""
    chunk = attempt.chunk
    if not budget.replayable:
        return Verdict(given_up=(chunk.lo, chunk.hi))
    lo, hi = _suspects(attempt, lost)
    charged = attempt.crashes + 1
    if hi - lo < chunk.size:
        return Verdict(again=_apart(attempt, lo, hi, charged))
    if charged <= budget.crashes:
        return Verdict(again=[_again(attempt, crashes=charged, errors=attempt.errors)])
    if chunk.size == 1:
        return Verdict(given_up=(chunk.lo, chunk.hi))
    return Verdict(again=_halves(attempt, crashes=budget.crashes, errors=attempt.errors))


def judge_error(attempt: Attempt, budget: Budget) -> Verdict:
    """The executor failed on this range without a death."""
    chunk = attempt.chunk
    if not budget.replayable:
        return Verdict(given_up=(chunk.lo, chunk.hi))
    charged = attempt.errors + 1
    if charged <= budget.errors:
        return Verdict(again=[_again(attempt, crashes=attempt.crashes, errors=charged)])
    if chunk.size == 1:
        return Verdict(given_up=(chunk.lo, chunk.hi))
    return Verdict(again=_halves(attempt, crashes=attempt.crashes, errors=budget.errors))


def backoff(failures: int) -> float:
    """Seconds to wait before the same range runs again: 0.05, doubled with each failure, at most 1."""
    return float(min(_BACKOFF_SECONDS * 2 ** (failures - 1), _LONGEST_SECONDS))


def _suspects(attempt: Attempt, lost: WorkerLost) -> tuple[int, int]:
    """The records under way within the range; all of it where nothing is known."""
    chunk = attempt.chunk
    if lost.progress is None:
        return chunk.lo, chunk.hi
    lo, hi = max(lost.progress.lo, chunk.lo), min(lost.progress.hi, chunk.hi)
    return (lo, hi) if lo < hi else (chunk.lo, chunk.hi)


def _apart(attempt: Attempt, lo: int, hi: int, charged: int) -> list[Attempt]:
    chunk = attempt.chunk
    innocent = [(chunk.lo, lo), (hi, chunk.hi)]
    parts = [Attempt(chunk.narrowed(a, b)) for a, b in innocent if a < b]
    return [*parts, Attempt(chunk.narrowed(lo, hi), crashes=charged)]


def _again(attempt: Attempt, *, crashes: int, errors: int) -> Attempt:
    chunk = attempt.chunk
    return Attempt(chunk.narrowed(chunk.lo, chunk.hi), crashes, errors)


def _halves(attempt: Attempt, *, crashes: int, errors: int) -> list[Attempt]:
    chunk = attempt.chunk
    middle = chunk.lo + chunk.size // 2
    return [Attempt(chunk.narrowed(a, b), crashes, errors) for a, b in ((chunk.lo, middle), (middle, chunk.hi))]
