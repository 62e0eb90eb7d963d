"""What the tests of this backend share: runs, what comes of them, and what their workers noted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from manyhands import BaseHook, IterableInputAdapter, MemoryOutputAdapter, Pipe, RunOptions
from manyhands.adapters.base import BaseInputAdapter, BaseOutputAdapter
from manyhands.events import ChunkFailed, Event, RecordDead
from manyhands.report import FlowReport
from manyhands_multiprocessing import MultiProcessingExecutor

LIMIT = 20.0
"""Seconds after which something that must happen has not."""

SLACK = 3.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.5  # another process has tests of its own to run
"""So many times what is promised a busy machine may take."""


class Events(list[Event]):
    """What happened, and when, by the clock of `monotonic`."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def append(self, event: Event) -> None:
        self.times.append(monotonic())
        super().append(event)


@dataclass
class Ran:
    """What came of a run."""

    report: FlowReport
    output: list[Any]
    errors: list[Any]
    events: Events
    begun: float
    ended: float = field(default_factory=monotonic)

    @property
    def counts(self) -> dict[str, int]:
        """The counts that are not zero."""
        return {name: count for name, count in self.report.counts.items() if count}

    @property
    def positions(self) -> list[int]:
        """Of the records that are ok."""
        return [entry["position"] for entry in self.output]

    @property
    def values(self) -> list[Any]:
        return [entry["validated_data"] for entry in self.output]

    @property
    def refused(self) -> list[tuple[int, str, str, str]]:
        """Position, outcome, and type and message of the first error, of each record in the error output."""
        return [(e["position"], e["outcome"], e["errors"][0]["type"], e["errors"][0]["message"]) for e in self.errors]

    @property
    def failures(self) -> list[ChunkFailed]:
        """Ranges that had begun and did not come back."""
        return [event for event in self.events if isinstance(event, ChunkFailed) and event.began]

    @property
    def deaths(self) -> list[RecordDead]:
        return [event for event in self.events if isinstance(event, RecordDead)]


def rows(count: int, deeds: Mapping[int, str] | None = None) -> list[dict[str, Any]]:
    """Records 0 to count, some of which do something to their worker."""
    return [{"k": k, "do": deeds[k]} if deeds and k in deeds else {"k": k} for k in range(count)]


def make_pipe(
    records: Iterable[Any] | BaseInputAdapter,
    *,
    schema: Any = None,
    pre: Sequence[BaseHook] = (),
    post: Sequence[BaseHook] = (),
    output: BaseOutputAdapter | None = None,
    run: Mapping[str, Any] | None = None,
    batch: int | None = None,
    events: Events | None = None,
    **executor: Any,
) -> Pipe:
    """A pipe on this backend.

    Args:
        records: the input.
        schema: the schema.
        pre, post: the hooks.
        output: where ok records go; None: into memory.
        run: options of the driver.
        batch: `max_hook_chunk_size`.
        events: takes what happens.
        executor: options of the executor.
    """
    return Pipe(
        records if isinstance(records, BaseInputAdapter) else IterableInputAdapter(records),
        output or MemoryOutputAdapter(),
        MemoryOutputAdapter(),
        schema,
        MultiProcessingExecutor(**{"max_workers": 2, **executor}),
        pre,
        post,
        max_hook_chunk_size=batch,
        options=RunOptions(**(run or {})),
        observers=[] if events is None else [events.append],
    )


def run(records: Iterable[Any] | BaseInputAdapter, **job: Any) -> Ran:
    """Run a pipe to its end; the arguments are those of `make_pipe`."""
    events = Events()
    pipe = make_pipe(records, events=events, **job)
    begun = monotonic()
    return collect(pipe, pipe.run(), events, begun)


def collect(pipe: Pipe, report: FlowReport, events: Events, begun: float) -> Ran:
    """What came of a run that has ended."""
    output, errors = (getattr(each, "results", []) for each in (pipe.output_adapter, pipe.error_output_adapter))
    return Ran(report, output, errors, events, begun)


def in_time(seconds: float, attempt: Callable[[], tuple[float, Any]]) -> Any:
    """What comes of an attempt that takes no longer than is promised; a busy machine may try three times.

    Args:
        seconds: the promise.
        attempt: returns how long it took, and what came of it.
    """
    took: list[float] = []
    for _ in range(3):
        seconds_taken, made = attempt()
        took.append(round(seconds_taken, 2))
        if seconds_taken <= seconds * SLACK:
            return made
    raise AssertionError(f"it must take {seconds} s, and took {took}")


def run_in_time(seconds: float, records: Iterable[Any], **job: Any) -> Ran:
    """Run a pipe that has to end in time."""

    def attempt() -> tuple[float, Ran]:
        ran = run(records, **job)
        return ran.ended - ran.begun, ran

    ran: Ran = in_time(seconds, attempt)
    return ran


@dataclass(frozen=True)
class Line:
    """What a worker noted.

    Attributes:
        pid: which one.
        time: when, by the clock of `monotonic`.
        what: what it did.
    """

    pid: int
    time: float
    what: str


class Diary:
    """What workers noted.

    Args:
        path: the file into which they write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[Line]:
        """All of it, in the order in which it happened."""
        text = self.path.read_text() if self.path.exists() else ""
        parts = [line.split(" ", 2) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [Line(int(pid), float(time), what.rstrip("\n")) for pid, time, what in parts]

    def of(self, what: str) -> list[Line]:
        """The lines that say this."""
        return [line for line in self.lines if line.what == what]

    def starting(self, what: str) -> list[Line]:
        """The lines that begin so."""
        return [line for line in self.lines if line.what.startswith(what)]

    def clear(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)


def wait_until(true: Callable[[], object], seconds: float = LIMIT) -> None:
    """Return as soon as it is; fail when it is not for too long."""
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, "it never happened"
        sleep(0.001)


def is_alive(pid: int) -> bool:
    """A process of this id runs: it is neither gone nor a zombie."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def session_of(leader: int) -> list[int]:
    """The processes of the session that this process began: itself and all that it started, if they run."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader and is_alive(pid):
                found.append(pid)
    return found
