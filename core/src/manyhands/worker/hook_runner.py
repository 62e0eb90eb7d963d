"""Calls the hooks of one worker: order, batches, isolation, and one event loop for the async ones."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final

from manyhands.errors import HookError, TeardownError, WorkerInitError
from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry, EntryStatus
from manyhands.worker.failures import detail, words
from manyhands.worker.plan import CAUGHT

_POSITION: Final = itemgetter("position")
_LIST: Final = frozenset({list})
_ERRORS: Final = itemgetter(0)
_ENVELOPE: Final = itemgetter("errors", "status", "id", "raw_data", "validated_data", "metadata")
# An async hook may also end with what cancelled a task of its own.
_CAUGHT: Final = (*CAUGHT, asyncio.CancelledError)

Announce = Callable[[list[Entry]], None]


class BatchFailed(Exception):  # not an error of anyone's, but the signal to run the batch record by record
    """A hook failed on a batch that may be replayed."""


class HookRunner:
    """The hooks of one worker, their store and their event loop.

    Args:
        hooks: all hooks of the job in the order of their `setup`.
        concurrency: how many async calls may overlap.
    """

    def __init__(self, hooks: Sequence[BaseHook], concurrency: int = 1) -> None:
        self.store: HookStore = HookStore()
        self._hooks = list({id(hook): hook for hook in hooks}.values())  # one that stands twice is set up once
        self._concurrency = concurrency
        self._ready: list[BaseHook] = []
        self._loop: asyncio.Runner | None = None

    def setup(self) -> None:
        """Run every `setup`; when one fails, the teardown of those before it.

        Raises:
            WorkerInitError: names the hook and what it raised.
        """
        for hook in self._hooks:
            try:
                self._finish(hook.setup(self.store))
            except _CAUGHT as error:
                self._give_up()
                raise WorkerInitError(f"setup of hook {name_of(hook)} failed: {words(error)}") from error
            self._ready.append(hook)
        self.store.lock()

    def teardown(self) -> None:
        """Run every `teardown`, the last set up first, and close the loop. Once only.

        Raises:
            TeardownError: names the first hook that failed; the others ran all the same.
        """
        self.store.unlock()
        failed: TeardownError | None = None
        while self._ready:
            hook = self._ready.pop()
            try:
                self._finish(hook.teardown(self.store))
            except _CAUGHT as error:
                failed = failed or TeardownError(f"teardown of hook {name_of(hook)} failed: {words(error)}")
        self._close_loop()
        if failed is not None:
            raise failed

    def run(self, hook: BaseHook, entries: list[Entry], *, isolate: bool, announce: Announce) -> list[Entry]:
        """The entries that go on: mutated, failed ones included, dropped ones not.

        Args:
            hook: the hook.
            entries: the batch.
            isolate: on failure raise instead of failing the whole batch.
            announce: called before each record that an async hook gets alone; ends the run by `RecordsCancelled`.

        Raises:
            BatchFailed: a hook failed on more than one entry, and `isolate` was given.
        """
        if is_async(hook):
            kept: list[Entry] = self._finish(self._overlap(hook, entries, announce))
            return kept
        positions = list(map(_POSITION, entries))
        try:
            return _kept(entries, positions, self._finish(hook.execute(entries.copy(), self.store)))
        except _CAUGHT as error:
            if isolate and len(entries) > 1:
                raise BatchFailed from error
            return _fail_all(entries, positions, hook, error)

    def _give_up(self) -> None:
        with suppress(TeardownError):  # the failed setup is what the person must hear of
            self.teardown()

    async def _overlap(self, hook: BaseHook, entries: list[Entry], announce: Announce) -> list[Entry]:
        gate = asyncio.Semaphore(self._concurrency)
        kept = await asyncio.gather(*(self._alone(hook, entry, gate, announce) for entry in entries))
        return [entry for part in kept for entry in part]

    async def _alone(self, hook: BaseHook, entry: Entry, gate: asyncio.Semaphore, announce: Announce) -> list[Entry]:
        positions = [entry["position"]]
        async with gate:
            announce([entry] if self._concurrency == 1 else [])  # of several at once no one can be named
            try:
                return _kept([entry], positions, await _result(hook.execute([entry], self.store)))
            except _CAUGHT as error:
                return _fail_all([entry], positions, hook, error)

    def _finish(self, value: Any) -> Any:
        """The value, awaited on this worker's own loop if it is awaitable."""
        if not inspect.isawaitable(value):
            return value
        if self._loop is None:
            self._loop = asyncio.Runner()
        return self._loop.run(_result(value))

    def _close_loop(self) -> None:
        if self._loop is not None:
            self._loop.close()
            self._loop = None


def is_async(hook: BaseHook) -> bool:
    """The hook's `execute` is an `async def`: it gets one record at a time."""
    return inspect.iscoroutinefunction(hook.execute)


def name_of(hook: BaseHook) -> str:
    """The hook's class name, as messages and errors show it."""
    return type(hook).__name__


def _fail_all(entries: list[Entry], positions: list[int], hook: BaseHook, error: BaseException) -> list[Entry]:
    """Mark the entries failed by this hook, whatever it has made of them."""
    reason = detail("HookError", f"{name_of(hook)}: {_said(error)}")
    for entry, position in zip(entries, positions, strict=True):
        errors, metadata = entry.get("errors"), entry.get("metadata")
        entry["position"] = position
        entry["status"] = EntryStatus.FAILED
        entry["errors"] = [*errors, reason] if isinstance(errors, list) else [reason]
        entry["metadata"] = metadata if isinstance(metadata, dict) else {}
    return entries


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _said(error: BaseException) -> str:
    """With the type of mistakes in the code, whose text alone says little: `KeyError: 'nmae'`."""
    mistakes = (LookupError, AttributeError, TypeError, NameError, ArithmeticError, SystemExit)
    return f"{type(error).__name__}: {words(error)}" if isinstance(error, mistakes) else words(error)


def _kept(given: list[Entry], positions: list[int], returned: Any) -> list[Entry]:
    """The entries that go on.

    Raises:
        HookError: they are not those that were given, or no entries any more.
    """
    if returned is None:
        returned = given
    if not isinstance(returned, list | tuple):
        raise HookError(f"execute() must return a list of entries or None, not {type(returned).__name__}")
    try:
        kept = list(map(_POSITION, returned))
        parts = list(map(_ENVELOPE, returned))
    except (KeyError, TypeError, IndexError) as error:
        raise HookError("execute() left something that is no entry: every entry keeps its keys") from error
    if not _LIST.issuperset(map(type, map(_ERRORS, parts))):
        raise HookError("execute() left an entry whose errors are no list")
    if kept != positions:
        _check_known(kept, positions)
    if [entry.get("position") for entry in given] != positions:
        raise HookError("execute() exchanged the positions of entries")
    return list(returned)


def _check_known(kept: list[Any], positions: list[int]) -> None:
    missing = set(positions)
    for position in kept:
        if position not in missing:
            again = f"the entry at position {position} twice"
            raise HookError(
                f"execute() returned {again if position in positions else 'an entry that it was not given'}"
            )
        missing.remove(position)
