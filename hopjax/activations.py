"""Activation functions Ψ of the neurons: odd, bounded by ±1, never falling, concave for x > 0."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import check_positive


class AbstractActivation(eqx.Module):
    """An activation ψ, applied to each entry; ψ(±∞) = ±1.

    A new one needs `__call__` and its `antiderivative`; the derivative comes from these. One with
    corners should also have `averaged(x, noise)` = E ψ(x + σ η/√2), η standard normal, and its
    `averaged_antiderivative(x, noise)`, which `theory.NoisyActivation` otherwise finds by rules for
    smooth functions.
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


class HardTanh(AbstractActivation):
    """ψ(x) = d·x for |x| ≤ 1/d and ±1 beyond: a neuron saturates at a finite state."""

    slope: Float[Array, ""]

    def __init__(self, slope: Real[ArrayLike, ""] = 1.0):
        """`slope` is d = ψ'(0), a positive number."""
        self.slope = check_positive(slope, "slope", ())

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """d·x, clipped to [−1, 1]."""
        return jnp.clip(self.slope * x, -1, 1)

    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """d·x²/2 for |x| ≤ 1/d, and |x| − 1/(2d) beyond."""
        activity = self(x)
        return activity * (x - activity / (2 * self.slope))

    def averaged(self, x: Float[Array, "..."], noise: Float[Array, "..."]) -> Float[Array, "..."]:
        """E ψ(x + σ η/√2) for η standard normal."""
        (first, bend), (second, other) = self._corners(x, noise)
        bends = noise / math.sqrt(math.pi) * (bend - other)
        return (first + second) / 2 + self.slope / 2 * (x * (first - second) + bends)

    def averaged_antiderivative(
        self, x: Float[Array, "..."], noise: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The integral of `averaged` from 0 to x."""
        width = 1 / self.slope

        def integral(x: Float[Array, "..."]) -> Float[Array, "..."]:
            (first, bend), (second, other) = self._corners(x, noise)
            bends = noise / math.sqrt(math.pi) * ((x + width) * bend - (x - width) * other)
            squares = x**2 + width**2 + noise**2 / 2
            return x * (first + second) / 2 + self.slope / 4 * (squares * (first - second) + bends)

        return integral(x) - integral(0 * x)

    def _corners(
        self, x: Float[Array, "..."], noise: Float[Array, "..."]
    ) -> list[tuple[Float[Array, "..."], Float[Array, "..."]]]:
        """erf(y/σ) and exp(−(y/σ)²) for the distances y of x from both corners."""
        loud = noise > 0
        found = []
        for distance in (x + 1 / self.slope, x - 1 / self.slope):
            ratio = distance / jnp.where(loud, noise, 1)
            step = jnp.where(loud, jax.lax.erf(ratio), jnp.sign(distance))
            found.append((step, jnp.exp(-(ratio**2))))
        return found
