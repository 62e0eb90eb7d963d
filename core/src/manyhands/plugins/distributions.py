"""Installed distributions: their names, their versions, and what pip can install them from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

KNOWN: Final = {
    name: f"manyhands-{name}" for name in ("asyncio", "dask", "multiprocessing", "ray", "sync", "threads", "zoosync")
}
"""What to install for the names of the backends that are released; nothing here is imported or preferred."""

KNOWN_ENGINES: Final = ("dask", "multiprocessing", "ray", "sync", "zoosync")
"""Those of them that have an engine, too."""

_META: Final = "manyhands"


def name_and_version(dist: Distribution | None) -> tuple[str, str]:
    """Of a distribution; `unknown` where its metadata is gone: one that is half removed, for example."""
    about: Mapping[str, str] = dist.metadata if dist else {}  # type: ignore[assignment]  # it is one
    return about.get("Name") or "unknown", about.get("Version") or "unknown"


def version_of(name: str) -> str | None:
    """The installed version of a distribution; None if there is none."""
    found = _installed(name)
    return None if found is None else name_and_version(found)[1]


def installable(name: str) -> tuple[str, ...]:
    """What pip can install a distribution from, as arguments for it.

    A name alone needs an index that has it. So what is installed for development stays that, what the metapackage
    names with a place comes from there, and anything else from where it came.
    """
    origin = _origin(name)
    if origin.get("dir_info", {}).get("editable") and _is_there(origin["url"]):
        return "-e", origin["url"]
    place = _place_in_metapackage(name) or _place(origin)
    return (f"{name} @ {place}",) if place and _is_there(place) else (name,)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):  # ValueError: no name at all
        return None


def _origin(name: str) -> dict[str, Any]:
    """What the installer wrote down of where the distribution is from; empty: from an index, or it is not there."""
    dist = _installed(name)
    try:
        found = json.loads((dist and dist.read_text("direct_url.json")) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("url"), str) else {}


def _place(origin: Mapping[str, Any]) -> str | None:
    if not origin:
        return None
    system = origin.get("vcs_info", {})
    revision = f"@{system['requested_revision']}" if "requested_revision" in system else ""
    folder = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
    return f"{system['vcs']}+{origin['url']}{revision}{folder}" if "vcs" in system else f"{origin['url']}{folder}"


def _place_in_metapackage(name: str) -> str | None:
    """From where the metapackage has it: in a checkout, from the folder beside it."""
    from packaging.requirements import InvalidRequirement, Requirement  # not needed while all is well
    from packaging.utils import canonicalize_name

    meta = _installed(_META)
    for text in (meta and meta.requires) or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.url and canonicalize_name(wanted.name) == canonicalize_name(name):
            return wanted.url
    return None


def _is_there(url: str) -> bool:
    """Whether a folder or file has not been removed since; of what is elsewhere nobody knows."""
    parts = urlsplit(url)
    return parts.scheme != "file" or Path(url2pathname(parts.path)).exists()
