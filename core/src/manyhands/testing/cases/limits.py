"""Records and chunks that take too long: given up alone, and their place is filled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

from manyhands.driver.options import RunOptions
from manyhands.errors import OptionsError
from manyhands.events import Event, RecordDead
from manyhands.records import Outcome
from manyhands.testing.cases.accounts import check_attempts, check_outcomes
from manyhands.testing.cases.needs import needs
from manyhands.testing.hooks import TellsBatch
from manyhands.testing.records import rows
from manyhands.testing.script import Scripted, attempts, deterministic_failure, release

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench
    from manyhands.testing.ran import Ran

LIMIT: Final = 0.5
"""Seconds that a record may take: no quick one takes so long on a busy machine, and a stuck one takes much longer."""

STUCK: Final = 10.0
"""Seconds that a stuck one takes where nothing can end it: then its worker may be needed for the others."""

LATE: Final = "took longer than {} allows in stage {}"


class LimitCases:
    """`record_timeout` and `chunk_timeout`."""

    @needs("inline")
    @pytest.mark.parametrize("limit", ["record_timeout", "chunk_timeout"])
    def test_who_cannot_keep_a_limit_refuses_it(self, bench: Bench, limit: str) -> None:
        """Before anything runs."""
        limits: dict[str, Any] = {limit: LIMIT}
        with pytest.raises(OptionsError) as caught:
            bench.run(rows(1), how=RunOptions(**limits))
        assert limit in str(caught.value), bench.broken("limits", f"{limit} is refused by {caught.value}")

    @needs(not_="reports_progress")
    def test_who_does_not_report_progress_refuses_a_limit_for_records(self, bench: Bench) -> None:
        """It cannot tell which record it is at."""
        with pytest.raises(OptionsError) as caught:
            bench.run(rows(1), how=RunOptions(record_timeout=LIMIT))
        assert "record_timeout" in str(caught.value), bench.broken("limits", f"it is refused by {caught.value}")

    @needs("reports_progress", not_="inline")
    @pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
    def test_a_record_that_takes_too_long_is_dead_alone(self, bench: Bench, *, is_async: bool) -> None:
        """It ran once, and so did all others, also those behind it on the same worker."""
        events: list[Event] = []
        with _stuck(bench.folder, 3, is_async=is_async) as hook:
            how = RunOptions(record_timeout=LIMIT)
            ran = bench.run(rows(12), pre=[hook], how=how, chunksize=1, max_workers=1, observers=[events.append])
        _check_dead(bench, ran, 3, 12, limit="record_timeout")
        check_attempts(bench, attempts(bench.folder / "attempts"), dict.fromkeys(range(12), 1), "limits")
        told = [(event.position, event.cause) for event in events if isinstance(event, RecordDead)]
        assert told == [(3, "timeout")], bench.broken("events", f"RecordDead was told of {told}")

    @needs("reports_progress", not_="inline")
    def test_a_record_is_tried_again_if_that_is_asked_for(self, bench: Bench) -> None:
        """So often, and no more."""
        with _stuck(bench.folder, 1) as hook:
            how = RunOptions(record_timeout=LIMIT, timeout_retries=1)
            ran = bench.run(rows(4), post=[hook], how=how, chunksize=1)
        _check_dead(bench, ran, 1, 4, limit="record_timeout", stage="post")
        check_attempts(bench, attempts(bench.folder / "attempts"), {0: 1, 1: 2, 2: 1, 3: 1}, "limits")

    @needs("reports_progress", not_="inline")
    def test_a_record_is_found_in_a_batch_that_takes_too_long(self, bench: Bench) -> None:
        """A plain hook does not say at which one it is: the batch runs again in parts."""
        with _stuck(bench.folder, 5) as hook:
            ran = bench.run(rows(10), pre=[hook], how=RunOptions(record_timeout=LIMIT), chunksize=10)
            times = attempts(bench.folder / "attempts")  # now: who is left behind goes on with the batch when let go
        _check_dead(bench, ran, 5, 10, limit="record_timeout")
        wanted = {k: 2 if k <= 5 else 1 for k in range(10)}
        check_attempts(bench, times, wanted, "limits")

    @needs("reports_progress", not_="inline")
    def test_a_record_that_holds_its_chunk_up_is_dead_alone(self, bench: Bench) -> None:
        """The chunk runs again in smaller parts."""
        with _stuck(bench.folder, 2) as hook:
            ran = bench.run(rows(4), pre=[hook], how=RunOptions(chunk_timeout=LIMIT), chunksize=4)
        _check_dead(bench, ran, 2, 4, limit="chunk_timeout")

    @needs("can_kill", not_="reports_progress")
    def test_a_record_that_holds_its_chunk_up_is_dead_alone_where_there_is_no_progress(self, bench: Bench) -> None:
        """Killing it is enough for that."""
        with _stuck(bench.folder, 5) as hook:
            ran = bench.run(rows(8), pre=[hook], how=RunOptions(chunk_timeout=LIMIT), chunksize=4)
        _check_dead(bench, ran, 5, 8, limit="chunk_timeout", stage="unknown")

    @needs("can_kill", "reports_progress")
    def test_the_worker_of_a_stuck_record_is_gone_and_replaced(self, bench: Bench) -> None:
        """Records behind it run in another process, long before the hook would have come back."""
        source = rows(6)
        with _stuck(bench.folder, 3) as hook:
            how = RunOptions(record_timeout=LIMIT)
            ran = bench.run(source, pre=[TellsBatch(), hook], how=how, chunksize=1, max_workers=1)
            _check_dead(bench, ran, 3, 6, limit="record_timeout")
            before, after = ({row["pid"] for row in ran.rows if (row["k"] < 3) is early} for early in (True, False))
        assert before.isdisjoint(after), bench.broken(
            "limits", f"records behind a stuck one ran in processes {after}, before it in {before}"
        )
        alive = [pid for pid in before if psutil.pid_exists(pid)]
        assert not alive, bench.broken("limits", f"processes {alive} live on after a record of theirs was given up")


@contextmanager
def _stuck(folder: Path, position: int, *, is_async: bool = False) -> Iterator[Scripted]:
    """A hook that does not come back from one record; what cannot be killed is let go in the end."""
    try:
        yield deterministic_failure(folder / "attempts", {position: ["sleep"]}, is_async=is_async, seconds=STUCK)
    finally:
        release(folder / "attempts")


def _check_dead(bench: Bench, ran: Ran, position: int, records: int, *, limit: str, stage: str = "pre") -> None:
    """See that this record alone is dead, and why."""
    wanted = {k: Outcome.DEAD if k == position else Outcome.OK for k in range(records)}
    check_outcomes(bench, ran, wanted, "limits")
    (reason,) = ran.errors[0]["errors"]
    assert reason["type"] == "RecordTimeout", bench.broken("limits", f"the dead letter is of type {reason['type']}")
    message = LATE.format(limit, stage)
    assert reason["message"] == message, bench.broken("limits", f"it says {reason['message']!r} and not {message!r}")
