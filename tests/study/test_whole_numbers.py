"""Whole numbers of a sweep share a program; where a function needs them as they are it is told."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.core import Tracer
from refusals import MEMORIES

import hopjax as hj

KEY = jax.random.key(0)
PATTERNS = jnp.asarray(MEMORIES)


def study(function: Callable[..., Any], sweep: Any, **changes: Any) -> hj.Study:
    settings: dict[str, Any] = {"trials": 3, "key": KEY, "t1": 0.2, "dt": 0.1}
    return hj.Study(function, sweep, **(settings | changes))


def made(noise: Any = 0.5, shown: Any = PATTERNS[0], **more: Any) -> hj.Trial:
    start = 0.1 * jax.random.normal(KEY, (8,))
    return hj.Trial(
        hj.IDPHopfield(PATTERNS), shown, start, hj.AdditiveNoise(noise, "two_point"), **more
    )


# What they become.


@pytest.mark.slow
def test_whole_numbers_share_a_program_and_give_what_fractions_give():
    seen = []

    def trial(key, noise, weights, number):
        seen.append((noise, weights, number))
        return made(noise, hj.mixture(PATTERNS, 0.5 * jnp.asarray(weights, float)), target=number)

    def declared(key, noise: float, weights: float, number):
        return made(noise, hj.mixture(PATTERNS, 0.5 * jnp.asarray(weights, float)), target=number)

    weights = [(3, 1), (1, 3)]
    sweep = [
        {"noise": n, "weights": w, "number": n % 2} for n, w in zip((1, 2), weights, strict=True)
    ]
    planned, other = study(trial, sweep), study(declared, sweep)
    seen.clear()
    dataset = planned.run()
    ((noise, weights, number),) = seen  # one program for all
    assert (noise.dtype, weights.dtype, number.dtype) == (int, int, int)
    assert noise.weak_type  # like Python's numbers it takes the dtype of those beside it
    assert dataset.noise.dtype == dataset.number.dtype == int
    xr.testing.assert_equal(dataset, other.run())
    assert dataset.target_memory.isel(trial=0).values.ravel().tolist() == [1, 0]
    for cell, fractional in zip(planned._work.cells, other._work.cells, strict=True):
        assert type(fractional.parameters["noise"]) is float
        assert cell.name == fractional.name
        assert (jax.random.key_data(cell.key) == jax.random.key_data(fractional.key)).all()


def test_a_fraction_anywhere_makes_all_values_of_a_parameter_fractional():
    def trial(key, pair, one):
        return made(noise=one)

    cells = study(trial, {"pair": [(1, 2), (0.5, 1)], "one": [1, 2.5]})._work.cells
    for name in ("pair", "one"):
        assert {np.asarray(cell.traced[name]).dtype for cell in cells} == {np.dtype(float)}
    assert len({cell.program for cell in cells}) == 1


def test_truth_values_texts_and_none_stay_as_they_are():
    seen = []

    def trial(key, anything):
        seen.append(anything)
        return made()

    values = [None, True, "a", (True, 2), (), 3, 4]
    cells = study(trial, {"anything": values})._work.cells
    assert [dict(cell.static) for cell in cells[:5]] == [{"anything": each} for each in values[:5]]
    assert len({cell.program for cell in cells}) == 6  # 3 and 4 share one
    assert [each for each in seen if isinstance(each, Tracer)] == seen[-2:-1]


# What needs a number.


class Powers(hj.AbstractBipolarHopfield):
    """A model that needs a number in its drift only."""

    memories: Any
    times: Any = 1
    activation: hj.AbstractActivation = hj.Tanh(10.0)

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        for _ in range(self.times):
            drive = drive + x
        return drive - x

    def energy(self, state, u):
        return jnp.sum(state)


def using(key, number, noise, use):
    """A trial that makes some use of a number: one function, which is traced the faster."""
    USES[use](number)
    return made(noise)


def chosen(number):
    if number > 1:
        return 1
    return None


def matched(number):
    match number:
        case 2:
            return 1
    return None


USES: dict[str, Callable[[Any], Any]] = {
    "memories": lambda n: hj.random_memories(KEY, num_memories=n, num_neurons=8),
    "jnp.zeros": lambda n: jnp.zeros((2, n)),
    "np.zeros": lambda n: np.zeros(n),
    "jnp.arange": lambda n: jnp.arange(n),
    "jnp.linspace": lambda n: jnp.linspace(0, 1, n),
    "jnp.eye": lambda n: jnp.eye(n),
    "jax.random": lambda n: jax.random.normal(KEY, (n,)),
    "jax.random.split": lambda n: jax.random.split(KEY, n),
    "reshape": lambda n: jnp.zeros(4).reshape(n, -1),
    "slice": lambda n: jnp.zeros(4)[:n],
    "repeat": lambda n: jnp.repeat(jnp.zeros(4), n),
    "mask": lambda n: np.arange(4)[np.arange(4) < n],
    "range": lambda n: [*range(n)],
    "if": chosen,
    "match": matched,
    "and": lambda n: n and 1,
    "list": lambda n: [1, 2, 3][n],
    "dict": lambda n: {2: "two"}[n],
    "format": lambda n: f"{n:03d}",
    "int": int,
    "math": math.sqrt,
    "numpy": np.sqrt,
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_a_function_that_needs_a_number_is_refused_with_its_name(use):
    sweep = {"number": [2], "noise": [1, 2], "use": [use]}
    with pytest.raises(hj.ArgumentError) as error:
        study(using, sweep)
    assert str(error.value) == (
        'Argument `static` must be ["number"]: parameter `number` fixes a shape or a choice. '
        f"(In the cell number = 2, noise = 1, use = {use}.)"
    )
    study(using, sweep, static=["number"])


def in_drift(key, number, noise):
    model = Powers(PATTERNS, number)
    return hj.Trial(model, PATTERNS[0], PATTERNS[1], hj.AdditiveNoise(noise), target=0)


@functools.partial(jax.jit, static_argnames="number")
def compiled(key, number, noise):
    return made(noise * number)


@pytest.mark.slow
@pytest.mark.parametrize("function", [in_drift, compiled])
def test_what_it_calls_or_is_compiled_by_may_need_a_number(function):
    sweep = {"number": [2], "noise": [1, 2]}
    with pytest.raises(hj.ArgumentError, match=r'must be \["number"\]: parameter `number` fixes'):
        study(function, sweep)
    study(function, sweep, static=["number"])


def test_a_fraction_that_fixes_a_choice_is_refused_too():
    def trial(key, strong, noise):
        return made(noise, (2 if strong > 0.5 else 1) * PATTERNS[0])

    sweep = {"strong": [0.2, 0.7], "noise": [1.0]}
    with pytest.raises(hj.ArgumentError, match=r'must be \["strong"\]: parameter `strong` fixes'):
        study(trial, sweep)
    cells = study(trial, sweep, static=["strong"])._work.cells
    assert len({cell.program for cell in cells}) == 2


def test_what_is_measured_may_need_a_number():
    def trial(key, number):
        return hj.Trial(Powers(PATTERNS, number), PATTERNS[0], PATTERNS[1], target=0)

    def first(trial, trajectory):
        return trajectory.final_state[: trial.model.times]

    reductions = {"first": hj.PerTrial(first)}
    with pytest.raises(hj.ArgumentError, match=r"parameter `number` fixes"):
        study(trial, {"number": [2]}, reductions=reductions)


def test_all_that_are_needed_are_named_and_none_else():
    def trial(key, rows, columns, both, noise):
        np.zeros((rows, columns))
        if rows + columns > both:
            return made(noise)
        return made(2 * noise)

    sweep = {"noise": [1], "rows": [2], "columns": [3], "both": [4]}
    says = r'must be \["rows", "columns", "both"\]: parameters `rows`, `columns`, `both` fix shapes'
    with pytest.raises(hj.ArgumentError, match=says):
        study(trial, sweep)
    says = r'must be \["columns", "rows", "both"\]: parameters `rows`, `both` fix shapes'
    with pytest.raises(hj.ArgumentError, match=says):
        study(trial, sweep, static=["columns"])
    study(trial, sweep, static=["both", "rows", "columns"])


@pytest.mark.slow
def test_what_fails_for_another_reason_is_blamed_on_no_parameter():
    def trial(key, number):
        float(jax.random.uniform(key))  # needs the number of a key
        return made(number)

    planned = study(trial, {"number": [2]})
    with pytest.raises(jax.errors.ConcretizationTypeError):
        planned.run()


@pytest.mark.slow
def test_tasks_know_their_own():
    task, sweep = hj.Retrieval(num_neurons=8), {"num_memories": [2], "shown": [(1,)], "noise": [1]}
    for function in (task, functools.partial(task, target=0)):
        planned = study(function, sweep)
        assert [tuple(cell.traced) for cell in planned._work.cells] == [("noise",)]
        assert planned._work.definition()["static"] == ["num_memories", "shown"]

    @dataclasses.dataclass(frozen=True)
    class Own:
        number: int = dataclasses.field(default=2, metadata={"static": True})
        noise: float = 1.0

        def __call__(self, key, number, noise):
            return made(noise, jnp.zeros((number, 8)).sum(axis=0) + PATTERNS[0])

    class Module(eqx.Module):
        number: int = eqx.field(default=2, static=True)

        def __call__(self, key, number, *, noise: float):
            return made(noise, jnp.zeros((number, 8)).sum(axis=0) + PATTERNS[0])

    for own in (Own(), Module()):
        (cell,) = study(own, {"number": [2], "noise": [1]})._work.cells
        assert cell.static == (("number", 2),)
        assert isinstance(cell.parameters["noise"], float)


@pytest.mark.slow
def test_numbers_beyond_those_of_jax_are_refused_unless_static():
    sweep = {"number": [2**62], "noise": [1]}
    assert len(study(lambda key, number, noise: made(noise), sweep).cells) == 1
    jax.config.update("jax_enable_x64", False)
    try:
        patterns = np.asarray(MEMORIES, np.float32)

        def trial(key, number, noise):
            return hj.Trial(hj.IDPHopfield(patterns), patterns[0], patterns[1], target=0)

        right = r"`sweep\['number'\]` must be whole numbers of 32 bits, where they are not in "
        with pytest.raises(hj.ArgumentError, match=f"{right}`static`, got {re.escape(str(2**62))}"):
            study(trial, sweep)
        assert study(trial, sweep, static=["number"]).cells[0]["number"] == 2**62
    finally:
        jax.config.update("jax_enable_x64", True)
