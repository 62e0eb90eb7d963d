"""Where a worker's coroutines run: by default on an event loop of the worker's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol


class Interrupted(BaseException):  # no Exception: whatever catches the failures of hooks must let it through
    """What was awaited has been cancelled from outside, or its event loop is gone; `str()` of it says which."""


class Awaiter(Protocol):
    """Runs coroutines for threads that have no event loop. An executor with a loop for all its threads brings one."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What the coroutine returns; the calling thread waits for it.

        Raises:
            Interrupted: it was cancelled from outside, or can never end. Whatever else the coroutine raises goes
                through, also a `CancelledError` of its own.
        """

    def interrupt(self, thread: int) -> None:
        """Cancel what a thread waits for, if it does. Called from another thread.

        Args:
            thread: its `threading.get_ident()`.
        """


class OwnLoop:
    """An event loop that is run by the one thread that waits for it, and made when it is first needed."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """See `Awaiter.run`."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            value, cancelled = self._runner.run(self._noted(coroutine))
        except asyncio.CancelledError:
            raise Interrupted("the call was cancelled") from None
        if cancelled is not None:
            raise cancelled
        return value

    def interrupt(self, thread: int) -> None:  # noqa: ARG002  # there is only the one
        """See `Awaiter.interrupt`."""
        task = self._task
        if task is not None:
            with suppress(RuntimeError):  # the loop has been closed
                task.get_loop().call_soon_threadsafe(cancel_once, task)

    def close(self) -> None:
        """Close the loop, if there is one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    async def _noted(self, coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, asyncio.CancelledError | None]:
        self._task = asyncio.current_task()
        try:
            return await outcome(coroutine)
        finally:
            self._task = None


def cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task, unless it is at what it does when it is cancelled."""
    if not task.cancelling():
        task.cancel()


async def outcome(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, asyncio.CancelledError | None]:
    """What the coroutine returns, or the cancellation that it ended with by itself.

    Raises:
        CancelledError: the task around it was cancelled, which afterwards nobody could tell from the other.
    """
    task = asyncio.current_task()
    try:
        return await coroutine, None
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling():
            raise
        return None, error
