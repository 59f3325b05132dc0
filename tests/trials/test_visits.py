"""Visits of memories, against a list of events that is gone through by hand."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj

P, T, ROOM = 4, 60, 6
ENTER, LEAVE = 0.7, 0.3
VISITS = hj.Visits(max_visits=ROOM, enter=ENTER, leave=LEAVE)
CYCLE = np.roll(np.eye(P), 1, axis=0)
TS = 0.5 * np.arange(T)


def naive(ts, overlaps, matrix) -> dict[str, Any]:
    """Events first, and then what they say."""
    events: list[tuple[float, int]] = []  # a memory from then on, or −1
    for t, row in zip(ts, overlaps, strict=True):
        sizes = [abs(m) for m in row]
        active = events[-1][1] if events else -1
        strongest = sizes.index(max(sizes))
        if sizes[strongest] > ENTER and strongest != active:
            events.append((t, strongest))
        elif active >= 0 and sizes[active] < LEAVE:
            events.append((t, -1))
    visits = [event for event in events if event[1] >= 0]
    starts = [t for t, _ in visits]
    ends_active = bool(events) and events[-1][1] >= 0
    end = ts[-1] if ends_active else (events[-1][0] if events else ts[0])
    dwells = list(np.diff([*starts, end]))
    kinds = []
    for (_, one), (_, other) in itertools.pairwise(visits):
        middle = [k for k in range(P) if matrix[k][one] > 0 and matrix[other][k] > 0]
        if matrix[other][one] > 0:
            kinds.append("right")
        elif one == other:
            kinds.append("repeated")
        else:
            kinds.append("skipped" if middle else "disordered")
    wrong = [place for place, kind in enumerate(kinds) if kind != "right"]
    run = wrong[0] if wrong else len(kinds)
    seen = min(len(visits), ROOM)
    empty = ROOM - seen
    dwells = dwells[: ROOM if len(visits) <= ROOM else ROOM - 1]
    ended = [True] * seen
    if ends_active and len(visits) <= ROOM:
        ended[-1] = False
    return {
        "order": [which for _, which in visits[:ROOM]] + [-1] * empty,
        "start": starts[:ROOM] + [np.inf] * empty,
        "dwell": dwells + [np.nan] * (ROOM - len(dwells)),
        "ended": ended + [False] * empty,
        "count": len(visits),
        **{name: kinds.count(name) for name in ("right", "repeated", "skipped", "disordered")},
        "run": run,
        "collapse": np.inf if ends_active else end,
    }


def wandering(seed: int) -> np.ndarray:
    """Overlaps of a state that mostly follows the cycle, with gaps, skips and returns."""
    rng = np.random.default_rng(seed)
    overlaps, memory = rng.uniform(-0.25, 0.25, (T, P)), 0
    t = int(rng.integers(0, 6))
    while t < T:
        length = int(rng.integers(1, 12))
        overlaps[t : t + length, memory] = rng.choice([-1, 1]) * rng.uniform(0.35, 1, 1)
        overlaps[t : t + 1, memory] = rng.uniform(0.72, 1)
        t += length + int(rng.choice([0, 0, 0, 3]))
        memory = (memory + int(rng.choice([1, 1, 1, 1, 0, 2, 3]))) % P
        if rng.uniform() < 0.05:
            break
    return overlaps


MATRICES = {
    "cycle": CYCLE,
    "branching": CYCLE + np.eye(P)[[2, 0, 1, 3]],
    "open": np.eye(P, k=-1),
    "nothing": np.zeros((P, P)),
}
found_by = jax.jit(jax.vmap(VISITS.of, (None, 0, None)))


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRICES)
def test_visits_of_a_list_of_events(name):
    many = np.stack([wandering(seed) for seed in range(200)])
    many[0] = 0  # never in a memory
    found = found_by(jnp.asarray(TS), jnp.asarray(many), jnp.asarray(MATRICES[name]))
    sums = dict.fromkeys(("right", "repeated", "skipped", "disordered"), 0)
    for place, overlaps in enumerate(many):
        expected = naive(TS, overlaps, MATRICES[name])
        for key, value in expected.items():
            assert_array_equal(found[key][place], value, err_msg=f"{key} of {place}")
        for key in sums:
            sums[key] += expected[key]
    assert {np.isinf(c).item() for c in np.asarray(found["collapse"])} == {True, False}
    assert (np.asarray(found["count"]) > ROOM).any()
    if name == "cycle":
        assert all(sums.values())


RING = np.asarray(hj.orthogonal_memories(num_memories=P, num_neurons=64), np.float32)


def ring(gain: Any) -> hj.Trial:
    model = hj.SequentialHopfield(RING, gain=gain, time_constant=6.0, self_coupling=True)
    noise = hj.AdditiveNoise(0.05, "two_point")
    return hj.Trial(model, np.zeros(64, np.float32), RING[0], noise, target=0)


SOLVE: dict[str, Any] = dict(
    key=jax.random.key(0), t1=40.0, dt=0.1, save_every=0.5, solver=hj.ExponentialAdams()
)


@pytest.mark.slow
def test_visits_in_an_ensemble_are_those_of_its_trajectories():
    ensemble = hj.solve_ensemble(
        ring(5.0),
        trials=3,
        trajectories=True,
        reductions={"visits": hj.PerTrial(VISITS)},
        **SOLVE,
    )
    assert ensemble.trajectories is not None
    for place, overlaps in enumerate(ensemble.trajectories):
        expected = naive(ensemble.ts, overlaps, CYCLE)
        for key, value in expected.items():
            assert_allclose(ensemble.reduced["visits"][key][place], value, rtol=1e-6)
    assert (ensemble.reduced["visits"]["run"] >= 2).all()


@pytest.mark.slow
def test_visits_in_the_dataset_of_a_study():
    def trial(key, gain):
        del key
        return ring(gain)

    study = hj.Study(
        trial,
        {"gain": [2.0, 5.0]},
        trials=2,
        reductions={"visits": hj.PerTrial(VISITS)},
        **SOLVE,
    )
    dataset = study.run(progress=False)
    for name in ("order", "start", "dwell", "ended"):
        assert dataset[f"visits_{name}"].dims == ("gain", "trial", "visits_visit")
    assert dataset.visits_run.dims == ("gain", "trial")
    assert dataset.visits_dwell.where(dataset.visits_order == 1).shape == (2, 2, ROOM)
    assert (dataset.visits_collapse.sel(gain=2.0) < 40).all()
    assert np.isinf(dataset.visits_collapse.sel(gain=5.0)).all()


@pytest.mark.slow
def test_wrong_numbers_are_refused():
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"max_visits": 0}, "max_visits"),
        ({"enter": 1.0}, "enter"),
        ({"enter": 0.5, "leave": 0.6}, "leave"),
        ({"leave": 0.0}, "leave"),
        ({"transitions": np.ones(3)}, "transitions"),
    )
    for options, name in cases:
        with pytest.raises(hj.ArgumentError) as caught:
            hj.Visits(**options)
        assert caught.value.name == name
    with pytest.raises(hj.ArgumentError, match=r"`transitions` must be of shape \(4, 4\)"):
        VISITS.of(TS, np.zeros((T, P)), np.ones((3, 3)))
    with pytest.raises(hj.ArgumentError, match="`ts` must be of shape"):
        VISITS.of(TS[1:], np.zeros((T, P)), CYCLE)
    memories = np.ones((1, 8))
    plain = hj.Trial(hj.IDPHopfield(memories), memories[0], memories[0])
    with pytest.raises(hj.ArgumentError, match="`transitions` must be given for IDPHopfield"):
        hj.solve_ensemble(
            plain, trials=1, key=jax.random.key(0), t1=0.1, dt=0.1,
            reductions={"visits": hj.PerTrial(VISITS)},
        )  # fmt: skip
