"""Writes a new folder, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final

from manyhands.errors import OutputError

_TEMPLATES: Final = Path(__file__).parent / "templates"
# Behind this ending no tool takes a template for what it will be: its names are still to be filled in.
_ENDING: Final = ".template"
NO_FOLDER: Final = "the current folder is no longer there; go to another one"


def rendered(kind: str, **values: str) -> dict[str, str]:
    """The files of a kind of folder by their names in it.

    Args:
        kind: the folder of its templates.
        values: what stands for each `$name` in them; that of `module` also for `NAME` in their own names.
    """
    root = _TEMPLATES / kind
    files = sorted(path for path in root.rglob(f"*{_ENDING}") if path.is_file())
    return {
        file.relative_to(root).as_posix().removesuffix(_ENDING).replace("NAME", values.get("module", "")): Template(
            file.read_text(encoding="utf-8")
        ).substitute(values)
        for file in files
    }


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write a folder that is not there yet.

    Args:
        folder: the folder.
        files: text by name.

    Raises:
        OutputError: there is something of that name, or it cannot be written; then nothing of it is left.
    """
    try:
        folder.mkdir()
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {_reason(folder, error)}") from error
    try:
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)  # all of it is ours: it was not there before
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {folder}: {_reason(folder, error)}") from error
        raise


def _reason(folder: Path, error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return "it exists, and nothing is ever overwritten; choose another name, or another folder by --into"
    if not folder.parent.is_dir():
        return f"the folder {folder.parent} does not exist; create it first"
    if isinstance(error, FileNotFoundError):  # the current folder, which is one even when it has been removed
        return NO_FOLDER
    return error.strerror or str(error)
