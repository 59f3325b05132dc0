"""Grid paths: bits that depend on (key, step) alone, and the laws that they promise."""

# pyright: reportArgumentType=false

import functools

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from refusals import (
    INF,
    ONES,
    assert_refused,
    assert_refused_at_run_time,
    each,
    with_entry,
)
from scipy import stats

import hopjax as hj

KEY = jax.random.key(11)
LAWS = [hj.Gaussian(), hj.Gaussian(refinement=2), hj.TwoPoint(), hj.Binomial()]
FALSE_ALARM = 1e-5  # of each statistical test below; the keys are fixed


def make_path(law, size=33, dtype=jnp.float32, key=KEY, levy_area: type = dfx.BrownianIncrement):
    return law.path(key, size, jnp.dtype(dtype), 1000.0, 1.0, levy_area)


def increments(law, steps, size=33, dtype=jnp.float32, key=KEY):
    return jax.vmap(make_path(law, size, dtype, key).increment)(jnp.asarray(steps))


def same_bits(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_increments_are_the_same_alone_in_a_batch_and_jitted(law):
    path = make_path(law)
    alone = jnp.stack([path.increment(jnp.asarray(step)) for step in range(5)])
    agree = same_bits
    if getattr(law, "refinement", 0):  # sums of draws, which compilers may round differently
        agree = functools.partial(np.allclose, atol=1e-6)
    assert agree(alone, increments(law, range(5)))
    assert agree(alone, jax.jit(jax.vmap(path.increment))(jnp.arange(5)))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(7))
    batched = jax.vmap(lambda key: make_path(law, key=key).increment(jnp.asarray(3)))(keys)
    one = make_path(law, key=keys[4]).increment(jnp.asarray(3))
    assert agree(batched[4], one)


@pytest.mark.parametrize("law", [hj.Gaussian(), hj.TwoPoint(), hj.Binomial()], ids=repr)
def test_increments_are_the_same_on_several_devices(law):
    assert jax.device_count() == 2
    mesh = jax.make_mesh((2,), ("trials",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("trials")
    keys = jax.random.split(KEY, 8)

    def draw(keys):
        return jax.vmap(lambda key: make_path(law, key=key).increment(jnp.asarray(5)))(keys)

    split = jax.jit(jax.shard_map(draw, mesh=mesh, in_specs=spec, out_specs=spec))(keys)
    sharding = jax.sharding.NamedSharding(mesh, spec)
    automatic = jax.jit(draw, in_shardings=sharding, out_shardings=sharding)(keys)
    assert same_bits(split, jax.jit(draw)(keys))
    assert same_bits(automatic, jax.jit(draw)(keys))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_increments_are_the_same_in_both_precisions(law):
    single, double = (increments(law, range(50), dtype=kind) for kind in (jnp.float32, jnp.float64))
    assert single.dtype == jnp.float32
    assert double.dtype == jnp.float64
    if getattr(law, "refinement", 0) == 0:
        assert same_bits(single.astype(jnp.float64), double)
    else:  # bridging rounds differently
        np.testing.assert_allclose(single, double, atol=1e-6)


def test_without_x64_the_bits_are_the_same():
    with jax.enable_x64(False):
        single = np.asarray(increments(hj.Gaussian(), range(20)))
    assert same_bits(single, increments(hj.Gaussian(), range(20), dtype=jnp.float64))


def test_full_precision_draws_in_float64():
    exact = increments(hj.Gaussian(full_precision=True), range(20), dtype=jnp.float64)
    assert not same_bits(exact.astype(jnp.float32).astype(jnp.float64), exact)


def test_gaussian_increments_are_standard_normal_and_independent():
    draws = np.asarray(increments(hj.Gaussian(), range(2000), size=100))
    assert stats.kstest(draws.ravel(), "norm").pvalue > FALSE_ALARM
    lag_one = (draws[1:] * draws[:-1]).ravel()  # mean 0, variance 1
    across = (draws[:, 1:] * draws[:, :-1]).ravel()
    for products in (lag_one, across):
        z = products.mean() * np.sqrt(products.size)
        assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM


@pytest.mark.parametrize("size", [1, 33, 1000])
def test_two_point_increments_are_fair_signs_for_any_size(size):
    draws = np.asarray(increments(hj.TwoPoint(), range(4000), size=size))
    assert draws.shape == (4000, size)
    assert set(np.unique(draws)) == {-1.0, 1.0}
    ups = int((draws > 0).sum())
    assert stats.binomtest(ups, draws.size, 0.5).pvalue > FALSE_ALARM
    # Neighbouring steps and neighbouring neurons agree as often as not.
    same = int((draws[1:] == draws[:-1]).sum())
    assert stats.binomtest(same, draws[1:].size, 0.5).pvalue > FALSE_ALARM
    if size > 1:
        same = int((draws[:, 1:] == draws[:, :-1]).sum())
        assert stats.binomtest(same, draws[:, 1:].size, 0.5).pvalue > FALSE_ALARM


def test_binomial_increments_have_their_law_and_are_independent():
    draws = np.asarray(increments(hj.Binomial(), range(2000), size=300))
    counts = np.round((draws * np.sqrt(8) + 8) / 2).astype(int)
    np.testing.assert_allclose(draws, (2 * counts - 8) / np.sqrt(8), atol=1e-6)
    expected = draws.size * stats.binom.pmf(np.arange(9), 8, 0.5)
    assert stats.chisquare(np.bincount(counts.ravel()), expected).pvalue > FALSE_ALARM
    # Steps, neighbours, and entries that share a word.
    for one, other in [(draws[1:], draws[:-1]), *((draws[:, n:], draws[:, :-n]) for n in (1, 32))]:
        z = (one * other).mean() * np.sqrt(one.size)
        assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM


@pytest.mark.parametrize("refinement", [1, 4])
def test_refined_increments_add_up_to_the_coarse_ones(refinement):
    factor = 2**refinement
    fine = increments(hj.Gaussian(refinement=refinement), range(6 * factor), dtype=jnp.float64)
    coarse = increments(hj.Gaussian(), range(6), dtype=jnp.float64)
    sums = fine.reshape(6, factor, -1).sum(axis=1) / np.sqrt(factor)
    np.testing.assert_allclose(sums, coarse, atol=1e-12)


def test_refinements_of_refinements_agree():
    finer = increments(hj.Gaussian(refinement=4), range(32), dtype=jnp.float64)
    fine = increments(hj.Gaussian(refinement=3), range(16), dtype=jnp.float64)
    np.testing.assert_allclose(finer.reshape(16, 2, -1).sum(1) / np.sqrt(2), fine, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("refinement", [0, 3])
def test_levy_area_has_its_law_and_refines(refinement):
    path = make_path(hj.Gaussian(refinement=refinement), 100, jnp.float64)
    increment, area = map(np.asarray, jax.vmap(path.increment_and_area)(jnp.arange(2000)))
    assert stats.kstest(increment.ravel(), "norm").pvalue > FALSE_ALARM
    assert stats.kstest(area.ravel() * np.sqrt(12), "norm").pvalue > FALSE_ALARM
    z = (increment * area * np.sqrt(12)).mean() * np.sqrt(area.size)
    assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM
    if refinement:
        coarse = make_path(hj.Gaussian(refinement=refinement - 1), 100, jnp.float64)
        whole, whole_area = jax.vmap(coarse.increment_and_area)(jnp.arange(1000))
        left, right = increment[::2], increment[1::2]
        # H = mean of (W_s − s W_1) over the unit step, put together from its halves; the coarse
        # path is in units where its own step has variance 1.
        joined = (area[::2] + area[1::2]) / 2 + (left - right) / 4
        np.testing.assert_allclose((left + right) / np.sqrt(2), whole, atol=1e-12)
        np.testing.assert_allclose(joined / np.sqrt(2), whole_area, atol=1e-12)


def test_levy_area_does_not_change_the_increment():
    path = make_path(hj.Gaussian(), levy_area=dfx.SpaceTimeLevyArea)
    plain = make_path(hj.Gaussian())
    levy = path.evaluate(jnp.asarray(4.0), jnp.asarray(5.0), use_levy=True)
    assert isinstance(levy, dfx.SpaceTimeLevyArea)
    assert same_bits(levy.W, plain.evaluate(jnp.asarray(4.0), jnp.asarray(5.0)))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_anything_but_one_whole_step_is_nan(law):
    path = make_path(law)
    assert np.isfinite(path.evaluate(jnp.asarray(4.0), jnp.asarray(5.0))).all()
    for start, end in ((4.0, 4.5), (4.0, 6.0), (4.5, 5.0), (4.5, 5.5), (4.25, 5.25)):
        assert np.isnan(path.evaluate(jnp.asarray(start), jnp.asarray(end))).all()
    with pytest.raises(NotImplementedError):
        path.evaluate(jnp.asarray(4.0))


def test_late_steps_have_increments_of_their_own():
    # The trap of keying noise on float32 time: increments repeat at large times.
    late = np.asarray(increments(hj.Gaussian(), range(2**24 - 100, 2**24)))
    assert len(np.unique(late[:, 0])) == 100


# What is refused.


def half(t, x):
    return 0.5 * x


@each(
    (lambda: hj.AdditiveNoise(-1), ValueError, "strength", "zero or positive, got -1.0"),
    (lambda: hj.AdditiveNoise(np.eye(8)), ValueError, "strength", "got shape (8, 8)"),
    (lambda: hj.MultiplicativeNoise(0.5), TypeError, "strength", "use AdditiveNoise"),
    (lambda: hj.Gaussian(refinement=21), ValueError, "refinement", "at most 20, got 21"),
    (lambda: hj.BrownianTree(1.0), ValueError, "tolerance", "below 1, got 1.0"),
    (lambda: hj.BrownianTree(0.0), ValueError, "tolerance", "positive number, got 0.0"),
)
def test_wrong_noise(row):
    assert_refused(row)


@pytest.mark.slow
def test_wrong_noise_under_a_trace():
    assert_refused_at_run_time(
        (lambda s: hj.AdditiveNoise(s).strength, 0.0, -0.5, "`strength` must be zero or positive"),
        (
            lambda s: hj.AdditiveNoise(s).strength,
            ONES,
            with_entry(ONES, INF),
            "`strength` must be finite",
        ),
    )
