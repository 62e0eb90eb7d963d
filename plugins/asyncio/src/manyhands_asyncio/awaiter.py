"""From the threads that run chunks to the event loop, and back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from manyhands.worker.awaiting import Interrupted, cancel_once, outcome

if TYPE_CHECKING:
    from manyhands_asyncio.desks import Desks
    from manyhands_asyncio.host import LoopHost

_LOOK_SECONDS: Final = 0.25
_STOPPED_SECONDS: Final = 1.0
"""A loop that stands still for longer is taken for stopped: its owner may run it in steps."""


class Call:
    """One coroutine on its way to the loop and back.

    Args:
        coroutine: the coroutine.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self.done: threading.Event = threading.Event()

    def begin(self) -> None:
        """Called on the loop."""
        self._task = asyncio.get_running_loop().create_task(outcome(self._coroutine))
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """Called on the loop."""
        if self._task is not None:
            cancel_once(self._task)

    def drop(self) -> None:
        """It will never begin."""
        if self._task is None:
            self._coroutine.close()

    def result(self) -> Any:
        """What the coroutine returned or raised, once it is done."""
        try:
            if self._error is not None:
                raise self._error
            return self._value
        finally:
            self._error = None  # which holds this frame

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._coroutine.close()  # if it was cancelled before it began
        if task.cancelled():
            self._error = Interrupted("the event loop cancelled the call")
        elif (error := task.exception()) is not None:
            self._error = error
        else:
            self._value, self._error = task.result()
        self.done.set()


class LoopAwaiter:
    """Runs coroutines on one loop for many threads.

    Args:
        host: of the loop.
        desks: that the threads leave while they wait.
    """

    def __init__(self, host: LoopHost, desks: Desks) -> None:
        self._host = host
        self._desks = desks
        self._calls: dict[int, Call] = {}

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """See `manyhands.worker.awaiting.Awaiter`."""
        call, thread = Call(coroutine), threading.get_ident()
        self._calls[thread] = call
        had_desk = self._desks.leave(thread)
        try:
            self._wait(call)
            return call.result()
        finally:
            del self._calls[thread]
            if had_desk:
                self._desks.take()

    def interrupt(self, thread: int) -> None:
        """See `manyhands.worker.awaiting.Awaiter`."""
        self._desks.leave(thread)
        call = self._calls.get(thread)
        if call is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._host.loop.call_soon_threadsafe(call.cancel)

    def _wait(self, call: Call) -> None:
        try:
            self._check()
            self._begin(call)
            since = monotonic()
            while not call.done.wait(_LOOK_SECONDS):
                since = monotonic() if self._host.loop.is_running() else since
                if monotonic() - since > _STOPPED_SECONDS or self._host.loop.is_closed():
                    self._host.lost = "the event loop was stopped"
                self._check()
        except Interrupted:
            call.drop()
            raise

    def _begin(self, call: Call) -> None:
        try:
            self._host.loop.call_soon_threadsafe(call.begin)
        except RuntimeError:
            raise Interrupted("the event loop is closed") from None

    def _check(self) -> None:
        if self._host.lost is not None:
            raise Interrupted(self._host.lost)
