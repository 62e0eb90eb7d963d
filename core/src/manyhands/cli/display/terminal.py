"""The live terminal: as many lines as fit, always as many, that change where they are."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Console

from manyhands.cli.display.frame import Frame, Moment, height_of
from manyhands.cli.display.log import PrintLog
from manyhands.cli.display.pace import Rates
from manyhands.cli.display.plain import PlainDisplay
from manyhands.cli.display.screen import Screen

if TYPE_CHECKING:
    from typing import TextIO

    from manyhands.report import FlowReport

_SECONDS: Final = 0.2


class RichDisplay(PlainDisplay):
    """A bar, totals, a row for each worker, and the last lines of what they print, which goes into a file.

    Args:
        name: of the job.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=False)
        self._screen = Screen(sys.stderr)
        self._log = PrintLog(name, sys.stderr.fileno())
        self._rates = Rates()
        self._workers = 0
        self._next_frame = 0.0
        self._divert()

    def update(self, report: FlowReport) -> None:
        """Draw, if it is time."""
        if monotonic() < self._next_frame:
            return
        self._next_frame = monotonic() + _SECONDS
        self._screen.draw(self._lines(report))

    def close(self) -> None:
        """Take everything away."""
        sys.stdout, sys.stderr = self._streams
        self._screen.close()
        self._log.end()

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """The table, and the notes; one says where that is what was printed."""
        super().sum_up(report, [*notes, *self.notes])

    @property
    def notes(self) -> list[str]:
        """Where that is what was printed, if something was."""
        path = self._log.path
        return [f"printed: {path}"] if path else []

    def _divert(self) -> None:
        """Let be printed into the log what would disturb; what goes into a file goes there."""
        stream = self._log.stream()
        if sys.stdout.isatty():
            sys.stdout = stream
        sys.stderr = stream

    def _lines(self, report: FlowReport) -> list[str]:
        views = report.look()
        self._workers = max(self._workers, len(views), report.crew_size)
        size = self._screen.size
        height, columns = height_of(self._workers, size.lines), max(size.columns - 1, 1)
        moment = Moment(report, views, self._rates.see(views), self._log.last(height))
        with self._console.capture() as capture:
            self._console.print(Frame(moment, columns, height), width=columns, end="")
        return capture.get().split("\n")[:height]
