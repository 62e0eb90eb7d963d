"""How many threads may work at a time, where most of them only wait for the event loop."""

from __future__ import annotations

import threading
from types import TracebackType


class Desks:
    """A thread needs one to work at. While it waits for the loop another may sit there.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._taken: set[int] = set()
        self._lifted = False

    def take(self) -> None:
        """Wait for a free one."""
        if not self._lifted:
            self._free.acquire()
            self._taken.add(threading.get_ident())

    def leave(self, thread: int) -> bool:
        """Make room.

        Args:
            thread: whose it is: an abandoned thread may not be able to do it itself.

        Returns:
            Whether the thread had one.
        """
        try:
            self._taken.remove(thread)
        except KeyError:
            return False
        self._free.release()
        return True

    def lift(self) -> None:
        """From now on nobody needs one: the run is over, and whoever still waits must not wait for the others."""
        self._lifted = True
        self._free.release(threading.active_count())

    def __enter__(self) -> None:
        self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(threading.get_ident())
