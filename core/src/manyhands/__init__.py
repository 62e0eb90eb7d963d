"""manyhands: write a record pipeline once, choose by name whose hands do it.

The names below are imported when they are first used, so that `import manyhands` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from manyhands._version import __version__

if TYPE_CHECKING:
    from manyhands.adapters.base import BaseInputAdapter as BaseInputAdapter
    from manyhands.adapters.base import BaseOutputAdapter as BaseOutputAdapter
    from manyhands.adapters.csv import CSVInputAdapter as CSVInputAdapter
    from manyhands.adapters.csv import CSVOutputAdapter as CSVOutputAdapter
    from manyhands.adapters.json import JSONInputAdapter as JSONInputAdapter
    from manyhands.adapters.json import JSONOutputAdapter as JSONOutputAdapter
    from manyhands.adapters.memory import MemoryOutputAdapter as MemoryOutputAdapter
    from manyhands.adapters.memory import NullOutputAdapter as NullOutputAdapter
    from manyhands.adapters.python import IterableInputAdapter as IterableInputAdapter
    from manyhands.chunks import Chunk as Chunk
    from manyhands.chunks import ChunkKind as ChunkKind
    from manyhands.chunks import ChunkResult as ChunkResult
    from manyhands.doors.futures import as_futures_executor as as_futures_executor
    from manyhands.doors.joblib_door import register_joblib as register_joblib
    from manyhands.driver.options import RunOptions as RunOptions
    from manyhands.engine import Engine as Engine
    from manyhands.engines.base import BaseEngine as BaseEngine
    from manyhands.errors import ManyhandsError as ManyhandsError
    from manyhands.executor import BaseExecutor as BaseExecutor
    from manyhands.executor import Capabilities as Capabilities
    from manyhands.executor import Executor as Executor
    from manyhands.executor import Progress as Progress
    from manyhands.hooks import BaseHook as BaseHook
    from manyhands.hooks import HookPriority as HookPriority
    from manyhands.hooks import HookStore as HookStore
    from manyhands.live import WorkerView as WorkerView
    from manyhands.manager import PipeManager as PipeManager
    from manyhands.pipe import Pipe as Pipe
    from manyhands.plugins.registry import get_engine as get_engine
    from manyhands.plugins.registry import get_executor as get_executor
    from manyhands.plugins.spec import Backend as Backend
    from manyhands.plugins.spec import EngineOptions as EngineOptions
    from manyhands.plugins.spec import ExecutorOptions as ExecutorOptions
    from manyhands.plugins.spec import ProcessExecutorOptions as ProcessExecutorOptions
    from manyhands.plugins.spec import hookimpl as hookimpl
    from manyhands.pool import Pool as Pool
    from manyhands.records import Entry as Entry
    from manyhands.records import EntryStatus as EntryStatus
    from manyhands.records import Outcome as Outcome
    from manyhands.report import FlowReport as FlowReport
    from manyhands.report import RunStatus as RunStatus
    from manyhands.worker.context import WorkerContext as WorkerContext
    from manyhands.worker.pipeline import process_chunk_on_worker as process_chunk_on_worker
    from manyhands.worker.remote import RemoteWorker as RemoteWorker
    from manyhands.worker.transport import dump_chunk as dump_chunk
    from manyhands.worker.transport import load_result as load_result

_HOMES = {
    "adapters.base": ("BaseInputAdapter", "BaseOutputAdapter"),
    "adapters.csv": ("CSVInputAdapter", "CSVOutputAdapter"),
    "adapters.json": ("JSONInputAdapter", "JSONOutputAdapter"),
    "adapters.memory": ("MemoryOutputAdapter", "NullOutputAdapter"),
    "adapters.python": ("IterableInputAdapter",),
    "chunks": ("Chunk", "ChunkKind", "ChunkResult"),
    "doors.futures": ("as_futures_executor",),
    "doors.joblib_door": ("register_joblib",),
    "driver.options": ("RunOptions",),
    "engine": ("Engine",),
    "engines.base": ("BaseEngine",),
    "errors": ("ManyhandsError",),
    "executor": ("BaseExecutor", "Capabilities", "Executor", "Progress"),
    "hooks": ("BaseHook", "HookPriority", "HookStore"),
    "live": ("WorkerView",),
    "manager": ("PipeManager",),
    "pipe": ("Pipe",),
    "plugins.registry": ("get_engine", "get_executor"),
    "plugins.spec": ("Backend", "EngineOptions", "ExecutorOptions", "ProcessExecutorOptions", "hookimpl"),
    "pool": ("Pool",),
    "records": ("Entry", "EntryStatus", "Outcome"),
    "report": ("FlowReport", "RunStatus"),
    "worker.context": ("WorkerContext",),
    "worker.pipeline": ("process_chunk_on_worker",),
    "worker.remote": ("RemoteWorker",),
    "worker.transport": ("dump_chunk", "load_result"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604  # every name is a str


def __getattr__(name: str) -> Any:
    try:
        module = importlib.import_module(f"manyhands.{_HOME[name]}")
    except KeyError:
        raise AttributeError(f"module 'manyhands' has no attribute {name!r}") from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
