"""Makes slots of calls and puts them in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final

from manyhands.errors import CallError, UsageError
from manyhands.worker import pickles
from manyhands_zoosync import payload
from manyhands_zoosync.desk import Desk
from manyhands_zoosync.errors import PayloadTooLarge, QueueFull
from manyhands_zoosync.payload import PLACE, REFUSED, Form, pack
from manyhands_zoosync.slots import DATA_BYTES, IDS, SLOT, SLOT_BYTES

_FIRST_ID: Final = 1


class Feeder:
    """For one thread at a time.

    Args:
        desk: where they are put in.
        timeout: seconds that a task may wait for room; None: as long as it takes.
    """

    def __init__(self, desk: Desk, timeout: float | None) -> None:
        self._desk = desk
        self._timeout = timeout
        self._slots: list[bytes] = []
        self.next_id: int = _FIRST_ID

    def add(self, fn_id: int, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """One more call; it is in only after `flush`.

        Raises:
            CallError: the arguments cannot travel.
            QueueFull: there was no room for them in time.
        """
        if not self.next_id % IDS:
            self._begin_ids()
        form, data = _dump_arguments(list(args), kwargs)
        if len(data) > DATA_BYTES:
            form, data = form | Form.ARENA, self._lend(data)
        self._slots.append(SLOT.pack(self.next_id % IDS, fn_id, form, len(data), data))
        self.next_id += 1

    def add_many(self, fn_id: int, calls: Sequence[Sequence[Any]]) -> None:
        """Several calls, which are in when it returns.

        Raises:
            UsageError: one is no sequence.
            ManyhandsError: as `add` and `flush`; those before the one at fault are in.
        """
        if not calls:
            return
        first, end = self.next_id, self.next_id + len(calls)
        try:
            packed = list(map(pack, map(list, calls)))
        except REFUSED:
            packed = []
        if not packed or not first % IDS or first // IDS != end // IDS or max(map(len, packed)) > DATA_BYTES:
            self._add_each(fn_id, calls)
            return
        ids = range(first % IDS, first % IDS + len(calls))
        self._slots += map(SLOT.pack, ids, repeat(fn_id), repeat(0), map(len, packed), packed)
        self.next_id = end
        self.flush()

    def _add_each(self, fn_id: int, calls: Sequence[Sequence[Any]]) -> None:
        try:
            for args in calls:
                self.add(fn_id, _sequence(args), {})
        finally:
            self.flush()

    def flush(self) -> None:
        """Put them in.

        Raises:
            QueueFull: there was no room in time; those that are not in have given up their ids.
            ManyhandsError: there are no workers any more.
        """
        if not self._slots:
            return
        slots = memoryview(b"".join(self._slots))
        self._slots = []
        try:
            self._desk.check()
            slots = slots[self._desk.put(slots) * SLOT_BYTES :]
            while slots:
                count = self._until(partial(self._put, slots), for_slot=True)
                slots = slots[count * SLOT_BYTES :]
        except BaseException:
            self._forget(len(slots) // SLOT_BYTES)
            raise

    def _put(self, slots: memoryview) -> int | None:
        return self._desk.put(slots) or None

    def _forget(self, count: int) -> None:
        self.next_id -= count
        self._desk.take_back(range(self.next_id, self.next_id + count))

    def _begin_ids(self) -> None:
        """The ids of slots begin anew: until no old one is under way, a new one could be taken for it."""
        self.flush()
        self._until(lambda: None if self._desk.outstanding else 1)
        self._desk.base = self.next_id

    def _lend(self, data: bytes) -> bytes:
        if len(data) > self._desk.arena.size:
            raise PayloadTooLarge(
                f"the arguments of a call have {len(data)} bytes, all calls together may have {self._desk.arena.size}: "
                "raise arena_bytes"
            )
        start = self._desk.lend(self.next_id, data)
        if start is None:
            self.flush()  # what is not in will never give anything back
            start = self._until(lambda: self._desk.lend(self.next_id, data))
        return PLACE.pack(start, len(data))

    def _until(self, attempt: Callable[[], int | None], *, for_slot: bool = False) -> int:
        """Try until it gives something."""
        end = None if self._timeout is None else time.monotonic() + self._timeout
        while (found := attempt()) is None:
            self._desk.check()
            if end is not None and time.monotonic() >= end:
                raise QueueFull(f"no room for a task came free within {self._timeout:g} seconds")
            self._desk.pause(end, for_room=for_slot)
        return found


def _sequence(args: Any) -> list[Any]:
    if not isinstance(args, Iterable):
        raise UsageError(
            "each item of enqueue_many must be the sequence of a call's arguments, such as (x,) for one, "
            f"not {type(args).__name__}"
        )
    return list(args)


def _dump_arguments(args: list[Any], kwargs: dict[str, Any]) -> tuple[int, bytes]:
    try:
        if not kwargs:
            return payload.dump(args)
        form, data = payload.dump([args, kwargs])
    except Exception as error:
        message = f"the arguments of a task cannot be sent to a worker process: {pickles.named(error)}"
        raise CallError(message) from error
    return form | Form.NAMED, data
