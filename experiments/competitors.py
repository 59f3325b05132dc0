"""The same retrievals by other means: what the benchmark times hopjax against.

Everyone solves one problem: protocol A's network under one input, the same memories in all trials,
standard normal starting states, σ = 8, overlaps saved every tenth step. The formulas are
those of `hopjax.models`, written again. The JAX programs run on all devices, in
chunks, and whoever has no devices runs on a thread per CPU core.
"""

import importlib.util
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import hopjax as hj

NUM_MEMORIES = 10
SIGMA, SLOPE, DT = 8.0, 10.0, 0.01
LONG_DT = 0.05  # of exponential steps
CHUNK = 128  # trials at a time on each device, the default of ensembles
LONG_CHUNK = 64  # with exponential steps, which go through more arrays; cheapest where it was tried

Solve = Callable[[], np.ndarray]  # gives the overlaps, (batch, saved times, memories)


@dataclass(frozen=True)
class Problem:
    """What is to be solved."""

    num_neurons: int
    batch: int
    law: str | None  # of the noise; None for the drift alone
    steps: int = 1000
    stride: int = 10  # steps between saved overlaps
    chunk: int = CHUNK  # trajectories at a time on each device

    @property
    def unit(self) -> float:
        """How many times 1000 steps of one trajectory it is."""
        return self.batch * self.steps / 1000

    @cached_property
    def memories(self) -> np.ndarray:
        shape = (NUM_MEMORIES, self.num_neurons)
        signs = np.array([-1, 1], np.float32)
        return np.random.default_rng(0).choice(signs, shape)

    @cached_property
    def u(self) -> np.ndarray:
        """The input: memory 0 at weight 25 and the others at 8, as rescaled in protocol A."""
        weights = np.full(NUM_MEMORIES, 8.0, np.float32)
        weights[0] = 25.0
        return weights @ self.memories

    @cached_property
    def saliency(self) -> np.ndarray:
        return self.memories @ self.u / np.float32(self.num_neurons)

    @property
    def removed(self) -> float:
        """The self-coupling, which is subtracted: S = Σ_μ α_μ / N."""
        return float(self.saliency.sum()) / self.num_neurons

    @cached_property
    def starts(self) -> np.ndarray:
        shape = (self.batch, self.num_neurons)
        return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)

    @property
    def noise(self) -> hj.AdditiveNoise | None:
        return None if self.law is None else hj.AdditiveNoise(SIGMA, self.law)

    @property
    def model(self) -> hj.IDPHopfield:
        return hj.IDPHopfield(self.memories)


def on_all_devices(
    one: Callable[..., Any],
    problem: Problem,
    *shared: Any,
    keys: Any = None,
    automatic: bool = False,
) -> Callable[[], Any]:
    """`one(*shared, key, x0)` for every trajectory, in chunks over all devices, compiled once.

    `automatic` leaves the splitting to the compiler: the reverse pass of Diffrax's loop does not
    go through `shard_map`.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("trials",), axis_types=(AxisType.Auto,))
    each, same = PartitionSpec("trials"), PartitionSpec()
    axes = (None,) * len(shared) + (0, 0)
    specs = (same,) * len(shared) + (each, each)
    batched = jax.vmap(one, axes)
    if automatic:
        split = NamedSharding(mesh, each)
        whole = NamedSharding(mesh, same)
        shardings = (whole,) * len(shared) + (split, split)
        program = jax.jit(batched, in_shardings=shardings, out_shardings=split)
    else:
        program = jax.jit(
            jax.shard_map(batched, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)
        )
    width = min(problem.batch, problem.chunk * mesh.size)
    if keys is None:
        keys = jax.random.split(jax.random.key(2), problem.batch)
    pieces = [slice(start, start + width) for start in range(0, problem.batch, width)]
    arguments = [(keys[piece], jnp.asarray(problem.starts[piece])) for piece in pieces]

    def solve():
        parts = [jax.tree.map(np.asarray, program(*shared, *piece)) for piece in arguments]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    return solve


def on_all_cores(part: Callable[[np.ndarray, int], np.ndarray], problem: Problem) -> Solve:
    """`part(starts, seed)` on a thread per core: what it calls gives the interpreter free."""
    cores = min(os.cpu_count() or 1, problem.batch)
    starts = np.array_split(problem.starts, cores)
    pool = ThreadPoolExecutor(cores)
    return lambda: np.concatenate(list(pool.map(part, starts, range(cores))))


# hopjax, and the loop by hand that it must not be slower than.


def retrieve(model, u, noise, key, x0, *, problem: Problem, dt: float = DT, **options: Any):
    """The overlaps by hopjax."""
    return hj.solve(
        model,
        u,
        x0,
        t1=problem.steps * dt,
        dt=dt,
        save_every=problem.stride * dt,
        noise=noise,
        key=key,
        throw=False,
        **options,
    ).overlaps


def by_hand(model, u, noise, key, x0, *, problem: Problem):
    """The same as a `lax.scan`, with the same noise if there is any."""

    def step(state, index, pull, increment):
        (x,) = state
        x = x + DT * (pull - x)
        if increment is not None:
            x = x + noise.strength * math.sqrt(DT) * increment
        return (x,)

    return _scanned(step, (x0,), model, u, noise, key, problem)


def exponential_by_hand(model, u, noise, key, x0, *, problem: Problem):
    """The same by two-step exponential steps."""
    decay = math.exp(-LONG_DT)
    first, second = 1 - decay, (decay - 1 + LONG_DT) / LONG_DT
    spread = math.sqrt((1 - decay**2) / 2)

    def step(state, index, pull, increment):
        x, last = state
        change = jnp.where(index == 0, 0, pull - last)
        x = decay * x + first * pull + second * change
        if increment is not None:
            x = x + noise.strength * spread * increment
        return x, pull

    return _scanned(step, (x0, jnp.zeros_like(x0)), model, u, noise, key, problem)


def _scanned(step, state, model, u, noise, key, problem: Problem):
    """Overlaps of states of which `step(state, index, F, increment)` makes the next, x first."""
    num_neurons, memories = problem.num_neurons, model.memories
    saliency = product(u, memories.T) / num_neurons
    removed = jnp.sum(saliency) / num_neurons
    size = (num_neurons, memories.dtype, float(problem.steps), 1.0, dfx.BrownianIncrement)
    path = None if noise is None else noise.law.path(key, *size)

    def whole_step(state, index):
        activity = jnp.tanh(SLOPE * state[0])
        overlaps = product(activity, memories.T) / num_neurons
        pull = product(saliency * overlaps, memories) - removed * activity
        return step(state, index, pull, None if path is None else path.increment(index)), None

    def save(state):
        return product(jnp.tanh(SLOPE * state[0]), memories.T) / num_neurons

    def stretch(state, first):
        state, _ = jax.lax.scan(whole_step, state, first + jnp.arange(problem.stride))
        return state, save(state)

    starts = problem.stride * jnp.arange(problem.steps // problem.stride)
    _, saved = jax.lax.scan(stretch, state, starts)
    return jnp.concatenate([save(state)[None], saved])


product = partial(jnp.matmul, precision="highest")


def hopjax(problem: Problem) -> Solve:
    one = partial(retrieve, problem=problem)
    return on_all_devices(one, problem, problem.model, problem.u, problem.noise)


def scan(problem: Problem) -> Solve:
    one = partial(by_hand, problem=problem)
    return on_all_devices(one, problem, problem.model, problem.u, problem.noise)


def exponential(problem: Problem) -> Solve:
    """hopjax with fewer and longer steps."""
    one = partial(retrieve, problem=problem, dt=LONG_DT, solver=hj.ExponentialAdams())
    return on_all_devices(one, problem, problem.model, problem.u, problem.noise)


def exponential_scan(problem: Problem) -> Solve:
    one = partial(exponential_by_hand, problem=problem)
    return on_all_devices(one, problem, problem.model, problem.u, problem.noise)


# Diffrax as its documentation has it.


def diffrax(problem: Problem, *, tree: bool) -> Solve:
    """Terms, solver and saved times as in Diffrax's examples of stochastic equations."""
    num_neurons, end = problem.num_neurons, problem.steps * DT
    memories, saliency = jnp.asarray(problem.memories), jnp.asarray(problem.saliency)
    times = jnp.linspace(0, end, problem.steps // problem.stride + 1)

    def overlaps(x):
        return product(jnp.tanh(SLOPE * x), memories.T) / num_neurons

    def drift(t, x, args):
        coupled = product(saliency * overlaps(x), memories)
        return -x + coupled - problem.removed * jnp.tanh(SLOPE * x)

    def diffusion(t, x, args):
        return lx.DiagonalLinearOperator(jnp.full(num_neurons, SIGMA))

    def one(key, x0):
        area = dfx.BrownianIncrement
        if tree:
            shape, tolerance = (num_neurons,), DT / 2
            path = dfx.VirtualBrownianTree(0.0, end, tolerance, shape, key, levy_area=area)
            adjoint = dfx.RecursiveCheckpointAdjoint()
        else:
            path = dfx.UnsafeBrownianPath((num_neurons,), key, levy_area=area)
            adjoint = dfx.DirectAdjoint()
        solution = dfx.diffeqsolve(
            dfx.MultiTerm(dfx.ODETerm(drift), dfx.ControlTerm(diffusion, path)),
            dfx.Euler(),
            t0=0.0,
            t1=end,
            dt0=DT,
            y0=x0,
            saveat=dfx.SaveAt(ts=times, fn=lambda t, x, args: overlaps(x)),
            adjoint=adjoint,
        )
        return solution.ys

    return on_all_devices(one, problem)


# Without JAX.


def numpy(problem: Problem) -> Solve:
    """Many trajectories at once, in float32, by products with the thin matrix.

    As many as suit the caches: twice as fast here as all trajectories of a core at once.
    """
    memories, saliency = problem.memories, problem.saliency
    root = np.float32(SIGMA * math.sqrt(DT))

    def chunk(starts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        x = starts.copy()
        saved = []
        for step in range(problem.steps + 1):
            activity = np.tanh(np.float32(SLOPE) * x)
            overlaps = activity @ memories.T / np.float32(problem.num_neurons)
            if step % problem.stride == 0:
                saved.append(overlaps)
            drift = (saliency * overlaps) @ memories - np.float32(problem.removed) * activity - x
            x += np.float32(DT) * drift
            if problem.law == "gaussian":
                x += root * generator.standard_normal(x.shape, dtype=np.float32)
            elif problem.law == "two_point":
                words = generator.integers(0, 256, (len(x), x.shape[1] // 8), dtype=np.uint8)
                bits = np.unpackbits(words, axis=1)
                x += root * (np.float32(2) * bits - np.float32(1))
        return np.stack(saved, axis=1)

    def part(starts: np.ndarray, seed: int) -> np.ndarray:
        generator, pieces = np.random.default_rng(seed), range(0, len(starts), 64)
        return np.concatenate([chunk(starts[first : first + 64], generator) for first in pieces])

    return on_all_cores(part, problem)


def dense(problem: Problem) -> Solve:
    """Trajectory by trajectory with the N × N matrix built anew in each step, in float64."""
    memories, saliency = problem.memories.astype(float), problem.saliency.astype(float)

    def solve() -> np.ndarray:
        generator = np.random.default_rng(0)
        results = []
        for start in problem.starts:
            x = start.astype(float)
            saved = [memories @ np.tanh(SLOPE * x) / problem.num_neurons]
            for step in range(1, problem.steps + 1):
                coupling = np.zeros((problem.num_neurons, problem.num_neurons))
                for weight, memory in zip(saliency, memories, strict=True):
                    coupling += weight * np.outer(memory, memory)
                coupling /= problem.num_neurons
                np.fill_diagonal(coupling, 0.0)
                x = x + DT * (-x + coupling @ np.tanh(SLOPE * x))
                if problem.law is not None:
                    x = x + SIGMA * math.sqrt(DT) * generator.standard_normal(x.shape)
                if step % problem.stride == 0:
                    saved.append(memories @ np.tanh(SLOPE * x) / problem.num_neurons)
            results.append(np.stack(saved))
        return np.stack(results)

    return solve


def numba(problem: Problem) -> Solve:
    """Compiled loops over neurons, the trajectories of a core one after the other."""
    from numba import njit  # pyright: ignore[reportMissingImports]

    @njit(nogil=True, fastmath=True)
    def solve_part(starts, memories, saliency, removed, root, signs, steps, stride, seed):
        np.random.seed(seed)  # noqa: NPY002 (what numba has)
        (num_memories, num_neurons), batch = memories.shape, len(starts)
        saved = np.empty((batch, steps // stride + 1, num_memories), np.float32)
        activity = np.empty(num_neurons, np.float32)
        for trial in range(batch):
            x = starts[trial].copy()
            for step in range(steps + 1):
                for i in range(num_neurons):
                    activity[i] = math.tanh(np.float32(SLOPE) * x[i])
                overlaps = memories @ activity / np.float32(num_neurons)
                if step % stride == 0:
                    saved[trial, step // stride] = overlaps
                coupled = (saliency * overlaps) @ memories
                bits = 0
                for i in range(num_neurons):
                    if not signs:
                        increment = np.random.standard_normal()  # noqa: NPY002
                    else:
                        if i % 32 == 0:
                            bits = np.random.randint(0, 2**32)  # noqa: NPY002
                        increment = 2.0 * ((bits >> (i % 32)) & 1) - 1.0
                    drift = coupled[i] - removed * activity[i] - x[i]
                    x[i] += np.float32(DT) * drift + root * np.float32(increment)
        return saved

    root = np.float32(SIGMA * math.sqrt(DT))
    removed = np.float32(problem.removed)

    def part(starts: np.ndarray, seed: int) -> np.ndarray:
        numbers = (removed, root, problem.law == "two_point", problem.steps, problem.stride, seed)
        return solve_part(starts, problem.memories, problem.saliency, *numbers)

    return on_all_cores(part, problem)


def torchsde(problem: Problem) -> Solve:
    """`sdeint` with its default Brownian motion, on all threads of PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]
    from torchsde import sdeint  # pyright: ignore[reportMissingImports]

    memories, saliency = torch.tensor(problem.memories), torch.tensor(problem.saliency)

    def overlaps(x):
        return torch.tanh(SLOPE * x) @ memories.T / problem.num_neurons

    class Network(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, x):
            coupled = (saliency * overlaps(x)) @ memories
            return -x + coupled - problem.removed * torch.tanh(SLOPE * x)

        def g(self, t, x):
            return torch.full_like(x, SIGMA)

    starts = torch.tensor(problem.starts)
    times = torch.linspace(0, problem.steps * DT, problem.steps // problem.stride + 1)

    def solve() -> np.ndarray:
        with torch.no_grad():
            states = sdeint(Network(), starts, times, dt=DT, method="euler")
            return overlaps(states).transpose(0, 1).numpy()

    return solve


def installed(*modules: str) -> bool:
    """Whether an optional competitor can run here."""
    return all(importlib.util.find_spec(module) is not None for module in modules)
