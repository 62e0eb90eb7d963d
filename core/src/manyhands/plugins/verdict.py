"""What is wrong with a backend's description, as far as it can be seen without importing what it describes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from manyhands.executor import Capabilities
from manyhands.plugins.spec import PLUGIN_API, Backend

Fault = tuple[Literal["old", "new", "broken"], str]
"""What kind of fault, and what was found."""


def fault_of(backend: object) -> Fault | None:
    """What is wrong with what a plugin described; None: nothing.

    Args:
        backend: anything: it is a stranger's answer.
    """
    if not isinstance(backend, Backend):
        return "broken", f"manyhands_backends() gave {type(backend).__name__}, not Backend"
    api: object = backend.plugin_api
    if type(api) is not int:
        return "broken", f"its plugin_api is {api!r}, not an int"
    if api != PLUGIN_API:
        return "old" if api < PLUGIN_API else "new", f"written for plugin interface {api}, this is {PLUGIN_API}"
    wrong = _wrong_part(backend)
    return None if wrong is None else ("broken", wrong)


def _wrong_part(backend: Backend) -> str | None:
    if not (isinstance(backend.options, type) and issubclass(backend.options, BaseModel)):
        return f"its options {backend.options!r} are no pydantic model"
    if backend.kind not in ("executor", "engine"):
        return f"{backend.kind!r} is neither an executor nor an engine"
    if not isinstance(backend.capabilities, Capabilities):
        return f"its capabilities {backend.capabilities!r} are no Capabilities"
    for key in ("load", "prepare"):
        reference = getattr(backend, key)
        if not (isinstance(reference, str) or (key == "prepare" and reference is None)):
            return f'its {key} is {reference!r}, not "module:attribute"'
    return None
