"""Making memories: P patterns of N entries, one per row, and what is made from them.

Random choices are made from 32-bit words, so that one key gives the same patterns in float32 and
in float64. Sizes are static; `jax.vmap` over keys gives every trial its own memories.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int8, Int32, PRNGKeyArray, Real, UInt32

from hopjax._checks import check_array, check_count, check_key, check_values, is_bad, is_traced
from hopjax._errors import ArgumentError, ArgumentTypeError, names_keywords


@names_keywords
def random_memories(
    key: PRNGKeyArray, *, num_memories: int, num_neurons: int, dtype: DTypeLike | None = None
) -> Float[Array, "P N"]:
    """Independent entries, −1 or +1 with probability ½ each.

    The overlaps ξ^μ·ξ^ν / N of different memories (the crosstalk) have mean 0 and standard
    deviation 1/√N.

    Args:
        key: a threefry key.
        num_memories: P, at least 1.
        num_neurons: N, at least 1.
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        TypeError, ValueError: for a wrong key, count or dtype.
    """
    key = check_key(key)
    shape = check_count(num_memories, "num_memories"), check_count(num_neurons, "num_neurons")
    return _signs(jax.random.bits(key, shape, jnp.uint32)).astype(float_dtype(dtype))


@names_keywords
def orthogonal_memories(
    *,
    num_memories: int,
    num_neurons: int,
    key: PRNGKeyArray | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "P N"]:
    """Exactly orthogonal ±1 memories, ξ^μ·ξ^ν = N δ_μν: rows of a Hadamard matrix of order N.

    N can be 1, 2, q + 1 for a prime power q = 3 mod 4 (Paley I), 2(q + 1) for a prime power
    q = 1 mod 4 (Paley II), and every product of these (Kronecker; powers of 2 are Sylvester's).
    Above 2 these are multiples of 4: all of them up to 256 except 92, 116, 156, 172, 184, 188,
    232 and 236.

    With a key: rows chosen at random, columns permuted, and a random sign for each of both.
    Without: always the same rows, each with as many +1 as −1; the row of ones is left out, or
    comes last for P = N.

    Sources: Sylvester, Phil. Mag. 34, 461 (1867); Paley, J. Math. Phys. 12, 311 (1933).

    Args:
        num_memories: P, from 1 to N.
        num_neurons: N, one of the orders above.
        key: a threefry key, or None for fixed memories.
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        TypeError, ValueError: for a wrong key, count or dtype; for an N that is not reached the
            message names the nearest ones that are.
    """
    num_memories = check_count(num_memories, "num_memories")
    num_neurons = check_count(num_neurons, "num_neurons")
    dtype = float_dtype(dtype)
    if num_memories > num_neurons:
        raise ArgumentError(
            "num_memories",
            f"at most num_neurons = {num_neurons} for orthogonal memories",
            num_memories,
        )
    if _kronecker_orders(num_neurons) is None:
        below, above = (
            next(n for n in candidates if _kronecker_orders(n) is not None)
            for candidates in (itertools.count(num_neurons, -1), itertools.count(num_neurons))
        )
        raise ArgumentError(
            "num_neurons",
            "the order of a Hadamard matrix that Sylvester's and Paley's constructions reach",
            num_neurons,
            hint=f"the nearest are {below} and {above}",
        )
    if key is None:
        rows = np.arange(1, num_memories + 1) % num_neurons
        return jnp.asarray(_hadamard_rows(rows, num_neurons).astype(dtype))
    return _shuffled_hadamard(check_key(key), num_memories, num_neurons).astype(dtype)


@names_keywords
def correlated_memories(
    key: PRNGKeyArray,
    *,
    num_memories: int,
    num_neurons: int,
    correlation: Real[ArrayLike, ""],
    dtype: DTypeLike | None = None,
) -> Float[Array, "P N"]:
    """Memories of ±1 that resemble each other: noisy copies of one random pattern.

    Each entry is that of the common pattern with probability (1 + √c)/2, so that the overlap
    ξ^μ·ξ^ν / N of any two has mean c.

    Args:
        key: a threefry key.
        num_memories: P, at least 1.
        num_neurons: N, at least 1.
        correlation: c, from 0 (independent) to 1 (all alike).
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        TypeError, ValueError: for a wrong key, count, correlation or dtype.
    """
    common_key, own_key = jax.random.split(check_key(key))
    sizes: dict[str, Any] = {"num_neurons": num_neurons, "dtype": dtype}
    share = _probability(correlation, "correlation")
    common = random_memories(common_key, num_memories=1, **sizes)
    chance = jax.random.uniform(
        own_key, (check_count(num_memories, "num_memories"), common.size), jnp.float32
    )
    return jnp.where(chance < (1 + jnp.sqrt(share)) / 2, common, -common)


@names_keywords
def sparse_memories(
    key: PRNGKeyArray,
    *,
    num_memories: int,
    num_neurons: int,
    density: Real[ArrayLike, ""] | None = None,
    active: int | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "P N"]:
    """Memories of 0 and 1 for firing rates, none of them all 0 or all 1.

    With a `density` p, entries are 1 with that probability, independently; but a memory drawn
    without any active neuron gets one at a random place, and one without a silent neuron gets one
    of these. So the number of active neurons follows the binomial law of N and p, with 0 replaced
    by 1 and N by N − 1, and all places are equally likely. The mean share of active neurons is
    p + ((1 − p)^N − p^N)/N: p itself, but for few neurons or extreme densities.

    With `active`, exactly that many neurons of each memory are active, at random places.

    Args:
        key: a threefry key.
        num_memories: P, at least 1.
        num_neurons: N, at least 2.
        density: p, between 0 and 1.
        active: the number of active neurons in each memory, from 1 to N − 1, in place of p.
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        TypeError, ValueError: for a wrong key, count, density or dtype, or unless just one of
            `density` and `active` is given.
    """
    key, dtype = check_key(key), float_dtype(dtype)
    num_neurons = check_count(num_neurons, "num_neurons", minimum=2)
    shape = check_count(num_memories, "num_memories"), num_neurons
    if active is not None:
        if density is not None:
            raise ArgumentError("density", "left out with `active`", density)
        active = check_count(active, "active")
        if active >= num_neurons:
            raise ArgumentError("active", f"less than num_neurons = {num_neurons}", active)
        words = jax.random.bits(key, shape, jnp.uint32)
        # Each neuron's rank among the words of its memory; equal words do no harm.
        ranks = _order(_order(words).astype(jnp.uint32))
        return (ranks < active).astype(dtype)
    if density is None:
        raise ArgumentTypeError("density", "given, or else `active`", "None for both")
    share = check_array(density, "density", (), finite=False)
    bad = is_bad(share, lambda p: (p > 0) & (p < 1))
    share = check_values(share, bad, "density", "between 0 and 1").astype(jnp.float32)
    chance = jax.random.uniform(key, shape, jnp.float32)
    # The smallest chance makes active and the largest silent whatever the density is: where the
    # memory is neither empty nor full they do so anyway.
    place = jnp.arange(num_neurons)[None]
    smallest = jnp.argmin(chance, axis=1, keepdims=True)
    largest = num_neurons - 1 - jnp.argmax(chance[:, ::-1], axis=1, keepdims=True)
    drawn = ((chance < share) | (place == smallest)) & (place != largest)
    return drawn.astype(dtype)


def _probability(value: Any, name: str) -> Float[Array, ""]:
    """A number from 0 to 1, in float32 whatever the dtype: the same draws fall below it."""
    number = check_array(value, name, (), finite=False)
    bad = is_bad(number, lambda p: (p >= 0) & (p <= 1))
    return check_values(number, bad, name, "a number from 0 to 1").astype(jnp.float32)


def mixture(
    memories: Float[ArrayLike, "P N"], weights: Float[ArrayLike, "*S P"]
) -> Float[Array, "*S N"]:
    """The input u = Σ_μ w_μ ξ^μ that shows several memories at once.

    For orthogonal memories its saliencies ξ^μ·u / N are the weights; random memories add
    crosstalk of standard deviation √(Σ_μ w_μ² / N).

    Example:
        ```python
        u = hj.mixture(memories, jnp.array([3.0, 1.0, 1.0]))  # one input
        both = hj.mixture(memories, jnp.array([[3.0, 1.0, 1.0], [1.0, 3.0, 1.0]]))  # two, in rows
        ```

    Args:
        memories: the patterns ξ^μ, of shape (P, N).
        weights: w, of shape (P,) or with leading axes, (..., P), one input for each.

    Returns:
        u in the dtype of the memories, of shape (N,) or (..., N).

    Raises:
        TypeError, ValueError: for what is not an array of real numbers of the right shape, or has
            entries that are not finite. Under a JAX transformation those pass into u instead,
            because a mixture may be formed in every step of a solve.
    """
    memories = check_array(memories, "memories", ("P", "N"), finite=not is_traced(memories))
    leading = ("any",) * (np.ndim(weights) - 1)
    weights = check_array(
        weights,
        "weights",
        (*leading, memories.shape[0]),
        hint="one weight per memory along the last axis",
        finite=not is_traced(weights),
    )
    # "highest": the default may let a GPU round the weights to 10 bits.
    return jnp.matmul(weights.astype(memories.dtype), memories, precision="highest")


def corrupt(
    key: PRNGKeyArray, pattern: Float[ArrayLike, " N"], flip_probability: Float[ArrayLike, ""]
) -> Float[Array, " N"]:
    """A damaged cue: each entry changes sign independently with the given probability.

    Its mean overlap with a ±1 pattern is 1 − 2·`flip_probability`.

    Args:
        key: a threefry key.
        pattern: the entries to damage, of shape (N,).
        flip_probability: from 0 (nothing changes) to 1 (all entries do).

    Raises:
        TypeError, ValueError: for a wrong key, pattern or probability; a probability outside
            [0, 1] under a JAX transformation fails at run time.
    """
    key = check_key(key)
    pattern = check_array(pattern, "pattern", ("N",), finite=not is_traced(pattern))
    probability = _probability(flip_probability, "flip_probability")
    # Drawn in float32 whatever the dtype, so that the same entries flip in float64.
    chance = jax.random.uniform(key, pattern.shape, jnp.float32)
    return jnp.where(chance < probability, -pattern, pattern)


def float_dtype(dtype: DTypeLike | None) -> DTypeLike:
    """The dtype asked for, or JAX's default float."""
    default = jnp.result_type(float).name
    if dtype is None:
        return default
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = " ".join(repr(dtype).split())
    if name not in ("float32", default):
        raise ArgumentError("dtype", "float32, or float64 under jax_enable_x64", name)
    return name


@jax.jit
def _signs(words: UInt32[Array, "..."]) -> Int8[Array, "..."]:
    """Fair ±1 from fair 32-bit words."""
    return 1 - 2 * (words >> 31).astype(jnp.int8)


# Hadamard matrices, H Hᵀ = N I: the Kronecker factors are made on the host, H itself never is.


@functools.partial(jax.jit, static_argnums=(1, 2))  # one compilation instead of one per operation
def _shuffled_hadamard(
    key: PRNGKeyArray, num_memories: int, num_neurons: int
) -> Int8[Array, "P N"]:
    """Random rows of H, the columns permuted, and random signs for both."""
    words = jax.random.bits(key, (4, num_neurons), jnp.uint32)
    rows, columns = _order(words[:2])
    row_signs, column_signs = _signs(words[2, :num_memories]), _signs(words[3])
    memories = _hadamard_rows(rows[:num_memories], num_neurons)[:, columns]
    return memories * row_signs[:, None] * column_signs[None, :]


def _order(words: UInt32[Array, "... N"]) -> Int32[Array, "... N"]:
    """argsort, by a sort of single numbers: pairs take XLA five times as long on a CPU."""
    with jax.enable_x64(True):
        wide = jnp.left_shift(words.astype(jnp.uint64), jnp.uint64(32))
        places = jnp.broadcast_to(jnp.arange(words.shape[-1], dtype=jnp.uint64), words.shape)
        return (jnp.sort(wide | places) & jnp.uint64(2**32 - 1)).astype(jnp.int32)


def _hadamard_rows(rows: Any, order: int) -> Any:
    """Rows of H = A ⊗ B ⊗ ... as Kronecker products of rows, by NumPy or JAX as `rows` is."""
    xp = jnp if isinstance(rows, jax.Array) else np
    result = xp.ones((len(rows), 1), np.int8)
    for factor in reversed(_kronecker_orders(order) or ()):
        rows, digits = xp.divmod(rows, factor)
        blocks = xp.asarray(_hadamard_factor(factor))[digits]
        result = (blocks[:, :, None] * result[:, None, :]).reshape(len(rows), -1)
    return result


@functools.cache
def _kronecker_orders(order: int) -> tuple[int, ...] | None:
    """The orders of the factors of H, smallest first; None if no construction gives H."""
    if order == 1:
        return ()
    if order != 2 and order % 4:
        return None
    small = [d for d in range(1, math.isqrt(order) + 1) if order % d == 0]
    for factor in small + [order // d for d in reversed(small)]:
        if factor == 2 or _paley_field(factor) is not None:
            rest = _kronecker_orders(order // factor)
            if rest is not None:
                return (factor, *rest)
    return None


@functools.lru_cache(maxsize=8)
def _hadamard_factor(order: int) -> Int8[np.ndarray, "n n"]:
    """Sylvester's matrix of order 2 or one of Paley's, scaled to a first row of ones."""
    sylvester = np.array([[1, 1], [1, -1]], np.int8)
    field = _paley_field(order)
    if field is None:
        return sylvester
    p, k = field
    character = _quadratic_character(p, k)
    elements = np.indices(character.shape).reshape(k, -1)
    # The conference matrix: 0 on the diagonal, χ(b − a) inside, ±1 along the border.
    conference = np.ones((p**k + 1, p**k + 1), np.int8)
    conference[0, 0] = 0
    for row, a in enumerate(elements.T, start=1):
        conference[row, 1:] = character[tuple((elements - a[:, None]) % p)]
    identity = np.eye(len(conference), dtype=np.int8)
    if p**k % 4 == 3:
        conference[1:, 0] = -1  # makes it antisymmetric, as χ(−1) = −1
        hadamard = identity + conference
    else:
        hadamard = np.kron(conference, sylvester)
        hadamard += np.kron(identity, np.array([[1, -1], [-1, -1]], np.int8))
    return hadamard * hadamard[0]


def _paley_field(order: int) -> tuple[int, int] | None:
    """(p, k) of the field of p^k elements whose Paley matrix has this order."""
    if order % 4:
        return None
    first = _prime_power(order - 1)
    return first if first or order % 8 == 0 else _prime_power(order // 2 - 1)


def _prime_power(q: int) -> tuple[int, int] | None:
    """(p, k) with q = p^k for a prime p."""
    p = next((d for d in range(2, math.isqrt(q) + 1) if q % d == 0), q)
    k = next(k for k in itertools.count(1) if p ** (k + 1) > q) if p > 1 else 0
    return (p, k) if k and p**k == q else None


def _quadratic_character(p: int, k: int) -> Int8[np.ndarray, "..."]:
    """χ on the field of p^k elements: 0 at 0, +1 at squares, −1 elsewhere; k axes of length p.

    The element Σ_i c_i x^i sits at index c. Multiplication follows x^k = Σ_i t_i x^i with the
    first t for which the powers of x are all the nonzero elements; the even powers are squares.
    (For k = 1, x = t is a primitive root modulo p.)
    """
    for t in itertools.product(range(p), repeat=k):
        character = np.zeros((p,) * k, np.int8)
        element, sign = (1,) + (0,) * (k - 1), 1
        while any(element) and not character[element]:
            character[element] = sign
            shifted = zip((0, *element[:-1]), t, strict=True)
            element, sign = tuple((c + element[-1] * ti) % p for c, ti in shifted), -sign
        if np.count_nonzero(character) == p**k - 1:
            return character
    raise AssertionError(f"no primitive polynomial of degree {k} modulo {p}: p is not prime")
