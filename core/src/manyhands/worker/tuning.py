"""Settings for a process while it does nothing but run chunks."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, Final

# glibc's mallopt(3). Left alone, the allocator hands the heap back after each batch and faults it in again: one page
# fault a row was measured.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_KEEPING: Final = {_M_MMAP_THRESHOLD: 4 * _MIB, _M_TRIM_THRESHOLD: 64 * _MIB, _M_TOP_PAD: 4 * _MIB}
_DEFAULTS: Final = {
    _M_MMAP_THRESHOLD: ("MALLOC_MMAP_THRESHOLD_", 128 * _KIB),
    _M_TRIM_THRESHOLD: ("MALLOC_TRIM_THRESHOLD_", 128 * _KIB),
    _M_TOP_PAD: ("MALLOC_TOP_PAD_", 128 * _KIB),
}
"""Variables of the environment that glibc takes them from, and what it takes without."""


def tune_process() -> Callable[[], None]:
    """Freeze what is loaded, collect rarely, keep freed memory. Changes the whole process.

    Returns:
        What undoes it, for a process that goes on to something else. glibc's thresholds do not adapt themselves again.
    """
    threshold = gc.get_threshold()
    gc.freeze()  # what is garbage by now is little, and to look for it takes long
    gc.set_threshold(20_000, 50, 1_000)
    libc = _glibc()
    if libc is not None:
        _set(libc, _KEEPING)

    def restore() -> None:
        gc.set_threshold(*threshold)
        gc.unfreeze()
        if libc is not None:
            _set(libc, {option: _default(*of) for option, of in _DEFAULTS.items()})
            libc.malloc_trim(0)

    return restore


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _set(libc: Any, values: dict[int, int]) -> None:
    for option, value in values.items():
        libc.mallopt(option, value)


def _default(variable: str, otherwise: int) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else otherwise
