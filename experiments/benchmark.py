"""How fast: hopjax, the same by other means, and what nothing can be faster than, side by side.

`python -m experiments.benchmark [--full] [--json FILE]`

What is compared runs in turn, round by round, so that a machine whose speed wanders slows all
alike; a ratio is the median of the rounds with its bootstrap 95% interval, and a bar is missed
only if the whole interval lies beyond it. Everything is compiled before it is timed (compile times
are rows of their own) and must agree in distribution with hopjax.

The floor is the same network without noise, as a `lax.scan`. On paper, per neuron and step of one
trajectory with P memories: 4P operations in the two thin products and about 60 more (tanh 30,
update 6; signs add 5, normals 130, of which Threefry 75); 12 bytes that must move if nothing stays
in a cache (the state is read for its overlaps, read again for the update, and written). A CPU core
keeps a chunk's state in its cache and is bound by operations; a GPU could be bound by the bytes,
but waits for kernels to start and for its host.

How hopjax came to draw normal numbers as it does. Its words are those of Threefry, written out, so
that the compiler draws, transforms and adds them in one pass over the neurons; `jax.random.bits`
loops over rounds and arrays. The inverse error function of the same words lost to pairs of numbers
on a circle (Box-Muller) with polynomials for logarithm and sine; both numbers of a pair computed
where they are used, which repeats the radius, beat keeping them. Words of 16 bits were 15%
faster still, but end at 4.85 standard deviations. Signs cost next to nothing: 32 share a word.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import stats
from tqdm import tqdm

import hopjax as hj
from experiments import competitors, drawing
from experiments.common import FIGURES, add_drawing_options, save_picture, use_all_cores
from experiments.competitors import (
    CHUNK,
    DT,
    LONG_CHUNK,
    LONG_DT,
    Problem,
    Solve,
    on_all_devices,
)
from experiments.numbers import read_json, versions, write_json
from hopjax import plotting
from hopjax.store import Store, batch_size

ROUNDS = 9
SIZES, BATCHES = (256, 1024, 4096), (64, 512, 4096)
LAWS = ("two_point", "gaussian")
WORK = 2**19  # neurons times trajectories that are timed over 1000 steps, and above it over 100
FEW, SHORT = 16, 100  # trajectories and steps of what is much slower
FALSE_ALARM = 1e-4  # of each test of agreement

OVERHEAD_TRIALS = 2048
MEMORY_TRIALS = (1_000, 10_000, 100_000)
MERGED_CHUNKS, MERGED_TRIALS = (1_000, 10_000, 100_000), 128
GRADIENT = Problem(1024, 64, "two_point")
CLUSTER_TRIALS, CLUSTER_ROUNDS = 2**16, 5  # a quarter of a minute each
# What XLA may record as one graph: by default all of these but loops and branches.
GRAPHS = {
    "XLA_FLAGS": "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,"
    "DYNAMIC_SLICE_FUSION,WHILE,CONDITIONAL --xla_gpu_graph_min_graph_size=1"
}
TASK_ROUNDS = 3
FIRST_SOLVES = 3  # processes in which the first solve is timed

Row = dict[str, Any]


class Timed(NamedTuple):
    """Something to run."""

    name: str
    problem: Problem
    solve: Callable[[], Any]
    first_call: float | None = None  # seconds: compiles, where something is compiled


def in_turn(*timed: Timed, rounds: int = ROUNDS) -> dict[str, np.ndarray]:
    """Milliseconds per 1000 steps of a trajectory, in each round; the order turns around."""
    for one in timed:
        one.solve()
    found: dict[str, list[float]] = {one.name: [] for one in timed}
    for number in range(rounds):
        for one in timed[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            one.solve()
            found[one.name].append(1e3 * (time.perf_counter() - start) / one.problem.unit)
    return {name: np.array(values) for name, values in found.items()}


def interval(values: np.ndarray) -> dict[str, float]:
    """The median and its bootstrap 95% interval."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {"ratio": significant(np.median(values)), "low": significant(low)} | {
        "high": significant(high)
    }


def significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def at_most(name: str, ratios: np.ndarray, most: float) -> Row:
    found = interval(ratios)
    return {"name": name} | found | {"bar": most, "sense": "≤", "holds": found["low"] <= most}


def at_least(name: str, ratios: np.ndarray, least: float) -> Row:
    found = interval(ratios)
    return {"name": name} | found | {"bar": least, "sense": "≥", "holds": found["high"] >= least}


def reported(name: str, ratios: np.ndarray) -> Row:
    """A ratio without a bar."""
    return {"name": name} | interval(ratios) | {"bar": None, "sense": "", "holds": None}


def built(name: str, make: Callable[[Problem], Callable[[], Any]], problem: Problem) -> Timed:
    solve = make(problem)
    start = time.perf_counter()
    solve()
    return Timed(name, problem, solve, round(time.perf_counter() - start, 3))


def agree(one: Timed, reference: np.ndarray) -> None:
    """Refuse a result whose overlaps with the memory shown have another distribution.

    A single trajectory is compared with the same one of hopjax, without noise.
    """
    found = one.solve()
    last = one.problem.steps // one.problem.stride
    sample, right = abs(found[:, -1, 0]), abs(reference[:, last, 0])
    if one.problem.law is None:
        np.testing.assert_allclose(sample, right[: len(sample)], atol=1e-3, err_msg=one.name)
        return
    p = stats.ks_2samp(sample, right, method="exact" if len(sample) <= FEW else "asymp").pvalue
    if p < FALSE_ALARM:
        raise SystemExit(f"{one.name} does not agree with hopjax: p = {p:.1g}. Nothing is timed.")


class Report:
    """What was measured so far."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.bars: list[Row] = []

    def times(self, *timed: Timed, rounds: int = ROUNDS) -> dict[str, np.ndarray]:
        found = in_turn(*timed, rounds=rounds)
        for one in timed:
            problem, measured = one.problem, interval(found[one.name])
            row = {"name": one.name, "n": problem.num_neurons, "batch": problem.batch}
            row |= {"law": problem.law, "ms": measured["ratio"]}
            row |= {"low": measured["low"], "high": measured["high"]}
            row |= {"steps": problem.steps, "stride": problem.stride}
            self.rows.append(row | {"first_call_seconds": one.first_call})
        return found


def measure_sizes(report: Report, full: bool) -> None:
    """hopjax, the loop by hand with the same noise, and the floor, at all sizes."""
    cells = [(n, batch) for n in SIZES for batch in BATCHES]
    for num_neurons, batch in tqdm(cells, desc="sizes", disable=None, leave=False):
        steps = 1000 if full or num_neurons * batch <= WORK else SHORT
        timed = [built("floor", competitors.scan, Problem(num_neurons, batch, None, steps))]
        for law in LAWS:
            problem = Problem(num_neurons, batch, law, steps)
            mine = built(f"hopjax {law}", competitors.hopjax, problem)
            by_hand = built(f"scan {law}", competitors.scan, problem)
            agree(by_hand, mine.solve())
            timed += [mine, by_hand]
        found = report.times(*timed)
        where = f"N = {num_neurons}, B = {batch}"
        large = num_neurons >= 1024 and batch >= 512
        smallest = (num_neurons, batch) == (SIZES[0], BATCHES[0])
        for law in LAWS:
            name = f"hopjax / scan with the same noise, {law}, {where}"
            ratios = found[f"hopjax {law}"] / found[f"scan {law}"]
            if large or smallest:
                report.bars.append(at_most(name, ratios, 1.05 if large else 1.3))
            else:
                report.bars.append(reported(name, ratios))
        ratios = found["hopjax two_point"] / found["floor"]
        name = f"two-point / floor, {where}"
        report.bars.append(at_most(name, ratios, 1.2) if large else reported(name, ratios))
        ratios = found["hopjax gaussian"] / found["hopjax two_point"]
        report.bars.append(reported(f"Gaussian / two-point, {where}", ratios))


def measure_every_step(report: Report, full: bool) -> None:
    """Overlaps saved at every step: both sides evaluate them beside the drift."""
    problem = Problem(1024, 512, "two_point", stride=1)
    makers = {"hopjax": competitors.hopjax, "scan": competitors.scan}
    found = report.times(*(built(name, make, problem) for name, make in makers.items()))
    ratios = found["hopjax"] / found["scan"]
    report.bars.append(reported("hopjax / scan, every step saved, N = 1024, B = 512", ratios))


def measure_draws(report: Report, full: bool) -> None:
    """Adding random increments to a state, and nothing else: JAX's generators and hopjax's."""
    problem = Problem(1024, 512, None, steps=SHORT)
    size = (problem.num_neurons, jnp.float32, float(problem.steps), 1.0, dfx.BrownianIncrement)

    def words(key, step):  # one for each increment, made uniform
        bits = jax.random.bits(jax.random.fold_in(key, step), (problem.num_neurons,))
        return (bits >> 8).astype(jnp.float32) * 2.0**-24

    def normal(key, step):
        return jax.random.normal(jax.random.fold_in(key, step), (problem.num_neurons,))

    draws: dict[str, Callable[..., Any]] = {
        "drawing jax.random.normal": normal,
        "drawing jax.random.bits": words,
        "drawing hopjax gaussian": lambda key, step: hj.Gaussian().path(key, *size).increment(step),
        "drawing hopjax two_point": lambda key, step: (
            hj.TwoPoint().path(key, *size).increment(step)
        ),
    }
    timed = []
    for name, draw in draws.items():

        def walk(key, x0, draw=draw):
            return jax.lax.fori_loop(0, problem.steps, lambda step, x: x + draw(key, step), x0)

        timed.append(built(name, partial(on_all_devices, walk), problem))
    found = report.times(*timed)
    name = "drawing, jax.random.normal / hopjax Gaussian, N = 1024"
    ratios = found["drawing jax.random.normal"] / found["drawing hopjax gaussian"]
    report.bars.append(reported(name, ratios))


def contestants(num_neurons: int) -> dict[str, tuple[Callable[[Problem], Solve], Problem]]:
    """What a user could take, with what it can do in the time; the dense one has no batch."""
    problem = partial(Problem, num_neurons)
    many, few = partial(problem, 512, steps=SHORT), partial(problem, FEW, steps=SHORT)
    batched = {
        "hopjax": (competitors.hopjax, partial(problem, 512)),
        "NumPy": (competitors.numpy, partial(problem, 512)),
    }
    if competitors.installed("numba"):
        batched["numba"] = competitors.numba, many
    found = {
        f"{name} {law}": (make, sized(law))
        for name, (make, sized) in batched.items()
        for law in LAWS
    }
    unsafe, tree = (partial(competitors.diffrax, tree=tree) for tree in (False, True))
    found["Diffrax, UnsafeBrownianPath"] = unsafe, many("gaussian")
    found["Diffrax, VirtualBrownianTree"] = tree, few("gaussian")
    if competitors.installed("torch", "torchsde"):
        found["torchsde"] = competitors.torchsde, few("gaussian")
    found["dense"] = competitors.dense, problem(1, "gaussian", 2, 2)
    return found


# Ratios that are asked for. A user of NumPy draws normal numbers, whatever hopjax's law is; that
# NumPy can draw packed signs as well is reported beside it.
LEAST = {
    ("NumPy gaussian", "hopjax two_point"): 10,
    ("NumPy gaussian", "hopjax gaussian"): 1.8,
    ("dense", "hopjax two_point"): 10_000,  # its noise has no share in its time
    ("dense", "hopjax gaussian"): 2_000,
}


def measure_competitors(report: Report, full: bool) -> None:
    """What a user would take instead."""
    for num_neurons in tqdm(
        SIZES if full else (1024,), desc="competitors", disable=None, leave=False
    ):
        timed = {name: built(name, *entry) for name, entry in contestants(num_neurons).items()}
        reference = {law: timed[f"hopjax {law}"].solve() for law in LAWS}
        quiet = Problem(num_neurons, jax.device_count(), None, steps=10)
        agree(built("dense", competitors.dense, quiet), competitors.scan(quiet)())
        for name, one in timed.items():
            if name != "dense":
                assert one.problem.law is not None
                agree(one, reference[one.problem.law])
        found = report.times(*timed.values())
        for name, one in timed.items():
            same = f"hopjax {one.problem.law}"
            others = {below for above, below in LEAST if above == name} | {same}
            for below in sorted(others - {name}, reverse=True):
                what, ratios = f"{name} / {below}, N = {num_neurons}", found[name] / found[below]
                least = LEAST.get((name, below))
                report.bars.append(
                    reported(what, ratios)
                    if least is None or num_neurons != 1024
                    else at_least(what, ratios, least)
                )


def measure_long_steps(report: Report, full: bool) -> None:
    """Exponential steps against Euler's, per unit of time and saved at the same times."""
    fewer = round(LONG_DT / DT)
    problem = partial(Problem, 1024, 512, chunk=LONG_CHUNK)
    short = partial(problem, steps=1000, stride=10 * fewer)
    long = partial(problem, steps=1000 // fewer, stride=10)
    timed = [
        built("Euler gaussian", competitors.hopjax, short("gaussian")),
        built("NumPy gaussian", competitors.numpy, short("gaussian")),
        built("Euler without noise", competitors.hopjax, short(None)),
        built("exponential without noise", competitors.exponential, long(None)),
    ]
    for law in (*LAWS, "binomial"):
        mine = built(f"exponential {law}", competitors.exponential, long(law))
        by_hand = built(f"exponential scan {law}", competitors.exponential_scan, long(law))
        agree(by_hand, mine.solve())
        timed += [mine, by_hand]
    larger = f"exponential binomial, chunks of {CHUNK}"
    timed.append(built(larger, competitors.exponential, long("binomial", chunk=CHUNK)))
    found = report.times(*timed)
    where = f"N = 1024, B = 512, chunks of {LONG_CHUNK}"
    for law, least in (("gaussian", 4.5), ("binomial", 9.0)):
        mine = found[f"exponential {law}"]
        name = f"per unit of time, Euler Gaussian / exponential {law}, {where}"
        report.bars.append(at_least(name, fewer * found["Euler gaussian"] / mine, least))
        name = f"exponential, hopjax / scan with the same noise, {law}, {where}"
        report.bars.append(at_most(name, mine / found[f"exponential scan {law}"], 1.05))
    quiet = found["exponential without noise"]  # what no law of the noise can be cheaper than
    name = f"per unit of time, Euler Gaussian / exponential without noise, {where}"
    report.bars.append(reported(name, fewer * found["Euler gaussian"] / quiet))
    name = f"a step, exponential / Euler, without noise, {where}"
    report.bars.append(reported(name, quiet / found["Euler without noise"]))
    name = f"per unit of time, NumPy Gaussian / exponential binomial, {where}"
    ratios = fewer * found["NumPy gaussian"] / found["exponential binomial"]
    report.bars.append(at_least(name, ratios, 30))
    name = f"exponential binomial, chunks of {CHUNK} / of {LONG_CHUNK}, N = 1024, B = 512"
    report.bars.append(reported(name, found[larger] / found["exponential binomial"]))


def measure_tuning_step(report: Report, full: bool) -> None:
    """A gradient of the tuning example, by Euler's steps and by exponential ones."""
    task = hj.Retrieval(
        num_neurons=512,
        num_memories=8,
        memories="orthogonal",
        noise=2.0,
        dominant=1.0,
        background=0.4,
        start="memory",
        start_scale=2.6,
    )
    start = {"strength": 2.2}
    criterion = hj.Criterion(0.9, mirror=False, settle=5.0, judge="instants")

    def step(name: str, law: str, dt: float, solver: dfx.AbstractSolver | None) -> Timed:
        evaluate = hj.loss_and_gradient(
            dataclasses.replace(task, law=law, **start),
            start,
            loss=hj.RetrievalLoss(goal=0.95),
            criterion=criterion,
            **{"t1": 10.0, "dt": dt, "save_every": 0.1, "trials": 64, "solver": solver},
        )

        def solve() -> np.ndarray:
            return np.asarray(evaluate(start, jax.random.key(1)).loss)

        return Timed(name, Problem(512, 64, law), solve)

    exponential = {law: f"tuning step, exponential {law}" for law in ("gaussian", "binomial")}
    solver = hj.ExponentialAdams()
    found = report.times(
        step("tuning step, Euler gaussian", "gaussian", DT, None),
        *(step(name, law, LONG_DT, solver) for law, name in exponential.items()),
    )
    for name in exponential.values():
        ratios = found["tuning step, Euler gaussian"] / found[name]
        report.bars.append(at_least(f"Euler gaussian / {name}", ratios, 4))


def measure_peaks(report: Report, full: bool) -> None:
    """How far solving raises the peak memory of a process, compilation included."""
    for name, (_, problem) in contestants(1024).items():
        row = {"name": f"memory added by {name}", "n": 1024, "batch": problem.batch}
        report.rows.append(row | {"mib": round(printed_by("--peak-of", name)[0], 1)})


def added_memory(name: str) -> float:
    make, problem = contestants(1024)[name]
    before = fresh_peak()
    make(problem)()
    return peak() - before


def gradient(
    one: Callable[..., Any], problem: Problem, mode: str, **options: Any
) -> Callable[..., Any]:
    """One trajectory's squared final overlap as a function of the input's strength."""

    model, u, noise = problem.model, problem.u, problem.noise

    def loss(strength, key, x0):
        overlaps = one(model, strength * u, noise, key, x0, problem=problem, **options)
        return overlaps[-1, 0] ** 2

    if mode == "reverse":
        return lambda key, x0: jax.value_and_grad(loss)(jnp.float32(1), key, x0)
    if mode == "forward":
        one_way = jnp.float32(1)
        return lambda key, x0: jax.jvp(lambda s: loss(s, key, x0), (one_way,), (one_way,))
    return lambda key, x0: loss(jnp.float32(1), key, x0)


def measure_gradients(report: Report, full: bool) -> None:
    """Gradients by one parameter against solving, and against the same through the scan."""
    retrieve, by_hand = competitors.retrieve, competitors.by_hand
    for law in tqdm(LAWS, desc="gradients", disable=None, leave=False):
        problem = Problem(GRADIENT.num_neurons, GRADIENT.batch, law)
        programs = {
            "hopjax loss": gradient(retrieve, problem, "none"),
            "hopjax reverse mode": gradient(retrieve, problem, "reverse"),
            "hopjax forward mode": gradient(
                retrieve, problem, "forward", adjoint=dfx.ForwardMode()
            ),
            "scan reverse mode": gradient(by_hand, problem, "reverse"),
            "scan forward mode": gradient(by_hand, problem, "forward"),
        }
        timed = [
            built(name, partial(on_all_devices, one, automatic=True), problem)
            for name, one in programs.items()
        ]
        slopes = {one.name: np.asarray(one.solve()[1]) for one in timed[1:]}
        for name, slope in slopes.items():
            right = slopes["hopjax reverse mode"]
            np.testing.assert_allclose(slope, right, rtol=1e-2, atol=1e-4, err_msg=name)
        found = report.times(*timed)
        where = f"{law}, N = {problem.num_neurons}, B = {problem.batch}"
        bars = {
            ("hopjax reverse mode", "hopjax loss"): 7.0 if law == "two_point" else 4.0,
            ("hopjax reverse mode", "scan reverse mode"): 1.1,
            ("hopjax forward mode", "hopjax loss"): 2.5,
            ("hopjax forward mode", "scan forward mode"): None,
        }
        for (above, below), most in bars.items():
            name, ratios = f"{above} / {below}, {where}", found[above] / found[below]
            report.bars.append(
                reported(name, ratios) if most is None else at_most(name, ratios, most)
            )


def measure_gradient_memory(report: Report, full: bool) -> None:
    """What a reverse pass keeps, by the number of steps; compiled, not run."""
    for steps in (250, 1000, 4000):
        problem = Problem(GRADIENT.num_neurons, 16, "two_point", steps)
        for name, one in (("reverse", competitors.retrieve), ("scan reverse", competitors.by_hand)):
            program = jax.jit(jax.vmap(gradient(one, problem, "reverse")))
            keys = jax.random.split(jax.random.key(0), problem.batch)
            sizes = program.lower(keys, jnp.asarray(problem.starts)).compile().memory_analysis()
            assert sizes is not None
            mib = sizes.temp_size_in_bytes / 2**20 / problem.batch
            row = {"name": f"memory of {name}, per trajectory", "n": problem.num_neurons}
            report.rows.append(row | {"steps": steps, "mib": round(mib, 3)})


def shared_trial(num_neurons: int, law: str) -> hj.Trial:
    """The benchmark's problem for ensembles."""
    problem = Problem(num_neurons, 1, law)
    assert problem.noise is not None
    return hj.Trial(problem.model, problem.u, problem.starts[0], problem.noise, target=0)


def ensemble(
    num_neurons: int,
    trials: int,
    steps: int,
    law: str = "two_point",
    chunk: int | None = None,
    executor: Executor | None = None,
) -> Timed:
    trial = shared_trial(num_neurons, law)

    def solve() -> np.ndarray:
        found = hj.solve_ensemble(
            trial,
            trials=trials,
            key=jax.random.key(2),
            t1=steps * DT,
            dt=DT,
            chunk=chunk,
            executor=executor,
            progress=False,
        )
        return found.overlap_mean

    name = f"ensemble of {trials}" if chunk is None else f"{law}, chunks of {chunk}"
    return Timed(name, Problem(num_neurons, trials, law, steps), solve)


def bare(num_neurons: int, trials: int, steps: int, law: str = "two_point") -> Timed:
    """What a user would write instead of an ensemble: chunks of jit(vmap(solve)), results kept."""
    problem = Problem(num_neurons, trials, law, steps)

    def one(model, u, x0, noise, key, _):
        _, noise_key = jax.random.split(key)  # as an ensemble does, for the same trials
        options: dict[str, Any] = {"t1": steps * DT, "dt": DT, "throw": False}
        return hj.solve(model, u, x0, noise=noise, key=noise_key, **options).overlaps[:, 0]

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(2), jnp.arange(trials))
    shared = (problem.model, problem.u, problem.starts[0], problem.noise)
    return Timed("bare vmap", problem, on_all_devices(one, problem, *shared, keys=keys))


def measure_ensembles(report: Report, full: bool) -> None:
    """What an ensemble adds to its solves, and how its time grows with trials and neurons."""
    for num_neurons in SIZES[:2]:
        mine, by_hand = (make(num_neurons, OVERHEAD_TRIALS, 1000) for make in (ensemble, bare))
        mean = abs(by_hand.solve()).mean(axis=0)
        np.testing.assert_allclose(mine.solve(), mean, atol=1e-3, err_msg="not the same trials")
        found = report.times(mine, by_hand)
        name = f"ensemble / bare vmap, {OVERHEAD_TRIALS} trials, N = {num_neurons}"
        ratios = found[mine.name] / found[by_hand.name]
        # Passages, energies and statistics cost some 30 µs per trial, whatever its solve costs.
        report.bars.append(
            reported(name, ratios) if num_neurons == SIZES[0] else at_most(name, ratios, 1.05)
        )
    many, some = ensemble(1024, 4096, 300), ensemble(1024, 512, 300)
    found = report.times(many, some)
    name = "time per trial, ensemble of 4096 / of 512, N = 1024"
    report.bars.append(at_most(name, found[many.name] / found[some.name], 1.15))
    small, large = (ensemble(size, 512, 1000)._replace(name=f"{size}") for size in (1024, 4096))
    found = report.times(small, large)
    name = "time per trial and neuron, N = 4096 / 1024, ensemble of 512"
    report.bars.append(at_most(name, found["4096"] / found["1024"] / 4, 1.25))


def measure_chunks(report: Report, full: bool) -> None:
    """On a GPU, which wants more at a time than a CPU: ensembles in larger chunks."""
    if jax.default_backend() == "cpu":
        return
    for law in LAWS:
        timed = [ensemble(1024, 4096, 300, law, chunk) for chunk in (128, 1024, 4096)]
        found = report.times(*timed)
        first, *_, last = (found[one.name] for one in timed)
        name = f"ensemble in chunks of 128 / of 4096, {law}, N = 1024"
        report.bars.append(reported(name, first / last))


def measure_graphs(report: Report, full: bool) -> None:
    """On a GPU: loops as CUDA graphs, which do not wait for the host in each step."""
    if jax.default_backend() == "cpu":
        return
    for chunk in ("128", "4096"):
        each, whole = np.transpose(
            [
                [printed_by("--chunks-of", chunk, **flags)[0] for flags in ({}, GRAPHS)]
                for _ in range(3)
            ]
        )
        name = f"ensemble in chunks of {chunk}, step by step / as a graph, gaussian, N = 1024"
        report.bars.append(reported(name, each / whole))


def measure_devices(report: Report, full: bool) -> None:
    """On a CPU: an ensemble on one device, which all cores share, and on a device per core."""
    if jax.default_backend() != "cpu" or jax.device_count() == 1:
        return
    counts = ("1", str(jax.device_count()))
    one, each = np.transpose(
        [[printed_by("--ensemble-on", count)[0] for count in counts] for _ in range(3)]
    )
    name = f"ensemble on one CPU device / on {counts[1]}, N = 1024"
    report.bars.append(reported(name, one / each))


def measure_cluster(report: Report, full: bool) -> None:
    """On a CPU: two workers of dask with a core each, against one process with two devices."""
    if jax.default_backend() != "cpu" or jax.device_count() != 2:
        return
    from distributed import Client, LocalCluster

    here = ensemble(256, CLUSTER_TRIALS, 1000)._replace(name="one process")
    os.environ |= {"JAX_NUM_CPU_DEVICES": "1", "NPROC": "1"}  # of the workers
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,  # pyright: ignore[reportArgumentType]
            memory_limit=0,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        executor = client.get_executor()
        there = ensemble(256, CLUSTER_TRIALS, 1000, executor=executor)._replace(name="two workers")
        np.testing.assert_array_equal(there.solve(), here.solve(), "not the same bits")
        found = report.times(there, here, rounds=CLUSTER_ROUNDS)
    chunks = f"{CLUSTER_TRIALS // 128} chunks of 128"
    name = f"two workers / one process with two devices, {chunks}, N = 256"
    report.bars.append(at_most(name, found[there.name] / found[here.name], 1.15))


class Recording(Executor):
    """Hands tasks to another executor, and notes what travels."""

    def __init__(self, inner: Executor) -> None:
        self.inner, self.there, self.back = inner, [], []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.there.append(len(pickle.dumps(args)))
        future = self.inner.submit(fn, *args, **kwargs)
        future.add_done_callback(lambda each: self.back.append(len(pickle.dumps(each.result()))))
        return future


def measure_tasks(report: Report, full: bool) -> None:
    """What chunks of a study cost the process that hands them out, saves and merges them.

    Another one solves them. Nothing depends on the size of the network; bytes grow with the saved
    times, here 101.
    """
    if jax.default_backend() != "cpu":  # the host mostly waits for it
        return
    settings: dict[str, Any] = {"key": jax.random.key(0), "t1": 10.0, "dt": 0.1}
    task, sweep = hj.Retrieval(num_neurons=16, num_memories=2), {"noise": [0.5, 1.0, 2.0, 3.0]}
    few, most = 20, 2000 if full else 400

    def run(chunk: int, chunks: int, executor: Executor) -> tuple[float, int]:
        """Processor seconds here, and bytes that are kept."""
        study = hj.Study(task, sweep, trials=chunk * chunks // 4, chunk=chunk, **settings)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            study.run(folder, executor=executor, progress=False)
            seconds = time.process_time() - start
            kept = sum(path.stat().st_size for path in Path(folder).glob("chunks/*/*"))
        return seconds, kept

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for chunk in (128, 1024):
            recording = Recording(pool)
            run(chunk, few, recording)  # compiles
            rounds = range(TASK_ROUNDS)
            found = [(run(chunk, few, pool)[0], *run(chunk, most, pool)) for _ in rounds]
            each = 1e3 * np.median([(many - some) / (most - few) for some, many, _ in found])
            row = {"name": "tasks", "chunk": chunk, "chunks": most}
            row |= {"bytes_of_first_task": recording.there[0]}
            row |= {"bytes_of_answers_per_chunk": round(sum(recording.back) / few)}
            row |= {"bytes_of_folder_per_chunk": round(found[0][-1] / most)}
            report.rows.append(row | {"coordinator_ms_per_chunk": round(each, 2)})


def ensemble_ms(timed: Timed) -> float:
    return float(np.median(in_turn(timed, rounds=3)[timed.name]))


def printed_by(*arguments: str, **environment: str) -> list[float]:
    """Numbers that a fresh process of this script prints."""
    command = [sys.executable, "-m", "experiments.benchmark", *arguments]
    env = {**os.environ, **environment}
    run = subprocess.run(command, capture_output=True, text=True, env=env)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{run.stderr}")
    return list(map(float, run.stdout.split()))


def measure_first_solves(report: Report, full: bool) -> None:
    """Seconds in fresh processes until a first result, and with a compilation cache on disk."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        printed_by("--first-solve", "1", **cache)  # fills it
        rounds = [
            printed_by("--first-solve", "1") + printed_by("--first-solve", "1", **cache)
            for _ in range(FIRST_SOLVES)
        ]
    first, again, gradient, cached, _, cached_gradient = np.transpose(rounds)
    report.bars += [
        at_most("seconds of the first solve of a model, N = 1024", first, 3.0),
        reported("seconds of the same with new numbers", again),
        reported("seconds of the first solve, compiled before", cached),
        reported("seconds of the first gradient, N = 1024", gradient),
        reported("seconds of the first gradient, compiled before", cached_gradient),
    ]


def first_solve() -> list[float]:
    """Seconds of two solves, the first of which compiles, and of a first gradient."""
    problem = Problem(1024, 1, "gaussian")

    def final_overlap(strength, sigma):
        u, x0 = strength * problem.u, problem.starts[0]
        options: dict[str, Any] = {"t1": 10.0, "dt": DT, "key": jax.random.key(0)}
        noise = hj.AdditiveNoise(sigma)
        return hj.solve(problem.model, u, x0, noise=noise, **options).overlaps[-1, 0]

    seconds = []
    for program, sigma in (
        (final_overlap, 8.0),
        (final_overlap, 7.0),
        (jax.value_and_grad(final_overlap), 8.0),
    ):
        start = time.perf_counter()
        jax.block_until_ready(program(1.0, sigma))
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_memory(report: Report, full: bool) -> None:
    """Peak memory of ensembles of more and more trials, each in a process of its own."""
    found = []
    for trials in MEMORY_TRIALS:
        found += printed_by("--memory-of", str(trials))
        report.rows.append({"name": "peak memory", "trials": trials, "mib": round(found[-1], 1)})
    name = f"peak memory, {MEMORY_TRIALS[-1]} trials / {MEMORY_TRIALS[0]}"
    report.bars.append(at_most(name, np.array([found[-1] / found[0]]), 1.1))


def peak_memory(trials: int) -> float:
    """MiB that this process took at most while it solved an ensemble."""
    ensemble(64, trials, 100).solve()
    return peak()


def peak() -> float:
    """MiB that this process has taken at most so far."""
    status = Path("/proc/self/status")
    if status.exists():  # the number below is also of the process that started this one
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1024 / (1024 if sys.platform == "darwin" else 1)  # there in bytes


def fresh_peak() -> float:
    """The same, where the system can forget what was taken at most before: what is taken now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def measure_merge(report: Report, full: bool) -> None:
    """What a folder's chunks cost to read and merge, each number in a process of its own."""
    if jax.default_backend() != "cpu":  # merging is the host's work
        return
    found = []
    for chunks in MERGED_CHUNKS if full else MERGED_CHUNKS[:-1]:
        seconds, files, added, size = printed_by("--merge-of", str(chunks))
        row = {"name": "merge", "chunks": chunks, "trials": chunks * MERGED_TRIALS}
        row |= {"files": int(files), "seconds": round(seconds, 2)}
        report.rows.append(row | {"mib": round(added, 1), "mib_of_dataset": round(size, 1)})
        found.append((seconds / chunks, added / size))
    (first, _), (last, ratio) = found[0], found[-1]
    report.bars += [
        at_most("seconds per merged chunk, most / fewest", np.array([last / first]), 1.2),
        at_most("peak memory of a merge / its dataset", np.array([ratio]), 3.0),
    ]


def merged_trial(key: jax.Array, noise: float) -> hj.Trial:
    memories = hj.random_memories(key, num_memories=3, num_neurons=16)
    return hj.Trial(hj.IDPHopfield(memories), memories[0], memories[0], hj.AdditiveNoise(noise))


def merge_seconds(chunks: int) -> list[float]:
    """Processor seconds of a run whose chunks are all there, its files, and MiB it added and has.

    One chunk of each cell is solved; the others have the same numbers under names of their own.
    """
    cells = 25
    each = chunks // cells
    study = partial(
        hj.Study,
        merged_trial,
        {"noise": np.linspace(0.1, 2.5, cells).tolist()},
        **{"key": jax.random.key(0), "t1": 1.0, "dt": 0.1, "chunk": MERGED_TRIALS},
    )
    with tempfile.TemporaryDirectory() as name:
        study(trials=MERGED_TRIALS).run(name, progress=False)
        store = Store(Path(name))
        fsync, os.fsync = os.fsync, lambda file: None
        for path in sorted(Path(name).glob("chunks/*/*.npz")):
            with np.load(path) as arrays:
                identity, _, program, place = str(arrays["about"]).split()
            store.use(identity, place, batch_size(chunks))
            parts = store.read_chunk(path)
            for number in range(1, each):
                again = store.chunk_path(path.parent.name, number, MERGED_TRIALS, MERGED_TRIALS)
                store.write_chunk(again, parts, program)
        os.fsync = fsync
        whole, before = study(trials=MERGED_TRIALS * each), fresh_peak()
        start = time.process_time()  # of the processor: the disk has its own mind
        dataset = whole.run(name, progress=False)
        seconds = time.process_time() - start
        files = sum(1 for _ in Path(name).glob("chunks/*/*"))
    return [seconds, files, peak() - before, dataset.nbytes / 2**20]


def measure_bandwidth(report: Report, full: bool) -> None:
    """On an accelerator: the bytes that must move, against a measured copy of them."""
    if jax.default_backend() == "cpu":
        return
    values = jnp.ones(2**28, jnp.float32)  # 1 GiB
    copy = jax.jit(lambda values, shift: values + shift)
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        jax.block_until_ready(copy(values, jnp.float32(1)))
        seconds.append(time.perf_counter() - start)
    bandwidth = 2 * values.nbytes / np.median(seconds[1:])
    report.rows.append({"name": "copy bandwidth", "gib_per_second": round(bandwidth / 2**30, 1)})
    for row in report.rows:
        if row["name"] in ("floor", "hopjax two_point", "hopjax gaussian") and "ms" in row:
            must = 12 * row["n"] * 1000  # bytes per 1000 steps of a trajectory
            row["share_of_bandwidth"] = round(must / (row["ms"] / 1e3) / bandwidth, 3)


def draw(rows: list[Row]) -> Figure:
    """Time per trajectory against neurons and against trajectories, with the floor."""
    size = (2 * plotting.COLUMN_WIDTH, 3.0)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    # The first of each size were measured in turn; beside others, hopjax was measured again.
    grid = [row for row in rows[::-1] if row.get("stride") == 10 and row["name"] in STYLES]
    sides = (axes[0], "n", SIZES, "batch", 512), (axes[1], "batch", BATCHES, "n", 1024)
    for letter, (ax, vary, places, fixed, value) in zip("ab", sides, strict=True):
        for name, style in STYLES.items():
            at = {row[vary]: row for row in grid if row["name"] == name and row[fixed] == value}
            middle, low, high = (
                np.array([at[x][key] for x in places]) for key in ("ms", "low", "high")
            )
            ends = drawing.sides(middle, low, high)
            ax.errorbar(places, middle, ends, label=LABELS[name], elinewidth=0.7, **style)
        ax.set(xscale="log", yscale="log", xticks=places)
        ax.set_xticks([], minor=True)
        ax.set_xticklabels([str(x) for x in places])
        ax.set_title(letter, loc="left", fontweight="bold")
    axes[0].set(xlabel="neurons N, 512 trajectories", ylabel="ms per 1000 steps of a trajectory")
    axes[1].set(xlabel="trajectories, 1024 neurons")
    others = [row for row in rows if row["name"] in OTHERS and row["n"] == 1024]
    for row in others:
        left = row["name"].startswith("NumPy")  # beside each other, the names would overlap
        place = {"xytext": (-6, -2), "ha": "right"} if left else {"xytext": (6, -2)}
        axes[0].plot(row["n"], row["ms"], "k_", markersize=7)
        axes[0].annotate(OTHERS[row["name"]], (row["n"], row["ms"]), **place, **ANNOTATION)
    drawing.legend_below(figure, axes[1])
    return figure


STYLES: dict[str, dict[str, Any]] = {
    "floor": {"color": "0.5", "linestyle": ":", "marker": "."},
    "scan two_point": drawing.look(0, linestyle="--", markerfacecolor="none"),
    "hopjax two_point": drawing.look(0),
    "scan gaussian": drawing.look(1, linestyle="--"),
    "hopjax gaussian": drawing.look(1, linestyle="-", markerfacecolor=None),
}
LABELS = {
    "floor": "no noise, lax.scan (the floor)",
    "scan two_point": "two-point, lax.scan",
    "hopjax two_point": "two-point, hopjax",
    "scan gaussian": "Gaussian, lax.scan",
    "hopjax gaussian": "Gaussian, hopjax",
}
OTHERS = {
    "NumPy two_point": "NumPy, two-point",
    "NumPy gaussian": "NumPy, Gaussian",
    "numba two_point": "numba, two-point",
    "numba gaussian": "numba, Gaussian",
    "Diffrax, UnsafeBrownianPath": "Diffrax, unsafe path",
    "Diffrax, VirtualBrownianTree": "Diffrax, virtual tree",
    "torchsde": "torchsde",
    "dense": "dense matrix per step",
}
ANNOTATION: dict[str, Any] = {
    **{"textcoords": "offset points", "fontsize": 6},
    "path_effects": [withStroke(linewidth=1.5, foreground="white")],  # on a line too
}


def save(rows: list[Row], path: Path, ending: str) -> None:
    """The figure beside the numbers."""
    with plotting.style():
        save_picture(draw(rows), path, ending)


def print_report(report: Report) -> None:
    for row in report.rows:
        print(json.dumps(row, ensure_ascii=False))
    print()
    width = max((len(entry["name"]) for entry in report.bars), default=0)
    for entry in report.bars:
        line = f"{entry['name']:{width}}  {entry['ratio']:g} [{entry['low']:g}, {entry['high']:g}]"
        if entry["bar"] is not None:
            line += f"  {entry['sense']} {entry['bar']:g}: {'yes' if entry['holds'] else 'NO'}"
        print(line)


SECTIONS: dict[str, Callable[[Report, bool], None]] = {
    "first-solves": measure_first_solves,  # at first, while this process holds little memory
    "memory": measure_memory,
    "peaks": measure_peaks,
    "graphs": measure_graphs,
    "sizes": measure_sizes,
    "every-step": measure_every_step,
    "draws": measure_draws,
    "competitors": measure_competitors,
    "long-steps": measure_long_steps,
    "tuning-step": measure_tuning_step,
    "gradients": measure_gradients,
    "gradient-memory": measure_gradient_memory,
    "ensembles": measure_ensembles,
    "chunks": measure_chunks,
    "devices": measure_devices,
    "tasks": measure_tasks,
    "cluster": measure_cluster,
    "merge": measure_merge,
    "bandwidth": measure_bandwidth,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time hopjax and what one could use instead.")
    parser.add_argument("--full", action="store_true", help="all sizes over 1000 steps")
    parser.add_argument("--json", type=Path, default=FIGURES / "benchmark.json")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections, no figure")
    add_drawing_options(parser)
    for hidden in (
        "--first-solve",
        "--memory-of",
        "--merge-of",
        "--ensemble-on",
        "--chunks-of",
    ):  # what `printed_by` asks for
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.redraw:
        save(read_json(arguments.json)["rows"], arguments.json, arguments.ending)
        return
    if arguments.ensemble_on:
        jax.config.update("jax_num_cpu_devices", arguments.ensemble_on)
        print(ensemble_ms(ensemble(1024, 1024, 300)))
        return
    if arguments.chunks_of:
        print(ensemble_ms(ensemble(1024, 4096, 300, "gaussian", arguments.chunks_of)))
        return
    use_all_cores()
    if arguments.memory_of:
        print(peak_memory(arguments.memory_of))
        return
    if arguments.merge_of:
        print(*merge_seconds(arguments.merge_of))
        return
    if arguments.peak_of:
        print(added_memory(arguments.peak_of))
        return
    if arguments.first_solve:
        print(*first_solve())
        return

    start = time.perf_counter()
    report = Report()
    numbers = {"full": arguments.full, "cores": os.cpu_count(), "versions": versions()}
    numbers |= {"rows": report.rows, "bars": report.bars}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    for name in tqdm(arguments.only or SECTIONS, desc="sections", disable=None, leave=False):
        SECTIONS[name](report, arguments.full)
        numbers["seconds"] = round(time.perf_counter() - start)
        write_json(arguments.json, numbers)  # what fails later loses nothing
    print_report(report)
    if not arguments.only:
        save(report.rows, arguments.json, arguments.ending)


if __name__ == "__main__":
    main()
