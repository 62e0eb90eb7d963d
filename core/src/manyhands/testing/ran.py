"""What came of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from manyhands.adapters.base import BaseOutputAdapter
from manyhands.pipe import Pipe
from manyhands.report import FlowReport


@dataclass(frozen=True)
class Ran:
    """What came of a run.

    Attributes:
        report: of it.
        output: what was published of it.
        errors: the objects of the error output.
    """

    report: FlowReport
    output: bytes
    errors: list[dict[str, Any]]

    @classmethod
    def of(cls, pipe: Pipe) -> Ran:
        """What came of a pipe whose run has ended."""
        output, errors = map(_published, (pipe.output_adapter, pipe.error_output_adapter))
        return cls(pipe.report, output, _records(errors))

    @property
    def rows(self) -> list[Any]:
        """The records of the output."""
        return _records(self.output)


def _published(adapter: BaseOutputAdapter | None) -> bytes:
    """What is in the file; nothing if the run did not come to that."""
    path = adapter.path if adapter else None
    return path.read_bytes() if path and path.exists() else b""


def _records(text: bytes) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]
