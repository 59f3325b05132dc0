"""Wrong input is refused early: one line that names the argument and what was given."""

# Calls that a type checker refuses are what is tested here.
# pyright: reportArgumentType=false

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from odd_models import Runaway

import hopjax as hj
from hopjax import theory
from hopjax.solving import Grid

MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]], float)
RATES = (MEMORIES + 1) / 2
GRAY = np.linspace(0, 1, 16).reshape(4, 4)
KEY = jax.random.key(0)
NAN = float("nan")
INF = float("inf")


def solve(**changes: Any) -> hj.Trajectory:
    """A correct call, but for the changes."""
    right: dict[str, Any] = {
        "model": hj.IDPHopfield(MEMORIES),
        "inputs": MEMORIES[0],
        "x0": np.ones(8),
        "t1": 1.0,
        "dt": 0.1,
    }
    return hj.solve(**(right | changes))


def noisy(noise: Any = None, **changes: Any) -> hj.Trajectory:
    """The same with noise."""
    return solve(**({"noise": noise or hj.AdditiveNoise(0.5), "key": KEY} | changes))


def two_layers(*args: Any, **options: Any) -> hj.TwoLayerHopfield:
    return hj.TwoLayerHopfield(MEMORIES, *args, **options)


def decorrelated(*rows: Any, **options: Any) -> hj.DecorrelatedHopfield:
    return hj.DecorrelatedHopfield(np.stack(rows or tuple(MEMORIES)), **options)


def correlated(**changes: Any) -> jax.Array:
    """A correct call, but for the changes."""
    right = {"key": KEY, "num_memories": 2, "num_neurons": 8, "correlation": 0.5}
    return hj.correlated_memories(**(right | changes))


def sparse(**changes: Any) -> jax.Array:
    right = {"key": KEY, "num_memories": 2, "num_neurons": 8, "density": 0.5}
    return hj.sparse_memories(**(right | changes))


def schedule(onsets: Any, values: Any = None) -> hj.Schedule:
    return hj.Schedule(onsets, np.ones((len(onsets), 8)) if values is None else values)


def with_entry(array: np.ndarray, value: Any) -> np.ndarray:
    """A copy with another last entry."""
    array = array.astype(np.result_type(array, type(value)))
    array[(-1,) * array.ndim] = value
    return array


def scalar_input(t):
    return t


def matrix_input(t):
    return t * jnp.ones((8, 8))


def forgetful_input():
    return jnp.ones(8)


def half(t, x):
    del t
    return 0.5 * x


def short(t, x):
    del t
    return x[:3]


def trial(**changes: Any) -> hj.Trial:
    """A correct trial, but for the changes."""
    right: dict[str, Any] = {
        "model": hj.IDPHopfield(MEMORIES),
        "inputs": MEMORIES[0],
        "x0": np.ones(8),
        "noise": hj.AdditiveNoise(0.5),
    }
    return hj.Trial(**(right | changes))


def ensemble(shown: Any = None, **changes: Any) -> hj.Ensemble:
    """A correct call, but for the changes."""
    right: dict[str, Any] = {"trials": 4, "key": KEY, "t1": 0.2, "dt": 0.1}
    return hj.solve_ensemble(trial() if shown is None else shown, **(right | changes))


def measured(reduction: hj.AbstractReduction) -> Any:
    """What a reduction makes of one trial."""
    end, ok, grid = jnp.ones(8), jnp.array(True), Grid(0.1, 1, 2)
    return reduction.measure(
        trial(), hj.Trajectory(jnp.zeros(1), jnp.ones((1, 2)), end, ok, jnp.array(INF), grid)
    )


def histogram(**changes: Any) -> hj.Histogram:
    right: dict[str, Any] = {"function": is_fine, "low": 0.0, "high": 1.0, "bin_width": 0.1}
    return hj.Histogram(**(right | changes))


def is_fine(trial, trajectory):
    return trajectory.ok


def pair(trial, trajectory):
    return trajectory.ok, trajectory.ok


def named(trial, trajectory):
    return {"ok": trajectory.ok}


def no_value(trial, trajectory):
    return None


def model_of_key(key):
    return hj.IDPHopfield(MEMORIES)


def no_key():
    return trial()


def condition(t, state, overlaps):
    return overlaps[0] > 0


def each_memory(t, state, overlaps):
    return overlaps - 0.5


def broken_passage(t, state, overlaps):
    raise KeyError("threshold")


def two_numbers(t, state, overlaps):
    return overlaps[0], overlaps[1]


def tuned(parameters: Any = None, **changes: Any) -> hj.Tuning:
    """A correct call, but for the changes; nothing is solved before it is refused."""
    right: dict[str, Any] = {
        "trial": trial(),
        "parameters": {"noise.strength": 0.5} if parameters is None else parameters,
        "loss": hj.OverlapLoss(),
        "key": KEY,
        "t1": 0.2,
        "dt": 0.1,
        "trials": 2,
    }
    right |= changes
    return hj.tune(right.pop("trial"), right.pop("parameters"), **right)


DRAWS = np.random.default_rng(0)


def swept(function: Any, values: Any = (1.0, 2.0)) -> hj.Study:
    return hj.Study(function, {"s": values}, trials=2, key=KEY, t1=0.2, dt=0.1)


def of_arguments(key, strength=1.0, loss=1.0, x=1.0, x_low=1.0, x_0=1.0):
    return trial(inputs=strength * MEMORIES[0])


def of_key_only(key):
    return trial()


def tuned_arguments(parameters: Any, **changes: Any) -> hj.Tuning:
    return tuned(parameters, trial=of_arguments, **changes)


class Measured(hj.AbstractLoss):
    """A loss that measures what it is made of, and has that value."""

    what: Any = None
    is_value: bool = False

    def measure(self, trial, trajectory, criterion):
        return trajectory.ts[0] if self.is_value else self.what

    def value(self, means):
        return self.what if self.is_value else jnp.zeros(())


class Drawn(hj.AbstractLoss):
    def measure(self, trial, trajectory, criterion):
        return trajectory.ts[-1] * DRAWS.normal()

    def value(self, means):
        return means


def found() -> theory.Equilibrium:
    return theory.find_memory(hj.IDPHopfield(MEMORIES), MEMORIES[0], 0)


PID = dfx.PIDController(rtol=1e-3, atol=1e-3)


@dataclasses.dataclass(frozen=True)
class Case:
    """A wrong call, the argument that is at fault and what the message must show of it."""

    call: Callable[[], Any]
    error: type[Exception]
    argument: str
    shows: str


CASES = {
    # model
    "model a string": Case(lambda: solve(model="idp"), TypeError, "model", "'idp'"),
    "model a class": Case(
        lambda: solve(model=hj.IDPHopfield), TypeError, "model", "the class IDPHopfield"
    ),
    "model its memories": Case(lambda: solve(model=MEMORIES), TypeError, "model", "(2, 8)"),
    "model batched": Case(
        lambda: solve(model=jax.vmap(hj.IDPHopfield)(np.stack(3 * [MEMORIES]))),
        ValueError,
        "model.memories",
        "(3, 2, 8)",
    ),
    "memories with 0": Case(
        lambda: hj.IDPHopfield(with_entry(MEMORIES, 0.0)), ValueError, "memories", "0.0"
    ),
    "memories of 0 and 1": Case(
        lambda: hj.ClassicHopfield((MEMORIES + 1) / 2),
        ValueError,
        "memories",
        "0.0 at index [0, 4]",
    ),
    "memories with NaN": Case(
        lambda: hj.IDPHopfield(with_entry(MEMORIES, NAN)), ValueError, "memories", "nan"
    ),
    "memories 1-D": Case(lambda: hj.IDPHopfield(MEMORIES[0]), ValueError, "memories", "(8,)"),
    "memories 3-D": Case(
        lambda: hj.IDPHopfield(MEMORIES[None]), ValueError, "memories", "(1, 2, 8)"
    ),
    "memories complex": Case(
        lambda: hj.IDPHopfield(MEMORIES + 0j), TypeError, "memories", "complex128"
    ),
    "memories strings": Case(
        lambda: hj.IDPHopfield([["+", "-"]]), TypeError, "memories", "[['+', '-']]"
    ),
    "memories ragged": Case(
        lambda: hj.IDPHopfield([[1, -1], [1]]), TypeError, "memories", "[[1, -1], [1]]"
    ),
    "memories float16": Case(
        lambda: hj.IDPHopfield(MEMORIES.astype(np.float16)), TypeError, "memories", "float16"
    ),
    "memories none": Case(lambda: hj.IDPHopfield(None), TypeError, "memories", "None"),
    "memories of no neurons": Case(
        lambda: hj.IDPHopfield(np.ones((2, 0))), ValueError, "memories", "(2, 0)"
    ),
    "self_coupling an integer": Case(
        lambda: hj.IDPHopfield(MEMORIES, self_coupling=1), TypeError, "self_coupling", "1 (int)"
    ),
    "self_coupling a string": Case(
        lambda: hj.ClassicHopfield(MEMORIES, self_coupling="no"), TypeError, "self_coupling", "'no'"
    ),
    "self_coupling traced": Case(
        lambda: jax.jit(lambda flag: hj.IDPHopfield(MEMORIES, self_coupling=flag))(True),
        TypeError,
        "self_coupling",
        "traced",
    ),
    "activation a function": Case(
        lambda: hj.IDPHopfield(MEMORIES, jnp.tanh), TypeError, "activation", "tanh"
    ),
    "activation a class": Case(
        lambda: hj.IDPHopfield(MEMORIES, hj.Tanh), TypeError, "activation", "the class Tanh"
    ),
    "activation a slope": Case(
        lambda: hj.ClassicHopfield(MEMORIES, 10.0), TypeError, "activation", "10.0"
    ),
    "slope 0": Case(lambda: hj.Tanh(0), ValueError, "slope", "0.0"),
    "slope negative": Case(lambda: hj.Erf(-1.0), ValueError, "slope", "-1.0"),
    "slope NaN": Case(lambda: hj.Erf(NAN), ValueError, "slope", "nan"),
    "slope infinite": Case(lambda: hj.Tanh(INF), ValueError, "slope", "inf"),
    "slope beyond floats": Case(lambda: hj.Tanh(10**400), ValueError, "slope", "1000000"),
    "slope per neuron": Case(lambda: hj.Tanh(np.ones(8)), ValueError, "slope", "(8,)"),
    "slope a string": Case(lambda: hj.Tanh("steep"), TypeError, "slope", "'steep'"),
    # the further networks
    "memories of rates of ±1": Case(
        lambda: hj.FiringRateHopfield(MEMORIES), ValueError, "memories", "-1.0 at index [0, 4]"
    ),
    "memories of rates with NaN": Case(
        lambda: hj.FiringRateHopfield(with_entry(RATES, NAN)), ValueError, "memories", "nan"
    ),
    "memories of rates 1-D": Case(
        lambda: hj.FiringRateHopfield(RATES[0]), ValueError, "memories", "(8,)"
    ),
    "memories of rates silent": Case(
        lambda: hj.FiringRateHopfield(np.stack([RATES[0], np.zeros(8)])),
        ValueError,
        "memories",
        "0.0 at index [1, 0]",
    ),
    "memories of rates all active": Case(
        lambda: hj.FiringRateHopfield(np.stack([np.ones(8), RATES[0]])),
        ValueError,
        "memories",
        "1.0 at index [0, 0]",
    ),
    "density of rates 0": Case(
        lambda: hj.FiringRateHopfield(RATES, 0.0), ValueError, "density", "0.0"
    ),
    "density of rates 1": Case(
        lambda: hj.FiringRateHopfield(RATES, 1), ValueError, "density", "1.0"
    ),
    "density of rates NaN": Case(
        lambda: hj.FiringRateHopfield(RATES, NAN), ValueError, "density", "nan"
    ),
    "density of rates for each memory": Case(
        lambda: hj.FiringRateHopfield(RATES, [0.5, 0.5]), ValueError, "density", "(2,)"
    ),
    "density of rates a string": Case(
        lambda: hj.FiringRateHopfield(RATES, "sparse"), TypeError, "density", "'sparse'"
    ),
    "slope of rates 0": Case(
        lambda: hj.FiringRateHopfield(RATES, slope=0), ValueError, "slope", "0.0"
    ),
    "slope of held rates 0": Case(
        lambda: theory.largest_rate_density(0), ValueError, "slope", "0.0"
    ),
    "slope of held rates NaN": Case(
        lambda: theory.least_rate_saliency(NAN, 0.2), ValueError, "slope", "nan"
    ),
    "density of held rates 0": Case(
        lambda: theory.least_rate_saliency(10, 0), ValueError, "density", "0.0"
    ),
    "density of held rates 1": Case(
        lambda: theory.least_rate_saliency(10, [0.5, 1.0]),
        ValueError,
        "density",
        "1.0 at index [1]",
    ),
    "slope of rates an activation": Case(
        lambda: hj.FiringRateHopfield(RATES, slope=hj.Tanh()), TypeError, "slope", "Tanh"
    ),
    "input_as of rates an integer": Case(
        lambda: hj.FiringRateHopfield(RATES, input_as=1), ValueError, "input_as", "1"
    ),
    "memories of attention empty": Case(
        lambda: hj.DynamicAttention(np.stack([MEMORIES[0], np.zeros(8)]), 1.0),
        ValueError,
        "memories",
        "0.0 at index [1, 0]",
    ),
    "memories of attention infinite": Case(
        lambda: hj.DynamicAttention(with_entry(MEMORIES, INF), 1.0), ValueError, "memories", "inf"
    ),
    "memories of attention strings": Case(
        lambda: hj.DynamicAttention(["+-"], 1.0), TypeError, "memories", "['+-']"
    ),
    "memories of attention dependent": Case(
        lambda: hj.DynamicAttention([[1.0, 2.0], [2.0, 4.0]], 1.0, least_squares=True),
        ValueError,
        "memories",
        "memories[0] and memories[1], one of which is a multiple of the other",
    ),
    "beta of attention 0": Case(
        lambda: hj.DynamicAttention(MEMORIES, 0), ValueError, "beta", "0.0"
    ),
    "beta of attention NaN": Case(
        lambda: hj.DynamicAttention(MEMORIES, NAN), ValueError, "beta", "nan"
    ),
    "beta of attention for each memory": Case(
        lambda: hj.DynamicAttention(MEMORIES, [1.0, 2.0]), ValueError, "beta", "(2,)"
    ),
    "beta of attention none": Case(
        lambda: hj.DynamicAttention(MEMORIES, None), TypeError, "beta", "None"
    ),
    "input_as of attention a current": Case(
        lambda: hj.DynamicAttention(MEMORIES, 1.0, input_as="current"),
        ValueError,
        "input_as",
        "'current'",
    ),
    "least_squares of attention an integer": Case(
        lambda: hj.DynamicAttention(MEMORIES, 1.0, least_squares=0),
        TypeError,
        "least_squares",
        "0 (int)",
    ),
    "memories of a dense network of 0 and 1": Case(
        lambda: hj.DenseHopfield(RATES, hj.LinearSeparation()),
        ValueError,
        "memories",
        "0.0 at index [0, 4]",
    ),
    "separation a class": Case(
        lambda: hj.DenseHopfield(MEMORIES, hj.PowerSeparation),
        TypeError,
        "separation",
        "the class PowerSeparation",
    ),
    "separation a power": Case(
        lambda: hj.DenseHopfield(MEMORIES, 3.0), TypeError, "separation", "3.0"
    ),
    "separation an activation": Case(
        lambda: two_layers(hj.Tanh()), TypeError, "separation", "Tanh"
    ),
    "activation of a dense network": Case(
        lambda: hj.DenseHopfield(MEMORIES, hj.LinearSeparation(), 10.0),
        TypeError,
        "activation",
        "10.0",
    ),
    "input_as of a dense network False": Case(
        lambda: hj.DenseHopfield(MEMORIES, hj.LinearSeparation(), input_as=False),
        ValueError,
        "input_as",
        "False",
    ),
    "power below 2": Case(lambda: hj.PowerSeparation(1.5), ValueError, "power", "1.5"),
    "power NaN": Case(lambda: hj.PowerSeparation(NAN), ValueError, "power", "nan"),
    "power for each memory": Case(
        lambda: hj.PowerSeparation([2.0, 3.0]), ValueError, "power", "(2,)"
    ),
    "power a string": Case(lambda: hj.PowerSeparation("cubic"), TypeError, "power", "'cubic'"),
    "beta of a softmax 0": Case(lambda: hj.SoftmaxSeparation(0.0), ValueError, "beta", "0.0"),
    "beta of a softmax none": Case(lambda: hj.SoftmaxSeparation(None), TypeError, "beta", "None"),
    "memories of two layers of 0 and 1": Case(
        lambda: hj.TwoLayerHopfield(RATES), ValueError, "memories", "0.0 at index [0, 4]"
    ),
    "activation of two layers": Case(
        lambda: two_layers(None, jnp.tanh), TypeError, "activation", "tanh"
    ),
    "memory_time_constant 0": Case(
        lambda: two_layers(memory_time_constant=0), ValueError, "memory_time_constant", "0.0"
    ),
    "memory_time_constant negative": Case(
        lambda: two_layers(memory_time_constant=-0.1), ValueError, "memory_time_constant", "-0.1"
    ),
    "memory_time_constant for each memory": Case(
        lambda: two_layers(memory_time_constant=[0.1, 0.2]),
        ValueError,
        "memory_time_constant",
        "(2,)",
    ),
    "memory_time_constant a string": Case(
        lambda: two_layers(memory_time_constant="fast"),
        TypeError,
        "memory_time_constant",
        "'fast'",
    ),
    "self_coupling of two layers an integer": Case(
        lambda: two_layers(self_coupling=0), TypeError, "self_coupling", "0 (int)"
    ),
    "self_coupling of a power": Case(
        lambda: two_layers(hj.PowerSeparation(2.0), self_coupling=False),
        ValueError,
        "self_coupling",
        "PowerSeparation",
    ),
    "features for each neuron": Case(
        lambda: two_layers().noise_strength(features=np.ones(8)), ValueError, "features", "(8,)"
    ),
    "features infinite": Case(
        lambda: two_layers().noise_strength(features=INF), ValueError, "features", "inf"
    ),
    "memory_neurons a string": Case(
        lambda: two_layers().noise_strength(memory_neurons="none"),
        TypeError,
        "memory_neurons",
        "'none'",
    ),
    "noise for features alone": Case(
        lambda: noisy(hj.AdditiveNoise(np.ones(8)), model=two_layers()),
        ValueError,
        "noise.diffusion",
        "(8,)",
    ),
    "x0 with memory neurons": Case(
        lambda: solve(model=two_layers(), x0=np.ones(10)), ValueError, "x0", "(10,)"
    ),
    "dt above that of memory neurons": Case(
        lambda: solve(model=two_layers(memory_time_constant=0.05)), ValueError, "dt", "0.05"
    ),
    "memories repeated": Case(
        lambda: decorrelated(MEMORIES[0], MEMORIES[0]),
        ValueError,
        "memories",
        "memories[0] and memories[1], which are identical",
    ),
    "memories opposite": Case(
        lambda: decorrelated(MEMORIES[0], MEMORIES[1], -MEMORIES[0]),
        ValueError,
        "memories",
        "memories[0] and memories[2], which are mirror images",
    ),
    "memories more than neurons": Case(
        lambda: hj.DecorrelatedHopfield(np.ones((5, 4)) - 2 * np.eye(5, 4)),
        ValueError,
        "memories",
        "memories[3] and memories[4], each of which is all but a mixture of the others",
    ),
    "memories decorrelated of 0 and 1": Case(
        lambda: decorrelated(*RATES), ValueError, "memories", "0.0 at index [0, 4]"
    ),
    "activation of decorrelated memories": Case(
        lambda: decorrelated(activation="tanh"), TypeError, "activation", "'tanh'"
    ),
    "input_as of decorrelated memories nothing": Case(
        lambda: decorrelated(input_as="nothing"), ValueError, "input_as", "'nothing'"
    ),
    "least_squares an integer": Case(
        lambda: decorrelated(least_squares=1), TypeError, "least_squares", "1 (int)"
    ),
    # memories learnt and forgotten
    "pattern too short": Case(
        lambda: hj.IDPHopfield(MEMORIES).with_memory(np.ones(7)), ValueError, "pattern", "(7,)"
    ),
    "pattern of several": Case(
        lambda: hj.IDPHopfield(MEMORIES).with_memory(MEMORIES), ValueError, "pattern", "(2, 8)"
    ),
    "pattern a string": Case(
        lambda: hj.IDPHopfield(MEMORIES).with_memory("face"), TypeError, "pattern", "'face'"
    ),
    "pattern of 0 and 1": Case(
        lambda: hj.IDPHopfield(MEMORIES).with_memory(RATES[0]),
        ValueError,
        "pattern",
        "0.0 at index [2, 4]",
    ),
    "pattern with NaN": Case(
        lambda: two_layers().with_memory(with_entry(MEMORIES[0], NAN)),
        ValueError,
        "pattern",
        "nan",
    ),
    "pattern of rates of ±1": Case(
        lambda: hj.FiringRateHopfield(RATES).with_memory(MEMORIES[0]),
        ValueError,
        "pattern",
        "-1.0 at index [2, 4]",
    ),
    "pattern of rates silent": Case(
        lambda: hj.FiringRateHopfield(RATES).with_memory(np.zeros(8)),
        ValueError,
        "pattern",
        "0.0 at index [2, 0]",
    ),
    "pattern of attention empty": Case(
        lambda: hj.DynamicAttention(MEMORIES, 1.0).with_memory(np.zeros(8)),
        ValueError,
        "pattern",
        "0.0 at index [2, 0]",
    ),
    "pattern of attention infinite": Case(
        lambda: hj.DynamicAttention(MEMORIES, 1.0).with_memory(with_entry(MEMORIES[0], INF)),
        ValueError,
        "pattern",
        "inf",
    ),
    "pattern that is known": Case(
        lambda: decorrelated().with_memory(-MEMORIES[1]),
        ValueError,
        "pattern",
        "memories[1] and memories[2], which are mirror images",
    ),
    "index beyond the last": Case(
        lambda: hj.IDPHopfield(MEMORIES).without_memory(2), ValueError, "index", "got 2"
    ),
    "index negative": Case(lambda: two_layers().without_memory(-1), ValueError, "index", "-1"),
    "index not whole": Case(
        lambda: hj.FiringRateHopfield(RATES).without_memory(0.0), TypeError, "index", "0.0"
    ),
    "index a pattern": Case(
        lambda: decorrelated().without_memory(MEMORIES[0]), TypeError, "index", "(8,)"
    ),
    "index traced": Case(
        lambda: jax.jit(lambda index: two_layers().without_memory(index).memories)(0),
        TypeError,
        "index",
        "traced",
    ),
    "index of the only one": Case(
        lambda: hj.IDPHopfield(MEMORIES[:1]).without_memory(0), ValueError, "index", "the only one"
    ),
    # making memories
    "correlation negative": Case(
        lambda: correlated(correlation=-0.1), ValueError, "correlation", "-0.1"
    ),
    "correlation above 1": Case(
        lambda: correlated(correlation=2), ValueError, "correlation", "2.0"
    ),
    "correlation NaN": Case(lambda: correlated(correlation=NAN), ValueError, "correlation", "nan"),
    "correlation for each": Case(
        lambda: correlated(correlation=[0.1, 0.2]), ValueError, "correlation", "(2,)"
    ),
    "correlation a string": Case(
        lambda: correlated(correlation="much"), TypeError, "correlation", "'much'"
    ),
    "key of correlated memories": Case(lambda: correlated(key=0), TypeError, "key", "0 (int)"),
    "num_memories of correlated ones 0": Case(
        lambda: correlated(num_memories=0), ValueError, "num_memories", "0"
    ),
    "num_neurons of correlated ones not whole": Case(
        lambda: correlated(num_neurons=8.0), TypeError, "num_neurons", "8.0"
    ),
    "dtype of correlated memories": Case(
        lambda: correlated(dtype="int32"), ValueError, "dtype", "int32"
    ),
    "density negative": Case(lambda: sparse(density=-0.1), ValueError, "density", "-0.1"),
    "density in percent": Case(lambda: sparse(density=22), ValueError, "density", "22.0"),
    "density NaN": Case(lambda: sparse(density=NAN), ValueError, "density", "nan"),
    "density for each neuron": Case(
        lambda: sparse(density=np.full(8, 0.5)), ValueError, "density", "(8,)"
    ),
    "density none": Case(lambda: sparse(density=None), TypeError, "density", "None for both"),
    "density that leaves all silent": Case(
        lambda: sparse(density=0), ValueError, "density", "got 0.0"
    ),
    "density that leaves none silent": Case(
        lambda: sparse(density=1.0), ValueError, "density", "got 1.0"
    ),
    "density and active": Case(lambda: sparse(active=2), ValueError, "density", "got 0.5"),
    "active 0": Case(lambda: sparse(density=None, active=0), ValueError, "active", "got 0"),
    "active all": Case(
        lambda: sparse(density=None, active=8), ValueError, "active", "num_neurons = 8, got 8"
    ),
    "active a share": Case(
        lambda: sparse(density=None, active=0.5), TypeError, "active", "0.5 (float)"
    ),
    "num_neurons of sparse ones 1": Case(
        lambda: sparse(num_neurons=1), ValueError, "num_neurons", "at least 2, got 1"
    ),
    "key of sparse memories": Case(lambda: sparse(key=None), TypeError, "key", "None"),
    "num_memories of sparse ones negative": Case(
        lambda: sparse(num_memories=-1), ValueError, "num_memories", "-1"
    ),
    "num_neurons of sparse ones a string": Case(
        lambda: sparse(num_neurons="8"), TypeError, "num_neurons", "'8'"
    ),
    "dtype of sparse memories": Case(
        lambda: sparse(dtype="float16"), ValueError, "dtype", "float16"
    ),
    "text empty": Case(lambda: hj.glyph_memories(""), ValueError, "text", "none"),
    "text a list": Case(lambda: hj.glyph_memories(["A", "B"]), TypeError, "text", "['A', 'B']"),
    "text that the font lacks": Case(lambda: hj.glyph_memories("A漢"), ValueError, "text", "'漢'"),
    "text with a blank": Case(lambda: hj.glyph_memories("A B"), ValueError, "text", "' '"),
    "text with a new line": Case(lambda: hj.glyph_memories("A\n"), ValueError, "text", r"'\n'"),
    "text too fine": Case(lambda: hj.glyph_memories("i", size=2), ValueError, "text", "'i'"),
    "size of glyphs 0": Case(lambda: hj.glyph_memories("A", size=0), ValueError, "size", "0"),
    "size of glyphs for three sides": Case(
        lambda: hj.glyph_memories("A", size=(32, 32, 3)), ValueError, "size", "(32, 32, 3)"
    ),
    "size of glyphs of no columns": Case(
        lambda: hj.glyph_memories("A", size=(32, 0)), ValueError, "size[1]", "got 0"
    ),
    "size of glyphs a text": Case(
        lambda: hj.glyph_memories("A", size="32x32"), TypeError, "size", "'32x32'"
    ),
    "font unknown": Case(
        lambda: hj.glyph_memories("A", font="No Such Font"), ValueError, "font", "'No Such Font'"
    ),
    "font a number": Case(lambda: hj.glyph_memories("A", font=3), TypeError, "font", "3"),
    "dtype of glyphs": Case(
        lambda: hj.glyph_memories("A", dtype="bool"), ValueError, "dtype", "bool"
    ),
    "pictures a file": Case(lambda: hj.picture_memories("a.png"), TypeError, "pictures", "'a.png'"),
    "pictures none": Case(lambda: hj.picture_memories([]), ValueError, "pictures", "none"),
    "pictures a number": Case(lambda: hj.picture_memories(3), TypeError, "pictures", "3"),
    "pictures an array": Case(lambda: hj.picture_memories(GRAY), ValueError, "pictures[0]", "(4,)"),
    "picture a number": Case(
        lambda: hj.picture_memories([GRAY, 0.5]), ValueError, "pictures[1]", "()"
    ),
    "picture None": Case(
        lambda: hj.picture_memories([GRAY, None]), TypeError, "pictures[1]", "NoneType"
    ),
    "picture complex": Case(
        lambda: hj.picture_memories([GRAY + 0j]), TypeError, "pictures[0]", "ndarray"
    ),
    "picture ragged": Case(
        lambda: hj.picture_memories([[[0, 1], [1]]]), TypeError, "pictures[0]", "list"
    ),
    "picture of two channels": Case(
        lambda: hj.picture_memories([np.ones((4, 4, 2))]), ValueError, "pictures[0]", "(4, 4, 2)"
    ),
    "picture of no pixels": Case(
        lambda: hj.picture_memories([np.ones((0, 4))]), ValueError, "pictures[0]", "(0, 4)"
    ),
    "picture beyond 1": Case(
        lambda: hj.picture_memories([2 * GRAY]), ValueError, "pictures[0]", "from 0 to 2"
    ),
    "picture below 0": Case(
        lambda: hj.picture_memories([MEMORIES]), ValueError, "pictures[0]", "from -1 to 1"
    ),
    "picture beyond 255": Case(
        lambda: hj.picture_memories([np.array([[0, 256]])]),
        ValueError,
        "pictures[0]",
        "from 0 to 256",
    ),
    "picture with NaN": Case(
        lambda: hj.picture_memories([with_entry(GRAY, NAN)]), ValueError, "pictures[0]", "nan"
    ),
    "picture uniform": Case(
        lambda: hj.picture_memories([GRAY, np.ones((4, 4))]),
        ValueError,
        "pictures[1]",
        "from 1 to 1",
    ),
    "picture on one side of the threshold": Case(
        lambda: hj.picture_memories([GRAY / 2], size=4, threshold=0.9),
        ValueError,
        "pictures[0]",
        "from 0 to 0.5",
    ),
    "size of pictures negative": Case(
        lambda: hj.picture_memories([GRAY], size=-4), ValueError, "size", "-4"
    ),
    "size of pictures for one side": Case(
        lambda: hj.picture_memories([GRAY], size=(4,)), ValueError, "size", "(4,)"
    ),
    "size of pictures half a row": Case(
        lambda: hj.picture_memories([GRAY], size=(0.5, 4)), TypeError, "size[0]", "0.5"
    ),
    "grey a shade": Case(lambda: hj.picture_memories([GRAY], grey=0.5), TypeError, "grey", "0.5"),
    "grey with a threshold": Case(
        lambda: hj.picture_memories([GRAY], grey=True, threshold=0.5),
        ValueError,
        "threshold",
        "0.5",
    ),
    "grey of one grey": Case(
        lambda: hj.picture_memories([GRAY, GRAY * 0], size=4, grey=True),
        ValueError,
        "pictures[1]",
        "from 0 to 0",
    ),
    "picture of sixteen bits in integers of 64": Case(
        lambda: hj.picture_memories([np.array([[0, 65535]])]),
        ValueError,
        "pictures[0]",
        "from 0 to 65535",
    ),
    "size of pictures not whole": Case(
        lambda: hj.picture_memories([GRAY], size=4.0), TypeError, "size", "4.0"
    ),
    "threshold of pictures 0": Case(
        lambda: hj.picture_memories([GRAY], threshold=0.0), ValueError, "threshold", "0"
    ),
    "threshold of pictures 255": Case(
        lambda: hj.picture_memories([GRAY], threshold=128), ValueError, "threshold", "128"
    ),
    "threshold of pictures NaN": Case(
        lambda: hj.picture_memories([GRAY], threshold=NAN), ValueError, "threshold", "nan"
    ),
    "threshold of pictures a name": Case(
        lambda: hj.picture_memories([GRAY], threshold="otsu"), TypeError, "threshold", "'otsu'"
    ),
    "dtype of pictures": Case(
        lambda: hj.picture_memories([GRAY], dtype=int), ValueError, "dtype", "int64"
    ),
    # x0
    "x0 too short": Case(lambda: solve(x0=np.ones(7)), ValueError, "x0", "(7,)"),
    "x0 a scalar": Case(lambda: solve(x0=0.0), ValueError, "x0", "()"),
    "x0 batched": Case(lambda: solve(x0=np.ones((3, 8))), ValueError, "x0", "(3, 8)"),
    "x0 with NaN": Case(lambda: solve(x0=with_entry(np.ones(8), NAN)), ValueError, "x0", "nan"),
    "x0 with infinity": Case(lambda: solve(x0=np.full(8, INF)), ValueError, "x0", "inf"),
    "x0 a string": Case(lambda: solve(x0="random"), TypeError, "x0", "'random'"),
    "x0 complex": Case(lambda: solve(x0=1j * np.ones(8)), TypeError, "x0", "complex128"),
    # dt
    "dt 0": Case(lambda: solve(dt=0.0), ValueError, "dt", "0.0"),
    "dt negative": Case(lambda: solve(dt=-0.1), ValueError, "dt", "-0.1"),
    "dt NaN": Case(lambda: solve(dt=NAN), ValueError, "dt", "nan"),
    "dt infinite": Case(lambda: solve(dt=INF), ValueError, "dt", "inf"),
    "dt a bool": Case(lambda: solve(dt=True), TypeError, "dt", "True"),
    "dt an array": Case(lambda: solve(dt=np.array([0.1, 0.1])), TypeError, "dt", "(2,)"),
    "dt a string": Case(lambda: solve(dt="0.1"), TypeError, "dt", "'0.1'"),
    "dt an array of a bool": Case(lambda: solve(dt=np.array(True)), TypeError, "dt", "bool"),
    "dt an array of a string": Case(lambda: solve(dt=np.array("0.1")), TypeError, "dt", "<U3"),
    "dt a key": Case(lambda: solve(dt=KEY), TypeError, "dt", "key"),
    "dt of the onsets": Case(lambda: schedule([0.0]).onset_steps(0.0), ValueError, "dt", "0.0"),
    "dt complex": Case(lambda: solve(dt=np.complex128(0.1)), TypeError, "dt", "complex128"),
    "dt above the time constant": Case(lambda: solve(dt=2.0, t1=4.0), ValueError, "dt", "2"),
    "dt traced": Case(
        lambda: jax.jit(lambda dt: solve(dt=dt).overlaps)(0.1), TypeError, "dt", "traced"
    ),
    # t1
    "t1 off the grid": Case(lambda: solve(t1=1.05), ValueError, "t1", "1.05"),
    "t1 below dt": Case(lambda: solve(t1=0.04), ValueError, "t1", "0.04"),
    "t1 0": Case(lambda: solve(t1=0.0), ValueError, "t1", "0.0"),
    "t1 negative": Case(lambda: solve(t1=-1.0), ValueError, "t1", "-1.0"),
    "t1 beyond floats": Case(lambda: solve(t1=10**400), ValueError, "t1", "inf"),
    "t1 infinite": Case(lambda: solve(t1=INF), ValueError, "t1", "inf"),
    "t1 traced": Case(
        lambda: jax.jit(lambda t1: solve(t1=t1).overlaps)(1.0), TypeError, "t1", "traced"
    ),
    "t1 beyond float32's integers": Case(
        lambda: solve(model=hj.IDPHopfield(MEMORIES.astype(np.float32)), t1=2e6),
        ValueError,
        "t1",
        "20000000",
    ),
    # save_every, save_fn
    "save_every off the grid": Case(
        lambda: solve(save_every=0.15), ValueError, "save_every", "0.15"
    ),
    "save_every 0": Case(lambda: solve(save_every=0), ValueError, "save_every", "0.0"),
    "save_every beyond t1": Case(lambda: solve(save_every=2.0), ValueError, "save_every", "2"),
    "save_fn not callable": Case(lambda: solve(save_fn="state"), TypeError, "save_fn", "'state'"),
    "passage_fn not callable": Case(lambda: solve(passage_fn=0.9), TypeError, "passage_fn", "0.9"),
    "passage_fn a condition": Case(
        lambda: solve(passage_fn=condition), TypeError, "passage_fn", "dtype bool"
    ),
    "passage_fn per memory": Case(
        lambda: solve(passage_fn=each_memory), ValueError, "passage_fn", "(2,)"
    ),
    "passage_fn of two": Case(
        lambda: solve(passage_fn=two_numbers), ValueError, "passage_fn", "tuple"
    ),
    "passage_fn that fails": Case(
        lambda: solve(passage_fn=broken_passage), TypeError, "passage_fn", "KeyError: 'threshold'"
    ),
    "passage_since negative": Case(
        lambda: solve(passage_since=-0.1), ValueError, "passage_since", "-0.1"
    ),
    "passage_since beyond the end": Case(
        lambda: solve(passage_since=2.5), ValueError, "passage_since", "2.5"
    ),
    "passage_since a string": Case(
        lambda: solve(passage_since="1"), TypeError, "passage_since", "'1'"
    ),
    "passage_fn of no time": Case(
        lambda: solve(passage_fn=forgetful_input), TypeError, "passage_fn", "forgetful_input"
    ),
    # inputs
    "inputs too short": Case(lambda: solve(inputs=np.ones(7)), ValueError, "inputs", "(7,)"),
    "inputs batched": Case(lambda: solve(inputs=np.ones((3, 8))), ValueError, "inputs", "(3, 8)"),
    "inputs NaN": Case(lambda: solve(inputs=np.full(8, NAN)), ValueError, "inputs", "nan"),
    "inputs None": Case(lambda: solve(inputs=None), TypeError, "inputs", "None"),
    "inputs a string": Case(lambda: solve(inputs="u"), TypeError, "inputs", "'u'"),
    "inputs a class": Case(lambda: solve(inputs=hj.Schedule), TypeError, "inputs", "Schedule"),
    "inputs of time, a scalar": Case(
        lambda: solve(inputs=scalar_input), ValueError, "inputs", "()"
    ),
    "inputs of time, a matrix": Case(
        lambda: solve(inputs=matrix_input), ValueError, "inputs", "(8, 8)"
    ),
    "inputs of no time": Case(
        lambda: solve(inputs=forgetful_input), TypeError, "inputs", "forgetful_input"
    ),
    "inputs a schedule for other neurons": Case(
        lambda: solve(inputs=schedule([0.0], np.ones((1, 9)))), ValueError, "inputs", "(1, 9)"
    ),
    # Schedule
    "onsets off the grid": Case(
        lambda: solve(inputs=schedule([0.0, 0.25])), ValueError, "onsets", "0.25"
    ),
    "onsets not from 0": Case(lambda: schedule([0.1, 0.2]), ValueError, "onsets", "0.1"),
    "onsets falling": Case(lambda: schedule([0.0, 0.5, 0.3]), ValueError, "onsets", "0.3"),
    "onsets repeated": Case(lambda: schedule([0.0, 0.5, 0.5]), ValueError, "onsets", "0.5"),
    "onsets NaN": Case(lambda: schedule([0.0, NAN]), ValueError, "onsets", "nan"),
    "onsets a number": Case(lambda: hj.Schedule(0.0, np.ones(8)), ValueError, "onsets", "()"),
    "onsets none": Case(lambda: schedule([], np.ones((0, 8))), ValueError, "onsets", "none"),
    "onsets a string": Case(lambda: schedule("0", np.ones((1, 8))), TypeError, "onsets", "'0'"),
    "values of another number": Case(
        lambda: schedule([0.0, 0.5], np.ones((3, 8))), ValueError, "values", "(3, 8)"
    ),
    "values 1-D": Case(lambda: schedule([0.0], np.ones(8)), ValueError, "values", "(8,)"),
    "values infinite": Case(
        lambda: schedule([0.0], np.full((1, 8), INF)), ValueError, "values", "inf"
    ),
    "duration of the window": Case(
        lambda: schedule([0.0, 0.5, 0.7]).pulsed(0.3), ValueError, "duration", "0.3"
    ),
    "duration 0": Case(lambda: schedule([0.0]).pulsed(0), ValueError, "duration", "0.0"),
    # noise and key
    "noise a number": Case(lambda: noisy(8.0), TypeError, "noise", "8.0"),
    "noise a class": Case(
        lambda: noisy(hj.AdditiveNoise), TypeError, "noise", "the class AdditiveNoise"
    ),
    "noise a law": Case(lambda: noisy(hj.Gaussian()), TypeError, "noise", "Gaussian"),
    "noise of wrong size": Case(
        lambda: noisy(hj.AdditiveNoise(np.ones(7))), ValueError, "noise.diffusion", "(7,)"
    ),
    "noise function of wrong size": Case(
        lambda: noisy(hj.MultiplicativeNoise(short)), ValueError, "noise.diffusion", "(3,)"
    ),
    "strength negative": Case(lambda: hj.AdditiveNoise(-1), ValueError, "strength", "-1.0"),
    "strength NaN": Case(lambda: hj.AdditiveNoise(NAN), ValueError, "strength", "nan"),
    "strength a matrix": Case(
        lambda: hj.AdditiveNoise(np.eye(8)), ValueError, "strength", "(8, 8)"
    ),
    "strength a function": Case(lambda: hj.AdditiveNoise(half), TypeError, "strength", "half"),
    "strength not a function": Case(
        lambda: hj.MultiplicativeNoise(0.5), TypeError, "strength", "0.5"
    ),
    "law unknown": Case(lambda: hj.AdditiveNoise(1, "normal"), ValueError, "law", "'normal'"),
    "law a class": Case(lambda: hj.AdditiveNoise(1, hj.Gaussian), TypeError, "law", "Gaussian"),
    "law None": Case(lambda: hj.MultiplicativeNoise(half, None), TypeError, "law", "None"),
    "refinement negative": Case(lambda: hj.Gaussian(refinement=-1), ValueError, "refinement", "-1"),
    "refinement too fine": Case(lambda: hj.Gaussian(refinement=21), ValueError, "refinement", "21"),
    "refinement traced": Case(
        lambda: jax.jit(lambda k: hj.AdditiveNoise(1, hj.Gaussian(refinement=k)))(1),
        TypeError,
        "refinement",
        "traced",
    ),
    "refinement not whole": Case(
        lambda: hj.Gaussian(refinement=0.5), TypeError, "refinement", "0.5"
    ),
    "full_precision an integer": Case(
        lambda: hj.Gaussian(full_precision=1), TypeError, "full_precision", "1 (int)"
    ),
    "tolerance too coarse": Case(lambda: hj.BrownianTree(1.0), ValueError, "tolerance", "1.0"),
    "tolerance 0": Case(lambda: hj.BrownianTree(0.0), ValueError, "tolerance", "0.0"),
    "key missing": Case(lambda: noisy(key=None), ValueError, "key", "None"),
    "key an integer": Case(lambda: noisy(key=0), TypeError, "key", "0 (int)"),
    "key of floats": Case(lambda: noisy(key=np.zeros(2)), TypeError, "key", "float64"),
    "key batched": Case(lambda: noisy(key=jax.random.split(KEY, 3)), ValueError, "key", "(3,)"),
    "key batched, legacy": Case(
        lambda: noisy(key=np.zeros((3, 2), np.uint32)), TypeError, "key", "(3, 2)"
    ),
    "key of another generator": Case(
        lambda: noisy(key=jax.random.key(0, impl="rbg")), ValueError, "key", "rbg"
    ),
    # solver, steps, adjoint
    "solver a class": Case(lambda: solve(solver=dfx.Euler), TypeError, "solver", "the class Euler"),
    "solver a name": Case(lambda: solve(solver="euler"), TypeError, "solver", "'euler'"),
    "solver for no noise": Case(lambda: noisy(solver=dfx.Tsit5()), ValueError, "solver", "Tsit5()"),
    "solver that splits": Case(
        lambda: solve(solver=dfx.KenCarp4(), stepsize_controller=PID),
        ValueError,
        "solver",
        "KenCarp4()",
    ),
    "solver for Langevin": Case(
        lambda: noisy(solver=dfx.QUICSORT()), ValueError, "solver", "QUICSORT()"
    ),
    "solver that needs noise": Case(
        lambda: solve(solver=dfx.ShARK()), ValueError, "solver", "ShARK()"
    ),
    "solver of another calculus": Case(
        lambda: noisy(hj.MultiplicativeNoise(half), solver=dfx.Heun()),
        ValueError,
        "solver",
        "Heun()",
    ),
    "solver of half steps": Case(
        lambda: noisy(solver=dfx.HalfSolver(dfx.Euler())),
        ValueError,
        "solver",
        "HalfSolver(Euler())",
    ),
    "solver that needs the Lévy area": Case(
        lambda: noisy(hj.AdditiveNoise(1, "two_point"), solver=dfx.SEA()),
        ValueError,
        "solver",
        "SEA()",
    ),
    "solver without error estimate": Case(
        lambda: solve(solver=dfx.Euler(), stepsize_controller=PID), ValueError, "solver", "Euler()"
    ),
    "solver implicit without tolerance": Case(
        lambda: solve(solver=dfx.ImplicitEuler()), ValueError, "solver", "ImplicitEuler()"
    ),
    "adaptive steps on a grid law": Case(
        lambda: noisy(stepsize_controller=PID), ValueError, "stepsize_controller", "PIDController"
    ),
    "steps listed": Case(
        lambda: solve(stepsize_controller=dfx.StepTo(ts=[0.0, 0.5, 1.0])),
        TypeError,
        "stepsize_controller",
        "StepTo",
    ),
    "controller a class": Case(
        lambda: solve(stepsize_controller=dfx.PIDController),
        TypeError,
        "stepsize_controller",
        "the class PIDController",
    ),
    "adjoint that solves backwards": Case(
        lambda: solve(adjoint=dfx.BacksolveAdjoint()), TypeError, "adjoint", "BacksolveAdjoint"
    ),
    "adjoint a class": Case(
        lambda: solve(adjoint=dfx.ForwardMode), TypeError, "adjoint", "the class ForwardMode"
    ),
    "adjoint of reverse mode in forward mode": Case(
        lambda: jax.jvp(lambda s: noisy(hj.AdditiveNoise(s)).overlaps, (0.5,), (1.0,)),
        ValueError,
        "adjoint",
        "RecursiveCheckpointAdjoint",
    ),
    # Trial
    "model of a trial": Case(lambda: trial(model=MEMORIES), TypeError, "model", "(2, 8)"),
    "model of a trial a class": Case(
        lambda: trial(model=hj.IDPHopfield), TypeError, "model", "the class IDPHopfield"
    ),
    "model of a trial batched": Case(
        lambda: trial(model=jax.vmap(hj.IDPHopfield)(np.stack(3 * [MEMORIES]))),
        ValueError,
        "model.memories",
        "(3, 2, 8)",
    ),
    "inputs of a trial a string": Case(lambda: trial(inputs="u"), TypeError, "inputs", "'u'"),
    "inputs of a trial None": Case(lambda: trial(inputs=None), TypeError, "inputs", "None"),
    "inputs of a trial NaN": Case(
        lambda: trial(inputs=np.full(8, NAN)), ValueError, "inputs", "nan"
    ),
    "inputs of a trial batched": Case(
        lambda: trial(inputs=np.ones((3, 8))), ValueError, "inputs", "(3, 8)"
    ),
    "inputs of a trial too short": Case(
        lambda: ensemble(trial(inputs=np.ones(7))), ValueError, "inputs", "(7,)"
    ),
    "inputs of a trial for other neurons": Case(
        lambda: ensemble(trial(inputs=schedule([0.0], np.ones((1, 9))))),
        ValueError,
        "inputs",
        "(1, 9)",
    ),
    "onsets of a trial off the grid": Case(
        lambda: ensemble(trial(inputs=schedule([0.0, 0.15]), target=0)),
        ValueError,
        "onsets",
        "0.15",
    ),
    "x0 of a trial too short": Case(lambda: trial(x0=np.ones(7)), ValueError, "x0", "(7,)"),
    "x0 of a trial batched": Case(lambda: trial(x0=np.ones((3, 8))), ValueError, "x0", "(3, 8)"),
    "x0 of a trial a string": Case(lambda: trial(x0="random"), TypeError, "x0", "'random'"),
    "noise of a trial a number": Case(lambda: trial(noise=8.0), TypeError, "noise", "8.0"),
    "noise of a trial a class": Case(
        lambda: trial(noise=hj.AdditiveNoise), TypeError, "noise", "the class AdditiveNoise"
    ),
    "target beyond the memories": Case(lambda: trial(target=2), ValueError, "target", "got 2"),
    "target negative": Case(lambda: trial(target=-1), ValueError, "target", "-1"),
    "target not whole": Case(lambda: trial(target=0.0), TypeError, "target", "0.0"),
    "target a flag": Case(lambda: trial(target=True), TypeError, "target", "True"),
    "target a pattern": Case(lambda: trial(target=MEMORIES[0]), TypeError, "target", "(8,)"),
    "targets none": Case(lambda: trial(target=[]), ValueError, "target", "got none"),
    "targets an empty array": Case(
        lambda: trial(target=np.zeros(0, int)), TypeError, "target", "(0,)"
    ),
    "targets beyond the memories": Case(
        lambda: trial(target=[0, 2]), ValueError, "target", "got 2"
    ),
    "targets not whole": Case(lambda: trial(target=(0, 1.5)), TypeError, "target", "1.5"),
    "targets in rows": Case(lambda: trial(target=[[0], [1]]), TypeError, "target", "[0]"),
    "targets of a margin beyond the memories": Case(
        lambda: hj.Criterion().margin(hj.IDPHopfield(MEMORIES), jnp.zeros(8), jnp.zeros(2), 5),
        ValueError,
        "target",
        "got 5",
    ),
    "model of a margin a class": Case(
        lambda: hj.Criterion().margin(hj.IDPHopfield, jnp.zeros(8), jnp.zeros(2), 0),
        TypeError,
        "model",
        "the class IDPHopfield",
    ),
    "state of a margin too short": Case(
        lambda: hj.Criterion().margin(hj.IDPHopfield(MEMORIES), jnp.zeros(7), jnp.zeros(2), 0),
        ValueError,
        "state",
        "(7,)",
    ),
    "state of a margin without the memory neurons": Case(
        lambda: hj.Criterion().margin(hj.TwoLayerHopfield(MEMORIES), jnp.zeros(8), jnp.zeros(2), 0),
        ValueError,
        "state",
        "must be of shape (10,), got shape (8,)",
    ),
    "overlaps of a margin batched": Case(
        lambda: hj.Criterion().margin(hj.IDPHopfield(MEMORIES), jnp.zeros(8), jnp.zeros((3, 2)), 0),
        ValueError,
        "overlaps",
        "(3, 2)",
    ),
    "overlaps of a margin a string": Case(
        lambda: hj.Criterion().margin(hj.IDPHopfield(MEMORIES), jnp.zeros(8), "high", 0),
        TypeError,
        "overlaps",
        "'high'",
    ),
    "key of a trial an integer": Case(lambda: trial(key=0), TypeError, "key", "0 (int)"),
    "key of a trial batched": Case(
        lambda: trial(key=jax.random.split(KEY, 3)), ValueError, "key", "(3,)"
    ),
    # Criterion
    "threshold 0": Case(lambda: hj.Criterion(0.0), ValueError, "threshold", "0.0"),
    "threshold a string": Case(lambda: hj.Criterion("high"), TypeError, "threshold", "'high'"),
    "threshold NaN": Case(lambda: hj.Criterion(NAN), ValueError, "threshold", "nan"),
    "mixed negative": Case(lambda: hj.Criterion(mixed=-0.3), ValueError, "mixed", "-0.3"),
    "mixed above the threshold": Case(
        lambda: hj.Criterion(0.5, mixed=0.6), ValueError, "mixed", "0.6"
    ),
    "settle negative": Case(lambda: hj.Criterion(settle=-1), ValueError, "settle", "-1"),
    "settle a list": Case(lambda: hj.Criterion(settle=[1.0]), TypeError, "settle", "[1.0]"),
    "settle traced": Case(
        lambda: jax.jit(lambda s: hj.Criterion(settle=s).settle)(1.0),
        TypeError,
        "settle",
        "traced",
    ),
    "settle beyond the end": Case(
        lambda: ensemble(criterion=hj.Criterion(settle=0.3)), ValueError, "settle", "0.3"
    ),
    "since negative": Case(lambda: hj.Criterion(since=-0.1), ValueError, "since", "-0.1"),
    "since infinite": Case(lambda: hj.Criterion(since=INF), ValueError, "since", "inf"),
    "since the end": Case(
        lambda: ensemble(criterion=hj.Criterion(since=0.2)), ValueError, "since", "0.2"
    ),
    "mirror an integer": Case(lambda: hj.Criterion(mirror=1), TypeError, "mirror", "1 (int)"),
    "judge unknown": Case(lambda: hj.Criterion(judge="median"), ValueError, "judge", "'median'"),
    "judge a number": Case(lambda: hj.Criterion(judge=1), ValueError, "judge", "got 1"),
    "amplitude negative": Case(
        lambda: hj.Criterion(amplitude=-0.1), ValueError, "amplitude", "zero or positive, got -0.1"
    ),
    "threshold of a perfect copy": Case(
        lambda: hj.Criterion(1.0), ValueError, "threshold", "below 1, the overlap of a perfect"
    ),
    "amplitude a string": Case(
        lambda: hj.Criterion(amplitude="half"), TypeError, "amplitude", "'half'"
    ),
    # solve_ensemble
    "trial a model": Case(
        lambda: ensemble(hj.IDPHopfield(MEMORIES)), TypeError, "trial", "IDPHopfield"
    ),
    "save_fn of an ensemble a number": Case(
        lambda: ensemble(save_fn=1.0), TypeError, "save_fn", "1.0"
    ),
    "passage_fn of an ensemble a number": Case(
        lambda: ensemble(passage_fn=0.9), TypeError, "passage_fn", "0.9"
    ),
    "passage_fn of an ensemble a condition": Case(
        lambda: ensemble(passage_fn=condition), TypeError, "passage_fn", "dtype bool"
    ),
    "trial a function that makes something else": Case(
        lambda: ensemble(model_of_key), TypeError, "trial", "IDPHopfield"
    ),
    "trial a function of nothing": Case(lambda: ensemble(no_key), TypeError, "trial", "no_key"),
    "trial a class": Case(lambda: ensemble(hj.Trial), TypeError, "trial", "the class Trial"),
    "trials 0": Case(lambda: ensemble(trials=0), ValueError, "trials", "0"),
    "trials not whole": Case(lambda: ensemble(trials=1e3), TypeError, "trials", "1000.0"),
    "trials a flag": Case(lambda: ensemble(trials=True), TypeError, "trials", "True"),
    "key of an ensemble": Case(lambda: ensemble(key=0), TypeError, "key", "0 (int)"),
    "key of an ensemble, many": Case(
        lambda: ensemble(key=jax.random.split(KEY, 4)), ValueError, "key", "(4,)"
    ),
    "key of an ensemble, another generator": Case(
        lambda: ensemble(key=jax.random.key(0, impl="rbg")), ValueError, "key", "rbg"
    ),
    "t1 of an ensemble": Case(lambda: ensemble(t1=0.25), ValueError, "t1", "0.25"),
    "dt of an ensemble": Case(lambda: ensemble(dt=0.0), ValueError, "dt", "0.0"),
    "save_every of an ensemble": Case(
        lambda: ensemble(save_every=0.15), ValueError, "save_every", "0.15"
    ),
    "save_every of an ensemble 0": Case(
        lambda: ensemble(save_every=0), ValueError, "save_every", "0.0"
    ),
    "criterion a threshold": Case(lambda: ensemble(criterion=0.9), TypeError, "criterion", "0.9"),
    "criterion a class": Case(
        lambda: ensemble(criterion=hj.Criterion), TypeError, "criterion", "the class Criterion"
    ),
    "reductions a list": Case(
        lambda: ensemble(reductions=[hj.Moments(is_fine)]), TypeError, "reductions", "Moments"
    ),
    "reductions without a name": Case(
        lambda: ensemble(reductions=hj.Moments(is_fine)), TypeError, "reductions", "Moments"
    ),
    "reductions a function": Case(
        lambda: ensemble(reductions={"mine": is_fine}), TypeError, "reductions['mine']", "is_fine"
    ),
    "reductions a class": Case(
        lambda: ensemble(reductions={"mine": hj.Moments}),
        TypeError,
        "reductions['mine']",
        "the class Moments",
    ),
    "reductions of an own name": Case(
        lambda: ensemble(reductions={"overlap": hj.Moments(is_fine)}),
        ValueError,
        "reductions",
        "'overlap'",
    ),
    "reductions of no identifier": Case(
        lambda: ensemble(reductions={"my own": hj.Moments(is_fine)}),
        ValueError,
        "reductions",
        "'my own'",
    ),
    # draws outside the key
    "a start that NumPy draws": Case(
        lambda: ensemble(lambda key: trial(x0=DRAWS.normal(size=8))),
        ValueError,
        "trial",
        "two that differ in `x0`: draw from the trial's key instead",
    ),
    "an input that NumPy draws": Case(
        lambda: ensemble(trial(inputs=lambda t: t * DRAWS.normal(size=8), target=0)),
        ValueError,
        "trial",
        "`inputs`, which does not: draw from the trial's key instead",
    ),
    "a strength of noise that NumPy draws": Case(
        lambda: ensemble(trial(noise=hj.MultiplicativeNoise(lambda t, x: x * DRAWS.normal()))),
        ValueError,
        "trial",
        "`noise.diffusion`, which does not: draw",
    ),
    "a reduction that NumPy draws": Case(
        lambda: ensemble(reductions={"mine": hj.Moments(lambda *_: jnp.ones(2) * DRAWS.normal())}),
        ValueError,
        "reductions['mine']",
        "two measurements that differ: draw",
    ),
    "a tuned trial that NumPy draws": Case(
        lambda: tuned({"s": 1.0}, trial=lambda key, s: trial(x0=s * DRAWS.normal(size=8))),
        ValueError,
        "trial",
        "two that differ in `x0`: draw",
    ),
    "a loss that NumPy draws": Case(
        lambda: tuned(loss=Drawn()),
        ValueError,
        "loss",
        "two measurements that differ: draw",
    ),
    "a swept draw": Case(
        lambda: swept(lambda key, s: trial(x0=DRAWS.normal(size=8) * s)),
        ValueError,
        "trial",
        "two that differ in `x0`: draw",
    ),
    "a swept text that is a label": Case(
        lambda: swept(lambda key, s: trial(), [None, "null"]),
        ValueError,
        "sweep['s']",
        "'null' and None",
    ),
    "trajectories an integer": Case(
        lambda: ensemble(trajectories=1), TypeError, "trajectories", "1 (int)"
    ),
    "trajectories beyond max_bytes": Case(
        lambda: ensemble(trajectories=True, max_bytes=100), ValueError, "trajectories", "(4, 3, 2)"
    ),
    "max_bytes a string": Case(
        lambda: ensemble(max_bytes="1 GB"), TypeError, "max_bytes", "'1 GB'"
    ),
    "max_bytes 0": Case(lambda: ensemble(max_bytes=0), ValueError, "max_bytes", "0"),
    **{
        f"quantiles {quantiles!r}": Case(
            lambda quantiles=quantiles: hj.Study(
                of_arguments,
                {"x": [1.0]},
                trials=2,
                key=KEY,
                t1=0.2,
                dt=0.1,
                quantiles=quantiles,
            ),
            ValueError,
            "quantiles",
            repr(quantiles),
        )
        for quantiles in (
            *("01", "", b"01", {}, {0.5}, {0.5: 1}, 0.5, None, [True], [0, True], ["0.5"]),
            *([[0.5]], [0.5, 0.5], [0.9, 0.1], [-0.1], [1.1], [NAN], (0.5, None)),
        )
    },
    "swept integers beyond 64 bits": Case(
        lambda: swept(lambda key, s: trial(), [1, 2**63]), ValueError, "sweep['s']", "9223372036854"
    ),
    "a swept text that no file holds": Case(
        lambda: swept(lambda key, s: trial(), ["a", "b\0"]), ValueError, "sweep['s']", r"'b\x00'"
    ),
    "half of a swept letter": Case(
        lambda: swept(lambda key, s: trial(), ["a", "\ud800"]), ValueError, "sweep['s']", r"\ud800"
    ),
    "cells without end": Case(
        lambda: hj.Study(
            of_arguments,
            {name: np.arange(200.0).tolist() for name in ("x", "x_low", "x_0")},
            trials=2,
            key=KEY,
            t1=0.2,
            dt=0.1,
        ),
        ValueError,
        "sweep",
        "8000000",
    ),
    "chunk beyond memory": Case(
        lambda: ensemble(chunk=10**15), ValueError, "chunk", "1" + "0" * 15
    ),
    "chunk 0": Case(lambda: ensemble(chunk=0), ValueError, "chunk", "0"),
    "chunk not whole": Case(lambda: ensemble(chunk=2.5), TypeError, "chunk", "2.5"),
    "devices none": Case(lambda: ensemble(devices=[]), ValueError, "devices", "[]"),
    "devices a number": Case(lambda: ensemble(devices=2), TypeError, "devices", "2"),
    "devices one": Case(
        lambda: ensemble(devices=jax.devices()[0]), TypeError, "devices", "CpuDevice"
    ),
    "devices names": Case(lambda: ensemble(devices=["cpu"]), ValueError, "devices", "'cpu'"),
    "devices one twice": Case(
        lambda: ensemble(devices=2 * jax.devices()[:1]), ValueError, "devices", "CpuDevice"
    ),
    "solver of an ensemble": Case(lambda: ensemble(solver="euler"), TypeError, "solver", "'euler'"),
    "steps of an ensemble": Case(
        lambda: ensemble(stepsize_controller=PID),
        ValueError,
        "stepsize_controller",
        "PIDController",
    ),
    "progress an integer": Case(lambda: ensemble(progress=1), TypeError, "progress", "1 (int)"),
    # reductions
    "function of moments": Case(lambda: hj.Moments("mean"), TypeError, "function", "'mean'"),
    "function of a histogram": Case(
        lambda: histogram(function=None), TypeError, "function", "None"
    ),
    "function per trial": Case(lambda: hj.PerTrial(0.5), TypeError, "function", "0.5"),
    "function of moments, a dict": Case(
        lambda: measured(hj.Moments(named)), TypeError, "function", "dict"
    ),
    "function of a histogram, a dict": Case(
        lambda: measured(histogram(function=named)), TypeError, "function", "dict"
    ),
    "function per trial, a tuple": Case(
        lambda: measured(hj.PerTrial(pair)), TypeError, "function", "tuple"
    ),
    "function per trial, nothing": Case(
        lambda: measured(hj.PerTrial(no_value)), TypeError, "function", "None"
    ),
    "a dtype that no file holds": Case(
        lambda: measured(hj.PerTrial(lambda *_: jnp.ones(2, jnp.bfloat16))),
        TypeError,
        "function",
        "bfloat16",
    ),
    "a name that no file holds": Case(
        lambda: measured(hj.PerTrial(lambda *_: {"a/b": jnp.ones(2)})),
        ValueError,
        "function",
        "'a/b'",
    ),
    "low a string": Case(lambda: histogram(low="0"), TypeError, "low", "'0'"),
    "low infinite": Case(lambda: histogram(low=-INF), ValueError, "low", "-inf"),
    "high below low": Case(lambda: histogram(high=-1.0), ValueError, "high", "-1"),
    "high NaN": Case(lambda: histogram(high=NAN), ValueError, "high", "nan"),
    "bin_width 0": Case(lambda: histogram(bin_width=0), ValueError, "bin_width", "0.0"),
    "bin_width beyond the range": Case(
        lambda: histogram(bin_width=1.5), ValueError, "bin_width", "1.5"
    ),
    "bin_width too fine": Case(lambda: histogram(bin_width=1e-9), ValueError, "bin_width", "1e-09"),
    "bin_width a list": Case(lambda: histogram(bin_width=[0.1]), TypeError, "bin_width", "[0.1]"),
    # theory: the closed forms
    "activation of an amplitude": Case(
        lambda: theory.equilibrium_amplitude(3.0, jnp.tanh), TypeError, "activation", "tanh"
    ),
    "activation of a threshold": Case(
        lambda: theory.stability_threshold(3.0, 10.0), TypeError, "activation", "10.0 (float)"
    ),
    "activation of the existence threshold": Case(
        lambda: theory.existence_threshold(hj.Tanh), TypeError, "activation", "the class Tanh"
    ),
    "activation of a depth": Case(
        lambda: theory.well_energy(3.0, None), TypeError, "activation", "None"
    ),
    "activation of a growth rate": Case(
        lambda: theory.origin_growth_rate(0.1, 10.0), TypeError, "activation", "10.0"
    ),
    "activation of a mixture": Case(
        lambda: theory.mixture_overlap(3.0, 10.0), TypeError, "activation", "10.0"
    ),
    "activation of a mixture's threshold": Case(
        lambda: theory.mixture_stability_threshold(10.0), TypeError, "activation", "10.0"
    ),
    "activation of a mixture's depth": Case(
        lambda: theory.mixture_energy(3.0, 10.0), TypeError, "activation", "10.0"
    ),
    "activation of a spectrum": Case(
        lambda: theory.jacobian_spectrum([3.0], 10.0, memory=0, num_neurons=8),
        TypeError,
        "activation",
        "10.0",
    ),
    "activation under noise": Case(
        lambda: theory.NoisyActivation(10.0, 1.0), TypeError, "activation", "10.0"
    ),
    "activation of an overlap under noise": Case(
        lambda: theory.noisy_overlap(3.0, 1.0, 10.0), TypeError, "activation", "10.0"
    ),
    "activation of the critical noise": Case(
        lambda: theory.critical_noise(3.0, 10.0), TypeError, "activation", "10.0"
    ),
    "activation of the escape noise": Case(
        lambda: theory.escape_noise(1.5, 3.0, 10.0), TypeError, "activation", "10.0"
    ),
    "activation of the escape rate": Case(
        lambda: theory.escape_rate(1.5, 3.0, 1.0, 10.0), TypeError, "activation", "10.0"
    ),
    "alpha NaN": Case(
        lambda: theory.equilibrium_amplitude(NAN, hj.Tanh()), ValueError, "alpha", "nan"
    ),
    "alpha a string": Case(
        lambda: theory.critical_noise("3", hj.Tanh()), TypeError, "alpha", "'3'"
    ),
    "alpha complex": Case(
        lambda: theory.well_energy(3j, hj.Tanh()), TypeError, "alpha", "3j (complex)"
    ),
    "alpha infinite": Case(
        lambda: theory.noisy_overlap([1.0, INF], 1.0, hj.Tanh()), ValueError, "alpha", "inf"
    ),
    "alpha of a mixture": Case(
        lambda: theory.mixture_overlap(NAN, hj.Tanh()), ValueError, "alpha", "nan"
    ),
    "alpha of a mixture's depth": Case(
        lambda: theory.mixture_energy(NAN, hj.Tanh()), ValueError, "alpha", "nan"
    ),
    "alpha of a level": Case(
        lambda: theory.noise_at_overlap(NAN, 0.9, hj.Tanh()), ValueError, "alpha", "nan"
    ),
    "alpha of an escape": Case(
        lambda: theory.escape_noise(NAN, 3.0, hj.Tanh()), ValueError, "alpha", "nan"
    ),
    "alpha one number, not P": Case(
        lambda: theory.effective_saliency(3.0, 8), ValueError, "alpha", "()"
    ),
    "alpha a batch for a spectrum": Case(
        lambda: theory.jacobian_spectrum(np.ones((2, 3)), hj.Tanh(), memory=0, num_neurons=8),
        ValueError,
        "alpha",
        "(2, 3)",
    ),
    "alpha one number for crosstalk": Case(
        lambda: theory.crosstalk_noise(3.0, 1.0, hj.Tanh(), memory=0, num_neurons=8),
        ValueError,
        "alpha",
        "()",
    ),
    "alpha of other memories": Case(
        lambda: theory.largest_coupling(MEMORIES, np.ones(3)), ValueError, "alpha", "(3,)"
    ),
    "alpha_max NaN": Case(
        lambda: theory.stability_threshold(NAN, hj.Tanh()), ValueError, "alpha_max", "nan"
    ),
    "alpha_max of an escape": Case(
        lambda: theory.escape_noise(1.5, None, hj.Tanh()), TypeError, "alpha_max", "None"
    ),
    "alpha_max of an escape time": Case(
        lambda: theory.escape_time(1.5, INF, 1.0, hj.Tanh(), num_neurons=8),
        ValueError,
        "alpha_max",
        "inf",
    ),
    "coupling NaN": Case(
        lambda: theory.origin_growth_rate(NAN, hj.Tanh()), ValueError, "coupling", "nan"
    ),
    "coupling a string": Case(
        lambda: theory.origin_growth_rate("weak", hj.Tanh()), TypeError, "coupling", "'weak'"
    ),
    "memories of a coupling": Case(
        lambda: theory.largest_coupling(MEMORIES[0], [1.0]), ValueError, "memories", "(8,)"
    ),
    "noise of an activation negative": Case(
        lambda: theory.NoisyActivation(hj.Tanh(), -1.0), ValueError, "noise", "-1.0"
    ),
    "noise of an activation NaN": Case(
        lambda: theory.NoisyActivation(hj.Tanh(), NAN), ValueError, "noise", "nan"
    ),
    "noise of an activation for each pair of neurons": Case(
        lambda: theory.NoisyActivation(hj.Tanh(), np.ones((8, 8))), ValueError, "noise", "(8, 8)"
    ),
    "noise negative": Case(
        lambda: theory.noisy_overlap(3.0, [1.0, -2.0], hj.Tanh()),
        ValueError,
        "noise",
        "-2.0 at index [1]",
    ),
    "noise of an escape rate": Case(
        lambda: theory.escape_rate(1.5, 3.0, -1, hj.Tanh()), ValueError, "noise", "-1.0"
    ),
    "noise of an escape time": Case(
        lambda: theory.escape_time(1.5, 3.0, NAN, hj.Tanh(), num_neurons=8),
        ValueError,
        "noise",
        "nan",
    ),
    "noise of crosstalk": Case(
        lambda: theory.crosstalk_noise([3.0], -1.0, hj.Tanh(), memory=0, num_neurons=8),
        ValueError,
        "noise",
        "-1.0",
    ),
    "noise of steps": Case(lambda: theory.effective_noise(-1.0, 0.01), ValueError, "noise", "-1.0"),
    "noise of a report": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), MEMORIES[0], noise=-1.0),
        ValueError,
        "noise",
        "-1.0",
    ),
    "noise of a report for other neurons": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), MEMORIES[0], noise=np.ones(5)),
        ValueError,
        "noise",
        "(5,)",
    ),
    "overlap 0": Case(
        lambda: theory.noise_at_overlap(3.0, 0.0, hj.Tanh()), ValueError, "overlap", "0.0"
    ),
    "overlap 1": Case(
        lambda: theory.noise_at_overlap(3.0, [0.5, 1.0], hj.Tanh()), ValueError, "overlap", "1.0"
    ),
    "overlap in percent": Case(
        lambda: theory.noise_at_overlap(3.0, 90, hj.Tanh()), ValueError, "overlap", "90.0"
    ),
    "dt 0 for noise": Case(lambda: theory.effective_noise(1.0, 0), ValueError, "dt", "0.0"),
    "dt 2 for noise": Case(lambda: theory.effective_noise(1.0, 2), ValueError, "dt", "2.0"),
    "dt of a report": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), MEMORIES[0], dt=1.5),
        ValueError,
        "dt",
        "1.5",
    ),
    "num_neurons 0": Case(
        lambda: theory.effective_saliency([3.0], 0), ValueError, "num_neurons", "0"
    ),
    "num_neurons not whole": Case(
        lambda: theory.escape_time(1.5, 3.0, 1.0, hj.Tanh(), num_neurons=8.0),
        TypeError,
        "num_neurons",
        "8.0",
    ),
    "num_neurons of a spectrum": Case(
        lambda: theory.jacobian_spectrum([3.0], hj.Tanh(), memory=None, num_neurons="8"),
        TypeError,
        "num_neurons",
        "'8'",
    ),
    "num_neurons of crosstalk": Case(
        lambda: theory.crosstalk_noise([3.0], 1.0, hj.Tanh(), memory=0, num_neurons=-8),
        ValueError,
        "num_neurons",
        "-8",
    ),
    "self_coupling of a saliency": Case(
        lambda: theory.effective_saliency([3.0], 8, self_coupling=0),
        TypeError,
        "self_coupling",
        "0 (int)",
    ),
    "self_coupling of a spectrum": Case(
        lambda: theory.jacobian_spectrum(
            [3.0], hj.Tanh(), memory=0, num_neurons=8, self_coupling=None
        ),
        TypeError,
        "self_coupling",
        "None",
    ),
    "self_coupling of a coupling": Case(
        lambda: theory.largest_coupling(MEMORIES, np.ones(2), self_coupling="no"),
        TypeError,
        "self_coupling",
        "'no'",
    ),
    "memory beyond the last": Case(
        lambda: theory.jacobian_spectrum([3.0, 1.0], hj.Tanh(), memory=2, num_neurons=8),
        ValueError,
        "memory",
        "got 2",
    ),
    "memory negative": Case(
        lambda: theory.crosstalk_noise([3.0, 1.0], 1.0, hj.Tanh(), memory=-1, num_neurons=8),
        ValueError,
        "memory",
        "-1",
    ),
    "memory a pattern": Case(
        lambda: theory.find_memory(hj.IDPHopfield(MEMORIES), MEMORIES[0], MEMORIES[0]),
        TypeError,
        "memory",
        "(8,)",
    ),
    "memory to find": Case(
        lambda: theory.find_memory(hj.IDPHopfield(MEMORIES), MEMORIES[0], 2),
        ValueError,
        "memory",
        "got 2",
    ),
    "memory to classify": Case(
        lambda: theory.classify(hj.IDPHopfield(MEMORIES), MEMORIES[0], found(), memory=-1),
        ValueError,
        "memory",
        "-1",
    ),
    # theory: any model
    "model of an equilibrium": Case(
        lambda: theory.find_equilibrium(hj.IDPHopfield, MEMORIES[0], MEMORIES[0]),
        TypeError,
        "model",
        "the class IDPHopfield",
    ),
    "model of a memory": Case(
        lambda: theory.find_memory(MEMORIES, MEMORIES[0], 0), TypeError, "model", "(2, 8)"
    ),
    "model of eigenvalues": Case(
        lambda: theory.leading_eigenvalues("idp", np.ones(8), MEMORIES[0]),
        TypeError,
        "model",
        "'idp'",
    ),
    "model to classify": Case(
        lambda: theory.classify("idp", MEMORIES[0], found()), TypeError, "model", "'idp'"
    ),
    "model of a report": Case(lambda: theory.report(None, MEMORIES[0]), TypeError, "model", "None"),
    "u too short": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), np.ones(7)), ValueError, "u", "(7,)"
    ),
    "u a schedule": Case(
        lambda: theory.find_memory(hj.IDPHopfield(MEMORIES), schedule([0.0]), 0),
        TypeError,
        "u",
        "Schedule",
    ),
    "u a schedule at no time": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), schedule([0.0])), ValueError, "at", "None"
    ),
    "u a function at no time": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), jnp.sin), ValueError, "at", "None"
    ),
    "u a function of another shape": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), jnp.sin, at=1), ValueError, "u", "()"
    ),
    "u constant at a time": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), MEMORIES[0], at=1.0),
        ValueError,
        "at",
        "1.0",
    ),
    "at before the start": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), schedule([0.0]), at=-0.5),
        ValueError,
        "at",
        "-0.5",
    ),
    "at no number": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), schedule([0.0]), at="end"),
        TypeError,
        "at",
        "'end'",
    ),
    "at infinity": Case(
        lambda: theory.report(hj.IDPHopfield(MEMORIES), schedule([0.0]), at=INF),
        ValueError,
        "at",
        "inf",
    ),
    "u NaN": Case(
        lambda: theory.find_equilibrium(hj.IDPHopfield(MEMORIES), np.full(8, NAN), np.ones(8)),
        ValueError,
        "u",
        "nan",
    ),
    "u of a memory": Case(
        lambda: theory.find_memory(hj.IDPHopfield(MEMORIES), np.ones((2, 8)), 0),
        ValueError,
        "u",
        "(2, 8)",
    ),
    "u of eigenvalues": Case(
        lambda: theory.leading_eigenvalues(hj.IDPHopfield(MEMORIES), np.ones(8), 1.0),
        ValueError,
        "u",
        "()",
    ),
    "start too long": Case(
        lambda: theory.find_equilibrium(hj.IDPHopfield(MEMORIES), MEMORIES[0], np.ones(9)),
        ValueError,
        "start",
        "(9,)",
    ),
    "start infinite": Case(
        lambda: theory.find_equilibrium(hj.IDPHopfield(MEMORIES), MEMORIES[0], np.full(8, INF)),
        ValueError,
        "start",
        "inf",
    ),
    "state of eigenvalues": Case(
        lambda: theory.leading_eigenvalues(hj.IDPHopfield(MEMORIES), np.ones(7), MEMORIES[0]),
        ValueError,
        "state",
        "(7,)",
    ),
    "state an equilibrium": Case(
        lambda: theory.leading_eigenvalues(hj.IDPHopfield(MEMORIES), found(), MEMORIES[0]),
        TypeError,
        "state",
        "Equilibrium",
    ),
    "count 0": Case(
        lambda: theory.leading_eigenvalues(
            hj.IDPHopfield(MEMORIES), np.ones(8), MEMORIES[0], count=0
        ),
        ValueError,
        "count",
        "0",
    ),
    "count beyond the state": Case(
        lambda: theory.leading_eigenvalues(
            hj.IDPHopfield(MEMORIES), np.ones(8), MEMORIES[0], count=9
        ),
        ValueError,
        "count",
        "9",
    ),
    "equilibrium a state": Case(
        lambda: theory.classify(hj.IDPHopfield(MEMORIES), MEMORIES[0], np.ones(8)),
        TypeError,
        "equilibrium",
        "(8,)",
    ),
    # tuning: the trial and its parameters
    "trial to tune a class": Case(
        lambda: tuned(trial=hj.Retrieval), TypeError, "trial", "the class Retrieval"
    ),
    "trial to tune a model": Case(
        lambda: tuned(trial=hj.IDPHopfield(MEMORIES)), TypeError, "trial", "IDPHopfield"
    ),
    "trial to tune a function of a model": Case(
        lambda: tuned({"noise.strength": None}, trial=model_of_key),
        TypeError,
        "trial",
        "IDPHopfield",
    ),
    "trial to tune without a key": Case(
        lambda: tuned({"noise.strength": None}, trial=no_key), TypeError, "trial", "no_key"
    ),
    "parameters none": Case(lambda: tuned({}), ValueError, "parameters", "none"),
    "parameters a list": Case(lambda: tuned(["noise.strength"]), TypeError, "parameters", "list"),
    "parameters without names": Case(lambda: tuned({0: 1.0}), TypeError, "parameters", "got 0"),
    "parameters of a strange name": Case(
        lambda: tuned({"noise strength": 1.0}), ValueError, "parameters", "'noise strength'"
    ),
    "parameters indexed": Case(
        lambda: tuned({"model.memories[0]": 1.0}), ValueError, "parameters", "'model.memories[0]'"
    ),
    "parameters misspelt": Case(
        lambda: tuned_arguments({"stregth": 1.0}), ValueError, "parameters", "'strength'?"
    ),
    "parameters unknown": Case(
        lambda: tuned_arguments({"voltage": 1.0}), ValueError, "parameters", "known are strength, "
    ),
    "parameters of a function without any": Case(
        lambda: tuned({"strength": 1.0}, trial=of_key_only), ValueError, "parameters", "takes none"
    ),
    "parameters of a task misspelt": Case(
        lambda: tuned({"nois": 1.0}, trial=hj.Retrieval(num_neurons=8, num_memories=2)),
        ValueError,
        "parameters",
        "'noise'?",
    ),
    "parameters of a task that fix shapes": Case(
        lambda: tuned({"memory_load": 0.5}, trial=hj.Retrieval(num_neurons=8, num_memories=2)),
        ValueError,
        "parameters",
        "'memory_load'",
    ),
    "parameters of a partial misspelt": Case(
        lambda: tuned({"stregth": 1.0}, trial=eqx.Partial(of_arguments, loss=1.0)),
        ValueError,
        "parameters",
        "'strength'?",
    ),
    "path misspelt": Case(
        lambda: tuned({"noise.strenght": 1.0}), ValueError, "parameters", "'strength'?"
    ),
    "path misspelt at its beginning": Case(
        lambda: tuned({"modl.activation.slope": 1.0}), ValueError, "parameters", "'model'?"
    ),
    "path through an array": Case(
        lambda: tuned({"inputs.values": None}), ValueError, "parameters", "trial.inputs has no"
    ),
    "path through no noise": Case(
        lambda: tuned({"noise.strength": 1.0}, trial=trial(noise=None)),
        ValueError,
        "parameters",
        "trial.noise has no",
    ),
    "path of integers": Case(lambda: tuned({"target": 1.0}), ValueError, "parameters", "int32"),
    "path of a module": Case(
        lambda: tuned({"model.activation": 1.0}), ValueError, "parameters", "Tanh"
    ),
    "path of a flag": Case(
        lambda: tuned({"model.self_coupling": 1.0}), ValueError, "parameters", "bool"
    ),
    "path of another shape": Case(
        lambda: tuned({"x0": np.ones(7)}), ValueError, "parameters['x0']", "(7,)"
    ),
    "path of what is not finite": Case(
        lambda: tuned({"x0": None}, trial=trial(x0=np.full(8, INF))),
        ValueError,
        "parameters['x0']",
        "inf at index [0]",
    ),
    "start none": Case(
        lambda: tuned_arguments({"strength": None}), TypeError, "parameters['strength']", "None"
    ),
    "start a string": Case(
        lambda: tuned({"noise.strength": "loud"}), TypeError, "parameters['noise.strength']", "loud"
    ),
    "start a flag": Case(
        lambda: tuned({"noise.strength": True}), TypeError, "parameters['noise.strength']", "True"
    ),
    "start ragged": Case(
        lambda: tuned_arguments({"strength": [[1.0], [1.0, 2.0]]}),
        TypeError,
        "parameters['strength']",
        "[[1.0], [1.0, 2.0]]",
    ),
    "start strings in rows": Case(
        lambda: tuned_arguments({"strength": np.array([["a", "b"], ["c", "d"]])}),
        TypeError,
        "parameters['strength']",
        "'d'",
    ),
    "start NaN": Case(
        lambda: tuned({"noise.strength": NAN}), ValueError, "parameters['noise.strength']", "nan"
    ),
    "start NaN in rows": Case(
        lambda: tuned_arguments({"strength": np.full((3, 30), NAN)}),
        ValueError,
        "parameters['strength']",
        "nan at index [0, 0]",
    ),
    "start without numbers": Case(
        lambda: tuned_arguments({"strength": []}), ValueError, "parameters['strength']", "(0,)"
    ),
    "parameter named as the loss": Case(
        lambda: tuned_arguments({"loss": 1.0}), ValueError, "parameters", "'loss'"
    ),
    "parameter named as the end of another one": Case(
        lambda: tuned_arguments({"x": 1.0, "x_low": 1.0}), ValueError, "parameters", "'x_low'"
    ),
    "parameter named as the axis of another one": Case(
        lambda: tuned_arguments({"x": [1.0, 2.0], "x_0": 1.0}), ValueError, "parameters", "'x_0'"
    ),
    # tuning: bounds
    "bounds a pair": Case(lambda: tuned(bounds=(0, 1)), TypeError, "bounds", "(0, 1)"),
    "bounds of something else": Case(
        lambda: tuned(bounds={"noise.strenth": (0, 1)}), ValueError, "bounds", "'noise.strength'?"
    ),
    "bounds a number": Case(
        lambda: tuned(bounds={"noise.strength": 0.0}), TypeError, "bounds['noise.strength']", "0.0"
    ),
    "bounds of three": Case(
        lambda: tuned(bounds={"noise.strength": (0, 1, 2)}),
        TypeError,
        "bounds['noise.strength']",
        "(0, 1, 2)",
    ),
    "bounds a string": Case(
        lambda: tuned(bounds={"noise.strength": "01"}),
        TypeError,
        "bounds['noise.strength']",
        "'01'",
    ),
    "bounds of strings": Case(
        lambda: tuned(bounds={"noise.strength": ("0", None)}),
        TypeError,
        "bounds['noise.strength']",
        "'0'",
    ),
    "bounds NaN": Case(
        lambda: tuned(bounds={"noise.strength": (NAN, None)}),
        ValueError,
        "bounds['noise.strength']",
        "nan",
    ),
    "bounds infinite": Case(
        lambda: tuned(bounds={"noise.strength": (0.0, INF)}),
        ValueError,
        "bounds['noise.strength']",
        "inf",
    ),
    "bounds reversed": Case(
        lambda: tuned(bounds={"noise.strength": (1.0, 0.0)}),
        ValueError,
        "bounds['noise.strength']",
        "(1, 0)",
    ),
    "bounds without room": Case(
        lambda: tuned(bounds={"noise.strength": (0.5, 0.5)}),
        ValueError,
        "bounds['noise.strength']",
        "(0.5, 0.5)",
    ),
    "start below its bounds": Case(
        lambda: tuned(bounds={"noise.strength": (1.0, None)}),
        ValueError,
        "parameters['noise.strength']",
        "got 0.5",
    ),
    "start on its lower bound": Case(
        lambda: tuned(bounds={"noise.strength": (0.5, 1.0)}),
        ValueError,
        "parameters['noise.strength']",
        "got 0.5",
    ),
    "start on its upper bound": Case(
        lambda: tuned(bounds={"noise.strength": (None, 0.5)}),
        ValueError,
        "parameters['noise.strength']",
        "got 0.5",
    ),
    "start partly above its bounds": Case(
        lambda: tuned({"x0": np.linspace(0, 1, 8)}, bounds={"x0": (-1.0, 0.9)}),
        ValueError,
        "parameters['x0']",
        "1.0 at index [7]",
    ),
    # tuning: the loss
    "loss a class": Case(
        lambda: tuned(loss=hj.OverlapLoss), TypeError, "loss", "the class OverlapLoss"
    ),
    "loss a function": Case(lambda: tuned(loss=is_fine), TypeError, "loss", "is_fine"),
    "loss that measures nothing": Case(
        lambda: tuned(loss=Measured()), TypeError, "loss", "`measure` of real numbers, got None"
    ),
    "loss that measures an array": Case(
        lambda: tuned(loss=Measured(jnp.ones(2))), TypeError, "loss", "f64[2]"
    ),
    "loss that measures integers": Case(
        lambda: tuned(loss=Measured(jnp.ones((), int))), TypeError, "loss", "i64[]"
    ),
    "loss without a value": Case(
        lambda: tuned(loss=Measured(None, True)), TypeError, "loss", "`value` of real numbers"
    ),
    "loss with two values": Case(
        lambda: tuned(loss=Measured([jnp.ones(2)], True)), TypeError, "loss", "f64[2]"
    ),
    "since of a time beyond what is saved": Case(
        lambda: tuned(
            loss=hj.InputCost() + hj.TimeLoss(),
            criterion=hj.Criterion(since=0.25),
            t1=0.3,
            save_every=0.2,
        ),
        ValueError,
        "since",
        "last saved time 0.2",
    ),
    "goal above 1": Case(lambda: hj.OverlapLoss(goal=1.1), ValueError, "goal", "1.1"),
    "goal negative": Case(lambda: hj.RetrievalLoss(goal=-0.1), ValueError, "goal", "-0.1"),
    "goal NaN": Case(lambda: hj.OverlapLoss(goal=NAN), ValueError, "goal", "nan"),
    "goal a string": Case(lambda: hj.OverlapLoss(goal="high"), TypeError, "goal", "'high'"),
    "at_least above 1": Case(lambda: hj.OverlapLoss(at_least=2), ValueError, "at_least", "2"),
    "at_least beside a goal": Case(
        lambda: hj.RetrievalLoss(goal=0.9, at_least=0.8), ValueError, "at_least", "`goal` is given"
    ),
    "temperature 0": Case(
        lambda: hj.RetrievalLoss(temperature=0.0), ValueError, "temperature", "0.0"
    ),
    "temperature negative": Case(
        lambda: hj.TimeLoss(temperature=-1.0), ValueError, "temperature", "-1.0"
    ),
    "temperature traced": Case(
        lambda: jax.jit(lambda t: hj.TimeLoss(temperature=t).temperature)(1.0),
        TypeError,
        "temperature",
        "traced",
    ),
    "straight_through a string": Case(
        lambda: hj.RetrievalLoss(straight_through="yes"), TypeError, "straight_through", "'yes'"
    ),
    "power of a cost below 1": Case(lambda: hj.InputCost(0.5), ValueError, "power", "0.5"),
    "power of a cost infinite": Case(lambda: hj.InputCost(INF), ValueError, "power", "inf"),
    "power of a cost a string": Case(lambda: hj.InputCost("2"), TypeError, "power", "'2'"),
    "losses a single one": Case(
        lambda: hj.WeightedSum(hj.InputCost()), TypeError, "losses", "InputCost"
    ),
    "losses a number": Case(lambda: hj.InputCost().__add__(1.0), TypeError, "losses", "1.0"),
    "losses none": Case(lambda: hj.WeightedSum([]), ValueError, "losses", "got none"),
    "weights too few": Case(
        lambda: hj.WeightedSum([hj.InputCost(), hj.TimeLoss()], [1.0]), ValueError, "weights", "1"
    ),
    "weights a number": Case(
        lambda: hj.WeightedSum([hj.InputCost()], 2.0), TypeError, "weights", "2.0"
    ),
    "weight a string": Case(lambda: hj.InputCost().__mul__("2"), TypeError, "weight", "'2'"),
    "weight NaN": Case(lambda: NAN * hj.InputCost(), ValueError, "weight", "nan"),
    # tuning: how
    "optimiser a string": Case(lambda: tuned(optimiser="adam"), TypeError, "optimiser", "str"),
    "optimiser not made yet": Case(
        lambda: tuned(optimiser=optax.adam), TypeError, "optimiser", "function"
    ),
    "optimiser that needs the function": Case(
        lambda: tuned(optimiser=optax.lbfgs()), TypeError, "optimiser", "this one fails"
    ),
    "mode of tuning unknown": Case(lambda: tuned(mode="both"), ValueError, "mode", "'both'"),
    "trials to tune 0": Case(lambda: tuned(trials=0), ValueError, "trials", "0"),
    "trials to tune a float": Case(lambda: tuned(trials=2.0), TypeError, "trials", "2.0"),
    "steps 0": Case(lambda: tuned(steps=0), ValueError, "steps", "0"),
    "steps a float": Case(lambda: tuned(steps=1e3), TypeError, "steps", "1000.0"),
    "window 0": Case(lambda: tuned(window=0), ValueError, "window", "0"),
    "verify 0": Case(lambda: tuned(verify=0), ValueError, "verify", "0"),
    "verify beyond keys": Case(lambda: tuned(verify=2**31), ValueError, "verify", "2147483648"),
    "steps beyond keys": Case(lambda: tuned(steps=2**31), ValueError, "steps", "2147483648"),
    "verify a flag": Case(lambda: tuned(verify=True), TypeError, "verify", "True"),
    "tolerance of tuning 0": Case(lambda: tuned(tolerance=0), ValueError, "tolerance", "0.0"),
    "tolerance a string": Case(lambda: tuned(tolerance="1%"), TypeError, "tolerance", "'1%'"),
    "fresh an integer": Case(lambda: tuned(fresh=1), TypeError, "fresh", "1 (int)"),
    "progress of tuning a string": Case(
        lambda: tuned(progress="no"), TypeError, "progress", "'no'"
    ),
    "resume an integer": Case(lambda: tuned(resume=0), TypeError, "resume", "0 (int)"),
    "elsewhere none": Case(lambda: tuned(elsewhere=None), TypeError, "elsewhere", "None"),
    "folder a number": Case(lambda: tuned(folder=3), TypeError, "folder", "3 (int)"),
    "criterion of tuning a number": Case(
        lambda: tuned(criterion=0.9), TypeError, "criterion", "0.9"
    ),
    "settle of tuning beyond t1": Case(
        lambda: tuned(criterion=hj.Criterion(settle=0.25)), ValueError, "settle", "0.25"
    ),
    "chunk of tuning 0": Case(lambda: tuned(chunk=0), ValueError, "chunk", "0"),
    "devices of tuning none": Case(lambda: tuned(devices=[]), ValueError, "devices", "[]"),
    "key of tuning a seed": Case(lambda: tuned(key=0), TypeError, "key", "0 (int)"),
    "t1 of tuning off the grid": Case(lambda: tuned(t1=0.25), ValueError, "t1", "0.25"),
    "dt of tuning traced": Case(
        lambda: jax.jit(lambda dt: tuned(dt=dt).reason)(0.1), TypeError, "dt", "traced"
    ),
    "save_every of tuning beyond t1": Case(
        lambda: tuned(save_every=0.3), ValueError, "save_every", "0.3"
    ),
    "solver of tuning a string": Case(
        lambda: tuned(solver="euler"), TypeError, "solver", "'euler'"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_one_clear_line(name):
    case = CASES[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        case.call()
    message = str(caught.value)
    assert isinstance(caught.value, TypeError) == (case.error is TypeError)
    assert "\n" not in message
    assert message.startswith("Argument `")
    assert f"`{case.argument}`" in message
    assert case.shows in message
    # What is right comes before what was given.
    assert re.search(r"\bmust\b|\bmust not\b", message)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda a, b: theory.noisy_overlap(a, b, hj.Tanh()), ("alpha", "noise")),
        (lambda a, b: theory.escape_noise(a, b, hj.Tanh()), ("alpha", "alpha_max")),
        (lambda a, b: theory.noise_at_overlap(a, b, hj.Tanh()), ("alpha", "overlap")),
        (theory.effective_noise, ("noise", "dt")),
    ],
)
def test_arguments_that_do_not_broadcast_are_named(function, names):
    with pytest.raises((TypeError, ValueError)) as caught:
        function(np.full(3, 0.5), np.full(2, 0.5))
    message = str(caught.value)
    assert caught.type is ValueError
    assert "\n" not in message
    assert "must" in message
    for part in (*names, "(3,)", "(2,)"):
        assert part in message


# Under a transformation: what is static is refused as above, array values fail at run time.


def test_wrong_shapes_are_refused_while_tracing():
    with pytest.raises(
        ValueError, match=r"^Argument `x0` must be of shape \(8,\), got shape \(7,\)"
    ):
        jax.jit(lambda x0: solve(x0=x0).overlaps)(np.ones(7))
    with pytest.raises(ValueError, match=r"^Argument `memories` must be of shape \(P, N\)"):
        jax.vmap(lambda memories: hj.IDPHopfield(memories).memories)(MEMORIES)


TRACED = {
    "target beyond the memories": (
        lambda target: trial(target=target).target,
        1,
        2,
        "`target` must be",
    ),
    "target negative": (lambda target: trial(target=target).target, 0, -1, "`target` must be"),
    "one of two targets beyond the memories": (
        lambda target: trial(target=[0, target]).target,
        1,
        2,
        "`target` must be",
    ),
    "memories with 0": (
        lambda memories: hj.IDPHopfield(memories).memories,
        MEMORIES,
        with_entry(MEMORIES, 0.0),
        "`memories` must be -1 or +1 in every entry",
    ),
    "memories with NaN": (
        lambda memories: hj.ClassicHopfield(memories).memories,
        MEMORIES,
        with_entry(MEMORIES, NAN),
        "`memories` must be -1 or +1 in every entry",
    ),
    "memories of rates with 2": (
        lambda memories: hj.FiringRateHopfield(memories, 0.5).memories,
        RATES,
        with_entry(RATES, 2.0),
        "`memories` must be 0 or 1 in every entry",
    ),
    "memories of rates silent": (
        lambda memories: hj.FiringRateHopfield(memories, 0.5).memories,
        RATES,
        np.stack([RATES[0], np.zeros(8)]),
        "`memories` must be neither all 0 nor all 1 in any row",
    ),
    "density of rates 1": (
        lambda density: hj.FiringRateHopfield(RATES, density).density,
        0.5,
        1.0,
        "`density` must be between 0 and 1",
    ),
    "memories of attention empty": (
        lambda memories: hj.DynamicAttention(memories, 1.0).memories,
        MEMORIES,
        np.stack([MEMORIES[0], np.zeros(8)]),
        "`memories` must be not zero in all of a row",
    ),
    "beta negative": (
        lambda beta: hj.DynamicAttention(MEMORIES, beta).beta,
        1.0,
        -1.0,
        "`beta` must be positive",
    ),
    "power below 2": (
        lambda power: hj.DenseHopfield(MEMORIES, hj.PowerSeparation(power)).separation,
        3.0,
        1.0,
        "`power` must be at least 2",
    ),
    "memory_time_constant 0": (
        lambda tau: two_layers(memory_time_constant=tau).memory_time_constant,
        0.1,
        0.0,
        "`memory_time_constant` must be positive",
    ),
    "memories repeated": (
        lambda memories: hj.DecorrelatedHopfield(memories).memories,
        MEMORIES,
        MEMORIES[[0, 0]],
        "`memories` must be linearly independent",
    ),
    "pattern of 0 and 1": (
        lambda pattern: two_layers().with_memory(pattern).memories,
        MEMORIES[0],
        RATES[0],
        "`memories` must be -1 or +1 in every entry",
    ),
    "slope negative": (lambda d: hj.Tanh(d).slope, 1.0, -1.0, "`slope` must be positive"),
    "slope NaN": (lambda d: hj.Erf(d).slope, 1.0, NAN, "`slope` must be finite"),
    "strength negative": (
        lambda sigma: hj.AdditiveNoise(sigma).strength,
        0.0,
        -0.5,
        "`strength` must be zero or positive",
    ),
    "strength infinite": (
        lambda sigma: hj.AdditiveNoise(sigma).strength,
        np.ones(8),
        with_entry(np.ones(8), INF),
        "`strength` must be finite",
    ),
    "noise of steps negative": (
        lambda noise: theory.effective_noise(noise, 0.01),
        1.0,
        -1.0,
        "`noise` must be at least 0",
    ),
    "overlap above 1": (
        lambda overlap: theory.noise_at_overlap(3.0, overlap, hj.Tanh()),
        0.9,
        1.1,
        "`overlap` must be between 0 and 1",
    ),
    "coupling NaN": (
        lambda coupling: theory.origin_growth_rate(coupling, hj.Tanh()),
        1.0,
        NAN,
        "`coupling` must be finite",
    ),
    "onsets falling": (
        lambda onsets: schedule(onsets).onsets,
        np.array([0, 0.3, 0.5]),
        np.array([0, 0.5, 0.3]),
        "`onsets` must be increasing",
    ),
    "onsets not from 0": (
        lambda onsets: schedule(onsets).onsets,
        np.array([0, 0.5]),
        np.array([0.1, 0.5]),
        "`onsets` must be 0 in its first entry",
    ),
    "onsets off the grid": (
        lambda onsets: schedule(onsets).onset_steps(0.1),
        np.array([0, 0.5]),
        np.array([0, 0.55]),
        "`onsets` must be whole multiples of dt = 0.1",
    ),
    "values NaN": (
        lambda values: schedule([0.0, 0.5], values).values,
        np.ones((2, 8)),
        np.full((2, 8), NAN),
        "`values` must be finite",
    ),
}


@pytest.mark.parametrize("name", TRACED)
def test_traced_values_fail_at_run_time(name):
    function, right, wrong, message = TRACED[name]
    jitted = eqx.filter_jit(lambda value: function(value))
    jax.block_until_ready(jitted(jnp.asarray(right)))
    with pytest.raises(eqx.EquinoxRuntimeError, match=f"Argument {re.escape(message)}"):
        jitted(jnp.asarray(wrong))
    # One wrong trial of a batch is enough.
    batch = jnp.stack([jnp.asarray(right), jnp.asarray(wrong)])
    with pytest.raises(eqx.EquinoxRuntimeError, match=f"Argument {re.escape(message)}"):
        eqx.filter_jit(jax.vmap(function))(batch)


def test_a_solve_under_jit_checks_its_arrays_at_run_time():
    @eqx.filter_jit
    def run(x0, u, onsets):
        inputs = hj.Schedule(onsets, jnp.stack([u, -u]))
        return solve(x0=x0, inputs=inputs).final_state

    x0, u, onsets = jnp.ones(8), jnp.asarray(MEMORIES[0]), jnp.array([0, 0.5])
    assert jnp.isfinite(run(x0, u, onsets)).all()
    for wrong, argument in (
        ((x0.at[3].set(NAN), u, onsets), "x0"),
        ((x0, u.at[3].set(INF), onsets), "values"),
        ((x0, u, onsets + 0.1), "onsets"),
        ((x0, u, onsets.at[1].set(0.55)), "onsets"),
    ):
        with pytest.raises(eqx.EquinoxRuntimeError, match=f"Argument `{argument}` must be"):
            run(*wrong)


# A state that blows up.


def test_divergence_names_its_time():
    runaway = Runaway(jnp.asarray(MEMORIES), hj.Tanh())
    wrong = {"model": runaway, "x0": np.ones(8), "t1": 5.0, "dt": 0.05, "save_every": 0.25}
    trajectory = solve(**wrong, throw=False)
    assert not trajectory.ok
    # Euler lags behind the exact 0.5; the first saved time after is what is known.
    assert 0.5 < trajectory.diverged_at < 1.5
    with pytest.raises(hj.DivergenceError) as caught:
        solve(**wrong)
    message = str(caught.value)
    assert "\n" not in message
    assert f"t = {float(trajectory.diverged_at):g} (looked at every 0.25)" in message
    assert "smaller dt than 0.05" in message
    assert isinstance(caught.value, RuntimeError)
