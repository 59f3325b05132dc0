"""How much memory a process has."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_STATM = Path("/proc/self/statm")
KNOWN = _STATM.exists()  # on Linux


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def most_resident() -> Iterator[list[int]]:
    """A list with one number: the most that there has been inside."""
    most, ended = [resident()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    ended.set()
    thread.join()
