"""Engines that strangers wrote, with one of nine mistakes, or with none."""

import threading
import time
from concurrent.futures import Future
from typing import Literal

from manyhands import Backend, Capabilities, EngineOptions, FlowReport, RunStatus, hookimpl
from manyhands.engines.base import BaseEngine
from manyhands.engines.task import Outcome
from manyhands.errors import ManyhandsError, UsageError, WorkerLost
from manyhands.report import RunControl

Fault = Literal[
    "loses a pipe",
    "hides failures",
    "stops instead of aborting",
    "mixes up reports",
    "waits for each pipe",
    "tells late",
    "leaks a thread",
    "starts twice",
]  # the ninth is an engine of its own, for it needs processes

COUNTS = ("read", "ok", "rejected", "dead", "dropped")
LOOK_SECONDS = 0.01
LEAKED = threading.Event()  # never set: who waits for it stays


class Options(EngineOptions):
    fault: Fault | None = None


class FaultyEngine:
    """Runs each pipe where it is: a pipe has a thread of its own, and one more looks after them."""

    def __init__(self, n_workers=None, fault=None):
        self.n_workers, self.fault, self.thread = n_workers, fault, None
        self.report, self.pipe_reports = FlowReport("faulty-engine", kind="engine"), ()

    @property
    def is_running(self):
        return self.thread is not None and not self.report.is_finished

    def start(self, pipes):
        if self.is_running and self.fault != "starts twice":
            raise UsageError("it is running")
        if not len(pipes):
            raise UsageError("there is no pipe")
        self.error, self.control = None, RunControl(threading.Event())
        self.report = FlowReport("faulty-engine", self.control, "engine")
        self.pipe_reports = [FlowReport("faulty-engine", self.control, "engine") for _ in pipes]
        self.report.begin()
        self.thread = threading.Thread(target=self.drive, args=(pipes,), daemon=True)
        self.thread.start()
        if self.fault == "leaks a thread":
            threading.Thread(target=LEAKED.wait, daemon=True).start()

    def wait(self, timeout=None):
        if self.fault == "waits for each pipe":
            return min([report.wait(timeout) for report in self.pipe_reports])
        return self.thread is None or self.report.wait(timeout)

    def shutdown(self, timeout=None):
        if self.thread is not None:
            self.report.abort()
            self.thread.join()

    def drive(self, pipes):
        waiting, running, ended = iter(range(len(pipes) - (self.fault == "loses a pipe"))), {}, []
        slots = self.n_workers or len(pipes)
        while self.fill(pipes, waiting, running, slots) or running:
            for number, pipe in list(running.items()):
                if self.look(number, pipe):
                    ended.append(self.pipe_reports[number])
                    del running[number]
            self.add_up()
            time.sleep(LOOK_SECONDS)
        if self.fault == "mixes up reports":
            self.pipe_reports = ended + [report for report in self.pipe_reports if report not in ended]
        for report in self.pipe_reports:
            report.end(RunStatus.ABORTED)
        aborted = self.control.cancelled.is_set()
        status = RunStatus.ABORTED if aborted else RunStatus.COMPLETED
        self.report.end(RunStatus.FAILED if self.error else status, self.error)

    def fill(self, pipes, waiting, running, slots):
        """Start pipes as there is room; whether there may be more."""
        while len(running) < slots and not self.control.cancelled.is_set():
            number = next(waiting, None)
            if number is None:
                return False
            pipe = pipes[number]
            try:
                pipe.start()
            except ManyhandsError as error:
                self.end(number, RunStatus.FAILED, error)
            else:
                self.pipe_reports[number].begin()
                running[number] = pipe
        return not self.control.cancelled.is_set()

    def look(self, number, pipe):
        """Take over what a pipe counts; whether it has ended."""
        if self.control.cancelled.is_set() and self.fault == "stops instead of aborting":
            pipe.report.stop()
            time.sleep(0.2)
            pipe.shutdown()
        elif self.control.cancelled.is_set():
            pipe.report.abort()
        ended, mine = pipe.report.is_finished, self.pipe_reports[number]
        if ended or self.fault != "tells late":
            for name in COUNTS:
                setattr(mine, name, getattr(pipe.report, name))
        if ended:
            status = pipe.report.status
            self.end(number, RunStatus.ABORTED if status is RunStatus.STOPPED else status, pipe.report.exception)
        return ended

    def end(self, number, status, error):
        self.pipe_reports[number].end(status, error)
        if status is RunStatus.FAILED and self.fault != "hides failures":
            self.error = self.error or error
            self.report.abort()

    def add_up(self):
        for name in COUNTS:
            setattr(self.report, name, sum(getattr(report, name) for report in self.pipe_reports))


class TrustingEngine(BaseEngine):
    """Takes a pipe for done when its worker is gone."""

    name = "trusting"

    def __init__(self, n_workers=None):
        super().__init__("multiprocessing", n_workers)

    def _make_workers(self, pipes):
        workers = super()._make_workers(pipes)
        submit = workers.submit
        workers.submit = lambda *call: trusted(submit(*call))
        return workers


def trusted(future):
    outer = Future()

    def settle(inner):
        outer.set_running_or_notify_cancel()
        if inner.cancelled() or isinstance(inner.exception(), WorkerLost):
            counts = dict.fromkeys(("in", "ok", "rejected", "dead", "dropped"), 0)
            outer.set_result(Outcome(RunStatus.COMPLETED, counts))
        elif inner.exception() is not None:
            outer.set_exception(inner.exception())
        else:
            outer.set_result(inner.result())

    future.add_done_callback(settle)
    return outer


@hookimpl
def manyhands_backends():
    threads, processes = Capabilities(concurrent=True), Capabilities(concurrent=True, crosses_process=True)
    return [
        Backend("faulty-engine", "engine", f"{__name__}:FaultyEngine", Options, threads),
        Backend("trusting", "engine", f"{__name__}:TrustingEngine", EngineOptions, processes),
    ]
