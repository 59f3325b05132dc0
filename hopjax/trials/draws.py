"""Randomness comes from keys: what is drawn otherwise is refused before anything is solved.

A trial's function is traced once and then runs for all trials. What it draws from NumPy's or
Python's generators, or takes from anything else that changes, is drawn in that one trace, and all
trials share it. Two calls with the same key show it: they differ.
"""

import dataclasses
import functools
import inspect
import itertools
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var
from jaxtyping import Array, Float, PyTree

from hopjax._checks import cast_floats, collect_bad_values, on_host
from hopjax._errors import ArgumentError
from hopjax.inputs import as_input, without_noise
from hopjax.program import tracing
from hopjax.solving import Problem, Trajectory
from hopjax.trials.criterion import Criterion
from hopjax.trials.trial import Trial, blank_trajectory

Measure = Callable[[Trial, Trajectory], PyTree]
_T = TypeVar("_T")

# Calls in all where two gave the same though a generator moved on: it may have tossed a coin.
_CALLS = 20
_REMEDY = (
    "draw from the trial's key instead, as in jax.random.normal(jax.random.fold_in(key, 1), "
    "shape), because what NumPy or Python draws is drawn once for all trials."
)


def uncompiled(function: Callable) -> Callable:
    """The function inside `jax.jit` or `eqx.filter_jit`, whose body runs at the first call only."""
    while hasattr(function, "lower") and hasattr(function, "__wrapped__"):
        function = function.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    return function


def check_draws(
    trial: Trial,
    problem: Problem,
    measures: Mapping[str, Measure],
    criterion: Criterion,
    *,
    make: Callable[[], Trial] | None = None,
    function: Any = None,
) -> None:
    """Refuse a trial, or what is measured on it, that draws from anything but a key.

    The trial is made once more, and its arrays are compared. What its functions and the measures
    compute is compared as the programs that two traces of them give, with the numbers in these:
    nothing is solved or compiled. So a draw goes unnoticed inside a function that is compiled by
    itself, and perhaps one of few outcomes, if its generator is neither NumPy's or Python's own
    nor one that `function` knows by name: two calls may agree.

    Args:
        trial: as made outside any trace.
        problem: the checked arguments of its solve.
        measures: what is measured of a trial and its trajectory, by the names of arguments.
        criterion: which decides what trajectories have.
        make: makes the trial once more, from the same key; None for one that all trials share.
        function: of the user's, which `make` calls.

    Raises:
        ValueError: naming what differs.
    """
    generators, again = _generators(function), None
    if make is not None:
        again, where = _compare(trial, make, _different_field, generators)
        if where is not None:
            raise ArgumentError(
                "trial",
                "the same trial whenever it gets the same key",
                f"two that differ in `{where}`",
                must="make",
                hint=_REMEDY,
            )
    for name, (part, point) in called(trial, problem, measures, criterion).items():
        try:
            trace = functools.partial(_program, part, point)
            with tracing():
                first = trace(trial)
                _, differ = _compare(first, lambda trace=trace: trace(trial), _unequal, generators)
                if again is not None:
                    differ = differ or _unequal(first, trace(again))
        except Exception:  # where it is solved it fails again, and is refused with the reason
            continue
        if differ:
            same = "the same at every call"
            if name in measures:
                got = "two measurements that differ"
                raise ArgumentError(name, same, got, must="measure", hint=_REMEDY)
            right, got = f"functions that compute {same}", f"`{name}`, which does not"
            raise ArgumentError("trial", right, got, must="have", hint=_REMEDY)


def _compare(
    first: _T, call: Callable[[], _T], difference: Callable[[_T, _T], Any], generators: list[Any]
) -> tuple[_T, Any]:
    """What another call gives, and its difference from the first, if there is one."""
    before = _states(generators)
    second = call()
    found = difference(first, second)
    for _ in range(_CALLS - 2):
        if found or _states(generators) == before:
            break
        found = difference(first, call())
    return second, found or None


def _states(generators: list[Any]) -> bytes:
    """Where generators are in their sequences."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return pickle.dumps([random.getstate(), numpy, generators])


def _generators(function: Any) -> list[Any]:
    """The random generators that a function finds in its module or in the function around it."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        known = inspect.getclosurevars(inspect.unwrap(function))
    except (TypeError, ValueError):  # no plain function
        return []
    kinds = (np.random.Generator, np.random.RandomState, random.Random)
    values = (*known.nonlocals.values(), *known.globals.values())
    return [value for value in values if isinstance(value, kinds)]


# A trial's fields.


def _different_field(first: Trial, second: Trial) -> str | None:
    """The path of the first field that two trials do not have in common."""
    end = ("", None)
    pairs = itertools.zip_longest(_fields(first, ""), _fields(second, ""), fillvalue=end)
    for (path, one), (other_path, other) in pairs:
        if path != other_path or not _equal(one, other):
            return (path or other_path).removeprefix(".") or "trial"
    return None


def _fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All that can be compared, with its path: functions are what they compute."""
    if eqx.is_array_like(value) or value is None or isinstance(value, str):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _fields(item, f"{path}[{place}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(item, f"{path}[{key!r}]")
    else:
        yield path, type(value).__qualname__
        if dataclasses.is_dataclass(value):  # Equinox modules too
            for field in dataclasses.fields(value):
                yield from _fields(getattr(value, field.name, None), f"{path}.{field.name}")


def _equal(first: Any, second: Any) -> bool:
    """Whether two numbers, arrays or texts are the same up to rounding."""
    if any(value is None or isinstance(value, str) for value in (first, second)):
        return type(first) is type(second) and first == second
    one, other = on_host(first), on_host(second)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    same = np.array_equal(one, other)
    if same or not jnp.issubdtype(one.dtype, jnp.inexact):
        return same
    finite = np.abs(one[np.isfinite(one)])
    # Not all hardware adds up in the same order every time.
    slack = float(np.max(finite, initial=0)) * float(jnp.finfo(one.dtype).eps) ** 0.5
    return np.allclose(one, other, rtol=0, atol=slack, equal_nan=True)


# What its functions compute.


class _Point(NamedTuple):
    """Arguments of a trial's functions; only their shapes count."""

    t: Float[Array, ""]
    u: Float[Array, " N"]
    x0: Float[Array, " N"]
    state: Float[Array, " state"]


def called(
    trial: Trial, problem: Problem, measures: Mapping[str, Measure], criterion: Criterion
) -> dict[str, tuple[Callable, Any]]:
    """What a solve calls, as functions of a trial and the point given beside them.

    Args:
        trial: whose functions these are.
        problem: see `check_draws`, as for all that follows.
        measures: functions of a trial and its trajectory, which come last.
        criterion: see there.
    """
    memories, state_size = problem.model.memories, problem.model.state_size
    shapes = ((), memories.shape[1], memories.shape[1], state_size)
    point = _Point(*(jnp.asarray(np.zeros(shape), memories.dtype) for shape in shapes))
    calls: dict[str, Callable[[Any, _Point], Any]] = {
        "model.initial_state": lambda trial, at: trial.model.initial_state(at.x0),
        "model.drive": lambda trial, at: trial.model.drive(at.u),
        "model.drift": lambda trial, at: trial.model.drift(at.t, at.state, trial.model.drive(at.u)),
        "model.overlaps": lambda trial, at: trial.model.overlaps(at.state),
        "model.energy": lambda trial, at: trial.model.energy(at.state, at.u),
    }
    if as_input(trial.inputs, memories.dtype).segments(None) is None:
        calls["inputs"] = lambda trial, at: uncompiled(without_noise(trial.inputs))(at.t)
    if trial.noise is not None:
        calls["noise.diffusion"] = lambda trial, at: trial.noise.diffusion(at.t, at.state)
    trajectory = blank_trajectory(trial, problem, criterion)
    measured = {name: (measure, trajectory) for name, measure in measures.items()}
    return {name: (call, point) for name, call in calls.items()} | measured


def _program(function: Callable, point: Any, trial: Trial) -> list[Any]:
    """What tracing a function of a trial and a point gives, as numbers and texts in a row."""
    arrays, rest = eqx.partition((trial, point), eqx.is_array)

    def traced(arrays):
        trial, point = eqx.combine(arrays, rest)
        given = cast_floats(trial, trial.model.memories.dtype)
        with collect_bad_values():  # values are looked at where the trial is solved
            return eqx.filter(function(given, point), eqx.is_array_like)

    return list(_steps(jax.make_jaxpr(traced)(arrays)))


def _unequal(first: list[Any], second: list[Any]) -> bool:
    return len(first) != len(second) or not all(map(_equal, first, second))


def _steps(program: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """Constants, operations and what they are applied to, inner programs included."""
    if isinstance(program, ClosedJaxpr):
        yield from program.consts
        program = program.jaxpr
    numbers: dict[Var, int] = {}

    def name(atom: Var | Literal) -> Any:
        if isinstance(atom, Literal):
            return atom.val
        return f"variable {numbers.setdefault(atom, len(numbers))}"

    for variable in (*program.constvars, *program.invars):
        name(variable)
    for step in program.eqns:
        yield step.primitive.name
        yield from map(name, step.invars)
        yield from (f"{name(variable)}: {variable.aval}" for variable in step.outvars)
        for parameter, value in sorted(step.params.items()):
            yield parameter
            yield from _setting(value)
    yield from map(name, program.outvars)


def _setting(value: Any) -> Iterator[Any]:
    """A parameter of an operation; what is no number, text or program counts by its kind."""
    if isinstance(value, (ClosedJaxpr, Jaxpr)):
        yield from _steps(value)
    elif isinstance(value, (list, tuple)):
        yield len(value)
        for item in value:
            yield from _setting(item)
    elif eqx.is_array_like(value) or value is None or isinstance(value, str):
        yield value
    else:
        yield type(value).__qualname__
