"""What the network is shown over time."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, PRNGKeyArray, Real

from hopjax._checks import (
    check_array,
    check_key,
    check_number,
    check_positive,
    check_values,
    is_bad,
    is_traced,
)
from hopjax._errors import ArgumentError, names_keywords
from hopjax._steps import (
    ROUNDED,
    Steps,
    Times,
    check_times,
    last_step,
    latest_step,
    numpy_of,
    steps_of,
)

_SHORTER = "shorter than every window between onsets"


class AbstractInput(eqx.Module):
    """What a network is shown over time: a `Schedule`, a constant or a function of time."""

    @abstractmethod
    def at(self, t: float) -> Float[Array, " N"]:
        """u(t) at a static time from 0 on."""

    @abstractmethod
    def segments(self, dt: float | None) -> tuple[Array | np.ndarray, Float[Array, "S N"]] | None:
        """Where it is piecewise constant, when each value begins, and the values; otherwise None.

        It begins at a number of steps of `dt`, or at a time if that is None.
        """


class Constant(AbstractInput):
    """One input at all times."""

    value: Float[Array, " N"]

    def at(self, t: float) -> Float[Array, " N"]:
        """The value."""
        _check_time(t)
        return self.value

    def segments(self, dt: float | None) -> tuple[Array | np.ndarray, Float[Array, "S N"]]:
        """One, from 0 on."""
        return np.zeros(1, int), jnp.asarray(self.value)[None]


class OfTime(AbstractInput):
    """A function of time, in a dtype."""

    function: Callable[[Any], Any]
    dtype: Any = eqx.field(static=True)

    def at(self, t: float) -> Float[Array, " N"]:
        """The function's value."""
        time = check_array(_check_time(t), "t", (), finite=False)
        return jnp.asarray(self.function(time.astype(self.dtype)), self.dtype)

    def segments(self, dt: float | None) -> None:
        """None."""


class Schedule(AbstractInput):
    """A piecewise constant input: `values[s]` from `onsets[s]` until the next onset.

    Covers constant inputs, sequences, glitches (a short window between two others) and, by
    `pulsed`, inputs that are on for the first part of each window only. The last value stays. With
    fixed steps onsets become whole numbers of steps, so the derivative by an onset is zero.

    Attributes:
        begins: the onsets, as times or as numbers of steps.
        values: the inputs u in rows.
        pulse: what the argument is called that made every second onset the end of a pulse; None
            where there are no pulses.

    Example:
        ```python
        hj.Schedule(onsets=[0.0, 10.0, 20.0], values=hj.mixture(memories, weights))
        ```
    """

    begins: Times | Steps
    values: Float[Array, "S N"]
    pulse: str | None = eqx.field(static=True)

    @names_keywords
    def __init__(
        self,
        onsets: Real[ArrayLike, " S"] | Sequence[float] | Steps,
        values: Real[ArrayLike, "S N"],
        *,
        pulse: str | None = None,
    ):
        """Store onsets and values.

        Args:
            onsets: times at which each value begins, in units of the neuron's time constant;
                the first is 0 and they increase. `solve` needs them on steps. Numbers are kept in
                float64 and become steps on the host; arrays in float32, and those that are traced,
                are as exact as their dtype.
            values: the inputs u in rows.
            pulse: see the class; `pulsed` sets it.

        Raises:
            ValueError: for a wrong shape, an entry that is not finite, or onsets out of order.
        """
        in_steps = isinstance(onsets, Steps)
        begins = onsets.numbers if in_steps else check_times(onsets, "onsets", ("S",))
        values = check_array(values, "values", (begins.shape[0], "N"), hint="one row per onset")
        if begins.shape[0] == 0:
            raise ArgumentError("onsets", "at least one entry", "none", must="have")
        is_first = np.arange(begins.shape[0]) == 0
        # A pulse may be lost in the rounding of its onset; `on_grid` knows what is too short.
        is_end = (np.arange(begins.shape[0]) % 2 == 1) & (pulse is not None)

        def increases(onset, before):
            return (onset > before) | ((onset == before) & is_end)

        begins = check_values(
            begins,
            is_bad(begins, lambda o: (o == 0) | ~is_first),
            "onsets",
            "0 in its first entry (the network is shown something from the start)",
        )
        begins = check_values(
            begins,
            is_bad(begins, lambda o: increases(o, numpy_of(o).roll(o, 1)) | is_first),
            "onsets",
            "increasing",
        )
        self.begins = Steps(begins, onsets.dt) if in_steps else begins
        self.values = values
        self.pulse = pulse

    @property
    def onsets(self) -> Float[Array | np.ndarray, " S"]:
        """The times at which each value begins."""
        return self.begins.times if isinstance(self.begins, Steps) else self.begins

    def at(self, t: float) -> Float[Array, " N"]:
        """u(t), the value with the last onset that is not after t.

        Args:
            t: a static time from 0 on. A time that is an onset but for rounding is that onset.

        Raises:
            TypeError, ValueError: for what is no such time.
        """
        t = _check_time(t)
        if isinstance(self.begins, Steps):
            begun = self.begins.numbers <= last_step(t, self.begins.dt)
        else:
            begun = self.begins <= t * (1 + ROUNDED)
        return self.values[begun.sum() - 1]

    def pulsed(
        self, duration: Real[ArrayLike, ""] | Steps, *, name: str = "duration"
    ) -> "Schedule":
        """The same inputs, each on for the first `duration` of its window only, then zero.

        Args:
            duration: in units of the neuron's time constant; `solve` needs a whole number of steps.
            name: what errors call it.

        Raises:
            ValueError: if `duration` is not positive or not shorter than every window.
        """
        begins = self.begins
        if isinstance(duration, Steps):
            begins = steps_of(begins, "onsets", duration.dt)
        else:
            if not is_traced(duration):
                duration = check_number(duration, name, positive=True)
            duration = check_times(duration, name, ())
            if isinstance(begins, Steps):
                duration = steps_of(duration, name, begins.dt)
        starts, on = (
            each.numbers if isinstance(each, Steps) else each for each in (begins, duration)
        )
        numpy = numpy_of((starts, on))
        dtype = on.dtype if is_traced(on) and not is_traced(starts) else starts.dtype
        starts, on = numpy.asarray(starts, dtype), numpy.asarray(on, dtype)
        on = check_values(on, is_bad(on, lambda o: o > 0), name, "positive")
        short = starts[:-1] + on >= starts[1:]  # the last window has no end
        on = check_values(on, numpy.any(short), name, _SHORTER, fits=("onsets",))
        both = numpy.stack([starts, starts + on], axis=1).ravel()
        values = jnp.stack([self.values, jnp.zeros_like(self.values)], axis=1)
        return Schedule(
            Steps(both, begins.dt) if isinstance(begins, Steps) else both,
            values.reshape(-1, self.values.shape[1]),
            pulse=name,
        )

    def on_grid(self, dt: float) -> "Schedule":
        """The same with onsets as numbers of steps: made on the host, unless they are traced.

        Raises:
            ValueError: naming `onsets`, or the duration of pulses, unless all are whole multiples
                of dt to a thousandth of a step (and to the rounding of their dtype).
        """
        dt = check_number(dt, "dt", positive=True)
        begins = self.begins
        if isinstance(begins, Steps) and begins.dt == dt:
            return self
        every = 1 if self.pulse is None else 2
        onsets = self.onsets[::every]
        starts = steps_of(onsets, "onsets", dt).numbers
        numpy = numpy_of(starts)
        near = (numpy.diff(starts, prepend=-1) < 1) & (starts < latest_step())
        right = f"at least one step of dt = {dt} apart"
        starts = _check_steps(starts, onsets, near, "onsets", right)
        numbers = starts
        if self.pulse is not None:
            ends = steps_of(self.onsets[1::2], self.pulse, dt).numbers
            on = self.onsets[1::2] - onsets
            short = (ends <= starts) & (ends < latest_step())
            right = f"at least one step of dt = {dt}"
            ends = _check_steps(ends, on, short, self.pulse, right)
            long = (ends[:-1] >= starts[1:]) & (ends[:-1] < latest_step())
            ends = _check_steps(ends, on, numpy.append(long, False), self.pulse, _SHORTER)
            numbers = numpy.stack([starts, ends], axis=1).ravel()
        return eqx.tree_at(lambda schedule: schedule.begins, self, Steps(numbers, dt))

    def segments(self, dt: float | None) -> tuple[Array | np.ndarray, Float[Array, "S N"]]:
        """The onsets and the values."""
        return self.onsets if dt is None else self.onset_steps(dt), self.values

    def onset_steps(self, dt: float) -> Int[Array | np.ndarray, " S"]:
        """The step at which each value begins.

        Raises:
            ValueError: as `on_grid`.
        """
        begins = self.on_grid(dt).begins
        assert isinstance(begins, Steps)
        return begins.numbers


class NoisyInput(AbstractInput):
    """An input with noise of its own, u(t) = ū(t) + ζ(t), another realisation in each trial.

    The entries of ζ are independent, of mean 0 and normally distributed. Without a
    `correlation_time` they are white, E ζ(t) ζ(t′) = a² δ(t − t′) with the `amplitude` a, and what
    the network gets is further noise on its state, in the sense of Itô, by N Brownian motions B:

    dx = drift(x; ū) dt + σ dB_x + a (∂drift/∂u) dB

    - A current (`ClassicHopfield`): ∂drift/∂u = 1. It is additive noise of strength a, and with
      `AdditiveNoise(σ)` beside it the two are as one of strength √(σ² + a²).
    - Plasticity (`IDPHopfield`): a Σ_μ ξ^μ m_μ(x) dB_μ/√N (with self-coupling), where B_μ is one
      Brownian motion for each memory. It is multiplicative noise, on the saliencies, as strong as
      a/√N and shared by all neurons: many neurons see through noise that each of them gets alone.

    White noise needs a drift that is linear in the input. It goes with the solvers Euler and
    `ExponentialAdams`, which take ∂drift/∂u at the beginning of a step.

    With a `correlation_time` τ they are stationary Ornstein-Uhlenbeck processes of standard
    deviation a, E ζ(t) ζ(t′) = a² exp(−|t − t′|/τ), and u(t) is an input like any other, for every
    model and every solver with fixed steps. At the steps their law is exact, for any dt up to τ;
    in a step the value at its beginning is held. White noise of amplitude a is the limit τ → 0 at
    a standard deviation of a/√(2τ).

    The noise of step i is a function of a key and i: the same alone and in a batch, and
    independent of the noise on the state.

    Attributes:
        inputs: ū, as for `solve`: what `Trial` looks at for the right memory, and losses for the
            cost of an input.
        amplitude: a.
        correlation_time: τ; None for white noise.
        key: decides the noise; None for the key of the solve, which then decides both noises.

    Example:
        ```python
        noisy = hj.NoisyInput(u, 0.5, correlation_time=0.2)
        trajectory = hj.solve(model, noisy, x0, t1=10.0, dt=0.01, key=key)
        ```
    """

    inputs: Any
    amplitude: Float[Array, ""] | Float[Array, " N"]
    correlation_time: Float[Array, ""] | None
    key: Key[Array, ""] | None

    @names_keywords
    def __init__(
        self,
        inputs: "Schedule | Real[ArrayLike, ' N'] | Callable[[Any], Any]",
        amplitude: Real[ArrayLike, ""] | Real[ArrayLike, " N"],
        *,
        correlation_time: Real[ArrayLike, ""] | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """Store everything; see the class.

        Args:
            inputs: the input without noise: a `Schedule`, one vector or a function of time.
            amplitude: one number, or one for each entry of the input. Of noise with a correlation
                time its standard deviation, in units of the input; of white noise in units of the
                input times √(time constant): its integral over a time T has the standard deviation
                a √T.
            correlation_time: in units of the neuron's time constant.
            key: another key than that of the solve. If all trials have the same, all see the same
                noise ("frozen" noise), whatever noise they have on the state.

        Raises:
            TypeError, ValueError: for an amplitude that is negative, a correlation time that is not
                positive, or what is no input or has noise of its own.
        """
        if isinstance(inputs, NoisyInput):
            raise ArgumentError("inputs", "an input without noise of its own", "a NoisyInput")
        plain = not isinstance(inputs, AbstractInput) and not callable(inputs)
        self.inputs = check_array(inputs, "inputs", ("N",)) if plain else inputs
        amplitude = check_array(amplitude, "amplitude", (), ("N",))
        self.amplitude = check_values(
            amplitude, is_bad(amplitude, lambda a: a >= 0), "amplitude", "zero or positive"
        )
        self.correlation_time = None
        if correlation_time is not None:
            self.correlation_time = check_positive(correlation_time, "correlation_time", ())
        self.key = None if key is None else check_key(key)

    def at(self, t: float) -> Float[Array, " N"]:
        """ū(t)."""
        return as_input(self.inputs, self.amplitude.dtype).at(t)

    def segments(self, dt: float | None) -> tuple[Array | np.ndarray, Float[Array, "S N"]] | None:
        """Of ū."""
        return as_input(self.inputs, self.amplitude.dtype).segments(dt)

    def on_grid(self, dt: float) -> "NoisyInput":
        """The same with a schedule's onsets as numbers of steps; see `Schedule.on_grid`."""
        if not isinstance(self.inputs, Schedule):
            return self
        return eqx.tree_at(lambda noisy: noisy.inputs, self, self.inputs.on_grid(dt))


def without_noise(inputs: Any) -> Any:
    """ū of a noisy input, and any other as it is."""
    return inputs.inputs if isinstance(inputs, NoisyInput) else inputs


def refuse_noisy(inputs: Any, name: str) -> None:
    """For theory, which has noise on the state alone.

    Raises:
        ValueError: for a noisy input.
    """
    if isinstance(inputs, NoisyInput):
        hint = "white noise on a current is AdditiveNoise; for the mean input pass its `inputs`"
        raise ArgumentError(name, "an input without noise of its own", "a NoisyInput", hint=hint)


def _check_steps(numbers: Any, times: Any, bad: Any, name: str, right: str) -> Any:
    """Numbers of steps that are not `bad`; what is refused is shown as the time that it was."""
    if is_traced((numbers, bad)):
        return check_values(numbers, bad, name, right)
    check_values(times, bad, name, right)
    return numbers


def _check_time(t: Any) -> float:
    """A static time from 0 on."""
    t = check_number(t, "t")
    if t < 0:
        raise ArgumentError("t", "zero or positive", f"{t:g}")
    return t


def as_input(inputs: Any, dtype: Any) -> AbstractInput:
    """A schedule as it is, a function of time in a dtype, or else a constant input."""
    if isinstance(inputs, AbstractInput):
        return inputs
    return OfTime(inputs, dtype) if callable(inputs) else Constant(inputs)
