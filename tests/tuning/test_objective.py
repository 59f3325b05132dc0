"""`loss_and_gradient`: central differences, the keys of ensembles, devices, and wrong arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hopjax as hj

KEY = jax.random.key(4)
START = {"strength": 2.0, "lean": [0.3, -0.2]}
SETTINGS: dict[str, Any] = {
    "loss": hj.OverlapLoss(at_least=1.0) + 0.1 * hj.InputCost(),
    **{"t1": 0.6, "dt": 0.1, "trials": 5, "chunk": 2},
}


def trial(key, strength, lean):
    memories = hj.random_memories(key, num_memories=2, num_neurons=8, dtype=jnp.float64)
    u = strength * hj.mixture(memories, jnp.array([1.0, 0.2]) + lean)
    model = hj.IDPHopfield(memories, hj.Tanh(2.0))
    return hj.Trial(model, u, 0.4 * memories[0], hj.AdditiveNoise(0.3), target=0)


@pytest.fixture(scope="module")
def evaluate():
    return hj.loss_and_gradient(trial, START, **SETTINGS)


@pytest.mark.slow
def test_the_gradient_is_that_of_central_differences(evaluate):
    found = evaluate(START, KEY)
    assert list(found.gradient) == list(START)
    assert found.diverged == 0
    assert found.error > 0
    for name, value in START.items():
        for place in np.ndindex(np.shape(value)):
            step = np.zeros(np.shape(value))
            step[place] = 1e-5
            ends = (evaluate(START | {name: value + sign * step}, KEY).loss for sign in (1, -1))
            slope = np.subtract(*ends) / 2e-5
            assert found.gradient[name][place] == pytest.approx(slope, rel=1e-6)


@pytest.mark.slow
def test_the_loss_is_that_of_an_ensemble_with_the_same_key(evaluate):
    ensemble = hj.solve_ensemble(
        lambda key: trial(key, 2.0, jnp.array(START["lean"])),
        trials=5,
        key=KEY,
        t1=0.6,
        dt=0.1,
        chunk=2,
        criterion=hj.Criterion(settle=0.0),
    )
    changes: dict[str, Any] = {"loss": hj.OverlapLoss()}
    overlap = hj.loss_and_gradient(trial, START, **SETTINGS | changes)
    found = overlap(START, KEY)
    assert found.loss == pytest.approx(1 - np.abs(ensemble.final_overlap).mean(), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_one_device_gives_the_bits_of_two(mode):
    one, two = (
        hj.loss_and_gradient(trial, START, mode=mode, devices=jax.local_devices()[:n], **SETTINGS)(
            START, KEY
        )
        for n in (1, 2)
    )
    assert one.loss == two.loss
    for name in START:
        np.testing.assert_array_equal(one.gradient[name], two.gradient[name])


@pytest.mark.slow
def test_a_loop_of_ones_own_goes_down(evaluate):
    optimiser = optax.adam(0.1)
    values = {name: np.asarray(value) for name, value in START.items()}
    state = optimiser.init(values)
    losses = []
    for step in range(8):
        found = evaluate(values, jax.random.fold_in(KEY, step))
        losses.append(found.loss)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(found.gradient, state, values)
            values = optax.apply_updates(values, updates)
    assert np.mean(losses[-2:]) < np.mean(losses[:2])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"strength": 2.0}, "`parameters` must have the names strength, lean, got strength"),
        ({"strength": 2.0, "lean": 1.0}, r"`parameters\['lean'\]` must be of shape \(2,\)"),
        ({"strength": np.nan, "lean": [0, 0]}, r"`parameters\['strength'\]` must be finite"),
        (3.0, "`parameters` must be a dict of values by name, got 3.0"),
    ],
)
def test_wrong_values_are_refused(evaluate, wrong, match):
    with pytest.raises(hj.ArgumentError, match=match):
        evaluate(wrong, KEY)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"loss": 3}, "loss"),
        ({"trials": 0}, "trials"),
        ({"mode": "both"}, "mode"),
        ({"t1": -1.0}, "t1"),
        ({"devices": 1}, "devices"),
    ],
)
def test_wrong_arguments_are_refused(changes, name):
    with pytest.raises(hj.ArgumentError) as error:
        hj.loss_and_gradient(trial, START, **SETTINGS | changes)
    assert error.value.name == name
