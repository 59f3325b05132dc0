"""Which memories a rate network holds: theory against scans in NumPy and against solves."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import expit, logit

import hopjax as hj
from hopjax import theory

FADES = "^Without an input this classic network holds no memory: at density"


def rate(field, slope):
    """φ, as the equation has it."""
    return expit(slope * (2 * field - 1))


# An independent reference: every rate a of the active neurons from ½ up, and what it would need.


def needed_saliency(slope: float, density: float) -> float:
    """The least of 1.25 α (a − b) = φ⁻¹(a) − φ⁻¹(b) over a, with b from the sum of the fields."""

    def saliency(gap):
        # Of 1 − a, on a logarithmic scale.
        a = 1 - np.exp(gap)
        active = (logit(a) / slope + 1) / 2

        def unbalanced(silent):
            b = rate(silent, slope)
            mean = density * a + (1 - density) * b
            return (1 - density) * silent + density * active + mean / density

        silent = brentq(unbalanced, -(2 + active + 1 / density) / (1 - density), 0, xtol=1e-14)
        return (active - silent) / (1.25 * (a - rate(silent, slope)))

    gaps = np.linspace(np.log(0.5), -20, 400)
    for _ in range(4):  # ever finer about the least
        best = int(np.argmin([saliency(gap) for gap in gaps]))
        gaps = np.linspace(gaps[max(best - 1, 0)], gaps[min(best + 1, len(gaps) - 1)], 41)
    return min(saliency(gap) for gap in gaps)


def settles(slope: float, density: float, saliency: float | None) -> float:
    """The rate a at the end of the two equations from a perfect memory; None for classic."""
    a, b = 1.0, 0.0
    for _ in range(20_000):
        inhibition = 0.0 if saliency is None else a + (1 - density) / density * b
        gain = 1.0 if saliency is None else 1.25 * saliency
        active = gain * (1 - density) * (a - b) - inhibition
        silent = -gain * density * (a - b) - inhibition
        a, b = a + 0.1 * (rate(active, slope) - a), b + 0.1 * (rate(silent, slope) - b)
    return a


PAIRS = [(10.0, 0.22), (10.0, 0.5), (10.0, 0.9), (3.0, 0.1), (1.0, 0.3), (0.5, 0.8), (200.0, 0.05)]


@pytest.mark.parametrize(("slope", "density"), PAIRS)
def test_least_saliency_against_a_scan(slope, density):
    found = theory.least_rate_saliency(slope, density)
    assert_allclose(found, needed_saliency(slope, density), rtol=1e-9)


@pytest.mark.parametrize(("slope", "density"), [(10.0, 0.22), (10.0, 0.7), (4.0, 0.1)])
def test_a_little_above_the_least_saliency_a_memory_settles_and_below_it_fades(slope, density):
    least = float(theory.least_rate_saliency(slope, density))
    assert settles(slope, density, 1.001 * least) > 0.5
    assert settles(slope, density, 0.999 * least) < 0.1


@pytest.mark.parametrize("slope", [3.0, 5.0, 10.0, 40.0])
def test_up_to_the_largest_density_a_memory_settles_and_above_it_fades(slope):
    largest = float(theory.largest_rate_density(slope))
    assert settles(slope, 0.999 * largest, None) > 0.5
    assert settles(slope, 1.001 * largest, None) < 0.3


@pytest.mark.slow
def test_numbers_of_the_docstrings():
    densities = np.array([0.05, 0.22, 0.5, 0.9])
    found = np.asarray(theory.least_rate_saliency(10.0, densities))
    assert_allclose(found * (1 - densities), 1.341, atol=5e-5)
    assert_allclose(theory.largest_rate_density(10.0), 0.324, atol=5e-4)
    assert np.asarray(theory.largest_rate_density(np.array([1.0, 2.82]))).tolist() == [0, 0]
    assert float(theory.largest_rate_density(2.83)) > 0
    # Without limit to the slope.
    assert_allclose(theory.largest_rate_density(1e6), 0.5, atol=1e-4)
    assert_allclose(theory.least_rate_saliency(1e6, 0.22), 1.2 / 0.78, rtol=1e-4)


@pytest.mark.parametrize("slope", [8.0, 10.0, 30.0])
def test_both_limits_are_of_one_gain_where_silent_neurons_are_silent(slope):
    # a = φ(g a) touches: g = φ⁻¹(a)/a is least.
    drive = brentq(lambda y: np.exp(y) + 1 - y - slope, 0.0, 20.0)
    gain = (1 + drive / slope) / (2 * expit(drive))
    left_out = 2 * np.exp(-slope)  # the silent rate
    assert_allclose(theory.largest_rate_density(slope), 1 - gain, atol=left_out)
    found = theory.least_rate_saliency(slope, 0.22)
    assert_allclose(found, (1 + gain) / (1.25 * 0.78), atol=left_out)


@pytest.mark.slow
def test_derivatives_of_the_least_saliency():
    def least(slope, density):
        return theory.least_rate_saliency(slope, density)

    step, at = 1e-5, np.array([10.0, 0.22])
    found = jax.grad(least, (0, 1))(*at)
    for derivative, shift in zip(found, step * np.eye(2), strict=True):
        expected = (least(*(at + shift)) - least(*(at - shift))) / (2 * step)
        assert_allclose(derivative, expected, rtol=1e-7)


@pytest.mark.slow
def test_derivative_of_the_largest_density():
    step = 1e-5
    # Where no density will do, its derivative is 0 too.
    found = jax.vmap(jax.grad(theory.largest_rate_density))(jnp.array([10.0, 1.0]))
    above, below = (float(theory.largest_rate_density(10 + shift)) for shift in (step, -step))
    assert_allclose(found, [(above - below) / (2 * step), 0], rtol=1e-7)


@pytest.mark.slow
def test_limits_broadcast_and_keep_their_dtype():
    slopes, densities = jnp.array([[8.0], [10.0]]), jnp.array([0.1, 0.22])
    together = theory.least_rate_saliency(slopes, densities)
    assert together.shape == (2, 2)
    assert_allclose(together[1, 1], theory.least_rate_saliency(10.0, 0.22), rtol=1e-12)
    single = theory.least_rate_saliency(jnp.float32(10), jnp.float32(0.22))
    assert single.dtype == jnp.float32
    assert_allclose(single, together[1, 1], rtol=1e-5)
    single = theory.largest_rate_density(jnp.float32(10))
    assert single.dtype == jnp.float32
    assert_allclose(single, theory.largest_rate_density(10.0), rtol=1e-5)


# Solves.


def independent_memories(active: int, count: int) -> jax.Array:
    """Of 1000 neurons memory μ has those with a decimal digit μ below `active`.

    Their density is exactly active/10, any two are exactly independent, and ξ − p orthogonal.
    """
    digits = np.arange(1000)[None] // 10 ** np.arange(count)[:, None] % 10
    return jnp.asarray(digits < active, float)


@pytest.fixture
def flow(optimised):
    """The mean rate at the end of the active neurons of memory 0, from a perfect copy of it."""
    del optimised

    @eqx.filter_jit
    def end(memories, density, slopes, inputs, input_as):
        def one(slope, u):
            model = hj.FiringRateHopfield(memories, density, slope=slope, input_as=input_as)
            found = hj.solve(model, u, memories[0], t1=150.0, dt=0.25)
            return jnp.sum(found.final_state * memories[0]) / jnp.sum(memories[0])

        return jax.vmap(one)(slopes, inputs)

    def ends(memories, density, slopes, inputs=None):
        input_as = "current" if inputs is None else "plasticity"
        shown = jnp.zeros((len(slopes), 1000)) if inputs is None else inputs
        return np.asarray(end(memories, jnp.asarray(density), jnp.asarray(slopes), shown, input_as))

    return ends


@pytest.mark.slow
def test_networks_with_plasticity_hold_a_memory_from_the_least_saliency_on(flow):
    memories = independent_memories(2, 2)  # p = ⅕
    least = float(theory.least_rate_saliency(10.0, 0.2))
    # A second memory is shown too, which the theory says has no part in it.
    saliencies = jnp.array([[0.985, 0], [0.985, 0.3], [1.015, 0], [1.015, 0.3]]) * least
    inputs = hj.mixture(memories, saliencies / 0.8)
    model = hj.FiringRateHopfield(memories)
    assert_allclose(jax.vmap(model.saliency)(inputs), saliencies, rtol=1e-12, atol=1e-12)
    ends = flow(memories, 0.2, np.full(4, 10.0), inputs)
    assert (ends[:2] < 0.01).all()
    assert (ends[2:] > 0.9).all()


@pytest.mark.slow
def test_classic_networks_hold_their_memories_up_to_the_largest_density(flow):
    # At slope 10 densities of .3 and .4; at .3 the slope decides, too.
    critical = brentq(lambda d: float(theory.largest_rate_density(d)) - 0.3, 3.0, 20.0)
    ends = flow(independent_memories(3, 2), 0.3, [10.0, 0.92 * critical, 1.08 * critical])
    assert ends[0] > 0.9
    assert ends[1] < 0.01
    assert ends[2] > 0.8
    assert (flow(independent_memories(4, 2), 0.4, [10.0, 10.0, 10.0]) < 0.01).all()


# The warning.


def share_of_ones(*counts: int, num_neurons: int = 1000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(num_neurons) < count for count in counts]).astype(float)


@pytest.mark.parametrize("slope", [3.0, 5.0, 10.0, 50.0])
def test_a_classic_network_that_holds_nothing_says_so_once(slope):
    largest = float(theory.largest_rate_density(slope))
    below, above = int(999 * largest), int(1001 * largest) + 1
    hj.FiringRateHopfield(share_of_ones(below, below), slope=slope, input_as="current")
    with pytest.warns(UserWarning, match=FADES) as record:
        hj.FiringRateHopfield(share_of_ones(above, above), slope=slope, input_as="current")
    (warning,) = record
    assert str(warning.message) == (
        f"Without an input this classic network holds no memory: at density {above / 1000:.3g} "
        f"and slope {slope:.3g} all of them fade. `hopjax.theory.largest_rate_density` says up "
        "to which density memories are held."
    )


def test_networks_that_hold_something_do_not_warn():
    dense = share_of_ones(600, 700)
    hj.FiringRateHopfield(dense)  # some input is strong enough
    hj.FiringRateHopfield(share_of_ones(220, 230), input_as="current")


def test_no_warning_under_a_trace():
    dense, u = jnp.asarray(share_of_ones(600, 700)), jnp.ones(1000)

    def drive(memories, density):
        return hj.FiringRateHopfield(memories, density, input_as="current").drive(u).weights

    jax.jit(drive)(dense, 0.65)
    jax.jit(lambda density: drive(dense, density))(0.65)
    jax.jit(lambda memories: drive(memories, 0.65))(dense)
    jax.jit(lambda: drive(dense, 0.65))()
    jax.vmap(drive, (None, 0))(dense, jnp.array([0.6, 0.7]))


@pytest.mark.slow
def test_a_memory_of_more_ones_than_others_can_be_held(flow):
    # Judged by the densest: its field is the stronger, and a solve agrees.
    memories = share_of_ones(300, 360)
    hj.FiringRateHopfield(memories, input_as="current")  # p = .33: no warning
    with pytest.warns(UserWarning, match=FADES):
        hj.FiringRateHopfield(memories[:1], 0.33, input_as="current")
    for first, held in ((0, False), (1, True)):
        end = flow(jnp.asarray(memories[[first, 1 - first]]), 0.33, [10.0, 10.0, 10.0])[0]
        assert (end > 0.9) == held


def test_a_steep_or_flat_slope_is_judged_without_overflow():
    memories = share_of_ones(400, 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        hj.FiringRateHopfield(memories, slope=1e6, input_as="current")
        with pytest.warns(UserWarning, match=FADES):
            hj.FiringRateHopfield(memories, slope=1e-6, input_as="current")
