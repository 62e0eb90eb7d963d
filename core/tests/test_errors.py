"""The exceptions: the tree in the docstring is the tree in the code, and every one of them travels."""

from __future__ import annotations

import pickle
import re
import signal

import pytest

from manyhands import errors
from manyhands.errors import DecodeError, ManyhandsError, RecordError, RecordTimeout, WorkerLost
from manyhands.executor import Progress
from manyhands.records import EntryStatus, new_entry

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ManyhandsError)]


def drawn() -> dict[str, str]:
    """Parent by class, as the docstring draws it."""
    parents, path = {}, [""]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)", line)
        if found and found[2] in vars(errors):
            depth = len(found[1]) // 4
            del path[depth + 1 :]
            parents[found[2]] = path[-1]
            path.append(found[2])
    return parents


def test_the_docstring_draws_the_tree() -> None:
    tree = {cls.__name__: cls.__base__.__name__ for cls in CLASSES if cls.__base__ is not None}
    assert drawn() == tree | {"ManyhandsError": ""}


PLAIN = [cls for cls in CLASSES if cls not in (WorkerLost, RecordTimeout)]


@pytest.mark.parametrize("cls", PLAIN, ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling(cls: type[ManyhandsError]) -> None:
    again = pickle.loads(pickle.dumps(cls("words")))
    assert (type(again), str(again)) == (cls, "words")


def test_a_record_error_keeps_its_type_and_place() -> None:
    again = pickle.loads(pickle.dumps(DecodeError("words", type="json_invalid", loc=("a", 0))))
    assert (again.type, again.loc, str(again)) == ("json_invalid", ("a", 0), "words")
    assert (RecordError("words").type, DecodeError("words").type, DecodeError("words").loc) == (
        "record",
        "DecodeError",
        (),
    )


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (WorkerLost(), "the worker died (unknown cause)"),
        (WorkerLost(3), "the worker died (exit code 3)"),
        (WorkerLost(0), "the worker died (exit code 0)"),
        (WorkerLost(-9, signal.SIGKILL), "the worker died (SIGKILL)"),
        (WorkerLost(signal=250), "the worker died (signal 250)"),
        (WorkerLost(signal=signal.SIGSEGV, progress=Progress("post", 3, 4)), "the worker died (SIGSEGV) in stage post"),
    ],
)
def test_a_lost_worker_is_told_in_the_same_words_everywhere(lost: WorkerLost, words: str) -> None:
    again = pickle.loads(pickle.dumps(lost))
    assert str(lost) == str(again) == words
    assert (again.exitcode, again.signal, again.progress) == (lost.exitcode, lost.signal, lost.progress)


def test_a_timeout_is_told_in_the_same_words_everywhere() -> None:
    again = pickle.loads(pickle.dumps(RecordTimeout([(3, 4)], "pre")))
    assert str(again) == "took longer than record_timeout allows in stage pre"
    assert (again.records, again.stage, again.limit, again.cause) == ([(3, 4)], "pre", "record_timeout", "timeout")


def test_a_new_entry_is_a_plain_dict_that_shares_nothing() -> None:
    one, other = new_entry(3, {"a": 1}, "id"), new_entry(4, {"a": 1}, "id")
    assert one == {
        "id": "id", "position": 3, "status": EntryStatus.PENDING, "raw_data": {"a": 1}, "validated_data": None,
        "errors": [], "metadata": {},
    }  # fmt: skip
    one["errors"].append({"type": "x"})
    one["metadata"]["k"] = 1
    assert (other["errors"], other["metadata"]) == ([], {})
    assert EntryStatus.FAILED == "failed"
