"""What the shared memory and its task queue raise, in the tree of `manyhands.errors`.

RunError
├── QueueFull           no room for a task came free in time
└── LockTimeout         a lock stayed in other hands; also a TimeoutError
CallError
└── PayloadTooLarge     the arguments of a call are larger than all the room there is for such
UsageError
└── UnknownFunction     no function was registered under this number
"""

from __future__ import annotations

from manyhands.errors import CallError, RunError, UsageError


class QueueFull(RunError):
    """No room for a task came free in time; the task was not put in."""


class LockTimeout(RunError, TimeoutError):
    """A lock stayed in other hands."""


class PayloadTooLarge(CallError):
    """The arguments of a call are larger than all the room there is for such."""


class UnknownFunction(UsageError):
    """No function was registered under this number, or this one was not registered."""
