"""Hooks: the person's own code around validation."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from enum import IntEnum
from typing import Any, NoReturn, Self

from manyhands.errors import HookStoreLocked, UsageError
from manyhands.records import Entry


class HookPriority(IntEnum):
    """Names for the usual priorities; a lower one runs earlier."""

    VERY_HIGH = 0
    HIGH = 25
    NORMAL = 50
    LOW = 75
    VERY_LOW = 100


class HookStore(dict[str, Any]):
    """What the hooks of one worker share: filled in `setup`, read-only while hooks execute.

    Each worker has its own, so no backend needs a lock around it. The values themselves stay as mutable as they are.
    """

    __slots__ = ("_locked",)

    def __init__(self) -> None:
        super().__init__()
        self._locked = False

    def lock(self) -> None:
        """Make the store read-only; the worker does so after the last `setup`."""
        self._locked = True

    def unlock(self) -> None:
        """Make it writable again, for `teardown`."""
        self._locked = False

    def __setitem__(self, key: str, value: Any) -> None:
        if self._locked:
            self._refuse()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        if self._locked:
            self._refuse()
        super().__delitem__(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As `dict.setdefault`; on a locked store only for a key that is there."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As `dict.update`."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]  # dict's overloads return Self
        self.update(other)
        return self

    def pop(self, key: str, *default: Any) -> Any:
        """As `dict.pop`."""
        if self._locked:
            self._refuse()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """As `dict.popitem`."""
        if self._locked:
            self._refuse()
        return super().popitem()

    def clear(self) -> None:
        """As `dict.clear`."""
        if self._locked:
            self._refuse()
        super().clear()

    def _refuse(self) -> NoReturn:
        raise HookStoreLocked("the hook store is read-only while hooks execute; fill it in setup()")


class BaseHook:
    """A step before or after validation. Override `execute`, plain or `async def`.

    Class attributes, also settable on an instance:
        priority: lower runs earlier; equal ones in the order of registration.
        replay: the hook may run again on the same records. When a batch fails or its worker dies and every hook so
            far allows it, the records run again one by one, so that only the culprit is rejected. Set it to False
            where `execute` has effects that must not be repeated: the whole batch is then rejected.
    """

    priority: int = HookPriority.NORMAL
    replay: bool = True

    def __init__(self, priority: int = HookPriority.NORMAL) -> None:
        self.priority = priority

    def setup(self, store: HookStore) -> Awaitable[None] | None:
        """Called once per worker before its first chunk."""

    def execute(self, entries: list[Entry], store: HookStore) -> list[Entry] | Awaitable[list[Entry] | None] | None:
        """Called for each batch; an `async def` one for each record.

        Args:
            entries: the batch; post-validation hooks see only validated entries. Their `validated_data` holds Python
                values and is written as they leave it: serializers that a schema has for JSON alone do not act on it.
            store: the worker's store, read-only.

        Returns:
            None to keep the entries as they are now, or the list of those to keep, in any order: entries missing
            from it are dropped. An entry that was not given, or is in the list twice, is an error.
        """
        raise NotImplementedError

    def teardown(self, store: HookStore) -> Awaitable[None] | None:
        """Called once per worker after its last chunk, in reverse order of `setup`."""


def check_hook(hook: object) -> BaseHook:
    """The hook, if it is one.

    Raises:
        UsageError: it is a class, is no `BaseHook`, does not say what to execute or when.
    """
    if isinstance(hook, type):
        raise UsageError(f"{hook.__name__} is a class; pass an instance: {hook.__name__}()")
    if not isinstance(hook, BaseHook):
        raise UsageError(f"{hook!r} is no hook: derive its class from manyhands.BaseHook")
    if type(hook).execute is BaseHook.execute:
        raise UsageError(f"hook {type(hook).__name__} does not define execute(entries, store)")
    try:
        inspect.signature(hook.execute).bind([], HookStore())
    except TypeError as error:
        raise UsageError(f"hook {type(hook).__name__} must define execute(entries, store): {error}") from error
    if not isinstance(hook.priority, int | float):
        raise UsageError(f"priority of hook {type(hook).__name__} must be a number, not {hook.priority!r}")
    return hook


def in_order(hooks: list[BaseHook]) -> list[BaseHook]:
    """The hooks by priority, equal ones as registered."""
    return sorted(hooks, key=lambda hook: hook.priority)
