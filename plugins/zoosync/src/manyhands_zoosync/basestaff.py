"""The thread that looks after worker processes: it starts them, hears what they print, and sees their end.

It owns them: on Linux the kernel kills a worker when the thread that started it ends.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from manyhands.processes.launch import Child, Exit, StartMethod, make_launcher
from manyhands.processes.output import WorkerLog

if TYPE_CHECKING:
    from manyhands_zoosync.basedesk import BaseDesk

_OUTPUT_BYTES: Final = 4096
_LAST_READS: Final = 16


class BaseStaff(ABC):
    """Such a thread, apart from what it does about the end of a worker.

    Args:
        desk: where the workers work.
        main: what they run.
        job: descriptor of what they are told first.
        start_method: how they start.
        name: of the thread.

    Raises:
        OptionsError: this system cannot start them so.
        OSError: there are no descriptors for it.
    """

    def __init__(self, desk: BaseDesk, main: str, job: int, start_method: StartMethod, name: str) -> None:
        self._desk = desk
        self._main = main
        self._job = job
        self._launcher = make_launcher(start_method)
        self._selector = selectors.DefaultSelector()
        self._hands: dict[int, tuple[Child, WorkerLog]] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once.

        Raises:
            RuntimeError: this system has none for it; everything is released.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._release()
            raise

    def _release(self) -> None:
        self._selector.close()

    # For its own thread.

    def _run(self) -> None:
        # ^C and the like are for the program's other threads; workers inherit this until they have handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._look_after()
        except BaseException as error:  # nobody may wait for workers that nobody looks after
            self._fail(error)
            raise
        finally:
            self._close()

    @abstractmethod
    def _look_after(self) -> None:
        """Start the workers, and see to what happens to them."""

    @abstractmethod
    def _see_end(self, worker: int) -> None:
        """A worker has ended."""

    @abstractmethod
    def _fail(self, error: BaseException) -> None:
        """This thread cannot go on."""

    def _close(self) -> None:
        """Leave no worker behind."""
        try:
            for worker in list(self._hands):
                self._dismiss(worker)
        finally:
            self._launcher.close()

    def _hire(self, worker: int) -> Child:
        """Start a worker.

        Raises:
            OSError: it cannot be.
        """
        child = self._launcher.start(self._main, [self._job, *self._desk.fds_of(worker)])
        self._hands[worker] = (child, WorkerLog(child.pid))
        self._selector.register(child, selectors.EVENT_READ, self._unless_gone(worker, child, self._see_end))
        self._selector.register(child.output, selectors.EVENT_READ, self._unless_gone(worker, child, self._listen))
        return child

    def _unless_gone(self, worker: int, child: Child, heard: Callable[[int], object]) -> Callable[[], object]:
        """One look at the selector may tell several things of a worker, and the first that it has ended."""
        return lambda: heard(worker) if self._hands.get(worker, (None,))[0] is child else None

    def _listen(self, worker: int) -> bool:
        """Log some of what it printed; False when there is no more now.

        Only some: it may print faster than that can be logged, and everything else would have to wait.
        """
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

    def _dismiss(self, worker: int) -> Exit:
        """Release everything of a worker that has ended, or is killed now; how it ended."""
        child, log = self._hands[worker]
        child.kill()
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
        return ended
