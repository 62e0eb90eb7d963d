"""The event loop of a run: the executor's own, or one that was given."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Final

from manyhands.crew import GRACE_SECONDS
from manyhands.errors import WorkerInitError

_log: Final = logging.getLogger("manyhands_asyncio")


class LoopHost:
    """Sees that an event loop runs for as long as it is needed.

    Args:
        given: a loop, running or not; None: make one.
    """

    def __init__(self, given: asyncio.AbstractEventLoop | None) -> None:
        self._given = given
        self._started = threading.Event()
        self._end: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop
        self.lost: str | None = None
        """Why nothing can be awaited any more."""

    def start(self) -> None:
        """Return when the loop runs.

        Raises:
            WorkerInitError: the given loop cannot be run.
        """
        if self._given is not None and self._given.is_running():
            self.loop = self._given
            return
        self._thread = threading.Thread(target=self._serve, name="asyncio-loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads
            raise WorkerInitError(f"a thread could not start: {error}") from error
        self._started.wait()
        if self._failure is not None:
            raise WorkerInitError(f"the event loop cannot be run: {self._failure}") from self._failure

    def check_responds(self) -> None:
        """Give the loop up if a hook blocks it, so that nobody waits for it any more."""
        answered = threading.Event()
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(answered.set)
        if not answered.wait(GRACE_SECONDS):
            self.lost = "the event loop does not respond"

    def close(self, *, wait: bool) -> None:
        """End a loop that was run here, and close it if it was made here. Any other is left as it is.

        Args:
            wait: for threads that hooks started by `asyncio.to_thread`, however long they take.
        """
        if self._thread is None or self._end is None:
            return
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(None if wait and self.lost is None else GRACE_SECONDS)
        if self._thread.is_alive():
            _log.warning("the event loop is still busy with code that cannot be stopped and is left behind")

    def _serve(self) -> None:
        main = self._until_ended()
        try:
            if self._given is not None:
                self._given.run_until_complete(main)
            else:
                with asyncio.Runner() as runner:
                    runner.run(main)
        except BaseException as error:  # noqa: BLE001  # whoever awaits something finds the loop gone
            self._failure = error
        finally:
            main.close()
            self._started.set()

    async def _until_ended(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._started.set()
        await self._end.wait()
