"""`solve_ensemble` against plain solves, dense NumPy loops, and statistics of its own raw data."""

import io
import os
import re
import subprocess
import sys
import textwrap
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT, ROOT
from jax.core import Tracer
from jaxtyping import Array, Float
from scipy import stats

import hopjax as hj

KEY = jax.random.key(11)
NUM_NEURONS, NUM_MEMORIES, DT, STEPS, CHUNK = 32, 3, 0.05, 40, 16
OVERFLOWING = 1.7e308  # a noise strength that makes any state infinite within some steps


class Setting(eqx.Module):
    """Fresh memories, inputs, start and target in each trial; a share of them goes wrong."""

    sigma: Float[Array, ""]
    lost: Float[Array, ""]  # share that starts from infinity
    loud: Float[Array, ""]  # share whose noise drives the state there
    negative: Float[Array, ""]  # share with a noise that is refused
    traces: ClassVar[int] = 0

    def __init__(self, sigma=1.0, *, lost=0.0, loud=0.0, negative=0.0):
        self.sigma, self.lost, self.loud, self.negative = map(
            jnp.asarray, (sigma, lost, loud, negative)
        )

    def __call__(self, key):
        Setting.traces += isinstance(key, Tracer)
        memories, weights, start, (luck, choice) = draw(key)
        strength = jnp.where(luck > 1 - self.loud, OVERFLOWING, self.sigma)
        strength = jnp.where(jnp.abs(luck - 0.5) < self.negative / 2, -1.0, strength)
        return hj.Trial(
            hj.IDPHopfield(memories),
            hj.Schedule([0.0, 1.0], hj.mixture(memories, weights)),
            jnp.where(luck < self.lost, jnp.inf, start),
            hj.AdditiveNoise(strength, "two_point"),
            target=jnp.floor(NUM_MEMORIES * choice).astype(int),
        )


@jax.jit
def draw(key):
    """All that is random in a setting, from one draw, which compiles fastest."""
    sizes = [NUM_MEMORIES * NUM_NEURONS, 2 * NUM_MEMORIES, NUM_NEURONS, 2]
    numbers = jax.random.uniform(key, (sum(sizes),))
    signs, weights, start, rest = jnp.split(numbers, np.cumsum(sizes)[:-1])
    memories = jnp.where(signs < 0.5, -1.0, 1.0).reshape(NUM_MEMORIES, NUM_NEURONS)
    return memories, (0.2 + 2.8 * weights).reshape(2, NUM_MEMORIES), 4 * start - 2, rest


def raw(trial, trajectory):
    """What the references need of a trial."""
    return {
        "state": trajectory.final_state,
        "memories": trial.model.memories,
        "shown": trial.inputs.values[-1],
        "start": trial.x0,
        "strength": trial.noise.strength,
        "target": trial.target,
    }


def final_state(trial, trajectory):
    return trajectory.final_state


def first_neuron(trial, trajectory):
    return trajectory.final_state[:2]


class Extremes(hj.AbstractReduction):
    """A reduction of the tests' own: the least and the largest entry of all final states."""

    def measure(self, trial, trajectory):
        return trajectory.final_state

    def summarise(self, measured, ok):
        fine: Any = np.asarray(measured)[ok]
        return {"low": fine.min(initial=np.inf), "high": fine.max(initial=-np.inf)}

    def merge(self, first, second):
        return {
            "low": np.minimum(first["low"], second["low"]),
            "high": np.maximum(first["high"], second["high"]),
        }

    def finish(self, total):
        return {"extremes": np.array([total["low"], total["high"]])}


CRITERION = hj.Criterion(0.8, mixed=0.35, settle=0.3, since=1.0)
REDUCTIONS = {
    "raw": hj.PerTrial(raw),
    "state": hj.Moments(final_state),
    "spread": hj.Histogram(first_neuron, low=-1.0, high=1.0, bin_width=0.25),
    "own": Extremes(),
}


def run(trial: Any = None, **changes: Any) -> hj.Ensemble:
    settings: dict[str, Any] = {
        "trials": 40,  # not a whole number of chunks, and not of pairs of chunks
        "key": KEY,
        "t1": STEPS * DT,
        "dt": DT,
        "save_every": DT,
        "criterion": CRITERION,
        "reductions": REDUCTIONS,
        "trajectories": True,
        "chunk": CHUNK,
    }
    return hj.solve_ensemble(Setting() if trial is None else trial, **settings | changes)


@pytest.fixture(scope="module")
def ensemble():
    return run()


@pytest.fixture(scope="module")
def large():
    return run(trials=320)


def results(ensemble: hj.Ensemble) -> dict[str, Any]:
    """Every array of an ensemble."""
    return {name: value for name, value in vars(ensemble).items() if name != "criterion"}


def per_trial(ensemble: hj.Ensemble) -> dict[str, Any]:
    """What is known of each trial."""
    names = ("outcome", "share", "memory", "passage_time", "final_overlap", "final_energy")
    names += ("diverged_at",)
    own: dict[str, Any] = {name: getattr(ensemble, name) for name in names}
    return own | {"trajectories": ensemble.trajectories} | ensemble.reduced["raw"]


def assert_same_bits(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def trajectories(ensemble: hj.Ensemble) -> np.ndarray:
    assert ensemble.trajectories is not None
    return ensemble.trajectories


def target_overlap(ensemble: hj.Ensemble) -> np.ndarray:
    """The signed overlap with the target, (trials, T), from the raw data."""
    (targets,) = ensemble.reduced["raw"]["target"].T
    return np.stack([m[:, j] for m, j in zip(trajectories(ensemble), targets, strict=True)])


def outcome_of(overlaps, target, threshold, mixed):
    """How a trial ended, by looking for the strongest memory."""
    strongest = max(range(len(overlaps)), key=lambda j: (abs(overlaps[j]), j != target))
    if abs(overlaps[strongest]) > threshold:
        if strongest != target:
            return "wrong"
        return "right" if overlaps[target] > 0 else "mirror"
    return "mixture" if sum(abs(m) > mixed for m in overlaps) >= 2 else "none"


def passage_of(overlaps, target, criterion, switches=(1.0,), dt=DT):
    """The first passage by a loop over the steps of one trial, from its overlaps (T, P)."""
    before = None
    for step, m in enumerate(overlaps):
        if step * dt < criterion.since - 1e-9:
            continue
        strength = abs(m[target]) if criterion.mirror else m[target]
        margin = strength - max(*abs(np.delete(m, target)), criterion.threshold)
        if margin > 0:
            cut = before is not None and round(step * dt, 9) not in switches
            ahead = margin / (margin - before) if cut else 0
            return (step - ahead) * dt - criterion.since
        before = margin
    return np.inf


def judged_of(overlaps, criterion, dt=DT):
    """The overlaps that decide: of all steps (T, P) the last, or a mean over the last `settle`."""
    return overlaps[-1 - round(criterion.settle / dt) :].mean(axis=0)


def dense_energy(memories, shown, x):
    """E(x; u) of an IDP network with its N x N matrix."""
    saliency = memories @ shown / NUM_NEURONS
    coupling = np.einsum("m,mi,mj->ij", saliency, memories, memories) / NUM_NEURONS
    np.fill_diagonal(coupling, 0.0)
    psi = np.tanh(10 * x)
    antiderivative = (np.logaddexp(10 * x, -10 * x) - np.log(2)) / 10
    return -psi @ coupling @ psi / 2 + x @ psi - np.sum(antiderivative)


# --- one trial ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_trial_is_a_plain_solve_with_the_documented_keys(ensemble):
    for number in (0, 1, 15, 16, 39):
        setting_key, noise_key = jax.random.split(jax.random.fold_in(KEY, number))
        trial = Setting()(setting_key)
        alone = hj.solve(
            trial.model,
            trial.inputs,
            trial.x0,
            t1=STEPS * DT,
            dt=DT,
            noise=trial.noise,
            key=noise_key,
            save_every=DT,
        )
        overlaps, target = np.asarray(alone.overlaps), int(trial.target[0])
        # Another batch shape: rounding, and what 40 steps make of it.
        np.testing.assert_allclose(ensemble.trajectories[number], overlaps, atol=1e-10)
        np.testing.assert_allclose(
            ensemble.reduced["raw"]["state"][number], alone.final_state, atol=1e-10
        )
        judged = judged_of(overlaps, CRITERION)
        assert ensemble.final_overlap[number] == pytest.approx(judged[target], abs=1e-10)
        name = ensemble.OUTCOMES[ensemble.outcome[number]]
        assert name == outcome_of(judged, target, 0.8, 0.35)
        assert ensemble.share[number] == (name in ("right", "mirror"))
        assert ensemble.memory[number] == np.argmax(abs(judged))
        expected = passage_of(overlaps, target, CRITERION)
        assert ensemble.passage_time[number] == pytest.approx(expected, abs=1e-12)
        shown, state = np.asarray(trial.inputs.values[-1]), np.asarray(alone.final_state)
        energy = dense_energy(np.asarray(trial.model.memories), shown, state)
        assert ensemble.final_energy[number] == pytest.approx(energy, abs=1e-8)


class Wave(eqx.Module):
    """u(t) = cos(t) v."""

    vector: Float[Array, " N"]
    traces: ClassVar[int] = 0

    def __call__(self, t):
        Wave.traces += 1
        return jnp.cos(t) * self.vector


RANDOM = np.random.default_rng(0)
MEMORIES = RANDOM.choice([-1.0, 1.0], (NUM_MEMORIES, NUM_NEURONS))
X0 = RANDOM.normal(size=NUM_NEURONS)
SHOWN = 1.2 * MEMORIES[1] - 0.3 * MEMORIES[2]
SIGNED = hj.Criterion(0.7, mixed=0.2, mirror=False)


def shared(sigma: float) -> hj.Ensemble:
    """A trial that all share but for their noise, with an input of time, saved now and then."""
    trial = hj.Trial(
        hj.ClassicHopfield(MEMORIES),
        Wave(jnp.asarray(SHOWN)),
        X0,
        hj.AdditiveNoise(sigma, "two_point"),
        target=1,
    )
    changes: dict[str, Any] = {"criterion": SIGNED, "reductions": {}, "trajectories": False}
    return run(trial, trials=20, save_every=0.5, **changes)


def dense_overlaps(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The same by Euler-Maruyama with an N x N matrix: overlaps after each step, and energies."""

    def increments(number):
        key = jax.random.split(jax.random.fold_in(KEY, number))[1]
        path = hj.TwoPoint().path(
            key, NUM_NEURONS, jnp.dtype(jnp.float64), 40.0, 1.0, dfx.BrownianIncrement
        )
        return jax.vmap(path.increment)(jnp.arange(STEPS))

    kicks = np.asarray(jax.jit(jax.vmap(increments))(jnp.arange(20)))
    coupling = MEMORIES.T @ MEMORIES / NUM_NEURONS
    np.fill_diagonal(coupling, 0.0)
    x = np.tile(X0, (20, 1))
    overlaps = [np.tanh(10 * x) @ MEMORIES.T / NUM_NEURONS]
    for step in range(STEPS):
        velocity = np.tanh(10 * x) @ coupling - x + np.cos(step * DT) * SHOWN
        x = x + DT * velocity + sigma * np.sqrt(DT) * kicks[:, step]
        overlaps.append(np.tanh(10 * x) @ MEMORIES.T / NUM_NEURONS)
    psi, shown = np.tanh(10 * x), np.cos(STEPS * DT) * SHOWN
    quadratic = -0.5 * np.einsum("ti,ij,tj->t", psi, coupling, psi)
    potential = np.sum(x * psi - np.log(np.cosh(10 * x)) / 10, axis=1)
    return np.stack(overlaps, axis=1), quadratic + potential - psi @ shown


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.7, 1.5])
def test_a_shared_trial_equals_the_dense_reference(sigma):
    ensemble, (overlaps, energies) = shared(sigma), dense_overlaps(sigma)
    signed = overlaps[:, :, 1]
    np.testing.assert_allclose(ensemble.overlap_mean, signed[:, ::10].mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(
        ensemble.overlap_variance, signed[:, ::10].var(axis=0, ddof=1), atol=1e-10
    )
    np.testing.assert_allclose(ensemble.final_overlap, signed[:, -1], atol=1e-10)
    np.testing.assert_allclose(ensemble.final_energy, energies, atol=1e-8)
    # Looked at after every step, saved or not; −ξ does not count here.
    expected = [passage_of(m, 1, SIGNED, switches=()) for m in overlaps]
    np.testing.assert_allclose(ensemble.passage_time, expected, atol=1e-12)
    assert len(set(expected)) > 3
    names = [outcome_of(m, 1, 0.7, 0.2) for m in overlaps[:, -1]]
    assert [ensemble.OUTCOMES[code] for code in ensemble.outcome] == names
    assert float(ensemble.retrieved.estimate) == pytest.approx(names.count("right") / 20)


@pytest.mark.slow
def test_nothing_is_compiled_anew_for_other_numbers(ensemble):
    shared(0.7)
    traces = Wave.traces, Setting.traces
    assert min(traces) > 0
    shared(2.5)
    run(key=jax.random.key(99), trials=100)
    run(Setting(2.0), trials=3)
    # Two traces of an input are compared before each ensemble.
    assert (Wave.traces - 2, Setting.traces) == traces


# --- the same bits -------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_device_gives_the_bits_of_two(ensemble):
    assert len(jax.devices()) == 2
    assert_same_bits(results(run(devices=jax.devices()[:1])), results(ensemble))


@pytest.mark.slow
def test_the_first_trials_of_more_are_the_same_bits(ensemble, large):
    # The last chunk of 40 trials was solved whole as well, its other trials left out.
    assert_same_bits({k: v[:40] for k, v in per_trial(large).items()}, per_trial(ensemble))
    again = run(key=jax.random.PRNGKey(11))  # a legacy key of the same seed
    assert_same_bits(results(again), results(ensemble))


@pytest.mark.long
@pytest.mark.parametrize("chunk", [1, 7, 64, 128])
def test_the_chunk_size_changes_rounding_only(chunk, ensemble):
    # A rounding error of 1e-16 per step grows by e^((α ψ_σ' − 1) t) through a decision, with
    # α ≤ 3.5 and ψ_σ' ≤ 2 / (σ √π) = 1.1 by less than e^6: 40 e^6 1e-16 < 2e-12. Another noise
    # would change overlaps by 0.1.
    tolerance = 1e-10
    other = run(chunk=chunk)
    np.testing.assert_allclose(trajectories(other), trajectories(ensemble), atol=tolerance)
    for name in ("overlap_mean", "overlap_variance", "final_overlap"):
        np.testing.assert_allclose(getattr(other, name), getattr(ensemble, name), atol=tolerance)
    np.testing.assert_allclose(other.final_energy, ensemble.final_energy, atol=1e-8)
    for name in ("mean", "variance"):
        np.testing.assert_allclose(
            other.reduced["state"][name], ensemble.reduced["state"][name], atol=1e-9
        )
    # No trial of this key is within rounding of a threshold.
    np.testing.assert_array_equal(other.outcome, ensemble.outcome)
    np.testing.assert_allclose(other.passage_time, ensemble.passage_time, atol=1e-8)
    # A count may only move to the next bin, from within rounding of the edge between them.
    edge = abs(target_overlap(ensemble)) / 0.005
    near = np.sum(abs(edge - edge.round()) < tolerance / 0.005, axis=0)
    moved = abs(np.cumsum(other.histogram - ensemble.histogram, axis=1)).sum(axis=1)
    assert (moved <= near).all()


FLOAT32 = """
    import hashlib

    import jax
    import jax.numpy as jnp
    import numpy as np

    import hopjax as hj

    KEY = jax.random.key(3)

    def trial(key):
        keys = jax.random.split(key, 3)
        memories = hj.random_memories(keys[0], num_memories=3, num_neurons=32)
        weights = jax.random.uniform(keys[1], (2, 3), minval=0.2, maxval=3.0)
        inputs = hj.Schedule([0.0, 1.0], hj.mixture(memories, weights))
        start = jax.random.normal(keys[2], (32,))
        loud = jax.random.uniform(jax.random.fold_in(key, 0)) < 0.1
        noise = hj.AdditiveNoise(jnp.where(loud, 3e38, 1.0))
        return hj.Trial(hj.IDPHopfield(memories), inputs, start, noise, target=1)

    def final_state(trial, trajectory):
        return trajectory.final_state

    times = dict(t1=2.0, dt=0.05, save_every=0.05)
    reductions = {"state": hj.PerTrial(final_state), "moments": hj.Moments(final_state)}
    ensemble = hj.solve_ensemble(
        trial, trials=50, key=KEY, chunk=8, trajectories=True, reductions=reductions, **times
    )
    assert ensemble.trajectories.dtype == np.float32
    assert ensemble.overlap_mean.dtype == np.float64
    assert sum(ensemble.counts[name] > 0 for name in ("right", "mirror", "wrong")) == 3
    raw = abs(ensemble.trajectories[:, :, 1].astype(float))
    well = np.isfinite(raw).all(axis=1)
    np.testing.assert_array_equal(ensemble.diverged, np.flatnonzero(~well))
    assert 0 < len(ensemble.diverged) < 20
    first = np.argmax(np.isnan(raw[~well]), axis=1)
    np.testing.assert_array_equal(ensemble.diverged_at[~well], ensemble.ts[first])
    np.testing.assert_allclose(ensemble.overlap_mean, raw[well].mean(axis=0), rtol=1e-12)
    variance = raw[well].var(axis=0, ddof=1)
    np.testing.assert_allclose(ensemble.overlap_variance, variance, rtol=1e-9)
    others = abs(np.delete(ensemble.trajectories, 1, axis=2).astype(float)).max(axis=2)
    margin = raw - np.maximum(others, 0.9)
    first = [next((k for k in range(41) if row[k] > 0), -1) for row in margin]
    cut = [k - row[k] / (row[k] - row[k - 1]) for k, row in zip(first, margin, strict=True)]
    steps = [c if k > 0 and k != 20 else k for k, c in zip(first, cut, strict=True)]
    passages = np.where(np.array(first) < 0, np.inf, np.array(steps) * 0.05)
    np.testing.assert_allclose(ensemble.passage_time, passages, atol=1e-5)
    setting_key, noise_key = jax.random.split(jax.random.fold_in(KEY, 20))
    alone = trial(setting_key)
    alone = hj.solve(alone.model, alone.inputs, alone.x0, noise=alone.noise, key=noise_key, **times)
    np.testing.assert_allclose(ensemble.trajectories[20], alone.overlaps, atol=1e-3)

    digest = hashlib.sha256()
    for name, value in sorted(vars(ensemble).items()):
        for leaf in jax.tree.leaves(value):
            leaf = np.asarray(leaf)
            digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
    print(len(jax.devices()), digest.hexdigest())
"""


def in_float32(script: str, devices: int) -> str:
    """What a script prints in an interpreter of its own, which stays quiet otherwise."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_ENABLE_X64": "0"},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.long
def test_float32_on_one_two_and_four_devices_is_the_same_bits():
    printed = [in_float32(FLOAT32, devices).split() for devices in (1, 2, 4)]
    assert [int(count) for count, _ in printed] == [1, 2, 4]
    assert len({digest for _, digest in printed}) == 1


REFUSED = """
    import jax
    import jax.numpy as jnp

    import hopjax as hj

    def trial(key):
        strength = jnp.where(jax.random.uniform(key) < 0.1, -1.0, 1.0)
        model = hj.IDPHopfield(jnp.ones((1, 4)))
        return hj.Trial(model, jnp.ones(4), jnp.ones(4), hj.AdditiveNoise(strength))

    try:
        hj.solve_ensemble(trial, trials=64, key=jax.random.key(1), t1=0.2, dt=0.1, chunk=16)
    except ValueError as error:
        print(error)
"""


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2])
def test_a_refused_value_leaves_nothing_to_be_raised_at_exit(devices):
    said = r"Argument `strength` must be zero or positive, which it is not in trial \d+\.\n"
    assert re.fullmatch(said, in_float32(REFUSED, devices))


# --- statistics against the raw data -------------------------------------------------------------


@pytest.mark.slow
def test_mean_and_variance_over_time(large):
    strength = abs(target_overlap(large))
    assert strength.shape == (320, STEPS + 1)
    np.testing.assert_allclose(large.overlap_mean, strength.mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(large.overlap_variance, strength.var(axis=0, ddof=1), rtol=EXACT)
    np.testing.assert_allclose(large.ts, np.arange(STEPS + 1) * DT, rtol=EXACT)


@pytest.mark.slow
def test_histogram_counts_every_overlap_at_every_time(large):
    strength = abs(target_overlap(large))
    np.testing.assert_allclose(large.edges, np.arange(201) * 0.005, atol=1e-12)
    assert (large.histogram.sum(axis=1) == 320).all()
    # A value within rounding of an edge may be counted on either side.
    below = np.cumsum(large.histogram, axis=1)[:, :-1]
    least = np.sum(strength[:, :, None] < large.edges[1:-1] - 1e-9, axis=0)
    most = np.sum(strength[:, :, None] < large.edges[1:-1] + 1e-9, axis=0)
    assert ((least <= below) & (below <= most)).all()


@pytest.mark.slow
def test_quantile_bands_are_exact_to_one_bin(large):
    q = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0]
    exact = np.quantile(abs(target_overlap(large)), q, axis=0, method="inverted_cdf")
    bands = large.overlap_quantiles(q)
    assert bands.shape == (len(q), STEPS + 1)
    assert abs(bands - exact).max() <= 0.005 + 1e-12
    assert (np.diff(bands, axis=0) >= 0).all()


def test_outcomes_are_counted_and_every_one_occurs(large):
    (targets,) = large.reduced["raw"]["target"].T
    judged = [judged_of(m, CRITERION) for m in trajectories(large)]
    names = [outcome_of(m, j, 0.8, 0.35) for m, j in zip(judged, targets, strict=True)]
    assert [large.OUTCOMES[code] for code in large.outcome] == names
    assert large.counts == {name: names.count(name) for name in large.OUTCOMES}
    assert {name for name, count in large.counts.items() if count} == {
        *("right", "mirror", "wrong", "mixture", "none")
    }
    signed = [m[j] for m, j in zip(judged, targets, strict=True)]
    np.testing.assert_allclose(large.final_overlap, signed, atol=EXACT)


def test_intervals_are_those_of_wilson_out_of_all_trials(large):
    counts = large.counts
    for interval, count, level in (
        (large.retrieved, counts["right"] + counts["mirror"], 0.95),
        (large.probability("wrong"), counts["wrong"], 0.95),
        (large.probability("right", "right", confidence=0.8), counts["right"], 0.8),
        (large.probability("diverged"), 0, 0.95),
    ):
        expected = stats.binomtest(count, 320).proportion_ci(level, method="wilson")
        np.testing.assert_allclose(interval, (count / 320, *expected), atol=1e-9)


def test_passages_are_those_of_every_step_and_never_dropped(large):
    (targets,) = large.reduced["raw"]["target"].T
    both = zip(trajectories(large), targets, strict=True)
    expected = np.array([passage_of(m, j, CRITERION) for m, j in both])
    np.testing.assert_allclose(large.passage_time, expected, atol=1e-12)
    assert 20 < large.censored == np.isinf(expected).sum() < 300
    # Some were above the threshold from the start, some got there later.
    assert (large.passage_time == 0).any()
    assert len(set(expected)) > 10
    levels = [0.01, 0.1, 0.25, 0.5, 0.9]
    times = large.passage_quantiles(levels)
    for level, time in zip(levels, times, strict=True):
        assert np.mean(expected <= time + 1e-9) >= level
        assert np.mean(expected < time - 1e-9) < level
    assert np.isinf(times[-1])
    assert np.isfinite(times[0])
    share = [np.mean(expected + CRITERION.since <= t + 1e-9) for t in large.ts]
    np.testing.assert_allclose(large.passed, share, atol=1e-12)


def test_final_energies_against_the_dense_formula(large):
    data = large.reduced["raw"]
    for number in range(0, 320, 10):
        parts = (data[name][number] for name in ("memories", "shown", "state"))
        assert large.final_energy[number] == pytest.approx(dense_energy(*parts), abs=1e-9)


def test_reductions_of_the_users_own(large):
    state = large.reduced["raw"]["state"]
    assert set(large.reduced["raw"]) == {
        *("state", "memories", "shown", "start", "strength", "target")
    }
    assert large.reduced["raw"]["memories"].shape == (320, NUM_MEMORIES, NUM_NEURONS)
    moments = large.reduced["state"]
    assert moments["count"] == 320
    np.testing.assert_allclose(moments["mean"], state.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments["variance"], state.var(axis=0, ddof=1), rtol=EXACT)
    np.testing.assert_array_equal(large.reduced["own"]["extremes"], [state.min(), state.max()])
    spread = large.reduced["spread"]
    np.testing.assert_allclose(spread["edges"], np.arange(-1, 1.01, 0.25))
    for neuron in range(2):
        inside = np.clip(state[:, neuron], -0.999, 0.999)  # those outside go to the last bins
        counts = np.histogram(inside, spread["edges"])[0]
        np.testing.assert_array_equal(spread["counts"][neuron], counts)
    assert abs(state[:, :2]).max() > 1


@pytest.mark.slow
def test_repr_tells_what_was_found(ensemble):
    text = repr(ensemble)
    p, low, high = ensemble.retrieved
    assert "40 trials, 41 saved times from 0 to 2" in text
    assert f"{p:.3f} [{low:.3f}, {high:.3f}]  (|m| > 0.8 and the largest, at the end" in text
    assert "averaged over the last 0.3" in text
    assert ", ".join(f"{name} {count}" for name, count in ensemble.counts.items()) in text
    assert f"{ensemble.censored} never" in text
    assert "left out" not in text


def test_variables_carry_labels_for_every_axis(ensemble):
    variables = ensemble.variables([0.1, 0.5, 0.9])
    sizes = {"trial": 40, "time": STEPS + 1, "quantile_level": 3, "outcome_name": 6}
    for name, (dims, values, about) in variables.items():
        assert len(dims) == values.ndim == len(set(dims)), name
        assert about
        for axis, size in zip(dims, values.shape, strict=True):
            assert sizes.get(axis, size) == size, name
    for name in ("outcome", "passage_time", "final_energy", "overlap_mean", "passed"):
        np.testing.assert_array_equal(variables[name].values, getattr(ensemble, name))
    own = variables["raw_state"].values
    np.testing.assert_array_equal(own, ensemble.reduced["raw"]["state"])
    medians = variables["passage_quantile"].values, variables["overlap_quantile"].values
    np.testing.assert_array_equal(medians[0], ensemble.passage_quantiles([0.1, 0.5, 0.9]))
    np.testing.assert_array_equal(medians[1], ensemble.overlap_quantiles([0.1, 0.5, 0.9]))


@pytest.mark.slow
def test_a_reduction_in_the_way_of_our_own_results_is_refused():
    for name in (
        "final",
        "share",
        "memory",
        "outcome",
        "passage_time",
        "time",
        "retrieved_low",
        "overlap",
    ):
        with pytest.raises(ValueError, match=f"`reductions` must .* got '{name}'"):
            run(reductions={name: hj.PerTrial(raw)})


@pytest.mark.long
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize(("settle", "since"), [(0.0, 0.0), (0.0, 0.55), (0.6, 0.0), (1.95, 1.95)])
def test_every_criterion_against_the_raw_data(mirror, settle, since):
    criterion = hj.Criterion(0.75, settle=settle, since=since, mirror=mirror)
    ensemble = run(criterion=criterion, trials=64)
    overlaps = target_overlap(ensemble)
    (targets,) = ensemble.reduced["raw"]["target"].T
    both = list(zip(trajectories(ensemble), targets, strict=True))
    expected = [passage_of(m, j, criterion) for m, j in both]
    np.testing.assert_allclose(ensemble.passage_time, expected, atol=1e-12)
    strength = abs(overlaps) if mirror else overlaps
    np.testing.assert_allclose(ensemble.overlap_mean, strength.mean(axis=0), atol=EXACT)
    assert ensemble.edges[0] == (0 if mirror else -1)
    names = [outcome_of(judged_of(m, criterion), j, 0.75, 0.3) for m, j in both]
    assert [ensemble.OUTCOMES[code] for code in ensemble.outcome] == names


@pytest.mark.slow
def test_float32_memories_make_all_float32_and_times_on_the_grid_keep_their_step():
    # As in `solve`, input and start are cast. 0.18 is the 18th step of 0.01 although
    # 18 float32(0.01) < float32(0.18).
    memories = MEMORIES.astype(np.float32)
    noise = hj.AdditiveNoise(np.float32(1.5), "two_point")
    trial = hj.Trial(hj.IDPHopfield(memories), 3 * MEMORIES[0], 3 * MEMORIES[0], noise)
    changes: dict[str, Any] = {"dt": 0.01, "t1": 0.5, "save_every": 0.01, "reductions": {}}
    ensemble = run(trial, trials=4, criterion=hj.Criterion(0.5, since=0.18), **changes)
    assert trajectories(ensemble).dtype == np.float32
    assert (trajectories(ensemble)[:, :, 0] > 0.5).all()
    np.testing.assert_array_equal(ensemble.passage_time, 0)
    assert np.isfinite(ensemble.final_energy).all()


# --- trials that diverge ------------------------------------------------------------------------


@pytest.mark.slow
def test_trials_that_diverge_are_named_and_change_no_other(large):
    broken = run(Setting(lost=0.01, loud=0.01), trials=320)
    data = broken.reduced["raw"]
    lost = np.flatnonzero(np.isinf(data["start"]).all(axis=1))
    loud = np.flatnonzero(data["strength"] == OVERFLOWING)
    assert 0 < len(lost) < 9
    assert 0 < len(loud) < 9
    gone = np.union1d(lost, loud)
    np.testing.assert_array_equal(broken.diverged, gone)
    assert broken.counts["diverged"] == len(gone)
    assert broken.trials == sum(broken.counts.values()) == 320

    well = np.setdiff1d(np.arange(320), gone)
    assert_same_bits(
        {name: value[well] for name, value in per_trial(broken).items()},
        {name: value[well] for name, value in per_trial(large).items()},
    )
    strength = abs(target_overlap(broken))
    np.testing.assert_allclose(broken.overlap_mean, strength[well].mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(
        broken.overlap_variance, strength[well].var(axis=0, ddof=1), rtol=EXACT
    )
    assert (broken.histogram.sum(axis=1) == len(well)).all()
    assert broken.reduced["state"]["count"] == len(well)
    np.testing.assert_allclose(
        broken.reduced["state"]["mean"], data["state"][well].mean(axis=0), rtol=1e-9, atol=1e-12
    )
    assert np.isfinite(broken.reduced["own"]["extremes"]).all()

    assert np.isnan(broken.final_energy[gone]).all()
    assert np.isnan(broken.final_overlap[gone]).all()
    assert np.isinf(broken.diverged_at[well]).all()
    assert (broken.diverged_at[lost] == 0).all()
    assert np.isinf(broken.passage_time[lost]).all()
    for number in loud:  # NaN from the time on that is reported
        first = np.flatnonzero(np.isnan(strength[number]))[0]
        assert broken.diverged_at[number] == pytest.approx(broken.ts[first])
        assert 0 < first < STEPS
        assert np.isnan(strength[number, first:]).all()
    # Out of all trials: what diverged was not retrieved.
    right = broken.counts["right"] + broken.counts["mirror"]
    assert float(broken.retrieved.estimate) == pytest.approx(right / 320)
    assert broken.passed[-1] == np.isfinite(broken.passage_time).mean()
    assert f"trials {', '.join(map(str, gone[:5]))}" in repr(broken)
    assert f"diverged {len(gone)}" in repr(broken)


@pytest.mark.slow
def test_an_ensemble_of_nothing_but_diverged_trials():
    broken = run(Setting(lost=1.1))
    assert broken.counts["diverged"] == broken.censored == 40
    assert float(broken.retrieved.estimate) == 0
    assert np.isnan(broken.overlap_mean).all()
    assert np.isnan(broken.overlap_quantiles([0.5])).all()
    assert np.isinf(broken.passage_quantiles([0.5])).all()
    assert "trials 0, 1, 2, 3, 4, ...: left out" in repr(broken)


class Runaway(hj.AbstractBipolarHopfield):
    """dx/dt = growth x³."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation
    growth: Float[Array, ""]

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        return self.growth * x**3

    def energy(self, x, u):
        return -self.growth * jnp.sum(x**4) / 4


def runaway(key):
    explodes = jax.random.uniform(key) < 0.1
    model = Runaway(
        jnp.ones((1, 4)), hj.Tanh(), jnp.where(explodes, 1.0, -1.0).astype(jnp.result_type(float))
    )
    return hj.Trial(model, jnp.zeros(4), jnp.ones(4), target=0)


@pytest.mark.long
def test_a_model_of_the_users_own_that_explodes_for_some_keys():
    ensemble = hj.solve_ensemble(runaway, trials=200, key=KEY, t1=1.0, dt=0.01, chunk=32)
    keys = [jax.random.split(jax.random.fold_in(KEY, j))[0] for j in range(200)]
    expected = [j for j, key in enumerate(keys) if float(jax.random.uniform(key)) < 0.1]
    assert ensemble.diverged.tolist() == expected
    # Blown up at 1/2, which Euler passes late; a perfect overlap of an infinite state is none.
    assert (abs(ensemble.diverged_at[expected] - 0.6) < 0.1).all()
    x, energy = 1.0, 0.0
    for _ in range(100):
        x -= 0.01 * x**3
        energy = x**4
    well = np.setdiff1d(np.arange(200), expected)
    np.testing.assert_allclose(ensemble.final_energy[well], energy, rtol=EXACT)
    np.testing.assert_allclose(ensemble.overlap_mean[-1], np.tanh(10 * x), rtol=EXACT)


# --- further ways to solve ------------------------------------------------------------------------


@pytest.mark.long
def test_a_key_in_the_trial_is_the_noise_of_all():
    trial = hj.Trial(hj.IDPHopfield(MEMORIES), 2 * MEMORIES[0], X0, hj.AdditiveNoise(1.0), key=KEY)
    ensemble = run(trial, trials=5, reductions={})
    alone = hj.solve(
        hj.IDPHopfield(MEMORIES),
        2 * MEMORIES[0],
        X0,
        t1=STEPS * DT,
        dt=DT,
        save_every=DT,
        noise=hj.AdditiveNoise(1.0),
        key=KEY,
    )
    for overlaps in trajectories(ensemble):
        np.testing.assert_allclose(overlaps, alone.overlaps, atol=1e-10)


@pytest.mark.long
def test_adaptive_steps_agree_with_fine_ones():
    def energies(**changes: Any) -> hj.Ensemble:
        return hj.solve_ensemble(Noiseless(), trials=12, key=KEY, t1=2.0, chunk=6, **changes)

    controller = dfx.PIDController(rtol=1e-8, atol=1e-8)
    adaptive = energies(dt=0.05, stepsize_controller=controller, save_every=0.1)
    fine = energies(dt=0.001, solver=dfx.Heun(), save_every=0.1)
    np.testing.assert_allclose(adaptive.overlap_mean, fine.overlap_mean, atol=1e-4)
    np.testing.assert_array_equal(adaptive.outcome, fine.outcome)
    # The passage is seen at the end of the adaptive step in which it happened.
    finite = np.isfinite(fine.passage_time)
    np.testing.assert_array_equal(np.isfinite(adaptive.passage_time), finite)
    late = adaptive.passage_time[finite] - fine.passage_time[finite]
    assert finite.any()
    assert (late > -0.002).all()
    assert (late < 0.2).all()


class Noiseless(eqx.Module):
    """As `Setting`, smooth and without noise."""

    def __call__(self, key):
        trial = Setting()(key)
        model = hj.IDPHopfield(trial.model.memories, activation=hj.Tanh(2.0))
        return hj.Trial(model, trial.inputs, trial.x0, target=trial.target)


# --- at the door -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bad_value_of_one_trial_is_one_line():
    bad = Setting(negative=0.02)
    bad(KEY)  # not what is looked at before
    with pytest.raises(ValueError, match="`strength`") as caught:
        run(bad, trials=320)
    message = "Argument `strength` must be zero or positive, which it is not in trial 59."
    assert str(caught.value) == message
    run()  # and all goes on


def test_trajectories_beyond_the_limit_are_refused_with_their_size():
    size = 10**6 * (STEPS + 1) * NUM_MEMORIES * 8
    with pytest.raises(ValueError, match=rf"`trajectories`.*{size}.*{size / 2**30:.2f} GiB") as e:
        run(trials=10**6, max_bytes=size - 1)
    assert "\n" not in str(e.value)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_for_terminals_only(capsys, monkeypatch):
    run()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    run(progress=False)
    assert terminal.getvalue() == ""
    run()
    assert "40/40" in terminal.getvalue()
    assert "trials" in terminal.getvalue()
