"""What a plugin tells manyhands: one hook, answered with descriptions that cost no import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import pluggy
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from manyhands.executor import Capabilities

PLUGIN_API: Final = 1
"""Version of this interface. A plugin says which one it was written for."""

GROUP: Final = "manyhands"
"""The entry-point group. An entry point's name is the name of the backend that its module describes."""

hookspec: Final = pluggy.HookspecMarker(GROUP)
hookimpl: Final = pluggy.HookimplMarker(GROUP)


class ExecutorOptions(BaseModel):
    """Options that every executor has. Derive from it to add some; their names are the constructor's.

    Attributes:
        chunksize: records in a chunk, honoured to the letter; left out: raw blocks of about 256 KiB, or 1000 records.
        use_batch_validation: validate a chunk by one call. Changes how often validators run, never the outcome.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    chunksize: Annotated[int, Field(ge=1, strict=True)] | None = None
    use_batch_validation: StrictBool = False


class ProcessExecutorOptions(ExecutorOptions):
    """Options of executors whose chunks cross processes.

    Attributes:
        compression: `"lz4"` to compress what travels.
    """

    compression: Literal["lz4"] | None = None


class EngineOptions(BaseModel):
    """Options that every engine has.

    Attributes:
        n_workers: how many pipes run at a time; left out: all.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    n_workers: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend as its plugin describes it.

    Attributes:
        name: by which it is chosen; the same as the entry point's.
        kind: `executor` or `engine`.
        load: `module:attribute` of its class, imported when it is chosen.
        options: the model that checks its options.
        capabilities: what it can do.
        prepare: `module:function` that the command line calls with the options before it imports anything of the
            person's, for what is cheaper then. It gives a context manager that lasts as long as the command. None:
            there is nothing to do.
        plugin_api: the `PLUGIN_API` it was written for.
    """

    name: str
    kind: Literal["executor", "engine"]
    load: str
    options: type[BaseModel] = ExecutorOptions
    capabilities: Capabilities = Capabilities()  # noqa: RUF009  # frozen: all may share it
    prepare: str | None = None
    plugin_api: int = PLUGIN_API


class Spec:
    """The hooks of a plugin."""

    @hookspec
    def manyhands_backends(self) -> Sequence[Backend]:  # type: ignore[empty-body]  # a specification has none
        """The backends of this plugin. Import nothing heavy here: listing all backends calls it for each plugin."""


def backends_of(name: str, plugin: Any) -> list[Backend]:
    """What the plugin describes.

    Args:
        name: of its entry point.
        plugin: the imported module.

    Raises:
        pluggy.PluginValidationError: it implements a hook that does not exist, or wrongly.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Spec)
    manager.register(plugin, name)
    manager.check_pending()
    return [backend for found in manager.hook.manyhands_backends() for backend in found]
