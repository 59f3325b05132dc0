"""`map_trials`: what a function gives of many trials, whatever the chunks and devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hopjax as hj
from hopjax import engine

KEY = jax.random.key(0)
CELLS = (np.array([0.0, 100.0, 200.0]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))


def normal(key):
    return jax.random.normal(key)


def of_cell(key, cell):
    return cell[0] + cell[1].sum() + jax.random.normal(key)


def test_trials_have_the_documented_keys_and_depend_on_their_number_only():
    many, few = (hj.map_trials(normal, trials=trials, key=KEY) for trials in (300, 7))
    np.testing.assert_array_equal(many[:7], few)
    assert many.shape == (300,)
    for number in (0, 6, 299):
        assert many[number] == jax.random.normal(jax.random.fold_in(KEY, number))
    assert len(np.unique(many)) == 300


def test_cells_have_their_own_parameters_and_keys():
    many = hj.map_trials(of_cell, trials=50, key=KEY, cells=CELLS)
    two = jax.tree.map(lambda leaf: leaf[:2], CELLS)
    few = hj.map_trials(of_cell, trials=3, key=KEY, cells=two)
    assert many.shape == (3, 50)
    np.testing.assert_array_equal(many[:2, :3], few)
    noise = many - np.array([[3.0], [107.0], [211.0]])
    key = jax.random.fold_in(jax.random.fold_in(KEY, 2), 49)
    assert noise[2, 49] == pytest.approx(float(jax.random.normal(key)))
    assert len(np.unique(noise.round(9))) == 150


@pytest.mark.parametrize("changes", [{"devices": 1}, {"chunk": 7}, {"one_by_one": True}])
def test_neither_devices_nor_chunks_nor_their_order_decide(changes: dict[str, Any]):
    whole = hj.map_trials(of_cell, trials=50, key=KEY, cells=CELLS)
    if "devices" in changes:
        changes = {"devices": jax.local_devices()[:1]}
    found = hj.map_trials(of_cell, trials=50, key=KEY, cells=CELLS, **changes)
    np.testing.assert_array_equal(found, whole)


def test_results_keep_their_structure():
    def both(key):
        return {"vector": jnp.arange(3.0) + jax.random.normal(key), "ok": jnp.array(True)}

    found = hj.map_trials(both, trials=5, key=KEY, chunk=2)
    assert {name: part.shape for name, part in found.items()} == {"vector": (5, 3), "ok": (5,)}
    assert all(isinstance(part, np.ndarray) for part in found.values())


@pytest.mark.parametrize(
    ("cells", "where"), [(None, "trial 3"), (np.zeros(2), "trial 3 of cell 0")]
)
def test_a_value_out_of_its_range_is_named_with_its_trial(cells, where):
    def trial(key, *_):
        noise = hj.AdditiveNoise(jnp.where(jnp.all(jax.random.key_data(key) == bad), -1.0, 1.0))
        return noise.strength

    first = KEY if cells is None else jax.random.fold_in(KEY, 0)
    bad = jax.random.key_data(jax.random.fold_in(first, 3))
    match = f"`strength` must be .*, which it is not in {where}"
    with pytest.raises(engine.OutOfRangeError, match=match):
        hj.map_trials(trial, trials=5, key=KEY, cells=cells, chunk=2)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"trials": 0}, "trials"),
        ({"trials": 2**31}, "trials"),
        ({"key": 3}, "key"),
        ({"cells": np.float64(1.0)}, "cells"),
        ({"cells": (np.zeros(2), np.zeros(3))}, "cells"),
        ({"cells": np.zeros(2)}, "function"),
        ({"chunk": 0}, "chunk"),
        ({"devices": []}, "devices"),
        ({"one_by_one": 1}, "one_by_one"),
        ({"progress": None}, "progress"),
        ({"function": 3}, "function"),
    ],
)
def test_wrong_arguments_are_named(changes, name):
    function = changes.get("function", normal)
    given = {"trials": 3, "key": KEY} | changes
    given.pop("function", None)
    with pytest.raises(hj.ArgumentError) as error:
        hj.map_trials(function, **given)
    assert error.value.name == name
