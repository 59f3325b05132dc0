"""The further networks: their equations written out in NumPy, energies, symmetries, and solves."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from every_model import MODELS, POWER, PSI, SLOPE, SOFTMAX, each_class
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj
from hopjax import theory
from hopjax.models import with_room

# What networks compute is tested here, not whether they hold it.
pytestmark = pytest.mark.filterwarnings("ignore:Without an input this classic network holds no")

NUM_MEMORIES, NUM_NEURONS = 3, 12
WEIGHTS = np.array([2.0, 1.0, 0.5])  # of a mixture; positive, as the energy of two layers needs
ROUNDING = 1e-12  # relative error of a sum of a few dozen float64 terms

KEY = jax.random.key(0)

EACH = pytest.mark.parametrize("kind", MODELS)


# All have an energy; what is left to slow runs follows its gradient to the last digits anyway.
SOLVED = each_class("rates", "two layers", "attention", decorrelated="decorrelated, classic")


class Problem:
    """Random memories, states and input; saliencies above 0, below 0, and exactly 0."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.memories = rng.choice([-1.0, 1.0], (NUM_MEMORIES, NUM_NEURONS))
        self.active = (self.memories + 1) / 2
        self.state = rng.normal(size=NUM_NEURONS + NUM_MEMORIES)
        self.x = self.state[:NUM_NEURONS]
        # Whole numbers, so that no rounding hides that the last saliency is zero.
        u = np.array([3.0, -2.0, 0.0]) @ self.memories + rng.integers(-1, 2, NUM_NEURONS)
        excess = int(self.memories[2] @ u)
        for i in range(abs(excess)):
            u[i % NUM_NEURONS] -= np.sign(excess) * self.memories[2, i % NUM_NEURONS]
        self.u = u

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The input, and none: all saliencies exactly zero."""
        return self.u, np.zeros(NUM_NEURONS)


def orthogonal() -> np.ndarray:
    """Memories whose saliencies are the weights of a mixture."""
    return np.asarray(
        hj.orthogonal_memories(num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS, key=KEY)
    )


class Seen(NamedTuple):
    """All that a model says of a state and an input."""

    drift: Any
    energy: Any
    overlaps: Any
    saliency: Any


@eqx.filter_jit
def see(model: Any, x: Any, u: Any) -> Seen:
    """One compilation for each sort of network."""
    drift = model.drift(jnp.zeros(()), x, model.drive(u))
    return Seen(drift, model.energy(x, u), model.overlaps(x), model.saliency(u))


def drift(model: Any, x: Any, u: Any) -> Any:
    return see(model, x, u).drift


def assert_close(found: Any, expected: Any) -> None:
    assert_allclose(found, expected, rtol=EXACT, atol=ROUNDING)


def projections(memories: np.ndarray, vector: np.ndarray) -> list[float]:
    """ξ^μ·v / N."""
    return [sum(row[i] * vector[i] for i in range(len(row))) / len(row) for row in memories]


def test_problem_has_saliencies_of_every_sign():
    for seed in range(3):
        p = Problem(seed)
        first, second, third = projections(p.memories, p.u)
        assert first > 0.5
        assert second < -0.5
        assert third == 0


# Firing rates.


def rate_synapses(memories, p, u, input_as):
    num_memories, n = memories.shape
    matrix = np.zeros((n, n))
    for mu in range(num_memories):
        centred = memories[mu] - p
        saliency = sum(centred[k] * u[k] for k in range(n)) / (n * p)
        weight = 1.25 * saliency if input_as == "plasticity" else 1.0
        matrix += weight * np.outer(centred, centred) / (n * p * (1 - p))
    if input_as == "plasticity":
        matrix -= np.ones((n, n)) / (n * p)
    np.fill_diagonal(matrix, 0)  # of the whole sum
    return matrix


def rate_energy(matrix, current, x, d):
    own = 0.0
    for rate in x:
        mixing = sum(part * math.log(part) for part in (rate, 1 - rate) if part > 0)
        own += rate / 2 + mixing / (2 * d)
    return own - x @ matrix @ x / 2 - current @ x


@pytest.mark.parametrize("input_as", ["plasticity", "current"])
@pytest.mark.parametrize("density", [None, 0.22, 0.5, 0.8])
def test_firing_rates_of_the_dense_equation(input_as, density):
    for seed in range(3):
        problem, d = Problem(seed), 4.0
        memories = problem.active
        model = hj.FiringRateHopfield(memories, density, slope=d, input_as=input_as)
        p = memories.mean() if density is None else density
        for u in problem.inputs():
            matrix = rate_synapses(memories, p, u, input_as)
            current = u if input_as == "current" else np.zeros_like(u)
            x = problem.x
            rates = 1 / (1 + np.exp(d * (1 - 2 * (matrix @ x + current))))
            found = see(model, x, u)
            assert_close(found.drift, rates - x)
            expected = [(row - p) @ u / (NUM_NEURONS * p) for row in memories]
            assert_close(found.saliency, expected)
            # Inside the cube, and at its corners.
            for point in (1 / (1 + np.exp(-x)), memories[0]):
                expected = rate_energy(matrix, current, point, d)
                assert_close(see(model, point, u).energy, expected)


def test_rate_overlap_is_what_active_neurons_have_more_than_silent_ones():
    for seed in range(3):
        p = Problem(seed)
        model = hj.FiringRateHopfield(p.active, 0.3, slope=4.0)
        activity = 1 / (1 + np.exp(4 * (1 - 2 * p.x)))

        def overlaps(x, model=model, u=p.u):
            return see(model, x, u).overlaps

        for mu, row in enumerate(p.active):
            expected = activity[row == 1].mean() - activity[row == 0].mean()
            assert_close(overlaps(p.x)[mu], expected)
            # A perfect copy has 1, its negative −1, and a network that is on everywhere nothing.
            assert_allclose(overlaps(200 * row - 100)[mu], 1, rtol=ROUNDING)
            assert_allclose(overlaps(100 - 200 * row)[mu], -1, rtol=ROUNDING)
        for constant in (-50.0, 0.4, 50.0):
            assert_allclose(overlaps(np.full(NUM_NEURONS, constant)), 0, atol=ROUNDING)


def test_rate_energy_outside_the_cube_is_that_of_its_nearest_point():
    p = Problem()
    model = hj.FiringRateHopfield(p.active)
    outside = 2 * p.x
    assert see(model, outside, p.u).energy == see(model, np.clip(outside, 0, 1), p.u).energy


def test_defaults_of_the_authors_rate_network():
    model = hj.FiringRateHopfield(Problem().active)
    assert model.slope == 10
    assert_allclose(model.density, Problem().active.mean(), rtol=ROUNDING)
    assert model.input_as == "plasticity"


# Attention.


@pytest.mark.parametrize("input_as", ["plasticity", "nothing"])
@pytest.mark.parametrize("least_squares", [True, False])
def test_attention_of_the_written_out_equation(input_as, least_squares):
    for seed in range(3):
        p, beta = Problem(seed), 0.3
        rng = np.random.default_rng(seed)
        for memories in (p.memories, rng.normal(size=(NUM_MEMORIES, NUM_NEURONS))):
            model = hj.DynamicAttention(
                memories, beta, input_as=input_as, least_squares=least_squares
            )
            for u in p.inputs():
                found = see(model, p.x, u)
                alpha = [row @ u / (row @ row) for row in memories]
                if least_squares:
                    alpha, *_ = np.linalg.lstsq(memories.T, u)
                assert_close(found.saliency, alpha)
                gate = [max(a, 0) if input_as == "plasticity" else 1.0 for a in alpha]
                weights = [
                    math.exp(beta * z * sum(row * p.x))
                    for z, row in zip(gate, memories, strict=True)
                ]
                expected, total = -p.x, sum(weights)
                for mu in range(NUM_MEMORIES):
                    expected = expected + memories[mu] * gate[mu] * weights[mu] / total
                assert_close(found.drift, expected)
                assert_close(found.energy, sum(p.x**2) / 2 - math.log(total) / beta)


def test_attention_overlaps_are_cosines():
    p = Problem()
    memories = np.random.default_rng(0).normal(size=(NUM_MEMORIES, NUM_NEURONS))
    model = hj.DynamicAttention(memories, 0.3)
    for mu, row in enumerate(memories):
        expected = row @ p.x / np.linalg.norm(row) / np.linalg.norm(p.x)
        assert_close(see(model, p.x, p.u).overlaps[mu], expected)
        assert_allclose(see(model, -7 * row, p.u).overlaps[mu], -1, rtol=ROUNDING)


def test_attention_of_a_silent_state_has_no_overlap_and_a_gradient():
    model = hj.DynamicAttention(Problem().memories, 0.3)
    nothing = jnp.zeros(NUM_NEURONS)
    found = see(model, nothing, nothing)
    assert_array_equal(found.overlaps, np.zeros(NUM_MEMORIES))
    assert_array_equal(found.drift, np.zeros(NUM_NEURONS))
    assert jnp.isfinite(eqx.filter_jit(lambda x: jax.jacrev(model.overlaps)(x))(nothing)).all()


# Separations, and one layer with memory neurons at their goal.


@eqx.filter_jit
def derivatives(separation, h, alpha):
    """What is sent and its Jacobian; the gated slope of the Lagrangian, and its curvature."""
    slope, curvature = jax.grad(separation.lagrangian), jax.hessian(separation.lagrangian)
    sent = separation.sent(h, alpha), jax.jacrev(separation.sent)(h, alpha)
    return sent, separation.gate(alpha) * slope(h, alpha), curvature(h, alpha)


@pytest.mark.parametrize(
    "separation",
    [hj.LinearSeparation(), SOFTMAX, *map(hj.PowerSeparation, (2.0, 2.5, 3.0, 6.0))],
)
def test_what_is_sent_is_the_gated_slope_of_a_convex_lagrangian(separation):
    rng = np.random.default_rng(0)
    for _ in range(5):
        h, alpha = rng.normal(size=NUM_MEMORIES), rng.exponential(size=NUM_MEMORIES)
        h[0] *= rng.integers(2)  # neurons at rest are met as well
        (sent, _), gated_slope, curvature = derivatives(separation, h, alpha)
        assert_close(sent, gated_slope)
        # Convex: the energies rest upon it.
        assert np.linalg.eigvalsh(curvature).min() > -ROUNDING


@pytest.mark.parametrize("separation", [hj.LinearSeparation(), hj.PowerSeparation(2), SOFTMAX])
def test_what_is_sent_is_finite_for_every_saliency(separation):
    h = np.array([-2.0, 0.0, 3.0])
    for alpha in (np.zeros(3), -np.ones(3), np.array([0.0, -1.0, 2.0])):
        (sent, jacobian), _, _ = derivatives(separation, h, alpha)
        assert np.isfinite(sent).all()
        assert np.isfinite(jacobian).all()


def test_lagrangians_of_neurons_that_are_at_rest_and_not_shown():
    # With h = g(α) m such a memory counts nothing, rather than 0/0.
    h, alpha = jnp.array([0.5, 0.0]), jnp.array([2.0, 0.0])
    assert_allclose(hj.LinearSeparation().lagrangian(h, alpha), 0.5**2 / 4, rtol=ROUNDING)
    assert_allclose(POWER.lagrangian(h, alpha), 0.5**3 / 6, rtol=ROUNDING)


def gate_and_sent(separation, h, alpha):
    """The goal's gate and what is sent, for lists of numbers."""
    if isinstance(separation, hj.SoftmaxSeparation):
        z = [max(a, 0.0) for a in alpha]
        weights = [math.exp(4.0 * value) for value in h]
        return z, [zi * w / sum(weights) for zi, w in zip(z, weights, strict=True)]
    n = 3.0 if isinstance(separation, hj.PowerSeparation) else 2.0
    return alpha, [math.copysign(abs(value) ** (n - 1), value) for value in h]


@pytest.mark.parametrize("input_as", ["plasticity", "nothing"])
@pytest.mark.parametrize("separation", [hj.LinearSeparation(), POWER, SOFTMAX])
def test_dense_memory_of_the_written_out_equation(separation, input_as):
    for seed in range(3):
        p = Problem(seed)
        model = hj.DenseHopfield(p.memories, separation, PSI, input_as=input_as)
        overlaps = projections(p.memories, np.tanh(SLOPE * p.x))
        for u in p.inputs():
            found = see(model, p.x, u)
            assert_close(found.overlaps, overlaps)
            assert_close(found.saliency, projections(p.memories, u))
            alpha = projections(p.memories, u) if input_as == "plasticity" else NUM_MEMORIES * [1.0]
            gate, _ = gate_and_sent(separation, overlaps, alpha)
            h = [g * m for g, m in zip(gate, overlaps, strict=True)]
            _, sent = gate_and_sent(separation, h, alpha)
            expected = np.array(
                [
                    -p.x[i] + sum(p.memories[mu, i] * sent[mu] for mu in range(NUM_MEMORIES))
                    for i in range(NUM_NEURONS)
                ]
            )
            assert_close(found.drift, expected)


PAIRS = pytest.mark.parametrize("separation", [hj.LinearSeparation(), hj.PowerSeparation(2)])


@PAIRS
def test_dense_memory_of_pairs_is_idp(separation):
    for seed in range(3):
        p = Problem(seed)
        dense = hj.DenseHopfield(p.memories, separation, PSI)
        idp = hj.IDPHopfield(p.memories, PSI, self_coupling=True)
        for u in p.inputs():
            for one, other in zip(see(dense, p.x, u), see(idp, p.x, u), strict=True):
                assert_allclose(one, other, rtol=ROUNDING, atol=ROUNDING)


@eqx.filter_jit
def sensitivities(model, x, u):
    """Derivatives of the drift by state and input, and of the energy by the input."""
    return *(jax.jacfwd(drift, by)(model, x, u) for by in (1, 2)), jax.grad(model.energy, 1)(x, u)


@PAIRS
@pytest.mark.parametrize("where", ["origin", "no input"])
def test_dense_memory_of_pairs_has_the_derivatives_of_idp(separation, where):
    # Memory neurons are at 0 exactly at the origin, whose stability the theory asks for, and for
    # an input of strength 0.
    p = Problem()
    x = np.zeros(NUM_NEURONS) if where == "origin" else p.x
    u = np.zeros(NUM_NEURONS) if where == "no input" else p.u
    found = sensitivities(hj.DenseHopfield(p.memories, separation, PSI), x, u)
    expected = sensitivities(hj.IDPHopfield(p.memories, PSI, self_coupling=True), x, u)
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


@PAIRS
def test_energy_of_pairs_has_the_input_derivative_of_idp(separation):
    p = Problem()  # one of whose saliencies is 0
    *_, found = sensitivities(hj.DenseHopfield(p.memories, separation, PSI), p.x, p.u)
    *_, expected = sensitivities(hj.IDPHopfield(p.memories, PSI, self_coupling=True), p.x, p.u)
    assert_close(found, expected)


# Two layers.


@pytest.mark.parametrize(
    ("separation", "self_coupling"),
    [(None, True), (None, False), (POWER, True), (SOFTMAX, True)],
)
def test_two_layers_of_the_written_out_equations(separation, self_coupling):
    for seed in range(3):
        p, tau = Problem(seed), 0.05
        model = hj.TwoLayerHopfield(
            p.memories, separation, PSI, memory_time_constant=tau, self_coupling=self_coupling
        )
        x, h = p.state[:NUM_NEURONS], p.state[NUM_NEURONS:]
        overlaps = projections(p.memories, np.tanh(SLOPE * x))
        for u in p.inputs():
            found = see(model, p.state, u)
            alpha = projections(p.memories, u)
            assert_close(found.overlaps, overlaps)
            assert_close(found.saliency, alpha)
            gate, sent = gate_and_sent(separation, h, alpha)
            expected = []
            for i in range(NUM_NEURONS):
                moved = -x[i] + sum(p.memories[mu, i] * sent[mu] for mu in range(NUM_MEMORIES))
                if not self_coupling:
                    moved -= sum(alpha) / NUM_NEURONS * np.tanh(SLOPE * x[i])
                expected.append(moved)
            for mu in range(NUM_MEMORIES):
                expected.append((gate[mu] * overlaps[mu] - h[mu]) / tau)
            assert_close(found.drift, np.array(expected))


def test_state_of_two_layers():
    p = Problem()
    model, state = hj.TwoLayerHopfield(p.memories, memory_time_constant=0.02), jnp.asarray(p.state)
    assert model.state_size == NUM_NEURONS + NUM_MEMORIES
    x, h = model.features(state), model.memory_neurons(state)
    assert_array_equal(x, p.state[:NUM_NEURONS])
    assert_array_equal(h, p.state[NUM_NEURONS:])
    assert_array_equal(model.initial_state(x), np.append(x, np.zeros(NUM_MEMORIES)))
    assert model.fastest_time_constant == 0.02
    assert hj.TwoLayerHopfield(p.memories, memory_time_constant=7).fastest_time_constant == 1


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind.startswith("two layers")])
def test_memory_neurons_at_their_goal_leave_the_reduced_network(kind):
    for seed in range(3):
        p = Problem(seed)
        model = MODELS[kind](p.memories)
        reduced = model.reduced()
        for u in p.inputs():
            expected = see(reduced, p.x, u)
            goal = model.separation.gate(expected.saliency) * expected.overlaps
            found = see(model, np.append(p.x, goal), u)
            moved, changed = np.split(found.drift, [NUM_NEURONS])
            assert_allclose(moved, expected.drift, rtol=ROUNDING, atol=ROUNDING)
            assert_allclose(changed, 0, atol=100 * ROUNDING)  # rounding times 1/τ
            assert_allclose(found.energy, expected.energy, rtol=ROUNDING, atol=ROUNDING)


def test_reduced_networks_are_of_the_right_kind():
    memories = Problem().memories
    for self_coupling in (True, False):
        reduced = hj.TwoLayerHopfield(memories, self_coupling=self_coupling).reduced()
        assert isinstance(reduced, hj.IDPHopfield)
        assert reduced.self_coupling is self_coupling
        assert eqx.tree_equal(reduced, hj.IDPHopfield(memories, self_coupling=self_coupling))
    reduced = hj.TwoLayerHopfield(memories, POWER, PSI).reduced()
    assert eqx.tree_equal(reduced, hj.DenseHopfield(memories, POWER, PSI))


# All solves of one network share one compilation: of this length, with noise on each entry.

SIGMA, DT, T1 = 0.3, 0.01, 1.0


def everything(t, state):
    del t
    return state


def run(model: Any, u: Any, x0: Any, strength: Any = 0.0) -> hj.Trajectory:
    """Every state of a solve with two-point noise of a strength for each entry."""
    strength = np.broadcast_to(strength, model.state_size)
    noise = hj.AdditiveNoise(strength, "two_point")
    return hj.solve(
        model, u, x0, t1=T1, dt=DT, noise=noise, key=KEY, save_every=DT, save_fn=everything
    )


def kicks(model: Any, u: Any, solved: hj.Trajectory) -> np.ndarray:
    """What was added to the drift in each step, in units of √dt."""
    states = np.asarray(solved.saved)
    velocities = np.stack([drift(model, state, u) for state in states[:-1]])
    return (states[1:] - states[:-1] - DT * velocities) / math.sqrt(DT)


def two_layers(tau: Any, memories: Any = None) -> hj.TwoLayerHopfield:
    memories = Problem().memories if memories is None else memories
    return hj.TwoLayerHopfield(memories, None, PSI, memory_time_constant=tau)


@pytest.mark.slow
def test_two_layers_become_one_in_proportion_to_the_time_constant():
    memories, x0 = orthogonal(), Problem(2).x
    u = hj.mixture(memories, WEIGHTS)
    # Euler's steps of both err alike, and make memory neurons lag by τ_m as exact ones do.
    one = np.asarray(run(hj.IDPHopfield(memories, PSI, self_coupling=True), u, x0).saved)
    distances = []
    for tau in (0.04, 0.02, 0.01):
        two = np.asarray(run(two_layers(tau, memories), u, x0).saved)[:, :NUM_NEURONS]
        distances.append(abs(two - one).max())
    assert distances[-1] < 0.02
    assert_allclose(np.log2(np.divide(distances[:-1], distances[1:])), 1, atol=0.1)


@pytest.mark.slow
def test_a_step_beyond_the_time_constant_of_memory_neurons_is_refused():
    p = Problem()
    assert run(two_layers(DT), p.u, p.x).ok  # just as long is allowed
    with pytest.raises(ValueError, match=r"^Argument `dt` must not exceed .* 0\.005, got 0\.01\.$"):
        run(two_layers(0.005), p.u, p.x)


@pytest.mark.slow
def test_a_step_beyond_a_traced_time_constant_fails_at_run_time():
    p = Problem()
    batch = eqx.filter_jit(jax.vmap(lambda tau: run(two_layers(tau), p.u, p.x).final_state))
    assert jnp.isfinite(batch(jnp.array([0.01, 0.2]))).all()
    with pytest.raises(eqx.EquinoxRuntimeError, match="Argument `dt` must be at most the model's"):
        batch(jnp.array([0.2, 0.005]))


def hasty_setting(key):
    # Only the first look, which is at the ensemble's own key, sees a time constant that will do.
    own = jnp.all(jax.random.key_data(key) == jax.random.key_data(KEY))
    return hj.Trial(two_layers(jnp.where(own, 0.2, 0.05)), Problem().u, Problem().x, target=0)


@pytest.mark.long
def test_a_step_beyond_the_time_constant_of_a_trial_is_refused():
    with pytest.raises(ValueError, match=r"`dt` must be at most .*, which it is not in trial 0\.$"):
        hj.solve_ensemble(hasty_setting, trials=2, key=KEY, t1=0.2, dt=0.1)


def test_noise_on_features_leaves_memory_neurons_smooth():
    p, model = Problem(), two_layers(0.02)
    strength = model.noise_strength(features=0.7)
    assert_array_equal(strength, np.repeat([0.7, 0], [NUM_NEURONS, NUM_MEMORIES]))
    assert_array_equal(model.noise_strength(memory_neurons=2)[NUM_NEURONS:], 2)
    added = kicks(model, p.u, run(model, p.u, p.x, strength))
    # Increments ±√dt for features, none for memory neurons.
    assert_allclose(abs(added[:, :NUM_NEURONS]), 0.7, rtol=EXACT)
    assert_allclose(added[:, NUM_NEURONS:], 0, atol=ROUNDING)


# Decorrelated memories.


@pytest.mark.parametrize("least_squares", [True, False])
@pytest.mark.parametrize("input_as", ["plasticity", "current"])
def test_decorrelated_network_by_the_pseudo_inverse(input_as, least_squares):
    for seed in range(3):
        p = Problem(seed)
        model = hj.DecorrelatedHopfield(
            p.memories, PSI, input_as=input_as, least_squares=least_squares
        )
        activity = np.tanh(SLOPE * p.x)
        dual = np.linalg.pinv(p.memories)
        for u in p.inputs():
            found = see(model, p.x, u)
            assert_close(found.overlaps, projections(p.memories, activity))
            nearest, *_ = np.linalg.lstsq(p.memories.T, u)
            alpha = nearest if least_squares else projections(p.memories, u)
            assert_close(found.saliency, alpha)
            weights, current = (
                (alpha, 0) if input_as == "plasticity" else (np.ones(NUM_MEMORIES), u)
            )
            synapses = sum(
                weights[mu] * np.outer(p.memories[mu], dual[:, mu]) for mu in range(NUM_MEMORIES)
            )
            assert_close(found.drift, -p.x + synapses @ activity + current)


def test_decorrelated_synapses_map_each_memory_on_its_multiple():
    # A saturated state is a memory itself: what is left of the drift is W(u) ξ^ν.
    p = Problem()
    model = hj.DecorrelatedHopfield(p.memories)
    for nu, pattern in enumerate(p.memories):
        found = see(model, 100 * pattern, p.u)
        expected = found.saliency[nu] * pattern
        assert_allclose(found.drift + 100 * pattern, expected, rtol=EXACT, atol=100 * ROUNDING)


def test_least_squares_saliencies_are_the_weights_of_a_mixture():
    p, weights = Problem(), np.array([2.0, -0.5, 0.0])
    model = hj.DecorrelatedHopfield(p.memories)
    shown = hj.mixture(p.memories, weights)
    assert_close(see(model, p.x, shown).saliency, weights)
    # What no mixture shows adds nothing.
    outside = p.x - p.memories.T @ np.linalg.lstsq(p.memories.T, p.x)[0]
    assert_close(see(model, p.x, shown + outside).saliency, weights)


def test_orthogonal_memories_need_no_decorrelation():
    p, memories = Problem(), orthogonal()
    driven = hj.DecorrelatedHopfield(memories, PSI)
    classic = hj.DecorrelatedHopfield(memories, PSI, input_as="current")
    for u in p.inputs():
        found = see(driven, p.x, u)
        expected = see(hj.IDPHopfield(memories, PSI, self_coupling=True), p.x, u)
        assert_allclose(found.drift, expected.drift, rtol=ROUNDING, atol=ROUNDING)
        assert_allclose(found.saliency, expected.saliency, rtol=ROUNDING, atol=ROUNDING)
        found = see(classic, p.x, u)
        expected = see(hj.ClassicHopfield(memories, PSI, self_coupling=True), p.x, u)
        for one, other in zip(found, expected, strict=True):
            assert_allclose(one, other, rtol=ROUNDING, atol=ROUNDING)


def refused(memories: Any) -> str:
    """What is said of memories that depend on each other. Warnings are errors here."""
    right = r"^Argument `memories` must be linearly independent \(least eigenvalue .*\), got "
    with pytest.raises(ValueError, match=right) as caught:
        hj.DynamicAttention(np.stack(list(memories)), 1.0, least_squares=True)
    return str(caught.value).split("), got ")[1]


def test_memories_that_depend_on_each_other_are_named():
    first, second, third = Problem().memories
    assert refused([first, second, first]) == ("memories[0] and memories[2], which are identical.")
    assert refused([second, first, third, -first]) == (
        "memories[1] and memories[3], which are mirror images."
    )
    assert refused([first, second, 2 * second]) == (
        "memories[1] and memories[2], one of which is a multiple of the other."
    )
    # The pair counts most, whatever else depends.
    assert refused([first, second, first + second, first]) == (
        "memories[0] and memories[3], which are identical."
    )
    mixed = "each of which is all but a mixture of the others."
    assert refused([first, second, third, first - 3 * third]) == (
        f"memories[0], memories[2] and memories[3], {mixed}"
    )
    # Of several mixtures the first, whatever comes behind.
    assert refused([third, first, second, first + second, first + third, first - third]) == (
        f"memories[1], memories[2] and memories[3], {mixed}"
    )
    nearly = first + second + 1e-4 * third
    assert refused([first, second, nearly]) == f"memories[0], memories[1] and memories[2], {mixed}"
    nearly = first + 1e-4 * second
    assert refused([first, third, nearly]) == (
        "memories[0] and memories[2], one of which is all but a multiple of the other."
    )
    assert refused([1e-3 * second, first]) == (
        "memories[0], which is all but zero beside the others."
    )


def test_of_many_memories_that_depend_on_each_other_some_are_named():
    # More than neurons: the first 13 of them always depend.
    found = refused(np.random.default_rng(0).normal(size=(30, 12)))
    assert found == (
        ", ".join(f"memories[{row}]" for row in range(8))
        + " and 5 more, each of which is all but a mixture of the others."
    )


def test_correlations_have_a_derivative_by_orthogonal_memories():
    # Their eigenvalues are all equal, where those of eigenvectors do not exist.
    memories, p = jnp.asarray(orthogonal()), Problem()

    def saliency(memories):
        return hj.DecorrelatedHopfield(memories, PSI).saliency(jnp.asarray(p.u))[0]

    assert jnp.isfinite(eqx.filter_jit(jax.grad(saliency))(memories)).all()


# Energies.

# Those whose drift has not the direction of ∇E, entry by entry.
NO_GRADIENT = [kind for kind in MODELS if kind.startswith(("rates", "two layers"))]


def random_states(kind: str, size: int, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind.startswith("rates"):  # the cube is where they live
        return rng.uniform(size=(count, size))
    return rng.normal(size=(count, size))


@eqx.filter_jit
def compiled_slopes(model, states, u):
    gradients = jax.vmap(jax.grad(model.energy), (0, None))(states, u)
    return gradients, jax.vmap(drift, (None, 0, None))(model, states, u)


def slopes(model: Any, states: np.ndarray, u: Any) -> tuple[np.ndarray, np.ndarray]:
    """∇E and the drift at each of many states."""
    gradients, drifts = compiled_slopes(model, states, u)
    return np.asarray(gradients), np.asarray(drifts)


@pytest.mark.parametrize("kind", NO_GRADIENT)
def test_energy_never_rises_along_the_drift(kind):
    # Its rate ∇E·drift, at many states: no step of a solver has a part in it.
    memories = orthogonal()
    model, u = MODELS[kind](memories), hj.mixture(memories, WEIGHTS)
    gradients, drifts = slopes(model, random_states(kind, model.state_size), u)
    rates = np.sum(gradients * drifts, axis=1)
    rounding = ROUNDING * np.linalg.norm(gradients, axis=1) * np.linalg.norm(drifts, axis=1)
    assert (rates <= rounding).all()
    assert np.median(rates) < -0.01  # it does fall


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind.startswith("attention")])
def test_attention_follows_the_gradient_of_its_energy(kind):
    p = Problem()
    model = MODELS[kind](p.memories)
    gradients, drifts = slopes(model, random_states(kind, NUM_NEURONS), p.u)
    assert_allclose(drifts, -gradients, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "kind", ["dense", "dense, no input", "dense, softmax", "decorrelated, classic"]
)
def test_drift_is_the_negative_energy_gradient_over_the_activation_slope(kind):
    p = Problem()
    model = MODELS[kind](p.memories)
    states = random_states(kind, NUM_NEURONS)
    gradients, drifts = slopes(model, states, p.u)
    assert_allclose(
        drifts, -gradients * np.cosh(SLOPE * states) ** 2 / SLOPE, rtol=EXACT, atol=EXACT
    )


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind.startswith("two layers")])
def test_energy_of_two_layers_falls_at_the_stated_rate(kind):
    memories = orthogonal()
    model, u = MODELS[kind](memories), hj.mixture(memories, WEIGHTS)
    states = random_states(kind, model.state_size)
    gradients, drifts = slopes(model, states, u)
    tau = float(model.memory_time_constant)
    for state, gradient, moved in zip(states[:20], gradients, drifts, strict=False):
        x, h = np.split(state, [NUM_NEURONS])
        dx, dh = np.split(moved, [NUM_NEURONS])
        steepness = SLOPE / np.cosh(SLOPE * x) ** 2
        curvature = np.asarray(derivatives(model.separation, h, WEIGHTS)[2])
        expected = -sum(steepness * dx**2) - NUM_NEURONS * tau * dh @ curvature @ dh
        assert_allclose(gradient @ moved, expected, rtol=EXACT)


@pytest.mark.parametrize("kind", ["decorrelated", "decorrelated, projected"])
def test_no_energy_is_known_of_decorrelated_memories_with_plasticity(kind):
    p = Problem()
    assert np.isnan(see(MODELS[kind](p.memories), p.x, p.u).energy)


@pytest.mark.slow
@SOLVED
def test_energy_never_rises_along_a_flow(kind):
    memories = orthogonal()
    model, u = MODELS[kind](memories), hj.mixture(memories, WEIGHTS)
    states = run(model, u, random_states(kind, NUM_NEURONS, 1)[0]).saved
    energies = np.array([see(model, state, u).energy for state in np.asarray(states)])
    assert (np.diff(energies) <= ROUNDING * abs(energies).max()).all()
    assert energies[-1] < energies[0] - 0.5  # it did move


# Symmetries.


@pytest.mark.parametrize("kind", ["dense", "dense, no input", "decorrelated", "two layers, power"])
def test_symmetry_under_a_change_of_sign(kind):
    p = Problem()
    model = MODELS[kind](p.memories)
    x = p.state[: model.state_size]
    assert_array_equal(drift(model, -x, p.u), -drift(model, x, p.u))


def test_a_current_changes_its_sign_too():
    p = Problem()
    model = MODELS["decorrelated, classic"](p.memories)
    assert_array_equal(drift(model, -p.x, -p.u), -drift(model, p.x, p.u))


@pytest.mark.parametrize("kind", ["rates", "attention", "dense, softmax"])
def test_networks_that_know_a_memory_from_its_mirror_image(kind):
    p = Problem()
    model = MODELS[kind](p.memories)
    assert not np.allclose(drift(model, -p.x, p.u), -drift(model, p.x, p.u), atol=0.1)


def rearranged(state: np.ndarray, change: Any) -> np.ndarray:
    """The state with its features changed, its memory neurons as they are."""
    return np.append(change(state[:NUM_NEURONS]), state[NUM_NEURONS:])


@EACH
def test_symmetry_under_a_permutation_of_the_neurons(kind):
    p = Problem()
    order = np.random.default_rng(0).permutation(NUM_NEURONS)
    model, other = MODELS[kind](p.memories), MODELS[kind](p.memories[:, order])
    x = p.state[: model.state_size]
    expected = rearranged(np.asarray(drift(model, x, p.u)), lambda v: v[order])
    found = drift(other, rearranged(x, lambda v: v[order]), p.u[order])
    assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if not kind.startswith("rates")])
def test_gauge_symmetry(kind):
    p = Problem()
    sign = np.random.default_rng(0).choice([-1.0, 1.0], NUM_NEURONS)
    model, other = MODELS[kind](p.memories), MODELS[kind](sign * p.memories)
    x = p.state[: model.state_size]
    expected = rearranged(np.asarray(drift(model, x, p.u)), lambda v: sign * v)
    found = drift(other, rearranged(x, lambda v: sign * v), sign * p.u)
    assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


# Memories learnt and forgotten.


@EACH
def test_a_memory_learnt_and_forgotten_leaves_no_trace(kind):
    p = Problem()
    model = MODELS[kind](p.memories)
    pattern = np.random.default_rng(9).choice([-1.0, 1.0], NUM_NEURONS)
    if kind.startswith("rates"):
        pattern = (pattern + 1) / 2
    larger = model.with_memory(pattern)
    assert type(larger) is type(model)
    assert larger.memories.dtype == model.memories.dtype
    assert_array_equal(larger.memories, np.vstack([model.memories, pattern]))
    assert eqx.tree_equal(larger.without_memory(NUM_MEMORIES), model)
    x = p.state[: model.state_size]
    assert_array_equal(drift(larger.without_memory(NUM_MEMORIES), x, p.u), drift(model, x, p.u))
    smaller = model.without_memory(1)
    assert_array_equal(smaller.memories, np.delete(model.memories, 1, axis=0))
    # Bits included: the last one is again where it was.
    assert eqx.tree_equal(smaller.with_memory(model.memories[1]).without_memory(2), smaller)


PAPER = {
    kind.__name__: lambda m, kind=kind: kind(m, PSI)
    for kind in (hj.IDPHopfield, hj.ClassicHopfield)
}


@pytest.mark.parametrize("kind", MODELS | PAPER)
def test_absent_memories_count_nowhere(kind):
    p = Problem()
    model = (MODELS | PAPER)[kind](p.memories)
    padded = with_room(model, NUM_MEMORIES + 2)
    x = p.state[: model.state_size]
    found = see(padded, np.append(x, np.zeros(padded.state_size - x.size)), p.u)
    expected = see(model, x, p.u)
    for name, size in (("drift", x.size), ("overlaps", NUM_MEMORIES), ("saliency", NUM_MEMORIES)):
        value = np.asarray(getattr(found, name))
        assert_close(value[:size], getattr(expected, name))
        assert_array_equal(value[size:], 0)
    assert_close(found.energy, expected.energy)


def test_what_is_not_of_the_memories_stays():
    p = Problem()
    model = hj.FiringRateHopfield(p.active, 0.2, slope=3.0, input_as="current")
    larger = model.with_memory(1 - p.active[0])
    assert larger.density == 0.2  # not the share of ones anew
    assert larger.slope == 3
    assert larger.input_as == "current"
    model = hj.TwoLayerHopfield(
        p.memories, None, hj.Erf(2.0), memory_time_constant=0.03, self_coupling=False
    ).without_memory(0)
    assert model.memory_time_constant == 0.03
    assert model.self_coupling is False
    assert isinstance(model.activation, hj.Erf)


def test_the_paper_networks_learn_and_forget_too():
    p = Problem()
    for kind in (hj.IDPHopfield, hj.ClassicHopfield):
        model = kind(p.memories[:2], PSI, self_coupling=True)
        larger = kind(p.memories, PSI, self_coupling=True)
        assert eqx.tree_equal(model.with_memory(p.memories[2]), larger)
        assert eqx.tree_equal(larger.without_memory(2), model)


def test_a_traced_pattern_is_learnt():
    p = Problem()
    model = MODELS["decorrelated"](p.memories[:2])

    @eqx.filter_jit
    def learnt(pattern):
        return model.with_memory(pattern).saliency(p.u)

    expected = MODELS["decorrelated"](p.memories).saliency(p.u)
    assert_close(learnt(p.memories[2]), expected)
    with pytest.raises(eqx.EquinoxRuntimeError, match="`memories` must be linearly independent"):
        learnt(-p.memories[0])


# Everything under transformations and in solves.


@pytest.mark.parametrize(
    "kind", ["rates", "two layers", "attention, nearest", "dense", "decorrelated"]
)
def test_models_are_built_and_checked_inside_jit_and_vmap(kind):
    p = Problem()
    stacked = np.stack([Problem(seed).memories for seed in range(3)])
    x = jnp.asarray(p.state[: MODELS[kind](p.memories).state_size])

    def moved(memories):
        return drift(MODELS[kind](memories), x, p.u)

    expected = [moved(memories) for memories in stacked]
    assert_close(jax.jit(jax.vmap(moved))(stacked), expected)


@EACH
def test_float32_stays_float32(kind):
    p = Problem()
    model = MODELS[kind](p.memories.astype(np.float32))
    x, u = p.state[: model.state_size].astype(np.float32), p.u.astype(np.float32)
    for leaf in jax.tree.leaves(model):
        assert leaf.dtype == jnp.float32
    start = eqx.filter_eval_shape(model.initial_state, x[:NUM_NEURONS])
    for array in (*eqx.filter_eval_shape(see, model, x, u), start):
        assert array.dtype == jnp.float32


@pytest.mark.slow
@SOLVED
def test_a_solve_adds_two_point_noise_to_the_drift(kind):
    p = Problem()
    model = MODELS[kind](p.memories)
    solved = run(model, p.u, p.x, SIGMA)
    assert_allclose(abs(kicks(model, p.u, solved)), SIGMA, rtol=EXACT)
    assert_close(solved.overlaps[-1], see(model, solved.final_state, p.u).overlaps)


@pytest.mark.slow
@each_class("two layers")
def test_a_gradient_through_gaussian_noise_against_central_differences(kind):
    p, key = Problem(), jax.random.key(1)
    model, noise = MODELS[kind](p.memories), hj.AdditiveNoise(SIGMA)

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def overlap(strength):
        u = strength * jnp.asarray(p.u)
        solved = hj.solve(model, u, p.x, t1=T1, dt=10 * DT, noise=noise, key=key)
        return jnp.mean(solved.overlaps, axis=0) @ jnp.array([1.0, 0.7, -0.4])

    h = 1e-4
    values, gradients = overlap(jnp.array([1, 1 + h, 1 - h]))
    assert abs(gradients[0]) > 1e-3
    assert_allclose(gradients[0], (values[1] - values[2]) / (2 * h), rtol=1e-6)


@each_class()
def test_an_ensemble_holds_the_memory_that_is_shown(kind):
    memories = orthogonal()
    model = MODELS[kind](memories)
    # Strong enough for each of them to hold the first memory at this noise.
    shown = np.asarray(model.memories[0])
    u = np.array([4.0, 0.5, 0.2]) @ np.asarray(model.memories)
    trial = hj.Trial(model, u, shown, hj.AdditiveNoise(0.2, "two_point"))
    criterion = hj.Criterion(0.8, mirror=False)
    ensemble = hj.solve_ensemble(trial, trials=6, key=KEY, t1=1.0, dt=0.05, criterion=criterion)
    assert ensemble.counts["right"] == 6
    assert np.ptp(ensemble.final_overlap) > 0  # noise of its own in each
    known = kind != "decorrelated"
    assert np.isfinite(ensemble.final_energy).all() == known
    assert ("final energy" in repr(ensemble)) == known


@each_class()
def test_a_report_finds_the_memory_that_is_shown(kind):
    memories = orthogonal()
    model = MODELS[kind](memories)
    u = np.array([4.0, 0.5, 0.2]) @ np.asarray(model.memories)
    report = theory.report(model, u)
    assert report.kinds[0] == "stable"
    assert report.overlaps[0] > 0.9
    assert report.growth[0] < 0
    assert report.residual[0] < 1e-9
    assert np.isnan(report.energy[0]) == (kind == "decorrelated")
    assert (report.prediction is None) == (kind != "decorrelated")
    assert type(model).__name__ in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("separation", [pytest.param(None, marks=pytest.mark.long), POWER])
def test_the_search_finds_the_same_memories_in_two_layers_and_in_one(separation):
    memories = orthogonal()
    model = hj.TwoLayerHopfield(memories, separation, PSI)
    u = hj.mixture(memories, 4 * WEIGHTS)
    for memory in range(2):
        expected = theory.find_memory(model.reduced(), u, memory)
        assert expected.found
        assert expected.overlaps[memory] > 0.5
        found = theory.find_memory(model, u, memory)
        assert_allclose(model.features(found.state), expected.state, rtol=1e-6, atol=1e-6)
        assert_allclose(found.energy, expected.energy, rtol=1e-9)
        assert found.found


@pytest.mark.long
def test_a_search_from_the_features_of_a_memory_stays_there():
    # x = α² ξ for a cubic power and features that are saturated.
    memories = orthogonal()
    model, u = hj.TwoLayerHopfield(memories, POWER, PSI), hj.mixture(memories, 4 * WEIGHTS)
    memory = 64 * memories[0]
    found = theory.find_equilibrium(model, u, memory)
    assert found.found
    assert_allclose(model.features(found.state), memory, rtol=1e-6)


ALPHA = np.array([1.5, 3.0, 0.5, 0.05])


def correlated() -> np.ndarray:
    return np.asarray(hj.correlated_memories(KEY, num_memories=4, num_neurons=64, correlation=0.5))


@pytest.mark.long  # the closed forms compile for seconds
def test_report_of_decorrelated_memories_has_the_theory_of_orthogonal_ones():
    memories, d = correlated(), 10.0
    report = theory.report(
        hj.DecorrelatedHopfield(memories, hj.Tanh(d)), hj.mixture(memories, ALPHA), noise=1.0
    )
    assert report.crosstalk > 0.4
    assert_allclose(report.saliency, ALPHA, rtol=EXACT)
    # All above 1/d, and above what the most salient one asks for, are held.
    assert report.kinds == ("stable", "stable", "stable", "absent")
    assert report.prediction is not None
    assert_array_equal(report.prediction.exists, ALPHA > 1 / d)
    assert_array_equal(report.prediction.stable, [kind == "stable" for kind in report.kinds])
    for memory in range(3):
        alpha, rival = ALPHA[memory], np.delete(ALPHA, memory).max()
        z = alpha
        for _ in range(100):
            z = alpha * np.tanh(d * z)
        slope = d / np.cosh(d * z) ** 2
        assert_allclose(report.overlaps[memory], np.tanh(d * z), rtol=1e-9)
        # Along the rival, or of the many directions in which there is no memory.
        assert_allclose(report.growth[memory], max(rival * slope, 0) - 1, atol=1e-8)
        own = z * np.tanh(d * z) - np.log(np.cosh(d * z)) / d
        energy = own - alpha * np.tanh(d * z) ** 2 / 2
        assert_allclose(report.prediction.energy[memory], energy, rtol=1e-9)
    assert np.isnan(report.energy).all()
    assert report.ends_in == (1, 0)
    assert str(report).splitlines()[-1].startswith("theory: decorrelated memories; here two")


@pytest.mark.long
def test_report_of_the_decorrelated_classic_network():
    memories = correlated()
    model = hj.DecorrelatedHopfield(memories, input_as="current")
    report = theory.report(model, np.zeros(64))
    assert report.kinds == 4 * ("stable",)
    assert report.prediction is not None
    expected = theory.well_energy(1.0, hj.Tanh(10.0))
    assert_allclose(report.energy, expected, rtol=1e-9)
    assert_allclose(report.prediction.energy, expected, rtol=1e-11)
    assert theory.report(model, 0.1 * memories[0]).prediction is None  # a current
