"""What the texts in one place of a sample have in common: a type that reads each of them and loses nothing."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

MISSING: Final = frozenset(
    {"", "-", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "Null", "null", "None", "none", "\\N"}
)
"""How tables write that there is no value."""

LARGEST_EXACT: Final = 2**53
"""Beyond it a float does not hold every integer."""

_ZONE: Final = r"(Z|[+-]\d{2}:?\d{2})?"
_CLOCK: Final = r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_INTEGER: Final = r"0|-?[1-9]\d*"
_NUMBER: Final = r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?"

_SURE_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Reading:
    """A type that a text may be read as.

    Attributes:
        source: the type as it stands in a model.
        pattern: how its texts look. pydantic takes more than is meant: `1_000` and ` 1` as int, `12` as a datetime.
        validate: pydantic's own validation.
        loses: what is read is less than what was written.
        wider: reads all that this one reads, and more; it takes its place where this one fails.
    """

    source: str
    pattern: re.Pattern[str]
    validate: Callable[[str], Any]
    loses: Callable[[str, Any], bool] | None = None
    wider: Reading | None = None

    def fit(self, text: str) -> Reading | None:
        """What is left of it behind the text: itself, the wider one or nothing."""
        if self.reads(text):
            return self
        return self.wider and self.wider.fit(text)

    def reads(self, text: str) -> bool:
        """The text is one of this type."""
        if not self.pattern.fullmatch(text):
            return False
        try:
            value = self.validate(text)
        except ValidationError:
            return False
        return self.loses is None or not self.loses(text, value)


def _reading(source: str, kind: Any, pattern: str, **more: Any) -> Reading:
    # ASCII: \d is no digit of another script.
    return Reading(source, re.compile(pattern, re.ASCII), TypeAdapter(kind).validator.validate_python, **more)


def _is_blurred(text: str, value: float) -> bool:
    """The float, written with as many digits, is another number."""
    if (len(text) <= _SURE_DIGITS and "e" not in text.lower()) or text == repr(value):  # fast where it is sure
        return False
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return True
    return not isfinite(value) or number != Decimal(f"{value:.{len(number.as_tuple().digits) - 1}e}")


IN_JSON: Final = (
    _reading("dt.date", dt.date, r"\d{4}-\d{2}-\d{2}"),
    _reading("dt.datetime", dt.datetime, rf"\d{{4}}-\d{{2}}-\d{{2}}[T ]{_CLOCK}{_ZONE}"),
    _reading("dt.time", dt.time, _CLOCK),
)
"""What may be written as a string where numbers and booleans have a form of their own."""

IN_CSV: Final = (
    _reading("int", int, _INTEGER),
    _reading("float", float, _NUMBER, loses=_is_blurred, wider=_reading("Decimal", Decimal, _NUMBER)),
    _reading("bool", bool, "(?i:true|false)"),
    *IN_JSON,
)
"""What may be written where all is text; the first that reads everything is taken."""


@dataclass(slots=True)
class Texts:
    """The texts seen in one place.

    Attributes:
        readings: the types that read all of them so far.
        missing: the ones among them that may say that there is no value.
        some: there were others.
    """

    readings: tuple[Reading, ...]
    missing: set[str] = field(default_factory=set)
    some: bool = False

    def add(self, texts: Iterable[str]) -> None:
        """Take texts that are values."""
        for text in texts:
            self.some = True
            if not self.readings:
                return
            self.readings = tuple(left for reading in self.readings if (left := reading.fit(text)))

    def add_cells(self, texts: set[str]) -> None:
        """Take texts of which some may say that there is no value."""
        self.missing |= texts & MISSING
        self.add(texts - MISSING)

    @property
    def source(self) -> str:
        """The type of all of them."""
        return self.readings[0].source if self.some and self.readings else "str"
