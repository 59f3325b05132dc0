"""What a network makes of an input, as one readable table."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import check_instance, check_number, is_traced
from hopjax._errors import ArgumentError, names_keywords
from hopjax.activations import AbstractActivation
from hopjax.inputs import Constant, Schedule, as_input, refuse_noisy
from hopjax.models import AbstractHopfield, ClosedForm
from hopjax.program import compiled
from hopjax.theory.averaging import NoisyActivation
from hopjax.theory.common import check_noise
from hopjax.theory.equilibria import equilibrium_amplitude, well_energy
from hopjax.theory.flow import Flow, Spread
from hopjax.theory.noise import (
    critical_noise,
    escape_noise,
)
from hopjax.theory.numerical import (
    Kind,
    belongs,
    check_model_and_input,
    find_from_state,
    growth_rate,
    outside,
)
from hopjax.theory.states import Landscape, State, find_states
from hopjax.theory.steps import step_response
from hopjax.theory.table import ORTHOGONAL, by_saliency, table
from hopjax.theory.witness import closed_form, why_not


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
        amplitudes: how far the state reaches along the memory, in units of it; None for models
            whose overlap measures that (`overlap_measures_size`).
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
    amplitudes: Float[Array, " P"] | None
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
        return tuple(memory for memory in by_saliency(self.saliency) if memory in holders)

    def __repr__(self) -> str:
        """The table."""
        if is_traced(self) or not eqx.is_array(self.saliency):
            return eqx.tree_pformat(self)
        return table(self)


@names_keywords
def report(
    model: AbstractHopfield,
    u: Real[ArrayLike, " N"] | Schedule | Callable[[Array], Array],
    *,
    at: float | None = None,
    noise: Real[ArrayLike, ""] | Real[ArrayLike, " N"] = 0.0,
    dt: float | None = None,
    solver: dfx.AbstractSolver | None = None,
) -> Report:
    """What a network makes of an input: which memories exist, how deep, who survives noise.

    All of it is found numerically, for any model and any memories: where the noiseless flow from
    each memory ends, and where the flow of the mean under noise does (`noisy_flow`). That theory
    is for N → ∞; the fluctuations of a small network may take a state further. Beside it stands
    what the closed forms predict, where they apply: memories that are orthogonal or decorrelated.
    It runs on the host, not under jit.

    Example:
        ```python
        report = hj.theory.report(model, u, noise=1.5)
        print(report.ends_in)  # the memories in which a state stays
        ```

        ```text
        (0,)
        ```

    Args:
        model: any network.
        u: a constant input; or a `Schedule` or a function of time as for `solve`, which is held at
            what it is `at` a time.
        at: that time, from 0 on; not for a constant input.
        noise: σ of additive noise on the features, one number or one for each neuron.
        dt: the step of the trials that are meant, which have a little more noise; None for the
            exact equation.
        solver: the solver of these trials; Euler by default.

    Returns:
        A `Report`, which prints as a table.
    """
    if is_traced((model, u)):
        raise TypeError("report runs on the host: call it outside jit, vmap and grad.")
    check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
    u, at = _held(model, u, at)
    model, u = check_model_and_input(model, u)
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
    form = _applies(model, u, sigma, crosstalk)
    beyond = form if isinstance(form, str) else None
    kinds, numbers = _own_states(model, u, landscape)
    overlaps, energy, growth, residual, amplitudes = (
        jnp.asarray(row, sigma.dtype) for row in numbers
    )
    return Report(
        title=_title(model) + ("" if at is None else f", input at t = {at:g}"),
        saliency=model.saliency(u),
        kinds=kinds,
        overlaps=overlaps,
        energy=energy,
        growth=growth,
        residual=residual,
        amplitudes=None if model.overlap_measures_size else amplitudes,
        states=landscape.states,
        ends=landscape.ends,
        noise=sigma,
        noisy_states=None if noisy is None else noisy.states,
        noisy_ends=None if noisy is None else noisy.ends,
        untold=untold,
        crosstalk=jnp.asarray(crosstalk, sigma.dtype),
        prediction=None if isinstance(form, str) else predict(form, sigma, factor),
        beyond=beyond,
    )


def _held(model: AbstractHopfield, u: Any, at: Any) -> tuple[Any, float | None]:
    """The input at a time, and that time."""
    refuse_noisy(u, "u")
    shown = as_input(u, model.memories.dtype)
    if isinstance(shown, Constant):
        if at is not None:
            raise ArgumentError(
                "at", "None for a constant input, which is the same at all times", repr(at)
            )
        return u, None
    if at is None:
        raise ArgumentError(
            "at",
            "a time such as 2.5 where `u` is a Schedule or a function of time",
            "None",
            hint="a report is of one input",
        )
    at = check_number(at, "at")
    if at < 0:
        raise ArgumentError("at", "at least 0", f"{at:g}")
    return shown.at(at), at


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
    """For each memory the kind of its state, and overlap, energy, growth, residual, amplitude."""
    num_memories = model.memories.shape[0]
    kinds: list[Kind] = ["absent"] * num_memories
    numbers = np.full((5, num_memories), np.nan)

    def fill(memory, kind, state, overlaps, *others):
        kinds[memory] = kind
        pattern = model.memories[memory]
        amplitude = jnp.abs(pattern @ model.features(state)) / jnp.sum(pattern**2)
        numbers[:, memory] = [float(value) for value in (overlaps[memory], *others, amplitude)]

    for state in landscape.states:
        for memory in state.holders:
            shown = np.abs(state.overlaps) if state.mirrored else state.overlaps
            fill(memory, "stable", state.state, shown, state.energy, state.growth, state.residual)
    missing = [memory for memory in range(num_memories) if kinds[memory] == "absent"]
    for memory in missing:  # a saddle attracts no flow
        found, own = _search_outside(model, u, jnp.asarray(memory))
        if own:
            growth = growth_rate(model, u, found.state)
            kind: Kind = "stable" if growth < 0 else "saddle"
            energy = found.energy / model.memories.shape[1]
            fill(memory, kind, found.state, found.overlaps, energy, growth, found.residual)
    return tuple(kinds), numbers


@compiled
def _search_outside(model, u, memory):
    found = find_from_state(model, u, outside(model, u, memory))
    return found, found.found & belongs(model, found.state, memory)


def _applies(model, u, sigma, crosstalk) -> ClosedForm | str:
    """The closed form, or why it does not apply."""
    form = closed_form(model, u)
    if isinstance(form, str):
        return form
    if np.any(form.current):
        return "it is for classic networks without a current"
    if not form.decorrelated and crosstalk > ORTHOGONAL:
        return f"it is for orthogonal memories, and two of these overlap by {crosstalk:.3f}"
    if jnp.ndim(form.activation.slope_at_zero) or sigma.ndim:
        return "it is for neurons that are all alike"
    return form


def predict(form: ClosedForm, noise: Float[Array, ""], factor: float) -> Prediction:
    """What a closed form says at a noise, in steps that multiply it by a factor."""
    alpha = form.alpha - form.diagonal
    return _predict_from(alpha, form.activation, noise, jnp.asarray(factor, noise.dtype))


@compiled
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
