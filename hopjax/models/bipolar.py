"""Networks of ±1 memories in one layer: the classic one, input-driven plasticity, decorrelated.

The input is an added current in the classic network; in the others it weighs the memories.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import (
    cast_floats,
    check_choice,
    check_flag,
    check_instance,
    check_values,
    is_bad,
)
from hopjax._errors import names_keywords
from hopjax.activations import AbstractActivation, Tanh
from hopjax.models.base import (
    AbstractHopfield,
    AbstractOneLayerHopfield,
    among_present,
    check_memories,
    independent,
    inverse_correlations,
    project,
    projected,
)
from hopjax.models.closed_form import ClosedForm


class AbstractActivityHopfield(AbstractHopfield):
    """Networks of ±1 patterns that are seen in the activity Ψ(x) of the features."""

    activation: eqx.AbstractVar[AbstractActivation]

    @property
    def overlap_measures_size(self) -> bool:
        """True: it is one of activities, which saturate from 1/d on."""
        return True

    def overlaps(self, x: Float[Array, " state"]) -> Float[Array, " P"]:
        """m_μ = ξ^μ·Ψ(x) / N of the features, between −1 and 1."""
        return projected(self.memories, self.activation(self.features(x)))

    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """α_μ(u) = ξ^μ·u / N."""
        return projected(self.memories, u)


class AbstractBipolarHopfield(AbstractOneLayerHopfield, AbstractActivityHopfield):
    """Networks whose state is the N neurons themselves and whose memories are ±1 patterns.

    A new one needs the fields `memories` and `activation`, and `drive`, `drift` and `energy`.
    """


class AbstractPairedHopfield(AbstractActivityHopfield):
    """Networks whose state is features and, behind them, one more entry for each memory."""

    @property
    def state_size(self) -> int:
        """N + P."""
        return sum(self.memories.shape)

    @property
    @abc.abstractmethod
    def time_constant_of_memories(self) -> Float[Array, ""]:
        """That of the entries of memories, in units of that of the features."""

    @property
    def fastest_time_constant(self) -> Float[Array, ""]:
        """The shorter one of that of the memories' entries and 1."""
        return jnp.minimum(self.time_constant_of_memories, 1)

    @property
    def relaxation_rates(self) -> Float[Array, " state"]:
        """1 of the features, and the inverse of their time constant of the memories' entries."""
        features, others = jnp.ones_like(self.memories[0]), jnp.ones_like(self.memories[:, 0])
        return jnp.append(features, others / self.time_constant_of_memories)

    def features(self, state: Float[Array, " state"]) -> Float[Array, " N"]:
        """The x of a state, its first N entries."""
        return state[: self.memories.shape[1]]

    def of_memories(self, state: Float[Array, " state"]) -> Float[Array, " P"]:
        """The entries of the memories."""
        return state[self.memories.shape[1] :]

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """The saliencies α(u)."""
        return self.saliency(u)


def bipolar(memories: Any) -> Float[Array, "P N"]:
    """Memories of −1 and +1."""
    memories = check_memories(memories)
    return check_values(
        memories, is_bad(memories, lambda m: abs(m) == 1), "memories", "-1 or +1 in every entry"
    )


def activation_or_default(
    activation: AbstractActivation | None, memories: Float[Array, "P N"]
) -> AbstractActivation:
    """The activation in the dtype of the memories; tanh(10 x) if none is given."""
    if activation is None:
        activation = Tanh()
    check_instance(
        activation, AbstractActivation, "activation", "an activation such as Tanh(slope=10.0)"
    )
    return cast_floats(activation, memories.dtype)


class ClassicHopfield(AbstractBipolarHopfield):
    """The classic network: the input is an added current and the synapses stay as they are.

    dx = (−x + W Ψ(x) + u) dt + σ dB with W = (1/N) Σ_μ ξ^μ ξ^μᵀ. Without `self_coupling` the
    diagonal of W is zero, which subtracts (P/N) Ψ(x) from the drift.
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    self_coupling: bool = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        activation: AbstractActivation | None = None,
        *,
        self_coupling: bool = False,
    ):
        """See `IDPHopfield`: the arguments are the same."""
        self.memories = bipolar(memories)
        self.activation = activation_or_default(activation, self.memories)
        self.self_coupling = check_flag(self_coupling, "self_coupling")

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " N"]:
        """The current, u itself."""
        return u

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, " N"]:
        """−x + W Ψ(x) + u, with u the `drive`."""
        del t
        return -x + coupled(self, _ones(self), x) + drive

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = −½ΨᵀWΨ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ − uᵀΨ, so that ∇E = −ψ'(x) ⊙ drift."""
        return energy_of(self, _ones(self), x) - u @ self.activation(x)

    def closed_form(self, u: Float[Array, " N"]) -> ClosedForm:
        """All α = 1, and u the current."""
        return _form(self, _ones(self), u, "current")


class IDPHopfield(AbstractBipolarHopfield):
    """Input-driven plasticity: the input weighs the memories and so reshapes the energy.

    dx = (−x + W(u) Ψ(x)) dt + σ dB with W(u) = (1/N) Σ_μ α_μ(u) ξ^μ ξ^μᵀ and the saliencies
    α_μ(u) = ξ^μ·u / N: the memory that matches the input best has the deepest well. Without
    `self_coupling` the diagonal of W(u) is zero, which subtracts (Σ_μ α_μ / N) Ψ(x).

    Example:
        ```python
        model = hj.IDPHopfield(memories)  # tanh(10 x), no self-coupling
        steeper = hj.IDPHopfield(memories, hj.Tanh(20.0), self_coupling=True)
        model.saliency(u)  # how much of each memory the input contains, (P,)
        ```
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    self_coupling: bool = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        activation: AbstractActivation | None = None,
        *,
        self_coupling: bool = False,
    ):
        """Store the memories.

        Args:
            memories: patterns ξ^μ in rows, every entry −1 or +1. Their dtype is that of a solve.
            activation: Ψ; by default `Tanh(slope=10.0)`, as in the authors' scripts.
            self_coupling: whether a neuron couples to itself (the diagonal of W is kept). The
                paper's figures have it off.

        Raises:
            ValueError: if `memories` is not a (P, N) array of ±1.
            TypeError: if an argument is of another kind.
        """
        self.memories = bipolar(memories)
        self.activation = activation_or_default(activation, self.memories)
        self.self_coupling = check_flag(self_coupling, "self_coupling")

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """The saliencies α(u), which are all the network gets to know of the input."""
        return self.saliency(u)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: Float[Array, " P"]
    ) -> Float[Array, " N"]:
        """−x + W(u) Ψ(x), with the saliencies of u as the `drive`."""
        del t
        return -x + coupled(self, drive, x)

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = −½ΨᵀW(u)Ψ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ, so that ∇E = −ψ'(x) ⊙ drift."""
        return energy_of(self, self.saliency(u), x)

    def closed_form(self, u: Float[Array, " N"]) -> ClosedForm:
        """The saliencies, and no current."""
        return _form(self, self.saliency(u), jnp.zeros_like(u), "plasticity")


def _ones(model: ClassicHopfield) -> Float[Array, " P"]:
    """The weights of the memories."""
    return among_present(model.present, jnp.ones_like(model.memories[:, 0]))


def coupled(model: Any, weights: Float[Array, " P"], x: Float[Array, " N"]) -> Float[Array, " N"]:
    """W Ψ(x) for W = (1/N) Σ_μ w_μ ξ^μ ξ^μᵀ, diagonal as the model has it.

    The model is one of ±1 memories with the fields of `IDPHopfield`.
    """
    num_neurons = model.memories.shape[1]
    activity = model.activation(x)
    sent = project(model.memories.T, weights * project(model.memories, activity) / num_neurons)
    if not model.self_coupling:
        sent = sent - jnp.sum(weights) / num_neurons * activity
    return sent


def energy_of(model: Any, weights: Float[Array, " P"], x: Float[Array, " N"]) -> Float[Array, ""]:
    """−½ΨᵀWΨ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ for the coupling of `coupled`."""
    activity = model.activation(x)
    return (
        -activity @ coupled(model, weights, x) / 2
        + x @ activity
        - jnp.sum(model.activation.antiderivative(x))
    )


def _form(
    model: ClassicHopfield | IDPHopfield,
    alpha: Float[Array, " P"],
    current: Float[Array, " N"],
    input_as: str,
) -> ClosedForm:
    """W = (1/N) Σ_μ α_μ ξ^μ ξ^μᵀ, diagonal as the model has it."""
    kept, num_neurons = model.self_coupling, model.memories.shape[1]
    diagonal = jnp.zeros_like(alpha[0]) if kept else jnp.sum(alpha) / num_neurons
    return ClosedForm(
        model.memories,
        model.activation,
        alpha,
        jnp.diag(alpha),
        diagonal,
        current,
        symmetric=True,
        decorrelated=False,
        input_as=input_as,
    )


class DecorrelatedDrive(NamedTuple):
    """What an input does to a decorrelated network."""

    coupling: Float[Array, "P P"]  # W = Ξᵀ coupling Ξ / N
    current: Float[Array, " N"]


class DecorrelatedHopfield(AbstractOneLayerHopfield):
    """Memories that resemble each other, kept apart by the pseudo-inverse rule.

    dx = (−x + W(u) Ψ(x)) dt + σ dB with W(u) = (1/N) Σ_μ α_μ(u) ξ^μ η^μᵀ, where the patterns η^μ
    are dual to the memories, η^μ·ξ^ν = N δ_μν: η = C⁻¹ ξ with the correlations
    C_μν = ξ^μ·ξ^ν / N. So W(u) ξ^ν = α_ν ξ^ν, and what is known of orthogonal memories with
    self-coupling (existence, stability, thresholds) holds for any linearly independent ones. The
    saliencies α = C⁻¹ Ξu / N are the weights of the mixture nearest to u (least squares).

    With `input_as="current"` it is the classic network so changed: all α_μ = 1, u a current.

    Sources: Personnaz, Guyon and Dreyfus, J. Physique Lett. 46, 359 (1985), for α_μ = 1.
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    input_as: str = eqx.field(static=True)
    least_squares: bool = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        activation: AbstractActivation | None = None,
        *,
        input_as: str = "plasticity",
        least_squares: bool = True,
    ):
        """Store the memories.

        Args:
            memories: as for `IDPHopfield`, and linearly independent.
            activation: as for `IDPHopfield`.
            input_as: what the input is to the network: "plasticity", where it weighs the memories,
                or an added "current".
            least_squares: whether a saliency is a weight of the nearest mixture, or as elsewhere
                the projection ξ^μ·u / N, which gives memories a share in what resembles them.

        Raises:
            ValueError: if `memories` is not a (P, N) array of ±1 with independent rows.
            TypeError: if an argument is of another kind.
        """
        self.memories = independent(bipolar(memories))
        self.activation = activation_or_default(activation, self.memories)
        self.input_as = check_choice(input_as, "input_as", ("plasticity", "current"))
        self.least_squares = check_flag(least_squares, "least_squares")

    @property
    def overlap_measures_size(self) -> bool:
        """True: it is one of activities, which saturate from 1/d on."""
        return True

    def overlaps(self, x: Float[Array, " N"]) -> Float[Array, " P"]:
        """m_μ = ξ^μ·Ψ(x) / N, between −1 and 1."""
        return projected(self.memories, self.activation(x))

    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """α(u) = C⁻¹ Ξu / N, or Ξu / N without `least_squares`."""
        alpha = projected(self.memories, u)
        return project(self._inverse, alpha) if self.least_squares else alpha

    def drive(self, u: Float[Array, " N"]) -> DecorrelatedDrive:
        """How the memories are coupled, and the current."""
        inverse = self._inverse
        if self.input_as == "plasticity":
            return DecorrelatedDrive(self.saliency(u)[:, None] * inverse, jnp.zeros_like(u))
        return DecorrelatedDrive(inverse, u)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: DecorrelatedDrive
    ) -> Float[Array, " N"]:
        """−x + W(u) Ψ(x), or −x + W Ψ(x) + u."""
        del t
        parts = project(drive.coupling, self.overlaps(x))
        return -x + project(self.memories.T, parts) + drive.current

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """That of a classic network with a current; NaN with plasticity, where W(u) is unsymmetric.

        Without symmetry no energy is known.
        """
        if self.input_as == "plasticity":
            return jnp.full((), jnp.nan, x.dtype)
        activity, overlaps = self.activation(x), self.overlaps(x)
        own = x @ activity - jnp.sum(self.activation.antiderivative(x))
        return own - x.size / 2 * (overlaps @ project(self._inverse, overlaps)) - u @ activity

    def closed_form(self, u: Float[Array, " N"]) -> ClosedForm:
        """The saliencies and no current, or all α = 1 and u the current; self-coupling kept."""
        inverse, plastic = self._inverse, self.input_as == "plasticity"
        alpha = self.saliency(u) if plastic else jnp.ones_like(self.memories[:, 0])
        return ClosedForm(
            self.memories,
            self.activation,
            alpha,
            alpha[:, None] * inverse,
            jnp.zeros_like(alpha[0]),
            jnp.zeros_like(u) if plastic else u,
            symmetric=not plastic,
            decorrelated=True,
            input_as=self.input_as,
        )

    @property
    def _inverse(self) -> Float[Array, "P P"]:
        """C⁻¹."""
        return inverse_correlations(self.memories, self.present)
