"""Hooks of the jobs that cases run. Workers import them by their names here."""

# ruff: noqa: ARG002  # a hook is given a store that it may not need

from __future__ import annotations

import os
import time
from collections.abc import Awaitable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry
from manyhands.testing.faults import commit
from manyhands.testing.files import add_line
from manyhands.testing.records import Record, described, sized


def data_of(entry: Entry) -> Record:
    """What the entry's stage is about: once there are some, the values."""
    data: Record = entry["raw_data"] if entry["validated_data"] is None else entry["validated_data"]
    return data


class Marks(BaseHook):
    """Adds its name to what it sees.

    Args:
        name: its name.
        priority: as on every hook.
    """

    def __init__(self, name: str = "mark", priority: int = 50) -> None:
        super().__init__(priority)
        self._name = name

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Add it to each entry, and count the visits in its metadata."""
        for entry in entries:
            data = data_of(entry)
            data["marks"] = f"{data.get('marks', '')}{self._name};"
            entry["metadata"][self._name] = entry["metadata"].get(self._name, 0) + 1


class MarksAsync(Marks):
    """Likewise, one record at a time."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Marks`."""
        return super().execute(entries, store)


class TellsBatch(BaseHook):
    """Writes into each record how many it came with, at which place of them, and where."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Do so."""
        for place, entry in enumerate(entries):
            data_of(entry).update(of=len(entries), place=place, pid=os.getpid())


class TellsEntry(BaseHook):
    """Writes into each record what its envelope says."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Do so."""
        for entry in entries:
            told = {key: entry[key] for key in ("id", "position", "status", "errors", "metadata")}
            data_of(entry)["told"] = told


class TellsValue(BaseHook):
    """Writes into each record what its value is in the worker."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Replace the value by its description."""
        for entry in entries:
            data = data_of(entry)
            data["value"] = described(data["value"])


class TellsSize(BaseHook):
    """Writes into each record what its text is like, see `sized`."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Add that to it."""
        for entry in entries:
            data_of(entry)["size"] = sized(data_of(entry)["text"])


class Reverses(BaseHook):
    """Returns the entries in another order, without some of them.

    Args:
        every: one of so many is left out.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """The others, the last one first."""
        return [entry for entry in reversed(entries) if entry["position"] % self._every]


class ReversesAsync(Reverses):
    """Likewise, one record at a time."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Reverses`."""
        return super().execute(entries, store)


class Spoils(BaseHook):
    """Touches everything that it is given, and then fails on some records.

    Args:
        every: one of so many fails.
        replay: as on every hook.
    """

    def __init__(self, every: int, *, replay: bool = True) -> None:
        super().__init__()
        self._every = every
        self.replay = replay

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Touch all of the batch first."""
        for entry in entries:
            data_of(entry)["touched"] = data_of(entry).get("touched", 0) + 1
        for entry in entries:
            if entry["position"] % self._every == 1:
                kind = (ValueError, KeyError, SystemExit)[entry["position"] % 3]
                raise kind(f"boom at {entry['position']} of {object()!r}")


class SpoilsAsync(Spoils):
    """Likewise, one record at a time."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Spoils`."""
        return super().execute(entries, store)


class Stamps(BaseHook):
    """Adds columns of kinds that JSON does not have, from what its setup has put into the store."""

    def setup(self, store: HookStore) -> Awaitable[None] | None:
        """Fill the store."""
        store["rate"] = Decimal("1.10")
        return None

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Add them."""
        for entry in entries:
            made = {"rate": store["rate"] / 3, "day": date(2024, 2, 29), "nan": float("nan"), "set": {"c", "a", "b"}}
            data_of(entry).update(made, nothing=None)


class Lives(BaseHook):
    """Notes its life in a file, and shows that its store lives with it.

    Args:
        path: the file.
        setup: what is done in `setup`, the name of a fault.
        teardown: likewise.
    """

    def __init__(self, path: Path, *, setup: str | None = None, teardown: str | None = None) -> None:
        super().__init__()
        self._path = path.absolute()
        self._faults = (setup, teardown)

    def setup(self, store: HookStore) -> Awaitable[None] | None:
        """Put a token into the store."""
        add_line(self._path, "setup")
        commit(self._faults[0])
        store["token"] = uuid4().hex
        return None

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Note each record, and write the token into it."""
        for entry in entries:
            add_line(self._path, f"record {entry['position']}")
            data_of(entry)["token"] = store["token"]

    def teardown(self, store: HookStore) -> Awaitable[None] | None:
        """Note the token."""
        add_line(self._path, f"teardown {store['token']}")
        commit(self._faults[1])
        return None


class LivesAsync(Lives):
    """Likewise, with coroutines for all three."""

    async def setup(self, store: HookStore) -> None:
        """See `Lives`."""
        super().setup(store)

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Lives`."""
        return super().execute(entries, store)

    async def teardown(self, store: HookStore) -> None:
        """See `Lives`."""
        super().teardown(store)


class WritesStore(BaseHook):
    """Does what it must not: writes into the store while it executes."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Try it."""
        store["late"] = len(entries)


class Faulty(BaseHook):
    """Does what its records say."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Commit their faults."""
        for entry in entries:
            commit(data_of(entry).get("do"))


class FaultyAsync(Faulty):
    """Likewise, one record at a time."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Faulty`."""
        return super().execute(entries, store)


class Paces(BaseHook):
    """Takes a while for each record, and notes when it begins.

    Args:
        path: the file to note it in.
        seconds: how long a record takes.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__()
        self._path, self._seconds = path.absolute(), seconds

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Note the time, by the clock that all processes of a machine share, and sleep."""
        for entry in entries:
            add_line(self._path, f"{entry['position']} {time.time()}")
            time.sleep(self._seconds)


class PacesAsync(Paces):
    """Likewise, one record at a time, without giving way."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Paces`."""
        return super().execute(entries, store)
