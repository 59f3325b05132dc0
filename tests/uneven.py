"""An activation with a field for every neuron, which several tests put into networks."""

import jax.numpy as jnp
from jaxtyping import Array, Float

import hopjax as hj


class Uneven(hj.AbstractActivation):
    """Another slope for every neuron."""

    slopes: Float[Array, " N"]

    def __call__(self, x):
        return jnp.tanh(self.slopes * x)

    def antiderivative(self, x):
        return jnp.log(jnp.cosh(self.slopes * x)) / self.slopes
