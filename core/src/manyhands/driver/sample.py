"""What the workers of an executor are doing, for a display: sampled a few times a second while somebody looks.

    driver:  count(result) ─▶ sums of each worker ─┐
             sample(running) ─▶ Executor.progress ─┴▶ views
    display: look() ◀─────────────────────────────────┘

The executor is only asked by the driver's thread, as ever, so a display can never meet it in the middle of its end. Of
an inline one the driver's thread is the worker: it has a progress cell of ours while somebody looks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.live import WorkerView, resident
from manyhands.worker.cell import ProgressCell, read_progress

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.driver.ledger import Attempt
    from manyhands.executor import Executor, Progress
    from manyhands.report import FlowReport
    from manyhands.worker.context import WorkerContext

_SAMPLE_SECONDS: Final = 0.1
_MEMORY_SECONDS: Final = 0.5
_INTEREST_SECONDS: Final = 1.0
"""So long after the last look somebody may look again."""


@dataclass(slots=True)
class _Sums:
    """What came from one worker, and how much of it there was at the last look."""

    done: int = 0
    failed: int = 0
    seen: int = 0


class Sampler:
    """Knows what each worker has done, and what it is at.

    Args:
        executor: asked where its workers are.
        context: the job.
        report: `look` of it comes here, and `reached` is kept up to date.
    """

    def __init__(self, executor: Executor, context: WorkerContext, report: FlowReport) -> None:
        capabilities = executor.capabilities
        self._executor = executor
        self._report = report
        self._is_inline = capabilities.inline
        self._is_here = not capabilities.distributed
        self._crosses = capabilities.crosses_process
        self._sums: dict[str, _Sums] = {}
        self._reached: dict[Future[ChunkResult], int] = {}
        self._at: dict[Future[ChunkResult], Progress] = {}
        self._views: list[WorkerView] = []
        self._settled = 0
        self._looked = monotonic()  # a display that comes soon sees the first chunk as well
        self._next = 0.0
        self._memory: dict[int, int | None] = {}
        self._next_memory = 0.0
        self._context = context
        self._words = [0]
        self._cell = ProgressCell(self._words)
        self._chunk: Chunk | None = None
        self._inline: tuple[Chunk | None, int] = (None, 0)
        report.show(self._look, getattr(executor, "max_workers", None) or 1)

    def begin(self, chunk: Chunk) -> None:
        """A chunk is about to be submitted."""
        if self._is_inline:
            self._chunk = chunk
            self._context.cell = self._cell if self._is_watched(monotonic()) else None

    def count(self, result: ChunkResult) -> None:
        """A result has come."""
        self._settled += result.hi - result.lo
        sums = self._sums.get(result.worker)
        if sums is None:
            sums = self._sums[result.worker] = _Sums()
        sums.done += result.ok + result.dropped
        sums.failed += result.rejected

    def sample(self, running: Mapping[Future[ChunkResult], Attempt]) -> bool:
        """See where the workers are, if it is time and somebody looks; True if so.

        Args:
            running: every future that is not done.
        """
        now = monotonic()
        if now < self._next or not self._is_watched(now):
            return False
        self._next = now + _SAMPLE_SECONDS
        self._see(running)
        views = {name: self._between(name, sums) for name, sums in self._sums.items()}
        for future, progress in self._at.items():
            name, chunk = progress.worker, running[future].chunk
            sums = self._sums.setdefault(name, _Sums())
            reached, position = self._reached[future], chunk.start + progress.lo
            views[name] = WorkerView(name, progress.stage, sums.done, sums.failed, reached, position)
        views.pop("", None)  # of an executor that does not tell who it is
        self._views = list(views.values())
        self._report.reached = self._settled + self._report.dead + sum(self._reached.values())
        return True

    def _see(self, running: Mapping[Future[ChunkResult], Attempt]) -> None:
        reached: dict[Future[ChunkResult], int] = {}
        self._at.clear()
        for future, attempt in running.items():
            progress = self._ask(future)
            if progress is not None:
                # Each stage begins again at the first record: what was reached once stays so.
                reached[future] = max(progress.lo - attempt.chunk.lo, self._reached.get(future, 0))
                self._at[future] = progress
        self._reached = reached

    def _ask(self, future: Future[ChunkResult]) -> Progress | None:
        try:
            return None if future.done() else self._executor.progress(future)
        except Exception:  # noqa: BLE001  # a display is no reason to end a run
            return None

    def _between(self, name: str, sums: _Sums) -> WorkerView:
        """One that is in no chunk: it may have come out of one just now."""
        before, sums.seen = sums.seen, sums.done + sums.failed
        return WorkerView(name, "running" if sums.seen > before else "idle", sums.done, sums.failed)

    def _is_watched(self, now: float) -> bool:
        return now - self._looked < _INTEREST_SECONDS

    # In the display's thread.

    def _look(self) -> Sequence[WorkerView]:
        self._looked = monotonic()
        views = self._inline_views() if self._is_inline else self._views
        return [self._with_memory(view) for view in views]

    def _inline_views(self) -> list[WorkerView]:
        chunk, word = self._chunk, self._words[0]
        progress = None if chunk is None else read_progress(word, chunk, self._context.max_hook_chunk_size)
        views: list[WorkerView] = []
        for name, sums in self._sums.copy().items():
            views.append(WorkerView(name, "running", sums.done, sums.failed))
        if chunk is None or progress is None:
            return views
        reached = max(progress.lo - chunk.lo, self._inline_reached(chunk))
        self._inline = (chunk, reached)
        self._report.reached = self._report.total_processed + reached
        view = views[0] if views else WorkerView(f"{os.getpid()}/", "")
        return [replace(view, state=progress.stage, reached=reached, position=chunk.start + progress.lo)]

    def _inline_reached(self, chunk: Chunk) -> int:
        before, reached = self._inline
        return reached if before is chunk else 0

    def _with_memory(self, view: WorkerView) -> WorkerView:
        pid = _pid(view.name) if self._is_here else None
        memory = self._resident(pid)
        if memory is None:
            return replace(view, state="ended")
        return replace(view, pid=pid, ram_bytes=memory)

    def _resident(self, pid: int | None) -> int | None:
        """Memory of a worker that is a process of its own, or the only one of this; None: it is gone."""
        if pid is None or not (self._crosses or self._is_inline):
            return 0
        now = monotonic()
        if now > self._next_memory:
            self._next_memory = now + _MEMORY_SECONDS
            self._memory.clear()
        if pid not in self._memory:
            self._memory[pid] = resident(pid)
        return self._memory[pid]


def _pid(name: str) -> int | None:
    pid = name.partition("/")[0]
    return int(pid) if pid.isdecimal() else None
