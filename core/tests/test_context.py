"""The job on its way to its workers."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands import HookStore
from manyhands.errors import ProtocolError, UnpicklableError, WorkerInitError
from manyhands.records import Entry
from manyhands.worker.cell import ProgressCell
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.rows import CSVDecoder

from .workers import Does, as_list, values, working

SENDER = """
import sys
from datetime import date
from enum import Enum
from pydantic import BaseModel, field_validator
from manyhands import BaseHook, WorkerContext
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.rows import JSONLinesDecoder

class Colour(Enum):
    RED = "red"

class Inner(BaseModel):
    day: date

class Row(BaseModel):
    n: int
    colour: Colour
    inner: Inner

    @field_validator("n")
    @classmethod
    def positive(cls, value):
        if value < LEAST:
            raise ValueError(f"less than {LEAST}")
        return value

LEAST = 2

class Adds(BaseHook):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def setup(self, store):
        store["add"] = lambda value: value + self.by

    async def execute(self, entries, store):
        for entry in entries:
            entry["validated_data"]["n"] = store["add"](entry["validated_data"]["n"])

class Calls(BaseHook):
    def __init__(self, function):
        super().__init__()
        self.execute_ = function

    def execute(self, entries, store):
        return self.execute_(entries)

context = WorkerContext(
    schema_model=Row,
    pre_hooks=[Calls(lambda entries: [entry for entry in entries if entry["raw_data"] != {}])],
    post_hooks=[Adds(40)],
    decoder=JSONLinesDecoder(),
    json_input=True,
    encoder=JSONEncoder(),
    error_encoder=JSONEncoder(),
    id_generator=lambda position: f"row {position}",
    concurrency=3,
)
with open(sys.argv[1], "wb") as file:
    file.write(context.dumps())
"""

RECEIVER = """
import sys
from manyhands import Chunk, ChunkKind, WorkerContext, process_chunk_on_worker

with open(sys.argv[1], "rb") as file:
    context = WorkerContext.loads(file.read())
context.setup()
lines = [b'{"n": 2, "colour": "red", "inner": {"day": "2020-01-01"}}', b"{}", b'{"n": 1, "colour": "blue"}']
result = process_chunk_on_worker(Chunk(0, 10, 3, ChunkKind.RAW, b"\\n".join(lines), line=1), context)
context.teardown()
sys.stdout.write(result.output.decode() + result.errors.decode())
assert (result.ok, result.rejected, result.dropped, context.concurrency) == (1, 1, 1, 3)
"""


def run_script(folder: Path, name: str, source: str, argument: Path) -> str:
    script = folder / name
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, str(script), str(argument)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_job_of_main_with_lambdas_and_closures_runs_in_another_process(tmp_path: Path) -> None:
    job = tmp_path / "job"
    run_script(tmp_path, "sender.py", SENDER, job)
    written = run_script(tmp_path, "receiver.py", RECEIVER, job).splitlines()
    assert written[0] == '{"n":42,"colour":"red","inner":{"day":"2020-01-01"}}'
    assert '"position":12,"line":3,"outcome":"rejected"' in written[1]
    assert "Value error, less than 2" in written[1]


class Number(BaseModel):
    a: int


class Holds(Does):
    """A hook that holds what cannot travel."""

    def __init__(self) -> None:
        super().__init__(lambda given, store: None)
        self.lock = threading.Lock()


def make_ids() -> Any:
    lock = threading.Lock()
    return lambda position: (lock, position)


class Cell:
    def __reduce__(self) -> Any:
        raise RuntimeError("stays here")


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"pre_hooks": [Does(lambda given, store: None), Holds()]}, r"Holds \(pre-validation hook\)"),
        ({"post_hooks": (Holds(),)}, r"Holds \(post-validation hook\)"),
        ({"id_generator": make_ids()}, "id_generator"),
        ({"decoder": Cell()}, "decoder"),
    ],
)
def test_what_cannot_travel_is_named_before_anything_runs(job: dict[str, Any], name: str) -> None:
    with pytest.raises(UnpicklableError, match=rf"^{name} cannot be sent to a worker process: "):
        WorkerContext(**job).dumps()


def test_everything_of_the_job_travels_and_nothing_of_the_worker() -> None:
    words = [0]
    job: dict[str, Any] = {
        "schema_model": Number,
        "decoder": CSVDecoder(("a",)),
        "json_input": True,
        "encoder": JSONEncoder(),
        "error_encoder": JSONEncoder(b",", b""),
        "compression": "lz4",
        "max_hook_chunk_size": 3,
        "use_batch_validation": True,
        "concurrency": 4,
    }
    context = WorkerContext(**job, cell=ProgressCell(words))
    with working(context):
        for copy in (WorkerContext.loads(context.dumps()), context.clone()):
            assert {name: getattr(copy, name) for name in job} == job
            assert copy.cell is None
            with pytest.raises(ProtocolError):
                _ = copy.worker


def test_a_clone_hears_of_the_end_of_the_run_and_a_loaded_copy_does_not() -> None:
    context = WorkerContext()
    clone, loaded = context.clone(), WorkerContext.loads(context.dumps())
    context.cancelled.set()
    assert (clone.cancelled.is_set(), loaded.cancelled.is_set()) == (True, False)


def test_each_clone_has_a_store_of_its_own() -> None:
    stores: list[HookStore] = []

    class Notes(Does):
        def setup(self, store: HookStore) -> None:
            store["number"] = len(stores)
            stores.append(store)

    def tell(given: list[Entry], store: HookStore) -> None:
        for entry in given:
            entry["raw_data"]["number"] = store["number"]

    context = WorkerContext(pre_hooks=[Notes(tell)])
    with working(context), working(context.clone()) as clone, working(clone.clone()) as other:
        found = [values(each.worker.process(as_list([{}]))) for each in (context, clone, other)]
    assert found == [[{"number": 0}], [{"number": 1}], [{"number": 2}]]
    assert len(set(map(id, stores))) == 3


def test_a_worker_is_set_up_once_and_again_only_after_its_end() -> None:
    context = WorkerContext()
    with working(context), pytest.raises(ProtocolError, match="called twice"):
        context.setup()
    context.teardown()
    with working(context):
        assert values(context.worker.process(as_list([{"a": 1}]))) == [{"a": 1}]


def test_a_worker_whose_setup_failed_is_not_set_up() -> None:
    class Broken(Does):
        def setup(self, store: HookStore) -> None:
            raise OSError("no network")

    context = WorkerContext(pre_hooks=[Broken(lambda given, store: None)])
    for _ in range(2):
        with pytest.raises(WorkerInitError, match="Broken failed: no network"):
            context.setup()
        with pytest.raises(ProtocolError):
            _ = context.worker
    context.teardown()


def test_a_job_may_run_again_if_all_of_its_hooks_may() -> None:
    may, must_not = Does(lambda given, store: None), Does(lambda given, store: None, replay=False)
    assert WorkerContext().replayable
    assert WorkerContext(pre_hooks=[may], post_hooks=[may]).replayable
    assert not WorkerContext(pre_hooks=[may], post_hooks=[must_not]).replayable


TUNED = """
import gc
from manyhands.worker.tuning import tune_process
tune_process()
assert gc.get_freeze_count() > 1000
assert gc.isenabled() and gc.get_threshold()[0] >= 20_000
"""


def test_a_worker_process_can_be_tuned(tmp_path: Path) -> None:
    run_script(tmp_path, "tuned.py", TUNED, tmp_path)


UNTUNED = """
import gc, resource
from manyhands.worker.tuning import tune_process

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        b"x" * (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before, threshold = faults(), gc.get_threshold()
restore = tune_process()
faults()
assert faults() < before / 10
restore()
assert gc.get_freeze_count() == 0 and gc.get_threshold() == threshold
assert faults() > before / 2
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is tuned, no other")
def test_a_process_that_is_not_only_ours_is_left_as_it_was(tmp_path: Path) -> None:
    run_script(tmp_path, "untuned.py", UNTUNED, tmp_path)
