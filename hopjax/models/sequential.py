"""A network that goes from memory to memory on its own, at the pace of slow saliencies."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import (
    check_array,
    check_flag,
    check_positive,
    check_values,
    is_bad,
)
from hopjax._errors import ArgumentError, names_keywords
from hopjax.activations import AbstractActivation, HardTanh
from hopjax.models.base import OF_MEMORIES, among_present, project, projected, strengths
from hopjax.models.bipolar import (
    AbstractPairedHopfield,
    activation_or_default,
    bipolar,
    coupled,
    energy_of,
)


class SequentialHopfield(AbstractPairedHopfield):
    """Input-driven plasticity whose saliencies are driven by what the network itself retrieves.

    ẋ = −x + W(α) Ψ(x) with W(α) = (1/N) Σ_μ α_μ ξ^μ ξ^μᵀ and the saliencies α = α(u) + s, of
    which those of the input are α_μ(u) = ξ^μ·u / N, and the network's own are slow:
    τ_s ṡ = −s + κ A |m(x)|, with the overlaps m = ΞΨ(x)/N. While a memory is active its saliency
    decays and those that A makes follow it grow, until it is left for one of these. The state is
    (x, s), of N + P entries. Without `self_coupling` the diagonal of W is zero, which subtracts
    (Σ_μ α_μ / N) Ψ(x).

    With hard saturation, orthogonal memories, τ_s → ∞ and no noise or input, the saliency Z with
    which a memory becomes active gives the next one κ (1 − 1/Z), a time τ_s ln Z later; so the
    sequence ends unless κ ≥ 4. `theory.critical_gain` has that for other activations and noise.
    An input still acts: it can start (with `initial_saliencies` of zero), steer, hold or end a
    sequence.

    One strength of noise is that of the features; `noise_strength` makes one for the saliencies
    too. The model was derived here. It has the threshold and the map that Betteti, Baggio, Bullo
    and Zampieri state (arXiv 2603.03201), whose own equations may be others.
    """

    memories: Float[Array, "P N"]
    activation: AbstractActivation
    gain: Float[Array, ""]
    time_constant: Float[Array, ""]
    transitions: Float[Array, "P P"] | None = eqx.field(metadata=OF_MEMORIES)
    cyclic: bool = eqx.field(static=True)
    initial_saliencies: Float[Array, " P"] | None = eqx.field(metadata=OF_MEMORIES)
    self_coupling: bool = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        activation: AbstractActivation | None = None,
        *,
        gain: Real[ArrayLike, ""] = 5.0,
        time_constant: Real[ArrayLike, ""] = 50.0,
        transitions: Real[ArrayLike, "P P"] | None = None,
        cyclic: bool = True,
        initial_saliencies: Real[ArrayLike, " P"] | None = None,
        self_coupling: bool = False,
    ):
        """Store the memories.

        Args:
            memories: as for `IDPHopfield`.
            activation: Ψ; by default `HardTanh(slope=1.0)`.
            gain: κ, zero or positive.
            time_constant: τ_s, in units of that of the features.
            transitions: A, of which A[ν, μ] is what memory μ gives to memory ν, zero or positive:
                with several in a column chance decides which one follows. By default each memory
                gives 1 to the next one, however many there are; a matrix of your own has to be
                given anew to `with_memory` and `without_memory`.
            cyclic: whether by default the last memory is followed by the first; else it is the
                end.
            initial_saliencies: s at the start; by default κ for the memory whose overlap with the
                initial state is the largest in magnitude, and 0 for the others.
            self_coupling: as for `IDPHopfield`.

        Raises:
            ValueError: if `memories` is not a (P, N) array of ±1, or a number is out of range.
            TypeError: if an argument is of another kind.
        """
        self.memories = bipolar(memories)
        dtype, num_memories = self.memories.dtype, self.memories.shape[0]
        activation = HardTanh() if activation is None else activation
        self.activation = activation_or_default(activation, self.memories)
        gain = check_array(gain, "gain", ())
        self.gain = _not_negative(gain, "gain").astype(dtype)
        tau = check_positive(time_constant, "time_constant", ())
        self.time_constant = tau.astype(dtype)
        self.cyclic = check_flag(cyclic, "cyclic")
        self.transitions = None
        if transitions is not None:
            shape = (num_memories, num_memories)
            matrix = check_array(transitions, "transitions", shape)
            self.transitions = _not_negative(matrix, "transitions").astype(dtype)
            if not cyclic:
                raise ArgumentError("cyclic", "True where `transitions` are given", cyclic)
        self.initial_saliencies = None
        if initial_saliencies is not None:
            start = check_array(initial_saliencies, "initial_saliencies", (num_memories,))
            self.initial_saliencies = start.astype(dtype)
        self.self_coupling = check_flag(self_coupling, "self_coupling")

    @property
    def time_constant_of_memories(self) -> Float[Array, ""]:
        """τ_s, of the slow saliencies."""
        return self.time_constant

    def initial_state(self, x0: Float[Array, " N"]) -> Float[Array, " state"]:
        """The features, and the saliencies with which a sequence starts."""
        if self.initial_saliencies is not None:
            return jnp.append(x0, self.initial_saliencies)
        overlaps = jnp.abs(projected(self.memories, self.activation(x0)))
        first = jnp.arange(overlaps.shape[0]) == jnp.argmax(overlaps)
        return jnp.append(x0, jnp.where(first, self.gain, 0))

    def slow_saliencies(self, state: Float[Array, " state"]) -> Float[Array, " P"]:
        """The s of a state (x, s)."""
        return self.of_memories(state)

    def noise_strength(
        self, *, features: Real[ArrayLike, ""] = 0.0, saliencies: Real[ArrayLike, ""] = 0.0
    ) -> Float[Array, " state"]:
        """The strength of each entry, for `AdditiveNoise`, with one for x and one for s."""
        return strengths(self, features, saliencies=saliencies)

    @property
    def transition_matrix(self) -> Float[Array, "P P"]:
        """A, also where it is not given."""
        single = jnp.eye(self.memories.shape[0], dtype=self.memories.dtype)
        return jax.vmap(self._followers, out_axes=1)(single)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " state"], drive: Float[Array, " P"]
    ) -> Float[Array, " state"]:
        """(ẋ, ṡ), with the saliencies of u as the `drive`."""
        del t
        features, own = self.features(x), self.slow_saliencies(x)
        moved = -features + coupled(self, drive + own, features)
        given = self.gain * self._followers(jnp.abs(self.overlaps(x)))
        return jnp.append(moved, (given - own) / self.time_constant)

    def energy(self, x: Float[Array, " state"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """NaN: none is known of features and saliencies together; see `fast_energy`."""
        del u
        return jnp.full((), jnp.nan, x.dtype)

    def fast_energy(self, x: Float[Array, " state"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E(x; α) of `IDPHopfield`, at the saliencies α = α(u) + s that there are.

        The features descend it as long as the saliencies hardly move.
        """
        alpha = self.saliency(u) + self.slow_saliencies(x)
        return energy_of(self, alpha, self.features(x))

    def _followers(self, sizes: Float[Array, " P"]) -> Float[Array, " P"]:
        """A times what there is of each memory."""
        if self.transitions is not None:
            return project(self.transitions, sizes)
        last = sizes[-1] if self.present is None else sizes[jnp.sum(self.present) - 1]
        first = last if self.cyclic else jnp.zeros_like(last)
        return among_present(self.present, jnp.append(first, sizes[:-1]))


def _not_negative(array: Any, name: str) -> Float[Array, "..."]:
    return check_values(array, is_bad(array, lambda a: a >= 0), name, "zero or positive")
