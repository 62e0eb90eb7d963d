"""A worker as its supervisor sees it: an actor, the calls that it has to answer, and where it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum, auto
from functools import cache
from time import monotonic
from typing import Any, Final

import msgpack
import ray

from manyhands.chunks import ChunkResult
from manyhands.executor import Progress
from manyhands.processes.output import WorkerLog
from manyhands.worker.cell import read_progress
from manyhands.worker.transport import dump_chunk
from manyhands_ray.actor import ASIDE, Actor
from manyhands_ray.board import Board, pid_space
from manyhands_ray.line import Line, Task
from manyhands_ray.pulse import check_connection
from manyhands_ray.whereabouts import Whereabouts
from manyhands_ray.workshop import Workshop

_NEAR_SECONDS: Final = 1.0
_FAR_SECONDS: Final = 0.1
_KILL_SECONDS: Final = 0.5
HERE: Final = pid_space()
"""Where process ids and boards are those of this program."""


class State(Enum):
    """What a worker is up to: `STARTING` until it has the job."""

    STARTING = auto()
    SETTING_UP = auto()
    READY = auto()
    BUSY = auto()
    ENDING = auto()
    GONE = auto()


class Hand:
    """A worker.

    Args:
        number: it has no other's.
        shop: where it works.
        actor: it, as `new_actor` gave it.

    Raises:
        OSError: there is no room for its board.
    """

    def __init__(self, number: int, shop: Workshop, actor: Any) -> None:
        self._shop = shop
        self._actor = actor
        self._board = Board.create(shop.folder / f"{shop.boards}{number}")
        self._killed: float | None = None
        self._far = Whereabouts()
        self._wishes = (False, False)
        self._log: WorkerLog | None = None
        self._pid: int | None = None
        self.state: State = State.STARTING
        self.line: Line = Line(self._board)
        self.was_ready: bool = False
        self.is_near: bool = False
        self.name: str = ""
        self.host: str = "a node of the cluster"

    # What it is asked. Each answer arrives as a call of `then`, in the supervisor's thread.

    def ask_hello(self, then: Callable[[bytes | BaseException], None]) -> None:
        """Ask it who it is."""
        self._ask(self._actor.hello, then, str(self._board.path), self._board.token)

    def ask_set_up(self, then: Callable[[bytes | BaseException], None]) -> None:
        """Give it the job."""
        self.state = State.SETTING_UP
        self._ask(self._actor.set_up, then, self._shop.job)

    @property
    def has_room(self) -> bool:
        """It can be given a call: it has none, or it sees its board and has but one."""
        is_at_one = self.state is State.BUSY and self.is_near and self.line.open_calls == 1
        return self._killed is None and (self.state is State.READY or is_at_one)

    def give(self, tasks: list[Task], then: Callable[[bytes | BaseException], None]) -> None:
        """Give it chunks in one call: to run them now if it has none, else when what it has is answered."""
        if self.state is State.READY:
            self._far.begin()
        self.state = State.BUSY
        message = msgpack.packb([dump_chunk(chunk) for chunk, _ in tasks])
        call = self.line.add(tasks)
        self._ask(self._actor.run, then, message, call if self.is_near else 0)

    def ask_tear_down(self, then: Callable[[bytes | BaseException], None]) -> None:
        """Let it run the hooks' `teardown`."""
        self.state = State.ENDING
        self._ask(self._actor.tear_down, then)

    def attend(self, then: Callable[[bytes | BaseException], None]) -> None:
        """Ask it where it is and what it prints; the answer may take a second, or for ever."""
        seconds = _NEAR_SECONDS if self.is_near else _FAR_SECONDS
        self._ask(self._actor.attend, then, seconds, *self._wishes)

    def cancel(self) -> None:
        """Let it begin no new record."""
        self._board.cancel()
        if not self.is_near and self.was_ready:
            self._actor.cancel.remote()

    def _ask(self, method: Any, then: Callable[[bytes | BaseException], None], *arguments: Any) -> None:
        answered = self._shop.answered
        try:
            check_connection()
            answer: Future[bytes] = method.remote(*arguments).future()
        except Exception as error:  # noqa: BLE001  # the connection is lost, say: then the worker is
            refused = error
            answered(lambda: then(refused))
            return
        answer.add_done_callback(lambda done: answered(lambda: then(_outcome(done))))

    # What it answered.

    def meet(self, answer: bytes) -> dict[str, str]:
        """Take in who it is; what runs there."""
        about = msgpack.unpackb(answer)
        self._pid, self.host = about["pid"], about["host"]
        self.is_near = about["near"] and about["space"] == HERE != ""
        self._board.unlink()
        self._log = WorkerLog(about["pid"])
        versions: dict[str, str] = about["versions"]
        return versions

    def be_ready(self, name: str) -> None:
        """It has passed its setup."""
        self.state, self.was_ready, self.name = State.READY, True, name

    def take_heed(self, answer: bytes) -> None:
        """Take in where it is, and log what it has printed."""
        word, output, note = msgpack.unpackb(answer)
        self._far.hear(word)
        self.log(output)
        self._wishes = self._shop.on_note(note) if note else (False, False)

    def log(self, output: bytes) -> None:
        """Log what it has printed."""
        if output and self._log is not None:
            # A handler of the person's that fails loses lines, not the run.
            with suppress(Exception):
                self._log.feed(output)

    def settle(self, count: int) -> tuple[list[Task | None], list[Task]]:
        """It has answered; see `Line.settle`."""
        settled = self.line.settle(count)
        self.state = State.BUSY if self.line.open_calls else State.READY
        return settled

    # Where it is.

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where it is in this chunk, as far as that is known here."""
        task = self.line.sole
        if task is None or task[1] is not future:
            return None
        if not self.is_near:
            return self._far.progress(task[0], self._shop.batch_size, self.name)
        return self._read_board(task)

    def last_progress(self) -> Progress | None:
        """Where it died: only where its board is, that is known."""
        task = self.line.task
        return self._read_board(task) if self.is_near and task is not None else None

    def _read_board(self, task: Task) -> Progress | None:
        return read_progress(self._board.word[0], task[0], self._shop.batch_size, self.name)

    @property
    def has_begun(self) -> bool:
        """It has begun its chunk, or nobody here can know."""
        return not self.is_near or self._board.begun > self.line.done

    # Its end.

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self._killed is None:
            self._killed = monotonic()
            with suppress(Exception):  # Ray may be gone
                check_connection()
                ray.kill(self._actor, no_restart=True)

    def finish_off(self) -> None:
        """Kill its process, if it was to end and Ray has not done it by now."""
        if self._killed is None or monotonic() - self._killed < _KILL_SECONDS or not self.is_alive:
            return
        with suppress(OSError):
            os.kill(self._pid or 0, signal.SIGKILL)

    @property
    def is_alive(self) -> bool:
        """Its process is there; False where nobody here can know."""
        if not self.is_near or self._pid is None:
            return False
        try:
            os.kill(self._pid, 0)
        except OSError:
            return False
        return True

    def bury(self) -> None:
        """Release everything of it."""
        self.kill()
        if self._log is not None:
            with suppress(Exception):  # as for `log`
                self._log.close()
        self._board.unlink()
        self._board.close()
        self.state = State.GONE


def new_actor(options: dict[str, Any]) -> Any:
    """An actor; may take a minute, if the head of the cluster is gone.

    Args:
        options: of it.

    Raises:
        Exception: Ray refuses: the connection is lost, say.
    """
    check_connection()
    return _class().options(**options).remote()


def _outcome(done: Future[bytes]) -> bytes | BaseException:
    return done.exception() or done.result()


@cache
def _class() -> Any:
    """The class of the actors; one, or Ray would send it anew for each of them.

    Nothing is retried by Ray: who is to blame, and what runs again, the driver says.
    """
    return ray.remote(concurrency_groups={ASIDE: 2}, max_restarts=0, max_task_retries=0)(Actor)
