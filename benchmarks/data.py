"""Generated input: the same rows on every machine, kept in a cache folder.

Six columns, about 83 bytes a row as CSV and 138 as JSONL. Nothing is quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = Literal["csv", "jsonl"]

VERSION = 1
"""Part of the file names: raise it whenever the rows change."""
BAD_EVERY = 100
BAD_AT = 57
BLOCK = 10_000
FIRST = ("ada", "alan", "barbara", "claude", "donald", "edsger", "frances", "grace")
LAST = ("allen", "cerf", "dijkstra", "goldberg", "hopper", "johnson", "lamarr", "ng")


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a generated file holds.

    Attributes:
        kind: csv or jsonl.
        rows: how many.
        bad: one row in a hundred has an amount that is no number.
    """

    kind: Kind
    rows: int
    bad: bool = False

    @property
    def file_name(self) -> str:
        """Where it is kept in the cache folder."""
        return f"rows-{VERSION}-{self.rows}{'-bad' if self.bad else ''}.{self.kind}"

    @property
    def bad_rows(self) -> int:
        """How many rows do not fit the model."""
        return (self.rows - BAD_AT + BAD_EVERY - 1) // BAD_EVERY if self.bad else 0


def is_bad(position: int) -> bool:
    """Whether this row does not fit the model, in a dataset with bad rows."""
    return position % BAD_EVERY == BAD_AT


def ensure(dataset: Dataset, folder: Path) -> Path:
    """The dataset's file, generated if it is not there yet."""
    path = folder / dataset.file_name
    if not path.exists():
        aside = path.with_name(f"{path.name}.part")
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_text(dataset))
        aside.rename(path)
    return path


def _text(dataset: Dataset) -> Iterator[str]:
    """The file's text, some thousand rows at a time."""
    line = _csv_line if dataset.kind == "csv" else _jsonl_line
    if dataset.kind == "csv":
        yield "id,name,email,amount,created,active\n"
    for start in range(0, dataset.rows, BLOCK):
        stop = min(start + BLOCK, dataset.rows)
        yield "".join([line(i, dataset.bad and is_bad(i)) for i in range(start, stop)])


def _csv_line(i: int, bad: bool) -> str:
    first, last, amount, created, active = _values(i)
    shown = "n/a" if bad else amount
    return f"{i},{first} {last},{first}.{last}.{i}@example.com,{shown},{created},{active}\n"


def _jsonl_line(i: int, bad: bool) -> str:
    first, last, amount, created, active = _values(i)
    shown = '"n/a"' if bad else amount
    return (
        f'{{"id":{i},"name":"{first} {last}","email":"{first}.{last}.{i}@example.com",'
        f'"amount":{shown},"created":"{created}","active":{active}}}\n'
    )


def _values(i: int) -> tuple[str, str, str, str, str]:
    """Values that look random and depend on nothing but the row's number."""
    x = (i ^ 0x9E3779B9) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    x ^= x >> 16
    amount = f"{x % 100_000 / 100:.2f}"
    created = f"2024-{x % 12 + 1:02d}-{x % 28 + 1:02d}T{x % 24:02d}:{x % 60:02d}:{(x >> 8) % 60:02d}"
    return FIRST[x & 7], LAST[x >> 4 & 7], amount, created, "true" if x >> 9 & 1 else "false"
