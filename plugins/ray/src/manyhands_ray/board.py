"""A few words that a worker and the program share where both are on one machine: a file that both have mapped.

    word 0    where the worker is, see `manyhands.worker.cell`
    word 1    how many chunks it has begun, or is about to if it may
    word 2    1 once no new record may start
    word 3    a random number, by which a worker knows that the file is the one that is meant
    word 4    twice the number of the last call that may go on, and 1 more if that one is to begin nothing more

Each word is written and read as a whole. A worker says that it begins a chunk, and then looks whether it may; the
program says that it may not, waits for longer than a write takes to be seen, and then looks what has begun (Dekker's
algorithm: one of the two sees the other). So what is not on the board by then never begins.
"""

from __future__ import annotations

import mmap
import os
import secrets
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Final, Self

from manyhands.processes.owner import owner_of

_WORDS: Final = 5

_SEEN_SECONDS: Final = 0.001
_PAUSE_SECONDS: Final = 0.0002
_LONGEST_PAUSE_SECONDS: Final = 0.005

KIND: Final = "rayboard"
"""In the names of the files."""


class Board:
    """The file, mapped.

    Args:
        path: of it.

    Raises:
        OSError, ValueError: there is none, or it is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * _WORDS)
        self.words: memoryview = memoryview(self._map).cast("Q")

    @classmethod
    def sweep(cls, folder: Path) -> None:
        """Remove those that programs left behind which were killed while a worker started."""
        for path in folder.glob(f"manyhands-*-{KIND}*"):
            owner = owner_of(path.name)
            if owner is not None and not owner.may_live():
                with suppress(OSError):  # another user's
                    path.unlink()

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new one, all zero but for the random number."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, 8 * _WORDS)
        finally:
            os.close(descriptor)
        board = cls(path)
        board.words[3] = secrets.randbits(64)
        return board

    @property
    def word(self) -> memoryview:
        """That in which the worker says where it is."""
        return self.words[:1]

    @property
    def begun(self) -> int:
        """How many chunks the worker has begun."""
        return self.words[1]

    def begin(self, call: int) -> bool:
        """The worker begins its next chunk, if it may.

        Args:
            call: number of the call that it is at; 0: nobody stops it.
        """
        self.words[1] += 1
        if not call or self.words[4] == 2 * call:
            return True
        self.words[1] -= 1
        return False

    def cancel(self) -> None:
        """No new record may start."""
        self.words[2] = 1

    @property
    def is_cancelled(self) -> bool:
        """No new record may start."""
        return self.words[2] != 0

    def permit(self, call: int, *, skipped: bool) -> None:
        """A call may go on; those before it have been answered.

        Args:
            call: number of it, from 1.
            skipped: it has nothing to do any more.
        """
        self.words[4] = 2 * call + skipped

    def stop(self, call: int) -> None:
        """Let a call begin nothing more; what it has begun is on the board after that.

        Args:
            call: number of it.
        """
        self.permit(call, skipped=True)
        sleep(_SEEN_SECONDS)

    def wait(self, call: int) -> None:
        """Wait until a call may go on, or is to begin nothing.

        Args:
            call: number of it.
        """
        pause = _PAUSE_SECONDS
        while self.words[4] < 2 * call:
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    @property
    def token(self) -> int:
        """The random number."""
        return self.words[3]

    def unlink(self) -> None:
        """Remove the file; who has it mapped keeps it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        self.words.release()
        self._map.close()


def pid_space() -> str:
    """Where process ids are those of the program: its machine, and its container."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return ""
