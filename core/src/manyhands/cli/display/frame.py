"""What the live terminal shows at a time: totals, a row for each worker, and what was printed last.

Made of segments, not of a `rich.table.Table`, which took 33 ms for forty rows; this takes two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style

from manyhands.cli.display.pace import seconds_left
from manyhands.cli.display.plain import counts_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from manyhands.live import WorkerView
    from manyhands.report import FlowReport

_HEAD: Final = 3
_TAIL: Final = 5
_SHORT_TAIL: Final = 3
_ROOM_FOR_TAIL: Final = 12
_COLUMNS: Final = {"state": 9, "done": 11, "failed": 9, "rows/s": 8, "memory": 9, "position": 11}
_NAME: Final = 16
_WIDEST_NAME: Final = 30
_LEFT_OUT: Final = ("position", "memory", "rows/s", "failed", "state", "done")
"""What a narrow terminal has no room for, the first first."""
_PLAIN: Final = Style()
_DIM: Final = Style(dim=True)
_BOLD: Final = Style(bold=True)
_BUSY: Final = Style(color="cyan")
_BAD: Final = Style(color="red", bold=True)
_STATES: Final = {
    "silent": _BAD,
    "failed": _BAD,
    "aborted": _BAD,
    "completed": Style(color="green"),
    "ended": _DIM,
    "idle": _DIM,
    "waiting": _DIM,
}
_WARNED: Final = Style(color="yellow")
_RANKS: Final = {"silent": 0, "failed": 0, "waiting": 2, "completed": 3, "ended": 4}
_BUSY_RANK: Final = 1
_CLOCK: Final = 8
_PERCENT: Final = 5
_MIB: Final = 1 << 20
_MANY_MIB: Final = 10_000
_MILLION: Final = 1_000_000

Line = list[Segment]
Cell = tuple[str, Style]


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at a time.

    Attributes:
        report: its totals.
        views: its workers.
        rates: records a second of each, by name.
        printed: the last lines that were printed.
    """

    report: FlowReport
    views: Sequence[WorkerView]
    rates: Mapping[str, float]
    printed: Sequence[str] = ()


def height_of(workers: int, rows: int) -> int:
    """How many lines to take in a terminal: one less than it has at most.

    Args:
        workers: that there are, or will be.
        rows: of the terminal.
    """
    return max(min(_HEAD + workers + _TAIL, rows - 1), 1)


class Frame:
    """A moment as exactly `height` lines, none of which is broken; for rich to print.

    Args:
        moment: what to show.
        columns: how long a line may be.
        height: how many there are.
    """

    def __init__(self, moment: Moment, columns: int, height: int) -> None:
        self._moment = moment
        self._columns = columns
        self._height = height
        self._shown = _chosen(columns)
        free = columns - sum(_COLUMNS[name] + 1 for name in self._shown)
        self._name = max(min(free, _WIDEST_NAME), 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """The lines."""
        lines = islice(self._lines(console, options), self._height)
        for number in range(self._height):
            yield from next(lines, [])
            if number + 1 < self._height:
                yield Segment.line()

    def _lines(self, console: Console, options: ConsoleOptions) -> Iterator[Line]:
        moment, room = self._moment, self._height - _HEAD
        yield self._bar(console, options)
        memory = _memory(sum(view.ram_bytes for view in moment.views))
        yield self._line(f"{counts_line(moment.report)}  {memory}".rstrip(), _BOLD)
        yield self._row(("worker", _DIM), {name: (name, _DIM) for name in _COLUMNS})
        tail = _SHORT_TAIL if moment.printed and self._height >= _ROOM_FOR_TAIL else 0
        rows = list(self._rows(max(room - tail, 1)))
        yield from rows
        free = room - len(rows)
        for text in moment.printed[-free:] if free > 0 else ():
            yield self._line(text, _DIM)

    def _bar(self, console: Console, options: ConsoleOptions) -> Line:
        fraction, left = self._moment.report.fraction, seconds_left(self._moment.report)
        width = self._columns - _PERCENT - _CLOCK - 1
        if fraction is None or width < 1:
            return []
        bar = ProgressBar(total=1.0, completed=fraction, width=width)
        # Without colours it stops where it is.
        segments = Segment.adjust_line_length(list(console.render(bar, options)), width)
        clock = "" if left is None else _clock(left)
        return [Segment(f"{fraction:4.0%} "), *segments, Segment(f" {clock:>{_CLOCK}}", _BUSY)]

    def _rows(self, room: int) -> Iterator[Line]:
        """A row for each worker; where there is no room, the last one stands for all that are left."""
        rates = self._moment.rates
        views = sorted(self._moment.views, key=lambda view: _RANKS.get(view.state, _BUSY_RANK))
        single = room - 1 if len(views) > room else room
        for view in views[:single]:
            yield self._row((_short(view.name), _PLAIN), _cells(view, rates.get(view.name, 0.0)))
        if rest := views[single:]:
            yield self._row((f"... and {len(rest)} more", _DIM), _sums(rest, rates))

    def _row(self, name: Cell, cells: Mapping[str, Cell]) -> Line:
        line = [Segment(_fitted(name[0], self._name), name[1])]
        for column in self._shown:
            (text, style), width = cells[column], _COLUMNS[column]
            fitted = _fitted(text, width) if column == "state" else f"{text:>{width}}"
            line.append(Segment(f" {fitted}", style))
        return line

    def _line(self, text: str, style: Style) -> Line:
        return [Segment(_cut(text, self._columns), style)]


def _chosen(columns: int) -> list[str]:
    shown = list(_COLUMNS)
    for name in _LEFT_OUT:
        if sum(_COLUMNS[each] + 1 for each in shown) + _NAME <= columns:
            break
        shown.remove(name)
    return shown


def _cells(view: WorkerView, rate: float) -> dict[str, Cell]:
    position = "" if view.position is None else _count("position", view.position)
    return {
        "state": (view.state, _STATES.get(view.state, _BUSY)),
        "done": (_count("done", view.done + view.reached), _PLAIN),
        "failed": (_count("failed", view.failed), _WARNED if view.failed else _DIM),
        "rows/s": (_count("rows/s", rate), _PLAIN),
        "memory": (_memory(view.ram_bytes), _PLAIN),
        "position": (position, _PLAIN),
    }


def _sums(views: Sequence[WorkerView], rates: Mapping[str, float]) -> dict[str, Cell]:
    texts = {
        "state": "",
        "done": _count("done", sum(view.done + view.reached for view in views)),
        "failed": _count("failed", sum(view.failed for view in views)),
        "rows/s": _count("rows/s", sum(rates.get(view.name, 0.0) for view in views)),
        "memory": _memory(sum(view.ram_bytes for view in views)),
        "position": "",
    }
    return {name: (text, _DIM) for name, text in texts.items()}


def _short(name: str) -> str:
    """Of a process its id, of a thread its name, of what has an address that."""
    _, scheme, address = name.partition("://")
    if scheme:
        return address
    process, slash, thread = name.partition("/")
    return process if not slash or thread == "MainThread" else thread


def _fitted(text: str, width: int) -> str:
    return set_cell_size(_cut(text, width), width)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _count(column: str, number: float) -> str:
    text = f"{number:,.0f}"
    return text if len(text) <= _COLUMNS[column] else f"{number / _MILLION:,.0f}M"


def _memory(nbytes: int) -> str:
    if not nbytes:
        return ""
    return f"{nbytes / _MIB:,.0f} MiB" if nbytes < _MANY_MIB * _MIB else f"{nbytes / _MIB / 1024:,.0f} GiB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
