"""The backend keeps the contract of an executor, on a cluster that somebody else started."""

import pytest

from manyhands.testing import ExecutorTests

from .clusters import of_somebody


@pytest.mark.manyhands_needs("distributed")
class TestDask(ExecutorTests):
    backend = "dask"

    def cluster(self):
        return of_somebody()
