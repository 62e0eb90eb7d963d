"""What became of each record of a run, as its files and its report say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from manyhands.records import Outcome
from manyhands.testing.script import Script, fate

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench
    from manyhands.testing.ran import Ran

WRITTEN = (Outcome.OK, Outcome.REJECTED, Outcome.DEAD)
"""Outcomes that are seen in the files."""


def expected(script: Script, records: int, *, crash_retries: int = 1) -> dict[int, Outcome]:
    """The outcome of each record that is alone in its chunk, or whose deeds are the same at each attempt.

    Args:
        script: what the hook does.
        records: how many there are.
        crash_retries: of the run.
    """
    return {k: fate(script.get(k, ["ok"]), crash_retries=crash_retries)[0] for k in range(records)}


def outcomes(bench: Bench, ran: Ran) -> dict[int, Outcome]:
    """Of each record that was written, by its position; records are those of `rows`."""
    found = [(row["k"], Outcome.OK) for row in ran.rows]
    found += [(error["position"], Outcome(error["outcome"])) for error in ran.errors]
    twice = sorted(position for position, times in Counter(position for position, _ in found).items() if times > 1)
    assert not twice, bench.broken("accounting", f"wrote records {twice} more than once")
    return dict(found)


def check_outcomes(bench: Bench, ran: Ran, wanted: Mapping[int, Outcome], clause: str = "accounting") -> None:
    """See that each record of a run that was completed has the outcome that it must have.

    Args:
        bench: for the message.
        ran: the run.
        wanted: the outcomes of all records.
        clause: for the message.
    """
    found = outcomes(bench, ran)
    wrong = {
        position: f"{found.get(position, 'not written')} instead of {outcome}"
        for position, outcome in wanted.items()
        if found.get(position) != (outcome if outcome in WRITTEN else None)
    }
    assert not wrong, bench.broken(clause, f"wrong outcomes of records, by position: {wrong}; {_why(ran)}")
    assert found.keys() <= wanted.keys(), bench.broken(clause, f"wrote records that were never read: {found}")
    check_counts(bench, ran, Counter(wanted.values()))


def check_counts(bench: Bench, ran: Ran, wanted: Mapping[Outcome, int]) -> None:
    """See that the report says what is true, and that its sums match.

    Args:
        bench: for the message.
        ran: the run.
        wanted: how many records have which outcome.
    """
    counts = ran.report.counts
    told = {outcome: counts[outcome] for outcome in Outcome}
    true = {outcome: wanted.get(outcome, 0) for outcome in Outcome}
    assert told == true, bench.broken("accounting", f"the report counts {_plain(told)}, true is {_plain(true)}")
    assert counts["in"] == sum(told.values()), bench.broken("accounting", f"the sums do not match: {counts}")


def check_attempts(bench: Bench, found: Mapping[int, int], wanted: Mapping[int, int], clause: str) -> None:
    """See that each record ran exactly as often as it may.

    Args:
        bench: for the message.
        found: how often records ran, by position.
        wanted: how often they had to.
        clause: for the message.
    """
    wrong = {
        position: f"{found.get(position, 0)} times instead of {times}"
        for position, times in wanted.items()
        if found.get(position, 0) != times
    }
    assert not wrong, bench.broken(clause, f"ran records more or less often than it may, by position: {wrong}")


def messages(ran: Ran) -> dict[int, str]:
    """Why records were rejected or are dead, by position."""
    return {error["position"]: error["errors"][0]["message"] for error in ran.errors}


def listed(numbers: Sequence[int]) -> str:
    """Numbers, of many the first few."""
    return f"{list(numbers[:20])}{' …' if len(numbers) > 20 else ''}"  # enough to see what is wrong


def _plain(counts: Mapping[Outcome, int]) -> dict[str, int]:
    return {str(outcome): count for outcome, count in counts.items() if count}


def _why(ran: Ran) -> str:
    ended = f"the run is {ran.report.status}"
    return f"{ended} ({ran.report.exception!r})" if ran.report.exception else f"{ended}, its errors {messages(ran)}"
