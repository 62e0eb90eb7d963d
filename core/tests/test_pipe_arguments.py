"""What a pipe, its options and any executor refuse, each by one clear message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands import BaseHook, CSVInputAdapter, IterableInputAdapter, Pipe, RunOptions
from manyhands.errors import OptionsError, UsageError
from manyhands_sync import SyncFifoExecutor

from .support import Watch


class Row(BaseModel):
    k: int
    n: int


SOURCE = IterableInputAdapter([{"k": 1, "n": 2}])


@dataclass
class NoExecutor:
    name: str = "none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_adapter": None}, "a pipe needs an input_adapter"),
        ({"input_adapter": [1, 2]}, "input_adapter must be a BaseInputAdapter, not list: [1, 2]"),
        ({"input_adapter": CSVInputAdapter}, "input_adapter must be an instance, not the class CSVInputAdapter"),
        ({"output_adapter": "out.jsonl"}, "output_adapter must be a BaseOutputAdapter, not str: 'out.jsonl'"),
        (
            {"error_output_adapter": SOURCE},
            "error_output_adapter must be a BaseOutputAdapter, not IterableInputAdapter",
        ),
        ({"executor": SyncFifoExecutor}, "executor must be an instance, not the class SyncFifoExecutor"),
        ({"executor": NoExecutor()}, "executor must be a Executor, not NoExecutor"),
        ({"executor": "sync"}, "executor must be a Executor, not str: 'sync'"),
        ({"schema_model": "Row"}, "Row"),
        ({"schema_model": Row(k=1, n=1)}, "Row"),
        ({"pre_validation_hooks": Watch()}, "pre_validation_hooks must be a list, not Watch"),
        ({"pre_validation_hooks": [Watch]}, "Watch is a class; pass an instance: Watch()"),
        ({"post_validation_hooks": [print]}, "is no hook: derive its class from manyhands.BaseHook"),
        ({"post_validation_hooks": [BaseHook()]}, "hook BaseHook does not define execute(entries, store)"),
        ({"max_hook_chunk_size": 0}, "max_hook_chunk_size must be a number from 1, not 0"),
        ({"max_hook_chunk_size": "3"}, "max_hook_chunk_size must be a number from 1, not '3'"),
        ({"id_generator": "uuid"}, "id_generator must be a Callable, not str: 'uuid'"),
        ({"options": {"ordered": True}}, "options must be a RunOptions, not dict"),
        ({"observers": print}, "observers must be a list, not builtin_function_or_method"),
        ({"observers": [1]}, "observers must be a Callable, not int: 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_bad_argument_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Pipe(**{"input_adapter": SOURCE, **arguments})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunksize": 0}, "chunksize must be None or a number from 1 to 16777216, not 0"),
        ({"chunksize": 1 << 25}, "chunksize must be None or a number from 1 to 16777216, not 33554432"),
        ({"chunksize": 2.5}, "chunksize must be None or a number from 1 to 16777216, not 2.5"),
        ({"compression": "zip"}, "compression must be None or 'lz4', not 'zip'"),
    ],
)
def test_a_bad_option_of_any_executor_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        SyncFifoExecutor(**options)


@pytest.mark.parametrize("name", ["crash_retries", "error_retries"])
def test_a_negative_number_of_retries_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be a number from 0, not -1"):
        RunOptions(**{name: -1})
