"""What the code of the jobs does to its worker. Workers import it by the name that it has in the tests."""

# ruff: noqa: T201  # they print as hooks do

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import locale
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_serializer, model_validator

from manyhands import BaseHook
from manyhands.adapters.base import BaseInputAdapter, Block, RecordSource
from manyhands.hooks import HookStore
from manyhands.records import Entry

DIARY = "MANYHANDS_TEST_DIARY"
"""The environment variable that names the file in which workers note what they do."""


def note(what: object) -> None:
    """Write a line into the diary, if there is one: a single write, that lines of several workers do not mix."""
    if path := os.environ.get(DIARY):
        diary = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(diary, f"{os.getpid()} {time.monotonic()} {what}\n".encode())
        os.close(diary)


def fail() -> None:
    raise RuntimeError("it fails")


def exit_3() -> None:
    sys.exit(3)


def exit_at_once() -> None:
    os._exit(3)


def crash() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.string_at(0)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once() -> None:
    try:
        Path(os.environ[DIARY] + ".killed").touch(exist_ok=False)
    except FileExistsError:
        return
    kill()


def run_out_of_memory() -> None:
    raise MemoryError("no memory")


def spin() -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


def hold() -> None:
    """Hold the interpreter lock in C code."""
    sum(range(10**11))


def match() -> None:
    """Likewise, in the engine of regular expressions."""
    re.match("(a+)+$", "a" * 60 + "b")


def sleep() -> None:
    time.sleep(20)


def flood() -> None:
    """Print more than a pipe holds, for ever."""
    while True:
        os.write(1, b"a line\n" * 1000)


def nap() -> None:
    time.sleep(0.02)


def doze() -> None:
    time.sleep(0.005)


def nothing() -> None:
    pass


DEEDS: dict[str, Callable[[], object]] = {
    deed.__name__: deed
    for deed in (
        fail,
        exit_3,
        exit_at_once,
        crash,
        kill,
        kill_once,
        run_out_of_memory,
        spin,
        hold,
        match,
        sleep,
        flood,
        nap,
        doze,
        nothing,
    )
}


def act(record: dict[str, Any]) -> None:
    """Do what the record says."""
    note(f"record {record['k']}")
    if deed := record.get("do"):
        note(deed)
        DEEDS[deed]()


class Plain(BaseModel):
    """Does nothing."""

    k: int


class Validated(Plain):
    """Acts when it is validated."""

    @model_validator(mode="before")
    @classmethod
    def act(cls, record: Any) -> Any:
        act(record)
        return record


class Packed(Plain):
    """Acts when it is written."""

    do: str | None = None

    @field_serializer("do")
    def act(self, deed: str | None) -> str | None:
        act({"k": self.k, "do": deed})
        return deed


class Acts(BaseHook):
    """A plain hook."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            act(entry["raw_data"])


class ActsAlone(Acts):
    """One that must not run twice."""

    replay = False


class ActsAsync(BaseHook):
    """One whose calls may overlap."""

    async def execute(self, entries: list[Entry], store: HookStore) -> None:
        act(entries[0]["raw_data"])


class Awaits(BaseHook):
    """One that awaits what records want to sleep."""

    async def execute(self, entries: list[Entry], store: HookStore) -> None:
        note(f"record {entries[0]['raw_data']['k']}")
        if entries[0]["raw_data"].get("do") == "sleep":
            note("sleep")
            await asyncio.sleep(20)


class Naps(BaseHook):
    """Takes so many seconds for each call."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        time.sleep(self._seconds)


class Lives(BaseHook):
    """Notes its life, and does something at its beginning or its end."""

    def __init__(self, setup: str = "nothing", teardown: str = "nothing") -> None:
        super().__init__()
        self._setup, self._teardown = setup, teardown

    def setup(self, store: HookStore) -> None:
        note("setup")
        DEEDS[self._setup]()

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            act(entry["raw_data"])

    def teardown(self, store: HookStore) -> None:
        note("teardown")
        DEEDS[self._teardown]()


class Haunted(Lives):
    """In its worker, threads do what the bell says whenever it is rung.

    Args:
        bell: a named pipe.
    """

    def __init__(self, bell: Path) -> None:
        super().__init__()
        self._bell = bell

    def setup(self, store: HookStore) -> None:
        super().setup(store)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            deed = self._bell.read_text()
            note(deed)
            haunting = threading.Thread(target=DEEDS[deed])
            haunting.start()
            haunting.join()
            note(f"{deed} is done")


@dataclass(frozen=True)
class Decoder:
    """Reads a record from each line of JSON, and acts on it in every process but one.

    Attributes:
        home: the process in which nothing is done.
    """

    home: int

    def rows(self, block: bytes) -> list[Any]:
        read = [json.loads(line) for line in block.splitlines()]
        if os.getpid() != self.home:
            for record in read:
                act(record)
        return read

    def slices(self, block: bytes, count: int, size: int) -> Iterator[list[Any]]:
        rows = self.rows(block)
        return (rows[first : first + size] for first in range(0, len(rows), size))

    def lines(self, block: bytes) -> list[int]:
        return list(range(block.count(b"\n")))


class Source(RecordSource):
    """Records as blocks of one."""

    def __init__(self, records: Sequence[Any]) -> None:
        super().__init__(records)
        self.decoder = Decoder(os.getpid())
        self._rows = records

    def blocks(self, chunksize: int | None, nbytes: int | None = None) -> Iterator[Block]:
        for line, record in enumerate(self._rows, 1):
            yield Block(json.dumps(record).encode() + b"\n", 1, line)


class Input(BaseInputAdapter):
    """An input whose decoder acts."""

    def __init__(self, records: Sequence[Any]) -> None:
        self._rows = records

    def open(self) -> Source:
        return Source(self._rows)


class Values(BaseModel):
    """Any value."""

    k: int
    value: Any


class Adds(BaseHook):
    """Leaves values on entries that have no JSON form, and at one position an object that nothing can pack."""

    def __init__(self, object_at: int = -1) -> None:
        super().__init__()
        self._object_at = object_at

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            entry["metadata"]["seen"] = {entry["position"]}
            if entry["position"] == self._object_at:
                entry["validated_data"]["k"] = object()


class Surrounded(BaseHook):
    """Leaves on entries what surrounds it."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            third = Decimal(1) / Decimal(3)
            entry["metadata"] = {
                "zone": time.tzname[0],
                "third": str(third),
                "locale": locale.nl_langinfo(locale.CODESET),
            }


class Measures(BaseHook):
    """Leaves on entries the folder and the environment that it runs in."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            entry["metadata"] = {"folder": str(Path.cwd()), "word": os.environ["MANYHANDS_TEST_WORD"]}


class Pads(BaseHook):
    """Makes entries larger, so that results that wait would show."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for entry in entries:
            entry["raw_data"] = {**entry["raw_data"], "more": "y" * 500}


class Talks(BaseHook):
    """Prints in every way there is."""

    def setup(self, store: HookStore) -> None:
        print("setting up")

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        print("by print, zwölf")
        os.write(1, b"by the system\n")
        ctypes.CDLL(None).puts(b"by the C library")
        subprocess.run(["echo", "by a program"], check=True)
        logging.getLogger("mine").warning("by a logger")
        warnings.warn("be careful", stacklevel=1)
        try:
            fail()
        except RuntimeError:
            traceback.print_exc()
        print("read of stdin:", repr(sys.stdin.read()))

    def teardown(self, store: HookStore) -> None:
        print("without an end", end="")


class Floods(BaseHook):
    """Prints as much as it is told."""

    def __init__(self, lines: int, width: int) -> None:
        super().__init__()
        self._lines, self._width = lines, width

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for _ in range(self._lines):
            print("x" * (self._width - 1))


class LastWords(BaseHook):
    """Prints, and dies where the record says."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        print("last words", end="", flush=True)
        act(entries[0]["raw_data"])


class FailsFirst(Lives):
    """Its setup fails in the first worker that tries.

    Args:
        mark: a file that says that one has.
    """

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self._mark = mark

    def setup(self, store: HookStore) -> None:
        super().setup(store)
        try:
            self._mark.touch(exist_ok=False)
        except FileExistsError:
            return
        fail()


class Discovers(BaseHook):
    """Finds, in a folder that only workers look into, a value that nobody else can read.

    Args:
        folder: holds `discovered.py` with an enumeration `Kind`.
        at: position of the entry that gets the value.
    """

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__()
        self._folder, self._at = folder, at

    def setup(self, store: HookStore) -> None:
        sys.path.insert(0, str(self._folder))

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        kind = importlib.import_module("discovered").Kind
        for entry in entries:
            if entry["position"] == self._at:
                entry["metadata"]["kind"] = kind.RARE
