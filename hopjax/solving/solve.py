"""One retrieval: a model, its input over time and its noise, solved by Diffrax."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real

from hopjax._checks import (
    cast_floats,
    check_array,
    check_flag,
    check_instance,
    check_key,
    check_number,
    check_values,
    is_traced,
)
from hopjax._steps import first_step, last_step, multiple_of
from hopjax.inputs import Schedule
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.program import compiled
from hopjax.solving.method import Method, choose_method, levy_area_of

SaveFunction = Callable[[Float[Array, ""], Float[Array, " state"]], PyTree[Array]]
PassageFunction = Callable[
    [Float[Array, ""], Float[Array, " state"], Float[Array, " P"]], Float[Array, ""]
]
Input = Schedule | Real[ArrayLike, " N"] | Callable[[Float[Array, ""]], Float[Array, " N"]]

_DEFAULT_SAVES = 100
_DIVISORS_UP_TO = 10**6  # steps between saved times, beyond which none is looked for
_MAX_STEPS_PER_DT = 64  # adaptive steps: this many per dt on average before giving up
_STATES_KEPT = 4 * 2**20  # bytes per trajectory, for a reverse pass


class DivergenceError(RuntimeError):
    """The state stopped being finite."""


class Grid(NamedTuple):
    """The steps of a solve, which are counted in integers on the host.

    Attributes:
        dt: the length of a step.
        num_steps: how many there are up to t1.
        stride: how many lie between saved times.
    """

    dt: float
    num_steps: int
    stride: int

    @property
    def t1(self) -> float:
        """The end."""
        return self.num_steps * self.dt

    @property
    def save_steps(self) -> Int[np.ndarray, " T"]:
        """The steps after which something is saved, from 0."""
        return np.arange(0, self.num_steps + 1, self.stride)

    @property
    def save_times(self) -> Float[np.ndarray, " T"]:
        """Their times."""
        return self.save_steps * self.dt

    def first_step(self, t: float) -> int:
        """The first step at a time or after it."""
        return first_step(t, self.dt)

    def last_step(self, t: float) -> int:
        """The last step at a time or before it."""
        return last_step(t, self.dt)

    def reaches(self, t: float) -> bool:
        """Whether a time is in [0, t1]."""
        return 0 <= t and self.first_step(t) <= self.num_steps

    def late(self, settle: float) -> Bool[np.ndarray, " T"]:
        """Which saved times are in the closed interval [t1 − settle, t1]; at least the last is."""
        first = self.num_steps - self.last_step(settle)
        return self.save_steps >= min(first, self.save_steps[-1])

    def times(self, steps: Int[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
        """The times of steps, infinite where one is −1 for never."""
        return np.where(steps < 0, np.inf, steps * self.dt)

    def times_since(self, steps: Int[np.ndarray, "*S"], since: float) -> Float[np.ndarray, "*S"]:
        """How long after `since` steps are that are not before it: 0 for its own step."""
        first = self.first_step(since)
        if first == self.last_step(since):
            return self.times(np.where(steps < 0, -1, steps - first))
        return self.times(steps) - since


class Trajectory(eqx.Module):
    """One noisy retrieval, as `solve` returns it (under vmap: every array with a batch axis).

    Attributes:
        ts: the saved times, from 0 in steps of `save_every`, in the dtype of the memories;
            `grid.save_times` has them in float64.
        overlaps: the overlap with each memory at `ts`; NaN from the moment the state diverged.
        final_state: the state at t1.
        ok: whether the state stayed finite, judged on the state and not on the overlaps (a
            saturating activation makes those of a blown-up state look perfect).
        diverged_step: the number of the first step of those saved (or of the last) without a finite
            state; −1 if there is none. Adaptive steps that were given up count as well.
        grid: the steps that were solved, the same for a whole batch.
        saved: what `save_fn` returned at `ts`, stacked; None without one.
        passage: the number of the first step, from `passage_since` on, at which `passage_fn` was
            positive; −1 if it never was (in a trajectory that diverged: not up to the last saved
            time with a finite state). Adaptive steps have no numbers: their time, infinite for
            never. None without a `passage_fn`.
        amplitudes: how far the state reached along each memory at `ts`, in units of that memory;
            None unless a `Criterion` asks for a least amplitude in a `Trial`.
    """

    ts: Float[Array, " T"]
    overlaps: Float[Array, "T P"]
    final_state: Float[Array, " state"]
    ok: Bool[Array, ""]
    diverged_step: Int[Array, ""]
    grid: Grid = eqx.field(static=True)
    saved: PyTree[Array] = None
    passage: Int[Array, ""] | Float[Array, ""] | None = None
    amplitudes: Float[Array, "T P"] | None = None

    @property
    def diverged_at(self) -> Float[Array | np.ndarray, ""]:
        """The time of `diverged_step`, infinite if there is none; exact as `passage_time` is."""
        return self._time(self.diverged_step)

    @property
    def passage_step(self) -> Int[Array, ""] | None:
        """The number of the step of the first passage, −1 for none.

        None with adaptive steps, and without a `passage_fn`.
        """
        passage = self.passage
        if passage is None or not jnp.issubdtype(passage.dtype, jnp.integer):
            return None
        return passage

    @property
    def passage_time(self) -> Float[Array | np.ndarray, ""] | None:
        """The time of the first passage, infinite for none; None without a `passage_fn`.

        It is the number of the step times dt, in float64 on the host. Inside jit, vmap or grad it
        has the dtype of the memories, which in float32 does not tell all steps apart beyond some
        10⁶: take `passage_step`, which is exact. With adaptive steps it has that dtype always.
        """
        return self.passage if self.passage_step is None else self._time(self.passage_step)

    def _time(self, step: Int[Array, ""]) -> Float[Array | np.ndarray, ""]:
        """Of a step, infinite for −1."""
        if is_traced(step):
            time = self.grid.dt * step.astype(self.overlaps.dtype)
            return jnp.where(step < 0, jnp.inf, time)
        return self.grid.times(np.asarray(step))[()]

    def __repr__(self) -> str:
        """A summary of what was solved and how it ended."""
        if is_traced(self) or not eqx.is_array(self.ts):
            return eqx.tree_pformat(self)
        *batch, num_times, num_memories = self.overlaps.shape
        ts = np.asarray(self.ts).reshape(-1, num_times)[0]
        head = (
            f"{num_times} saved times from 0 to {ts[-1]:g}, {num_memories} memories, "
            f"{self.final_state.shape[-1]} state entries"
        )
        if batch:
            ok, total = int(np.sum(self.ok)), math.prod(batch)
            return f"Trajectory: {'x'.join(map(str, batch))} trials ({ok} of {total} ok), {head}"
        lines = [f"Trajectory: {head}"]
        if not self.ok:
            lines.append(f"  diverged: state not finite at t = {float(self.diverged_at):g}")
        overlaps = np.asarray(self.overlaps)
        for row in np.unique(np.linspace(0, num_times - 1, 7).round().astype(int)):
            if num_memories and np.isfinite(overlaps[row]).all():
                best = _strongest(overlaps[row])
                lines.append(
                    f"  t = {ts[row]:<6g} strongest overlap {overlaps[row, best]:+.3f} "
                    f"with memories[{best}]"
                )
        return "\n".join(lines)


def _strongest(overlaps: Float[np.ndarray, " P"]) -> int:
    """The memory of the largest |m|; where several tie but for rounding, of the largest m."""
    strength = np.abs(overlaps)
    slack = 1e3 * np.finfo(overlaps.dtype).eps * strength.max()
    return int(np.argmax(np.where(strength >= strength.max() - slack, overlaps, -np.inf)))


def solve(
    model: AbstractHopfield,
    inputs: Input,
    x0: Real[ArrayLike, " N"],
    *,
    t1: float,
    dt: float,
    noise: AbstractNoise | None,
    key: PRNGKeyArray | None,
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
        noise: `AdditiveNoise(strength)`, `MultiplicativeNoise(function)` or None.
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
        raise ValueError(
            "Argument `adjoint` must be diffrax.ForwardMode() or diffrax.DirectAdjoint() under "
            "forward-mode differentiation (jvp, jacfwd, hessian): the default, "
            "RecursiveCheckpointAdjoint(), is for reverse mode."
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


def check_problem(
    model: Any,
    inputs: Any,
    x0: Any,
    *,
    t1: Any,
    dt: Any,
    noise: Any,
    key: Any,
    save_every: Any = None,
    save_fn: Any = None,
    passage_fn: Any = None,
    passage_since: Any = 0.0,
    solver: Any = None,
    stepsize_controller: Any = None,
    adjoint: Any = None,
) -> "Problem":
    """The door of `solve`: refuses wrong arguments without solving anything."""
    check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
    hint = "one trajectory; use jax.vmap for many"
    memories = check_array(model.memories, "model.memories", ("P", "N"), hint=hint, finite=False)
    num_neurons, dtype = memories.shape[1], memories.dtype
    if getattr(model.memories, "dtype", None) != dtype:
        raise TypeError(
            "Argument `model.memories` must be an array of float32 or float64, which is the dtype "
            f"of the solve, got {getattr(model.memories, 'dtype', type(model.memories).__name__)}."
        )
    grid = _grid(t1, dt, save_every)
    most = 2 ** (jnp.finfo(dtype).nmant + 1)
    if grid.num_steps >= most:
        raise ValueError(
            f"Argument `t1` must be below {most} steps of dt in {dtype}, got {grid.num_steps}: "
            "use float64 memories under jax_enable_x64."
        )
    if noise is not None:
        check_instance(noise, AbstractNoise, "noise", "noise such as AdditiveNoise(8.0), or None")
        if key is None:
            raise ValueError(
                "Argument `key` must be a key such as jax.random.key(0) where there is noise, got "
                "None."
            )
    if key is not None:
        key = check_key(key)
    if adjoint is None and stepsize_controller is None:
        states = grid.num_steps * model.state_size * dtype.itemsize
        adjoint = dfx.RecursiveCheckpointAdjoint(
            checkpoints=grid.num_steps if states <= _STATES_KEPT else None
        )
    method = choose_method(solver, stepsize_controller, adjoint, noise)
    fastest = model.fastest_time_constant
    x0 = check_array(x0, "x0", (num_neurons,), hint=hint)
    if not isinstance(method.solver, dfx.AbstractImplicitSolver):
        too_long = grid.dt > fastest
        if is_traced(fastest):
            right = f"at most the model's fastest time constant (got {grid.dt:g})"
            x0 = check_values(x0, too_long, "dt", right)
        elif too_long:
            raise ValueError(
                "Argument `dt` must not exceed the model's fastest time constant "
                f"{float(fastest):g}, got {grid.dt:g}."
            )
    shown = _shown(inputs, num_neurons, grid, method)
    for function, name, of in (
        (save_fn, "save_fn", "(t, state)"),
        (passage_fn, "passage_fn", "(t, state, overlaps)"),
    ):
        if function is not None and not callable(function):
            raise TypeError(f"Argument `{name}` must be a function of {of}, got {function!r}.")
    passage_since = check_number(passage_since, "passage_since")
    if not grid.reaches(passage_since):
        raise ValueError(
            f"Argument `passage_since` must be from 0 to t1 = {grid.t1:g}, got {passage_since:g}."
        )

    model, shown, x0, noise = cast_floats((model, shown, x0, noise), dtype)
    passage_from = passage_since if method.adaptive else grid.first_step(passage_since)
    passage_from = jnp.asarray(passage_from, dtype)
    return Problem(model, shown, x0, noise, key, save_fn, passage_fn, passage_from, grid, method)


class Problem(NamedTuple):
    """The checked arguments of one solve."""

    model: AbstractHopfield
    inputs: Any  # (onsets on the solver's clock, values), or a callable
    x0: Float[Array, " N"]
    noise: AbstractNoise | None
    key: PRNGKeyArray | None
    save_fn: Callable | None
    passage_fn: Callable | None
    passage_from: Float[Array, ""]  # on the solver's clock
    grid: Grid
    method: Method


def _default_stride(num_steps: int) -> int:
    """Steps between about a hundred saved times, with t1 among them where a divisor allows."""
    wanted = num_steps / _DEFAULT_SAVES
    if wanted > _DIVISORS_UP_TO:
        return round(wanted)
    near = range(max(1, math.ceil(wanted / 2)), math.floor(2 * wanted) + 1)
    divisors = [stride for stride in near if num_steps % stride == 0]
    return min(
        divisors, key=lambda d: max(d, wanted) / min(d, wanted), default=max(1, round(wanted))
    )


def _grid(t1: Any, dt: Any, save_every: Any) -> Grid:
    dt = check_number(dt, "dt", positive=True)
    num_steps = multiple_of(t1, "t1", dt)
    if save_every is None:
        stride = _default_stride(num_steps)
    else:
        stride = multiple_of(save_every, "save_every", dt)
        if stride > num_steps:
            raise ValueError(
                f"Argument `save_every` must not exceed t1 = {float(t1):g}, got {save_every:g}."
            )
    return Grid(dt, num_steps, stride)


def check_inputs(inputs: Any, num_neurons: int, *, finite: bool = True) -> Any:
    """A schedule of such a network, a constant input as an array, or a function."""
    if isinstance(inputs, Schedule):
        if inputs.onsets.ndim != 1 or inputs.values.shape[-1] != num_neurons:
            raise ValueError(
                f"Argument `inputs` must have values of shape (S, {num_neurons}), got "
                f"{inputs.values.shape}: one row of {num_neurons} neurons per onset; use jax.vmap "
                "for many trajectories."
            )
        return inputs
    if callable(inputs):
        return inputs
    if inputs is None or isinstance(inputs, str):
        raise TypeError(
            f"Argument `inputs` must be a Schedule, an array of shape ({num_neurons},) or a "
            f"function u(t), got {inputs!r}."
        )
    return check_array(
        inputs,
        "inputs",
        (num_neurons,),
        hint="one constant input; for several over time use Schedule, for many trials jax.vmap",
        finite=finite,
    )


def _shown(inputs: Any, num_neurons: int, grid: Grid, method: Method):
    """A schedule as its onsets on the solver's clock and its values; or the callable itself."""
    inputs = check_inputs(inputs, num_neurons)
    if isinstance(inputs, Schedule):
        onsets = inputs.onsets if method.adaptive else inputs.onset_steps(grid.dt)
        return jnp.asarray(onsets, inputs.values.dtype), inputs.values
    if callable(inputs):
        return inputs
    return jnp.zeros(1, inputs.dtype), inputs[None]


def _output(function: Callable, name: str, right: str, *args: Any) -> Any:
    """Shapes of what a user's function returns; costs a trace only."""
    try:
        return jax.eval_shape(lambda *args: function(*args), *args)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        raise TypeError(f"Argument `{name}` must give {right}, but it failed: {reason}") from error


def _check_output(function: Callable, name: str, sizes: tuple[tuple[int, ...], ...], *args) -> None:
    """Refuse a function that does not return one real array of one of the sizes."""
    right = " or ".join(f"an array of shape {size}" if size else "a number" for size in sizes)
    output = _output(function, name, right, *args)
    got = getattr(output, "shape", None)
    if got not in sizes:
        kind = type(output).__name__ if got is None else f"shape {got}"
        raise ValueError(f"Argument `{name}` must give {right}, got {kind}.")
    if not (
        jnp.issubdtype(output.dtype, jnp.floating) or jnp.issubdtype(output.dtype, jnp.integer)
    ):
        raise TypeError(f"Argument `{name}` must give real numbers, got dtype {output.dtype}.")


def check_methods(model: AbstractHopfield) -> None:
    """Refuse a model of the user's own whose methods return what one cannot go on with."""
    (num_memories, num_neurons), dtype = model.memories.shape, model.memories.dtype
    size = (model.state_size,)
    zero, x0, state = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((), (num_neurons,), size))
    _check_output(model.initial_state, "model.initial_state", (size,), x0)
    drive = _output(model.drive, "model.drive", "what the drift needs, given u", x0)
    _check_output(model.drift, "model.drift", (size,), zero, state, drive)
    _check_output(model.overlaps, "model.overlaps", ((num_memories,),), state)
    _check_output(model.energy, "model.energy", ((),), state, x0)


class _Drives(eqx.Module):
    """What a schedule does to the network, segment by segment of the solver's clock."""

    onsets: Float[Array, " S"]
    drives: PyTree[Array]  # a leading axis of S

    def hold(self, clock) -> "_Drives":
        """Only the segment that holds at `clock`."""
        if self.onsets.shape[0] == 1:
            return self
        segment = jnp.sum(self.onsets <= clock) - 1
        return jax.tree.map(lambda leaf: leaf[segment][None], self)

    def at(self, clock) -> PyTree[Array]:
        """The drive at `clock`."""
        return jax.tree.map(lambda leaf: leaf[0], self.hold(clock).drives)


class _System(eqx.Module):
    """The equation on the solver's clock, which runs `unit` of time per tick.

    It travels as Diffrax's args, so that terms, solver and saving see the very same arrays: XLA
    then computes what they have in common once.
    """

    model: AbstractHopfield
    drives: _Drives | None  # of a schedule
    inputs: Callable | None  # of anything else
    noise: AbstractNoise | None
    save_fn: Callable | None
    passage_fn: Callable | None
    passage_from: Float[Array, ""]  # on that clock
    unit: float = eqx.field(static=True)

    def hold(self, clock) -> "_System":
        """With the input that holds at `clock`, if it comes in segments."""
        if self.drives is None:
            return self
        return eqx.tree_at(lambda system: system.drives, self, self.drives.hold(clock))

    def drift(self, clock, state):
        t = self.unit * clock
        if self.drives is not None:
            drive = self.drives.at(clock)
        else:
            assert self.inputs is not None
            drive = self.model.drive(jnp.asarray(self.inputs(t), state.dtype))
        return self.unit * jnp.asarray(self.model.drift(t, state, drive), state.dtype)

    def diffusion(self, clock, state):
        assert self.noise is not None
        sigma = jnp.asarray(self.noise.diffusion(self.unit * clock, state), state.dtype)
        return lx.DiagonalLinearOperator(
            jnp.broadcast_to(math.sqrt(self.unit) * sigma, state.shape)
        )

    def observe(self, clock, state):
        overlaps = jnp.asarray(self.model.overlaps(state), state.dtype)
        # The mean is finite just if every entry is, and a product is faster than `all`.
        finite = jnp.isfinite(state @ jnp.full_like(state, 1 / state.shape[0]))
        saved = None if self.save_fn is None else self.save_fn(self.unit * clock, state)
        # One array: Diffrax goes through every buffer in every step, saved or not.
        return jnp.append(overlaps, finite.astype(state.dtype)), saved

    def first_passage(self, clock, state, passage):
        """The clock of the first passage up to now, given that before (infinite for none)."""
        assert self.passage_fn is not None
        overlaps = jnp.asarray(self.model.overlaps(state), state.dtype)
        margin = self.passage_fn(self.unit * clock, state, overlaps)
        passed = (margin > 0) & (clock >= self.passage_from)
        return jnp.where(passed, jnp.minimum(passage, clock), passage)

    def check(self, state) -> None:
        """Refuse functions of the user's that return what the solve cannot go on with."""
        zero, size = jnp.zeros((), state.dtype), (self.model.state_size,)
        num_memories, num_neurons = self.model.memories.shape
        if self.inputs is not None:
            _check_output(self.inputs, "inputs", ((num_neurons,),), zero)
        if self.noise is not None:
            _check_output(self.noise.diffusion, "noise.diffusion", ((), size), zero, state)
        if self.save_fn is not None:
            _output(self.save_fn, "save_fn", "arrays, given (t, state)", zero, state)
        if self.passage_fn is not None:
            overlaps = jnp.zeros(num_memories, state.dtype)
            _check_output(self.passage_fn, "passage_fn", ((),), zero, state, overlaps)


def _drift(clock, state, system: _System):
    return system.drift(clock, state)


def _diffusion(clock, state, system: _System):
    return system.diffusion(clock, state)


def _observe(clock, state, system: _System):
    return system.observe(clock, state)


class _StepSolver(dfx.AbstractWrappedSolver):
    """Gives every stage of a step the drive that holds at its beginning; notes first passages.

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

    def init(self, terms, t0, t1, y0, args: _System):
        inner = self.solver.init(terms, t0, t1, y0, args.hold(t0))
        return inner, jnp.full_like(t0, jnp.inf)

    def step(self, terms, t0, t1, y0, args: _System, solver_state, made_jump):
        inner, passage = solver_state
        if args.passage_fn is not None:
            passage = args.first_passage(t0, y0, passage)
        if args.drives is not None and args.drives.onsets.shape[0] > 1:
            made_jump = made_jump | jnp.any(args.drives.onsets == t0)
        y1, error, dense, inner, result = self.solver.step(
            terms, t0, t1, y0, args.hold(t0), inner, made_jump
        )
        return y1, error, dense, (inner, passage), result

    def func(self, terms, t0, y0, args: _System):
        return self.solver.func(terms, t0, y0, args.hold(t0))


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
        drives, inputs = _Drives(onsets, jax.vmap(model.drive)(values)), None
        if method.adaptive and onsets.shape[0] > 1:
            controller = dfx.ClipStepSizeController(controller, jump_ts=onsets[1:])
    if drives is not None or passage_fn is not None:
        solver = _StepSolver(solver)

    system = _System(model, drives, inputs, noise, save_fn, passage_fn, passage_from, unit)
    system.check(state0)
    terms = dfx.ODETerm(_drift)
    if noise is not None:
        simple = issubclass(dfx.BrownianIncrement, levy_area_of(method.solver))
        levy_area = dfx.BrownianIncrement if simple else dfx.SpaceTimeLevyArea
        end, step = (grid.t1, grid.dt) if method.adaptive else (float(grid.num_steps), 1.0)
        assert key is not None
        path = noise.law.path(key, model.state_size, dtype, end, step, levy_area)
        terms = dfx.MultiTerm(terms, dfx.ControlTerm(_diffusion, path))

    save_times = jnp.asarray(grid.save_times, dtype)
    if method.adaptive:
        saves = dfx.SubSaveAt(ts=save_times, fn=_observe)
        end, first, max_steps = grid.t1, grid.dt, max(4096, _MAX_STEPS_PER_DT * grid.num_steps)
        success = dfx.RESULTS.successful
        if noise is not None:
            controller = dfx.ClipStepSizeController(controller, step_ts=save_times)
    else:
        # Ticks are whole numbers, exact in floating point. An infinite end lets Diffrax add them
        # up without rounding near the end of the interval; the number of steps ends the solve.
        saves = dfx.SubSaveAt(t0=True, steps=grid.stride, fn=_observe)
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
