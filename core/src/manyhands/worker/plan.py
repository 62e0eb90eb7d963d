"""The schema, compiled once per worker into the three calls that the pipeline makes per record.

pydantic-core's own validator and serializer are called row by row; a list validator is no faster (0.78 against 0.79 µs
a row) and has to start over at the first bad row. Where nothing in the model needs an instance (no validator on the
model, serializer, computed field) the fields are validated into a plain dict: 1.3 to 1.6 times as
fast, the same bytes. The model itself stays the authority: whatever the dict's validator refuses is shown to it, unless
that would call validators of the person's a second time.

`use_batch_validation` validates a whole chunk of Python records by one call and, if that fails, row by row. It changes
how often validators run (twice for the good rows of a chunk with a bad one) and that errors surface after the whole
chunk was seen; it changes no outcome and no output. Texts of JSON and chunks with an unreadable record go row by row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter
from pydantic_core import (
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
    ValidationError,
    core_schema,
    from_json,
    to_json,
)

from manyhands.errors import DecodeError, UsageError
from manyhands.worker.encode import encode_json, flat_encoder
from manyhands.worker.rows import BadRow, snapshot

Validator = Callable[[Any], Any]
Rejected = dict[int, BaseException]

# A validator or a hook may raise anything. SystemExit too ends one record, not the run; KeyboardInterrupt goes through.
CAUGHT: Final = (Exception, SystemExit)


class RecordsCancelled(Exception):  # a signal, not an error
    """The run was aborted: no new record may start."""


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
_NO_BATCH: Final = frozenset({bytes, BadRow})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker calls per record.

    Attributes:
        validate: a value from a Python object; raises `ValidationError`.
        validate_json: the same from the bytes of a JSON text.
        authority, authority_json: the same by the schema itself, where the fast ones are not the schema's own.
        to_dict: the value as the plain dict that hooks and CSV get.
        encode: the value as JSON bytes.
        json_modes: how the model's configuration writes dates, timedelta, bytes and nan.
        batch: validates a list by one call and changes no row, if the person asked for that.
        calls_code: the schema calls functions of the person's, which may change the rows that they are given.
    """

    validate: Validator
    validate_json: Validator
    to_dict: Callable[[Any], Any]
    encode: Callable[[Any], bytes]
    authority: Validator | None = None
    authority_json: Validator | None = None
    json_modes: Mapping[str, Any] = field(default_factory=lambda: {"inf_nan_mode": "null"})
    batch: Callable[[list[Any]], list[Any]] | None = None
    calls_code: bool = False

    def validate_rows(self, rows: list[Any], rejected: Rejected, tracked: Iterable[Any] | None = None) -> list[Any]:
        """The values of the good rows, in order.

        Args:
            rows: dicts or `BadRow`s, or bytes of JSON.
            rejected: takes, by index, the exception of each row that is refused.
            tracked: the same rows through an iterator that tells where it is.
        """
        validate = self._validator_of(rows)
        values: list[Any] = []
        rest = iter(rows if tracked is None else tracked)
        while True:
            error: BaseException = StopIteration("raised by a validator")  # it ends extend() as if the rows had ended
            try:
                # extend() keeps what came before the exception and map() goes on behind it: no bytecode per row.
                values.extend(map(validate, rest))
            except RecordsCancelled:
                raise
            except CAUGHT as caught:
                error = caught
            index = len(values) + len(rejected)
            if index == len(rows):
                return values
            self._settle(rows[index], index, error, values, rejected)

    def validate_batch(self, rows: list[Any], rejected: Rejected, tracked: Iterable[Any] | None = None) -> list[Any]:
        """As `validate_rows`, by one call where the plan has one and it succeeds."""
        if self.batch is not None and _NO_BATCH.isdisjoint(map(type, rows)):
            try:
                return self.batch(rows)
            except CAUGHT:
                pass  # the rows one by one say which it was
        return self.validate_rows(rows, rejected, tracked)

    def validate_one(self, row: Any) -> Any:
        """The value of one row.

        Raises:
            ValidationError: the schema refuses it; whatever else a validator raises goes through.
        """
        rejected: Rejected = {}
        values = self.validate_rows([row], rejected)
        if rejected:
            raise rejected[0]
        return values[0]

    def _validator_of(self, rows: list[Any]) -> Validator:
        kinds = set(map(type, rows))
        if kinds.isdisjoint(_NO_BATCH):
            return self.validate
        return self.validate_json if kinds == {bytes} else self._validate_any

    def _validate_any(self, row: Any) -> Any:
        if isinstance(row, BadRow):  # the schema must not see it: there are schemas that take anything
            raise DecodeError(row.error["message"], type=row.error["type"])
        return self.validate_json(row) if type(row) is bytes else self.validate(row)

    def _settle(self, row: Any, index: int, error: BaseException, values: list[Any], rejected: Rejected) -> None:
        authority = self.authority_json if type(row) is bytes else self.authority
        # Functions of the person's may remember a row; then only what they did not see yet is shown to the authority.
        if authority is not None and (not self.calls_code or _is_of_whole_row(error)):
            try:
                values.append(authority(row))
            except CAUGHT as better:
                error = better
            else:
                return
        # Without its traceback, which would keep this chunk's rows and values in a reference cycle.
        rejected[index] = error.with_traceback(None)


def compile_plan(schema_model: Any | None, *, batch: bool = False) -> Plan:
    """The plan of a schema.

    Args:
        schema_model: a pydantic model, a dataclass or a TypedDict; None to take records as they are.
        batch: `use_batch_validation`.

    Raises:
        UsageError: pydantic cannot make a validator of the schema.
    """
    if schema_model is None:
        return Plan(_only_dict, _load_dict, same, encode_json)
    try:
        return _dict_plan(schema_model, batch) or _instance_plan(schema_model, batch)
    except PydanticUserError as error:
        raise UsageError(f"schema {schema_model.__qualname__} cannot be used: {error}") from error


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
    config = _config_of(schema_model)
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


def _config_of(schema_model: Any) -> Mapping[str, Any]:
    """The configuration of a model, or of a dataclass or TypedDict."""
    config: Mapping[str, Any] | None = getattr(schema_model, "model_config", None)
    return config or getattr(schema_model, "__pydantic_config__", {})


def load_json(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        DecodeError: it is none.
    """
    try:
        return from_json(text)
    except ValueError as error:
        raise DecodeError(f"Invalid JSON: {error}", type="json_invalid") from error


def _load_dict(text: bytes) -> Any:
    return _only_dict(load_json(text))


def _only_dict(row: Any) -> Any:
    if isinstance(row, dict):
        return row
    raise DecodeError(f"a record must be an object, not {type(row).__name__}", type="not_an_object")


def same(value: Any) -> Any:
    """A value that already is the dict that hooks get."""
    return value


def _dict_plan(model: Any, batch: bool) -> Plan | None:
    schema = _dict_schema(model)
    if schema is None:
        return None
    config = model.__pydantic_core_schema__.get("config")
    try:
        validator = SchemaValidator(schema, config)
        many = SchemaValidator(core_schema.list_schema(schema), config).validate_python
        by_type = SchemaSerializer(schema, config).to_json
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
        # These field types hold no set, so nothing needs to be ordered; and where no function could have put another
        # type in their place, the serializer of the types is a third faster.
        encode=flat_encoder(inf_nan_mode="null") if calls_code else by_type,
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


def _dict_field(entry: Any) -> Any:
    required = entry["schema"]["type"] != "default"
    alias = entry.get("validation_alias")
    return core_schema.typed_dict_field(entry["schema"], required=required, validation_alias=alias)


def _instance_plan(model: Any, batch: bool) -> Plan:
    adapter: Any = TypeAdapter(model)
    validator, serializer = adapter.validator, adapter.serializer
    modes = _json_modes(_config_of(model))
    unordered = _UNORDERED.intersection(_types(adapter.core_schema))
    many: Any = TypeAdapter(list[model]).validator.validate_python if batch else None
    calls_code = _calls_code(adapter.core_schema)
    return Plan(
        validate=validator.validate_python,
        validate_json=validator.validate_json,
        to_dict=serializer.to_python,
        encode=partial(_encode_ordered, serializer, modes) if unordered else serializer.to_json,
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
    try:
        plain = serializer.to_python(value)
    except TypeError:  # a set of models: the dicts that they become cannot be in a set
        plain = None
    if not _has_set(plain):
        encoded: bytes = serializer.to_json(value)
        return encoded
    # Only the serializer knows a value's JSON form, and only the Python form knows which lists were sets.
    return to_json(_sorted_like(serializer.to_python(value, mode="json"), plain), **modes)


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


def _is_of_whole_row(error: BaseException) -> bool:
    """The error of a row that is no dict."""
    if not isinstance(error, ValidationError) or error.error_count() != 1:
        return False
    return not error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]


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
