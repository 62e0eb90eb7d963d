"""Jobs with everything that backends could disagree on. Workers import the schemas and hooks by their names here."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import time as clock
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # Python 3.11 has one that pydantic does not take

from manyhands import BaseHook, CSVInputAdapter, IterableInputAdapter, JSONInputAdapter
from manyhands.adapters.base import BaseInputAdapter
from manyhands.hooks import HookStore
from manyhands.records import Entry


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Item(BaseModel):
    a: int
    b: str = "-"


class Order(BaseModel):
    """A row of a table: nothing of it calls Python code."""

    id: int
    name: Annotated[str, Field(min_length=1)]
    amount: float | None = None
    due: date | None = None


class Part(BaseModel):
    code: Annotated[str, Field(pattern="^[A-Z]+$")]
    weights: list[float] = []


class Tree(BaseModel):
    """Models within models."""

    model_config = ConfigDict(extra="forbid")

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
    clock: time
    span: timedelta
    key: UUID
    colour: Colour
    level: Level
    tags: set[str]
    numbers: frozenset[int]
    pair: tuple[int, str]
    data: bytes
    ratio: float


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    id: int
    day: date
    colour: Colour = Colour.RED


def odd_object(value: int) -> int:
    if value % 5 == 3:
        raise ValueError(f"{value} is odd, says {object()!r}")
    return value


class Careful(BaseModel):
    """Validators, serializers, a computed field; with what a program sets around them."""

    k: Annotated[int, AfterValidator(odd_object)]
    share: Decimal = Decimal(0)
    at: datetime = datetime(2024, 1, 31, 12, tzinfo=UTC)

    @field_validator("share")
    @classmethod
    def divide(cls, value: Decimal) -> Decimal:
        return value / 7

    @model_validator(mode="after")
    def refuse_sevens(self) -> Careful:
        if self.k % 7 == 0:
            raise PydanticCustomError("seven", "{k} holds a seven", {"k": self.k})
        if self.k % 11 == 0:
            raise KeyError(self.k)
        return self

    @field_serializer("at")
    def in_local_time(self, at: datetime) -> str:
        if self.k % 13 == 0:
            raise RuntimeError(f"{self.k} cannot be written")
        return at.astimezone().isoformat()

    @computed_field
    def twice(self) -> int:
        return self.k * 2


@dataclasses.dataclass
class Point:
    a: int
    b: Annotated[str, Field(max_length=3)] = "-"
    tags: set[str] = field(default_factory=set)


class Loose(TypedDict, total=False):
    a: int
    b: list[Decimal]


class Hits(BaseHook):
    """Whether it hits a record depends on its position alone.

    Args:
        every: hits one of so many.
        replay: may run again.
    """

    def __init__(self, every: int = 4, salt: int = 0, *, replay: bool = True, priority: int = 50) -> None:
        super().__init__(priority=priority)
        self.every, self.salt, self.replay = every, salt, replay

    def hit(self, entries: list[Entry]) -> list[Entry]:
        return [entry for entry in entries if (entry["position"] + self.salt) % self.every == 0]

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        raise NotImplementedError


class Mark(Hits):
    """Changes what the others see: the raw data, and once there are some the values."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for entry in self.hit(entries):
            for data in (entry["validated_data"], entry["raw_data"]):
                if isinstance(data, dict):
                    data["b"] = f"{data.get('b', '')}!"
            tags = entry["metadata"].setdefault("tags", set())
            tags |= {type(self).__name__, f"by {self.every}", "x" * self.every}


class Drop(Hits):
    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        hit = self.hit(entries)
        return [entry for entry in reversed(entries) if entry not in hit]


class Fail(Hits):
    """Has touched the whole batch when it fails."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for entry in entries:
            entry["metadata"]["seen"] = entry["metadata"].get("seen", 0) + 1
            if isinstance(entry["raw_data"], dict):
                entry["raw_data"]["touched"] = True
        hit = self.hit(entries)
        if hit:
            raise [ValueError, KeyError, SystemExit][hit[0]["position"] % 3](f"boom at {hit[0]['id']} of {object()!r}")


class MarkAsync(Mark):
    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        await asyncio.sleep(0)
        return super().execute(entries, store)


class DropAsync(Drop):
    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        await asyncio.sleep(0.001 * (entries[0]["position"] % 3))
        return super().execute(entries, store)


class FailAsync(Fail):
    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        await asyncio.sleep(0)
        return super().execute(entries, store)


class Lookup(Hits):
    """Takes from the store what its setup has put there, and adds columns of every kind."""

    def setup(self, store: HookStore) -> None:
        store["rates"] = {"red": Decimal("1.10"), "blue": Decimal("0.90")}

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for entry in entries:
            rate = store["rates"]["red" if entry["position"] % 2 else "blue"]
            made = {
                "id_": entry["id"],
                "rate": rate / 3,
                "day": date(2024, 2, 29),
                "nothing": None,
                "nan": float("nan"),
            }
            entry["validated_data"] |= {**made, "set": {"c", "a", "b"}, "local": clock.localtime(0).tm_hour}


class CountBatch(BaseHook):
    """What it does depends on who shares the batch."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for place, entry in enumerate(entries):
            entry["validated_data"] |= {"place": place, "of": len(entries)}


class Opaque:
    """What no output can hold. As text it has no address, for hooks make text of it."""

    def __repr__(self) -> str:
        return "opaque"


class Unencodable(Hits):
    """Leaves something that no output can hold."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for entry in self.hit(entries):
            entry["validated_data"]["b"] = Opaque()


class Stuck(Hits):
    """Does not come back from one record as long as a file is there; a worker may be killed meanwhile.

    Args:
        gate: the file.
        position: of the record.
    """

    def __init__(self, gate: Path, position: int) -> None:
        super().__init__()
        self._gate, self._position = gate, position

    def hit(self, entries: list[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry["position"] == self._position]

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        while self.hit(entries) and self._gate.exists():
            clock.sleep(0.005)


class StuckAsync(Stuck):
    """Likewise, awaiting what does not happen."""

    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        if self.hit(entries):
            await asyncio.sleep(60)


class Kill(Hits):
    """Kills its process, at some records."""

    def execute(self, entries: list[Entry], store: HookStore) -> Any:
        for entry in entries:
            if entry["position"] in KILLERS:
                os.kill(os.getpid(), signal.SIGKILL)


class KillAsync(Kill):
    async def execute(self, entries: list[Entry], store: HookStore) -> Any:
        await asyncio.sleep(0)
        super().execute(entries, store)


class Lethal(BaseModel):
    """Kills its process likewise."""

    a: int

    @field_validator("a")
    @classmethod
    def kill(cls, a: int) -> int:
        if a in KILLERS:
            os.kill(os.getpid(), signal.SIGKILL)
        return a


KILLERS = frozenset({3, 4, 40})


def name_entry(position: int) -> str:
    if position % 17 == 16:
        raise LookupError(f"no name for {position}")
    return f"entry {position:03}"


ROWS = [
    *[b"1,plain,1.5,2024-01-31\n", b'2,"with, comma",2,\n', b'3,"say ""hi""",nan,2024-02-29\n'],
    *[b'4,"two\nlines",-0.0,2024-03-01\r\n', b"5,short\n", b"6,long,1,2024-01-01,more\n", b"x,bad,1,\n"],
    *[b'7,a"b"c,2,\n', b"8,\xc3\xa9\xe2\x82\xac,1e400,\n", b"9,\xff\xfe,1,2024-01-01\n", b"\n", b'10,"",3,\n'],
    *[b"12345678901234567890123,big,inf,2024-01-01\n", b"11,late,1,2023-02-29\n", b"12,n,1,2024-12-24\n"],
]
TABLE = b"".join([b"\xef\xbb\xbfid,name,amount,due\r\n", *ROWS * 6, b'13,"never closed,1,2024-01-01\n'])

LINES = b"".join(
    [
        b'{"id":1,"part":{"code":"A"}}\n',
        b'{"id":2,"part":{"code":"B","weights":[1,2.5,NaN]},"next":{"id":3,"part":{"code":"C"}}}\n',
        b' {"id":"4","part":{"code":"D"},"parts":{"x":{"code":"E"},"\xc3\xa9":{"code":"F"}}} \r\n',
        b'{"id":5,"part":{"code":"lower"},"parts":{"y":{"code":1}}}\n',
        b'{"id":6,"part":{"code":"G"},"extra":{"deep":[{}]}}\n',
        *[b"{\n", b"[1,2]\n", b"null\n", b"\n", b'{"id":7,"part":{"code":"\xff"}}\n', b'{"id":1e400}\n'],
        b'{"id":12345678901234567890123,"part":{"code":"H"}}\n',
        b'{"id":8,"id":9,"part":{"code":"I"},"next":null}\n',
    ]
    * 7
)

DAYS = b"".join(
    b'{"id":%d,"day":"2024-01-%02d","colour":"%s"}\n' % (n, n % 33, [b"red", b"blue", b"green"][n % 3])
    for n in range(60)
)


def everything(k: int) -> dict[str, Any]:
    """A record with all kinds of values, good ones and, now and then, a bad one."""
    return {
        "k": k,
        "price": Decimal(k) / 8 if k % 9 else "no price",
        "at": datetime(2024, 1, 31, 12, k % 60, tzinfo=timezone(timedelta(hours=k % 5 - 2)) if k % 2 else None),
        "day": date(2024, 1, 1) + timedelta(days=k),
        "clock": time(k % 24, 30),
        "span": timedelta(hours=-k, microseconds=k),
        "key": UUID(int=k),
        "colour": Colour.RED if k % 4 else "blue",
        "level": Level(k % 2 + 1),
        "tags": {f"tag {n}" for n in range(k % 6)},
        "numbers": frozenset(range(k % 7, 20, 3)),
        "pair": (k, "x"),
        "data": b"\x00\xff" if k % 10 == 5 else b"bytes",
        "ratio": [0.1, float("nan"), float("inf"), -0.0][k % 4],
    }


def every_kind() -> Iterator[Any]:
    yield from map(everything, range(60))
    yield from [17, None, "text", ["a"], {"k": {1: 2}}, {"k": [{"deep": {1, 2}}]}]


def items(count: int = 60) -> Callable[[], Iterator[dict[str, Any]]]:
    """Plain records, some of which do not fit an `Item`."""
    return lambda: ({"a": "bad" if k % 8 == 7 else k, "b": f"b{k}"} for k in range(count))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is the same on every backend.

    Attributes:
        source: makes the input, in a folder.
        counts: records that are ok, rejected and dropped.
        schema: the schema.
        pre, post: the hooks.
        output: name of the output file.
        batch: `max_hook_chunk_size`.
        make_id: `id_generator`.
        by_batch: what comes out depends on which records share a batch, and so on the chunk size.
    """

    source: Callable[[Path], BaseInputAdapter]
    counts: tuple[int, int, int] | None = None
    schema: Any = None
    pre: Sequence[BaseHook] = ()
    post: Sequence[BaseHook] = ()
    output: str = "out.jsonl"
    batch: int | None = None
    make_id: Callable[[int], Any] | None = None
    by_batch: bool = False


def csv_file(data: bytes, **options: Any) -> Callable[[Path], BaseInputAdapter]:
    return lambda folder: CSVInputAdapter(_written(folder / "in.csv", data), **options)


def json_file(data: bytes, name: str = "in.jsonl", **options: Any) -> Callable[[Path], BaseInputAdapter]:
    return lambda folder: JSONInputAdapter(_written(folder / name, data), **options)


def python(records: Any, **options: Any) -> Callable[[Path], BaseInputAdapter]:
    return lambda folder: IterableInputAdapter(records, **options)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


ARRAY = json.dumps([{"a": n if n % 6 else "no number", "b": "é" * (n % 4)} for n in range(50)]).encode()
SIMPLE = b"a,b\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(90))

JOBS: dict[str, Job] = {
    "csv": Job(source=csv_file(TABLE), schema=Order),
    "csv without schema": Job(source=csv_file(TABLE)),
    "csv to csv": Job(source=csv_file(TABLE), schema=Order, output="out.csv"),
    "csv, some rows": Job(source=csv_file(TABLE, skip_rows=5, limit=50), schema=Order, output="out.json"),
    "csv, some rows of hooks": Job(
        source=csv_file(SIMPLE, skip_rows=11, limit=33), schema=Item, pre=[Mark(3)], post=[Drop(5)]
    ),
    "json lines": Job(source=json_file(LINES), schema=Tree),
    "json lines without schema": Job(source=json_file(LINES), output="out.jsonl.gz"),
    "json lines, strict": Job(source=json_file(DAYS), schema=Strict),
    "json lines, strict with hooks": Job(source=json_file(DAYS), schema=Strict, pre=[Mark(4)]),
    "json lines, some": Job(source=json_file(LINES, skip_rows=3, limit=40), schema=Tree, pre=[Drop(6)]),
    "json array": Job(source=json_file(ARRAY, "in.json"), schema=Item, output="out.json"),
    "json array, some": Job(source=json_file(ARRAY, "in.json", skip_rows=7, limit=20), schema=Item),
    "all kinds": Job(source=python(every_kind), schema=Everything),
    "all kinds without schema": Job(source=python(every_kind)),
    "all kinds to csv": Job(source=python(every_kind), schema=Everything, output="out.csv"),
    "all kinds through hooks": Job(source=python(every_kind, skip_rows=2, limit=50), pre=[Mark(2)], post=[Lookup()]),
    "validators": Job(
        source=python([{"k": k, "share": str(k)} for k in range(80)]), schema=Careful, post=[Lookup(), Mark(3)]
    ),
    "validators without hooks": Job(source=python([{"k": k, "share": k} for k in range(80)]), schema=Careful),
    "dataclass": Job(source=python(items()), schema=Point, post=[Mark(3)]),
    "typed dict": Job(source=python([{"a": k, "b": [k, "1.5"] * (k % 3)} for k in range(40)]), schema=Loose),
    "hooks": Job(
        source=csv_file(SIMPLE),
        schema=Item,
        pre=[Mark(2), Fail(7), Drop(9, 1)],
        post=[Fail(11, 3), Mark(3), Lookup(), Drop(5)],
        make_id=name_entry,
    ),
    "hooks to csv": Job(
        source=python(items(80)), schema=Item, pre=[Drop(6), Fail(10)], post=[Lookup()], output="out.csv"
    ),
    "async hooks": Job(
        source=python(items(80)),
        schema=Item,
        pre=[MarkAsync(2), FailAsync(7, replay=False), DropAsync(9, 1)],
        post=[DropAsync(5), FailAsync(11, 3), MarkAsync(3)],
    ),
    "hooks that must not run twice": Job(
        source=python(items(80)),
        schema=Item,
        pre=[Mark(2), Fail(13), Fail(7, replay=False)],
        post=[Fail(11), Drop(5)],
        by_batch=True,
    ),
    "small batches": Job(
        source=csv_file(SIMPLE),
        schema=Item,
        pre=[Fail(14, replay=False)],
        post=[CountBatch(), FailAsync(9)],
        batch=3,
        by_batch=True,
    ),
    "what cannot be written": Job(source=python(items(50)), post=[Mark(4), Unencodable(6)]),
}
