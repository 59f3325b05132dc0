"""A study that compiles and runs fast, for the tests here and in processes of their own."""

import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import quickly  # noqa: F401  # as these tests compile
import xarray  # noqa: F401  # so that processes forked from here have it
from executors import Inline
from resident import most_resident, resident

import hopjax as hj
import hopjax.engine.workers
from hopjax.engine.task import Answer
from hopjax.store.folder import Store

NUM_NEURONS = 8
MEMORIES = np.array([[1.0] * 8, [1.0] * 4 + [-1.0] * 4])
CRITERION = hj.Criterion(0.6, mixed=0.2, settle=0.2, since=0.3, mirror=False)
CHUNK = 4


def trial(key, noise, weights, lost):
    """Two memories shown at once; a share of the trials starts from infinity."""
    numbers = jax.random.uniform(key, (1 + NUM_NEURONS,))
    start = 4 * numbers[1:] - 2
    memories = jnp.asarray(MEMORIES)
    return hj.Trial(
        hj.IDPHopfield(memories),
        hj.mixture(memories, jnp.asarray(weights)),
        jnp.where(numbers[0] < lost, jnp.inf, start),
        hj.AdditiveNoise(noise, "two_point"),
        target=0,
    )


def first_entries(number):
    def measure(trial, trajectory):
        return trajectory.final_state[:number]

    return measure


def raw(trial, trajectory):
    """What the dataset's statistics are made of."""
    return {
        "overlaps": trajectory.overlaps,
        "start": trial.x0,
        "ok": trajectory.ok,
        "strength": trial.noise.strength,
    }


class Pause(hj.AbstractReduction):
    """Takes a while on the host, and keeps next to nothing."""

    def measure(self, trial, trajectory):
        return trajectory.ok

    def summarise(self, measured, ok):
        time.sleep(0.1)
        return {"number": np.asarray(len(measured))}

    def merge(self, first, second):
        return {"number": first["number"] + second["number"]}

    def finish(self, total):
        return total


class Heavy(hj.AbstractReduction):
    """A quarter of a megabyte of every chunk, which is not kept."""

    def measure(self, trial, trajectory):
        return trajectory.ok

    def summarise(self, measured, ok):
        return {"load": np.random.default_rng(0).integers(256, size=250_000, dtype=np.uint8)}

    def merge(self, first, second):
        return first

    def finish(self, total):
        return {"load": total["load"][:1]}


REDUCTIONS = {"state": hj.Moments(first_entries(NUM_NEURONS)), "raw": hj.PerTrial(raw)}
GRID: dict[str, Any] = {
    "noise": [0.5, 1.0, 2.0],
    "weights": [(6.0, 0.5), (0.5, 1.5)],
    "lost": [0.0],
}


def study(sweep: Any = None, **changes: Any) -> hj.Study:
    settings: dict[str, Any] = {
        "trial": trial,
        "trials": 10,  # not a whole number of chunks
        "key": jax.random.key(5),
        "t1": 1.0,
        "dt": 0.1,
        "criterion": CRITERION,
        "reductions": REDUCTIONS,
        "chunk": CHUNK,
    }
    settings |= changes
    return hj.Study(settings.pop("trial"), GRID if sweep is None else sweep, **settings)


def slow_study() -> hj.Study:
    """Six cells of ten chunks, which take their time on the host."""
    return study(trials=40, reductions=REDUCTIONS | {"pause": Pause()})


# What follows runs in processes of its own.


def begin(devices: int, output: Path) -> None:
    """As in these tests, but for the number of devices; what is printed goes to a file."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_num_cpu_devices", devices)


def run(
    folder: Path,
    trials: int,
    devices: int,
    output: Path,
    pause: float = 0.0,
    limit: int = 0,
) -> None:
    """Run the study.

    A pause before each file is in place, up to `pause` seconds, is when it can be killed. No file
    may grow beyond `limit` bytes.
    """
    begin(devices, output)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if pause:
        fsync, luck = os.fsync, random.Random(1)

        def slow(file: int) -> None:
            time.sleep(pause * luck.random())
            fsync(file)

        os.fsync = slow
    try:
        study(trials=trials).run(folder)
    except hj.StudyError as error:
        print(error, flush=True)
        sys.exit(2)


def run_on(folder: Path, scheduler: Path, gate: Path, output: Path) -> None:
    """Run the slow study by the workers of a scheduler, whose tasks are single chunks.

    No more of them are saved than a file has bytes.
    """
    from distributed import Client

    begin(1, output)
    hopjax.engine.workers._SECONDS = 0.0
    write = Store.write_chunk

    def write_later(self: Store, path: Path, parts: Any, program: str) -> None:
        while len([*folder.glob("chunks/*/[0-9]*")]) >= gate.stat().st_size:
            time.sleep(0.01)
        write(self, path, parts, program)

    Store.write_chunk = write_later
    try:
        with Client(scheduler_file=str(scheduler), set_as_default=False) as client:
            slow_study().run(folder, executor=client.get_executor())
    except hj.WorkerError as error:
        print(error, flush=True)
        os._exit(2)  # the client may have much to say about its scheduler


def weigh(folder: Path, output: Path) -> None:
    """Print what memory a run has after 40 chunks, and at most until all 160 are merged.

    Then what it has after one and after forty chunks whose answers something holds on to.
    """
    begin(1, output)
    hopjax.engine.workers._SECONDS = 0.0
    sizes: list[int] = []
    held: list[Any] = []

    def look(answer: Answer) -> Answer:
        sizes.append(resident())
        return answer

    def hold(answer: Answer) -> Answer:
        held.append(answer)
        return look(answer)

    def run(chunks: int, change: Any) -> None:
        """Go on until so many chunks are there."""
        sizes.clear()
        sweep = {"noise": [1.0], "weights": [(6.0, 0.5)], "lost": [0.0]}
        heavy = study(sweep, trials=chunks * CHUNK, reductions={"heavy": Heavy()})
        heavy.run(folder, executor=Inline(change))

    run(10, look)  # which compiles
    with most_resident() as most:
        run(170, look)
    assert len(sizes) == 160  # each was a task
    print(sizes[39], most[0])
    run(210, hold)
    print(sizes[0], sizes[39])


def hold(folder: Path, ready: Path) -> None:
    """Hold the lock of a folder until killed."""
    with Store(folder).locked():
        ready.touch()
        time.sleep(600)
