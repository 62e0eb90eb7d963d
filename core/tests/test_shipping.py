"""Code beside the job reaches workers that have nothing of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pydantic
import pytest

from manyhands import Chunk, ChunkKind, WorkerContext, dump_chunk, load_result
from manyhands.worker import codec, pickles
from manyhands.worker.calls import dump_code, dump_function, read_result
from manyhands.worker.shipping import Source, add, own_modules, own_sources, remove, with_sources

MODULES = {
    "mh_shapes.py": """
from enum import Enum
from pydantic import BaseModel, field_validator

class Colour(Enum):
    RED = "red"
    BLUE = "blue"

class Base(BaseModel):
    k: int

class Part(BaseModel):
    name: str = "part"

class Whole(BaseModel):
    part: Part = Part()
    next: "Whole | None" = None

class Row(Base):
    colour: Colour
    whole: Whole = Whole()

    @field_validator("k")
    @classmethod
    def small(cls, value):
        if value > LIMIT:
            raise ValueError("too large")
        return value

LIMIT = 10
""",
    "mh_tools/__init__.py": "",
    "mh_tools/sums.py": """
class Odd(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number

def add(a, b):
    return a + b
""",
    "mh_job.py": """
import mh_tools.sums
from manyhands import BaseHook
from mh_shapes import Colour, Row
from mh_tools.sums import Odd, add

class Paints(BaseHook):
    def execute(self, entries, store):
        for entry in entries:
            entry["raw_data"]["colour"] = Colour.BLUE if entry["raw_data"]["was"] is Colour.RED else Colour.RED
            entry["raw_data"]["k"] = mh_tools.sums.add(entry["raw_data"]["k"], 1)

class Keeps(BaseHook):
    def execute(self, entries, store):
        for entry in entries:
            entry["metadata"]["colour"] = entry["validated_data"]["colour"]

def even(k):
    if k % 2:
        raise Odd(add(k, 0))
    return Colour.RED, Row(k=k, colour="blue")
""",
    "mh_folder/deep/inner.py": """
from __future__ import annotations
from dataclasses import dataclass, field
from typing_extensions import NotRequired, TypedDict

@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)

class Line(TypedDict):
    start: Point
    end: NotRequired[Point]

def fails(k):
    raise ValueError(k)  # here
""",
    "mh_locked.py": """
import threading

LOCK = threading.Lock()

def lock(k):
    with LOCK:
        return k
""",
}

WORKER = """
import pickle, sys
from manyhands.worker.remote import RemoteWorker
job, *chunks = pickle.load(sys.stdin.buffer)
worker = RemoteWorker(job)
answers = [worker.run(*chunk) for chunk in chunks]
sys.stdout.buffer.write(pickle.dumps(answers))
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module beside a program, with what it needs."""
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("mh_job")
    for name in [name for name in sys.modules if name.startswith("mh_")]:
        del sys.modules[name]


def elsewhere(job: bytes, *chunks: Chunk) -> list[Any]:
    """What a worker in another directory makes of them."""
    message = pickles.dumps([job, *map(dump_chunk, chunks)])
    done = subprocess.run([sys.executable, "-c", WORKER], input=message, capture_output=True, cwd="/", check=False)
    assert not done.returncode, done.stderr.decode()
    return [load_result(*answer) for answer in pickles.loads(done.stdout)]


def mapped(function: Any, *items: Any, code: bytes = b"") -> Chunk:
    payload = code + dump_function(function, star=False) + pickles.dumps([*items])
    return Chunk(0, 0, len(items), ChunkKind.CALLS, payload)


def test_schema_hooks_and_what_they_import_travel(job: Any) -> None:
    context = WorkerContext(schema_model=job.Row, pre_hooks=[job.Paints()], post_hooks=[job.Keeps()])
    rows = [{"k": 1, "was": job.Colour.RED}, {"k": 10, "was": job.Colour.BLUE}]
    chunk = Chunk(0, 0, 2, ChunkKind.PACKED, codec.dumps(rows))
    (result,) = elsewhere(with_sources(context.dumps()), chunk)
    assert (result.ok, result.rejected) == (1, 1)
    (entry,) = result.output
    whole = {"part": {"name": "part"}, "next": None}
    assert entry["validated_data"] == {"k": 2, "colour": job.Colour.BLUE, "whole": whole}
    assert entry["metadata"]["colour"] is job.Colour.BLUE
    assert "too large" in str(result.errors)


@pytest.mark.parametrize("schema", ["Point", "Line"])
def test_dataclasses_and_typed_dicts_travel(job: Any, schema: str) -> None:
    inner = importlib.import_module("mh_folder.deep.inner")
    context = WorkerContext(schema_model=getattr(inner, schema))
    row = {"x": "1"} if schema == "Point" else {"start": {"x": 1}}
    (result,) = elsewhere(with_sources(context.dumps()), Chunk(0, 0, 1, ChunkKind.PACKED, codec.dumps([row])))
    assert (result.ok, result.rejected) == (1, 0)


def test_what_comes_back_is_of_the_classes_that_are_here(job: Any) -> None:
    (result,) = elsewhere(with_sources(WorkerContext().dumps()), mapped(job.even, 2, 3))
    values, failures = read_result(result, 0)
    colour, row = values[0]
    assert colour is job.Colour.RED
    assert type(row) is job.Row
    assert row == job.Row(k=2, colour="blue")
    assert type(failures[1]) is job.Odd
    assert failures[1].number == 3


def test_arguments_travel_too(job: Any) -> None:
    (result,) = elsewhere(with_sources(WorkerContext().dumps()), mapped(repr, job.Row(k=1, colour="red")))
    assert "colour=<Colour.RED: 'red'>, whole=Whole(" in read_result(result, 0)[0][0]


def test_tracebacks_show_lines(job: Any) -> None:
    inner = importlib.import_module("mh_folder.deep.inner")
    dumped, chunk = with_sources(WorkerContext().dumps()), mapped(inner.fails, 1)
    Path(inner.__file__).unlink()
    (result,) = elsewhere(dumped, chunk)
    assert "raise ValueError(k)  # here" in str(read_result(result, 0)[1][0].__cause__)


def test_a_module_that_was_imported_later_goes_before_the_calls(job: Any) -> None:
    dumped, known = with_sources(WorkerContext().dumps()), own_modules()
    locked = importlib.import_module("mh_locked")
    late = own_sources(known)
    assert set(late) == {"mh_locked"}
    (result,) = elsewhere(dumped, mapped(locked.lock, 2, code=dump_code(late)))
    assert read_result(result, 0) == ([2], {})


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What comes here is removed again."""
    yield
    remove()
    for name in [name for name in sys.modules if name.startswith("mh_")]:
        del sys.modules[name]


def source(text: str, file: str = "/nowhere/mh_one.py") -> Source:
    return Source(text.encode(), file, file.endswith("__init__.py"))


def test_other_source_replaces_a_module_with_all_that_may_have_imported_it(worker: None) -> None:
    user = source("from mh_pack.one import value")
    package = source("", "/nowhere/mh_pack/__init__.py")
    for k in (1, 2):
        add({"mh_user": user, "mh_pack": package, "mh_pack.one": source(f"value = {k}")})
        assert importlib.import_module("mh_user").value == k


def test_the_same_source_leaves_a_module_alone(worker: None) -> None:
    add({"mh_one": source("value = []")})
    before = importlib.import_module("mh_one")
    add({"mh_one": source("value = []"), "mh_two": source("")})
    assert importlib.import_module("mh_one") is before


def test_what_a_worker_had_is_there_again(job: Any, worker: None) -> None:
    before = sys.modules["mh_job"]
    add(own_sources())
    assert importlib.import_module("mh_job") is before
    add({"mh_job": source("value = 1")})
    assert importlib.import_module("mh_job").value == 1
    remove()
    assert importlib.import_module("mh_job") is before


def test_a_folder_here_may_be_part_of_one_that_came(tmp_path: Path, worker: None, monkeypatch: Any) -> None:
    (tmp_path / "mh_folder").mkdir()
    (tmp_path / "mh_folder" / "here.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    add({"mh_folder": Source(None, "", is_package=True), "mh_folder.came": source("value = 1")})
    assert importlib.import_module("mh_folder.came").value == 1
    assert importlib.import_module("mh_folder.here")


def test_other_encodings_arrive(worker: None) -> None:
    text = "# coding: latin-1\nvalue = '\u00e4'\n".encode("latin-1")
    add({"mh_one": Source(text, "/nowhere/mh_one.py", is_package=False)})
    assert importlib.import_module("mh_one").value == "\u00e4"


def test_only_what_is_nobodys_distribution_goes_by_value(job: Any, tmp_path: Path) -> None:
    found = set(own_modules())
    assert {"mh_job", "mh_shapes", "mh_tools", "mh_tools.sums"} <= found
    assert found.isdisjoint(sys.stdlib_module_names)
    for module in (pydantic, pytest, cloudpickle, codec):
        assert module.__name__ not in found
    assert not [name for name in found if name.startswith("manyhands")]


@pytest.mark.parametrize("layout", ["path file", "top level"])
def test_an_editable_distribution_goes_by_name(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, sources = tmp_path / "site", tmp_path / "src"
    info = site / "mh_thing-1.0.dist-info"
    info.mkdir(parents=True)
    sources.mkdir()
    (sources / "mh_thing.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mh-thing\nVersion: 1.0\n")
    if layout == "top level":
        (info / "top_level.txt").write_text("mh_thing\n")
    else:
        (site / "mh_thing.pth").write_text(f"# sources\n{sources}\nimport sys\n")
        monkeypatch.setattr("site.getsitepackages", lambda: [str(site)])
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(sources))
    importlib.import_module("mh_thing")
    try:
        assert "mh_thing" not in set(own_modules())
    finally:
        del sys.modules["mh_thing"]


def test_a_folder_without_init_is_a_package_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mh_folder").mkdir()
    (tmp_path / "mh_folder" / "inner.py").write_text("def here():\n    return 'here'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("mh_folder.inner")
    try:
        assert {"mh_folder", "mh_folder.inner"} <= set(own_modules())
    finally:
        del sys.modules["mh_folder"], sys.modules["mh_folder.inner"]
