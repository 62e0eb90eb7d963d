"""Function maps on every backend that is installed: the same calls, the same outcomes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from manyhands import Pool
from manyhands.errors import BackendError, OptionsError, RunAborted, WorkerLost
from manyhands.plugins.registry import find
from manyhands.worker.pickles import RemoteTraceback

from .support import LIMIT, wait_until


def is_installed(name: str) -> bool:
    try:
        find(name)
    except BackendError:
        return False
    return True


BACKENDS = [name for name in ("sync", "threads", "asyncio", "multiprocessing") if is_installed(name)]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
processes = pytest.mark.skipif("multiprocessing" not in BACKENDS, reason="the backend is not installed")


def pool_of(backend: str, workers: int = 2) -> Pool:
    return Pool(None if backend == "sync" else workers, backend)


@every_backend
def test_all_four_ways_on_every_backend(backend: str) -> None:
    offset = 3

    def add(number: int, other: int = 0) -> int:
        return number + other + offset

    wanted = [number + offset for number in range(100)]
    with pool_of(backend) as pool:
        assert pool.map(add, range(100)) == wanted
        assert sorted(pool.unordered_map(add, range(100), chunksize=7)) == wanted
        assert list(islice(pool.imap(add, count()), 100)) == wanted
        assert sorted(pool.unordered_imap(add, range(100))) == wanted
        assert pool.star().map(add, [(1, 2), (3, 4)]) == [6, 10]


@every_backend
def test_failures_come_in_their_places_on_every_backend(backend: str) -> None:
    class Refused(Exception):
        pass

    def fail(number: int) -> int:
        if number % 3 == 1:
            raise Refused(number)
        if number == 5:
            raise SystemExit(number)
        return number

    with pool_of(backend) as pool:
        results, found, causes = pool.imap(fail, range(8), chunksize=3), list[Any](), set[type]()
        for _ in range(8):
            try:
                found.append(next(results))
            except (Refused, SystemExit) as error:
                found.append((type(error), error.args))
                causes.add(type(error.__cause__))
    assert causes == {RemoteTraceback if backend == "multiprocessing" else type(None)}
    refused = {number: (Refused, (number,)) for number in (1, 4, 7)}
    assert found == [refused.get(number, number) if number != 5 else (SystemExit, (5,)) for number in range(8)]


@every_backend
def test_async_functions_on_every_backend(backend: str) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0.0)
        return 2 * number

    with pool_of(backend) as pool:
        assert pool.map(double, range(50)) == list(range(0, 100, 2))
        assert pool.map(lambda number: double(number + 0), range(50), chunksize=8) == list(range(0, 100, 2))


@pytest.mark.skipif("asyncio" not in BACKENDS, reason="the backend is not installed")
def test_async_calls_overlap_as_far_as_the_backend_is_told() -> None:
    active = peak = 0
    lock, full = threading.Lock(), asyncio.Event()

    async def meet(number: int) -> int:
        nonlocal active, peak
        with lock:
            active += 1
            peak = max(peak, active)
        if active == 7:
            full.set()
        await asyncio.wait_for(full.wait(), LIMIT)
        active -= 1
        return number

    with Pool(executor="asyncio", concurrency=7, workers=2) as pool:
        assert pool.map(meet, range(50)) == list(range(50))
    assert peak == 7


@every_backend
def test_a_map_dropped_half_way_harms_no_other_on_every_backend(backend: str) -> None:
    with pool_of(backend) as pool:
        for _ in range(5):
            assert list(islice(pool.imap(abs, count(), chunksize=2), 5)) == [0, 1, 2, 3, 4]
            with pytest.raises(ZeroDivisionError):
                pool.map(lambda number: 1 / number, range(50))
        assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]


@processes
@pytest.mark.parametrize("chunksize", [None, 1, 50])
def test_a_call_that_kills_its_process_is_the_only_one_lost(chunksize: int | None) -> None:
    def fatal(number: int) -> int:
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 9:
            os._exit(4)
        return number

    found: list[Any] = []
    with Pool(2) as pool:
        results = pool.imap(fatal, range(20), chunksize=chunksize)
        for _ in range(20):
            try:
                found.append(next(results))
            except WorkerLost as error:
                found.append((error.cause, error.__notes__))
        assert pool.map(abs, [-1]) == [1]
    note = "call {} of the map (counted from 0) killed its worker"
    lost = {7: ("SIGKILL", [note.format(7)]), 9: ("exit code 4", [note.format(9)])}
    assert found == [lost.get(number, number) for number in range(20)]


@processes
def test_large_arguments_and_results_travel() -> None:
    with Pool(2, compression="lz4") as pool:
        assert pool.map(lambda data: data + b"!", [b"x" * 3_000_000] * 5) == [b"x" * 3_000_000 + b"!"] * 5


@processes
def test_terminating_kills_calls_that_do_not_end(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def stuck(_: int) -> None:
        begun.touch()
        threading.Event().wait()

    pool = Pool(2)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.map, stuck, range(4))
        wait_until(begun.exists)
        pool.terminate()
        with pytest.raises(RunAborted):
            waiting.result(LIMIT)


@processes
def test_what_the_main_program_defines_works(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            from enum import Enum
            from manyhands import Pool

            class Colour(Enum):
                RED = 1

            @dataclass
            class Point:
                x: int

            class Refused(Exception):
                pass

            def move(point, colour=Colour.RED):
                if point.x == 3:
                    raise Refused(point)
                return Point(point.x + FAR), colour

            FAR = 10

            with Pool(2) as pool:
                assert pool.map(move, [Point(1), Point(2)]) == [(Point(11), Colour.RED), (Point(12), Colour.RED)]
                assert pool.star().map(move, [(Point(1), Colour.RED)])[0][1] is Colour.RED
                try:
                    pool.map(move, [Point(3)])
                except Refused as error:
                    assert error.args == (Point(3),)
                    print("refused")
            """
        )
    )
    command = [sys.executable, "-W", "error", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


def test_workers_of_a_backend_are_its_option_of_that_name() -> None:
    if "threads" not in BACKENDS:
        pytest.skip("the backend is not installed")
    assert Pool(3, "threads")._executor.max_workers == 3  # type: ignore[attr-defined]
    with pytest.raises(OptionsError, match="the same"):
        Pool(3, "threads", max_workers=3)
    with pytest.raises(OptionsError, match="max_workers"):
        Pool(0, "threads")
