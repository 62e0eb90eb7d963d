"""Time zone, locale and decimal context, where hooks run elsewhere than the program."""

from __future__ import annotations

import decimal
import locale
import os
import pickle
import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from manyhands import BaseHook, HookStore, IterableInputAdapter, MemoryOutputAdapter, Pipe
from manyhands.errors import WorkerInitError
from manyhands.records import Entry
from manyhands.worker.context import WorkerContext
from manyhands.worker.surroundings import Surroundings

from .support import ScriptedExecutor


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts right what a test sets for its process."""
    zone, known = os.environ.get("TZ"), locale.setlocale(locale.LC_ALL)
    with decimal.localcontext():
        yield
    locale.setlocale(locale.LC_ALL, known)
    os.environ.pop("TZ", None)
    if zone is not None:
        os.environ["TZ"] = zone
    time.tzset()


def in_thread(surroundings: Surroundings) -> str:
    """A third, as a thread computes it that has entered them."""
    thirds: list[str] = []

    def divide() -> None:
        surroundings.enter_thread()
        thirds.append(str(Decimal(1) / Decimal(3)))

    thread = threading.Thread(target=divide)
    thread.start()
    thread.join()
    return thirds[0]


def test_a_thread_computes_as_the_one_that_made_the_job() -> None:
    with decimal.localcontext(prec=4, rounding=decimal.ROUND_UP):
        here = Surroundings.here()
        decimal.getcontext().prec = 9  # what is set later does not count
    assert in_thread(here) == "0.3334"
    assert in_thread(here) == "0.3334"
    assert decimal.getcontext().prec == 28


def test_a_thread_that_changes_its_precision_changes_nobody_elses() -> None:
    with decimal.localcontext(prec=4):
        here = Surroundings.here()
        here.enter_thread()
        decimal.getcontext().prec = 2
    assert in_thread(here) == "0.3333"


def test_traps_and_precision_travel() -> None:
    with decimal.localcontext(prec=4, traps=[decimal.Inexact]):
        there = pickle.loads(pickle.dumps(Surroundings.here()))
    assert there.decimal.prec == 4
    assert there.decimal.traps[decimal.Inexact]
    assert not there.decimal.traps[decimal.DivisionByZero]


@pytest.mark.parametrize(("zone", "hours"), [("Asia/Kolkata", 5.5), ("UTC", 0), ("EST5EDT", -5)])
def test_a_process_has_the_zone_of_the_program(zone: str, hours: float, restored: None) -> None:
    os.environ["TZ"] = zone
    here = Surroundings.here()
    os.environ["TZ"] = "America/Halifax"
    time.tzset()
    here.enter_process()
    assert time.timezone == -hours * 3600
    assert os.environ["TZ"] == zone


def test_a_program_without_a_zone_takes_the_one_of_the_worker_away(restored: None) -> None:
    os.environ.pop("TZ", None)
    time.tzset()
    here, native = Surroundings.here(), time.timezone
    os.environ["TZ"] = "Asia/Kolkata"
    time.tzset()
    here.enter_process()
    assert "TZ" not in os.environ
    assert time.timezone == native


def test_a_process_has_the_locale_of_the_program(restored: None) -> None:
    locale.setlocale(locale.LC_ALL, "C")
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    here = pickle.loads(pickle.dumps(Surroundings.here()))
    locale.setlocale(locale.LC_ALL, "C")
    here.enter_process()
    assert locale.setlocale(locale.LC_CTYPE) == "C.UTF-8"
    assert locale.setlocale(locale.LC_NUMERIC) == "C"


def test_a_locale_that_a_worker_does_not_have_is_named(restored: None) -> None:
    here = Surroundings(None, "tlh_QO.UTF-8", decimal.getcontext().copy())
    with pytest.raises(WorkerInitError, match=r"the worker cannot use the locale 'tlh_QO\.UTF-8'"):
        here.enter_process()


def test_a_context_that_travels_takes_them_along(restored: None) -> None:
    os.environ["TZ"] = "Asia/Kolkata"
    with decimal.localcontext(prec=4):
        data = WorkerContext().dumps()
    os.environ["TZ"] = "UTC"
    time.tzset()
    there = WorkerContext.loads(data)
    assert time.tzname[0] == "IST"
    there.setup()
    assert decimal.getcontext().prec == 4
    there.teardown()


class Divides(BaseHook):
    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            entry["metadata"]["third"] = str(Decimal(1) / Decimal(3))


@pytest.mark.parametrize("executor", [None, ScriptedExecutor()], ids=["sync", "threads"])
def test_hooks_compute_as_the_program_does_at_the_start_of_the_run(executor: ScriptedExecutor | None) -> None:
    output = MemoryOutputAdapter()
    pipe = Pipe(IterableInputAdapter([{"k": 1}]), output, executor=executor, pre_validation_hooks=[Divides()])
    with decimal.localcontext(prec=3):
        pipe.run()
    assert output.results[0]["metadata"] == {"third": "0.333"}
