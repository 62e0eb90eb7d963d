"""How fast a run and its workers are, and how long it will take."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from manyhands.live import WorkerView
    from manyhands.report import FlowReport

_WINDOW_SECONDS: Final = 5.0


def rows_per_second(report: FlowReport) -> float:
    """Of the run so far, with what workers have come past in their chunks."""
    records = max(report.reached, report.total_processed)
    return records / report.duration if report.duration else 0.0


def seconds_left(report: FlowReport) -> float | None:
    """If it goes on as so far; None: not known."""
    fraction = report.fraction
    return report.duration * (1 - fraction) / fraction if fraction else None


class Rates:
    """Records a second of each worker, over the last five seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def see(self, views: Iterable[WorkerView]) -> dict[str, float]:
        """The rates by name, after these views."""
        now = monotonic()
        rates: dict[str, float] = {}
        for view in views:
            seen = self._seen.setdefault(view.name, deque())
            if seen and view.records < seen[-1][1]:  # it was begun again
                seen.clear()
            seen.append((now, view.records))
            while now - seen[0][0] > _WINDOW_SECONDS:
                seen.popleft()
            (begun, before), passed = seen[0], now - seen[0][0]
            rates[view.name] = (view.records - before) / (now - begun) if passed else 0.0
        return rates
