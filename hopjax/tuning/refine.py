"""What becomes of the steps: the best of them, the minimum beside it, and how far it is known."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import stats

from hopjax.engine import OutOfRangeError
from hopjax.statistics import Interval
from hopjax.tuning.descent import Descent, History
from hopjax.tuning.gradient import Found, Gradients, weighted_sum
from hopjax.tuning.parameters import Values, count

REFINED_AT_MOST = 4  # numbers that get an interval: it takes two gradients for each
BATCHES = 8  # of fresh trials, for that interval
_STEP = 0.02  # of the finite difference of gradients there, in free coordinates
_NEWTON_STEPS = 4  # at most
_SHARE = 0.3  # of a parameter in a direction that makes it one of those that lie along it
_NEAR = 1e-4  # a shorter one, in free coordinates, is the last
_CANDIDATES = 2  # of the result


class Ending(NamedTuple):
    """The mean of what a term of the loss measured in the end; of several numbers its share."""

    measured: float
    error: float  # its standard error


class Refined(NamedTuple):
    """The minimum and its interval from fresh batches, and the loss there."""

    z: Values
    half: Values  # half the width of the interval in z; NaN if there is none
    loss: Interval
    endings: list[Ending]  # of the terms of the loss
    why: str  # why there is no interval; empty where there is one
    flat: dict[str, bool]  # the parameters along which the loss does not curve, if that is why


def gradients_at_the_end(start: Values) -> int:
    """How many `best` and `refine` take at most."""
    numbers = count(start)
    if numbers > REFINED_AT_MOST:
        return _CANDIDATES + BATCHES
    return _CANDIDATES + BATCHES * (2 * numbers + _NEWTON_STEPS)


def best(descent: Descent, history: History) -> Values:
    """The free coordinates that are the result: the first of these, unless the other is better.

    The mean over the window of the lowest loss, and the step of the lowest loss; which is better
    is seen on the same fresh trials. (A mean over steps on both sides of a cliff may lie beyond
    it.)
    """
    loss = np.where(history.fine, history.array("loss"), np.inf)
    lowest = int(np.argmin(loss))
    single = _mean(history, slice(lowest, lowest + 1))
    if not descent.fresh:
        return single
    window = min(descent.window, len(history))
    windows = [slice(end - window, end) for end in range(len(history), window - 1, -window)]

    def mean_loss(steps: slice) -> float:
        fine = history.fine[steps]
        return loss[steps][fine].mean() if fine.any() else np.inf

    lowest_window = min(windows, key=mean_loss)
    if not history.fine[lowest_window].any():
        return single
    averaged = _mean(history, lowest_window)
    first, second = (
        descent.differentiate(each, descent.keys.choice, "the choice of the best")
        for each in (averaged, single)
    )
    clearly = not np.isfinite(first.loss) or second.loss < first.loss - second.error
    return single if clearly else averaged


def _mean(history: History, steps: slice) -> Values:
    """The free coordinates' mean over those of some steps that were not skipped."""
    fine = history.fine[steps]
    return {
        name: jnp.asarray(history.array(f"z:{name}")[steps][fine].mean(axis=0), part.dtype)
        for name, part in history.z.items()
    }


def refine(descent: Descent, z: Values) -> Refined:
    """The minimum, and how far it is known, by Newton steps on batches of fresh trials.

    A loss is a function of means, so the minimum of a single batch is biased. The batches are
    pooled, and the scatter is that of their pseudo-values (the jackknife, Miller, Biometrika
    61, 1, 1974), whose mean is free of that bias to first order.
    """
    names = list(z)
    shapes = [np.shape(z[name]) for name in names]
    start = np.concatenate([np.ravel(np.asarray(z[name], float)) for name in names])
    known = start.size <= REFINED_AT_MOST
    gradients = descent.gradients.forward() if known else descent.gradients

    def unflat(vector: np.ndarray) -> Values:
        parts = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
        return {
            name: jnp.asarray(part.reshape(shape), z[name].dtype)
            for name, part, shape in zip(names, parts, shapes, strict=True)
        }

    def batches(point: np.ndarray) -> list[Found]:
        at = unflat(point)
        return [
            gradients(at, descent.keys.batch(batch), descent.label(at, f"batch {batch}"))
            for batch in range(BATCHES)
        ]

    def slope(found: list[Found], kept: list[int]) -> Float[np.ndarray, " n"]:
        pooled = [found[batch] for batch in kept]
        means = np.mean([each.means for each in pooled], axis=0)
        by_mean = gradients.evaluate(means.tolist())[1]
        parts = [weighted_sum(by_mean, each.slopes) for each in pooled]
        return np.mean([np.concatenate([np.ravel(p[n]) for n in names]) for p in parts], axis=0)

    def unknown(why: str) -> Refined:
        nothing = unflat(np.full(start.size, np.nan))
        return Refined(z, nothing, _loss(at_start), _endings(gradients, at_start), why, {})

    point, at_start = start, batches(start)
    found = at_start
    if not known:
        return unknown(f"it is looked for only of up to {REFINED_AT_MOST} numbers")
    try:
        sides = [
            (batches(start + step), batches(start - step)) for step in _STEP * np.eye(start.size)
        ]

        def curvature(kept: list[int]) -> Float[np.ndarray, "n n"]:
            rows = [slope(high, kept) - slope(low, kept) for high, low in sides]
            matrix = np.stack(rows) / (2 * _STEP)
            return np.nan_to_num(matrix + matrix.T) / 2

        def least_curvature(kept: list[int]) -> Float[np.ndarray, " 1"]:
            return np.linalg.eigvalsh(curvature(kept))[:1]

        def minimum(kept: list[int]) -> Float[np.ndarray, " n"]:
            return point - np.linalg.solve(curvature(kept), slope(found, kept))

        # Along a valley whose slope is lost in the noise nothing says where the minimum is.
        least, low, high = _spread(least_curvature)[:, 0]
        if high < 0:
            return unknown("no minimum is near, as the loss curves downwards")
        if not low > 0:
            along = np.abs(np.linalg.eigh(curvature([*range(BATCHES)]))[1][:, 0])
            shares = unflat(along / along.max())
            flat = {name: bool(np.max(np.asarray(part)) >= _SHARE) for name, part in shares.items()}
            why = f"the loss curves by {least:.2g} [{low:.2g}, {high:.2g}]"
            return unknown(why)._replace(flat=flat)
        for number in range(_NEWTON_STEPS):
            found = batches(point) if number else found
            reached, low, high = _spread(minimum)
            half, step = (high - low) / 2, np.abs(reached - point)
            # Beyond where the loss is a parabola, a Newton step means nothing.
            near = np.abs(reached - start) <= np.maximum(half, 5 * _STEP)
            if not (near.all() and half.max() <= 0.5):
                return unknown("the minimum is further away than the loss is a parabola")
            point = reached
            if (step <= np.maximum(half / 4, _NEAR)).all():
                ends = _endings(gradients, found)
                return Refined(unflat(point), unflat(half), _loss(found), ends, "", {})
    except OutOfRangeError:
        return unknown("values beside it are out of its range")
    except np.linalg.LinAlgError:
        return unknown("the loss does not curve there")
    return unknown("Newton's steps do not settle")


def _endings(gradients: Gradients, found: list[Found]) -> list[Ending]:
    """What each term of the loss measured in batches of trials."""
    endings = []
    for number, places in enumerate(gradients.places()):
        alone = len(places) == 1
        each = [one.means[places[0]] if alone else one.terms[number] for one in found]
        error = np.std(each, ddof=1) / np.sqrt(len(each))
        endings.append(Ending(float(np.mean(each)), float(error)))
    return endings


def _spread(
    estimate: Callable[[list[int]], Float[np.ndarray, " n"]],
) -> Float[np.ndarray, "3 n"]:
    """The jackknife: what is estimated from all batches, and the ends of its interval."""
    whole = estimate([*range(BATCHES)])
    parts = [[*range(left_out), *range(left_out + 1, BATCHES)] for left_out in range(BATCHES)]
    pseudo = [BATCHES * whole - (BATCHES - 1) * estimate(part) for part in parts]
    return _of_batches(np.array(pseudo))


def _loss(found: list[Found]) -> Interval:
    """The loss that such a batch has, which is also that of a step."""
    return Interval(*_of_batches(np.array([each.loss for each in found])))


def _of_batches(values: Float[np.ndarray, "batches *n"]) -> Float[np.ndarray, "3 *n"]:
    """The mean and the ends of its 95% interval, by Student's distribution."""
    count, middle = len(values), values.mean(axis=0)
    half = stats.t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return np.stack([middle, middle - half, middle + half])
