"""A checked problem is handed to Diffrax, and what comes back is put in order."""

import math
import warnings
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from hopjax.models import shortened
from hopjax.noise import Gaussian
from hopjax.program import compiled
from hopjax.solving.capacity import padded
from hopjax.solving.door import Passage, Problem, Shown, check_methods
from hopjax.solving.exponential import ExponentialAdams, rates_of
from hopjax.solving.grid import Grid
from hopjax.solving.method import levy_area_of
from hopjax.solving.system import (
    Drives,
    LaterPath,
    StepSolver,
    StepState,
    System,
    diffusion,
    drift,
    input_diffusion,
    observe,
)

MAX_STEPS_PER_DT = 64  # adaptive steps: this many per dt on average before giving up
_STATES_KEPT = 4 * 2**20  # bytes per trajectory, for a reverse pass


class Solved(NamedTuple):
    """What `Trajectory` tells of a solve, and the solver's own state at the end."""

    ts: Float[Array, " T"]
    overlaps: Float[Array, "T P"]
    final_state: Float[Array, " state"]
    ok: Bool[Array, ""]
    diverged_step: Int[Array, ""]
    saved: PyTree[Array]
    passage: Int[Array, ""] | Float[Array, ""] | None
    passage_ahead: Float[Array, ""] | None
    solver_state: PyTree
    last_passage: Passage  # for what goes on
    z: Float[Array, " N"] | None = None  # of the noise on the input


def run(problem: Problem) -> Solved:
    """Solve a problem, in arrays as long as its capacity asks for."""
    solved, model = _run_from_zero(padded(problem)), problem.model
    return solved._replace(
        overlaps=shortened(solved.overlaps, model.memories.shape[0]),
        final_state=shortened(solved.final_state, model.state_size),
    )


def _run_from_zero(problem: Problem) -> Solved:
    """Solve a problem on a clock that starts at 0, where that changes nothing.

    Then a program does not know how many steps went before: parts of the same length compile once,
    and as one solve from 0 does.
    """
    grid, before, dtype = problem.grid, problem.before, problem.model.memories.dtype
    shift = grid.start - grid.start % grid.stride
    if shift == 0 or _needs_clock(problem):
        return _run(problem, None)
    ticks = jnp.asarray(shift, dtype)
    inputs = problem.inputs
    if isinstance(inputs, Shown):
        inputs = inputs._replace(onsets=inputs.onsets - ticks)
    if before is not None:
        before = before._replace(passage=before.passage.later(ticks))
    moved = problem._replace(
        inputs=inputs,
        passage_from=problem.passage_from - ticks,
        grid=grid._replace(num_steps=grid.num_steps - shift, start=grid.start - shift),
        before=before,
    )
    solved = _run(moved, ticks)
    if _may_hold_times(problem, solved.solver_state):  # on another clock than what goes on
        return _run(problem, None)
    return solved._replace(ts=jnp.asarray(grid.save_times, dtype))


def _needs_clock(problem: Problem) -> bool:
    """Whether something has times of its own on the clock."""
    law = None if problem.noise is None else problem.noise.law
    if problem.method.adaptive or not (law is None or law.on_grid):
        return True
    if problem.before is not None and _may_hold_times(problem, problem.before.solver_state):
        return True
    if _coloured(problem) and (problem.before is None or problem.before.z is None):
        return True  # which begins with step 0
    # Within a step the clock is rounded, which these do not see.
    at_the_start = dfx.Euler, ExponentialAdams
    return not isinstance(problem.method.solver, at_the_start) and _depends_on_time(problem)


def _coloured(problem: Problem) -> bool:
    """Whether there is noise with a correlation time on the input."""
    return problem.input_noise is not None and not problem.input_noise.white


def _depends_on_time(problem: Problem) -> bool:
    """Whether the equation does, other than by a schedule."""
    model, noise = problem.model, problem.noise
    if not isinstance(problem.inputs, Shown):
        return True

    def rates(t: Float[Array, ""], state: Float[Array, " state"], u: Float[Array, " N"]) -> Any:
        sigma = None if noise is None else noise.diffusion(t, state)
        return model.drift(t, state, model.drive(u)), sigma

    sizes = (), (model.state_size,), (model.memories.shape[1],)
    given = (jax.ShapeDtypeStruct(size, model.memories.dtype) for size in sizes)
    traced = jax.make_jaxpr(rates)(*given).jaxpr
    used = [*traced.outvars, *(each for step in traced.eqns for each in step.invars)]
    return any(each is traced.invars[0] for each in used)


def _may_hold_times(problem: Problem, solver_state: PyTree) -> bool:
    """Whether a solver keeps a number that has not the shape of the state."""
    return any(
        jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.shape != (problem.model.state_size,)
        for leaf in jax.tree.leaves(solver_state)
    )


class _Part(NamedTuple):
    """Steps of one loop: where the clock is before the first, and how many there are."""

    clock: float
    saves: dfx.SubSaveAt
    max_steps: int


def _parts(grid: Grid) -> list[_Part]:
    """Up to the first multiple of `stride` and on from there: Diffrax saves every so many steps.

    All loops save alike, however few steps they have: what is saved in the same step as something
    else is computed together with it, and rounded otherwise.
    """
    length = grid.num_steps - grid.start
    lead = min(grid.lead, length)
    ends_saved = lead == grid.lead == length
    loops = (grid.start, lead, ends_saved), (grid.start + lead, length - lead, False)
    return [
        _Part(clock, dfx.SubSaveAt(t0=True, t1=t1, steps=grid.stride, fn=observe), steps)
        for clock, steps, t1 in loops
        if steps
    ]


@compiled
def _run(problem: Problem, shift: Float[Array, ""] | None) -> Solved:
    """Solve a problem whose clock starts at a number of ticks; None for none."""
    model, noise, grid, method = problem.model, problem.noise, problem.grid, problem.method
    dtype, before = model.memories.dtype, problem.before
    check_methods(model)
    state = problem.state0
    if state is None:
        assert problem.x0 is not None
        state = jnp.asarray(model.initial_state(problem.x0), dtype)
    solver, controller, adjoint = method.solver, method.controller, _adjoint(problem)
    if isinstance(adjoint, dfx.DirectAdjoint) and isinstance(solver, dfx.AbstractSRK):
        # DirectAdjoint itself would take "bounded", which these solvers cannot push forward.
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    if isinstance(solver, ExponentialAdams):
        solver = solver.for_rates(rates_of(model), grid.dt)
    drives, inputs = None, problem.inputs
    if isinstance(inputs, Shown):
        onsets, values = inputs
        shown = values if _coloured(problem) else jax.vmap(model.drive)(values)
        drives, inputs = Drives(onsets, shown), None
        if method.adaptive and onsets.shape[0] > 1:
            controller = dfx.ClipStepSizeController(controller, jump_ts=onsets[1:])
    z = None
    if _coloured(problem):
        assert problem.input_noise is not None
        z = None if before is None else before.z
        z = problem.input_noise.at(grid.start) if z is None else z
    wrapped = drives is not None or problem.passage_fn is not None or z is not None
    if wrapped:
        solver = StepSolver(solver)

    functions = problem.save_fn, problem.passage_fn, problem.passage_from
    unit = 1.0 if method.adaptive else grid.dt
    system = System(model, drives, inputs, noise, *functions, unit, shift, problem.input_noise, z)
    system.check(state)
    terms = dfx.ODETerm(drift)
    if noise is not None:
        simple = issubclass(dfx.BrownianIncrement, levy_area_of(method.solver))
        levy_area = dfx.BrownianIncrement if simple else dfx.SpaceTimeLevyArea
        end, step = (grid.t1, grid.dt) if method.adaptive else (float(grid.num_steps), 1.0)
        end = end if shift is None else math.inf
        assert problem.key is not None
        path = noise.law.path(problem.key, model.state_size, dtype, end, step, levy_area)
        terms = dfx.MultiTerm(terms, dfx.ControlTerm(diffusion, _later(path, shift)))
    if problem.input_noise is not None and problem.input_noise.white:
        increments = dfx.BrownianIncrement
        path = Gaussian().path(
            problem.input_noise.key, model.memories.shape[1], dtype, math.inf, 1.0, increments
        )
        others = terms.terms if isinstance(terms, dfx.MultiTerm) else (terms,)
        terms = dfx.MultiTerm(*others, dfx.ControlTerm(input_diffusion, _later(path, shift)))

    save_times = jnp.asarray(grid.save_times, dtype)
    if method.adaptive:
        saves = dfx.SubSaveAt(ts=save_times, fn=observe)
        max_steps = max(4096, MAX_STEPS_PER_DT * (grid.num_steps - grid.start))
        parts = [_Part(grid.start * grid.dt, saves, max_steps)]
        end, first, success = grid.t1, grid.dt, dfx.RESULTS.successful
        if noise is not None:
            controller = dfx.ClipStepSizeController(controller, step_ts=save_times)
    else:
        # Ticks are whole numbers, exact in floating point. An infinite end lets Diffrax add them
        # up without rounding near the end of the interval; the number of steps ends the solve.
        parts = _parts(grid)
        end, first, success = math.inf, 1.0, dfx.RESULTS.max_steps_reached
    solver_state: Any = None
    made_jump = None
    if before is not None:
        solver_state = before.solver_state
        if wrapped:
            passage = None if problem.passage_fn is None else before.passage
            solver_state = StepState(solver_state, passage, z)
        made_jump = before.made_jump
    saved, results = [], []
    for part in parts:
        with warnings.catch_warnings():
            # Diffrax looks for this through one wrapper only; `choose_method` has made sure of it.
            warnings.filterwarnings("ignore", message=".* is not marked as converging")
            solution = dfx.diffeqsolve(
                terms,
                solver,
                jnp.asarray(part.clock, dtype),
                jnp.asarray(end, dtype),
                jnp.asarray(first, dtype),
                state,
                system,
                saveat=dfx.SaveAt(subs=[part.saves, dfx.SubSaveAt(t1=True)], solver_state=True),
                stepsize_controller=controller,
                adjoint=adjoint,
                max_steps=part.max_steps,
                throw=False,  # no callback in the loop; `ok` says it
                solver_state=solver_state,
                made_jump=made_jump,
            )
        assert solution.ys is not None
        observed, (state,) = solution.ys
        solver_state, made_jump = solution.solver_state, None
        saved.append(observed)
        results.append(solution.result == success)
    observed, saved = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *saved)
    # An unused place of Diffrax's buffers is infinite, so not 1 either.
    overlaps, finite = observed[:, :-1], observed[:, -1] == 1
    final_ok = jnp.all(jnp.isfinite(state)) & jnp.all(jnp.stack(results))
    steps = jnp.asarray(np.append(grid.save_steps, grid.num_steps), int)
    well = jnp.append(finite, final_ok)
    ok, moved = jnp.all(well), 0 if shift is None else shift.astype(int)
    diverged_step = jnp.where(ok, -1, steps[jnp.argmin(well)] + moved)
    step = ahead = None
    passage = Passage.none(dtype)
    if problem.passage_fn is not None:
        saved_at, end = (save_times, grid.t1) if method.adaptive else (steps[:-1], steps[-1])
        saved_at, end = jnp.asarray(saved_at, dtype), jnp.asarray(end, dtype)
        passage = system.first_passage(end, state, solver_state.passage)
        # A blown-up state passes any threshold: what counts was reached while all was well.
        well = ok | (passage.clock <= jnp.max(jnp.where(finite, saved_at, -jnp.inf)))
        if before is not None:
            well |= jnp.isfinite(before.passage.clock)
        passage = passage._replace(
            clock=jnp.where(well, passage.clock, jnp.inf), ahead=jnp.where(well, passage.ahead, 0)
        )
        step, ahead = passage.clock - passage.ahead, jnp.zeros_like(passage.ahead)
        if not method.adaptive:
            passed, ahead = jnp.isfinite(passage.clock), passage.ahead
            step = jnp.where(passed, passage.clock.astype(int) + moved, -1)
    if before is not None:
        ok &= before.diverged_step < 0
        diverged_step = jnp.where(before.diverged_step < 0, diverged_step, before.diverged_step)
    return Solved(
        ts=save_times,
        overlaps=jnp.where(finite[:, None], overlaps, jnp.nan),
        final_state=state,
        ok=ok,
        diverged_step=diverged_step,
        saved=saved,
        passage=step,
        passage_ahead=ahead,
        solver_state=solver_state.inner if wrapped else solver_state,
        last_passage=passage if shift is None else passage.later(-shift),
        z=solver_state.z if wrapped else None,
    )


def _later(
    path: dfx.AbstractBrownianPath, shift: Float[Array, ""] | None
) -> dfx.AbstractBrownianPath:
    """A path on a clock that starts later, if it does."""
    if shift is None:
        return path
    return LaterPath(levy_area=path.levy_area, path=path, shift=shift)


def _adjoint(problem: Problem) -> dfx.AbstractAdjoint:
    """How to differentiate: as asked for, or by reverse mode, from states that are kept."""
    grid, method = problem.grid, problem.method
    if method.adjoint is not None:
        return method.adjoint
    if method.adaptive:
        return dfx.RecursiveCheckpointAdjoint()
    num_steps = grid.num_steps - grid.start
    states = num_steps * problem.model.state_size * problem.model.memories.dtype.itemsize
    return dfx.RecursiveCheckpointAdjoint(checkpoints=num_steps if states <= _STATES_KEPT else None)
