"""Intervals by definition and coverage, quantiles of raw data, first passages against a loop."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from hopjax.statistics import (
    censored_quantiles,
    first_passage_time,
    histogram_quantiles,
    mean_share,
    wilson_interval,
)


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


def test_wilson_interval_covers_counted_trials_as_its_formula_says():
    # Drawn counts against the exact coverage, by SciPy's intervals. 20000 draws know it to a
    # standard error of at most .0021: .02 is 9 of them, a false alarm below 1e-18.
    random = np.random.default_rng(1)
    for trials in (16, 64, 300):
        bounds = [
            stats.binomtest(k, trials).proportion_ci(method="wilson") for k in range(trials + 1)
        ]
        for p in (0.05, 0.2, 0.5, 0.83, 0.95):
            counts = random.binomial(trials, p, 20_000)
            interval = wilson_interval(counts, trials)
            covered = np.mean((np.asarray(interval.low) <= p) & (p <= np.asarray(interval.high)))
            inside = [low <= p <= high for low, high in bounds]
            exact = stats.binom.pmf(np.arange(trials + 1), trials, p)[inside].sum()
            assert covered == pytest.approx(exact, abs=0.02)
            assert covered > 0.9


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


def test_the_interval_of_shares_is_that_of_a_mean_by_student():
    shares = np.random.default_rng(2).beta(2, 3, 30)
    mean, low, high = mean_share(shares)
    expected = stats.t.interval(0.95, 29, loc=shares.mean(), scale=stats.sem(shares))
    np.testing.assert_allclose([mean, low, high], [shares.mean(), *expected], rtol=1e-10)
    # It stays within [0, 1].
    low, high = mean_share(np.array([0.0, 0.0, 1.0]))[1:]
    assert (low, high) == (0.0, 1.0)
    # Where all are alike nothing scatters: Wilson's, as if trials had succeeded or not.
    for share in (0.0, 0.3, 1.0):
        found = mean_share(np.full(10, share))
        p = stats.binomtest(round(10 * share), 10).proportion_ci(method="wilson")
        np.testing.assert_allclose(found, [share, *p], rtol=1e-7, atol=1e-9)
    assert mean_share(np.ones(1)).low < 0.5


@pytest.mark.parametrize("size", [20, 400])
def test_intervals_of_instants_cover_and_wilsons_would_not(size):
    # Times within a trial are alike: of shares of 10 instants that scatter over trials, the mean
    # is known as well as from so many trials. 2000 cases; the coverage is 95% but for
    # discreteness, which 1.5% allow for, and luck (false alarms: 1e-4).
    luck = np.random.default_rng(3)
    rates = luck.beta(2, 1, (2000, size))
    shares = luck.binomial(10, rates) / 10
    covered = [interval.low <= 2 / 3 <= interval.high for interval in map(mean_share, shares)]
    low, high = stats.binom.interval(1 - 1e-4, 2000, 0.95)
    assert low - 30 <= np.sum(covered) <= high + 30
    # Counting instants as trials claims far too much.
    hits = shares.sum(axis=1) * 10
    wrong = [wilson_interval(round(k), 10 * size) for k in hits]
    assert np.mean([interval.low <= 2 / 3 <= interval.high for interval in wrong]) < 0.8


@pytest.mark.parametrize(
    ("shares", "confidence", "name"),
    [
        ([0.5, 1.5], 0.95, "shares"),
        ([-0.1], 0.95, "shares"),
        ([np.nan], 0.95, "shares"),
        ([], 0.95, "shares"),
        ([[0.5]], 0.95, "shares"),
        ([0.5], 1.0, "confidence"),
    ],
)
def test_wrong_shares_are_refused(shares, confidence, name):
    with pytest.raises(ValueError, match=f"^Argument `{name}` must be .*got") as error:
        mean_share(np.array(shares), confidence=confidence)
    assert "\n" not in str(error.value)


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


LEVELS = ["0", "0.01", "0.05", "0.07", "0.1", "0.25", "0.3", "0.5", "0.75", "0.9", "0.95", "1"]


@pytest.mark.parametrize("never", [0, 1, 6, 30])
def test_censored_quantiles_against_their_definition(never):
    # The smallest time by which at least a share q of all has passed, counted one by one.
    random = np.random.default_rng(2)
    times = np.append(random.integers(1, 12, 30 - never) / 4, np.full(never, np.inf))
    random.shuffle(times)
    found = censored_quantiles(times, [float(q) for q in LEVELS])
    for q, time in zip(LEVELS, found, strict=True):
        enough = (t for t in sorted(times) if sum(s <= t for s in times) >= Fraction(q) * 30)
        assert time == next(enough)
    assert np.isinf(found).any() == (never > 0)


@pytest.mark.parametrize("trials", [20, 40, 100, 200, 500, 2000])
def test_a_share_that_is_a_whole_number_of_trials_needs_no_further_one(trials):
    # 0.07 · 100 rounds to 7.000000000000001.
    for q in LEVELS[1:]:
        count = -(-Fraction(q) * trials // 1)
        times = np.append(np.arange(1.0, count + 1), np.full(trials - int(count), np.inf))
        assert censored_quantiles(times, [float(q)]) == count
        in_bins = histogram_quantiles(np.ones(trials, int), np.arange(trials + 1.0), [float(q)])
        assert count - 1 <= in_bins <= count + 1e-9


def test_quantiles_of_nothing_are_not_numbers():
    assert np.isnan(censored_quantiles(np.array([]), [0.1, 0.9])).tolist() == [True, True]
    empty = histogram_quantiles(np.zeros((3, 4), int), np.linspace(0, 1, 5), [0.1, 0.9])
    assert empty.shape == (2, 3)
    assert np.isnan(empty).all()


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_histogram_quantiles_are_exact_to_one_bin(count):
    values = np.random.default_rng(3).beta(0.5, 0.2, (count, 6))
    edges = np.linspace(0, 1, 41)
    counts = np.stack([np.histogram(column, edges)[0] for column in values.T])
    q = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]
    found = histogram_quantiles(counts, edges, q)
    assert found.shape == (7, 6)
    exact = np.quantile(values, q, axis=0, method="inverted_cdf")
    assert abs(found - exact).max() <= 1 / 40 + 1e-12
    assert (np.diff(found, axis=0) >= 0).all()
    # Never outside the bins that have counts.
    assert (found >= values.min(axis=0) - 1 / 40).all()
    assert (found <= values.max(axis=0) + 1 / 40).all()


def test_histogram_quantiles_are_linear_inside_a_bin():
    counts, edges = np.array([0, 10, 0, 10]), np.linspace(0, 2, 5)
    found = histogram_quantiles(counts, edges, [0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found, [0.5, 0.75, 1.0, 1.75, 2.0])


@pytest.mark.parametrize(
    ("quantiles", "error", "shows"),
    [
        ([0.5, 1.5], ValueError, "1.5"),
        ([-0.1], ValueError, "-0.1"),
        ([float("nan")], ValueError, "nan"),
        (0.5, ValueError, "()"),
        (["median"], TypeError, "median"),
        (None, TypeError, "None"),
    ],
)
def test_wrong_levels_are_refused(quantiles, error, shows):
    for call in (
        lambda: censored_quantiles(np.ones(2), quantiles),
        lambda: histogram_quantiles(np.ones(4, int), np.linspace(0, 1, 5), quantiles),
    ):
        with pytest.raises(error, match=r"^Argument `q` must be") as caught:
            call()
        assert shows in str(caught.value)
        assert "\n" not in str(caught.value)
