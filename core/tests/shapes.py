"""Schemas of every shape that pydantic knows, for the tests of the plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    OnErrorOmit,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SecretStr,
    Tag,
    WrapValidator,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict  # Python 3.11 has one that pydantic does not take

Item = TypeVar("Item")


class Colour(Enum):
    RED = "red"
    TWO = 2


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Bare(BaseModel):
    """Nothing but plain fields."""

    a: int
    b: str
    c: float
    d: bool


class Times(BaseModel):
    a: date
    b: datetime
    c: time
    d: timedelta


class Exact(BaseModel):
    a: Decimal
    b: UUID | None = None
    c: Level = Level.LOW


class Constrained(BaseModel):
    a: Annotated[int, Field(gt=0, multiple_of=2)]
    b: Annotated[str, Field(min_length=1, max_length=3, pattern="^[a-z0-9]+$")]
    c: Annotated[Decimal, Field(max_digits=4, decimal_places=2)] = Decimal(1)
    d: Annotated[list[int], Field(max_length=2)] = []


class Aliased(BaseModel):
    a: int = Field(alias="A")
    b: str = Field("?", validation_alias=AliasChoices("x", AliasPath("c", 0)))
    c: int = Field(3, serialization_alias="out")


class Defaults(BaseModel):
    a: int = 7
    b: list[int] = Field(default_factory=list)
    c: str | None = None
    d: list[str] = ["x"]


class DependentDefault(BaseModel):
    a: int = 1
    b: int = Field(default_factory=lambda data: data["a"] + 1)


class CheckedDefault(BaseModel):
    model_config = ConfigDict(validate_default=True)
    a: int = "5"  # type: ignore[assignment]
    b: int = Field("x", validate_default=True)  # type: ignore[assignment]


class Choices(BaseModel):
    a: Colour
    b: Literal["x", 1] | None = None
    c: Level | None = None


class EnumValues(BaseModel):
    model_config = ConfigDict(use_enum_values=True)
    a: Colour
    b: Level = Field(Level.HIGH, validate_default=True)


class Inner(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")
    a: int
    b: timedelta = timedelta(1)


class Nested(BaseModel):
    a: Inner | None = None
    b: list[Inner] = []
    c: dict[str, Inner] = {}


class FieldChecks(BaseModel):
    a: int
    b: Annotated[int, BeforeValidator(lambda value: 0 if value == "" else value)] = 1
    c: Annotated[str, AfterValidator(str.strip), WrapValidator(lambda value, go: go(value) + "!")] = "c"

    @field_validator("b")
    @classmethod
    def larger(cls, value: int, info: Any) -> int:
        if value < info.data.get("a", 0):
            raise ValueError("b must not be less than a")
        return value


class PlainCheck(BaseModel):
    a: Annotated[Any, PlainValidator(lambda value: {value, "z"} if isinstance(value, str) else repr(value))]


class ModelChecks(BaseModel):
    a: int
    b: int = 0

    @model_validator(mode="before")
    @classmethod
    def rename(cls, data: Any) -> Any:
        if isinstance(data, dict) and "c" in data:
            data["a"] = data.pop("c")
        return data

    @model_validator(mode="after")
    def ordered(self) -> ModelChecks:
        if self.b > self.a:
            raise ValueError("b is more than a")
        return self


class Written(BaseModel):
    a: int
    b: date
    c: Annotated[float, PlainSerializer(lambda value: f"{value:.2f}")] = 1.0

    @field_serializer("a", when_used="json")
    def as_text(self, value: int) -> str:
        return f"<{value}>"

    @computed_field
    @property
    def double(self) -> int:
        return self.a * 2


class WrittenSets(BaseModel):
    """A serializer for JSON only, beside a set."""

    a: int
    b: set[str] = set()
    c: Inner | None = None

    @field_serializer("a", when_used="json")
    def as_text(self, value: int) -> str:
        return f"<{value}>"


class WholeWritten(BaseModel):
    a: int
    b: int = 0

    @model_serializer
    def pair(self) -> dict[str, int]:
        return {"sum": self.a + self.b}


class Excluded(BaseModel):
    a: int
    b: str = Field("secret", exclude=True)
    c: SecretStr = SecretStr("x")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    a: int
    b: date | None = None
    c: Colour = Colour.RED


class ExtraAllowed(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class ExtraForbidden(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    b: str = "b"


class ForbiddenAndChecked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: Annotated[int, AfterValidator(abs)]
    b: str = "b"


class Root(RootModel[list[int]]):
    pass


class RootOfAnything(RootModel[Any]):
    pass


@dataclasses.dataclass
class PlainData:
    a: int
    b: ClassVar[int] = 3
    c: str = "c"


@dataclasses.dataclass
class MoreData(PlainData):
    d: set[int] = dataclasses.field(default_factory=set)


@dataclass(config=ConfigDict(ser_json_timedelta="float", extra="forbid"))
class CheckedData:
    a: Annotated[int, Field(ge=0)]
    d: timedelta = timedelta(seconds=1)
    c: set[int] = Field(default_factory=set)


class Typed(TypedDict, total=False):
    a: int
    b: set[str]


class Sets(BaseModel):
    a: set[int]
    b: frozenset[str] = frozenset()
    c: dict[str, set[str]] = {}


class FrozenPoint(BaseModel):
    model_config = ConfigDict(frozen=True)
    a: int
    b: str = "b"


class SetOfModels(BaseModel):
    a: set[FrozenPoint]


class Anything(BaseModel):
    a: Any
    b: object = None
    c: dict[str, Any] = {}


class Configured(BaseModel):
    model_config = ConfigDict(
        ser_json_timedelta="float", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )
    a: timedelta
    b: bytes = b"\xff"
    c: float = 1.0
    d: set[float] = set()


class Trimmed(BaseModel):
    model_config = ConfigDict(
        str_strip_whitespace=True, str_to_lower=True, str_max_length=4, coerce_numbers_to_str=True
    )
    a: str
    b: str = "B"


class Private(BaseModel):
    a: int
    _seen: list[int] = PrivateAttr(default_factory=list)

    def model_post_init(self, context: Any, /) -> None:
        self.a += 1


class OwnInit(BaseModel):
    a: int

    def __init__(self, **data: Any) -> None:
        super().__init__(a=data.get("c", data.get("a")))


class Box(BaseModel, Generic[Item]):  # Python 3.11 has no other way
    a: Item
    b: list[Item] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    a: int


class Dog(BaseModel):
    kind: Literal["dog"]
    a: str


class Pet(BaseModel):
    a: Annotated[Cat | Dog, Field(discriminator="kind")]


class Union(BaseModel):
    a: int | str
    b: date | str = "b"
    c: tuple[int, ...] | list[str] | None = None


class Base(BaseModel):
    a: int


class Sub(Base):
    a: Annotated[int, Field(lt=5)]
    b: str = "sub"


class Upper(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper)
    a: int
    b: str = "b"


class ByName(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper, populate_by_name=True)
    a: int
    b: str = "b"


class WrittenByAlias(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    a: int = Field(alias="A")
    b: int = Field(0, serialization_alias="bb")


class Lazy(BaseModel):
    model_config = ConfigDict(defer_build=True)
    a: int
    b: Later | None = None


class Later(BaseModel):
    b: int


class Tree(BaseModel):
    a: int
    b: list[Tree] = []


class Stream(BaseModel):
    a: Iterable[int]


class Omitting(BaseModel):
    a: list[OnErrorOmit[int]]
    b: Annotated[int, Tag("b")] = 0


# Those whose fields are validated into a dict, without an instance of the model.
DICT_PLANS = (
    Bare, Times, Exact, Constrained, Aliased, Defaults, Choices, FieldChecks, ExtraForbidden, FrozenPoint,
    ForbiddenAndChecked, Trimmed, Base, Sub, Upper, ByName, Strict,
)  # fmt: skip
INSTANCE_PLANS = (
    DependentDefault, CheckedDefault, Nested, PlainCheck, ModelChecks, Written, WrittenSets, WholeWritten, Excluded,
    ExtraAllowed, Root, RootOfAnything, PlainData, MoreData, CheckedData, Typed, Sets, SetOfModels, Anything,
    Configured, EnumValues, Private, OwnInit, Box[int], Pet, Union, WrittenByAlias, Lazy, Tree, Stream, Omitting,
)  # fmt: skip
