"""Chunks in processes of loky. Each is a pool of its own: loky ends a whole pool when one of its processes dies."""

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Timer, get_ident

from loky.process_executor import BrokenProcessPool, ProcessPoolExecutor, ShutdownExecutorError

from manyhands import BaseExecutor, dump_chunk, load_result
from manyhands.errors import ProtocolError, TeardownError, WorkerInitError, WorkerLost
from manyhands.worker import remote

from .plugin import CAPABILITIES

PROCESSES = get_context("forkserver")  # a process takes 0.05 s; a fresh interpreter for each, as loky has it, takes 1 s
PROCESSES.set_forkserver_preload(["__main__", "loky.process_executor", "manyhands.worker.remote"])
GRACE_SECONDS = 1.0
DEATHS = (BrokenProcessPool, ShutdownExecutorError)  # it died, it was killed


class LokyExecutor(BaseExecutor):
    capabilities = CAPABILITIES

    def __init__(self, *args, max_workers=2, **options):
        super().__init__(*args, **options)
        self.max_workers, self._lock, self._threads = max_workers, Lock(), None

    def start(self, context):
        self._context, self._job, self._folder = context, context.dumps(), TemporaryDirectory()
        self._stop, self._pools = Path(self._folder.name, "stop"), {}  # workers look whether it is there
        self._threads = ThreadPoolExecutor(self.max_workers)
        first = self._threads.submit(self._own_pool)
        while not (first.done() or context.cancelled.is_set()):
            wait([first], 0.05)
        if first.done():
            first.result()  # raises what kept it from starting

    def submit(self, chunk):
        if self._threads is None:
            raise ProtocolError("submit() before start() or after shutdown()")
        future = self._threads.submit(self._run, chunk, place := [])
        future.place = place  # the pool that runs it
        return future

    def slots(self):
        return 2 * self.max_workers  # one runs, one waits

    def evict(self, future):
        return future.cancel() or self._kill(future.place)

    def shutdown(self, *, cancel=False):
        if self._threads is None:
            return
        self._threads.shutdown(wait=not cancel, cancel_futures=cancel)
        threads, self._threads = self._threads, None
        if self._context.cancelled.is_set():
            self._stop.touch()
        killer = Timer(GRACE_SECONDS, lambda: self._kill(self._pools.copy().values()))
        killer.start()
        threads.shutdown()  # without `cancel` they have ended
        killer.cancel()
        killer.join()
        with self._folder, ExitStack() as stack:
            stack.callback(self._kill, self._pools.values())
            for pool in self._pools.values():
                stack.callback(self._end, pool, GRACE_SECONDS if cancel else None)

    def _own_pool(self):
        if get_ident() not in self._pools:
            pool = self._pools[get_ident()] = ProcessPoolExecutor(1, context=PROCESSES)
            try:
                pool.submit(remote.set_up, self._job, self._stop.exists).result()
            except (*DEATHS, WorkerInitError) as error:
                self._kill([self._pools.pop(get_ident())])
                raise WorkerInitError(str(error)) from None
        return self._pools[get_ident()]

    def _run(self, chunk, place):
        pool, task = self._own_pool(), None
        try:
            task = pool.submit(remote.run, *dump_chunk(chunk))
            place.append(pool)
            return load_result(*task.result())
        except DEATHS:
            self._kill([self._pools.pop(get_ident())])
            if task is None:  # it died while it had nothing to do
                return self._run(chunk, place)
            raise WorkerLost from None
        finally:
            with self._lock:
                place.clear()

    def _end(self, pool, patience):
        try:
            pool.submit(remote.tear_down).result(patience)
            pool.shutdown()
        except (*DEATHS, TimeoutError) as error:
            raise TeardownError(f"a worker died in its teardown: {error}") from None

    def _kill(self, pools):
        with self._lock:
            for pool in pools:
                pool.shutdown(kill_workers=True)
            active_children()  # lets go of processes that have died, which loky forgets
        return True
