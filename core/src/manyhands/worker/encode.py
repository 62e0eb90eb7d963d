"""From values to the bytes of the output: one JSON encoder for all backends, and CSV by the same forms."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property, lru_cache, partial
from io import StringIO
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from pydantic_core import SchemaSerializer, core_schema, to_json, to_jsonable_python

from manyhands.errors import EncodeError
from manyhands.worker.failures import stable
from manyhands.worker.rows import escaped

if TYPE_CHECKING:
    from manyhands.worker.plan import Plan

SCALARS: Final[frozenset[type]] = frozenset(
    {str, int, float, bool, type(None), datetime, date, time, timedelta, Decimal, UUID, bytes}
)
_FLAT: Final[set[type]] = set(SCALARS)
_DEFAULTS: Final[dict[str, Any]] = {"inf_nan_mode": "null"}
_MAX_DEPTH: Final = 100
"""How much of a deeper value an error record shows: writing it must not fail, and readers have limits too."""


class Encoder(Protocol):
    """How ok records become bytes on the worker; picklable."""

    def for_values(self, plan: Plan) -> Callable[[Any], bytes]:
        """What makes the bytes of a value that the plan validated; raises for one that cannot be written."""

    def together(self, plan: Plan) -> Callable[[list[Any]], bytes] | None:
        """What makes one piece of many values that the plan validated, as `join` of their bytes without its end.

        None where it takes one after the other.
        """

    def for_records(self, plan: Plan, records: Sequence[Any]) -> Callable[[Any], bytes]:
        """What makes the bytes of these records, which hooks may have changed; raises as `for_values`' does."""

    def encode(self, record: Any) -> bytes:
        """The bytes of an object of the error output. Must not fail."""

    def join(self, parts: list[bytes]) -> bytes:
        """Consecutive records as one piece."""


@dataclass(frozen=True)
class JSONEncoder:
    """JSON objects joined by a separator.

    Attributes:
        separator: what stands between two records.
        terminator: what stands behind the last record of a piece.
    """

    separator: bytes = b"\n"
    terminator: bytes = b"\n"

    def for_values(self, plan: Plan) -> Callable[[Any], bytes]:
        """The plan's own encoder."""
        return plan.encode

    def together(self, plan: Plan) -> Callable[[list[Any]], bytes] | None:
        """As one array without its brackets, with the separator in each seam."""
        encode_all, seam = plan.encode_all, plan.seam
        if encode_all is None:
            return None
        sewn = seam.replace(b",", self.separator, 1)
        return lambda values: encode_all(values)[1:-1].replace(seam, sewn)

    def for_records(self, plan: Plan, records: Sequence[Any]) -> Callable[[Any], bytes]:
        """`encode_json`, or without its look at each record where one look at all of them is enough."""
        return flat_encoder(**plan.json_modes) if are_flat(records) else partial(encode_json, **plan.json_modes)

    def encode(self, record: Any) -> bytes:
        """The object as JSON, whatever is in it."""
        return encode_leniently(record)

    def join(self, parts: list[bytes]) -> bytes:
        """Records with separators between and a terminator behind; nothing for no records."""
        return self.separator.join(parts) + self.terminator if parts else b""


@dataclass(frozen=True)
class CSVEncoder:
    """CSV lines ending in LF; values in the forms of JSON, None as nothing, containers as JSON text.

    Attributes:
        columns: the header; a missing key is written as nothing.
        delimiter: what separates fields.
        selected: the columns were chosen: other keys are left out. If not, a record that has one is refused.
    """

    columns: tuple[str, ...]
    delimiter: str = ","
    selected: bool = False

    def for_values(self, plan: Plan) -> Callable[[Any], bytes]:
        """By way of the value's dict."""
        return lambda value: self.line(plan.to_dict(value))

    def together(self, plan: Plan) -> None:
        """It takes one after the other."""

    def for_records(self, plan: Plan, records: Sequence[Any]) -> Callable[[Any], bytes]:  # noqa: ARG002  # all alike
        """`line`."""
        return self.line

    def encode(self, record: Any) -> bytes:
        """The object as a line, whatever is in it."""
        return self._write([_lenient_cell(record.get(column)) for column in self.columns])

    def join(self, parts: list[bytes]) -> bytes:
        """The lines."""
        return b"".join(parts)

    def header(self) -> bytes:
        """The header line."""
        return self._strictly(self.columns)

    def line(self, record: Any) -> bytes:
        """A record as a line.

        Raises:
            EncodeError: it is no dict, has a key that is no column, or a value that cannot be written.
        """
        if not isinstance(record, Mapping):
            raise EncodeError(f"a CSV record must be a dict, not {type(record).__name__}")
        if not self.columns:
            raise EncodeError("no record so far has a key to make a CSV header of")
        extra = [key for key in record if key not in self._known]
        if extra and not self.selected:
            raise EncodeError(f"the CSV header has no column {extra[0]!r}", loc=(str(extra[0]),))
        return self._strictly(_cell(record.get(column)) for column in self.columns)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.columns)

    def _strictly(self, cells: Iterable[Any]) -> bytes:
        try:
            return self._write(list(cells))
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"no CSV form: {error}") from error

    def _write(self, cells: list[Any]) -> bytes:
        buffer = StringIO(newline="")
        # Cells with a CR or an LF are only sure to be quoted if both are in the line's end.
        csv.writer(buffer, delimiter=self.delimiter, lineterminator="\r\n").writerow(cells)
        return buffer.getvalue().removesuffix("\r\n").encode() + b"\n"


def encode_json(record: Any, **modes: Any) -> bytes:
    """A record as one JSON text without spaces: nan and inf are null, sets are sorted, dates are ISO 8601.

    Args:
        record: any value whose parts pydantic can serialise.
        modes: the `*_mode` arguments of `pydantic_core.to_json`.

    Raises:
        EncodeError: a value has no JSON form.
    """
    try:
        return to_json(_ordered(record), fallback=_fallback, **(_DEFAULTS | modes))
    except EncodeError:
        raise
    except Exception as error:
        raise EncodeError(f"no JSON form: {error}") from error


def encode_record(record: Any) -> bytes:
    """`encode_json` in the default modes, the fast way where the record allows it."""
    return flat_encoder(**_DEFAULTS)(record) if are_flat((record,)) else encode_json(record)


@lru_cache(maxsize=64)
def flat_encoder(**modes: Any) -> Callable[[Any], bytes]:
    """`encode_json` for values that hold no set and nothing unknown, a third faster: its options are set up once.

    Args:
        modes: the `*_mode` arguments of `pydantic_core.to_json`.
    """
    config: Any = {f"ser_json_{mode.removesuffix('_mode')}": value for mode, value in modes.items()}
    return SchemaSerializer(core_schema.any_schema(), config).to_json


def encode_leniently(record: Any) -> bytes:
    """An object of the error output as JSON: what has no JSON form is written as its `repr` without addresses."""
    try:
        return to_json(_ordered(record), fallback=_describe, **_DEFAULTS)
    except Exception:  # noqa: BLE001  # whatever it was, the second way has an answer for it
        return to_json(_printable(record), **_DEFAULTS)


def are_flat(records: Sequence[Any]) -> bool:
    """All are dicts in which no value can hold a set. Enumerations are learnt on the way."""
    if not {dict}.issuperset(map(type, records)):
        return False
    unknown = set(map(type, chain.from_iterable(map(dict.values, records)))) - _FLAT
    _FLAT.update(cls for cls in unknown if issubclass(cls, Enum) and SCALARS.issuperset(type(m.value) for m in cls))
    return unknown <= _FLAT


def _ordered(value: Any) -> Any:
    """The value with its sets as sorted lists: the order of a set differs from process to process."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [_ordered(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_ordered(item) for item in value), key=lambda item: to_json(item, fallback=_describe))
    return _ordered_parts(value)


def _ordered_parts(value: Any) -> Any:
    """What an object is made of, where sets can be in it; else the object."""
    if isinstance(value, Enum):
        return _ordered(value.value)
    if hasattr(type(value), "__pydantic_serializer__"):
        plain = type(value).__pydantic_serializer__.to_python(value)
        return value if plain is value else _ordered(plain)  # a SecretStr is its own plain form
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: _ordered(getattr(value, part.name)) for part in fields(value)}
    return value


def _fallback(value: Any) -> Any:
    cls: Any = type(value)
    try:
        return _adapter(cls).dump_python(value, mode="json")
    except Exception as error:
        raise EncodeError(f"a value of type {cls.__qualname__} has no JSON form") from error


@lru_cache(maxsize=256)
def _adapter(cls: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _describe(value: Any) -> str:
    try:
        return escaped(stable(repr(value)))
    except Exception:  # noqa: BLE001  # a broken `__repr__` may raise anything
        return f"<{type(value).__qualname__} without a repr>"


def _printable(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911  # one for each kind of value
    if type(value) in SCALARS:
        return escaped(value) if isinstance(value, str | bytes) else value
    if depth == _MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {_printable_key(key): _printable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [_printable(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_printable(item, depth + 1) for item in value), key=to_json)
    if isinstance(value, Enum):
        return _printable(value.value, depth + 1)
    return escaped(value) if isinstance(value, str | bytes) else _describe(value)


def _printable_key(key: Any) -> str:
    try:
        return escaped(key if isinstance(key, str | bytes) else stable(str(key)))
    except Exception:  # noqa: BLE001  # as in `_describe`
        return _describe(key)


def _cell(value: Any) -> Any:
    if value is None or type(value) in (str, int):
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, Enum):
        return _cell(value.value)
    if isinstance(value, dict | list | tuple | set | frozenset | deque):
        return encode_json(value).decode()
    if type(value) is float:
        return value if isfinite(value) else None
    return to_jsonable_python(value, fallback=_fallback)


def _lenient_cell(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return escaped(value)
    if type(value) not in SCALARS:
        return encode_leniently(value).decode()
    try:
        cell = _cell(value)
        return cell if cell is None else str(cell)
    except Exception:  # noqa: BLE001  # an error record is written whatever it holds
        return _describe(value)
