"""The environment of workers, as Ray describes it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from ray.runtime_env import RuntimeEnv

from manyhands.errors import OptionsError

_KNOWN: Final = [name for name in RuntimeEnv.known_fields if not name.startswith("_")]
_SAME: Final = 0.85
"""So like each other are a name and its misspelling; a plugin of the cluster may be called something else."""


def checked_environment(runtime_env: Mapping[str, Any] | None) -> dict[str, Any]:
    """See that no key is misspelt: Ray passes what it does not know, and what nobody takes is lost without a word.

    Raises:
        OptionsError: one is all but one that Ray knows, or it is no mapping.
    """
    given = {} if runtime_env is None else runtime_env
    if not isinstance(given, Mapping):
        raise OptionsError(f"runtime_env must be names and values, not {runtime_env!r}")
    for name in map(str, given):
        near = difflib.get_close_matches(name.lower(), _KNOWN, n=1, cutoff=_SAME)
        if near and name not in RuntimeEnv.known_fields:
            raise OptionsError(f"runtime_env: Ray knows no {name!r}; did you mean {near[0]!r}?")
    return dict(given)
