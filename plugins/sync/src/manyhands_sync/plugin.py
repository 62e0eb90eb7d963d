"""What manyhands sees of this distribution."""

from __future__ import annotations

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, EngineOptions, hookimpl


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The executor and the engine."""
    inline = Capabilities(inline=True)
    return [
        Backend("sync", "executor", "manyhands_sync.executor:SyncFifoExecutor", capabilities=inline),
        Backend("sync", "engine", "manyhands_sync.engine:SequentialEngine", EngineOptions, inline),
    ]
