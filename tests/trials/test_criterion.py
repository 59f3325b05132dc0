"""One meaning of "retrieved": the margin against NumPy, and all that goes by it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose, assert_array_equal
from passages import crossing

import hopjax as hj
from hopjax.solving import Grid
from hopjax.statistics import mean_share
from hopjax.trials.criterion import OUTCOMES, Margin

RANDOM = np.random.default_rng(2)
NUM_NEURONS, NUM_MEMORIES = 12, 5


def patterns() -> Any:
    """Five memories, of which the third is a copy of the first and the fourth its negative."""
    memories = RANDOM.choice([-1.0, 1.0], (NUM_MEMORIES, NUM_NEURONS))
    memories[2], memories[3] = memories[0], -memories[0]
    return memories


MEMORIES = patterns()
MODEL = hj.IDPHopfield(MEMORIES)


# The margin of a state, by loops.


def naive_margin(
    memories: Any, overlaps: Any, state: Any, right: Any, criterion: hj.Criterion
) -> float:
    """For each right memory what is least beyond what is asked; the best of them."""

    def size(value: float) -> float:
        return abs(value) if criterion.mirror else value

    rivals = []
    for j, row in enumerate(memories):
        same = [abs(sum(row * memories[k])) == len(row) for k in right]
        if not any(same):
            rivals.append(abs(overlaps[j]))
    margins = []
    for k in right:
        terms = [size(overlaps[k]) - criterion.threshold]
        terms += [size(overlaps[k]) - rival for rival in rivals]
        if criterion.amplitude is not None:
            along = sum(memories[k] * state) / sum(memories[k] ** 2)
            terms.append(size(along) - criterion.amplitude)
        margins.append(min(terms))
    return max(margins)


def naive_ending(
    overlaps: Any, sizes: Any, right: Any, rivals: Any, reach: Any, criterion: hj.Criterion
):
    """The outcome and the memory, from signs and sizes; `reach` says what each sign's margin is."""
    least = criterion.amplitude or -1
    strength = [abs(m) for m in overlaps]
    signed = reach(1) > 0 and not criterion.mirror
    best = max(right, key=lambda k: overlaps[k] if signed else strength[k])
    rival = max(rivals, key=lambda j: strength[j], default=None)
    beaten = rival is not None and strength[rival] >= max(strength[k] for k in right)
    strongest = 0.0 if rival is None else strength[rival]
    memory = rival if beaten else best
    if reach(1) > 0:
        return ("mirror" if criterion.mirror and overlaps[best] < 0 else "right"), memory
    if not criterion.mirror and reach(-1) > 0:
        return "mirror", memory
    if beaten and strongest > criterion.threshold and sizes[rival] > least:
        return "wrong", memory
    if max(strength) > criterion.threshold:
        return "none", memory  # in a memory, but for its amplitude
    parts = sum(strength[j] > criterion.mixed and sizes[j] > least for j in {*right, *rivals})
    return ("mixture" if parts >= 2 else "none"), memory


TARGETS = [[0], [1], [4], [1, 4], [0, 1], [3, 4, 1], [1, 1], [0, 1, 4]]
CRITERIA = [
    hj.Criterion(0.6, mixed=0.2),
    hj.Criterion(0.6, mixed=0.2, mirror=False),
    hj.Criterion(0.3, mixed=0.2, amplitude=0.25),
    hj.Criterion(0.3, mixed=0.2, amplitude=0.25, mirror=False),
]


def draws(count: int) -> tuple[Any, Any]:
    """States, and overlaps that have nothing to do with them but that copies agree."""
    overlaps = RANDOM.integers(-10, 11, (count, NUM_MEMORIES)) / 10  # ties are common
    overlaps *= RANDOM.choice([0.3, 1.0], (count, NUM_MEMORIES))
    overlaps[:, 2], overlaps[:, 3] = overlaps[:, 0], -overlaps[:, 0]
    return RANDOM.normal(size=(count, NUM_NEURONS)) * 1.5, overlaps


@pytest.mark.slow
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("target", TARGETS)
def test_margin_and_ending_are_those_of_a_loop(criterion, target):
    states, overlaps = draws(300)
    rivals = [j for j in range(NUM_MEMORIES) if j not in target]
    if {0, 2, 3} & {*target}:
        rivals = [j for j in rivals if j not in (0, 2, 3)]
    margin = jax.jit(jax.vmap(lambda x, m: criterion.margin(MODEL, x, m, target)))
    found = np.asarray(margin(states, overlaps))
    expected = [
        naive_margin(MEMORIES, m, x, target, criterion)
        for m, x in zip(overlaps, states, strict=True)
    ]
    assert_allclose(found, expected, rtol=EXACT, atol=1e-12)

    amplitudes = states @ MEMORIES.T / NUM_NEURONS
    endings = ending_of(criterion, target, overlaps, amplitudes)
    names = set()
    for number, (m, x) in enumerate(zip(overlaps, states, strict=True)):

        def reach(sign, m=m, x=x):
            return naive_margin(MEMORIES, sign * m, sign * x, target, criterion)

        sizes = abs(amplitudes[number])
        name, memory = naive_ending(m, sizes, target, rivals, reach, criterion)
        assert OUTCOMES[endings.outcome[number]] == name
        assert endings.memory[number] == memory
        assert endings.positive[number] == (reach(1) > 0)
        signed = reach(1) > 0 and not criterion.mirror
        best = max(target, key=lambda k, m=m, signed=signed: m[k] if signed else abs(m[k]))
        assert endings.overlap[number] == m[best]
        names.add(name)
    assert {"right", "mirror", "none"} <= names
    assert ("wrong" in names) == bool(rivals)


def ending_of(criterion: hj.Criterion, target: Any, overlaps: Any, amplitudes: Any) -> Any:
    """How trials ended that were saved once, late, with these overlaps."""
    late = hj.Criterion(
        *(criterion.threshold,),
        **{"mixed": criterion.mixed, "mirror": criterion.mirror, "settle": 0.1},
        amplitude=criterion.amplitude,
    )
    margin = Margin(late, MODEL, jnp.asarray(target))

    def end(m, a):
        return margin.ending(saved(m[None], a[None]))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(end))(overlaps, amplitudes))


def saved(overlaps: Any, amplitudes: Any = None, stride: int = 2) -> hj.Trajectory:
    """A trajectory with these saved overlaps, at steps of 0.1."""
    grid = Grid(0.1, stride * len(overlaps) - 1, stride)
    return hj.Trajectory(
        ts=jnp.asarray(grid.save_times),
        overlaps=overlaps,
        final_state=jnp.zeros(NUM_NEURONS),
        ok=jnp.array(True),
        diverged_step=jnp.array(-1),
        grid=grid,
        amplitudes=amplitudes,
    )


@pytest.mark.slow
def test_a_diverged_trial_ended_in_no_memory():
    margin = Margin(hj.Criterion(0.5), MODEL, jnp.array([0]))
    lost = dataclasses.replace(saved(jnp.full((1, NUM_MEMORIES), jnp.nan)), ok=jnp.array(False))
    end = margin.ending(lost)
    assert OUTCOMES[int(end.outcome)] == "diverged"
    assert (int(end.memory), int(end.positive)) == (-1, 0)


# In steps and at the end, of whole ensembles.


def letters(key: Any, strength: Any) -> hj.Trial:
    """Two letters that look alike, O and Q; the input is for Q, and O is called the right one."""
    memories = hj.glyph_memories("OQ", size=16)
    shown = strength * hj.mixture(memories, jnp.array([1.0, 2.0]))
    start = jax.random.normal(key, memories.shape[1:])
    return hj.Trial(hj.IDPHopfield(memories), shown, start, hj.AdditiveNoise(0.3), target=0)


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
def test_ensembles_passages_and_tuning_agree_on_what_is_retrieved():
    # The overlap with O is above 0.9 in all trials, as it is with Q, which most of them end in.
    times: dict[str, Any] = {"t1": 10.0, "dt": 0.01, "save_every": 0.1}

    def of(strength: Any, key: Any, **options: Any) -> hj.Ensemble:
        trial = eqx.Partial(letters, strength=jnp.asarray(strength))
        return hj.solve_ensemble(trial, trials=128, key=key, chunk=64, **times, **options)

    key = jax.random.key(0)
    step_key, last_key = (jax.random.fold_in(each, 0) for each in jax.random.split(key))
    found = of(1.0, step_key)
    right = np.isin(found.outcome, [0, 1])
    assert (abs(found.final_overlap) > 0.9).all()
    assert 0.2 < found.retrieved.estimate == right.mean() == found.share.mean() < 0.5
    assert_array_equal(found.memory, np.where(right, 0, 1))
    assert set(found.outcome[~right]) == {OUTCOMES.index("wrong")}
    assert f"wrong ones     memories[1] {(~right).sum()}\n" in repr(found)
    # Whoever ended there has got there; in the last step those have who are there.
    assert np.isfinite(found.passage_time[right]).all()
    last = of(1.0, step_key, criterion=hj.Criterion(since=9.999))
    assert_array_equal(np.isfinite(last.passage_time), right)
    assert last.passed[-1] == found.retrieved.estimate
    # A tuning counts the same trials alike: in its loss, and in what it prints.
    loss = hj.RetrievalLoss(straight_through=True, temperature=0.1)
    tuning = hj.tune(
        letters, {"strength": 1.0}, loss=loss, key=key, trials=128, chunk=64, steps=1, verify=128,
        **times,
    )  # fmt: skip
    assert tuning.history.loss[0] == pytest.approx(1 - found.retrieved.estimate, abs=1e-6)
    tuned = of(tuning.parameters["strength"], last_key)
    assert tuning.retrieved == tuned.retrieved
    p, low, high = tuned.retrieved
    assert f"retrieved {p:.3f} [{low:.3f}, {high:.3f}] of 128 fresh trials" in repr(tuning)


EXACT_TIMES: dict[str, Any] = {"trials": 16, "key": jax.random.key(4), "t1": 1.0, "dt": 0.1}


def small(key: Any, **changes: Any) -> hj.Trial:
    """Three memories, two of which are shown, from anywhere."""
    memories = jnp.asarray(MEMORIES[[0, 1, 4]])
    shown = hj.mixture(memories, jnp.array([1.5, 1.2, 0.2]))
    start = 3 * jax.random.normal(key, (NUM_NEURONS,))
    changes = {"target": 0} | changes
    return hj.Trial(hj.IDPHopfield(memories), shown, start, hj.AdditiveNoise(1.0), **changes)


def both_right(key: Any) -> hj.Trial:
    return small(key, target=[0, 1])


def one_right(key: Any) -> hj.Trial:
    return small(key, target=(jnp.zeros((), int), 0))  # twice the same counts once


def run(trial: Any = small, **changes: Any) -> hj.Ensemble:
    settings = EXACT_TIMES | {"save_every": 0.1, "trajectories": True} | changes
    return hj.solve_ensemble(trial, **settings)


@pytest.mark.slow
def test_one_of_several_right_memories_is_enough():
    criterion = hj.Criterion(0.5)
    first, both = (run(trial, criterion=criterion) for trial in (one_right, both_right))
    overlaps = first.trajectories
    assert overlaps is not None
    strength = abs(overlaps)
    assert_array_equal(both.trajectories, overlaps)
    assert_allclose(both.overlap_mean, strength[..., :2].max(axis=2).mean(axis=0), rtol=EXACT)
    end = strength[:, -1]
    for ensemble, right in ((first, [0]), (both, [0, 1])):
        others = np.delete(end, right, axis=1).max(axis=1)
        best = end[:, right].max(axis=1)
        retrieved = (best > 0.5) & (best > others)
        assert_array_equal(ensemble.share, retrieved)
        assert_array_equal(np.isin(ensemble.outcome, [0, 1]), retrieved)
        assert_array_equal(ensemble.memory, np.argmax(end, axis=1))
        assert_allclose(abs(ensemble.final_overlap), best, rtol=EXACT)
    assert first.share.sum() < both.share.sum()
    assert {*first.memory} >= {0, 1}


@pytest.mark.slow
def test_one_right_memory_and_its_copies_are_retrieved_as_one():
    # ξ and −ξ are both stored: whatever ends in one is right, with or without its mirror image.
    pair = MEMORIES[[0, 3, 1]]
    shown = 2.0 * pair[0]
    trial = hj.Trial(hj.IDPHopfield(pair), shown - 0.5 * pair[2], pair[0], hj.AdditiveNoise(0.1))
    ensemble = run(trial, criterion=hj.Criterion(mirror=False))
    assert ensemble.counts["right"] == ensemble.trials == ensemble.share.sum()
    assert (ensemble.memory == 0).all()
    assert (ensemble.passage_time == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("settle", [0.0, np.nextafter(0.0, 1.0), 1e-9, 0.05, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("how", ["mean", "instants"])
def test_what_is_judged_is_in_the_closed_interval(settle, how):
    overlaps = RANDOM.uniform(-1, 1, (11, NUM_MEMORIES))
    trajectory = saved(jnp.asarray(overlaps), stride=1)
    late = overlaps[10 - round(settle / 0.1 - 0.01) :]
    if settle == 0:
        late = np.zeros((1, NUM_MEMORIES))  # of the final state, which is zero
    criterion = hj.Criterion(0.6, settle=settle, judge=how)
    margin = Margin(criterion, MODEL, jnp.array([1]))
    assert_allclose(margin.late(trajectory).overlaps, late)
    judged = late if how == "instants" else late.mean(axis=0, keepdims=True)
    assert criterion.judged_times(trajectory.grid) == len(judged)
    expected = [naive_margin(MEMORIES, m, None, [1], criterion) for m in judged]
    assert_allclose(margin.decisive(trajectory), expected, rtol=EXACT, atol=1e-12)
    assert int(margin.ending(trajectory).positive) == np.sum(np.array(expected) > 0)


@pytest.mark.slow
def test_an_ensemble_judges_that_interval_and_measures_passages_from_the_time_as_given():
    # 0.25 is between two steps: the first that counts is the third.
    criterion = hj.Criterion(0.6, settle=0.3, since=0.25)
    ensemble = run(criterion=criterion)
    assert ensemble.trajectories is not None
    assert_allclose(ensemble.final_overlap, ensemble.trajectories[:, 7:, 0].mean(axis=1))
    strength = abs(ensemble.trajectories)
    margins = strength[..., 0] - np.maximum(strength[..., 1:].max(axis=2), 0.6)
    for row, time in zip(margins, ensemble.passage_time, strict=True):
        assert time == pytest.approx(crossing(row, 3) * 0.1 - 0.25)
    counted = [np.mean(ensemble.passage_time <= t - 0.25 + 1e-9) for t in ensemble.ts]
    assert_allclose(ensemble.passed, counted)


@pytest.mark.slow
def test_where_the_last_saved_time_is_before_the_interval_it_is_judged():
    # Saved at 0, 0.4 and 0.8; the state at t1 = 1 is judged with `settle` = 0 alone.
    assert Grid(0.1, 10, 4).late(0.1).tolist() == [False, False, True]
    ensemble = run(save_every=0.4, criterion=hj.Criterion(settle=0.1))
    assert ensemble.trajectories is not None
    assert_allclose(ensemble.final_overlap, ensemble.trajectories[:, 2, 0], rtol=EXACT)


# Least amplitudes.


def faint(key: Any) -> hj.Trial:
    """A steep network without input, whose state fades while its overlap stays perfect."""
    memories = jnp.asarray(MEMORIES[[0, 1]])
    start = (1 + jax.random.uniform(key)) * memories[0]
    model = hj.IDPHopfield(memories, hj.Tanh(1e4))
    return hj.Trial(model, jnp.zeros(NUM_NEURONS), start, target=0)


class Reach:
    """The least size of a state along the first memory, by hand."""

    def __init__(self, ensemble: hj.Ensemble):
        x0 = ensemble.reduced["start"]["values"][:, :1] * MEMORIES[0, 0]
        self.over_time = x0 * 0.9 ** np.arange(11)  # Euler steps of dx = −x dt


def start(trial, trajectory):
    return trial.x0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settle", "how"),
    [
        (0.4, "instants"),
        pytest.param(0.4, "mean", marks=pytest.mark.long),
        pytest.param(0.0, "mean", marks=pytest.mark.long),
    ],
)
def test_a_faint_state_is_no_memory_where_an_amplitude_is_asked_for(settle, how):
    options: dict[str, Any] = {"settle": settle, "judge": how}
    reductions = {"start": hj.PerTrial(start), "kept": hj.PerTrial(saved_values)}
    criterion = hj.Criterion(amplitude=0.55, **options)
    asked = run(faint, criterion=criterion, reductions=reductions, save_fn=features)
    reach = Reach(asked).over_time
    late = reach[:, 10 - round(settle / 0.1) :]
    judged = late if how == "instants" else late.mean(axis=1, keepdims=True)
    assert_allclose(asked.share, (judged > 0.55).mean(axis=1))
    assert 0 < asked.share.mean() < 1
    assert_array_equal(asked.outcome == 0, late.mean(axis=1) > 0.55)
    assert_array_equal(asked.outcome == OUTCOMES.index("none"), late.mean(axis=1) <= 0.55)
    assert (asked.passage_time == 0).all()  # at the start all were large
    assert_allclose(abs(asked.final_overlap), 1)
    # What the user saves is as if nothing else were.
    assert_allclose(asked.reduced["kept"]["values"][..., 0], reach * MEMORIES[0, 0])
    assert "|m| > 0.9, the largest, amplitude > 0.55" in repr(asked)


def features(t, state):
    return state


def saved_values(trial, trajectory):
    return trajectory.saved


def test_a_trajectory_without_amplitudes_is_refused_where_they_count():
    margin = Margin(hj.Criterion(amplitude=0.5, settle=0.1), MODEL, jnp.array([0]))
    with pytest.raises(ValueError, match="`trajectory` must have the amplitudes"):
        margin.decisive(saved(jnp.ones((2, NUM_MEMORIES))))


@pytest.mark.long
def test_a_tuning_counts_amplitudes_as_its_ensemble_does():
    def loud(key, scale):
        trial = faint(key)
        return hj.Trial(trial.model, trial.inputs, scale * trial.x0, target=0)

    criterion = hj.Criterion(amplitude=0.55, settle=0.4)
    loss = hj.RetrievalLoss(temperature=0.2) + 0.1 * hj.TimeLoss(temperature=0.2)
    tuning = hj.tune(
        loud, {"scale": 1.0}, loss=loss, criterion=criterion, steps=2, verify=16, trials=8,
        **{name: EXACT_TIMES[name] for name in ("key", "t1", "dt")}, save_every=0.1,
    )  # fmt: skip
    assert tuning.parameters["scale"] > 1  # a larger start is a larger end
    assert 0 < tuning.retrieved.estimate <= 1
    assert tuning.history.attrs["amplitude"] == 0.55


# Instants.


@pytest.mark.slow
def test_an_ensemble_of_instants_has_the_interval_of_its_shares():
    ensemble = run(criterion=hj.Criterion(0.6, settle=0.5, judge="instants"))
    assert len({*ensemble.share}) > 2
    assert ensemble.retrieved == mean_share(ensemble.share)
    assert "at the saved times of the last 0.5" in repr(ensemble)
    assert "Wilson" not in ensemble.variables([0.5])["retrieved_low"].about
    # How trials ended is said by the means, as ever.
    assert ensemble.trajectories is not None
    assert_allclose(ensemble.final_overlap, ensemble.trajectories[:, 5:, 0].mean(axis=1))
    assert (ensemble.outcome[ensemble.share == 1] <= 1).all()


# Functions of the user's.


class Size(eqx.Module):
    """How far the mean square of a state is below a level."""

    level: Any

    def __call__(self, t, state, overlaps):
        return self.level - jnp.mean(state**2)


def mean_square(t, state):
    return {"square": jnp.mean(state**2), "t": t}


@pytest.mark.slow
def test_passages_and_saved_quantities_of_the_users_own():
    reductions = {"kept": hj.PerTrial(saved_values)}
    options: dict[str, Any] = {"save_fn": mean_square, "reductions": reductions}
    criterion = hj.Criterion(since=0.2)
    ensemble = run(passage_fn=Size(jnp.asarray(4.0)), criterion=criterion, **options)
    kept = ensemble.reduced["kept"]
    assert_allclose(kept["t"], np.tile(np.arange(11) / 10, (16, 1)), atol=1e-12)
    for row, time in zip(kept["square"], ensemble.passage_time, strict=True):
        assert time == pytest.approx((crossing(4.0 - row, 2) - 2) * 0.1)
    assert len({*ensemble.passage_time}) > 2
    # Nothing else changes.
    plain = run(criterion=criterion)
    assert_array_equal(ensemble.outcome, plain.outcome)
    assert_array_equal(ensemble.trajectories, plain.trajectories)


@pytest.mark.slow
def test_without_mirror_the_strongest_memory_is_told_all_the_same():
    memories = np.asarray(
        hj.correlated_memories(jax.random.key(3), num_memories=3, num_neurons=128, correlation=0.3)
    )
    trial = hj.Trial(
        hj.IDPHopfield(memories),
        hj.mixture(memories, np.array([1.5, 2.0, 0.5])),
        -memories[1],
        hj.AdditiveNoise(0.1),
        target=[0, 1],
    )
    found = hj.solve_ensemble(
        trial,
        trials=1,
        key=jax.random.key(0),
        t1=4.0,
        dt=0.05,
        criterion=hj.Criterion(mirror=False),
    )
    assert found.counts["mirror"] == 1
    assert found.memory[0] == 1
    assert found.final_overlap[0] < -0.9
