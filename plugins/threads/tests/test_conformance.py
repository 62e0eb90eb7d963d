"""The backend keeps the contract of an executor: nothing but its name is needed here."""

from manyhands.testing import ExecutorTests


class TestThreads(ExecutorTests):
    backend = "threads"
    options = {"max_workers": 2}
