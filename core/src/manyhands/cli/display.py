"""How a run looks while it goes on, and how it is summed up."""

from __future__ import annotations

import json
import sys
from time import monotonic
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from manyhands.errors import UsageError
from manyhands.report import FlowReport

STYLES: Final = ("auto", "rich", "plain", "json", "none")
_PLAIN_SECONDS: Final = 2.0


class Display(Protocol):
    """Shows a run."""

    def update(self, report: FlowReport) -> None:
        """Called several times a second."""

    def close(self) -> None:
        """The run has ended; the terminal is the person's again."""

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """The closing summary.

        Args:
            report: final.
            notes: sentences about outputs and what to do.
        """


def make_display(style: str) -> Display:
    """The display of a style.

    Raises:
        UsageError: there is no such style.
    """
    if style not in STYLES:
        raise UsageError(f"--progress {style}: allowed are {', '.join(STYLES)}")
    if style == "auto":
        style = "rich" if sys.stderr.isatty() else "plain"
    displays = {"rich": RichDisplay, "plain": PlainDisplay, "json": JSONDisplay, "none": NoDisplay}
    display: Display = displays[style]()
    return display


class NoDisplay:
    """Shows nothing."""

    def update(self, report: FlowReport) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """Nothing."""


class PlainDisplay(NoDisplay):
    """A line every two seconds, and a table at the end."""

    def __init__(self) -> None:
        self._next = monotonic() + _PLAIN_SECONDS

    def update(self, report: FlowReport) -> None:
        """A line, if it is time."""
        if monotonic() >= self._next:
            self._next = monotonic() + _PLAIN_SECONDS
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


class RichDisplay(PlainDisplay):
    """A progress bar with rate, counts and time left."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(text_format_no_percentage=""),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            expand=True,
            redirect_stdout=sys.stdout.isatty(),  # what hooks print into a file stays there
        )
        self._task: TaskID = self._progress.add_task("", total=None, counts="")
        self._progress.start()

    def update(self, report: FlowReport) -> None:
        """Move the bar."""
        total = None if report.fraction is None else 1.0
        self._progress.update(self._task, total=total, completed=report.fraction or 0.0, counts=counts_line(report))
        self._progress.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


class JSONDisplay(NoDisplay):
    """An object a line, for machines; the last one is the report."""

    def update(self, report: FlowReport) -> None:
        """Where the run is."""
        line = {"status": str(report.status), "fraction": report.fraction, "counts": report.counts}
        print(json.dumps({**line, "rows_per_second": round(report.items_per_second, 1)}), flush=True)

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """The report."""
        print(json.dumps({**report.as_dict(), "notes": notes}), flush=True)


def counts_line(report: FlowReport) -> str:
    """Counts and rate on one line; outcomes that nothing had are left out."""
    counts = report.counts
    parts = [f"{counts['ok']:,} ok"]
    parts += [f"{counts[name]:,} {name}" for name in ("rejected", "dead", "dropped") if counts[name]]
    return f"{', '.join(parts)}  {report.items_per_second:,.0f} rows/s"
