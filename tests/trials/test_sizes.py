"""A retrieval has a size: where the overlap does not measure it, a least amplitude is asked for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import MODELS, each_class
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj
from hopjax.command.show import study_table
from hopjax.trials.criterion import LEAST_AMPLITUDE, OUTCOMES

N, P = 128, 64
KEY = jax.random.key(0)
SETTINGS: dict[str, Any] = {"trials": 20, "key": KEY, "t1": 10.0, "dt": 0.1}


def attending(key, strength, *, beta: float = 0.5):
    """Dynamic attention that is shown a share of a memory, and no other."""
    memory_key, start_key = jax.random.split(key)
    memories = hj.random_memories(memory_key, num_memories=P, num_neurons=N)
    model = hj.DynamicAttention(memories, beta)
    return hj.Trial(model, strength * memories[0], jax.random.normal(start_key, (N,)))


def amplitude(trial, trajectory):
    return trial.model.memories[0] @ trajectory.final_state / N


KEPT = {"amplitude": hj.PerTrial(amplitude)}


def of(strength: float, beta: float = 0.5, criterion: hj.Criterion | None = None) -> hj.Ensemble:
    def trial(key):
        return attending(key, strength, beta=beta)

    return hj.solve_ensemble(trial, criterion=criterion, reductions=KEPT, **SETTINGS)


@pytest.mark.slow
def test_a_state_that_collapsed_is_no_memory():
    faint = of(0.2)
    assert (abs(faint.final_overlap) > 0.9).mean() > 0.9
    assert (abs(faint.reduced["amplitude"]["values"]) < 0.01).all()
    assert faint.retrieved.estimate == 0
    assert faint.counts["none"] == faint.trials == faint.censored
    assert "(|m| > 0.9, the largest, amplitude > 0.1, at the end)" in repr(faint)


@pytest.mark.slow
def test_a_memory_that_is_retrieved_has_a_size():
    found = of(2.0)
    assert found.retrieved.estimate == 1
    assert_allclose(found.reduced["amplitude"]["values"], 2.0, rtol=0.01)


@pytest.mark.slow
def test_who_asks_for_no_amplitude_gets_the_cosine():
    faint = of(0.2, criterion=hj.Criterion(amplitude=0.0))
    assert faint.retrieved.estimate == (abs(faint.final_overlap) > 0.9).mean() > 0.9
    assert "(|m| > 0.9 and the largest, at the end)" in repr(faint)


@pytest.mark.long
@pytest.mark.parametrize("beta", [0.5, 0.5 / N])
@pytest.mark.parametrize("strength", [0.1, 0.2, 0.3, 0.4])
def test_whatever_counts_is_far_above_the_least_amplitude_and_the_rest_far_below(strength, beta):
    found = of(strength, beta)
    size = abs(found.reduced["amplitude"]["values"])
    large = size > LEAST_AMPLITUDE
    assert_array_equal(np.isin(found.outcome, [0, 1]), large)
    assert (abs(size[large] - strength) < 0.01).all()
    assert (size[~large] < 0.2 * LEAST_AMPLITUDE).all()
    assert set(found.outcome[~large]) <= {OUTCOMES.index("none")}


@pytest.mark.slow
def test_a_faint_wrong_memory_and_a_faint_mixture_are_none():
    memories = np.asarray(hj.orthogonal_memories(num_memories=4, num_neurons=16))
    model = hj.DynamicAttention(memories, 0.5)
    states = {
        "wrong": memories[1],
        "mixture": memories[1] + memories[2],
        "right": memories[0],
        "none": 0.0 * memories[0],
    }
    for name, state in states.items():
        for size, expected in ((0.2, name), (0.05, "none")):
            trial = hj.Trial(model, memories[0], size * state, target=0)
            # A single short step: the state is what it was at the start, but for some of its size.
            for criterion in (hj.Criterion(), hj.Criterion(settle=1e-3)):
                found = hj.solve_ensemble(
                    trial, trials=1, key=KEY, t1=1e-3, dt=1e-3, save_every=1e-3,
                    criterion=criterion,
                )  # fmt: skip
                assert found.counts[expected] == 1, (name, size)


@each_class()
def test_every_model_says_whether_its_overlap_measures_size(kind):
    """It does just if a hundredth of a memory has no large overlap."""
    model = MODELS[kind](np.asarray(hj.orthogonal_memories(num_memories=3, num_neurons=16)))
    whole = model.initial_state(model.memories[0])
    small = float(model.overlaps(0.01 * whole)[0])
    assert float(model.overlaps(whole)[0]) > 0.99
    assert model.overlap_measures_size == (small < 0.2)
    criterion = hj.Criterion()
    assert criterion.amplitude is None
    least = 0.0 if model.overlap_measures_size else LEAST_AMPLITUDE
    assert criterion.in_effect(model).amplitude == least
    assert hj.Criterion(amplitude=0.3).in_effect(model).amplitude == 0.3
    assert hj.Criterion(amplitude=0).in_effect(model).amplitude == 0
    margin = criterion.margin(model, 0.01 * whole, model.overlaps(whole), 0)
    expected = 0.01 - LEAST_AMPLITUDE if least else float(model.overlaps(whole)[0]) - 0.9
    assert float(margin) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("slope", [1.0, 10.0, 1000.0])
def test_overlaps_of_activities_measure_the_size_in_units_of_one_over_the_slope(slope):
    memories = np.asarray(hj.orthogonal_memories(num_memories=2, num_neurons=16))
    model = hj.IDPHopfield(memories, hj.Tanh(slope))
    size = np.arctanh(0.9) / slope
    for factor, retrieved in ((0.99, False), (1.01, True)):
        state = jnp.asarray(factor * size * memories[0])
        margin = float(hj.Criterion().margin(model, state, model.overlaps(state), 0))
        assert (margin > 0) == retrieved
        # Where that is too small, an amplitude is asked for.
        asked = hj.Criterion(amplitude=2.0)
        assert float(asked.margin(model, state, model.overlaps(state), 0)) < 0


@pytest.mark.slow
def test_a_study_says_which_amplitude_was_asked_for():
    task = hj.Retrieval(num_neurons=16, num_memories=2)
    settings: dict[str, Any] = {"trials": 2, "key": KEY, "t1": 0.2, "dt": 0.1}
    both = hj.Study(task, {"model": ["idp", "attention"]}, **settings).run()
    words = "|m| > 0.9, the largest, amplitude > 0.1 where overlaps do not measure size, at the end"
    assert both.attrs["criterion"] == words
    assert "amplitude" not in both.attrs
    assert study_table(both).endswith(f"target memory 0; retrieved: {words}")
    alone = hj.Study(task, {"model": ["attention"]}, **settings).run()
    assert alone.attrs["criterion"] == "|m| > 0.9, the largest, amplitude > 0.1, at the end"
    assert alone.attrs["amplitude"] == 0.1


def test_the_default_of_mixed_is_never_above_the_threshold():
    assert hj.Criterion().mixed == 0.3
    assert hj.Criterion(0.2).mixed == 0.2
    assert hj.Criterion(0.2, mixed=0.1).mixed == 0.1
    assert hj.Criterion(0.999).threshold == 0.999
