"""Losses against NumPy: what they measure of a trial, and what they make of the means."""

# Calls that a type checker refuses are tested too.
# pyright: reportArgumentType=false

import re
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
from hopjax.solving import Grid
from hopjax.tuning.losses import terms_of

MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]], float)
RANDOM = np.random.default_rng(5)
TS = 0.1 * np.arange(21)
OVERLAPS = RANDOM.uniform(-1, 1, (21, 2))
END = RANDOM.normal(size=8)


def trial(inputs: Any = None, target: int = 1) -> hj.Trial:
    shown = MEMORIES[0] if inputs is None else inputs
    return hj.Trial(hj.IDPHopfield(MEMORIES), shown, np.ones(8), target=target)


def trajectory(overlaps: Any = OVERLAPS, every: float = 0.1) -> hj.Trajectory:
    """What a solve would give that saves every other step, with these overlaps."""
    fine, never = jnp.array(True), jnp.array(-1)
    grid = Grid(every / 2, 2 * (len(overlaps) - 1), 2)
    ts = jnp.asarray(grid.save_times)
    return hj.Trajectory(ts, jnp.asarray(overlaps), jnp.asarray(END), fine, never, grid)


def criterion(threshold: float = 0.9, **options: Any) -> hj.Criterion:
    """One with which signs count."""
    settings = {"mixed": min(threshold, 0.3), "mirror": False} | options
    return hj.Criterion(threshold, **settings)


def measure(
    loss: hj.AbstractLoss,
    overlaps: Any = OVERLAPS,
    inputs: Any = None,
    judge: hj.Criterion = criterion(),  # noqa: B008
) -> Any:
    return np.asarray(loss.measure(trial(inputs), trajectory(overlaps), judge))


def value(loss: hj.AbstractLoss, means: Any) -> float:
    return float(loss.value(jax.tree.map(jnp.asarray, means)))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# Overlaps and retrieval.

FINALS = MEMORIES @ np.tanh(10 * END) / 8  # from the final state, not a saved one
FINAL = float(FINALS[1])
LATE = OVERLAPS[15:]  # the last half unit of time, with its beginning
TARGET = LATE[:, 1]


def margin(overlaps: Any, threshold: float, mirror: bool = False) -> Any:
    """That of the second of two memories."""
    strength = abs(overlaps[..., 1]) if mirror else overlaps[..., 1]
    return np.minimum(strength - threshold, strength - abs(overlaps[..., 0]))


INSTANTS = {"settle": 0.5, "judge": "instants"}
HARD = hj.RetrievalLoss(straight_through=True)
SMOOTH = hj.RetrievalLoss(temperature=0.2)


@pytest.mark.parametrize(
    ("loss", "judge", "expected"),
    [
        (hj.OverlapLoss(), criterion(), FINAL),
        (hj.OverlapLoss(), criterion(mirror=True), abs(FINAL)),
        (hj.OverlapLoss(), criterion(settle=0.5), TARGET.mean()),
        (hj.OverlapLoss(), criterion(**INSTANTS), TARGET.mean()),
        (hj.OverlapLoss(), criterion(settle=0.5, mirror=True), abs(TARGET).mean()),
        (SMOOTH, criterion(0.3), sigmoid(margin(FINALS, 0.3) / 0.2)),
        (SMOOTH, criterion(0.3, settle=0.5), sigmoid(margin(LATE.mean(axis=0), 0.3) / 0.2)),
        (SMOOTH, criterion(0.3, **INSTANTS), sigmoid(margin(LATE, 0.3) / 0.2).mean()),
        (
            SMOOTH,
            criterion(0.3, mirror=True, **INSTANTS),
            sigmoid(margin(LATE, 0.3, True) / 0.2).mean(),
        ),
        (HARD, criterion(0.2, **INSTANTS), (margin(LATE, 0.2) > 0).mean()),
        (HARD, criterion(0.2, mirror=True, **INSTANTS), (margin(LATE, 0.2, True) > 0).mean()),
        (HARD, criterion(0.2, settle=0.5), 0.0),
        (HARD, criterion(-FINAL - 1e-9, mirror=True), 1.0),
        (HARD, criterion(-FINAL + 1e-9, mirror=True), 0.0),
        (HARD, criterion(-FINAL - 1e-9), 0.0),
    ],
)
def test_what_is_measured_of_the_overlap_with_the_target(loss, judge, expected):
    assert measure(loss, judge=judge) == pytest.approx(expected, rel=EXACT)


def test_the_numbers_of_these_tests_tell_cases_apart():
    assert -1 < FINAL < -0.1
    assert abs(FINALS[0]) < abs(FINAL)
    hits = [(margin(LATE, 0.2, mirror) > 0).mean() for mirror in (False, True)]
    assert 0 < hits[0] < hits[1] < (abs(TARGET) > 0.2).mean() < 1


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


@pytest.mark.slow
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("how", ["mean", "instants"])
def test_straight_through_is_the_hard_fraction_with_the_slope_of_the_smooth_one(mirror, how):
    judge = criterion(0.2, mirror=mirror, settle=0.5, judge=how)
    hard = hj.RetrievalLoss(temperature=0.2, straight_through=True)

    def of(loss):
        return lambda overlaps: loss.measure(trial(), trajectory(overlaps), judge)

    counted = LATE if how == "instants" else LATE.mean(axis=0)[None]
    found, slope = jax.value_and_grad(of(hard))(jnp.asarray(OVERLAPS))
    assert float(found) == pytest.approx((margin(counted, 0.2, mirror) > 0).mean(), abs=EXACT)
    assert_array_equal(slope, jax.grad(of(SMOOTH))(jnp.asarray(OVERLAPS)))
    assert (np.any(slope != 0, axis=1) == (np.arange(21) >= 15)).all()
    # Its loss too, which goes on with the mean.
    goal = hj.RetrievalLoss(temperature=0.2, straight_through=True, goal=0.5)
    total = jax.grad(lambda m: goal.value(goal.measure(trial(), trajectory(m), judge)))
    assert_allclose(total(jnp.asarray(OVERLAPS)), 2 * (found - 0.5) * slope, rtol=EXACT)


@pytest.mark.parametrize("loss", [hj.OverlapLoss(), SMOOTH, HARD, hj.TimeLoss()])
@pytest.mark.parametrize("how", ["mean", "instants"])
def test_overlaps_that_are_no_number_make_no_loss(loss, how):
    overlaps = OVERLAPS.copy()
    overlaps[-1] = np.nan
    assert np.isnan(measure(loss, overlaps, judge=criterion(settle=0.5, judge=how)))


@pytest.mark.slow
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("loss", [hj.OverlapLoss(), SMOOTH, HARD, hj.TimeLoss()])
def test_slopes_are_finite_where_overlaps_vanish_or_are_equal(loss, mirror):
    # At zero |m| has a kink, and where two memories are equally strong the largest has one.
    for value in (0.0, 0.5):
        judge = criterion(0.5, mirror=mirror, settle=0.5)
        slope = jax.grad(lambda m, judge=judge: loss.measure(trial(), trajectory(m), judge))
        assert np.isfinite(slope(jnp.full((21, 2), value))).all()


# The times that count.


@pytest.mark.parametrize("save_every", [0.1, 1 / 3])
@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("more", [0.0, 1e-6, 0.4])
def test_settle_windows_are_those_of_the_criterion(save_every, steps, more):
    # Of [t1 − settle, t1], with settle a little more than some saved intervals.
    overlaps = RANDOM.uniform(-1, 1, (13, 2))
    judge = criterion(settle=(steps + more) * save_every)
    counted, path = overlaps[-steps - 1 :], trajectory(overlaps, save_every)
    assert_allclose(hj.OverlapLoss().measure(trial(), path, judge), counted[:, 1].mean())
    judged = judge.of(trial().model, trial().target).late(path)
    assert judged.amplitudes is None
    assert_array_equal(judged.overlaps, counted)


# Time.


def test_time_below_the_threshold_is_the_first_passage_time_of_a_trial_that_stays():
    # The overlap rises by 1 per unit of time, passes 0.75 at 0.75, and stays at 0.9.
    ts = 0.01 * np.arange(201)
    rising = np.stack([0 * ts, np.minimum(ts, 0.9)], axis=1)
    loss = hj.TimeLoss(temperature=0.002)

    def time(overlaps: Any = rising, threshold: float = 0.75, **options: Any) -> float:
        path = trajectory(overlaps, 0.01)
        return float(loss.measure(trial(), path, criterion(threshold, **options)))

    assert time() == pytest.approx(0.75, abs=1e-6)
    for since, left in ((0.5, 0.25), (1.5, 0.0)):
        assert time(since=since) == pytest.approx(left, abs=1e-6)
    assert time(threshold=0.95) == pytest.approx(2.0, abs=1e-6)
    assert time(-rising) == pytest.approx(2.0, abs=1e-6)
    assert time(-rising, mirror=True) == pytest.approx(0.75, abs=1e-6)
    # It has to be the strongest as well, which it is from 0.85 on.
    rival = rising + np.array([0.85, 0.0])
    assert time(rival) == pytest.approx(0.85, abs=1e-3)


@pytest.mark.parametrize("since", [0.0, 0.7, 0.75])
def test_time_is_a_trapezoidal_sum(since):
    without = sigmoid(-margin(OVERLAPS, 0.3) / 0.2)
    ts = np.maximum(TS, since)
    expected = sum((without[1:] + without[:-1]) / 2 * np.diff(ts))
    loss = hj.TimeLoss(temperature=0.2)
    found = measure(loss, judge=criterion(0.3, since=since))
    assert found == pytest.approx(expected, rel=EXACT)
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


@pytest.mark.slow
@pytest.mark.parametrize("power", POWERS)
def test_cost_by_the_values_and_not_by_the_onsets(power):
    def cost(onsets, values):
        shown = trial(hj.Schedule(onsets, values))
        return hj.InputCost(power).measure(shown, trajectory(), criterion())

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

FIRST, SECOND = hj.OverlapLoss(goal=0.2), hj.TimeLoss(temperature=0.2)
THIRD = hj.InputCost()
JUDGE = criterion(0.3, settle=0.5)


def apart(loss: hj.AbstractLoss) -> float:
    """A loss of one trial."""
    return float(loss.value(loss.measure(trial(), trajectory(), JUDGE)))


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
        (sum([FIRST, SECOND, THIRD]), (1, 1, 1)),
        (sum([FIRST]), (1, 0, 0)),
        (FIRST - SECOND, (1, -1, 0)),
        (FIRST - (SECOND - THIRD), (1, -1, 1)),
        (-FIRST, (-1, 0, 0)),
        (-(FIRST + 2 * SECOND) / 4, (-0.25, -0.5, 0)),
        (SECOND / np.float64(2.0), (0, 0.5, 0)),
    ],
)
def test_losses_are_arithmetic(loss, weights):
    parts = [apart(each) for each in (FIRST, SECOND, THIRD)]
    assert min(map(abs, parts)) > 1e-3
    assert apart(loss) == pytest.approx(np.dot(weights, parts), rel=EXACT)


def test_what_is_subtracted_has_a_sign_in_its_name_and_no_aim():
    loss = FIRST - FIRST / 2 - THIRD
    terms = terms_of(loss)
    names = ["OverlapLoss(goal=0.2)", "-0.5 OverlapLoss(goal=0.2)", "-InputCost()"]
    assert [term.name for term in terms] == names
    assert [term.aim for term in terms] == [("goal", pytest.approx(0.2)), None, None]
    assert terms_of(-1 * -FIRST)[0].name == "OverlapLoss(goal=0.2)"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda: 1 + FIRST,
            TypeError,
            "`losses` must be losses such as OverlapLoss(), got 1 (int)",
        ),
        (
            lambda: FIRST.__sub__(1.0),
            TypeError,
            "`losses` must be losses such as OverlapLoss(), got 1.0",
        ),
        (lambda: FIRST / 0, ValueError, "`divisor` must be a number other than 0, got 0."),
        (
            lambda: FIRST.__truediv__(SECOND),
            TypeError,
            "`divisor` must be a finite number, got TimeLoss(",
        ),
    ],
)
def test_losses_are_not_mixed_with_what_is_none(wrong, error, message):
    with pytest.raises(error, match=re.escape(f"Argument {message}")) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_numbers_of_losses_are_no_part_of_their_structure():
    one = hj.RetrievalLoss(temperature=0.1, goal=0.8) + 2.0 * hj.TimeLoss()
    other = hj.RetrievalLoss(temperature=0.2, goal=0.7) + 3.0 * hj.TimeLoss(temperature=0.1)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert eqx.tree_equal(one, other) is not True


@pytest.mark.slow
@pytest.mark.parametrize("weight", [2.0, 0.5])
def test_losses_of_many_trials_are_of_the_means(weight):
    # As one does by hand with `vmap`: means first, then the loss.
    loss = FIRST + weight * SECOND
    paths = RANDOM.uniform(-1, 1, (7, 21, 2))
    measured = jax.vmap(lambda m: loss.measure(trial(), trajectory(m), JUDGE))(jnp.asarray(paths))
    means = jax.tree.map(lambda each: jnp.mean(each), measured)
    without = sigmoid(-margin(paths, 0.3) / 0.2)
    time = np.mean(np.sum((without[:, 1:] + without[:, :-1]) / 2, axis=1)) * 0.1
    expected = (paths[:, 15:, 1].mean() - 0.2) ** 2 + weight * time
    assert float(loss.value(means)) == pytest.approx(expected, rel=EXACT)
