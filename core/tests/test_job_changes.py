"""What the command line changes in a job: single values, and the executor."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhands.config.job import Job
from manyhands.config.load import load_job
from manyhands.errors import JobFileError

from .jobs import write, write_job


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500", 500),
        ("true", True),
        ('"500"', "500"),
        ("lz4", "lz4"),
        ("", ""),
        (" spaced ", "spaced"),
        ("a=b", "a=b"),
        ("[1, 2]", [1, 2]),
        ("C:\\data\\new", "C:\\data\\new"),
        ("x # y", "x # y"),
    ],
)
def test_a_set_value_is_toml_or_plain_text(job: Path, text: str, value: object) -> None:
    assert load_job(job, settings=[f"executor.option={text}"]).executor.options == {"option": value}


@pytest.mark.parametrize("setting", ["", "executor", "executor=1", "executor.=1", "=1", ".key", "input.path"])
def test_a_set_without_table_key_and_value_is_refused(job: Path, setting: str) -> None:
    with pytest.raises(JobFileError, match=r"expected table\.key=value, for example"):
        load_job(job, settings=[setting])


def test_a_set_may_add_a_table_and_the_last_one_counts(job: Path) -> None:
    loaded = load_job(job, settings=["executor.chunksize=1", "executor.chunksize=2", "run.ordered=false"])
    assert loaded.executor.options == {"chunksize": 2}
    assert loaded.run.ordered is False


def test_a_set_into_what_is_no_table_is_refused(tmp_path: Path) -> None:
    job = write(tmp_path, job__toml="input = 5\n") / "job.toml"
    with pytest.raises(JobFileError, match=r"--set input.path=x: \[input\] is no table"):
        load_job(job, settings=["input.path=x"])


def test_another_executor_keeps_only_the_options_that_all_have(job: Path) -> None:
    changes = ["executor.max_workers=4", "executor.chunksize=9", "executor.use_batch_validation=true"]
    text = job.read_text() + "[executor]\nname = 'multiprocessing'\n"
    job.write_text(text + "".join(f"{change.partition('.')[2]}\n" for change in changes))
    other = load_job(job, executor="threads").executor
    assert (other.name, other.options) == ("threads", {"chunksize": 9, "use_batch_validation": True})
    same = load_job(job, executor="multiprocessing").executor
    assert (same.name, same.options["max_workers"]) == ("multiprocessing", 4)
    later = load_job(job, executor="threads", settings=["executor.max_workers=2"]).executor
    assert later.options["max_workers"] == 2


def test_another_executor_for_a_job_that_names_none(job: Path) -> None:
    assert load_job(job, executor="threads").executor.name == "threads"


TABLES = st.dictionaries(
    st.sampled_from(["input", "schema", "hooks", "output", "errors", "executor", "run", "other"]),
    st.one_of(
        st.integers(),
        st.dictionaries(
            st.sampled_from(["adapter", "path", "model", "pre", "name", "ordered", "chunksize", "x"]),
            st.one_of(
                st.booleans(), st.integers(), st.sampled_from(["csv", "a:b", ""]), st.lists(st.text(), max_size=2)
            ),
            max_size=3,
        ),
    ),
    max_size=4,
)


@settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables=TABLES)
def test_any_tables_give_a_job_or_lines_that_name_the_file(tmp_path: Path, tables: dict[str, Any]) -> None:
    changes = [
        f"{table}.{key}={str(value).lower() if isinstance(value, bool) else value!r}"
        for table, keys in tables.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    ]
    scalars = "".join(f"{table} = {value}\n" for table, value in tables.items() if not isinstance(value, dict))
    job = write(tmp_path, job__toml=scalars) / "job.toml"
    try:
        assert isinstance(load_job(job, settings=changes), Job)
    except JobFileError as error:
        for line in str(error).splitlines():
            assert line.startswith((f"{job}: ", "--set "))
