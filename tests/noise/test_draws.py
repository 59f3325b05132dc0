"""The generator written out: JAX's own words, and normal numbers as good as float32 has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hopjax.noise import draws as _draws
from hopjax.noise.draws import normals, signs, sums_of_signs, threefry

KEY = jax.random.key(29)
FALSE_ALARM = 1e-5  # of each statistical test below; the keys are fixed


def words(key, high, low):
    return np.asarray(threefry(key, jnp.asarray(high, jnp.uint32), jnp.asarray(low, jnp.uint32)))


def sample(steps, size, key=KEY):
    draw = jax.jit(jax.vmap(lambda step: normals(key, step, size)))
    return np.asarray(draw(jnp.arange(steps)))


def test_known_answers_of_threefry():
    # From the test vectors of Random123, the authors' library.
    vectors = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]
    for key, (high, low), right in vectors:
        key = jax.random.wrap_key_data(jnp.asarray(key, jnp.uint32), impl="threefry2x32")
        assert tuple(words(key, [high], [low])[:, 0]) == right


def test_it_is_the_generator_of_jax():
    counters = np.array([0, 1, 2, 1000, 2**31, 2**32 - 1], np.uint32)
    folded = jax.vmap(jax.random.fold_in, (None, 0))(KEY, counters)
    np.testing.assert_array_equal(words(KEY, 0 * counters, counters).T, jax.random.key_data(folded))
    left, right = words(KEY, np.zeros(100), np.arange(100))
    np.testing.assert_array_equal(left ^ right, jax.random.bits(KEY, (100,), jnp.uint32))


@pytest.mark.parametrize("draw", [normals, signs, sums_of_signs])
def test_a_longer_array_begins_with_the_shorter_one(draw):
    step = jnp.asarray(5)
    np.testing.assert_array_equal(draw(KEY, step, 41), draw(KEY, step, 1000)[:41])
    assert draw(KEY, step, 41).dtype == jnp.float32


@pytest.mark.parametrize("draw", [normals, signs, sums_of_signs])
def test_steps_and_keys_have_draws_of_their_own(draw):
    steps = jax.vmap(lambda step: draw(KEY, step, 64))(jnp.arange(300))
    assert len(np.unique(steps, axis=0)) == 300
    keys = jax.vmap(lambda key: draw(key, jnp.asarray(0), 64))(jax.random.split(KEY, 300))
    assert len(np.unique(keys, axis=0)) == 300


def test_sums_of_signs_count_the_bits_of_bytes():
    # Counted by Python: 32 words of either kind hold the bytes of 256 entries.
    size, step = 300, 7
    found = np.asarray(sums_of_signs(KEY, jnp.asarray(step), size))
    left, right = (
        np.asarray(each).tolist() for each in words(KEY, np.full(64, step), np.arange(64))
    )
    for entry in range(size):
        place, part = entry // 256 * 32 + entry % 32, entry % 256 // 32
        word = (left if part % 2 == 0 else right)[place]
        ones = (word >> (8 * (part // 2)) & 255).bit_count()
        assert found[entry] == pytest.approx((2 * ones - 8) / np.sqrt(8), rel=1e-6, abs=0)


@pytest.mark.parametrize("draw", [signs, sums_of_signs])
def test_only_a_cpu_has_branches_to_decide(draw):
    # What a constant decides XLA removes; a branch that is left compares the step.
    def decided(platform):
        program = jax.jit(lambda step: draw(KEY, step, 64)).trace(jnp.asarray(0))
        text = program.lower(lowering_platforms=(platform,)).as_text()
        return text.count("stablehlo.compare")

    assert decided("cuda") == 0
    assert decided("cpu") > 0


def test_logarithm_and_sine():
    x = np.float32(2.0) ** -np.linspace(0, 32, 100_001, dtype=np.float32)
    x = np.concatenate([x, 1 - np.float32(2.0) ** -np.arange(1, 25, dtype=np.float32)])
    right = np.log(x.astype(float))
    np.testing.assert_allclose(_draws._log(jnp.asarray(x)), right, rtol=5e-7, atol=0)
    x = np.linspace(-0.5, 0.5, 100_001, dtype=np.float32)
    right = np.sin(np.pi * x.astype(float))
    np.testing.assert_allclose(_draws._sine(jnp.asarray(x)), right, rtol=5e-7, atol=0)


@pytest.mark.slow
def test_every_pair_of_words_gives_a_number():
    # The ends of both ranges, where rounding could leave the domain of root or logarithm.
    ends = np.array([0, 1, 2, 3, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    radial, angular = np.meshgrid(ends, ends)
    values = np.asarray(_draws._normal(jnp.asarray(radial), jnp.asarray(angular)))
    assert np.isfinite(values).all()
    assert abs(values).max() == pytest.approx(np.sqrt(-2 * np.log(2.0**-32)), rel=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_normals_follow_the_normal_law():
    draws = sample(4000, 1000)
    assert stats.kstest(draws.ravel(), "norm").pvalue > FALSE_ALARM
    # Tails: counts beyond each level against binomial ones.
    for level in (3.0, 4.0, 4.5):
        beyond = int((abs(draws) > level).sum())
        p = 2 * stats.norm.sf(level)
        assert stats.binomtest(beyond, draws.size, p).pvalue > FALSE_ALARM
    for power, moment in ((2, 1), (4, 3), (6, 15), (8, 105)):
        variance = stats.norm.moment(2 * power) - moment**2
        z = ((draws.astype(float) ** power).mean() - moment) / np.sqrt(variance / draws.size)
        assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_normals_are_independent_of_each_other():
    draws = sample(4000, 400).astype(float)
    neighbours = {
        "of a pair": (draws[:, ::2], draws[:, 1::2]),
        "of two pairs": (draws[:, 1:-1:2], draws[:, 2::2]),
        "of two steps": (draws[1:], draws[:-1]),
    }
    for name, (first, second) in neighbours.items():
        for power, variance in ((1, 1), (2, 4)):  # a shared radius would show in the squares
            products = (first**power - (power == 2)) * (second**power - (power == 2))
            z = products.mean() * np.sqrt(products.size / variance)
            assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM, (name, power)
        # The angle of a pair is uniform.
        angle = np.arctan2(second, first).ravel() / (2 * np.pi) + 0.5
        assert stats.kstest(angle, "uniform").pvalue > FALSE_ALARM, name
