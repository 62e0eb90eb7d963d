"""Checks the options that a person gives a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from manyhands.config.load import allowed
from manyhands.driver.options import RunOptions
from manyhands.errors import OptionsError
from manyhands.plugins.spec import Backend


def check_options(backend: Backend, options: dict[str, Any], beside: Sequence[str] = ()) -> BaseModel:
    """The options, checked by the backend's own model.

    Args:
        backend: whose.
        options: by name.
        beside: other names that would do where these were written, which are no options of the backend.

    Raises:
        OptionsError: names each option at fault, what is wrong, and the allowed names.
    """
    try:
        return backend.options.model_validate(options)
    except ValidationError as error:
        found = [_problem(backend, item, beside) for item in error.errors()]
        raise OptionsError(f"backend {backend.name!r}: {'; '.join(found)}") from error


def _problem(backend: Backend, item: Any, beside: Sequence[str]) -> str:
    *tables, key = item["loc"] or ("",)
    name = ".".join(map(str, item["loc"]))
    if item["type"] != "extra_forbidden":
        return f"option {name!r}: {item['msg']}, not {item['input']!r}"
    if name in RunOptions.__dataclass_fields__:
        return f"{name!r} is no option of backends: it belongs into [run], and in Python into RunOptions"
    names = [*([] if tables else beside), *_fields(backend.options, tables)]
    return f"unknown option {name!r}; {allowed(key, names)}"


def _fields(model: type[BaseModel], tables: Sequence[str | int]) -> Mapping[str, FieldInfo]:
    """The keys of a table within a table; none where it has no model of its own."""
    fields: Mapping[str, FieldInfo] = model.model_fields
    for table in tables:
        annotation = fields[str(table)].annotation if str(table) in fields else None
        kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        fields = next((kind.model_fields for kind in kinds if issubclass(kind, BaseModel)), {})
    return fields
