"""A program that the tests start: it runs a pipe on Ray, and says how that went.

    python programs.py ADDRESS FOLDER [name=value ...]

The address may be `none`. It lies in a folder that the workers do not search for modules.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import termios
import time
from pathlib import Path
from typing import Any

import helper  # beside this file, when it was copied

from manyhands import BaseHook, IterableInputAdapter, JSONOutputAdapter, Pipe
from manyhands.errors import ManyhandsError
from manyhands_ray import RayExecutor


class Pace(BaseHook):
    """Notes which worker runs, takes its time, and dies where it is told to."""

    def __init__(self, folder: Path, seconds: float, poison: int | None) -> None:
        super().__init__()
        self.folder, self.seconds, self.poison = folder, seconds, poison

    def execute(self, entries: list[Any], store: Any) -> None:
        (self.folder / f"worker-{os.getpid()}").touch()
        for entry in entries:
            if entry["raw_data"]["n"] == self.poison:
                os.kill(os.getpid(), 9)
            entry["raw_data"]["square"] = helper.square(entry["raw_data"]["n"])
            time.sleep(self.seconds)


def main(address: str, folder: Path, given: dict[str, Any]) -> int:
    count, pace, poison = given.pop("count", 100), given.pop("pace", 0.0), given.pop("poison", None)
    executor = RayExecutor(
        address=None if address == "none" else address, **{"max_workers": 2, "chunksize": 10, **given}
    )
    rows = IterableInputAdapter({"n": n} for n in range(count))
    outputs = JSONOutputAdapter(folder / "out.jsonl"), JSONOutputAdapter(folder / "errors.jsonl")
    pipe = Pipe(rows, *outputs, executor=executor, pre_validation_hooks=[Pace(folder, pace, poison)])
    begun = time.monotonic()
    try:
        report = pipe.run()
    except ManyhandsError as error:
        print(json.dumps({"error": str(error), "type": type(error).__name__, "took": time.monotonic() - begun}))  # noqa: T201  # the tests read it
        return 1
    print(json.dumps({"counts": report.counts, "took": time.monotonic() - begun}))  # noqa: T201  # the tests read it
    return 0


if __name__ == "__main__":
    if sys.stdin.isatty():
        fcntl.ioctl(sys.stdin, termios.TIOCSCTTY, 0)
    options = dict(argument.split("=", 1) for argument in sys.argv[3:])
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), {name: json.loads(value) for name, value in options.items()}))
