"""Noise on an input as a solve sees it, on the grid of steps."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from hopjax._checks import check_values, is_bad, is_traced
from hopjax._errors import ArgumentError
from hopjax._keys import input_key
from hopjax.inputs import NoisyInput
from hopjax.models import AbstractHopfield
from hopjax.noise.draws import normals
from hopjax.program import compiled
from hopjax.solving.exponential import ExponentialAdams
from hopjax.solving.method import Method

_LINEAR = 1e-3  # what a drift may miss a linear function of the input by, relative to its change


class InputNoise(eqx.Module):
    """ζ of `NoisyInput` on the grid of steps.

    With a correlation time it is `amplitude` times z, of unit variance, with

    z_{n+1} = ρ z_n + √(1 − ρ²) η_{n+1},  z_0 = η_0,  ρ = exp(−dt/τ),

    for which η_n is drawn from the key and n. White noise draws the increment of step n from them.
    """

    amplitude: Float[Array, ""] | Float[Array, " N"]
    correlation_time: Float[Array, ""] | None
    key: Key[Array, ""]
    num_neurons: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    @property
    def white(self) -> bool:
        """Whether it has no correlation time."""
        return self.correlation_time is None

    def draw(self, step: Int[Array, ""]) -> Float[Array, " N"]:
        """η of a step."""
        return normals(self.key, step, self.num_neurons).astype(self.amplitude.dtype)

    def follow(self, z: Float[Array, " N"], step: Int[Array, ""]) -> Float[Array, " N"]:
        """z of a step from that of the step before."""
        assert self.correlation_time is not None
        elapsed = self.dt / self.correlation_time
        rest = jnp.sqrt(-jnp.expm1(-2 * elapsed))
        return jnp.exp(-elapsed) * z + rest * self.draw(step)

    def at(self, step: int) -> Float[Array, " N"]:
        """z of a step, which needs all before it."""
        z = self.draw(jnp.asarray(0))
        if step == 0:
            return z
        return jax.lax.scan(lambda z, n: (self.follow(z, n), None), z, jnp.arange(1, step + 1))[0]


def check_input_noise(
    noisy: NoisyInput,
    key: Key[Array, ""] | None,
    model: AbstractHopfield,
    dt: float,
    method: Method,
) -> InputNoise:
    """The noise of an input whose shapes are right.

    Raises:
        ValueError: without a key, or where the steps, the solver or the model do not suit it.
    """
    decides = key if noisy.key is None else noisy.key
    if decides is None:
        raise ArgumentError(
            "key", "a key such as jax.random.key(0) where there is noise on the input", "None"
        )
    if method.adaptive:
        raise ArgumentError(
            "stepsize_controller",
            "None for a NoisyInput, whose noise exists on the grid of steps only",
            type(method.controller).__name__,
        )
    amplitude, tau = noisy.amplitude, noisy.correlation_time
    if tau is not None:
        right = f"at least dt = {dt:g} (or None, for white noise)"
        tau = check_values(tau, is_bad(tau, lambda t: t >= dt), "correlation_time", right)
    else:
        if type(method.solver) not in (dfx.Euler, ExponentialAdams):
            raise ArgumentError(
                "solver",
                "Euler() or ExponentialAdams() for white noise on the input",
                f"{type(method.solver).__name__}()",
                hint="noise with a correlation_time goes with any solver",
            )
        still = jax.tree.map(
            lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, model
        )
        bad = _curved(still)
        right = "given where the drift is not linear in the input"
        if is_traced((bad, amplitude)):
            amplitude = check_values(amplitude, bad, "correlation_time", right)
        elif np.any(bad):
            hint = f"that of {type(model).__name__} has no limit for white noise"
            raise ArgumentError("correlation_time", right, "None", hint=hint)
    return InputNoise(amplitude, tau, input_key(decides), model.memories.shape[1], dt)


@compiled
def _curved(model: AbstractHopfield) -> Bool[Array, ""]:
    """Whether the drift is not linear in the input: at a random state, along random inputs."""
    memories = model.memories
    num_memories, num_neurons = memories.shape
    keys = jax.random.split(jax.random.key(0), 4)
    weights = jax.random.normal(keys[0], (2, num_memories), memories.dtype)
    own = jax.random.normal(keys[1], (2, num_neurons), memories.dtype)
    middle, change = jnp.matmul(weights, memories, precision="highest") + own
    shown = jax.random.normal(keys[2], (num_memories,), memories.dtype) @ memories
    state = model.initial_state(shown + jax.random.normal(keys[3], own.shape[1:], memories.dtype))
    zero = jnp.zeros((), memories.dtype)
    low, at, high = (
        model.drift(zero, state, model.drive(middle + side * change)) for side in (-1, 0, 1)
    )
    size = jnp.max(jnp.abs(high - low)) + jnp.finfo(memories.dtype).tiny
    return ~(jnp.max(jnp.abs(high - 2 * at + low)) <= _LINEAR * size)
