"""What is called in worker processes: in a module of its own, where they find it."""

import os
import time


def add_one(number: int) -> int:
    """As little as a call can do."""
    return number + 1


def who(_: int) -> int:
    """The process that is asked; slow enough for each to get its share."""
    time.sleep(0.001)
    return os.getpid()


def same(record: bytes) -> bytes:
    """A plain task of a cluster: as little as one can do with a record."""
    return record


class Same:
    """The same as an actor."""

    def same(self, record: bytes) -> bytes:
        """See there."""
        return record
