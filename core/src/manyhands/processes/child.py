"""The life of a worker process, from its first instruction to its last."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from manyhands.processes import lifeline, signals


def main() -> NoReturn:
    """Where a spawned interpreter begins."""
    function, parent, held, *inherited = sys.argv[1:]
    fds = [int(fd) for fd in inherited]
    for fd in fds:
        os.set_inheritable(fd, False)
    live(function, fds[1 + int(held) :], life=fds[0], parent=int(parent))


def live(function: str, fds: Sequence[int], *, life: int, parent: int) -> NoReturn:
    """Be a worker: call the function and end.

    Args:
        function: `module:function`.
        fds: what it is called with; none is inheritable.
        life: the read end of the life pipe.
        parent: the parent's process id.

    The exit status is that of a script that calls the function. No frame of the caller is unwound.
    """
    code = 1
    try:
        lifeline.hang_on(life)
        lifeline.die_with(parent)
        signals.take()
        _prepare()
        code = _call(function, list(fds))
        _finish()
    except BaseException as error:  # noqa: BLE001  # there is nobody to whom it could go
        _show(error)
    finally:
        os._exit(code)


def _prepare() -> None:
    del sys.argv[1:]
    lifeline.flush_lines()
    sys.stdout = sys.__stdout__ = _open_text(1)  # type: ignore[misc]  # Final in typeshed, for users
    sys.stderr = sys.__stderr__ = _open_text(2)  # type: ignore[misc]  # likewise


def _open_text(fd: int) -> TextIOWrapper:
    """A new stream: that of a server cannot be reconfigured, because what it writes to is no longer a file."""
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _call(function: str, fds: list[int]) -> int:
    module, _, name = function.partition(":")
    try:
        getattr(import_module(module), name)(fds)
    except SystemExit as leaving:
        return _exit_code(leaving.code)
    except BaseException as error:  # noqa: BLE001  # it ends here, as at the top of a script
        _show(error)
        return 1
    return 0


def _show(error: BaseException) -> None:
    sys.excepthook(type(error), error, error.__traceback__)


def _exit_code(code: object) -> int:
    """As Python does it."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)  # noqa: T201  # as said
    return 1


def _finish() -> None:
    """What Python does at its end, so far as anybody can notice: a fork cannot return to it."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # private, but multiprocessing's way too
    atexit._run_exitfuncs()  # noqa: SLF001  # as above
    with suppress(OSError, ValueError):  # closed, or the reader has gone
        sys.stdout.flush()
        sys.stderr.flush()
    if lifeline.libc is not None:
        lifeline.libc.fflush(None)
