"""The kit: all cases, for one backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import pytest

from manyhands.testing import leaks
from manyhands.testing.bench import Bench
from manyhands.testing.cases.accounting import AccountingCases
from manyhands.testing.cases.back_pressure import BackPressureCases
from manyhands.testing.cases.cancelling import CancelCases
from manyhands.testing.cases.capabilities import CapabilityCases
from manyhands.testing.cases.chunks import ChunkCases
from manyhands.testing.cases.codec import CodecCases
from manyhands.testing.cases.crashes import CrashCases
from manyhands.testing.cases.events import EventCases
from manyhands.testing.cases.hooks import HookCases
from manyhands.testing.cases.lifecycle import LifecycleCases
from manyhands.testing.cases.limits import LimitCases
from manyhands.testing.cases.maps import MapCases
from manyhands.testing.cases.needs import why_not
from manyhands.testing.cases.order import OrderCases
from manyhands.testing.cases.pickling import PicklingCases
from manyhands.testing.cases.same_bytes import SameBytesCases
from manyhands.testing.guard import cases_of
from manyhands.testing.results import record


class ExecutorTests(  # pytest takes the last of the bases first
    CrashCases,
    LimitCases,
    CancelCases,
    EventCases,
    SameBytesCases,
    MapCases,
    CodecCases,
    HookCases,
    AccountingCases,
    OrderCases,
    BackPressureCases,
    PicklingCases,
    ChunkCases,
    LifecycleCases,
    CapabilityCases,
):
    """What every backend must do.

    Derive a class from it whose name begins with `Test`, and name the backend:

        class TestBackground(ExecutorTests):
            backend = "background"
            options = {"max_workers": 2}

    Each case is a method that is inherited, and none can be left out. One that presupposes what the backend does not
    declare skips itself. One that the backend fails is marked with the reason; it runs all the same, and must go on
    failing until the mark is removed:

            @pytest.mark.xfail(reason="the cluster gives no exit code of a worker")
            def test_case(self): ...

    A class may have tests of its own, which may take the fixture `bench`, too. One whose backend needs a module that
    is not installed everywhere is marked `@pytest.mark.manyhands_needs("module")`.

    Attributes:
        backend: name of the installed backend.
        options: with which the executor is made. Where chunks run side by side, let it have two workers at least.
    """

    backend: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.timeout(180)]

    def cluster(self) -> AbstractContextManager[Mapping[str, Any]]:
        """For a backend that is distributed: workers which the executor did not start, once for all cases.

        Returns:
            A context manager; it gives further options, such as the address of the workers.
        """
        return nullcontext({})

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, manyhands_cluster: Mapping[str, Any]) -> Iterator[Bench]:
        """The backend and how to run things on it; see `manyhands.testing.bench`."""
        with _opened(self.backend, {**self.options, **manyhands_cluster}) as bench:
            record(request.node, bench)
            if reason := why_not(request.node, self.backend, bench.capabilities):
                pytest.skip(reason)
            yield bench


CASES: Final = cases_of(ExecutorTests)
"""Its cases as they are at import: whatever is changed on them later is seen."""


@contextmanager
def _opened(name: str, options: Mapping[str, Any]) -> Iterator[Bench]:
    """A bench with a folder of its own, that can tell what its test leaves behind."""
    with TemporaryDirectory(prefix="mh") as root, leaks.watched(Path(root)) as left:
        folder = Path(root, "files")
        folder.mkdir()
        bench = Bench(name, options, folder, left)
        try:
            yield bench
        finally:
            bench.end()
