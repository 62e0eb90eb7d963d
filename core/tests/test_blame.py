"""What runs again after a failure, and who is charged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.chunks import Chunk, ChunkKind
from manyhands.driver.blame import Budget, Verdict, backoff, judge_crash, judge_error
from manyhands.driver.ledger import Attempt
from manyhands.errors import WorkerLost
from manyhands.executor import Progress

PURE = settings(derandomize=True, deadline=None, max_examples=50)


def attempt(lo: int, hi: int, *, crashes: int = 0, errors: int = 0) -> Attempt:
    chunk = Chunk(0, 0, 100, ChunkKind.LIST, list(range(100)), lo=lo, hi=hi)
    return Attempt(chunk, crashes=crashes, errors=errors)


def ranges(verdict: Verdict) -> list[tuple[int, int, int]]:
    return [(again.chunk.lo, again.chunk.hi, again.crashes) for again in verdict.again]


def lost(lo: int, hi: int) -> WorkerLost:
    return WorkerLost(signal=9, progress=Progress("validate", lo, hi))


def test_a_suspect_runs_apart_and_is_charged_alone() -> None:
    assert ranges(judge_crash(attempt(10, 20), lost(13, 14), Budget())) == [(10, 13, 0), (14, 20, 0), (13, 14, 1)]


@pytest.mark.parametrize(("at", "parts"), [(10, [(11, 20, 0), (10, 11, 1)]), (19, [(10, 19, 0), (19, 20, 1)])])
def test_a_suspect_at_the_edge_leaves_no_empty_range(at: int, parts: list[tuple[int, int, int]]) -> None:
    assert ranges(judge_crash(attempt(10, 20), lost(at, at + 1), Budget())) == parts


def test_innocents_are_cleared_of_an_earlier_suspicion() -> None:
    verdict = judge_crash(attempt(10, 20, crashes=1), lost(13, 14), Budget())
    assert ranges(verdict) == [(10, 13, 0), (14, 20, 0), (13, 14, 2)]


def test_a_suspect_that_dies_alone_is_given_up() -> None:
    verdict = judge_crash(attempt(13, 14, crashes=1), lost(13, 14), Budget())
    assert verdict == Verdict(given_up=[(13, 14)])


def test_without_progress_the_range_runs_again_then_in_halves() -> None:
    first = judge_crash(attempt(0, 9), WorkerLost(), Budget())
    assert ranges(first) == [(0, 9, 1)]
    second = judge_crash(attempt(0, 9, crashes=1), WorkerLost(), Budget())
    assert ranges(second) == [(0, 4, 1), (4, 9, 1)]


@pytest.mark.parametrize("progress", [(0, 5), (25, 40), (30, 30)])
def test_progress_outside_the_range_blames_nobody_in_particular(progress: tuple[int, int]) -> None:
    verdict = judge_crash(attempt(10, 20), lost(*progress), Budget())
    assert ranges(verdict) == [(10, 20, 1)]


def test_progress_that_reaches_out_of_the_range_is_cut_to_it() -> None:
    assert ranges(judge_crash(attempt(10, 20), lost(5, 12), Budget())) == [(12, 20, 0), (10, 12, 1)]


@pytest.mark.parametrize("judge", ["crash", "error"])
def test_what_must_not_run_twice_is_given_up_whole(judge: str) -> None:
    budget = Budget(crashes=5, errors=5, replayable=False)
    verdict = judge_crash(attempt(3, 9), lost(4, 5), budget) if judge == "crash" else judge_error(attempt(3, 9), budget)
    assert verdict == Verdict(given_up=[(3, 9)])


def test_errors_and_crashes_have_budgets_of_their_own() -> None:
    again = judge_error(attempt(0, 8, crashes=1), Budget(errors=1)).again
    assert [(each.crashes, each.errors) for each in again] == [(1, 1)]
    again = judge_crash(attempt(0, 8, errors=1), WorkerLost(), Budget(errors=1)).again
    assert [(each.crashes, each.errors) for each in again] == [(1, 1)]


def test_an_error_is_narrowed_down_to_one_record() -> None:
    assert ranges(judge_error(attempt(0, 2), Budget())) == [(0, 1, 0), (1, 2, 0)]
    assert judge_error(attempt(1, 2), Budget()) == Verdict(given_up=[(1, 2)])


def test_waits_grow_to_a_second() -> None:
    assert [backoff(failures) for failures in (1, 2, 3)] == [0.05, 0.1, 0.2]
    assert backoff(100) == 1.0


@PURE
@given(st.data())
def test_no_record_is_lost_doubled_or_tried_for_ever(data: st.DataObject) -> None:
    """Whatever fails however, each record is at last given up once: nothing here ever succeeds."""
    budget = Budget(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)))
    waiting, given_up, steps = [attempt(0, data.draw(st.integers(1, 40)))], [], 0
    size = waiting[0].chunk.size
    while waiting:
        steps += 1
        assert steps < 12 * size + 12
        current = waiting.pop()
        chunk = current.chunk
        kind = data.draw(st.sampled_from(["error", "blind", "told"]))
        lo = data.draw(st.integers(chunk.lo - 2, chunk.hi + 2))
        error = lost(lo, lo + data.draw(st.integers(1, 5))) if kind == "told" else WorkerLost()
        verdict = judge_error(current, budget) if kind == "error" else judge_crash(current, error, budget)
        covered = [index for again in verdict.again for index in range(again.chunk.lo, again.chunk.hi)]
        dead = [index for span in verdict.given_up for index in range(*span)]
        assert sorted(covered + dead) == list(range(chunk.lo, chunk.hi))
        assert all(again.chunk.attempt == chunk.attempt + 1 for again in verdict.again)
        given_up += dead
        waiting += verdict.again
    assert sorted(given_up) == list(range(size))
