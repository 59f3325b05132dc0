"""The door of `solve`: wrong arguments are refused before anything is solved."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real

from hopjax._checks import (
    cast_floats,
    check_array,
    check_instance,
    check_key,
    check_number,
    check_values,
    is_traced,
)
from hopjax._errors import ArgumentError, ArgumentTypeError
from hopjax._steps import multiple_of
from hopjax.inputs import NoisyInput, Schedule, as_input, without_noise
from hopjax.models import AbstractHopfield, check_capacity, with_room
from hopjax.noise import AbstractNoise
from hopjax.solving.exponential import ExponentialAdams, check_rates
from hopjax.solving.grid import Grid
from hopjax.solving.input_noise import InputNoise, check_input_noise
from hopjax.solving.method import Method, choose_method, longest_step

SaveFunction = Callable[[Float[Array, ""], Float[Array, " state"]], PyTree[Array]]
PassageFunction = Callable[
    [Float[Array, ""], Float[Array, " state"], Float[Array, " P"]], Float[Array, ""]
]
Input = (
    Schedule | NoisyInput | Real[ArrayLike, " N"] | Callable[[Float[Array, ""]], Float[Array, " N"]]
)

_DEFAULT_SAVES = 100
_DIVISORS_UP_TO = 10**6  # steps between saved times, beyond which none is looked for


class Shown(NamedTuple):
    """A piecewise constant input."""

    onsets: Float[Array, " S"]  # on the solver's clock
    values: Float[Array, "S N"]


class Passage(NamedTuple):
    """The first passage so far, on the solver's clock, and what was seen last.

    Attributes:
        clock: where the step ends in which it was; infinite for none.
        ahead: by how much it was before that.
        last: the clock at the last look, −∞ before the first.
        margin: what the passage function was then.
    """

    clock: Float[Array, ""]
    ahead: Float[Array, ""]
    last: Float[Array, ""]
    margin: Float[Array, ""]

    @classmethod
    def none(cls, dtype: Any) -> "Passage":
        """Nothing has been seen."""
        return cls(*(jnp.asarray(each, dtype) for each in (jnp.inf, 0.0, -jnp.inf, 0.0)))

    def later(self, ticks: Any) -> "Passage":
        """The same on a clock that was started so much later."""
        return self._replace(clock=self.clock - ticks, last=self.last - ticks)


class Before(NamedTuple):
    """What a solve that goes on is told of what went before."""

    solver_state: PyTree
    made_jump: Bool[Array, ""] | None  # None for no jump
    diverged_step: Int[Array, ""]
    passage: Passage
    z: Float[Array, " N"] | None = None  # of the noise on the input; None where that is new


class Problem(NamedTuple):
    """The checked arguments of one solve."""

    model: AbstractHopfield
    inputs: Shown | Callable
    input_noise: InputNoise | None
    x0: Float[Array, " N"] | None
    state0: Float[Array, " state"] | None  # in place of x0
    noise: AbstractNoise | None
    key: PRNGKeyArray | None
    save_fn: Callable | None
    passage_fn: Callable | None
    passage_from: Float[Array, ""]  # on the solver's clock
    grid: Grid
    method: Method
    before: Before | None = None
    capacity: int | None = None


def check_problem(
    model: Any,
    inputs: Any,
    x0: Any,
    *,
    t1: Any,
    dt: Any,
    noise: Any = None,
    key: Any = None,
    save_every: Any = None,
    save_fn: Any = None,
    passage_fn: Any = None,
    passage_since: Any = 0.0,
    solver: Any = None,
    stepsize_controller: Any = None,
    adjoint: Any = None,
    t0: Any = 0.0,
    state0: Any = None,
    capacity: Any = None,
    input_noise: InputNoise | None = None,
    finite: bool = True,
) -> "Problem":
    """The door of `solve`: refuses wrong arguments without solving anything.

    Inputs may be those of a checked problem, with their noise; `finite` says whether the start must
    be.
    """
    check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
    hint = "one trajectory; use jax.vmap for many"
    memories = check_array(model.memories, "model.memories", ("P", "N"), hint=hint, finite=False)
    num_neurons, dtype = memories.shape[1], memories.dtype
    if getattr(model.memories, "dtype", None) != dtype:
        raise ArgumentTypeError(
            "model.memories",
            "an array of float32 or float64, which is the dtype of the solve",
            getattr(model.memories, "dtype", type(model.memories).__name__),
        )
    capacity = check_capacity(capacity, model)
    grid = _grid(t0, t1, dt, save_every)
    most = 2 ** (jnp.finfo(dtype).nmant + 1)
    if grid.num_steps >= most:
        raise ArgumentError(
            "t1",
            f"below {most} steps of dt in {dtype}",
            grid.num_steps,
            hint="use float64 memories under jax_enable_x64",
        )
    if noise is not None:
        check_instance(noise, AbstractNoise, "noise", "noise such as AdditiveNoise(8.0), or None")
        if key is None:
            raise ArgumentError(
                "key", "a key such as jax.random.key(0) where there is noise", "None"
            )
    if key is not None:
        key = check_key(key)
    method = choose_method(solver, stepsize_controller, adjoint, noise)
    if state0 is not None:
        state0 = check_array(state0, "state0", (model.state_size,), hint=hint, finite=finite)
        if x0 is not None:
            raise ArgumentError("state0", "None where x0 is given")
    elif x0 is None:
        raise ArgumentTypeError("x0", "given, or state0 in its place", "None")
    else:
        x0 = check_array(x0, "x0", (num_neurons,), hint=hint)
    longest, what = longest_step(method.solver, with_room(model, capacity))
    if is_traced(longest):
        right = f"at most {what} (got {grid.dt:g})"
        x0, state0 = (
            each if each is None else check_values(each, grid.dt > longest, "dt", right)
            for each in (x0, state0)
        )
    elif grid.dt > longest:
        raise ArgumentError("dt", f"{what} {float(longest):g}", f"{grid.dt:g}", must="not exceed")
    shown = _shown(inputs, num_neurons, grid, method)
    if isinstance(inputs, NoisyInput):
        input_noise = check_input_noise(inputs, key, with_room(model, capacity), grid.dt, method)
    for function, name, of in (
        (save_fn, "save_fn", "(t, state)"),
        (passage_fn, "passage_fn", "(t, state, overlaps)"),
    ):
        if function is not None and not callable(function):
            raise ArgumentTypeError(name, f"a function of {of}", repr(function))
    passage_since = check_number(passage_since, "passage_since")
    if not grid.reaches(passage_since):
        raise ArgumentError(
            "passage_since", f"from 0 to t1 = {grid.t1:g}", f"{passage_since:g}", fits=("t1",)
        )

    given = model, shown, input_noise, x0, state0, noise
    model, shown, input_noise, x0, state0, noise = cast_floats(given, dtype)
    passage_from = passage_since if method.adaptive else grid.first_step(passage_since)
    passage_from = jnp.asarray(passage_from, dtype)
    if isinstance(method.solver, ExponentialAdams):
        check_methods(model)
        x0, state0 = check_rates(with_room(model, capacity), shown, x0, state0)
    functions = save_fn, passage_fn, passage_from
    start = x0, state0, noise, key
    return Problem(model, shown, input_noise, *start, *functions, grid, method, None, capacity)


def check_resumed(
    last: Problem,
    state: Any,
    before: Before,
    *,
    model: Any,
    inputs: Any,
    noise: Any,
    **changes: Any,
) -> Problem:
    """The door of `Trajectory.resume`.

    Args:
        last: the problem that was solved.
        state: at its end.
        before: what it leaves to the next one; a change of model, inputs or noise is a jump.
        model: as for `check_problem`, like all that follow; what is None stays as it was.
        inputs: see `model`.
        noise: see `model`.
        changes: further arguments.
    """
    grid, method = last.grid, last.method
    if method.adaptive:
        raise ArgumentError(
            "stepsize_controller",
            "None in a solve that is resumed",
            type(method.controller).__name__,
            hint="adaptive steps start anew, by solve(..., t0=, state0=)",
        )
    changed = {name: given for name, given in changes.items() if given is not None}
    if model is not None:
        check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
        _check_same(model, last.model)
    if noise is not None:
        check_instance(noise, AbstractNoise, "noise", "noise such as AdditiveNoise(8.0), or None")
        if last.noise is None:
            raise ArgumentError(
                "noise",
                "None where the solve that is resumed had none",
                type(noise).__name__,
                hint="start anew, by solve(..., t0=, state0=)",
            )
    for each in (last.noise, noise):
        if each is not None and not each.law.on_grid:
            raise ArgumentError(
                "noise",
                "of a law on the grid of steps where a solve is resumed",
                type(each.law).__name__,
                hint="its path depends on t1; start anew, by solve(..., t0=, state0=)",
            )
    problem = check_problem(
        last.model if model is None else model,
        last.inputs if inputs is None else inputs,
        None,
        noise=last.noise if noise is None else noise,
        key=last.key,
        input_noise=last.input_noise if inputs is None else None,
        dt=grid.dt,
        solver=method.solver,
        adjoint=method.adjoint,
        t0=grid.t1,
        state0=state,
        capacity=last.capacity,
        finite=False,
        **{
            "save_every": grid.stride * grid.dt,
            "save_fn": last.save_fn,
            "passage_fn": last.passage_fn,
            **changed,
        },
    )
    if not {"passage_fn", "passage_since"} & set(changed):
        problem = problem._replace(passage_from=last.passage_from)
    else:
        before = before._replace(passage=Passage.none(before.passage.clock.dtype))
    if inputs is not None:
        before = before._replace(z=None)
    if not (model is None and inputs is None and noise is None):
        before = before._replace(made_jump=jnp.asarray(True))
    return problem._replace(before=before)


def _check_same(model: AbstractHopfield, last: AbstractHopfield) -> None:
    """Refuse a model that cannot go on from the state of the last one."""
    sizes = [
        {
            "N": each.memories.shape[-1],
            "a state of": each.state_size,
            "dtype": str(each.memories.dtype),
        }
        for each in (last, model)
    ]
    if sizes[0] != sizes[1]:
        wanted, got = (", ".join(f"{name} {size}" for name, size in each.items()) for each in sizes)
        raise ArgumentError(
            "model",
            f"the {wanted} of the solve that is resumed",
            got,
            must="have",
            hint="start anew, by solve(..., t0=, state0=)",
        )


def _default_stride(num_steps: int, start: int) -> int:
    """Steps between about a hundred saved times, with t1 among them where a divisor allows."""
    wanted = (num_steps - start) / _DEFAULT_SAVES
    if wanted > _DIVISORS_UP_TO:
        return round(wanted)
    near = range(max(1, math.ceil(wanted / 2)), math.floor(2 * wanted) + 1)
    divisors = [stride for stride in near if math.gcd(num_steps, start) % stride == 0]
    return min(
        divisors, key=lambda d: max(d, wanted) / min(d, wanted), default=max(1, round(wanted))
    )


def _grid(t0: Any, t1: Any, dt: Any, save_every: Any) -> Grid:
    dt = check_number(dt, "dt", positive=True)
    num_steps = multiple_of(t1, "t1", dt)
    t0 = check_number(t0, "t0")
    if t0 < 0:
        raise ArgumentError("t0", "zero or positive", f"{t0:g}")
    start = 0 if t0 == 0 else multiple_of(t0, "t0", dt)
    if start >= num_steps:
        right = f"later than the start at {start * dt:g}"
        raise ArgumentError("t1", right, f"{float(t1):g}", fits=("t0",))
    if save_every is None:
        stride = _default_stride(num_steps, start)
    else:
        stride = multiple_of(save_every, "save_every", dt)
        if stride > num_steps:
            raise ArgumentError(
                "save_every",
                f"t1 = {float(t1):g}",
                f"{save_every:g}",
                must="not exceed",
                fits=("t1",),
            )
    return Grid(dt, num_steps, stride, start)


def check_inputs(inputs: Any, num_neurons: int, *, finite: bool = True) -> Any:
    """A schedule of such a network, a constant input as an array, or a function; noise stays."""
    if isinstance(inputs, NoisyInput):
        if inputs.amplitude.shape not in ((), (num_neurons,)):
            right = f"one number, or one for each of {num_neurons} neurons"
            raise ArgumentError("amplitude", right, f"shape {inputs.amplitude.shape}")
        checked = check_inputs(inputs.inputs, num_neurons, finite=finite)
        return dataclasses.replace(inputs, inputs=checked)
    if isinstance(inputs, Schedule):
        if inputs.onsets.ndim != 1 or inputs.values.shape[-1] != num_neurons:
            raise ArgumentError(
                "inputs",
                f"values of shape (S, {num_neurons})",
                inputs.values.shape,
                must="have",
                hint=f"one row of {num_neurons} neurons per onset; use jax.vmap for many "
                "trajectories",
            )
        return inputs
    if callable(inputs):
        return inputs
    if inputs is None or isinstance(inputs, str):
        raise ArgumentTypeError(
            "inputs",
            f"a Schedule, an array of shape ({num_neurons},) or a function u(t)",
            repr(inputs),
        )
    return check_array(
        inputs,
        "inputs",
        (num_neurons,),
        hint="one constant input; for several over time use Schedule, for many trials jax.vmap",
        finite=finite,
    )


def _shown(inputs: Any, num_neurons: int, grid: Grid, method: Method):
    """A schedule with its onsets on the solver's clock; or the callable itself."""
    if isinstance(inputs, Shown):
        return inputs
    inputs = without_noise(check_inputs(inputs, num_neurons))
    segments = as_input(inputs, None).segments(None if method.adaptive else grid.dt)
    if segments is None:
        return inputs
    onsets, values = segments
    return Shown(jnp.asarray(onsets, values.dtype), values)


def output_of(function: Callable, name: str, right: str, *args: Any) -> Any:
    """Shapes of what a user's function returns; costs a trace only."""
    try:
        return jax.eval_shape(lambda *args: function(*args), *args)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        raise ArgumentTypeError(
            name, right, must="give", instead=f"but it failed: {reason}"
        ) from error


def check_output(function: Callable, name: str, sizes: tuple[tuple[int, ...], ...], *args) -> None:
    """Refuse a function that does not return one real array of one of the sizes."""
    right = " or ".join(f"an array of shape {size}" if size else "a number" for size in sizes)
    output = output_of(function, name, right, *args)
    got = getattr(output, "shape", None)
    if got not in sizes:
        kind = type(output).__name__ if got is None else f"shape {got}"
        raise ArgumentError(name, right, kind, must="give")
    if not (
        jnp.issubdtype(output.dtype, jnp.floating) or jnp.issubdtype(output.dtype, jnp.integer)
    ):
        raise ArgumentTypeError(name, "real numbers", f"dtype {output.dtype}", must="give")


def check_methods(model: AbstractHopfield) -> None:
    """Refuse a model of the user's own whose methods return what one cannot go on with."""
    (num_memories, num_neurons), dtype = model.memories.shape, model.memories.dtype
    size = (model.state_size,)
    zero, x0, state = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((), (num_neurons,), size))
    check_output(model.initial_state, "model.initial_state", (size,), x0)
    drive = output_of(model.drive, "model.drive", "what the drift needs, given u", x0)
    check_output(model.drift, "model.drift", (size,), zero, state, drive)
    check_output(model.overlaps, "model.overlaps", ((num_memories,),), state)
    check_output(model.energy, "model.energy", ((),), state, x0)
