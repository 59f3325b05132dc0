"""A tuning that compiles and runs fast, for the tests here and in processes of their own."""

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax  # noqa: F401  # so that processes forked from here have it
import xarray  # noqa: F401
from small_study import begin

import hopjax as hj
import hopjax.tuning.descent

NUM_NEURONS = 8
MEMORIES = np.array([[1.0] * 8, [1.0] * 4 + [-1.0] * 4])
CRITERION = hj.Criterion(0.6, mixed=0.2, settle=0.3, mirror=False)  # the last four times


def variant(noise: float = 1.5, lost: float = 0.0, limit: float = np.inf) -> eqx.Partial:
    """The trial with these numbers, which compiles once for all of them."""
    numbers = {"noise": noise, "lost": lost, "limit": limit}
    return eqx.Partial(trial, **{name: jnp.asarray(value) for name, value in numbers.items()})


def settings() -> dict[str, Any]:
    """The arguments of `tune`; not made on import, as what uses JAX cannot be forked."""
    return {
        "trial": variant(),
        "parameters": {"strength": 0.8},
        "loss": hj.OverlapLoss(goal=0.6),
        "key": jax.random.key(5),
        "t1": 1.0,
        "dt": 0.1,
        "save_every": 0.1,
        "trials": 12,
        "chunk": 4,  # three chunks, for two devices
        "steps": 24,
        "window": 5,
        "verify": 16,
        "criterion": CRITERION,
        "devices": jax.local_devices()[:1],
    }


def trial(key, strength, noise, lost=0.0, limit=np.inf):
    """Two memories, shown at once; from infinity in a share of trials, and above a limit."""
    numbers = jax.random.uniform(key, (1 + NUM_NEURONS,))
    memories = jnp.asarray(MEMORIES)
    gone = (numbers[0] < lost) | (strength > limit)
    return hj.Trial(
        hj.IDPHopfield(memories, hj.Tanh(3.0)),
        hj.mixture(memories, strength * jnp.array([2.0, 0.5])),
        jnp.where(gone, jnp.inf, 1.0 + numbers[1:]),
        hj.AdditiveNoise(noise, "two_point"),
    )


def tune(**changes: Any) -> hj.Tuning:
    arguments = settings() | changes
    return hj.tune(arguments.pop("trial"), arguments.pop("parameters"), **arguments)


# What follows runs in processes of its own.


def run(folder: Path, devices: int, output: Path, pause: float = 0.0) -> None:
    """Tune in a folder, saving after every step; a pause before each file is in place."""
    begin(devices, output)
    hopjax.tuning.descent._SAVE_EVERY = 0.0
    if pause:
        fsync, luck = os.fsync, random.Random(1)

        def slow(file: int) -> None:
            time.sleep(pause * luck.random())
            fsync(file)

        os.fsync = slow
    try:
        tune(folder=folder, devices=jax.local_devices())
    except hj.StudyError as error:
        print(error, flush=True)
        sys.exit(2)
