"""The kit for engines: all cases, for one engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Final

import pytest

from manyhands.testing.cases.needs import why_not
from manyhands.testing.engine_bench import EngineBench, opened
from manyhands.testing.engine_cases.control import ControlCases
from manyhands.testing.engine_cases.failures import FailureCases
from manyhands.testing.engine_cases.losses import LossCases
from manyhands.testing.engine_cases.reporting import ReportingCases
from manyhands.testing.engine_cases.sharding import ShardingCases
from manyhands.testing.engine_cases.side_by_side import SideBySideCases
from manyhands.testing.guard import cases_of


class EngineTests(  # pytest takes the last of the bases first
    LossCases,
    FailureCases,
    ShardingCases,
    ControlCases,
    ReportingCases,
    SideBySideCases,
):
    """What every engine must do.

    Derive a class from it whose name begins with `Test`, and name the engine:

        class TestRelay(EngineTests):
            engine = "relay"

    What holds for the cases of `ExecutorTests` holds for these: none can be left out, one that presupposes what the
    engine does not declare skips itself, and one that is expected to fail says why.

    Attributes:
        engine: name of the installed engine.
        options: with which it is made; `n_workers` is set by cases that are about it.
    """

    engine: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.timeout(180)]

    def cluster(self) -> AbstractContextManager[Mapping[str, Any]]:
        """For an engine that is distributed: workers which it did not start, once for all cases.

        Returns:
            A context manager; it gives further options, such as the address of the workers.
        """
        return nullcontext({})

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, manyhands_cluster: Mapping[str, Any]) -> Iterator[EngineBench]:
        """The engine and how to run pipes on it; see `manyhands.testing.engine_bench`."""
        with opened(self.engine, {**self.options, **manyhands_cluster}) as bench:
            if reason := why_not(request.node, self.engine, bench.capabilities):
                pytest.skip(reason)
            yield bench


CASES: Final = cases_of(EngineTests)
"""Its cases as they are at import: whatever is changed on them later is seen."""
