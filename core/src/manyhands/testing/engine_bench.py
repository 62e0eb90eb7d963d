"""The engine under test, and how to run pipes on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from manyhands.adapters.base import BaseInputAdapter
from manyhands.adapters.csv import CSVInputAdapter, CSVOutputAdapter
from manyhands.adapters.json import JSONOutputAdapter
from manyhands.engine import Engine
from manyhands.executor import Capabilities
from manyhands.hooks import BaseHook
from manyhands.manager import PipeManager
from manyhands.pipe import Pipe
from manyhands.plugins.registry import find, get_engine, get_executor
from manyhands.plugins.spec import Backend
from manyhands.report import FlowReport
from manyhands.testing import leaks
from manyhands.testing.bench import REFERENCE, RUN_SECONDS, became
from manyhands.testing.engine_contract import broken
from manyhands.testing.engine_hooks import Row
from manyhands.testing.notes import Gate

PATIENCE: Final = 20.0
"""Seconds within which what has to happen happens, on a busy machine too."""

CHUNK: Final = 8
"""Records in a chunk of the pipes."""

_LEAK_SECONDS: Final = 5.0


class EngineBench:
    """An engine under test.

    Args:
        name: of the engine.
        options: with which the tests make it.
        folder: for files of the test.
        left: tells, after some seconds of grace, what the test leaves behind.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], folder: Path, left: Callable[[float], list[str]] = lambda _: []
    ) -> None:
        self.name = name
        self.options: dict[str, Any] = dict(options)
        self.folder = folder
        self.description: Backend = find(name, "engine")
        self._left = left
        self._made = 0
        self._gates: list[Gate] = []

    @property
    def capabilities(self) -> Capabilities:
        """What the plugin declares."""
        return self.description.capabilities

    def broken(self, key: str, detail: str) -> str:
        """The message of a case that failed.

        Args:
            key: of the clause; see `manyhands.testing.engine_contract`.
            detail: the fault, without the engine's name.
        """
        return broken(key, f"{self.name}: {detail}")

    def make(self, **options: Any) -> Engine:
        """An engine, with those of the options that it has."""
        names = self.description.options.model_fields
        offered = {name: value for name, value in options.items() if name in names}
        return get_engine(self.name, **{**self.options, **offered})

    def new_folder(self) -> Path:
        """An empty one."""
        self._made += 1
        folder = self.folder / str(self._made)
        folder.mkdir()
        return folder

    def gate(self) -> Gate:
        """A closed one, which is opened when the engine is shut down: what a failing case leaves must not wait on."""
        self._gates.append(Gate(self.new_folder()))
        return self._gates[-1]

    def table(self, rows: int) -> CSVInputAdapter:
        """A file of so many rows, each of which fits `Row`."""
        path = self.new_folder() / "in.csv"
        path.write_text("a,b\n" + "".join(f"{n},row {n}\n" for n in range(rows)))
        return CSVInputAdapter(path)

    def pipe(
        self,
        source: BaseInputAdapter,
        output: str = "out.jsonl",
        *,
        schema: Any = Row,
        pre: Sequence[BaseHook] = (),
        post: Sequence[BaseHook] = (),
        batch: int | None = None,
        executor: str = REFERENCE,
    ) -> Pipe:
        """A pipe with its outputs in a folder of its own; its chunks have `CHUNK` records.

        Args:
            source: where records come from.
            output: name of the file, whose ending says what it is; the errors go to `errors.jsonl`.
            schema: validates the records.
            pre: hooks before that.
            post: hooks behind it.
            batch: `max_hook_chunk_size` of the pipe.
            executor: the backend inside the pipe.
        """
        folder = self.new_folder()
        kind = CSVOutputAdapter if output.startswith("out.csv") else JSONOutputAdapter
        errors = JSONOutputAdapter(folder / "errors.jsonl")
        inside = get_executor(executor, chunksize=CHUNK)
        return Pipe(source, kind(folder / output), errors, schema, inside, pre, post, max_hook_chunk_size=batch)

    def run(self, pipes: Sequence[Pipe], **options: Any) -> Engine:
        """Run pipes to the end, whatever it is; a run that hangs is aborted and fails the case.

        Args:
            pipes: what runs.
            options: of the engine.
        """
        with self.started(pipes, **options) as engine:
            self.finish(engine)
        return engine

    @contextmanager
    def started(self, pipes: Sequence[Pipe], **options: Any) -> Iterator[Engine]:
        """An engine between `start` and `shutdown`.

        Args:
            pipes: what runs.
            options: of the engine.
        """
        engine = self.make(**options)
        engine.start(pipes)
        try:
            yield engine
        finally:
            for gate in self._gates:
                gate.open()
            engine.shutdown()

    def finish(self, running: Engine | PipeManager, seconds: float = RUN_SECONDS) -> FlowReport:
        """Wait for the end, whatever it is.

        Args:
            running: what was started.
            seconds: after which it hangs.
        """
        if not running.wait(seconds):
            counts = {name: count for name, count in running.report.counts.items() if count}
            raise AssertionError(self.broken("hang", f"a run does not end within {seconds:g} s; {counts}"))
        return running.report

    def wait_until(self, predicate: Callable[[], object], what: str, key: str, seconds: float = PATIENCE) -> None:
        """Wait until something is so; fail if it never is.

        Args:
            predicate: tells.
            what: it is, in words.
            key: of the clause that is broken otherwise.
            seconds: to wait.
        """
        if not became(predicate, seconds):
            raise AssertionError(self.broken(key, f"within {seconds:g} s it never happened that {what}"))

    def check_unpublished(self, pipe: Pipe, key: str, *, when: str) -> None:
        """See that a pipe has published nothing, and leaves no parts.

        Args:
            pipe: which.
            key: of the clause that is broken otherwise.
            when: what had happened to it, in words.
        """
        names = files(pipe)
        strange = [name for name in names if not name.endswith(".partial")]
        assert not strange, self.broken(key, f"a pipe that {when} leaves {', '.join(strange)}")

    def check_leaks(self) -> None:
        """Fail if the test leaves anything behind."""
        left = self._left(_LEAK_SECONDS)
        assert not left, self.broken("leaks", f"left behind: {', '.join(left)}")


def files(pipe: Pipe) -> dict[str, bytes]:
    """What is in the folder of a pipe's outputs."""
    assert pipe.output_adapter is not None
    assert pipe.output_adapter.path is not None
    return {file.name: file.read_bytes() for file in sorted(pipe.output_adapter.path.parent.iterdir())}


@contextmanager
def opened(name: str, options: Mapping[str, Any]) -> Iterator[EngineBench]:
    """A bench with a folder of its own, that can tell what its test leaves behind.

    Args:
        name: of the engine.
        options: with which the tests make it.
    """
    with TemporaryDirectory(prefix="mh") as root, leaks.watched(Path(root)) as left:
        folder = Path(root, "files")
        folder.mkdir()
        yield EngineBench(name, options, folder, left)
