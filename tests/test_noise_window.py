"""What is left of a memory above the critical noise, by formula and by other means."""

import json

import numpy as np
from conftest import ROOT
from scipy import integrate, linalg, special

from experiments import noise_window

NUM_NEURONS, NOISE = 1024, 4.0


def left_over(alpha: float, slope: float) -> tuple[float, float]:
    (left,), (rate,) = noise_window.left_over(
        np.array([NOISE]), alpha, slope=slope, num_neurons=NUM_NEURONS, dt=1e-6
    )
    return left, rate


def test_without_feedback_overlaps_are_those_of_independent_neurons():
    def square(x):
        return np.tanh(2 * x) ** 2 * np.exp(-(x**2) / NOISE**2) / (NOISE * np.sqrt(np.pi))

    mean_square, _ = integrate.quad(square, -40, 40, points=[0])
    left, rate = left_over(0.0, slope=2.0)
    np.testing.assert_allclose(left, np.sqrt(2 * mean_square / (np.pi * NUM_NEURONS)), rtol=1e-5)
    assert rate == 1


def test_feedback_is_that_of_a_linear_system():
    # Of signs E[ψ(x₀) ψ(x_t)] = 2/π arcsin(exp −t) is known, and with it the variance of each part.
    n = np.arange(21)
    k = 2 * n + 1
    variance = 2 / np.pi * special.comb(2 * n, n) / 4.0**n / k
    alpha = 3.0
    slope_of_mean = np.sqrt(variance[0]) / (NOISE / np.sqrt(2))
    rate = 1 - alpha * slope_of_mean
    # A part that forgets as exp(−k t) moves the mean state, and noise does.
    drift = np.diag(np.append(-rate, -k[1:]))
    drift[0, 1:] = alpha
    noise = np.diag(np.append(NOISE**2, 2 * k[1:] * variance[1:]))
    covariance = linalg.solve_continuous_lyapunov(drift, -noise)
    seen = np.append(slope_of_mean, np.ones(len(k) - 1))
    expected = seen @ covariance @ seen + 1 - variance.sum()
    left, found = left_over(alpha, slope=1e5)
    np.testing.assert_allclose(found, rate, rtol=1e-3)
    np.testing.assert_allclose(left, np.sqrt(2 * expected / (np.pi * NUM_NEURONS)), rtol=1e-3)
    assert left > 2 * np.sqrt(2 / (np.pi * NUM_NEURONS))  # the feedback matters


def test_it_is_what_was_simulated():
    # Two starts, and a false alarm rate of 1e-4 each (3.9 of 1.96 standard errors).
    numbers = json.loads((ROOT / "figures" / "noise_window.json").read_text())
    result = numbers["results"]["orthogonal"]
    (left,), _ = noise_window.fluctuation(numbers, result["noises"][-1:])
    for start in ("overlap", "stationary"):
        measured = result[start][-1]
        assert abs(measured["mean"] - left) < 3.9 / 1.96 * measured["half_width"]
