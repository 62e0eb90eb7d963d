"""A backend asks for no more chunks than it needs, so an input without end is read in step with the work."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from manyhands.report import RunStatus
from manyhands.testing.bench import PATIENCE, Bench
from manyhands.testing.notes import Gate, Held, Notebook, Witness
from manyhands.worker.context import WorkerContext

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_SLOTS: Final = 1000
"""No number of workers on one machine is worth more chunks in flight."""

AHEAD: Final = 200
"""Records that are read ahead of the chunks in flight, at a chunk size of 1: fewer than that."""

_QUIET_SECONDS: Final = 0.4


class BackPressureCases:
    """What is read ahead is bounded; memory is not measured."""

    def test_slots_are_a_bounded_number(self, bench: Bench) -> None:
        found: list[Any] = []
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder)])) as executor:
            for n in range(4 * bench.workers):
                found.append(executor.slots())
                bench.results(executor.submit(bench.chunk([{"n": n}], n, start=n)))
            found.append(executor.slots())
        strange = [slots for slots in found if type(slots) is not int or not 1 <= slots <= MOST_SLOTS]
        assert not strange, bench.broken("back pressure", f"slots() gave {strange[0]!r}, not a number from 1 to 1000")

    def test_an_endless_input_is_read_no_further_than_needed(self, bench: Bench) -> None:
        source, gate = Endless(), Gate(bench.folder)
        pipe = bench.pipe(source, pre=[Witness(bench.folder, Held(gate, PATIENCE))], chunksize=1)
        notes = Notebook(bench.folder)
        pipe.start()
        try:
            bench.wait_until(lambda: notes.read("execute"), "a hook was called")
            read, bound = source.settle(), _bound(pipe.executor.slots())
        finally:
            pipe.report.abort()
            gate.open()
        ran = bench.finish(pipe)
        assert ran.report.status is RunStatus.ABORTED, bench.broken("cancelling", f"aborted, it {ran.report.status}")
        fault = f"while all hooks were busy, {read} records were read; with its slots() it should be under {bound}"
        assert read < bound, bench.broken("back pressure", fault)

    def test_reading_waits_for_a_slow_output(self, bench: Bench) -> None:
        source = Endless()
        pipe = bench.pipe(source, chunksize=1)
        entries = pipe.stream()
        try:
            positions = [next(entries)["position"] for _ in range(3)]
            read, bound = source.settle(), _bound(pipe.executor.slots())
        finally:
            entries.close()  # type: ignore[attr-defined]  # it is a generator
        bench.finish(pipe)
        assert positions == [0, 1, 2], bench.broken("order", f"the first entries have the positions {positions}")
        fault = f"while nobody took the output, {read} records were read; with its slots() it should be under {bound}"
        assert read < bound, bench.broken("back pressure", fault)


class Endless:
    """An input without end that counts what is read of it."""

    def __init__(self) -> None:
        self.read: int = 0

    def __iter__(self) -> Iterator[dict[str, int]]:
        for n in count():
            self.read += 1
            yield {"n": n}

    def settle(self) -> int:
        """How much was read when nothing more is; or after some seconds, should that never be."""
        end, quiet, last = time.monotonic() + 5.0, time.monotonic(), self.read
        while time.monotonic() < min(end, quiet + _QUIET_SECONDS):
            time.sleep(0.01)
            if self.read != last:
                quiet, last = time.monotonic(), self.read
        return self.read


def _bound(slots: int) -> int:
    return 3 * slots + AHEAD
