"""The backends: installed, missing, broken, doubled, hidden, too old or too new."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import EntryPoint
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from manyhands.doctor.finding import Finding, Level
from manyhands.doctor.isolated import NoAnswer, ask
from manyhands.doctor.remedies import pip, shell
from manyhands.doctor.requirements import CORE, Unmet, requirements_of_core, unmet
from manyhands.plugins.distributions import KNOWN, installable, name_and_version
from manyhands.plugins.registry import backend_points

_PATIENCE: Final = 30.0
"""Seconds that importing a plugin and what it describes may take."""


def check(job: Path | None) -> Iterator[Finding]:
    """Every entry point, every known backend that is not there, and files that hide packages."""
    points = sorted(backend_points(), key=lambda point: (point.name, _name(point)))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers = list(pool.map(_ask, points))
    for point, answer in zip(points, answers, strict=True):
        yield from _judge(point, answer)
    for name, group in groupby(points, key=lambda point: point.name):
        yield from _clash(name, list(group))
    for name in sorted(KNOWN.keys() - {point.name for point in points}):
        yield Finding("plugins", "ok", name, "not installed", pip("install", *installable(KNOWN[name])))
    yield from _hidden(points, job)


def _ask(point: EntryPoint) -> dict[str, Any]:
    try:
        found: dict[str, Any] = ask("manyhands.doctor.probe:probe", point.name, point.value, seconds=_PATIENCE)
    except NoAnswer as error:
        return {"faults": [("broken", f"importing {point.value} failed: {error}")], "kinds": []}
    return found


def _judge(point: EntryPoint, answer: dict[str, Any]) -> Iterator[Finding]:
    name, version = name_and_version(point.dist)
    if name == "unknown":
        yield _half_removed(point)
        return
    gaps = list(unmet(point.dist)) if point.dist else []
    yield from (_finding("error", point, str(gap), gap.remedy) for gap in gaps)
    for kind, message in answer["faults"]:
        yield _finding("error", point, f"{name} {version}: {message}", _remedy(kind, name, gaps))
    if not (gaps or answer["faults"]):
        yield _finding("ok", point, f"{name} {version}, {', '.join(answer['kinds'])}")


def _remedy(kind: str, name: str, gaps: Sequence[Unmet]) -> str:
    if gaps:  # then the fault may be their consequence
        return gaps[0].remedy
    if kind == "old":
        return pip("install", "--upgrade", *installable(name))
    if kind == "new":
        return pip("install", "--upgrade", *installable(CORE))
    if canonicalize_name(name) in KNOWN.values():
        return pip("install", "--upgrade", "--force-reinstall", "--no-deps", *installable(name))
    return pip("uninstall", name)  # only its author can do more


def _half_removed(point: EntryPoint) -> Finding:
    folder = getattr(point.dist, "_path", "unknown")  # private, but nothing else tells where it is
    message = f"it is brought by a distribution without metadata, in {folder}: half removed?"
    return _finding("error", point, message, shell("rm", "-r", "--", folder))


def _clash(name: str, points: Sequence[EntryPoint]) -> Iterator[Finding]:
    """Two that bring one name, or a stranger under the name of a backend that we know."""
    known = KNOWN.get(name)
    strangers = [_name(point) for point in points if canonicalize_name(_name(point)) != known]
    if len(points) > 1:
        names = " and ".join(f"{_name(point)} ({point.value})" for point in points)
        loser = strangers[-1] if strangers else _name(points[-1])
        yield _finding("error", points[0], f"it is brought by {names}", pip("uninstall", loser))
    elif known is not None and strangers and strangers != ["unknown"]:
        message = f"{strangers[0]} takes the name of the backend of {known}"
        yield _finding("warning", points[0], message, pip("uninstall", strangers[0]))


def _hidden(points: Sequence[EntryPoint], job: Path | None) -> Iterator[Finding]:
    """Files of the person's that are imported instead of a package."""
    packages = {point.value.partition(":")[0].partition(".")[0] for point in points}
    packages |= {"manyhands", *(needed.name for needed in requirements_of_core())}
    here, folder = _absolute(Path()), None if job is None else _absolute(job.parent)
    for package in sorted(packages):
        if folder is not None:  # it comes first on the path
            yield from _hider(folder, package, "error")
        if here is not None and here != folder:  # comes first for `python -m` and scripts there
            yield from _hider(here, package, "warning")


def _absolute(folder: Path) -> Path | None:
    """None where that cannot be said: the current folder has been removed."""
    with suppress(OSError):
        return folder.absolute()
    return None


def _hider(folder: Path, package: str, level: Level) -> Iterator[Finding]:
    path = [known for entry in sys.path if isinstance(entry, str) and (known := _absolute(Path(entry or os.curdir)))]
    for hider in _modules([folder], package):
        hidden = [other for other in _modules(path, package) if not other.samefile(hider)]
        if hidden and not _has_distributions(folder):
            moved = hider.with_name(f"my_{hider.name}")
            message = f"{hider} hides the package in {hidden[-1].parent}"
            yield Finding("plugins", level, package, message, shell("mv", "--", hider, moved))


def _has_distributions(folder: Path) -> bool:
    return next(folder.glob("*.dist-info"), None) is not None


def _modules(folders: Sequence[Path], package: str) -> Iterator[Path]:
    """Where an import would find a package: a folder with an `__init__.py`, or a file."""
    for folder in folders:
        with suppress(OSError):  # a folder that may not be looked into: nothing is imported from it
            if (folder / package / "__init__.py").is_file():
                yield folder / package
            elif (folder / f"{package}.py").is_file():
                yield folder / f"{package}.py"


def _name(point: EntryPoint) -> str:
    return name_and_version(point.dist)[0]


def _finding(level: Level, point: EntryPoint, message: str, remedy: str | None = None) -> Finding:
    return Finding("plugins", level, point.name, message, remedy)
