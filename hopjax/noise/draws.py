"""Random numbers on the grid of steps, as pure functions of (key, step, entry).

The generator is JAX's own, Threefry-2x32 with 20 rounds, written out: JAX compiles it for CPUs as
a loop over whole arrays, which cannot be fused with what uses the numbers and takes six times as
long. All arithmetic is per entry, so a batch, a device or a longer array changes no bit.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, Shaped, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # of the key schedule, from the definition of Threefry


def threefry(
    key: Key[Array, ""], high: UInt32[Array, " n"], low: UInt32[Array, " n"]
) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"]]:
    """Two random words for each counter (high, low) (Salmon et al. 2011, Threefry-2x32-20)."""
    first, second = jax.random.key_data(key)
    schedule = (first, second, first ^ second ^ jnp.uint32(_PARITY))
    left, right = high + schedule[0], low + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            left = left + right
            right = (right << jnp.uint32(distance)) | (right >> jnp.uint32(32 - distance))
            right = left ^ right
        left = left + schedule[(group + 1) % 3]
        right = right + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return left, right


def _once(
    draw: Callable[[], Shaped[Array, "..."]],
    key: Key[Array, ""],
    step: Int[Array, ""],
    shape: tuple[int, ...],
    dtype: Any = jnp.uint32,
) -> Shaped[Array, "..."]:
    """Draws once.

    On a CPU XLA would draw a word again for every entry that shares it, were there no branch around
    the draw. On a GPU a branch waits for the host, which takes longer than drawing again.
    """

    def never():  # of the key, so that shard_map sees the same type in both branches
        return jnp.broadcast_to(jax.random.key_data(key)[0].astype(dtype), shape)

    return lax.platform_dependent(cpu=lambda: lax.cond(step >= 0, draw, never), default=draw)


@partial(jax.jit, static_argnames="size")
def signs(key: Key[Array, ""], step: Int[Array, ""], size: int) -> Float[Array, " size"]:
    """±1 with probability one half each, in float32: the bits of one word for 32 entries."""
    num_words = -(-size // 32)

    def draw():
        high = jnp.full(num_words, step, jnp.uint32)
        left, right = threefry(key, high, jnp.arange(num_words, dtype=jnp.uint32))
        return left ^ right

    words = _once(draw, key, step, (num_words,))
    shifted = words[:, None] << jnp.arange(32, dtype=jnp.uint32)[None]
    ones = (shifted & jnp.uint32(1 << 31)) | jnp.uint32(np.float32(1).view(np.uint32))
    return lax.bitcast_convert_type(ones, jnp.float32).reshape(-1)[:size]


@partial(jax.jit, static_argnames="size")
def sums_of_signs(key: Key[Array, ""], step: Int[Array, ""], size: int) -> Float[Array, " size"]:
    """The sum of eight random signs divided by √8, in float32: the bits of a byte, counted."""
    num_blocks = -(-size // 256)
    num_words = 32 * num_blocks

    def draw():
        high = jnp.full(num_words, step, jnp.uint32)
        left, right = threefry(key, high, jnp.arange(num_words, dtype=jnp.uint32))
        return _bits_of_bytes(left) | (_bits_of_bytes(right) << 4)

    words = _once(draw, key, step, (num_words,)).reshape(num_blocks, 1, 32)

    def count():  # neighbours have neighbouring words, of which a processor takes several at once
        return ((words >> jnp.arange(0, 32, 4, dtype=jnp.uint32)[None, :, None]) & 15).astype(
            jnp.uint8
        )

    counts = _once(count, key, step, (num_blocks, 8, 32), jnp.uint8)
    centred = counts.reshape(-1)[:size].astype(jnp.int32).astype(jnp.float32) - 4
    return centred * math.sqrt(0.5)


def _bits_of_bytes(words: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """How many bits are set in each byte, 0 to 8, in that byte: by pairs, then fours, then all."""
    pairs = words - ((words >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    return (fours + (fours >> 4)) & 0x0F0F0F0F


@partial(jax.jit, static_argnames="size")
def normals(key: Key[Array, ""], step: Int[Array, ""], size: int) -> Float[Array, " size"]:
    """Standard normal numbers in float32, by Box and Muller: two entries share a radius.

    The radius has 31 bits, so the tail ends at 6.66 (float32 normals of `jax.random`: 5.42); the
    angle has 32. Logarithm and sine are polynomials with a relative error of 1e-6, of the size of
    the rounding that follows.
    """
    entry = jnp.arange(size, dtype=jnp.uint32)
    # Both entries of a pair draw its words: cheaper than to store and to shuffle them.
    radial, angular = threefry(key, jnp.full(size, step, jnp.uint32), entry >> 1)
    return _normal(radial, angular + ((entry & 1) << 30))


def _normal(radial: UInt32[Array, " n"], angular: UInt32[Array, " n"]) -> Float[Array, " n"]:
    """√(−2 log U) cos(angle), up to the sign; a quarter turn more is the other one of the pair."""
    uniform = ((radial >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-31
    turn = lax.bitcast_convert_type(angular, jnp.int32).astype(jnp.float32) * 2.0**-31
    return jnp.sqrt(-2 * _log(uniform)) * _sine(abs(turn) - 0.5)


def _fit(function: Callable, low: float, high: float, degree: int) -> list[float]:
    """The polynomial nearest to the function at Chebyshev points, highest power first."""
    points = (high + low) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(2000) + 0.5) / 2000)
    fit = np.polynomial.Polynomial.fit(points, function(points), degree)
    return fit.convert().coef[::-1].tolist()


_LOG = _fit(lambda x: np.log1p(x) / x, math.sqrt(0.5) - 1, math.sqrt(2) - 1, 7)
_SINE = _fit(lambda s: np.sin(np.pi * np.sqrt(s)) / np.sqrt(s), 0.0, 0.25, 4)


def _polynomial(coefficients: list[float], x: Float[Array, " n"]) -> Float[Array, " n"]:
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _log(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Natural logarithm of positive normal float32 numbers."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    # x = 2^exponent (1 + fraction) with 1 + fraction between √½ and √2.
    exponent = (bits - np.float32(math.sqrt(0.5)).view(np.int32)) >> 23
    fraction = lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32) - 1
    return exponent.astype(jnp.float32) * math.log(2) + fraction * _polynomial(_LOG, fraction)


def _sine(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """sin(πx) for |x| ≤ ½."""
    return x * _polynomial(_SINE, x * x)
