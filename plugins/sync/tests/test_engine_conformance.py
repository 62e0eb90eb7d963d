"""The engine keeps the contract of an engine: nothing but its name is needed here."""

from manyhands.testing import EngineTests


class TestSequential(EngineTests):
    engine = "sync"
