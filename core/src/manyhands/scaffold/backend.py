"""A backend of one's own: a distribution that installs and passes the conformance tests as it is written."""

from __future__ import annotations

import keyword
import re
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Final

import manyhands
from manyhands._version import __version__
from manyhands.errors import BackendError, UnknownBackend, UsageError
from manyhands.plugins.registry import find
from manyhands.plugins.spec import GROUP
from manyhands.scaffold.folder import rendered, write_folder

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# Distributions of ours that are no installed or known backend everywhere.
_OURS: Final = frozenset({"all", "core", "dask", "heavy", "processing", "ray", "testing", "zoosync"})


def new_backend(name: str, into: Path) -> Path:
    """Write the folder `manyhands-NAME`; returns it.

    Args:
        name: by which the backend will be chosen.
        into: the folder in which the new one is written.

    Raises:
        UsageError: the name cannot be used, or is taken.
        OutputError: the folder exists or cannot be written.
    """
    _check_name(name)
    _check_free(name)
    folder = into / f"manyhands-{name}"
    write_folder(folder, rendered("backend", **_values(name)))
    return folder


def _values(name: str) -> dict[str, str]:
    major, minor = map(int, __version__.split(".")[:2])
    return {
        "name": name,
        "module": name.replace("-", "_"),
        "camel": _camel(name),
        "core": f">={major}.{minor},<{major}.{minor + 1}",
    }


def _camel(name: str) -> str:
    """What the names of its classes begin with; none of them may be that of a class which they are made of."""
    camel = "".join(word.capitalize() for word in name.split("-"))
    ours = any(hasattr(manyhands, f"{camel}{what}") for what in ("Executor", "Options"))
    return f"{camel}Backend" if ours else camel


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a backend: write lower-case letters, digits and single hyphens, "
            "beginning with a letter, for example my-cluster"
        )
    if keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot be the name of a backend: it is a keyword of Python; choose another")


def _check_free(name: str) -> None:
    taken = f"the name {name!r} is taken"
    for point in entry_points(group=GROUP, name=name):
        whose = point.dist.name if point.dist else "a distribution"
        raise UsageError(f"{taken}: {whose} is installed and brings a backend of that name; choose another")
    if name in _OURS or _is_known(name):
        raise UsageError(
            f"{taken}: manyhands-{name} is, or will be, one of the distributions of manyhands; choose another"
        )
    if _is_installed(f"manyhands-{name}"):
        raise UsageError(f"{taken}: a distribution manyhands-{name} is installed; choose another")


def _is_known(name: str) -> bool:
    try:
        find(name)
    except UnknownBackend:
        return False
    except BackendError:
        pass
    return True


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
