"""The noiseless network: amplitudes, thresholds, stability and depth of the memories.

Closed forms for orthogonal memories at constant input, where the state x = z ξ^μ closes on
itself. They hold for self-coupling kept; with it zeroed give α − S, S = Σ_ν α_ν / N, for a saliency
(`effective_saliency` subtracts it). Two exceptions: functions with an argument `self_coupling`
take α itself, and mixtures are covered for self-coupling kept only. With noise all of them hold
for the smoothed activation: pass `NoisyActivation(activation, noise)` as the activation.

Numbers may be arrays, which broadcast; everything works under jit, vmap and grad. Second
derivatives are wrong inside `lax.scan` and `lax.map`: use vmap.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import check_array, check_count, check_flag, check_index
from hopjax._errors import names_keywords
from hopjax.activations import AbstractActivation
from hopjax.program import compiled
from hopjax.theory.common import (
    check_activation,
    elementwise,
    falling_root,
    one_dtype,
)


def _smallest(activation):
    """An amplitude so far below 1/d that its own curvature is lost in rounding: it counts as 0."""
    width = 1 / activation.slope_at_zero
    return jnp.finfo(width.dtype).eps ** (1 / 3) * width


@names_keywords
def effective_saliency(
    alpha: Real[ArrayLike, " P"], num_neurons: int, *, self_coupling: bool = False
) -> Float[Array, " P"]:
    """The saliencies that the closed forms take: α_μ − S, or α_μ itself with self-coupling.

    Without its self-coupling S = Σ_ν α_ν / N each neuron misses its own part of the memory.

    Args:
        alpha: saliencies α_ν(u) of all memories; ones for the classic network.
        num_neurons: N.
        self_coupling: whether the diagonal of W(u) is kept.
    """
    alpha = check_array(alpha, "alpha", ("P",))
    num_neurons = check_count(num_neurons, "num_neurons")
    if check_flag(self_coupling, "self_coupling"):
        return alpha
    return alpha - jnp.sum(alpha) / num_neurons


def existence_threshold(activation: AbstractActivation) -> Float[Array, ""]:
    """1/d: a memory of saliency α is an equilibrium iff α exceeds it."""
    return 1 / check_activation(activation).slope_at_zero


def equilibrium_amplitude(
    alpha: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """The amplitude z > 0 of the memory as an equilibrium x = z ξ, z = α ψ(z).

    Args:
        alpha: saliency α of the memory.
        activation: ψ; a `NoisyActivation` gives the amplitude of the mean state under noise.

    Returns:
        z, and 0 where the memory does not exist (α ≤ 1/d).
    """
    return elementwise(_amplitude, activation, alpha=check_array(alpha, "alpha"))


def _activity(activation, z):
    return activation(z)


def _amplitude(activation, alpha, activity=_activity):
    """The z > 0 with z = α activity(ψ, z), of a concave function with the slope of ψ at 0."""
    exists = alpha * activation.slope_at_zero > 1
    # Elsewhere a harmless saliency, so that no derivative is lost in what is not returned.
    safe = jnp.where(exists, alpha, 2 / activation.slope_at_zero)

    def excess(z, args):
        activation, alpha = args
        return alpha * activity(activation, z) / z - 1

    # z = α ψ(z) < α.
    z = falling_root(excess, _smallest(activation), 2 * safe, (activation, safe))
    # Without a root between the bounds α is within rounding of the threshold.
    return jnp.where(exists & jnp.isfinite(z), z, 0)


def stability_threshold(
    alpha_max: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """α_stab: a memory is stable iff its saliency exceeds this, given the strongest competitor.

    The memory's Jacobian has the eigenvalue −1 + α_ν ψ'(z) along each other memory ν, so it is
    stable iff α_max ψ'(z(α)) < 1. For tanh: atanh(t)/(d t) with t = √(1 − 1/(d α_max)).

    Args:
        alpha_max: largest saliency among the *other* memories.
        activation: ψ.

    Returns:
        α_stab; 1/d, the existence threshold, where α_max ≤ 1/d: then whatever exists is stable.
        NaN where d α_max is so large (10⁵ in float32, 10¹³ in float64) that ψ' is not resolved.
    """
    alpha_max = check_array(alpha_max, "alpha_max")
    return elementwise(_stability_threshold, activation, alpha_max=alpha_max)


def _stability_threshold(activation, alpha_max):
    slope = activation.slope_at_zero
    competes = alpha_max * slope > 1
    safe = jnp.where(competes, alpha_max, 2 / slope)

    def excess(z, args):
        activation, alpha_max = args
        return alpha_max * activation.derivative(z) - 1

    # ψ is concave, so ψ'(z) ≤ ψ(z)/z ≤ 1/z and z < α_max.
    z = falling_root(excess, jnp.zeros_like(safe), 2 * safe, (activation, safe))
    resolved = safe * slope * jnp.finfo(safe.dtype).eps < 1e-2
    z = jnp.where(resolved, z, jnp.nan)
    competes = competes & ~(z <= _smallest(activation))
    z = jnp.where(competes, z, 1 / slope)
    return jnp.where(competes, z / activation(z), 1 / slope)


def well_energy(
    alpha: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """Energy per neuron at a memory, e(α) = −½αψ(z)² + zψ(z) − ∫₀^z ψ.

    The origin has energy 0. Since de/dα = −½ψ(z)² < 0 the more salient memory lies deeper: this
    is the memory hierarchy.

    Args:
        alpha: saliency α of the memory.
        activation: ψ; with a `NoisyActivation` it is the energy that the mean state descends.

    Returns:
        e(α) ≤ 0, and 0 where the memory does not exist (α ≤ 1/d).
    """
    return elementwise(_well_energy, activation, alpha=check_array(alpha, "alpha"))


def _well_energy(activation, alpha):
    z = _amplitude(activation, alpha)
    activity = activation(z)
    return -alpha * activity**2 / 2 + z * activity - activation.antiderivative(z)


class Spectrum(NamedTuple):
    """Eigenvalues of the Jacobian at a memory.

    Attributes:
        along_memories: the growth rate along each ξ^ν.
        complement: the one of all N − P directions orthogonal to the memories.
    """

    along_memories: Float[Array, " P"]
    complement: Float[Array, ""]


@names_keywords
def jacobian_spectrum(
    alpha: Real[ArrayLike, " P"],
    activation: AbstractActivation,
    *,
    memory: int | None,
    num_neurons: int,
    self_coupling: bool = False,
) -> Spectrum:
    """Eigenvalues of the Jacobian at the equilibrium x = z ξ^μ, for orthogonal memories.

    −1 + α_ν ψ'(z) along each ξ^ν and −1 on the complement; with self-coupling zeroed
    −1 + (α_ν − S) ψ'(z) and −1 − S ψ'(z).

    Args:
        alpha: saliencies of all memories, *before* the self-coupling is subtracted.
        activation: ψ.
        memory: μ, which memory; None for the origin, the state of confusion.
        num_neurons: N.
        self_coupling: whether the diagonal of W(u) is kept.

    Returns:
        A `Spectrum`; NaN throughout if the memory does not exist.
    """
    alpha = check_array(alpha, "alpha", ("P",))
    if memory is not None:
        memory = check_index(memory, "memory", alpha.shape[0], "memories")
    activation, alpha = one_dtype(check_activation(activation), alpha)
    effective = effective_saliency(alpha, num_neurons, self_coupling=self_coupling)
    removed = jnp.sum(alpha) * (0.0 if self_coupling else 1 / num_neurons)
    if memory is None:
        slope = activation.slope_at_zero
    else:
        z = equilibrium_amplitude(effective[memory], activation)
        slope = jnp.where(z > 0, activation.derivative(z), jnp.nan)
    return Spectrum(-1 + effective * slope, -1 - removed * slope)


@names_keywords
def largest_coupling(
    memories: Real[ArrayLike, "P N"],
    alpha: Real[ArrayLike, " P"],
    *,
    self_coupling: bool = False,
) -> Float[Array, ""]:
    """λ_max of W(u) = (1/N) Σ_μ α_μ ξ^μ ξ^μᵀ for any memories, orthogonal or not.

    From the P x P matrix of their overlaps; W itself is not formed while P < N. With respect to
    `memories` it is a constant, with respect to `alpha` differentiable.

    Args:
        memories: patterns in rows.
        alpha: saliencies α_ν(u); ones for the classic network.
        self_coupling: whether the diagonal of W(u) is kept; if not, S = Σ_ν α_ν / N is taken off.
    """
    memories = check_array(memories, "memories", ("P", "N"))
    alpha = check_array(alpha, "alpha", (memories.shape[0],), hint="one for each memory")
    check_flag(self_coupling, "self_coupling")
    memories, alpha = one_dtype(memories, alpha)
    return _largest_coupling(memories, alpha, self_coupling)


@compiled
def _largest_coupling(memories, alpha, self_coupling):
    num_memories, num_neurons = memories.shape
    memories = jax.lax.stop_gradient(memories)
    product = lambda a, b: jnp.matmul(a, b, precision="highest")  # noqa: E731
    if num_memories < num_neurons:
        # Nonzero eigenvalues of W are those of R diag(α) Rᵀ where RᵀR is the overlap matrix.
        size, axes = jnp.linalg.eigh(product(memories, memories.T) / num_neurons)
        root = jnp.sqrt(jnp.maximum(size, 0))[:, None] * axes.T
        largest = jnp.linalg.eigvalsh(product(root * alpha[None], root.T))[-1]
        largest = jnp.maximum(largest, 0)  # of the directions that no memory has a part in
    else:
        largest = jnp.linalg.eigvalsh(product(memories.T * alpha[None], memories) / num_neurons)[-1]
    return largest if self_coupling else largest - jnp.sum(alpha) / num_neurons


def origin_growth_rate(
    coupling: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """d·λ − 1, the growth rate of the least stable direction at the origin.

    Where it is at most 0 the network is confused: the origin is the only equilibrium and
    attracts every state.

    Args:
        coupling: λ, the largest effective saliency of orthogonal memories, or `largest_coupling`
            of any others.
        activation: ψ.
    """
    activation, strongest = one_dtype(
        check_activation(activation), check_array(coupling, "coupling")
    )
    return strongest * activation.slope_at_zero - 1


def mixture_overlap(
    alpha: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """Overlap m of the symmetric mixture of three equally salient memories with each of them.

    x = α m (ξ¹ + ξ² + ξ³) with m = ¼ [ψ(3αm) + ψ(αm)], self-coupling kept: no shift of α covers
    it zeroed. The three must occur in all combinations of signs alike, as random memories do for
    large N.

    Args:
        alpha: the saliency of the three memories.
        activation: ψ.

    Returns:
        m, and 0 where the mixture does not exist (α ≤ 1/d).
    """
    return elementwise(_mixture_overlap, activation, alpha=check_array(alpha, "alpha"))


def _mixed(activation, a):
    """Mean activity along one of three memories at amplitude a along each."""
    return (activation(3 * a) + activation(a)) / 4


def _mixture_overlap(activation, alpha):
    return _mixed(activation, _amplitude(activation, alpha, _mixed))


def mixture_stability_threshold(activation: AbstractActivation) -> Float[Array, ""]:
    """The saliency above which the symmetric mixture of three memories is stable.

    A part of the mixture grows against the others at the rate −1 + α ψ'(αm): the root of
    α ψ'(αm) = 1, at d α ≈ 2.17 for tanh; self-coupling kept, and no further memory more salient
    than the three. Mixtures of two are never stable: half of their neurons rest at 0, where the
    slope is d > 1/α.

    Returns:
        The threshold; NaN for an activation whose mixtures are never stable.
    """
    scale = existence_threshold(activation)
    return elementwise(_mixture_stability_threshold, activation, scale=scale)


def _mixture_stability_threshold(activation, scale):
    def excess(a, args):
        # With a = αm: α ψ'(a) − 1 is positive just above α = 1/d, and falls.
        (activation,) = args
        return a * activation.derivative(a) - _mixed(activation, a)

    a = falling_root(excess, 1e-2 * scale, 1e2 * scale, (activation,))
    return a / _mixed(activation, a)


def mixture_energy(
    alpha: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """Energy per neuron of the symmetric mixture of three, 0 where it does not exist.

    Self-coupling kept, as for `mixture_overlap`:

    −(3/2) α m² + E[xψ(x) − ∫₀ˣψ] with |x| = 3αm in one neuron of four and αm in the others.
    """
    return elementwise(_mixture_energy, activation, alpha=check_array(alpha, "alpha"))


def _mixture_energy(activation, alpha):
    m = _mixture_overlap(activation, alpha)

    def own(x):
        return x * activation(x) - activation.antiderivative(x)

    return -1.5 * alpha * m**2 + own(3 * alpha * m) / 4 + 3 * own(alpha * m) / 4
