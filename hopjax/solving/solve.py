"""One retrieval: a model, its input over time and its noise, solved by Diffrax."""

import math
import warnings

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray, Real

from hopjax._checks import check_flag, is_traced
from hopjax._errors import ArgumentError, names_keywords
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.program import compiled
from hopjax.solving.door import (
    Input,
    PassageFunction,
    Problem,
    SaveFunction,
    check_methods,
    check_problem,
)
from hopjax.solving.method import levy_area_of
from hopjax.solving.system import Drives, StepSolver, System, diffusion, drift, observe
from hopjax.solving.trajectory import DivergenceError, Trajectory

_MAX_STEPS_PER_DT = 64  # adaptive steps: this many per dt on average before giving up


@names_keywords
def solve(
    model: AbstractHopfield,
    inputs: Input,
    x0: Real[ArrayLike, " N"],
    *,
    t1: float,
    dt: float,
    noise: AbstractNoise | None = None,
    key: PRNGKeyArray | None = None,
    save_every: float | None = None,
    save_fn: SaveFunction | None = None,
    passage_fn: PassageFunction | None = None,
    passage_since: float = 0.0,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    throw: bool = True,
) -> Trajectory:
    """Solve dx = drift(t, x; u(t)) dt + σ dB from 0 to t1 for one network.

    Use `jax.vmap` over any of model, inputs, x0, noise and key for many; it works under `jit`
    and reverse-mode differentiation too. The first call compiles; another σ, key, input or set
    of memories of the same shapes does not. All runs in the dtype of `model.memories`.

    Args:
        model: the network.
        inputs: a `Schedule`, one vector (a constant input), or a callable u(t) -> (N,), best an
            Equinox Module. A schedule's onsets must lie on step boundaries; every stage of a
            step sees the input of that step, so a solver keeps its order across a switch.
        x0: features at time 0.
        t1: end, a static multiple of `dt`, in units of the neuron's time constant (like all
            times).
        dt: step, static. With adaptive steps: the first step, and the unit of `save_every`.
        noise: `AdditiveNoise(strength)`, `MultiplicativeNoise(function)`, or None for none.
        key: decides the noise. With a law on the grid ("gaussian", "two_point") step i of a key
            has the same increment whatever surrounds it. May be None only without noise.
        save_every: interval between saved times, a static multiple of `dt`; by default about a
            hundred times are saved. The state at t1 is always in `final_state`.
        save_fn: further quantities to save, `save_fn(t, state)` -> arrays, found in `saved`. A
            function defined once: a lambda made anew per call compiles anew per call.
        passage_fn: `passage_fn(t, state, overlaps)` -> a real number that is looked at after every
            step, saved or not: the first step at which it is positive is a passage
            (`passage_step`, `passage_time`). With Euler steps the overlaps cost next to nothing:
            the drift computes the same products.
        passage_since: time from which on a passage counts, static, from 0 to t1: from the first
            step n with n·dt ≥ `passage_since`. Where the two differ by less than 10⁻⁷ of the
            time, which is what typing it as a decimal makes of it, they are the same.
        solver: any Diffrax solver that suits the noise; Euler by default, and with adaptive
            steps Tsit5 (no noise) or SPaRK (additive noise).
        stepsize_controller: None for fixed steps, or an adaptive controller such as
            `diffrax.PIDController`, which needs noise with `law="tree"` (or none).
        adjoint: how to differentiate: by default `diffrax.RecursiveCheckpointAdjoint`, for
            reverse mode, which keeps the states of all steps where those of one trajectory take
            at most 4 MiB (1024 neurons, 1000 steps), and otherwise some of them, from which it
            solves again (half as slow again; `checkpoints` is their number). For forward mode
            (`jax.jvp`, `jax.jacfwd`; cheapest for a few parameters) pass
            `diffrax.ForwardMode()`, for both `diffrax.DirectAdjoint()`. With fixed steps onsets
            are whole numbers of steps: the derivative by an onset is zero.
        throw: raise `DivergenceError` when the state diverges. Inside jit, vmap or grad nothing
            is raised: look at `ok`.

    Returns:
        A `Trajectory`.

    Raises:
        ValueError: for a wrong shape or value, or a combination that would give wrong answers.
        TypeError: for an argument of the wrong kind.
        DivergenceError: if the state stopped being finite and `throw` is set.
    """
    throw = check_flag(throw, "throw")
    problem = check_problem(
        model,
        inputs,
        x0,
        t1=t1,
        dt=dt,
        noise=noise,
        key=key,
        save_every=save_every,
        save_fn=save_fn,
        passage_fn=passage_fn,
        passage_since=passage_since,
        solver=solver,
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
    )
    grid, method = problem.grid, problem.method
    try:
        trajectory = _solve(problem)
    except TypeError as error:
        reverse_only = isinstance(method.adjoint, dfx.RecursiveCheckpointAdjoint)
        if not reverse_only or "forward-mode" not in str(error):
            raise
        raise ArgumentError(
            "adjoint",
            "diffrax.ForwardMode() or diffrax.DirectAdjoint() under forward-mode "
            "differentiation (jvp, jacfwd, hessian)",
            hint="the default, RecursiveCheckpointAdjoint(), is for reverse mode",
        ) from error
    if throw and not is_traced(trajectory) and not trajectory.ok:
        what, remedy = "The state stopped being finite", f"a smaller dt than {grid.dt:g}"
        if method.adaptive:
            what += f", or {_MAX_STEPS_PER_DT} adaptive steps per dt were not enough,"
            remedy = "looser tolerances"
        raise DivergenceError(
            f"{what} by t = {float(trajectory.diverged_at):g} (looked at every "
            f"{grid.stride * grid.dt:g}): use {remedy}, or throw=False to get the trajectory with "
            "ok=False."
        )
    return trajectory


@compiled
def _solve(problem: Problem) -> Trajectory:
    model, inputs, x0, noise, key, save_fn, passage_fn, passage_from, grid, method = problem
    dtype = model.memories.dtype
    check_methods(model)
    state0 = jnp.asarray(model.initial_state(x0), dtype)
    unit = 1.0 if method.adaptive else grid.dt
    solver, controller = method.solver, method.controller
    if isinstance(method.adjoint, dfx.DirectAdjoint) and isinstance(solver, dfx.AbstractSRK):
        # DirectAdjoint itself would take "bounded", which these solvers cannot push forward.
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    drives = None
    if isinstance(inputs, tuple):
        onsets, values = inputs
        drives, inputs = Drives(onsets, jax.vmap(model.drive)(values)), None
        if method.adaptive and onsets.shape[0] > 1:
            controller = dfx.ClipStepSizeController(controller, jump_ts=onsets[1:])
    if drives is not None or passage_fn is not None:
        solver = StepSolver(solver)

    system = System(model, drives, inputs, noise, save_fn, passage_fn, passage_from, unit)
    system.check(state0)
    terms = dfx.ODETerm(drift)
    if noise is not None:
        simple = issubclass(dfx.BrownianIncrement, levy_area_of(method.solver))
        levy_area = dfx.BrownianIncrement if simple else dfx.SpaceTimeLevyArea
        end, step = (grid.t1, grid.dt) if method.adaptive else (float(grid.num_steps), 1.0)
        assert key is not None
        path = noise.law.path(key, model.state_size, dtype, end, step, levy_area)
        terms = dfx.MultiTerm(terms, dfx.ControlTerm(diffusion, path))

    save_times = jnp.asarray(grid.save_times, dtype)
    if method.adaptive:
        saves = dfx.SubSaveAt(ts=save_times, fn=observe)
        end, first, max_steps = grid.t1, grid.dt, max(4096, _MAX_STEPS_PER_DT * grid.num_steps)
        success = dfx.RESULTS.successful
        if noise is not None:
            controller = dfx.ClipStepSizeController(controller, step_ts=save_times)
    else:
        # Ticks are whole numbers, exact in floating point. An infinite end lets Diffrax add them
        # up without rounding near the end of the interval; the number of steps ends the solve.
        saves = dfx.SubSaveAt(t0=True, steps=grid.stride, fn=observe)
        end, first, max_steps = math.inf, 1.0, grid.num_steps
        success = dfx.RESULTS.max_steps_reached
    with warnings.catch_warnings():
        # Diffrax looks for this through one wrapper only; `choose_method` has made sure of it.
        warnings.filterwarnings("ignore", message=".* is not marked as converging")
        solution = dfx.diffeqsolve(
            terms,
            solver,
            jnp.zeros((), dtype),
            jnp.asarray(end, dtype),
            jnp.asarray(first, dtype),
            state0,
            system,
            saveat=dfx.SaveAt(
                subs=[saves, dfx.SubSaveAt(t1=True)], solver_state=passage_fn is not None
            ),
            stepsize_controller=controller,
            adjoint=method.adjoint,
            max_steps=max_steps,
            throw=False,  # no callback in the loop; `ok` says it
        )
    assert solution.ys is not None
    (observed, saved), (final_state,) = solution.ys
    # An unused place of Diffrax's buffers is infinite, so not 1 either.
    overlaps, finite = observed[:, :-1], observed[:, -1] == 1
    final_ok = jnp.all(jnp.isfinite(final_state)) & (solution.result == success)
    steps = jnp.asarray(np.append(grid.save_steps, grid.num_steps), int)
    well = jnp.append(finite, final_ok)
    diverged_step = jnp.where(jnp.all(well), -1, steps[jnp.argmin(well)])
    passage = None
    if passage_fn is not None:
        assert solution.solver_state is not None
        saved_at, end = (save_times, end) if method.adaptive else (grid.save_steps, grid.num_steps)
        saved_at, end = jnp.asarray(saved_at, dtype), jnp.asarray(end, dtype)
        passage = system.first_passage(end, final_state, solution.solver_state[1])
        # A blown-up state passes any threshold: what counts was reached while all was well.
        well = jnp.max(jnp.where(finite, saved_at, -jnp.inf))
        passage = jnp.where((jnp.all(finite) & final_ok) | (passage <= well), passage, jnp.inf)
        if not method.adaptive:
            passage = jnp.where(jnp.isfinite(passage), passage, -1).astype(int)
    return Trajectory(
        ts=save_times,
        overlaps=jnp.where(finite[:, None], overlaps, jnp.nan),
        final_state=final_state,
        ok=jnp.all(finite) & final_ok,
        diverged_step=diverged_step,
        grid=grid,
        saved=saved,
        passage=passage,
    )
