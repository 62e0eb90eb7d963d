"""What outputs are called until they are complete, and what keeps them from being written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from manyhands.errors import OutputError


def check_overlap(sources: Iterable[tuple[Path, str]], targets: Iterable[tuple[Path, str]]) -> None:
    """No target may overwrite a source or another target, neither under its final name nor under its partial one.

    Args:
        sources: files that are read, and what they are.
        targets: files that are written, and what they are.

    Raises:
        OutputError: one would.
    """
    seen = {os.path.realpath(path): what for path, what in sources}
    for path, what in targets:
        final = os.path.realpath(path)
        for name in (final, f"{final}.partial"):
            if name in seen:
                it = "it" if name == final else f"until it is complete it is {name}, and that"
                raise OutputError(f"cannot write {path}: {it} is also {seen[name]} of this job")
            seen[name] = what


def partial_name(path: Path) -> Path:
    """What an output is called until it is complete."""
    return path.with_name(f"{path.name}.partial")


def obstacle(partial: Path) -> str | None:
    """Why what is at a partial name keeps a run from writing there; None: it does not, or nothing is there."""
    try:
        found = partial.lstat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        return f"{partial} is no regular file of its own; move or remove it"
    if not os.access(partial, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"{partial} may not be read and written; remove it"
    return None


def words(error: OSError | ValueError) -> str:
    """What the system says of it."""
    return getattr(error, "strerror", None) or str(error)
