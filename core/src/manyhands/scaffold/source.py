"""The text of a module of models, laid out as formatters do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from manyhands.scaffold.models import Attribute, Models
from manyhands.scaffold.names import field_names

_WIDTH: Final = 88
_SOME: Final = 3

_NONE_IF_EMPTY: Final = '''

def none_if_empty(value: object) -> object:
    """An empty text stands for a value that is missing."""
    return None if value == "" else value


NoneIfEmpty = BeforeValidator(none_if_empty)
'''

_NONE_IF_MISSING: Final = '''


def none_if_missing(value: object) -> object:
    """Each of these texts stands for a value that is missing."""
    return None if isinstance(value, str) and value in MISSING else value


NoneIfMissing = BeforeValidator(none_if_missing)
'''


def source_of(models: Models, title: str) -> str:
    """The module.

    Args:
        models: what it defines.
        title: of its docstring.
    """
    classes = [f"\n\n{_class(name, attributes)}" for name, attributes in models.classes.items()]
    code = "".join([*_validators(models), *classes])
    return f'"""{title}"""\n\n{_imports(models, aliased="Field(" in code)}{code}'


def listed(texts: Sequence[str]) -> str:
    """The texts, or the first of many."""
    return ", ".join(map(literal, texts[:_SOME])) + (" and others" if len(texts) > _SOME else "")


def _validators(models: Models) -> Iterator[str]:
    fields = [attribute for attributes in models.classes.values() for attribute in attributes]
    if any(attribute.blank == "NoneIfMissing" or attribute.kept for attribute in fields):
        texts = [literal(text) for text in sorted(models.missing)]
        yield "\n" + _laid_out("MISSING = {", texts, "}") + _NONE_IF_MISSING
    if any(attribute.blank == "NoneIfEmpty" for attribute in fields):
        yield _NONE_IF_EMPTY


def _imports(models: Models, *, aliased: bool) -> str:
    sources = " ".join(attribute.source for attributes in models.classes.values() for attribute in attributes)
    typing = ["Annotated"] * bool(models.missing) + ["Any"] * bool(re.search(r"\bAny\b", sources))
    pydantic = ["BaseModel", *["BeforeValidator"] * bool(models.missing), "ConfigDict", *["Field"] * aliased]
    standard = ["import datetime as dt\n"] * ("dt." in sources)
    standard += ["from decimal import Decimal\n"] * bool(re.search(r"\bDecimal\b", sources))
    standard += [f"from typing import {', '.join(typing)}\n"] * bool(typing)
    return "".join([*standard, *["\n"] * bool(standard), f"from pydantic import {', '.join(pydantic)}\n"])


def _class(name: str, attributes: Sequence[Attribute]) -> str:
    names = field_names(attribute.key for attribute in attributes)
    fields = "".join(_field(names[attribute.key], attribute) for attribute in attributes)
    config = '    model_config = ConfigDict(extra="forbid")  # else it drops them unseen\n'
    return f"class {name}(BaseModel):\n{config}" + (f"\n{fields}" if fields else "")


def _field(name: str, attribute: Attribute) -> str:
    kind = f"Annotated[{attribute.source} | None, {attribute.blank}]" if attribute.blank else attribute.source
    if name == attribute.key:
        return f"{_comment(attribute)}    {name}: {kind}{' = None' if attribute.optional else ''}\n"
    default = ["default=None"] if attribute.optional else []
    return (
        _comment(attribute)
        + _laid_out(f"    {name}: {kind} = Field(", [*default, f"alias={literal(attribute.key)}"], ")")
        + "\n"
    )


def _comment(attribute: Attribute) -> str:
    if not attribute.kept:
        return ""
    return f"    # {listed(attribute.kept)} is kept. None instead: Annotated[str | None, NoneIfMissing]\n"


def _laid_out(head: str, items: Sequence[str], tail: str) -> str:
    """On one line, or where that is too long on three, or with a line for each item."""
    line = f"{head}{', '.join(items)}{tail}"
    if len(line) <= _WIDTH:
        return line
    margin = " " * (len(head) - len(head.lstrip()))
    inner = f"{margin}    {', '.join(items)}"
    if len(inner) > _WIDTH or tail == "}":
        inner = "\n".join(f"{margin}    {item}," for item in items)
    return f"{head}\n{inner}\n{margin}{tail}"


def literal(text: str) -> str:
    """The text as a string of Python's, in double quotes unless only those would have to be escaped."""
    quoted = repr(text)
    if quoted[0] == '"' or ('"' in text and "'" not in text):
        return quoted
    inner = quoted[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{inner}"'
