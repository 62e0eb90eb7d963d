"""The ray backend of manyhands: chunks, or whole pipes, run in actors of a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyhands_ray.engine import RayEngine
    from manyhands_ray.executor import RayExecutor

__all__ = ["RayEngine", "RayExecutor"]


def __getattr__(name: str) -> Any:
    """The executor or the engine, imported when it is asked for: with them comes Ray, which takes a second."""
    if name == "RayExecutor":
        from manyhands_ray.executor import RayExecutor

        return RayExecutor
    if name == "RayEngine":
        from manyhands_ray.engine import RayEngine

        return RayEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
