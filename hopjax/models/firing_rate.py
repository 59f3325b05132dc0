"""The firing-rate twin: neurons that are silent or active, memories of 0 and 1."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import (
    check_array,
    check_choice,
    check_positive,
    check_values,
    is_bad,
    is_traced,
)
from hopjax._errors import names_keywords, warn
from hopjax.models.base import AbstractOneLayerHopfield, among_present, check_memories, project

INPUT_GAIN = 1.25  # of the coupling that is plastic, from the authors' scripts


class FiringRateDrive(NamedTuple):
    """What an input does to a firing-rate network."""

    weights: Float[Array, " P"]  # of the memories in W, without 1/(N p (1 − p))
    diagonal: Float[Array, " N"]  # of W, which is subtracted
    current: Float[Array, " N"]


class FiringRateHopfield(AbstractOneLayerHopfield):
    """Rates between 0 and 1, and memories of 0 and 1 of any density p.

    dx = (−x + φ(W(u) x)) dt + σ dB, φ(v) = 1/(1 + exp(d (1 − 2v))), with
    W(u) = 1.25/(N p (1−p)) Σ_μ α_μ (ξ^μ−p)(ξ^μ−p)ᵀ − 1/(N p) 𝟙𝟙ᵀ and the saliencies
    α_μ(u) = (ξ^μ−p)·u / (N p). The diagonal of W is zero.

    With `input_as="current"` it is the classic network, dx = (−x + φ(W x + u)) dt + σ dB with
    W = 1/(N p (1−p)) Σ_μ (ξ^μ−p)(ξ^μ−p)ᵀ, no inhibition, and the same zero diagonal.

    The overlaps are centred: with the plain mean activity of a memory's active neurons a network
    that is on everywhere would show all memories at once.

    When does it hold a memory? For many neurons, few memories and no noise, at slope 10: the
    plastic network from a saliency of 1.341/(1 − p) on, which some input always gives (the
    input w ξ^μ gives w (1 − p)). The classic network holds its memories without an input, say
    after a pulse, up to a density of p = .324; above it they all fade, and a warning says so when
    such a network is made. For other slopes: `theory.least_rate_saliency` and
    `theory.largest_rate_density`.
    """

    memories: Float[Array, "P N"]
    density: Float[Array, ""]
    slope: Float[Array, ""]
    input_as: str = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        density: Real[ArrayLike, ""] | None = None,
        *,
        slope: Real[ArrayLike, ""] = 10.0,
        input_as: str = "plasticity",
    ):
        """Store the memories.

        Args:
            memories: patterns ξ^μ in rows, every entry 0 or 1, none all 0 or all 1.
            density: p, between 0 and 1; by default the share of ones in `memories`.
            slope: d; φ rises from 0 to 1 around ½ with slope d/2.
            input_as: what the input is to the network: "plasticity", where it weighs the memories,
                or an added "current".

        Raises:
            ValueError: if `memories` is not a (P, N) array of 0 and 1, or a number out of range.
            TypeError: if an argument is of another kind.
        """
        memories = check_memories(memories)
        right = "0 or 1 in every entry"
        wrong = is_bad(memories, lambda m: (m == 0) | (m == 1))
        memories = check_values(memories, wrong, "memories", right)
        right = "neither all 0 nor all 1 in any row"
        uniform = is_bad(memories, lambda m: _is_share(m.mean(axis=1, keepdims=True)))
        self.memories = check_values(memories, uniform, "memories", right)
        density = check_array(jnp.mean(memories) if density is None else density, "density", ())
        density = check_values(density, is_bad(density, _is_share), "density", "between 0 and 1")
        self.density = density.astype(memories.dtype)
        self.slope = check_positive(slope, "slope", ()).astype(memories.dtype)
        self.input_as = check_choice(input_as, "input_as", ("plasticity", "current"))
        if self.input_as == "current" and not is_traced((self.memories, self.density, self.slope)):
            self._warn_if_all_fade()

    def activity(self, v: Float[Array, " N"]) -> Float[Array, " N"]:
        """φ(v) = 1/(1 + exp(d (1 − 2v))), between 0 and 1."""
        return jax.nn.sigmoid(self.slope * (2 * v - 1))

    @property
    def overlap_measures_size(self) -> bool:
        """True: active and silent neurons are on either side of a rate of ½."""
        return True

    def overlaps(self, x: Float[Array, " N"]) -> Float[Array, " P"]:
        """c_μ = (mean of φ(x) over the active neurons of ξ^μ − mean of φ(x)) / (1 − p_μ).

        p_μ is the memory's own density, so that a perfect copy has 1. It is the mean over the
        memory's active neurons minus that over its silent ones, between −1 and 1.
        """
        active = among_present(self.present, jnp.sum(self.memories, axis=1), 1)
        activity = self.activity(x)
        contrast = project(self.memories, activity) / active - jnp.mean(activity)
        return among_present(self.present, contrast / (1 - active / x.size))

    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """α_μ(u) = (ξ^μ−p)·u / (N p)."""
        return among_present(self.present, self._centred(u) / (u.size * self.density))

    def drive(self, u: Float[Array, " N"]) -> FiringRateDrive:
        """Weights of the memories, the diagonal of W, and the current."""
        p, num_neurons = self.density, self.memories.shape[1]
        weights = among_present(self.present, jnp.ones_like(self.memories[:, 0]))
        inhibition = 0.0
        current = u
        if self.input_as == "plasticity":
            weights, inhibition = INPUT_GAIN * self.saliency(u), 1 / (num_neurons * p)
            current = jnp.zeros_like(u)
        # (ξ − p)² is p² where ξ is 0 and p² + 1 − 2p where it is 1.
        squares = p**2 * jnp.sum(weights) + (1 - 2 * p) * project(self.memories.T, weights)
        return FiringRateDrive(weights, squares / self._unit - inhibition, current)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: FiringRateDrive
    ) -> Float[Array, " N"]:
        """−x + φ(W(u) x), or −x + φ(W x + u)."""
        del t
        return -x + self.activity(self._coupled(x, drive) + drive.current)

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = −½ xᵀWx − iᵀx + Σᵢ∫₀^{xᵢ}φ⁻¹ with the current i, defined on the cube [0, 1]ᴺ.

        Without noise the state enters the cube, never leaves it, and E never rises there. A state
        that noise has driven out is judged at the nearest point of the cube.
        """
        x, drive = jnp.clip(x, 0, 1), self.drive(u)
        entropy = jax.scipy.special.entr(x) + jax.scipy.special.entr(1 - x)
        own = jnp.sum(x / 2 - entropy / (2 * self.slope))
        return own - x @ (self._coupled(x, drive) / 2 + drive.current)

    def _warn_if_all_fade(self):
        """Say so if no memory is a state of the classic network without an input."""
        largest_share = np.asarray(self.memories, float).mean(axis=1).max()
        density, slope = float(self.density), float(self.slope)
        drives = np.arange(0, 40, 0.01)  # all rates from ½ to 1
        if holding_strength(drives, slope, density, largest_share).max() < 1:
            warn(
                f"Without an input this classic network holds no memory: at density {density:.3g} "
                f"and slope {slope:.3g} all of them fade. `hopjax.theory.largest_rate_density` "
                "says up to which density memories are held.",
            )

    @property
    def _unit(self) -> Float[Array, ""]:
        return self.memories.shape[1] * self.density * (1 - self.density)

    def _centred(self, vector: Float[Array, " N"]) -> Float[Array, " P"]:
        """(ξ^μ−p)·v for each memory."""
        return project(self.memories, vector) - self.density * jnp.sum(vector)

    def _coupled(self, x: Float[Array, " N"], drive: FiringRateDrive) -> Float[Array, " N"]:
        """W x."""
        parts = drive.weights * self._centred(x)
        coupled = project(self.memories.T, parts) - self.density * jnp.sum(parts)
        coupled = coupled / self._unit - drive.diagonal * x
        if self.input_as == "plasticity":
            coupled = coupled - jnp.sum(x) / (x.size * self.density)
        return coupled


def holding_strength(drive: Any, slope: Any, density: Any, share: Any) -> Any:
    """How much of the field that holds a memory its own neurons make in a classic network.

    For many neurons, few memories and no input the field of a memory, of a share f of ones, is
    C (ξ − p) with C = (f/p) a − ((1 − f)/(1 − p)) b, where its active neurons have the rate a and
    its silent ones b = φ(−p C). The active ones rest at a = φ(v) = 1/(1 + exp(−y)), y = d (2v − 1)
    being their `drive`, if C = v/(1 − p). The strength is the first C over the second one: the
    memory is held, at a rate of ½ or more, if the strength reaches 1 for some y ≥ 0.
    """
    xp = jnp if is_traced((drive, slope, density, share)) else np
    needed = (1 + drive / slope) / (2 * (1 - density))
    # φ as a hyperbolic tangent, which does not overflow.
    active = (1 + xp.tanh(drive / 2)) / 2
    silent = (1 + xp.tanh(-slope * (density * needed + 0.5))) / 2
    return (share / density * active - (1 - share) / (1 - density) * silent) / needed


def _is_share(p):
    return (p > 0) & (p < 1)
