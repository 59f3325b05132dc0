"""The mean of a noisy network as a flow without noise, against sums by hand and simulations."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal
from uneven import Uneven

import hopjax as hj
from hopjax import theory
from hopjax.theory.flow import Flow
from hopjax.theory.states import _Search
from hopjax.theory.steps import step_response

SLOPE = 10.0
KEY = jax.random.key(0)


def alike(num_memories: int = 3, num_neurons: int = 48) -> np.ndarray:
    """Memories that resemble each other, with entries of both signs throughout."""
    sizes: dict[str, Any] = {"num_memories": num_memories, "num_neurons": num_neurons}
    return np.asarray(hj.correlated_memories(KEY, correlation=0.3, **sizes))


def mean_tanh(x: Any, variance: Any) -> np.ndarray:
    """E tanh(10 (x + √variance η)), by a sum over a fine grid of η."""
    eta = np.linspace(-9, 9, 6001)
    weights = np.exp(-(eta**2) / 2)
    weights /= weights.sum()
    spread = np.broadcast_to(np.sqrt(variance), np.shape(x))
    return np.tanh(SLOPE * (x[..., None] + spread[..., None] * eta)) @ weights


@pytest.mark.slow
@pytest.mark.parametrize("per_neuron", [False, True])
def test_flow_against_steps_by_hand(per_neuron):
    memories, dt, steps = alike(), 0.1, 30
    num_memories, num_neurons = memories.shape
    sigma = np.linspace(0.1, 2.0, num_neurons) if per_neuron else np.array(1.2)
    weights = np.array([1.5, 2.0, 0.5])
    u = weights @ memories
    alpha = memories @ u / num_neurons
    coupling = (memories.T * alpha) @ memories / num_neurons
    np.fill_diagonal(coupling, 0)
    # A neuron without coupling: x → (1 − dt) x + σ √dt η.
    final, variance, expected = 1.5 * memories[0], 0 * sigma, []
    x = final
    for _ in range(steps + 1):
        activity = mean_tanh(x, variance)
        expected.append(memories @ activity / num_neurons)
        final, x = x, x + dt * (-x + coupling @ activity)
        variance = (1 - dt) ** 2 * variance + sigma**2 * dt
    flow = theory.noisy_flow(
        hj.IDPHopfield(memories, hj.Tanh(SLOPE)),
        u,
        1.5 * memories[0],
        noise=sigma,
        t1=steps * dt,
        dt=dt,
        save_every=dt,
    )
    assert_allclose(flow.overlaps, expected, rtol=1e-9, atol=1e-9)
    assert_allclose(flow.final_state, final, rtol=1e-9, atol=1e-9)
    assert flow.ok
    assert flow.saved is None
    assert num_memories == flow.overlaps.shape[1]


@pytest.mark.slow
def test_flow_without_noise_is_the_solve():
    memories = alike()
    model = hj.ClassicHopfield(memories, hj.Tanh(SLOPE))
    shown = hj.Schedule([0.0, 1.0], np.stack([0.3 * memories[1], -0.2 * memories[2]]))
    options: dict[str, Any] = {"t1": 2.0, "dt": 0.1, "save_every": 0.5}
    flow = theory.noisy_flow(model, shown, memories[0], noise=0.0, **options)
    expected = hj.solve(model, shown, memories[0], **options)
    assert_allclose(flow.overlaps, expected.overlaps, rtol=EXACT, atol=EXACT)
    assert_array_equal(flow.ts, expected.ts)


class Leak(hj.AbstractBipolarHopfield):
    """Neurons that do nothing but relax."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation = eqx.field(default_factory=hj.Tanh)

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        return -x

    def energy(self, x, u):
        return x @ x / 2


SOLVERS = {"Euler": dfx.Euler(), "Heun": dfx.Heun(), "ShARK": dfx.ShARK(), "SRA1": dfx.SRA1()}
SOLVERS["ExponentialAdams"] = hj.ExponentialAdams()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["Euler", "Heun", "ShARK", "ExponentialAdams", pytest.param("SRA1", marks=pytest.mark.long)],
)
def test_steps_of_a_solver_have_the_noise_that_is_said(name):
    # Of 8192 independent neurons the variance is known to 1.6%; |z| < 4 fails once in 16 000 keys.
    size, dt, sigma = 8192, 0.25 if name == "ExponentialAdams" else 0.4, 1.3
    rate, factor = step_response(SOLVERS[name], dt)
    for t1 in (dt, 2.0, 16.0):
        solved = hj.solve(
            Leak(jnp.ones((1, size))),
            jnp.zeros(size),
            jnp.zeros(size),
            t1=t1,
            dt=dt,
            noise=hj.AdditiveNoise(sigma),
            key=KEY,
            solver=SOLVERS[name],
        )
        expected = (factor * sigma) ** 2 / 2 * -np.expm1(-2 * rate * t1)
        z = (np.mean(np.square(solved.final_state)) / expected - 1) / np.sqrt(2 / size)
        assert abs(z) < 4, (name, t1, z)
    effective = theory.effective_noise(sigma, dt, SOLVERS[name])
    assert_allclose(effective, factor * sigma, rtol=EXACT)


@pytest.mark.slow
def test_steps_of_euler_and_heun_in_closed_form():
    h = 0.1
    rate, factor = step_response(None, h)
    assert_allclose([rate, factor], [-np.log(1 - h) / h, 1 / np.sqrt(1 - h / 2)], rtol=EXACT)
    assert_allclose(theory.effective_noise(2.0, h), 2 * factor, rtol=EXACT)
    decay = 1 - h + h**2 / 2
    rate, factor = step_response(dfx.Heun(), h)
    assert_allclose(rate, -np.log(decay) / h, rtol=EXACT)
    assert_allclose(factor, np.sqrt(2 * h * (1 - h / 2) ** 2 / (1 - decay**2)), rtol=EXACT)
    assert step_response(None, None) == (1.0, 1.0)
    assert_allclose(step_response(hj.ExponentialAdams(), h), 1, rtol=EXACT)


def network(kind: str, memories: np.ndarray) -> Any:
    psi = hj.Tanh(SLOPE)
    match kind:
        case "classic":
            return hj.ClassicHopfield(memories, psi)
        case "IDP":
            return hj.IDPHopfield(memories, psi)
        case "decorrelated":
            return hj.DecorrelatedHopfield(memories, psi)
        case "dense":
            return hj.DenseHopfield(memories, hj.PowerSeparation(3.0), psi)
        case "softmax":
            return hj.DenseHopfield(memories, hj.SoftmaxSeparation(8.0), psi)
        case _:
            return hj.TwoLayerHopfield(memories, activation=psi, memory_time_constant=0.5)


KINDS = ["classic", "IDP", "decorrelated", "dense", "softmax", "two-layer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [k if k in ("IDP", "two-layer") else pytest.param(k, marks=pytest.mark.long) for k in KINDS],
)
def test_flow_is_the_mean_of_trials(kind):
    # A mean over 16 trials of 2000 neurons: its standard error is measured, and what is left of
    # finite N is of order 1/N. |z| < 4.5 of 63 means fails once in some 2000 keys.
    memories = alike(3, 2000)
    model = network(kind, memories)
    u = np.array([2.0, 1.0, 0.5]) @ memories * (0.2 if kind == "classic" else 1)
    sigma = {"dense": 4.0, "softmax": 1.2}.get(kind, 0.8)  # enough to be felt
    noise = hj.AdditiveNoise(sigma)
    if kind == "two-layer":
        noise = hj.AdditiveNoise(model.noise_strength(features=sigma))
    options: dict[str, Any] = {"t1": 2.0, "dt": 0.05, "save_every": 0.1}
    trials = jax.jit(
        jax.vmap(
            lambda key: hj.solve(model, u, memories[1], noise=noise, key=key, **options).overlaps
        )
    )(jax.random.split(KEY, 16))
    flow = theory.noisy_flow(model, u, memories[1], noise=noise, **options)
    again = theory.noisy_flow(model, u, memories[1], noise=sigma, **options)
    # A number is that of the features.
    assert_allclose(flow.overlaps, again.overlaps, rtol=EXACT, atol=EXACT)
    mean, error = np.mean(trials, axis=0), np.std(trials, axis=0, ddof=1) / 4
    assert (np.abs(mean - flow.overlaps)[1:] <= 4.5 * error[1:] + 1 / 2000).all()
    # It is no test of noise that does nothing.
    quiet = hj.solve(model, u, memories[1], **options)
    assert np.abs(quiet.overlaps - flow.overlaps).max() > 0.02


@pytest.mark.slow
def test_gradient_of_a_flow_against_central_differences():
    memories = alike()

    def overlap(numbers):
        sigma, strength = numbers
        model = hj.IDPHopfield(memories, hj.Tanh(SLOPE))
        u = strength * jnp.asarray([2.0, 1.0, 0.5]) @ memories
        flow = theory.noisy_flow(model, u, memories[0], noise=sigma, t1=1.0, dt=0.1)
        return flow.overlaps[-1, 0]

    point = np.array([1.1, 0.9])
    gradient = jax.jit(jax.grad(overlap))(point)
    compiled = jax.jit(jax.vmap(overlap))
    step = 1e-5
    ends = compiled(np.concatenate([point + step * np.eye(2), point - step * np.eye(2)]))
    assert_allclose(gradient, (ends[:2] - ends[2:]) / (2 * step), rtol=1e-6)


@pytest.mark.slow
def test_adaptive_steps_follow_the_exact_equation():
    memories = alike()
    model, u = hj.IDPHopfield(memories, hj.Tanh(SLOPE)), 2.0 * memories[0]
    options: dict[str, Any] = {"noise": 1.0, "t1": 2.0, "save_every": 0.5}
    exact = theory.noisy_flow(
        model,
        u,
        memories[0],
        dt=0.1,
        stepsize_controller=dfx.PIDController(rtol=1e-9, atol=1e-9),
        **options,
    )
    errors = []
    for dt in (0.05, 0.025):
        flow = theory.noisy_flow(model, u, memories[0], dt=dt, **options)
        errors.append(np.abs(flow.overlaps - exact.overlaps).max())
    assert 1.6 < errors[0] / errors[1] < 2.4  # Euler's first order, in the noise as well


class Elementwise(Leak):
    """Each neuron by itself, outside any activation."""

    def drift(self, t, x, drive):
        return x - x**3 + drive


class Squared(hj.AbstractBipolarHopfield):
    """Each neuron feels the square of its own activity besides the sums."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation = eqx.field(default_factory=hj.Tanh)

    def drive(self, u):
        return self.saliency(u)

    def drift(self, t, x, drive):
        own = 0.8 * self.activation(x) ** 2
        return -x + (drive * self.overlaps(x)) @ self.memories + own

    def energy(self, x, u):
        return x @ x / 2


@pytest.mark.slow
def test_noise_that_does_not_average_out_is_refused():
    memories = alike()
    u = memories[0]
    options: dict[str, Any] = {"t1": 1.0, "dt": 0.1}

    def refused(model, noise, text):
        with pytest.raises(ValueError, match=text):
            theory.noisy_flow(model, u, u, noise=noise, **options)
        with pytest.raises(ValueError, match=text):
            theory.noisy_model(model, noise)

    refused(
        hj.DynamicAttention(memories, 0.3), 1.0, "`model`.*DynamicAttention: its neurons have no"
    )
    sparse = hj.sparse_memories(KEY, num_memories=2, num_neurons=48, density=0.2)
    refused(hj.FiringRateHopfield(sparse), 1.0, "`model`.*FiringRateHopfield: its neurons have no")
    refused(Elementwise(jnp.asarray(memories)), 1.0, "Elementwise: its drift is not −x plus")
    refused(Squared(jnp.asarray(memories)), 1.0, "Squared: the activity of a single neuron enters")
    model = hj.IDPHopfield(memories)
    refused(model, hj.MultiplicativeNoise(lambda t, x: x), "`noise` must be additive.*Multiplic")
    refused(model, -1.0, "`noise`")
    refused(model, np.ones(5), "`noise`")
    two = hj.TwoLayerHopfield(memories)
    everywhere = hj.AdditiveNoise(np.ones(two.state_size))
    refused(two, everywhere, "`noise` must be zero on memory neurons")
    loud = hj.AdditiveNoise(two.noise_strength(features=1.0, memory_neurons=0.1))
    refused(two, loud, "`noise` must be zero on memory neurons.*does not average out")


class MemoryNeuronsFirst(hj.AbstractHopfield):
    """Two layers whose state is (h, x), not (x, h)."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation

    @property
    def state_size(self):
        return sum(self.memories.shape)

    @property
    def fastest_time_constant(self):
        return 0.1

    @property
    def overlap_measures_size(self):
        return True

    def initial_state(self, x0):
        return jnp.append(jnp.zeros_like(self.memories[:, 0]), x0)

    def features(self, state):
        return state[len(self.memories) :]

    def saliency(self, u):
        return self.memories @ u / u.size

    def drive(self, u):
        return self.saliency(u)

    def overlaps(self, x):
        return self.memories @ self.activation(self.features(x)) / self.memories.shape[1]

    def drift(self, t, x, drive):
        h = x[: len(self.memories)]
        return jnp.append(
            (drive * self.overlaps(x) - h) / 0.1, h @ self.memories - self.features(x)
        )

    def energy(self, x, u):
        return jnp.full((), jnp.nan)


@pytest.mark.slow
def test_a_model_says_which_entries_of_its_state_are_features():
    memories = jnp.asarray(alike())
    mine = MemoryNeuronsFirst(memories, hj.Tanh(SLOPE))
    num_memories, num_neurons = memories.shape
    quiet = np.concatenate([np.zeros(num_memories), np.full(num_neurons, 0.7)])
    noisy: Any = theory.noisy_model(mine, hj.AdditiveNoise(quiet))
    assert_array_equal(noisy.activation.noise, quiet[num_memories:])
    with pytest.raises(ValueError, match="`noise` must be zero on memory neurons and all else"):
        theory.noisy_model(mine, hj.AdditiveNoise(quiet[::-1].copy()))
    # Beside a state are others with other features, and the same memory neurons.
    beside = _Search(Flow(mine), memories[0]).disturbed(mine.initial_state(memories[0]))
    assert (beside[1:, num_memories:] != beside[0, num_memories:]).all()
    assert (beside[:, :num_memories] == 0).all()
    # Newton's method starts with memory neurons that have followed the features.
    ours = hj.TwoLayerHopfield(memories, None, hj.Tanh(SLOPE), memory_time_constant=0.1)
    found, expected = (
        theory.find_equilibrium(model, 2.0 * memories[0], memories[0]) for model in (mine, ours)
    )
    assert bool(found.found)
    assert_allclose(found.overlaps, expected.overlaps, rtol=1e-9)


@pytest.mark.slow
def test_noisy_model_rests_where_the_closed_form_says():
    memories = np.asarray(hj.orthogonal_memories(num_memories=3, num_neurons=64))
    model = hj.IDPHopfield(memories, hj.Tanh(SLOPE), self_coupling=True)
    u = hj.mixture(memories, np.array([3.0, 1.0, 0.5]))
    noisy = theory.noisy_model(model, 1.4)
    found = theory.find_equilibrium(noisy, u, 3 * memories[0])
    expected = float(theory.noisy_overlap(3.0, 1.4, hj.Tanh(SLOPE)))
    assert_allclose(found.overlaps, [expected, 0, 0], atol=1e-9)


@pytest.mark.slow
def test_activation_with_a_slope_per_neuron_under_noise():
    slopes, noise = np.array([0.5, 3.0, 10.0, 40.0]), np.array([0.1, 0.9, 0.3, 2.0])
    x = np.array([0.3, -0.2, 0.7, 0.1])
    noisy = theory.NoisyActivation(Uneven(jnp.asarray(slopes)), noise)
    one_by_one = [theory.NoisyActivation(hj.Tanh(d), s) for d, s in zip(slopes, noise, strict=True)]
    for method in ("__call__", "derivative", "antiderivative"):
        each = zip(one_by_one, x, strict=True)
        expected = [getattr(one, method)(jnp.asarray(at)) for one, at in each]
        assert_allclose(getattr(noisy, method)(x), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_a_model_that_is_closed_over_can_be_compiled():
    memories = alike()
    model = hj.IDPHopfield(memories, hj.Tanh(SLOPE))

    def final(sigma):
        flow = theory.noisy_flow(model, memories[0], memories[0], noise=sigma, t1=0.5, dt=0.1)
        return flow.overlaps[-1]

    assert_allclose(jax.jit(final)(1.0), final(1.0), rtol=EXACT)
