"""The states of networks whose memories resemble each other, against flows by hand and trials."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from uneven import Uneven

import hopjax as hj
from hopjax import theory

KEY = jax.random.key(0)


def alike(correlation: float, key: int, num_memories: int = 5, num_neurons: int = 100):
    return np.asarray(
        hj.correlated_memories(
            jax.random.key(key),
            num_memories=num_memories,
            num_neurons=num_neurons,
            correlation=correlation,
        )
    )


def coupling_of(memories: np.ndarray, weights: Any) -> np.ndarray:
    coupling = (memories.T * weights) @ memories / memories.shape[1]
    np.fill_diagonal(coupling, 0)
    return coupling


def ends_by_hand(memories: np.ndarray, coupling: np.ndarray, current: Any = 0.0) -> np.ndarray:
    """Where the noiseless flow from each memory is after a long time: Euler steps by NumPy."""
    x = memories.copy()
    for _ in range(6000):
        x = x + 0.05 * (-x + np.tanh(10 * x) @ coupling + current)
    return x


def same(one: Any, other: Any) -> bool:
    """Two states up to their sign."""
    one, other = np.asarray(one), np.asarray(other)
    apart = min(abs(one - other).max(), abs(one + other).max())
    return bool(apart <= 1e-3 * (0.1 + abs(one).max()))


def trials_by_hand(
    memories: np.ndarray, coupling: np.ndarray, noise: float, seed: int, current: Any = 0.0
) -> np.ndarray:
    """Overlaps (P, 100, P) of 100 noisy trials from each memory, over the last 5 of 20."""
    rng, dt = np.random.default_rng(seed), 0.05
    x = np.repeat(memories[:, None], 100, axis=1)
    total = np.zeros((len(memories), 100, len(memories)))
    for step in range(400):
        x = x + dt * (-x + np.tanh(10 * x) @ coupling + current)
        x += noise * np.sqrt(dt) * rng.normal(size=x.shape)
        if step >= 300:
            total += np.tanh(10 * x) @ memories.T / memories.shape[1]
    return total / 100


# Sets of memories on which formulas for orthogonal ones, or a cosine, said what is false.


@functools.cache
def report_of_one_shared_state() -> Any:
    return theory.report(hj.ClassicHopfield(alike(0.6, 0)), np.zeros(100), noise=0.3, dt=0.05)


@pytest.mark.slow
def test_one_state_of_five_memories_counts_once():
    memories = alike(0.6, 0)
    ends = ends_by_hand(memories, coupling_of(memories, np.ones(5)))
    assert all(same(end, ends[0]) for end in ends)
    report = report_of_one_shared_state()
    (state,) = report.states
    assert same(state.state, ends[0])
    assert_allclose(state.energy, -1.5741, atol=5e-5)
    assert_allclose(abs(state.overlaps), abs(memories @ np.tanh(10 * ends[0])) / 100, atol=1e-6)
    assert state.memories == (0, 1, 2, 3, 4)
    assert state.mirrored
    assert report.ends == 5 * ((0,),)
    # It is that of its strongest overlap.
    holder = int(np.argmax(abs(state.overlaps)))
    assert state.holders == (holder,)
    assert report.kinds == tuple("stable" if m == holder else "absent" for m in range(5))
    assert np.isnan(np.delete(report.energy, holder)).all()
    told = f"the state of memories[{holder}] (0.880) is shared by memories[0] (0.820), memories[2] "
    assert told + "(0.800), memories[3] (0.760), memories[4] (0.820)" in str(report)


@pytest.mark.slow
def test_noise_leaves_a_mixture_where_trials_end_in_one():
    memories, report = alike(0.6, 0), report_of_one_shared_state()
    overlaps = trials_by_hand(memories, coupling_of(memories, np.ones(5)), 0.3, seed=1)
    assert report.noisy_states is not None
    (state,) = report.noisy_states
    # All trials from all memories, up to sign: fluctuations are of order 1/√N.
    assert np.ptp(abs(overlaps), axis=(0, 1)).max() < 0.05
    assert_allclose(abs(state.overlaps), abs(overlaps).mean(axis=(0, 1)), atol=0.01)
    assert report.ends_in == state.holders == (1,)
    # All of them resemble the state, none its mirror image.
    assert (overlaps[:, :, 1] > 0).all()
    assert state.signs == (1,)
    told = "noise of strength 0.3, for many neurons, ends in memories[1], overlap 0.880, 0.8"
    assert told in str(report)
    assert (
        "no closed theory: it is for orthogonal memories, and two of these overlap by 0.700"
        in str(report)
    )


@pytest.mark.slow
def test_letters_share_a_state():
    memories = np.asarray(hj.glyph_memories("EFB", size=12))
    report = theory.report(hj.ClassicHopfield(memories), np.zeros(144))
    ends = ends_by_hand(memories, coupling_of(memories, np.ones(3)))
    assert all(same(end, ends[0]) for end in ends)
    (state,) = report.states
    assert same(state.state, ends[0])
    assert report.kinds.count("stable") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("correlation", "key", "memory", "cosine"), [(0.2, 0, 0, 0.807), (0.4, 2, 1, 0.818)]
)
def test_states_that_newton_misses_are_found(correlation, key, memory, cosine):
    memories = alike(correlation, key)
    model, u = hj.ClassicHopfield(memories), np.zeros(100)
    end = ends_by_hand(memories, coupling_of(memories, np.ones(5)))[memory]
    found = theory.find_memory(model, u, memory)
    assert found.found
    assert same(found.state, end)
    x = np.asarray(found.state)
    assert_allclose(x @ memories[memory] / np.linalg.norm(x) / 10, cosine, atol=5e-4)
    assert theory.classify(model, u, found) == "stable"
    assert theory.classify(model, u, found, memory=memory) == "stable"
    assert theory.classify(model, u, found, memory=(memory + 1) % 5) == "absent"


@pytest.mark.slow
def test_complementary_pairs_hold_what_trials_hold():
    first, second = np.ones(64), np.tile([1.0, -1.0], 32)
    memories = np.stack([first, -first, second, -second])
    model, noise = hj.ClassicHopfield(memories), 0.1
    report = theory.report(model, np.zeros(64), noise=noise, dt=0.05)
    assert [state.holders for state in report.noisy_states or ()] == [(0, 1), (2, 3)]
    assert report.kinds == 4 * ("stable",)
    assert report.ends_in == (0, 1, 2, 3)
    assert report.prediction is None
    assert "whichever of memories[0], memories[1], memories[2], memories[3]" in str(report)
    overlaps = trials_by_hand(memories, coupling_of(memories, np.ones(4)), noise, seed=2)
    for memory in range(4):
        assert (overlaps[memory, :, memory] > 0.9).all()


@pytest.mark.slow
def test_a_memory_and_its_mirror_image_cancel():
    patterns = np.asarray(hj.random_memories(KEY, num_memories=2, num_neurons=64))
    memories = np.concatenate([patterns, -patterns])
    report = theory.report(hj.IDPHopfield(memories), 2 * patterns[0], noise=0.05)  # W = 0
    assert report.kinds == 4 * ("absent",)
    assert report.ends_in == ()
    assert "noise of strength 0.05, for many neurons, ends in no memory" in str(report)


# The kind: what is said of random sets, and what is simulated.


def sets(number: int) -> list[tuple[float, int, int]]:
    return [((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)[n % 7], n, 2 + n % 7) for n in range(number)]


def check_set(kind: str, correlation: float, key: int, num_memories: int) -> tuple[int, int]:
    """Rows at which trials are decided, and those of them that the flow predicts otherwise."""
    memories = alike(correlation, key, num_memories, 64)
    noise, rng = (0.5 if kind == "classic" else 1.0), np.random.default_rng(key)
    if kind == "classic":
        model, u, weights = hj.ClassicHopfield(memories), np.zeros(64), np.ones(num_memories)
    else:
        u = rng.uniform(1, 3, num_memories) @ memories
        model, weights = hj.IDPHopfield(memories), memories @ u / 64
    coupling = coupling_of(memories, weights)
    report = theory.report(model, u, noise=noise, dt=0.05)
    distinct: list[np.ndarray] = []
    for end in ends_by_hand(memories, coupling):
        if not any(same(end, other) for other in distinct):
            distinct.append(end)
    assert len(report.states) == len(distinct)
    assert all(any(same(state.state, end) for end in distinct) for state in report.states)
    overlaps = abs(trials_by_hand(memories, coupling, noise, seed=key))
    assert report.noisy_states is not None
    assert report.noisy_ends is not None
    decided = missed = 0
    for memory in range(num_memories):
        counts = np.bincount(overlaps[memory].argmax(axis=1), minlength=num_memories)
        if counts.max() > 95:
            decided += 1
            told: set[int] = set()
            for place in report.noisy_ends[memory]:
                strength = abs(np.asarray(report.noisy_states[place].overlaps))
                # Of memories that tie in the mean, rounding decides which one is ahead in trials.
                told |= set(np.flatnonzero(strength > (1 - 1e-3) * strength.max()).tolist())
            missed += int(counts.argmax()) not in told
    return decided, missed


@pytest.mark.slow
def test_states_and_fates_of_random_sets():
    # One shape for each kind of network, here and elsewhere in this file, so one compilation.
    for kind, keys in (("classic", (1, 4)), ("idp", (2, 5))):
        found = [check_set(kind, sets(7)[key][0], key, 4) for key in keys]
        decided, missed = np.sum(found, axis=0)
        assert decided >= 5
        assert missed == 0


@pytest.mark.long
@pytest.mark.parametrize("kind", ["classic", "idp"])
def test_states_and_fates_of_fifty_random_sets(kind, optimised):
    # Where trials are decided (P > .95) the flow says the same in all rows; the rest, a fifth of
    # them, are rows from which fluctuations of 64 neurons take trials to several states.
    decided, missed = np.sum([check_set(kind, *one) for one in sets(50)], axis=0)
    print(f"{kind}: {decided} rows decided, {missed} predicted otherwise")
    assert decided > 180
    assert missed == 0


# Ridges, and models of all kinds.


@pytest.mark.slow
def test_on_a_ridge_chance_decides():
    memories = np.asarray(hj.orthogonal_memories(num_memories=4, num_neurons=64, key=KEY))
    model = hj.IDPHopfield(memories)
    u = hj.mixture(memories, np.array([1.5, 3.0, 3.0, 0.5]))
    found = theory.stable_states(model, u, noise=1.6)
    holders = [state.holders for state in found.states]
    assert sorted(holders) == [(1,), (2,)]
    # From the memory that noise frees, and from one that has lost its well, to either.
    assert sorted(found.ends[0]) == sorted(found.ends[3]) == [0, 1]
    assert [holders[place] for (place,) in found.ends[1:3]] == [(1,), (2,)]
    text = str(theory.report(model, u, noise=1.6))
    assert text.count(" or memories[") >= 3


@pytest.mark.slow
def test_escape_noise_from_the_flow_is_that_of_the_closed_form():
    memories = np.asarray(hj.orthogonal_memories(num_memories=4, num_neurons=64, key=KEY))
    model = hj.IDPHopfield(memories, self_coupling=True)
    u = hj.mixture(memories, np.array([1.5, 3.0, 0.5, 0.3]))
    edge = float(theory.escape_noise(1.5, 3.0, hj.Tanh(10.0)))
    for factor, held in ((0.998, True), (1.002, False)):
        found = theory.stable_states(model, u, noise=factor * edge)
        assert (0 in found.states[found.ends[0][0]].holders) == held
    # Euler's steps have more noise: what is held by the exact equation is lost.
    coarse = theory.stable_states(model, u, noise=0.998 * edge, dt=0.05)
    assert coarse.states[coarse.ends[0][0]].holders == (1,)


@pytest.mark.slow
def test_report_of_neurons_with_a_slope_each():
    memories = np.asarray(hj.orthogonal_memories(num_memories=3, num_neurons=64, key=KEY))
    slopes = np.linspace(4.0, 20.0, 64)
    model = hj.IDPHopfield(memories, Uneven(jnp.asarray(slopes)))
    u = hj.mixture(memories, np.array([3.0, 1.0, 0.02]))
    report = theory.report(model, u, noise=0.5)
    assert "d = 4 to 20" in str(report)
    assert report.kinds == ("stable", "stable", "absent")
    assert "no closed theory: it is for neurons that are all alike" in str(report)
    coupling = coupling_of(memories, [3.0, 1.0, 0.02])
    x = np.asarray(report.states[0].state)
    assert_allclose(x, coupling @ np.tanh(slopes * x), atol=1e-8)


@pytest.mark.slow
def test_report_says_where_noise_is_not_averaged():
    memories = np.asarray(hj.orthogonal_memories(num_memories=3, num_neurons=64, key=KEY))
    report = theory.report(hj.DynamicAttention(memories, 0.2), 2 * memories[0], noise=1.0)
    assert report.noisy_states is None
    assert report.kinds[0] == "stable"
    told = "noise of strength 1 is ignored, and all of this is said of the network without it: its "
    assert f"{told}neurons have no activation inside the sums" in str(report)
    assert "no closed theory: it is for IDP and classic networks" in str(report)
    with pytest.raises(ValueError, match="no theory of the noise: its neurons have no activation"):
        report.ends_in  # noqa: B018


@pytest.mark.long
def test_two_layers_have_the_states_of_one():
    memories = alike(0.3, 1, 3, 64)
    u = np.array([2.0, 1.5, 1.0]) @ memories
    two = hj.TwoLayerHopfield(memories, memory_time_constant=0.5, self_coupling=False)
    for noise in (0.0, 0.8):
        one_layer = theory.stable_states(two.reduced(), u, noise=noise)
        two_layers = theory.stable_states(two, u, noise=noise)
        assert two_layers.ends == one_layer.ends
        for one, other in zip(two_layers.states, one_layer.states, strict=True):
            assert_allclose(abs(one.overlaps), abs(other.overlaps), atol=1e-6)


def test_what_runs_on_the_host_refuses_to_be_traced():
    memories = alike(0.3, 1, 3, 64)
    model = hj.ClassicHopfield(memories)
    with pytest.raises(TypeError, match=r"^stable_states runs on the host: call it outside jit"):
        eqx.filter_jit(theory.stable_states)(model, jnp.zeros(64))


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1e3, 1e5])
def test_steep_states_are_found_in_single_precision(slope):
    memories = alike(0.0, 1, 2, 32).astype(np.float32)
    model = hj.IDPHopfield(memories, hj.Tanh(np.float32(slope)))
    found = theory.find_memory(model, hj.mixture(memories, np.array([1.5, 3.0], np.float32)), 1)
    assert found.found
    assert_allclose(found.overlaps[1], 1, atol=1e-5)
