"""What a backend says that it can do is what can be seen."""

from __future__ import annotations

import os
import threading
from typing import Final

import psutil

from manyhands.errors import WorkerLost
from manyhands.executor import Executor
from manyhands.testing.bench import PATIENCE, Bench, became
from manyhands.testing.contract import broken
from manyhands.testing.notes import Attending, Gate, Held, Meeting, Note, Notebook, Spinning, Witness
from manyhands.worker.context import WorkerContext

_GLANCE: Final = 0.3
"""Seconds for which it is looked for what is not declared."""


class CapabilityCases:
    """One case for each capability: declared and not seen is a fault, and so is seen and not declared."""

    def test_the_class_and_the_plugin_declare_the_same(self, bench: Bench) -> None:
        declared = {
            "its class": bench.executor_class.capabilities,
            "an executor made by its name": bench.make().capabilities,
        }
        for who, capabilities in declared.items():
            fault = f"{who} says {capabilities}, its plugin {bench.capabilities}"
            assert capabilities == bench.capabilities, bench.broken("capabilities", fault)

    def test_inline(self, bench: Bench) -> None:
        here, gate = (os.getpid(), threading.get_ident()), Gate(bench.folder)
        held = Held(gate, _hold(bench) / 4)
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, held)])) as executor:
            future = executor.submit(bench.chunk([{"n": 0}]))
            done = future.done()
            gate.open()
            bench.results(future)
        (note,) = Notebook(bench.folder).read("execute")
        seen = done and (note.pid, note.thread) == here
        thread = "" if seen else "not "
        bench.observe("inline", seen=seen, by=f"submit() does {thread}run the chunk in the calling thread")
        assert done == seen, bench.broken("submit", "submit() returned only when a worker had run the chunk")

    def test_concurrent(self, bench: Bench) -> None:
        meeting = Meeting(bench.folder, _patience(declared=bench.capabilities.concurrent))
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, meeting)])) as executor:
            # More than there are workers: a backend may put several in one worker's queue.
            count = 2 * bench.workers if bench.capabilities.concurrent else 2
            futures = [executor.submit(bench.chunk([{"n": n}], n, start=n)) for n in range(count)]
            became(lambda: meeting.is_over, meeting.seconds)
            bench.results(*futures)
        by = "two chunks ran at a time" if meeting.took_place else "no two chunks ran at a time (options: two workers)"
        bench.observe("concurrent", seen=meeting.took_place, by=by)

    def test_crosses_process(self, bench: Bench) -> None:
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder)])) as executor:
            bench.results(executor.submit(bench.chunk([{"n": 0}])))
        (note,) = Notebook(bench.folder).read("execute")
        seen = note.pid != os.getpid()
        by = f"hooks run in {'another' if seen else 'this'} process"
        bench.observe("crosses_process", seen=seen, by=by)

    def test_distributed(self, bench: Bench) -> None:
        gate = Gate(bench.folder)
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, Held(gate, _hold(bench)))])) as executor:
            future = executor.submit(bench.chunk([{"n": 0}]))
            seen = not _is_ours(_first(bench).pid)
            gate.open()
            bench.results(future)
        whose = "no descendant" if seen else "a descendant"
        hint = ": let cluster() give it workers" if bench.capabilities.distributed else ""
        bench.observe("distributed", seen=seen, by=f"its worker is {whose} of the process that runs the pipe{hint}")

    def test_reports_progress(self, bench: Bench) -> None:
        gate = Gate(bench.folder)
        declared = bench.capabilities.reports_progress
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, Held(gate, _hold(bench)))])) as executor:
            future = executor.submit(bench.chunk([{"n": 0}, {"n": 1}]))
            _first(bench)
            told = became(lambda: executor.progress(future), PATIENCE if declared else _GLANCE)
            progress = executor.progress(future)
            gate.open()
            bench.results(future)
        by = f"progress() gave {'something' if told else 'None'} while a hook was at work"
        bench.observe("reports_progress", seen=told, by=by)
        if progress is not None:
            right = (progress.stage, progress.lo, progress.hi) == ("pre", 0, 2)
            fault = f"progress() gave {progress} while a pre hook had both records"
            assert right, bench.broken("capabilities", fault)

    def test_can_kill(self, bench: Bench) -> None:
        if bench.capabilities.inline:
            bench.observe("can_kill", seen=False, by="submit() returns only when it is done")
            return
        gate = Gate(bench.folder)
        hook = Witness(bench.folder, Spinning(gate, PATIENCE))
        with bench.started(WorkerContext(pre_hooks=[hook])) as executor:
            future = executor.submit(bench.chunk([{"n": 0}]))
            note = _first(bench)
            killed = executor.evict(future)
            by = f"evict() of a chunk that spins returned {killed!r}"
            try:
                bench.observe("can_kill", seen=killed, by=by)
                if killed:
                    bench.wait_for(future)
                    error = None if future.cancelled() else future.exception()
                    fault = f"{by}, but its future then had {error!r}"
                    assert isinstance(error, WorkerLost), broken("limits", f"{bench.name}: {fault}")
                    bench.wait_until(lambda: not _runs(note), f"process {note.pid} ended after its eviction")
            finally:
                gate.open()
            _works(bench, executor)

    def test_async_native(self, bench: Bench) -> None:
        meeting = Meeting(bench.folder, _patience(declared=bench.capabilities.async_native))
        with bench.started(WorkerContext(pre_hooks=[Attending(meeting)])) as executor:
            future = executor.submit(bench.chunk([{"n": 0}, {"n": 1}]))
            became(lambda: meeting.is_over, meeting.seconds)
            bench.results(future)
        seen = meeting.took_place
        bench.observe("async_native", seen=seen, by=f"async hooks of two records {'met' if seen else 'never met'}")


def _patience(*, declared: bool) -> float:
    return PATIENCE if declared else _GLANCE


def _hold(bench: Bench) -> float:
    """Seconds for which a hook waits for the test, if that can do anything meanwhile."""
    return 0.0 if bench.capabilities.inline else PATIENCE


def _first(bench: Bench) -> Note:
    """The note of the first hook that executes."""
    notes = Notebook(bench.folder)
    bench.wait_until(lambda: notes.read("execute"), "a chunk that was submitted began")
    return notes.read("execute")[0]


def _works(bench: Bench, executor: Executor) -> None:
    """The executor takes chunks as before."""
    (result,) = bench.results(executor.submit(bench.chunk([{"n": 1}], 1, start=1)))
    assert result.ok == 1, bench.broken("limits", f"after an eviction a chunk of one record gave {result}")


def _is_ours(pid: int) -> bool:
    try:
        lineage = [pid, *(parent.pid for parent in psutil.Process(pid).parents())]
    except psutil.NoSuchProcess:  # on another machine, or already gone
        return False
    return os.getpid() in lineage


def _runs(note: Note) -> bool:
    try:
        return bool(psutil.Process(note.pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
