"""The tasks that a worker has claimed, in its own memory."""

from __future__ import annotations

from collections.abc import Iterator

from manyhands_zoosync.slots import SLOT, SLOT_BYTES

Task = tuple[int, int, int, int, bytes]
"""`tsk_id`, `fn_id`, form, size and data of a slot."""

_WORDS: int = SLOT_BYTES // 4


class LocalTaskQueue:
    """A batch, which nobody else can see or change.

    Args:
        slots: the tasks as they lie in shared memory, copied.
    """

    def __init__(self, slots: bytes) -> None:
        self._slots = slots
        self._ids = memoryview(slots).cast("I")

    def __len__(self) -> int:
        return len(self._slots) // SLOT_BYTES

    def __iter__(self) -> Iterator[Task]:
        """The tasks, in the order in which they were put in."""
        return SLOT.iter_unpack(self._slots)

    def ids(self, first: int, end: int) -> bytes:
        """The `tsk_id` of some, 4 bytes each."""
        return self._ids[first * _WORDS : end * _WORDS : _WORDS].tobytes()
