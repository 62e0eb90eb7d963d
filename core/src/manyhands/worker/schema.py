"""What may be a schema, and what its fields are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, RootModel

from manyhands.errors import UsageError


def check_schema(schema_model: Any) -> None:
    """Refuse what is no schema.

    Raises:
        UsageError: it is neither a pydantic model nor a dataclass nor a TypedDict.
    """
    is_schema = isinstance(schema_model, type) and (
        issubclass(schema_model, BaseModel)
        or hasattr(schema_model, "__dataclass_fields__")
        or (issubclass(schema_model, dict) and hasattr(schema_model, "__required_keys__"))
    )
    if not is_schema:
        raise UsageError(f"{schema_model!r} is no schema: expected a pydantic model, a dataclass or a TypedDict")


def field_names(schema_model: Any | None) -> tuple[str, ...] | None:
    """The names of the fields as they are written, in order, computed ones last; None where only the data tells."""
    decorators = getattr(schema_model, "__pydantic_decorators__", None)
    config = config_of(schema_model)
    if schema_model is None or config.get("extra") == "allow" or (decorators and decorators.model_serializers):
        return None
    if issubclass(schema_model, RootModel):
        return None
    fields: dict[str, Any] = getattr(schema_model, "__pydantic_fields__", None) or _plain_fields(schema_model)
    computed = {name: field.info for name, field in decorators.computed_fields.items()} if decorators else {}
    shown = {name: info for name, info in fields.items() if not getattr(info, "exclude", False)} | computed
    if config.get("serialize_by_alias"):
        return tuple(_alias_of(info) or name for name, info in shown.items())
    return tuple(shown)


def _plain_fields(schema_model: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(schema_model):
        return {field.name: field for field in dataclasses.fields(schema_model)}
    return dict(schema_model.__annotations__)


def _alias_of(info: Any) -> str | None:
    alias: str | None = getattr(info, "serialization_alias", None) or getattr(info, "alias", None)
    return alias


def config_of(schema_model: Any) -> Mapping[str, Any]:
    """The configuration of a model, or of a dataclass or TypedDict."""
    config: Mapping[str, Any] | None = getattr(schema_model, "model_config", None)
    return config or getattr(schema_model, "__pydantic_config__", {})
