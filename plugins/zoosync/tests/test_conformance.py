"""The backend keeps the contract of an executor: nothing but its name is needed here."""

from manyhands.testing import ExecutorTests


class TestZoosync(ExecutorTests):
    backend = "zoosync"
    options = {"max_workers": 2}
