"""What the worker processes of the tests do. Each is called with the descriptors that it inherits."""

# ruff: noqa: T201  # they print as hooks do

from __future__ import annotations

import atexit
import ctypes
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def nothing(fds: list[int]) -> None:
    pass


def exit_3(fds: list[int]) -> None:
    sys.exit(3)


def exit_none(fds: list[int]) -> None:
    sys.exit()


def exit_minus_1(fds: list[int]) -> None:
    sys.exit(-1)


def exit_words(fds: list[int]) -> None:
    sys.exit("so it ends")


def exit_at_once(fds: list[int]) -> None:
    os._exit(7)


def fail(fds: list[int]) -> None:
    raise ValueError("something is wrong")


def kill_itself(fds: list[int]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(fds: list[int]) -> None:
    _leave_no_core()
    ctypes.string_at(0)


def abort(fds: list[int]) -> None:
    _leave_no_core()
    os.abort()


def _leave_no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def wait(fds: list[int]) -> None:
    """Say that it is there, and run until the other end of the second pipe is closed."""
    os.write(fds[0], b"!")
    os.read(fds[1], 1)


def idle(fds: list[int]) -> None:
    os.write(fds[0], b"!")
    time.sleep(600)


def busy(fds: list[int]) -> None:
    os.write(fds[0], b"!")
    while True:
        pass


def sums(fds: list[int]) -> None:
    """Hold the interpreter lock, as C code may."""
    os.write(fds[0], b"!")
    sum(range(10**15))


def matches(fds: list[int]) -> None:
    os.write(fds[0], b"!")
    re.match("(a+)+$", "a" * 60 + "b")


def floods(fds: list[int]) -> None:
    """Write into a pipe that nobody reads."""
    os.write(fds[0], b"!")
    while True:
        os.write(1, b"x" * 4096)


def ignores_signals(fds: list[int]) -> None:
    """Run on whatever can be refused comes."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    os.write(fds[0], b"!")
    while True:
        time.sleep(600)


def nothing_forever(fds: list[int]) -> None:
    time.sleep(600)


def describe(fds: list[int]) -> None:
    """Write into the pipe what surrounds this process."""
    with os.fdopen(fds[0], "w") as pipe:
        json.dump(_surroundings(), pipe)


def _surroundings() -> dict[str, Any]:
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=False).stdout
    return {
        "directory": _directory(),
        "environment": dict(os.environ),
        "zone": time.tzname[0],
        "path": sys.path,
        "argv": sys.argv,
        "debug": __debug__,
        "flags": [sys.flags.utf8_mode, sys.warnoptions],
        "blocked": list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "signals of its children": dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig")),
        "open": _open_files(),
        "random": os.urandom(1).hex() and __import__("random").random(),
        "modules": sorted(sys.modules),
        "threads": threading.active_count(),
    }


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return None


def _open_files() -> dict[int, list[Any]]:
    """Number: target, may be written, is handed on to programs that this process starts."""
    found = {}
    for link in Path("/dev/fd").iterdir():
        with suppress(OSError):  # that of the folder itself
            number = int(link.name)
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
            found[number] = [str(link.readlink()), mode != os.O_RDONLY, os.get_inheritable(number)]
    return found


def prints(fds: list[int]) -> None:
    """Write in every way there is, and wait after the first line."""
    print("by print, zwölf, \udc80")
    os.read(fds[0], 1)
    sys.stderr.write("to stderr\n")
    sys.__stderr__.write("to the first stderr\n")
    sys.stdout.buffer.write(b"as bytes\n")
    os.write(1, b"by the system\n")
    os.write(2, b"by the system to 2\n")
    ctypes.CDLL(None).puts(b"by the C library")
    subprocess.run(["echo", "by a program"], check=True)
    print("without an end", end="")


def ends_slowly(fds: list[int]) -> None:
    atexit.register(print, "at exit")
    begun = threading.Event()
    threading.Thread(target=lambda: (begun.wait(), time.sleep(0.05), print("a thread"))).start()
    begun.set()


def leaves_a_child(fds: list[int]) -> None:
    """Leave a process behind that holds stdout and every descriptor that it can."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    print(pid, flush=True)
