"""Files that are whole or absent, and what the operating system refuses, as one line."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class StudyError(RuntimeError):
    """A study cannot go on, for a reason outside its own definition; nothing was destroyed."""


class Damaged(Exception):
    """A chunk file cannot be trusted."""


@contextlib.contextmanager
def plainly(doing: str, kinds: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """What the operating system refuses, as one line; `kinds` of errors tell of it."""
    try:
        yield
    except kinds as error:
        raise StudyError(f"Cannot {doing}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Why, in the system's words, which HDF5 hides in many more."""
    number = re.search(r"errno = (\d+)", str(error))
    if number is not None:
        return os.strerror(int(number[1]))
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]


@contextlib.contextmanager
def replacing(path: Path, kinds: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """A path to write to, whose file then takes the place of another one, or is removed.

    Args:
        path: the file that is to be replaced, whose folder is made if need be.
        kinds: as for `plainly`.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with plainly(f"save {path} (all chunks that were finished before are safe)", kinds):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Replace a file by what `write` writes into an open one."""
    with replacing(path) as aside, aside.open("wb") as file:
        write(file)


def reserve(path: Path, size: int) -> None:
    """Make a file of so many bytes, or fail as the disk, a quota or a limit has no room for it.

    HDF5 brings the process down where it cannot write all of a file, so this is asked before.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
