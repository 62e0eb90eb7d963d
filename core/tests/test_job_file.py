"""A job file says what runs; each mistake in one is answered with file, table, key and what is allowed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands import BaseHook, Pipe, PipeManager
from manyhands.config.adapters import INPUTS, OUTPUTS
from manyhands.config.build import build_pipe, build_run, check_files
from manyhands.config.job import InputTable, OutputTable
from manyhands.config.load import load_job
from manyhands.errors import JobFileError, OptionsError, UnknownBackend, UnpicklableError, UsageError

from .jobs import write, write_job

CODE = """
    from dataclasses import dataclass
    from threading import Lock
    from typing_extensions import TypedDict
    from manyhands import BaseHook

    class Hook(BaseHook):
        def execute(self, entries, store): ...

    class Needs(Hook):
        def __init__(self, address):
            super().__init__()

    class Breaks(Hook):
        def __init__(self):
            raise RuntimeError("no\\nlicence")

    class Lazy(BaseHook): ...

    class Holds(Hook):
        def __init__(self):
            super().__init__()
            self.lock = Lock()

    class Stranger:
        def execute(self, entries, store): ...

    @dataclass
    class Point:
        n: int

    class Typed(TypedDict):
        n: int

    hook = Hook(priority=7)
    five = 5

    def rows():
        return [{"n": 1}]

    class Group:
        Inner = Hook
"""


@pytest.fixture(autouse=True)
def fresh_imports() -> Iterator[None]:
    """Jobs of different folders may have modules of one name; in one process they come one after the other."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith(("manyhands", "pydantic")):
            del sys.modules[name]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path, mine__py=CODE)


def build(job: Path, *changes: str, executor: str | None = None) -> Pipe:
    return build_pipe(job, load_job(job, executor=executor, settings=changes))


def run_of(job: Path, *changes: str) -> Pipe | PipeManager:
    return build_run(job, load_job(job, executor=None, settings=changes), build(job, *changes))


def refusal(job: Path, *changes: str) -> str:
    with pytest.raises(JobFileError) as caught:
        build(job, *changes)
    return str(caught.value)


# What is set in a good job, and what the answer says behind the file's name.
WRONG: dict[str, tuple[str, str]] = {
    "unknown table": ("outputs.path=x", "unknown table [outputs]; did you mean 'output'? allowed are input, sch"),
    "unknown key": ("run.orderd=true", "[run] has no key 'orderd'; did you mean 'ordered'? allowed are ordered,"),
    "far from any key": ("schema.xyz=1", "[schema] has no key 'xyz'; allowed are model"),
    "no bool": ("run.ordered=maybe", "[run] ordered: must be true or false, not 'maybe'"),
    "number for bool": ("run.ordered=1", "[run] ordered: must be true or false, not 1"),
    "bool for number": ("input.limit=true", "[input] limit: Input should be a valid integer, not True"),
    "text for number": ('hooks.max_chunk_size="1"', "[hooks] max_chunk_size: Input should be a valid integer, not '1'"),
    "float for number": ("run.crash_retries=1.0", "[run] crash_retries: Input should be a valid integer, not 1.0"),
    "bool for seconds": ("run.record_timeout=true", "[run] record_timeout: Input should be a valid number, not True"),
    "no number": ("run.crash_retries=often", "[run] crash_retries: Input should be a valid integer"),
    "negative": ("run.error_retries=-1", "[run] error_retries: Input should be greater than or equal to 0, not -1"),
    "no array": ("hooks.pre=mine:Hook", "[hooks] pre: must be an array of strings, not 'mine:Hook'"),
    "zero": ("hooks.max_chunk_size=0", "[hooks] max_chunk_size: Input should be greater than or equal to 1, not 0"),
    "no reference": ("schema.model=rows_model.Row", '[schema] model: write "module:attribute", not \'rows_model.Row\''),
    "no reference in a list": ('hooks.post=["mine:Hook", "x"]', '[hooks] post.1: write "module:attribute", not \'x\''),
    "missing module": ("schema.model=nowhere:Row", "[schema] model: there is no module 'nowhere', neither in"),
    "missing submodule": ("schema.model=rows_model.sub:Row", "[schema] model: there is no module 'rows_model.sub'"),
    "a file's name": ("schema.model=rows_model.py:Row", '[schema] model: leave out ".py": rows_model'),
    "relative module": ("schema.model=.mine:Row", "[schema] model: importing .mine failed: TypeError: "),
    "near attribute": ("schema.model=rows_model:Rows", "[schema] model: rows_model has no 'Rows'; did you mean 'Row'?"),
    "far attribute": ("schema.model=rows_model:Zq", "[schema] model: rows_model has no 'Zq'; see how it is spelled"),
    "inner attribute": ('hooks.pre=["mine:Group.Iner"]', "[hooks] pre: mine has no 'Iner'; did you mean 'Inner'?"),
    "no hook class": ('hooks.pre=["mine:Stranger"]', "[hooks] pre: mine:Stranger is no hook: derive it from many"),
    "no hook": ('hooks.post=["mine:five"]', "[hooks] post: 5 is no hook: derive its class from many"),
    "idle hook": ('hooks.post=["mine:Lazy"]', "[hooks] post: hook Lazy does not define execute(entries, store)"),
    "needs arguments": ('hooks.pre=["mine:Needs"]', "[hooks] pre: mine:Needs() failed: TypeError: Needs."),
    "no schema class": ("schema.model=mine:Stranger", "[schema] model: <class 'mine.Stranger'> is no schema: exp"),
    "no schema": ("schema.model=mine:five", "[schema] model: 5 is no schema: expected a pydantic model, a data"),
    "unknown input": ("input.adapter=cvs", "[input] adapter: no adapter 'cvs'; did you mean 'csv'? allowed are csv,"),
    "no input": ("input.adapter=null", "[input] adapter: no adapter 'null'; allowed are csv, jsonl, json, python"),
    "unknown output": ("output.adapter=jsnl", "[output] adapter: no adapter 'jsnl'; did you mean 'jsonl'? allow"),
    "no output": ("errors.adapter=python", "[errors] adapter: no adapter 'python'; allowed are csv, jsonl, json, "),
    "adapter is no name": ("output.adapter=5", "[output] adapter: no adapter 5; allowed are csv"),
    "unknown option": ("input.delimeter=;", "[input] delimeter: no such option; did you mean 'delimiter'? allowed are"),
    "long delimiter": ("input.delimiter=ab", "[input] delimiter: String should have at most 1 character, not 'ab'"),
    "negative limit": ("input.limit=-1", "[input] limit: Input should be greater than or equal to 0, not -1"),
    "wrong format": ("output.format=table", "[output] format: Input should be 'lines' or 'array', not 'table'"),
    "path is no string": ("input.path=5", "[input] path: must be a string, not 5"),
    "fieldnames is no array": ("input.fieldnames=n", "[input] fieldnames: must be an array of strings, not 'n'"),
    "output is the job": ("output.path=job.toml", "[output] path: that is this job file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_answered_with_file_table_key_and_remedy(job: Path, case: str) -> None:
    change, words = WRONG[case]
    message = refusal(job, change)
    assert message.startswith(f"{job}: {words}")
    assert "\n" not in message


def test_every_mistake_of_a_file_is_told_at_once(job: Path) -> None:
    lines = refusal(job, "run.x=1", "inputs.y=2", "hooks.pre=3").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{job}: ") for line in lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "{job}: the table [input] is missing"),
        ("input = 5\n", "{job}: [input] must be a table of keys and values"),
        ("[[input]]\nadapter = 'csv'\n", "{job}: [input] must be a table of keys and values"),
        ("[input]\n", "{job}: [input] adapter: is required; allowed are csv, jsonl, json, python"),
        ("[input]\nadapter = 'csv'\n", "{job}: [input] path: is required"),
        ("[input]\nadapter = 'python'\n", "{job}: [input] iterable: is required"),
        ("[input]\nadapter = 'csv'\npath = 'a'\n[schema]\n", "{job}: [schema] model: is required"),
        ("[input]\nadapter = 'csv'\npath = 'a'\n[output]\nadapter = 'json'\n", "{job}: [output] path: is required"),
    ],
)
def test_a_file_that_lacks_something(tmp_path: Path, text: str, words: str) -> None:
    job = write(tmp_path, job__toml=text) / "job.toml"
    assert refusal(job) == words.format(job=job)


@pytest.mark.parametrize("text", ["x = 1\n[input\n", "x = 1\nx = 2\n", "x = 1\n= 2\n", "x = 1\ny = nope\n"])
def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    job = write(tmp_path, job__toml=text) / "job.toml"
    message = refusal(job)
    assert message.startswith(f"{job} is no TOML: ")
    assert "(at line 2, column " in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml") == f"cannot read {tmp_path / 'no.toml'}: No such file or directory"
    assert refusal(tmp_path).startswith(f"cannot read {tmp_path}: ")
    (tmp_path / "latin.toml").write_bytes(b'[input]\nadapter = "\xe9"\n')
    assert refusal(tmp_path / "latin.toml").startswith(f"{tmp_path / 'latin.toml'} is no TOML: 'utf-8' codec")


def test_a_byte_order_mark_is_no_mistake(job: Path) -> None:
    job.write_bytes(b"\xef\xbb\xbf" + job.read_bytes())
    build(job)


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        ("import os\n\ndef f():\n    raise ValueError('one\\ntwo')\n\nf()\n", "ValueError: one two", 4),
        ("import os\nraise SystemExit(3)\n", "SystemExit: 3", 2),
        ("import os\n\nimport no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'", 3),
        ("from pydantic import BaseModel\nclass X: ...\n\nclass M(BaseModel):\n    x: X\n", "Pydantic", 4),
        ("import os\nx = (\n", "SyntaxError: '(' was never closed", 2),
    ],
)
def test_a_module_that_raises_is_one_line_with_its_file_and_line(job: Path, code: str, words: str, line: int) -> None:
    write(job.parent, broken__py=code)
    message = refusal(job, "schema.model=broken:M")
    assert message.startswith(f"{job}: [schema] model: importing broken failed: {words}")
    assert "broken.py, line" in message
    assert message.endswith(f"line {line})")
    assert "\n" not in message


def test_a_hook_that_raises_when_made_is_one_line_with_its_file_and_line(job: Path) -> None:
    message = refusal(job, 'hooks.pre=["mine:Breaks"]')
    line = CODE.splitlines().index('            raise RuntimeError("no\\nlicence")')
    where = f"({job.parent / 'mine.py'}, line {line})"
    assert message == f"{job}: [hooks] pre: mine:Breaks() failed: RuntimeError: no licence {where}"


def test_a_module_that_something_else_hides_is_told(job: Path) -> None:
    write(job.parent, json__py="class Row: ...")
    message = refusal(job, "schema.model=json:Row")
    assert message.startswith(f"{job}: [schema] model: json is already imported from ")
    assert message.endswith("json/__init__.py; give yours another name")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("input.iterable=mine", "[input] iterable: write \"module:attribute\", not 'mine'"),
        ("input.iterable=5", "[input] iterable: write \"module:attribute\", not '5'"),
        ("input.iterable=mine:five", "[input] 5 is no iterable of records"),
        ("input.limit=-1", "[input] limit: Input should be greater than or equal to 0, not -1"),
        ("input.limit=few", "[input] limit: Input should be a valid integer"),
        ("input.path=x", "[input] path: no such option; allowed are iterable, skip_rows, limit"),
        ("output.path=x", "[output] path: no such option; allowed are none"),
    ],
)
def test_adapters_without_files_check_their_options_as_well(tmp_path: Path, change: str, words: str) -> None:
    text = "[input]\nadapter = 'python'\niterable = 'mine:rows'\n[output]\nadapter = 'null'\n"
    job = write(tmp_path, job__toml=text, mine__py=CODE) / "job.toml"
    build(job)
    assert refusal(job, change).startswith(f"{job}: {words}")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ("executor.name=qqq", UnknownBackend, "there is no executor 'qqq'; known are"),
        ("executor.name=synk", UnknownBackend, "there is no executor 'synk'; did you mean 'sync'"),
        ("executor.speed=9", OptionsError, "backend 'sync': unknown option 'speed'; allowed are chunksize, use_batch_"),
        ("executor.chunksize=0", OptionsError, "backend 'sync': option 'chunksize': Input should be greater than"),
    ],
)
def test_a_backend_that_cannot_be_had(job: Path, change: str, kind: type[UsageError], words: str) -> None:
    with pytest.raises(kind) as caught:
        build(job, change)
    assert str(caught.value).startswith(f"{job}: [executor] {words}")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            ["engine.worker=3"],
            OptionsError,
            "[engine] backend 'multiprocessing': unknown option 'worker'; did you mean ",
        ),
        (["engine.name=threads"], UnknownBackend, "[engine] 'threads' is no engine but an executor; engines are dask"),
        (["engine.workers=2", "input.path=/dev/stdin"], UsageError, "[engine] CSVInputAdapter of /dev/stdin cannot be"),
        (["engine.workers=2", "run.record_timeout=1"], OptionsError, "[run] record_timeout and chunk_timeout need"),
        (["executor.name=sync", "run.chunk_timeout=1"], OptionsError, "[run] record_timeout and chunk_timeout need"),
    ],
)
def test_what_cannot_run_is_refused_with_its_table(
    job: Path, changes: list[str], kind: type[UsageError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        run_of(job, *changes)
    assert str(caught.value).startswith(f"{job}: {words}")


def test_the_key_of_the_job_file_is_among_what_an_engine_allows(job: Path) -> None:
    with pytest.raises(OptionsError, match=r"did you mean 'workers'\? allowed are workers, n_workers, start_method$"):
        run_of(job, "engine.worker=3")


@pytest.mark.parametrize("engine", [[], ["engine.workers=2"]], ids=["executor", "engine"])
def test_an_input_that_is_missing_is_told_alike_with_and_without_an_engine(job: Path, engine: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^cannot read .*none\.csv: No such file"):
        check_files(run_of(job, "input.path=none.csv", *engine))  # type: ignore[arg-type]  # a manager raises before


def test_a_hook_that_cannot_travel_to_an_engine_is_refused_before_the_run(job: Path) -> None:
    words = r"^Holds \(post-validation hook\) cannot be sent .*lock.*; make it in the hook's setup$"
    with pytest.raises(UnpicklableError, match=words):
        run_of(job, "engine.workers=2", 'hooks.post=["mine:Holds"]')
    run_of(job, "engine.name=sync", "engine.workers=2", 'hooks.post=["mine:Holds"]')  # it stays in this process


def test_paths_begin_at_the_job_file(job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    pipe = build(job)
    assert pipe.input_adapter.path == job.parent / "rows.csv"
    assert pipe.output_adapter is not None
    assert pipe.output_adapter.path == job.parent / "out.jsonl"
    monkeypatch.chdir(job.parent)
    pipe = build(Path("job.toml"), f"input.path={job}")
    assert pipe.input_adapter.path == job  # an absolute one stays as it is
    assert pipe.output_adapter is not None
    assert pipe.output_adapter.path == job.parent / "out.jsonl"


@pytest.mark.parametrize("model", ["rows_model:Row", "mine:Point", "mine:Typed"])
def test_each_kind_of_schema_is_taken(job: Path, model: str) -> None:
    assert build(job, f"schema.model={model}").schema_model.__name__ == model.partition(":")[2]


def test_hooks_are_classes_or_instances_and_keep_their_order(job: Path) -> None:
    pipe = build(job, 'hooks.pre=["mine:Hook", "mine:hook", "mine:Group.Inner"]', "hooks.max_chunk_size=5")
    assert [hook.priority for hook in pipe.pre_validation_hooks] == [7, 50, 50]
    assert all(isinstance(hook, BaseHook) for hook in pipe.pre_validation_hooks)
    assert pipe.max_hook_chunk_size == 5


def test_the_run_table_reaches_the_driver(job: Path) -> None:
    options = build(job, "run.ordered=false", "run.crash_retries=4", "run.error_retries=2").options
    assert (options.ordered, options.crash_retries, options.error_retries) == (False, 4, 2)


def test_only_the_input_is_needed(tmp_path: Path) -> None:
    job = write(tmp_path, job__toml="[input]\nadapter = 'jsonl'\npath = 'a'\n") / "job.toml"
    pipe = build(job)
    assert (pipe.schema_model, pipe.output_adapter, pipe.error_output_adapter) == (None, None, None)
    assert pipe.executor.name == "sync"  # type: ignore[attr-defined]


def test_every_adapter_that_a_job_may_name_is_there() -> None:
    for table, known in ((InputTable, INPUTS), (OutputTable, OUTPUTS)):
        assert set(known) == set(table.model_fields["adapter"].annotation.__args__)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("input.path=none.csv", "cannot read .*none.csv: No such file"),
        ("output.path=none/out.jsonl", "the folder .*none does not exist"),
        ("output.path=rows.csv", "rows.csv: it is also the input of this job"),
        ("output.path=errors.jsonl", "errors.jsonl: it is also the output"),
        ("errors.path=.", "it is not a regular file"),
    ],
)
def test_what_would_stop_a_run_stops_the_check(job: Path, change: str, words: str) -> None:
    before = sorted(job.parent.iterdir())
    with pytest.raises(UsageError, match=words):
        check_files(build(job, change))
    assert [file for file in sorted(job.parent.iterdir()) if file.name != "__pycache__"] == before


def test_what_is_in_the_way_of_a_partial_output_stops_the_check(job: Path) -> None:
    (job.parent / "out.jsonl.partial").mkdir()
    with pytest.raises(UsageError, match=r"out\.jsonl: .*out\.jsonl\.partial is no regular file of its own"):
        check_files(build(job))
