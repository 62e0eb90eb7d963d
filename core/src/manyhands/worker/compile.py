"""From a schema to the plan that a worker calls: into dicts where no instance is needed, else into instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final

from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import SchemaError, SchemaSerializer, SchemaValidator, core_schema, to_json

from manyhands.errors import DecodeError, UsageError
from manyhands.worker.encode import SCALARS, are_flat, encode_record
from manyhands.worker.plan import Plan, Validator, load_json, same
from manyhands.worker.rows import snapshot
from manyhands.worker.schema import config_of

# Field types whose value in a dict is written as it would be from the model.
_PLAIN: Final = frozenset(
    {
        "str", "int", "float", "bool", "decimal", "datetime", "date", "time", "timedelta", "uuid", "literal", "enum",
        "none",
    }
)  # fmt: skip
# Wrappers that are plain when what they wrap is.
_WRAPPERS: Final = frozenset(
    {"nullable", "default", "list", "function-before", "function-after", "function-wrap", "constrained-str"}
)
_MODEL_KEYS: Final = frozenset({"type", "cls", "schema", "config", "ref", "metadata"})
_FIELDS_KEYS: Final = frozenset({"type", "fields", "model_name", "ref", "metadata"})
_FIELD_KEYS: Final = frozenset({"type", "schema", "validation_alias", "serialization_alias", "frozen", "metadata"})
_CONFIG_KEYS: Final = frozenset(
    {
        "title", "strict", "extra_fields_behavior", "frozen", "loc_by_alias", "validate_by_alias", "validate_by_name",
        "str_max_length", "str_min_length", "str_strip_whitespace", "str_to_lower", "str_to_upper",
        "coerce_numbers_to_str", "allow_inf_nan", "hide_input_in_errors", "validation_error_cause",
    }
)  # fmt: skip
_UNORDERED: Final = frozenset({"set", "frozenset", "any", "function-plain", "is-instance", "custom-error", "generator"})


def compile_plan(schema_model: Any | None, *, batch: bool = False) -> Plan:
    """The plan of a schema.

    Args:
        schema_model: a pydantic model, a dataclass or a TypedDict; None to take records as they are.
        batch: `use_batch_validation`.

    Raises:
        UsageError: pydantic cannot make a validator of the schema.
    """
    if schema_model is None:
        return Plan(_only_dict, _load_dict, same, encode_record)
    try:
        return _dict_plan(schema_model, batch) or _instance_plan(schema_model, batch)
    except PydanticUserError as error:
        raise UsageError(f"schema {schema_model.__name__} cannot be used: {error.message}") from error


def _load_dict(text: bytes) -> Any:
    return _only_dict(load_json(text))


def _only_dict(row: Any) -> Any:
    if isinstance(row, dict):
        return row
    raise DecodeError(f"a record must be an object, not {type(row).__name__}", type="not_an_object")


def _dict_plan(model: Any, batch: bool) -> Plan | None:
    schema = _dict_schema(model)
    if schema is None:
        return None
    config = model.__pydantic_core_schema__.get("config")
    try:
        validator = SchemaValidator(schema, config)
        many = SchemaValidator(core_schema.list_schema(schema), config).validate_python
        by_type = SchemaSerializer(schema, config).to_json
        all_by_type = SchemaSerializer(core_schema.list_schema(schema), config).to_json
    except SchemaError:  # a combination that this pydantic does not allow in a dict
        return None
    authority, to_python = model.__pydantic_validator__, model.__pydantic_serializer__.to_python
    calls_code = _calls_code(schema)
    return Plan(
        validate=validator.validate_python,
        validate_json=validator.validate_json,
        authority=lambda row: to_python(authority.validate_python(row)),
        authority_json=lambda text: to_python(authority.validate_json(text)),
        to_dict=same,
        # These field types hold no set; where no function could have put one there, nothing needs to be ordered.
        encode=encode_record if calls_code else by_type,
        encode_all=all_by_type if _is_flat(schema) and not calls_code else None,
        seam=b"},{%b:" % to_json(next(iter(schema["fields"]), "")),
        batch=_on_copies(many, calls_code) if batch else None,
        calls_code=calls_code,
    )


def _dict_schema(model: Any) -> Any | None:
    """The model's fields as a typed-dict schema, or None when the model needs its instances."""
    schema: Any = getattr(model, "__pydantic_core_schema__", {"type": None})
    if schema["type"] != "model" or not _says(schema) <= _MODEL_KEYS:
        return None
    config, inner = schema.get("config", {}), schema["schema"]
    if not _says(config) <= _CONFIG_KEYS or config.get("extra_fields_behavior") == "allow":
        return None
    if inner["type"] != "model-fields" or not _says(inner) <= _FIELDS_KEYS:
        return None
    fields = inner["fields"]
    if not _all_plain(fields):
        return None
    # It must have the configuration itself: it takes none from the validator around it.
    return core_schema.typed_dict_schema({n: _dict_field(f) for n, f in fields.items()}, config=config)


def _says(schema: Mapping[str, Any]) -> set[str]:
    """The keys that say something: pydantic also writes down that a thing is not there."""
    return {key for key, value in schema.items() if value not in (None, False, [])}


def _all_plain(fields: Mapping[str, Any]) -> bool:
    return all(_says(entry) <= _FIELD_KEYS and _is_plain(entry["schema"]) for entry in fields.values())


def _is_plain(schema: Any) -> bool:
    if "serialization" in schema or schema.get("default_factory_takes_data") or schema.get("on_error") == "omit":
        return False
    if schema["type"] in _WRAPPERS:
        inner = schema.get("schema") or schema.get("items_schema")
        return inner is not None and _is_plain(inner)
    return schema["type"] in _PLAIN


def _is_flat(schema: Any) -> bool:
    """The dict has a key, no value in it is an object or holds one, and a first key that cannot follow a string."""
    fields = schema["fields"]
    is_plain = fields and not next(iter(fields)).startswith((",", ":", "}", "]"))
    return bool(is_plain) and all(_is_scalar(field["schema"]) for field in fields.values())


def _is_scalar(schema: Any) -> bool:
    if schema["type"] in ("nullable", "default", "constrained-str"):
        is_known = "default_factory" not in schema and type(schema.get("default")) in SCALARS
        return is_known and _is_scalar(schema["schema"])
    if schema["type"] == "enum" and _makes_members(schema["cls"]):
        return False
    values = [*schema.get("expected", ()), *(member.value for member in schema.get("members", ()))]
    return schema["type"] in _PLAIN and {type(value) for value in values} <= SCALARS


def _makes_members(cls: type[Enum]) -> bool:
    """An enumeration may have members that are not in its list."""
    return any("_missing_" in vars(each) for each in cls.__mro__ if each is not Enum)


def _dict_field(entry: Any) -> Any:
    required = entry["schema"]["type"] != "default"
    alias = entry.get("validation_alias")
    return core_schema.typed_dict_field(entry["schema"], required=required, validation_alias=alias)


def _instance_plan(model: Any, batch: bool) -> Plan:
    adapter: Any = TypeAdapter(model)
    validator, serializer = adapter.validator, adapter.serializer
    modes = _json_modes(config_of(model))
    unordered = _UNORDERED.intersection(_types(adapter.core_schema))
    many: Any = TypeAdapter(list[model]).validator.validate_python if batch else None
    calls_code = _calls_code(adapter.core_schema)
    return Plan(
        validate=validator.validate_python,
        validate_json=validator.validate_json,
        to_dict=partial(_to_dict, serializer) if unordered else serializer.to_python,
        # A function of the person's may put a set anywhere.
        encode=partial(_encode_ordered, serializer, modes) if unordered or calls_code else serializer.to_json,
        json_modes=modes,
        batch=_on_copies(many, calls_code) if batch else None,
        calls_code=calls_code,
    )


def _json_modes(config: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        "temporal_mode": "ser_json_temporal",
        "timedelta_mode": "ser_json_timedelta",
        "bytes_mode": "ser_json_bytes",
        "inf_nan_mode": "ser_json_inf_nan",
    }
    return {"inf_nan_mode": "null"} | {mode: config[key] for mode, key in named.items() if key in config}


def _encode_ordered(serializer: Any, modes: Mapping[str, Any], value: Any) -> bytes:
    """The model's own bytes, but for the order of sets."""
    if are_flat((getattr(value, "__dict__", None),)) or not _has_set(plain := _python_form(serializer, value)):
        encoded: bytes = serializer.to_json(value)
        return encoded
    # Only the serializer knows a value's JSON form, and only the Python form knows which lists were sets.
    return to_json(_sorted_like(serializer.to_python(value, mode="json"), plain), **modes)


def _python_form(serializer: Any, value: Any) -> Any:
    """The Python form, or its shape: the dicts that models become cannot be in a set."""
    try:
        return serializer.to_python(value)
    except TypeError:
        return _shape(value)


def _to_dict(serializer: Any, value: Any) -> Any:
    """What hooks get: the Python form, or with models in a set the JSON form."""
    try:
        return serializer.to_python(value)
    except TypeError:
        return _sorted_like(serializer.to_python(value, mode="json"), _shape(value))


def _shape(value: Any) -> Any:
    """Where sets are in a value."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shape(item) for item in value]
    if isinstance(value, set | frozenset):
        return frozenset()
    return _shape(value.__dict__) if hasattr(value, "__pydantic_serializer__") else value


def _has_set(plain: Any) -> bool:
    if isinstance(plain, dict):
        return any(map(_has_set, plain.values()))
    if isinstance(plain, list | tuple):
        return any(map(_has_set, plain))
    return isinstance(plain, set | frozenset)


def _sorted_like(form: Any, plain: Any) -> Any:
    """The JSON form with its lists sorted where the Python form has a set."""
    if isinstance(form, dict) and isinstance(plain, dict) and len(form) == len(plain):
        return {key: _sorted_like(item, twin) for (key, item), twin in zip(form.items(), plain.values(), strict=True)}
    if isinstance(form, list) and isinstance(plain, set | frozenset):
        return sorted(form, key=to_json)
    if isinstance(form, list) and isinstance(plain, list | tuple) and len(form) == len(plain):
        return [_sorted_like(item, twin) for item, twin in zip(form, plain, strict=True)]
    return form


def _on_copies(validate: Validator, calls_code: bool) -> Validator:
    """If validators change what they are given, the rows must be untouched when they run one by one after all."""
    return (lambda rows: validate(list(map(snapshot, rows)))) if calls_code else validate


def _calls_code(schema: Any) -> bool:
    """There are functions in the schema that may be the person's."""
    if isinstance(schema, list | tuple):
        return any(map(_calls_code, schema))
    if not isinstance(schema, dict):
        return False
    named = schema.get("custom_init") or schema.get("post_init") or str(schema.get("type")).startswith("function-")
    return bool(named) or any(map(_calls_code, schema.values()))


def _types(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema["type"]
        for value in schema.values():
            yield from _types(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from _types(value)
