"""What noise does to the memories: the window in which it frees a trapped state.

Additive noise turns the state into a mean h plus an Ornstein-Uhlenbeck process of variance σ²/2.
For many neurons and orthogonal memories the mean obeys the noiseless equations with ψ replaced
by ψ_σ(h) = E ψ(h + σ η/√2), η standard normal: `NoisyActivation`, which may stand wherever an
activation does. Self-coupling and finite steps enter through `effective_saliency` and
`effective_noise`, the crosstalk of random memories through `crosstalk_noise`.

Numbers may be arrays, which broadcast; everything works under jit, vmap and grad. Second
derivatives are wrong inside `lax.scan` and `lax.map`: use vmap.
"""

import math

import diffrax as dfx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import (
    check_array,
    check_count,
    check_index,
    check_number,
    check_positive,
    check_values,
    is_bad,
)
from hopjax._errors import names_keywords
from hopjax.activations import AbstractActivation
from hopjax.program import compiled
from hopjax.theory.averaging import NoisyActivation, gaussian_mean
from hopjax.theory.common import (
    broadcast,
    check_activation,
    check_noise,
    elementwise,
    falling_root,
    one_dtype,
)
from hopjax.theory.equilibria import (
    _amplitude,
    _stability_threshold,
)
from hopjax.theory.steps import step_response


def noisy_overlap(
    alpha: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """The overlap m = ψ_σ(α m) with which a memory is held under noise, for N → ∞.

    Example:
        ```python
        overlaps = theory.noisy_overlap(3.0, jnp.array([1.0, 2.0, 4.0]), hj.Tanh(10.0))
        print(", ".join(f"{overlap:.3f}" for overlap in overlaps))
        ```

        ```text
        1.000, 0.956, 0.000
        ```

    Args:
        alpha: saliency α of the memory.
        noise: σ.
        activation: ψ, without the noise.

    Returns:
        m, and 0 where noise has removed the well (σ ≥ `critical_noise`).
    """
    alpha, noise = check_array(alpha, "alpha"), check_noise(noise)
    return elementwise(_noisy_overlap, activation, alpha=alpha, noise=noise)


def _noisy_overlap(activation, alpha, noise):
    smoothed = NoisyActivation(activation, noise)
    return smoothed(_amplitude(smoothed, alpha))


def critical_noise(
    alpha: Real[ArrayLike, "..."], activation: AbstractActivation
) -> Float[Array, "..."]:
    """σ_c, at which the well of a memory vanishes: α ψ_σ'(0) = 1.

    Returns:
        σ_c, and 0 where the memory does not exist even without noise (α ≤ 1/d).
    """
    return elementwise(_critical_noise, activation, alpha=check_array(alpha, "alpha"))


def _critical_noise(activation, alpha):
    slope = activation.slope_at_zero
    exists = alpha * slope > 1
    safe = jnp.where(exists, alpha, 2 / slope)

    def excess(noise, args):
        activation, alpha = args
        return alpha * NoisyActivation(activation, noise).slope_at_zero - 1

    # ψ' has the integral 2 and a Gaussian its peak: ψ_σ'(0) ≤ 2/(√π σ).
    upper = 1.1 * (2 / math.sqrt(math.pi) * safe)
    noise = falling_root(excess, jnp.zeros_like(safe), upper, (activation, safe))
    return jnp.where(exists & jnp.isfinite(noise), noise, 0)


def noise_at_overlap(
    alpha: Real[ArrayLike, "..."],
    overlap: Real[ArrayLike, "..."],
    activation: AbstractActivation,
) -> Float[Array, "..."]:
    """The σ that brings the overlap of a memory down to a given level, ψ_σ(α m) = m.

    σ_90 and σ_80 of the noise window are those for m = .9 and .8.

    Args:
        alpha: saliency α of the memory.
        overlap: the level m, between 0 and 1.
        activation: ψ, without the noise.

    Returns:
        σ; NaN where the overlap is below that level even without noise.
    """
    alpha, overlap = check_array(alpha, "alpha"), check_array(overlap, "overlap")
    overlap = check_values(
        overlap, is_bad(overlap, lambda m: (m > 0) & (m < 1)), "overlap", "between 0 and 1"
    )
    return elementwise(_noise_at_overlap, activation, alpha=alpha, overlap=overlap)


def _noise_at_overlap(activation, alpha, overlap):
    reached = activation(alpha * overlap) > overlap
    alpha = jnp.where(reached, alpha, 2 / activation.slope_at_zero)
    overlap = jnp.where(reached, overlap, 0.5)

    def excess(noise, args):
        activation, alpha, overlap = args
        return NoisyActivation(activation, noise)(alpha * overlap) - overlap

    # The step is the steepest activation of all, and takes the most noise.
    upper = 1.1 * (alpha * overlap / jax.lax.erf_inv(overlap))
    noise = falling_root(excess, jnp.zeros_like(upper), upper, (activation, alpha, overlap))
    return jnp.where(reached, noise, jnp.nan)


def escape_noise(
    alpha: Real[ArrayLike, "..."],
    alpha_max: Real[ArrayLike, "..."],
    activation: AbstractActivation,
) -> Float[Array, "..."]:
    """σ_esc, at which a memory loses its stability to a more salient one.

    The root of α_max ψ_σ'(α m(σ)) = 1 with m = ψ_σ(α m). Between σ_esc and the noise that spoils
    the salient memory itself (`noise_at_overlap`, `critical_noise`) lies the window in which noise
    frees a state trapped in the weaker memory and lets it settle in the stronger one or, since
    IDP is odd, as often in its mirror image.

    Example:
        ```python
        print(f"{theory.escape_noise(1.5, 3.0, hj.Tanh(10.0)):.3f}")
        ```

        ```text
        1.264
        ```

    Args:
        alpha: saliency of the memory that traps the state.
        alpha_max: largest saliency among the other memories.
        activation: ψ, without the noise.

    Returns:
        σ_esc; 0 where the memory is unstable even without noise; NaN where there is no such noise,
        because the memory does not exist or no other is more salient (the well of the most
        salient memory vanishes, at `critical_noise`, but loses nothing to others).
    """
    alpha, alpha_max = check_array(alpha, "alpha"), check_array(alpha_max, "alpha_max")
    return elementwise(_escape_noise, activation, alpha=alpha, alpha_max=alpha_max)


def _escape_noise(activation, alpha, alpha_max):
    slope = activation.slope_at_zero
    possible = (alpha * slope > 1) & (alpha_max > alpha)
    alpha = jnp.where(possible, alpha, 2 / slope)
    alpha_max = jnp.where(possible, alpha_max, 3 / slope)

    # Without noise this way, which resolves steep activations too.
    stable = alpha_max * activation.derivative(_amplitude(activation, alpha)) < 1

    def excess(noise, args):
        activation, alpha, alpha_max = args
        threshold = _stability_threshold(NoisyActivation(activation, noise), alpha_max)
        return jnp.where(noise > 0, alpha - threshold, jnp.where(stable, alpha, -alpha))

    # At its critical noise the memory is as unstable as the origin, and absent above it.
    upper = 1.1 * _critical_noise(activation, alpha)
    noise = falling_root(excess, jnp.zeros_like(alpha), upper, (activation, alpha, alpha_max))
    return jnp.where(possible, jnp.where(stable, noise, 0), jnp.nan)


def escape_rate(
    alpha: Real[ArrayLike, "..."],
    alpha_max: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."],
    activation: AbstractActivation,
) -> Float[Array, "..."]:
    """α_max ψ_σ'(α m) − 1: how fast the competitor grows where the state is in a memory.

    Negative below `escape_noise`, where the memory is stable, and positive above it.

    Args:
        alpha: saliency of the memory that traps the state.
        alpha_max: largest saliency among the other memories.
        noise: σ.
        activation: ψ, without the noise.

    Returns:
        A rate in inverse time constants; NaN where the memory has no well (σ ≥ `critical_noise`).
    """
    return elementwise(
        _escape_rate,
        activation,
        alpha=check_array(alpha, "alpha"),
        alpha_max=check_array(alpha_max, "alpha_max"),
        noise=check_noise(noise),
    )


def _escape_rate(activation, alpha, alpha_max, noise):
    smoothed = NoisyActivation(activation, noise)
    z = _amplitude(smoothed, alpha)
    return jnp.where(z > 0, alpha_max * smoothed.derivative(z) - 1, jnp.nan)


@names_keywords
def escape_time(
    alpha: Real[ArrayLike, "..."],
    alpha_max: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."],
    activation: AbstractActivation,
    *,
    num_neurons: int,
) -> Float[Array, "..."]:
    """About how long a state stays in a memory that noise has made unstable.

    ln √N / `escape_rate`: the competitor's overlap grows from a chance value of 1/√N.

    Args:
        alpha: saliency of the memory that traps the state.
        alpha_max: largest saliency among the other memories.
        noise: σ.
        activation: ψ, without the noise.
        num_neurons: N.

    Returns:
        A time in time constants; infinite where the memory is stable (escape is then activated,
        and rarer the larger N), NaN where it has no well (σ ≥ `critical_noise`).
    """
    num_neurons = check_count(num_neurons, "num_neurons")
    rate = escape_rate(alpha, alpha_max, noise, activation)
    grows = rate > 0
    time = math.log(num_neurons) / 2 / jnp.where(grows, rate, 1)
    return jnp.where(jnp.isnan(rate), jnp.nan, jnp.where(grows, time, jnp.inf))


def effective_noise(
    noise: Real[ArrayLike, "..."],
    dt: Real[ArrayLike, "..."],
    solver: dfx.AbstractSolver | None = None,
) -> Float[Array, "..."]:
    """The noise that steps of `dt` amount to: σ/√(1 − dt/2) by Euler-Maruyama.

    Their Ornstein-Uhlenbeck process has the variance σ²/(2 − dt) instead of σ²/2; that of other
    solvers is nearer to it, and measured in one step.

    Args:
        noise: σ.
        dt: step, at most 1; one static number where a solver is given.
        solver: Euler if not given.

    Returns:
        The noise in whose exact equation a neuron has the same variance.
    """
    if solver is not None:
        _, factor = step_response(solver, check_number(dt, "dt"))
        return factor * check_noise(noise)
    step = check_positive(dt, "dt")
    step = check_values(step, is_bad(step, lambda s: s <= 1), "dt", "at most 1")
    sigma, step = broadcast(noise=check_noise(noise), dt=step)
    return sigma / jnp.sqrt(1 - step / 2)


@names_keywords
def crosstalk_noise(
    alpha: Real[ArrayLike, " P"],
    noise: Real[ArrayLike, "..."],
    activation: AbstractActivation,
    *,
    memory: int,
    num_neurons: int,
) -> Float[Array, "..."]:
    """The noise that random memories at finite load amount to, √(σ² + 2Δ²).

    The other memories disturb each neuron by a frozen random field of variance
    Δ² = (1/N) Σ_{ν≠μ} α_ν² q / (1 − α_ν χ)² with χ = E ψ_σ' and q = E ψ² at the memory, to first
    order in the load P/N. This is for self-coupling zeroed, and for the saliencies α themselves,
    not α − S: what the missing self-coupling takes away the response of the other memories gives
    back. Overlaps of random memories are `noisy_overlap(alpha[μ], crosstalk_noise(...),
    activation)`: within .001 at P/N = 10/1024, a percent off at four times that load near σ_c.
    Escape is not predicted: crosstalk breaks the symmetry, and the threshold smears out downwards.

    Args:
        alpha: saliencies of all memories.
        noise: σ.
        activation: ψ, without the noise.
        memory: μ, the memory that the state is in.
        num_neurons: N.

    Returns:
        The effective noise for every σ: σ itself where the memory has no well, NaN (which other
        functions refuse as noise) where it is unstable, some α_ν χ ≥ 1.
    """
    alpha = check_array(alpha, "alpha", ("P",))
    memory = check_index(memory, "memory", alpha.shape[0], "memories")
    num_neurons = check_count(num_neurons, "num_neurons")
    activation, alpha, sigma = one_dtype(check_activation(activation), alpha, check_noise(noise))
    return _crosstalk_noise(activation, alpha, sigma, memory, num_neurons)


@compiled
def _crosstalk_noise(activation, alpha, noise, memory, num_neurons):
    width = 1 / activation.slope_at_zero
    others = jnp.arange(alpha.shape[0]) != memory

    def effective(noise):
        smoothed = NoisyActivation(activation, noise)
        z = _amplitude(smoothed, alpha[memory])
        chi = smoothed.derivative(z)
        q = gaussian_mean(
            lambda y: activation(y) ** 2,
            lambda y: 2 * activation(y) * activation.derivative(y),
            1,
            z,
            noise,
            width,
        )
        stable = jnp.all(~others | (alpha * chi < 1))
        response = jnp.where(alpha * chi < 1, 1 - alpha * chi, 1)
        field = jnp.sum(jnp.where(others, alpha**2 * q / response**2, 0)) / num_neurons
        # At z = 0 there is nothing to disturb.
        disturbed = jnp.where(stable, jnp.sqrt(noise**2 + jnp.where(z > 0, 2 * field, 0)), jnp.nan)
        return jnp.where(z > 0, disturbed, noise)

    return jax.vmap(effective)(noise.reshape(-1)).reshape(noise.shape)
