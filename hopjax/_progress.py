"""Progress on stderr: a bar on a terminal, and a line every half minute anywhere else."""

import contextlib
import sys
import threading
import time
from typing import Any

from tqdm import tqdm

EVERY = 30.0  # seconds
_LINE = "{desc}: {percentage:.0f}% ({n_fmt} of {total_fmt} {unit}s{postfix}), {rate_fmt}, "


class Lines:
    """What tqdm would show, as lines of a log, as far as it is used here.

    The lines come from a thread: what is waited for may take longer than they are apart.
    """

    def __init__(self, total: int, label: str, done: int, unit: str):
        """Nothing is printed before half a minute is over."""
        self.done = done
        self._about: dict[str, Any] = {"total": total, "initial": done, "unit": unit}
        self._about |= {"prefix": label, "bar_format": _LINE + "{remaining} left"}
        self._postfix, self._began, self.printed = "", time.monotonic(), False
        self._ended = threading.Event()
        threading.Thread(target=self._print_often, daemon=True).start()

    def update(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number

    def set_postfix(self, refresh: bool = True, **values: Any) -> None:
        """Say this beside, from the next line on."""
        del refresh
        self._postfix = ", ".join(f"{name} {value}" for name, value in values.items())

    def close(self) -> None:
        """Print no more lines; at last how far it came, if there was any line."""
        if not self._ended.is_set():
            self._ended.set()
            if self.printed:
                self._print()

    def __enter__(self) -> "Lines":
        """Count what is done inside."""
        return self

    def __exit__(self, *error: object) -> None:
        """Print no more lines."""
        self.close()

    def _print_often(self) -> None:
        while not self._ended.wait(EVERY):
            self.printed = True
            self._print()

    def _print(self) -> None:
        elapsed = time.monotonic() - self._began
        line = tqdm.format_meter(self.done, elapsed=elapsed, postfix=self._postfix, **self._about)
        with contextlib.suppress(OSError, ValueError):  # a log that was closed
            print(*line.split(), file=sys.stderr, flush=True)  # tqdm pads numbers


def progress(
    total: int, label: str, show: bool, done: int, unit: str, delay: float
) -> tqdm | Lines:
    """A bar, or lines where stderr is no terminal; nothing where it shall not be shown.

    A bar of what is over before `delay`, in seconds, is not shown.
    """
    if show and not sys.stderr.isatty():
        return Lines(total, label, done, unit)
    return tqdm(total=total, initial=done, desc=label, unit=unit, delay=delay, disable=not show)
