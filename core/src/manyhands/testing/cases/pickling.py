"""Code of the job reaches the workers, or is refused before anything has moved."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import create_model

from manyhands.errors import UnpicklableError
from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry
from manyhands.testing.cases.back_pressure import Endless
from manyhands.testing.cases.needs import needs

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench


class Locked(BaseHook):
    """A hook that holds what belongs to one process."""

    def __init__(self) -> None:
        super().__init__()
        self.lock: Any = threading.Lock()

    def execute(self, entries: list[Entry], store: HookStore) -> None:  # noqa: ARG002  # it needs none
        """Use it."""
        with self.lock:
            for entry in entries:
                entry["raw_data"]["locked"] = True


class PicklingCases:
    """Hooks and schemas of any origin."""

    @needs("crosses_process")
    def test_a_hook_that_cannot_be_sent_is_refused_before_a_record_is_read(self, bench: Bench) -> None:
        source = Endless()
        pipe = bench.pipe(source, pre=[Locked()])
        with pytest.raises(UnpicklableError) as refused:
            pipe.run()
        assert "Locked" in str(refused.value), bench.broken("pickling", f"the hook is not named: {refused.value}")
        assert source.read == 0, bench.broken("pickling", f"{source.read} records were read before it was refused")

    @needs(not_="crosses_process")
    def test_a_hook_that_need_not_be_sent_runs(self, bench: Bench) -> None:
        ran = bench.run([{"n": 0}], pre=[Locked()])
        wanted = [{"n": 0, "locked": True}]
        assert ran.rows == wanted, bench.broken("pickling", f"a hook with a lock gave {ran.rows}, not {wanted}")

    def test_code_that_no_module_has_is_sent(self, bench: Bench) -> None:
        ran = bench.run([{"n": "1"}, {"n": "2"}], schema=create_model("Row", n=(int, ...)), pre=[_local_hook(10)])
        wanted = [{"n": 10}, {"n": 20}]
        assert ran.rows == wanted, bench.broken("pickling", f"a hook of a function gave {ran.rows}, not {wanted}")


def _local_hook(factor: int) -> BaseHook:
    class Times(BaseHook):
        def execute(self, entries: list[Any], store: HookStore) -> None:  # noqa: ARG002  # it needs none
            for entry in entries:
                entry["raw_data"]["n"] = factor * int(entry["raw_data"]["n"])

    return Times()
