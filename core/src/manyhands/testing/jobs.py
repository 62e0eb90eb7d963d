"""Hooks, models and functions of the jobs that cases run. Workers import them by their names here."""

# ruff: noqa: ARG002  # a hook is given a store that it may not need

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, Field, field_serializer, model_validator

from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry
from manyhands.testing.faults import commit

Record = dict[str, Any]


def rows(count: int, **more: Any) -> list[Record]:
    """Records 0 to count.

    Args:
        count: how many.
        more: what else each has.
    """
    return [{"k": k, **more} for k in range(count)]


def data_of(entry: Entry) -> Record:
    """What the entry's stage is about: once there are some, the values."""
    data: Record = entry["raw_data"] if entry["validated_data"] is None else entry["validated_data"]
    return data


def note(path: Path, what: object) -> None:
    """Add a line to a file that several processes write: in one piece, that lines do not mix."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{what}\n".encode())
    finally:
        os.close(file)


def notes(path: Path) -> list[str]:
    """The lines of the file."""
    return path.read_text().splitlines() if path.exists() else []


# Models.


class Row(BaseModel):
    """A record with a number, and what it does."""

    k: int
    do: str | None = None


class FaultyRow(Row):
    """Does it when it is validated."""

    @model_validator(mode="before")
    @classmethod
    def act(cls, record: Any) -> Any:
        """Commit the fault of the record."""
        commit(record.get("do"))
        return record


class FaultyWhenWritten(Row):
    """Does it when it is written."""

    @field_serializer("do")
    def act(self, fault: str | None) -> str | None:
        """Commit the fault."""
        commit(fault)
        return fault


class Colour(Enum):
    """An enumeration whose values are texts."""

    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    """One whose values are numbers."""

    LOW = 1
    HIGH = 2


class Order(BaseModel):
    """A row of a table."""

    id: int
    name: Annotated[str, Field(min_length=1)]
    amount: float | None = None
    due: date | None = None


class Part(BaseModel):
    """A model within a model."""

    code: Annotated[str, Field(pattern="^[A-Z]+$")]
    weights: list[float] = []


class Tree(BaseModel):
    """A model with models in it, and with itself."""

    id: int
    part: Part
    parts: dict[str, Part] = {}
    next: Tree | None = None


class Everything(BaseModel):
    """One field of each kind that has no form of its own in JSON."""

    k: int
    price: Decimal
    at: datetime
    day: date
    clock: clock
    span: timedelta
    key: UUID
    colour: Colour
    level: Level
    tags: set[str]
    pair: tuple[int, str]
    data: bytes
    ratio: float


def _refuse_sevens(value: int) -> int:
    if value % 7 == 0:
        raise ValueError(f"{value} holds a seven, says {object()!r}")
    return value


class Careful(BaseModel):
    """Validators and serializers of the person's."""

    k: Annotated[int, AfterValidator(_refuse_sevens)]
    text: str = ""

    @field_serializer("text")
    def shout(self, text: str) -> str:
        """The text in capitals; one number cannot be written."""
        if self.k % 13 == 0:
            raise RuntimeError(f"{self.k} cannot be written")
        return text.upper()


def everything(k: int) -> Record:
    """A record that fits `Everything`, now and then but for one field."""
    return {
        "k": k,
        "price": Decimal(k) / 8 if k % 9 else "no price",
        "at": datetime(2024, 1, 31, 12, k % 60, tzinfo=timezone(timedelta(hours=k % 5 - 2))),
        "day": date(2024, 1, 1) + timedelta(days=k),
        "clock": clock(k % 24, 30),
        "span": timedelta(hours=-k, microseconds=k),
        "key": UUID(int=k),
        "colour": Colour.RED if k % 4 else "blue",
        "level": Level(k % 2 + 1),
        "tags": {f"tag {n}" for n in range(k % 6)},
        "pair": (k, "x"),
        "data": b"bytes",
        "ratio": [0.1, float("nan"), float("inf"), -0.0][k % 4],
    }


VALUES: Final[dict[str, Any]] = {
    "nothing": None,
    "truth": True,
    "number": -3,
    "largest of 64 bits": 2**64 - 1,
    "beyond 64 bits": -(10**40),
    "fraction": 0.1,
    "negative zero": -0.0,
    "not a number": float("nan"),
    "infinity": float("-inf"),
    "empty text": "",
    "text": 'quotes ", commas, tabs\t, lines\n and nul\x00',
    "text of all planes": "é€🙂\u202e",
    "half a surrogate pair": "\ud800",
    "bytes": b"\x00\xff",
    "naive datetime": datetime(2024, 2, 29, 23, 59, 59, 999999),  # noqa: DTZ001  # these travel, too
    "datetime with zone": datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    "date": date(1, 1, 1),
    "time": clock(12, 30, fold=1),
    "timedelta": timedelta(days=-1, microseconds=1),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "enum": Colour.RED,
    "enum of numbers": Level.HIGH,
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "tuple": (1, (2, [3])),
    "complex": complex(1, -2),
    "nested": {"a": [{"b": {"c": (None, {1.5})}}], "": {}},
    "keys of all kinds": {1: "a", None: "b", (1, 2): "c"},
}
"""Values that must arrive as they were sent, by what they are."""


def described(value: Any) -> str:
    """The value such that equal means of equal type too, at every depth, in whatever process."""
    if isinstance(value, dict):
        inner = [f"{described(key)}: {described(item)}" for key, item in value.items()]
    elif isinstance(value, set | frozenset):
        inner = sorted(map(described, value))
    elif isinstance(value, list | tuple):
        inner = list(map(described, value))
    else:
        return f"{type(value).__name__} {value!a}"
    return f"{type(value).__name__} [{', '.join(inner)}]"


def sized(text: str) -> str:
    """How long a text is, and how it begins and ends."""
    return f"{len(text)} {text[:9]} {text[-9:]}"


# Hooks.


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
        note(self._path, "setup")
        commit(self._faults[0])
        store["token"] = uuid4().hex
        return None

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """Note each record, and write the token into it."""
        for entry in entries:
            note(self._path, f"record {entry['position']}")
            data_of(entry)["token"] = store["token"]

    def teardown(self, store: HookStore) -> Awaitable[None] | None:
        """Note the token."""
        note(self._path, f"teardown {store['token']}")
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
            note(self._path, f"{entry['position']} {time.time()}")
            time.sleep(self._seconds)


class PacesAsync(Paces):
    """Likewise, one record at a time, without giving way."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        """See `Paces`."""
        return super().execute(entries, store)


# Functions of maps.


class Refused(Exception):
    """What a call raises: not one of Python's own types."""


def refuse_some(number: int) -> int:
    """The number; some are refused, one exits."""
    if number % 3 == 1:
        raise Refused(number, "no")
    if number == 5:  # one of them
        raise SystemExit(number)
    return number


def slow_at_first(number: int) -> int:
    """The number; the first ones take longest."""
    time.sleep(0.05 if number < 2 else 0.001)  # two of them
    return number


def add(one: int, other: int) -> int:
    """Their sum."""
    return one + other


async def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def die_at(position: int) -> Callable[[int], int]:
    """A function that kills its process at this number."""

    def fatal(number: int) -> int:
        commit("SIGKILL" if number == position else None)
        return number

    return fatal


def failing_source(good: int) -> Iterator[Record]:
    """So many records; then the source fails."""
    yield from rows(good)
    raise RuntimeError("the source fails")
