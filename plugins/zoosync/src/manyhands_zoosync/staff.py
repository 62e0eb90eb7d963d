"""The thread that looks after the workers of a queue of calls: it replaces those that die."""

from __future__ import annotations

import logging
import os
import selectors
import time
from typing import TYPE_CHECKING, Final

from manyhands.errors import ExecutorBroken, ManyhandsError, WorkerInitError, WorkerLost
from manyhands.processes.launch import StartMethod
from manyhands_zoosync.basestaff import BaseStaff
from manyhands_zoosync.worker import MAIN

if TYPE_CHECKING:
    from manyhands_zoosync.desk import Desk

_log: Final = logging.getLogger("manyhands")

_FUTILE_LIVES: Final = 3
"""So many workers in a row that died before they were ready, and no more are started."""

_LOOK_SECONDS: Final = 0.02


class Staff(BaseStaff):
    """The workers of a run.

    Args:
        desk: where they work.
        job: descriptor of what they are told first.
        workers: how many.
        start_method: how they start.

    Raises:
        OptionsError: this system cannot start them so.
    """

    _desk: Desk

    def __init__(self, desk: Desk, job: int, workers: int, start_method: StartMethod) -> None:
        super().__init__(desk, MAIN, job, start_method, "manyhands-zoosync")
        self._workers = workers
        self._bell, self._rope = os.pipe()
        self._futile = 0
        self._end_time: float | None = None
        self.replaced: int = 0

    # For other threads.

    def finish(self, grace: float) -> None:
        """Wait for the workers to end, which they have been told, and release everything.

        ^C meanwhile kills them at once.

        Args:
            grace: seconds after which those that have not ended are killed.
        """
        self._end_time = time.monotonic() + grace
        os.write(self._rope, b"!")
        try:
            self._thread.join()
        except BaseException:
            self._end_time = time.monotonic()
            self._thread.join()
            raise
        finally:
            if not self._thread.is_alive():  # it is, if they cannot wait at all
                self._release()

    def pids(self) -> list[int]:
        """The workers that there are now."""
        return [child.pid for child, _ in list(self._hands.values())]

    def _release(self) -> None:
        super()._release()
        os.close(self._bell)
        os.close(self._rope)

    # For its own thread.

    def _look_after(self) -> None:
        self._selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)
        for worker in range(self._workers):
            self._take_on(worker)
        while self._end_time is None or self._hands:
            self._turn()

    def _fail(self, error: BaseException) -> None:
        self._desk.give_up(ExecutorBroken(f"the supervisor of the workers failed: {type(error).__name__}: {error}"))

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            key.data()
        if self._desk.has_again:
            self._desk.put_again()
        if self._end_time is not None and time.monotonic() > self._end_time:
            for child, _ in self._hands.values():
                child.kill()

    def _patience(self) -> float | None:
        """Seconds to sleep."""
        return _LOOK_SECONDS if self._end_time is not None or self._desk.has_again else None

    def _hear_bell(self) -> None:
        os.read(self._bell, 4096)

    def _take_on(self, worker: int) -> None:
        try:
            self._hire(worker)
        except OSError as error:
            self._give_up(WorkerInitError(f"a worker process cannot be started: {error}"))

    def _see_end(self, worker: int) -> None:
        ended = self._dismiss(worker)
        was_ready = self._desk.bury(worker, ended)
        if self._end_time is None:
            self._replace(worker, WorkerLost(ended.code, ended.signal).cause, was_ready=was_ready)

    def _replace(self, worker: int, cause: str, *, was_ready: bool) -> None:
        self._futile = 0 if was_ready else self._futile + 1
        if self._desk.error is not None:
            return
        if self._futile >= _FUTILE_LIVES:
            hint = "see what the modules of the functions do when they are imported"
            self._give_up(WorkerInitError(f"worker processes die before they are ready ({cause}); {hint}"))
            return
        self.replaced += 1
        self._take_on(worker)

    def _give_up(self, error: ManyhandsError) -> None:
        if self._hands:
            _log.warning("there will be fewer workers: %s", error)
        else:
            self._desk.give_up(error)
