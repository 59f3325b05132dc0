"""Losses against NumPy: what they measure of a trial, and what they make of the means."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj

MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]], float)
RANDOM = np.random.default_rng(5)
TS = 0.1 * np.arange(21)
OVERLAPS = RANDOM.uniform(-1, 1, (21, 2))
END = RANDOM.normal(size=8)


def trial(inputs: Any = None, target: int = 1) -> hj.Trial:
    shown = MEMORIES[0] if inputs is None else inputs
    return hj.Trial(hj.IDPHopfield(MEMORIES), shown, np.ones(8), target=target)


def trajectory(overlaps: Any = OVERLAPS, ts: Any = TS) -> hj.Trajectory:
    """What a solve would give, with these overlaps."""
    fine, never = jnp.array(True), jnp.array(jnp.inf)
    return hj.Trajectory(jnp.asarray(ts), jnp.asarray(overlaps), jnp.asarray(END), fine, never)


def measure(loss: hj.AbstractLoss, overlaps: Any = OVERLAPS, inputs: Any = None) -> Any:
    return np.asarray(loss.measure(trial(inputs), trajectory(overlaps)))


def value(loss: hj.AbstractLoss, means: Any) -> float:
    return float(loss.value(jax.tree.map(jnp.asarray, means)))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# Overlaps and retrieval.

FINAL = float(MEMORIES[1] @ np.tanh(10 * END) / 8)  # from the final state, not a saved one
LATE = OVERLAPS[16:, 1]  # the last half unit of time, without its beginning


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (hj.OverlapLoss(), FINAL),
        (hj.OverlapLoss(mirror=True), abs(FINAL)),
        (hj.OverlapLoss(settle=0.5), LATE.mean()),
        (hj.OverlapLoss(settle=0.5, mirror=True), abs(LATE).mean()),
        (hj.RetrievalLoss(0.3, temperature=0.2), sigmoid((FINAL - 0.3) / 0.2)),
        (hj.RetrievalLoss(0.3, temperature=0.2, settle=0.5), sigmoid((LATE - 0.3) / 0.2).mean()),
        (
            hj.RetrievalLoss(0.3, temperature=0.2, settle=0.5, mirror=True),
            sigmoid((abs(LATE) - 0.3) / 0.2).mean(),
        ),
        (hj.RetrievalLoss(0.36, settle=0.5, straight_through=True), (LATE > 0.36).mean()),
        (
            hj.RetrievalLoss(0.36, settle=0.5, straight_through=True, mirror=True),
            (abs(LATE) > 0.36).mean(),
        ),
        (hj.RetrievalLoss(-FINAL - 1e-9, straight_through=True, mirror=True), 1.0),
        (hj.RetrievalLoss(-FINAL + 1e-9, straight_through=True, mirror=True), 0.0),
        (hj.RetrievalLoss(-FINAL - 1e-9, straight_through=True), 0.0),
    ],
)
def test_what_is_measured_of_the_overlap_with_the_target(loss, expected):
    assert measure(loss) == pytest.approx(expected, rel=EXACT)


def test_the_numbers_of_these_tests_tell_cases_apart():
    assert -1 < FINAL < -0.1
    assert 0 < (LATE > 0.36).mean() < (abs(LATE) > 0.36).mean() < 1


@pytest.mark.parametrize("kind", [hj.OverlapLoss, hj.RetrievalLoss])
@pytest.mark.parametrize(
    ("wanted", "mean", "expected"),
    [
        ({}, 0.3, 0.7),
        ({"goal": 0.8}, 0.3, 0.25),
        ({"goal": 0.8}, 0.9, 0.01),
        ({"goal": 0.0}, 0.5, 0.25),
        ({"at_least": 0.8}, 0.3, 0.25),
        ({"at_least": 0.8}, 0.9, 0.0),
        ({"at_least": 1.0}, 1.0, 0.0),
    ],
)
def test_what_is_missing_to_what_is_wanted(kind, wanted, mean, expected):
    assert value(kind(**wanted), mean) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("mirror", [False, True])
def test_straight_through_is_the_hard_fraction_with_the_slope_of_the_smooth_one(mirror):
    options: dict[str, Any] = {"temperature": 0.2, "settle": 0.5, "mirror": mirror}
    smooth = hj.RetrievalLoss(0.3, **options)
    hard = hj.RetrievalLoss(0.3, straight_through=True, **options)

    def of(loss):
        return lambda overlaps: loss.measure(trial(), trajectory(overlaps))

    counted = abs(LATE) if mirror else LATE
    found, slope = jax.value_and_grad(of(hard))(jnp.asarray(OVERLAPS))
    assert float(found) == (counted > 0.3).mean()
    assert_array_equal(slope, jax.grad(of(smooth))(jnp.asarray(OVERLAPS)))
    assert np.count_nonzero(slope) == 5
    # Its loss too, which goes on with the mean.
    goal = hj.RetrievalLoss(0.3, straight_through=True, goal=0.5, **options)
    total = jax.grad(lambda m: goal.value(goal.measure(trial(), trajectory(m))))
    assert_allclose(total(jnp.asarray(OVERLAPS)), 2 * (found - 0.5) * slope, rtol=EXACT)


@pytest.mark.parametrize(
    "loss",
    [
        hj.OverlapLoss(settle=0.5),
        hj.RetrievalLoss(settle=0.5),
        hj.RetrievalLoss(settle=0.5, straight_through=True),
        hj.TimeLoss(),
    ],
)
def test_overlaps_that_are_no_number_make_no_loss(loss):
    overlaps = OVERLAPS.copy()
    overlaps[-1] = np.nan
    assert np.isnan(measure(loss, overlaps))


# The times that count.


@pytest.mark.parametrize("save_every", [0.1, 1 / 3])
@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("more", [0.0, 1e-6, 0.4])
def test_settle_windows_are_those_of_the_criterion(save_every, steps, more):
    # Of (t1 − settle, t1] with settle a little more than some saved intervals.
    ts = save_every * np.arange(13)
    overlaps = RANDOM.uniform(-1, 1, (13, 2))
    settle = (steps + more) * save_every
    counted = overlaps[-steps - (more > 0.01) :]
    path = trajectory(overlaps, ts)
    found = hj.OverlapLoss(settle=settle).measure(trial(), path)
    assert_allclose(found, counted[:, 1].mean(), rtol=EXACT)
    judged = hj.Criterion(settle=settle).judged(trial(), path)
    assert_allclose(judged, counted.mean(axis=0), rtol=EXACT)


# Time.


def test_time_below_the_threshold_is_the_first_passage_time_of_a_trial_that_stays():
    # The overlap rises by 1 per unit of time, passes 0.75 at 0.75, and stays at 0.9.
    ts = 0.01 * np.arange(201)
    rising = np.stack([0 * ts, np.minimum(ts, 0.9)], axis=1)
    loss = hj.TimeLoss(0.75, temperature=0.002)
    assert float(loss.measure(trial(), trajectory(rising, ts))) == pytest.approx(0.75, abs=1e-6)
    for since, left in ((0.5, 0.25), (1.5, 0.0)):
        late = hj.TimeLoss(0.75, temperature=0.002, since=since)
        assert float(late.measure(trial(), trajectory(rising, ts))) == pytest.approx(left, abs=1e-6)
    never = hj.TimeLoss(0.95, temperature=0.002)
    assert float(never.measure(trial(), trajectory(rising, ts))) == pytest.approx(2.0, abs=1e-6)
    falling = trajectory(-rising, ts)
    assert float(loss.measure(trial(), falling)) == pytest.approx(2.0, abs=1e-6)
    mirror = hj.TimeLoss(0.75, temperature=0.002, mirror=True)
    assert float(mirror.measure(trial(), falling)) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("since", [0.0, 0.7, 0.75])
def test_time_is_a_trapezoidal_sum(since):
    below = 1 - sigmoid((OVERLAPS[:, 1] - 0.3) / 0.2)
    ts = np.maximum(TS, since)
    expected = sum((below[1:] + below[:-1]) / 2 * np.diff(ts))
    loss = hj.TimeLoss(0.3, temperature=0.2, since=since)
    assert measure(loss) == pytest.approx(expected, rel=EXACT)
    assert value(loss, 0.4) == pytest.approx(0.4)


# What the input costs.

VALUES = RANDOM.normal(size=(4, 8))
POWERS = [1, 1.5, 2]


def density(values: Any, power: float) -> Any:
    return np.mean(abs(values) ** power, axis=-1)


@pytest.mark.parametrize("power", POWERS)
def test_cost_of_a_constant_input(power):
    expected = 2.0 * density(VALUES[0], power)
    assert measure(hj.InputCost(power), inputs=VALUES[0]) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize(
    ("onsets", "durations"),
    [
        ([0, 0.3, 0.9, 1.2], [0.3, 0.6, 0.3, 0.8]),
        ([0, 0.3, 0.9, 2.0], [0.3, 0.6, 1.1, 0.0]),
        ([0, 0.3, 2.5, 3.0], [0.3, 1.7, 0.0, 0.0]),
        ([0, 2.0, 2.1, 9.0], [2.0, 0.0, 0.0, 0.0]),
        ([0, 1.55, 1.6, 1.65], [1.55, 0.05, 0.05, 0.35]),  # between saved times
    ],
)
def test_cost_of_a_schedule_is_exact_also_where_it_outlasts_the_trial(onsets, durations, power):
    expected = durations @ density(VALUES, power)
    found = measure(hj.InputCost(power), inputs=hj.Schedule(np.asarray(onsets, float), VALUES))
    assert found == pytest.approx(expected, rel=EXACT)


class Wave(eqx.Module):
    """u(t) = cos(t) v."""

    vector: Float[Array, " N"]

    def __call__(self, t):
        return jnp.cos(t) * self.vector


@pytest.mark.parametrize("power", POWERS)
def test_cost_of_a_callable_is_a_trapezoidal_sum_over_saved_times(power):
    costs = density(np.cos(TS)[:, None] * VALUES[0], power)
    expected = sum((costs[1:] + costs[:-1]) / 2 * np.diff(TS))
    found = measure(hj.InputCost(power), inputs=Wave(jnp.asarray(VALUES[0])))
    assert found == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("power", POWERS)
def test_cost_by_the_values_and_not_by_the_onsets(power):
    def cost(onsets, values):
        return hj.InputCost(power).measure(trial(hj.Schedule(onsets, values)), trajectory())

    values = VALUES.copy()
    values[1] = 0.0  # where |u| has a kink
    onsets = jnp.array([0, 0.3, 0.9, 1.2])
    by_onsets, by_values = jax.grad(cost, (0, 1))(onsets, jnp.asarray(values))
    # A solve has no derivative by them, so half of one would mislead.
    assert_array_equal(by_onsets, np.zeros(4))
    durations = np.array([0.3, 0.6, 0.3, 0.8])
    expected = durations[:, None] * power * np.sign(values) * abs(values) ** (power - 1) / 8
    assert_allclose(by_values, expected, rtol=EXACT)


# Sums.

FIRST, SECOND = hj.OverlapLoss(settle=0.5, goal=0.2), hj.TimeLoss(0.3, temperature=0.2)
THIRD = hj.InputCost()


def apart(loss: hj.AbstractLoss) -> float:
    """A loss of one trial."""
    return float(loss.value(loss.measure(trial(), trajectory())))


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (FIRST + SECOND, (1, 1, 0)),
        (2 * FIRST, (2, 0, 0)),
        (SECOND * 3, (0, 3, 0)),
        (FIRST + 0.5 * SECOND + THIRD * 0.1, (1, 0.5, 0.1)),
        (2 * (FIRST + 3 * (SECOND + THIRD)), (2, 6, 6)),
        (FIRST + -1.0 * SECOND, (1, -1, 0)),
        (hj.WeightedSum([FIRST, THIRD]), (1, 0, 1)),
        (hj.WeightedSum((FIRST, SECOND, THIRD), [1, 0, 2]), (1, 0, 2)),
        (np.float64(2.0) * FIRST, (2, 0, 0)),
    ],
)
def test_losses_add_up_and_are_multiplied(loss, weights):
    parts = [apart(each) for each in (FIRST, SECOND, THIRD)]
    assert min(map(abs, parts)) > 1e-3
    assert apart(loss) == pytest.approx(np.dot(weights, parts), rel=EXACT)


def test_numbers_of_losses_are_no_part_of_their_structure():
    one = hj.RetrievalLoss(0.9, temperature=0.1, goal=0.8) + 2.0 * hj.TimeLoss(0.8)
    other = hj.RetrievalLoss(0.5, temperature=0.2, goal=0.7) + 3.0 * hj.TimeLoss(0.6)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert eqx.tree_equal(one, other) is not True


@pytest.mark.parametrize("weight", [2.0, 0.5])
def test_losses_of_many_trials_are_of_the_means(weight):
    # As one does by hand with `vmap`: means first, then the loss.
    loss = FIRST + weight * SECOND
    paths = RANDOM.uniform(-1, 1, (7, 21, 2))
    measured = jax.vmap(lambda m: loss.measure(trial(), trajectory(m)))(jnp.asarray(paths))
    means = jax.tree.map(lambda each: jnp.mean(each), measured)
    below = 1 - sigmoid((paths[:, :, 1] - 0.3) / 0.2)
    time = np.mean(np.sum((below[:, 1:] + below[:, :-1]) / 2, axis=1)) * 0.1
    expected = (paths[:, 16:, 1].mean() - 0.2) ** 2 + weight * time
    assert float(loss.value(means)) == pytest.approx(expected, rel=EXACT)
