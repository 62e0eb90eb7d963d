"""What workers run is compared with what the program runs."""

from __future__ import annotations

import logging
import sys

import pytest

from manyhands.errors import WorkerInitError
from manyhands.worker.versions import check_versions, versions

WHERE = "tcp://10.0.0.7:4040"


def test_it_tells_what_matters() -> None:
    found = versions()
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert all(found[name][0].isdigit() for name in ("manyhands-core", "pydantic", "msgpack", "cloudpickle", "lz4"))


def test_what_is_installed_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions("manyhands-late")["manyhands-late"] == "not installed"
    monkeypatch.setattr("manyhands.worker.versions.version", lambda _: "1.0")
    assert versions("manyhands-late")["manyhands-late"] == "1.0"


def test_equal_versions_are_nothing_to_speak_of(caplog: pytest.LogCaptureFixture) -> None:
    check_versions(versions(), WHERE)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("python", "3.9.1"),
        ("implementation", "pypy"),
        ("manyhands-core", "0.0.9"),
        ("pydantic", "2.1.0"),
        ("msgpack", "0.6.2"),
        ("cloudpickle", "1.6.0"),
        ("lz4", "not installed"),
    ],
)
def test_what_breaks_is_refused_by_name_and_place(name: str, theirs: str) -> None:
    with pytest.raises(WorkerInitError) as refused:
        check_versions(versions() | {name: theirs}, WHERE)
    for part in (WHERE, f"{name} {theirs} there, {versions()[name]} here"):
        assert part in str(refused.value)


def test_all_that_breaks_is_told_at_once() -> None:
    with pytest.raises(WorkerInitError, match=r"python 3\.9\.1 there.*pydantic 1\.10 there"):
        check_versions(versions() | {"python": "3.9.1", "pydantic": "1.10"}, WHERE)


def test_what_does_not_break_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    major = versions()["cloudpickle"].partition(".")[0]
    with caplog.at_level(logging.WARNING, "manyhands"):
        check_versions(versions() | {"cloudpickle": f"{major}.999"}, WHERE)
    assert f"cloudpickle {major}.999 there" in caplog.text
    assert WHERE in caplog.text


def test_a_backend_names_its_own_distribution(caplog: pytest.LogCaptureFixture) -> None:
    found = versions("pluggy")
    assert found == versions() | {"pluggy": found["pluggy"]}
    check_versions(found, WHERE, "pluggy")
    assert not caplog.records


@pytest.mark.parametrize("theirs", [{"pluggy": "0.0.1"}, {}], ids=["another version", "not told"])
def test_the_distribution_of_a_backend_must_be_the_same(theirs: dict[str, str]) -> None:
    told = theirs.get("pluggy", "not installed")
    with pytest.raises(WorkerInitError, match=rf"pluggy {told} there"):
        check_versions(versions() | theirs, WHERE, "pluggy")


def test_a_worker_without_manyhands_is_told_to_install_it() -> None:
    with pytest.raises(WorkerInitError, match="install manyhands-core there") as refused:
        check_versions(None, WHERE)
    assert WHERE in str(refused.value)
