"""Hooks of the pipes that cases run on engines. Workers import this by its name."""

# ruff: noqa: ARG002  # a hook is given a store that it may not need

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry
from manyhands.testing.notes import Gate, Notebook


class Row(BaseModel):
    """A row of a table."""

    a: int
    b: str = "none"


class Places(BaseHook):
    """Writes into each record where it is, and how many it came with."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        """Do so."""
        for place, entry in enumerate(entries):
            entry["raw_data"]["b"] = f"{entry['position']} at {place} of {len(entries)}"
            entry["metadata"]["id"] = entry["id"]


class PlacesAsync(Places):
    """Likewise, one record at a time."""

    async def execute(self, entries: list[Entry], store: HookStore) -> None:  # type: ignore[override]  # hooks may be
        """See `Places`."""
        super().execute(entries, store)


class Sieve(BaseHook):
    """Drops some records and fails on others.

    Args:
        drop: one of so many is dropped.
        fail: likewise.
    """

    def __init__(self, drop: int, fail: int) -> None:
        super().__init__()
        self._drop, self._fail = drop, fail

    def execute(self, entries: list[Entry], store: HookStore) -> list[Entry]:
        """Fail, or return what is not dropped."""
        for entry in entries:
            if entry["position"] % self._fail == 1:
                raise ValueError(f"{entry['position']} fails")
        return [entry for entry in entries if entry["position"] % self._drop]


class Slow(BaseHook):
    """Takes its time.

    Args:
        seconds: for each record.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        """Sleep."""
        time.sleep(self._seconds * len(entries))


class Halts(BaseHook):
    """Waits at gates.

    Args:
        gates: by the position of the record that waits there.
        seconds: for so long at most.
    """

    def __init__(self, gates: Mapping[int, Gate], seconds: float) -> None:
        super().__init__()
        self._gates, self._seconds = dict(gates), seconds

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        """Wait."""
        for entry in entries:
            if entry["position"] in self._gates:
                self._gates[entry["position"]].wait(self._seconds)


class Census(BaseHook):
    """Notes how many pipes there are at a time.

    Args:
        folder: where each has a file.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.notes: Notebook = Notebook(folder)

    def setup(self, store: HookStore) -> None:
        """Be there, and note who is."""
        store["here"] = self._folder / f"here-{os.urandom(8).hex()}"
        store["here"].touch()
        there = len(list(self._folder.glob("here-*")))
        self.notes.write("setup", positions=(there,))
        time.sleep(0.05)  # so that others come to see it

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Nothing."""

    def teardown(self, store: HookStore) -> None:
        """Be there no more."""
        store["here"].unlink()


class Unfit(BaseHook):
    """Cannot be started: its setup fails."""

    def setup(self, store: HookStore) -> None:
        """Fail."""
        raise RuntimeError("it fails")

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Nothing."""


class Witless(BaseHook):
    """Holds what may not be picklable.

    Args:
        thing: that it holds.
    """

    def __init__(self, thing: object) -> None:
        super().__init__()
        self.thing = thing

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Nothing."""
