"""The schema of job files accepts what a run accepts, refuses typical mistakes, and says what each key means."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.config.schema import described, job_schema
from manyhands.errors import UsageError
from manyhands.plugins.registry import installed
from manyhands.plugins.spec import ProcessExecutorOptions

from .jobs import manyhands, plugin_code, write, write_plugin

INPUT = "[input]\nadapter = 'csv'\npath = 'rows.csv'\n"

GOOD = [
    INPUT,
    INPUT + "quotechar = ''\ndelimiter = ';'\nfieldnames = ['a']\nlimit = 3\n",
    "[input]\nadapter = 'jsonl'\npath = 'a'\nformat = 'array'\n",
    "[input]\nadapter = 'python'\niterable = 'builtins:license'\nskip_rows = 1\n",
    INPUT + "[output]\nadapter = 'null'\n[errors]\nadapter = 'csv'\npath = 'e.csv'\n",
    INPUT + "[schema]\nmodel = 'manyhands.plugins.spec:Backend'\n",
    INPUT + "[hooks]\npre = []\nmax_chunk_size = 5\n",
    INPUT + "[executor]\nchunksize = 5\n",
    INPUT + "[executor]\nname = 'sync'\nuse_batch_validation = true\n",
    INPUT + "[run]\nordered = false\nrecord_timeout = 1\nchunk_timeout = 0.5\ncrash_retries = 0\n",
]

BAD = [
    "",
    "[output]\nadapter = 'null'\n",
    INPUT + "[outputs]\nadapter = 'null'\n",
    INPUT + "paht = 'rows.csv'\n",
    INPUT + "skip_rows = -1\n",
    INPUT + "delimiter = '::'\n",
    INPUT + "iterable = 'rows:all'\n",
    "[input]\nadapter = 'csv'\n",
    "[input]\nadapter = 'cvs'\npath = 'rows.csv'\n",
    "[input]\nadapter = 'null'\n",
    "[input]\nadapter = 'python'\niterable = 'rows.py'\n",
    INPUT + "[output]\nadapter = 'null'\npath = 'a'\n",
    INPUT + "[output]\npath = 'a.jsonl'\n",
    INPUT + "[schema]\nmodel = 'rows.Row'\n",
    INPUT + "[hooks]\npost = 'rows:Hook'\n",
    INPUT + "[hooks]\nposts = []\n",
    INPUT + "[hooks]\nmax_chunk_size = 0\n",
    INPUT + "[executor]\nname = 'snyc'\n",
    INPUT + "[executor]\nname = 'sync'\nmax_workers = 4\n",
    INPUT + "[executor]\nchunksize = 'many'\n",
    INPUT + "[run]\nrecord_timeout = 0\n",
    INPUT + "[run]\ncrash_retries = -1\n",
    INPUT + "[run]\nordered = 'yes please'\n",
    INPUT + "[run]\nordered = 1\n",
    INPUT + "[run]\ncrash_retries = true\n",
    INPUT + "[run]\nchunk_timeout = '1'\n",
    INPUT + "limit = true\n",
    INPUT + "skip_rows = '1'\n",
    "[input]\nadapter = 'jsonl'\npath = 'a'\nlimit = true\n",
    "[input]\nadapter = 'python'\niterable = 'builtins:license'\nlimit = '1'\n",
    INPUT + "[hooks]\nmax_chunk_size = true\n",
    INPUT + "[executor]\nchunksize = true\n",
    INPUT + "[executor]\nuse_batch_validation = '1'\n",
    *(
        INPUT + f"[executor]\nname = '{name}'\nmax_workers = true\n"
        for name in ("threads", "asyncio", "multiprocessing")
    ),
]

NESTED = """
    from typing import Any, Callable
    from pydantic import BaseModel
    from manyhands import Backend, ExecutorOptions, hookimpl

    class Place(BaseModel):
        address: str

    class Options(ExecutorOptions):
        '''Options of this backend.

        Attributes:
            place: where it is,
                by its address.
        '''

        place: Place{more}

    @hookimpl
    def manyhands_backends():
        return [Backend({name!r}, "executor", "json:loads", options=Options)]
"""


@pytest.fixture(scope="module")
def schema() -> Mapping[str, Any]:
    return job_schema(pytest.fail)


def refusals(schema: Mapping[str, Any], job: str) -> list[Any]:
    return list(Draft202012Validator(schema).iter_errors(tomllib.loads(job)))


def build(folder: Path, job: str) -> None:
    """Make the pipe of a job, as a run would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        build_pipe(folder / "job.toml", load_job(write(folder, job__toml=job) / "job.toml"))


def tables(schema: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table of the schema, with its name."""
    for name, table in schema["$defs"].items():
        yield name, table
        yield from ((f"{name} {then['title']}", then) for then in (one["then"] for one in table.get("allOf", ())))


def run_schema(site: Path, cwd: Path) -> tuple[Any, str]:
    """What the command prints, and what it says on stderr."""
    done = manyhands("schema", cwd=cwd, site=site)
    assert done.returncode == 0
    return json.loads(done.stdout), done.stderr


def test_it_is_a_schema_of_the_draft_that_it_names(schema: Mapping[str, Any]) -> None:
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("job", GOOD)
def test_what_a_run_accepts_is_valid(schema: Mapping[str, Any], job: str, tmp_path: Path) -> None:
    assert refusals(schema, job) == []
    build(tmp_path, job)


@pytest.mark.parametrize("job", BAD)
def test_what_a_run_refuses_is_not_valid(schema: Mapping[str, Any], job: str, tmp_path: Path) -> None:
    assert refusals(schema, job)
    with pytest.raises(UsageError):
        build(tmp_path, job)


def test_an_editor_can_say_where_the_mistake_is(schema: Mapping[str, Any]) -> None:
    (number,) = refusals(schema, INPUT + "[executor]\nname = 'sync'\nchunksize = 0\n")
    assert list(number.absolute_path) == ["executor", "chunksize"]
    (name,) = refusals(schema, INPUT + "[executor]\nname = 'sync'\nchunksze = 5\n")
    assert "'chunksze' was unexpected" in name.message


def test_every_key_says_what_it_means(schema: Mapping[str, Any]) -> None:
    silent = [
        (name, key)
        for name, table in [("job", schema), *tables(schema)]
        for key, value in table["properties"].items()
        if value is not True and not value.get("description")
    ]
    assert silent == []


def test_every_installed_executor_and_all_of_its_options_are_there(schema: Mapping[str, Any]) -> None:
    expected = {
        f.name: set(f.backend.options.model_fields) for f in installed() if f.backend and f.backend.kind == "executor"
    }
    assert expected
    for name, table in tables(schema):
        if name.startswith("ExecutorTable "):
            missing = expected.pop(table["title"]) - set(table["properties"])
            assert missing <= {"loop"}, name  # which no job file can name
    assert expected == {}


def test_a_docstring_tells_of_inherited_options_too() -> None:
    class Options(ProcessExecutorOptions):
        """Options.

        Attributes:
            chunksize: another
                word.
        """

    assert described(Options)["chunksize"] == "another word."
    assert described(Options)["compression"] == '`"lz4"` to compress what travels.'


def test_options_of_strangers_may_be_models_of_one_name(tmp_path: Path) -> None:
    for name in ("near", "far"):
        site = write_plugin(tmp_path / "site", name, NESTED.format(name=name, more=""))
    schema, complaints = run_schema(site, tmp_path)
    assert complaints == ""
    Draft202012Validator.check_schema(schema)
    good = INPUT + "[executor]\nname = 'far'\nplace = {address = 'here'}\n"
    assert refusals(schema, good) == []
    assert refusals(schema, good.replace("address", "adress"))
    far = next(table for name, table in tables(schema) if name == "ExecutorTable far")
    assert far["properties"]["place"]["description"] == "where it is, by its address."


def test_broken_plugins_are_left_out_and_named(tmp_path: Path) -> None:
    site = write_plugin(tmp_path / "site", "broken", "import no_such_module\n")
    write_plugin(site, "odd", NESTED.format(name="odd", more="; how: Callable[[], None]"))
    write_plugin(site, "fine", plugin_code("fine"))
    schema, complaints = run_schema(site, tmp_path)
    assert refusals(schema, INPUT + "[executor]\nname = 'fine'\n") == []
    assert refusals(schema, INPUT + "[executor]\nname = 'broken'\n")
    assert refusals(schema, INPUT + "[executor]\nname = 'odd'\n")
    broken, odd = complaints.splitlines()
    assert "left out: backend 'broken' of fake-broken 1.5 is broken" in broken
    assert "left out: backend 'odd' of fake-odd: its options have no schema" in odd
