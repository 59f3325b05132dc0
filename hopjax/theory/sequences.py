"""How a network with slow saliencies goes from memory to memory, and when it stops.

For `SequentialHopfield` with orthogonal memories, each followed by one other (and so many that the
saliency that is left from the last visit does not matter), self-coupling kept, no input, many
neurons and a time constant τ_s of the saliencies that is long against that of the neurons: these
are then always at rest. With the activation ψ_σ under noise, an active memory of saliency a has the
amplitude z = a ψ_σ(z) and the overlap m = ψ_σ(z). Its saliency falls as a = Z e^(−t), in units of
τ_s, while the next one grows by ds/dt = −s + κ m(a). It is left when the next one makes it
unstable, s ψ_σ'(z) = 1, or ends when its own well vanishes, a ψ_σ'(0) = 1; s is then the saliency
with which the next memory begins. By the amplitude instead of time,

    s(a) = κ a ∫ m(b)/b² db = κ a ∫ ψ_σ (ψ_σ − z ψ_σ')/z² dz,

from the present amplitude to the one at the beginning. Without noise and with hard saturation,
ψ(x) = x up to 1, the next one begins with κ (1 − 1/Z), the time is ln Z, and there is a sequence
for κ ≥ 4.

Numbers may be arrays, which broadcast; everything works under jit, vmap and, where ψ_σ is smooth,
grad.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import check_array, check_values, is_bad
from hopjax._errors import names_keywords
from hopjax.activations import AbstractActivation
from hopjax.theory.averaging import NoisyActivation
from hopjax.theory.common import check_noise, elementwise, falling_root
from hopjax.theory.equilibria import _amplitude, _smallest

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_GOLDEN = (math.sqrt(5) - 1) / 2
_SECTIONS = 60  # of an interval of logarithms, whose last is below the rounding of float64
_LEAST, _MOST = 1e-3, 6.0  # the logarithm of the saliency at the threshold over 1/ψ_σ'(0)


def next_saliency(
    saliency: Real[ArrayLike, "..."],
    gain: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."],
    activation: AbstractActivation,
) -> Float[Array, "..."]:
    """The saliency with which the next memory begins, if the active one began with `saliency`.

    Args:
        saliency: Z of the active memory at its beginning.
        gain: κ.
        noise: σ.
        activation: ψ, without the noise.

    Returns:
        The next Z; κ (1 − 1/Z) for `HardTanh(1.0)` without noise. One of at most 1/ψ_σ'(0), at
        which a memory does not exist, is the end of the sequence; 0 where the active one does not
        exist.
    """
    numbers = {"saliency": _saliency(saliency), "gain": _gain(gain), "noise": check_noise(noise)}
    return elementwise(_next_saliency, activation, **numbers)


def _next_saliency(activation, saliency, gain, noise):
    return _visit(activation, saliency, gain, noise)[0]


@names_keywords
def dwell_time(
    gain: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."],
    activation: AbstractActivation,
    *,
    saliency: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """How long a memory stays active, in units of τ_s.

    Args:
        gain: κ.
        noise: σ.
        activation: ψ, without the noise.
        saliency: Z of the memory at its beginning; by default Z* of a sequence that goes on for
            ever.

    Returns:
        The time until the next one, or none, follows; ln Z for `HardTanh(1.0)` without noise. 0
        where the memory does not exist. Without a `saliency` NaN below `critical_gain`.
    """
    numbers = {"gain": _gain(gain), "noise": check_noise(noise)}
    if saliency is None:
        return elementwise(_dwell_time_for_ever, activation, **numbers)
    return elementwise(_dwell_time, activation, saliency=_saliency(saliency), **numbers)


def _dwell_time(activation, saliency, gain, noise):
    return _visit(activation, saliency, gain, noise)[1]


def _dwell_time_for_ever(activation, gain, noise):
    saliency = _sequence_saliency(activation, gain, noise)
    goes_on = ~jnp.isnan(saliency)
    dwell = _dwell_time(activation, jnp.where(goes_on, saliency, 1), gain, noise)
    return jnp.where(goes_on, dwell, jnp.nan)


def sequence_saliency(
    gain: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."],
    activation: AbstractActivation,
) -> Float[Array, "..."]:
    """Z*, with which each memory begins in a sequence that goes on for ever.

    The larger one of the two saliencies that give themselves as `next_saliency`: sequences that
    begin above the smaller one end up there.

    Args:
        gain: κ.
        noise: σ.
        activation: ψ, without the noise.

    Returns:
        Z*; (κ + √(κ² − 4κ))/2 for `HardTanh(1.0)` without noise. NaN below `critical_gain`.
    """
    numbers = {"gain": _gain(gain), "noise": check_noise(noise)}
    return elementwise(_sequence_saliency, activation, **numbers)


def _sequence_saliency(activation, gain, noise):
    smoothed = NoisyActivation(activation, noise)
    threshold = jax.lax.stop_gradient(_saliency_at_threshold(smoothed))
    goes_on = gain > _gain_of(smoothed, threshold)
    safe = jnp.where(goes_on, gain, 2 * _gain_of(smoothed, threshold))

    def excess(saliency, args):
        smoothed, gain = args
        return gain - _gain_of(smoothed, saliency)

    # The saliency is below its gain, as overlaps are below 1.
    found = falling_root(excess, threshold, safe, (smoothed, safe))
    return jnp.where(goes_on, found, jnp.nan)


def critical_gain(
    noise: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """κ_c, above which a sequence goes on for ever, and below which it ends.

    Args:
        noise: σ.
        activation: ψ, without the noise.

    Returns:
        κ_c; 4 for `HardTanh(1.0)` without noise.
    """
    return elementwise(_critical_gain, activation, noise=check_noise(noise))


def _critical_gain(activation, noise):
    smoothed = NoisyActivation(activation, noise)
    # At the least gain it does not matter to first order where that is.
    return _gain_of(smoothed, jax.lax.stop_gradient(_saliency_at_threshold(smoothed)))


def _saliency(saliency):
    return check_array(saliency, "saliency")


def _gain(gain):
    gain = check_array(gain, "gain")
    return check_values(gain, is_bad(gain, lambda k: k >= 0), "gain", "zero or positive")


def _visit(activation, saliency, gain, noise):
    """The next saliency and the dwell time."""
    smoothed = NoisyActivation(activation, noise)
    exists = saliency * smoothed.slope_at_zero > 1
    safe = jnp.where(exists, saliency, 2 / smoothed.slope_at_zero)
    start, least = _amplitude(smoothed, safe), _smallest(smoothed)

    def grown(smoothed, gain, end, start):
        return gain * _saliency_of(smoothed, end) * _gathered(smoothed, end, start)

    def excess(end, args):
        smoothed, gain, start = args
        return grown(smoothed, gain, end, start) * smoothed.derivative(end) - 1

    end = falling_root(excess, least, start, (smoothed, gain, start))
    end = jnp.where(jnp.isfinite(end), end, least)  # nothing follows
    following = grown(smoothed, gain, end, start)
    dwell = jnp.log(safe / _saliency_of(smoothed, end))
    return jnp.where(exists, following, 0), jnp.where(exists, dwell, 0)


def _saliency_of(smoothed, amplitude):
    """The saliency of a memory with an amplitude."""
    return amplitude / smoothed(amplitude)


def _gathered(smoothed, low, high):
    """∫ ψ (ψ − z ψ')/z² dz between two amplitudes: s/(κ a) of the next memory."""
    corner = jnp.clip(1 / smoothed.slope_at_zero, low, high)  # ψ bends about there
    nodes, weights = jnp.asarray((_NODES + 1) / 2, low.dtype), jnp.asarray(_WEIGHTS, low.dtype)

    def integrand(z):
        activity = smoothed(z)
        return activity * (activity - z * smoothed.derivative(z)) / z**2

    total = jnp.zeros_like(low)
    for end in (low, high):  # the square of a node is dense at the corner
        places = corner + (end - corner) * nodes**2
        values = jax.vmap(integrand)(places)
        total = total + jnp.abs(end - corner) * jnp.sum(weights * nodes * values)
    return total


def _gain_of(smoothed, saliency):
    """The gain at which a memory that begins with a saliency gives the next one the same."""
    start = _amplitude(smoothed, saliency)

    def excess(end, args):  # the next one makes it unstable, by the same saliency
        smoothed, saliency = args
        return saliency * smoothed.derivative(end) - 1

    end = falling_root(excess, jnp.zeros_like(saliency), 2 * start, (smoothed, saliency))
    return saliency / (_saliency_of(smoothed, end) * _gathered(smoothed, end, start))


def _saliency_at_threshold(smoothed):
    """Where `_gain_of` is least, by sections of the golden ratio."""
    least = 1 / smoothed.slope_at_zero

    def narrowed(_, ends):
        low, high = ends
        inner = jnp.stack([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)])
        gains = jax.vmap(lambda place: _gain_of(smoothed, least * jnp.exp(place)))(inner)
        left = gains[0] < gains[1]
        return jnp.where(left, low, inner[0]), jnp.where(left, inner[1], high)

    ends = jnp.full_like(least, _LEAST), jnp.full_like(least, _MOST)
    low, high = jax.lax.fori_loop(0, _SECTIONS, narrowed, ends)
    return least * jnp.exp((low + high) / 2)
