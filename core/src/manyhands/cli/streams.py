"""Standard streams that are closed, or that nobody reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def open_streams() -> Iterator[None]:
    """Let a standard stream that whoever called us has closed lead to nowhere.

    All three and in this order, so that each gets its own descriptor: otherwise the next file that is opened would,
    and what is printed would be written into it.
    """
    with ExitStack() as opened:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, opened.enter_context(Path(os.devnull).open(mode, encoding="utf-8")))
                opened.callback(setattr, sys, name, None)
        yield


def silence(stream: TextIO) -> None:
    """Send what is and will be printed there to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def show(printing: Callable[[], None]) -> None:
    """Print. That nobody reads it any more, or that it cannot be stored, is no reason to end a run."""
    try:
        printing()
        sys.stdout.flush()
    except OSError:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                silence(stream)
