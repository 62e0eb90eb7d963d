"""Chunks in processes of loky, each a pool of its own: loky ends a whole pool when one of its processes dies."""

import mmap
import os
import re
import signal
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile
from threading import Lock
from types import SimpleNamespace

from loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from manyhands import BaseExecutor, WorkerContext, process_chunk_on_worker
from manyhands.errors import ExecutorBroken, ProtocolError, TeardownError, WorkerInitError, WorkerLost
from manyhands.worker.cell import ProgressCell, read_progress
from manyhands.worker.transport import dump_chunk, dump_result, load_chunk, load_result

from .plugin import CAPABILITIES

ENVIRONMENT = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}  # or loky ends processes that grow, without their teardown
PROGRESS, STOP, PID = range(3)  # words of memory that a worker shares with its program
UNTOUCHED = 2**64 - 1
GRACE_SECONDS = 1.0


class LokyExecutor(BaseExecutor):
    capabilities = CAPABILITIES

    def __init__(self, *args, max_workers=2, **options):
        super().__init__(*args, **options)
        self.max_workers, self._lock, self._threads = max_workers, Lock(), None

    def start(self, context):
        self._context, self._job, self._workers, self._open = context, context.dumps(), set(), set()
        self._idle, self._closing, self._threads = SimpleQueue(), False, ThreadPoolExecutor(self.max_workers)
        hiring = {self._do(lambda: self._idle.put(self._hire())) for _ in range(self.max_workers)}
        while hiring and self._idle.empty() and not context.cancelled.is_set():
            done, hiring = wait(hiring, 0.05, FIRST_COMPLETED)
        if not hiring and self._idle.empty():
            self.shutdown()
            raise done.pop().exception()

    def submit(self, chunk):
        if self._threads is None:
            raise ProtocolError("submit() before start()")
        future = self._do(self._run, chunk)
        future.chunk = chunk
        return future

    def slots(self):
        return 2 * self.max_workers  # one runs, one waits

    def progress(self, future):
        worker = self._worker_of(future)
        return worker and read_progress(worker.words[PROGRESS], future.chunk, self._context.max_hook_chunk_size)

    def evict(self, future):
        with self._lock:
            if worker := self._worker_of(future):
                worker.kill()
        return True

    def shutdown(self, *, cancel=False):
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=not cancel, cancel_futures=cancel)
            self._closing = True
            self._stop()
            threads.shutdown()
            errors = [worker.end() for worker in self._workers]
            for error in filter(None, errors):
                raise error

    def _stop(self):
        for worker in list(self._workers):
            worker.words[STOP] = self._context.cancelled.is_set()
        wait(self._open.copy(), GRACE_SECONDS)
        while wait(self._open.copy(), 0.05).not_done:
            for worker in list(self._workers):
                worker.kill()

    def _do(self, *task):
        future = self._threads.submit(*task)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def _worker_of(self, future):
        return next((worker for worker in list(self._workers) if worker.chunk is future.chunk), None)

    def _hire(self):
        if self._closing:
            raise ExecutorBroken("the executor is being shut down")
        worker = Worker()
        self._workers.add(worker)
        try:
            worker.call(set_up, self._job, worker.file.name)
        except Exception as error:
            self._bury(worker)
            raise error if isinstance(error, WorkerInitError) else WorkerInitError(f"a worker died: {error}") from error
        return worker

    def _bury(self, worker):
        self._workers.discard(worker)
        worker.close()

    def _run(self, chunk):
        worker = self._idle.get()
        try:
            while True:
                worker = worker or self._hire()
                worker.words[PROGRESS], worker.chunk = UNTOUCHED, chunk
                try:
                    return load_result(*worker.call(run, *dump_chunk(chunk)))
                except BrokenProcessPool as death:
                    self._bury(dead := worker)
                    worker, word = None, dead.words[PROGRESS]
                    if word != UNTOUCHED:  # else it had not begun: the next worker gets it
                        raise lost(death, read_progress(word, chunk, self._context.max_hook_chunk_size)) from None
        finally:
            if worker:
                with self._lock:
                    worker.chunk = None
            self._idle.put(worker)


class Worker:
    chunk = None

    def __init__(self):
        self.pool = ProcessPoolExecutor(1, env=ENVIRONMENT)
        self.file = NamedTemporaryFile(prefix="loky-")  # noqa: SIM115  # `close` closes it
        self.file.truncate(24)
        self.words = words_in(self.file.name)

    def call(self, function, *arguments):
        return self.pool.submit(function, *arguments).result()

    def kill(self):
        with suppress(ProcessLookupError):
            if self.words[PID]:
                os.kill(self.words[PID], signal.SIGKILL)

    def close(self):
        self.pool.shutdown()
        active_children()  # lets go of a process that has died, which loky forgets
        self.file.close()

    def end(self):
        try:
            self.call(tear_down)
        except TeardownError as error:
            return error
        except BrokenProcessPool as error:
            return TeardownError(f"a worker died in its teardown: {error}")
        finally:
            self.close()


def lost(death, progress):
    code = re.search(r"\((-?\d+)\)", str(death))  # as in `{EXIT(3)}`, `{SIGKILL(-9)}`: loky says it nowhere else
    number = int(code[1]) if code else 0
    return WorkerLost(max(number, 0) if number >= 0 and code else None, -number if number < 0 else None, progress)


def words_in(path):
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")


def set_up(job, path):  # this and what follows runs in the worker
    global context, words  # noqa: PLW0603  # the process has one job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the program, which shuts its workers down
    words = words_in(path)
    words[PID] = os.getpid()
    context = WorkerContext.loads(job)
    context.cell, context.cancelled = ProgressCell(words[:1]), SimpleNamespace(is_set=lambda: words[STOP] != 0)
    context.setup()


def run(header, payload):
    chunk = load_chunk(header, payload)
    return dump_result(process_chunk_on_worker(chunk, context), chunk, context)


def tear_down():
    context.teardown()
