"""The standard retrieval, in words and numbers: what studies sweep and study files describe."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hopjax._checks import (
    check_array,
    check_choice,
    check_count,
    check_fits,
    check_flag,
    check_number,
    is_traced,
    size_within,
)
from hopjax._errors import ArgumentError, ArgumentTypeError, shown
from hopjax._steps import Steps
from hopjax.activations import AbstractActivation, Erf, HardTanh, Tanh
from hopjax.inputs import NoisyInput, Schedule
from hopjax.memories import (
    correlated_memories,
    corrupt,
    mixture,
    orthogonal_memories,
    random_memories,
)
from hopjax.models import (
    AbstractHopfield,
    ClassicHopfield,
    DecorrelatedHopfield,
    DenseHopfield,
    DynamicAttention,
    IDPHopfield,
    PowerSeparation,
    SequentialHopfield,
    TwoLayerHopfield,
)
from hopjax.noise import AdditiveNoise
from hopjax.trials import Trial

_CHOICES: dict[str, tuple[str, ...]] = {
    "model": (
        *("idp", "classic", "classic_pulsed"),
        *("decorrelated", "two_layer", "dense", "attention", "sequential"),
    ),
    "memories": ("random", "orthogonal", "correlated"),
    "activation": ("tanh", "erf", "hard_tanh"),
    "law": ("gaussian", "two_point", "binomial", "tree"),
    "start": ("normal", "memory"),
}
# What studies and tunings have to know of a field; see `hopjax.trials.marked`.
_STATIC = {"static": True}
_FRACTIONAL = {"fractional": True}
_TIME = {"fractional": True, "time": True}
# As given, or as a study traces it.
_Number = float | Float[Array, ""]
_Row = tuple[float, ...] | Float[Array, " P"]
_Rows = tuple[tuple[float, ...], ...] | Float[Array, "P P"]
_Weight = _Number | tuple[float, float] | Float[Array, "2"]  # or the ends of a uniform law


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A network of ±1 memories that is shown mixtures of them, one after the other.

    Call it with a trial's key, and any of its fields by name to change them: it makes a `Trial`,
    with new memories, weights and starting state for every key. So `hj.Study(Retrieval(...),
    {"noise": [0.0, 4.0, 8.0]}, ...)` sweeps its fields.

    Example:
        ```python
        task = hj.Retrieval(num_neurons=64, num_memories=3, noise=0.5)
        ensemble = hj.solve_ensemble(task, trials=100, key=jax.random.key(0), t1=5.0, dt=0.02)
        ```

    The input of memory j is u = strength Σ_μ w_μ ξ^μ, in which j has the weight `dominant`, the
    memory before it the weight `previous` and all others `background`: a number each, or a pair
    (low, high) to draw from uniformly. The memory before is the one shown before, and for the
    first one the memory in which the state starts. A memory that is shown again has the same
    input again.

    Attributes:
        model: "idp", "classic" or "classic_pulsed", whose input is on for the first `pulse` of
            each window only, a multiple of dt; "decorrelated" (IDP by the pseudo-inverse),
            "two_layer" (linear), "dense" (of the given `power`), "attention" (dynamic) or
            "sequential", which needs no input to go from memory to memory (`strength` 0).
        num_neurons: N.
        num_memories: P; see `memory_load`.
        memory_load: P/N; if given, P is the nearest whole number, at least 1.
        memories: "random", "orthogonal" (random rows of a Hadamard matrix) or "correlated" (noisy
            copies of one pattern, see `correlation`).
        correlation: mean overlap of two correlated memories.
        activation: "tanh", "erf" or "hard_tanh".
        slope: d of the activation.
        self_coupling: whether a neuron couples to itself, for those models that can do without.
        memory_time_constant: τ_m of the two-layer model.
        gain: κ of the sequential model.
        time_constant: τ_s of its saliencies.
        cyclic: whether its last memory is followed by the first.
        transitions: A, a row of numbers for each memory: which memories follow which, if not each
            the next; see `SequentialHopfield`.
        initial_saliencies: its saliencies at the start, if not κ for the memory that the state
            shows best; with zeros for all it is an input that starts a sequence.
        power: n of the dense model.
        beta: β N of attention, its inverse temperature times N.
        noise: σ, of the features.
        law: of the increments, "gaussian", "two_point" (cheaper; not near thresholds), "binomial"
            (almost as cheap) or "tree".
        onsets: when each input begins, in time constants; the first is 0, and all are multiples of
            dt.
        shown: which memory dominates each input.
        dominant: its weight.
        background: the weight of all others.
        previous: the weight of the memory before; None for `background`.
        total_weight: if given, weights are scaled to this sum; "balanced" for √(P N), which makes
            the current of the classic network as strong as in the paper's figures.
        strength: multiplies all inputs.
        pulse: see `model`.
        input_noise: amplitude of noise on the input, of every neuron's on its own; None for none.
            See `NoisyInput`.
        input_correlation_time: of that noise, in time constants; None for white noise.
        start: "normal" for x0 ~ N(0, `start_scale`²), or "memory" for `start_scale` times a memory.
        start_memory: which one.
        start_scale: see `start`.
        corruption: share of the entries of that memory that change sign.
        target: the memory that counts as right, or several of them; None for the last one shown.
    """

    model: str = "idp"
    num_neurons: int = field(default=1024, metadata=_STATIC)
    num_memories: int = field(default=10, metadata=_STATIC)
    memory_load: float | None = field(default=None, metadata=_STATIC | _FRACTIONAL)
    memories: str = "random"
    correlation: _Number = field(default=0.5, metadata=_FRACTIONAL)
    activation: str = "tanh"
    slope: _Number = field(default=10.0, metadata=_FRACTIONAL)
    self_coupling: bool = False
    memory_time_constant: _Number = field(default=0.1, metadata=_FRACTIONAL)
    gain: _Number = field(default=5.0, metadata=_FRACTIONAL)
    time_constant: _Number = field(default=50.0, metadata=_FRACTIONAL)
    cyclic: bool = True
    transitions: _Rows | None = None
    initial_saliencies: _Row | None = field(default=None, metadata=_FRACTIONAL)
    power: _Number = field(default=3.0, metadata=_FRACTIONAL)
    beta: _Number = field(default=13.0, metadata=_FRACTIONAL)
    noise: _Number = field(default=0.0, metadata=_FRACTIONAL)
    law: str = "gaussian"
    onsets: tuple[float, ...] | Float[Array, " S"] | Steps = field(default=(0.0,), metadata=_TIME)
    shown: tuple[int, ...] = field(default=(0,), metadata=_STATIC)
    dominant: _Weight = field(default=3.0, metadata=_FRACTIONAL)
    background: _Weight = field(default=1.0, metadata=_FRACTIONAL)
    previous: _Weight | None = field(default=None, metadata=_FRACTIONAL)
    total_weight: float | str | None = field(default=None, metadata=_STATIC)
    strength: _Number = field(default=1.0, metadata=_FRACTIONAL)
    pulse: _Number | Steps = field(default=1.0, metadata=_TIME)
    input_noise: _Number | None = field(default=None, metadata=_FRACTIONAL)
    input_correlation_time: _Number | None = field(default=None, metadata=_FRACTIONAL)
    start: str = "normal"
    start_memory: int = field(default=0, metadata=_STATIC)
    start_scale: _Number = field(default=1.0, metadata=_FRACTIONAL)
    corruption: _Number = field(default=0.0, metadata=_FRACTIONAL)
    target: int | tuple[int, ...] | None = field(default=None, metadata=_STATIC)

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            TypeError, ValueError: naming the field.
        """
        for name, choices in _CHOICES.items():
            check_choice(getattr(self, name), name, choices)
        for name in ("num_neurons", "num_memories"):
            if check_count(getattr(self, name), name) >= 2**31:
                raise ArgumentError(name, "below 2^31", shown(getattr(self, name)))
        for name in ("self_coupling", "cyclic"):
            check_flag(getattr(self, name), name)
        load = self.memory_load
        if load is not None and check_number(load, "memory_load", positive=True) > 1:
            raise ArgumentError("memory_load", "at most 1", load)
        size = 4 * self._count * self.num_neurons
        sizes = {name: getattr(self, name) for name in ("num_neurons", "num_memories")}
        check_fits(size, max(sizes, key=sizes.__getitem__), "the memories", max(sizes.values()))
        positive = (
            "slope",
            "pulse",
            "start_scale",
            "memory_time_constant",
            "time_constant",
            "beta",
        )
        for name in positive:
            _check(getattr(self, name), name, "positive", lambda value: value > 0)
        for name in ("noise", "strength", "gain"):
            _check(getattr(self, name), name, "zero or positive", lambda value: value >= 0)
        if self.input_noise is not None:
            _check(self.input_noise, "input_noise", "zero or positive", lambda value: value >= 0)
        if self.input_correlation_time is not None:
            time = self.input_correlation_time
            _check(time, "input_correlation_time", "positive", lambda value: value > 0)
            if self.input_noise is None:
                right = "None where there is no `input_noise`"
                raise ArgumentError("input_correlation_time", right, shown(time))
        if not is_traced(self.strength):
            _held(self.strength, "strength", jnp.float32)  # as all weights
        for name in ("corruption", "correlation"):
            _check(getattr(self, name), name, "from 0 to 1", lambda value: 0 <= value <= 1)
        _check(self.power, "power", "at least 2", lambda value: value >= 2)
        for name in ("dominant", "background", "previous"):
            if name != "previous" or self.previous is not None:
                _check_weight(getattr(self, name), name)
        total = self.total_weight
        if isinstance(total, str):
            if total != "balanced":
                raise ArgumentError("total_weight", 'a number, None or "balanced"', shown(total))
        elif total is not None:
            check_number(total, "total_weight", positive=True)
            _held(total, "total_weight", jnp.float32)
        indices = {"shown": self.shown, "start_memory": (self.start_memory,)}
        if self.target is not None:
            several = isinstance(self.target, (tuple, list))
            indices["target"] = self.target if several else (self.target,)
        for name, values in indices.items():
            if not isinstance(values, (tuple, list)) or not values:
                raise ArgumentTypeError(name, "a sequence of memories' numbers", shown(values))
            for value in values:
                if check_count(value, name, minimum=0) >= self._count:
                    raise ArgumentError(
                        name, f"below the number of memories, {self._count}", shown(value)
                    )
        _check_onsets(self.onsets, len(self.shown))
        for name, axes, least in (("transitions", 2, 0.0), ("initial_saliencies", 1, -np.inf)):
            _check_numbers(getattr(self, name), name, (self._count,) * axes, least)

    @property
    def _count(self) -> int:
        """P."""
        if self.memory_load is None:
            return self.num_memories
        return max(1, round(self.memory_load * self.num_neurons))

    def __call__(self, key: Key[Array, ""], **changes: Any) -> Trial:
        """The trial of a key, with other values for some of the fields."""
        task = dataclasses.replace(self, **changes) if changes else self
        memory_key, weight_key, start_key = jax.random.split(key, 3)
        patterns = task._patterns(memory_key)
        shown = list(dict.fromkeys(task.shown))  # each memory's input is drawn once
        weights = task._weights(weight_key, shown).astype(patterns.dtype)
        values = mixture(patterns, weights)[np.array([shown.index(j) for j in task.shown])]
        _check_finite(values, *task._largest_weight())
        return Trial(
            task._network(patterns),
            task._noisy(task._schedule(values)),
            task._start(start_key, patterns),
            AdditiveNoise(task.noise, task.law),
            target=task.shown[-1] if task.target is None else task.target,
        )

    def _largest_weight(self) -> tuple[str, Any]:
        weights = {name: getattr(self, name) for name in ("dominant", "background", "previous")}
        given = {name: each for name, each in weights.items() if each is not None}
        if is_traced(given):
            return "dominant", self.dominant
        return max(given.items(), key=lambda item: np.max(np.abs(item[1])))

    def _weights(self, key: Key[Array, ""], shown: list[int]) -> Float[Array, "S P"]:
        def draw(weight: Any, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
            ends = jnp.broadcast_to(_float32(weight), (2,))
            uniform = jax.random.uniform(key, shape, jnp.float32)
            return ends[0] + (ends[1] - ends[0]) * uniform

        keys = jax.random.split(key, 3)
        first = self.start_memory if self.start == "memory" else shown[0]
        before = np.array([first, *shown[:-1]])
        rows, columns = np.arange(len(shown)), np.array(shown)
        weights = draw(self.background, keys[0], (len(shown), self._count))
        if self.previous is not None:
            weights = weights.at[rows, before].set(draw(self.previous, keys[1], (len(shown),)))
        weights = weights.at[rows, columns].set(draw(self.dominant, keys[2], (len(shown),)))
        if self.total_weight is not None:
            balanced = math.sqrt(self._count * self.num_neurons)
            total = balanced if isinstance(self.total_weight, str) else float(self.total_weight)
            weights = weights * total / jnp.sum(weights, axis=1, keepdims=True)
            _check_finite(weights, "total_weight", self.total_weight)
        weights = weights * _float32(self.strength)
        _check_finite(weights, "strength", self.strength)
        return weights

    def _patterns(self, key: Key[Array, ""]) -> Float[Array, "P N"]:
        sizes: dict[str, Any] = {"num_memories": self._count, "num_neurons": self.num_neurons}
        if self.memories == "correlated":
            return correlated_memories(key, correlation=self.correlation, **sizes)
        if self.memories == "orthogonal":
            return orthogonal_memories(key=key, **sizes)
        return random_memories(key, **sizes)

    def _network(self, patterns: Float[Array, "P N"]) -> AbstractHopfield:
        kinds = {"tanh": Tanh, "erf": Erf, "hard_tanh": HardTanh}
        activation: AbstractActivation = kinds[self.activation](self.slope)
        match self.model:
            case "idp":
                return IDPHopfield(patterns, activation, self_coupling=self.self_coupling)
            case "decorrelated":
                return DecorrelatedHopfield(patterns, activation)
            case "two_layer":
                return TwoLayerHopfield(
                    patterns,
                    activation=activation,
                    memory_time_constant=self.memory_time_constant,
                    self_coupling=self.self_coupling,
                )
            case "dense":
                return DenseHopfield(patterns, PowerSeparation(self.power), activation)
            case "attention":
                return DynamicAttention(patterns, self.beta / self.num_neurons)
            case "sequential":
                return SequentialHopfield(
                    patterns,
                    activation,
                    gain=self.gain,
                    time_constant=self.time_constant,
                    transitions=_array(self.transitions),
                    cyclic=self.cyclic,
                    initial_saliencies=_array(self.initial_saliencies),
                    self_coupling=self.self_coupling,
                )
            case _:
                return ClassicHopfield(patterns, activation, self_coupling=self.self_coupling)

    def _schedule(self, values: Float[Array, "S N"]) -> Schedule:
        schedule = Schedule(self.onsets, values)
        if self.model != "classic_pulsed":
            return schedule
        return schedule.pulsed(self.pulse, name="pulse")

    def _noisy(self, schedule: Schedule) -> Schedule | NoisyInput:
        if self.input_noise is None:
            return schedule
        return NoisyInput(schedule, self.input_noise, correlation_time=self.input_correlation_time)

    def _start(self, key: Key[Array, ""], patterns: Float[Array, "P N"]) -> Float[Array, " N"]:
        scale = jnp.asarray(self.start_scale, patterns.dtype)
        if self.start == "normal":
            normal = jax.random.normal(key, patterns.shape[1:], jnp.float32)
            return scale * normal.astype(patterns.dtype)
        return scale * corrupt(key, patterns[self.start_memory], self.corruption)


# These look at plain numbers and leave JAX alone, which may still have to be told of devices.


def _check(value: Any, name: str, right: str, good: Callable[[float], bool]) -> None:
    if not is_traced(value) and not good(_held(value, name)):
        raise ArgumentError(name, right, shown(value))


def _held(value: Any, name: str, dtype: Any = float) -> float:
    """A number that the dtype can hold."""
    number, kind = check_number(value, name), np.finfo(jnp.result_type(dtype))
    if abs(number) > float(kind.max):
        raise ArgumentError(name, size_within(kind.dtype), number)
    return number


def _check_weight(weight: Any, name: str) -> None:
    if is_traced(weight):
        return
    if isinstance(weight, (np.ndarray, jax.Array)):
        weight = np.asarray(weight).tolist()
    ends = weight if isinstance(weight, (list, tuple)) else (weight, weight)
    if len(ends) != 2:
        raise ArgumentError(name, "a number or a pair (low, high)", shown(weight))
    if _held(ends[0], name, jnp.float32) > _held(ends[1], name, jnp.float32):
        raise ArgumentError(name, "its lower end first", shown(weight), must="have")


def _check_numbers(values: Any, name: str, shape: tuple[int, ...], least: float) -> None:
    """A number for each memory, or a row of them for each; None for what is not given."""
    if values is None or is_traced(values):
        return
    rows = np.asarray(values, object)
    if rows.shape != shape:
        right = f"{'rows of ' if len(shape) == 2 else ''}{shape[0]} numbers, one for each memory"
        raise ArgumentError(name, right, shown(values))
    for value in rows.ravel():
        if _held(value, name, jnp.float32) < least:
            raise ArgumentError(name, "zero or positive in every entry", shown(value))


def _array(values: Any) -> Float[Array, "..."] | None:
    """Numbers of a field that may be tuples."""
    return None if values is None else jnp.asarray(values, jnp.float32)


def _check_onsets(onsets: Any, number: int) -> None:
    listed = isinstance(onsets, (list, tuple))
    if ((len(onsets),) if listed else np.shape(onsets)) != (number,):
        raise ArgumentError(
            "onsets",
            f"one time for each of the {number} inputs in `shown`",
            shown(onsets),
            must="have",
            fits=("shown",),
        )
    for onset in onsets if listed else ():
        if not is_traced(onset):
            _held(onset, "onsets")


def _check_finite(made: Float[Array, "..."], name: str, value: Any) -> None:
    """Name what makes an input infinite."""
    if not is_traced(made) and not np.isfinite(made).all():
        raise ArgumentError(name, "an input that is finite in float32", shown(value), must="make")


def _float32(value: Any) -> Float[Array, "..."]:
    return check_array(value, "weight", finite=False).astype(jnp.float32)
