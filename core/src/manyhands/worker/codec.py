"""Records as bytes: msgpack with extension types, optionally lz4.

Values arrive with equal type and value: besides msgpack's own types datetime, date, time, timedelta, Decimal, UUID,
Enum, set, frozenset, tuple, complex and integers of any length. Subclasses of these and of dict, list, str, int, float
and bytes arrive as the base type, a bytearray as bytes. Nothing is pickled; see
https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import lz4.frame
import msgpack

from manyhands.errors import EncodeError
from manyhands.executor import Compression
from manyhands.worker.rows import BadRow


def dumps(value: Any) -> bytes:
    """The value as msgpack.

    Raises:
        EncodeError: it holds an object of a type that cannot travel, or is nested too deeply.
    """
    return _dumps(value, 0)


def _dumps(value: Any, depth: int) -> bytes:
    try:
        packed: bytes = msgpack.packb(
            value, default=partial(_extend, depth), strict_types=True, unicode_errors="surrogatepass"
        )
    except (ValueError, RecursionError, OverflowError) as error:
        raise EncodeError(f"the record cannot be packed: {error}") from error
    return packed


def loads(data: bytes | memoryview) -> Any:
    """The value again."""
    return msgpack.unpackb(data, ext_hook=_restore, strict_map_key=False, unicode_errors="surrogatepass")


def check_own(value: Any) -> None:
    """Refuse msgpack's own extension types: only this module may say what an extension means on the other side.

    Raises:
        EncodeError: the value is one, or holds one.
    """
    if isinstance(value, msgpack.ExtType | msgpack.Timestamp):
        raise EncodeError(f"a value of type {type(value).__name__} of msgpack cannot travel to a worker")
    if isinstance(value, dict):
        for key, item in value.items():
            check_own(key)
            check_own(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            check_own(item)


def compress(data: bytes, compression: Compression) -> bytes:
    """The bytes as an lz4 frame, or as they are."""
    return bytes(lz4.frame.compress(data)) if compression else data


def decompress(data: bytes) -> bytes:
    """The bytes of an lz4 frame."""
    return bytes(lz4.frame.decompress(data))


def _pack_datetime(value: datetime) -> list[Any]:
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return [naive, value.fold, zone, None if zone else _offset(value)]


def _offset(value: datetime | time) -> list[int] | None:
    offset = value.utcoffset()
    return None if offset is None else _pack_timedelta(offset)


def _unpack_datetime(parts: list[Any]) -> datetime:
    naive, fold, zone, offset = parts
    return datetime.fromisoformat(naive).replace(fold=fold, tzinfo=ZoneInfo(zone) if zone else _fixed(offset))


def _fixed(offset: list[int] | None) -> tzinfo | None:
    if offset is None:
        return None
    delta = _unpack_timedelta(offset)
    return timezone(delta) if delta else UTC


def _pack_time(value: time) -> list[Any]:
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, zone, None if zone else _offset(value)]


def _unpack_time(parts: list[Any]) -> time:
    naive, fold, zone, offset = parts
    return time.fromisoformat(naive).replace(fold=fold, tzinfo=ZoneInfo(zone) if zone else _fixed(offset))


def _pack_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _unpack_timedelta(parts: list[int]) -> timedelta:
    return timedelta(*parts)


def _pack_enum(value: Enum) -> list[Any]:
    """By name, since any object can be a value; only combined flags have no name of their own."""
    cls = type(value)
    try:
        known = _enum_class(cls.__module__, cls.__qualname__) is cls
    except (ImportError, AttributeError, EncodeError):
        known = False
    if not known:
        name = f"{cls.__module__}.{cls.__qualname__}"
        raise EncodeError(f"enum {name} cannot be found by this name; define it at module level to let it travel")
    if cls.__members__.get(value.name) is value:
        return [cls.__module__, cls.__qualname__, value.name, None]
    return [cls.__module__, cls.__qualname__, None, value.value]


def _unpack_enum(parts: list[Any]) -> Any:
    module, qualname, name, value = parts
    cls = _enum_class(module, qualname)
    return cls(value) if name is None else cls[name]


def _enum_class(module: str, qualname: str) -> type[Enum]:
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    # The name comes from data: whatever it resolves to must be an enumeration before it is called.
    if not (isinstance(found, type) and issubclass(found, Enum)):
        raise EncodeError(f"{module}.{qualname} is no Enum")
    return found


def _pack_complex(value: complex) -> list[float]:
    return [value.real, value.imag]


# One row a type: (extension code, type, to plain parts, from plain parts). The order matters: a datetime is a date,
# an IntEnum an int. The codes are the wire format; never renumber them.
_EXTENSIONS: Final[tuple[tuple[int, type, Callable[[Any], Any], Callable[[Any], Any]], ...]] = (
    (1, Enum, _pack_enum, _unpack_enum),
    (2, datetime, _pack_datetime, _unpack_datetime),
    (3, date, date.isoformat, date.fromisoformat),
    (4, time, _pack_time, _unpack_time),
    (5, timedelta, _pack_timedelta, _unpack_timedelta),
    (6, Decimal, str, Decimal),
    (7, UUID, lambda value: value.bytes, lambda raw: UUID(bytes=raw)),
    (8, frozenset, list, frozenset),
    (9, set, list, set),
    (10, tuple, list, tuple),
    (11, complex, _pack_complex, lambda parts: complex(*parts)),
    (12, BadRow, lambda row: [row.raw, row.error], lambda parts: BadRow(*parts)),
)
_BIG_INT: Final = 13
_MAX_DEPTH: Final = 32
"""Extensions inside extensions. Each level costs msgpack some 50 KiB of the C stack: 150 of them crash the process."""
_RESTORE: Final[dict[int, Callable[[Any], Any]]] = {code: load for code, _, _, load in _EXTENSIONS}
# What makes the plain value of a subclass, past whatever conversions of its own it defines.
_BASES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (dict, dict),
    (list, list),
    (str, str.__str__),
    (float, float.__float__),
    (bytes, bytes),
)


def _extend(depth: int, value: Any) -> Any:
    for code, cls, dump, _ in _EXTENSIONS:
        if isinstance(value, cls):
            if depth == _MAX_DEPTH:
                raise EncodeError(f"a value nested deeper than {_MAX_DEPTH} tuples and sets cannot travel to a worker")
            return msgpack.ExtType(code, _dumps(dump(value), depth + 1))
    if isinstance(value, int):
        return _pack_int(int.__int__(value))
    for base, plain in _BASES:
        if isinstance(value, base):
            return plain(value)
    raise EncodeError(f"a value of type {type(value).__qualname__} cannot travel to a worker")


def _pack_int(value: int) -> Any:
    if -(1 << 63) <= value < (1 << 64):
        return value
    length = value.bit_length() // 8 + 1
    return msgpack.ExtType(_BIG_INT, value.to_bytes(length, "big", signed=True))


def _restore(code: int, data: bytes) -> Any:
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    return _RESTORE[code](loads(data))
