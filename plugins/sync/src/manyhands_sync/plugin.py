"""What manyhands sees of this distribution."""

from __future__ import annotations

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, hookimpl


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The one backend."""
    capabilities = Capabilities(inline=True)
    return [Backend("sync", "executor", "manyhands_sync.executor:SyncFifoExecutor", capabilities=capabilities)]
