"""Numerical counterparts of the closed forms, for any model: the user's own as well.

Equilibria by following the flow and by Newton's method, and eigenvalues by Arnoldi's, both through
products of the Jacobian with vectors: a network of many neurons never forms an N x N matrix.

A state belongs to the memory of its strongest overlap, in magnitude. No threshold decides.
"""

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Complex, Float, Real
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from hopjax._checks import (
    cast_floats,
    check_array,
    check_count,
    check_index,
    check_instance,
    is_traced,
)
from hopjax._errors import ArgumentError, names_keywords
from hopjax.models import AbstractHopfield
from hopjax.models.base import is_feature
from hopjax.program import compiled
from hopjax.solving import check_methods
from hopjax.theory.flow import Flow, follow, scale_of

_NEWTON_STEPS = 100
_KRYLOV_SIZE = 40  # directions kept by GMRES: more than there are memories with a say
_TIE = 1e-4  # two overlaps are alike up to this share of them
_COPY = 1e-6  # and two memories, up to sign, up to this share
_SATURATED = 1e3  # an amplitude, in units of 1/d, at which an activation is at its bounds


class Equilibrium(eqx.Module):
    """A state in which a network rests, as `find_equilibrium` returns it.

    Attributes:
        state: where the search ended.
        overlaps: its overlap with each memory.
        energy: E(state; u), of the whole network.
        residual: the largest |drift| of any entry: how far from rest it is.
        found: whether Newton's method came to an end with a residual at rounding level.
    """

    state: Float[Array, " state"]
    overlaps: Float[Array, " P"]
    energy: Float[Array, ""]
    residual: Float[Array, ""]
    found: Bool[Array, ""]


def find_equilibrium(
    model: AbstractHopfield, u: Real[ArrayLike, " N"], start: Real[ArrayLike, " N"]
) -> Equilibrium:
    """The equilibrium of the noiseless flow that Newton's method reaches from a start.

    It finds saddles as well as stable states. It works under jit and vmap (many starts at once)
    and is differentiable in model and input by the implicit function theorem.

    Args:
        model: any network.
        u: a constant input.
        start: features to start from; near an equilibrium, or the search may end elsewhere.

    Returns:
        An `Equilibrium`; look at `found`, since a search can fail.
    """
    model, u = check_model_and_input(model, u)
    start = check_array(start, "start", (model.memories.shape[1],))
    return _find_from(model, u, start.astype(model.memories.dtype))


def find_memory(model: AbstractHopfield, u: Real[ArrayLike, " N"], memory: int) -> Equilibrium:
    """The equilibrium that belongs to a memory, or the one that its flow ends in.

    The noiseless flow is followed from the memory, x0 = ξ^μ, and its end polished by Newton's
    method. Where that state belongs to another memory, Newton's method searches from outside the
    memory as well, since a saddle attracts no flow, and what it finds counts if it belongs to this
    one. `classify` tells which it is. It works under jit and vmap.

    Args:
        model: any network.
        u: a constant input.
        memory: μ, the number of the memory.

    Returns:
        An `Equilibrium`.
    """
    model, u = check_model_and_input(model, u)
    memory = check_index(memory, "memory", model.memories.shape[0], "memories")
    return _find_memory(model, u, jnp.asarray(memory))  # one program for all memories


@compiled
def _find_from(model, u, features):
    state = model.initial_state(features)
    # What is not a feature starts where one step takes it, which is its goal if it is the fastest.
    drift = model.drift(jnp.zeros((), state.dtype), state, model.drive(u))
    moved = state + model.fastest_time_constant * drift
    return find_from_state(model, u, jnp.where(is_feature(model), state, moved))


@compiled
def _find_memory(model, u, memory):
    end, _ = follow(Flow(model), u, model.initial_state(model.memories[memory]))
    starts = jnp.stack([end, outside(model, u, memory)])
    both = jax.lax.map(lambda start: find_from_state(model, u, start), starts)
    own = both.found & jax.vmap(belongs, (None, 0, None))(model, both.state, memory)
    chosen = jnp.where(own[1] & ~own[0], 1, 0)
    return jax.tree.map(lambda leaf: leaf[chosen], both)


def outside(model: AbstractHopfield, u: Float[Array, " N"], memory: Any) -> Float[Array, " state"]:
    """Where one step of unit length (in the fastest time constant) takes a saturated memory.

    For an IDP network α ξ, an upper bound of the amplitude, from which Newton's method descends to
    the memory, be it stable or not, or past it if there is none.
    """
    pattern = model.memories[memory]
    state = model.initial_state(_SATURATED * scale_of(model) * pattern)
    drift = model.drift(jnp.zeros((), state.dtype), state, model.drive(u))
    start = state + model.fastest_time_constant * drift
    # Where nothing bounds the drift the step overshoots, to the mirror image's side.
    return jnp.where(model.features(start) @ pattern < 0, -start, start)


def belongs(model: AbstractHopfield, state: Float[Array, " state"], memory: Any) -> Bool[Array, ""]:
    """Whether a state's strongest overlap in magnitude is that with this memory, or a copy of it.

    It is that of none where the strongest overlaps are with memories that differ, or the state is
    zero.
    """
    overlaps, features = jnp.abs(model.overlaps(state)), model.features(state)
    rivals = jnp.where(copies(model, memory), -jnp.inf, overlaps)
    resolution = float(jnp.finfo(state.dtype).eps) ** (1 / 3)
    some = jnp.linalg.norm(features) >= resolution * scale_of(model) * math.sqrt(features.size)
    return some & (overlaps[memory] > (1 + _TIE) * jnp.max(rivals))


def copies(model: AbstractHopfield, memory: Any) -> Bool[Array, " P"]:
    """Which memories are this one up to their sign, itself included."""
    pattern = model.memories[memory]
    products = jnp.matmul(model.memories, pattern, precision="highest")
    sizes = jnp.sum(model.memories**2, axis=1) * (pattern @ pattern)
    return jnp.abs(products) >= (1 - _COPY) * jnp.sqrt(sizes)


def check_model_and_input(model: Any, u: Any) -> tuple[AbstractHopfield, Float[Array, " N"]]:
    """A model, and a constant input in its dtype."""
    check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
    u = check_array(u, "u", (model.memories.shape[1],), hint="one constant input")
    check_methods(model)
    return model, cast_floats(u, model.memories.dtype)


@compiled
def find_from_state(
    model: AbstractHopfield, u: Float[Array, " N"], start: Float[Array, " state"]
) -> Equilibrium:
    """The equilibrium that Newton's method reaches from a whole state."""
    dtype = model.memories.dtype
    tolerance = float(jnp.finfo(dtype).eps ** (2 / 3))
    scale = scale_of(model)

    def drift(state, args):  # in units of the scale, as the state is
        model, drive = args
        velocity = model.drift(jnp.zeros((), dtype), scale * state, drive)
        return model.fastest_time_constant * velocity / scale

    args = (model, model.drive(u))
    state = start / scale
    # A state of many units rounds by as many.
    rounding = 8 * float(jnp.finfo(dtype).eps) * jax.lax.stop_gradient(jnp.max(jnp.abs(state)))
    absolute: Any = tolerance + rounding
    gmres = lx.GMRES(
        rtol=tolerance, atol=tolerance, restart=min(state.shape[0], _KRYLOV_SIZE), max_steps=20
    )
    solution = optx.root_find(
        drift,
        optx.Newton(rtol=tolerance, atol=absolute, linear_solver=gmres),
        state,
        args,
        max_steps=_NEWTON_STEPS,
        adjoint=optx.ImplicitAdjoint(gmres),  # the default forms the whole Jacobian
        throw=False,
    )
    state = solution.value
    small = jnp.max(jnp.abs(drift(state, args))) <= tolerance * (1 + jnp.max(jnp.abs(state)))
    return Equilibrium(
        state=scale * state,
        overlaps=model.overlaps(scale * state),
        energy=model.energy(scale * state, u),
        residual=jnp.max(jnp.abs(model.drift(jnp.zeros((), dtype), scale * state, args[1]))),
        found=small & (solution.result == optx.RESULTS.successful),
    )


@names_keywords
def leading_eigenvalues(
    model: AbstractHopfield,
    state: Real[ArrayLike, " state"],
    u: Real[ArrayLike, " N"],
    *,
    count: int = 6,
) -> Complex[Array, " count"]:
    """The eigenvalues of the drift's Jacobian that grow fastest (ARPACK, through products).

    This runs on the host and not under jit, vmap or grad.

    Args:
        model: any network.
        state: where to linearise, usually an `Equilibrium.state`.
        u: a constant input.
        count: how many, at most the size of the state.

    Returns:
        Eigenvalues by falling real part. Of a multiple eigenvalue fewer copies may be found.

    Raises:
        RuntimeError: if ARPACK does not converge.
    """
    model, u = check_model_and_input(model, u)
    size = model.state_size
    state = check_array(state, "state", (size,)).astype(model.memories.dtype)
    if is_traced((model, u, state)):
        raise TypeError("leading_eigenvalues runs on the host: call it outside jit, vmap and grad.")
    count = check_count(count, "count")
    if count > size:
        raise ArgumentError("count", f"at most the size of the state {size}", count)
    return _leading(model, u, state, count)


def growth_rate(model: AbstractHopfield, u: Any, state: Any) -> Float[Array, ""]:
    """That of the direction that grows fastest, of arguments that are known to be right."""
    return _leading(model, u, state, 1)[0].real


def _leading(model, u, state, count):
    size = state.size
    product = _JacobianProduct(model, u, state)
    if size - count < 3 or size <= 16:  # too many for ARPACK, or too few to spare it
        dense = np.stack([product(column) for column in np.eye(size, dtype=state.dtype)], axis=1)
        found = np.linalg.eigvals(dense)
    else:
        operator = LinearOperator((size, size), matvec=product, dtype=state.dtype)  # pyright: ignore
        first = np.random.default_rng(0).normal(size=size).astype(state.dtype)
        try:
            found = eigs(operator, count, which="LR", v0=first, return_eigenvectors=False)
        except ArpackNoConvergence as error:
            raise RuntimeError(f"The eigenvalues were not found: {error}.") from error
    found = jnp.asarray(found, np.result_type(found.dtype, np.complex64))
    return found[jnp.argsort(-found.real)][:count]


class _JacobianProduct:
    """v -> J v on the host."""

    def __init__(self, model, u, state):
        self.arguments = (model, model.drive(u), state)

    def __call__(self, vector):
        model, drive, state = self.arguments
        vector = np.asarray(vector, state.dtype).reshape(state.shape)
        return np.asarray(_jacobian_product(model, drive, state, vector))


@compiled
def _jacobian_product(model, drive, state, vector):
    zero = jnp.zeros((), state.dtype)
    return jax.jvp(lambda x: model.drift(zero, x, drive), (state,), (vector,))[1]


Kind = Literal["stable", "saddle", "absent"]


@names_keywords
def classify(
    model: AbstractHopfield,
    u: Real[ArrayLike, " N"],
    equilibrium: Equilibrium,
    *,
    memory: int | None = None,
) -> Kind:
    """What an equilibrium is: "stable", "saddle" or "absent".

    Args:
        model: any network.
        u: the input that the equilibrium was found with.
        equilibrium: as from `find_equilibrium` or `find_memory`.
        memory: if given, what is found counts only where it belongs to this memory, whose overlap
            must be the strongest in magnitude; otherwise the memory is absent. A mixture in which
            two different memories have equal shares belongs to neither.

    Returns:
        "absent" if nothing was found, "stable" if every direction decays, else "saddle".
    """
    return classify_with_growth(model, u, equilibrium, memory)[0]


def classify_with_growth(
    model: AbstractHopfield, u: Any, equilibrium: Equilibrium, memory: int | None
) -> tuple[Kind, float]:
    """The kind, and the growth rate of the fastest direction (NaN where absent)."""
    model, u = check_model_and_input(model, u)
    check_instance(equilibrium, Equilibrium, "equilibrium", "an Equilibrium, as from find_memory")
    if is_traced(equilibrium):
        raise TypeError("classify runs on the host: call it outside jit, vmap and grad.")
    if equilibrium.state.shape != (model.state_size,):
        raise ArgumentError(
            "equilibrium",
            f"one, with a state of shape ({model.state_size},)",
            equilibrium.state.shape,
            hint="of a batch, take one at a time",
        )
    if memory is not None:
        memory = check_index(memory, "memory", model.memories.shape[0], "memories")
    if not equilibrium.found:
        return "absent", np.nan
    if memory is not None and not bool(belongs(model, equilibrium.state, memory)):
        return "absent", np.nan
    growth = float(growth_rate(model, u, equilibrium.state))
    return ("stable" if growth < 0 else "saddle"), growth
