"""Features and memory neurons: the two-layer network, and what is left when the second is fast.

Every memory neuron listens to the features through one pattern, and sends that pattern back. What
it sends is decided by a separation: linear is input-driven plasticity, a power dense memory, a
softmax attention.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import (
    cast_floats,
    check_array,
    check_choice,
    check_flag,
    check_instance,
    check_positive,
    check_values,
    is_bad,
)
from hopjax._errors import ArgumentError, names_keywords
from hopjax.activations import AbstractActivation
from hopjax.models.base import among_present, project, strengths
from hopjax.models.bipolar import (
    AbstractBipolarHopfield,
    AbstractPairedHopfield,
    IDPHopfield,
    activation_or_default,
    bipolar,
)


class AbstractSeparation(eqx.Module):
    """How memory neurons h tell memories apart: a Lagrangian F(h; α), convex in h.

    The neurons tend to g(α) ⊙ m, the overlaps m through the gate g, and send g(α) ⊙ ∂F/∂h. A new
    separation needs `lagrangian`, and the other two methods where it differs from them; and for a
    `capacity` of `solve` a field `present`, as `AbstractHopfield` says.
    """

    @abc.abstractmethod
    def lagrangian(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, ""]:
        """F(h; α)."""

    @abc.abstractmethod
    def gate(self, alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """g(α), which multiplies what the memory neurons receive and what they send."""

    @abc.abstractmethod
    def sent(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """g(α) ⊙ ∂F/∂h, what the features get; finite for every α."""


class LinearSeparation(AbstractSeparation):
    """F = Σ_μ h_μ² / (2 α_μ): memory neurons send what they are. This is the IDP network."""

    def lagrangian(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, ""]:
        """Σ_μ h_μ² / (2 α_μ), without those at rest."""
        return _shares(h**2 / 2, alpha)

    def gate(self, alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """The saliencies themselves."""
        return alpha

    def sent(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """The neurons' own values h."""
        del alpha
        return h


class PowerSeparation(AbstractSeparation):
    """F = Σ_μ |h_μ|ⁿ / (n α_μ), dense memory: the features get sign(h) |h|ⁿ⁻¹.

    n = 2 is the linear separation. It is odd for every n: −ξ is as much a memory as ξ. In the
    reduced network memory μ weighs sign(α_μ) |α_μ|ⁿ⁻¹.

    Sources: Krotov and Hopfield, NeurIPS 2016, for α = 1 and spins.
    """

    power: Float[Array, ""]

    def __init__(self, power: Real[ArrayLike, ""] = 3.0):
        """`power` is n, at least 2.

        Raises:
            TypeError, ValueError: for another number.
        """
        power = check_array(power, "power", ())
        self.power = check_values(power, is_bad(power, lambda n: n >= 2), "power", "at least 2")

    def lagrangian(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, ""]:
        """Σ_μ |h_μ|ⁿ / (n α_μ), without those at rest."""
        return _shares(jnp.abs(h) ** self.power / self.power, alpha)

    def gate(self, alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """The saliencies themselves."""
        return alpha

    def sent(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """sign(h) |h|ⁿ⁻¹."""
        del alpha
        # As h |h|ⁿ⁻², with a derivative at zero: 1 for n = 2, else 0.
        factor = jnp.abs(jnp.where(h == 0, 1, h)) ** (self.power - 2)
        return h * jnp.where(h == 0, (self.power == 2).astype(h.dtype), factor)


class SoftmaxSeparation(AbstractSeparation):
    """F = (1/β) log Σ_μ exp(β h_μ): memory neurons compete, as in attention.

    The gate is z = max(α, 0). The overlaps that are compared are per neuron, so this β is N times
    the one of `DynamicAttention`.
    """

    beta: Float[Array, ""]
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    def __init__(self, beta: Real[ArrayLike, ""]):
        """`beta` is the inverse temperature β, a positive number.

        Raises:
            TypeError, ValueError: for another number.
        """
        self.beta = check_positive(beta, "beta", ())

    def lagrangian(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, ""]:
        """(1/β) log Σ_μ exp(β h_μ)."""
        del alpha
        return jax.nn.logsumexp(self._scores(h)) / self.beta

    def gate(self, alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """Z = max(α, 0)."""
        return jax.nn.relu(alpha)

    def sent(self, h: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, " P"]:
        """z ⊙ softmax(β h)."""
        return self.gate(alpha) * jax.nn.softmax(self._scores(h))

    def _scores(self, h: Float[Array, " P"]) -> Float[Array, " P"]:
        """β h."""
        return among_present(self.present, self.beta * h, -jnp.inf)


def _shares(values: Float[Array, " P"], alpha: Float[Array, " P"]) -> Float[Array, ""]:
    """Σ_μ v_μ / α_μ, where a memory that is not shown and at rest counts nothing."""
    rest = (values == 0) & (alpha == 0)
    return jnp.sum(jnp.where(rest, 0, values) / jnp.where(rest, 1, alpha))


def _separation(separation: AbstractSeparation, dtype) -> AbstractSeparation:
    right = "a separation such as PowerSeparation(3.0)"
    check_instance(separation, AbstractSeparation, "separation", right)
    return cast_floats(separation, dtype)


class DenseHopfield(AbstractBipolarHopfield):
    """One layer of features, with memory neurons so fast that they are always at their goal.

    dx = (−x + Ξᵀ s(g(α) ⊙ m; α)) dt + σ dB with the overlaps m = ΞΨ(x)/N, the gate g and what is
    sent s of the separation: for a power n dense memory, −x + Σ_μ ξ^μ sign(α_μ m_μ) |α_μ m_μ|ⁿ⁻¹,
    for a softmax attention with saturating features. With `input_as="nothing"`, α ≡ 1, it is the
    dense memory of the literature.
    """

    memories: Float[Array, "P N"]
    separation: AbstractSeparation
    activation: AbstractActivation
    input_as: str = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        separation: AbstractSeparation,
        activation: AbstractActivation | None = None,
        *,
        input_as: str = "plasticity",
    ):
        """Store the memories.

        Args:
            memories: as for `IDPHopfield`.
            separation: how memories are told apart.
            activation: as for `IDPHopfield`.
            input_as: what the input is to the network: "plasticity", where it weighs the memories,
                or "nothing", for α ≡ 1.

        Raises:
            ValueError: if `memories` is not a (P, N) array of ±1.
            TypeError: if an argument is of another kind.
        """
        self.memories = bipolar(memories)
        self.separation = _separation(separation, self.memories.dtype)
        self.activation = activation_or_default(activation, self.memories)
        self.input_as = check_choice(input_as, "input_as", ("plasticity", "nothing"))

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """The saliencies α(u), or ones."""
        alpha = self.saliency(u)
        return alpha if self.input_as == "plasticity" else jnp.ones_like(alpha)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: Float[Array, " P"]
    ) -> Float[Array, " N"]:
        """−x + Ξᵀ s(g ⊙ m), with the saliencies as the `drive`."""
        del t
        h = self.separation.gate(drive) * self.overlaps(x)
        return -x + project(self.memories.T, self.separation.sent(h, drive))

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = xᵀΨ − Σᵢ∫₀^{xᵢ}ψ − N F(g ⊙ m; α), so that ∇E = −ψ'(x) ⊙ drift."""
        alpha = self.drive(u)
        # F has a limit at a saliency of zero, and so have its derivatives: next to it.
        alpha = alpha + jnp.where(alpha == 0, 1e-15, 0).astype(alpha.dtype)
        h = self.separation.gate(alpha) * self.overlaps(x)
        return _features_energy(self.activation, x) - x.size * self.separation.lagrangian(h, alpha)


class TwoLayerHopfield(AbstractPairedHopfield):
    """Features x and memory neurons h, each with their own time constant.

    ẋ = −x + Ξᵀ s(h; α), τ_m ḣ = −h + g(α) ⊙ ΞΨ(x)/N, with the gate g and what is sent s of the
    separation. The state is (x, h), of N + P entries. For τ_m → 0 it becomes the network that
    `reduced` returns: with the linear separation, IDP.

    One strength of noise is that of the features; `noise_strength` makes one for each layer.
    """

    memories: Float[Array, "P N"]
    separation: AbstractSeparation
    activation: AbstractActivation
    memory_time_constant: Float[Array, ""]
    self_coupling: bool = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        separation: AbstractSeparation | None = None,
        activation: AbstractActivation | None = None,
        *,
        memory_time_constant: Real[ArrayLike, ""] = 0.1,
        self_coupling: bool = True,
    ):
        """Store the memories.

        Args:
            memories: as for `IDPHopfield`.
            separation: what memory neurons make of what they receive; linear by default.
            activation: of the features, as for `IDPHopfield`.
            memory_time_constant: τ_m, in units of that of the features; a step of dt must not
                exceed it.
            self_coupling: features have no synapses of their own here, but are coupled to
                themselves through the memory neurons. False subtracts the (Σ_μ α_μ / N) Ψ(x) that
                `IDPHopfield` leaves out by default; only for the linear separation.

        Raises:
            ValueError: if `memories` is not a (P, N) array of ±1, or a number is out of range.
            TypeError: if an argument is of another kind.
        """
        self.memories = bipolar(memories)
        dtype = self.memories.dtype
        separation = LinearSeparation() if separation is None else separation
        self.separation = _separation(separation, dtype)
        self.activation = activation_or_default(activation, self.memories)
        tau = check_positive(memory_time_constant, "memory_time_constant", ())
        self.memory_time_constant = tau.astype(dtype)
        self.self_coupling = check_flag(self_coupling, "self_coupling")
        if not self_coupling and not isinstance(self.separation, LinearSeparation):
            raise ArgumentError(
                "self_coupling",
                "True but for the linear separation",
                f"False with {type(self.separation).__name__}",
            )

    @property
    def time_constant_of_memories(self) -> Float[Array, ""]:
        """τ_m, of the memory neurons."""
        return self.memory_time_constant

    def initial_state(self, x0: Float[Array, " N"]) -> Float[Array, " state"]:
        """The features, and memory neurons at zero: nothing has reached them yet."""
        return jnp.append(x0, jnp.zeros_like(self.memories[:, 0]))

    def memory_neurons(self, state: Float[Array, " state"]) -> Float[Array, " P"]:
        """The h of a state (x, h)."""
        return self.of_memories(state)

    def noise_strength(
        self, *, features: Real[ArrayLike, ""] = 0.0, memory_neurons: Real[ArrayLike, ""] = 0.0
    ) -> Float[Array, " state"]:
        """The strength of each entry, for `AdditiveNoise`, with one for each layer."""
        return strengths(self, features, memory_neurons=memory_neurons)

    def reduced(self) -> IDPHopfield | DenseHopfield:
        """The one-layer network of τ_m → 0."""
        if isinstance(self.separation, LinearSeparation):
            return IDPHopfield(self.memories, self.activation, self_coupling=self.self_coupling)
        return DenseHopfield(self.memories, self.separation, self.activation)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " state"], drive: Float[Array, " P"]
    ) -> Float[Array, " state"]:
        """(ẋ, ḣ), with the saliencies of u as the `drive`."""
        del t
        features, h = self.features(x), self.memory_neurons(x)
        received = self.separation.gate(drive) * self.overlaps(x)
        moved = -features + project(self.memories.T, self.separation.sent(h, drive))
        if not self.self_coupling:
            moved = moved - jnp.sum(drive) / features.size * self.activation(features)
        return jnp.append(moved, (received - h) / self.memory_time_constant)

    def energy(self, x: Float[Array, " state"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = xᵀΨ − Σᵢ∫₀^{xᵢ}ψ + N (hᵀ∂F − F(h; α) − mᵀs(h; α)).

        dE/dt = −Σᵢ ψ'ẋᵢ² − N τ_m ḣᵀ(∂²F)ḣ. This falls as long as F is convex, for linear and power
        separations as long as all saliencies are positive: a memory with a negative one is pushed
        away, and its neuron may take energy up. A memory neuron that is not at rest while its
        saliency is exactly zero makes E infinite. Without self-coupling ½ S|Ψ|² is added.
        """
        alpha, features, h = self.saliency(u), self.features(x), self.memory_neurons(x)
        value, slope = jax.value_and_grad(self.separation.lagrangian)(h, alpha)
        sent = self.overlaps(x) @ self.separation.sent(h, alpha)
        energy = _features_energy(self.activation, features)
        # Where F is infinite so is hᵀ∂F − F, which is at least its half there.
        rest = jnp.where(jnp.isinf(value), jnp.inf, h @ slope - value)
        energy = energy + features.size * (rest - sent)
        if not self.self_coupling:
            energy = energy + jnp.mean(self.activation(features) ** 2) * jnp.sum(alpha) / 2
        return energy


def _features_energy(activation: AbstractActivation, x: Float[Array, " N"]) -> Float[Array, ""]:
    """xᵀΨ − Σᵢ∫₀^{xᵢ}ψ, the neurons' own share of the energy."""
    return x @ activation(x) - jnp.sum(activation.antiderivative(x))
