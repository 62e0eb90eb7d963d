"""The multiprocessing backend of manyhands: chunks, or whole pipes, run in supervised worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands_multiprocessing.executor import MultiProcessingExecutor

if TYPE_CHECKING:
    from manyhands_multiprocessing.engine import MultiProcessEngine

__all__ = ["MultiProcessEngine", "MultiProcessingExecutor"]


def __getattr__(name: str) -> Any:
    """The engine, imported when it is asked for: few need it, and it takes as long as all the rest."""
    if name != "MultiProcessEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from manyhands_multiprocessing.engine import MultiProcessEngine

    return MultiProcessEngine
