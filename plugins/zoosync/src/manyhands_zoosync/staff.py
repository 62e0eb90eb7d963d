"""The thread that starts the workers, hears what they print, and replaces those that die.

It owns them: on Linux the kernel kills a worker when the thread that started it ends.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from manyhands.errors import ExecutorBroken, ManyhandsError, WorkerInitError, WorkerLost
from manyhands.processes.launch import Child, StartMethod, make_launcher
from manyhands.processes.output import WorkerLog
from manyhands_zoosync.worker import MAIN

if TYPE_CHECKING:
    from manyhands_zoosync.desk import Desk

_log: Final = logging.getLogger("manyhands")

_FUTILE_LIVES: Final = 3
"""So many workers in a row that died before they were ready, and no more are started."""

_OUTPUT_BYTES: Final = 4096
_LAST_READS: Final = 16
_LOOK_SECONDS: Final = 0.02


class Staff:
    """The workers of a run.

    Args:
        desk: where they work.
        job: descriptor of what they are told first.
        workers: how many.
        start_method: how they start.

    Raises:
        OptionsError: this system cannot start them so.
    """

    def __init__(self, desk: Desk, job: int, workers: int, start_method: StartMethod) -> None:
        self._desk = desk
        self._job = job
        self._workers = workers
        self._launcher = make_launcher(start_method)
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = os.pipe()
        self._hands: dict[int, tuple[Child, WorkerLog]] = {}
        self._futile = 0
        self._end: float | None = None
        self.replaced: int = 0
        self._thread = threading.Thread(target=self._run, name="manyhands-zoosync", daemon=True)

    # For other threads.

    def start(self) -> None:
        """Start the workers; returns at once.

        Raises:
            RuntimeError: this system has no thread for it; everything is released.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._release()
            raise

    def finish(self, grace: float) -> None:
        """Wait for the workers to end, which they have been told, and release everything.

        Args:
            grace: seconds after which those that have not ended are killed.
        """
        self._end = time.monotonic() + grace
        os.write(self._rope, b"!")
        self._thread.join()
        self._release()

    def pids(self) -> list[int]:
        """The workers that there are now."""
        return [child.pid for child, _ in list(self._hands.values())]

    def _release(self) -> None:
        self._selector.close()
        os.close(self._bell)
        os.close(self._rope)

    # For its own thread.

    def _run(self) -> None:
        # ^C and the like are for the program's other threads; workers inherit this until they have handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)
            for worker in range(self._workers):
                self._hire(worker)
            while self._end is None or self._hands:
                self._turn()
        except BaseException as error:  # nobody may wait for workers that nobody looks after
            self._desk.give_up(ExecutorBroken(f"the supervisor of the workers failed: {type(error).__name__}: {error}"))
            raise
        finally:
            for child, _ in self._hands.values():
                child.close()
            self._launcher.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            key.data()
        if self._desk.has_again:
            self._desk.put_again()
        if self._end is not None and time.monotonic() > self._end:
            for child, _ in self._hands.values():
                child.kill()

    def _patience(self) -> float | None:
        """Seconds to sleep."""
        return _LOOK_SECONDS if self._end is not None or self._desk.has_again else None

    def _hear_bell(self) -> None:
        os.read(self._bell, 4096)

    def _hire(self, worker: int) -> None:
        try:
            child = self._launcher.start(MAIN, [self._job, *self._desk.fds_of(worker)])
        except OSError as error:
            self._give_up(WorkerInitError(f"a worker process cannot be started: {error}"))
            return
        self._hands[worker] = (child, WorkerLog(child.pid))
        self._selector.register(child, selectors.EVENT_READ, self._unless_gone(worker, child, self._see_end))
        self._selector.register(child.output, selectors.EVENT_READ, self._unless_gone(worker, child, self._listen))

    def _unless_gone(self, worker: int, child: Child, heard: Callable[[int], object]) -> Callable[[], object]:
        """One look at the selector may tell several things of a worker, and the first that it has ended."""
        return lambda: heard(worker) if self._hands.get(worker, (None,))[0] is child else None

    def _listen(self, worker: int) -> bool:
        """Log some of what it printed; False when there is no more now."""
        child, log = self._hands[worker]
        try:
            data = os.read(child.output, _OUTPUT_BYTES)
        except BlockingIOError:
            return False
        # A handler of the person's that fails loses lines, not the run.
        with suppress(Exception):
            log.feed(data)
        if not data:
            with suppress(KeyError):  # it has been heard out
                self._selector.unregister(child.output)
        return bool(data)

    def _see_end(self, worker: int) -> None:
        child, log = self._hands[worker]
        ended = child.wait()
        for _ in range(_LAST_READS):  # what it has started may go on printing
            if not self._listen(worker):
                break
        with suppress(Exception):  # as above
            log.close()
        for source in (child, child.output):
            with suppress(KeyError):
                self._selector.unregister(source)
        del self._hands[worker]
        child.close()
        was_ready = self._desk.bury(worker, ended)
        if self._end is None:
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
        self._hire(worker)

    def _give_up(self, error: ManyhandsError) -> None:
        if self._hands:
            _log.warning("there will be fewer workers: %s", error)
        else:
            self._desk.give_up(error)
