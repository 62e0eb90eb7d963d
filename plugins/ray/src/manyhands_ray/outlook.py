"""Whether a cluster is still there to work on: it answers, and workers are there or can come."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

import ray

if TYPE_CHECKING:
    from manyhands_ray.crew import Crew
    from manyhands_ray.needs import Needs
    from manyhands_ray.pulse import Pulse

_log: Final = logging.getLogger("manyhands")

_DESERTED_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 20.0


class Outlook:
    """It. Only the supervisor's thread calls it.

    Args:
        pulse: of the cluster's head.
        crew: the workers.
        needs: what each of them needs.
    """

    def __init__(self, pulse: Pulse, crew: Crew, needs: Needs) -> None:
        self._pulse, self._crew, self._needs = pulse, crew, needs
        self._begun = monotonic()
        self._told = False
        self._deserted: float | None = None

    def check(self) -> str | None:
        """Why the cluster is lost, if it is."""
        if not ray.is_initialized():
            return "the connection is closed"
        if (silence := self._pulse.silence) is not None:
            return f"its head has not answered for {silence:.0f} s"
        self._tell_late()
        return "there is no node left" if self._is_deserted() else None

    def _tell_late(self) -> None:
        if not self._told and not self._crew.started.is_set() and monotonic() - self._begun > _PATIENCE_SECONDS:
            self._told = True
            _log.warning("no worker could start yet: the cluster may be busy, each needs %s", self._needs)

    def _is_deserted(self) -> bool:
        if self._crew.hands or self._crew.wanted or not self._crew.started.is_set():
            self._deserted = None
            return False
        self._deserted = self._deserted or monotonic()
        return monotonic() - self._deserted > _DESERTED_SECONDS
