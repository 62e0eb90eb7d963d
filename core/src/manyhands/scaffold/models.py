"""The models that a sample's records fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from manyhands.errors import InputError
from manyhands.scaffold.names import class_name
from manyhands.scaffold.sample import Sample
from manyhands.scaffold.shapes import MOST_KEYS, Shape
from manyhands.scaffold.texts import IN_CSV, Texts

TOP: Final = "Record"
"""The name of the model of a record."""

_DEEPEST: Final = 5


@dataclass(frozen=True, slots=True)
class Attribute:
    """A field of a model.

    Attributes:
        key: its name in the data.
        source: its type as it is written.
        blank: what makes None of the texts that stand for a missing value; empty where none does.
        kept: texts that may stand for one, but are words here.
        optional: it may be left out.
    """

    key: str
    source: str
    blank: Literal["", "NoneIfMissing", "NoneIfEmpty"] = ""
    kept: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Models:
    """All that a module of models says.

    Attributes:
        classes: the fields of each model by its name; what is part of another comes before it.
        missing: the texts that stand for a missing value where there is no text else.
    """

    classes: Mapping[str, tuple[Attribute, ...]]
    missing: frozenset[str] = frozenset()


def infer(sample: Sample) -> Models:
    """Models that all records of the sample fit; reads it.

    Raises:
        InputError: a record cannot be read, or the records have no common form.
    """
    return _of_table(sample) if sample.columns else _of_objects(sample)


def _of_table(sample: Sample) -> Models:
    columns = {name: Texts(IN_CSV) for name in sample.columns}
    for rows in sample.pieces():
        for name, texts in columns.items():
            texts.add_cells({row[name] for row in rows})
    record = tuple(_column(name, texts) for name, texts in columns.items())
    return Models({TOP: record}, frozenset().union(*(texts.missing for texts in columns.values())))


def _column(name: str, texts: Texts) -> Attribute:
    if texts.source != "str":
        return Attribute(name, texts.source, blank="NoneIfMissing" if texts.missing else "")
    # Between words NA may be one: it is Namibia.
    kept = tuple(sorted(texts.missing - {""}))
    return Attribute(name, "str", blank="NoneIfEmpty" if "" in texts.missing else "", kept=kept)


def _of_objects(sample: Sample) -> Models:
    top = Shape()
    for records in sample.pieces():
        for record in records:
            top.add(record)
    if len(top.fields) > MOST_KEYS:
        raise InputError(f"{sample.path}: its records have more than {MOST_KEYS} different keys; describe them by hand")
    classes = _Classes(top)
    classes.define(TOP, top, 0)
    return Models(classes.defined)


class _Classes:
    """The models of a record and of the objects in it.

    Args:
        top: what the records look like.
    """

    def __init__(self, top: Shape) -> None:
        self.defined: dict[str, tuple[Attribute, ...]] = {}
        self._taken = {TOP, *_keys(top)}  # a class that is called like a field is hidden by it

    def define(self, name: str, shape: Shape, depth: int) -> None:
        """Define the model of an object, behind those of its parts."""
        self.defined[name] = tuple(
            self._attribute(key, part, depth, optional=part.seen < shape.objects) for key, part in shape.fields.items()
        )

    def _attribute(self, key: str, shape: Shape, depth: int, *, optional: bool) -> Attribute:
        if optional:
            shape.kinds.add(type(None))  # what stands for it then
        return Attribute(key, self._source(key, shape, depth), optional=optional)

    def _source(self, key: str, shape: Shape, depth: int) -> str:
        found = list(self._sources(key, shape, depth + 1)) if depth < _DEEPEST else []
        absent = ["None"] if type(None) in shape.kinds else []
        return " | ".join([*found, *absent]) if found else "Any"

    def _sources(self, key: str, shape: Shape, depth: int) -> Iterator[str]:
        """The types of what is there, each for another kind of JSON value."""
        kinds = shape.kinds
        if bool in kinds:
            yield "bool"
        if int in kinds and (float not in kinds or shape.large):
            yield "int"
        if float in kinds:
            yield "float"
        if str in kinds:
            yield shape.texts.source
        if list in kinds and shape.items:
            yield f"list[{self._source(key, shape.items, depth)}]"
        if dict in kinds:
            yield self._object(key, shape, depth)

    def _object(self, key: str, shape: Shape, depth: int) -> str:
        if shape.is_mapping:
            return "dict[str, Any]"
        name = class_name(key, self._taken)
        self._taken.add(name)
        self.define(name, shape, depth)
        return name


def _keys(shape: Shape) -> Iterator[str]:
    for key, part in shape.fields.items():
        yield key
        yield from _keys(part)
    if shape.items:
        yield from _keys(shape.items)
