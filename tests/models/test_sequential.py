"""The network of slow saliencies: written out in NumPy, its symmetries, solves, and refusals."""

# pyright: reportArgumentType=false

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj
from hopjax import theory
from hopjax.models import with_room

P, N, TAU, KAPPA, DT = 3, 12, 4.0, 5.0, 0.05
ROUNDING = 1e-12
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MEMORIES = RNG.choice([-1.0, 1.0], (P, N))
STATE = np.append(RNG.normal(size=N), [2.0, 0.7, -0.1])
U = np.array([0.4, -0.2, 0.1]) @ MEMORIES + 0.1 * RNG.normal(size=N)
BRANCHING = np.array([[0.0, 0.5, 1.0], [0.7, 0.0, 0.0], [0.3, 0.5, 0.0]])
CYCLE = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
CHAIN = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
KINDS = {
    "cyclic": ({}, CYCLE),
    "open": ({"cyclic": False}, CHAIN),
    "branching": ({"transitions": BRANCHING}, BRANCHING),
}


def network(memories: Any = MEMORIES, activation: Any = None, **options: Any):
    options = {"gain": KAPPA, "time_constant": TAU} | options
    return hj.SequentialHopfield(memories, activation, **options)


# The equations once more, with the N x N matrix of synapses.


def clip(x: float) -> float:
    return min(max(x, -1.0), 1.0)


def reference_drift(memories, matrix, state, u, self_coupling) -> np.ndarray:
    num_memories, n = memories.shape
    x, s = state[:n], state[n:]
    psi = [clip(each) for each in x]
    alpha = [
        s[mu] + sum(memories[mu, i] * u[i] for i in range(n)) / n for mu in range(num_memories)
    ]
    synapses = np.zeros((n, n))
    for mu in range(num_memories):
        for i in range(n):
            for j in range(n):
                if i != j or self_coupling:
                    synapses[i, j] += alpha[mu] * memories[mu, i] * memories[mu, j] / n
    overlaps = [sum(memories[mu] * psi) / n for mu in range(num_memories)]
    moved = [-x[i] + sum(synapses[i, j] * psi[j] for j in range(n)) for i in range(n)]
    for nu in range(num_memories):
        given = sum(matrix[nu, mu] * abs(overlaps[mu]) for mu in range(num_memories))
        moved.append((KAPPA * given - s[nu]) / TAU)
    return np.array(moved)


def moved(model: Any, state: Any, u: Any = U) -> np.ndarray:
    state = jnp.asarray(state)
    return np.asarray(model.drift(jnp.zeros(()), state, model.drive(u)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("self_coupling", [True, False])
def test_drift_of_the_written_out_equations(kind, self_coupling):
    options, matrix = KINDS[kind]
    model = network(self_coupling=self_coupling, **options)
    expected = reference_drift(MEMORIES, matrix, STATE, U, self_coupling)
    assert_allclose(moved(model, STATE), expected, rtol=EXACT, atol=ROUNDING)
    assert_array_equal(model.transition_matrix, matrix)


def everything(t, state):
    del t
    return state


def solve(model: Any, u: Any = U, x0: Any = STATE[:N], **options: Any) -> hj.Trajectory:
    options = {"t1": 1.0, "dt": DT, "save_every": DT, "save_fn": everything} | options
    return hj.solve(model, u, x0, **options)


def test_a_solve_is_eulers_loop_in_numpy():
    state = np.append(STATE[:N], np.zeros(P))
    overlaps = [sum(pattern * [clip(x) for x in STATE[:N]]) for pattern in MEMORIES]
    state[N + int(np.argmax(np.abs(overlaps)))] = KAPPA
    states = [state]
    for _ in range(20):
        state = state + DT * reference_drift(MEMORIES, CYCLE, state, U, False)
        states.append(state)
    assert_allclose(solve(network()).saved, states, rtol=EXACT, atol=ROUNDING)


def test_the_state_and_how_it_starts():
    model = network()
    assert model.state_size == N + P
    assert model.fastest_time_constant == 1
    assert network(time_constant=0.5).fastest_time_constant == 0.5
    assert_array_equal(model.relaxation_rates, np.repeat([1, 1 / TAU], [N, P]))
    start = np.asarray(model.initial_state(jnp.asarray(-0.3 * MEMORIES[1])))
    assert_array_equal(model.features(start), -0.3 * MEMORIES[1])
    assert_array_equal(model.slow_saliencies(start), [0, KAPPA, 0])
    given = network(initial_saliencies=[0.1, 0.2, 0.3])
    start = given.initial_state(jnp.asarray(MEMORIES[1]))
    assert_array_equal(given.slow_saliencies(start), [0.1, 0.2, 0.3])
    assert model.overlaps(start).tolist() == given.overlaps(start).tolist()
    assert isinstance(model.activation, hj.HardTanh)
    assert model.activation.slope == 1


def test_symmetry_under_a_change_of_sign_of_the_features():
    model, mirrored = network(), STATE * np.repeat([-1, 1], [N, P])
    first, second = moved(model, STATE), moved(model, mirrored)
    assert_array_equal(second, first * np.repeat([-1, 1], [N, P]))


def test_symmetry_under_a_permutation_of_the_memories_with_their_transitions():
    order = np.array([2, 0, 1])
    model = network(transitions=BRANCHING)
    matrix = BRANCHING[np.ix_(order, order)]
    other = network(MEMORIES[order], transitions=matrix)
    places = np.append(np.arange(N), N + order)
    assert_allclose(moved(other, STATE[places]), moved(model, STATE)[places], rtol=EXACT)
    # And so it is with a cycle, whose matrix is implied.
    cycle = network(MEMORIES[order], transitions=CYCLE[np.ix_(order, order)])
    assert_allclose(moved(cycle, STATE[places]), moved(network(), STATE)[places], rtol=EXACT)


@pytest.mark.parametrize("self_coupling", [True, False])
def test_the_fast_energy_is_that_of_the_network_with_these_saliencies(self_coupling):
    memories = np.asarray(hj.orthogonal_memories(num_memories=P, num_neurons=N))
    psi, weights = hj.Tanh(1.5), np.array([0.4, -0.2, 0.1])
    u = jnp.asarray(weights @ memories)
    model = network(memories, psi, self_coupling=self_coupling)
    idp = hj.IDPHopfield(memories, psi, self_coupling=self_coupling)
    state = jnp.asarray(STATE)
    total = (weights + STATE[N:]) @ memories
    assert_allclose(model.fast_energy(state, u), idp.energy(state[:N], total), rtol=EXACT)
    assert np.isnan(model.energy(state, u))
    gradient = jax.grad(model.fast_energy)(state, u)[:N]
    drift = moved(model, state, u)[:N]
    assert_allclose(gradient, -drift * psi.derivative(state[:N]), rtol=EXACT, atol=ROUNDING)


def kicks(model: Any, strength: Any) -> np.ndarray:
    """What noise adds to the first step."""
    noise = hj.AdditiveNoise(strength, "two_point")
    solved = solve(model, t1=DT, noise=noise, key=KEY)
    start = model.initial_state(jnp.asarray(STATE[:N]))
    return np.asarray(solved.final_state) - start - DT * moved(model, start)


def test_one_strength_of_noise_is_that_of_the_features():
    found = kicks(network(), 0.7)
    assert_allclose(abs(found), np.repeat([0.7 * np.sqrt(DT), 0], [N, P]), atol=ROUNDING)


@pytest.mark.slow
def test_one_strength_of_noise_is_that_of_the_features_in_two_layers_too():
    model = hj.TwoLayerHopfield(MEMORIES)
    found = kicks(model, 0.7)
    assert_allclose(found, kicks(model, model.noise_strength(features=0.7)), atol=ROUNDING)
    assert_allclose(abs(found[:N]), 0.7 * np.sqrt(DT), atol=ROUNDING)
    assert_allclose(found[N:], 0, atol=ROUNDING)


@pytest.mark.slow
def test_a_strength_of_each_entry_is_taken_as_it_is():
    model = network()
    found = kicks(model, model.noise_strength(features=0.7, saliencies=2))
    assert_allclose(abs(found), np.sqrt(DT) * np.repeat([0.7, 2], [N, P]), atol=ROUNDING)


def test_noise_of_each_part():
    model = network()
    assert_array_equal(model.noise_strength(features=0.7), np.repeat([0.7, 0], [N, P]))
    assert_array_equal(model.noise_strength(saliencies=2), np.repeat([0, 2], [N, P]))


# What it is for.

LARGE = np.asarray(hj.orthogonal_memories(num_memories=4, num_neurons=64, key=KEY), np.float32)


def sequence(t1: float = 60.0, u: Any = None, **options: Any) -> hj.Trajectory:
    model = network(LARGE, self_coupling=True, **({"time_constant": 8.0} | options))
    return hj.solve(
        model,
        np.zeros(64, np.float32) if u is None else u,
        LARGE[0],
        t1=t1,
        dt=0.05,
        save_every=0.5,
        noise=hj.AdditiveNoise(0.05),
        key=KEY,
        solver=hj.ExponentialAdams(),
    )


def order(trajectory: hj.Trajectory) -> list[int]:
    """The strongest memories, without repetitions."""
    sizes = np.abs(np.asarray(trajectory.overlaps))
    found = sizes.argmax(axis=1)[sizes.max(axis=1) > 0.7].tolist()
    return [each for place, each in enumerate(found) if place == 0 or found[place - 1] != each]


@pytest.mark.slow
def test_memories_follow_each_other():
    found = order(sequence())
    assert len(found) >= 4
    assert found == [(place % 4) for place in range(len(found))]


@pytest.mark.slow
def test_memories_follow_each_other_as_the_transitions_say():
    skipping = np.zeros((4, 4))
    skipping[[2, 1, 3, 0], [0, 2, 1, 3]] = 1
    found = order(sequence(transitions=skipping))
    assert len(found) >= 4
    assert found == [(0, 2, 1, 3)[place % 4] for place in range(len(found))]


@pytest.mark.slow
def test_a_change_takes_a_time_by_the_logarithm_of_what_there_is_of_the_next_memory():
    """At rest at the edge of saturation it grows as e^((s − 1) t)."""

    def delay(saliency: float, first: float) -> float:
        model = network(
            LARGE,
            self_coupling=True,
            time_constant=1e6,
            initial_saliencies=[1.0, saliency, 0.0, 0.0],
        )
        x0 = 0.7 * LARGE[0] + first * LARGE[1]
        solved = hj.solve(model, np.zeros(64, np.float32), x0, t1=20.0, dt=0.01, save_every=0.01)
        return float(np.interp(0.2, solved.overlaps[:, 1], solved.ts))

    for saliency in (1.5, 2.0, 3.0):
        times = [delay(saliency, first) for first in (1e-2, 1e-3)]
        assert times[1] - times[0] == pytest.approx(np.log(10) / (saliency - 1), rel=0.02)


@pytest.mark.slow
def test_an_open_sequence_ends_with_its_last_memory():
    trajectory = sequence(t1=75.0, cyclic=False)
    assert order(trajectory) == [0, 1, 2, 3]
    assert np.abs(trajectory.overlaps[-1]).max() < 0.1


@pytest.mark.slow
def test_an_input_holds_a_sequence():
    assert order(sequence(u=6 * LARGE[0])) == [0]


@pytest.mark.slow
def test_an_input_that_ends_starts_a_sequence():
    shown = hj.Schedule([0.0, 20.0], 3 * jnp.stack([LARGE[2], jnp.zeros_like(LARGE[2])]))
    rest = {"initial_saliencies": jnp.zeros(4)}
    assert order(sequence(u=shown, **rest))[:5] == [0, 2, 3, 0, 1]  # begins in memory 0
    assert order(sequence(**rest)) == [0]


@pytest.mark.slow
def test_its_mean_flow_is_known():
    flow = theory.noisy_flow(network(), U, STATE[:N], noise=0.0, t1=1.0, dt=DT, save_every=1.0)
    assert_allclose(flow.final_state, solve(network()).final_state, rtol=EXACT)


# Learnt and forgotten, and within a capacity.


def test_transitions_follow_the_number_of_memories_or_have_to_be_given_anew():
    pattern = np.where(np.arange(N) % 2, 1.0, -1.0)
    larger = network().with_memory(pattern)
    assert_array_equal(larger.transition_matrix, np.roll(np.eye(4), 1, axis=0))
    model = network(transitions=BRANCHING)
    with pytest.raises(
        hj.ArgumentError, match=r"^Argument `transitions` must be of shape \(4, 4\)"
    ):
        model.with_memory(pattern)
    with pytest.raises(
        hj.ArgumentError, match=r"^Argument `transitions` must be of shape \(2, 2\)"
    ):
        model.without_memory(0)
    matrix = np.ones((4, 4))
    assert_array_equal(model.with_memory(pattern, transitions=matrix).transitions, matrix)
    fewer = model.without_memory(0, transitions=BRANCHING[1:, 1:])
    assert_array_equal(fewer.memories, MEMORIES[1:])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_capacity_changes_nothing(kind):
    options, _ = KINDS[kind]
    model = network(initial_saliencies=[1.0, 2.0, 0.5], **options)
    noise = hj.AdditiveNoise(0.3)
    found = solve(model, noise=noise, key=KEY, capacity=5)
    expected = solve(model, noise=noise, key=KEY)
    assert found.final_state.shape == (N + P,)
    assert_allclose(found.final_state, expected.final_state, rtol=EXACT, atol=ROUNDING)


def test_absent_memories_follow_no_other():
    model = network(transitions=BRANCHING, initial_saliencies=[1.0, 2.0, 0.5])
    padded = with_room(model, 5)
    found = moved(padded, np.append(STATE, [0, 0]))
    assert_allclose(found[: N + P], moved(model, STATE), rtol=EXACT)
    assert_array_equal(found[N + P :], 0)
    start = padded.initial_state(jnp.asarray(STATE[:N]))
    assert_array_equal(padded.slow_saliencies(start), [1.0, 2.0, 0.5, 0, 0])


def test_it_is_built_inside_jit():
    @eqx.filter_jit
    def drift(gain, matrix):
        return network(gain=gain, transitions=matrix).drift(
            jnp.zeros(()), jnp.asarray(STATE), jnp.zeros(P)
        )

    expected = moved(network(transitions=BRANCHING), STATE, np.zeros(N))
    assert_allclose(drift(jnp.asarray(KAPPA), jnp.asarray(BRANCHING)), expected, rtol=EXACT)
    with pytest.raises(eqx.EquinoxRuntimeError, match="`transitions` must be zero or positive"):
        drift(jnp.asarray(KAPPA), jnp.asarray(-BRANCHING))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "shape": (
        {"transitions": np.ones((P, P + 1))},
        r"`transitions` must be of shape \(3, 3\), got",
    ),
    "negative": ({"transitions": -BRANCHING}, r"`transitions` must be zero or positive, got -0\.5"),
    "NaN": ({"transitions": np.full((P, P), np.nan)}, "`transitions` must be finite, got nan"),
    "both": ({"transitions": BRANCHING, "cyclic": False}, "`cyclic` must be True where"),
    "gain": ({"gain": -1.0}, r"`gain` must be zero or positive, got -1\.0"),
    "tau": ({"time_constant": 0.0}, r"`time_constant` must be positive, got 0\.0"),
    "start": ({"initial_saliencies": np.ones(2)}, r"`initial_saliencies` must be of shape \(3,\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused(what):
    options, message = WRONG[what]
    with pytest.raises(hj.ArgumentError, match=message):
        network(**options)
