"""Draws outside the key: refused wherever they hide, and nothing else taken for one."""

import functools
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import hopjax as hj
from hopjax.statistics import Interval
from hopjax.trials.draws import check_draws
from hopjax.tuning import prepare, sorted_out

NUM_NEURONS = 8
MEMORIES = jnp.asarray([[1.0] * 8, [1.0] * 4 + [-1.0] * 4])
SETTINGS: dict[str, Any] = {"trials": 3, "key": jax.random.key(5), "t1": 0.4, "dt": 0.1}
GENERATOR = np.random.default_rng(0)


def trial(**changes: Any) -> hj.Trial:
    fields: dict[str, Any] = {
        "model": hj.IDPHopfield(MEMORIES),
        "inputs": MEMORIES[0],
        "x0": MEMORIES[1],
        "noise": hj.AdditiveNoise(0.5),
        "target": 0,
    }
    return hj.Trial(**(fields | changes))


# What the doors do: an ensemble, a study and tuning, of a function of the key.


def ensemble(function: hj.Trial | Callable[..., hj.Trial], **changes: Any) -> hj.Ensemble:
    return hj.solve_ensemble(function, **(SETTINGS | changes))


def study(function: Callable[..., hj.Trial], **changes: Any) -> hj.Study:
    return hj.Study(lambda key, noise: function(key), {"noise": [0.5]}, **(SETTINGS | changes))


def tuning(function: Callable[..., hj.Trial], **changes: Any) -> hj.Tuning:
    def tuned(key, noise):
        made = function(key)
        return eqx.tree_at(lambda trial: trial.noise.strength, made, noise)

    options: dict[str, Any] = {"loss": hj.OverlapLoss(), "steps": 1, "verify": 1}
    return hj.tune(tuned, {"noise": 0.5}, **(options | SETTINGS | changes))


DOORS = {"ensemble": ensemble, "study": study, "tune": tuning}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("draw", [np.random.normal, GENERATOR.normal], ids=["global", "own"])
def test_a_start_that_numpy_draws_is_refused_at_every_door(door, draw):
    def start(key):
        return trial(x0=draw(size=NUM_NEURONS))

    with pytest.raises(ValueError, match=r"`trial` must make the same trial .* in `x0`: draw"):
        DOORS[door](start)


def starts(function: Callable[..., hj.Trial]) -> tuple[np.ndarray, Interval]:
    kept = {"x0": hj.PerTrial(lambda trial, trajectory: trial.x0)}
    found = ensemble(function, trials=200, t1=4.0, reductions=kept)
    return found.reduced["x0"]["values"], found.retrieved


@pytest.mark.slow
def test_what_the_refused_trial_would_have_said(monkeypatch):
    """A memory is held from about half of all starts, but one start for all is one answer."""

    def noisy(key, x0):
        u = 1.2 * MEMORIES[0] + 1.0 * MEMORIES[1]
        return trial(inputs=u, x0=x0, noise=hj.AdditiveNoise(0.1))

    def of_key(key):
        return noisy(key, jax.random.normal(jax.random.fold_in(key, 1), (NUM_NEURONS,)))

    def of_numpy(key):
        return noisy(key, GENERATOR.normal(size=NUM_NEURONS))

    each, right = starts(of_key)
    assert len(np.unique(each, axis=0)) == 200
    assert 0.2 < right.low < right.high < 0.9
    with pytest.raises(ValueError, match="draw from the trial's key"):
        starts(of_numpy)
    monkeypatch.setattr("hopjax.ensemble.plan.check_draws", lambda *args, **options: None)
    each, wrong = starts(of_numpy)
    assert len(np.unique(each, axis=0)) == 1
    assert wrong.low > right.high or wrong.high < right.low


# Where draws hide.


class Wave(eqx.Module):
    """u(t), with something on top of it."""

    extra: Callable[[], Any]

    def __call__(self, t):
        return jnp.cos(t) * MEMORIES[0] + self.extra()


class Shaken(hj.AbstractHopfield):
    """A model of the user's whose drift or energy draws."""

    memories: jax.Array
    drift_extra: Callable[[], Any] = float
    energy_extra: Callable[[], Any] = float
    state_size: int = eqx.field(static=True, default=NUM_NEURONS)
    fastest_time_constant: float = eqx.field(static=True, default=1.0)

    def initial_state(self, x0):
        return x0

    def features(self, state):
        return state

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        return drive - x + self.drift_extra()

    def energy(self, x, u):
        return jnp.sum(x * u) + self.energy_extra()

    @property
    def overlap_measures_size(self):
        return True

    def overlaps(self, x):
        return self.memories @ jnp.tanh(x) / NUM_NEURONS

    def saliency(self, u):
        return self.memories @ u / NUM_NEURONS


class Module(eqx.Module):
    """One with a static field, which is no array."""

    factor: float = eqx.field(static=True)

    def __call__(self, t):
        return self.factor * MEMORIES[0]


def coin():
    return MEMORIES[random.randint(0, 1)]


COUNTER = itertools.count()


def with_law():
    return hj.AdditiveNoise(0.5, hj.Gaussian(refinement=next(COUNTER) % 3))


DRAWS: dict[str, tuple[Callable[..., hj.Trial], str]] = {
    "memories": (
        lambda key: trial(model=hj.IDPHopfield(np.random.choice([-1.0, 1.0], (2, 8)))),  # noqa: NPY002
        "model.memories",
    ),
    "input": (lambda key: trial(inputs=GENERATOR.normal(size=8)), "inputs"),
    "schedule": (
        lambda key: trial(inputs=hj.Schedule([0.0], GENERATOR.normal(size=(1, 8)))),
        "inputs.values",
    ),
    "target, by a coin": (lambda key: trial(target=random.randint(0, 1)), "target"),
    "target, by a generator": (lambda key: trial(target=GENERATOR.integers(2)), "target"),
    "strength": (lambda key: trial(noise=hj.AdditiveNoise(random.random())), "noise.strength"),
    "law": (lambda key: trial(noise=with_law()), "noise.law.refinement"),
    "key": (
        lambda key: trial(key=jax.random.key(random.getrandbits(30))),
        "key",
    ),
    "model": (
        lambda key: trial(
            model=(hj.IDPHopfield if random.random() < 0.5 else hj.ClassicHopfield)(MEMORIES)
        ),
        "model",
    ),
    "static field of an input": (
        lambda key: trial(inputs=Module(random.random())),
        "inputs.factor",
    ),
    "compiled trial": (jax.jit(lambda key: trial(x0=GENERATOR.normal(size=8))), "x0"),
    "filtered trial": (eqx.filter_jit(lambda key: trial(x0=GENERATOR.normal(size=8))), "x0"),
    "partial": (
        functools.partial(lambda key, scale: trial(x0=scale * GENERATOR.normal(size=8)), scale=2.0),
        "x0",
    ),
    "inside u(t)": (lambda key: trial(inputs=Wave(random.random)), "inputs"),
    "inside a lambda": (
        lambda key: trial(inputs=lambda t: MEMORIES[0] * random.random()),
        "inputs",
    ),
    "a coin in u(t)": (lambda key: trial(inputs=lambda t: coin() + 0 * t), "inputs"),
    "later in u(t)": (
        lambda key: trial(inputs=lambda t: MEMORIES[0] * (1 + t * GENERATOR.normal())),
        "inputs",
    ),
    "compiled u(t)": (
        lambda key: trial(inputs=jax.jit(lambda t: MEMORIES[0] * GENERATOR.normal())),
        "inputs",
    ),
    "a closure of u(t)": (
        lambda key: (lambda drawn: trial(inputs=lambda t: MEMORIES[0] * drawn))(random.random()),
        "inputs",
    ),
    "drift": (lambda key: trial(model=Shaken(MEMORIES, random.random)), "model.drift"),
    "drift, in numpy": (
        lambda key: trial(model=Shaken(MEMORIES, lambda: GENERATOR.normal(size=8))),
        "model.drift",
    ),
    "drift, in an inner loop": (
        lambda key: trial(
            model=Shaken(
                MEMORIES,
                lambda: jax.lax.fori_loop(0, 3, lambda i, x: x + GENERATOR.normal(size=8), 0 * X0),
            )
        ),
        "model.drift",
    ),
    "a coin for an array in u(t)": (
        lambda key: trial(inputs=lambda t: X0 if random.random() < 0.5 else X0 * t),
        "inputs",
    ),
    "energy": (
        lambda key: trial(model=Shaken(MEMORIES, energy_extra=random.random)),
        "model.energy",
    ),
    "diffusion": (
        lambda key: trial(noise=hj.MultiplicativeNoise(lambda t, x: random.random() * x)),
        "noise.diffusion",
    ),
}
X0 = MEMORIES[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_draw_is_found_and_named(name, seed):
    random.seed(seed)
    function, where = DRAWS[name]
    with pytest.raises(ValueError, match="draw from the trial's key instead") as caught:
        ensemble(function)
    message = str(caught.value)
    assert "\n" not in message
    assert f"`{where}`" in message
    assert "jax.random.normal(jax.random.fold_in(key, 1), shape)" in message


@pytest.mark.parametrize("name", ["inside u(t)", "drift", "energy", "diffusion"])
def test_a_shared_trial_is_looked_at_too(name):
    function, where = DRAWS[name]
    with pytest.raises(ValueError, match=rf"got `{where}`, which does not: draw"):
        ensemble(function(None))
    with pytest.raises(ValueError, match=rf"got `{where}`, which does not: draw"):
        hj.tune(function(None), {"x0": None}, loss=hj.OverlapLoss(), **SETTINGS)


@pytest.mark.parametrize("door", [ensemble, study])
@pytest.mark.parametrize(
    "reduction",
    [
        hj.Moments(lambda trial, trajectory: trajectory.overlaps * random.random()),
        hj.PerTrial(lambda trial, trajectory: {"x": trajectory.final_state + random.random()}),
        hj.Histogram(
            lambda trial, trajectory: trajectory.overlaps[random.randint(0, 2)],
            low=-1.0,
            high=1.0,
            bin_width=0.1,
        ),
    ],
)
def test_a_reduction_that_draws_is_refused(door, reduction):
    right = r"`reductions\['mine'\]` must measure the same at every call, got two measurements"
    with pytest.raises(ValueError, match=right):
        door(lambda key: trial(), reductions={"mine": reduction})


@pytest.mark.parametrize("door", [ensemble, study])
def test_functions_over_time_that_draw_are_refused(door):
    right = "`{}` must measure the same at every call, got two measurements"
    with pytest.raises(ValueError, match=right.format("save_fn")):
        door(lambda key: trial(), save_fn=lambda t, state: state * random.random())
    with pytest.raises(ValueError, match=right.format("passage_fn")):
        door(lambda key: trial(), passage_fn=lambda t, state, m: m[0] - random.random())


@pytest.mark.parametrize("door", [ensemble, study])
def test_a_reduction_of_what_is_saved_is_looked_at(door):
    def saved(trial, trajectory):
        return trajectory.saved[-1] * random.random()

    reductions = {"mine": hj.Moments(saved)}
    with pytest.raises(ValueError, match=r"`reductions\['mine'\]` must measure the same"):
        door(lambda key: trial(), save_fn=lambda t, state: state[:2], reductions=reductions)


class RandomLoss(hj.AbstractLoss):
    def measure(self, trial, trajectory, criterion):
        return trajectory.overlaps[-1, trial.target[0]] + random.random()

    def value(self, means):
        return means


@pytest.mark.slow
@pytest.mark.parametrize("loss", [RandomLoss(), hj.OverlapLoss() + 0.5 * RandomLoss()])
def test_a_loss_that_draws_is_refused(loss):
    with pytest.raises(ValueError, match="`loss` must measure the same at every call, got two"):
        tuning(lambda key: trial(), loss=loss)


@pytest.mark.slow
def test_a_draw_under_one_static_value_is_found_in_its_cell():
    def kinds(key, noise, kind):
        x0 = GENERATOR.normal(size=8) if kind == "numpy" else jax.random.normal(key, (8,))
        return trial(x0=x0, noise=hj.AdditiveNoise(noise))

    sweep = {"noise": [0.5, 1.0], "kind": ["jax", "numpy"]}
    with pytest.raises(ValueError, match=r"`x0`: .* \(In the cell noise = 0.5, kind = numpy.\)"):
        hj.Study(kinds, sweep, **SETTINGS)
    hj.Study(kinds, {"noise": [0.5, 1.0], "kind": ["jax"]}, **SETTINGS)


# What is no draw.


class Loud(eqx.Module):
    """Prints what it sees."""

    def __call__(self, t):
        jax.debug.print("t = {}", t)
        return jnp.cos(t) * MEMORIES[0]


@jax.custom_jvp
def bent(x):
    return jnp.tanh(x)


@bent.defjvp
def bent_slope(primals, tangents):
    return bent(*primals), tangents[0]


def seeded(key):
    state = random.getstate()
    random.seed(3)
    x0 = np.random.default_rng(0).normal(size=8) + random.random()
    random.setstate(state)
    return trial(x0=x0)


def seeded_globally(key):
    np.random.seed(3)  # noqa: NPY002
    return trial(x0=np.random.normal(size=8))  # noqa: NPY002


def unused(key):
    random.random()
    return trial(x0=jax.random.normal(key, (8,)))


FINE: dict[str, Callable[..., hj.Trial]] = {
    "drawn from the key": lambda key: trial(x0=jax.random.normal(key, (8,))),
    "a lambda made per call": lambda key: trial(inputs=lambda t: jnp.cos(t) * MEMORIES[0]),
    "a closure over what the key drew": lambda key: (
        lambda drawn: trial(inputs=lambda t: jnp.cos(t) * drawn)
    )(jax.random.normal(key, (8,))),
    "numpy in a closure": lambda key: (lambda held: trial(inputs=lambda t: held * t))(np.ones(8)),
    "partial": lambda key: trial(
        inputs=eqx.Partial(lambda u, t: u * t, jax.random.normal(key, (8,)))
    ),
    "Python's partial": lambda key: trial(
        inputs=functools.partial(lambda u, t: u * t, jax.random.normal(key, (8,)))
    ),
    "infinite and NaN entries": lambda key: trial(
        x0=jnp.where(jnp.arange(8) < 3, jnp.nan, jnp.inf)
    ),
    "a key of its own": lambda key: trial(key=jax.random.fold_in(key, 7)),
    "debug": lambda key: trial(inputs=Loud()),
    "custom derivatives": lambda key: trial(inputs=lambda t: bent(t) * MEMORIES[0]),
    "compiled": jax.jit(lambda key: trial(x0=jax.random.normal(key, (8,)))),
    "compiled input": lambda key: trial(inputs=jax.jit(lambda t: jnp.cos(t) * MEMORIES[0])),
    "loops": lambda key: trial(
        inputs=lambda t: jax.lax.scan(lambda x, _: (x + t, None), MEMORIES[0], length=3)[0]
    ),
    "a lambda in the noise": lambda key: trial(noise=hj.MultiplicativeNoise(lambda t, x: 0.1 * x)),
    "seeded": seeded,
    "seeded globally": seeded_globally,
    "drawn and not used": unused,
    "drawn once for all": lambda key: trial(x0=SHARED),
}
SHARED = GENERATOR.normal(size=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", FINE)
def test_nothing_else_is_taken_for_a_draw(name):
    """The door alone: nothing is solved."""
    function = FINE[name]
    state, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        study(function)
    finally:
        random.setstate(state)
        np.random.set_state(numpy)  # noqa: NPY002


# What it costs.


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_a_trial_is_made_outside_a_trace_at_most_twice(door):
    made = []

    def counting(key):
        made.append(isinstance(key, Tracer))
        return trial(x0=jax.random.normal(key, (8,)))

    if door == "tune":  # the door alone; its verification is an ensemble
        options: dict[str, Any] = {"loss": hj.OverlapLoss(), **SETTINGS}
        key = options.pop("key")
        made_of = (lambda key, noise: counting(key)), {"noise": 0.5}
        prepare(*made_of, key, *sorted_out(options))
    else:
        DOORS[door](counting)
    assert made.count(False) == 2


@pytest.mark.slow
def test_the_look_compiles_and_solves_nothing(caplog):
    task = hj.Retrieval(num_neurons=1024, noise=2.0)
    key = jax.random.key(0)
    plan = hj.Study(task, {"noise": [2.0]}, trials=1, key=key, t1=1.0, dt=0.1)
    problem, made = plan._work.cells[0].problem, task(key)
    start = time.perf_counter()
    with jax.log_compiles():
        check_draws(made, problem, {}, hj.Criterion(), make=lambda: task(key), function=task)
    assert time.perf_counter() - start < 0.5
    assert not [each for each in caplog.messages if "XLA compilation" in each]
