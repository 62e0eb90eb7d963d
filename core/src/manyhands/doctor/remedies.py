"""Lines that work when they are pasted into the shell in which doctor was called."""

from __future__ import annotations

import shlex
import shutil
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def pip(verb: str, *arguments: str) -> str:
    """A command of pip for the Python that runs this, however it was found: a bare `pip` may be another one's."""
    before, after = _installer()
    options = ["-y"] if verb == "uninstall" and not after else []
    return " ".join([before, verb, *after, *options, *map(shlex.quote, arguments)])


def shell(*words: object) -> str:
    """A command, each word quoted where it must be."""
    return shlex.join(map(str, words))


def edit(file: Path) -> str:
    """The command that opens a file in the person's editor: what is wrong in it only they can put right."""
    return f"${{EDITOR:-vi}} {shlex.quote(str(file))}"


@cache
def _installer() -> tuple[str, tuple[str, ...]]:
    """What stands before the verb, and behind it."""
    python = shlex.quote(sys.executable)
    found = shutil.which("pip")
    if found is not None and Path(found).absolute().parent == Path(sys.executable).absolute().parent:
        return "pip", ()
    if find_spec("pip") is not None:
        return f"{python} -m pip", ()
    if shutil.which("uv") is not None:
        return "uv pip", ("--python", python)
    return f"{python} -m ensurepip && {python} -m pip", ()
