"""Reductions on the host: chunk by chunk against all trials at once, and against NumPy."""

import pickle
from fractions import Fraction

import numpy as np
import pytest

import hopjax as hj
from hopjax.ensemble.reductions import Merger

RANDOM = np.random.default_rng(4)


def nothing(trial, trajectory):
    raise AssertionError("only the host's part is tested here")


def reduce(reduction, values, ok, sizes):
    """The results of trials that come in chunks of the given sizes."""
    merger = Merger(reduction)
    ends = np.cumsum(sizes)
    assert ends[-1] == len(ok)
    for end, size in zip(ends, sizes, strict=True):
        chunk = slice(end - size, end)
        if isinstance(values, dict):
            measured = {name: value[chunk] for name, value in values.items()}
        else:
            measured = values[chunk]
        merger.add(reduction.summarise(measured, ok[chunk]))
    return reduction.finish(merger.total())


@pytest.mark.parametrize("chunks", range(1, 21))
def test_any_number_of_chunks_equals_one_pass(chunks):
    sizes = [5] * (chunks - 1) + [3]
    count = sum(sizes)
    values = RANDOM.normal(3.0, 2.0, (count, 4, 2))
    ok = RANDOM.random(count) < 0.8
    ok[0] = True

    moments = reduce(hj.Moments(nothing), values, ok, sizes)
    assert moments["count"] == ok.sum()
    np.testing.assert_allclose(moments["mean"], values[ok].mean(axis=0), rtol=1e-13)
    if ok.sum() > 1:
        np.testing.assert_allclose(moments["variance"], values[ok].var(axis=0, ddof=1), rtol=1e-12)
    else:
        assert np.isnan(moments["variance"]).all()

    histogram = reduce(hj.Histogram(nothing, low=0, high=6, bin_width=0.5), values, ok, sizes)
    np.testing.assert_array_equal(histogram["edges"], np.arange(0, 6.1, 0.5))
    for place in np.ndindex(4, 2):
        inside = np.clip(values[(ok, *place)], 0.0, 5.999)
        expected = np.histogram(inside, histogram["edges"])[0]
        np.testing.assert_array_equal(histogram["counts"][place], expected)

    # Those that diverged are kept, and the order of the trials.
    named = {"a": values, "b": np.arange(count)}
    kept = reduce(hj.PerTrial(nothing), named, ok, sizes)
    np.testing.assert_array_equal(kept["a"], values)
    np.testing.assert_array_equal(kept["b"], np.arange(count))


def test_moments_do_not_cancel():
    # Mean 1e6, variance 1. Sums of squares would lose 1e12 ε = 2e-4 of the variance; the sums
    # about the mean know it to the mean's own rounding, 1e6 ε = 2e-10.
    values = 1e6 + RANDOM.normal(size=(1000, 1))
    exact = [Fraction(float(value)) for value in values[:, 0]]
    mean = sum(exact) / 1000
    variance = sum((value - mean) ** 2 for value in exact) / 999
    for sizes in ([1000], [128] * 7 + [104], [1] * 1000):
        moments = reduce(hj.Moments(nothing), values, np.ones(1000, bool), sizes)
        assert moments["mean"][0] == pytest.approx(float(mean), rel=1e-15)
        assert moments["variance"][0] == pytest.approx(float(variance), rel=1e-11)


def test_moments_are_summed_in_float64():
    values = (1 + RANDOM.random((4000, 3))).astype(np.float32)
    moments = reduce(hj.Moments(nothing), values, np.ones(4000, bool), [100] * 40)
    assert moments["mean"].dtype == np.float64
    np.testing.assert_allclose(moments["mean"], values.astype(float).mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize("first", [[True] * 4, [False] * 4])
def test_chunks_in_which_all_diverged_change_nothing(first):
    values = RANDOM.normal(size=(12, 2))
    ok = np.array(first + [False] * 4 + [True] * 4)
    values[~ok] = np.nan
    moments = reduce(hj.Moments(nothing), values, ok, [4, 4, 4])
    np.testing.assert_allclose(moments["mean"], values[ok].mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments["variance"], values[ok].var(axis=0, ddof=1), rtol=1e-12)
    histogram = hj.Histogram(nothing, low=-1, high=1, bin_width=1)
    assert (reduce(histogram, values, ok, [4, 4, 4])["counts"].sum(axis=-1) == ok.sum()).all()


def test_nothing_but_diverged_trials_has_no_moments():
    moments = reduce(hj.Moments(nothing), np.full((6, 2), np.nan), np.zeros(6, bool), [3, 3])
    assert moments["count"] == 0
    assert np.isnan(moments["mean"]).all()
    assert np.isnan(moments["variance"]).all()


def test_moments_and_histograms_of_one_number():
    values, ok = np.array([0.1, 0.2, 0.9, 1.0]), np.ones(4, bool)
    moments = reduce(hj.Moments(nothing), values, ok, [3, 1])
    assert moments["mean"] == pytest.approx(0.55)
    assert moments["variance"] == pytest.approx(np.var(values, ddof=1))
    histogram = hj.Histogram(nothing, low=0, high=1, bin_width=0.5)
    assert reduce(histogram, values, ok, [3, 1])["counts"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("low", "high", "width", "bins"),
    [(0, 1, 0.005, 200), (-1, 1, 0.005, 400), (0, 1, 0.3, 3), (0, 1, 1, 1), (-3, -1, 0.6, 3)],
)
def test_bins_fill_the_range(low, high, width, bins):
    histogram = hj.Histogram(nothing, low=low, high=high, bin_width=width)
    assert histogram.num_bins == bins
    np.testing.assert_allclose(histogram.edges, np.linspace(low, high, bins + 1), atol=1e-14)


def test_values_outside_count_in_the_bin_at_that_end():
    histogram = hj.Histogram(nothing, low=0, high=1, bin_width=0.25)
    values = np.array([-np.inf, -5.0, 0.0, 0.3, 1.0, 7.0, np.inf])
    counts = reduce(histogram, values, np.ones(7, bool), [7])["counts"]
    assert counts.tolist() == [3, 1, 0, 3]


def test_a_value_that_is_no_number_is_left_out_like_a_diverged_trial():
    # A function of the user's own may give NaN for a trial that went well.
    histogram = hj.Histogram(nothing, low=0, high=1, bin_width=0.25)
    values = np.array([0.1, np.nan, 0.9])
    counts = reduce(histogram, values, np.ones(3, bool), [3])["counts"]
    assert counts.tolist() == [1, 0, 0, 1]


def test_an_array_that_was_pickled_is_one_of_numbers():
    # NumPy gives it a dtype that says it is no built-in one.
    values = pickle.loads(pickle.dumps(np.arange(3.0)))
    assert values.dtype == float
    assert values.dtype.isbuiltin == 0
    reduction = hj.PerTrial(lambda trial, trajectory: values)
    (measured,) = reduction.measure(None, None).values()  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(measured, values)
