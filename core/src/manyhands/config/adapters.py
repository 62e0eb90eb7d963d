"""The adapters that a job file can name, and what checks their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from manyhands.adapters.csv import CSVInputAdapter, CSVOutputAdapter
from manyhands.adapters.json import JSONInputAdapter, JSONOutputAdapter
from manyhands.adapters.memory import NullOutputAdapter
from manyhands.adapters.python import IterableInputAdapter
from manyhands.config.job import REFERENCE

INPUTS: Final[Mapping[str, type[Any]]] = {
    "csv": CSVInputAdapter,
    "jsonl": JSONInputAdapter,
    "json": JSONInputAdapter,
    "python": IterableInputAdapter,
}
OUTPUTS: Final[Mapping[str, type[Any]]] = {
    "csv": CSVOutputAdapter,
    "jsonl": JSONOutputAdapter,
    "json": JSONOutputAdapter,
    "null": NullOutputAdapter,
}


class _NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _IterableOptions(_NoOptions):
    """Options of `IterableInputAdapter`.

    Attributes:
        iterable: `module:attribute` of an iterable, or of a function that gives one.
        skip_rows: pass over so many records first.
        limit: read at most so many records.
    """

    iterable: Annotated[Any, WithJsonSchema({"type": "string", "pattern": REFERENCE})]
    skip_rows: Annotated[int, Field(ge=0, strict=True)] = 0
    limit: Annotated[int, Field(ge=0, strict=True)] | None = None


OPTIONS: Final[Mapping[type[Any], type[BaseModel]]] = {
    IterableInputAdapter: _IterableOptions,
    NullOutputAdapter: _NoOptions,
}
"""The models of adapters that do not check their options themselves, as the others do."""
