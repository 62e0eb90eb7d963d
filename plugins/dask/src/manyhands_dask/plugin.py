"""What manyhands sees of this distribution. Imports nothing of Dask: listing the backends must stay cheap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, EngineOptions, ProcessExecutorOptions, hookimpl

Count = Annotated[int, Field(ge=1, strict=True)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]

MAX_INFLIGHT: Final = 20


class SecurityOptions(BaseModel):
    """How to reach a cluster that talks TLS; names are those of `distributed.security.Security`.

    Attributes:
        tls_ca_file: certificates of who signed those of the cluster.
        tls_client_cert: the certificate of this program.
        tls_client_key: its key.
        require_encryption: refuse to talk without TLS.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    tls_ca_file: str | None = None
    tls_client_cert: str | None = None
    tls_client_key: str | None = None
    require_encryption: StrictBool | None = None


class DaskOptions(ProcessExecutorOptions):
    """Options of the executor.

    Attributes:
        address: of a scheduler, such as `tcp://host:8786`; left out: a cluster on this machine, for this run alone.
        max_inflight: chunks in flight at most; `None`, which a file cannot say, follows the cluster alone.
        max_workers: processes of the cluster on this machine; of another, how many chunks run at a time at most.
        resources: what each chunk that runs takes of its worker's, such as `{GPU = 1}`.
        security: TLS files.
    """

    address: str | None = None
    max_inflight: Count | None = MAX_INFLIGHT
    max_workers: Count | None = None
    resources: Mapping[str, Amount] | None = None
    security: SecurityOptions | None = None


class DaskEngineOptions(EngineOptions):
    """Options of the engine.

    Attributes:
        address: as of the executor.
        resources: likewise, for each pipe that runs.
        security: likewise.
    """

    address: str | None = None
    resources: Mapping[str, Amount] | None = None
    security: SecurityOptions | None = None


CAPABILITIES: Final = Capabilities(
    concurrent=True, crosses_process=True, distributed=True, can_kill=True, reports_progress=True
)


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The executor and the engine."""
    executor, engine = "manyhands_dask.executor:DaskExecutor", "manyhands_dask.engine:DaskEngine"
    return [
        Backend("dask", "executor", executor, DaskOptions, CAPABILITIES),
        Backend("dask", "engine", engine, DaskEngineOptions, CAPABILITIES),
    ]
