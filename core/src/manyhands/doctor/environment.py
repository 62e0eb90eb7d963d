"""Python, platform, versions, disk, and which `manyhands` the shell would find."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.specifiers import SpecifierSet

from manyhands._version import __version__
from manyhands.doctor.cgroup import cpu_limit, memory_limit
from manyhands.doctor.finding import Finding
from manyhands.doctor.remedies import pip
from manyhands.doctor.requirements import CORE, requirements_of_core, unmet
from manyhands.plugins.distributions import installable, version_of

_LITTLE: Final = 256 << 20
"""Bytes of free disk below which a warning is due."""

_SHEBANG: Final = re.compile(r"^(?:#!|'''exec' )\"?(/[^\"\n]*?python[\d.]*)\"?(?:\s|$)", re.MULTILINE)


def check(job: Path | None) -> Iterator[Finding]:  # noqa: ARG001  # all checks are called alike
    """Everything that is so for every job."""
    yield from _python()
    yield from _core()
    yield from _command()
    yield from _temporary()
    yield from _current()
    yield _ok("machine", _machine())


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    words = f"{platform.python_implementation()} {version}, {platform.system()} {platform.machine()}"
    wanted = _metadata_of_core("Requires-Python")
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        message = f"{words}: {CORE} {__version__} requires {wanted}"
        yield _error("python", message, pip("install", "--upgrade", *installable(CORE)))
    elif os.name != "posix":
        remedy = "manyhands run JOB --executor threads"
        yield _warning("python", f"{words}: worker processes need a POSIX system", remedy)
    else:
        yield _ok("python", words)


def _metadata_of_core(key: str) -> str:
    try:
        return distribution(CORE).metadata[key] or ""
    except (PackageNotFoundError, KeyError):
        return ""


def _core() -> Iterator[Finding]:
    """Core itself, what it requires, and what the metapackage requires."""
    again = pip("install", "--upgrade", "--force-reinstall", "--no-deps", *installable(CORE))
    known = version_of(CORE)
    if known is None:
        yield _error(CORE, "it is not installed: only its source is on the path", pip("install", *installable(CORE)))
        return
    if known != __version__:
        yield _warning(CORE, f"version {__version__} runs, version {known} is installed", again)
    else:
        there = (f"{needed.name} {version_of(needed.name)}" for needed in requirements_of_core())
        yield _ok(CORE, f"{known}; {', '.join(there)}")
    for gap in unmet(distribution(CORE)):
        yield _error(CORE, str(gap), gap.remedy)
    if version_of("manyhands") is not None:
        for gap in unmet(distribution("manyhands")):
            yield _warning("manyhands", str(gap), gap.remedy)


def _command() -> Iterator[Finding]:
    """A shell that finds another environment's command, or pip, installs where nobody looks."""
    found, own = shutil.which("manyhands"), Path(sys.executable).absolute().parent
    if found is None:
        yield _ok("command", f"no manyhands on PATH; this is {sys.executable} -m manyhands")
        return
    theirs = _interpreter_of(Path(found))
    if theirs is None or theirs.parent == own:
        yield _ok("command", found)
        return
    message = f"{found} belongs to {theirs}, this is {sys.executable}"
    yield _warning("command", message, f"export PATH={shlex.quote(str(own))}:$PATH")


def _interpreter_of(script: Path) -> Path | None:
    """What runs a console script: the first line says so, or the second where that would be too long."""
    try:
        with script.open("rb") as file:
            found = _SHEBANG.search(file.read(1000).decode(errors="replace"))
    except OSError:
        return None
    return Path(found[1]) if found else None


def _temporary() -> Iterator[Finding]:
    remedy = "mkdir -p ~/tmp && export TMPDIR=~/tmp"
    try:
        folder = tempfile.gettempdir()
    except OSError:
        yield _error("temporary folder", "there is none that can be written to", remedy)
        return
    asked = os.environ.get("TMPDIR")
    if asked and os.path.realpath(asked) != os.path.realpath(folder):
        yield _warning("temporary folder", f"TMPDIR is {asked}, which cannot be used: {folder} is", "unset TMPDIR")
    yield from _room("temporary folder", folder, remedy)


def _current() -> Iterator[Finding]:
    name = "current folder"
    try:
        folder = str(Path.cwd())
    except OSError as error:
        yield _error(name, f"there is none: {error.strerror}", "cd")
        return
    yield from _room(name, folder, "du -xsh -- * | sort -h")


def _room(name: str, folder: str, remedy: str) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    words = f"{folder}, {_bytes(free)} free"
    yield _warning(name, words, remedy) if free < _LITTLE else _ok(name, words)


def _machine() -> str:
    """For information: what a run may use."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = [f"{cpus} CPUs for this process"]
    if (limit := cpu_limit()) is not None:
        words.append(f"a control group leaves it the time of {limit:g}")
    if (memory := memory_limit()) is not None:
        words.append(f"memory limited to {_bytes(memory)}")
    return ", ".join(words)


def _bytes(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"


def _ok(subject: str, message: str) -> Finding:
    return Finding("environment", "ok", subject, message)


def _warning(subject: str, message: str, remedy: str) -> Finding:
    return Finding("environment", "warning", subject, message, remedy)


def _error(subject: str, message: str, remedy: str) -> Finding:
    return Finding("environment", "error", subject, message, remedy)
