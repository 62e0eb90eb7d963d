"""Lines, for whatever is no terminal."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Final

from rich.console import Console
from rich.table import Table

from manyhands.cli.display.base import NoDisplay
from manyhands.cli.display.pace import rows_per_second
from manyhands.report import FlowReport

_SECONDS: Final = 2.0


class PlainDisplay(NoDisplay):
    """A line every two seconds, and a table at the end."""

    def __init__(self) -> None:
        self._next = monotonic() + _SECONDS

    def update(self, report: FlowReport) -> None:
        """A line, if it is time."""
        if monotonic() >= self._next:
            self._next = monotonic() + _SECONDS
            percent = "" if report.fraction is None else f"{report.fraction:4.0%}  "
            print(f"{percent}{counts_line(report)}", file=sys.stderr, flush=True)

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """The table, and the notes."""
        table = Table()
        table.add_column("outcome")
        table.add_column("records", justify="right")
        for outcome, count in report.counts.items():
            table.add_row("read" if outcome == "in" else outcome, f"{count:,}")
        console = Console()
        with console.capture() as capture:  # printed here, because rich exits when nobody reads what it prints
            console.print(table)
        print(f"{report.status}: {report.executor}")
        print(capture.get(), end="")
        print(f"{report.duration:.2f} s, {report.items_per_second:,.0f} rows/s")
        for note in notes:
            print(note)


def counts_line(report: FlowReport) -> str:
    """Counts and rate on one line; outcomes that nothing had are left out."""
    counts = report.counts
    parts = [f"{counts['ok']:,} ok"]
    parts += [f"{counts[name]:,} {name}" for name in ("rejected", "dead", "dropped") if counts[name]]
    under_way = report.reached - report.total_processed
    parts += [f"{under_way:,} under way"] if under_way > 0 else []
    return f"{', '.join(parts)}  {rows_per_second(report):,.0f} rows/s"
