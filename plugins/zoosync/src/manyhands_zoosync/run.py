"""All that there is while there are workers."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

from manyhands.processes.launch import StartMethod
from manyhands_zoosync.desk import Desk
from manyhands_zoosync.feeder import Feeder
from manyhands_zoosync.job import Job
from manyhands_zoosync.keeping import Shelf
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.staff import Staff
from manyhands_zoosync.statistics import Statistics
from manyhands_zoosync.taskqueue import Signal

_END_SECONDS: Final = 5.0
_ABORT_SECONDS: Final = 0.2


class Run:
    """The memory, who puts tasks into it, and who takes care of the workers.

    Args:
        job: what the workers are told.
        start_method: how they start.
        crash_retries: so often a task is tried again that its worker did not survive.
        timeout: seconds that a task may wait for room; None: as long as it takes.
        shelf: where results go.

    Raises:
        OSError: there is no memory, or there are no descriptors, for it.
    """

    def __init__(
        self, job: Job, start_method: StartMethod, crash_retries: int, timeout: float | None, shelf: Shelf
    ) -> None:
        self._begun = time.monotonic()
        with ExitStack() as opened:
            self._job: Segment = job.save()
            opened.callback(self._job.close)
            self.desk: Desk = Desk(job.layout, job.lock, crash_retries, shelf.keep)
            opened.callback(self.desk.close)
            self.feeder: Feeder = Feeder(self.desk, timeout)
            self._staff = Staff(self.desk, self._job.descriptor, job.layout.workers, start_method)
            self._staff.start()
            opened.pop_all()

    def statistics(self) -> Statistics:
        """The numbers so far."""
        desk = self.desk
        seconds = time.monotonic() - self._begun
        return Statistics(
            seconds, desk.submitted, desk.succeeded, desk.failed, desk.lost, self._staff.replaced, desk.statuses()
        )

    def finish(self) -> None:
        """End the workers and release everything."""
        is_done = not self.desk.outstanding
        self.desk.tell(Signal.TERMINATE if is_done else Signal.ABORT)
        try:
            self._staff.finish(_END_SECONDS if is_done else _ABORT_SECONDS)
        finally:
            self.desk.close()
            self._job.close()
