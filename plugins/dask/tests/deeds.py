"""What jobs of the tests do. It is no part of a distribution, so its source travels."""

from __future__ import annotations

import os
import signal
import time
from enum import Enum
from pathlib import Path
from typing import Any

from manyhands import BaseHook, IterableInputAdapter, JSONOutputAdapter, Pipe
from manyhands.driver.options import RunOptions


class Colour(Enum):
    RED = "red"


class Odd(Exception):
    """An exception of the person's own."""


def paint(k: int) -> Any:
    if k % 2:
        raise Odd(k)
    return Colour.RED


class Paces(BaseHook):
    """Takes its time, and notes who runs what."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__()
        self.folder = folder
        self.seconds = seconds

    def setup(self, store: Any) -> None:
        (self.folder / f"{os.getpid()}.up").touch()

    def execute(self, entries: list[Any], store: Any) -> None:
        time.sleep(self.seconds)
        for entry in entries:
            entry["raw_data"]["pid"] = os.getpid()


class Kills(BaseHook):
    """One record kills whoever runs it."""

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            if entry["raw_data"]["k"] == 7:
                os.kill(os.getpid(), signal.SIGKILL)


def pipe_to(folder: Path, count: int, executor: Any, *hooks: BaseHook, **options: Any) -> Pipe:
    return Pipe(
        IterableInputAdapter({"k": k} for k in range(count)),
        JSONOutputAdapter(folder / "out.jsonl"),
        JSONOutputAdapter(folder / "errors.jsonl"),
        executor=executor,
        pre_validation_hooks=list(hooks),
        options=RunOptions(**options),
    )
