"""A job for a sample of somebody's data: checked, run and accepted by its model as it is written."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manyhands.errors import InputError, OutputError, UsageError
from manyhands.scaffold.folder import NO_FOLDER, rendered, write_folder
from manyhands.scaffold.models import infer
from manyhands.scaffold.notes import notes_of
from manyhands.scaffold.sample import Sample, open_sample
from manyhands.scaffold.source import source_of

_NAME: Final = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class NewJob:
    """What was written.

    Attributes:
        folder: where.
        read: what of the sample it is made of.
        notes: what may have been meant otherwise, each in one line.
    """

    folder: Path
    read: str
    notes: tuple[str, ...] = ()


def new_job(path: Path, name: str | None, into: Path) -> NewJob:
    """Write a folder with a job that reads the sample, and a model that its records fit.

    Args:
        path: the sample.
        name: of the folder; None: that of the sample.
        into: the folder in which the new one is written.

    Raises:
        UsageError: the name cannot be used.
        InputError: the sample cannot be read, or not all of it.
        OutputError: the folder exists or cannot be written.
    """
    name = _checked(name) if name is not None else _name_of(path)
    sample = open_sample(path)
    models = infer(sample)
    records = "1 record" if sample.count == 1 else f"{sample.count:,} records"
    files = rendered("job", name=name, input=_input(sample, into))
    module = source_of(models, f"What a record of {name} looks like.")
    write_folder(into / name, {**files, "models.py": module})
    read = f"{'the first ' if sample.cut else ''}{records} of {path.name}"
    return NewJob(into / name, read, tuple(notes_of(sample, models)))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a job: write letters, digits, hyphens and dots")
    return name


def _name_of(path: Path) -> str:
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "job"


def _input(sample: Sample, into: Path) -> str:
    """The table [input]."""
    options = {"adapter": sample.adapter, "path": _path(sample.path, into), **sample.options}
    return "\n".join(f"{key} = {_toml(value)}" for key, value in options.items())


def _path(path: Path, into: Path) -> str:
    """The sample as the job names it: beside or below the new folder by the way there, else from the root."""
    try:
        home = Path(os.path.realpath(into))
    except OSError as error:
        raise OutputError(f"cannot write into {into}: {NO_FOLDER}") from error
    found = Path(os.path.realpath(path.parent)) / path.name
    return (Path("..") / found.relative_to(home)).as_posix() if found.is_relative_to(home) else str(found)


def _toml(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a job file cannot hold the name {text!r}: it is no text; give the sample another") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
