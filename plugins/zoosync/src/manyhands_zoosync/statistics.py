"""What a run came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from manyhands_zoosync.status import WorkerStatus

_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Statistics:
    """The numbers; `str()` of it is a small table.

    Attributes:
        seconds: from the start of the workers to the end of the last.
        submitted: tasks that were put in.
        succeeded: so many returned.
        failed: so many raised, or killed their workers.
        lost: those of them that killed their workers.
        replaced: workers that took the place of dead ones.
        workers: what each did, tasks that had to be run again included.
    """

    seconds: float
    submitted: int
    succeeded: int
    failed: int
    lost: int
    replaced: int
    workers: Sequence[WorkerStatus]

    @property
    def tasks_per_second(self) -> float:
        """Results in a second."""
        return (self.succeeded + self.failed) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        not_run = self.submitted - self.succeeded - self.failed
        pace = f"{self.submitted} tasks in {self.seconds:.2f} s ({self.tasks_per_second:.0f}/s)"
        lines = [f"{pace}: {self.succeeded} succeeded, {self.failed} failed, {not_run} not run"]
        if self.lost or self.replaced:
            workers = "worker" if self.replaced == 1 else "workers"
            lines.append(f"{self.lost} killed their workers; {self.replaced} {workers} replaced")
        lines += [_line(number, worker) for number, worker in enumerate(self.workers)]
        return "\n".join(lines)


def _line(number: int, worker: WorkerStatus) -> str:
    return (
        f"worker {number:3d}  pid {worker.pid or '-':>7}  {worker.success_count:10d} succeeded  "
        f"{worker.error_count:8d} failed  {worker.ram_bytes / _MB:8.1f} MB"
    )
