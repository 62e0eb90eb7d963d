"""Models of the jobs that cases run. Workers import them by their names here."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, field_serializer, model_validator

from manyhands.testing.faults import commit


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
