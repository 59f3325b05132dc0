"""The standard retrieval against the paper's protocol, written here in NumPy and by hand."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax.core import Tracer

import hopjax as hj
from hopjax.trials import marked

# The paper's sequence: background in (0.8, 1.5), the dominant memory in (2, 3.5), the one that
# was shown before in (0.2, 0.6), and a sum of √(P N).
N, P = 32, 6
PAPER: dict[str, Any] = {
    "num_neurons": N,
    "num_memories": P,
    "onsets": (0.0, 10.0, 20.0),
    "shown": (0, 1, 2),
    "background": (0.8, 1.5),
    "dominant": (2.0, 3.5),
    "previous": (0.2, 0.6),
    "total_weight": "balanced",
    "start_scale": 2.0,
}
TASK = hj.Retrieval(**PAPER)


@functools.cache
def many() -> hj.Trial:
    """The paper's trials of 200 keys."""
    return jax.jit(jax.vmap(TASK))(jax.random.split(jax.random.key(3), 200))


def weights_of(trial: hj.Trial) -> np.ndarray:
    """The weights of the memories in each input: u = Σ w ξ, solved for w."""
    memories, values = np.asarray(trial.model.memories), np.asarray(trial.inputs.values)
    solved = [
        np.linalg.lstsq(patterns.T, inputs.T, rcond=None)[0].T
        for patterns, inputs in zip(memories, values, strict=True)
        if np.linalg.matrix_rank(patterns) == len(patterns)
    ]
    assert len(solved) > 0.9 * len(memories)
    return np.array(solved)


def test_weights_follow_the_law_of_the_paper():
    weights = weights_of(many())
    assert weights.shape[1:] == (3, P)
    np.testing.assert_allclose(weights.sum(axis=-1), np.sqrt(P * N), rtol=1e-6)
    # Before they are scaled, the weights are in their ranges; ratios do not know the scale.
    dominant = weights[:, [0, 1, 2], [0, 1, 2]]
    previous = weights[:, [1, 2], [0, 1]]
    others = np.stack([np.delete(weights[:, 2], [1, 2], axis=-1)[:, i] for i in range(P - 2)])
    for first, ends, second, other_ends in (
        (dominant[:, 1:], (2.0, 3.5), previous, (0.2, 0.6)),
        (dominant[:, 2], (2.0, 3.5), others, (0.8, 1.5)),
        (others, (0.8, 1.5), previous[:, 1], (0.2, 0.6)),
    ):
        ratio = first / second
        low, high = ends[0] / other_ends[1], ends[1] / other_ends[0]
        assert ((ratio > low) & (ratio < high)).all()
        middle = np.mean(ends) / np.mean(other_ends)
        assert ratio.min() < middle < ratio.max()
    # The first input has no memory before it, so its first is dominant and the rest background.
    rest = weights[:, 0, 1:] / dominant[:, :1]
    assert ((rest > 0.8 / 3.5) & (rest < 1.5 / 2.0)).all()
    # All are drawn on their own.
    assert len(np.unique(weights.round(9))) == weights.size


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[3, 1, 1], [1, 3, 1]]),
        ({"previous": 0.5}, [[3, 1, 1], [0.5, 3, 1]]),
        ({"previous": 0.5, "start": "memory", "start_memory": 2}, [[3, 1, 0.5], [0.5, 3, 1]]),
        ({"previous": 0.5, "start": "memory", "start_memory": 0}, [[3, 1, 1], [0.5, 3, 1]]),
        ({"strength": 2.0, "dominant": 2.0}, [[4, 2, 2], [2, 4, 2]]),
        ({"total_weight": 10.0}, [[6, 2, 2], [2, 6, 2]]),
        ({"total_weight": 10.0, "strength": 0.5}, [[3, 1, 1], [1, 3, 1]]),
        ({"dominant": (3.0, 3.0), "background": (0.0, 0.0)}, [[3, 0, 0], [0, 3, 0]]),
    ],
)
def test_weights_by_hand(changes, expected):
    task = hj.Retrieval(
        num_neurons=8, num_memories=3, memories="orthogonal", onsets=(0.0, 1.0), shown=(0, 1)
    )
    trial = task(jax.random.key(0), **changes)
    memories = np.asarray(trial.model.memories)
    np.testing.assert_allclose(memories @ memories.T, 8 * np.eye(3))
    found = np.asarray(trial.inputs.values) @ memories.T / 8
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_memory_that_is_shown_again_has_the_same_input_again():
    glitch = hj.Retrieval(**PAPER | {"onsets": (0.0, 8.0, 10.0, 15.0), "shown": (0, 1, 0, 1)})
    trial = glitch(jax.random.key(1))
    values = np.asarray(trial.inputs.values)
    np.testing.assert_array_equal(values[0], values[2])
    np.testing.assert_array_equal(values[1], values[3])
    assert not np.array_equal(values[0], values[1])
    assert trial.target == 1  # the last one shown
    np.testing.assert_array_equal(trial.inputs.onsets, [0, 8, 10, 15])


@pytest.mark.slow
def test_a_pulsed_input_is_that_of_a_pulsed_schedule():
    trial, pulsed = (
        TASK(jax.random.key(2), model=model, pulse=2.0) for model in ("classic", "classic_pulsed")
    )
    expected = trial.inputs.pulsed(2.0)
    np.testing.assert_array_equal(pulsed.inputs.onsets, expected.onsets)
    np.testing.assert_array_equal(pulsed.inputs.values, expected.values)
    assert isinstance(pulsed.model, hj.ClassicHopfield)
    # Everything else is the same for all models.
    idp = TASK(jax.random.key(2))
    assert isinstance(idp.model, hj.IDPHopfield)
    for other in (trial, pulsed):
        np.testing.assert_array_equal(other.model.memories, idp.model.memories)
        np.testing.assert_array_equal(other.x0, idp.x0)
    np.testing.assert_array_equal(trial.inputs.values, idp.inputs.values)


@pytest.mark.parametrize(
    ("memory_load", "count"), [(0.25, 8), (0.01, 1), (1.0, 32), (0.14, 4), (0.11, 4), (0.1, 3)]
)
def test_a_load_is_a_number_of_memories(memory_load, count):
    task = hj.Retrieval(num_neurons=N, num_memories=77, memory_load=memory_load)
    trial = jax.eval_shape(task, jax.random.key(0))
    assert trial.model.memories.shape == (count, N)


def test_the_state_starts_in_a_corrupted_memory():
    task = hj.Retrieval(
        num_neurons=N, num_memories=3, start="memory", start_memory=2, start_scale=1.5
    )
    shares, keys = np.array([0.0, 0.25, 1.0]), jax.random.split(jax.random.key(3), 100)
    over_keys = jax.vmap(lambda key, share: task(key, corruption=share), (0, None))
    trials = jax.jit(jax.vmap(over_keys, (None, 0)))(keys, shares)
    signs = np.asarray(trials.x0) / np.asarray(trials.model.memories)[:, :, 2]
    assert set(signs.ravel().tolist()) == {1.5, -1.5}
    error = np.sqrt(shares * (1 - shares) / signs[0].size)
    assert (abs((signs < 0).mean(axis=(1, 2)) - shares) <= 4 * error).all()


def test_the_state_starts_from_normal_numbers():
    starts = np.asarray(many().x0).ravel() / 2
    assert abs(starts.mean()) < 4 / np.sqrt(len(starts))
    assert abs(starts.var() - 1) < 4 * np.sqrt(2 / len(starts))
    assert abs((np.abs(starts) < 1).mean() - 0.6827) < 4 * 0.5 / np.sqrt(len(starts))


def test_choices_reach_the_trial():
    trial = TASK(
        jax.random.key(0),
        activation="erf",
        slope=3.0,
        self_coupling=True,
        noise=4.0,
        law="two_point",
        target=0,
    )
    assert isinstance(trial.model, hj.IDPHopfield)
    assert isinstance(trial.model.activation, hj.Erf)
    assert trial.model.activation.slope == 3
    assert trial.model.self_coupling
    assert isinstance(trial.noise, hj.AdditiveNoise)
    assert trial.noise.strength == 4
    assert isinstance(trial.noise.law, hj.TwoPoint)
    assert trial.target == 0
    plain = TASK(jax.random.key(0))
    assert isinstance(plain.model, hj.IDPHopfield)
    assert isinstance(plain.model.activation, hj.Tanh)
    assert plain.model.activation.slope == 10
    assert not plain.model.self_coupling
    assert plain.target == 2
    several = TASK(jax.random.key(0), target=(0, 2))
    np.testing.assert_array_equal(several.target, [0, 2])
    # The same key: the same memories, weights and start.
    np.testing.assert_array_equal(plain.inputs.values, trial.inputs.values)
    np.testing.assert_array_equal(plain.x0, trial.x0)


def test_the_sequence_of_hard_saturation():
    trial = TASK(
        jax.random.key(0),
        model="sequential",
        activation="hard_tanh",
        slope=1.0,
        self_coupling=True,
        strength=0.0,
    )
    assert isinstance(trial.model, hj.SequentialHopfield)
    assert isinstance(trial.model.activation, hj.HardTanh)
    assert trial.model.self_coupling
    assert trial.target == 2  # of an input that shows nothing too
    assert not np.any(trial.inputs.values)


@pytest.mark.slow
def test_the_transitions_of_a_sequence():
    task = hj.Retrieval(model="sequential", num_neurons=16, num_memories=3, cyclic=False)
    model: Any = task(jax.random.key(0)).model
    assert model.transition_matrix.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    rows, start = ((0.0, 1.0, 0.0), (0.5, 0.0, 1.0), (0.5, 0.0, 0.0)), (0.0, 0.25, 0.5)
    given = {"cyclic": True, "transitions": rows, "initial_saliencies": start}
    trial: Any = task(jax.random.key(0), **given)
    assert trial.model.transition_matrix.tolist() == [list(row) for row in rows]
    assert trial.model.initial_state(trial.x0)[16:].tolist() == list(start)


def test_memories_weights_and_starts_are_new_for_every_key():
    trials = many()
    for values in (trials.model.memories, trials.inputs.values, trials.x0):
        assert len({np.asarray(value).tobytes() for value in values}) == 200


BAD: dict[str, list[tuple[Any, str]]] = {
    "model": [("hebb", 'one of "idp", "classic"'), (None, "one of"), (["idp"], "one of")],
    "num_neurons": [(0, "an integer"), (8.0, "an integer"), (True, "an integer")],
    "num_memories": [(0, "an integer"), ("3", "an integer")],
    "memory_load": [(0.0, "a positive number"), (1.5, "at most 1"), ("a", "a positive number")],
    "memories": [("glyphs", 'one of "random", "orthogonal"')],
    "correlation": [(-0.1, "from 0 to 1"), (1.1, "from 0 to 1")],
    "activation": [("relu", 'one of "tanh", "erf"')],
    "slope": [(0.0, "positive"), (-1.0, "positive"), (np.nan, "finite"), ("steep", "number")],
    "self_coupling": [(1, "True or False"), ("no", "True or False")],
    "memory_time_constant": [(0.0, "positive"), (np.inf, "finite")],
    "gain": [(-1.0, "zero or positive"), (np.nan, "finite")],
    "cyclic": [(1, "True or False"), (None, "True or False")],
    "transitions": [
        (((0.0, 1.0), (1.0, 0.0)), "rows of 6 numbers, one for each memory"),
        (((0.0,), (1.0, 0.0)), "rows of 6 numbers"),
        (1.0, "rows of 6 numbers"),
        (((-1.0,) * 6,) * 6, "zero or positive in every entry"),
        (((True,) * 6,) * 6, "a finite number"),
    ],
    "initial_saliencies": [((1.0,), "6 numbers, one for each"), ("zero", "6 numbers")],
    "time_constant": [(0.0, "positive"), (np.inf, "finite")],
    "power": [(1.5, "at least 2"), ("cubic", "number")],
    "beta": [(0.0, "positive"), (None, "number")],
    "noise": [(-1.0, "zero or positive"), (np.inf, "finite"), (None, "number"), ([1.0], "number")],
    "law": [("uniform", 'one of "gaussian", "two_point", "binomial", "tree"')],
    "onsets": [((0.0, 1.0), "one time for each of the 3"), (0.0, "one time for each")],
    "shown": [
        ((0, 1, 6), "below the number of memories, 6, got 6"),
        ((0, 1, -1), "at least 0"),
        ((0, 1, 1.0), "an integer"),
        ((), "a sequence"),
        (0, "a sequence"),
    ],
    "dominant": [((3.0, 2.0), "lower end first"), ((1.0, 2.0, 3.0), "pair"), (True, "number")],
    "background": [(np.nan, "finite"), ("high", "number"), (None, "number")],
    "previous": [((0.6, 0.2), "lower end first"), ("low", "number")],
    "total_weight": [("even", '"balanced"'), (0.0, "a positive number"), (-1.0, "a positive")],
    "strength": [(-1.0, "zero or positive"), (True, "number")],
    "pulse": [(0.0, "positive"), (-1.0, "positive")],
    "input_noise": [(-0.1, "zero or positive"), ("loud", "number")],
    "input_correlation_time": [(0.0, "positive"), (0.2, "None where there is no `input_noise`")],
    "start": [("zero", 'one of "normal", "memory"')],
    "start_memory": [(6, "below the number"), (-1, "at least 0"), (1.0, "an integer")],
    "start_scale": [(0.0, "positive")],
    "corruption": [(-0.1, "from 0 to 1"), (1.1, "from 0 to 1")],
    "target": [(6, "below the number of memories, 6, got 6"), (-1, "at least 0")],
}


def test_every_field_has_bad_values_here():
    assert set(BAD) == {field.name for field in dataclasses.fields(hj.Retrieval)}


@pytest.mark.parametrize(("name", "value", "match"), [(n, *case) for n in BAD for case in BAD[n]])
def test_bad_values_are_refused_by_name(name, value, match):
    with pytest.raises(
        (TypeError, ValueError), match=f"^Argument `{name}` must .*{match}"
    ) as error:
        hj.Retrieval(**PAPER | {name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"onsets": (0.0, 10.0, 5.0)}, "`onsets`"),
        ({"onsets": (1.0, 10.0, 20.0)}, "`onsets`"),
        ({"memories": "orthogonal", "num_neurons": 33}, "`num_neurons`"),
        ({"memories": "orthogonal", "num_memories": 33}, "`num_memories`"),
        ({"corruption": 2.0}, "`corruption`"),
        ({"nose": 2.0}, "nose"),
    ],
)
def test_bad_changes_are_refused_in_the_call(changes, match):
    with pytest.raises((TypeError, ValueError), match=match):
        TASK(jax.random.key(0), **changes)


def test_an_input_has_noise_where_it_is_asked_for():
    key = jax.random.key(0)
    plain = TASK(key).inputs
    white = TASK(key, input_noise=0.5).inputs
    assert white.amplitude == 0.5
    assert white.correlation_time is None
    np.testing.assert_array_equal(white.inputs.values, plain.values)
    assert TASK(key, input_noise=0.5, input_correlation_time=0.2).inputs.correlation_time == 0.2


@pytest.mark.slow
def test_fractional_fields_do_not_compile_anew():
    task = hj.Retrieval(num_neurons=8, num_memories=2)
    traces: list[bool] = []

    def trial(key, **changes):
        traces.append(isinstance(key, Tracer))
        return task(key, **changes)

    def see(trial, trajectory):
        return {
            "inputs": trial.inputs.inputs.values,
            "onsets": trial.inputs.inputs.onsets,
            "amplitude": trial.inputs.amplitude,
            "correlation_time": trial.inputs.correlation_time,
            "x0": trial.x0,
            "slope": trial.model.activation.slope,
            "noise": trial.noise.strength,
        }

    # Two values of every fractional field, and both at once.
    values: dict[str, tuple[Any, Any]] = {
        "slope": (5.0, 10.0),
        "noise": (0.0, 2.0),
        "onsets": ((0.0,), (0.0,)),
        "dominant": ((2.0, 3.0), (4.0, 5.0)),
        "background": (1.0, 0.5),
        "previous": (0.2, 0.3),
        "strength": (1.0, 2.0),
        "pulse": (0.1, 0.2),
        "start_scale": (1.0, 0.5),
        "corruption": (0.0, 0.5),
        "correlation": (0.0, 0.5),
        "memory_time_constant": (0.1, 0.2),
        "power": (3.0, 4.0),
        "beta": (10.0, 20.0),
        "gain": (4.0, 5.0),
        "time_constant": (20.0, 50.0),
        "initial_saliencies": ((1.0, 0.0), (0.5, 2.0)),
        "input_noise": (0.0, 0.5),
        "input_correlation_time": (0.1, 0.2),
    }
    assert set(values) == set(marked(task, "fractional")) - {"memory_load"}
    cells = [
        {name: pair[place] for name, pair in values.items()}
        | {"model": "classic_pulsed", "start": "memory", "start_memory": 1}
        for place in (0, 1)
    ]
    study = hj.Study(
        trial,
        cells,
        trials=2,
        key=jax.random.key(0),
        t1=0.3,
        dt=0.1,
        paired=list(cells[0]),
        static=["start_memory"],
        reductions={"see": hj.PerTrial(see)},
    )
    traces.clear()
    found = study.run(progress=False)
    assert sum(traces) == 1
    # And each cell is the trial that it would be on its own.
    for place, cell in enumerate(cells):
        key = jax.random.fold_in(study._work.cells[place].key, 1)
        expected: Any = task(jax.random.split(key)[0], **cell)
        seen = found.isel(cell=place, trial=1)
        shown = expected.inputs.inputs
        np.testing.assert_allclose(seen.see_inputs, shown.values, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(seen.see_onsets, shown.onsets)
        assert (seen.see_amplitude == cell["input_noise"]).all()
        assert (seen.see_correlation_time == cell["input_correlation_time"]).all()
        np.testing.assert_array_equal(seen.see_x0, expected.x0)
        assert (seen.see_slope == cell["slope"]).all()
        assert (seen.see_noise == cell["noise"]).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("decorrelated", hj.DecorrelatedHopfield),
        ("two_layer", hj.TwoLayerHopfield),
        ("dense", hj.DenseHopfield),
        ("attention", hj.DynamicAttention),
        ("sequential", hj.SequentialHopfield),
    ],
)
def test_other_architectures(name, kind):
    task = hj.Retrieval(
        model=name,
        memories="correlated",
        correlation=0.25,
        num_neurons=4096,
        num_memories=3,
        noise=2.0,
        memory_time_constant=0.2,
        gain=6.0,
        time_constant=30.0,
        power=4.0,
        beta=20.0,
        slope=5.0,
    )
    trial: Any = task(jax.random.key(0))
    model: Any = trial.model
    assert isinstance(model, kind)
    patterns = model.memories
    # Six standard deviations of the overlap of two of them, of at most 1/√N.
    assert abs(patterns[0] @ patterns[1] / 4096 - 0.25) < 6 / 64
    assert trial.noise.strength == 2  # of the features, in every model
    if isinstance(trial.model, hj.TwoLayerHopfield):
        assert model.memory_time_constant == 0.2
    if isinstance(trial.model, hj.SequentialHopfield):
        assert (model.gain, model.time_constant) == (6, 30)
    if isinstance(trial.model, hj.DynamicAttention):
        assert model.beta == 20 / 4096
    else:
        assert model.activation.slope == 5
    if isinstance(trial.model, hj.DenseHopfield):
        assert model.separation.power == 4
