"""The backend keeps the contract of an executor: nothing but its name is needed here."""

from manyhands.testing import ExecutorTests


class TestSync(ExecutorTests):
    backend = "sync"
