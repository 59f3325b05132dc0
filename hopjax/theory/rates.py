"""Which memories a firing-rate network holds: the least saliency, and the largest density.

For many neurons, few memories and no noise the state in a memory ξ has one rate a for all active
neurons and one rate b for all silent ones, and the other memories have no part in it. With
φ(v) = 1/(1 + exp(d (1 − 2v))) these are a = φ(v) and b = φ(w) at the fields that the network of
`FiringRateHopfield` gives them,

    plastic: v = 1.25 α (1 − p)(a − b) − m/p,  w = −1.25 α p (a − b) − m/p,
    classic, without an input: v = (1 − p)(a − b),  w = −p (a − b),

with the mean activity m = p a + (1 − p) b. A memory is held if there is such a state with a rate
a of at least ½; which of several memories wins is another matter. For a steep φ the state appears
at a rate well above ½, together with an unstable one that separates it from the silent network (a
saddle-node bifurcation). Where b ≈ 0 both networks then ask for the same: a = φ(g a) has such a
solution for g ≥ g(d), g(10) = .676, so that the least saliency is (1 + g)/(1.25 (1 − p)) and the
largest density 1 − g. Nothing here leaves b out.

Numbers may be arrays, which broadcast; everything works under jit, vmap and grad. Second
derivatives are wrong inside `lax.scan` and `lax.map`: use vmap.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import check_array, check_positive, check_values, is_bad
from hopjax.models.firing_rate import INPUT_GAIN, holding_strength
from hopjax.theory.common import broadcast, evaluate, falling_root


def least_rate_saliency(
    slope: Real[ArrayLike, "..."], density: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The saliency α from which on the rate network with plasticity holds a memory.

    At slope 10 it is 1.341/(1 − p). Saliencies are (ξ − p)·u / (N p), so that the input w ξ of a
    single memory has to have the strength w = α/(1 − p). In a finite network the missing
    self-coupling asks for a little more, of the order of 1/(N p) and of P/N.

    Args:
        slope: d of φ.
        density: p, between 0 and 1: of the memories, and of the network.

    Returns:
        α, which exists for every slope and density.
    """
    density = check_array(density, "density")
    right = is_bad(density, lambda p: (p > 0) & (p < 1))
    density = check_values(density, right, "density", "between 0 and 1")
    numbers = broadcast(slope=check_positive(slope, "slope"), density=density)
    return evaluate(_least_rate_saliency, None, *numbers)


def _least_rate_saliency(activation, slope, density):
    del activation

    def fields(drive, args):
        """Of active and silent neurons, where the active ones have the drive y = d (2v − 1)."""
        slope, p = args
        active = (1 + drive / slope) / 2

        def excess(silent, args):
            # (1 − p) w + p v = −m/p, whatever the saliency.
            slope, p, drive, active = args
            inhibition = jax.nn.sigmoid(drive) + (1 - p) / p * _rate(silent, slope)
            return -(p * active + (1 - p) * silent + inhibition)

        lowest = -2 * (p * active + 1 + (1 - p) / p) / (1 - p)
        args = slope, p, drive, active
        return active, falling_root(excess, lowest, jnp.zeros_like(drive), args)

    def fall(drive, args):
        """How fast the saliency that is needed falls with the drive, but for a positive factor."""
        slope, p = args
        active, silent = fields(drive, args)
        a, b = jax.nn.sigmoid(drive), _rate(silent, slope)
        slope_a, slope_b = 2 * slope * a * jax.nn.sigmoid(-drive), 2 * slope * b * (1 - b)
        follows = -(p + slope_a) / ((1 - p) * (1 + slope_b / p))  # dw/dv
        return (active - silent) * (slope_a - slope_b * follows) - (1 - follows) * (a - b)

    args = slope, density
    drive = _turning_point(fall, slope, args)
    active, silent = fields(drive, args)
    return (active - silent) / (INPUT_GAIN * (jax.nn.sigmoid(drive) - _rate(silent, slope)))


def largest_rate_density(slope: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The density p up to which the classic rate network holds its memories without an input.

    At slope 10 it is .324, and ½ for d → ∞. In a finite network the missing self-coupling takes
    off a little, of the order of 1/(N p) and of P/N.

    Args:
        slope: d of φ.

    Returns:
        p; 0 where the slope is so small (below 2.82) that no density will do.
    """
    return evaluate(_largest_rate_density, None, check_positive(slope, "slope"))


def _largest_rate_density(activation, slope):
    del activation

    def strength(drive, args):
        slope, p = args
        return holding_strength(drive, slope, p, p)

    def excess(density, slope):
        args = slope, density
        drive = _turning_point(jax.grad(strength), slope, args)
        return strength(drive, args) - 1

    least = jnp.full_like(slope, jnp.finfo(slope.dtype).eps)
    possible = excess(least, slope) > 0
    safe = jnp.where(possible, slope, 10)
    return jnp.where(possible, falling_root(excess, least, 0.5 * jnp.ones_like(slope), safe), 0)


def _rate(field, slope):
    return jax.nn.sigmoid(slope * (2 * field - 1))


def _turning_point(fall, slope, args):
    """The drive, from 0 up, at which `fall(drive, args)` changes its sign; 0 if it never does."""
    zero = jnp.zeros_like(slope)
    # At the turn exp(y) is about y + d (1 + 2m/p); above, rates are 1.
    root = falling_root(fall, zero, 20 + 2 * jnp.log1p(slope), args)
    return jnp.where(fall(zero, args) > 0, root, zero)
