"""A network as Diffrax sees it: its terms on the clock of steps, and its solver."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, PyTree

from hopjax.models import AbstractHopfield
from hopjax.models.base import is_feature
from hopjax.noise import AbstractNoise
from hopjax.solving.door import Passage, check_output, output_of
from hopjax.solving.input_noise import InputNoise


class Drives(eqx.Module):
    """What a schedule does to the network, segment by segment of the solver's clock.

    Under noise with a correlation time it is the inputs themselves.
    """

    onsets: Float[Array, " S"]
    drives: PyTree[Array]  # a leading axis of S

    def hold(self, clock) -> "Drives":
        """Only the segment that holds at `clock`."""
        if self.onsets.shape[0] == 1:
            return self
        segment = jnp.sum(self.onsets <= clock) - 1
        return jax.tree.map(lambda leaf: leaf[segment][None], self)

    def at(self, clock) -> PyTree[Array]:
        """The drive at `clock`."""
        return jax.tree.map(lambda leaf: leaf[0], self.hold(clock).drives)


class System(eqx.Module):
    """The equation on the solver's clock, which runs `unit` of time per tick.

    It travels as Diffrax's args, so that terms, solver and saving see the very same arrays: XLA
    then computes what they have in common once.
    """

    model: AbstractHopfield
    drives: Drives | None  # of a schedule
    inputs: Callable | None  # of anything else
    noise: AbstractNoise | None
    save_fn: Callable | None
    passage_fn: Callable | None
    passage_from: Float[Array, ""]  # on that clock
    unit: float = eqx.field(static=True)
    shift: Float[Array, ""] | None = None  # ticks before the clock's 0
    input_noise: InputNoise | None = None
    z: Float[Array, " N"] | None = None  # of that noise; at first, and then in the step

    def time(self, clock):
        """The time at `clock`."""
        return self.unit * (clock if self.shift is None else clock + self.shift)

    def hold(self, clock) -> "System":
        """With the input that holds at `clock`, if it comes in segments."""
        if self.drives is None:
            return self
        return eqx.tree_at(lambda system: system.drives, self, self.drives.hold(clock))

    def drift(self, clock, state):
        """The drift on that clock, as Diffrax calls it."""
        t = self.time(clock)
        if self.drives is not None:
            shown = self.drives.at(clock)
        else:
            assert self.inputs is not None
            shown = jnp.asarray(self.inputs(t), state.dtype)
        if self.z is not None:
            assert self.input_noise is not None
            shown = shown + self.input_noise.amplitude * self.z
        driven = self.drives is not None and self.z is None
        drive = shown if driven else self.model.drive(shown)
        return self.unit * jnp.asarray(self.model.drift(t, state, drive), state.dtype)

    def input_diffusion(self, clock, state):
        """What white noise on the input does, a linear operator: ∂drift/∂u, the same at all u."""
        assert self.input_noise is not None
        amplitude = math.sqrt(self.unit) * self.input_noise.amplitude

        def velocity(u):
            drift = self.model.drift(self.time(clock), state, self.model.drive(u))
            return jnp.asarray(drift, state.dtype)

        def change(increment):
            scaled = amplitude * increment
            return jax.jvp(velocity, (jnp.zeros_like(scaled),), (scaled,))[1]

        entries = jax.ShapeDtypeStruct(self.model.memories.shape[1:], state.dtype)
        return lx.FunctionLinearOperator(change, entries)

    def step_of(self, clock):
        """The number of a step, counted from time 0."""
        ticks = clock if self.shift is None else clock + self.shift
        return jnp.round(ticks).astype(jnp.int32)

    def diffusion(self, clock, state):
        """The diffusion on that clock, a diagonal operator."""
        assert self.noise is not None
        sigma = jnp.asarray(self.noise.diffusion(self.time(clock), state), state.dtype)
        # One strength is that of the features, whatever else a state has.
        if sigma.ndim == 0 and state.shape[0] > self.model.memories.shape[1]:
            sigma = jnp.where(is_feature(self.model), sigma, 0)
        return lx.DiagonalLinearOperator(
            jnp.broadcast_to(math.sqrt(self.unit) * sigma, state.shape)
        )

    def observe(self, clock, state):
        """What is saved: the overlaps and whether the state is finite, and what `save_fn` gives."""
        overlaps = jnp.asarray(self.model.overlaps(state), state.dtype)
        # The mean is finite just if every entry is, and a product is faster than `all`.
        finite = jnp.isfinite(state @ jnp.full_like(state, 1 / state.shape[0]))
        saved = None if self.save_fn is None else self.save_fn(self.time(clock), state)
        # One array: Diffrax goes through every buffer in every step, saved or not.
        return jnp.append(overlaps, finite.astype(state.dtype)), saved

    def first_passage(self, clock, state, before: Passage) -> Passage:
        """The first passage up to now, given what there was before.

        Between two looks the margin is taken for linear, but for the step up to a new input, which
        it may depend on, and what is seen first.
        """
        assert self.passage_fn is not None
        overlaps = jnp.asarray(self.model.overlaps(state), state.dtype)
        margin = jnp.asarray(self.passage_fn(self.time(clock), state, overlaps), state.dtype)
        passed = (margin > 0) & (clock >= self.passage_from) & jnp.isinf(before.clock)
        within = passed & (before.last >= self.passage_from) & jnp.isfinite(margin - before.margin)
        within &= before.margin <= 0  # else it was passed before
        if self.drives is not None:
            onsets = self.drives.onsets[1:]
            within &= ~jnp.any((onsets > before.last) & (onsets <= clock))
        rise = jnp.where(within, margin - before.margin, 1)
        length = jnp.where(within, clock - before.last, 0)
        return Passage(
            jnp.where(passed, clock, before.clock),
            jnp.where(passed, length * margin / rise, before.ahead),
            clock,
            margin,
        )

    def check(self, state) -> None:
        """Refuse functions of the user's that return what the solve cannot go on with."""
        zero, size = jnp.zeros((), state.dtype), (self.model.state_size,)
        num_memories, num_neurons = self.model.memories.shape
        if self.inputs is not None:
            check_output(self.inputs, "inputs", ((num_neurons,),), zero)
        if self.noise is not None:
            check_output(self.noise.diffusion, "noise.diffusion", ((), size), zero, state)
        if self.save_fn is not None:
            output_of(self.save_fn, "save_fn", "arrays, given (t, state)", zero, state)
        if self.passage_fn is not None:
            overlaps = jnp.zeros(num_memories, state.dtype)
            check_output(self.passage_fn, "passage_fn", ((),), zero, state, overlaps)


class LaterPath(dfx.AbstractBrownianPath):
    """A path on a clock that starts later."""

    levy_area: Any = eqx.field(static=True)
    path: dfx.AbstractBrownianPath
    shift: Float[Array, ""]

    @property
    def t0(self):
        return self.path.t0

    @property
    def t1(self):
        return self.path.t1

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        t1 = None if t1 is None else t1 + self.shift
        return self.path.evaluate(t0 + self.shift, t1, left, use_levy)


def drift(clock, state, system: System):
    """See `System`; a function, so that nothing is compiled anew per call."""
    return system.drift(clock, state)


def diffusion(clock, state, system: System):
    """See `System`; a function, so that nothing is compiled anew per call."""
    return system.diffusion(clock, state)


def input_diffusion(clock, state, system: System):
    """See `System`; a function, so that nothing is compiled anew per call."""
    return system.input_diffusion(clock, state)


def observe(clock, state, system: System):
    """See `System`; a function, so that nothing is compiled anew per call."""
    return system.observe(clock, state)


class StepState(NamedTuple):
    """What a `StepSolver` carries from step to step."""

    inner: PyTree  # of the solver inside
    passage: Passage | None  # None where none is looked for
    z: Float[Array, " N"] | None  # of the noise on the input


class StepSolver(dfx.AbstractWrappedSolver):
    """Gives every stage of a step the input that holds at its beginning; notes first passages.

    The function is looked at before the step, where an Euler step computes the same activities.
    """

    solver: Any

    @property
    def term_structure(self):
        return self.solver.term_structure

    @property
    def interpolation_cls(self):
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self):
        return self.solver.term_compatible_contr_kwargs

    @property
    def root_finder(self):
        return self.solver.root_finder

    @property
    def root_find_max_steps(self):
        return self.solver.root_find_max_steps

    @property
    def scan_kind(self):
        return self.solver.scan_kind

    def order(self, terms):
        return self.solver.order(terms)

    def strong_order(self, terms):
        return self.solver.strong_order(terms)

    def error_order(self, terms):
        return self.solver.error_order(terms)

    def init(self, terms, t0, t1, y0, args: System):
        inner = self.solver.init(terms, t0, t1, y0, args.hold(t0))
        passage = None if args.passage_fn is None else Passage.none(y0.dtype)
        return StepState(inner, passage, args.z)

    def step(self, terms, t0, t1, y0, args: System, solver_state, made_jump):
        inner, passage, z = solver_state
        if z is not None:
            args = eqx.tree_at(lambda system: system.z, args, z)
        if args.passage_fn is not None:
            passage = args.first_passage(t0, y0, passage)
        if args.drives is not None and args.drives.onsets.shape[0] > 1:
            made_jump = made_jump | jnp.any(args.drives.onsets == t0)
        y1, error, dense, inner, result = self.solver.step(
            terms, t0, t1, y0, args.hold(t0), inner, made_jump
        )
        if z is not None:
            assert args.input_noise is not None
            z = args.input_noise.follow(z, args.step_of(t1))
        return y1, error, dense, StepState(inner, passage, z), result

    def func(self, terms, t0, y0, args: System):
        return self.solver.func(terms, t0, y0, args.hold(t0))
