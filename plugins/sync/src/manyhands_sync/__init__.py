"""The sync backend of manyhands: chunks run one after another in the driver's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands_sync.executor import SyncFifoExecutor

if TYPE_CHECKING:
    from manyhands_sync.engine import SequentialEngine

__all__ = ["SequentialEngine", "SyncFifoExecutor"]


def __getattr__(name: str) -> Any:
    """The engine, imported when it is asked for: few need it, and it takes as long as all the rest."""
    if name != "SequentialEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from manyhands_sync.engine import SequentialEngine

    return SequentialEngine
