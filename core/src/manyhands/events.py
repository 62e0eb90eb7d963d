"""What happens in a run, as it happens: one schema for displays, logs and exporters on every backend.

An observer is called in the driver's thread and must be quick. One that raises is logged and not called again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_log: Final = logging.getLogger("manyhands")


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The workers are up and reading begins."""

    executor: str


@dataclass(frozen=True, slots=True)
class ChunkSubmitted:
    """A range of a chunk was given to the executor.

    Attributes:
        sequence: number of the chunk.
        lo, hi: records of the chunk, half open.
        attempt: how often the range was submitted before.
    """

    sequence: int
    lo: int
    hi: int
    attempt: int


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A range came back.

    Attributes:
        sequence, lo, hi: the range.
        ok, rejected, dropped: what became of its records.
        worker: who ran it.
        stages: seconds spent in each stage.
    """

    sequence: int
    lo: int
    hi: int
    ok: int
    rejected: int
    dropped: int
    worker: str
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ChunkFailed:
    """A range did not come back; it is tried again or narrowed down.

    Attributes:
        sequence, lo, hi: the range.
        attempt: how often it was submitted before.
        reason: what the executor says.
        began: False when the range had only waited: nobody is charged.
        worker: which one died on it, if one did and the executor tells.
    """

    sequence: int
    lo: int
    hi: int
    attempt: int
    reason: str
    began: bool
    worker: str = ""


@dataclass(frozen=True, slots=True)
class RecordDead:
    """A record was given up: alone, it kills its worker or takes too long.

    Attributes:
        position: of the record in the input.
        cause: signal, exit code or `timeout`.
        stage: where in the pipeline, if known.
        attempts: how often it was submitted.
        worker: which one died of it last, if the executor tells.
    """

    position: int
    cause: str
    stage: str | None
    attempts: int
    worker: str = ""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Everything is shut down and the outputs are published or kept aside.

    Attributes:
        status: how it ended.
        counts: how many records had which outcome.
    """

    status: str
    counts: Mapping[str, int]


Event = RunStarted | ChunkSubmitted | ChunkDone | ChunkFailed | RecordDead | RunEnded
Observer = Callable[[Event], None]


class Observers:
    """Calls observers; one that raises is logged and disabled.

    Args:
        observers: who wants to know.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = list(observers)

    def emit(self, kind: Callable[..., Event], *values: Any) -> None:
        """Tell all of them.

        Args:
            kind: of event; it is made only if anybody wants to know.
            values: its attributes.
        """
        if self._observers:
            self._tell(kind(*values))

    def _tell(self, event: Event) -> None:
        for observer in list(self._observers):
            try:
                observer(event)
            except (Exception, SystemExit):  # noqa: BLE001  # it is the person's code: logged, and the run goes on
                self._observers.remove(observer)
                _log.exception("observer %r failed and is disabled", observer)
