"""What the accuracy of steps is measured on: four kinds of noisy retrieval, and coupled noise.

A problem is a few fixed networks, its cells, of which every trial has another noise. Solves of one
trial by several solvers and steps share one Brownian motion, so that their difference is known far
better than either of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar, Literal, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy import stats

import hopjax as hj
from experiments.attention import BETA, TARGET, ask
from experiments.common import CHUNK

SAVE_EVERY = 0.2  # a multiple of all steps
SEED = 2025
SETS = 16  # of drawn memories, inputs and starting states
Cells = dict[str, Array]
Kind = Literal["overlap", "probability", "time"]


class EndlessPath(dfx.AbstractBrownianPath):
    """A path on the grid of steps, from the first one on."""

    @property
    def t0(self) -> float:
        """The first step."""
        return 0.0

    @property
    def t1(self) -> float:
        """The path has no end."""
        return math.inf


class WeightedPath(EndlessPath):
    """Increments of long steps, each of them a weighted sum of those of its parts."""

    parts: dfx.AbstractBrownianPath
    weights: tuple[float, ...] = eqx.field(static=True)
    levy_area: type = eqx.field(static=True)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        """The increment over the step that starts at `t0`; the clock counts steps."""
        del t1, left
        first = jnp.round(t0) * len(self.weights)
        increment = sum(
            weight * self.parts.evaluate(first + place, first + place + 1)
            for place, weight in enumerate(self.weights)
        )
        return dfx.BrownianIncrement(jnp.ones_like(t0), increment) if use_levy else increment


class Composed(hj.AbstractLaw):
    """The normal increments of `hj.Gaussian` on a finer grid, put together for exponential steps.

    The noise that a long step has added at its end is what is left of that of its parts: of the
    part that ends a time s earlier e⁻ˢ. It has the law of `hj.Gaussian`.
    """

    parts: int = eqx.field(static=True)
    fine_dt: float = eqx.field(static=True)
    on_grid: ClassVar[bool] = True
    levy_area: ClassVar[type] = dfx.BrownianIncrement

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the parts, in their order; their squares add up to one."""
        left = np.exp(-self.fine_dt * np.arange(self.parts)[::-1])
        return tuple((left / np.linalg.norm(left)).tolist())

    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> WeightedPath:
        """See `hj.AbstractLaw.path`."""
        parts = hj.Gaussian().path(key, size, dtype, end, step, dfx.BrownianIncrement)
        return WeightedPath(parts=parts, weights=self.weights, levy_area=levy_area)


class SteppedPath(EndlessPath):
    """Increments of a path, each moved to one of a few levels by which of its bounds it exceeds."""

    smooth: dfx.AbstractBrownianPath
    bounds: tuple[float, ...] = eqx.field(static=True)
    levy_area: type = eqx.field(static=True)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        """The increment over the step from `t0` to `t1`."""
        normal = self.smooth.evaluate(t0, t1, left)
        count = sum((normal > bound).astype(normal.dtype) for bound in self.bounds)
        increment = (2 * count - len(self.bounds)) / math.sqrt(len(self.bounds))
        return dfx.BrownianIncrement(jnp.ones_like(t0), increment) if use_levy else increment


class Coupled(hj.AbstractLaw):
    """Sums of so many signs, as of `hj.TwoPoint` (1) and `hj.Binomial` (8), near to normal numbers.

    Each is the quantile of its law at which the number of `hj.Gaussian` is of the normal law.
    """

    signs: int = eqx.field(static=True)
    on_grid: ClassVar[bool] = True
    levy_area: ClassVar[type] = dfx.BrownianIncrement

    @property
    def bounds(self) -> tuple[float, ...]:
        """Normal numbers above which there is one sign more that is positive."""
        below = stats.binom.cdf(np.arange(self.signs), self.signs, 0.5)
        return tuple(stats.norm.ppf(below).tolist())

    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> SteppedPath:
        """See `hj.AbstractLaw.path`."""
        smooth = hj.Gaussian().path(key, size, dtype, end, step, dfx.BrownianIncrement)
        return SteppedPath(smooth=smooth, bounds=self.bounds, levy_area=levy_area)


class Statistic(NamedTuple):
    """What is asked of a problem: a mean over trials, a probability, or a median of times."""

    name: str  # in what a trial gives
    kind: Kind
    label: str
    cell: int | None = None  # None for all
    late: bool = False  # at rest, or when an input has been shown for long


LATE = (10.0, 20.0)  # times at which an input has been shown for long


def courses(name: str, kind: Kind, label: str, times: tuple[float, ...]) -> list[Statistic]:
    """One at several times, which end its name and its label."""
    return [
        Statistic(f"{name} {time:g}", kind, f"{label} {time:g}", late=time in LATE)
        for time in times
    ]


@dataclass(frozen=True)
class Problem:
    """A kind of retrieval."""

    title: str
    draw: Callable[[], Cells]  # memories, values of the input, x0 and noise
    model: Callable[[Float[Array, "P N"]], hj.AbstractHopfield]
    measure: Callable[[Float[Array, "T P"], Float[Array, ""]], dict[str, Array]]  # of overlaps
    passage: Callable[[Array, Array, Array], Array]  # positive once there: `passage_fn` of solve
    t1: float
    statistics: tuple[Statistic, ...]
    onsets: tuple[float, ...] = (0.0,)
    work: float = 3e9  # neurons times steps of all trials of a solve at most, at full size

    @property
    def size(self) -> int:
        """Neurons of all cells."""
        cells, num_neurons = self.cells["x0"].shape
        return cells * num_neurons

    @property
    def cells(self) -> Cells:
        """Drawn once."""
        return _drawn(self.draw)

    def solve(
        self, law: hj.AbstractLaw | str, solver: dfx.AbstractSolver, dt: float, trials: int
    ) -> dict[str, np.ndarray]:
        """Of every trial what is measured, (cells, trials); trial j of a cell has one noise."""
        trial = partial(_trial, problem=self, law=law, solver=solver, dt=dt)
        key, label = jax.random.key(SEED), f"{self.title}, dt = {dt:g}"
        return hj.map_trials(
            trial, key=key, trials=trials, cells=self.cells, label=label, chunk=CHUNK
        )


@cache
def _drawn(draw: Callable[[], Cells]) -> Cells:
    return draw()


def _trial(key, cell: Cells, *, problem: Problem, law, solver, dt: float) -> dict[str, Array]:
    trajectory = hj.solve(
        problem.model(cell["memories"]),
        hj.Schedule(list(problem.onsets), cell["values"]),
        cell["x0"],
        t1=problem.t1,
        dt=dt,
        save_every=SAVE_EVERY,
        noise=hj.AdditiveNoise(cell["noise"], law),
        key=key,
        solver=solver,
        passage_fn=problem.passage,
        throw=False,
    )
    assert trajectory.passage_time is not None
    return problem.measure(trajectory.overlaps, jnp.asarray(trajectory.passage_time))


def at(time: float) -> int:
    """The index of a saved time."""
    return round(time / SAVE_EVERY)


def stacked(networks: list[Cells]) -> Cells:
    """Several cells as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


# The paper's sequence with its saliencies and noise, in fewer neurons.

TIMES = (1.0, 2.0, 4.0, 10.0, 12.0, 14.0, 20.0)  # the second input comes at 10
RETRIEVED = 0.9
SEQUENCE = hj.Retrieval(
    num_neurons=256,
    noise=8.0,
    onsets=(0.0, 10.0),
    shown=(0, 1),
    dominant=(2.0, 3.5),
    background=(0.8, 1.5),
    previous=(0.2, 0.6),
    total_weight=math.sqrt(10 * 1024),
)


def draw_sequences() -> Cells:
    def network(key: Key[Array, ""]) -> Cells:
        trial = SEQUENCE(key)
        arrays = {"memories": trial.model.memories, "values": trial.inputs.values, "x0": trial.x0}
        network = {name: jnp.asarray(array) for name, array in arrays.items()}
        return network | {"noise": jnp.float32(SEQUENCE.noise)}

    return stacked([network(key) for key in jax.random.split(jax.random.key(SEED), SETS)])


def measure_sequence(overlaps, passage) -> dict[str, Array]:
    strength = {time: abs(overlaps[at(time), 0 if time <= 10 else 1]) for time in TIMES}
    return (
        {f"m {time:g}": strength[time] for time in TIMES}
        | {f"P {time:g}": strength[time] > RETRIEVED for time in TIMES[1:]}
        | {"passage": passage}
    )


def retrieves_first(t, state, overlaps):
    del t, state
    return abs(overlaps[0]) - RETRIEVED


# Around the noise that frees a state from memory 1, and beyond it.

ALPHA = (1.5, 3.0, *[0.5] * 8)
EDGE, BEYOND = (1.25, 1.3), 1.6
MOVED = 0.8  # overlap with memory 2, averaged over the last unit of time


def draw_transitions() -> Cells:
    memories = hj.orthogonal_memories(
        num_memories=len(ALPHA), num_neurons=1024, key=jax.random.key(SEED)
    )
    values = hj.mixture(memories, jnp.asarray(ALPHA))[None]
    network = {"memories": memories, "values": values, "x0": ALPHA[0] * memories[0]}
    return stacked([network | {"noise": jnp.float32(noise)} for noise in (*EDGE, BEYOND)])


def measure_transition(overlaps, passage) -> dict[str, Array]:
    late = jnp.mean(abs(overlaps[-at(1.0) :, 1]))
    return {"moved": late > MOVED, "late": late, "passage": passage}


def reaches_second(t, state, overlaps):
    del t, state
    return abs(overlaps[1]) - MOVED


# The rate network moves from a memory to another one.

RATES = {"num_memories": 10, "num_neurons": 256, "density": 0.22}
RATE_NOISE = 0.45


def draw_rates() -> Cells:
    def network(key: Key[Array, ""]) -> Cells:
        memory_key, weight_key, start_key = jax.random.split(key, 3)
        memories = hj.sparse_memories(memory_key, dtype=jnp.float32, **RATES)
        weights = jax.random.uniform(weight_key, (10,), jnp.float32, 0.5, 1.5).at[1].set(9.5)
        x0 = memories[0] * jax.random.bernoulli(start_key, 0.5, memories[0].shape)
        values = hj.mixture(memories, weights)[None]
        network = {"memories": memories, "values": values, "x0": x0}
        return network | {"noise": jnp.float32(RATE_NOISE)}

    return stacked([network(key) for key in jax.random.split(jax.random.key(SEED), SETS)])


def measure_rates(overlaps, passage) -> dict[str, Array]:
    centred = {time: overlaps[at(time), 1] for time in (2.0, 5.0, 10.0)}
    return (
        {f"c {time:g}": value for time, value in centred.items()}
        | {f"P {time:g}": centred[time] > 0.5 for time in (5.0, 10.0)}
        | {"passage": passage}
    )


def reaches_half(t, state, overlaps):
    del t, state
    return overlaps[1] - 0.5


# Attention that finds the pattern shown from a small random state, under noise on the state.

ATTENTION_NOISE = 1.0


def draw_questions() -> Cells:
    def network(key: Key[Array, ""]) -> Cells:
        question = ask(key)
        network = {"memories": question.memories, "values": question.u[None]}
        return network | {"x0": question.starts[0], "noise": jnp.float32(ATTENTION_NOISE)}

    return stacked([network(key) for key in jax.random.split(jax.random.key(SEED), SETS)])


def measure_attention(overlaps, passage) -> dict[str, Array]:
    target = {time: overlaps[at(time), TARGET] for time in (1.0, 2.0, 10.0)}
    right = {time: jnp.argmax(overlaps[at(time)]) == TARGET for time in target}
    return (
        {f"m {time:g}": target[time] for time in (1.0, 10.0)}
        | {f"P {time:g}": right[time] for time in (2.0, 10.0)}
        | {"passage": passage}
    )


def finds_pattern(t, state, overlaps):
    del t, state
    return overlaps[TARGET] - MOVED


PROBLEMS = {
    "sequence": Problem(
        "sequence",
        draw_sequences,
        hj.IDPHopfield,
        measure_sequence,
        retrieves_first,
        20.0,
        (
            *courses("m", "overlap", "|m| at", TIMES),
            *courses("P", "probability", "P at", (2, 4, 10, 14, 20)),
            Statistic("passage", "time", "median passage"),
        ),
        onsets=(0.0, 10.0),
    ),
    "transition": Problem(
        "transition",
        draw_transitions,
        hj.IDPHopfield,
        measure_transition,
        reaches_second,
        20.0,
        (
            *(
                Statistic("moved", "probability", f"P, σ = {noise:g}", cell)
                for cell, noise in enumerate(EDGE)
            ),
            Statistic("late", "overlap", f"|m| at rest, σ = {BEYOND:g}", 2, late=True),
            Statistic("passage", "time", f"median passage, σ = {BEYOND:g}", 2),
        ),
        work=1.2e10,
    ),
    "rates": Problem(
        "rates",
        draw_rates,
        partial(hj.FiringRateHopfield, density=RATES["density"]),
        measure_rates,
        reaches_half,
        10.0,
        (
            *courses("c", "overlap", "c at", (2, 5, 10)),
            *courses("P", "probability", "P at", (5, 10)),
            Statistic("passage", "time", "median passage"),
        ),
    ),
    "attention": Problem(
        "attention",
        draw_questions,
        partial(hj.DynamicAttention, beta=BETA),
        measure_attention,
        finds_pattern,
        10.0,
        (
            *courses("m", "overlap", "cosine at", (1, 10)),
            *courses("P", "probability", "P at", (2, 10)),
            Statistic("passage", "time", "median passage"),
        ),
    ),
}
