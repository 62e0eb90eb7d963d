"""Who uses an executor: its workers know one job, and would run two by the rules of one."""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from manyhands.errors import UsageError


class Claimant(Protocol):
    """Who uses an executor."""

    @property
    def is_finished(self) -> bool:
        """It needs the executor no more."""


_lock: Final = threading.Lock()
_claims: Final[WeakValueDictionary[int, Claimant]] = WeakValueDictionary()


def claim(executor: Any, claimant: Claimant) -> None:
    """Take an executor until the claimant is finished.

    Raises:
        UsageError: somebody else has it.
    """
    with _lock:
        other = _claims.get(id(executor))
        if other is not None and other is not claimant and not other.is_finished:
            raise UsageError("this executor is running another pipe or pool; give each one of its own")
        _claims[id(executor)] = claimant
