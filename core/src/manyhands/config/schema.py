"""The JSON schema of job files, by which editors complete and check them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from manyhands.config.adapters import INPUTS, OPTIONS, OUTPUTS
from manyhands.config.job import (
    EngineTable,
    ExecutorTable,
    HooksTable,
    InputTable,
    Job,
    OutputTable,
    RunTable,
    SchemaTable,
)
from manyhands.plugins.registry import Found, installed
from manyhands.plugins.spec import Backend

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = "#/$defs/"

# A section of a docstring that describes attributes, and one description in it.
_SECTION: Final = re.compile(r"^(?:Args|Attributes):\n((?: .*\n|\n)+)", re.MULTILINE)
_ITEM: Final = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", re.MULTILINE)


class _ForTOML(GenerateJsonSchema):
    """What pydantic makes, but without null, which TOML does not have, and without titles, which say nothing new."""

    def nullable_schema(self, schema: Any) -> Schema:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> Schema:
        made = super().default_schema(schema)
        if made.get("default") is None or isinstance(made["default"], dict):
            made.pop("default", None)  # left out is what it means
        return made

    def model_schema(self, schema: Any) -> Schema:
        made = super().model_schema(schema)
        _describe(made, schema["cls"])
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # never
        return False


def job_schema(complain: Callable[[str], None]) -> Schema:
    """The schema of a job file that can run here: with the backends that are installed, and each one's own options.

    Args:
        complain: is told of each backend that is left out because it is broken.
    """
    job = table_schema(Job)
    backends, engines = _backends("executor", complain), _backends("engine", lambda _: None)  # it has been said
    described = [*backends.values(), *engines.values()]
    shared = {name: value for options in described for name, value in options.pop("$defs", {}).items()}
    tables: dict[type[Any], Schema] = {
        InputTable: _choice(InputTable, "adapter", _adapters(INPUTS)),
        OutputTable: _choice(OutputTable, "adapter", _adapters(OUTPUTS)),
        ExecutorTable: _choice(ExecutorTable, "name", backends),
        EngineTable: _choice(EngineTable, "name", engines),
        **{model: table_schema(model) for model in (SchemaTable, HooksTable, RunTable)},
    }
    definitions = {model.__name__: table for model, table in tables.items()}
    return {"$schema": _DIALECT, **job, "$defs": definitions | shared}


def options_schema(backend: Backend) -> Schema:
    """The schema of a backend's options.

    Raises:
        Exception: whatever its model raises that cannot be described, or does not describe itself.
    """
    schema = table_schema(backend.options, f"{_REFERENCE}{backend.name}.")
    if "$defs" in schema:  # models within the model; those of another backend may have the same names
        schema["$defs"] = {f"{backend.name}.{name}": value for name, value in schema["$defs"].items()}
    return schema


def table_schema(model: type[Any], reference: str = _REFERENCE) -> Schema:
    """The schema of a table, each key with what the docstring of its model says.

    Args:
        model: what checks the table: of pydantic, or a class that pydantic can check.
        reference: by which the schema refers to its definitions.
    """
    template = f"{reference}{{model}}"
    schema = TypeAdapter(model).json_schema(schema_generator=_ForTOML, ref_template=template)
    _describe(schema, model)
    return schema


def _describe(schema: Schema, model: type[Any]) -> None:
    schema["description"] = _summary(model)
    words = described(model)
    names = {info.alias: name for name, info in model.model_fields.items()} if issubclass(model, BaseModel) else {}
    for key, value in schema.get("properties", {}).items():
        if text := words.get(names.get(key, key)):
            value["description"] = text


def described(model: type[Any]) -> Mapping[str, str]:
    """What the docstrings of a class and of its bases say of attributes; the nearest one counts."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        for section in _SECTION.findall(inspect.cleandoc(cls.__doc__ or "") + "\n"):
            for names, text in _ITEM.findall(section):
                found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _summary(model: type[Any]) -> str:
    paragraph = inspect.cleandoc(model.__doc__ or "").split("\n\n", 1)[0]
    return " ".join(paragraph.split())


def _backends(kind: str, complain: Callable[[str], None]) -> dict[str, Schema]:
    return {found.name: schema for found in installed() if (schema := _options(found, kind, complain)) is not None}


def _options(found: Found, kind: str, complain: Callable[[str], None]) -> Schema | None:
    """The options of a backend; None if it is broken, or of another kind."""
    if found.backend is None:
        complain(f"left out: {found.error}")
        return None
    if found.backend.kind != kind:
        return None
    try:
        return options_schema(found.backend)
    except Exception as error:  # noqa: BLE001  # a stranger's model may raise anything; it hides no other backend
        words = " ".join(f"{type(error).__name__}: {error}".split())
        complain(f"left out: backend {found.name!r} of {found.distribution}: its options have no schema ({words})")
        return None


def _adapters(classes: Mapping[str, type[Any]]) -> dict[str, Schema]:
    return {name: table_schema(OPTIONS.get(cls, cls)) for name, cls in classes.items()}


def _choice(model: type[Any], key: str, tables: Mapping[str, Schema]) -> Schema:
    """One of several tables, by the value of a key.

    By conditions, because of tables that are merely listed (`oneOf`) editors cannot say which key is wrong.
    """
    options = dict.fromkeys(option for table in tables.values() for option in table["properties"])
    whole = table_schema(model)
    return {
        **whole,
        "properties": {
            **whole["properties"],
            key: {"enum": list(tables), "description": described(model)[key]},
            **{option: {"description": _meaning(option, tables)} for option in options},
        },
        "allOf": [_if_chosen(model, key, name, table) for name, table in tables.items()],
    }


def _if_chosen(model: type[Any], key: str, name: str, table: Schema) -> Schema:
    is_default = name == model.model_fields[key].get_default()
    chosen = {"properties": {key: {"const": name}}, "required": [] if is_default else [key]}
    properties = dict.fromkeys(model.model_fields, True) | table["properties"]
    return {"if": chosen, "then": {**table, "title": name, "properties": properties}}


def _meaning(option: str, tables: Mapping[str, Schema]) -> str:
    """What an option means, for each table by its name if they differ."""
    properties = {name: table["properties"] for name, table in tables.items()}
    words = {name: keys[option].get("description", "") for name, keys in properties.items() if option in keys}
    same = set(words.values())
    return same.pop() if len(same) == 1 else " ".join(f"{name}: {text}" for name, text in words.items())
