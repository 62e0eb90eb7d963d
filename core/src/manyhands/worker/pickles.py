"""Functions, arguments, results and exceptions as bytes, for calls that run in another process.

Only for private channels between processes of one user: reading them runs code.
"""

from __future__ import annotations

import pickle
from traceback import format_exception
from typing import Any, Final

import cloudpickle

from manyhands.errors import CallError
from manyhands.worker.failures import words

_MAIN: Final = b"__main__"


class RemoteTraceback(Exception):
    """The `__cause__` of an exception from another process: what a traceback there looked like.

    Args:
        text: of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def dumps(value: Any) -> bytes:
    """The value as bytes, by value where the other process could not import it.

    Raises:
        Exception: it cannot be pickled; whatever its own code raises, too.
    """
    if not cloudpickle.list_registry_pickle_by_value():
        try:
            plain = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001  # what pickle cannot do, cloudpickle may
            plain = _MAIN
        # Eight times as fast as cloudpickle for a small value. But what belongs to the main program goes by its name,
        # and another process has another main program.
        if _MAIN not in plain:
            return plain
    return bytes(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))


def loads(data: bytes | memoryview) -> Any:
    """The value again.

    Raises:
        Exception: it cannot be unpickled here; whatever its own code raises, too.
    """
    return pickle.loads(data)  # noqa: S301  # from a process of our own


def dump_error(error: BaseException) -> tuple[bytes, str]:
    """An exception, or a `CallError` in place of one that would not arrive, and its traceback as text."""
    text = "".join(format_exception(error))
    try:
        data = dumps(error)
        if isinstance(loads(data), BaseException):
            return data, text
        why = "it is no exception when it is unpickled"
    except BaseException as obstacle:  # noqa: BLE001  # its own code runs, and may raise anything
        why = named(obstacle)
    return dumps(CallError(f"the call raised {named(error)}; the exception itself cannot be sent back: {why}")), text


def load_error(data: bytes, text: str) -> BaseException:
    """The exception again, or a `CallError` where that cannot be; its cause shows the traceback over there."""
    try:
        return _caused(loads(data), text)
    except BaseException as obstacle:  # noqa: BLE001  # as above
        message = f"the call raised an exception that cannot be unpickled here: {named(obstacle)}"
        return _caused(CallError(message), text)


def dump_failure(error: BaseException) -> bytes:
    """An exception of a worker for its supervisor, alone; a `RuntimeError` in place of one that would not arrive."""
    try:
        data = dumps(error)
        loads(data)
    except Exception:  # noqa: BLE001  # its own code may raise anything
        data = dumps(RuntimeError(f"{type(error).__name__}: {words(error)}"))
    return data


def load_failure(data: bytes) -> Any:
    """The exception again, in the supervisor, or what kept it from being read."""
    try:
        return loads(data)
    except Exception as error:  # noqa: BLE001  # its own code may raise anything, its module may be missing
        return RuntimeError(f"an exception of a worker cannot be unpickled: {type(error).__name__}: {words(error)}")


def _caused(error: BaseException, text: str) -> BaseException:
    # Not by assignment: its class may refuse attributes.
    BaseException.__cause__.__set__(error, RemoteTraceback(text))  # type: ignore[union-attr]
    return error


def named(error: BaseException) -> str:
    """Type and text."""
    name, said = type(error).__qualname__, words(error)
    return name if said == name else f"{name}: {said}"
