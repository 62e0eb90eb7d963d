"""One pipe as many: each reads a shard of its input and writes a part of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from manyhands.adapters.base import BaseOutputAdapter
from manyhands.driver.run import known_columns
from manyhands.driver.watch import check_limits
from manyhands.engines.parts import PartOutput
from manyhands.engines.shards import ShardInput, Shards
from manyhands.errors import UsageError
from manyhands.pipe import Pipe


class ShardPipes(Sequence[Pipe]):
    """The pipes of a pipe's shards, each made when it is asked for.

    Args:
        pipe: the whole.
        count: how many.

    Raises:
        UsageError: the pipe cannot be cut into shards; says why.
    """

    def __init__(self, pipe: Pipe, count: int) -> None:
        _check(pipe)
        self._pipe = pipe
        self._shards = Shards(pipe, count)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: Any) -> Any:
        """The pipe of a shard; reads the input up to its beginning.

        Raises:
            SourceError: reading failed.
        """
        number = range(len(self))[index]
        return [self._make(each) for each in number] if isinstance(number, range) else self._make(number)

    def _make(self, number: int) -> Pipe:
        pipe = self._pipe
        return Pipe(
            ShardInput(pipe.input_adapter, self._shards[number]),
            _part(pipe.output_adapter, number),
            _part(pipe.error_output_adapter, number),
            pipe.schema_model,
            copy(pipe.executor),  # it runs one pipe at a time, and shards may run side by side in one process
            pipe.pre_validation_hooks,
            pipe.post_validation_hooks,
            max_hook_chunk_size=pipe.max_hook_chunk_size,
            id_generator=pipe.id_generator,
            options=pipe.options,
        )


def _part(whole: BaseOutputAdapter | None, number: int) -> PartOutput | None:
    return None if whole is None else PartOutput(whole, number)


def _check(pipe: Pipe) -> None:
    name = getattr(pipe.executor, "name", type(pipe.executor).__name__)
    if pipe.executor.capabilities.crosses_process:
        raise UsageError(
            f"the executor {name!r} has worker processes of its own, and an engine runs the pipe in worker processes; "
            "give the pipe no executor, or let it run without an engine"
        )
    check_limits(pipe.executor, pipe.options, on_engine=True)
    if pipe.observers:
        raise UsageError("observers are not called for a pipe that an engine runs in other processes; leave them out")
    if not pipe.options.ordered:
        raise UsageError("an engine writes the output in order; leave ordered = false out")
    columns = known_columns(pipe)
    for adapter in (pipe.output_adapter, pipe.error_output_adapter):
        if adapter is not None:
            adapter.check_parts(columns)
