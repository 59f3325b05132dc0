"""What tuning makes small: how badly a network retrieves, and what its input costs.

A loss measures every trial, and is a function of the means over trials of what it measured. Times
are in time constants of a neuron; overlaps are those with the trial's target, at the saved times.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hopjax._checks import check_flag, check_instance, check_number, is_traced
from hopjax.inputs import Schedule
from hopjax.solve import Trajectory
from hopjax.trials import Trial, late


class AbstractLoss(eqx.Module):
    """A loss; losses add up, and can be multiplied by numbers."""

    @abc.abstractmethod
    def measure(self, trial: Trial, trajectory: Trajectory) -> PyTree[Float[Array, ""]]:
        """Differentiable numbers of one trial."""

    @abc.abstractmethod
    def value(self, means: PyTree[Float[Array, ""]]) -> Float[Array, ""]:
        """The loss, from their means over trials."""

    @final
    def __add__(self, other: "AbstractLoss") -> "WeightedSum":
        return WeightedSum([self, other])

    @final
    def __mul__(self, weight: float) -> "WeightedSum":
        return WeightedSum([self], [weight])

    @final
    def __rmul__(self, weight: float) -> "WeightedSum":
        return self * weight


@final
class WeightedSum(AbstractLoss):
    """Σ_k w_k loss_k; what sums and multiples of losses are."""

    losses: tuple[AbstractLoss, ...]
    weights: tuple[Float[Array, ""], ...]

    def __init__(self, losses: Any, weights: Any = None):
        """Store losses and weights.

        Args:
            losses: at least one.
            weights: w, as many numbers; 1 by default.

        Raises:
            TypeError, ValueError: for what is no loss or no number, or does not match in length.
        """
        check_instance(losses, (list, tuple), "losses", "a list of losses such as [OverlapLoss()]")
        self.losses = tuple(losses)
        weights = [1.0] * len(self.losses) if weights is None else weights
        check_instance(weights, (list, tuple), "weights", "a list of numbers, one for each loss")
        if not self.losses:
            raise ValueError("Argument `losses` must have at least one loss, got none.")
        for loss in self.losses:
            check_instance(loss, AbstractLoss, "losses", "losses such as OverlapLoss()")
        if len(weights) != len(self.losses):
            raise ValueError(
                f"Argument `weights` must have one number for each of {len(self.losses)} losses, "
                f"got {len(weights)}."
            )
        self.weights = tuple(_number(weight, "weight") for weight in weights)

    def measure(self, trial: Trial, trajectory: Trajectory) -> PyTree[Float[Array, ""]]:
        """What each loss measures."""
        return [loss.measure(trial, trajectory) for loss in self.losses]

    def value(self, means: PyTree[Float[Array, ""]]) -> Float[Array, ""]:
        """The weighted sum of their values."""
        parts = zip(self.losses, self.weights, means, strict=True)
        first, *rest = (weight * loss.value(mean) for loss, weight, mean in parts)
        return sum(rest, first)


def _number(value: Any, name: str, *, positive: bool = False) -> Float[Array, ""]:
    """A number that may change without compiling anew."""
    return jnp.asarray(check_number(value, name, positive=positive), float)


def _time(value: Any, name: str) -> float:
    if check_number(value, name) < 0:
        raise ValueError(f"Argument `{name}` must be zero or positive, got {value:g}.")
    return float(value)


def _check_before_end(value: float, name: str, ts: Float[Array, " T"]) -> None:
    """Refuse a time beyond the saved ones, where these are known: before anything is solved."""
    if not is_traced(ts) and value >= np.asarray(ts)[-1]:
        raise ValueError(
            f"Argument `{name}` must be below the last saved time {float(np.asarray(ts)[-1]):g}, "
            f"got {value:g}."
        )


class _Wanted(eqx.Module):
    """What a mean between 0 and 1 should be: as high as can be, at a goal, or high enough."""

    goal: Float[Array, ""] | None
    at_least: Float[Array, ""] | None

    def __init__(self, goal: Any, at_least: Any):
        if goal is not None and at_least is not None:
            raise ValueError("Argument `at_least` must be None where `goal` is given.")
        for value, name in ((goal, "goal"), (at_least, "at_least")):
            if value is not None and not 0 <= check_number(value, name) <= 1:
                raise ValueError(f"Argument `{name}` must be from 0 to 1, got {value:g}.")
        self.goal = None if goal is None else _number(goal, "goal")
        self.at_least = None if at_least is None else _number(at_least, "at_least")

    def distance(self, mean: Float[Array, ""]) -> Float[Array, ""]:
        """What is missing to 1, or the square of what is missing to what is wanted."""
        if self.goal is not None:
            return (mean - self.goal) ** 2
        if self.at_least is not None:
            return jax.nn.relu(self.at_least - mean) ** 2
        return 1 - mean


class _Threshold(eqx.Module):
    """Whether an overlap is above a threshold, smoothly: ½ at it, 0 far below, 1 far above."""

    threshold: Float[Array, ""]
    temperature: Float[Array, ""]

    def __init__(self, threshold: Any, temperature: Any):
        self.threshold = _number(threshold, "threshold", positive=True)
        self.temperature = _number(temperature, "temperature", positive=True)

    def smooth(self, overlaps: Float[Array, "*T"]) -> Float[Array, "*T"]:
        return jax.nn.sigmoid((overlaps - self.threshold) / self.temperature)

    def straight_through(self, overlaps: Float[Array, "*T"]) -> Float[Array, "*T"]:
        """0 or 1, with the slope of the smooth one."""
        smooth = self.smooth(overlaps)
        hard = (overlaps > self.threshold).astype(smooth.dtype)
        hard = jnp.where(jnp.isfinite(overlaps), hard, jnp.nan)
        return smooth + jax.lax.stop_gradient(hard - smooth)


@final
class OverlapLoss(AbstractLoss):
    """1 − E m, the mean over trials and late times of the overlap with the target.

    With `goal` (E m − goal)², and with `at_least` the square of what is missing, if it is.
    """

    wanted: _Wanted
    settle: float = eqx.field(static=True)
    mirror: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        settle: float = 0.0,
        goal: float | None = None,
        at_least: float | None = None,
        mirror: bool = False,
    ):
        """Store the numbers.

        Args:
            settle: length of the interval before the end that counts; 0 for the end alone.
            goal: the mean overlap that is wanted.
            at_least: the mean overlap that is enough.
            mirror: whether −ξ is as good as ξ: it is |m| that counts.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.wanted = _Wanted(goal, at_least)
        self.settle = _time(settle, "settle")
        self.mirror = check_flag(mirror, "mirror")

    def measure(self, trial: Trial, trajectory: Trajectory) -> Float[Array, ""]:
        """The mean overlap at late times."""
        return _late_mean(lambda m: m, trial, trajectory, self.settle, self.mirror)

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of a mean overlap."""
        return self.wanted.distance(means)


@final
class RetrievalLoss(AbstractLoss):
    """1 − P, P the smooth probability that the target is retrieved, over trials and late times.

    P = E 1/(1 + exp((θ − m)/T)): the lower the temperature T, the nearer it is to the probability
    of m > θ, and the fewer trials have a gradient. With `goal` (P − goal)², and with `at_least` the
    square of what is missing, if it is.

    With `straight_through` P is the probability of m > θ itself, which has no slope, and gets that
    of the smooth one: what `goal` asks for is then reached exactly, at any temperature.
    """

    wanted: _Wanted
    above: _Threshold
    straight_through: bool = eqx.field(static=True)
    settle: float = eqx.field(static=True)
    mirror: bool = eqx.field(static=True)

    def __init__(
        self,
        threshold: float = 0.9,
        *,
        temperature: float = 0.05,
        straight_through: bool = False,
        settle: float = 0.0,
        goal: float | None = None,
        at_least: float | None = None,
        mirror: bool = False,
    ):
        """Store the numbers.

        Args:
            threshold: θ, the overlap above which the target is retrieved.
            temperature: T, in units of the overlap.
            straight_through: see the class.
            settle: length of the interval before the end that counts; 0 for the end alone.
            goal: the probability that is wanted.
            at_least: the probability that is enough.
            mirror: whether −ξ is as good as ξ: it is |m| that counts.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.wanted = _Wanted(goal, at_least)
        self.above = _Threshold(threshold, temperature)
        self.straight_through = check_flag(straight_through, "straight_through")
        self.settle = _time(settle, "settle")
        self.mirror = check_flag(mirror, "mirror")

    def measure(self, trial: Trial, trajectory: Trajectory) -> Float[Array, ""]:
        """How much of the late time the overlap is above the threshold."""
        above = self.above.straight_through if self.straight_through else self.above.smooth
        return _late_mean(above, trial, trajectory, self.settle, self.mirror)

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of a probability."""
        return self.wanted.distance(means)


@final
class TimeLoss(AbstractLoss):
    """The time until retrieval: the mean time that a trial spends below the threshold.

    ∫ 1/(1 + exp((m(t) − θ)/T)) dt from `since` to the last saved time: for a trial that stays above
    the threshold its first passage time, smoothly, for one that never gets there all of the time.
    """

    above: _Threshold
    since: float = eqx.field(static=True)
    mirror: bool = eqx.field(static=True)

    def __init__(
        self,
        threshold: float = 0.9,
        *,
        temperature: float = 0.05,
        since: float = 0.0,
        mirror: bool = False,
    ):
        """Store the numbers.

        Args:
            threshold: θ, the overlap above which the target is retrieved.
            temperature: T, in units of the overlap.
            since: the time from which on time counts, say the last change of the input.
            mirror: whether −ξ is as good as ξ: it is |m| that counts.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.above = _Threshold(threshold, temperature)
        self.since = _time(since, "since")
        self.mirror = check_flag(mirror, "mirror")

    def measure(self, trial: Trial, trajectory: Trajectory) -> Float[Array, ""]:
        """The time spent below the threshold."""
        overlaps = trajectory.overlaps[:, trial.target]
        strength = jnp.abs(overlaps) if self.mirror else overlaps
        _check_before_end(self.since, "since", trajectory.ts)
        ts = jnp.maximum(trajectory.ts, self.since)
        return jnp.trapezoid(1 - self.above.smooth(strength), ts)

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The mean time."""
        return means


@final
class InputCost(AbstractLoss):
    """What the input costs: ∫ (1/N) Σ_i |u_i(t)|^n dt, up to the last saved time.

    Its energy for n = 2, its total for n = 1. A schedule is integrated exactly, a callable by the
    trapezoidal rule on the saved times.
    """

    power: float = eqx.field(static=True)

    def __init__(self, power: float = 2.0):
        """Store n.

        Raises:
            TypeError, ValueError: unless it is a number from 1 on.
        """
        self.power = check_number(power, "power")
        if self.power < 1:
            raise ValueError(f"Argument `power` must be at least 1, got {power:g}.")

    def measure(self, trial: Trial, trajectory: Trajectory) -> Float[Array, ""]:
        """The integral of one trial."""
        ts, inputs = trajectory.ts, trial.inputs
        if isinstance(inputs, Schedule):
            # Whole numbers of steps, by which the solution has no derivative either.
            onsets = jax.lax.stop_gradient(inputs.onsets)
            ends = jnp.append(onsets[1:], math.inf)
            durations = jnp.clip(jnp.minimum(ends, ts[-1]) - onsets, 0)
            return jnp.sum(durations * self._cost(inputs.values))
        if callable(inputs):
            return jnp.trapezoid(self._cost(jax.vmap(trial.input_at)(ts)), ts)
        return (ts[-1] - ts[0]) * self._cost(inputs)

    def _cost(self, values: Float[Array, "*S N"]) -> Float[Array, "*S"]:
        # Not `jnp.abs`, whose slope at zero is 1.
        sizes = values**2 if self.power == 2 else (jnp.sign(values) * values) ** self.power
        return jnp.mean(sizes, axis=-1)

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The mean cost."""
        return means


def _late_mean(
    quantity: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    trial: Trial,
    trajectory: Trajectory,
    settle: float,
    mirror: bool,
) -> Float[Array, ""]:
    """The mean of a function of the overlap with the target, over the times that count."""
    _check_before_end(settle, "settle", trajectory.ts)
    if settle == 0:
        overlaps = trial.model.overlaps(trajectory.final_state)[trial.target]
    else:
        overlaps = trajectory.overlaps[:, trial.target]
    values = quantity(jnp.abs(overlaps) if mirror else overlaps)
    return values if settle == 0 else jnp.mean(values, where=late(trajectory.ts, settle))
