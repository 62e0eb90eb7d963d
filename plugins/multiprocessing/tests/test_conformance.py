"""The backend keeps the contract of an executor: nothing but its name is needed here."""

from manyhands.testing import ExecutorTests


class TestMultiProcessing(ExecutorTests):
    backend = "multiprocessing"
    options = {"max_workers": 2}
