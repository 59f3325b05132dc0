"""The states that a network has, with and without noise, and where it goes from each memory.

A state belongs to the memory whose overlap is its strongest, in magnitude: no threshold decides.
Memories that resemble each other may share one state, and mirror images are one. They are found by
following the flow from each memory (`solve` without noise), and polished by Newton's method.
"""

import dataclasses
from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from hopjax._checks import is_traced
from hopjax._errors import names_keywords
from hopjax.models import AbstractHopfield
from hopjax.models.base import is_feature
from hopjax.noise import AdditiveNoise
from hopjax.program import compiled
from hopjax.theory.flow import Flow, Noise, Spread, feature_noise, follow, scale_of
from hopjax.theory.numerical import (
    Equilibrium,
    belongs,
    check_model_and_input,
    find_from_state,
    growth_rate,
)
from hopjax.theory.steps import step_response

_ROUNDS = 10  # flows one after the other, before a state counts as never at rest
_BATCH = 8  # flows from a memory or a ridge, of which all but the first start a little beside it
_NEAR = 1e-2  # Newton's method may move a state that has come to rest by this share of its size
_SAME = 1e-3  # two states are one up to this share of their size
_DEPTH = 3  # ridges, one after the other
# How far flows are started beside a memory or a ridge: what goes both ways from there is seen.
_DISTURBANCE = 1e-3  # in units of the neurons' scale, at least ...
_SHARE = 0.1  # ... and as a share of the noise


class State(eqx.Module):
    """A stable state of a network, or of its mean under noise; its mirror image counts as well.

    Attributes:
        state: the whole state.
        energy: E(state; u) per neuron; under noise that of `noisy_model`, which the mean descends
            where E belongs to the drift for every activation. NaN for models without one.
        overlaps: with each memory; under noise their means.
        growth: growth rate of the direction that decays slowest, in inverse time constants.
        residual: the largest |drift| there.
        holders: the memory of the strongest overlap in magnitude; with it those that are copies of
            it up to sign, and none where two different ones have equal shares, or the state is 0.
        memories: those whose flow ends here, or may end here.
        mirrored: whether the mirror image is a state too.
        signs: those of the strongest overlap with which flows end here: of memories that resemble
            each other mostly 1 alone, of a state that chance leads to both.
    """

    state: Float[Array, " state"]
    energy: Float[Array, ""]
    overlaps: Float[Array, " P"]
    growth: Float[Array, ""]
    residual: Float[Array, ""]
    holders: tuple[int, ...] = eqx.field(static=True)
    memories: tuple[int, ...] = eqx.field(static=True)
    mirrored: bool = eqx.field(static=True)
    signs: tuple[int, ...] = eqx.field(static=True)

    @property
    def name(self) -> str:
        """Whose state it is: "memories[1]", "a mixture" or "no memory"."""
        if self.holders:
            return f"memories[{self.holders[0]}]"
        return "a mixture" if bool(jnp.any(jnp.abs(self.overlaps) > 1e-3)) else "no memory"


class Landscape(NamedTuple):
    """The stable states of a network, and in which of them the flow from each memory ends.

    Attributes:
        states: in the order in which the memories lead to them.
        ends: for each memory the indices of its states, the likeliest first. Several where chance
            decides, because the flow comes near a ridge between them; none where it does not come
            to rest.
    """

    states: tuple[State, ...]
    ends: tuple[tuple[int, ...], ...]


@names_keywords
def stable_states(
    model: AbstractHopfield,
    u: Real[ArrayLike, " N"],
    *,
    noise: Noise = 0.0,
    dt: float | None = None,
    solver: dfx.AbstractSolver | None = None,
) -> Landscape:
    """The stable states to which the flow from the memories leads.

    Each flow starts in a memory, x0 = ξ^μ, without noise, and follows `noisy_flow` until it rests;
    seven others start a little beside it, and from a ridge on which it rests, so that it is seen
    where chance decides. This runs on the host and not under jit.

    Args:
        model: any network; with noise as for `noisy_model`.
        u: a constant input.
        noise: as for `noisy_flow`.
        dt: the step of the trials that are meant; None for the exact equation.
        solver: of these trials, as for `noisy_flow`.

    Returns:
        A `Landscape`.

    Raises:
        TypeError, ValueError: as `noisy_model`, where noise does not average out.
    """
    model, u = check_model_and_input(model, u)
    if is_traced((model, u, noise)):
        raise TypeError("stable_states runs on the host: call it outside jit, vmap and grad.")
    strength = noise.strength if isinstance(noise, AdditiveNoise) else noise
    if isinstance(strength, (int, float, np.ndarray, jax.Array)) and not np.any(strength):
        return find_states(Flow(model), u)  # any model
    rate, factor = step_response(solver, dt)
    return find_states(Flow(model, Spread(factor * feature_noise(model, noise), rate)), u)


def find_states(flow: Flow, u: Float[Array, " N"]) -> Landscape:
    """As `stable_states`, of a flow."""
    return _Search(flow, u).landscape()


class _Rest(NamedTuple):
    """Where a flow is after a long time."""

    end: Array
    followed: Array  # whether it could be followed for so long
    moved: Array  # how far the equilibrium near there is from it
    size: Array  # of that equilibrium
    exact: Equilibrium
    mirror: Array  # the largest |drift| at its mirror image
    owners: Array  # the memories it belongs to


@compiled
def _follow_all(flow: Flow, u, states, elapsed) -> _Rest:
    """Where flows from some states are after a long time, and the equilibria near there."""
    network, flow = flow.at_rest, flow.restarted(None, elapsed)
    scale, drive = scale_of(network), network.drive(u)
    memories = jnp.arange(flow.memories.shape[0])

    def polished(reached):
        end, followed = reached
        exact = find_from_state(network, u, end)
        mirror = network.drift(jnp.zeros_like(exact.energy), -exact.state, drive)
        return _Rest(
            end=end,
            followed=followed,
            moved=jnp.max(jnp.abs(end - exact.state)),
            size=scale + jnp.max(jnp.abs(exact.state)),
            exact=exact,
            mirror=jnp.max(jnp.abs(mirror)),
            owners=jax.vmap(lambda memory: belongs(network, exact.state, memory))(memories),
        )

    # One after the other: in a batch the small factorisations of GMRES would go through LAPACK many
    # at once, where XLA's threads on a CPU can block each other for ever.
    return jax.lax.map(polished, jax.vmap(follow, (None, None, 0))(flow, u, states))


def _row(place: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], tree)


class _Search:
    """The equilibria that flows of one network end in, each of them once."""

    def __init__(self, flow: Flow, u: Float[Array, " N"]):
        self.flow, self.u = flow, u
        self.network = flow.at_rest
        self.features = np.asarray(is_feature(self.network))
        self.found: list[State] = []  # saddles as well
        self.settled: dict[int, tuple[int, ...]] = {}
        self.signs: dict[int, set[int]] = {}

    def landscape(self) -> Landscape:
        """The stable ones, and which memories lead to them."""
        model = self.flow.model
        found = [
            self._stable(self.disturbed(model.initial_state(pattern)), 0.0, _DEPTH)
            for pattern in model.memories
        ]
        used = list(dict.fromkeys(place for end in found for place in end))
        ends = tuple(tuple(used.index(place) for place in end) for end in found)
        states = (
            dataclasses.replace(
                self.found[place],
                memories=tuple(memory for memory, end in enumerate(ends) if number in end),
                signs=tuple(sorted(self.signs[place], reverse=True)),
            )
            for number, place in enumerate(used)
        )
        return Landscape(tuple(states), ends)

    def disturbed(self, state: Any) -> Any:
        """A state, and others beside it."""
        spread, size = self.flow.spread, self.flow.memories.shape[1]
        step = _DISTURBANCE * np.asarray(scale_of(self.network))
        if spread is not None:
            step = np.maximum(step, _SHARE * np.asarray(spread.total))
        normal = np.array(jax.random.normal(jax.random.key(0), (_BATCH, size), jnp.float32))
        normal[0] = 0
        states = np.repeat(np.asarray(state)[None], _BATCH, axis=0)
        states[:, self.features] += step * normal
        return states

    def _stable(self, states: Any, elapsed: float, depth: int) -> tuple[int, ...]:
        """The stable states that the flow takes some states to, those of most of them first."""
        counts = Counter(
            place
            for end in self.follow(states, elapsed)
            if end is not None
            for place in self.settle(end, depth)
        )
        return tuple(place for place, _ in counts.most_common())

    def follow(self, states: Any, elapsed: float) -> list[int | None]:
        """Where each of some states comes to rest, as an index into `found`; None where nowhere."""
        rests: list[int | None] = [None] * len(states)
        lost = np.zeros(len(states), bool)
        for _ in range(_ROUNDS):
            start = jnp.asarray(elapsed, states.dtype)
            found: _Rest = jax.tree.map(np.asarray, _follow_all(self.flow, self.u, states, start))
            at_rest = found.exact.found & (found.moved <= _NEAR * found.size)
            for place in np.flatnonzero(at_rest & ~lost):
                if rests[place] is None:
                    rest = _Rest(*map(partial(_row, place), found))
                    rests[place] = number = self.place(rest)
                    strongest = rest.exact.overlaps[np.argmax(np.abs(rest.exact.overlaps))]
                    self.signs.setdefault(number, set()).add(1 if strongest >= 0 else -1)
            lost |= ~at_rest & ~found.followed
            going = ~at_rest & ~lost
            if not going.any():
                break
            # What is lost is followed no further: one that goes on stands in its place.
            states = found.end[np.where(lost, np.argmax(going), np.arange(len(states)))]
            elapsed = np.inf
        return rests

    def place(self, rest: _Rest) -> int:
        """The index of an equilibrium in `found`, which it joins if it is new."""
        state = rest.exact.state
        for number, other in enumerate(self.found):
            known = np.asarray(other.state)
            apart = min(np.max(np.abs(state - known)), np.max(np.abs(state + known)))
            if apart <= _SAME * rest.size:
                return number
        growth = growth_rate(self.network, self.u, state)
        dtype = state.dtype
        self.found.append(
            State(
                state=jnp.asarray(state),
                energy=jnp.asarray(rest.exact.energy / self.flow.memories.shape[1], dtype),
                overlaps=jnp.asarray(rest.exact.overlaps),
                growth=growth.astype(dtype),
                residual=jnp.asarray(rest.exact.residual),
                holders=tuple(np.flatnonzero(rest.owners).tolist()),
                memories=(),
                mirrored=bool(rest.mirror <= _SAME * rest.size),
                signs=(),
            )
        )
        return len(self.found) - 1

    def settle(self, end: int, depth: int) -> tuple[int, ...]:
        """The stable states that an equilibrium leads to: itself, or where it is left for."""
        if end not in self.settled:
            self.settled[end] = (end,) if self.found[end].growth <= 0 else ()
            if not self.settled[end] and depth > 0:
                beside = self.disturbed(self.found[end].state)[1:]
                beside = np.concatenate([beside, beside[-1:]])  # of the same shape
                self.settled[end] = self._stable(beside, np.inf, depth - 1)
        return self.settled[end]
