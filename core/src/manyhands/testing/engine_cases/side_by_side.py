"""Pipes side by side, each with inputs and outputs of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from manyhands.plugins.registry import installed
from manyhands.report import RunStatus
from manyhands.testing.engine_bench import PATIENCE, files
from manyhands.testing.engine_hooks import Census, Places, PlacesAsync, Sieve
from manyhands.testing.notes import Meeting, Witness

if TYPE_CHECKING:
    from manyhands.testing.engine_bench import EngineBench

INSIDE: Final = ("sync", "threads", "asyncio")
"""What may run inside a pipe; those that are installed are tried."""

_ALONE_SECONDS: Final = 0.5


class SideBySideCases:
    """What becomes of the pipes."""

    def test_crosses_process(self, bench: EngineBench) -> None:
        hook = Witness(bench.folder)
        bench.run([bench.pipe(bench.table(1), pre=[hook])])
        pids = {note.pid for note in hook.notes.read("execute")}
        assert pids, bench.broken("pipes", "the hook of a pipe of one record was not called")
        seen, declared = pids != {os.getpid()}, bench.capabilities.crosses_process
        where = "another process" if seen else "the process that started the run"
        fault = f"a pipe runs in {where}, and crosses_process is {'' if declared else 'not '}declared"
        assert seen == declared, bench.broken("capabilities", fault)

    def test_concurrent(self, bench: EngineBench) -> None:
        declared = bench.capabilities.concurrent
        meeting = Meeting(bench.folder, PATIENCE if declared else _ALONE_SECONDS)
        bench.run([bench.pipe(bench.table(1), pre=[Witness(bench.folder, meeting)]) for _ in range(2)], n_workers=2)
        seen = meeting.took_place
        how = f"{'run' if seen else 'never run'} at a time"
        fault = f"two pipes {how}, and concurrent is {'' if declared else 'not '}declared"
        assert seen == declared, bench.broken("capabilities", fault)

    def test_each_pipe_writes_what_it_writes_alone(self, bench: EngineBench) -> None:
        sources = [bench.table(rows) for rows in (60, 0, 30)]
        alone, pipes = (
            [bench.pipe(source, pre=[Places(), Sieve(5, 7)]) for source in sources] for _ in ("alone", "side by side")
        )
        engine = bench.run(pipes)
        for number, (one, pipe) in enumerate(zip(alone, pipes, strict=True), 1):
            one.run()
            found, wanted = _sizes(files(pipe)), _sizes(files(one))
            told = f"pipe {number} of {len(pipes)} has written {found}, alone it writes {wanted}"
            assert files(pipe) == files(one), bench.broken("pipes", told)
        assert engine.report.status is RunStatus.COMPLETED, bench.broken(
            "failures", f"all pipes did their work, and the run is {engine.report.status} ({engine.report.exception})"
        )

    def test_pipes_wait_where_there_are_fewer_workers(self, bench: EngineBench) -> None:
        hook = Census(bench.folder)
        pipes = [bench.pipe(bench.table(3), pre=[hook]) for _ in range(5)]
        engine = bench.run(pipes, n_workers=2)
        counts = [report.ok for report in engine.pipe_reports]
        assert counts == [3] * 5, bench.broken("pipes", f"five pipes of 3 records each, for two workers, have {counts}")
        if "n_workers" in bench.description.options.model_fields:
            most = max(there for note in hook.notes.read("setup") for there in note.positions)
            assert most <= 2, bench.broken("pipes", f"{most} pipes ran at a time, on an engine of two workers")

    def test_hooks_live_as_long_as_their_pipe(self, bench: EngineBench) -> None:
        hooks = [Witness(bench.new_folder()) for _ in range(3)]
        bench.run([bench.pipe(bench.table(20), pre=[hook]) for hook in hooks], n_workers=2)
        for number, hook in enumerate(hooks, 1):
            found = [note.what for note in hook.notes.read()]
            wanted = ["setup", *["execute"] * 3, "teardown"]
            told = f"the hook of pipe {number}, which has three chunks, was called for {', '.join(found) or 'nothing'}"
            assert found == wanted, bench.broken("pipes", told)
            stores = {(note.pid, note.store) for note in hook.notes.read()}
            assert len(stores) == 1, bench.broken("pipes", f"the hook of pipe {number} had {len(stores)} stores")

    def test_executors_of_this_process_run_inside_a_pipe(self, bench: EngineBench) -> None:
        there = {found.name for found in installed() if found.backend is not None}
        source, inside = bench.table(20), [name for name in INSIDE if name in there]
        alone = bench.pipe(source, pre=[PlacesAsync()])
        alone.run()
        pipes = [bench.pipe(source, pre=[PlacesAsync()], executor=name) for name in inside]
        report = bench.run(pipes).report
        for name, pipe in zip(inside, pipes, strict=True):
            told = f"with the executor {name!r} inside, a pipe has written {_sizes(files(pipe))}; {report.exception!r}"
            assert files(pipe) == files(alone), bench.broken("pipes", told)


def _sizes(found: dict[str, bytes]) -> str:
    return ", ".join(f"{name} of {len(content)} bytes" for name, content in found.items()) or "nothing"
