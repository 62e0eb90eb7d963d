"""Whether the head of the cluster answers, and for how many workers there is room: asked twice a second.

In a thread of its own, because the question may never be answered: when the head is gone Ray waits a minute for
another, and then ends the program. So whatever else asks the head something is done in that thread, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

import ray

if TYPE_CHECKING:
    from manyhands_ray.needs import Needs

_PERIOD_SECONDS: Final = 0.5
_SILENCE_SECONDS: Final = 15.0
_JOIN_SECONDS: Final = 1.0


class Pulse:
    """The thread.

    Args:
        needs: what a worker needs.
        on_beat: called in that thread with the number of workers that there is room for.
    """

    def __init__(self, needs: Needs, on_beat: Callable[[int], None]) -> None:
        self._needs = needs
        self._on_beat = on_beat
        self._last = monotonic()
        self._stopped = threading.Event()
        self._errands: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="manyhands-pulse", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._last = monotonic()
        self._thread.start()

    def run(self, errand: Callable[[], object]) -> None:
        """Call something that asks the head, in the thread; it raises nothing.

        Args:
            errand: the call.
        """
        self._errands.put(errand)

    def stop(self) -> None:
        """Ask no more; one that waits for an answer is left to itself."""
        self._stopped.set()
        self._errands.put(lambda: None)
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    @property
    def silence(self) -> float | None:
        """For how many seconds there was no answer, if that is too long."""
        since = monotonic() - self._last
        return since if since > _SILENCE_SECONDS else None

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                check_connection()
                room = self._needs.places(ray.nodes())
            except Exception:  # noqa: BLE001, S110  # whatever it is, it is no answer
                pass
            else:
                self._last = monotonic()
                self._on_beat(room)
            self._run_errands(monotonic() + _PERIOD_SECONDS)

    def _run_errands(self, until: float) -> None:
        with suppress(Empty):
            while not self._stopped.is_set():
                self._errands.get(timeout=max(until - monotonic(), 0))()


def check_connection() -> None:
    """See that the program is connected: without a connection, many a call of Ray makes one, to a Ray that it starts.

    Raises:
        ConnectionError: it is not.
    """
    if not ray.is_initialized():
        raise ConnectionError("the connection to the Ray cluster is lost")
