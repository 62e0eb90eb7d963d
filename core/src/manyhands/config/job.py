"""What a job file may say. The options of adapters and executors are checked by their own models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

REFERENCE: Final = r"^[\w.]+:[\w.]+$"
"""What `module:attribute` looks like."""

Reference = Annotated[str, Field(pattern=REFERENCE, description="module:attribute")]


class _Table(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class AdapterTable(BaseModel):
    """An adapter by name, and its options.

    Attributes:
        adapter: its name.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)

    adapter: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class InputTable(AdapterTable):
    """`[input]`: `python` is an iterable, or a function that gives one."""

    adapter: Literal["csv", "jsonl", "json", "python"]


class OutputTable(AdapterTable):
    """`[output]` and `[errors]`: `null` takes everything and keeps nothing."""

    adapter: Literal["csv", "jsonl", "json", "null"]


class SchemaTable(_Table):
    """`[schema]`.

    Attributes:
        model: `module:attribute` of a pydantic model, a dataclass or a TypedDict.
    """

    model: Reference


class HooksTable(_Table):
    """`[hooks]`: classes, made without arguments, or instances.

    Attributes:
        pre: before validation.
        post: after it.
        max_chunk_size: how many records a plain hook gets at most in one call.
    """

    pre: tuple[Reference, ...] = ()
    post: tuple[Reference, ...] = ()
    max_chunk_size: Annotated[int, Field(ge=1, strict=True)] | None = None


class ExecutorTable(BaseModel):
    """`[executor]`: a backend by name, and its options.

    Attributes:
        name: any installed backend.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)

    name: str = "sync"

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class EngineTable(BaseModel):
    """`[engine]`: runs the pipe in shards, each read and written by a worker; its options follow.

    Attributes:
        name: any installed engine.
        workers: how many shards; left out: one for each CPU that this process may use.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)

    name: str = "multiprocessing"
    workers: Annotated[int, Field(ge=1)] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name and the shards."""
        return dict(self.model_extra or {})


class RunTable(_Table):
    """`[run]`: what the driver does, the same on every backend.

    Attributes:
        ordered: output in input order; else as chunks are complete.
        crash_retries: how often records are tried again after their worker died, before the range is narrowed down.
        error_retries: the same for other failures of the executor.
        record_timeout: seconds that one call of a hook, or the validation of one record, may take.
        chunk_timeout: seconds that a chunk may take before it is run again in smaller parts.
        timeout_retries: how often a record that took too long is tried again.
    """

    ordered: StrictBool = True
    crash_retries: Annotated[int, Field(ge=0, strict=True)] = 1
    error_retries: Annotated[int, Field(ge=0, strict=True)] = 0
    record_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | None = None
    chunk_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | None = None
    timeout_retries: Annotated[int, Field(ge=0, strict=True)] = 0


class Job(_Table):
    """A job file.

    Attributes:
        input: where records come from.
        schema_: what they must be; left out, they are taken as they are.
        hooks: the person's own steps.
        output: where ok records go; left out, they are counted only.
        errors: where rejected and dead records go; left out, they are counted only.
        executor: whose hands do it.
        engine: cuts the pipe into shards, in each of which the executor does it; left out: there are no shards.
        run: order and retries.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    input: InputTable
    schema_: Annotated[SchemaTable | None, Field(alias="schema")] = None
    hooks: HooksTable = HooksTable()
    output: OutputTable | None = None
    errors: OutputTable | None = None
    executor: ExecutorTable = ExecutorTable()
    engine: EngineTable | None = None
    run: RunTable = RunTable()
