"""What workers write down for the tests, and hooks that wait for one another. Workers import this by its name."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry
from manyhands.testing.files import add_line, lines

_PAUSE_SECONDS: Final = 0.002
_NAME: Final = "manyhands.testing"


@dataclass(frozen=True)
class Note:
    """What a worker wrote down.

    Attributes:
        what: happened: `setup`, `execute`, `teardown`.
        pid, thread: where.
        store: which store the hook was given; None: one that its `setup` had not seen.
        positions: of the records.
    """

    what: str
    pid: int
    thread: int
    store: str | None = None
    positions: tuple[int, ...] = ()


class Notebook:
    """Notes in a file that all workers can reach.

    Args:
        folder: where the file is.
    """

    def __init__(self, folder: Path) -> None:
        self.path: Path = folder / "notes"

    def write(self, what: str, store: str | None = None, positions: tuple[int, ...] = ()) -> None:
        """Add a note, in one piece however many write."""
        add_line(self.path, json.dumps(asdict(Note(what, os.getpid(), threading.get_ident(), store, positions))))

    def read(self, what: str | None = None) -> list[Note]:
        """The notes in their order; those that say this, or all."""
        fields = map(json.loads, lines(self.path))
        notes = [Note(**{**note, "positions": tuple(note["positions"])}) for note in fields]
        return [note for note in notes if what in (None, note.what)]


class Gate:
    """Something that is closed until a test opens it, for workers wherever they are.

    Args:
        folder: where a file says that it is open.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "open"

    def open(self) -> None:
        """Let all pass."""
        self._path.touch()

    @property
    def is_open(self) -> bool:
        """It was opened."""
        return self._path.exists()

    def wait(self, seconds: float) -> None:
        """Wait until it is open, but not for ever."""
        end = time.monotonic() + seconds
        while not self.is_open and time.monotonic() < end:
            time.sleep(_PAUSE_SECONDS)


Deed = Callable[[], object]


class Witness(BaseHook):
    """Notes each call, and does what it is told; deeds are picklable where the hook has to travel.

    Args:
        folder: of the notes.
        deed: done in `execute`, once that is noted.
        setup: done in `setup`, before that is noted.
        teardown: done in `teardown`, before that is noted.
    """

    def __init__(
        self, folder: Path, deed: Deed | None = None, *, setup: Deed | None = None, teardown: Deed | None = None
    ) -> None:
        super().__init__()
        self.notes: Notebook = Notebook(folder)
        self._deeds = {"setup": setup, "execute": deed, "teardown": teardown}

    def setup(self, store: HookStore) -> None:
        """Give the store a name."""
        self._do("setup")
        store[_NAME] = os.urandom(8).hex()
        self.notes.write("setup", store[_NAME])

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        """Note the records."""
        self.notes.write("execute", store.get(_NAME), tuple(entry["position"] for entry in entries))
        self._do("execute")

    def teardown(self, store: HookStore) -> None:
        """Note which store it is."""
        self._do("teardown")
        self.notes.write("teardown", store.get(_NAME))

    def _do(self, what: str) -> None:
        deed = self._deeds[what]
        if deed is not None:
            deed()


def fail() -> None:
    """A deed: raise."""
    raise RuntimeError("it fails")


@dataclass(frozen=True)
class Held:
    """A deed: to wait at a gate.

    Attributes:
        gate: at which.
        seconds: for so long at most.
    """

    gate: Gate
    seconds: float

    def __call__(self) -> None:
        """Wait."""
        self.gate.wait(self.seconds)


@dataclass(frozen=True)
class Spinning:
    """A deed: to compute until a gate is open. Only a kill ends it sooner.

    Attributes:
        gate: whose opening ends it.
        seconds: after which it ends by itself.
    """

    gate: Gate
    seconds: float

    def __call__(self) -> None:
        """Spin."""
        end = time.monotonic() + self.seconds
        while not self.gate.is_open and time.monotonic() < end:
            pass


@dataclass(frozen=True)
class Meeting:
    """A deed: to wait until somebody else does it at the same time. Once somebody has waited in vain nobody does.

    Attributes:
        folder: where those who wait have a file each.
        seconds: for so long at most.
    """

    folder: Path
    seconds: float

    @property
    def took_place(self) -> bool:
        """Two were there at the same time."""
        return (self.folder / "met").exists()

    @property
    def is_over(self) -> bool:
        """It took place, or somebody waited in vain."""
        return self.took_place or (self.folder / "in vain").exists()

    def __call__(self) -> None:
        """Wait for the other."""
        with self._present() as waits:
            while waits():
                time.sleep(_PAUSE_SECONDS)

    async def attend(self) -> None:
        """The same, by awaiting."""
        with self._present() as waits:
            while waits():  # noqa: ASYNC110  # the other may be in another process
                await asyncio.sleep(_PAUSE_SECONDS)

    @contextmanager
    def _present(self) -> Iterator[Callable[[], bool]]:
        """Be there; gives a function that says whether to wait."""
        here, end = self.folder / f"here-{os.urandom(8).hex()}", time.monotonic() + self.seconds
        here.touch()
        try:
            yield lambda: self._goes_on(end)
        finally:
            here.unlink()

    def _goes_on(self, end: float) -> bool:
        if not self.is_over and len(list(self.folder.glob("here-*"))) > 1:
            (self.folder / "met").touch()
        elif not self.is_over and time.monotonic() >= end:
            (self.folder / "in vain").touch()
        return not self.is_over


class Attending(BaseHook):
    """An async hook whose calls meet.

    Args:
        meeting: of its calls.
    """

    def __init__(self, meeting: Meeting) -> None:
        super().__init__()
        self.meeting = meeting

    async def execute(self, entries: list[Entry], store: HookStore) -> None:  # noqa: ARG002  # it is about time alone
        """Meet."""
        await self.meeting.attend()


class Counting(BaseHook):
    """Adds one to `times` in each record: what it sees twice shows it."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:  # noqa: ARG002  # it needs none
        """Count."""
        for entry in entries:
            entry["raw_data"]["times"] += 1
