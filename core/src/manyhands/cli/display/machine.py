"""Objects, for machines."""

from __future__ import annotations

import json
from dataclasses import asdict

from manyhands.cli.display.base import NoDisplay
from manyhands.cli.display.pace import Rates, rows_per_second, seconds_left
from manyhands.report import FlowReport


class JSONDisplay(NoDisplay):
    """An object a line; the last one is the report."""

    def __init__(self) -> None:
        self._rates = Rates()

    def update(self, report: FlowReport) -> None:
        """Where the run is."""
        views = report.look()
        rates = self._rates.see(views)
        left = seconds_left(report)
        line = {
            "status": str(report.status),
            "fraction": report.fraction,
            "counts": report.counts,
            "reached": max(report.reached, report.total_processed),
            "rows_per_second": round(rows_per_second(report), 1),
            "seconds_left": None if left is None else round(left, 1),
            "workers": [{**asdict(view), "rows_per_second": round(rates[view.name], 1)} for view in views],
        }
        print(json.dumps(line), flush=True)

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """The report."""
        print(json.dumps({**report.as_dict(), "notes": notes}), flush=True)
