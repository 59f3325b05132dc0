"""Equilibria found numerically, the thresholds in the flow of the solver, and the report."""

import functools
import itertools
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize

import hopjax as hj
from hopjax import theory
from hopjax.theory.report import predict
from hopjax.theory.witness import closed_form

NUM_NEURONS = 32

COUPLINGS = pytest.mark.parametrize("self_coupling", [False, True])


def orthogonal(num_memories: int = 4, num_neurons: int = NUM_NEURONS) -> np.ndarray:
    key = jax.random.key(0)
    return np.asarray(
        hj.orthogonal_memories(num_memories=num_memories, num_neurons=num_neurons, key=key)
    )


def random(num_memories: int = 4) -> np.ndarray:
    return np.random.default_rng(0).choice([-1.0, 1.0], (num_memories, NUM_NEURONS))


def idp(memories: Any, slope: Any = 10.0, self_coupling: bool = False) -> hj.IDPHopfield:
    return hj.IDPHopfield(memories, hj.Tanh(slope), self_coupling=self_coupling)


def dense_coupling(memories, weights, self_coupling):
    coupling = np.einsum("p,pi,pj->ij", weights, memories, memories) / memories.shape[1]
    if not self_coupling:
        np.fill_diagonal(coupling, 0)
    return coupling


def dense_drift(memories, weights, x, self_coupling, slope=10.0):
    return -x + dense_coupling(memories, weights, self_coupling) @ np.tanh(slope * x)


def dense_jacobian(memories, weights, x, self_coupling, slope=10.0):
    steepness = slope / np.cosh(slope * x) ** 2
    return -np.eye(x.size) + dense_coupling(memories, weights, self_coupling) * steepness


# The thresholds, as the solver sees them: a small perturbation grows or decays.

DT, T1 = 0.01, 2.0
OTHERS = np.array([0.7, 3.0, 0.5, 0.2])  # saliencies in units of 1/d; the first one is varied


def threshold_saliency(which: str, slope: float, self_coupling: bool) -> float:
    """The α_0 at which memory 0 begins to exist or to be stable; S depends on it."""

    def excess(first):
        alpha = np.array([first, *OTHERS[1:]]) / slope
        alpha = theory.effective_saliency(alpha, NUM_NEURONS, self_coupling=self_coupling)
        if which == "existence":
            return float(alpha[0] - theory.existence_threshold(hj.Tanh(slope)))
        return float(alpha[0] - theory.stability_threshold(alpha[1], hj.Tanh(slope)))

    return float(optimize.brentq(excess, 0.5, 2.9, xtol=1e-13))  # pyright: ignore


@pytest.mark.slow
@COUPLINGS
def test_growth_in_the_flow_changes_sign_at_the_thresholds(self_coupling):
    memories = orthogonal()
    cases = list(itertools.product(("existence", "stability"), (1.0, 10.0), (1 - 1e-3, 1 + 1e-3)))

    def resting(alpha, slope):
        """z of memory 0, found by SciPy."""
        effective = alpha[0] - (0 if self_coupling else alpha.sum() / NUM_NEURONS)
        return optimize.brentq(lambda z: effective * np.tanh(slope * z) / z - 1, 1e-4 / slope, 5)

    slopes, alphas, starts, directions = [], [], [], []
    for which, slope, factor in cases:
        alpha = OTHERS.copy()
        alpha[0] = factor * threshold_saliency(which, slope, self_coupling)
        alpha = alpha / slope
        # Existence: the origin, along the memory itself. Stability: the memory, along its rival.
        z = 0.0 if which == "existence" else resting(alpha, slope)
        slopes.append(slope)
        alphas.append(alpha)
        starts.append(z * memories[0])
        directions.append(memories[0 if which == "existence" else 1])

    @jax.jit
    @jax.vmap
    def growth(slope, alpha, start, direction):
        model = idp(memories, slope, self_coupling)
        trajectory = hj.solve(
            model,
            hj.mixture(memories, alpha),
            start + 1e-6 * direction,
            t1=T1,
            dt=DT,
            save_every=T1,
        )
        return jnp.log((trajectory.final_state - start) @ direction / (NUM_NEURONS * 1e-6)) / T1

    arrays = map(np.array, (slopes, alphas, starts, directions))
    rates = np.asarray(growth(*arrays))
    for (which, slope, factor), alpha, start, rate in zip(
        cases, alphas, starts, rates, strict=True
    ):
        grows = (factor > 1) == (which == "existence")
        assert (rate > 0) == grows, (which, slope, factor)
        # And by how much: one Euler step multiplies by 1 + λ dt.
        removed = 0 if self_coupling else alpha.sum() / NUM_NEURONS
        steepness = slope / np.cosh(slope * abs(start[0])) ** 2
        expected = (alpha[0 if which == "existence" else 1] - removed) * steepness - 1
        assert_allclose(rate, np.log1p(expected * DT) / DT, rtol=1e-5, atol=1e-9)


# Equilibria.


@pytest.mark.slow
def test_stable_states_and_saddles_are_found():
    self_coupling = False
    memories = orthogonal()
    alpha = np.array([2.0, 2.0, 0.3, 0.2])
    model, u = idp(memories, self_coupling=self_coupling), hj.mixture(memories, alpha)
    starts = {
        "memory": 2.1 * memories[0],
        "mixture of two": 1.1 * (memories[0] + memories[1]),
        "reversed": -1.9 * memories[1],
        "origin": 1e-3 * memories[2],
    }
    found = [theory.find_equilibrium(model, u, start) for start in starts.values()]
    kinds = []
    for one in found:
        assert one.found
        x = np.asarray(one.state)
        energy = model.energy(one.state, u)
        drift = dense_drift(memories, alpha, x, self_coupling)
        assert abs(drift).max() < 1e-10
        assert_allclose(one.residual, abs(drift).max(), atol=1e-14)
        assert_allclose(one.overlaps, memories @ np.tanh(10 * x) / NUM_NEURONS, atol=1e-13)
        assert_allclose(one.energy, energy, rtol=1e-12, atol=1e-12)
        kinds.append(theory.classify(model, u, one))
        # The fastest rate decides.
        growth = np.linalg.eigvals(dense_jacobian(memories, alpha, x, self_coupling)).real.max()
        assert kinds[-1] == ("stable" if growth < 0 else "saddle")
    assert kinds == ["stable", "saddle", "stable", "saddle"]
    # Half of the neurons of the mixture rest at 0, and its overlaps are ½ each.
    assert_allclose(found[1].overlaps, [0.5, 0.5, 0, 0], atol=1e-6)
    assert np.mean(abs(found[1].state) < 1e-8) == 0.5
    assert_allclose(found[2].overlaps, [0, -1, 0, 0], atol=1e-6)
    assert_allclose(found[3].state, 0, atol=1e-10)


def test_mixture_of_two_is_no_memory():
    memories = orthogonal()
    model, u = idp(memories), hj.mixture(memories, np.array([2.0, 2.0, 0, 0]))
    found = theory.find_equilibrium(model, u, 1.1 * (memories[0] + memories[1]))
    assert theory.classify(model, u, found) == "saddle"
    assert theory.classify(model, u, found, memory=0) == "absent"
    found = theory.find_equilibrium(model, u, -2 * memories[1])
    assert theory.classify(model, u, found, memory=0) == "absent"
    assert theory.classify(model, u, found) == "stable"
    assert theory.classify(model, u, found, memory=1) == "stable"  # the mirror image counts


class Scalar(hj.AbstractBipolarHopfield):
    """dx/dt = f(x) + u of every neuron by itself."""

    memories: Float[Array, "P N"]
    rate: Any
    activation: hj.AbstractActivation = eqx.field(default_factory=hj.Tanh)

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        del t
        return self.rate(x) + drive

    def energy(self, x, u):
        return -jnp.sum(u * x)


def test_nothing_is_found_where_there_is_nothing():
    memories = np.ones((1, 3))
    model = Scalar(memories=jnp.asarray(memories), rate=lambda x: 1 + x**2)
    starts = np.array([[0.3, -2.0, 5.0], [1.0, 1.0, 1.0]])
    for start in starts:
        found = theory.find_equilibrium(model, np.zeros(3), start)
        assert not found.found
        assert theory.classify(model, np.zeros(3), found) == "absent"


NUMBERS = pytest.mark.parametrize("num_neurons", [1, 9])


@pytest.mark.slow
@NUMBERS
def test_a_search_that_runs_away_is_not_found(num_neurons):
    # Newton's method for arctan(x) = 0 overshoots more and more from beyond 1.39.
    model = Scalar(memories=jnp.ones((1, num_neurons)), rate=jnp.arctan)
    found = jax.vmap(lambda start: theory.find_equilibrium(model, jnp.zeros_like(start), start))(
        np.array([[1.0], [3.0]]) * np.ones(num_neurons)
    )
    assert_array_equal(found.found, [True, False])
    assert_allclose(found.state[0], 0, atol=1e-10)


def bistable(x):
    return x - x**3


@pytest.mark.slow
@NUMBERS
def test_roots_of_a_model_of_ones_own(num_neurons):
    # x − x³ + u: three rests, of which the middle one repels.
    model = Scalar(memories=jnp.ones((1, num_neurons)), rate=bistable)
    u = np.linspace(0.1, -0.2, num_neurons)
    roots = [np.sort(np.roots([-1, 0, 1, value]).real) for value in u]
    for which, start, kind in ((0, -1.2, "stable"), (1, 0.0, "saddle"), (2, 1.2, "stable")):
        found = theory.find_equilibrium(model, u, np.full(num_neurons, start))
        assert found.found
        assert_allclose(found.state, [row[which] for row in roots], rtol=1e-10)
        assert theory.classify(model, u, found) == kind


@pytest.mark.slow
def test_gradients_of_an_equilibrium():
    memories = orthogonal(2, 64)

    def amplitude(numbers):
        slope, *alpha = numbers
        model, u = idp(memories, slope), hj.mixture(memories, jnp.stack(alpha))
        found = theory.find_equilibrium(model, u, alpha[0] * memories[0])
        return found.state @ memories[0] / 64

    compiled = jax.jit(jax.value_and_grad(amplitude))
    point = np.array([3.0, 0.6, 0.4])
    z, gradient = compiled(point)
    assert_allclose(z, (0.6 - 1.0 / 64) * np.tanh(3 * z), rtol=1e-10)
    for axis in range(3):
        step = 1e-5 * np.eye(3)[axis]
        difference = (compiled(point + step)[0] - compiled(point - step)[0]) / 2e-5
        assert_allclose(gradient[axis], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "self_coupling"), [(hj.IDPHopfield, False), (hj.ClassicHopfield, True)]
)
def test_memories_of_a_random_network_are_where_the_flow_ends(kind, self_coupling):
    memories = random()
    u = hj.mixture(memories, np.array([2.0, 1.0, 0.8, -0.5]))
    u = 0 * u if kind is hj.ClassicHopfield else u
    model = kind(memories, hj.Tanh(10.0), self_coupling=self_coupling)
    weights = np.asarray(model.saliency(u)) if kind is hj.IDPHopfield else np.ones(4)
    coupling = dense_coupling(memories, weights, self_coupling)
    kinds = []
    for memory in range(4):
        found = theory.find_memory(model, u, memory)
        x = weights[memory] * memories[memory]
        for _ in range(1000):
            x += 0.1 * (-x + coupling @ np.tanh(10 * x))
        overlap = memories[memory] @ np.tanh(10 * x) / NUM_NEURONS
        kinds.append(theory.classify(model, u, found, memory=memory))
        if overlap > 0.8:
            assert found.found
            assert kinds[-1] == "stable"
            assert_allclose(found.state, x, atol=1e-8)
        else:
            assert kinds[-1] != "stable"
    assert kinds[0] == "stable"
    assert kinds[3] == ("absent" if kind is hj.IDPHopfield else "stable")


@pytest.mark.slow
@COUPLINGS
def test_a_memory_is_absent_a_saddle_and_stable_where_theory_says(self_coupling):
    memories = orthogonal()
    exists = threshold_saliency("existence", 10.0, self_coupling)
    stable = threshold_saliency("stability", 10.0, self_coupling)
    assert exists < stable
    for first, kind in (
        (exists * (1 - 1e-3), "absent"),
        (exists * (1 + 1e-3), "saddle"),
        (stable * (1 - 1e-3), "saddle"),
        (stable * (1 + 1e-3), "stable"),
    ):
        model = idp(memories, 10.0, self_coupling)
        u = hj.mixture(memories, np.array([first, *OTHERS[1:]]) / 10)
        found = theory.find_memory(model, u, 0)
        assert theory.classify(model, u, found, memory=0) == kind


@pytest.mark.slow
@pytest.mark.parametrize(
    "slope", [1e-6, *(pytest.param(slope, marks=pytest.mark.long) for slope in (1e-3, 1e3)), 1e6]
)
def test_memories_of_a_scaled_network(slope):
    # x, u and 1/d in other units: the same network.
    memories = orthogonal()
    u = hj.mixture(memories, np.array([30.0, 5.0, 1.2, 0.9]) / slope)
    report = theory.report(idp(memories, slope, self_coupling=True), u)
    assert_array_equal(predicted(report).exists, [True, True, True, False])
    assert_array_equal(predicted(report).stable, [True, True, False, False])
    assert report.kinds == ("stable", "stable", "saddle", "absent")


# Eigenvalues.


@COUPLINGS
@pytest.mark.parametrize("kind", [hj.IDPHopfield, hj.ClassicHopfield])
def test_leading_eigenvalues_against_the_dense_jacobian(kind, self_coupling):
    memories = random(8)
    u = hj.mixture(memories, np.linspace(3, -1, 8))
    model = kind(memories, hj.Tanh(1.0), self_coupling=self_coupling)
    weights = np.asarray(model.saliency(u)) if kind is hj.IDPHopfield else np.ones(8)
    x = 0.3 * np.random.default_rng(1).normal(size=NUM_NEURONS)
    found = theory.leading_eigenvalues(model, x, u, count=5)
    dense = np.linalg.eigvals(dense_jacobian(memories, weights, x, self_coupling, slope=1.0))
    dense = dense[np.argsort(-dense.real)]
    assert found.shape == (5,)
    assert_allclose(found, dense[:5], atol=1e-12 * abs(dense).max())


class Circular(hj.AbstractBipolarHopfield):
    """A network whose coupling is not symmetric: waves run through it."""

    memories: Float[Array, "P N"]
    coupling: Float[Array, "N N"]
    activation: hj.AbstractActivation = eqx.field(default_factory=lambda: hj.Tanh(1.0))

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        del t
        return -x + self.coupling @ self.activation(x) + drive

    def energy(self, x, u):
        del u
        return jnp.sum(x**2)


# Too few neurons for Arnoldi's method, and enough.
@pytest.mark.parametrize(("size", "count"), [(2, 2), (6, 6), (6, 1), (40, 40), (40, 38), (40, 6)])
def test_complex_eigenvalues_of_a_model_of_ones_own(size, count):
    coupling = np.random.default_rng(size).normal(size=(size, size))
    coupling[:2, :2] += [[3, 2], [-2, 3]]
    model = Circular(memories=jnp.ones((1, size)), coupling=jnp.asarray(coupling))
    x = 0.1 * np.random.default_rng(1).normal(size=size)
    dense = np.linalg.eigvals(-np.eye(size) + coupling / np.cosh(x) ** 2)
    dense = dense[np.argsort(-dense.real)]
    found = np.asarray(theory.leading_eigenvalues(model, x, np.zeros(size), count=count))
    assert found.shape == (count,)
    assert (np.diff(np.real(found)) <= 1e-12).all()
    assert_allclose(np.real(found), dense.real[:count], atol=1e-11 * abs(dense).max())
    if size == count or (count < size and dense.real[count - 1] > dense.real[count] + 1e-6):
        key = lambda value: (value.real.round(9), value.imag)  # noqa: E731
        expected = sorted(dense[:count], key=key)
        assert_allclose(sorted(found, key=key), expected, atol=1e-11 * abs(dense).max())
    assert count == 1 or abs(np.imag(found)).max() > 0.1


@pytest.mark.slow
def test_eigenvalues_at_equilibria_are_those_of_the_closed_form():
    memories = orthogonal()
    alpha = np.array([1.5, 3.0, 0.7, 0.2])
    model, u = idp(memories, 1.0), hj.mixture(memories, alpha)
    for memory in (0, 1):
        found = theory.find_memory(model, u, memory)
        spectrum = theory.jacobian_spectrum(
            alpha, hj.Tanh(1.0), memory=memory, num_neurons=NUM_NEURONS
        )
        leading = theory.leading_eigenvalues(model, found.state, u, count=3)
        expected = np.sort(spectrum.along_memories)[::-1][:3]
        assert_allclose(leading, expected, atol=1e-9)


def largest_intermediate(jaxpr: Any) -> int:
    """The most entries of any array that a computation makes."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [int(np.prod(getattr(out.aval, "shape", ()))) for out in equation.outvars]
        inner = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        )
        for leaf in inner:
            leaf = getattr(leaf, "jaxpr", leaf)
            if hasattr(leaf, "eqns"):
                sizes.append(largest_intermediate(leaf))
    return max(sizes)


@pytest.mark.parametrize("what", ["equilibrium", "memory", "product", "gradient", "coupling"])
def test_no_matrix_of_all_pairs_of_neurons(what):
    size = 1024
    memories = orthogonal(4, size)
    model = idp(memories)

    def total(u):
        return jnp.sum(theory.find_equilibrium(model, u, u).state)

    functions = {
        "equilibrium": total,
        "memory": lambda u: theory.find_memory(model, u, 1).state,
        "gradient": jax.grad(total),
        "product": lambda u: jax.jvp(
            lambda x: model.drift(jnp.zeros(()), x, model.drive(u)), (u,), (u,)
        ),
        "coupling": lambda u: theory.largest_coupling(memories, model.saliency(u)),
    }
    jaxpr = jax.make_jaxpr(functions[what])(np.ones(size)).jaxpr
    largest = largest_intermediate(jaxpr)
    assert largest >= size  # it looks inside
    assert largest < size * size / 4


# The report.


def predicted(report: theory.Report) -> theory.Prediction:
    assert report.prediction is not None
    return report.prediction


ALPHA = np.array([1.5, 3.0, 0.5, 0.05])


@functools.cache
def report_at(noise: float, self_coupling: bool = False) -> theory.Report:
    memories = orthogonal()
    return theory.report(
        idp(memories, 10.0, self_coupling), hj.mixture(memories, ALPHA), noise=noise
    )


@pytest.mark.slow
@COUPLINGS
def test_report_agrees_with_theory(self_coupling):
    report = report_at(1.0, self_coupling)
    effective = ALPHA - (0 if self_coupling else ALPHA.sum() / NUM_NEURONS)
    assert_allclose(report.saliency, ALPHA, rtol=1e-13)
    assert report.kinds == ("stable", "stable", "stable", "absent")
    assert_allclose(report.crosstalk, 0, atol=1e-14)
    prediction = predicted(report)
    assert_array_equal(prediction.exists, [True, True, True, False])
    assert_array_equal(prediction.stable, [True, True, True, False])
    psi = hj.Tanh(10.0)
    z = theory.equilibrium_amplitude(effective, psi)
    assert_allclose(report.overlaps[:3], np.tanh(10 * z[:3]), rtol=1e-9)
    assert_allclose(report.energy[:3], prediction.energy[:3], rtol=1e-9)
    assert_allclose(prediction.energy, theory.well_energy(effective, psi), rtol=1e-12)
    assert np.isnan(report.overlaps[3])
    assert np.isnan(report.growth[3])
    for memory in range(3):
        spectrum = theory.jacobian_spectrum(
            ALPHA, psi, memory=memory, num_neurons=NUM_NEURONS, self_coupling=self_coupling
        )
        fastest = max(*spectrum.along_memories, spectrum.complement)
        assert_allclose(report.growth[memory], fastest, atol=1e-8)
    assert (report.residual[:3] < 1e-9).all()
    assert_allclose(prediction.critical_noise, theory.critical_noise(effective, psi), rtol=1e-12)
    assert prediction.critical_noise[3] == 0
    rivals = np.array([effective[1], effective[0], effective[1], effective[1]])
    expected = theory.escape_noise(effective, rivals, psi)
    assert_allclose(prediction.escape_noise, expected, rtol=1e-11)
    assert_allclose(prediction.noisy_overlap, theory.noisy_overlap(effective, 1.0, psi), rtol=1e-11)
    assert prediction.noisy_overlap[3] == 0


@pytest.mark.slow
def test_report_tells_where_noise_leads():
    assert report_at(0.1).ends_in == (1, 0, 2)
    assert report_at(1.0).ends_in == (1, 0)
    inside = report_at(2.0)
    assert inside.ends_in == (1,)
    assert report_at(4.0).ends_in == ()
    # The table says the same.
    assert "ends in ±memories[1]" in str(inside)
    assert "ends in no memory" in str(report_at(4.0))
    text = str(report_at(1.0))
    assert "whichever of memories[1], memories[0]" in text
    assert "whichever of memories[1], memories[0], memories" not in text


@pytest.mark.slow
def test_report_of_finite_steps():
    # Just below the escape noise, which coarse steps go beyond.
    memories = orthogonal()
    model, u = idp(memories), hj.mixture(memories, ALPHA)
    noise = float(predicted(theory.report(model, u)).escape_noise[0]) * (1 - 1e-3)
    assert theory.report(model, u, noise=noise).ends_in == (1, 0)
    coarse = theory.report(model, u, noise=noise, dt=0.01)
    assert coarse.ends_in == (1,)
    assert predicted(coarse).escape_noise[0] < noise  # the table agrees with itself
    # Heun's steps have the noise of the exact equation but for order dt².
    finer = theory.report(model, u, noise=noise, dt=0.01, solver=dfx.Heun())
    assert finer.ends_in == (1, 0)
    with pytest.raises(TypeError, match="`dt`"):
        theory.report(model, u, dt=np.array([0.01, 0.02]))  # pyright: ignore


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1.0, 10.0])
def test_a_memory_of_every_noise_is_kept_or_lost_as_its_escape_noise_says(slope):
    memories = orthogonal()
    model, u = idp(memories, slope, True), hj.mixture(memories, 10 * ALPHA / slope)
    form = closed_form(model, u)
    assert not isinstance(form, str)
    for noise in np.array([0.0, 0.15, 0.2, 0.3, 0.5, 1.0, 3.0, 8.0, 20.0, 40.0]) / slope:
        prediction = predict(form, jnp.asarray(noise), 1.0)
        limit = np.fmin(prediction.critical_noise, prediction.escape_noise)
        assert_array_equal(prediction.kept, (noise < limit) & prediction.exists)
        assert_array_equal(prediction.noisy_overlap > 0, noise < prediction.critical_noise)


@pytest.mark.slow
def test_report_of_the_classic_network():
    memories = random()
    model = hj.ClassicHopfield(memories)
    report = theory.report(model, np.zeros(NUM_NEURONS), noise=0.5)
    assert report.kinds == 4 * ("stable",)
    assert report.ends_in == (0, 1, 2, 3)
    assert report.prediction is None
    assert "no closed theory: it is for orthogonal memories, and two of these" in str(report)
    mutual = abs(memories @ memories.T / NUM_NEURONS - np.eye(4)).max()
    assert_allclose(report.crosstalk, mutual, rtol=1e-12)

    driven = theory.report(model, 0.1 * memories[0])
    assert driven.prediction is None
    assert driven.ends_in[0] == 0
    assert "σ" not in str(driven)
    assert str(driven).endswith("no closed theory: it is for classic networks without a current")


@pytest.mark.slow
def test_closed_forms_of_the_classic_network():
    memories = orthogonal()
    report = theory.report(hj.ClassicHopfield(memories), np.zeros(NUM_NEURONS), noise=0.5)
    # Equals lose nothing to each other: their stability goes where their well does.
    assert report.ends_in == (0, 1, 2, 3)
    assert predicted(report).kept.all()
    expected = theory.well_energy(1 - 4 / NUM_NEURONS, hj.Tanh(10.0))
    assert_allclose(predicted(report).energy, expected, rtol=1e-12)
    assert_allclose(report.energy, expected, rtol=1e-9)


@pytest.mark.slow
def test_a_current_against_a_memory_leaves_its_mirror_image_only():
    memories = orthogonal()
    report = theory.report(hj.ClassicHopfield(memories), -3.0 * memories[0])
    assert report.kinds == ("stable", "absent", "absent", "absent")
    assert_allclose(report.overlaps[0], -1, atol=1e-6)  # with its sign, which a current decides
    assert not report.states[0].mirrored
    assert report.states[0].memories == (0, 1, 2, 3)


@pytest.mark.slow
def test_a_batch_of_equilibria_is_classified_one_at_a_time():
    memories = orthogonal(2)
    model, u = idp(memories), 3.0 * memories[0]
    find = jax.vmap(theory.find_equilibrium, in_axes=(None, None, 0))
    both = find(model, u, 3.0 * np.stack([memories[0], -memories[0]]))
    with pytest.raises(ValueError, match="one at a time"):
        theory.classify(model, u, both)
    second = jax.tree.map(lambda leaf: leaf[1], both)
    assert theory.classify(model, u, second) == "stable"
    assert theory.classify(model, u, second, memory=0) == "stable"  # the mirror image counts
    assert theory.classify(model, u, second, memory=1) == "absent"


@pytest.mark.slow
def test_report_of_one_memory_in_a_current():
    memories = orthogonal(1)
    report = theory.report(hj.ClassicHopfield(memories), 0.1 * memories[0])
    assert report.kinds == ("stable",)
    assert report.crosstalk == 0
    assert_allclose(report.overlaps, [1], atol=1e-6)
    assert str(report).splitlines()[-2].startswith("memories[0]")


@pytest.mark.long
def test_report_of_one_memory():
    memories = orthogonal(1)
    report = theory.report(idp(memories), 3 * memories[0], noise=1.0)
    assert report.kinds == ("stable",)
    assert report.ends_in == (0,)
    assert np.isnan(predicted(report).escape_noise[0])  # there is nothing to lose it to
    assert "memories[0]" in str(report)
    assert theory.report(idp(memories), 3 * memories[0], noise=4.0).ends_in == ()
    assert theory.report(idp(memories), 0.01 * memories[0]).kinds == ("absent",)


@pytest.mark.slow
def test_report_of_a_model_of_ones_own():
    model = Scalar(memories=jnp.ones((1, 4)), rate=bistable)
    report = theory.report(model, np.zeros(4))
    assert report.prediction is None
    assert report.kinds == ("stable",)
    assert "Scalar: 4 neurons, 1 memories" in str(report)


@pytest.mark.slow
def test_report_prints_an_aligned_table():
    for noise, fates in (
        (0.1, ("kept", "kept", "kept", "to memories[1]")),
        (1.0, ("kept", "kept", "to memories[1]", "to memories[1]")),
        (1.5, ("to memories[1]", "kept", "to memories[1]", "to memories[1]")),
        (4.0, 4 * ("to no memory",)),
    ):
        report = report_at(noise)
        title, header, *rows = str(report).splitlines()
        rows = rows[:4]
        assert title == "IDPHopfield: 32 neurons, 4 memories, self-coupling zeroed, d = 10"
        # The most salient first.
        order = (1, 0, 2, 3)
        assert [row.split()[0] for row in rows] == [f"memories[{memory}]" for memory in order]
        heads = ("saliency", "state", "overlap", "energy/N", "growth", "theory", "σ_esc", "σ_c")
        for column in (*heads, "flow"):
            end = header.index(column) + len(column)
            for row in rows:
                # Right-aligned: an entry ends where its heading does, and two spaces follow.
                assert row[end - 1] != " "
                assert row[end : end + 2] == "  "
        numbers = predicted(report)
        for row, memory in zip(rows, order, strict=True):
            kind = report.kinds[memory]
            assert row[: header.index("state") + len("state")].endswith(f"  {kind}")
            assert f"{ALPHA[memory]:.3f}" in row
            well = float(numbers.critical_noise[memory])
            assert (f"{well:.3f}" in row) == (well > 0)
            expected = fates[memory]
            # The closed theory says the same of the memory itself.
            assert (expected == "kept") == bool(numbers.kept[memory])
            if expected == "kept":
                expected = f"kept, {float(numbers.noisy_overlap[memory]):.3f}"
            assert row.split("  ")[-1].strip() == expected


def test_what_runs_on_the_host_refuses_to_be_traced():
    memories = orthogonal()
    model = idp(memories)
    found = theory.find_memory(model, 3 * memories[0], 0)
    calls = {
        "report": lambda u: theory.report(model, u).energy,
        "leading_eigenvalues": lambda u: theory.leading_eigenvalues(model, u, u),
        "classify": lambda u: theory.classify(
            model, u, eqx.tree_at(lambda e: e.state, found, u)
        ),
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name} runs on the host: call it outside jit"):
            jax.jit(call)(3 * memories[0])


@pytest.mark.long
def test_single_precision_throughout():
    memories = orthogonal(3)
    u = 0.1 * memories[0] + 0.02 * memories[1]
    single = hj.ClassicHopfield(memories.astype(np.float32), hj.Tanh(np.float32(10)))
    single = theory.report(single, u.astype(np.float32))
    double = theory.report(hj.ClassicHopfield(memories, hj.Tanh(10.0)), u)
    assert single.kinds == double.kinds
    for one, two in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        assert one.dtype == jnp.float32
        assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("noise", [2, 2.0, np.float32(2.0)])
def test_predictions_in_single_precision(noise):
    memories = orthogonal()
    single = hj.IDPHopfield(memories.astype(np.float32))
    single = theory.report(single, hj.mixture(single.memories, np.float32(ALPHA)), noise=noise)
    double = theory.report(idp(memories), hj.mixture(memories, ALPHA), noise=2.0)
    assert single.kinds == double.kinds
    assert single.ends_in == double.ends_in == (1,)
    for one, two in zip(*map(jax.tree.leaves, (single, double)), strict=True):
        assert one.dtype in (jnp.float32, bool)
        assert_allclose(one, two, rtol=1e-5, atol=1e-5)
