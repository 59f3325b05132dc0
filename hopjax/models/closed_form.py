"""The equation that closed theories are about, as a network of ±1 memories states it of itself."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from hopjax.activations import AbstractActivation
from hopjax.models.base import project, projected


class ClosedForm(eqx.Module):
    """dx/dt = −x + W Ψ(x) + I with W = Ξᵀ K Ξ / N, the overlaps ΞΨ/N, and the energy of these.

    A model that claims to have this equation says so by a method `closed_form(u)`, which returns
    it for a constant input. Here it is written once more, apart from the models, so that theory can
    compare the two.

    Attributes:
        memories: Ξ.
        activation: ψ.
        alpha: α, with which W multiplies each memory that is orthogonal to the others, or dual.
        coupling: K: diag(α) for W(u), diag(α) C⁻¹ for the pseudo-inverse rule.
        diagonal: what is taken off the diagonal of W, S = Σα/N or 0.
        current: I.
        symmetric: whether K is, so that there is an energy.
        decorrelated: whether the memories are eigenvectors of W however much they are alike.
        input_as: what the input is to the network, "plasticity" or a "current".
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    alpha: Float[Array, " P"]
    coupling: Float[Array, "P P"]
    diagonal: Float[Array, ""]
    current: Float[Array, " N"]
    symmetric: bool = eqx.field(static=True)
    decorrelated: bool = eqx.field(static=True)
    input_as: str = eqx.field(static=True)

    @property
    def drift_in_words(self) -> str:
        """The drift, to print."""
        return "−x + W(u)Ψ(x)" if self.input_as == "plasticity" else "−x + WΨ(x) + u"

    @property
    def energy_in_words(self) -> str:
        """The energy, to print."""
        if not self.symmetric:
            return "NaN, though W is not symmetric"
        own = "−½ΨᵀWΨ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ"
        return own if self.input_as == "plasticity" else own + " − uᵀΨ"

    def drift(self, x: Float[Array, " N"]) -> Float[Array, " N"]:
        """−x + W Ψ(x) + I."""
        return -x + self._coupled(x) + self.current

    def overlaps(self, x: Float[Array, " N"]) -> Float[Array, " P"]:
        """ΞΨ(x) / N."""
        return projected(self.memories, self.activation(x))

    def energy(self, x: Float[Array, " N"]) -> Float[Array, ""]:
        """−½ΨᵀWΨ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ − IᵀΨ; NaN where W is not symmetric."""
        if not self.symmetric:
            return jnp.full((), jnp.nan, x.dtype)
        activity = self.activation(x)
        own = x @ activity - jnp.sum(self.activation.antiderivative(x))
        return own - activity @ (self._coupled(x) / 2 + self.current)

    def size(self, x: Float[Array, " N"]) -> Float[Array, ""]:
        """How large the terms of the drift are at most, by which it rounds."""
        activity = jnp.abs(self.activation(x))
        sent = project(jnp.abs(self.coupling), projected(jnp.abs(self.memories), activity))
        largest = jnp.max(jnp.abs(x)) + jnp.max(jnp.abs(self.current))
        return largest + jnp.sum(sent) + jnp.max(activity) * jnp.abs(self.diagonal)

    def _coupled(self, x: Float[Array, " N"]) -> Float[Array, " N"]:
        sent = project(self.coupling, self.overlaps(x))
        return project(self.memories.T, sent) - self.diagonal * self.activation(x)
