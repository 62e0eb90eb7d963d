"""What the tests of this plugin share. Their workers import it by the name `plugins.zoosync.tests.helpers`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import LockKind, open_lock
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.slots import SLOT
from manyhands_zoosync.taskqueue import SharedTaskQueue

LIMIT = 20.0


def wait_until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.005)


@contextmanager
def shared_queue(num_slots: int, workers: int, kind: LockKind = "robust") -> Iterator[SharedTaskQueue]:
    """A queue that all its users have in this process."""
    layout = Layout(num_slots, workers, 64, 0)
    segment = Segment.create(layout.size)
    queue = SharedTaskQueue(segment, layout, open_lock(segment, layout.lock, kind, create=True))
    try:
        yield queue
    finally:
        queue.close()
        segment.close()


def slots(*ids: int) -> bytes:
    return b"".join(SLOT.pack(tsk_id, 0, 0, 0, b"") for tsk_id in ids)


def once(path: str) -> bool:
    """Whether nobody has asked this before, in any process."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What workers do.


def same(value: Any) -> Any:
    return value


def add(left: Any, right: Any = 1) -> Any:
    return left + right


def fail(text: str) -> None:
    raise ValueError(text)


def pid(_: int) -> int:
    time.sleep(0.001)
    return os.getpid()


def die_once(path: str) -> str:
    if once(path):
        die()
    return "survived"


def always_die() -> None:
    die()


def leave(code: int) -> None:
    os._exit(code)


def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def note(path: str, word: str) -> str:
    with Path(path).open("a") as file:
        file.write(f"{word}\n")
    return word


def size(data: bytes) -> int:
    return len(data)


def many(count: int) -> bytes:
    return b"x" * count


def die_with_the_lock(path: str, how: str) -> str:
    """From here on, this worker dies in its next claim, with the lock in its hands."""
    claim = SharedTaskQueue.claim

    def dying(self: SharedTaskQueue, worker: int, most: int) -> Any:
        head = self._head[0]
        found = claim(self, worker, most)
        if found is not None and once(path):
            if how == "before the head":
                self._head[0] = head
            elif how == "before the claim":
                self._head[0], self._claims[worker][1] = head, 0
            die()
        return found

    SharedTaskQueue.claim = dying
    return how
