"""Calls what could hang, crash or print in a process of its own: the code of others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn

_BOOTSTRAP: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from manyhands.doctor.isolated import answer; answer()"
)


class NoAnswer(Exception):
    """The process ended without an answer, or had to be ended; says how."""


def ask(function: str, *arguments: Any, seconds: float) -> Any:
    """What a function returns in another process, which has the `sys.path` and environment of this one.

    Args:
        function: `module:function`.
        arguments: for it; they and what it returns are JSON.
        seconds: how long it may take.

    Raises:
        NoAnswer: it took longer, raised, or ended its process.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]
    line = [sys.executable, "-c", _BOOTSTRAP, function, json.dumps(arguments), str(os.getpid()), json.dumps(path)]
    # A file, not a pipe: whatever the code starts may keep a pipe open, and reading it would never end.
    with tempfile.TemporaryFile() as reply:
        code = _run(line, reply, seconds)
        reply.seek(0)
        text = reply.read()
    if not text:
        raise NoAnswer(f"it ended its process ({_how(code)})")
    found = json.loads(text)
    if "raised" in found:
        raise NoAnswer(found["raised"])
    return found["returned"]


def words(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def answer() -> NoReturn:
    """Be the process that is asked."""
    function, arguments, parent = sys.argv[1:]
    _hang_on(int(parent))
    reply = os.dup(1)
    os.dup2(2, 1)  # what the code prints is no answer
    module, _, name = function.partition(":")
    try:
        found = {"returned": getattr(import_module(module), name)(*json.loads(arguments))}
    except BaseException as error:  # noqa: BLE001  # also SystemExit: it is what was asked for
        found = {"raised": words(error)}
    os.write(reply, json.dumps(found).encode())
    os._exit(0)  # whatever threads the code has started


def _hang_on(parent: int) -> None:
    """Not outlive who asked, where the kernel sees to that."""
    if os.name == "posix":
        from manyhands.processes import lifeline

        lifeline.die_with(parent)


def _run(line: list[str], reply: Any, seconds: float) -> int:
    process = subprocess.Popen(  # noqa: S603  # this very interpreter
        line, stdin=subprocess.DEVNULL, stdout=reply, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"it did not end within {seconds:g} s") from None
    finally:
        if process.returncode is None:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it and what it has started."""
    with suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
