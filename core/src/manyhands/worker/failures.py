"""From an exception to the error details of an entry: the same words in every process."""

from __future__ import annotations

import re
from typing import Final

from pydantic_core import PydanticSerializationError, ValidationError

from manyhands.errors import EncodeError, ManyhandsError, RecordError, WorkerInitError
from manyhands.records import ErrorDetail

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]+")


def stable(message: str) -> str:
    """The message without memory addresses, which differ from run to run."""
    return _ADDRESS.sub("0x…", message) if "0x" in message else message


def detail(type_: str, message: str, loc: tuple[str | int, ...] = ()) -> ErrorDetail:
    """One error detail."""
    return {"type": type_, "message": stable(message), "loc": list(loc)}


def describe(error: BaseException) -> list[ErrorDetail]:
    """The details of an exception: one for each finding of a validation error, else one."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [detail(item["type"], item["msg"], item["loc"]) for item in found]
    if isinstance(error, RecordError):
        return [detail(error.type, words(error), error.loc)]
    if isinstance(error, PydanticSerializationError):  # the fast encoders do not translate it
        return [detail(EncodeError.type, f"no JSON form: {error}")]
    return [detail(type(error).__name__, words(error))]


def words(error: BaseException) -> str:
    """What the exception says; its type where it says nothing, or fails to."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001  # the person's own __str__
        return type(error).__name__


def as_init_error(error: Exception, where: str = "") -> ManyhandsError:
    """Why a worker cannot start, in words of ours.

    Args:
        error: what loading the job raised.
        where: the worker, if it may be on another machine.
    """
    if not isinstance(error, ManyhandsError):
        error = WorkerInitError(f"a worker process cannot load the job: {type(error).__name__}: {words(error)}")
    if where and type(error) is WorkerInitError:
        return WorkerInitError(f"{error}; this was on {where}")
    return error
