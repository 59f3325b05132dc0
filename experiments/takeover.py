"""Two memories while one follows the other, in time constants of the neurons.

The theory of sequences has neurons at rest at all times. Here the state is z ξ + y ξ' of an active
memory and the next one: half of the neurons are at z + y and half at z − y, with the mean activity
ψ_σ. Their saliencies a and s move meanwhile,

    ż = −z + a m,   ẏ = −y + s m' + σ²/(2Ny),   τ_s ȧ = −a,   τ_s ṡ = −s + κ |m|,

with the overlaps m, m' = (ψ_σ(z + y) ± ψ_σ(z − y))/2. The last term of ẏ keeps it at the size
σ/√(2N) to which noise drives the overlap of N neurons with any pattern, and from which y grows as
soon as s ψ_σ'(z) > 1. When m' is the larger one, and above a level, the next memory is the active
one; what it has given to the one after that is the s from there on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import hopjax as hj
from hopjax import theory

DT = 0.1
LOW, HIGH, NUM_GAINS, ROUNDS = 3.0, 4.3, 16, 3


def thresholds(
    time_constants: Any, *, noise: float, num_neurons: int, enter: float, length: float
) -> list[float]:
    """The gain below which sequences end within a length, in units of τ_s, for each τ_s."""
    found = []
    for time_constant in time_constants:
        low, high = LOW, HIGH
        for _ in range(ROUNDS):
            gains = np.linspace(low, high, NUM_GAINS, dtype=np.float32)
            last = last_overlaps(gains, time_constant, noise, num_neurons, enter, length)
            lives = np.asarray(last) > enter / 2
            place = int(np.argmax(lives)) if lives.any() else NUM_GAINS - 1
            low, high = gains[max(place - 1, 0)], gains[place]
        found.append(float(low + high) / 2)
    return found


@jax.jit
def last_overlaps(
    gains: Float[Array, " K"],
    time_constant: float,
    noise: float,
    num_neurons: int,
    enter: float,
    length: float,
) -> Float[Array, " K"]:
    """The overlap of the active memory at the end of a sequence that begins with its gain."""
    psi = theory.NoisyActivation(hj.HardTanh(jnp.float32(1)), jnp.asarray(noise, gains.dtype))
    variance = noise**2 / (2 * num_neurons)  # of the overlap of the states with a pattern
    rest = jnp.full_like(gains, jnp.sqrt(variance))
    slowly = DT / time_constant

    def overlaps(z, y):
        plus, minus = psi(z + y), psi(z - y)
        return (plus + minus) / 2, (plus - minus) / 2

    def step(_, state):
        z, y, active, following, third = state
        first, second = overlaps(z, y)
        z, y = (
            z + DT * (active * first - z),
            y + DT * (following * second - y + variance / jnp.maximum(y, rest / 10)),
        )
        active = active - slowly * active
        following = following + slowly * (gains * jnp.abs(first) - following)
        third = third + slowly * (gains * jnp.abs(second) - third)
        left = (second > enter) & (second > first)
        after = (y, rest, following, third, jnp.zeros_like(third))
        before = (z, y, active, following, third)
        return tuple(jnp.where(left, new, old) for new, old in zip(after, before, strict=True))

    nothing = jnp.zeros_like(gains)
    state = (gains, rest, gains, nothing, nothing)
    steps = jnp.asarray(length * time_constant / DT, jnp.int32)
    z, y, *_ = jax.lax.fori_loop(0, steps, step, state)
    return overlaps(z, y)[0]
