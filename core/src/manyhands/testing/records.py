"""Records of the jobs that cases run, and what they must be like when they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from manyhands.testing.models import Colour, Level

Record = dict[str, Any]


def rows(count: int, **more: Any) -> list[Record]:
    """Records 0 to count.

    Args:
        count: how many.
        more: what else each has.
    """
    return [{"k": k, **more} for k in range(count)]


def failing_source(good: int) -> Iterator[Record]:
    """So many records; then the source fails."""
    yield from rows(good)
    raise RuntimeError("the source fails")


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
