"""Networks that compute what can be told by hand, for several files of tests."""

import jax.numpy as jnp
from jaxtyping import Array, Float

import hopjax as hj


class Integrator(hj.AbstractBipolarHopfield):
    """dx/dt = u: what one Euler step adds, over dt, is the input that the network saw."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        del t, x
        return drive

    def energy(self, x, u):
        return -x @ u


class Runaway(hj.AbstractBipolarHopfield):
    """dx/dt = x³, infinite at time 1 / (2 x0²)."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        del t, drive
        return x**3

    def energy(self, x, u):
        del u
        return -jnp.sum(x**4) / 4
