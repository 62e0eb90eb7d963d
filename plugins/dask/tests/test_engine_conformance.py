"""The engine keeps the contract of an engine, on a cluster that somebody else started."""

import pytest

from manyhands.testing import EngineTests

from .clusters import of_somebody


@pytest.mark.manyhands_needs("distributed")
class TestDaskEngine(EngineTests):
    engine = "dask"

    def cluster(self):
        return of_somebody()
