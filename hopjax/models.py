"""Hopfield networks: what an input does to them (`drive`) and how they move (`drift`).

Time is in units of the neuron's time constant. With additive noise of strength σ the models are
dx = drift dt + σ dB, where Itô and Stratonovich coincide. No N x N matrix is ever formed: the
coupling costs two thin products with the (P, N) memories.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from hopjax._checks import (
    cast_floats,
    check_array,
    check_flag,
    check_instance,
    check_values,
    is_bad,
)
from hopjax.activations import AbstractActivation, Tanh


class AbstractHopfield(eqx.Module):
    """The protocol of every model: whatever has these methods can be solved.

    The state is one flat array of `state_size` entries; the N neurons that carry the memories
    are its `features`. Everything is written for one network; use `jax.vmap` for many.
    """

    memories: eqx.AbstractVar[Float[Array, "P N"]]

    @property
    @abc.abstractmethod
    def state_size(self) -> int:
        """Number of entries of the state."""

    @property
    @abc.abstractmethod
    def fastest_time_constant(self) -> float:
        """The shortest relaxation time of the model: an explicit step must not exceed it."""

    @abc.abstractmethod
    def initial_state(self, x0: Float[Array, " N"]) -> Float[Array, " state"]:
        """The full state that starts with the given features."""

    @abc.abstractmethod
    def features(self, state: Float[Array, " state"]) -> Float[Array, " N"]:
        """The N neurons that carry the memories."""

    @abc.abstractmethod
    def drive(self, u: Float[Array, " N"]) -> PyTree[Array]:
        """What an input does to the network: computed once per input, not once per step."""

    @abc.abstractmethod
    def drift(
        self, t: Float[Array, ""], x: Float[Array, " state"], drive: Any
    ) -> Float[Array, " state"]:
        """The deterministic velocity dx/dt under an input of the given `drive`."""

    @abc.abstractmethod
    def energy(self, x: Float[Array, " state"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E(x; u), which never rises along the noiseless flow at constant u."""

    @abc.abstractmethod
    def overlaps(self, x: Float[Array, " state"]) -> Float[Array, " P"]:
        """How much of each memory the state shows, 1 for a perfect copy."""

    @abc.abstractmethod
    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """How much of each memory the input contains, α(u)."""


class AbstractBipolarHopfield(AbstractHopfield):
    """Networks whose state is the N neurons themselves and whose memories are ±1 patterns.

    A new one needs the fields `memories` and `activation`, and `drive`, `drift` and `energy`.
    """

    activation: eqx.AbstractVar[AbstractActivation]

    @property
    def state_size(self) -> int:
        """N, the number of neurons."""
        return self.memories.shape[1]

    @property
    def fastest_time_constant(self) -> float:
        """1: time is measured in the neuron's time constant."""
        return 1.0

    def initial_state(self, x0: Float[Array, " N"]) -> Float[Array, " N"]:
        """`x0` itself."""
        return x0

    def features(self, state: Float[Array, " N"]) -> Float[Array, " N"]:
        """The state itself."""
        return state

    def overlaps(self, x: Float[Array, " N"]) -> Float[Array, " P"]:
        """m_μ = ξ^μ·Ψ(x) / N, between −1 and 1."""
        return _project(self.memories, self.activation(x)) / self.memories.shape[1]

    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """α_μ(u) = ξ^μ·u / N."""
        return _project(self.memories, u) / self.memories.shape[1]


def _project(rows: Float[Array, "a b"], vector: Float[Array, " b"]) -> Float[Array, " a"]:
    # Full float32: on a GPU the default would round Ψ to ten bits. In this order a batch of
    # vectors keeps its layout, so XLA sees equal products as equal and computes them once.
    return jnp.matmul(vector, rows.T, precision="highest")


def _bipolar(memories: Any) -> Float[Array, "P N"]:
    memories = check_array(memories, "memories", ("P", "N"), finite=False)
    if 0 in memories.shape:
        raise ValueError(
            "Argument `memories` must have at least one memory and one neuron, got shape "
            f"{memories.shape}."
        )
    return check_values(
        memories, is_bad(memories, lambda m: abs(m) == 1), "memories", "-1 or +1 in every entry"
    )


def _activation(
    activation: AbstractActivation | None, memories: Float[Array, "P N"]
) -> AbstractActivation:
    if activation is None:
        activation = Tanh()
    check_instance(
        activation, AbstractActivation, "activation", "an activation such as Tanh(slope=10.0)"
    )
    # One dtype throughout, that of the memories.
    return cast_floats(activation, memories.dtype)


class ClassicHopfield(AbstractBipolarHopfield):
    """The classic network: the input is an added current and the synapses stay as they are.

    dx = (−x + W Ψ(x) + u) dt + σ dB with W = (1/N) Σ_μ ξ^μ ξ^μᵀ. Without `self_coupling` the
    diagonal of W is zero, which subtracts (P/N) Ψ(x) from the drift.
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    self_coupling: bool = eqx.field(static=True)

    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        activation: AbstractActivation | None = None,
        *,
        self_coupling: bool = False,
    ):
        """See `IDPHopfield`: the arguments are the same."""
        self.memories = _bipolar(memories)
        self.activation = _activation(activation, self.memories)
        self.self_coupling = check_flag(self_coupling, "self_coupling")

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " N"]:
        """The current, u itself."""
        return u

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, " N"]:
        """−x + W Ψ(x) + u, with u the `drive`."""
        del t
        return -x + _coupled(self, jnp.ones_like(self.memories[:, 0]), x) + drive

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = −½ΨᵀWΨ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ − uᵀΨ, so that ∇E = −ψ'(x) ⊙ drift."""
        return _energy(self, jnp.ones_like(self.memories[:, 0]), x) - u @ self.activation(x)


class IDPHopfield(AbstractBipolarHopfield):
    """Input-driven plasticity: the input weighs the memories and so reshapes the energy.

    dx = (−x + W(u) Ψ(x)) dt + σ dB with W(u) = (1/N) Σ_μ α_μ(u) ξ^μ ξ^μᵀ and the saliencies
    α_μ(u) = ξ^μ·u / N: the memory that matches the input best has the deepest well. Without
    `self_coupling` the diagonal of W(u) is zero, which subtracts (Σ_μ α_μ / N) Ψ(x).
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    self_coupling: bool = eqx.field(static=True)

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
        self.memories = _bipolar(memories)
        self.activation = _activation(activation, self.memories)
        self.self_coupling = check_flag(self_coupling, "self_coupling")

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """The saliencies α(u), which are all the network gets to know of the input."""
        return self.saliency(u)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: Float[Array, " P"]
    ) -> Float[Array, " N"]:
        """−x + W(u) Ψ(x), with the saliencies of u as the `drive`."""
        del t
        return -x + _coupled(self, drive, x)

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = −½ΨᵀW(u)Ψ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ, so that ∇E = −ψ'(x) ⊙ drift."""
        return _energy(self, self.saliency(u), x)


def _coupled(
    model: ClassicHopfield | IDPHopfield, weights: Float[Array, " P"], x: Float[Array, " N"]
) -> Float[Array, " N"]:
    """W Ψ(x) for W = (1/N) Σ_μ w_μ ξ^μ ξ^μᵀ, diagonal as the model has it."""
    num_neurons = model.memories.shape[1]
    activity = model.activation(x)
    coupled = _project(model.memories.T, weights * _project(model.memories, activity) / num_neurons)
    if not model.self_coupling:
        coupled = coupled - jnp.sum(weights) / num_neurons * activity
    return coupled


def _energy(
    model: ClassicHopfield | IDPHopfield, weights: Float[Array, " P"], x: Float[Array, " N"]
) -> Float[Array, ""]:
    """−½ΨᵀWΨ + xᵀΨ − Σᵢ∫₀^{xᵢ}ψ for the coupling of `_coupled`."""
    activity = model.activation(x)
    return (
        -activity @ _coupled(model, weights, x) / 2
        + x @ activity
        - jnp.sum(model.activation.antiderivative(x))
    )
