"""Fixtures of the tests of this backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyhands.processes.launch import START_METHODS, StartMethod

from .deeds import DIARY
from .support import Diary


@pytest.fixture
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diary:
    """What the workers of this test note."""
    path = tmp_path / "diary"
    monkeypatch.setenv(DIARY, str(path))
    return Diary(path)


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> StartMethod:
    """Each way to start workers."""
    method: StartMethod = request.param
    return method
