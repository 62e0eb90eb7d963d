"""What JSON values in one place of a sample have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from manyhands.scaffold.texts import IN_JSON, LARGEST_EXACT, Texts

_FEW_KEYS: Final = 20
MOST_KEYS: Final = 1000
"""Keys of an object; with more of them they are data themselves."""


@dataclass(slots=True)
class Shape:
    """The values seen in one place.

    Attributes:
        kinds: the types that JSON gives them.
        texts: the strings.
        items: the items of arrays.
        fields: the values of objects, by their keys.
        objects: how many objects there were.
        seen: how many values.
        large: an integer that no float holds was among them.
    """

    kinds: set[type[Any]] = field(default_factory=set)
    texts: Texts = field(default_factory=lambda: Texts(IN_JSON))
    items: Shape | None = None
    fields: dict[str, Shape] = field(default_factory=dict)
    objects: int = 0
    seen: int = 0
    large: bool = False

    def add(self, value: Any) -> None:
        """Take a value."""
        self.seen += 1
        self.kinds.add(type(value))
        if isinstance(value, str):
            self.texts.add((value,))
        elif isinstance(value, dict):
            self._add_object(value)
        elif isinstance(value, list):
            self.items = self.items or Shape()
            for item in value:
                self.items.add(item)
        elif type(value) is int:
            self.large |= abs(value) > LARGEST_EXACT

    def _add_object(self, value: dict[str, Any]) -> None:
        self.objects += 1
        for key, item in value.items():
            if key in self.fields or len(self.fields) <= MOST_KEYS:  # one too many tells
                self.fields.setdefault(key, Shape()).add(item)

    @property
    def is_mapping(self) -> bool:
        """The keys of the objects are data: there are none, too many, or many of which each object has a few."""
        keys, found = len(self.fields), sum(shape.seen for shape in self.fields.values())
        return not keys or keys > MOST_KEYS or (keys > _FEW_KEYS and found * 2 < keys * self.objects)
