"""The functions that are mapped: in a module of their own, where worker processes find them."""

import os
import time


def add_one(number: int) -> int:
    """As little as a call can do."""
    return number + 1


def who(_: int) -> int:
    """The process that is asked; slow enough for each to get its share."""
    time.sleep(0.001)
    return os.getpid()
