"""Every argument of every public function is checked, by the check that its annotation asks for.

What each check refuses is tested in `test_checks` and `test_numbers`; what a function asks for
beyond it, beside the function.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hopjax as hj
from hopjax import _checks, statistics, theory

MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]])
KEY = jax.random.key(0)
NAN = float("nan")


def of_arguments(key, strength=1.0):
    return hj.Trial(hj.IDPHopfield(MEMORIES), strength * MEMORIES[0].astype(float), np.ones(8))


def is_fine(trial, trajectory):
    return trajectory.ok


def of_state(t, x):
    return x


# Right values of arguments by their names; those of one function only, as "function.argument".
RIGHT: dict[str, Any] = {
    "activation": hj.Tanh(),
    "alpha": 3.0,
    "alpha_max": 3.0,
    "beta": 1.0,
    "bin_width": 0.1,
    "confidence": 0.95,
    "correlation": 0.5,
    "counts": np.ones(3, int),
    "coupling": 1.0,
    "density": 0.5,
    "dt": 0.1,
    "edges": np.linspace(0, 1, 4),
    "equilibrium": theory.Equilibrium(*map(jnp.array, (np.ones(8), np.ones(2), -1.0, 0.0, True))),
    "flip_probability": 0.5,
    "gain": 5.0,
    "high": 1.0,
    "index": 0,
    "inputs": MEMORIES[0],
    "key": KEY,
    "loss": hj.OverlapLoss(),
    "low": 0.0,
    "memories": MEMORIES,
    "memory": 0,
    "model": hj.IDPHopfield(MEMORIES),
    "noise": 1.0,
    "num_memories": 2,
    "num_neurons": 8,
    "overlap": 0.9,
    "overlaps": np.zeros((3, 2)),
    "parameters": {"strength": 1.0},
    "pattern": MEMORIES[0],
    "pictures": [np.eye(4)],
    "q": [0.5],
    "reached": np.ones(3, bool),
    "saliency": 3.0,
    "separation": hj.LinearSeparation(),
    "shares": [0.5],
    "slope": 10.0,
    "start": MEMORIES[0],
    "state": MEMORIES[0],
    "state0": MEMORIES[0],
    "successes": 1,
    "sweep": {"strength": [1.0]},
    "t": 0.0,
    "t1": 1.0,
    "text": "A",
    "times": [1.0],
    "transitions": np.ones((2, 2)),
    "trial": of_arguments,
    "trials": 2,
    "ts": np.arange(3.0),
    "u": MEMORIES[0],
    "values": MEMORIES,
    "weights": [1.0, 1.0],
    "x0": MEMORIES[0],
    "Schedule.onsets": [0.0, 1.0],
    "crosstalk_noise.alpha": [3.0, 1.0],
    "effective_saliency.alpha": [3.0, 1.0],
    "jacobian_spectrum.alpha": [3.0, 1.0],
    "largest_coupling.alpha": [3.0, 1.0],
    "NoisyInput.inputs": MEMORIES[0],
    "NoisyInput.amplitude": 0.5,
    "SequentialHopfield.initial_saliencies": [1.0, 0.0],
    "FiringRateHopfield.memories": (MEMORIES + 1) // 2,
    "Histogram.function": is_fine,
    "Moments.function": is_fine,
    "MultiplicativeNoise.strength": of_state,
    "PerTrial.function": is_fine,
    "map_trials.function": jax.random.normal,
    "power": 3.0,
    "solve.noise": None,
    "strength": 1.0,
    "Trial.noise": None,
}
# What is checked only if something else is given.
ALSO = {
    "solve": {"x0": MEMORIES[0]},
    "Study": {"t1": 1.0, "dt": 0.1},
    "stable_states": {"noise": 1.0},
}
OBJECTS = [
    hj.IDPHopfield(MEMORIES),
    hj.TwoLayerHopfield(MEMORIES),
    hj.SequentialHopfield(MEMORIES),
    hj.Visits(),
    hj.Trial(hj.IDPHopfield(MEMORIES), MEMORIES[0], MEMORIES[0]),
]
# What hopjax gives to the user is not checked where it is made.
RESULTS = {
    *("Ensemble", "Trajectory", "Tuning", "DivergenceError", "FileError"),
    *("ArgumentError", "Change", "Convergence", "Equilibrium", "Interval", "Landscape"),
    *("Prediction", "Report"),
    *("Spectrum", "State", "StudyError", "TuningError", "WorkerError"),
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions, constructors and methods that users call."""
    own = {name: value for name, value in vars(statistics).items() if is_of(value, statistics)}
    for name, value in (vars(hj) | vars(theory) | own).items():
        hidden = name.startswith("_") or name in RESULTS
        if not hidden and callable(value) and not inspect.isabstract(value):
            yield name, value
    for value in OBJECTS:
        for name, method in inspect.getmembers(value, callable):
            if not name.startswith("_"):
                yield f"{type(value).__name__}.{name}", method


def is_of(value: Any, module: types.ModuleType) -> bool:
    """Whether a module has a function of its own, not one that it imported or a result."""
    return inspect.isfunction(value) and value.__module__ == module.__name__


def right(function: Callable[..., Any], argument: str) -> Any:
    """A right value of an argument."""
    return RIGHT.get(f"{getattr(function, '__name__', '')}.{argument}", RIGHT.get(argument))


def call(function: Callable[..., Any], /, **changes: Any) -> Any:
    """A correct call, but for the changes."""
    given = ALSO.get(getattr(function, "__name__", ""), {}) | {
        name: right(function, name)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    return function(**(given | changes))


# What has no wrong value of its kind, or is checked later; and what is on the way to another place.
UNCHECKED = {
    *("Schedule.pulse", "report.at", "load_study.folder", "load_tuning.folder"),
    *("Trial.input_at.t", "Trial.on_grid.dt", "first_passage_time.reached", "NoisyInput.inputs"),
}


def kind(annotation: Any) -> str:
    """Which of `WRONG` an annotation asks for: the first whose pattern is in it, or nothing."""
    about = str(annotation)
    return next((pattern for pattern in WRONG if re.search(pattern, about)), "")


BOTH = (TypeError, ValueError)
# By what is in an annotation: what is wrong, and as what.
WRONG: dict[str, list[tuple[Any, Any]]] = {
    r"Key\[": [(0, TypeError), (jax.random.split(KEY, 3), ValueError)],
    "SupportsDType": [("int32", ValueError), ("float16", ValueError), (bool, ValueError)],
    "ndarray.*Array|Array.*ndarray": [("text", TypeError), (1j, TypeError)],
    "bool": [(1, TypeError), ("yes", TypeError), (None, TypeError)],
    "AbstractHopfield": [("idp", TypeError), (hj.IDPHopfield, TypeError), (MEMORIES, TypeError)],
    "AbstractActivation": [(10.0, TypeError), (hj.Tanh, TypeError), (np.tanh, TypeError)],
    "AbstractSeparation": [(3.0, TypeError), (hj.PowerSeparation, TypeError)],
    "AbstractNoise": [("loud", TypeError), (hj.AdditiveNoise, TypeError)],
    "AbstractLaw": [("normal", ValueError), (hj.Gaussian, TypeError), (None, TypeError)],
    "Executor": [(2, TypeError), (ThreadPoolExecutor, TypeError)],
    "Criterion": [(0.9, TypeError), (hj.Criterion, TypeError)],
    "AbstractLoss": [(is_fine, TypeError), (hj.OverlapLoss, TypeError)],
    "Equilibrium": [(MEMORIES[0], TypeError)],
    "AbstractSolver": [("euler", TypeError), (dfx.Euler, TypeError)],
    "AbstractStepSizeController": [(0.1, TypeError), (dfx.PIDController, TypeError)],
    "AbstractAdjoint": [("forward", TypeError), (dfx.ForwardMode, TypeError)],
    "GradientTransformation": [("adam", TypeError), (len, TypeError)],
    r"Mapping|Sequence\[Any|Callable": [(0.9, TypeError)],
    r"Sequence|tuple\[(int|float), \.\.\.": [("01", BOTH), (0.5, BOTH)],
    r"tuple\[int, int": [("32x32", TypeError), ((1, 2, 3), ValueError)],
    r"int\b": [("2", TypeError), (2.0, TypeError), (True, TypeError), (-5, ValueError)],
    "float": [("1", BOTH), (NAN, ValueError)],
    "str": [(3, BOTH)],
}

ARGUMENTS = [
    pytest.param(function, argument.name, pattern, id=f"{name}.{argument.name}")
    for name, function in public()
    for argument in inspect.signature(function).parameters.values()
    if (pattern := kind(argument.annotation)) and f"{name}.{argument.name}" not in UNCHECKED
]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "argument", "pattern"), ARGUMENTS)
def test_each_argument_is_checked(function, argument, pattern):
    for wrong, error in WRONG[pattern]:
        with pytest.raises(error) as caught:
            call(function, **{argument: wrong})
        assert str(caught.value).startswith(f"Argument `{argument}` must "), wrong
        assert isinstance(caught.value, TypeError) or error is not TypeError
        assert "\n" not in str(caught.value)


# The numbers of memories are integers and become no floats.
ARRAYS = [
    case for case in ARGUMENTS if "ndarray" in str(case.values[2]) and case.id != "Trial.target"
]


def test_the_array_arguments_are_found():
    assert {
        *("AdditiveNoise.strength", "mixture.weights", "Schedule.onsets", "solve.x0"),
        *("wilson_interval.trials", "censored_quantiles.times", "Trial.x0", "report.noise"),
        *("IDPHopfield.with_memory.pattern", "TwoLayerHopfield.noise_strength.features"),
    } <= {case.id for case in ARRAYS}
    assert len(ARRAYS) > 80


class Reached(Exception):
    """The one place where numbers become arrays was given this argument."""


@pytest.mark.parametrize(("function", "argument", "pattern"), ARRAYS)
def test_each_array_argument_becomes_one_in_one_place(function, argument, pattern, monkeypatch):
    mark, inside = np.array([7]), _checks._host_floats  # known by its identity

    def recorded(value, name, *args):
        if value is mark:
            raise Reached(name)
        return inside(value, name, *args)

    monkeypatch.setattr(_checks, "_host_floats", recorded)
    with pytest.raises(Reached) as reached:
        call(function, **{argument: mark})
    assert str(reached.value).split(".")[-1] == argument


# Looked at where it is solved; and times that are not, which may be infinite.
NOT_ALWAYS_FINITE = {
    "Trial.x0",
    "first_passage_time.ts",
    "Visits.of.overlaps",
    "censored_quantiles.times",
}


@pytest.mark.parametrize(
    ("function", "argument", "pattern"),
    [case for case in ARRAYS if case.id not in NOT_ALWAYS_FINITE],
)
def test_each_array_argument_is_finite(function, argument, pattern):
    numbers = np.array(1.0 if (given := right(function, argument)) is None else given, float)
    numbers[(-1,) * numbers.ndim] = NAN
    with pytest.raises(hj.ArgumentError) as caught:
        call(function, **{argument: numbers})
    assert caught.value.name == argument
    assert "got nan" in str(caught.value)
