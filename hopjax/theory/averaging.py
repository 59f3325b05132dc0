"""An activation averaged over Gaussian noise, which is an activation again."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import (
    check_array,
    is_traced,
)
from hopjax.activations import AbstractActivation
from hopjax.theory.common import (
    check_activation,
    check_noise,
    one_dtype,
)

# Trapezoidal rules, which converge exponentially for smooth integrands that decay both ways: twice
# as many nodes have twice as many digits. Only the nodes from 0 up: every sum takes a node and its
# mirror image together, so that what is odd is odd to the last bit (no overlap without a well is
# 0, not almost 0).
_SPACING = {"float32": 0.5, "float64": 0.25}  # of the noise, in standard deviations
_FARTHEST = {"float32": 6.0, "float64": 9.0}
_STATE_SPACING = {"float32": 0.25, "float64": 0.125}  # of asinh(y d)
_FARTHEST_STATE = 12.0  # far into the tails of activations that approach ±1 slowly


def _trapezoidal(spacing, farthest):
    """Places from 0 up, and the weights of a trapezoidal rule over them and their images."""
    places = np.arange(0, farthest + spacing / 2, spacing)
    weights = np.full_like(places, spacing)
    weights[0] /= 2
    return places, weights


class NoisyActivation(AbstractActivation):
    """ψ_σ(h) = E ψ(h + σ η/√2): the mean activity of a neuron of mean state h under noise σ.

    An activation itself: `equilibrium_amplitude(alpha, NoisyActivation(psi, sigma))` is the mean
    amplitude under noise, `well_energy` the depth of the well that the mean sees, and a model
    with this activation is the mean dynamics of the noisy one. Exact to rounding for activations
    that are smooth on the scale of 1/d, whatever the ratio of that scale to σ, and for those that
    know their own average, as `HardTanh`.
    """

    activation: Any  # an AbstractActivation, which may know its own average
    noise: Float[Array, ""]

    def __init__(
        self,
        activation: AbstractActivation,
        noise: Real[ArrayLike, ""] | Real[ArrayLike, " N"],
    ):
        """Smooth an activation.

        Args:
            activation: ψ, for example `Tanh(10.0)`.
            noise: σ ≥ 0 of dx = drift dt + σ dB, per square root of the neuron's time constant;
                one for all neurons, or one for each.

        Raises:
            ValueError: if `noise` is negative, or neither one number nor one for each neuron.
            TypeError: if `activation` is none.
        """
        noise = check_array(noise, "noise", (), ("N",), finite=False)
        if not is_traced(noise):
            noise = check_noise(noise)
        # Root finders come by here at every step, so no runtime check of a traced σ. It needs
        # none either: σ and −σ are the same noise.
        self.activation, self.noise = one_dtype(check_activation(activation), jnp.abs(noise))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """ψ_σ(x) of each entry."""
        if hasattr(self.activation, "averaged"):
            return self.activation.averaged(x, self.noise)
        return gaussian_mean(
            self.activation, self.activation.derivative, -1, x, self.noise, self._width
        )

    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """∫₀ˣ ψ_σ for each entry."""
        if hasattr(self.activation, "averaged_antiderivative"):
            return self.activation.averaged_antiderivative(x, self.noise)
        integral, width = self.activation.antiderivative, self._width
        # All three terms of a pair in the shape of x, so that they round alike: at x = 0 nothing
        # is left of them.

        def narrow(x, noise, width):
            def pair(step):
                return integral(x + step) + integral(x - step) - 2 * integral(0 * x + step)

            return _over_noise(pair, noise)

        def wide(x, noise, width):
            def pair(node):
                steps = _ramp(x - node, noise) + _ramp(x + node, noise)
                return steps - 2 * _ramp(0 * x + node, noise)

            return _over_states(pair, self.activation.derivative, width)

        return _by_width(narrow, wide, x, self.noise, width)

    @property
    def _width(self):
        return 1 / self.activation.slope_at_zero


def _by_width(narrow, wide, x, noise, width):
    """A rule over the noise where that is narrower than the activation, else one over states.

    Both are exact to rounding on either side of the divide.
    """
    is_narrow = noise < math.sqrt(2) * width
    if is_narrow.ndim == 0 and not is_traced(is_narrow):
        return (narrow if is_narrow else wide)(x, noise, width)
    # The rule that does not count must be finite all the same.
    quiet, loud = jnp.where(is_narrow, noise, 0), jnp.where(is_narrow, width, noise)
    if is_narrow.ndim == 0:  # only one is evaluated, unless a batch makes it an array
        return jax.lax.cond(
            is_narrow, lambda: narrow(x, quiet, width), lambda: wide(x, loud, width)
        )
    return jnp.where(is_narrow, narrow(x, quiet, width), wide(x, loud, width))


def _over_noise(pair, noise):
    """The sum of `pair(s)`, a quantity at x + s and x − s, over s = σ η/√2, η half a normal."""
    name = noise.dtype.name
    places, weights = _trapezoidal(_SPACING[name], _FARTHEST[name])
    weights = weights * np.exp(-(places**2) / 2) / math.sqrt(2 * math.pi)
    return _weighted(lambda node: pair(node * noise / math.sqrt(2)), places, weights, noise.dtype)


def _over_states(pair, derivative, width):
    """The integral of ½ f'(y) `pair(y)`, a quantity at y and −y, over y from 0 up."""
    places, weights = _trapezoidal(_STATE_SPACING[width.dtype.name], _FARTHEST_STATE)
    nodes, weights = np.sinh(places), weights * np.cosh(places) / 2  # dense where ψ bends

    def term(node):
        y = node * width
        return width * derivative(y) * pair(y)

    return _weighted(term, nodes, weights, width.dtype)


def _weighted(term, nodes, weights, dtype):
    """Σ_k w_k term(node_k)."""
    nodes, weights = jnp.asarray(nodes, dtype), jnp.asarray(weights, dtype)
    return jnp.tensordot(weights, jax.vmap(term)(nodes), 1, precision="highest")


def _ramp(x, sigma):
    """The antiderivative of erf(x/σ), even in x."""
    return x * jax.lax.erf(x / sigma) + sigma / math.sqrt(math.pi) * jnp.exp(-((x / sigma) ** 2))


def gaussian_mean(function, derivative, parity, x, noise, width):
    """E f(x + σ η/√2) for a bounded f, odd (parity −1) or even (1), of the scale `width`.

    Where the noise is the narrower, a rule over the noise; where the function is, a rule over its
    derivative: integrated by parts, E f = (f(∞) + f(−∞))/2 + ½ ∫ f'(y) erf((x − y)/σ) dy.
    """
    limits = 1 if parity > 0 else 0  # an even function of an activation tends to 1 on either side

    def narrow(x, noise, width):
        return _over_noise(lambda step: function(x + step) + function(x - step), noise)

    def wide(x, noise, width):
        def pair(node):
            return jax.lax.erf((x - node) / noise) - parity * jax.lax.erf((x + node) / noise)

        return limits + _over_states(pair, derivative, width)

    return _by_width(narrow, wide, x, noise, width)
