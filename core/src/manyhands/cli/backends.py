"""`manyhands backends`: what is installed, and what is broken and why."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from manyhands.cli.columns import print_columns
from manyhands.plugins.registry import Found, installed


def list_backends(*, as_json: bool) -> None:
    """Print every installed backend, broken ones with their reason. Imports no backend's code."""
    found = list(installed())
    if as_json:
        print(json.dumps([_as_dict(each) for each in found], indent=2))
        return
    print_columns([("name", "kind", "distribution", "version", "capabilities"), *map(_cells, found)])


def _cells(found: Found) -> tuple[str, ...]:
    if found.backend is None:
        return found.name, "broken", found.distribution, found.version, str(found.error)
    able = [name for name, value in dataclasses.asdict(found.backend.capabilities).items() if value]
    return found.name, found.backend.kind, found.distribution, found.version, ", ".join(able)


def _as_dict(found: Found) -> dict[str, Any]:
    backend = found.backend
    return {
        "name": found.name,
        "kind": backend.kind if backend else None,
        "distribution": found.distribution,
        "version": found.version,
        "capabilities": dataclasses.asdict(backend.capabilities) if backend else None,
        "error": None if found.error is None else {"type": type(found.error).__name__, "message": str(found.error)},
    }
