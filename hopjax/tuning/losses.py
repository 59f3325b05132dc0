"""What tuning makes small: how badly a network retrieves, and what its input costs.

A loss measures every trial, and is a function of the means over trials of what it measured. What
counts as retrieved, and when it is judged, is said by the `Criterion` of the tuning, the same that
judges the tuned values in the end. Times are in time constants of a neuron; overlaps are those with
the trial's right memory, at the saved times.
"""

import abc
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hopjax._checks import check_array, check_flag, check_instance, check_number
from hopjax._errors import ArgumentError, names_keywords
from hopjax.inputs import as_input, without_noise
from hopjax.solving import Trajectory
from hopjax.trials import Criterion, Trial


class AbstractLoss(eqx.Module):
    """A loss. Losses are added and subtracted, and multiplied and divided by numbers."""

    @abc.abstractmethod
    def measure(
        self, trial: Trial, trajectory: Trajectory, criterion: Criterion
    ) -> PyTree[Float[Array, ""]]:
        """Differentiable numbers of one trial."""

    @abc.abstractmethod
    def value(self, means: PyTree[Float[Array, ""]]) -> Float[Array, ""]:
        """The loss, from their means over trials."""

    @final
    def __add__(self, other: "AbstractLoss") -> "WeightedSum":
        return WeightedSum([self, other])

    @final
    def __radd__(self, other: int) -> "AbstractLoss":
        # The 0 that `sum` begins with; nothing else that is no loss can be added.
        return self if isinstance(other, int) and other == 0 else WeightedSum([other, self])

    @final
    def __sub__(self, other: "AbstractLoss") -> "WeightedSum":
        return WeightedSum([self, other], [1.0, -1.0])

    @final
    def __neg__(self) -> "WeightedSum":
        return self * -1.0

    @final
    def __mul__(self, weight: float) -> "WeightedSum":
        return WeightedSum([self], [weight])

    @final
    def __rmul__(self, weight: float) -> "WeightedSum":
        return self * weight

    @final
    def __truediv__(self, divisor: float) -> "WeightedSum":
        if check_number(divisor, "divisor") == 0:
            raise ArgumentError("divisor", "a number other than 0", "0")
        return self * (1 / divisor)


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
            raise ArgumentError("losses", "at least one loss", "none", must="have")
        for loss in self.losses:
            check_instance(loss, AbstractLoss, "losses", "losses such as OverlapLoss()")
        if len(weights) != len(self.losses):
            raise ArgumentError(
                "weights",
                f"one number for each of {len(self.losses)} losses",
                len(weights),
                must="have",
            )
        self.weights = tuple(_number(weight, "weight") for weight in weights)

    def measure(
        self, trial: Trial, trajectory: Trajectory, criterion: Criterion
    ) -> PyTree[Float[Array, ""]]:
        """What each loss measures."""
        return [loss.measure(trial, trajectory, criterion) for loss in self.losses]

    def value(self, means: PyTree[Float[Array, ""]]) -> Float[Array, ""]:
        """The weighted sum of their values."""
        parts = zip(self.losses, self.weights, means, strict=True)
        first, *rest = (weight * loss.value(mean) for loss, weight, mean in parts)
        return sum(rest, first)


class Term(NamedTuple):
    """One of the losses that add up."""

    loss: AbstractLoss
    weight: float

    @property
    def aim(self) -> tuple[str, float] | None:
        """Whether a mean shall be at a "goal" or "at_least" as high, and how high; else None.

        A loss that is subtracted is made large: it has no aim, whatever goal it is given.
        """
        return self._wanted if self.weight > 0 else None

    @property
    def name(self) -> str:
        """As it is written down, such as "0.01 InputCost()"."""
        inside = "" if self._wanted is None else "{}={:g}".format(*self._wanted)
        factor = {1.0: "", -1.0: "-"}.get(self.weight, f"{self.weight:g} ")
        return f"{factor}{type(self.loss).__name__}({inside})"

    @property
    def _wanted(self) -> tuple[str, float] | None:
        wanted = getattr(self.loss, "wanted", None)
        if not isinstance(wanted, _Wanted):
            return None
        if wanted.goal is not None:
            return "goal", float(wanted.goal)
        return None if wanted.at_least is None else ("at_least", float(wanted.at_least))


def terms_of(loss: AbstractLoss) -> list[Term]:
    """The losses that a loss is the weighted sum of, sums of sums resolved; or itself."""
    if not isinstance(loss, WeightedSum):
        return [Term(loss, 1.0)]
    return [
        Term(term.loss, float(weight) * term.weight)
        for part, weight in zip(loss.losses, loss.weights, strict=True)
        for term in terms_of(part)
    ]


def parts_of(loss: AbstractLoss, measured: Any) -> list[Any]:
    """What each of these terms measures, from what the loss does."""
    if not isinstance(loss, WeightedSum):
        return [measured]
    parts = zip(loss.losses, measured, strict=True)
    return [part for each, of_it in parts for part in parts_of(each, of_it)]


def _number(value: Any, name: str, *, positive: bool = False) -> Float[Array, ""]:
    """A number that may change without compiling anew."""
    return check_array(check_number(value, name, positive=positive), name, ())


class _Wanted(eqx.Module):
    """What a mean between 0 and 1 should be: as high as can be, at a goal, or high enough."""

    goal: Float[Array, ""] | None
    at_least: Float[Array, ""] | None

    def __init__(self, goal: Any, at_least: Any):
        if goal is not None and at_least is not None:
            raise ArgumentError("at_least", "None where `goal` is given")
        for value, name in ((goal, "goal"), (at_least, "at_least")):
            if value is not None and not 0 <= check_number(value, name) <= 1:
                raise ArgumentError(name, "from 0 to 1", f"{value:g}")
        self.goal = None if goal is None else _number(goal, "goal")
        self.at_least = None if at_least is None else _number(at_least, "at_least")

    def distance(self, mean: Float[Array, ""]) -> Float[Array, ""]:
        """What is missing to 1, or the square of what is missing to what is wanted."""
        if self.goal is not None:
            return (mean - self.goal) ** 2
        if self.at_least is not None:
            return jax.nn.relu(self.at_least - mean) ** 2
        return 1 - mean


@final
class OverlapLoss(AbstractLoss):
    """1 − E m, the mean over trials and late times of the overlap with the right memory.

    It is |m| where the criterion takes the mirror image for the memory, as it does by default; the
    late times are those that it judges. With `goal` (E m − goal)², and with `at_least` the square
    of what is missing, if it is.
    """

    wanted: _Wanted

    @names_keywords
    def __init__(self, *, goal: float | None = None, at_least: float | None = None):
        """Store the numbers.

        Args:
            goal: the mean overlap that is wanted.
            at_least: the mean overlap that is enough.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.wanted = _Wanted(goal, at_least)

    def measure(
        self, trial: Trial, trajectory: Trajectory, criterion: Criterion
    ) -> Float[Array, ""]:
        """The mean overlap at late times."""
        margin = criterion.of(trial.model, trial.target)
        return jnp.mean(margin.strength(margin.late(trajectory).overlaps))

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of a mean overlap."""
        return self.wanted.distance(means)


@final
class RetrievalLoss(AbstractLoss):
    """1 − P, P the smooth probability that the right memory is retrieved.

    P = E 1/(1 + exp(−margin/T)), the margin that of the criterion: of a trial's mean late overlaps,
    or with `judge="instants"` of all late times, over which P is the mean then. The lower the
    temperature T, the nearer it is to the probability of a positive margin, and the fewer trials
    have a gradient. With `goal` (P − goal)², and with `at_least` the square of what is missing, if
    it is.

    With `straight_through` P is the probability of a positive margin itself, what `retrieved` of an
    ensemble counts. It has no slope, and gets that of the smooth one: a `goal` is then one for that
    probability, at any temperature.
    """

    wanted: _Wanted
    temperature: Float[Array, ""]
    straight_through: bool = eqx.field(static=True)

    @names_keywords
    def __init__(
        self,
        *,
        temperature: float = 0.05,
        straight_through: bool = False,
        goal: float | None = None,
        at_least: float | None = None,
    ):
        """Store the numbers.

        Args:
            temperature: T, in units of the overlap.
            straight_through: see the class.
            goal: the probability that is wanted.
            at_least: the probability that is enough.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.wanted = _Wanted(goal, at_least)
        self.temperature = _number(temperature, "temperature", positive=True)
        self.straight_through = check_flag(straight_through, "straight_through")

    def measure(
        self, trial: Trial, trajectory: Trajectory, criterion: Criterion
    ) -> Float[Array, ""]:
        """How much of what is judged counts as retrieved."""
        margins = criterion.of(trial.model, trial.target).decisive(trajectory)
        smooth = jax.nn.sigmoid(margins / self.temperature)
        if not self.straight_through:
            return jnp.mean(smooth)
        hard = jnp.where(jnp.isnan(margins), jnp.nan, (margins > 0).astype(smooth.dtype))
        return jnp.mean(smooth + jax.lax.stop_gradient(hard - smooth))

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of a probability."""
        return self.wanted.distance(means)


@final
class TimeLoss(AbstractLoss):
    """The time until retrieval: the mean time that a trial spends without it.

    ∫ 1/(1 + exp(margin(t)/T)) dt from the criterion's `since` to the last saved time, by the
    trapezoidal rule on the saved times: for a trial that stays in the right memory its first
    passage time, smoothly, for one that never gets there all of the time.
    """

    temperature: Float[Array, ""]

    @names_keywords
    def __init__(self, *, temperature: float = 0.05):
        """Store the temperature T, in units of the overlap.

        Raises:
            TypeError, ValueError: for what is not a positive number.
        """
        self.temperature = _number(temperature, "temperature", positive=True)

    def measure(
        self, trial: Trial, trajectory: Trajectory, criterion: Criterion
    ) -> Float[Array, ""]:
        """The time spent without retrieval."""
        grid = trajectory.grid
        if grid.last_step(criterion.since) >= grid.save_steps[-1]:
            raise ArgumentError(
                "since",
                f"below the last saved time {grid.save_times[-1]:g} for a TimeLoss",
                f"{criterion.since:g}",
            )
        margins = criterion.of(trial.model, trial.target).over_time(trajectory)
        without = jax.nn.sigmoid(-margins / self.temperature)
        return _integral(without, np.maximum(grid.save_times, criterion.since))

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The mean time."""
        return means


def _integral(values: Float[Array, " T"], times: Float[np.ndarray, " T"]) -> Float[Array, ""]:
    """By the trapezoidal rule; the intervals are made in float64."""
    intervals = jnp.asarray(np.diff(times), values.dtype)
    return jnp.sum(intervals * (values[1:] + values[:-1])) / 2


@final
class InputCost(AbstractLoss):
    """What the input costs: ∫ (1/N) Σ_i |u_i(t)|^n dt, up to the last saved time.

    Its energy for n = 2, its total for n = 1. A schedule is integrated exactly, in the whole steps
    that the solution has of it, a callable by the trapezoidal rule on the saved times. Noise of a
    `NoisyInput` costs nothing.
    """

    power: float = eqx.field(static=True)

    def __init__(self, power: float = 2.0):
        """Store n.

        Raises:
            TypeError, ValueError: unless it is a number from 1 on.
        """
        self.power = check_number(power, "power")
        if self.power < 1:
            raise ArgumentError("power", "at least 1", f"{power:g}")

    def measure(
        self, trial: Trial, trajectory: Trajectory, criterion: Criterion
    ) -> Float[Array, ""]:
        """The integral of one trial."""
        del criterion
        grid, inputs = trajectory.grid, without_noise(trial.inputs)
        last = int(grid.save_steps[-1])
        segments = as_input(inputs, trajectory.ts.dtype).segments(grid.dt)
        if segments is None:
            shown: Any = jax.vmap(inputs)(trajectory.ts)
            return _integral(self._cost(jnp.asarray(shown)), grid.save_times)
        begins, values = segments
        steps = jnp.append(jnp.minimum(begins, last), last)
        costs = self._cost(values)
        return jnp.sum(jnp.diff(steps).astype(costs.dtype) * costs) * grid.dt

    def _cost(self, values: Float[Array, "*S N"]) -> Float[Array, "*S"]:
        # Not `jnp.abs`, whose slope at zero is 1.
        sizes = values**2 if self.power == 2 else (jnp.sign(values) * values) ** self.power
        return jnp.mean(sizes, axis=-1)

    def value(self, means: Float[Array, ""]) -> Float[Array, ""]:
        """The mean cost."""
        return means
