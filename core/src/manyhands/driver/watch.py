"""Sees which records and chunks take too long, by looking at where the workers are.

From outside, because an alarm inside a worker cannot stop code that holds the interpreter. A limit is passed at the
earliest after its time and at the latest two looks later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import OptionsError, RecordTimeout

if TYPE_CHECKING:
    from manyhands.driver.ledger import Attempt
    from manyhands.driver.options import RunOptions
    from manyhands.executor import Executor, Progress

_LONGEST_LOOK_SECONDS: Final = 0.05
_LOOKS: Final = 20
_TIMED: Final = ("pre", "validate", "post", "call")
_INSTEAD_ON_ENGINE: Final = (
    "a worker of an engine runs its pipe by {!r}: use stuck_timeout, which engine zoosync has, or leave the engine out "
    "and name such an executor"
)


def check_limits(executor: Executor, options: RunOptions, *, on_engine: bool = False) -> None:
    """See that the executor can keep the time limits.

    Args:
        executor: runs the pipe.
        options: the limits.
        on_engine: it does so in a worker of an engine.

    Raises:
        OptionsError: it runs records in the thread that would have to look, or does not say which record it is at.
    """
    name = getattr(executor, "name", type(executor).__name__)
    if options.timed and executor.capabilities.inline:
        instead = _INSTEAD_ON_ENGINE if on_engine else "leave them out for {!r}"
        raise OptionsError(
            "record_timeout and chunk_timeout need a backend that runs records in other threads or processes, "
            f"for example threads or multiprocessing; {instead.format(name)}"
        )
    if options.record_timeout is not None and not executor.capabilities.reports_progress:
        raise OptionsError(
            "record_timeout needs a backend that reports progress, for example threads or multiprocessing; "
            f"{name!r} cannot tell which record it is at: use chunk_timeout, with a small chunksize"
        )


@dataclass(slots=True)
class _Sighting:
    """What was seen of a chunk.

    Attributes:
        begun: when it was first seen at work.
        progress: where it is.
        since: when it was first seen there.
        running: its future says that it has begun.
    """

    begun: float
    progress: Progress | None
    since: float
    running: bool = False


class Watch:
    """The time limits of a run.

    Args:
        executor: asked for progress.
        options: the limits.
    """

    def __init__(self, executor: Executor, options: RunOptions) -> None:
        self._executor = executor
        self._record = options.record_timeout
        self._chunk = options.chunk_timeout
        self._blind = not executor.capabilities.reports_progress
        self._marks_begin = False  # futures of this executor are `running` from the begin of their chunk
        self._seen: dict[Any, _Sighting] = {}
        self._next_look = 0.0
        limits = [limit for limit in (self._record, self._chunk) if limit is not None]
        self.period: float | None = min(_LONGEST_LOOK_SECONDS, min(limits) / _LOOKS) if limits else None

    def overdue(self, running: Mapping[Any, Attempt]) -> Iterator[tuple[Any, RecordTimeout, Progress | None]]:
        """The futures that took too long, why, and where they were.

        Args:
            running: every future that is not done.
        """
        now = monotonic()
        if self.period is None or now < self._next_look:
            return
        self._next_look = now + self.period
        for gone in [future for future in self._seen if future not in running]:
            del self._seen[gone]
        for future, attempt in list(running.items()):
            seen = self._look(future, now)
            if seen is not None and (reason := self._reason(seen, attempt, now)) is not None:
                yield future, reason, seen.progress

    def _look(self, future: Any, now: float) -> _Sighting | None:
        if self._blind:
            return self._look_blindly(future, now)
        progress = self._executor.progress(future)
        if progress is None:
            if (seen := self._seen.get(future)) is not None:
                seen.progress = None
            return seen
        seen = self._seen.setdefault(future, _Sighting(now, progress, now))
        if not same_place(seen.progress, progress):
            seen.progress, seen.since = progress, now
        return seen

    def _look_blindly(self, future: Any, now: float) -> _Sighting | None:
        """Only its future may tell that a chunk has begun. Where none ever did, it may have with its submission."""
        running, seen = future.running(), self._seen.get(future)
        if seen is None or (running and not seen.running):
            seen = self._seen[future] = _Sighting(now, None, now, running)
        elif running:
            self._marks_begin = True  # not at first sight: some executors set it just before the result
        return seen if running or not self._marks_begin else None

    def _reason(self, seen: _Sighting, attempt: Attempt, now: float) -> RecordTimeout | None:
        chunk, place = attempt.chunk, seen.progress
        stage = place.stage if place is not None else "unknown"
        if self._record is not None and place is not None and _is_timed(place) and now - seen.since > self._record:
            lo, hi = max(place.lo, chunk.lo), min(place.hi, chunk.hi)
            return RecordTimeout([(lo, hi)], stage)
        if self._chunk is not None and now - seen.begun > self._chunk:
            return RecordTimeout([(chunk.lo, chunk.hi)], stage, "chunk_timeout")
        return None


def _is_timed(place: Progress) -> bool:
    """Its records have the time of a record.

    Of calls that overlap the worker keeps the time of each. What a chunk is written with has none, unless it is
    the serializers of one record.
    """
    return not place.overlap and (place.stage in _TIMED or (place.stage == "pack" and place.hi - place.lo == 1))


def same_place(one: Progress | None, other: Progress | None) -> bool:
    """Both are the same call on the same records."""
    return one == other and (one is None or other is None or one.call == other.call)
