"""Calls the hooks of one worker: order, batches, isolation, and how the calls of async ones overlap."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from manyhands.errors import ExecutorBroken, HookError, TeardownError, WorkerInitError
from manyhands.hooks import BaseHook, HookStore
from manyhands.records import Entry, EntryStatus
from manyhands.worker.awaiting import Awaiter, Interrupted, OwnLoop
from manyhands.worker.failures import detail, words
from manyhands.worker.plan import PASSING

_POSITION: Final = itemgetter("position")
_LIST: Final = frozenset({list})
_ERRORS: Final = itemgetter(0)
_ENVELOPE: Final = itemgetter("errors", "status", "id", "raw_data", "validated_data", "metadata")

Announce = Callable[[list[Entry]], None]
AnnounceCall = Callable[[int | None], None]
Passing = tuple[type[BaseException], ...]


class BatchFailed(Exception):  # not an error of anyone's, but the signal to run the batch record by record
    """A hook failed on a batch that may be replayed."""


class CallsLate(Exception):  # a signal likewise
    """Calls of an async hook took longer than they may; all others of the batch have ended.

    Attributes:
        spans: the positions of each call's records, half open.
    """

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        super().__init__(spans)
        self.spans = spans


@dataclass(frozen=True, slots=True)
class Raised:
    """A call raised something.

    Attributes:
        error: what it raised.
    """

    error: BaseException


class HookRunner:
    """The hooks of one worker, their store and where their coroutines run. A worker may have several threads.

    Args:
        hooks: all hooks of the job in the order of their `setup`.
        concurrency: how many async calls may overlap, of all threads together.
        timeout: seconds that one of them may take; None: for ever.
        awaiter: runs the coroutines; None: an event loop of the worker's own.
    """

    def __init__(
        self,
        hooks: Sequence[BaseHook],
        concurrency: int = 1,
        *,
        timeout: float | None = None,
        awaiter: Awaiter | None = None,
    ) -> None:
        self.store: HookStore = HookStore()
        self._hooks = list({id(hook): hook for hook in hooks}.values())  # one that stands twice is set up once
        self._gate = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._own = OwnLoop()
        self._awaiter: Awaiter = awaiter or self._own
        self._one_at_a_time = concurrency == 1 and awaiter is None
        self._ready: list[BaseHook] = []

    def setup(self) -> None:
        """Run every `setup`; when one fails, the teardown of those before it.

        Raises:
            WorkerInitError: names the hook and what it raised.
        """
        for hook in self._hooks:
            try:
                self._step(hook, hook.setup)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._give_up()
                raise WorkerInitError(f"setup of hook {name_of(hook)} failed: {_said(error)}") from error
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
                self._step(hook, hook.teardown)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  # the others must run
                failed = failed or TeardownError(f"teardown of hook {name_of(hook)} failed: {_said(error)}")
        self._own.close()
        if failed is not None:
            raise failed

    def interrupt(self, thread: int) -> None:
        """Cancel the async calls that a thread of this worker waits for; called from another one.

        Args:
            thread: its `threading.get_ident()`.
        """
        self._awaiter.interrupt(thread)

    def run(self, hook: BaseHook, entries: list[Entry], *, isolate: bool, announce: Announce) -> list[Entry]:
        """The entries that go on: mutated, failed ones included, dropped ones not.

        Args:
            hook: the hook.
            entries: the batch.
            isolate: on failure raise instead of failing the whole batch.
            announce: called before each record that an async hook gets alone, with no record where the calls of those
                that were named last overlap; ends the run by `RecordsCancelled`.

        Raises:
            BatchFailed: a hook failed on more than one entry, and `isolate` was given.
            CallsLate: async calls took longer than they may.
            ExecutorBroken: the event loop is gone.
        """
        try:
            return (self._run_each if is_async(hook) else self._run_batch)(hook, entries, isolate, announce)
        except Interrupted as why:
            announce([])
            raise ExecutorBroken(str(why)) from None

    def await_all(
        self, calls: Sequence[Coroutine[Any, Any, Any]], announce: AnnounceCall, passing: Passing = ()
    ) -> list[Any]:
        """What each of the calls returned, or a `Raised`; as many overlap as may.

        Args:
            calls: coroutines that have not begun.
            announce: called before each with its place, with None where several overlap; ends all by
                `RecordsCancelled`.
            passing: what is no outcome of a call that raises it, but ends all.

        Raises:
            ExecutorBroken: the event loop is gone.
        """
        try:
            return list(self._awaiter.run(self._outcomes(calls, announce, passing)))
        except Interrupted as why:
            announce(None)
            raise ExecutorBroken(str(why)) from None
        finally:
            for call in calls:
                call.close()  # those that have never begun

    def _run_batch(self, hook: BaseHook, entries: list[Entry], isolate: bool, announce: Announce) -> list[Entry]:
        positions = list(map(_POSITION, entries))
        try:
            returned = hook.execute(entries.copy(), self.store)
            if inspect.isawaitable(returned):
                returned = self._await_batch(returned, positions, announce)
            return _kept(entries, positions, returned)
        except (*PASSING, CallsLate, Interrupted):
            raise
        except BaseException as error:
            if isolate and len(entries) > 1:
                raise BatchFailed from error
            return _fail_all(entries, positions, hook, error)

    def _run_each(
        self,
        hook: BaseHook,
        entries: list[Entry],
        isolate: bool,  # noqa: ARG002  # each is alone already
        announce: Announce,
    ) -> list[Entry]:
        late: list[tuple[int, int]] = []
        if not self._one_at_a_time:
            announce([])
        kept: list[Entry] = self._awaiter.run(self._overlap(hook, entries, announce, late))
        if late:
            raise CallsLate(late)
        return kept

    def _give_up(self) -> None:
        with suppress(TeardownError):  # the failed setup is what the person must hear of
            self.teardown()

    def _step(self, hook: BaseHook, step: Callable[[HookStore], Any]) -> None:
        """Call `setup` or `teardown` where `execute` runs: what belongs to an event loop must be on the right one."""
        if is_async(hook):
            self._awaiter.run(_called(step, self.store))
        elif inspect.isawaitable(value := step(self.store)):
            self._finish(value, _result(value))

    async def _overlap(
        self, hook: BaseHook, entries: list[Entry], announce: Announce, late: list[tuple[int, int]]
    ) -> list[Entry]:
        parts = await _all([self._alone(hook, entry, announce, late) for entry in entries])
        return [entry for part in parts for entry in part]

    async def _alone(
        self, hook: BaseHook, entry: Entry, announce: Announce, late: list[tuple[int, int]]
    ) -> list[Entry]:
        positions = [entry["position"]]
        async with self._gate:
            announce([entry] if self._one_at_a_time else [])
            limit = asyncio.timeout(self._timeout)
            try:
                async with limit:
                    return _kept([entry], positions, await _result(hook.execute([entry], self.store)))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  # also what cancelled a task of the hook's own
                if isinstance(error, asyncio.CancelledError):
                    announce([])  # it raises when that was the end of the run
                return _fail_all([entry], positions, hook, error)
            finally:
                if limit.expired():
                    late.append((positions[0], positions[0] + 1))

    def _await_batch(self, value: Any, positions: list[int], announce: Announce) -> Any:
        if not self._one_at_a_time:
            announce([])
        return self._finish(value, self._through_gate(value, positions))

    def _finish(self, value: Any, around: Coroutine[Any, Any, Any]) -> Any:
        """What is awaited, and what awaits it."""
        try:
            return self._awaiter.run(around)
        except Interrupted:
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                value.close()  # or Python warns that it was never awaited
            raise

    async def _through_gate(self, value: Any, positions: list[int]) -> Any:
        async with self._gate:
            limit = asyncio.timeout(self._timeout)
            try:
                async with limit:
                    return await value
            finally:
                if limit.expired():
                    raise CallsLate([(min(positions), max(positions) + 1)])

    async def _outcomes(
        self, calls: Sequence[Coroutine[Any, Any, Any]], announce: AnnounceCall, passing: Passing
    ) -> list[Any]:
        return await _all([self._outcome(place, call, announce, passing) for place, call in enumerate(calls)])

    async def _outcome(
        self, place: int, call: Coroutine[Any, Any, Any], announce: AnnounceCall, passing: Passing
    ) -> Any:
        async with self._gate:
            announce(place if self._one_at_a_time else None)
            try:
                return await call
            except GeneratorExit:
                raise
            except passing:
                raise
            except BaseException as error:  # noqa: BLE001  # SystemExit, too, is the outcome of one call
                announce(None)  # it raises when that was the end of the run
                return Raised(error)


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


async def _all(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What they return; when one raises, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except GeneratorExit:  # the loop is gone: nothing can be awaited any more
        raise
    except BaseException:  # the run was aborted, or worse: none of them may outlive this
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


async def _called(step: Callable[[HookStore], Any], store: HookStore) -> Any:
    return await _result(step(store))


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _said(error: BaseException) -> str:
    """With the type of mistakes in the code, whose text alone says little: `KeyError: 'nmae'`."""
    mistakes = (LookupError, AttributeError, TypeError, NameError, ArithmeticError, SystemExit)
    said, name = words(error), type(error).__name__
    return f"{name}: {said}" if isinstance(error, mistakes) and said != name else said


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
