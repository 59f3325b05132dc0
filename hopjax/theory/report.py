"""What a network makes of an input, as one readable table."""

from collections.abc import Iterable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import is_traced
from hopjax.activations import AbstractActivation
from hopjax.models import (
    AbstractHopfield,
    ClassicHopfield,
    DecorrelatedHopfield,
    IDPHopfield,
)
from hopjax.theory._common import check_noise
from hopjax.theory.equilibria import effective_saliency, equilibrium_amplitude, well_energy
from hopjax.theory.flow import Flow, Spread, why_not
from hopjax.theory.noise import NoisyActivation, critical_noise, escape_noise
from hopjax.theory.numerical import (
    Kind,
    belongs,
    check_model_and_input,
    find_from_state,
    leading_eigenvalues,
    outside,
)
from hopjax.theory.states import Landscape, State, find_states
from hopjax.theory.steps import step_response

_ORTHOGONAL = 1e-6  # the largest overlap between memories that count as orthogonal


class Prediction(eqx.Module):
    """What the closed forms say of every memory; see `Report`.

    Attributes:
        exists: whether it is an equilibrium of the noiseless network.
        stable: whether it is a stable one.
        energy: its energy per neuron, 0 where it does not exist (of a decorrelated network: that
            of orthogonal memories, as there is none of its own).
        critical_noise: σ_c, at which noise removes its well.
        escape_noise: σ_esc, at which it loses its stability to the most salient other memory;
            NaN where there is no such noise.
        noisy_overlap: the overlap with which it is held at the report's noise, 0 without a well.
        kept: whether a state that is in it at that noise stays.
    """

    exists: Bool[Array, " P"]
    stable: Bool[Array, " P"]
    energy: Float[Array, " P"]
    critical_noise: Float[Array, " P"]
    escape_noise: Float[Array, " P"]
    noisy_overlap: Float[Array, " P"]
    kept: Bool[Array, " P"]


class Report(eqx.Module):
    """What a network makes of one constant input, as `report` returns it; `print` it.

    Attributes:
        saliency: α_μ(u).
        kinds: for every memory "stable" or "saddle" if it holds a state, an equilibrium whose
            strongest overlap in magnitude is that with this memory, else "absent".
        overlaps: overlap of that state with its memory; NaN where absent, as are the following.
        energy: its energy per neuron.
        growth: growth rate of its fastest direction, in inverse time constants.
        residual: the largest |drift| there.
        states: the distinct stable states of the noiseless network that the flow from the memories
            leads to, mirror images counted once; several memories may share one.
        ends: for each memory the indices of the states in which its flow ends; see `Landscape`.
        noise: σ, one number or one for each neuron.
        noisy_states: as `states`, of the mean under noise; None where there is no theory of it.
        noisy_ends: as `ends`.
        untold: why there is no theory of the noise; None where there is.
        crosstalk: the largest overlap between two memories.
        prediction: what the closed forms say, or None where they do not apply.
        beyond: why they do not; None where they do.
    """

    title: str = eqx.field(static=True)
    saliency: Float[Array, " P"]
    kinds: tuple[Kind, ...] = eqx.field(static=True)
    overlaps: Float[Array, " P"]
    energy: Float[Array, " P"]
    growth: Float[Array, " P"]
    residual: Float[Array, " P"]
    states: tuple[State, ...]
    ends: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    noise: Float[Array, ""] | Float[Array, " N"]
    noisy_states: tuple[State, ...] | None
    noisy_ends: tuple[tuple[int, ...], ...] | None = eqx.field(static=True)
    untold: str | None = eqx.field(static=True)
    crosstalk: Float[Array, ""]
    prediction: Prediction | None
    beyond: str | None = eqx.field(static=True)

    @property
    def ends_in(self) -> tuple[int, ...]:
        """The memories that hold a stable state at this noise, the most salient first, up to sign.

        One: a state goes there from any memory, or to its mirror image: in an odd network as often
        where it comes from a ridge, and mostly not from memories that resemble it. Several: a
        state stays in the memory where it is, or goes where `noisy_ends` says.
        None: what is left is a mixture, or no memory.

        Raises:
            ValueError: where there is no theory of the noise.
        """
        if self.noisy_states is None:
            raise ValueError(f"There is no theory of the noise: {self.untold}.")
        holders = {memory for state in self.noisy_states for memory in state.holders}
        return tuple(memory for memory in _by_saliency(self.saliency) if memory in holders)

    def __repr__(self) -> str:
        """The table."""
        if is_traced(self) or not eqx.is_array(self.saliency):
            return eqx.tree_pformat(self)
        order = _by_saliency(self.saliency)
        columns = [["", *(f"memories[{memory}]" for memory in order)]]
        columns.append(["saliency", *(f"{float(self.saliency[m]):.3f}" for m in order)])
        columns.append(["state", *(self.kinds[memory] for memory in order)])
        for head, values, digits in (
            ("overlap", self.overlaps, 3),
            ("energy/N", self.energy, 4),
            ("growth", self.growth, 3),
        ):
            columns.append([head, *(_number(values[memory], digits) for memory in order)])
        theory = self.prediction
        if theory is not None:
            kinds = np.where(theory.stable, "stable", np.where(theory.exists, "saddle", "absent"))
            columns.append(["theory", *(str(kinds[memory]) for memory in order)])
            thresholds = {"σ_esc": theory.escape_noise, "σ_c": theory.critical_noise}
            for head, values in thresholds.items():
                columns.append([head, *(_number(values[m] or np.nan, 3) for m in order)])
        if any(not self.ends[m] or self._leaves(m, self.states, self.ends) for m in order):
            ends = (self._end(memory, self.states, self.ends) for memory in order)
            columns.append(["flow", *("stays" if "kept" in end else end for end in ends)])
        if self.noisy_states is not None and self.noisy_ends is not None and np.any(self.noise):
            noisy = [self._end(memory, self.noisy_states, self.noisy_ends) for memory in order]
            columns.append([f"at {self._strength}", *noisy])
        aligned = [[entry.rjust(max(map(len, each))) for entry in each] for each in columns]
        lines = [self.title, *("  ".join(row).rstrip() for row in zip(*aligned, strict=True))]
        return "\n".join([*lines, *self._conclusions()])

    @property
    def _strength(self) -> str:
        sigma = np.asarray(self.noise)
        if sigma.ndim == 0:
            return f"σ = {float(sigma):g}"
        return f"σ from {sigma.min():g} to {sigma.max():g}"

    def _leaves(self, memory: int, states: Any, ends: Any) -> bool:
        """Whether the flow from a memory ends in a state that it does not hold."""
        return any(memory not in states[place].holders for place in ends[memory])

    def _end(self, memory: int, states: Any, ends: Any) -> str:
        """Where the flow from a memory ends."""
        places = ends[memory]
        if not places:
            return "not at rest"
        if len(places) == 1 and not self._leaves(memory, states, ends):
            return f"kept, {_overlap(states[places[0]], memory):.3f}"
        return "to " + " or ".join(dict.fromkeys(states[place].name for place in places))

    def _conclusions(self) -> list[str]:
        """What the table says, in sentences."""
        lines = []
        restless = [memory for memory, end in enumerate(self.ends) if not end]
        if restless:
            lines.append(f"not at rest after a long time: the flow from {_list(_names(restless))}")
        for state in self.states:
            with_it = [m for m in state.memories if m not in state.holders]
            half = float(jnp.max(jnp.abs(state.overlaps))) / 2
            some = [m for m in with_it if abs(_overlap(state, m)) >= half]
            if some and state.name != "no memory":
                sharing = _list(f"memories[{m}] ({_overlap(state, m):.3f})" for m in some)
                whose = f"the state of {state.name}"
                if state.holders:
                    whose += f" ({_overlap(state, state.holders[0]):.3f})"
                lines.append(f"{whose} is shared by {sharing}")
        if np.any(self.noise):
            if self.noisy_states is None:
                lines.append(f"nothing is said of noise: {self.untold}")
            else:
                lines.append(self._fate())
        if self.beyond is None:
            whose = (
                "orthogonal memories" if self.crosstalk <= _ORTHOGONAL else "decorrelated memories"
            )
            lines.append(
                f"theory: {whose}; here two memories overlap by up to {float(self.crosstalk):.3f}"
            )
        else:
            lines.append(f"no closed theory: {self.beyond}")
        return lines

    def _fate(self) -> str:
        """Where noise leads."""
        assert self.noisy_states is not None
        assert self.noisy_ends is not None
        strength = self._strength.removeprefix("σ = ").removeprefix("σ ")
        start = f"noise of strength {strength}, for many neurons,"
        states, ends = self.noisy_states, self.noisy_ends
        restless = [memory for memory, end in enumerate(ends) if not end]
        if restless:
            return f"{start} leaves the flow from {_list(_names(restless))} not at rest"
        if len(states) == 1:
            (state,) = states
            if state.name == "no memory":
                return f"{start} ends in no memory"
            sign = ""
            if state.mirrored and state.holders:
                sign = "±" if len(state.signs) > 1 else "" if state.signs == (1,) else "−"
            return f"{start} ends in {sign}{state.name}, {_shares(state)}"
        order = _by_saliency(self.saliency)
        kept = [m for m in order if ends[m] and not self._leaves(m, states, ends)]
        text = f"{start} keeps a state in {_list(_names(kept))}"
        if len(kept) > 1:
            text = f"{start} leaves a state in whichever of {_list(_names(kept))} it is"
        moved: dict[str, list[int]] = {}
        for memory in order:
            if memory not in kept:
                moved.setdefault(self._end(memory, states, ends), []).append(memory)
        taken = [f"takes {_list(_names(some))} {end}" for end, some in moved.items()]
        if not kept:
            return f"{start} {_list(taken)}"
        return " and ".join([text, *taken])


def _overlap(state: State, memory: int) -> float:
    """With its sign, unless the mirror image is a state too."""
    overlap = float(state.overlaps[memory])
    return abs(overlap) if state.mirrored else overlap


def _shares(state: State) -> str:
    """The strongest overlaps of a state."""
    strength = np.abs(np.asarray(state.overlaps, float))
    if state.holders:
        strength[list(state.holders)] = 0
        text = f"overlap {_overlap(state, state.holders[0]):.3f}"
    else:
        text = "overlaps"
    second = int(np.argmax(strength))
    if strength[second] >= 0.1:  # worth a word
        text += f", {_overlap(state, second):.3f} with memories[{second}]"
    return text


def _names(memories: Any) -> list[str]:
    return [f"memories[{memory}]" for memory in memories]


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)


def _number(value, digits: int) -> str:
    return f"{float(value):.{digits}f}" if np.isfinite(value) else "-"


def _by_saliency(saliency) -> list[int]:
    return np.argsort(-np.asarray(saliency), kind="stable").tolist()


def report(
    model: AbstractHopfield,
    u: Real[ArrayLike, " N"],
    *,
    noise: Real[ArrayLike, ""] | Real[ArrayLike, " N"] = 0.0,
    dt: float | None = None,
    solver: dfx.AbstractSolver | None = None,
) -> Report:
    """What a network makes of a constant input: which memories exist, how deep, who survives noise.

    All of it is found numerically, for any model and any memories: where the noiseless flow from
    each memory ends, and where the flow of the mean under noise does (`noisy_flow`). That theory
    is for N → ∞; the fluctuations of a small network may take a state further. Beside it stands
    what the closed forms predict, where they apply: memories that are orthogonal or decorrelated.
    It runs on the host, not under jit.

    Args:
        model: any network.
        u: a constant input.
        noise: σ of additive noise on the features, one number or one for each neuron.
        dt: the step of the trials that are meant, which have a little more noise; None for the
            exact equation.
        solver: the solver of these trials; Euler by default.

    Returns:
        A `Report`, which prints as a table.
    """
    model, u = check_model_and_input(model, u)
    if is_traced((model, u)):
        raise TypeError("report runs on the host: call it outside jit, vmap and grad.")
    num_memories, num_neurons = model.memories.shape
    sigma = check_noise(noise, (), (num_neurons,)).astype(model.memories.dtype)
    rate, factor = step_response(solver, dt)
    quiet, loud, untold = Flow(model), None, None
    if np.any(sigma):
        untold = why_not(model)
        if untold is None:
            # One program for both: without noise ψ_0 is ψ.
            quiet, loud = (Flow(model, Spread(s, rate)) for s in (0 * sigma, factor * sigma))
    landscape = find_states(quiet, u)
    noisy = find_states(loud, u) if loud is not None else None if untold else landscape
    patterns = np.asarray(model.memories)
    mutual = np.abs(patterns @ patterns.T) / num_neurons
    crosstalk = mutual[~np.eye(num_memories, dtype=bool)].max(initial=0)
    beyond = _beyond(model, u, sigma, crosstalk)
    kinds, numbers = _own_states(model, u, landscape)
    overlaps, energy, growth, residual = (jnp.asarray(row, sigma.dtype) for row in numbers)
    return Report(
        title=_title(model),
        saliency=model.saliency(u),
        kinds=kinds,
        overlaps=overlaps,
        energy=energy,
        growth=growth,
        residual=residual,
        states=landscape.states,
        ends=landscape.ends,
        noise=sigma,
        noisy_states=None if noisy is None else noisy.states,
        noisy_ends=None if noisy is None else noisy.ends,
        untold=untold,
        crosstalk=jnp.asarray(crosstalk, sigma.dtype),
        prediction=_predict(model, u, sigma, factor) if beyond is None else None,
        beyond=beyond,
    )


def _title(model: Any) -> str:
    num_memories, num_neurons = model.memories.shape
    title = f"{type(model).__name__}: {num_neurons} neurons, {num_memories} memories"
    coupling = getattr(model, "self_coupling", None)
    if coupling is not None:
        title += f", self-coupling {'kept' if coupling else 'zeroed'}"
    activation = getattr(model, "activation", None)
    if isinstance(activation, AbstractActivation):
        slopes = np.unique(np.asarray(activation.slope_at_zero))
        title += f", d = {slopes[0]:g}" + (f" to {slopes[-1]:g}" if slopes.size > 1 else "")
    return title


def _own_states(model, u, landscape: Landscape) -> tuple[tuple[Kind, ...], np.ndarray]:
    """For each memory the kind of state that it holds, and overlap, energy, growth, residual."""
    num_memories = model.memories.shape[0]
    kinds: list[Kind] = ["absent"] * num_memories
    numbers = np.full((4, num_memories), np.nan)

    def fill(memory, kind, overlaps, *others):
        kinds[memory] = kind
        numbers[:, memory] = [float(value) for value in (overlaps[memory], *others)]

    for state in landscape.states:
        for memory in state.holders:
            shown = np.abs(state.overlaps) if state.mirrored else state.overlaps
            fill(memory, "stable", shown, state.energy, state.growth, state.residual)
    missing = [memory for memory in range(num_memories) if kinds[memory] == "absent"]
    for memory in missing:  # a saddle attracts no flow
        found, own = _search_outside(model, u, jnp.asarray(memory))
        if own:
            growth = leading_eigenvalues(model, found.state, u, count=1)[0].real
            kind: Kind = "stable" if growth < 0 else "saddle"
            energy = found.energy / model.memories.shape[1]
            fill(memory, kind, found.overlaps, energy, growth, found.residual)
    return tuple(kinds), numbers


@eqx.filter_jit
def _search_outside(model, u, memory):
    found = find_from_state(model, u, outside(model, u, memory))
    return found, found.found & belongs(model, found.state, memory)


def _beyond(model, u, sigma, crosstalk) -> str | None:
    """Why the closed forms do not apply."""
    decorrelated = isinstance(model, DecorrelatedHopfield)
    if not decorrelated and not isinstance(model, (IDPHopfield, ClassicHopfield)):
        return "it is for IDP and classic networks, decorrelated or not"
    driven = isinstance(model, IDPHopfield) or getattr(model, "input_driven", False)
    if not driven and np.any(u):
        return "it is for classic networks without a current"
    if not decorrelated and crosstalk > _ORTHOGONAL:
        return f"it is for orthogonal memories, and two of these overlap by {crosstalk:.3f}"
    if jnp.ndim(model.activation.slope_at_zero) or sigma.ndim:
        return "it is for neurons that are all alike"
    return None


def _predict(model, u, noise, factor) -> Prediction:
    kept = isinstance(model, DecorrelatedHopfield) or model.self_coupling
    driven = isinstance(model, IDPHopfield) or getattr(model, "input_driven", False)
    alpha = model.saliency(u) if driven else jnp.ones_like(model.memories[:, 0])
    alpha = effective_saliency(alpha, model.memories.shape[1], self_coupling=kept)
    return _predict_from(alpha, model.activation, noise, jnp.asarray(factor, noise.dtype))


@eqx.filter_jit
def _predict_from(alpha, quiet, noise, step) -> Prediction:
    # A step multiplies every noise by its factor, and so divides every threshold of it.
    # A lone memory competes with nothing: with 0 as its rival, nothing is what it loses to.
    others = jnp.where(jnp.eye(alpha.size, dtype=bool), -jnp.inf, alpha[None])
    strongest = jnp.max(others, axis=1) if alpha.size > 1 else jnp.zeros_like(alpha)
    noisy = NoisyActivation(quiet, step * noise)
    amplitude, mean = equilibrium_amplitude(alpha, quiet), equilibrium_amplitude(alpha, noisy)
    return Prediction(
        exists=amplitude > 0,
        stable=(amplitude > 0) & (strongest * quiet.derivative(amplitude) < 1),
        energy=well_energy(alpha, quiet),
        critical_noise=critical_noise(alpha, quiet) / step,
        escape_noise=escape_noise(alpha, strongest, quiet) / step,
        noisy_overlap=noisy(mean),
        kept=(mean > 0) & (strongest * noisy.derivative(mean) < 1),
    )
