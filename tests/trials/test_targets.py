"""Which memory is right where none is named: the one of which the input shows most."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import MODELS, each_class
from numpy.testing import assert_array_equal

import hopjax as hj
from hopjax.command.show import study_table
from hopjax.trials.trial import TIE
from hopjax.tuning.parameters import select

N, P = 16, 4
KEY = jax.random.key(3)
MEMORIES = np.asarray(hj.orthogonal_memories(num_memories=P, num_neurons=N))
MODEL = hj.IDPHopfield(MEMORIES)
START = np.linspace(-1, 1, N)
SETTINGS: dict[str, Any] = {"trials": 6, "key": KEY, "t1": 0.4, "dt": 0.1}


def shown(*weights: float) -> np.ndarray:
    """A mixture; memories that are not named have no weight."""
    return np.array(weights) @ MEMORIES[: len(weights)]


def trial(inputs: Any, model: hj.AbstractHopfield = MODEL, **changes: Any) -> hj.Trial:
    return hj.Trial(model, inputs, START, hj.AdditiveNoise(0.1), **changes)


@pytest.mark.slow
def test_an_input_of_memory_3_asks_for_memory_3():
    def ten(key):
        memories = hj.random_memories(key, num_memories=10, num_neurons=64)
        return hj.Trial(hj.IDPHopfield(memories), 3 * memories[3], jnp.ones(64))

    assert ten(KEY).target.tolist() == [3]
    found = hj.solve_ensemble(ten, trials=20, key=KEY, t1=10.0, dt=0.1)
    assert_array_equal(found.memory, np.full(20, 3))
    assert found.retrieved.estimate == 1
    assert_array_equal(found.target, np.full((20, 1), 3))
    assert "\n  target         memory 3\n" in repr(found)


@each_class()
def test_the_most_salient_memory_is_the_default_in_every_model(kind):
    memories = np.asarray(MODELS[kind](MEMORIES).memories)
    for index in range(P):
        weights = np.array([0.3, -0.8, 0.5, 0.2])
        weights[index] = 1.0
        made = hj.Trial(MODELS[kind](MEMORIES), weights @ memories, START)
        assert made.target.tolist() == [index]
        assert made.target.dtype == jnp.int32


SCHEDULES: dict[str, tuple[Any, int]] = {
    "the last value": ([shown(2.0), shown(0.2, 0.5)], 1),
    "the last value that is not zero": ([shown(2.0), shown(0, 0, 1.0), shown(), shown()], 2),
    "zero at first": ([shown(), shown(0.1, 0, 0, 0.2)], 3),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_of_a_schedule_the_last_value_that_is_not_zero_counts(name):
    values, expected = SCHEDULES[name]
    inputs = hj.Schedule(0.1 * np.arange(len(values)), np.stack(values))
    assert trial(inputs).target.tolist() == [expected]
    assert trial(inputs.pulsed(0.05)).target.tolist() == [expected]
    traced = jax.jit(lambda values: trial(hj.Schedule(inputs.onsets, values)).target)
    assert traced(inputs.values).tolist() == [expected]


def test_an_explicit_target_stays_whatever_the_input_is():
    zero, both = np.zeros(N), shown(1, 1)
    for inputs in (zero, both, lambda t: jnp.asarray(both), hj.Schedule([0.0], zero[None])):
        assert trial(inputs, target=2).target.tolist() == [2]
        assert trial(inputs, target=[1, 0]).target.tolist() == [1, 0]


def without(key):
    """No memory at all in a third of the trials; the very first look sees a good one."""
    strength = jnp.where(chosen(key), 0.0, 1.0)
    return trial(strength * shown(0, 1.0))


def against(key):
    return trial(jnp.where(chosen(key), -1.0, 1.0) * shown(0, 1.0))


def tied(key):
    return trial(jnp.where(chosen(key), shown(1.0, 1.0), shown(0.5, 1.0)))


def chosen(key):
    first = jnp.all(jax.random.key_data(key) == jax.random.key_data(KEY))
    return (jax.random.uniform(key) < 0.3) & ~first


WITHOUT = "`target` must be given where no memory has a positive and finite saliency in the input"
TIED = "`target` must be given where two memories are the most salient ones in the input"
REFUSED: dict[str, tuple[Any, str]] = {
    "zero": (np.zeros(N), "`target` must be given where the input is zero throughout"),
    "zero throughout a schedule": (
        hj.Schedule([0.0, 0.1], np.zeros((2, N))),
        "`target` must be given where the input is zero throughout",
    ),
    "a function of time": (
        lambda t: t * jnp.ones(N),
        "`target` must be given where the input is a function of time",
    ),
    "negatives": (-shown(1, 1, 1, 1), WITHOUT + ", got -1 at most"),
    "nothing along any memory": (1e-3 * np.linalg.svd(MEMORIES)[2][-1], WITHOUT),
    "two alike": (shown(0.5, 2.0, 0, 2.0), TIED + r", got 2 for memories\[1\] and memories\[3\]"),
    "two alike but for rounding": (shown(0.5, 2.0, 0, 2.0 + 1e-15), TIED),
    "the last of a schedule": (hj.Schedule([0.0, 0.1], np.stack([shown(1), shown(1, 1)])), TIED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_no_memory_is_the_most_salient_one_the_target_must_be_given(name):
    inputs, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        trial(inputs)


def test_a_tie_is_one_up_to_rounding_and_no_further():
    eps = np.finfo(float).eps
    # The input has the size 1: where memories agree it is 2, elsewhere 0.
    for gap, fine in ((0.5 * TIE * eps, False), (2 * TIE * eps, True)):
        inputs = shown(1.0, 1.0 + gap)
        if fine:
            assert trial(inputs).target.tolist() == [1]
        else:
            with pytest.raises(ValueError, match=TIED):
                trial(inputs)


@pytest.mark.parametrize("jit", [False, True])
def test_a_copy_is_the_same_memory_and_a_negative_is_none_that_is_shown(jit):
    memories = MEMORIES[[1, 0, 0, 2]] * np.array([[1.0], [1.0], [1.0], [-1.0]])
    model = hj.IDPHopfield(memories)
    for inputs, expected in ((shown(2.0, 0.5), 1), (shown(0.2, 0.1, -1.0), 3)):
        make = lambda inputs: trial(inputs, model).target  # noqa: E731
        assert (jax.jit(make) if jit else make)(inputs).tolist() == [expected]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "message"),
    [(without, WITHOUT), (against, WITHOUT), (tied, TIED)],
)
def test_what_a_trace_hides_is_found_when_it_runs_and_the_trial_is_named(function, message):
    keys = [jax.random.split(jax.random.fold_in(KEY, j))[0] for j in range(6)]
    first = [bool(chosen(key)) for key in keys].index(True)
    with pytest.raises(ValueError, match=message + f", which it is not in trial {first}"):
        hj.solve_ensemble(function, **SETTINGS)
    with pytest.raises(eqx.EquinoxRuntimeError, match="`target` must be given where"):
        eqx.filter_jit(lambda key: function(key).target)(keys[first])


def test_an_input_that_is_not_finite_is_said_to_be_that():
    with pytest.raises(eqx.EquinoxRuntimeError, match="`inputs` must be finite"):
        eqx.filter_jit(lambda u: trial(u).target)(jnp.full(N, jnp.nan))


def by_luck(key):
    """Either of two memories is shown."""
    which = (jax.random.uniform(key) < 0.5).astype(int)
    return trial(2.0 * jnp.asarray(MEMORIES)[which])


@pytest.mark.slow
def test_under_vmap_each_trial_has_its_own():
    keys = jax.random.split(KEY, 20)
    found = jax.jit(jax.vmap(lambda key: by_luck(key).target))(keys)
    expected = [int(jax.random.uniform(key) < 0.5) for key in keys]
    assert_array_equal(found, np.array(expected)[:, None])
    ensemble = hj.solve_ensemble(by_luck, **SETTINGS)
    assert set(ensemble.target.ravel()) == {0, 1}
    assert "\n  target         differs between trials\n" in repr(ensemble)
    several = hj.solve_ensemble(trial(shown(1), target=[0, 3, 0]), **SETTINGS)
    assert "\n  target         memories 0 and 3\n" in repr(several)


def test_gradients_pass_by_it():
    def overlap(strength):
        made = trial(strength * shown(0.2, 1.0))
        return jnp.sum(made.inputs) * made.target[0].astype(float)

    expected = shown(0.2, 1.0).sum()
    assert float(jax.grad(overlap)(1.0)) == pytest.approx(expected, abs=1e-12)
    assert float(jax.jacfwd(overlap)(1.0)) == pytest.approx(expected, abs=1e-12)


def test_the_standard_retrieval_asks_for_the_memory_shown_last_whatever_the_weights():
    task = hj.Retrieval(
        num_neurons=16, num_memories=4, memories="orthogonal", shown=(2, 1), onsets=(0.0, 1.0)
    )
    assert task(KEY, dominant=1.0, background=1.0).target.tolist() == [1]
    assert task(KEY, dominant=0.5, background=2.0).target.tolist() == [1]
    assert task(KEY, strength=0.0).target.tolist() == [1]


# Studies and tuning.


def weighed(key, second, noise=0.1):
    return hj.Trial(MODEL, hj.mixture(MEMORIES, jnp.stack([1.0, second, 0, 0])), START)


@pytest.mark.slow
def test_a_study_names_the_target_of_its_cells():
    same, differs = (
        hj.Study(weighed, {"second": values}, **SETTINGS).run()
        for values in ([0.1, 0.2], [0.5, 2.0])
    )
    assert "6 trials in each cell; target memory 0; retrieved:" in study_table(same)
    assert_array_equal(differs.target_memory.sel(second=2.0), np.ones((6, 1)))
    table = study_table(differs).splitlines()
    assert "6 trials in each cell; target differs between cells; retrieved:" in table[-1]
    assert table[0].endswith("target")
    assert [line.split()[-2:] for line in table[1:3]] == [["memory", "0"], ["memory", "1"]]


def several(key, *, many: int):
    return trial(by_luck(key).inputs, target=list(range(many)) if many else None)


@pytest.mark.slow
def test_cells_may_have_other_numbers_of_right_memories():
    table = study_table(hj.Study(several, {"many": [2, 0, 1]}, static=["many"], **SETTINGS).run())
    ends = [line.rsplit("  ", 1)[1].strip() for line in table.splitlines()[1:4]]
    assert ends == ["memories 0 and 1", "differs between trials", "memory 0"]


def test_a_cell_without_a_most_salient_memory_is_refused_by_name():
    with pytest.raises(ValueError, match=TIED + r".*\(In the cell second = 1\.\)"):
        hj.Study(weighed, {"second": [0.5, 1.0]}, **SETTINGS)


def steered(key, second):
    return hj.Trial(MODEL, hj.mixture(MEMORIES, jnp.stack([1.0, second, 0, 0])), START)


def test_a_tuned_input_does_not_change_what_is_right():
    # Memory 1 becomes the most salient one, but right stays what was so at the start.
    make, start, example = select(steered, {"second": 0.9}, KEY)
    assert example.target.tolist() == make(KEY, start).target.tolist() == [0]
    for at in (make, eqx.filter_jit(make)):
        tuned = at(KEY, {"second": jnp.array(2.0)})
        assert MEMORIES @ np.asarray(tuned.inputs) / N == pytest.approx([1, 2, 0, 0])
        assert tuned.target.tolist() == [0]
    make, _, _ = select(trial(shown(1.0, 0.9)), {"inputs": None}, KEY)
    assert make(KEY, {"inputs": jnp.asarray(shown(1.0, 2.0))}).target.tolist() == [0]
    # So no tie on the way matters, nor that the input turns.
    make, _, _ = select(steered, {"second": 0.9}, KEY)
    for second in (1.0, -3.0):
        assert make(KEY, {"second": jnp.array(second)}).target.tolist() == [0]
    with pytest.raises(ValueError, match=TIED):
        select(steered, {"second": 1.0}, KEY)


def test_an_infinite_saliency_is_none():
    memories = MEMORIES.astype(np.float32)
    with pytest.raises(ValueError, match="a positive and finite saliency in the input, got inf"):
        hj.Trial(hj.IDPHopfield(memories), np.float32(1e38) * memories[0], memories[0])
