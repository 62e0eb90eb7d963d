"""Pipes that run on other machines: names of files that mean the same there, and errors that name the machine."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import InputError, OutputError, SinkError, SourceError, TeardownError, WorkerInitError

if TYPE_CHECKING:
    from manyhands.engines.task import Outcome
    from manyhands.pipe import Pipe

_OF_MACHINES: Final = (InputError, OutputError, SourceError, SinkError, WorkerInitError, TeardownError, OSError)
_UNSEEN: Final = "; an engine needs files that all workers see under the same names, an executor does not"


def located(pipe: Pipe) -> Pipe:
    """The pipe with absolute names of files; relative ones are taken from the folder in which this process is.

    Args:
        pipe: which; it is not changed.
    """
    found = copy(pipe)
    found.input_adapter = _located(pipe.input_adapter)
    found.output_adapter = _located(pipe.output_adapter)
    found.error_output_adapter = _located(pipe.error_output_adapter)
    return found


def run_at(where: str, run: Callable[[], Outcome]) -> Outcome:
    """Run a pipe; errors that another machine need not have name this one.

    Args:
        where: the worker or its machine, in words.
        run: does it.

    Raises:
        InputError, OutputError, OSError: as `run` raises them.
    """
    try:
        outcome = run()
    except _OF_MACHINES as error:
        raise _placed(error, where) from error
    if isinstance(outcome.exception, _OF_MACHINES):
        return replace(outcome, exception=_placed(outcome.exception, where))
    return outcome


def _placed(error: BaseException, where: str) -> BaseException:
    hint = _UNSEEN if isinstance(error, InputError | OutputError) else ""
    return type(error)(f"{error}; this was on {where}{hint}")


def _located(adapter: Any) -> Any:
    """Of a shard or a part also that of the whole."""
    if adapter is None:
        return None
    found = copy(adapter)
    if isinstance(getattr(adapter, "path", None), Path):
        object.__setattr__(found, "path", adapter.path.absolute())  # most are frozen, but this copy is ours
    if hasattr(adapter, "_whole"):
        found._whole = _located(adapter._whole)  # noqa: SLF001  # of a shard or a part of ours
    return found
