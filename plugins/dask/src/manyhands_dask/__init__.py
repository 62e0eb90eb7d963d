"""The Dask backend of manyhands: chunks, or whole pipes, run on the workers of a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyhands_dask.engine import DaskEngine
    from manyhands_dask.executor import DaskExecutor

__all__ = ["DaskEngine", "DaskExecutor"]


def __getattr__(name: str) -> Any:
    """Imported when they are asked for: the plugin is described without them."""
    if name == "DaskExecutor":
        from manyhands_dask.executor import DaskExecutor

        return DaskExecutor
    if name == "DaskEngine":
        from manyhands_dask.engine import DaskEngine

        return DaskEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
