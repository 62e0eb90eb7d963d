"""What is told of a run: from its start to its end, each chunk once, with sums that match the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from manyhands.errors import WorkerInitError
from manyhands.events import ChunkDone, ChunkFailed, ChunkSubmitted, Event, RecordDead, RunEnded, RunStarted
from manyhands.testing.cases.needs import needs
from manyhands.testing.faults import spare_this_process
from manyhands.testing.hooks import Lives
from manyhands.testing.models import Row
from manyhands.testing.records import rows
from manyhands.testing.script import deterministic_failure, seeded

if TYPE_CHECKING:
    from manyhands.report import FlowReport
    from manyhands.testing.bench import Bench

RECORDS = 40


class EventCases:
    """Events of runs in which something goes wrong."""

    def test_events_tell_the_run(self, bench: Bench) -> None:
        """Records are rejected and dropped."""
        script = seeded(7, RECORDS)
        events, report = _run(bench, deterministic_failure(bench.folder / "attempts", script), 7)
        _check(bench, events, report)
        again = [event for event in events if isinstance(event, ChunkSubmitted) and event.attempt]
        assert not again, bench.broken("events", f"chunks were submitted again, though nobody died: {again}")

    @needs("crosses_process")
    def test_events_tell_of_the_dead(self, bench: Bench) -> None:
        """Each submission is answered by its result or its failure, and a range that runs again counts its attempts."""
        hook = deterministic_failure(bench.folder / "attempts", {3: ["die"], 20: ["die", "ok"]}, is_async=True)
        events, report = _run(bench, hook, 7)
        _check(bench, events, report)
        dead = [event.position for event in events if isinstance(event, RecordDead)]
        assert dead == [3], bench.broken("events", f"RecordDead was told of records {dead} instead of [3]")

    def test_a_run_that_does_not_begin_ends_all_the_same(self, bench: Bench) -> None:
        """Observers are told of its end, and of no start."""
        spare_this_process()
        events: list[Event] = []
        hook = Lives(bench.folder / "life", setup="raise")
        ran = bench.finish(bench.pipe(rows(2), pre=[hook], observers=[events.append]))
        assert isinstance(ran.report.exception, WorkerInitError), bench.broken("start", f"{ran.report.exception!r}")
        names = [type(event).__name__ for event in events]
        assert names == ["RunEnded"], bench.broken("events", f"of a run whose workers cannot start is told {names}")


def _run(bench: Bench, hook: Any, chunksize: int) -> tuple[list[Event], FlowReport]:
    events: list[Event] = []
    ran = bench.run(rows(RECORDS), schema=Row, pre=[hook], chunksize=chunksize, observers=[events.append])
    return events, ran.report


def _check(bench: Bench, events: Sequence[Event], report: FlowReport) -> None:
    first, *_, last = events
    assert isinstance(first, RunStarted), bench.broken("events", f"the first event is {first}, not RunStarted")
    assert isinstance(last, RunEnded), bench.broken("events", f"the last event is {last}, not RunEnded")
    wanted = (str(report.status), report.counts)
    assert (last.status, last.counts) == wanted, bench.broken("events", f"{last} differs from the report: {wanted}")
    _check_answers(bench, events)
    _check_sums(bench, events, report)
    _check_workers(bench, events, report)


def _check_answers(bench: Bench, events: Sequence[Event]) -> None:
    """See that each range that was submitted is answered once, before it is submitted again as a later attempt."""
    attempts: dict[tuple[int, int, int], int] = {}
    under_way: set[tuple[int, int, int]] = set()
    for event in events:
        if not isinstance(event, ChunkSubmitted | ChunkDone | ChunkFailed):
            continue
        span = (event.sequence, event.lo, event.hi)
        if isinstance(event, ChunkSubmitted):
            assert span not in under_way, bench.broken("events", f"{span} was submitted twice at a time")
            assert event.attempt > attempts.get(span, -1), bench.broken(
                "events", f"{event} comes after a later attempt"
            )
            attempts[span] = event.attempt
            under_way.add(span)
        else:
            assert span in under_way, bench.broken("events", f"{event} answers nothing that is under way")
            under_way.remove(span)
    assert not under_way, bench.broken("events", f"ranges (sequence, lo, hi) were never answered: {sorted(under_way)}")


def _check_sums(bench: Bench, events: Sequence[Event], report: FlowReport) -> None:
    """See that the sums of all events are the report's."""
    done = [event for event in events if isinstance(event, ChunkDone)]
    found = {name: sum(getattr(event, name) for event in done) for name in ("ok", "rejected", "dropped")}
    found["dead"] = sum(isinstance(event, RecordDead) for event in events)
    told = {name: report.counts[name] for name in found}
    assert found == told, bench.broken("events", f"the events' sums are {found}, and the report counts {told}")


def _check_workers(bench: Bench, events: Sequence[Event], report: FlowReport) -> None:
    """See that the report says who ran how much."""
    done = [event for event in events if isinstance(event, ChunkDone)]
    nameless = [event for event in done if not event.worker]
    assert not nameless, bench.broken("events", f"results do not say which worker they are of: {nameless[:3]}")
    chunks, records = (sum(worker[what] for worker in report.workers.values()) for what in ("chunks", "records"))
    wanted = (len(done), sum(event.hi - event.lo for event in done))
    assert (chunks, records) == wanted, bench.broken(
        "events", f"by worker the report counts {chunks} chunks and {records} records, there were {wanted}"
    )
