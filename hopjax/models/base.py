"""The protocol of every model, and the models whose state is their neurons.

Time is in units of the neuron's time constant. With additive noise of strength σ the models are
dx = drift dt + σ dB, where Itô and Stratonovich coincide. No N x N matrix is ever formed: a
coupling costs two thin products with the (P, N) memories.
"""

import abc
import dataclasses
import math
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Real

from hopjax._checks import check_array, check_index, check_values, is_traced
from hopjax._errors import ArgumentError

_Model = TypeVar("_Model", bound="AbstractHopfield")  # not Self, which beartype does not know here


# Marks a further field with an entry, or a row and a column, for each memory.
OF_MEMORIES = {"of_memories": True}


class AbstractHopfield(eqx.Module):
    """The protocol of every model: whatever has these methods can be solved.

    The state is one flat array of `state_size` entries; the N neurons that carry the memories
    are its `features`. Everything is written for one network; use `jax.vmap` for many. The
    arguments of the constructor are the fields, or `with_memory` has to be written anew.

    A model may also have `relaxation_rates`, which `ExponentialAdams` needs: the λ of
    dx/dt = −λ ⊙ x + F with a bounded F, one number or one per entry of the state.

    A `capacity` of `solve` puts rows of zeros, for absent memories, behind those that there are.
    A network that leaves them out says so by a field of its own class,
    `present: Bool[Array, " P"] | None = eqx.field(default=None, init=False)`, which then tells
    which rows are memories: where a row of zeros would count (in a softmax, a number of memories,
    an inverse), `present` takes it out. Overlaps of absent memories are 0, and if the state has
    entries for memories, those of absent ones are its last.
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

    @property
    @abc.abstractmethod
    def overlap_measures_size(self) -> bool:
        """Whether the overlap of a state falls when the state shrinks towards zero.

        An overlap of activities does, below 1/d of an activation of slope d: the steeper this is,
        the smaller the states that it takes for full ones. A cosine does not, as it knows no size:
        a `Criterion` then asks for a least amplitude, if not told otherwise.
        """

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
        """E(x; u), which never rises along the noiseless flow at constant u; NaN without one."""

    @abc.abstractmethod
    def overlaps(self, x: Float[Array, " state"]) -> Float[Array, " P"]:
        """How much of each memory the state shows, from −1 to 1, which is a perfect copy."""

    @abc.abstractmethod
    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """How much of each memory the input contains, α(u)."""

    def with_memory(self: _Model, pattern: Real[ArrayLike, " N"], **changes: Any) -> _Model:
        """The network that has learnt one more memory, its last one; all else stays as it is.

        Another number of memories is another shape: the next solve compiles anew, unless it has a
        `capacity`.

        Args:
            pattern: the memory.
            changes: other arguments of the network that change with it, such as the `transitions`
                of a `SequentialHopfield`.

        Raises:
            TypeError, ValueError: for a pattern that this kind of network cannot hold.
        """
        num_neurons = self.memories.shape[1]
        pattern = check_array(pattern, "pattern", (num_neurons,), finite=False)
        rows = [self.memories, pattern[None].astype(self.memories.dtype)]
        memories = jnp.asarray(_numpy(rows).concatenate(rows))
        try:
            return dataclasses.replace(self, memories=memories, **changes)
        except ValueError as error:
            if getattr(error, "name", "memories") != "memories":
                raise
            raise ArgumentError("pattern", "a further memory", hint=error) from error

    def without_memory(self: _Model, index: int, **changes: Any) -> _Model:
        """The network that has forgotten a memory; those behind it move up by one.

        Args:
            index: the memory's number.
            changes: as for `with_memory`.

        Raises:
            TypeError, ValueError: for what is not the number of a memory, or for the only one.
        """
        num_memories = self.memories.shape[0]
        index = check_index(index, "index", num_memories, "memories")
        if num_memories == 1:
            raise ArgumentError("index", "a memory", f"{index}, the only one", must="leave")
        memories = _numpy(self.memories).delete(self.memories, index, axis=0)
        return dataclasses.replace(self, memories=jnp.asarray(memories), **changes)


class AbstractOneLayerHopfield(AbstractHopfield):
    """Networks whose state is the N neurons themselves."""

    @property
    def state_size(self) -> int:
        """N, the number of neurons."""
        return self.memories.shape[1]

    @property
    def fastest_time_constant(self) -> float:
        """1: time is measured in the neuron's time constant."""
        return 1.0

    @property
    def relaxation_rates(self) -> float | Float[Array, ""] | Float[Array, " state"]:
        """1, as a drift here is −x and something bounded; one that is not has to say otherwise."""
        return 1.0

    def initial_state(self, x0: Float[Array, " N"]) -> Float[Array, " N"]:
        """`x0` itself."""
        return x0

    def features(self, state: Float[Array, " N"]) -> Float[Array, " N"]:
        """The state itself."""
        return state


def is_feature(model: AbstractHopfield) -> Bool[Array, " state"]:
    """Which entries of a network's state are features, and not of what else it has."""
    state = jnp.zeros(model.state_size, model.memories.dtype)
    features, back = jax.vjp(model.features, state)
    return back(jnp.ones_like(features))[0] != 0


def strengths(
    model: AbstractHopfield, features: Real[ArrayLike, ""], **others: Real[ArrayLike, ""]
) -> Float[Array, " state"]:
    """The strength of noise of each entry of a state: one of all features, one of those behind."""
    given = {"features": features, **others}
    numbers = [check_array(value, name, ()) for name, value in given.items()]
    num_neurons = model.memories.shape[1]
    sizes = num_neurons, model.state_size - num_neurons
    return jnp.concatenate(
        [jnp.full(n, s, model.memories.dtype) for n, s in zip(sizes, numbers, strict=True)]
    )


def _numpy(arrays: Any) -> Any:
    """NumPy, which compiles nothing, for what is not traced."""
    return jnp if is_traced(arrays) else np


def among_present(
    present: Bool[Array, " P"] | None, values: Float[Array, " P"], absent: float = 0.0
) -> Float[Array, " P"]:
    """The values of memories, with another in place of those of absent ones; None for none."""
    return values if present is None else jnp.where(present, values, absent)


def project(rows: Float[Array, "a b"], vector: Float[Array, " b"]) -> Float[Array, " a"]:
    """The inner product of each row with a vector."""
    # Full float32: on a GPU the default would round Ψ to ten bits. In this order a batch of
    # vectors keeps its layout, so XLA sees equal products as equal and computes them once.
    return jnp.matmul(vector, rows.T, precision="highest")


def projected(memories: Float[Array, "P N"], vector: Float[Array, " N"]) -> Float[Array, " P"]:
    """ξ^μ·v / N for each memory: of the activity the overlaps, of the input the saliencies."""
    return project(memories, vector) / memories.shape[1]


def check_memories(memories: Any, *, finite: bool = False) -> Float[Array, "P N"]:
    """At least one memory and one neuron; `finite` where no other check of the entries follows."""
    memories = check_array(memories, "memories", ("P", "N"), finite=finite)
    if 0 in memories.shape:
        raise ArgumentError(
            "memories", "at least one memory and one neuron", f"shape {memories.shape}", must="have"
        )
    return memories


_RESOLVED = 1e-5  # share of the largest eigenvalue below which memories count as dependent
_NAMED = 8  # of memories that depend on each other, at most


def independent(memories: Float[Array, "P N"]) -> Float[Array, "P N"]:
    """Refuse memories of which one is all but a mixture of others."""
    if is_traced(memories):
        product = correlations(memories) @ inverse_correlations(memories)
        missed = jnp.max(jnp.abs(product - jnp.eye(len(product), dtype=product.dtype)))
        return check_values(memories, ~(missed < 0.01), "memories", "linearly independent")
    rows = np.asarray(memories, np.float64)
    values = np.linalg.eigvalsh(rows @ rows.T)
    least = _RESOLVED * values[-1]
    if not values[0] >= least:
        raise ArgumentError(
            "memories",
            "linearly independent (least eigenvalue of their correlations ≥ "
            f"{_RESOLVED:g} times the largest)",
            _dependence(rows, least),
        )
    return memories


def _dependence(rows: Float[np.ndarray, "P N"], least: float) -> str:
    """Which memories have an eigenvalue below the `least`: a pair, or the first few that do."""
    products = rows @ rows.T
    norms = np.sqrt(np.diag(products))
    cosines = abs(products) / np.outer(norms, norms)
    pairs = np.argwhere(np.triu(cosines > 1 - 1e-9, 1)).tolist()
    if pairs:
        involved = pairs[0]
        one, other = rows[involved]
        if np.array_equal(one, other):
            how = "which are identical"
        elif np.array_equal(one, -other):
            how = "which are mirror images"
        else:
            how = "one of which is a multiple of the other"
    else:
        # A further memory never raises the least eigenvalue: halving finds the first too many.
        enough, too_many = 0, len(rows)
        while too_many - enough > 1:
            middle = (enough + too_many) // 2
            value = np.linalg.eigvalsh(products[:middle, :middle])[0]
            enough, too_many = (middle, too_many) if value >= least else (enough, middle)
        mixture = np.linalg.eigh(products[:too_many, :too_many])[1][:, 0]
        parts = abs(mixture) * norms[:too_many]
        involved = np.flatnonzero(parts > 0.01 * parts.max()).tolist()
        how = {
            1: "which is all but zero beside the others",
            2: "one of which is all but a multiple of the other",
        }.get(len(involved), "each of which is all but a mixture of the others")
    named = [f"memories[{row}]" for row in involved[:_NAMED]]
    if len(involved) > _NAMED:
        named.append(f"{len(involved) - _NAMED} more")
    *first, last = named
    return f"{', '.join(first)} and {last}, {how}" if first else f"{last}, {how}"


def correlations(memories: Float[Array, "P N"]) -> Float[Array, "P P"]:
    """C_μν = ξ^μ·ξ^ν / N."""
    return jnp.matmul(memories, memories.T, precision="highest") / memories.shape[1]


@jax.jit
def inverse_correlations(
    memories: Float[Array, "P N"], present: Bool[Array, " P"] | None = None
) -> Float[Array, "P P"]:
    """C⁻¹ by Newton's iteration X → X (2 − C X) (Schulz, Z. angew. Math. Mech. 13, 57, 1933).

    Not by LAPACK: its factorisations of many small matrices at once can block each other for ever
    in XLA's threads on a CPU. Compiled once for each shape, also where it is called outside jit.
    Absent memories are correlated with themselves alone, as much as the first one is.
    """
    matrix = correlations(memories)
    if present is not None:
        matrix = matrix + jnp.diag(jnp.where(present, 0, matrix[0, 0]))
    twice = 2 * jnp.eye(len(matrix), dtype=matrix.dtype)
    product = partial(jnp.matmul, precision="highest")
    # The number of right digits doubles in each step, after log₂ of the squared condition number.
    steps = 6 + math.ceil(-2 * math.log2(_RESOLVED))
    start = matrix / jnp.max(jnp.sum(jnp.abs(matrix), axis=1)) ** 2
    return jax.lax.fori_loop(
        0, steps, lambda _, found: product(found, twice - product(matrix, found)), start
    )
