"""A queue in the terminal: totals, a row for each worker that stays where it is, and what was printed last."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from manyhands.cli.display.logged import logged
from manyhands.cli.display.terminal import RichDisplay
from manyhands.cli.streams import show
from manyhands.live import WorkerView
from manyhands.report import FlowReport

if TYPE_CHECKING:
    from manyhands_zoosync.statistics import Statistics
    from manyhands_zoosync.status import WorkerStatus

_REFRESH_SECONDS: Final = 0.1


@contextmanager
def shown(look: Callable[[], Statistics]) -> Iterator[None]:
    """Show a queue while the block runs. Nothing is shown where stderr is no terminal.

    Args:
        look: gives the numbers so far. Called in a thread of its own.
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield
        return
    display, ended = RichDisplay("queue"), threading.Event()
    thread = threading.Thread(target=_update, args=(display, look, ended), name="manyhands-display", daemon=True)
    try:
        with logged():
            thread.start()
            yield
    finally:
        ended.set()
        thread.join()
        display.close()
        show(lambda: print(*display.notes, sep="\n", end="\n" * len(display.notes)))  # noqa: T201  # it is for the person


def _update(display: RichDisplay, look: Callable[[], Statistics], ended: threading.Event) -> None:
    report = FlowReport("zoosync")
    report.begin()
    while not ended.wait(_REFRESH_SECONDS):
        statistics = look()
        _fill(report, statistics)
        show(lambda: display.update(report))


def _fill(report: FlowReport, statistics: Statistics) -> None:
    """Tasks take the place of records."""
    report.read, report.ok = statistics.submitted, statistics.succeeded
    report.rejected, report.dead = statistics.failed - statistics.lost, statistics.lost
    views = _views(statistics.workers)
    report.show(lambda: views, len(views))


def _views(workers: Sequence[WorkerStatus]) -> list[WorkerView]:
    return [_view(f"worker {number}", worker) for number, worker in enumerate(workers)]


def _view(name: str, worker: WorkerStatus) -> WorkerView:
    counts = (worker.success_count, worker.error_count)
    return WorkerView(name, worker.state.name.lower(), *counts, 0, worker.position, worker.ram_bytes, worker.pid)
