"""Arguments and results as bytes, exactly as they were.

What is made of None, booleans, integers of 64 bits, floats, strings, bytes, lists and dicts travels as msgpack.
Everything else, and whatever only derives from these types, is pickled, so that it arrives as what it is; the memory
through which it goes is open to no other user. One thing is changed: a bytearray arrives as bytes.
"""

from __future__ import annotations

from enum import IntFlag
from functools import partial
from struct import Struct
from typing import Any, Final

import msgpack

from manyhands.worker import pickles

PLACE: Final = Struct("=QQ")
"""Where in the arena, and how many bytes."""


class Form(IntFlag):
    """How bytes are to be read; 0: the list of arguments as msgpack, in the slot.

    `ARENA`: they are a `PLACE`, where the rest is. `NAMED`: they are a pair: a list, and a dict by name.
    """

    PICKLED = 1
    NAMED = 2
    ARENA = 4


PICKLED: Final = int(Form.PICKLED)

unpack: Final = partial(msgpack.unpackb, strict_map_key=False, unicode_errors="surrogatepass")
"""`load` of form 0, for who knows that it is."""

# Not the codec of records: that gives back what derives from a type as the type itself.
pack: Final = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass").pack
"""`dump` in form 0, or one of `REFUSED`."""

REFUSED: Final = (TypeError, ValueError, OverflowError, RecursionError)


def dump(value: Any) -> tuple[int, bytes]:
    """The form, 0 or `PICKLED`, and the bytes.

    Raises:
        Exception: it cannot be pickled; whatever its own code raises, too.
    """
    try:
        packed: bytes = pack(value)
    except REFUSED:
        return PICKLED, pickles.dumps(value)
    return 0, packed


def load(form: int, data: bytes | memoryview) -> Any:
    """The value again.

    Raises:
        Exception: it cannot be unpickled here; whatever its own code raises, too.
    """
    return pickles.loads(data) if form & PICKLED else unpack(data)
