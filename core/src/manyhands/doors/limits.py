"""How many threads numerical libraries may start in a worker process.

They look at the environment when they are imported, so it is set before anything of the function is. This module
imports none of them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import cloudpickle

from manyhands.worker import pickles


class Limited:
    """A function that is loaded in another process only when the limits hold there.

    Args:
        function: to call.
        limits: variables of the environment.
        wrapped: what messages call it.
    """

    def __init__(self, function: Callable[[], Any], limits: Mapping[str, str], wrapped: object = None) -> None:
        self._function = function
        self._limits = limits
        self.__wrapped__: object = wrapped or function

    def __call__(self) -> Any:
        """In this process nothing is limited."""
        return self._function()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Mapping[str, str], bytes]]:
        return _load, (self._limits, self._dumped)

    @cached_property
    def _dumped(self) -> bytes:
        # Once, and not first as if there were no main program: what it holds may be large, and this asked for twice.
        return bytes(cloudpickle.dumps(self._function, pickle.HIGHEST_PROTOCOL))


def _load(limits: Mapping[str, str], data: bytes) -> Any:
    os.environ.update(limits)
    return pickles.loads(data)
