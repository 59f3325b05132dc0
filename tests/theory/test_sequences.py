"""Sequences of memories: closed forms, and the slow equations solved step by step in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose
from scipy import integrate, special

import hopjax as hj
from experiments import takeover
from hopjax import theory

HARD = hj.HardTanh()
NOISE = 0.3
ROUNDING = 1e-9  # of integrals by 64 nodes, and of roots


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1.0, 4.0])
@pytest.mark.parametrize("noise", [0.0, 0.1, 2.0])
def test_hard_saturation_knows_its_average(slope, noise):
    psi = hj.HardTanh(slope)
    smoothed = theory.NoisyActivation(psi, noise)
    x = np.array([-3.0, -1 / slope, -0.2, 0.0, 0.1, 1 / slope, 1.0, 40.0])

    def average(x):
        def density(y):
            return np.clip(slope * y, -1, 1) * np.exp(-(((y - x) / noise) ** 2))

        if noise == 0:
            return np.clip(slope * x, -1, 1)
        ends = x - 9 * noise, x + 9 * noise
        corners = [y for y in (-1 / slope, 1 / slope) if ends[0] < y < ends[1]]
        total, _ = integrate.quad(density, *ends, points=corners or None, epsabs=1e-13)
        return total / (noise * np.sqrt(np.pi))

    found = smoothed(jnp.asarray(x))
    assert_allclose(found, [average(each) for each in x], rtol=1e-9, atol=1e-12)
    assert_allclose(smoothed(jnp.asarray(-x)), -found, rtol=0)
    for end in (-1.0, 0.1, 1.3):
        integral, _ = integrate.quad(average, 0, end, epsabs=1e-11)
        assert_allclose(smoothed.antiderivative(jnp.array(end)), integral, rtol=1e-8)
    assert smoothed.antiderivative(jnp.zeros(())) == 0
    # Far out nothing is left of the noise.
    assert_allclose(smoothed(jnp.array([1e6, 1e12])), 1, rtol=EXACT)


GAINS = np.array([3.9, 4.5, 5.0, 6.0])


@pytest.mark.slow
def test_closed_forms_of_hard_saturation_without_noise():
    saliency = np.array([0.7, 1.2, 2.0, 5.0])
    following = theory.next_saliency(saliency, 4.5, 0.0, HARD)
    assert_allclose(following, np.append(0, 4.5 * (1 - 1 / saliency[1:])), rtol=ROUNDING)


@pytest.mark.slow
def test_dwell_times_of_hard_saturation_without_noise():
    saliency = np.array([0.7, 1.2, 2.0, 5.0])
    dwell = theory.dwell_time(4.5, 0.0, HARD, saliency=saliency)
    assert_allclose(dwell, np.append(0, np.log(saliency[1:])), rtol=ROUNDING)


@pytest.mark.slow
def test_the_sequence_of_hard_saturation_without_noise():
    assert_allclose(theory.critical_gain(0.0, HARD), 4, rtol=ROUNDING)
    upper = (GAINS[1:] + np.sqrt(GAINS[1:] ** 2 - 4 * GAINS[1:])) / 2
    assert_allclose(theory.sequence_saliency(GAINS, 0.0, HARD), [np.nan, *upper], rtol=ROUNDING)


@pytest.mark.slow
def test_the_dwell_time_of_hard_saturation_without_noise():
    upper = (GAINS[1:] + np.sqrt(GAINS[1:] ** 2 - 4 * GAINS[1:])) / 2
    found = theory.dwell_time(GAINS, 0.0, HARD)
    assert_allclose(found, [np.nan, *np.log(upper)], rtol=ROUNDING)


# The slow equations, step by step, with the fast network at rest in each.


def averaged(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ψ_σ of hard saturation and its slope, as the integral of the share that is not saturated."""
    above, below = (z + 1) / NOISE, (z - 1) / NOISE

    def corner(y):
        return NOISE * (y * special.ndtr(np.sqrt(2) * y) + np.exp(-(y**2)) / (2 * np.sqrt(np.pi)))

    slope = special.ndtr(np.sqrt(2) * above) - special.ndtr(np.sqrt(2) * below)
    return corner(above) - corner(below) - 1, slope


def reference_visit(saliency: float, gain: float, steps: int = 4000) -> tuple[float, float]:
    """The next saliency and the dwell time."""
    times = np.linspace(0, np.log(saliency * averaged(np.zeros(1))[1][0]), steps + 1)
    active = saliency * np.exp(-times)
    low, high = np.full_like(active, 1e-9), active.copy()
    for _ in range(60):
        middle = (low + high) / 2
        above = active * averaged(middle)[0] > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    overlap, slope = averaged(low)
    # s(t) e^t, by the trapezoidal rule.
    driven = gain * overlap * np.exp(times)
    grown = np.append(0, np.cumsum((driven[1:] + driven[:-1]) / 2 * times[1]))
    growing = grown * np.exp(-times)
    lost = growing * slope - 1
    if not (lost > 0).any():
        return growing[-1], times[-1]
    place = int(np.argmax(lost > 0))
    share = lost[place - 1] / (lost[place - 1] - lost[place])
    time = times[place - 1] + share * times[1]
    return float(np.interp(time, times, growing)), float(time)


STARTS = [(1.3, 5.0), (2.0, 5.0), (3.5, 5.0), (3.5, 3.0)]  # saliency and gain


@pytest.mark.slow
def test_the_next_saliency_under_noise_is_that_of_the_slow_equations():
    expected = [reference_visit(*start)[0] for start in STARTS]
    saliencies, gains = np.transpose(STARTS)
    following = theory.next_saliency(saliencies, gains, NOISE, HARD)
    assert_allclose(following, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_dwell_time_under_noise_is_that_of_the_slow_equations():
    expected = [reference_visit(*start)[1] for start in STARTS]
    saliencies, gains = np.transpose(STARTS)
    dwell = theory.dwell_time(gains, NOISE, HARD, saliency=saliencies)
    assert_allclose(dwell, expected, rtol=1e-5)


def last_saliency(gain: float) -> float:
    """Of a long sequence that begins with its gain, 0 where it has ended."""
    saliency, least = gain, 1 / averaged(np.zeros(1))[1][0]
    for _ in range(60):
        saliency, _ = reference_visit(saliency, gain, 1000)
        if saliency <= least:
            return 0.0
    return saliency


@pytest.mark.slow
def test_the_threshold_under_noise_is_where_the_slow_equations_have_it():
    threshold = float(theory.critical_gain(NOISE, HARD))
    assert 4.3 < threshold < 4.6
    assert last_saliency(threshold + 0.05) > 1.5
    assert last_saliency(threshold - 0.1) == 0
    found = theory.sequence_saliency(np.array([5.0, threshold - 0.1]), NOISE, HARD)
    assert_allclose(found, [last_saliency(5.0), np.nan], rtol=1e-4)


def lives(gain: float, time_constant: float, variance: float, enter: float, length: float) -> bool:
    """Whether a sequence of two memories at a time has not ended, number by number."""
    rest, dt = np.sqrt(variance), 0.05
    z, y, active, following, third, first = gain, rest, gain, 0.0, 0.0, 1.0
    for _ in range(round(length * time_constant / dt)):
        (plus, minus), _ = averaged(np.array([z + y, z - y]))
        first, second = (plus + minus) / 2, (plus - minus) / 2
        z += dt * (active * first - z)
        y += dt * (following * second - y + variance / y)
        active -= dt * active / time_constant
        following += dt * (gain * first - following) / time_constant
        third += dt * (gain * second - third) / time_constant
        if second > max(enter, first):
            z, y, active, following, third = y, rest, following, third, 0.0
    return first > enter / 2


def test_the_threshold_of_two_memories_is_that_of_their_equations_one_by_one():
    (found,) = takeover.thresholds([8.0], noise=NOISE, num_neurons=64, enter=0.7, length=12.0)
    variance = NOISE**2 / (2 * 64)
    assert [lives(found + side, 8.0, variance, 0.7, 12.0) for side in (-0.05, 0.05)] == [
        False,
        True,
    ]


@pytest.mark.slow
def test_states_scale_with_the_slope():
    noise = np.array([0.02, 0.5])
    steep = theory.critical_gain(noise / 8, hj.Tanh(8.0))
    assert_allclose(steep, np.asarray(theory.critical_gain(noise, hj.Tanh(1.0))) / 8, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["critical_gain", "sequence_saliency", "dwell_time"])
def test_gradients_under_jit_against_central_differences(name):
    def value(noise: Any) -> Any:
        if name == "critical_gain":
            return theory.critical_gain(noise, HARD)
        return getattr(theory, name)(5.0, noise, HARD)

    step = 1e-4
    below, above = (float(value(NOISE + sign * step)) for sign in (-1, 1))
    slope = jax.jit(jax.grad(value))(NOISE)
    assert_allclose(slope, (above - below) / (2 * step), rtol=1e-5)
    assert abs(slope) > 0.1


@pytest.mark.slow
def test_float32_stays_float32():
    found = theory.critical_gain(np.float32(NOISE), hj.HardTanh(np.float32(1)))
    assert found.dtype == jnp.float32
    assert_allclose(found, theory.critical_gain(NOISE, HARD), rtol=1e-4)


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_a_wrong_gain_is_refused(wrong):
    with pytest.raises(hj.ArgumentError, match=r"^Argument `gain` must be"):
        theory.next_saliency(3.0, wrong, 0.0, HARD)
