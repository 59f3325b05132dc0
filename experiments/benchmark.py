"""How fast, and how large: measured side by side in one run, as ratios.

`python -m experiments.benchmark [--json FILE]`. What is compared runs in turn, pair by pair, so
that a machine whose speed wanders slows both; a bar is missed only if the whole 95% interval of
the median ratio lies beyond it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import hopjax as hj
from experiments.common import FIGURES, versions, write_json

NUM_MEMORIES = 10
DT = 0.01
PAIRS = 9
CHUNK = 128
TRIALS = 10_000
STEPS = {256: 1000, 1024: 300}  # for each N; a chunk's overhead does not grow with them
MEMORY_TRIALS = (1_000, 10_000, 100_000)


def setting(num_neurons: int, law: str) -> hj.Trial:
    """Protocol A's network with one input, the same memories in all trials."""
    memories = hj.random_memories(
        jax.random.key(0), num_memories=NUM_MEMORIES, num_neurons=num_neurons
    )
    weights = jnp.full(NUM_MEMORIES, 8.0).at[0].set(25.0)
    x0 = jax.random.normal(jax.random.key(1), (num_neurons,))
    noise = hj.AdditiveNoise(8.0, law)
    return hj.Trial(hj.IDPHopfield(memories), hj.mixture(memories, weights), x0, noise)


def ensemble_and_bare(trial: hj.Trial, trials: int, steps: int) -> tuple[Callable, Callable]:
    """The ensemble, and what a user would write: chunks of jit(vmap(solve)), results kept."""
    key, t1 = jax.random.key(2), steps * DT

    @jax.jit
    @jax.vmap
    def solve(number):
        _, noise_key = jax.random.split(jax.random.fold_in(key, number))
        trajectory = hj.solve(
            trial.model,
            trial.inputs,
            trial.x0,
            t1=t1,
            dt=DT,
            noise=trial.noise,
            key=noise_key,
            throw=False,
        )
        return trajectory.overlaps[:, 0], trajectory.final_state

    def bare() -> np.ndarray:
        starts = range(0, trials, CHUNK)
        chunks = [np.asarray(solve(start + np.arange(CHUNK))[0]) for start in starts]
        return np.abs(np.concatenate(chunks)[:trials]).mean(axis=0)

    def ensemble() -> np.ndarray:
        found = hj.solve_ensemble(
            trial, trials=trials, key=key, t1=t1, dt=DT, chunk=CHUNK, progress=False
        )
        return found.overlap_mean

    return ensemble, bare


def compare(first: Callable, second: Callable, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of both, run in turn; compiled before."""
    np.testing.assert_allclose(first(), second(), atol=1e-4)  # the same trials
    seconds = np.empty((pairs, 2))
    for pair in range(pairs):
        for place, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            seconds[pair, place] = time.perf_counter() - start
    return seconds[:, 0], seconds[:, 1]


def bar(name: str, ratios: np.ndarray, most: float) -> dict[str, Any]:
    """A median ratio with its bootstrap 95% interval, against the most it may be."""
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {
        "name": name,
        "ratio": round(float(np.median(ratios)), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "bar": most,
        "holds": bool(low <= most),
    }


def measure_ensembles() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time per trial of ensembles and of bare solves, and their ratios."""
    rows, bars = [], []
    law = "two_point"  # the cheapest solve, so the largest share of overhead
    for num_neurons, steps in STEPS.items():
        ensemble, bare = ensemble_and_bare(setting(num_neurons, law), TRIALS, steps)
        seconds = compare(ensemble, bare, PAIRS)
        for name, values in zip(("ensemble", "bare vmap"), seconds, strict=True):
            ms = 1e3 * float(np.median(values)) / TRIALS * (1000 / steps)
            rows.append(
                {"name": name, "n": num_neurons, "batch": CHUNK, "law": law, "ms": round(ms, 4)}
            )
        name = f"ensemble / bare vmap, {TRIALS} trials, N = {num_neurons}, {steps} steps"
        bars.append(bar(name, seconds[0] / seconds[1], 1.05))
    return rows, bars


def measure_memory() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Peak memory of ensembles of more and more trials, each in a process of its own."""
    rows = []
    for trials in MEMORY_TRIALS:
        command = [sys.executable, "-m", "experiments.benchmark", "--memory-of", str(trials)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append({"name": "peak memory", "trials": trials, "mib": round(float(printed), 1)})
    growth = rows[-1]["mib"] / rows[0]["mib"]
    name = f"peak memory, {MEMORY_TRIALS[-1]} trials / {MEMORY_TRIALS[0]}"
    return rows, [bar(name, np.array([growth]), 1.1)]


def peak_memory(trials: int) -> float:
    """MiB that this process took at most while it solved an ensemble."""
    hj.solve_ensemble(setting(64, "two_point"), trials=trials, key=jax.random.key(0), t1=1.0, dt=DT)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)  # there in bytes


def main() -> None:
    parser = argparse.ArgumentParser(description="Time hopjax against bare solves.")
    parser.add_argument("--json", type=Path, default=FIGURES / "benchmark.json")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(peak_memory(arguments.memory_of))
        return
    rows, bars = measure_ensembles()
    more_rows, more_bars = measure_memory()
    rows, bars = rows + more_rows, bars + more_bars
    for row in rows:
        print(json.dumps(row))
    print()
    width = max(len(entry["name"]) for entry in bars)
    for entry in bars:
        print(
            f"{entry['name']:{width}}  {entry['ratio']:.3f} [{entry['low']:.3f}, "
            f"{entry['high']:.3f}]  at most {entry['bar']:g}: {'yes' if entry['holds'] else 'NO'}"
        )
    write_json(arguments.json, {"rows": rows, "bars": bars, "versions": versions()})


if __name__ == "__main__":
    main()
