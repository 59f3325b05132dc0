"""Whose devices a run works on: its own, those of a scheduler's workers, or of a few processes."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jax

_APPEARS = 60.0  # seconds for the file of a scheduler that was just started
_REACHED = "30s"  # for the scheduler itself


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_workers(scheduler: str | None, workers: int | None) -> None:
    """Refuse what does not go together, or cannot be without dask."""
    if scheduler is None and workers is None:
        return
    if scheduler is not None and workers is not None:
        raise click.UsageError("Options --scheduler and --workers exclude each other.")
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise click.UsageError(
            "Options --scheduler and --workers need dask.distributed: pip install 'hopjax[dask]'."
        ) from None


@contextlib.contextmanager
def working(
    scheduler: str | None, workers: int | None, devices: list[Any]
) -> Iterator[dict[str, Any]]:
    """Where to work, as arguments of `Study.run` and `tune`; workers end with it."""
    if scheduler is None and workers is None:
        yield {"devices": devices}
        return
    from distributed import Client, LocalCluster  # not at the top: most runs need none

    with contextlib.ExitStack() as stack:
        given: dict[str, Any] = {}
        if workers is not None:
            # Read where JAX is imported, which is before a worker could be told anything.
            os.environ["JAX_NUM_CPU_DEVICES"] = str(max(1, len(devices) // workers))
            # Of XLA: with a thread for each core in every worker they get in each other's way.
            os.environ["NPROC"] = str(max(1, (os.cpu_count() or 1) // workers))
            if cache := jax.config.values["jax_compilation_cache_dir"]:
                os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(cache).resolve())
                os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
            given["address"] = stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,  # pyright: ignore[reportArgumentType]  # none
                    memory_limit=0,  # the system's
                    silence_logs=logging.ERROR,
                )
            )
        elif scheduler is not None and ":" in scheduler:
            given["address"] = scheduler
        else:
            given["scheduler_file"] = _appeared(scheduler)
        try:
            client = Client(**given, timeout=_REACHED, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise click.UsageError(f"Cannot reach the scheduler {scheduler}: {reason}") from error
        yield {"executor": stack.enter_context(client).get_executor()}


def _appeared(scheduler: str | None) -> str:
    """The file of a scheduler, which may be about to be written."""
    assert scheduler is not None
    end = time.monotonic() + _APPEARS
    while not Path(scheduler).is_file():
        if time.monotonic() > end:
            raise click.UsageError(
                "Option --scheduler must be HOST:PORT, or a file that `dask scheduler "
                f"--scheduler-file` writes; there is no file {scheduler}."
            )
        time.sleep(0.1)
    return scheduler
