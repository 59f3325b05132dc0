"""Exponential Adams steps: exact where the equation is linear, of second order where it is not."""

from decimal import Decimal, getcontext
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from jaxtyping import Array, Float
from refusals import assert_refused, assert_refused_at_run_time, each
from scipy import integrate, stats

import hopjax as hj

KEY = jax.random.key(11)
FALSE_ALARM = 1e-5  # of each statistical test; keys are fixed
ADAMS = hj.ExponentialAdams()
NUM_NEURONS, NUM_MEMORIES = 60, 4

memory_key, start_key, noise_key = jax.random.split(KEY, 3)
MEMORIES = hj.random_memories(memory_key, num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS)
VALUES = hj.mixture(MEMORIES, jnp.array([[2.0, 0.5, 0.3, 0.1], [0.4, 1.8, 0.2, -0.3]]))
SCHEDULE = hj.Schedule([0.0, 0.4], VALUES)
X0 = jax.random.normal(start_key, (NUM_NEURONS,))
PSI = hj.Tanh(1.5)
EXACT_NORMALS = hj.Gaussian(full_precision=True)


def solve(model: Any, inputs: Any = SCHEDULE, x0: Any = X0, **changes: Any) -> hj.Trajectory:
    settings: dict[str, Any] = {"t1": 1.0, "dt": 0.05, "solver": ADAMS}
    return hj.solve(model, inputs, x0, **settings | changes)


def save_state(t, state):
    return state


class Leaks(hj.AbstractBipolarHopfield):
    """dx/dt = −λ ⊙ x + g tanh(x) + u, with the rates that it says or others."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation
    rates: Array
    gain: Array
    said: Any

    def __init__(self, rates: Any, gain: float = 0.0, said: Any = ..., size: int = 2):
        self.rates = jnp.asarray(rates, float)
        self.memories = jnp.ones((1, self.rates.size if self.rates.ndim else size))
        self.activation, self.gain = hj.Tanh(1.0), jnp.asarray(gain)
        self.said = self.rates if said is ... else said

    @property
    def relaxation_rates(self):
        return self.said

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        return -self.rates * x + self.gain * jnp.tanh(x) + drive

    def energy(self, x, u):
        return jnp.zeros(())


# --- the linear part -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_weights_have_no_cancellation(dtype):
    getcontext().prec = 60
    rates = np.append(0, np.geomspace(1e-9, 300, 200)).astype(dtype)
    exact = []
    for z in map(Decimal, rates.tolist()):
        if z == 0:
            exact.append((0, 1, 1, Decimal("0.5"), 1))
        else:
            first, twice = (1 - (-z).exp()) / z, (1 - (-2 * z).exp()) / (2 * z)
            exact.append((z, (-z).exp(), first, ((-z).exp() - 1 + z) / z**2, twice.sqrt()))
    found = ADAMS.for_rates(jnp.asarray(rates), 1.0).weights
    assert found is not None
    assert {each.dtype for each in map(jnp.asarray, found)} == {np.dtype(dtype)}
    eps = np.finfo(dtype).eps
    tiny = np.finfo(dtype).tiny  # exp(−300) is none of float32
    np.testing.assert_allclose(np.asarray(found).T, np.array(exact, float), 20 * eps, tiny)
    # A number of Python's, such as every one-layer model has, becomes constants.
    for z in (0.0, 1e-6, 0.05, 0.3, 7.0):
        static, traced = (ADAMS.for_rates(each, 1.0).weights for each in (z, jnp.asarray(z)))
        assert static is not None
        assert traced is not None
        assert all(type(each) is float for each in static)
        np.testing.assert_allclose(np.asarray(static), np.asarray(traced), EXACT)


@pytest.mark.slow
def test_the_ornstein_uhlenbeck_process_is_exact_at_any_step():
    # Four groups of entries, one without a leak and one that relaxes 60 times in a step.
    size, sigma, dt, lag = 20_000, 1.7, 0.3, 4
    groups = np.array([0.0, 0.3, 1.0, 200.0])
    # The features' time constant bounds dt; so the fast ones are no features.
    model = Fast(groups[:3], groups[3:], size)
    start = jnp.full(3 * size, 3.0)
    options: dict[str, Any] = {"t1": 6.0, "dt": dt, "save_every": dt * lag, "save_fn": save_state}
    quiet = solve(model, jnp.zeros(3 * size), start, **options)
    rates, begin = np.repeat(groups, size), np.repeat([3.0, 3.0, 3.0, 0.0], size)
    for t, state in zip(quiet.grid.save_times, np.asarray(quiet.saved), strict=True):
        np.testing.assert_allclose(state, begin * np.exp(-rates * t), rtol=1e-12, atol=1e-300)
    noise = hj.AdditiveNoise(np.full(4 * size, sigma))  # one strength would be that of the features
    noisy = solve(model, jnp.zeros(3 * size), start, noise=noise, key=noise_key, **options)
    times = noisy.grid.save_times
    early, late = (np.asarray(noisy.saved)[place].reshape(4, size) for place in (-2, -1))
    for place, rate in enumerate(groups):

        def variance(t, rate=rate):
            return sigma**2 * (t if rate == 0 else -np.expm1(-2 * rate * t) / (2 * rate))

        at, later = (begin[place * size] * np.exp(-rate * t) for t in times[-2:])
        first, second = early[place] - at, late[place] - later
        z = first.mean() / np.sqrt(variance(times[-2]) / size)
        assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM
        chi2 = np.sum(first**2) / variance(times[-2])
        assert 2 * min(stats.chi2.cdf(chi2, size), stats.chi2.sf(chi2, size)) > FALSE_ALARM
        covariance = np.exp(-rate * lag * dt) * variance(times[-2])
        spread = np.sqrt((variance(times[-2]) * variance(times[-1]) + covariance**2) / size)
        z = (np.mean(first * second) - covariance) / spread
        assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM
    # They would notice the variance that Euler's steps have: it is 18% more.


class Fast(hj.AbstractHopfield):
    """Features and further entries without any coupling, in groups of their own rates."""

    memories: Float[Array, "P N"]
    slow: Array
    fast: Array
    tells: bool

    def __init__(self, slow: Any, fast: Any, size: int, tells: bool = True):
        self.slow, self.fast = (jnp.repeat(jnp.asarray(each), size) for each in (slow, fast))
        self.memories, self.tells = jnp.ones((1, self.slow.size)), tells

    @property
    def state_size(self):
        return self.slow.size + self.fast.size

    @property
    def fastest_time_constant(self):
        return 1.0

    @property
    def relaxation_rates(self):
        return self.rates if self.tells else None

    @property
    def rates(self):
        return jnp.append(self.slow, self.fast)

    @property
    def overlap_measures_size(self):
        return True

    def initial_state(self, x0):
        return jnp.append(x0, jnp.zeros_like(self.fast))

    def features(self, state):
        return state[: self.slow.size]

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        return -self.rates * x

    def energy(self, x, u):
        return jnp.zeros(())

    def overlaps(self, x):
        return jnp.zeros(1)

    def saliency(self, u):
        return jnp.zeros(1)


@pytest.mark.slow
def test_steps_are_counted_and_a_constant_drift_is_added_up_exactly():
    for num_steps in (1, 2, 7):
        ends = solve(Leaks([0.0, 1.0]), jnp.ones(2), jnp.zeros(2), t1=0.25 * num_steps, dt=0.25)
        assert ends.grid.num_steps == num_steps
        t = 0.25 * num_steps
        np.testing.assert_allclose(ends.final_state, [t, -np.expm1(-t)], rtol=1e-14)


# --- against the formula, and orders -------------------------------------------------------------


def reference(model: Any, sigma: Any, increments: np.ndarray, dt: float) -> np.ndarray:
    """The formula step by step in NumPy, the switch after 0.4."""
    rates = np.broadcast_to(np.asarray(model.relaxation_rates), model.state_size)
    decay = np.exp(-rates * dt)
    x, last = np.array(model.initial_state(X0)), None
    for step, increment in enumerate(increments):
        segment = int(step >= round(0.4 / dt))
        drive = model.drive(VALUES[segment])
        pull = np.asarray(model.drift(jnp.zeros(()), jnp.asarray(x), drive)) + rates * x
        if step in (0, round(0.4 / dt)):
            last = pull
        x = (
            decay * x
            + (1 - decay) / rates * pull
            + (decay - 1 + rates * dt) / (rates**2 * dt) * (pull - last)
            + sigma * np.sqrt((1 - decay**2) / (2 * rates)) * increment
        )
        last = pull
    return x


TWO_LAYERS = hj.TwoLayerHopfield(MEMORIES, None, PSI, memory_time_constant=0.0125)


@pytest.mark.slow
@pytest.mark.parametrize("model", [hj.IDPHopfield(MEMORIES, PSI), TWO_LAYERS])
def test_a_noisy_solve_is_the_formula(model):
    noise, size = hj.AdditiveNoise(0.3, EXACT_NORMALS), model.state_size
    dtype = jnp.dtype(jnp.float64)
    path = noise.law.path(noise_key, size, dtype, 20.0, 1.0, dfx.BrownianIncrement)
    increments = np.stack([path.evaluate(float(i), i + 1.0) for i in range(20)])
    found = solve(model, noise=noise, key=noise_key)
    sigma = np.where(np.arange(size) < NUM_NEURONS, 0.3, 0)  # one strength is that of the features
    expected = reference(model, sigma, increments, 0.05)
    np.testing.assert_allclose(found.final_state, expected, atol=1e-12)


def slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.mark.slow
def test_memory_neurons_may_be_faster_than_the_steps():
    # τ_m from a quarter of the step on: right, of second order, and near the network of τ_m → 0.
    exact = solve(TWO_LAYERS, dt=0.005, solver=dfx.Dopri5()).final_state
    errors = [
        np.max(np.abs(solve(TWO_LAYERS, dt=dt).final_state - exact)) for dt in (0.05, 0.025, 0.0125)
    ]
    assert errors[0] < 0.01
    assert slope([4, 2, 1], errors) > 1.8
    rest = solve(TWO_LAYERS, t1=40.0, dt=0.05).final_state
    drift = TWO_LAYERS.drift(jnp.zeros(()), rest, TWO_LAYERS.drive(VALUES[1]))
    assert np.max(np.abs(drift)) < 1e-9
    slow = hj.TwoLayerHopfield(MEMORIES, None, PSI, memory_time_constant=1e-6)
    end, reduced = solve(slow).final_state, solve(slow.reduced()).final_state
    np.testing.assert_allclose(slow.features(end), reduced, atol=0.02)  # h answers a step later


def squares(t, state):
    return jnp.mean(state**2)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_the_weak_order_is_two():
    # dx = (−x − tanh x) dt + dB has a density ∝ exp(−x²)/cosh² x, and so a known variance.
    size, steps = 2**17, np.array([0.15, 0.18, 0.3])
    model = Leaks(1.0, gain=-1.0, said=1.0, size=size)

    def density(x):
        return np.exp(-(x**2)) / np.cosh(x) ** 2

    moments = [integrate.quad(lambda x, n=n: x**n * density(x), -9, 9)[0] for n in (0, 2)]
    variance = moments[1] / moments[0]
    errors, spread = [], []
    for number, dt in enumerate(steps):
        solved = solve(
            model,
            jnp.zeros(size),
            jnp.zeros(size),
            **{"t1": 36.0, "dt": dt, "save_every": 0.9, "save_fn": squares},
            **{"noise": hj.AdditiveNoise(1.0), "key": jax.random.key(number)},
        )
        found = np.asarray(solved.saved)[6:]  # 0.9 apart: correlated by 4%
        errors.append(np.mean(found) / variance - 1)
        spread.append(np.std(found) / variance / np.sqrt(len(found)))
    errors, spread = np.array(errors), 1.1 * np.array(spread)
    # The slope, and its interval by the standard errors of the logarithms.
    log = np.log(steps) - np.log(steps).mean()
    found = slope(steps, errors)
    half = (
        stats.norm.isf(FALSE_ALARM / 2)
        * np.sqrt(np.sum((log * spread / errors) ** 2))
        / sum(log**2)
    )
    assert half < 0.35
    assert 1.5 < found - half < found + half < 2.7


# --- as any other solver -------------------------------------------------------------------------


def loss(strength, sigma, tau, **options):
    model = hj.TwoLayerHopfield(MEMORIES, None, PSI, memory_time_constant=tau)
    schedule = hj.Schedule([0.0, 0.4], strength * VALUES)
    noise = hj.AdditiveNoise(sigma, EXACT_NORMALS)
    return solve(model, schedule, noise=noise, key=noise_key, **options).overlaps[-1, 0]


@pytest.mark.slow
def test_gradients_against_central_differences_in_both_modes():
    at, step = jnp.array([0.9, 0.8, 0.02]), 1e-6
    compiled = jax.jit(lambda at: loss(*at))
    differences = [
        (compiled(at + step * way) - compiled(at - step * way)) / (2 * step) for way in jnp.eye(3)
    ]
    reverse = jax.grad(lambda at: loss(*at))(at)
    forward = jax.jacfwd(lambda at: loss(*at, adjoint=dfx.ForwardMode()))(at)
    np.testing.assert_allclose(reverse, differences, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    assert (abs(reverse) > 1e-4).all()


def trial(key, strength=2.0):
    memories = hj.random_memories(key, num_memories=2, num_neurons=32)
    u = strength * memories[0]
    return hj.Trial(hj.IDPHopfield(memories), u, memories[1], hj.AdditiveNoise(0.5), target=0)


@pytest.mark.slow
def test_an_ensemble_has_the_same_bits_on_any_number_of_devices():
    settings: dict[str, Any] = {"trials": 6, "chunk": 2, "key": KEY, "t1": 2.0, "dt": 0.1}
    one, two = (
        hj.solve_ensemble(trial, **settings, solver=ADAMS, devices=jax.devices()[:n])
        for n in (1, 2)
    )
    assert np.isfinite(one.final_overlap).all()
    np.testing.assert_array_equal(one.final_overlap, two.final_overlap)
    np.testing.assert_array_equal(one.overlap_mean, two.overlap_mean)


def decaying(t):
    return jnp.exp(-t) * VALUES[0]


@pytest.mark.slow
def test_a_function_of_time_is_followed_to_second_order():
    model = hj.IDPHopfield(MEMORIES, PSI)
    exact = solve(model, decaying, dt=0.01, solver=dfx.Dopri5()).final_state
    steps = [0.1, 0.025]
    errors = [np.max(np.abs(solve(model, decaying, dt=dt).final_state - exact)) for dt in steps]
    assert slope(steps, errors) == pytest.approx(2, abs=0.2)


@pytest.mark.slow
def test_a_solve_in_two_parts_has_the_bits_of_one():
    # Of Diffrax's own loop: what the solver keeps is all that it needs to go on.
    rates = jnp.array([0.3, 2.0])
    terms = dfx.ODETerm(lambda t, y, args: -rates * y + jnp.cos(y + t))
    solver = ADAMS.for_rates(rates, 0.125)

    def run(t0, t1, y0, **state):
        saveat = dfx.SaveAt(t1=True, solver_state=True, made_jump=True)
        return dfx.diffeqsolve(terms, solver, t0, t1, 0.125, y0, saveat=saveat, **state)

    whole, half = (run(0.0, end, jnp.ones(2)) for end in (2.0, 1.0))
    kept = {"solver_state": half.solver_state, "made_jump": half.made_jump}
    assert whole.ys is not None
    assert half.ys is not None
    rest = run(1.0, 2.0, half.ys[-1], **kept)
    assert (rest.ys == whole.ys).all()
    anew = run(1.0, 2.0, half.ys[-1])
    assert (anew.ys != whole.ys).all()


# --- what does not suit it -----------------------------------------------------------------------


def proportional(t, x):
    return 0.5 * x


def wrong(*args: Any, **options: Any) -> Any:
    model = Leaks(*args, **options)
    return lambda: solve(model, jnp.zeros(2), jnp.array([0.3, -0.2]))


RATES = "model.relaxation_rates"
QUIET = jnp.zeros(2)


@each(
    (
        lambda: solve(Fast([1.0, 1.0], [1.0], size=1, tells=False), QUIET, QUIET),
        *(ValueError, RATES, "let Fast have it"),
    ),
    (wrong([1.0, 2.0], said=1.0), ValueError, RATES, "grows without bounds in entry 1"),
    (wrong([1.0, 1.0], said=1.002), ValueError, RATES, "got 1.002"),
    (wrong([1.0, 0.0], said=jnp.ones(2)), ValueError, RATES, "in entry 1"),
    (wrong([1.0, 1.0], said=jnp.ones(3)), ValueError, RATES, "shape (3,)"),
    (wrong([1.0, 1.0], said=-1.0), ValueError, RATES, "zero or positive, got -1"),
    (wrong([1.0, 1.0], said="1"), TypeError, RATES, "real number"),
    (
        lambda: solve(Leaks([4.0, 1.0]), QUIET, QUIET, dt=0.1),
        ValueError,
        "dt",
        "0.3 of the features' time constant, which is 0.075",
    ),
    (
        lambda: solve(TWO_LAYERS, dt=0.5),
        *(ValueError, "dt", "must not exceed 0.3 of the features' time constant, which is 0.3"),
    ),
    (
        lambda: solve(TWO_LAYERS, stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-3)),
        *(ValueError, "solver", "of the same length"),
    ),
    (
        lambda: solve(TWO_LAYERS, solver=dfx.HalfSolver(ADAMS)),
        *(ValueError, "solver", "HalfSolver(ExponentialAdams()): it looks back"),
    ),
    (
        lambda: solve(TWO_LAYERS, noise=hj.MultiplicativeNoise(proportional), key=KEY),
        *(ValueError, "solver", "only if that is additive"),
    ),
)
def test_what_it_cannot_solve_is_refused_with_the_reason(row):
    assert_refused(row)


@pytest.mark.slow
def test_rates_are_checked_at_run_time_where_they_are_traced():
    def run(rates):
        return solve(Leaks(rates, said=jnp.ones(2)), QUIET, QUIET).final_state

    right = "must be λ of dx/dt"
    assert_refused_at_run_time((run, [1.0, 1.0], [1.0, 2.0], f"`{RATES}` {right}"))


@pytest.mark.slow
def test_rates_may_be_zero_where_the_drift_is_bounded():
    bounded = Leaks([0.0, 3.0], gain=2.0)
    assert solve(bounded, QUIET, jnp.array([0.3, -0.2])).ok
