"""Reads a job file; every complaint names the file, the table, the key and what is allowed."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from manyhands.config.job import ExecutorTable, Job
from manyhands.errors import JobFileError

# The options that every executor has; they outlive a change of executor from the command line.
_SHARED_OPTIONS: Final = ("chunksize", "use_batch_validation")

# Where pydantic speaks of Python's types and the person wrote TOML.
_WORDS: Final = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "path_type": "must be a string",
    "tuple_type": "must be an array of strings",
}


def load_job(path: Path, *, executor: str | None = None, settings: Sequence[str] = ()) -> Job:
    """The job in a file.

    Args:
        path: the TOML file.
        executor: another backend than the file names. Of the file's options only those that every executor has stay.
        settings: `table.key=value` each, in place of what the file says; the value in TOML, or plain text.

    Raises:
        JobFileError: it cannot be read, is no TOML, or does not fit.
    """
    data = _read(path)
    if executor is not None:
        _choose_executor(data, executor)
    for setting in settings:
        _set(data, setting)
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        raise JobFileError("\n".join(_problem(path, item) for item in error.errors())) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a byte order mark
    except OSError as error:
        raise JobFileError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JobFileError(f"{path} is no TOML: {error}") from error


def _choose_executor(data: dict[str, Any], name: str) -> None:
    table = data.get("executor")
    if not isinstance(table, dict) or table.get("name", ExecutorTable().name) != name:
        kept = table if isinstance(table, dict) else {}
        data["executor"] = {"name": name, **{key: kept[key] for key in _SHARED_OPTIONS if key in kept}}


def _set(data: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and key):
        raise JobFileError(f"--set {setting}: expected table.key=value, for example executor.chunksize=500")
    target = data.setdefault(table, {})
    if not isinstance(target, dict):
        raise JobFileError(f"--set {setting}: [{table}] is no table")
    target[key] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _problem(path: Path, item: Any) -> str:
    table, *rest = item["loc"]
    if not rest:
        return f"{path}: {_table_problem(table, item)}"
    key = ".".join(map(str, rest))
    if item["type"] == "extra_forbidden":
        return f"{path}: [{table}] has no key {key!r}; {allowed(key, list(_fields(table)))}"
    return f"{path}: [{table}] {key}: {_key_problem(table, key, item)}"


def _key_problem(table: str, key: str, item: Any) -> str:
    info = _fields(table).get(key)
    names = list(get_args(info.annotation)) if info and get_origin(info.annotation) is Literal else []
    if names and item["type"] == "missing":
        return f"is required; {allowed('', names)}"
    if names:
        return f"no {key} {item['input']!r}; {allowed(item['input'], names)}"
    if item["type"] == "string_pattern_mismatch":
        return f'write "module:attribute", not {item["input"]!r}'
    return explain(item)


def _table_problem(table: Any, item: Any) -> str:
    if item["type"] == "missing":
        return f"the table [{table}] is missing"
    if item["type"] == "extra_forbidden":
        return f"unknown table [{table}]; {allowed(table, _tables())}"
    return f"[{table}] must be a table of keys and values"


def _tables() -> list[str]:
    return [info.alias or name for name, info in Job.model_fields.items()]


def _fields(table: str) -> Mapping[str, FieldInfo]:
    """The keys of a table, by the model that checks it."""
    for name, info in Job.model_fields.items():
        if (info.alias or name) == table:
            models = [kind for kind in (info.annotation, *get_args(info.annotation)) if isinstance(kind, type)]
            return next(model.model_fields for model in models if issubclass(model, BaseModel))
    return {}


def explain(item: Any) -> str:
    """What is wrong with a value, from an error of pydantic, in the words of TOML."""
    if item["type"] in ("missing", "missing_argument") or item["input"] is None:  # TOML has no None
        return "is required"
    return f"{_WORDS.get(item['type'], item['msg'])}, not {item['input']!r}"


def allowed(given: Any, names: Sequence[str]) -> str:
    """The names that would do, the nearest first if it is near."""
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed are {', '.join(names) or 'none'}"
