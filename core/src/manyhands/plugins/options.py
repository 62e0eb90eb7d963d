"""Checks the options that a person gives a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

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
    model = _model(backend.options, tables)
    if model is None:
        return f"unknown option {name!r}"
    return f"unknown option {name!r}; {allowed(key, [*([] if tables else beside), *model.model_fields])}"


def _model(model: type[BaseModel] | None, tables: Sequence[str | int]) -> type[BaseModel] | None:
    """That of a table within a table; None where it is not the only one that it may have."""
    for table in tables:
        info = model.model_fields.get(str(table)) if model is not None else None
        kinds = (info.annotation, *get_args(info.annotation)) if info is not None else ()
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        model = models[0] if len(models) == 1 else None
    return model
