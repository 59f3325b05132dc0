"""Intervals against their definition and their coverage; first passages against a loop."""

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from hopjax.statistics import first_passage_time, wilson_interval


@pytest.mark.parametrize("trials", [1, 7, 50, 2000])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_interval_solves_its_defining_equation(trials, confidence):
    z = stats.norm.isf((1 - confidence) / 2)
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        estimate, low, high = wilson_interval(successes, trials, confidence=confidence)
        assert float(estimate) == pytest.approx(successes / trials)

        def score(p, successes=successes):
            return (successes / trials - p) ** 2 - z**2 * p * (1 - p) / trials

        # The ends of [0, 1] are roots too, at 0 and n successes.
        inner = min(max(float(estimate), 1e-12), 1 - 1e-12)
        below = optimize.brentq(score, 0, inner) if successes else 0.0
        above = optimize.brentq(score, inner, 1) if successes < trials else 1.0
        np.testing.assert_allclose([low, high], [below, above], atol=1e-9)


def test_wilson_interval_agrees_with_scipy_and_broadcasts():
    successes = np.arange(21)
    interval = wilson_interval(successes, 20)
    for count in successes:
        expected = stats.binomtest(int(count), 20).proportion_ci(method="wilson")
        np.testing.assert_allclose(
            [interval.low[count], interval.high[count]], [expected.low, expected.high], atol=1e-9
        )


def test_wilson_interval_covers_as_it_should():
    # Exact coverage by summing the binomial distribution, on a grid: on average 95%.
    coverages = []
    for trials in (20, 50, 200):
        counts = np.arange(trials + 1)
        _, low, high = map(np.asarray, wilson_interval(counts, trials))
        for p in np.linspace(0.05, 0.95, 37):
            inside = (low <= p) & (p <= high)
            coverages.append(stats.binom.pmf(counts, trials, p)[inside].sum())
    assert np.mean(coverages) == pytest.approx(0.95, abs=0.01)
    assert min(coverages) > 0.9


def test_wilson_interval_under_jit_and_vmap():
    together = jax.jit(jax.vmap(lambda k: wilson_interval(k, 50)))(np.arange(5.0))
    np.testing.assert_allclose(together.low, wilson_interval(np.arange(5), 50).low)


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "name"),
    [
        (3, 0, 0.95, "trials"),
        (-1, 5, 0.95, "successes"),
        (6, 5, 0.95, "successes"),
        (3, 5, 1.0, "confidence"),
        (3, 5, 0.0, "confidence"),
        (np.nan, 5, 0.95, "successes"),
        ("three", 5, 0.95, "successes"),
    ],
)
def test_wrong_counts_are_refused(successes, trials, confidence, name):
    with pytest.raises((ValueError, TypeError), match=f"`{name}`") as caught:
        wilson_interval(successes, trials, confidence=confidence)
    assert "\n" not in str(caught.value)


def test_first_passage_time_against_a_loop():
    random = np.random.default_rng(0)
    ts = np.arange(20) * 0.5
    reached = random.random((100, 20)) < 0.08
    times = first_passage_time(ts, reached)
    for row, time in zip(reached, times, strict=True):
        expected = next((t for t, hit in zip(ts, row, strict=True) if hit), np.inf)
        assert float(time) == expected
    assert np.isinf(times).any()
    assert np.isfinite(times).any()
