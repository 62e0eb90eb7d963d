"""Names of fields and classes, made of whatever keys a sample has."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel

_USED: Final = frozenset({"dt", "Annotated", "Any", "BaseModel", "BeforeValidator", "ConfigDict", "Decimal", "Field"})
_OURS: Final = frozenset({"Record", "MISSING", "NoneIfEmpty", "NoneIfMissing", "none_if_empty", "none_if_missing"})
_RESERVED: Final = (
    _USED | _OURS | set(keyword.kwlist) | set(dir(BaseModel)) | {"int", "float", "bool", "str", "list", "dict"}
)
_PROTECTED: Final = ("_", "model_validate", "model_dump")
_LONGEST: Final = 32


def field_names(keys: Iterable[str]) -> dict[str, str]:
    """A name for each key: the key itself wherever a field may be called so.

    Args:
        keys: of one object, or the columns of a table.
    """
    keys = list(keys)
    names = {key: key for key in keys if _may_name_a_field(key)}
    for key in keys:
        if key not in names:
            names[key] = _free(_identifier(key), names.values())
    return {key: names[key] for key in keys}


def class_name(key: str, taken: Iterable[str]) -> str:
    """A name for the class of what a key holds.

    Args:
        key: the key.
        taken: names that are other things.
    """
    words = re.findall(r"[^\W_]+", _normal(key))
    name = "".join(word[:1].upper() + word[1:] for word in words)[:_LONGEST]
    # Names that are made for fields have no capitals, so no class is called like one of them.
    if not name[:1].isupper() or name in _RESERVED or hasattr(builtins, name):
        name = f"Item{name}"
    return _free(name if name.isidentifier() else "Item", taken)


def _may_name_a_field(key: str) -> bool:
    is_name = key.isidentifier() and key == _normal(key)
    return is_name and key not in _RESERVED and not key.startswith(_PROTECTED)


def _identifier(key: str) -> str:
    plain = re.sub(r"\W+", "_", _normal(_normal(key).lower())).strip("_")[:_LONGEST].rstrip("_")
    is_name = plain.isidentifier() and not plain.startswith(_PROTECTED)
    name = plain if is_name else f"field_{plain}".rstrip("_")
    if not name.isidentifier():
        return "field"
    return name if _may_name_a_field(name) else f"{name}_"


def _normal(text: str) -> str:
    """The form in which Python takes an identifier."""
    return unicodedata.normalize("NFKC", text)


def _free(name: str, taken: Iterable[str]) -> str:
    taken = set(taken)
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name.rstrip('_')}_{number}"
    return free
