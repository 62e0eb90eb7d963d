"""A task as it lies in shared memory.

    tsk_id 4 | fn_id 4 | payload 120: form 1, size 1, data 118

`form` says how the data are to be read, see `manyhands_zoosync.payload`; `size` is how many of them there are.
"""

from __future__ import annotations

import ctypes
from struct import Struct
from typing import Final


class TaskSlot128(ctypes.Structure):
    """One slot of the queue: 128 bytes, two lines of a processor's cache."""

    _fields_ = (("tsk_id", ctypes.c_uint32), ("fn_id", ctypes.c_uint32), ("payload", ctypes.c_uint8 * 120))


SLOT: Final = Struct("=IIBB118s")
"""The same in five parts, of which Python packs and unpacks many in a row."""

SLOT_BYTES: Final = ctypes.sizeof(TaskSlot128)
DATA_BYTES: Final = 118

IDS: Final = 1 << 32
"""Ids in a slot have 32 bits, those that people see have no end; see `manyhands_zoosync.desk`."""
