"""Errors of an engine's worker name its machine, and lose nothing by that."""

from __future__ import annotations

import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from manyhands import CSVInputAdapter, RunStatus
from manyhands.engines.places import run_at
from manyhands.engines.task import Outcome
from manyhands.errors import InputError, SinkError, SourceError, TeardownError, WorkerInitError

UNSEEN = "an engine needs files that all workers see under the same names, an executor does not"


class TableError(SourceError):
    """Of the person's own."""

    def __init__(self, table: str, row: int) -> None:
        super().__init__(f"{table}: row {row} is broken")


def told(error: BaseException) -> BaseException:
    """What the outcome has, if that is why the pipe failed."""
    exception = run_at("the node n", lambda: Outcome(RunStatus.FAILED, {}, exception=error)).exception
    assert exception is not None
    return exception


def raised(run: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # whatever it is
        run_at("the node n", run)
    return caught.value


@pytest.mark.parametrize("kind", [InputError, SourceError, SinkError, WorkerInitError, TeardownError])
def test_the_machine_is_named(kind: type[Exception]) -> None:
    found = told(kind("it fails"))
    assert (type(found), str(found)) == (kind, "it fails; this was on the node n")


def test_that_a_file_is_not_there_is_told_with_what_engines_need(tmp_path: Path) -> None:
    found = raised(CSVInputAdapter(tmp_path / "in.csv").open)
    assert isinstance(found, InputError)
    assert str(found).endswith(f"; this was on the node n; {UNSEEN}")
    (tmp_path / "in.csv").write_text("k,k\n")
    assert str(raised(CSVInputAdapter(tmp_path / "in.csv").open)).endswith("; this was on the node n")


def test_the_cause_is_kept() -> None:
    error, cause = SourceError("it fails"), KeyError("k")
    error.__cause__ = cause
    assert told(error).__cause__ is cause


def test_an_error_of_the_system_keeps_its_number() -> None:
    found = told(PermissionError(13, "Permission denied", "/data"))
    assert isinstance(found, PermissionError)
    assert (found.errno, found.filename) == (13, "/data")
    assert str(found) == "[Errno 13] Permission denied; this was on the node n: '/data'"
    assert str(pickle.loads(pickle.dumps(found))) == str(found)  # our own


@pytest.mark.parametrize(
    "error",
    [TableError("customers", 3), OSError("odd"), urllib.error.URLError("gone"), ZeroDivisionError("division by zero")],
)
def test_what_may_be_made_in_another_way_stays_as_it_is(error: Exception) -> None:
    def fail() -> NoReturn:
        raise error

    assert told(error) is error
    assert raised(fail) is error


def test_who_does_not_fail_is_left_alone() -> None:
    outcome = Outcome(RunStatus.COMPLETED, {"in": 1})
    assert run_at("the node n", lambda: outcome) == outcome
