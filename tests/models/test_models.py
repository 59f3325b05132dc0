"""Models against dense matrices written out in NumPy, and the symmetries of the equations."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj

NUM_MEMORIES, NUM_NEURONS = 3, 12
SLOPE = 1.5  # not so steep that ψ' underflows where drift and energy are compared
ROUNDING = 1e-12  # relative error of a sum of a few dozen float64 terms

KINDS = pytest.mark.parametrize("kind", [hj.ClassicHopfield, hj.IDPHopfield])
COUPLINGS = pytest.mark.parametrize("self_coupling", [False, True])


class Problem:
    """Random memories, state and input; the input favours memory 0 and contains others."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.memories = rng.choice([-1.0, 1.0], (NUM_MEMORIES, NUM_NEURONS))
        self.x = rng.normal(size=NUM_NEURONS)
        self.u = np.array([2.5, 0.8, -0.3]) @ self.memories + 0.2 * rng.normal(size=NUM_NEURONS)


def build(kind: Any, memories: Any, self_coupling: bool, slope: float = SLOPE) -> Any:
    return kind(memories, hj.Tanh(slope), self_coupling=self_coupling)


# The equations once more, as a neuroscientist would write them down: an N x N matrix of synapses.


def synapses(kind, memories, u, self_coupling):
    num_memories, num_neurons = memories.shape
    matrix = np.zeros((num_neurons, num_neurons))
    for mu in range(num_memories):
        saliency = sum(memories[mu, i] * u[i] for i in range(num_neurons)) / num_neurons
        weight = saliency if kind is hj.IDPHopfield else 1.0
        for i in range(num_neurons):
            for j in range(num_neurons):
                if i != j or self_coupling:
                    matrix[i, j] += weight * memories[mu, i] * memories[mu, j] / num_neurons
    return matrix


def dense_drift(kind, memories, x, u, self_coupling):
    matrix = synapses(kind, memories, u, self_coupling)
    current = u if kind is hj.ClassicHopfield else np.zeros_like(u)
    return np.array(
        [
            -x[i] + sum(matrix[i, j] * np.tanh(SLOPE * x[j]) for j in range(len(x))) + current[i]
            for i in range(len(x))
        ]
    )


def dense_energy(kind, memories, x, u, self_coupling):
    matrix = synapses(kind, memories, u, self_coupling)
    activity = np.tanh(SLOPE * x)
    energy = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            energy -= matrix[i, j] * activity[i] * activity[j] / 2
        energy += x[i] * activity[i] - np.log(np.cosh(SLOPE * x[i])) / SLOPE
        if kind is hj.ClassicHopfield:
            energy -= u[i] * activity[i]
    return energy


@KINDS
@COUPLINGS
@pytest.mark.parametrize("seed", range(3))
def test_drift_and_energy_of_the_dense_equations(kind, self_coupling, seed):
    p = Problem(seed)
    model = build(kind, p.memories, self_coupling)
    drift = model.drift(jnp.zeros(()), p.x, model.drive(p.u))
    reference = dense_drift(kind, p.memories, p.x, p.u, self_coupling)
    assert_allclose(drift, reference, rtol=ROUNDING, atol=ROUNDING)
    energy = model.energy(p.x, p.u)
    reference = dense_energy(kind, p.memories, p.x, p.u, self_coupling)
    assert_allclose(energy, reference, rtol=ROUNDING, atol=ROUNDING)


@KINDS
@COUPLINGS
@pytest.mark.parametrize("activation", [hj.Tanh(SLOPE), hj.Erf(0.8)])
def test_drift_is_the_negative_energy_gradient_over_the_activation_slope(
    kind, self_coupling, activation
):
    p = Problem(3)
    model = kind(p.memories, activation, self_coupling=self_coupling)
    gradient = jax.grad(model.energy)(p.x, p.u)
    drift = model.drift(jnp.zeros(()), p.x, model.drive(p.u))
    assert_allclose(drift, -gradient / activation.derivative(p.x), rtol=EXACT, atol=EXACT)


def test_saliency_and_overlaps():
    p = Problem()
    for kind in (hj.ClassicHopfield, hj.IDPHopfield):
        model = build(kind, p.memories, False)
        for mu in range(NUM_MEMORIES):
            pattern = p.memories[mu]
            saliency = sum(pattern[i] * p.u[i] for i in range(NUM_NEURONS)) / NUM_NEURONS
            overlap = sum(pattern * np.tanh(SLOPE * p.x)) / NUM_NEURONS
            assert_allclose(model.saliency(p.u)[mu], saliency, rtol=ROUNDING)
            assert_allclose(model.overlaps(p.x)[mu], overlap, rtol=ROUNDING)
            # A saturated state shows its own memory fully.
            assert_allclose(model.overlaps(100 * pattern)[mu], 1, rtol=ROUNDING)


def test_one_flat_state():
    p = Problem()
    model = build(hj.IDPHopfield, p.memories, False)
    assert model.state_size == NUM_NEURONS
    assert model.fastest_time_constant == 1
    assert_array_equal(model.features(model.initial_state(p.x)), p.x)


@COUPLINGS
def test_idp_with_equal_saliencies_is_the_classic_network_without_current(self_coupling):
    p = Problem()
    idp = build(hj.IDPHopfield, p.memories, self_coupling)
    classic = build(hj.ClassicHopfield, p.memories, self_coupling)
    t = jnp.zeros(())
    ones, nothing = jnp.ones(NUM_MEMORIES), jnp.zeros(NUM_NEURONS)
    assert_allclose(idp.drift(t, p.x, ones), classic.drift(t, p.x, nothing), rtol=ROUNDING)


def test_defaults_of_the_paper():
    p = Problem()
    for kind in (hj.ClassicHopfield, hj.IDPHopfield):
        model = kind(p.memories)
        assert model.self_coupling is False
        assert isinstance(model.activation, hj.Tanh)
        assert model.activation.slope == 10


# Along the noiseless flow. All solves below share one compilation per kind and self-coupling.


def state(t, x):
    del t
    return x


def flow(model: Any, u: Any, x0: Any) -> np.ndarray:
    """The state in every step of a noiseless solve at constant input."""
    trajectory = hj.solve(model, u, x0, t1=2.0, dt=0.01, save_every=0.01, save_fn=state)
    return np.asarray(trajectory.saved)


@pytest.mark.slow
@KINDS
@COUPLINGS
@pytest.mark.parametrize("slope", [1.5, 10.0])
def test_energy_never_rises(kind, self_coupling, slope):
    for seed in range(3):
        p = Problem(seed)
        model = build(kind, p.memories, self_coupling, slope)
        energies = np.asarray(jax.vmap(model.energy, (0, None))(flow(model, p.u, p.x), p.u))
        rises = np.diff(energies)
        assert (rises <= ROUNDING * abs(energies).max()).all()
        assert energies[-1] < energies[0] - 1  # it did move


def drift_and_flow(kind, self_coupling, memories, u, x):
    model = build(kind, memories, self_coupling)
    return model.drift(jnp.zeros(()), x, model.drive(u)), flow(model, u, x)


@KINDS
@COUPLINGS
def test_symmetry_under_a_change_of_sign(kind, self_coupling):
    p = Problem()
    # The classic network needs the current to change sign too; IDP keeps its input.
    u = -p.u if kind is hj.ClassicHopfield else p.u
    drift, states = drift_and_flow(kind, self_coupling, p.memories, p.u, p.x)
    mirrored = drift_and_flow(kind, self_coupling, p.memories, u, -p.x)
    assert_array_equal(mirrored[0], -drift)
    assert_array_equal(mirrored[1], -states)


@KINDS
@COUPLINGS
def test_symmetry_under_a_permutation_of_the_neurons(kind, self_coupling):
    p = Problem()
    order = np.random.default_rng(0).permutation(NUM_NEURONS)
    drift, states = drift_and_flow(kind, self_coupling, p.memories, p.u, p.x)
    permuted = drift_and_flow(kind, self_coupling, p.memories[:, order], p.u[order], p.x[order])
    assert_allclose(permuted[0], drift[order], rtol=ROUNDING, atol=ROUNDING)
    assert_allclose(permuted[1], states[:, order], rtol=EXACT, atol=EXACT)


@KINDS
@COUPLINGS
def test_gauge_symmetry(kind, self_coupling):
    p = Problem()
    sign = np.random.default_rng(0).choice([-1.0, 1.0], NUM_NEURONS)
    drift, states = drift_and_flow(kind, self_coupling, p.memories, p.u, p.x)
    turned = drift_and_flow(kind, self_coupling, sign * p.memories, sign * p.u, sign * p.x)
    # Changing signs rounds nothing, so even the bits agree.
    assert_array_equal(turned[0], sign * drift)
    assert_array_equal(turned[1], sign * states)


# Models as PyTrees.


@pytest.mark.slow
@KINDS
@COUPLINGS
def test_model_passes_through_jit_vmap_and_grad(kind, self_coupling):
    problems = [Problem(seed) for seed in range(3)]
    models = [build(kind, p.memories, self_coupling) for p in problems]
    xs, us = np.stack([p.x for p in problems]), np.stack([p.u for p in problems])

    def drift(model, x, u):
        return model.drift(jnp.zeros(()), x, model.drive(u))

    one_by_one = [drift(*arguments) for arguments in zip(models, xs, us, strict=True)]
    jitted = [jax.jit(drift)(*arguments) for arguments in zip(models, xs, us, strict=True)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    assert_allclose(jitted, one_by_one, rtol=ROUNDING, atol=ROUNDING)
    assert_allclose(jax.vmap(drift)(batch, xs, us), one_by_one, rtol=ROUNDING, atol=ROUNDING)

    # The gradient with respect to the slope and one entry of the memories, by differences.
    def energy(model):
        return model.energy(xs[0], us[0])

    gradient = jax.grad(energy)(models[0])
    assert isinstance(gradient, kind)
    h = 1e-5
    for where, slot in (
        (lambda m: m.activation.slope, gradient.activation.slope),
        (lambda m: m.memories, gradient.memories[1, 2]),
    ):
        direction = jnp.zeros_like(where(models[0]))
        direction = direction + 1 if direction.ndim == 0 else direction.at[1, 2].set(1)
        up, down = (
            energy(eqx.tree_at(where, models[0], where(models[0]) + step * direction))
            for step in (h, -h)
        )
        assert_allclose(slot, (up - down) / (2 * h), rtol=1e-7, atol=1e-8)


def test_model_is_built_and_checked_inside_vmap():
    memories = np.stack([Problem(seed).memories for seed in range(3)])
    x = jnp.asarray(Problem().x)

    def overlaps(patterns):
        return hj.IDPHopfield(patterns).overlaps(x)

    expected = [overlaps(patterns) for patterns in memories]
    assert_allclose(jax.vmap(overlaps)(memories), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.slow
@KINDS
def test_other_numbers_do_not_compile_anew(kind):
    traces = []

    def count(t, x):
        traces.append(t)
        return x

    def run(seed, slope, strength, key):
        p = Problem(seed)
        model = build(kind, p.memories, False, slope)
        noise = hj.AdditiveNoise(strength)
        return hj.solve(
            model, p.u, p.x, t1=0.1, dt=0.01, noise=noise, key=jax.random.key(key), save_fn=count
        )

    first = run(0, 10.0, 0.5, 0)
    compiled = len(traces)
    assert compiled > 0
    second = run(1, jnp.asarray(3.0), 2, 1)
    assert len(traces) == compiled
    assert not np.allclose(first.final_state, second.final_state)


@KINDS
def test_float32_stays_float32(kind):
    p = Problem()
    model = kind(p.memories.astype(np.float32), hj.Tanh(np.float32(SLOPE)))
    x, u = p.x.astype(np.float32), p.u.astype(np.float32)
    drift = model.drift(jnp.zeros((), jnp.float32), x, model.drive(u))
    for array in (drift, model.energy(x, u), model.overlaps(x), model.saliency(u)):
        assert array.dtype == jnp.float32
