"""Settings for a process that does nothing but run chunks. Not for the process of somebody else."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

# glibc's mallopt(3). Left alone, the allocator hands the heap back after each batch and faults it in again: one page
# fault a row was measured.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_MIB: Final = 1 << 20


def tune_process() -> None:
    """Freeze what is loaded, collect rarely, keep freed memory. Changes the whole process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)
    if sys.platform == "linux":
        _keep_heap()


def _keep_heap() -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return
    for option, value in ((_M_MMAP_THRESHOLD, 4 * _MIB), (_M_TRIM_THRESHOLD, 64 * _MIB), (_M_TOP_PAD, 4 * _MIB)):
        mallopt(option, value)
