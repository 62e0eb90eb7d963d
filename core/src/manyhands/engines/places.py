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

_OF_MACHINES: Final = (InputError, OutputError, SourceError, SinkError, WorkerInitError, TeardownError)
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
    except Exception as error:  # noqa: BLE001  # it is raised again
        raise _placed(error, where) from error.__cause__
    return replace(outcome, exception=outcome.exception and _placed(outcome.exception, where))


def _placed(error: BaseException, where: str) -> BaseException:
    """The error with the place in its words; as it is, if it is of a class of the person's, which may take others."""
    hint = _UNSEEN if isinstance(error.__cause__ or error, FileNotFoundError) else ""
    placed = error
    if type(error) in _OF_MACHINES:
        placed = type(error)(f"{error}; this was on {where}{hint}")
    elif isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno is not None:
        placed = type(error)(error.errno, f"{error.strerror}; this was on {where}{hint}", error.filename)
    placed.__cause__ = error.__cause__
    return placed


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
