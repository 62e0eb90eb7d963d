"""The job file, looked at as `manyhands check` does."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from manyhands.doctor.finding import Finding
from manyhands.doctor.isolated import NoAnswer, ask
from manyhands.doctor.remedies import edit, pip, shell

_PATIENCE: Final = 60.0
"""Seconds that importing all that the job names may take."""

_MISSING: Final = re.compile(r"the folder (.+) does not exist; create it first$")
_PIP: Final = re.compile(r": pip (install|uninstall) (.+)$")


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
    if missing := _MISSING.search(problem):
        return shell("mkdir", "-p", "--", missing[1])
    if command := _PIP.search(problem):
        return pip(command[1], *command[2].split())
    return edit(job)
