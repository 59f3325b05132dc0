"""The closed forms against their defining equations, solved by SciPy and summed by NumPy."""

# Lists stand where a type checker wants arrays, and arrays where it wants one number.
# pyright: reportArgumentType=false

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, optimize, special

import hopjax as hj
from hopjax import theory

EPSILON = np.finfo(float).eps
ROUNDING = 1e-12  # relative error of a root whose equation is rounded a few hundred times
SLOPES = (0.5, 1.0, 10.0)
KINDS = pytest.mark.parametrize("kind", [hj.Tanh, hj.Erf])
CASES = pytest.mark.parametrize(
    ("kind", "slope"), [(kind, slope) for kind in (hj.Tanh, hj.Erf) for slope in SLOPES]
)

# Everything once more in NumPy, from the definitions.


class Witness:
    """An activation of slope d, and the same under noise."""

    def __init__(self, kind: Any, slope: float, noise: float = 0.0):
        self.slope, self.noise = slope, noise
        self.a = np.sqrt(np.pi) / 2 * slope
        tanh = kind is hj.Tanh
        self.quiet = (lambda x: np.tanh(slope * x)) if tanh else (lambda x: special.erf(self.a * x))
        self.quiet_slope = (
            (lambda x: slope / np.cosh(np.clip(slope * x, -300, 300)) ** 2)
            if tanh
            else (lambda x: slope * np.exp(-((self.a * x) ** 2)))
        )

    def mean(self, function: Callable[[Any], Any], h: float) -> float:
        """E f(h + σ η/√2) over a grid finer than any scale of f here."""
        if self.noise == 0:
            return float(function(h))
        return float(DENSITY @ function(h + self.noise / np.sqrt(2) * NORMAL))

    def __call__(self, h: float) -> float:
        return self.mean(self.quiet, h)

    def derivative(self, h: float) -> float:
        return self.mean(self.quiet_slope, h)

    def amplitude(self, alpha: float) -> float:
        if alpha * self.derivative(0.0) <= 1:
            return 0.0
        # Next to the other root, 0, the quotient has a clearer sign than the difference.
        lower = 1e-7 / self.derivative(0.0)
        if alpha * self(lower) / lower <= 1:
            return 0.0
        return brentq(lambda z: alpha * self(z) / z - 1, lower, 2 * alpha)


NORMAL = np.arange(-4000, 4001) / 400
DENSITY = np.exp(-(NORMAL**2) / 2) / np.sqrt(2 * np.pi) / 400


def brentq(function: Callable[[float], float], lower: float, upper: float) -> float:
    return float(optimize.brentq(function, lower, upper, xtol=1e-300, rtol=4 * EPSILON))  # pyright: ignore


def each(function: Callable[..., float], *arrays: Any) -> np.ndarray:
    return np.array([function(*numbers) for numbers in zip(*arrays, strict=True)])


# Saliencies in units of the existence threshold 1/d, on both sides of it.
SALIENCIES = np.array(
    [
        -100,
        -1,
        -1e-9,
        0,
        0.5,
        1 - 1e-3,
        1 - 1e-6,
        1 - 1e-9,
        1 + 1e-9,
        1 + 1e-6,
        1 + 1e-3,
        1.1,
        2,
        5,
        30,
        300,
        1e6,
        1e12,
    ]
)


# Smoothed activations.


@functools.cache
def smoothed(kind: Any) -> Callable[..., tuple[Any, Any, Any]]:
    """ψ_σ, its derivative and its antiderivative for every slope, σ and x: one compilation."""

    def values(slope, sigma, x):
        noisy = theory.NoisyActivation(kind(slope), sigma)
        return noisy(x), noisy.derivative(x), noisy.antiderivative(x)

    each_x = jax.vmap(values, (None, None, 0))
    return jax.jit(jax.vmap(jax.vmap(each_x, (None, 0, None)), (0, None, None)))


# The rule changes where σ d = √2.
SWITCH = np.sqrt(2)
NOISES = np.array(
    [0, 1e-9, 1e-3, 0.1, 0.5, 1, SWITCH * (1 - 1e-12), SWITCH * (1 + 1e-12), 1.6, 2, 4, 12, 50, 500]
)
STATES = np.array([-1000, -30, -3, -1, -0.3, -1e-3, -1e-9, 0, 1e-6, 0.1, 0.7, 2, 6, 20, 100, 1e4])


def test_erf_under_noise_is_a_flatter_erf():
    slopes = np.array(SLOPES)
    for slope in slopes:  # σ and x in units of 1/d
        found = smoothed(hj.Erf)(jnp.asarray([slope]), NOISES / slope, STATES / slope)
        value, derivative, antiderivative = (np.asarray(array)[0] for array in found)
        a = np.sqrt(np.pi) / 2 * slope
        c = (a / np.sqrt(1 + (a * NOISES / slope) ** 2))[:, None]
        x = STATES / slope
        assert_allclose(value, special.erf(c * x), rtol=3e-14, atol=1e-15)
        expected = 2 / np.sqrt(np.pi) * c * np.exp(-((c * x) ** 2))
        assert_allclose(derivative, expected, rtol=3e-14, atol=3e-15 * slope)
        expected = x * special.erf(c * x) + np.expm1(-((c * x) ** 2)) / (np.sqrt(np.pi) * c)
        assert_allclose(antiderivative, expected, rtol=3e-14, atol=3e-14 / slope)


def test_tanh_under_noise_against_dense_sums():
    noises, states = NOISES[:-1], STATES[3:-3]
    for slope in SLOPES:
        found = smoothed(hj.Tanh)(jnp.asarray([slope]), noises / slope, states / slope)
        value, derivative, antiderivative = (np.asarray(array)[0] for array in found)
        for row, noise in enumerate(noises / slope):
            witness = Witness(hj.Tanh, slope, noise)
            xs = states / slope
            assert_allclose(value[row], each(witness, xs), rtol=3e-14, atol=3e-15)
            assert_allclose(
                derivative[row], each(witness.derivative, xs), rtol=3e-14, atol=2e-14 * slope
            )

            def own(x, slope=slope):
                # ln cosh, written for large arguments.
                return (abs(slope * x) + np.log1p(np.exp(-2 * abs(slope * x))) - np.log(2)) / slope

            expected = [witness.mean(own, x) - witness.mean(own, 0.0) for x in xs]
            assert_allclose(antiderivative[row], expected, rtol=3e-14, atol=1e-13 / slope)


@KINDS
def test_smoothed_activation_is_odd_to_the_last_bit(kind):
    # An overlap of 1e-17 where there is none would count as a well.
    right, middle = STATES[-8:], np.zeros(1)
    x = np.concatenate([-right[:7], middle, right])
    value, _, antiderivative = smoothed(kind)(np.array(SLOPES), NOISES / 10, x)
    assert_array_equal(value[..., 7], 0)
    assert_array_equal(antiderivative[..., 7], 0)
    assert_array_equal(value[..., :7], -value[..., 8:15])


@pytest.mark.slow
def test_noise_on_top_of_noise_adds_its_variance():
    @jax.jit
    @jax.vmap
    def both(first, second, x):
        once = theory.NoisyActivation(hj.Tanh(10.0), jnp.hypot(first, second))
        twice = theory.NoisyActivation(theory.NoisyActivation(hj.Tanh(10.0), first), second)
        return jnp.stack([once(x), once.derivative(x)]), jnp.stack([twice(x), twice.derivative(x)])

    numbers = itertools.product((0.05, 0.5), (0.03, 0.3, 3.0), (0.02, 0.2, 1.0))
    once, twice = both(*np.array(list(numbers)).T)
    assert_allclose(twice, once, rtol=1e-13, atol=1e-14)


@jax.jit
def of_array(noisy, x):
    return noisy(x), noisy.derivative(x), noisy.antiderivative(x)


@pytest.mark.slow
def test_smoothed_activation_of_arrays_and_in_a_model():
    x = STATES.reshape(2, 8) / 10
    for sigma in (0.05, 0.5):
        noisy = theory.NoisyActivation(hj.Tanh(10.0), sigma)
        expected = smoothed(hj.Tanh)(jnp.asarray([10.0]), np.full(len(NOISES), sigma), x.ravel())
        found = of_array(noisy, jnp.asarray(x))
        for one, values in zip(found, expected, strict=True):
            assert_allclose(one, values[0, 0].reshape(2, 8), rtol=1e-12, atol=1e-13)
        # The mean dynamics of a noisy network is a network.
        model = hj.IDPHopfield(np.ones((1, 4)), noisy, self_coupling=True)
        drift = model.drift(jnp.zeros(()), jnp.full(4, 0.1), jnp.ones(1))
        assert_allclose(drift, -0.1 + Witness(hj.Tanh, 10.0, sigma)(0.1), atol=1e-14)


# Without noise.


@CASES
def test_amplitude_across_the_existence_threshold(kind, slope):
    alpha = SALIENCIES / slope
    z = np.asarray(theory.equilibrium_amplitude(alpha, kind(slope)))
    witness = Witness(kind, slope)
    exists = SALIENCIES > 1
    assert_array_equal(z[~exists], 0)
    assert (z[exists] > 0).all()
    # The residual where roots are ill-conditioned, the root itself where they are not.
    assert_allclose(alpha[exists] * witness.quiet(z[exists]) / z[exists], 1, rtol=4 * EPSILON)
    well = SALIENCIES > 1 + 1e-4
    assert_allclose(z[well], each(witness.amplitude, alpha[well]), rtol=1e-12)


@KINDS
def test_no_amplitude_at_the_threshold_itself(kind):
    # 1/d is rounded, so the product with d may come out above 1.
    for slope in (0.3, 0.7, 3.0, 10.0, 49.0):
        threshold = theory.existence_threshold(kind(slope))
        assert_allclose(threshold, 1 / slope, rtol=2 * EPSILON)
        z = theory.equilibrium_amplitude(jnp.stack([threshold, 2 * threshold]), kind(slope))
        assert z[0] == 0
        assert z[1] > 0


@CASES
def test_stability_threshold_across_the_existence_threshold(kind, slope):
    strongest = SALIENCIES / slope
    found = np.asarray(theory.stability_threshold(strongest, kind(slope)))
    competes = SALIENCIES > 1
    assert_allclose(found[~competes], 1 / slope, rtol=2 * EPSILON)
    competes &= SALIENCIES < 1e5  # the steeper ones follow below
    t2 = 1 - 1 / SALIENCIES[competes]
    if kind is hj.Tanh:
        expected = np.arctanh(np.sqrt(t2)) / np.sqrt(t2) / slope
    else:  # ψ' is a Gaussian
        y = np.sqrt(np.log(SALIENCIES[competes]))
        expected = y / special.erf(y) * 2 / np.sqrt(np.pi) / slope
    assert_allclose(found[competes], expected, rtol=1e-11)
    # And the definition: at the threshold the competitor's direction neither grows nor decays.
    witness = Witness(kind, slope)
    inner = (SALIENCIES > 1 + 1e-4) & (SALIENCIES < 1e3)
    z = each(witness.amplitude, found[inner])
    assert_allclose(strongest[inner] * witness.quiet_slope(z), 1, rtol=1e-10)


@pytest.mark.parametrize("competitor", [1e6, 1e12])
def test_stability_against_a_huge_competitor(competitor):
    # atanh(t) = acosh(√a) for t = √(1 − 1/a), without its cancellation. That of 1 − tanh² remains.
    found = theory.stability_threshold(competitor, hj.Tanh(1.0))
    expected = np.arccosh(np.sqrt(competitor)) / np.sqrt(1 - 1 / competitor)
    assert_allclose(found, expected, rtol=EPSILON * competitor)
    found = theory.stability_threshold(competitor, hj.Erf(1.0))
    y = np.sqrt(np.log(competitor))
    assert_allclose(found, y / special.erf(y) * 2 / np.sqrt(np.pi), rtol=1e-12)


@pytest.mark.parametrize("competitor", [1e14, 1e30, 1e150])
def test_stability_beyond_the_resolution_of_the_slope_is_not_made_up(competitor):
    assert np.isnan(theory.stability_threshold(competitor, hj.Tanh(1.0)))
    assert np.isnan(theory.stability_threshold(competitor, hj.Erf(1.0)))


@pytest.mark.slow
def test_thresholds_of_a_scaled_problem():
    # ψ(d x) turns α into d α: exact but for rounding.
    alpha = np.linspace(1.2, 7.0, len(SALIENCIES))
    unit = hj.Tanh(1.0)
    for slope in (1e-3, 0.5, 10.0, 1e5):
        steep = hj.Tanh(slope)
        for function in (
            theory.equilibrium_amplitude,
            theory.stability_threshold,
            theory.critical_noise,
            theory.well_energy,
        ):
            scaled = function(alpha / slope, steep)
            assert_allclose(scaled * slope, function(alpha, unit), rtol=ROUNDING)
        overlap = theory.mixture_overlap(alpha / slope, steep)
        assert_allclose(overlap, theory.mixture_overlap(alpha, unit), rtol=ROUNDING)
        threshold = theory.mixture_stability_threshold(steep)
        assert_allclose(threshold * slope, theory.mixture_stability_threshold(unit), rtol=ROUNDING)


def test_saliency_without_self_coupling():
    alpha = np.array([3.0, 1.5, -0.5, 0.25])
    removed = sum(alpha) / 16
    assert_allclose(theory.effective_saliency(alpha, 16), alpha - removed, rtol=1e-15)
    kept = theory.effective_saliency(alpha, 16, self_coupling=True)
    assert_array_equal(kept, alpha)


@functools.cache
def depths(kind: Any) -> Callable[..., tuple[Any, Any]]:
    """e(α) and its derivative."""
    both = jax.value_and_grad(lambda alpha, slope: theory.well_energy(alpha, kind(slope)))
    return jax.jit(jax.vmap(both, (0, None)))


@pytest.mark.slow
@CASES
def test_well_energy_against_quadrature_and_its_derivative(kind, slope):
    alpha = SALIENCIES[(SALIENCIES > -10) & (SALIENCIES < 1e3)] / slope
    energies, slopes = depths(kind)(alpha, slope)
    witness = Witness(kind, slope)
    for a, energy, derivative in zip(alpha, energies, slopes, strict=True):
        z = witness.amplitude(a)
        kink = min(z, 5 / slope)
        area = sum(
            integrate.quad(witness.quiet, *ends, epsabs=0, epsrel=1e-13)[0]
            for ends in ((0, kink), (kink, z))
        )
        expected = -a * witness(z) ** 2 / 2 + z * witness(z) - area
        assert_allclose(energy, expected, rtol=1e-11, atol=1e-14 / slope)
        if abs(a * slope - 1) > 1e-7:  # nearer the rounding of z has a say
            assert_allclose(derivative, -(witness(z) ** 2) / 2, rtol=1e-6, atol=1e-14)
    assert_array_equal(energies[alpha * slope < 1], 0)


def test_depths_have_the_order_of_the_saliencies():
    alpha = np.array([0.05, 1.5, 3.0, -2.0, 0.5, 0.101])
    # Those that do not exist (0 and 3) have the same, and their order is that of the memories.
    depths = theory.well_energy(alpha, hj.Tanh(10.0))
    assert_array_equal(np.argsort(depths, stable=True), [2, 1, 4, 5, 0, 3])


@pytest.mark.slow
@pytest.mark.parametrize("self_coupling", [False, True])
def test_well_energy_is_the_energy_of_the_model(self_coupling):
    memories = hj.orthogonal_memories(num_memories=3, num_neurons=16, key=jax.random.key(0))
    alpha = np.array([3.0, 1.5, 0.7])
    for kind, slope in itertools.product((hj.Tanh, hj.Erf), (1.0, 10.0)):
        model = hj.IDPHopfield(memories, kind(slope), self_coupling=self_coupling)
        effective = theory.effective_saliency(alpha, 16, self_coupling=self_coupling)
        energies = theory.well_energy(effective, kind(slope))
        for memory in range(3):
            z = Witness(kind, slope).amplitude(float(effective[memory]))
            energy = model.energy(z * memories[memory], hj.mixture(memories, alpha))
            # Not to first order in N: S is subtracted inside the energy as well.
            assert_allclose(energies[memory], energy / 16, rtol=EXACT, atol=1e-14)


# Mixtures.


@CASES
def test_mixture_against_brentq(kind, slope):
    witness = Witness(kind, slope)
    alpha = SALIENCIES / slope
    found = np.asarray(theory.mixture_overlap(alpha, kind(slope)))
    exists = SALIENCIES > 1
    assert_array_equal(found[~exists], 0)

    def average(m, a):
        return (witness.quiet(3 * a * m) + witness.quiet(a * m)) / 4

    assert (found[exists] > 0).all()
    m = found[exists]
    assert_allclose(average(m, alpha[exists]) / m, 1, rtol=4 * EPSILON)
    well = SALIENCIES > 1 + 1e-4
    expected = [
        brentq(lambda m, a=a: average(m, a) / m - 1, 1e-6 / (a * slope), 1) for a in alpha[well]
    ]
    assert_allclose(found[well], expected, rtol=1e-12)

    def margin(a):
        m = brentq(lambda m: average(m, a) / m - 1, 1e-6 / (a * slope), 1)
        return a * witness.quiet_slope(a * m) - 1

    threshold = brentq(margin, 1.01 / slope, 10 / slope)
    assert_allclose(theory.mixture_stability_threshold(kind(slope)), threshold, rtol=1e-12)


def test_mixture_at_its_threshold_in_the_jacobian():
    memories = np.array(list(itertools.product([-1.0, 1.0], repeat=3))).T  # all signs alike
    threshold = float(theory.mixture_stability_threshold(hj.Tanh(2.0)))
    for factor, stable in ((1 - 1e-3, False), (1 + 1e-3, True)):
        alpha = factor * threshold
        m = float(theory.mixture_overlap(alpha, hj.Tanh(2.0)))
        x = alpha * m * memories.sum(axis=0)
        coupling = alpha * memories.T @ memories / 8
        assert_allclose(coupling @ np.tanh(2 * x), x, atol=1e-13)
        growth = np.linalg.eigvals(coupling * 2 / np.cosh(2 * x) ** 2 - np.eye(8)).real.max()
        assert (growth < 0) == stable


@pytest.mark.slow
@pytest.mark.parametrize("kind", [hj.Tanh, pytest.param(hj.Erf, marks=pytest.mark.long)])
def test_mixture_energy_is_the_energy_of_the_model(kind):
    memories = np.array(list(itertools.product([-1.0, 1.0], repeat=3))).T
    alpha = np.array([0.05, 0.11, 0.3, 3.0])
    overlaps = theory.mixture_overlap(alpha, kind(10.0))
    energies = theory.mixture_energy(alpha, kind(10.0))
    model = hj.IDPHopfield(memories, kind(10.0), self_coupling=True)
    for a, m, energy in zip(alpha, overlaps, energies, strict=True):
        u = a * memories.sum(axis=0)
        assert_allclose(model.saliency(u), 3 * [a], rtol=1e-14)
        state = a * m * memories.sum(axis=0)
        assert_allclose(energy, model.energy(state, u) / 8, rtol=EXACT, atol=1e-16)
        assert_allclose(model.overlaps(state), 3 * [m], rtol=1e-12, atol=1e-16)
    assert energies[0] == 0
    # A memory lies deeper than a mixture with two others.
    assert (theory.well_energy(alpha, kind(10.0))[1:] < energies[1:]).all()


# Spectra.

NUM_NEURONS = 256


def dense_jacobian(memories, weights, slopes, self_coupling):
    coupling = np.einsum("p,pi,pj->ij", weights, memories, memories) / memories.shape[1]
    if not self_coupling:
        np.fill_diagonal(coupling, 0)
    return -np.eye(memories.shape[1]) + coupling * slopes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "self_coupling"), [(None, False), (None, True), (0, False), (1, True)]
)
def test_spectrum_at_a_memory_and_at_the_origin(self_coupling, memory):
    memories = hj.orthogonal_memories(
        num_memories=4, num_neurons=NUM_NEURONS, key=jax.random.key(0)
    )
    memories = np.asarray(memories)
    alpha = np.array([1.5, 3.0, 0.7, 0.2])
    slope = 1.0
    spectrum = theory.jacobian_spectrum(
        alpha,
        hj.Tanh(slope),
        memory=memory,
        num_neurons=NUM_NEURONS,
        self_coupling=self_coupling,
    )
    removed = 0 if self_coupling else alpha.sum() / NUM_NEURONS
    witness = Witness(hj.Tanh, slope)
    z = 0.0 if memory is None else witness.amplitude(alpha[memory] - removed)
    steepness = np.full(NUM_NEURONS, witness.quiet_slope(z))
    jacobian = dense_jacobian(memories, alpha, steepness, self_coupling)
    expected = np.linalg.eigvals(jacobian)
    complement = np.full(NUM_NEURONS - 4, spectrum.complement)
    found = np.concatenate([spectrum.along_memories, complement])
    assert_allclose(np.sort(found), np.sort(expected.real), atol=1e-12)
    for nu in range(4):  # and which is which
        grown = spectrum.along_memories[nu] * memories[nu]
        assert_allclose(jacobian @ memories[nu], grown, atol=1e-12)
    # One rate decides: of the origin, whether the network is confused.
    strongest = theory.largest_coupling(memories, alpha, self_coupling=self_coupling)
    growth = theory.origin_growth_rate(strongest, hj.Tanh(slope))
    if memory is None:
        assert_allclose(growth, expected.real.max(), atol=1e-12)


def test_spectrum_of_a_memory_that_does_not_exist():
    spectrum = theory.jacobian_spectrum([3.0, 0.05], hj.Tanh(10.0), memory=1, num_neurons=64)
    assert np.isnan(spectrum.along_memories).all()
    assert np.isnan(spectrum.complement)


def test_confusion_is_decided_by_the_coupling_not_the_saliency():
    # Two alike memories reinforce each other: together they have twice the saliency.
    pattern = np.where(np.arange(8) % 3 == 0, 1.0, -1.0)
    alike = theory.largest_coupling(np.stack([pattern, pattern]), [0.06, 0.06], self_coupling=True)
    assert theory.origin_growth_rate(alike, hj.Tanh(10.0)) > 0
    rates = theory.origin_growth_rate([-1.0, 0.05, 0.0999, 0.1001], hj.Tanh(10.0))
    assert_array_equal(rates <= 0, [1, 1, 1, 0])


@pytest.mark.parametrize("self_coupling", [False, True])
@pytest.mark.parametrize(
    "case", ["random", "duplicated", "negative", "many", "square", "orthogonal"]
)
def test_largest_coupling_against_the_dense_matrix(self_coupling, case):
    rng = np.random.default_rng(0)
    num_memories, num_neurons = {"many": (40, 24), "square": (24, 24)}.get(case, (5, 24))
    memories = rng.choice([-1.0, 1.0], (num_memories, num_neurons))
    alpha = rng.uniform(-1, 3, num_memories)
    if case == "duplicated":
        memories[3], memories[4] = memories[0], -memories[1]
    if case == "negative":
        alpha = -abs(alpha)
    if case == "orthogonal":
        memories = np.asarray(hj.orthogonal_memories(num_memories=5, num_neurons=24))
    dense = dense_jacobian(memories, alpha, np.ones(num_neurons), self_coupling)
    expected, axes = np.linalg.eigh(dense + np.eye(num_neurons))
    found, gradient = jax.value_and_grad(
        lambda a: theory.largest_coupling(memories, a, self_coupling=self_coupling)
    )(alpha)
    assert_allclose(found, expected[-1], rtol=1e-13, atol=1e-13)
    # Perturbation theory: dλ/dα_μ = (ξ^μ·v)² / N, less what is taken off the diagonal. Several
    # directions that no memory has a part in share λ = 0, and it stays there.
    first = 0 if case == "negative" else (memories @ axes[:, -1]) ** 2 / num_neurons
    assert_allclose(gradient, first - (0 if self_coupling else 1 / num_neurons), atol=1e-12)


# With noise.


@functools.cache
def erf_escape(alpha: float, alpha_max: float, slope: float) -> float:
    """σ_esc for erf: all noise does is to flatten it, so y = c z decides as without noise."""
    if alpha * slope <= 1 or alpha_max <= alpha:
        return np.nan
    half = np.sqrt(np.pi) / 2
    y = brentq(
        lambda y: np.log(half * special.erf(y) / y) + y**2 - np.log(alpha_max / alpha), 1e-8, 20
    )
    width = alpha * special.erf(y) / y  # 1/c
    return float(np.sqrt(max(width**2 - (1 / (half * slope)) ** 2, 0)))


def brentq_escape(kind: Any, alpha: float, alpha_max: float, slope: float) -> float:
    if alpha * slope <= 1 or alpha_max <= alpha:
        return np.nan

    def margin(noise):
        witness = Witness(kind, slope, noise)
        return alpha_max * witness.derivative(witness.amplitude(alpha)) - 1

    return brentq(margin, 0, brentq_critical(kind, alpha, slope)) if margin(0.0) < 0 else 0.0


def brentq_critical(kind: Any, alpha: float, slope: float) -> float:
    if alpha * slope <= 1:
        return 0.0
    return brentq(lambda s: alpha * Witness(kind, slope, s).derivative(0.0) - 1, 0, 2 * alpha)


@CASES
def test_critical_noise_across_the_existence_threshold(kind, slope):
    alpha = np.minimum(SALIENCIES, 1e5) / slope  # the steeper ones follow below
    found = np.asarray(theory.critical_noise(alpha, kind(slope)))
    exists = SALIENCIES > 1
    assert_array_equal(found[~exists], 0)
    assert (found[exists] > 0).all()
    if kind is hj.Erf:
        a = np.sqrt(np.pi) / 2 * slope
        # (dα)² − 1, without its cancellation
        expected = np.sqrt(np.maximum(alpha * slope - 1, 0) * abs(alpha * slope + 1)) / a
        # A double root at σ = 0 becomes ill-conditioned.
        tolerance = 1e-13 + 8 * EPSILON / np.maximum(abs(SALIENCIES - 1), EPSILON)
        assert (abs(found - expected) <= tolerance * expected).all()
    inner = (SALIENCIES > 1 + 1e-4) & (SALIENCIES < 100)
    expected = [brentq_critical(kind, a, slope) for a in alpha[inner]]
    assert_allclose(found[inner], expected, rtol=1e-12)


@pytest.mark.slow
@CASES
def test_overlap_under_noise_across_the_critical_noise(kind, slope):
    alpha = np.array([0.9, 1.0, 1.001, 1.5, 5.0, 30.0]) / slope
    critical = np.array([brentq_critical(kind, a, slope) for a in alpha])
    fractions = np.array(
        [0, 1e-6, 0.03, 0.047, 0.06, 0.1, 0.15, 0.2, 0.4, 0.7, 0.95, 1 - 1e-4, 1 + 1e-6, 1.5, 30]
    )
    noise = np.where(critical > 0, critical, 1 / slope)[:, None] * fractions
    found = np.asarray(theory.noisy_overlap(alpha[:, None], noise, kind(slope)))
    gone = (fractions > 1) | (critical == 0)[:, None]
    assert_array_equal(found[gone], 0)
    assert (found[~gone] > 0).all()
    assert (found <= 1 + 1e-14).all()
    for a, row, noises in zip(alpha, found, noise, strict=True):
        assert (np.diff(row) <= 1e-12 * row[1:]).all()  # more noise never helps the overlap
        for m, sigma in zip(row[row > 0], noises[row > 0], strict=True):
            witness = Witness(kind, slope, sigma)
            assert_allclose(witness(a * m), m, rtol=2e-14)
            if sigma < 0.99 * critical[alpha == a].item():
                assert_allclose(m, witness.amplitude(a) / a, rtol=1e-11)


@CASES
def test_noise_at_overlap_on_both_sides_of_what_is_reached(kind, slope):
    alpha = np.array([-1.0, 0.9, 1.0, 1.001, 1.5, 5.0, 30.0, 100.0])[:, None] / slope
    levels = np.array([1e-6, 0.01, 0.5, 0.8, 0.9, 0.99, 1 - 1e-6])
    found = np.asarray(theory.noise_at_overlap(alpha, levels, kind(slope)))
    quiet = Witness(kind, slope)
    for a, row in zip(alpha[:, 0], found, strict=True):
        for level, sigma in zip(levels, row, strict=True):
            if quiet(a * level) <= level:
                assert np.isnan(sigma)
                continue
            assert_allclose(Witness(kind, slope, sigma)(a * level), level, rtol=1e-13, atol=2e-15)
            # Where the overlap hardly exceeds the level without noise, σ² is a small difference.
            tolerance = 1e-12 + 1e-15 / (quiet(a * level) - level)
            if kind is hj.Erf:
                width = a * level / special.erfinv(level)
                expected = np.sqrt(width**2 - (2 / np.sqrt(np.pi) / slope) ** 2)
            else:
                expected = brentq(lambda s: Witness(kind, slope, s)(a * level) - level, 0, 2 * a)  # noqa: B023
            assert_allclose(sigma, expected, rtol=tolerance)
    # The overlap of no well is below every level.
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[6:]).all()


# Pairs (α, α_max) in units of 1/d: unstable and stable ones, equal ones, and ones that do not
# exist or are the stronger.
PAIRS = np.array(
    [
        [15.0, 30.0], [5.0, 30.0], [3.5, 30.0], [2.0, 2.5], [1.5, 1.6], [1.01, 1.011],
        [30.0, 30.0 * (1 + 1e-3)], [30.0, 30.0 * (1 + 1e-6)], [30.0, 30.0 * (1 + 1e-9)],
        [1.5, 1e5], [1.001, 2.0], [2.0, 30.0],
        [30.0, 30.0], [30.0, 15.0], [30.0, 0.5], [30.0, -1.0],
        [1.0, 30.0], [0.999, 30.0], [0.0, 30.0], [-1.0, 30.0], [-2.0, -1.0],
    ]
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", [hj.Tanh, pytest.param(hj.Erf, marks=pytest.mark.long)])
def test_escape_noise_of_all_kinds_of_pairs(kind):
    for slope in SLOPES:
        alpha, alpha_max = PAIRS.T / slope
        found = np.asarray(theory.escape_noise(alpha, alpha_max, kind(slope)))
        for a, strongest, sigma in zip(alpha, alpha_max, found, strict=True):
            if kind is hj.Erf:
                expected = erf_escape(a, strongest, slope)
            else:
                expected = brentq_escape(kind, a, strongest, slope)
            if np.isnan(expected) or expected == 0:
                assert_array_equal(sigma, expected)
                continue
            close = strongest / a - 1
            assert_allclose(sigma, expected, rtol=1e-11 + 1e-14 / close, err_msg=f"{a, strongest}")
            assert 0 < sigma < theory.critical_noise(a, kind(slope)) * (1 + 1e-12)


@KINDS
def test_a_memory_loses_its_stability_once(kind):
    # The escape noise is the one root: below it stable, above it not, up to where the well ends.
    for a, strongest in PAIRS[PAIRS[:, 1] > PAIRS[:, 0]]:
        if a <= 1 or strongest / a - 1 < 1e-5:
            continue
        critical = brentq_critical(kind, a, 1.0)
        signs = []
        for sigma in np.linspace(0, 0.9999 * critical, 25):
            witness = Witness(kind, 1.0, sigma)
            signs.append(strongest * witness.derivative(witness.amplitude(a)) > 1)
        assert np.count_nonzero(np.diff(signs)) <= 1
        assert signs[-1]


def test_escape_rate_changes_sign_at_the_escape_noise():
    noise = np.array([0.0, 0.14, 0.3, 1.2640, 1.2641, 1.5, 1.68, 1.7, 9.0])
    found = np.asarray(theory.escape_rate(1.5, 3.0, noise, hj.Tanh(10.0)))
    for sigma, rate in zip(noise[:-2], found[:-2], strict=True):
        witness = Witness(hj.Tanh, 10.0, sigma)
        expected = 3 * witness.derivative(witness.amplitude(1.5)) - 1
        assert_allclose(rate, expected, rtol=1e-10)
    assert_array_equal(np.sign(found[:-2]), [-1, -1, -1, -1, 1, 1, 1])
    assert np.isnan(found[-2:]).all()  # no well


def test_escape_time_is_logarithmic_over_the_growth_rate():
    noise = np.array([0.0, 1.2, 1.3, 1.4, 1.5, 1.6, 1.68, 1.7, 9.0])
    found = theory.escape_time(1.5, 3.0, noise, hj.Tanh(10.0), num_neurons=1024)
    assert_array_equal(found[:2], np.inf)  # stable
    for sigma, time in zip(noise[2:7], found[2:7], strict=True):
        witness = Witness(hj.Tanh, 10.0, sigma)
        rate = 3 * witness.derivative(witness.amplitude(1.5)) - 1
        assert_allclose(time, np.log(np.sqrt(1024)) / rate, rtol=1e-10)
    assert np.isnan(found[7:]).all()  # no well


def test_effective_noise_is_the_spread_of_euler_steps():
    # x -> (1 − dt) x + σ √dt η settles at the variance σ² dt / (1 − (1 − dt)²).
    sigma = np.array([0.0, 1.0, 8.0])
    for dt in (1e-4, 0.01, 0.5, 1.0):
        variance = sigma**2 * dt / (1 - (1 - dt) ** 2)
        found = np.asarray(theory.effective_noise(sigma, dt))
        assert_allclose(found**2 / 2, variance, rtol=1e-10)


@pytest.mark.slow
def test_crosstalk_against_its_formula():
    alpha = np.array([3.0, 1.5] + 8 * [0.5])
    noises = np.array([0.0, 0.05, 0.16, 0.5, 1.0, 2.0, 4.0])
    found = theory.crosstalk_noise(alpha, noises, hj.Tanh(10.0), memory=0, num_neurons=1024)
    for noise, effective in zip(noises[:-1], found[:-1], strict=True):
        witness = Witness(hj.Tanh, 10.0, noise)
        z = witness.amplitude(3.0)
        chi, q = witness.derivative(z), witness.mean(lambda h, w=witness: w.quiet(h) ** 2, z)
        field = np.sum(alpha[1:] ** 2 * q / (1 - alpha[1:] * chi) ** 2) / 1024
        assert_allclose(effective, np.sqrt(noise**2 + 2 * field), rtol=1e-11)
        assert effective > noise
    assert found[-1] == 4  # no well: nothing to disturb
    # Above its escape noise the weaker memory is unstable: there is no first order.
    unstable = theory.crosstalk_noise(alpha, 1.4, hj.Tanh(10.0), memory=1, num_neurons=1024)
    assert np.isnan(unstable)


# The limit of a step.


# For d → ∞ ψ_σ(h) = erf(h/σ): σ_c = 2α/√π, the overlap is m = erf(α m/σ), a level m is reached at
# σ = α m / erf⁻¹(m), and the escape is that of an erf activation without a width of its own.


def steep_noise_at_overlap(alpha: float, overlap: float) -> float:
    return alpha * overlap / special.erfinv(overlap)


def steep_escape_noise(alpha: float, alpha_max: float) -> float:
    return erf_escape(alpha, alpha_max, 1e300)


def in_noise(slope):
    psi = hj.Tanh(slope)
    return np.array(
        [
            theory.critical_noise(3.0, psi),
            theory.noise_at_overlap(3.0, 0.9, psi),
            theory.noisy_overlap(3.0, 2.0, psi),
        ]
    )


@pytest.mark.parametrize("slope", [1e2, 1e4, 1e7, 1e9, 1e12])
def test_steep_activations_tend_to_the_limit(slope):
    # The correction is of second order in 1/(d σ), and then lost in rounding.
    limit = (
        2 * 3.0 / np.sqrt(np.pi),
        steep_noise_at_overlap(3.0, 0.9),
        brentq(lambda m: special.erf(3.0 * m / 2.0) / m - 1, 1e-9, 1),
    )
    found = in_noise(slope)
    assert_allclose(found, limit, rtol=1 / slope**2 + 1e-12)
    if slope < 1e5:
        assert (abs(found / limit - 1) > 1e-3 / slope**2).all()


@pytest.mark.slow
def test_escape_from_a_steep_network_tends_to_the_limit():
    alpha, alpha_max = np.full(len(PAIRS), 1.5), np.full(len(PAIRS), 3.0)
    limit = steep_escape_noise(1.5, 3.0)
    for slope in (1e2, 1e4, 1e9):
        found = theory.escape_noise(alpha, alpha_max, hj.Tanh(slope))[0]
        assert_allclose(found, limit, rtol=1 / slope**2 + 1e-12)


# Numbers that were found otherwise.


def test_known_numbers():
    psi = hj.Tanh(10.0)
    assert_allclose(theory.mixture_stability_threshold(hj.Tanh(1.0)), 2.17, atol=0.005)
    assert_allclose(theory.mixture_overlap(3.0, hj.Tanh(1.0)), 0.472, atol=5e-4)
    assert_allclose(theory.stability_threshold(22.0, psi), 0.340, atol=5e-4)
    assert_allclose(theory.critical_noise(3.0, psi), 3.383, atol=5e-4)
    for level, expected, steep in ((0.9, 2.318, 0.7738), (0.8, 2.645, 0.8828)):
        assert_allclose(theory.noise_at_overlap(3.0, level, psi), expected, atol=5e-4)
        assert_allclose(steep_noise_at_overlap(1.0, level), steep, atol=5e-5)
    assert_allclose(steep_escape_noise(1.5, 3.0), 1.2705, atol=5e-5)
    # A finite network in finite steps.
    alpha = theory.effective_saliency([1.5, 3.0] + 8 * [0.5], 1024)
    for noise, expected in ((1.6, 0.9908), (1.8, 0.9778), (2.0, 0.9559)):
        found = theory.noisy_overlap(alpha[1], theory.effective_noise(noise, 0.01), psi)
        assert_allclose(found, expected, atol=5e-5)


@pytest.mark.slow
def test_known_escape_noise():
    alpha, alpha_max = np.full(len(PAIRS), 1.5), np.full(len(PAIRS), 3.0)
    found = theory.escape_noise(alpha, alpha_max, hj.Tanh(10.0))
    assert_allclose(found, 1.2640, atol=5e-5)


# Arrays, gradients, precision.


def test_arguments_broadcast():
    alpha, level = np.ones((3, 1)), np.array([0.5, 0.6])
    for shape, found in (
        ((3, 2), theory.noise_at_overlap(alpha, level, hj.Tanh(10.0))),
        ((3, 2), theory.effective_noise(alpha, level)),
        ((), theory.well_energy(1, hj.Tanh(10.0))),
        ((0,), theory.equilibrium_amplitude([], hj.Tanh(10.0))),
    ):
        assert found.shape == shape
        assert np.isfinite(found).all()


def noisy_at(slope, sigma, x):
    noisy = theory.NoisyActivation(hj.Tanh(slope), sigma)
    return jnp.stack([noisy(x), noisy.derivative(x), noisy.antiderivative(x)])


def escape(slope, alpha, alpha_max, noise):
    psi = hj.Tanh(slope)
    rate = theory.escape_rate(alpha, alpha_max, noise, psi)
    return jnp.stack([rate, theory.escape_time(alpha, alpha_max, noise, psi, num_neurons=100)])


def spectrum(slope, *alpha):
    found = theory.jacobian_spectrum(
        jnp.stack(alpha), hj.Tanh(slope), memory=1, num_neurons=32, self_coupling=False
    )
    return jnp.append(found.along_memories, found.complement)


def crosstalk(slope, noise, *alpha):
    return theory.crosstalk_noise(
        jnp.stack(alpha), noise, hj.Tanh(slope), memory=0, num_neurons=100
    )


def coupled(*alpha):
    memories = np.random.default_rng(1).choice([-1.0, 1.0], (len(alpha), 12))
    return theory.largest_coupling(memories.astype(alpha[0].dtype), jnp.stack(alpha))


# Every function as one of numbers, the slope among them, and where to differentiate it: on both
# sides of its thresholds, but not on them.
FUNCTIONS: dict[str, tuple[Callable[..., Any], list[tuple[float, ...]]]] = {
    "effective_saliency": (
        lambda a, b: theory.effective_saliency(jnp.stack([a, b]), 8), [(3.0, 1.5)]
    ),
    "existence_threshold": (lambda d: theory.existence_threshold(hj.Tanh(d)), [(10.0,), (0.5,)]),
    "equilibrium_amplitude": (
        lambda d, a: theory.equilibrium_amplitude(a, hj.Tanh(d)),
        [(10.0, 3.0), (10.0, 0.12), (10.0, 0.05), (10.0, -1.0)],
    ),
    "stability_threshold": (
        lambda d, a: theory.stability_threshold(a, hj.Tanh(d)),
        [(10.0, 3.0), (10.0, 0.12), (10.0, 0.05), (10.0, -1.0)],
    ),
    "well_energy": (
        lambda d, a: theory.well_energy(a, hj.Tanh(d)), [(10.0, 3.0), (1.0, 1.2), (1.0, 0.5)]
    ),
    "jacobian_spectrum": (spectrum, [(1.0, 3.0, 1.5, 0.5)]),
    "largest_coupling": (coupled, [(3.0, 1.5, 0.5)]),
    "origin_growth_rate": (lambda d, a: theory.origin_growth_rate(a, hj.Tanh(d)), [(10.0, 0.2)]),
    "mixture_overlap": (
        lambda d, a: theory.mixture_overlap(a, hj.Tanh(d)), [(1.0, 3.0), (1.0, 1.2), (1.0, 0.5)]
    ),
    "mixture_stability_threshold": (
        lambda d: theory.mixture_stability_threshold(hj.Tanh(d)), [(10.0,), (0.5,)]
    ),
    "mixture_energy": (
        lambda d, a: theory.mixture_energy(a, hj.Tanh(d)), [(1.0, 3.0), (1.0, 0.5)]
    ),
    "NoisyActivation": (
        noisy_at, [(10.0, 0.05, 0.03), (10.0, 0.3, 0.1), (10.0, 3.0, 1.0), (1.0, 1e-3, 0.4)]
    ),
    "noisy_overlap": (
        lambda d, s, a: theory.noisy_overlap(a, s, hj.Tanh(d)),
        [(10.0, 0.8, 1.5), (10.0, 0.1, 0.2), (10.0, 2.0, 1.5), (10.0, 0.1, 0.05)],
    ),
    "critical_noise": (
        lambda d, a: theory.critical_noise(a, hj.Tanh(d)), [(10.0, 3.0), (1.0, 1.2), (1.0, 0.5)]
    ),
    "noise_at_overlap": (
        lambda d, a, m: theory.noise_at_overlap(a, m, hj.Tanh(d)),
        [(10.0, 3.0, 0.9), (1.0, 3.0, 0.5)],
    ),
    "escape_noise": (
        lambda d, a, b: theory.escape_noise(a, b, hj.Tanh(d)),
        [(10.0, 1.5, 3.0), (1.0, 2.0, 2.2), (10.0, 0.2, 30.0)],
    ),
    "escape_rate, escape_time": (
        escape,
        [(10.0, 1.5, 3.0, 1.6), (1.0, 2.0, 4.0, 1.5)],
    ),
    "effective_noise": (theory.effective_noise, [(1.5, 0.01), (8.0, 0.5)]),
    "crosstalk_noise": (crosstalk, [(10.0, 1.0, 3.0, 1.5, 0.5), (10.0, 0.1, 3.0, 1.5, 0.5)]),
}  # fmt: skip


@pytest.mark.slow
def test_all_closed_forms_are_listed_here():
    closed = {
        name
        for name, value in vars(theory).items()
        if getattr(value, "__module__", "").removeprefix("hopjax.theory.")
        in ("averaging", "equilibria", "noise")
    }
    listed = {name for names in FUNCTIONS for name in names.split(", ")}
    assert listed | {"Spectrum"} == closed


# Gradients come from the derivative of an equation at its root, never from the search. What
# compiles long waits for the slow tests.
QUICK = {
    "effective_saliency", "existence_threshold", "equilibrium_amplitude", "stability_threshold",
    "largest_coupling", "origin_growth_rate", "critical_noise", "escape_noise", "effective_noise",
}  # fmt: skip


def some(names):
    return [
        name if name in names else pytest.param(name, marks=pytest.mark.long) for name in FUNCTIONS
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", some(QUICK))
def test_gradient_against_central_differences(name):
    function, points = FUNCTIONS[name]

    def mixed(point):
        value = jnp.ravel(function(*point))
        return np.cos(1.0 + np.arange(value.size)) @ value, value

    # Value and gradient compile once and are called at every point and beside it.
    compiled = jax.jit(jax.value_and_grad(mixed, has_aux=True))
    for point in np.array(points):
        (total, value), gradient = compiled(point)
        assert np.isfinite(value).all()
        for axis, number in enumerate(point):
            step = np.zeros_like(point)
            step[axis] = 1e-5 * max(abs(number), 0.1)
            up, down = compiled(point + step)[0][0], compiled(point - step)[0][0]
            difference = (up - down) / (2 * step[axis])
            size = abs(gradient).max() + 1e-3 * abs(total)
            assert_allclose(
                gradient[axis],
                difference,
                rtol=1e-6,
                atol=1e-7 * size + 1e-13,
                err_msg=f"{point}, {axis}",
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", some({"equilibrium_amplitude", "critical_noise", "effective_noise"})
)
def test_a_batch_in_single_precision(name):
    # Neither one by one nor in double precision: the same numbers.
    function, points = FUNCTIONS[name]
    numbers = np.array(points).T
    batch = jax.vmap(function)(*numbers.astype(np.float32))
    assert batch.dtype == np.float32
    double = np.array([function(*map(jnp.asarray, point)) for point in numbers.T])
    assert double.dtype == float
    assert_allclose(batch, double, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_second_derivatives():
    alpha, step = jnp.array([1.5, 2.0]), 1e-4

    def overlap(alpha):
        return theory.noisy_overlap(alpha, 1.0, hj.Tanh(10.0))

    curvature = jax.jit(jax.hessian(lambda alpha: jnp.sum(jax.vmap(overlap)(alpha))))(alpha)
    above, here, below = (overlap(alpha + shift) for shift in (step, 0.0, -step))
    assert_allclose(jnp.diag(curvature), (above - 2 * here + below) / step**2, rtol=1e-5)
    assert_allclose(curvature[0, 1], 0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1e3, 3e4, 1e6])
def test_escape_of_steep_networks_in_single_precision(slope):
    # Without noise ψ' of a steep activation is beyond float32; under noise it is not.
    found = theory.escape_noise(np.float32(1.5), np.float32(3), hj.Tanh(np.float32(slope)))
    assert found.dtype == jnp.float32
    assert_allclose(found, steep_escape_noise(1.5, 3.0), rtol=1e-5)
