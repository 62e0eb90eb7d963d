"""Draws `docs/pictures/live-terminal.svg`: what `manyhands run` shows half way through the flights, on four workers.

    python examples/live_terminal/picture.py

The flights are taken forty times, so that there is something to see; the run is a real one, and so are its numbers.
"""

import io
import logging
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from manyhands import BaseHook, CSVInputAdapter, Entry, HookStore, JSONOutputAdapter, Pipe, PipeManager
from manyhands.cli.display.frame import Frame, Moment, height_of
from manyhands.cli.display.pace import Rates
from manyhands.plugins.registry import get_engine

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT / "examples" / "flights"
PICTURE = ROOT / "docs" / "pictures" / "live-terminal.svg"
TIMES = 40
COLUMNS = 88
ROWS = 24
WORKERS = 4
LOOK_SECONDS = 0.1
HALF = 0.5

sys.path.insert(0, str(FLIGHTS))
from flights import BlankNA, Delay, Flight  # noqa: E402  # it is found only now


class Prints(BaseHook):
    """Says something now and then, as hooks do while one looks for a mistake."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        late = max(entries, key=lambda entry: entry["validated_data"]["arr_delay"] or 0)["validated_data"]
        print(f"{late['carrier']} {late['flight']} from {late['origin']} was {late['arr_delay']} minutes late")


class Lines(logging.Handler):
    """Keeps what workers print."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def many_flights(folder: Path) -> Path:
    header, _, rows = (FLIGHTS / "flights.csv").read_bytes().partition(b"\n")
    path = folder / "flights.csv"
    path.write_bytes(header + b"\n" + rows * TIMES)
    return path


def half_way(folder: Path) -> str:
    """The display in the middle of a run."""
    pipe = Pipe(
        CSVInputAdapter(many_flights(folder)),
        JSONOutputAdapter(folder / "flights.jsonl"),
        JSONOutputAdapter(folder / "errors.jsonl"),
        Flight,
        pre_validation_hooks=[BlankNA()],
        post_validation_hooks=[Delay(), Prints()],
    )
    printed, rates, picture = Lines(), Rates(), ""
    logger = logging.getLogger("manyhands.worker")
    logger.addHandler(printed)
    logger.setLevel(logging.INFO)
    with PipeManager.parallelize_pipe(pipe, workers=WORKERS, engine=get_engine("multiprocessing")) as manager:
        report = manager.start()
        while not manager.wait(LOOK_SECONDS):
            views = report.look()
            moment = Moment(report, views, rates.see(views), printed.lines)
            if not picture and (report.fraction or 0) > HALF:
                picture = draw(Frame(moment, COLUMNS - 1, height_of(len(views), ROWS)))
    assert report.status == "completed", report.exception
    return picture


def draw(frame: Frame) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(frame)
    svg = console.export_svg(title="manyhands run job.toml", unique_id="live")
    # A picture fetches nothing: neither fonts, nor anything else.
    svg = re.sub(r"@font-face *{.*?}", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    svg = re.sub(r"<!--.*?-->", "", svg)
    return re.sub(r"\n\s*\n+", "\n", re.sub(r"[ \t]+\n", "\n", svg))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_text(half_way(Path(folder)), encoding="utf-8")
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
