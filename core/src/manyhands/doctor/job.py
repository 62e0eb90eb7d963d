"""The job file, looked at as `manyhands check` does."""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from manyhands.doctor.finding import Finding
from manyhands.doctor.isolated import NoAnswer, ask
from manyhands.doctor.leftovers import make_way
from manyhands.doctor.remedies import edit, pip, shell

_PATIENCE: Final = 60.0
"""Seconds that importing all that the job names may take."""


def check(job: Path | None) -> Iterator[Finding]:
    """Whether it can run; nothing is run, but what it names is imported, in another process."""
    if job is None:
        return
    try:
        problem = ask("manyhands.doctor.job:problem_of", str(job), seconds=_PATIENCE)
    except NoAnswer as error:
        problem = f"importing what it names failed: {error}"
    if problem is None:
        yield Finding("job", "ok", str(job), "can run")
        return
    for line in problem.splitlines():
        yield Finding("job", "error", str(job), line.removeprefix(f"{job}: "), _remedy(job, line))


def problem_of(job: str) -> str | None:
    """Why `manyhands check` refuses a job; None: it does not."""
    from manyhands.cli.check import check_job
    from manyhands.errors import ManyhandsError

    try:
        with redirect_stdout(io.StringIO()):
            check_job(Path(job), executor=None, settings=[])
    except ManyhandsError as error:
        return str(error)
    return None


def _remedy(job: Path, problem: str) -> str:
    for pattern, remedy in _REMEDIES.items():
        if found := re.search(pattern, problem):
            return remedy(*found.groups())
    return edit(job)


def _pip(words: str) -> str:
    verb, *arguments = shlex.split(words)
    return pip(verb, *arguments)


def _make(folder: str) -> str:
    return shell("mkdir", "-p", "--", folder)


def _open(file: str) -> str:
    """Let it be read: the file, or the first folder on the way that may not be looked into."""
    path = Path(file)
    closed = [folder for folder in reversed(path.parents) if not _is_open(folder)]
    shut, rights = (closed[0], "rx") if closed else (path, "r")
    own = not hasattr(os, "getuid") or shut.stat().st_uid == os.getuid()
    return shell(*(("chmod", f"u+{rights}") if own else ("sudo", "chmod", f"o+{rights}")), "--", shut)


def _is_open(folder: Path) -> bool:
    return os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _look(file: str) -> str:
    """See what is there instead: the folder itself, or the last one on the way that exists."""
    path = Path(file)
    there = next((known for known in (path, *path.parents) if os.path.isdir(known)), path)  # noqa: PTH112  # pathlib raises
    return shell("ls", "-l", "--", there)


def _unlock(folder: str) -> str:
    return shell("chmod", "u+w", "--", folder)


def _make_way(partial: str) -> str:
    return make_way(Path(partial))


_REMEDIES: Final[Mapping[str, Callable[[str], str]]] = {
    r": pip ((?:install|uninstall) .+)$": _pip,
    r"the folder (.+) does not exist; create it first$": _make,
    r"the folder (.+) is read-only$": _unlock,
    r": (/.+\.partial) is no regular file of its own; move or remove it$": _make_way,
    r": (/.+\.partial) may not be read and written; remove it$": _make_way,
    r"^cannot read (.+): Permission denied$": _open,
    r"^cannot read (.+): (?:No such file or directory|Is a directory|Not a directory)$": _look,
}
"""By what `manyhands check` says; whatever else is wrong can only be edited."""
