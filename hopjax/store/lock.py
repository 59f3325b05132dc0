"""The lock of a folder: one run at a time, and who that is."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock

from hopjax.store.files import StudyError, plainly

_LOCK, _HOLDER = "lock", "holder"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if need be and hold its lock, which vanishes with this process.

    Who holds it stands beside it: where a file is locked, Windows lets no one read it.

    Raises:
        StudyError: if another run holds it, if the file system has no locks, or if the folder
            cannot be written.
    """
    with plainly(f"make the folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    # A soft lock, the mere presence of a file, would outlive a run that is killed.
    lock = filelock.FileLock(folder / _LOCK, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StudyError(
            f"The folder {folder} is in use by {_holder(folder)}: wait for it, or take another "
            "folder."
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StudyError(
                f"The folder {folder} is on a file system without locks ({error.strerror}), which "
                "keep two runs apart: take a folder on another one."
            ) from error
        with plainly(f"write into the folder {folder}"):
            raise
    holder = folder / _HOLDER
    try:
        with plainly(f"write into the folder {folder}"):
            for pattern in (".*.tmp", "chunks/*/.*.tmp"):  # of a run that was killed
                for stale in folder.glob(pattern):
                    stale.unlink()
            since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _holder(folder: Path) -> str:
    """Who holds the lock, to print."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if line := (folder / _HOLDER).read_text().strip():
            return line
    return "another process"
