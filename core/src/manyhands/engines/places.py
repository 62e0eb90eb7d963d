"""Names of files that mean the same to workers that are in another folder."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyhands.pipe import Pipe


def located(pipe: Pipe) -> Pipe:
    """The pipe with absolute names of files; relative ones are taken from the folder in which this process is.

    Args:
        pipe: which; it is not changed.
    """
    found = copy(pipe)
    found.input_adapter = _located(pipe.input_adapter)
    found.output_adapter = _located(pipe.output_adapter)
    found.error_output_adapter = _located(pipe.error_output_adapter)
    return found


def _located(adapter: Any) -> Any:
    """Of a shard or a part also that of the whole."""
    if adapter is None:
        return None
    found = copy(adapter)
    if isinstance(getattr(adapter, "path", None), Path):
        object.__setattr__(found, "path", adapter.path.absolute())  # most are frozen, but this copy is ours
    if hasattr(adapter, "_whole"):
        found._whole = _located(adapter._whole)  # noqa: SLF001  # of a shard or a part of ours
    return found
