"""Attention as a network in continuous time, its keys and values the memories."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import check_choice, check_flag, check_positive, check_values, is_bad
from hopjax._errors import names_keywords
from hopjax.models.base import (
    AbstractOneLayerHopfield,
    among_present,
    check_memories,
    independent,
    inverse_correlations,
    project,
    projected,
)


class DynamicAttention(AbstractOneLayerHopfield):
    """Attention to the memories that the input makes salient.

    dx = (−x + Mᵀ[z ⊙ softmax(β z ⊙ Mx)]) dt + σ dB, with the memories in the rows of M and the
    gate z = max(α(u), 0). The state is compared with the memories and moves to the mean of those
    that it resembles, while the input says which ones count. With `input_as="nothing"`, z ≡ 1, it
    is the modern Hopfield network in continuous time, where what is asked has to be the initial
    state.

    Sources: Ramsauer et al., ICLR 2021 (arXiv:2008.02217), for z ≡ 1.
    """

    memories: Float[Array, "P N"]
    beta: Float[Array, ""]
    input_as: str = eqx.field(static=True)
    least_squares: bool = eqx.field(static=True)
    present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)

    @names_keywords
    def __init__(
        self,
        memories: Real[ArrayLike, "P N"],
        beta: Real[ArrayLike, ""],
        *,
        input_as: str = "plasticity",
        least_squares: bool = False,
    ):
        """Store the memories.

        Args:
            memories: patterns of any real numbers in rows, none all zero.
            beta: the inverse temperature β. It multiplies inner products, which grow with N: what
                counts is β N, say 10 to 30 for memories of ±1.
            input_as: what the input is to the network: "plasticity", where it weighs the memories,
                or "nothing", for z ≡ 1.
            least_squares: whether a saliency is a weight of the mixture nearest to the input,
                rather than a projection: better if memories resemble each other, which must then
                be linearly independent.

        Raises:
            ValueError: if `memories` is not a (P, N) array without empty rows, or β not positive.
            TypeError: if an argument is of another kind.
        """
        memories = check_memories(memories, finite=True)
        empty = is_bad(memories, lambda rows: abs(rows).max(axis=1, keepdims=True) > 0)
        self.memories = check_values(memories, empty, "memories", "not zero in all of a row")
        self.beta = check_positive(beta, "beta", ()).astype(memories.dtype)
        self.input_as = check_choice(input_as, "input_as", ("plasticity", "nothing"))
        self.least_squares = check_flag(least_squares, "least_squares")
        if least_squares:
            self.memories = independent(self.memories)

    @property
    def overlap_measures_size(self) -> bool:
        """False: it is a cosine."""
        return False

    def overlaps(self, x: Float[Array, " N"]) -> Float[Array, " P"]:
        """The cosine between the state and each memory; 0 for a state of zero."""
        norms = jnp.sum(x * x) * jnp.sum(self.memories**2, axis=1)
        positive = norms > 0
        root = jnp.sqrt(jnp.where(positive, norms, 1))
        return jnp.where(positive, project(self.memories, x) / root, 0)

    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """α_μ(u) = ξ^μ·u / |ξ^μ|², for memories of ±1 as everywhere; or by least squares."""
        if self.least_squares:
            inverse = inverse_correlations(self.memories, self.present)
            return project(inverse, projected(self.memories, u))
        squares = among_present(self.present, jnp.sum(self.memories**2, axis=1), 1)
        return project(self.memories, u) / squares

    def drive(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """The gate z."""
        alpha = self.saliency(u)
        return jax.nn.relu(alpha) if self.input_as == "plasticity" else jnp.ones_like(alpha)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " N"], drive: Float[Array, " P"]
    ) -> Float[Array, " N"]:
        """−x + Mᵀ[z ⊙ softmax(β z ⊙ Mx)], with the gate as the `drive`; exactly −∇E."""
        del t
        attention = jax.nn.softmax(self._scores(x, drive))
        return -x + project(self.memories.T, drive * attention)

    def energy(self, x: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """E = ½|x|² − (1/β) log Σ_μ exp(β z_μ ξ^μ·x)."""
        return x @ x / 2 - jax.nn.logsumexp(self._scores(x, self.drive(u))) / self.beta

    def _scores(self, x: Float[Array, " N"], drive: Float[Array, " P"]) -> Float[Array, " P"]:
        """β z ⊙ Mx."""
        scores = self.beta * drive * project(self.memories, x)
        return among_present(self.present, scores, -jnp.inf)
