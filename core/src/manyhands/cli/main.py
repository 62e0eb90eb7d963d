"""Calls a command; how each way to end becomes one message and an exit code.

0  finished, every record accounted for
1  the run failed or was aborted; or the command was interrupted, or could not print
2  the job, the command line or the installation is wrong: nothing ran
3  finished, but records are dead; with --strict also when any was rejected
"""

from __future__ import annotations

import atexit
import gc
import io
import signal
import sys
from typing import Final

from manyhands.cli.streams import open_streams, silence

_INTERRUPTED: Final = 130
"""What typer makes of ^C, without a word."""


def main() -> None:
    """Entry point of the `manyhands` command."""
    # Runs last: Python only takes itself apart then, and ^C would change nothing but the exit code.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with open_streams():
        try:
            code = _call()
        except KeyboardInterrupt:
            code = _complain("interrupted", 1)
    sys.exit(code)


def _call() -> int | str | None:
    """The command's exit code, when all that it printed is written."""
    from manyhands.errors import ManyhandsError, UsageError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: any file name can be shown on any terminal
    try:
        return _flushed(_run())
    except UsageError as error:
        return _complain(error, 2)
    except ManyhandsError as error:
        return _complain(error, 1)
    except OSError as error:
        if not _cannot_print():
            raise
        return _complain(f"cannot write to the standard output: {error.strerror}", 1)


def _run() -> int | str | None:
    gc.set_threshold(50_000, 20, 100)  # what is imported stays: a tenth of the time went into looking for garbage in it
    # Imported here, where ^C is caught: it takes long enough for that.
    from manyhands.cli.commands import app

    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            raise KeyboardInterrupt from None
        return end.code
    return 0


def _flushed(code: int | str | None) -> int | str | None:
    """The code, when all that was printed is written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads it any more
        silence(sys.stdout)
        return 1
    return code


def _cannot_print() -> bool:
    """Whether standard output is what failed: then it fails again."""
    try:
        print(flush=True)
    except OSError:
        silence(sys.stdout)
        return True
    return False


def _complain(what: object, code: int) -> int:
    try:
        print(f"manyhands: {what}", file=sys.stderr, flush=True)
    except OSError:  # nobody can be told; what is left of it must not change the exit code
        silence(sys.stderr)
    return code
