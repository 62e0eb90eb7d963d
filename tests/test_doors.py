"""Foreign programs on every backend: asyncio, dask, joblib and scikit-learn make their calls by our workers."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import dask
import joblib
import pytest
from core.tests.support import wait_until
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import ParallelBackendBase

import manyhands
from manyhands import as_futures_executor
from manyhands.errors import BackendError, OptionsError, UnpicklableError, UsageError, WorkerLost

from .backends import IN_OTHER_PROCESSES, cluster_of, every_backend, names, offered

LIMIT = 60.0
"""Seconds after which something that must happen has not."""

CONCURRENT = names(lambda backend: backend.capabilities.concurrent)
NO_SIGNAL = ["ray"]
"""Ray does not tell which signal killed a worker."""

every_concurrent_backend = pytest.mark.parametrize("name", CONCURRENT)
every_process_backend = pytest.mark.parametrize("name", IN_OTHER_PROCESSES)


@pytest.fixture(autouse=True)
def registered() -> None:
    manyhands.register_joblib()


def executor_of(name: str) -> Any:
    return as_futures_executor(name, **offered(name, {"max_workers": 2, **cluster_of(name)}))


def joblib_on(name: str, **settings: Any) -> parallel_config:
    """Two of the backend's workers run the calls of joblib."""
    return parallel_config("manyhands", executor=name, n_jobs=2, **cluster_of(name), **settings)


@every_backend
def test_event_loops_hand_calls_to_every_backend(name: str) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with executor_of(name) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, operator.neg, number) for number in range(9)))

    assert asyncio.run(main()) == [-number for number in range(9)]


@every_backend
def test_dask_computes_by_every_backend(name: str) -> None:
    squares = [dask.delayed(lambda number: number**2)(number) for number in range(12)]
    with executor_of(name) as executor:
        total, pid = dask.compute(dask.delayed(sum)(squares), dask.delayed(os.getpid)(), scheduler=executor)
    assert total == sum(number**2 for number in range(12))
    assert (pid != os.getpid()) is (name in IN_OTHER_PROCESSES)


@every_process_backend
def test_the_call_that_kills_its_process_is_the_only_one_lost(name: str) -> None:
    def fatal(number: int) -> int:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with executor_of(name) as executor:
        calls = {executor.submit(fatal, number): number for number in range(12)}
        lost = {number: call.exception(LIMIT) for call, number in calls.items() if call.exception(LIMIT)}
        assert [call.result() for call in calls if calls[call] != 3] == [n for n in range(12) if n != 3]
    assert list(lost) == [3]
    assert isinstance(lost[3], WorkerLost)
    assert lost[3].signal == (signal.SIGKILL if name not in NO_SIGNAL else None)


@every_process_backend
def test_what_waits_for_a_process_can_be_cancelled_and_waits_for_no_other_call(name: str) -> None:
    with executor_of(name) as executor:
        futures.wait([executor.submit(abs, 1) for _ in range(50)])  # workers may have learnt that calls are quick
        stuck = executor.submit(time.sleep, 300)
        assert [executor.submit(abs, -number).result(LIMIT) for number in range(20)] == list(range(20))
        also_stuck = executor.submit(time.sleep, 300)
        waiting = [executor.submit(abs, 1) for _ in range(9)]
        wait_until(lambda: stuck.running() and also_stuck.running(), LIMIT)
        assert all(call.cancel() for call in waiting)
        executor.kill_workers()
    assert isinstance(stuck.exception(0), futures.BrokenExecutor)


def program(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "program.py"
    script.write_text(textwrap.dedent(code))
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)


TALKING = """
    import logging, sys, warnings
    from manyhands import Pool, as_futures_executor

    def talk():
        print("printed")
        warnings.warn("warned")
        logging.error("logged")
        return sys.argv[1:]

    {}
    with as_futures_executor("multiprocessing", 1) as executor:
        assert executor.submit(talk).result() == ["an", "argument"]
    with Pool(1) as pool:
        pool.map(lambda _: talk(), [1])
"""


@pytest.mark.skipif("multiprocessing" not in IN_OTHER_PROCESSES, reason="it is not installed")
def test_what_worker_processes_say_is_shown_unless_it_is_logged(tmp_path: Path) -> None:
    shown = program(tmp_path, TALKING.format(""), "an", "argument")
    assert shown.stdout == ""
    assert [shown.stderr.count(word) for word in ("printed\n", "UserWarning: warned\n", "ERROR:root:logged\n")] == [
        2
    ] * 3
    logged = program(tmp_path, TALKING.format("logging.basicConfig(level='ERROR')"), "an", "argument")
    assert logged.stderr == ""


@pytest.mark.skipif("multiprocessing" not in IN_OTHER_PROCESSES, reason="it is not installed")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nobody tells how much memory a process has")
def test_a_worker_process_that_waits_keeps_no_argument() -> None:
    def memory(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with as_futures_executor("multiprocessing", 1) as executor:
        pid = executor.submit(os.getpid).result(LIMIT)
        before = memory(pid)
        assert executor.submit(len, bytes(100_000_000)).result(LIMIT) == 100_000_000
        wait_until(lambda: memory(pid) - before < 50_000_000, LIMIT)


def test_joblib_knows_nothing_of_a_backend_that_is_not_installed() -> None:
    with pytest.raises(BackendError, match="multiprocesing"):
        parallel_config("manyhands", executor="multiprocesing")
    with pytest.raises(UsageError, match="name of a backend"):
        parallel_config("manyhands", executor=manyhands.get_executor("sync"))
    with pytest.raises(OptionsError, match="n_jobs"):
        parallel_config("manyhands", executor="sync", max_workers=3)


def test_without_joblib_it_is_said_how_to_get_it() -> None:
    code = "import sys; sys.modules['joblib'] = None; import manyhands; manyhands.register_joblib()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("needs joblib, which is not installed: pip install joblib")


def test_joblib_is_imported_only_when_it_is_wanted() -> None:
    doors = "manyhands.register_joblib, manyhands.as_futures_executor"
    code = f"import manyhands, sys; {doors}; assert 'joblib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_backend
@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_joblib_gives_the_same_on_every_backend(name: str, batch_size: Any) -> None:
    with joblib_on(name):
        parallel = Parallel(batch_size=batch_size)
        assert parallel(delayed(pow)(number, 2) for number in range(100)) == [number**2 for number in range(100)]
        assert parallel([]) == []
        pids = set(Parallel()(delayed(os.getpid)() for _ in range(4)))
    assert (os.getpid() in pids) is (name not in IN_OTHER_PROCESSES)


@every_concurrent_backend
def test_workers_stay_as_long_as_the_configuration(name: str) -> None:
    def here() -> tuple[int, str]:
        time.sleep(0.02)
        return os.getpid(), threading.current_thread().name

    with joblib_on(name):
        first, second = (set(Parallel(batch_size=1)(delayed(here)() for _ in range(12))) for _ in range(2))
    assert first & second
    assert len(first | second) <= 2 or name == "asyncio"  # it has threads beside its workers, which wait


@every_concurrent_backend
@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_joblib_gives_generators(name: str, return_as: str) -> None:
    with joblib_on(name):
        results = Parallel(return_as=return_as)(delayed(operator.neg)(number) for number in range(30))
        assert sorted(results) == list(range(-29, 1))


def slowly(number: int) -> int:
    time.sleep(0.01)
    return number


@every_concurrent_backend
def test_calls_of_joblib_may_be_open_side_by_side(name: str) -> None:
    with joblib_on(name):
        first = Parallel(return_as="generator")(delayed(slowly)(number) for number in range(20))
        assert next(first) == 0
        second = Parallel(return_as="generator")(delayed(slowly)(number) for number in range(20))
        assert next(second) == 0
        assert Parallel()(delayed(slowly)(number) for number in range(4)) == [0, 1, 2, 3]
        assert Parallel(n_jobs=3)(delayed(slowly)(number) for number in range(4)) == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="invalid literal"):
            Parallel()(delayed(int)("x") for _ in range(4))
        with pytest.warns(UserWarning, match="not used"):
            second.close()
        assert list(first) == list(range(1, 20))


class Refused(Exception):
    pass


@every_concurrent_backend
def test_joblib_raises_what_calls_raise_and_goes_on(name: str) -> None:
    def refuse(number: int) -> int:
        if number == 5:
            raise Refused(number)
        return number

    with joblib_on(name):
        with pytest.raises(Refused) as caught:
            Parallel()(delayed(refuse)(number) for number in range(10))
        assert Parallel()(delayed(refuse)(number) for number in range(5)) == [0, 1, 2, 3, 4]
        with Parallel() as parallel:
            with pytest.raises(Refused):
                parallel(delayed(refuse)(number) for number in range(10))
            # On any backend, joblib may first make calls that were left over by the one that failed.
            assert parallel(delayed(refuse)(number) for number in range(5))[-5:] == [0, 1, 2, 3, 4]
    if name in IN_OTHER_PROCESSES:
        assert "in refuse" in str(caught.value.__cause__)


class Counted:
    """An argument that tells how often it was pickled."""

    pickled = 0

    def __reduce__(self) -> Any:
        Counted.pickled += 1
        return int, ()


@every_process_backend
def test_joblib_has_each_argument_pickled_once(name: str) -> None:
    of_main = lambda _: 1  # noqa: E731  # it travels as what the program's own file defines does
    of_main.__module__, of_main.__qualname__ = "__main__", "of_main"
    for function in (of_main, operator.not_):
        Counted.pickled = 0
        with joblib_on(name):
            Parallel(batch_size=1)(delayed(function)(Counted()) for _ in range(4))
        assert Counted.pickled == 4


@every_process_backend
def test_joblib_hears_which_function_cannot_be_sent(name: str) -> None:
    config = joblib_on(name)
    with config, pytest.raises(UnpicklableError, match="the call of slowly cannot be sent"):
        Parallel()(delayed(slowly)(threading.Lock()) for _ in range(2))


@every_concurrent_backend
def test_joblib_has_time_limits(name: str) -> None:
    with joblib_on(name):
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.2)(delayed(time.sleep)(seconds) for seconds in (0, 1, 0, 1))
        assert Parallel(timeout=LIMIT)(delayed(abs)(number) for number in (-1, -2)) == [1, 2]


@every_process_backend
def test_joblib_hears_of_a_worker_that_died(name: str) -> None:
    with joblib_on(name):
        with pytest.raises(WorkerLost):
            Parallel()(delayed(os._exit)(3) if number == 4 else delayed(abs)(number) for number in range(9))
        assert Parallel()(delayed(abs)(number) for number in (-1, -2)) == [1, 2]


@every_concurrent_backend
def test_calls_of_joblib_may_be_in_one_another(name: str) -> None:
    def inner(number: int) -> int:
        return sum(Parallel(n_jobs=2)(delayed(operator.mul)(number, each) for each in range(4)))

    with joblib_on(name):
        assert Parallel()(delayed(inner)(number) for number in range(6)) == [6 * number for number in range(6)]


def backend(**settings: Any) -> ParallelBackendBase:
    return parallel_config("manyhands", **settings).parallel_config["backend"]


def test_the_number_of_jobs_is_counted_as_joblib_does() -> None:
    threads, sync = backend(executor="threads"), backend(executor="sync")
    assert [threads.effective_n_jobs(jobs) for jobs in (None, 1, 3, -1, -1000)] == [1, 1, 3, joblib.cpu_count(), 1]
    assert [sync.effective_n_jobs(jobs) for jobs in (1, 3, -1)] == [1, 1, 1]
    with pytest.raises(ValueError, match="must not be 0"):
        threads.effective_n_jobs(0)
    with parallel_config("manyhands", executor="threads"):
        assert Parallel().n_jobs == -1
        assert Parallel(n_jobs=1)(delayed(threading.get_ident)() for _ in range(2)) == [threading.get_ident()] * 2


def test_the_backend_may_be_chosen_by_parallel_itself() -> None:
    parallel = Parallel(n_jobs=2, backend="manyhands", executor="threads", chunksize=3)
    assert parallel(delayed(os.getpid)() for _ in range(4)) == [os.getpid()] * 4


def test_only_backends_of_this_process_share_memory() -> None:
    for name in CONCURRENT:
        shares = name not in IN_OTHER_PROCESSES
        assert backend(executor=name).supports_sharedmem is backend(executor=name).uses_threads is shares


@every_process_backend
def test_libraries_in_worker_processes_are_told_how_many_threads_are_theirs(name: str) -> None:
    def limit() -> str:
        return os.environ["OMP_NUM_THREADS"]

    with joblib_on(name, inner_max_num_threads=3):
        assert set(Parallel()(delayed(limit)() for _ in range(4))) == {"3"}


@every_process_backend
def test_a_grid_search_is_the_same_in_processes(name: str, tmp_path: Path) -> None:
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    class Telling(LogisticRegression):
        def fit(self, *data: Any, **settings: Any) -> Any:
            (tmp_path / str(os.getpid())).touch()
            return super().fit(*data, **settings)

    samples, labels = make_classification(n_samples=60, n_features=4, random_state=0)
    search = GridSearchCV(Telling(), {"C": [0.1, 1.0, 10.0]}, cv=2, refit=False)
    alone = search.set_params(n_jobs=1).fit(samples, labels).cv_results_
    assert [file.name for file in tmp_path.iterdir()] == [str(os.getpid())]
    (tmp_path / str(os.getpid())).unlink()
    with joblib_on(name):
        shared = search.set_params(n_jobs=None).fit(samples, labels).cv_results_
    assert str(os.getpid()) not in {file.name for file in tmp_path.iterdir()}
    assert list(tmp_path.iterdir())
    assert shared["params"] == alone["params"]
    for score in ("mean_test_score", "std_test_score", "rank_test_score"):
        assert shared[score].tolist() == alone[score].tolist()


def test_nothing_of_joblib_keeps_the_workers() -> None:
    before = threading.active_count()
    with parallel_config("manyhands", executor="threads", n_jobs=2):
        Parallel()(delayed(abs)(number) for number in range(4))
    gc.disable()  # nothing is in a cycle
    try:
        wait_until(lambda: threading.active_count() <= before, LIMIT)
    finally:
        gc.enable()
