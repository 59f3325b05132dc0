"""A problem in arrays for more memories than its network has, and its solution without them."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from hopjax._errors import ArgumentError
from hopjax.models import lengthened, with_room
from hopjax.models.base import is_feature
from hopjax.noise import AbstractLaw, AbstractNoise, AdditiveNoise
from hopjax.solving.door import Problem


class _NoiseOfPresent(AbstractNoise):
    """Noise on those entries of the state that belong to no absent memory.

    One strength is that of the features, which all are present.
    """

    law: AbstractLaw
    noise: AbstractNoise
    present: Bool[Array, " state"]
    features: Bool[Array, " state"]
    additive: ClassVar[bool] = False  # which nobody asks any more

    def __init__(
        self,
        noise: AbstractNoise,
        present: Bool[Array, " state"],
        features: Bool[Array, " state"],
    ):
        self.law, self.noise = noise.law, noise
        self.present, self.features = present, features

    def diffusion(self, t: Float[Array, ""], x: Float[Array, " state"]) -> Float[Array, " state"]:
        """σ, or 0."""
        sigma = self.noise.diffusion(t, x)
        return jnp.where(self.present if jnp.ndim(sigma) else self.features, sigma, 0)


def padded(problem: Problem) -> Problem:
    """The same problem in arrays whose shapes depend on its capacity, if it has one.

    The entries of the state for absent memories are its last ones. They start at zero and have no
    noise.

    Raises:
        ValueError: where entries that are always zero would count in the error of a step.
    """
    capacity = problem.capacity
    if capacity is None:
        return problem
    model, noise, state0 = with_room(problem.model, capacity), problem.noise, problem.state0
    size, entries = problem.model.state_size, model.state_size
    if size > model.memories.shape[1]:  # also of a full network: all are one program
        if problem.method.adaptive:
            raise ArgumentError(
                "capacity",
                f"None with adaptive steps for {type(model).__name__}",
                capacity,
                hint="the error that they are judged by is of all entries of the state, those of "
                "absent memory neurons among them",
            )
        if isinstance(noise, AdditiveNoise) and noise.strength.shape == (size,):
            strength = lengthened(noise.strength, entries)
            noise = eqx.tree_at(lambda noise: noise.strength, noise, strength)
        if noise is not None:
            present = jnp.asarray(np.arange(entries) < size)
            noise = _NoiseOfPresent(noise, present, is_feature(model))
        if state0 is not None:
            state0 = lengthened(state0, entries)
    return problem._replace(model=model, noise=noise, state0=state0, capacity=None)
