"""Activation functions Ψ of the neurons: odd, bounded by ±1, increasing, concave for x > 0."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import check_positive


class AbstractActivation(eqx.Module):
    """An activation ψ, applied to each entry; ψ(±∞) = ±1.

    A new one needs `__call__` and its `antiderivative`; the derivative comes from these.
    """

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activity ψ(x) of each entry."""

    @abc.abstractmethod
    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """∫₀ˣ ψ for each entry: the neuron's own share of the energy."""

    def derivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The slope ψ'(x) of each entry."""
        return jax.jvp(self.__call__, (x,), (jnp.ones_like(x),))[1]

    @property
    def slope_at_zero(self) -> Float[Array, ""]:
        """d = ψ'(0): memories of saliency α exist for d·α > 1 (self-coupling kept)."""
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(self) if eqx.is_inexact_array(leaf)]
        return self.derivative(jnp.zeros((), jnp.result_type(*dtypes) if dtypes else float))


class Tanh(AbstractActivation):
    """ψ(x) = tanh(d·x), the paper's activation; the authors' scripts use d = 10."""

    slope: Float[Array, ""]

    def __init__(self, slope: Real[ArrayLike, ""] = 10.0):
        """`slope` is d = ψ'(0), a positive number."""
        self.slope = check_positive(slope, "slope", ())

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Tanh(d·x)."""
        return jnp.tanh(self.slope * x)

    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log cosh(d·x) / d, written so that it does not overflow."""
        return (jnp.logaddexp(self.slope * x, -self.slope * x) - math.log(2)) / self.slope


class Erf(AbstractActivation):
    """ψ(x) = erf(√π·d·x / 2): the form a steep activation takes under Gaussian noise."""

    slope: Float[Array, ""]

    def __init__(self, slope: Real[ArrayLike, ""] = 10.0):
        """`slope` is d = ψ'(0), a positive number."""
        self.slope = check_positive(slope, "slope", ())

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Erf(√π·d·x / 2)."""
        return jax.lax.erf(math.sqrt(math.pi) / 2 * self.slope * x)

    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """x·erf(a·x) + (exp(−a²x²) − 1) / (√π·a) with a = √π·d / 2."""
        a = math.sqrt(math.pi) / 2 * self.slope
        return x * jax.lax.erf(a * x) + jnp.expm1(-((a * x) ** 2)) / (math.sqrt(math.pi) * a)
