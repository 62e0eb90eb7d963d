"""How many threads numerical libraries may start in a worker process.

They look at the environment when they are imported, so it is set before anything of the function is. This module
imports none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from manyhands.worker import pickles


class Limited:
    """A function that is loaded in another process only when the limits hold there.

    Args:
        function: to call.
        limits: variables of the environment.
    """

    def __init__(self, function: Callable[[], Any], limits: Mapping[str, str]) -> None:
        self._function = function
        self._limits = limits

    def __call__(self) -> Any:
        """In this process nothing is limited."""
        return self._function()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Mapping[str, str], bytes]]:
        return _load, (self._limits, pickles.dumps(self._function))


def _load(limits: Mapping[str, str], data: bytes) -> Any:
    os.environ.update(limits)
    return pickles.loads(data)
