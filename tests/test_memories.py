"""Memories: exact orthogonality, the orders reached, fair randomness, refusals."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hopjax.memories import (
    _order,
    correlated_memories,
    corrupt,
    mixture,
    orthogonal_memories,
    random_memories,
    sparse_memories,
)

# Every statistical test here uses a fixed key and rejects a correct generator with probability
# 1e-6: were the keys ever changed, one run in a million would fail by chance.
FALSE_ALARM = 1e-6

KEY = jax.random.key(0)
SIZES: dict[str, Any] = {"num_memories": 5, "num_neurons": 28}  # shared: compiled only once

# The classical table of multiples of 4 out of reach of Sylvester and Paley, up to 600.
OUT_OF_REACH = [
    *(92, 116, 156, 172, 184, 188, 232, 236, 260, 268, 292, 324, 356, 372, 376, 404),
    *(412, 428, 436, 452, 472, 476, 508, 520, 532, 536, 584, 596),
]


def reachable_orders(limit: int) -> list[int]:
    """Sieve the primes, form their powers, then close the Paley orders under products."""
    primes = [p for p in range(2, limit) if all(p % r for r in range(2, p))]
    powers = {p**k for p in primes for k in range(1, 20) if p**k < limit}
    orders = {1, 2}
    orders |= {q + 1 for q in powers if q % 4 == 3} | {2 * q + 2 for q in powers if q % 4 == 1}
    while True:
        products = {a * b for a in orders for b in orders} | orders
        products = {n for n in products if n <= limit}
        if products == orders:
            return sorted(orders)
        orders = products


def refusal(call, *args, **kwargs) -> str:
    """The message of the error, which must be one line."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_orthogonal(memories: jax.Array | np.ndarray) -> None:
    patterns = np.asarray(memories, np.float32)  # integers up to 2^24 are exact
    num_memories, num_neurons = patterns.shape
    assert set(np.unique(patterns)) <= {-1, 1}
    assert np.array_equal(patterns @ patterns.T, num_neurons * np.eye(num_memories))


# Orthogonal memories: the algebra.


@pytest.mark.slow
def test_orthogonal_for_every_order_up_to_256():
    for order in reachable_orders(256):
        memories = orthogonal_memories(num_memories=order, num_neurons=order)
        assert memories.shape == (order, order)
        assert_orthogonal(memories)


@pytest.mark.parametrize("order", [1000, 1020, 1024, 1252, 1296, 2048])
def test_orthogonal_for_large_orders(order):
    assert_orthogonal(orthogonal_memories(num_memories=order, num_neurons=order))


def test_reached_orders_match_an_independent_count():
    expected = reachable_orders(256)
    reached = []
    for order in range(1, 257):
        try:
            orthogonal_memories(num_memories=1, num_neurons=order)
        except ValueError:
            continue
        reached.append(order)
    assert reached == expected
    assert len(expected) == 2 + 64 - 8  # the docstring names the 8


@pytest.mark.slow
def test_orders_out_of_reach_match_the_published_list():
    for order in range(4, 600, 4):
        if order in OUT_OF_REACH:
            assert "num_neurons" in refusal(orthogonal_memories, num_memories=1, num_neurons=order)
        else:
            orthogonal_memories(num_memories=1, num_neurons=order)


@pytest.mark.parametrize("order", [3, 5, 6, 7, 50, 92, 90, 94, 116, 185, 187, 234, 1002, 1004])
def test_refused_order_names_the_true_neighbours(order):
    orders = reachable_orders(1024)
    below = max(n for n in orders if n < order)
    above = min(n for n in orders if n > order)
    message = refusal(orthogonal_memories, num_memories=2, num_neurons=order)
    assert "`num_neurons`" in message
    assert message.endswith(f"got {order}: the nearest are {below} and {above}.")


def test_without_a_key_memories_are_fixed_and_balanced():
    memories = orthogonal_memories(num_memories=11, num_neurons=12)
    assert np.array_equal(memories, orthogonal_memories(num_memories=11, num_neurons=12))
    assert not np.asarray(memories).sum(axis=1).any()
    complete = orthogonal_memories(num_memories=12, num_neurons=12)
    assert np.array_equal(complete[:11], memories)
    assert np.all(complete[11] == 1)


@pytest.mark.parametrize(("num_memories", "num_neurons"), [(1, 1), (5, 28), (10, 1024)])
def test_with_keys_memories_are_orthogonal_reproducible_and_batchable(num_memories, num_neurons):
    def make(key):
        return orthogonal_memories(num_memories=num_memories, num_neurons=num_neurons, key=key)

    keys = jax.random.split(jax.random.key(1), 5)
    one_by_one = [np.asarray(make(key)) for key in keys]
    for memories in one_by_one:
        assert_orthogonal(memories)
    assert np.array_equal(make(keys[0]), one_by_one[0])
    assert np.array_equal(jax.jit(jax.vmap(make))(keys), one_by_one)
    if num_neurons > 2:
        assert len({memories.tobytes() for memories in one_by_one}) == 5


def test_every_part_of_the_shuffle_acts():
    # Order 8 (Sylvester): each quantity would be constant were its ingredient missing.
    keys = jax.random.split(jax.random.key(2), 400)
    batch = np.asarray(
        jax.vmap(lambda key: orthogonal_memories(num_memories=8, num_neurons=8, key=key))(keys)
    )
    # Rows: |Σ_i of the product of four rows| is 0 or 8, whatever is done to the columns.
    profile = np.abs(batch[:, :4].prod(axis=1).sum(axis=1))
    assert set(profile) == {0, 8}
    # Columns: without a permutation ξ¹ξ², up to sign, would be one of the 7 balanced rows.
    products = batch[:, 0] * batch[:, 1]
    patterns = {tuple(product * product[0]) for product in products}
    assert len(patterns) == 35  # all choices of 3 among the 7 other columns
    # Signs of columns: otherwise the row of ones would always be there, up to its sign.
    constant_row = np.any(np.abs(batch.sum(axis=2)) == 8, axis=1)
    # Signs of rows: otherwise the same for the column of ones.
    constant_column = np.any(np.abs(batch.sum(axis=1)) == 8, axis=1)
    for constant in (constant_row, constant_column):  # 8 of 2^7 sign vectors
        assert stats.binomtest(int(constant.sum()), 400, 1 / 16).pvalue > FALSE_ALARM


# Random memories and damaged cues: the statistics.


def test_random_entries_are_fair_and_independent():
    num_memories, num_neurons = 400, 256
    memories = np.asarray(
        random_memories(jax.random.key(3), num_memories=num_memories, num_neurons=num_neurons)
    )
    assert memories.shape == (num_memories, num_neurons)
    assert set(np.unique(memories)) == {-1, 1}
    ups = int((memories == 1).sum())
    assert stats.binomtest(ups, memories.size).pvalue > FALSE_ALARM
    for agree in (memories[::2] == memories[1::2], memories[:, ::2] == memories[:, 1::2]):
        assert stats.binomtest(int(agree.sum()), agree.size).pvalue > FALSE_ALARM
    # Crosstalk: N times the squared overlap of 200 disjoint pairs sums to a χ² of 200.
    overlaps = (memories[::2] * memories[1::2]).mean(axis=1)
    tail = stats.chi2(200).cdf(num_neurons * np.sum(overlaps**2))
    assert FALSE_ALARM / 2 < tail < 1 - FALSE_ALARM / 2


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_corrupt_flips_the_stated_share(probability):
    pattern = random_memories(jax.random.key(4), num_memories=1, num_neurons=20_000)[0]
    cue = np.asarray(corrupt(jax.random.key(5), pattern, probability))
    assert np.array_equal(np.abs(cue), np.ones(20_000))
    flips = int((cue != np.asarray(pattern)).sum())
    assert stats.binomtest(flips, 20_000, probability).pvalue > FALSE_ALARM
    if probability in (0.0, 1.0):  # exactly none and exactly all
        assert flips == probability * 20_000


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_correlated_memories_overlap_by_the_stated_mean(correlation):
    memories = np.asarray(
        correlated_memories(
            jax.random.key(14), num_memories=40, num_neurons=2000, correlation=correlation
        )
    )
    assert memories.shape == (40, 2000)
    assert set(np.unique(memories)) == {-1, 1}
    # Whatever the common pattern, two of its copies agree in each entry with probability (1 + c)/2;
    # of 20 disjoint pairs all entries are independent.
    agree = memories[::2] == memories[1::2]
    assert stats.binomtest(int(agree.sum()), agree.size, (1 + correlation) / 2).pvalue > FALSE_ALARM
    # The share of each pair alone scatters as it should: pairs are no more alike than that.
    scatter = np.sum((agree.sum(axis=1) - 1000 * (1 + correlation)) ** 2)
    if correlation < 1:
        tail = stats.chi2(20).cdf(scatter / (500 * (1 - correlation**2)))
        assert FALSE_ALARM / 2 < tail < 1 - FALSE_ALARM / 2
    else:  # all alike
        assert np.array_equal(memories, np.tile(memories[0], (40, 1)))
    # One memory by itself is as random as any.
    assert stats.binomtest(int((memories[0] == 1).sum()), 2000).pvalue > FALSE_ALARM


@pytest.mark.parametrize("density", [0.05, 0.22, 0.5, 0.9])
def test_sparse_memories_have_the_stated_density(density):
    memories = np.asarray(
        sparse_memories(jax.random.key(15), num_memories=50, num_neurons=1000, density=density)
    )
    assert memories.shape == (50, 1000)
    assert set(np.unique(memories)) == {0, 1}
    active = int(memories.sum())
    assert stats.binomtest(active, memories.size, density).pvalue > FALSE_ALARM
    # Entries are independent: two memories are active together as often as by chance.
    together = int((memories[::2] * memories[1::2]).sum())
    assert stats.binomtest(together, memories.size // 2, density**2).pvalue > FALSE_ALARM


@pytest.mark.parametrize("num_neurons", [100, 1024])
def test_sparse_memories_of_ordinary_size_are_independent_draws(num_neurons):
    # One of these is empty with a probability of 5e-10: nothing has to be changed.
    for key in jax.random.split(jax.random.key(19), 3):
        chance = jax.random.uniform(key, (10, num_neurons), jnp.float32)
        found = sparse_memories(key, num_memories=10, num_neurons=num_neurons, density=0.22)
        assert np.array_equal(found, np.asarray(chance) < np.float32(0.22))


@pytest.mark.parametrize(("num_neurons", "density"), [(2, 0.3), (5, 0.1), (5, 0.9), (8, 0.5)])
def test_sparse_memories_of_few_neurons_are_neither_empty_nor_full(num_neurons, density):
    count = 20_000
    memories = np.asarray(
        sparse_memories(
            jax.random.key(20), num_memories=count, num_neurons=num_neurons, density=density
        )
    )
    # The law of the docstring, entry by entry of its number of active neurons.
    law = stats.binom(num_neurons, density).pmf(np.arange(num_neurons + 1))
    law[1] += law[0]
    law[-2] += law[-1]
    law = law[1:-1]
    active = memories.sum(axis=1).astype(int)
    found = np.bincount(active, minlength=num_neurons)[1:]
    assert found.sum() == count  # none empty, none full
    if num_neurons > 2:
        assert stats.chisquare(found, count * law).pvalue > FALSE_ALARM
    # Its mean share, in closed form.
    empty, full = (1 - density) ** num_neurons, density**num_neurons
    share = density + (empty - full) / num_neurons
    assert np.isclose(law @ np.arange(1, num_neurons) / num_neurons, share, rtol=1e-12)
    spread = np.sqrt(law @ (np.arange(1, num_neurons) / num_neurons - share) ** 2 / count)
    assert abs(memories.mean() - share) <= 5 * spread + 1e-12  # 6e-7
    # All places are alike.
    places = memories[active == 1].sum(axis=0)
    assert stats.chisquare(places).pvalue > FALSE_ALARM


@pytest.mark.parametrize("density", [1e-30, 1e-4, 1 - 1e-4, 1 - 1e-12])
def test_sparse_memories_of_extreme_density_have_one_neuron_that_differs(density):
    memories = np.asarray(sparse_memories(KEY, density=density, **SIZES))
    expected = 1 if density < 0.5 else 27
    assert np.array_equal(memories.sum(axis=1), np.full(5, expected))


@pytest.mark.parametrize("active", [1, 3, 4])
def test_sparse_memories_have_exactly_so_many_active_neurons(active):
    count = 3000
    memories = np.asarray(
        sparse_memories(jax.random.key(21), num_memories=count, num_neurons=5, active=active)
    )
    assert set(np.unique(memories)) == {0, 1}
    assert np.array_equal(memories.sum(axis=1), np.full(count, active))
    # Every choice of places is as likely as any other.
    chosen, times = np.unique(memories, axis=0, return_counts=True)
    assert len(chosen) == {1: 5, 3: 10, 4: 5}[active]
    assert stats.chisquare(times).pvalue > FALSE_ALARM


def test_correlated_and_sparse_memories_batch_bitwise():
    keys = jax.random.split(jax.random.key(16), 3)
    correlations, densities = jnp.array([0.0, 0.4, 1.0]), jnp.array([0.001, 0.4, 0.999])

    def make(key, correlation, density):
        return (
            correlated_memories(key, correlation=correlation, **SIZES),
            sparse_memories(key, density=density, **SIZES),
            sparse_memories(key, active=7, **SIZES),
        )

    one_by_one = [make(*each) for each in zip(keys, correlations, densities, strict=True)]
    batch = jax.jit(jax.vmap(make))(keys, correlations, densities)
    for together, *singly in zip(batch, *one_by_one, strict=True):
        assert np.array_equal(together, singly)
    for one, other in zip(make(keys[0], 0.4, 0.4), make(keys[1], 0.4, 0.4), strict=True):
        assert not np.array_equal(one, other)


def test_random_memories_and_corrupt_batch_bitwise():
    keys = jax.random.split(jax.random.key(6), 4)
    probabilities = jnp.array([0.0, 0.2, 0.5, 1.0])

    def make(key, probability):
        memories = random_memories(key, **SIZES)
        return memories, corrupt(key, memories[0], probability)

    pairs = [make(key, p) for key, p in zip(keys, probabilities, strict=True)]
    memories, cues = jax.jit(jax.vmap(make))(keys, probabilities)
    assert np.array_equal(memories, [pair[0] for pair in pairs])
    assert np.array_equal(cues, [pair[1] for pair in pairs])
    assert len({memory.tobytes() for memory in np.asarray(memories)}) == 4


def test_legacy_keys_give_the_same_patterns():
    legacy, typed = jax.random.PRNGKey(7), jax.random.key(7)
    assert np.array_equal(random_memories(legacy, **SIZES), random_memories(typed, **SIZES))


@pytest.mark.slow
def test_same_key_same_patterns_in_float32_and_float64():
    def make():
        memories = random_memories(jax.random.key(8), **SIZES)
        orthogonal = orthogonal_memories(key=jax.random.key(9), **SIZES)
        cue = corrupt(jax.random.key(10), memories[0], 0.3)
        correlated = correlated_memories(jax.random.key(17), correlation=0.3, **SIZES)
        sparse = [
            sparse_memories(jax.random.key(18), density=density, **SIZES)
            for density in (0.3, 0.001)
        ]
        exact = sparse_memories(jax.random.key(18), active=7, **SIZES)
        return memories, orthogonal, cue, correlated, *sparse, exact, orthogonal_memories(**SIZES)

    with jax.enable_x64(False):
        singles = make()
    with jax.enable_x64(True):
        doubles = make()
        kept = random_memories(jax.random.key(8), dtype=jnp.float32, **SIZES)
        assert kept.dtype == jnp.float32
    for single, double in zip(singles, doubles, strict=True):
        assert single.dtype == jnp.float32
        assert double.dtype == jnp.float64
        assert np.array_equal(single, double)


# Mixtures.


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (0,)])
def test_mixture_is_the_weighted_sum(leading):
    memories = random_memories(KEY, **SIZES)
    weights = np.random.default_rng(12).normal(size=(*leading, 5)).astype(memories.dtype)
    expected = np.zeros((*leading, 28))
    for index in np.ndindex(*leading):
        for mu in range(5):
            expected[index] += float(weights[(*index, mu)]) * np.asarray(memories, float)[mu]
    mixed = mixture(memories, weights)
    assert mixed.dtype == memories.dtype
    assert mixed.shape == (*leading, 28)
    # Five products of size below 4, each sum rounded at most five times.
    bound = 100 * float(jnp.finfo(memories.dtype).eps)
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(jax.jit(mixture)(memories, weights), expected, rtol=0, atol=bound)


def test_mixture_of_orthogonal_memories_has_its_weights_as_saliencies():
    memories = orthogonal_memories(num_memories=4, num_neurons=64)
    weights = np.array([1.5, 3.0, 0.5, 0.25])  # exact in binary, so all sums are exact
    assert np.array_equal(memories @ mixture(memories, weights) / 64, weights)


def test_mixture_takes_integer_memories_and_passes_traced_nan():
    assert np.array_equal(mixture(np.array([[1, -1], [1, 1]]), np.array([0.5, 2.0])), [2.5, 1.5])
    traced = jax.jit(mixture)(jnp.ones((1, 2)), jnp.array([jnp.nan]))
    assert np.isnan(traced).all()


@pytest.mark.parametrize("x64", [False, True])
def test_strict_promotion_and_rank_rules(x64):
    with (
        jax.enable_x64(x64),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        key = jax.random.key(13)
        for dtype in (None, "float32"):
            random = random_memories(key, **SIZES, dtype=dtype)
            shuffled = orthogonal_memories(**SIZES, key=key, dtype=dtype)
            correlated = correlated_memories(key, correlation=0.3, **SIZES, dtype=dtype)
            sparse = sparse_memories(key, density=0.3, **SIZES, dtype=dtype)
            exact = sparse_memories(key, active=3, **SIZES, dtype=dtype)
            for memories in (random, shuffled, correlated, sparse, exact):
                cue = corrupt(key, mixture(memories, jnp.ones((5,))), 0.3)
                assert cue.dtype == memories.dtype


# Refusals.

ONES = np.ones((2, 4), np.float32)

MAKERS = pytest.mark.parametrize(
    "make",
    [
        random_memories,
        orthogonal_memories,
        functools.partial(correlated_memories, correlation=0.3),
        functools.partial(sparse_memories, density=0.3),
        functools.partial(sparse_memories, active=2),
    ],
    ids=["random", "orthogonal", "correlated", "sparse", "sparse, exact"],
)


@MAKERS
@pytest.mark.parametrize("name", ["num_memories", "num_neurons"])
@pytest.mark.parametrize("value", [0, -4, True, 4.0, "4", None, [4]])
def test_wrong_counts_are_refused_by_name(make, name, value):
    arguments = {"key": KEY, "num_memories": 2, "num_neurons": 4, name: value}
    assert f"`{name}`" in refusal(make, **arguments)


@MAKERS
def test_wrong_keys_dtypes_and_traced_sizes_are_refused(make):
    for key in (3, "key", jax.random.key(0, impl="rbg"), jax.random.split(KEY, 2)):
        assert "`key`" in refusal(make, key=key, **SIZES)
    for dtype in ("int32", "float16", complex, "no dtype", object()):
        assert "`dtype`" in refusal(make, key=KEY, dtype=dtype, **SIZES)
    with jax.enable_x64(False):
        assert "jax_enable_x64" in refusal(make, key=KEY, dtype="float64", **SIZES)
    traced = jax.jit(lambda n: make(key=KEY, num_memories=n, num_neurons=28))
    assert "`num_memories`" in refusal(traced, 2)


@pytest.mark.parametrize(
    ("make", "name", "right"),
    [
        (correlated_memories, "correlation", "a number from 0 to 1"),
        (sparse_memories, "density", "between 0 and 1"),
    ],
)
def test_wrong_shares_are_refused_by_name(make, name, right):
    for share in (-0.1, 1.1, np.nan, np.inf, np.ones(5), "half", None, 0.3j):
        assert f"`{name}`" in refusal(make, KEY, **SIZES, **{name: share})
    traced = jax.jit(lambda share: make(KEY, **SIZES, **{name: share}))
    with pytest.raises(RuntimeError, match=f"`{name}` must be {right}"):
        jax.block_until_ready(traced(1.5))


def test_more_orthogonal_memories_than_neurons_are_refused():
    message = refusal(orthogonal_memories, num_memories=5, num_neurons=4)
    assert "`num_memories`" in message
    assert "4" in message
    assert "5" in message


@pytest.mark.parametrize(
    ("memories", "weights", "name"),
    [
        (ONES, np.ones(3), "weights"),
        (ONES, np.ones((2, 4)), "weights"),
        (ONES, 1.0, "weights"),
        (ONES, np.array([1.0, np.inf]), "weights"),
        (ONES, np.array([1.0, 1j]), "weights"),
        (ONES, "ab", "weights"),
        (ONES[0], np.ones(2), "memories"),
        (ONES[None], np.ones(2), "memories"),
        (ONES * np.nan, np.ones(2), "memories"),
        (None, np.ones(2), "memories"),
    ],
)
def test_wrong_mixtures_are_refused_by_name(memories, weights, name):
    assert f"`{name}`" in refusal(mixture, memories, weights)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"flip_probability": -0.1}, "flip_probability"),
        ({"flip_probability": 1.1}, "flip_probability"),
        ({"flip_probability": np.nan}, "flip_probability"),
        ({"flip_probability": np.ones(4)}, "flip_probability"),
        ({"flip_probability": "half"}, "flip_probability"),
        ({"pattern": ONES}, "pattern"),
        ({"pattern": ONES[0] * np.inf}, "pattern"),
        ({"key": 1}, "key"),
    ],
)
def test_wrong_cues_are_refused_by_name(wrong, name):
    arguments = {"key": KEY, "pattern": ONES[0], "flip_probability": 0.5, **wrong}
    assert f"`{name}`" in refusal(corrupt, **arguments)


def test_traced_probability_out_of_range_fails_at_run_time():
    with pytest.raises(RuntimeError, match="flip_probability"):
        jax.block_until_ready(jax.jit(corrupt)(KEY, ONES[0], 1.5))


@pytest.mark.parametrize("x64", [False, True])
def test_words_are_ordered_as_by_a_stable_sort(x64):
    words = np.random.default_rng(0).integers(0, 2**32, (2, 5, 64), dtype=np.uint32)
    words[1] = words[1] % 7 + np.uint32(2**32 - 8)  # many are equal
    with jax.enable_x64(x64):
        for order in (_order, jax.jit(_order), jax.vmap(_order), jax.jit(jax.vmap(_order))):
            found = order(jnp.asarray(words))
            assert found.dtype == jnp.int32
            np.testing.assert_array_equal(found, np.argsort(words, axis=-1, kind="stable"))
