"""A fresh Python like this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from manyhands.processes import signals

# sys.path comes first: without it, manyhands itself may not be found.
_BOOTSTRAP: Final = (
    "import sys; sys.path[:] = sys.argv[{first}:]; del sys.argv[{first}:]; from {module} import main; main()"
)


def start(module: str, *arguments: object, fds: Sequence[int], output: int | None = None) -> subprocess.Popen[bytes]:
    """Start an interpreter with the flags and `sys.path` of this one, with ^C and SIGTERM held back.

    Args:
        module: its function `main` is called.
        arguments: what it finds in `sys.argv[1:]`, as text.
        fds: what it inherits, under the same numbers, from 3.
        output: where its stdout and stderr go; None: nowhere, and to this process's stderr.

    Raises:
        OSError: it could not be started.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]  # Python itself passes over the others
    code = _BOOTSTRAP.format(first=len(arguments) + 1, module=module)
    command = [sys.executable, *_flags(), "-c", code, *map(str, arguments), *path]
    with signals.held():
        return subprocess.Popen(  # noqa: S603  # this very interpreter
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=output,
            pass_fds=fds,
            env=os.environ,  # not what C code has put there besides, as readline does: a fork would not get it
        )


def _flags() -> list[str]:
    """Private, but what the standard library itself uses, and right for each version of Python."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return flags
