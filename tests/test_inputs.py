"""Inputs as the network sees them: in every step of a solve, to the step."""

# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal
from odd_models import Integrator
from refusals import (
    NAN,
    ONES,
    assert_refused,
    assert_refused_at_run_time,
    each,
    schedule,
)

import hopjax as hj

DT = 0.01
NUM_STEPS = 256
# Multiples of 0.01 whose quotient by it is not a whole number in floating point.
AWKWARD = [0.07, 0.29, 0.58, 1.1, 2.3]
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def integrator(dtype) -> Integrator:
    return Integrator(jnp.ones((1, 2), dtype), hj.Tanh())


def state(t, x):
    del t
    return x


def seen(inputs, dtype, dt: float = DT) -> Array:
    """The input in every step."""
    trajectory = hj.solve(
        integrator(dtype),
        inputs,
        jnp.zeros(2, dtype),
        t1=NUM_STEPS * dt,
        dt=dt,
        save_every=dt,
        save_fn=state,
    )
    assert trajectory.saved.dtype == dtype
    return jnp.diff(trajectory.saved, axis=0) / dt


def staircase(steps) -> np.ndarray:
    """Which segment holds in every step, counted in integers: 1 from step 0, then 2, ..."""
    return np.searchsorted(steps, np.arange(NUM_STEPS), side="right")


def levels(num_segments: int, dtype) -> np.ndarray:
    """Values for `seen` to tell segments apart: entries s and −s in segment s."""
    return np.arange(1, num_segments + 1, dtype=dtype)[:, None] * np.array([1, -1], dtype)


def assert_seen(actual, steps) -> None:
    expected = staircase(steps)
    # Rounding of the running sum, far below one level.
    assert_allclose(actual, np.stack([expected, -expected], axis=1), atol=0.02, rtol=0)


def random_onsets(seed: int, num_onsets: int = 6) -> np.ndarray:
    """The steps of random onsets, the first 0."""
    rng = np.random.default_rng(seed)
    later = rng.choice(np.arange(1, NUM_STEPS), num_onsets - 1, replace=False)
    return np.append(0, np.sort(later))


@pytest.mark.slow
@FLOATS
def test_awkward_onsets_are_seen_to_the_step(dtype):
    onsets = np.array([0, *AWKWARD], dtype)
    assert_seen(seen(hj.Schedule(onsets, levels(6, dtype)), dtype), [0, 7, 29, 58, 110, 230])
    # Python floats, whatever the dtype of the solve.
    schedule = hj.Schedule([0.0, *AWKWARD], levels(6, dtype))
    assert_seen(seen(schedule, dtype), [0, 7, 29, 58, 110, 230])


@pytest.mark.slow
@FLOATS
@pytest.mark.parametrize("dt", [DT, 1 / 30])
def test_random_onsets_are_seen_to_the_step(dtype, dt):
    for seed in range(20):
        steps = random_onsets(seed)
        schedule = hj.Schedule((steps * dt).astype(dtype), levels(6, dtype))
        assert_seen(seen(schedule, dtype, dt), steps)


@pytest.mark.slow
@FLOATS
def test_traced_onsets_are_seen_to_the_step(dtype):
    @jax.jit
    @jax.vmap
    def run(onsets):
        return seen(hj.Schedule(onsets, levels(6, dtype)), dtype)

    steps = [np.array([0, 7, 29, 58, 110, 230]), *(random_onsets(seed) for seed in range(100))]
    onsets = (np.stack(steps) * DT).astype(dtype)
    onsets[0, 1:] = AWKWARD
    for expected, actual in zip(steps, run(onsets), strict=True):
        assert_seen(actual, expected)


@FLOATS
@pytest.mark.parametrize("dt", [0.01, 0.003, 1 / 30, 1e-4, 0.7])
def test_every_step_boundary_is_recognised(dtype, dt):
    steps = np.arange(100_000)
    schedule = hj.Schedule((steps * dt).astype(dtype), np.zeros((len(steps), 1), dtype))
    assert_array_equal(schedule.onset_steps(dt), steps)
    assert_array_equal(jax.jit(lambda s: s.onset_steps(dt))(schedule), steps)


def test_onset_half_a_step_off_is_refused():
    schedule = hj.Schedule([0.0, 0.295], levels(2, float))
    with pytest.raises(ValueError, match=r"got 0\.295"):
        schedule.onset_steps(DT)


@FLOATS  # six segments, as in the tests above: one compilation
def test_pulses_are_on_for_the_first_part_of_each_window(dtype):
    schedule = hj.Schedule(np.array([0, 0.29, 1.1], dtype), levels(3, dtype)).pulsed(0.07)
    expected = np.zeros(NUM_STEPS)
    for level, start in ((1, 0), (2, 29), (3, 110)):
        expected[start : start + 7] = level
    assert_allclose(seen(schedule, dtype)[:, 0], expected, atol=0.02, rtol=0)


def test_pulses_of_traced_onsets():
    @eqx.filter_jit
    def pulsed(onsets, duration):
        return hj.Schedule(onsets, levels(2, float)).pulsed(duration)

    result = pulsed(jnp.array([0.0, 0.5]), 0.2)
    assert_allclose(result.onsets, [0, 0.2, 0.5, 0.7], rtol=EXACT)
    assert_array_equal(result.values, [[1, -1], [0, 0], [2, -2], [0, 0]])
    with pytest.raises(RuntimeError, match="Argument `duration` must be shorter than every window"):
        pulsed(jnp.array([0.0, 0.5]), 0.6)


def test_windows_of_one_step_and_a_last_value_that_stays():
    schedule = hj.Schedule(DT * np.arange(6), levels(6, float))
    assert_seen(seen(schedule, float), range(6))


@pytest.mark.slow
@FLOATS
def test_one_vector_is_a_schedule_of_one_onset(dtype):
    u = np.array([0.3, -1.7], dtype)
    assert_array_equal(seen(u, dtype), seen(hj.Schedule([0.0], u[None]), dtype))


class Ramp(eqx.Module):
    """u(t) = offset + rate·t."""

    offset: Float[Array, " N"]
    rate: Float[Array, " N"]

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " N"]:
        return self.offset + self.rate * t


@pytest.mark.slow
def test_a_callable_is_asked_at_the_beginning_of_each_step():
    offset, rate = jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0])
    times = DT * np.arange(NUM_STEPS)[:, None]
    expected = np.asarray(offset) + np.asarray(rate) * times
    assert_allclose(seen(Ramp(offset, rate), float), expected, rtol=EXACT, atol=EXACT)
    # Without a slope it is a constant input.
    constant = seen(Ramp(offset, 0 * rate), float)
    assert_allclose(constant, seen(offset, float), rtol=EXACT, atol=EXACT)


@pytest.mark.slow
def test_a_callable_drives_plasticity_like_the_equivalent_constant():
    rng = np.random.default_rng(0)
    memories = rng.choice([-1.0, 1.0], (2, 8))
    u, x0 = jnp.asarray(2 * memories[0] + memories[1]), rng.normal(size=8)
    from_vector, from_callable = (
        hj.solve(hj.IDPHopfield(memories), inputs, x0, t1=1.0, dt=0.1)
        for inputs in (u, Ramp(u, jnp.zeros(8)))
    )
    assert_allclose(from_vector.overlaps, from_callable.overlaps, rtol=EXACT, atol=EXACT)


def test_integers_become_floats():
    schedule = hj.Schedule([0, 1], np.array([[1, -1], [2, -2]]))
    assert schedule.onsets.dtype == schedule.values.dtype == jnp.float64


# What is refused.

TWO = np.ones((2, 8))


@each(
    (lambda: schedule([0.1, 0.2]), ValueError, "onsets", "0 in its first entry"),
    (lambda: schedule([0.0, 0.5, 0.3]), ValueError, "onsets", "increasing, got 0.3 at index [2]"),
    (lambda: schedule([0.0, 0.5, 0.5]), ValueError, "onsets", "increasing, got 0.5 at index [2]"),
    (lambda: hj.Schedule(0.0, ONES), ValueError, "onsets", "got shape ()"),
    (lambda: schedule([], np.ones((0, 8))), ValueError, "onsets", "got none"),
    (lambda: schedule([0.0, 0.5], np.ones((3, 8))), ValueError, "values", "got shape (3, 8)"),
    (lambda: schedule([0.0], ONES), ValueError, "values", "got shape (8,)"),
    (lambda: schedule([0.0, 0.5, 0.7]).pulsed(0.3), ValueError, "duration", "got 0.3"),
    (lambda: schedule([0.0]).pulsed(0), ValueError, "duration", "got 0.0"),
    (lambda: schedule([0.0]).pulsed("1"), TypeError, "duration", "got '1'"),
    (lambda: schedule([0.0, 0.25]).onset_steps(0.1), ValueError, "onsets", "dt = 0.1, got 0.25"),
    (lambda: schedule([0.0]).onset_steps(0.0), ValueError, "dt", "got 0.0"),
    (lambda: schedule([0.0]).at(-1.0), ValueError, "t", "zero or positive, got -1"),
)
def test_wrong_schedules(row):
    assert_refused(row)


@pytest.mark.slow
def test_wrong_schedules_under_a_trace():
    assert_refused_at_run_time(
        (
            lambda onsets: schedule(onsets).onsets,
            *(np.array([0, 0.3, 0.5]), np.array([0, 0.5, 0.3]), "`onsets` must be increasing"),
        ),
        (
            lambda onsets: schedule(onsets, TWO).onsets,
            *(np.array([0, 0.5]), np.array([0.1, 0.5]), "`onsets` must be 0 in its first entry"),
        ),
        (
            lambda onsets: schedule(onsets, TWO).onset_steps(0.1),
            *(
                np.array([0, 0.5]),
                np.array([0, 0.55]),
                "`onsets` must be whole multiples of dt = 0.1",
            ),
        ),
        (
            lambda values: schedule([0.0, 0.5], values).values,
            TWO,
            NAN * TWO,
            "`values` must be finite",
        ),
    )
