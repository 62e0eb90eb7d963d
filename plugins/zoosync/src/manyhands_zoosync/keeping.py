"""Where results go: to whoever iterates them, or into a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from manyhands.adapters.output_file import OutputFile
from manyhands.errors import ManyhandsError
from manyhands.worker.encode import encode_leniently
from manyhands.worker.pickles import named
from manyhands_zoosync.results import TaskResult


class Shelf:
    """In memory, until somebody takes them.

    Attributes:
        notes: lines for the person, once it is closed.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._results: deque[TaskResult] = deque()

    def keep(self, results: list[TaskResult]) -> None:
        """Put them there."""
        self._results.extend(results)

    def take(self) -> Iterator[TaskResult]:
        """Those that there are, from the oldest; each leaves the shelf when it is taken."""
        take = self._results.popleft
        with suppress(IndexError):
            while True:
                yield take()

    def close(self, *, complete: bool) -> None:
        """They stay until they are taken."""


class ResultFile(Shelf):
    """In a file, an object on a line: `tsk_id`, and `value` or `error`.

    It has its name only when it is complete. What has no JSON form is written as its `repr`.

    Args:
        path: of the file.
        fail: told when it cannot be written.

    Raises:
        OutputError: it cannot be created.
    """

    def __init__(self, path: Path, fail: Callable[[ManyhandsError], object]) -> None:
        super().__init__()
        self._file = OutputFile(path)
        self._fail = fail

    def keep(self, results: list[TaskResult]) -> None:
        """Write them."""
        try:
            self._file.write(b"".join(_line(result) for result in results))
        except ManyhandsError as error:
            self._fail(error)

    def close(self, *, complete: bool) -> None:
        """Give it its name, or leave it under that of a partial file.

        Raises:
            SinkError: it could not be written to its end.
        """
        if not complete:
            self._file.discard()
            if self._file.partial.exists():  # something was written
                self.notes.append(f"the file of results is not complete: what was written is in {self._file.partial}")
            return
        self._file.finish()
        self._file.publish()


def _line(result: TaskResult) -> bytes:
    record: dict[str, Any] = {"tsk_id": result.tsk_id}
    if result.error is None:
        record["value"] = result.value
    else:
        record["error"] = named(result.error)
    return encode_leniently(record) + b"\n"
