"""What manyhands sees of this distribution. It imports no ray."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, EngineOptions, ProcessExecutorOptions, hookimpl

Count = Annotated[int, Field(ge=1, strict=True)]


class RayOptions(ProcessExecutorOptions):
    """Options of the ray backend.

    Attributes:
        address: of the cluster: `auto`, `host:port` or `ray://host:port`; left out: Ray is started on this machine.
        max_inflight: how many chunks are in flight at most; null: as many as the cluster can use.
        max_workers: actors at most; left out: as many as there is room for.
        resources: what each actor needs: `num_cpus`, `num_gpus`, `memory` in bytes, and names of your own.
        runtime_env: the environment of the actors, as Ray describes it.
    """

    address: str | None = None
    max_inflight: Count | None = 20
    max_workers: Count | None = None
    resources: dict[str, Annotated[float, Field(ge=0)]] | None = None
    runtime_env: dict[str, Any] | None = None


class RayEngineOptions(EngineOptions):
    """Options of the engine.

    Attributes:
        address: of the cluster: `auto`, `host:port` or `ray://host:port`; left out: Ray is started on this machine.
        resources: what each pipe needs: `num_cpus`, `num_gpus`, `memory` in bytes, and names of your own.
        runtime_env: the environment of the actors, as Ray describes it.
    """

    address: str | None = None
    resources: dict[str, Annotated[float, Field(ge=0)]] | None = None
    runtime_env: dict[str, Any] | None = None


CAPABILITIES = Capabilities(
    concurrent=True, crosses_process=True, distributed=True, can_kill=True, reports_progress=True
)


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The executor and the engine."""
    return [
        Backend("ray", "executor", "manyhands_ray.executor:RayExecutor", RayOptions, CAPABILITIES),
        Backend("ray", "engine", "manyhands_ray.engine:RayEngine", RayEngineOptions, CAPABILITIES),
    ]
