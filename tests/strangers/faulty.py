"""A backend that a stranger wrote, with one of ten mistakes, or with none."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from time import monotonic
from types import SimpleNamespace
from typing import Literal

from manyhands import (
    Backend,
    BaseExecutor,
    Capabilities,
    ChunkKind,
    ChunkResult,
    ProcessExecutorOptions,
    WorkerContext,
    hookimpl,
    process_chunk_on_worker,
)
from manyhands.errors import ProtocolError, TeardownError, WorkerInitError, WorkerLost
from manyhands.worker import codec
from manyhands.worker.transport import dump_chunk, dump_result, load_chunk, load_result

Fault = Literal[
    "loses a chunk",
    "swaps results",
    "leaks a process",
    "swallows a crash",
    "sets up twice",
    "blocks in submit",
    "leaves early",
    "shares a store",
    "packs wrongly",
]  # the tenth is a backend of its own, for what it claims stands in its description

SERVED = multiprocessing.get_context("forkserver")
HONEST = Capabilities(concurrent=True, crosses_process=True)
BOASTING = replace(HONEST, can_kill=True)
GRACE_SECONDS = 1.0
LEAKED = []


class Options(ProcessExecutorOptions):
    max_workers: int = 2
    fault: Fault | None = None


class FaultyExecutor(BaseExecutor):
    """A thread for each worker process gives it one chunk after the other."""

    capabilities = HONEST

    def __init__(self, *args, max_workers=2, fault=None, **options):
        super().__init__(*args, **options)
        self.max_workers, self.fault, self._lock, self._runs = max_workers, fault, Lock(), False

    def start(self, context):
        self._job, self._tasks, self._ready, self._errors = context.dumps(), SimpleQueue(), SimpleQueue(), []
        self._context, self._folder, self._workers = context, TemporaryDirectory(), set()
        self._kept, self._open, self._runs, self._closing = None, 0, True, False
        self._threads = [Thread(target=self._employ) for _ in range(self.max_workers)]
        self._hands = len(self._threads)
        for thread in self._threads:
            thread.start()
        errors = []
        while len(errors) < self.max_workers and not context.cancelled.is_set():
            with suppress(Empty):
                error = self._ready.get(timeout=0.05)
                if error is None:
                    return
                errors.append(error)
        if errors:
            self.shutdown()
            raise errors[0]

    def submit(self, chunk):
        if not self._runs:
            raise ProtocolError("submit() before start()")
        future = Future()
        with self._lock:
            self._open += 1
        self._tasks.put((chunk, future))
        self._fail_if_deserted()
        if self.fault == "blocks in submit":
            wait([future])
        return future

    def slots(self):
        return 2 * self.max_workers  # one runs, one waits

    def shutdown(self, *, cancel=False):
        if not self._runs:
            return
        for future in self._drained() if cancel else ():
            hand_back(future)
        for _ in self._threads:
            self._tasks.put(None)
        if self._context.cancelled.is_set():
            Path(self._folder.name, "stop").touch()
        if self.fault != "leaves early":
            self._join(GRACE_SECONDS if cancel else None)
        if self.fault == "leaks a process":
            LEAKED.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))  # ends with us
        self._runs = False
        for error in self._errors:
            raise error

    def _join(self, grace):
        end = grace and monotonic() + grace
        for thread in self._threads:
            thread.join(end and max(end - monotonic(), 0))
        self._closing = True
        while any(thread.is_alive() for thread in self._threads):
            for process in self._workers.copy():
                process.kill()
            self._threads[0].join(0.05)

    def _employ(self):
        while self._live():
            pass
        with self._lock:
            self._hands -= 1
        self._fail_if_deserted()
        if not self._hands:
            self._folder.cleanup()

    def _live(self):
        """A worker's life; whether another is to take its place."""
        pipe, theirs = SERVED.Pipe()
        process = SERVED.Process(target=serve, args=(theirs, self._job, self.fault, self._folder.name))
        process.start()
        theirs.close()
        self._workers.add(process)
        try:
            return self._feed(pipe, process) and not self._closing
        finally:
            pipe.close()
            process.join()
            self._workers.discard(process)

    def _feed(self, pipe, process):
        error = received(pipe, WorkerInitError("a worker died in it"))
        self._ready.put(error)
        if error:
            self._why = error
            return False
        for chunk, future in iter(self._tasks.get, None):
            if future.cancelled() or (self.fault == "loses a chunk" and chunk.sequence == 1):
                continue
            answer = self._answer(pipe, process, chunk)
            dead = answer is None or isinstance(answer, WorkerLost)
            if dead and self.fault == "swallows a crash":
                answer = ChunkResult(chunk.sequence, chunk.lo, chunk.hi, dropped=chunk.size)
            self._settle(future, answer)
            if dead:
                return True
        pipe.send(None)
        if error := received(pipe, TeardownError("a worker died in its teardown")):
            self._errors.append(error)
        return False

    def _answer(self, pipe, process, chunk):
        """A result or an error; None if the worker was lost before it began."""
        begun = False
        try:
            pipe.send(dump_chunk(chunk))
            begun = pipe.recv()
            answer = pipe.recv()
        except (EOFError, OSError):
            process.join()
            code = process.exitcode
            return WorkerLost(code if code >= 0 else None, -code if code < 0 else None) if begun else None
        return answer if isinstance(answer, Exception) else load_result(*answer)

    def _settle(self, future, answer):
        with self._lock:
            self._open -= 1
            if self.fault == "swaps results" and isinstance(answer, ChunkResult):
                if self._kept is None and self._open:
                    self._kept = future, answer
                    return
                if self._kept:
                    (other, kept), self._kept = self._kept, None
                    other.set_result(answer)
                    answer = kept
        if answer is None:
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _fail_if_deserted(self):
        for future in () if self._hands else self._drained():
            future.set_exception(self._why)

    def _drained(self):
        with suppress(Empty):
            while True:
                if task := self._tasks.get_nowait():
                    yield task[1]


class BoastingExecutor(FaultyExecutor):
    """Says that it can kill."""

    capabilities = BOASTING


def received(pipe, otherwise):
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return otherwise


def hand_back(future):
    future.cancel()
    future.set_running_or_notify_cancel()  # or who waits for it waits on


# What runs in a worker.


def serve(pipe, job, fault, folder):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the program, which shuts its workers down
    try:
        context = set_up(job, fault, Path(folder))
    except Exception as error:  # noqa: BLE001  # for the program to tell
        pipe.send(error)
        return
    pipe.send(None)
    for message in iter(pipe.recv, None):
        pipe.send(True)  # it has begun
        pipe.send(answer_to(load_chunk(*message), context, fault))
    pipe.send(error_of(context.teardown))


def set_up(job, fault, folder):
    for _ in range(2 if fault == "sets up twice" else 1):
        context = WorkerContext.loads(job)
        context.cancelled = SimpleNamespace(is_set=Path(folder, "stop").exists)
        context.setup()
    if fault == "shares a store":
        share(context.worker.hooks.store, folder / "store")
    return context


def share(store, path):
    """All have the store of the first one."""
    mine = path.with_name(f"store {os.getpid()}")
    mine.write_bytes(pickle.dumps(dict(store)))
    with suppress(FileExistsError):
        path.hardlink_to(mine)
    dict.update(store, pickle.loads(path.read_bytes()))


def answer_to(chunk, context, fault):
    if fault == "packs wrongly" and chunk.kind is ChunkKind.PACKED and not chunk.compressed:
        chunk = replace(chunk, payload=codec.dumps(plain(codec.loads(chunk.payload))))
    try:
        return dump_result(process_chunk_on_worker(chunk, context), chunk, context)
    except Exception as error:  # noqa: BLE001  # for the program to tell
        return error


def error_of(function):
    try:
        function()
    except Exception as error:  # noqa: BLE001  # for the program to tell
        return error
    return None


def plain(value):
    """What JSON has, and the text of all else."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else repr(value)


@hookimpl
def manyhands_backends():
    return [
        Backend("faulty", "executor", f"{__name__}:FaultyExecutor", options=Options, capabilities=HONEST),
        Backend("boasting", "executor", f"{__name__}:BoastingExecutor", options=Options, capabilities=BOASTING),
    ]
