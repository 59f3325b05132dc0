"""`solve` against references written differently: dense matrices, exact laws, orders."""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float
from scipy import stats

import hopjax as hj
from hopjax import theory
from hopjax.solving import Grid

KEY = jax.random.key(5)
NUM_NEURONS, NUM_MEMORIES = 60, 4
FALSE_ALARM = 1e-5  # of each statistical test; keys are fixed

memory_key, weight_key, start_key, noise_key = jax.random.split(KEY, 4)
MEMORIES = hj.random_memories(memory_key, num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS)
WEIGHTS = jax.random.uniform(weight_key, (3, NUM_MEMORIES), minval=0.2, maxval=3.0)
VALUES = hj.mixture(MEMORIES, WEIGHTS)
ONSETS = [0.0, 0.5, 1.2]
SCHEDULE = hj.Schedule(ONSETS, VALUES)
X0 = jax.random.normal(start_key, (NUM_NEURONS,))
MODELS = [hj.IDPHopfield, hj.ClassicHopfield]


def solve(model: Any, inputs: Any = SCHEDULE, x0: Any = X0, **kwargs: Any) -> hj.Trajectory:
    settings: dict[str, Any] = {"t1": 2.0, "dt": 0.01}
    return hj.solve(model, inputs, x0, **settings | kwargs)


def save_state(t, state):
    return state


class Probe(hj.AbstractBipolarHopfield):
    """A model of the tests' own: any drift, memories that only serve to be there."""

    velocity: Callable
    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation

    def __init__(self, velocity: Callable, num_neurons: int = 2, dtype: Any = None):
        self.velocity = velocity
        self.memories = jnp.ones((1, num_neurons), dtype)
        self.activation = hj.Tanh(jnp.asarray(10.0, dtype))

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        return self.velocity(t, x, drive)

    def energy(self, x, u):
        return jnp.zeros(())


# --- against a naive dense reference -------------------------------------------------------------


def dense_reference(kind, self_coupling, increments, sigma, dt=0.01, steps=200):
    """Euler-Maruyama with an N x N matrix in a plain NumPy loop; returns every state."""
    patterns, inputs, x = np.array(MEMORIES), np.array(VALUES), np.array(X0)
    states = [x]
    for step in range(steps):
        u = inputs[0 if step < 50 else 1 if step < 120 else 2]
        coupling = np.zeros((NUM_NEURONS, NUM_NEURONS))
        for pattern in patterns:
            saliency = np.dot(pattern, u) / NUM_NEURONS if kind is hj.IDPHopfield else 1.0
            coupling += saliency * np.outer(pattern, pattern) / NUM_NEURONS
        if not self_coupling:
            np.fill_diagonal(coupling, 0.0)
        velocity = coupling.dot(np.tanh(10.0 * x)) - x
        if kind is hj.ClassicHopfield:
            velocity = velocity + u
        x = x + dt * velocity + sigma * np.sqrt(dt) * increments[step]
        states.append(x)
    return np.stack(states)


@pytest.mark.parametrize("self_coupling", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_noiseless_trajectory_equals_the_dense_reference(kind, self_coupling):
    expected = dense_reference(kind, self_coupling, np.zeros((200, 1)), 0.0)
    model = kind(MEMORIES, self_coupling=self_coupling)
    trajectory = solve(model, save_every=0.01, save_fn=save_state)
    np.testing.assert_allclose(trajectory.saved, expected, atol=1e-10)
    np.testing.assert_allclose(trajectory.final_state, expected[-1], atol=1e-10)
    overlaps = np.tanh(10.0 * expected) @ np.array(MEMORIES).T / NUM_NEURONS
    np.testing.assert_allclose(trajectory.overlaps, overlaps, atol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("law", ["gaussian", "two_point"])
@pytest.mark.parametrize("kind", MODELS)
def test_noisy_trajectory_equals_the_dense_reference(kind, law):
    noise = hj.AdditiveNoise(0.3, law)
    path = noise.law.path(
        noise_key, NUM_NEURONS, jnp.dtype(jnp.float64), 200.0, 1.0, dfx.BrownianIncrement
    )
    increments = np.stack([path.evaluate(float(i), i + 1.0) for i in range(200)])
    expected = dense_reference(kind, False, increments, 0.3)
    trajectory = solve(kind(MEMORIES), noise=noise, key=noise_key)
    np.testing.assert_allclose(trajectory.final_state, expected[-1], atol=1e-8)


@pytest.mark.slow
def test_an_sde_without_strength_is_the_ode():
    model = hj.IDPHopfield(MEMORIES)
    quiet = solve(model, noise=hj.AdditiveNoise(0.0), key=KEY)
    np.testing.assert_allclose(quiet.overlaps, solve(model).overlaps, atol=1e-12)


# --- the clock -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 499, 500, 501, 999, 1000, 1001])
def test_step_counts_and_saved_times(num_steps):
    model = Probe(lambda t, x, drive: jnp.ones_like(x))
    trajectory = solve(model, jnp.zeros(2), jnp.zeros(2), t1=num_steps * 0.01)
    np.testing.assert_allclose(trajectory.final_state, num_steps * 0.01, rtol=1e-12)
    stride = round(num_steps / (len(trajectory.ts) - 1))
    assert trajectory.ts.shape == (num_steps // stride + 1,)
    np.testing.assert_allclose(trajectory.ts, np.arange(len(trajectory.ts)) * stride * 0.01)


@pytest.mark.slow
def test_long_solves_in_float32_count_every_step():
    # Diffrax rounds the last steps away when the end of the interval is a large float32 number.
    num_steps = 200_001
    model = Probe(lambda t, x, drive: jnp.ones_like(x), dtype=jnp.float32)
    dt = 2.0**-7  # sums of which are exact
    zeros = jnp.zeros(2, jnp.float32)
    end = solve(model, zeros, zeros, t1=num_steps * dt, dt=dt).final_state
    assert end.dtype == jnp.float32
    np.testing.assert_array_equal(end, num_steps * dt)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("t1", "stride"), [(3.5, 5), (1.99, 1), (30.0, 30), (4.99, 5), (150.0, 150)]
)
def test_default_saves_reach_the_end_where_a_divisor_allows(t1, stride):
    model = Probe(lambda t, x, drive: jnp.ones_like(x))
    ts = solve(model, jnp.zeros(2), jnp.zeros(2), t1=t1).ts
    np.testing.assert_allclose(ts[1], stride * 0.01)
    assert 50 <= len(ts) <= 201
    if t1 != 4.99:  # 499 is a prime
        np.testing.assert_allclose(ts[-1], t1)


@pytest.mark.slow
def test_functions_of_time_see_the_stage_times():
    # x' = t: Euler sums the left ends of the steps, Heun is exact.
    model = Probe(lambda t, x, drive: drive)
    seen = solve(model, lambda t: jnp.array([t, 1.0]), jnp.zeros(2), t1=1.0, dt=0.1)
    np.testing.assert_allclose(seen.final_state, [0.45, 1.0], rtol=1e-12)
    seen = solve(
        model, lambda t: jnp.array([t, 1.0]), jnp.zeros(2), t1=1.0, dt=0.1, solver=dfx.Heun()
    )
    np.testing.assert_allclose(seen.final_state, [0.5, 1.0], rtol=1e-12)


# --- orders of convergence -----------------------------------------------------------------------


def slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


RETRIEVED: dict[str, Any] = dict(
    inputs=hj.mixture(MEMORIES, jnp.array([3.0, 0.5, 0.4, 0.3])), x0=2.5 * MEMORIES[0], t1=1.0
)
SMOOTH = hj.IDPHopfield(MEMORIES, activation=hj.Tanh(1.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "finest", "least", "most"),
    [
        (dfx.Euler(), 5, 0.85, 1.15),
        pytest.param(dfx.Heun(), 7, 0.85, 1.15, marks=pytest.mark.long),
        # 1.5; a part of the error still falls as dt² here. Without the right Lévy area it is 1.
        pytest.param(dfx.ShARK(), 7, 1.35, 2.2, marks=pytest.mark.long),
    ],
)
def test_strong_order_from_a_retrieved_start(solver, finest, least, most):
    # The same Brownian motions on finer and finer grids. Additive noise: Euler has order 1.
    keys = jax.random.split(noise_key, 30)

    def end(level, solver):
        noise = hj.AdditiveNoise(0.5, hj.Gaussian(refinement=level, full_precision=True))
        dt = 0.125 / 2**level
        return jax.vmap(
            lambda key: (
                solve(SMOOTH, noise=noise, key=key, dt=dt, solver=solver, **RETRIEVED).final_state
            )
        )(keys)

    exact = end(finest, dfx.ShARK())
    levels = np.array([0, 2, 4])
    errors = [np.sqrt(np.mean((end(level, solver) - exact) ** 2)) for level in levels]
    assert least < slope(0.125 / 2.0**levels, errors) < most


@functools.cache
def switched():
    """Across a switch at t = 0.4, without a schedule: the solve stops there and starts anew."""
    fine: dict[str, Any] = dict(dt=0.004, solver=dfx.Dopri5())
    middle = solve(SMOOTH, VALUES[0], t1=0.4, **fine).final_state
    return solve(SMOOTH, VALUES[1], middle, t1=0.6, **fine).final_state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (dfx.Heun(), 2),
        (dfx.Bosh3(), 3),
        (hj.ExponentialAdams(), 2),
        pytest.param(dfx.Euler(), 1, marks=pytest.mark.long),
        pytest.param(dfx.ReversibleHeun(), 2, marks=pytest.mark.long),
    ],
)
def test_solvers_keep_their_order_across_an_input_switch(solver, order):
    # Bosh3 and ReversibleHeun reuse the last stage of a step, which belongs to the old input.
    schedule = hj.Schedule([0.0, 0.4], VALUES[:2])

    def end(dt):
        return solve(SMOOTH, schedule, t1=1.0, dt=dt, solver=solver).final_state

    steps = 0.1 / 2.0 ** np.array([0, 2, 4])
    errors = [np.max(np.abs(end(dt) - switched())) for dt in steps]
    assert slope(steps, errors) == pytest.approx(order, abs=0.2)


# --- the Ornstein-Uhlenbeck process that is left without input -----------------------------------


def test_zero_input_gives_the_exact_ornstein_uhlenbeck_process():
    # IDP at u = 0 has W = 0. Euler: x' = a x + σ√dt ξ with a = 1 − dt, known in closed form;
    # its stationary variance is (σ²/2) / (1 − dt/2).
    sigma, dt, steps, lag, size = 2.0, 0.1, 40, 5, 20_000
    model = hj.IDPHopfield(jnp.ones((1, size)))
    start = jnp.full(size, 3.0)
    trajectory = hj.solve(
        model,
        jnp.zeros(size),
        start,
        t1=(steps + lag) * dt,
        dt=dt,
        noise=hj.AdditiveNoise(sigma),
        key=KEY,
        save_every=dt * lag,
        save_fn=save_state,
    )
    assert trajectory.saved is not None
    early, late = np.asarray(trajectory.saved[-2]), np.asarray(trajectory.saved[-1])
    a = 1 - dt

    def variance(n):
        return sigma**2 * dt * (1 - a ** (2 * n)) / (1 - a**2)

    mean_z = (early.mean() - a**steps * 3.0) / np.sqrt(variance(steps) / size)
    assert 2 * stats.norm.sf(abs(mean_z)) > FALSE_ALARM
    centred, later = early - a**steps * 3.0, late - a ** (steps + lag) * 3.0
    chi2 = np.sum(centred**2) / variance(steps)
    assert 2 * min(stats.chi2.cdf(chi2, size), stats.chi2.sf(chi2, size)) > FALSE_ALARM
    products = centred * later
    covariance = a**lag * variance(steps)
    spread = np.sqrt((variance(steps) * variance(steps + lag) + covariance**2) / size)
    assert 2 * stats.norm.sf(abs((products.mean() - covariance) / spread)) > FALSE_ALARM
    # The test would notice the continuous-time variance: it is 5% off.
    assert abs(variance(steps) / (sigma**2 / 2) - 1) > 0.04


@pytest.mark.slow
@pytest.mark.parametrize("strength", [jnp.linspace(0.5, 2.0, 4000)], ids=["per entry"])
def test_noise_strength_per_entry(strength):
    size = strength.size
    model = hj.IDPHopfield(jnp.ones((1, size)))
    end = solve(
        model,
        jnp.zeros(size),
        jnp.zeros(size),
        t1=0.01,
        noise=hj.AdditiveNoise(strength),
        key=KEY,
    ).final_state
    assert stats.kstest(np.asarray(end / strength / 0.1), "norm").pvalue > FALSE_ALARM


def proportional(t, x):
    return 0.8 * x


@pytest.mark.slow
def test_state_dependent_noise_is_meant_in_the_sense_of_ito():
    # E log x(1) = −(1 + s²/2) by Itô; by Stratonovich it would be −1, 70 standard errors away.
    size = 20_000
    model, ones = Probe(lambda t, x, drive: -x, num_neurons=size), jnp.ones(size)
    noise = hj.MultiplicativeNoise(proportional)
    end = solve(model, ones, ones, t1=1.0, dt=1 / 256, noise=noise, key=KEY).final_state
    bias = 0.005  # of Euler at this step: its own E log x is off by about dt
    z = (abs(np.mean(np.log(end)) + 1 + 0.8**2 / 2) - bias) / (0.8 / np.sqrt(size))
    assert 2 * stats.norm.sf(z) > FALSE_ALARM


@pytest.mark.long
@pytest.mark.parametrize(("solver", "order"), [(dfx.Euler(), 0.5), (dfx.ItoMilstein(), 1.0)])
def test_state_dependent_noise_converges_to_the_ito_solution(solver, order):
    # Geometric Brownian motion: x(1) = x0 exp(−(1 + s²/2) + s B(1)) in the sense of Itô.
    model = Probe(lambda t, x, drive: -x, num_neurons=20)
    ones = jnp.ones(20)
    keys = jax.random.split(KEY, 30)

    def motion(key):
        law = hj.Gaussian(full_precision=True)
        path = law.path(key, 20, jnp.dtype(jnp.float64), 1.0, 1.0, dfx.BrownianIncrement)
        return path.increment(jnp.asarray(0))

    exact = jnp.exp(-(1 + 0.8**2 / 2) + 0.8 * jax.vmap(motion)(keys))
    errors = []
    levels = np.array([4, 6, 8])
    for level in levels:
        law = hj.Gaussian(refinement=int(level), full_precision=True)
        noise = hj.MultiplicativeNoise(proportional, law)
        options = dict(t1=1.0, dt=0.5**level, noise=noise, solver=solver)
        end = jax.vmap(lambda key, options=options: solve(model, ones, ones, key=key, **options))(
            keys
        ).final_state
        errors.append(np.sqrt(np.mean((end - exact) ** 2)))
    assert slope(0.5**levels, errors) == pytest.approx(order, abs=0.15)


# --- solvers and steps ---------------------------------------------------------------------------


@functools.cache
def finely_solved():
    noise = hj.AdditiveNoise(0.3, hj.Gaussian(refinement=4))
    return solve(SMOOTH, noise=noise, key=KEY, dt=0.005, solver=dfx.ShARK()).final_state


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("Heun", "ItoMilstein", "SPaRK"),
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in (
                *("Euler", "Midpoint", "Ralston", "ReversibleHeun", "EulerHeun"),
                *("StratonovichMilstein", "SEA", "SRA1", "ShARK", "GeneralShARK", "SlowRK"),
            )
        ),
    ],
)
def test_every_stochastic_solver_follows_the_same_noise(name):
    noise = hj.AdditiveNoise(0.3, hj.Gaussian(refinement=3))
    coarse = solve(SMOOTH, noise=noise, key=KEY, solver=getattr(dfx, name)())
    np.testing.assert_allclose(coarse.final_state, finely_solved(), atol=0.02)


@pytest.mark.slow
def test_adaptive_steps_without_noise():
    controller = dfx.PIDController(rtol=1e-9, atol=1e-9)
    adaptive = solve(SMOOTH, stepsize_controller=controller)
    fine = solve(SMOOTH, dt=0.002, save_every=0.02, solver=dfx.Dopri5())
    np.testing.assert_allclose(adaptive.ts, fine.ts, atol=1e-12)
    np.testing.assert_allclose(adaptive.overlaps, fine.overlaps, atol=1e-5)
    np.testing.assert_allclose(adaptive.final_state, fine.final_state, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "adaptive"),
    [
        (None, True),
        pytest.param(dfx.Heun(), False, marks=pytest.mark.long),
        pytest.param(dfx.ShARK(), False, marks=pytest.mark.long),
        pytest.param(dfx.HalfSolver(dfx.Heun()), True, marks=pytest.mark.long),
    ],
)
def test_the_brownian_tree_gives_the_linear_law_across_an_input_switch(solver, adaptive):
    # x' = u(t) − x + σ noise in many independent neurons, u = 0 and then 2 from t = 1/2: normal,
    # mean 2(1 − e^(−1/2)) at t = 1, variance σ²(1 − e^(−2))/2. Chi-square and z against these.
    size, sigma = 4000, 1.5
    model = Probe(lambda t, x, drive: drive - x, num_neurons=size)
    schedule = hj.Schedule([0.0, 0.5], jnp.stack([jnp.zeros(size), jnp.full(size, 2.0)]))
    controller = dfx.PIDController(rtol=1e-3, atol=1e-3) if adaptive else None
    end = solve(
        model,
        schedule,
        jnp.zeros(size),
        t1=1.0,
        dt=1 / 16 if adaptive else 1 / 64,
        noise=hj.AdditiveNoise(sigma, "tree"),
        key=KEY,
        solver=solver,
        stepsize_controller=controller,
    ).final_state
    mean, variance = 2 * (1 - np.exp(-0.5)), sigma**2 * (1 - np.exp(-2)) / 2
    z = (np.mean(end) - mean) / np.sqrt(variance / size)
    assert 2 * stats.norm.sf(abs(z)) > FALSE_ALARM
    chi2 = np.sum((np.asarray(end) - mean) ** 2) / variance
    assert 2 * min(stats.chi2.cdf(chi2, size), stats.chi2.sf(chi2, size)) > FALSE_ALARM


@pytest.mark.slow
def test_implicit_solvers_work_with_fixed_steps_and_tolerances():
    solver = dfx.Kvaerno3(root_finder=dfx.VeryChord(rtol=1e-8, atol=1e-8))
    fine = solve(SMOOTH, dt=0.002, solver=dfx.Dopri5()).final_state
    np.testing.assert_allclose(solve(SMOOTH, solver=solver).final_state, fine, atol=1e-5)


# --- first passages ------------------------------------------------------------------------------


class Above(eqx.Module):
    """How far the overlap with the first memory is above a threshold."""

    threshold: Float[Array, ""]

    def __call__(self, t, state, overlaps):
        return overlaps[0] - self.threshold


def passage(trajectory: hj.Trajectory) -> float:
    """Its time, which lies in its step."""
    assert trajectory.passage_time is not None
    assert trajectory.passage_step is not None
    assert trajectory.passage_ahead is not None
    time, step = float(trajectory.passage_time), int(trajectory.passage_step)
    ahead = float(trajectory.passage_ahead)
    assert 0 <= ahead <= (step > 0)
    assert time == (trajectory.grid.dt * (step - ahead) if step >= 0 else np.inf)
    return time


def ahead_of(margins: np.ndarray, step: int, since: int, switches: Sequence[int] = ()) -> float:
    """By what part of a step a line through the margins crosses zero before a step."""
    if step <= since or step in switches:
        return 0.0
    return float(margins[step] / (margins[step] - margins[step - 1]))


def rotating(t):
    return jnp.cos(3 * t) * VALUES[0]


PASSAGES = [
    (SCHEDULE, hj.AdditiveNoise(1.0), None),
    (rotating, None, dfx.Heun()),
    pytest.param(SCHEDULE, hj.AdditiveNoise(1.0), dfx.ShARK(), marks=pytest.mark.long),
    pytest.param(SCHEDULE, None, dfx.ReversibleHeun(), marks=pytest.mark.long),
    pytest.param(rotating, hj.AdditiveNoise(1.0, "tree"), None, marks=pytest.mark.long),
]


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "noise", "solver"), PASSAGES)
def test_first_passage_is_that_of_every_step(inputs, noise, solver):
    model = hj.IDPHopfield(MEMORIES)

    def run(threshold, since, **saving):
        above = Above(jnp.asarray(threshold))
        options: dict[str, Any] = dict(inputs=inputs, noise=noise, key=KEY, solver=solver)
        options |= {"passage_fn": above, "passage_since": since}
        return solve(model, **options, t1=1.7, **saving)

    full = run(2.0, 0.0, save_every=0.01)
    assert passage(full) == np.inf
    overlap, steps = np.asarray(full.overlaps[:, 0]), np.arange(171)
    found, coarse = set(), full
    for threshold in np.append(
        np.quantile(overlap, [0.052, 0.523, 0.914, 0.999]), overlap[0] - 0.1
    ):
        for since in (0.0, 0.5, 1.7):
            hits = [s for s in steps if overlap[s] > threshold and s >= round(since / 0.01)]
            coarse = run(threshold, since, save_every=0.5)
            assert coarse.passage_step is not None
            assert int(coarse.passage_step) == (hits[0] if hits else -1)
            if hits:
                switches = [round(onset / 0.01) for onset in ONSETS] if inputs is SCHEDULE else []
                ahead = ahead_of(overlap - threshold, int(hits[0]), round(since / 0.01), switches)
                assert coarse.passage_ahead == pytest.approx(ahead, abs=1e-7)
            found.add(passage(coarse))
    assert {0.0, 0.5} <= found
    assert len(found) > 4
    # Looking changes nothing.
    np.testing.assert_allclose(coarse.final_state, full.final_state, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("since", "step"),
    [
        (0.0, 0),
        (np.nextafter(0.0, 1.0), 1),
        (0.18, 18),  # though 18 float32(0.01) < float32(0.18)
        (0.29, 29),  # though 0.29 / 0.01 < 29 in float64
        (float(np.float32(0.18)), 18),  # 0.18000000715
        (0.1800001, 19),
        (0.185, 19),
        (0.19 - 1e-12, 19),
        (1.99, 199),
        (2.0, 200),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passages_count_from_the_first_step_not_before_since(since, step, dtype):
    model = hj.IDPHopfield(MEMORIES.astype(dtype))
    found = solve(model, passage_fn=always, passage_since=since)
    assert passage(found) == pytest.approx(step * 0.01)
    assert found.passage_step is not None


def always(t, state, overlaps):
    return 1.0 + 0 * t


@pytest.mark.slow
def test_a_passage_may_be_one_of_the_state():
    found = solve(SMOOTH, passage_fn=first_neuron, save_fn=save_state, save_every=0.01)
    positive = np.flatnonzero(np.asarray(found.saved)[:, 0] > 0.3)
    assert found.passage_step is not None
    assert 0 < positive[0] == int(found.passage_step)


def first_neuron(t, state, overlaps):
    return state[0] - 0.3


GRIDS = [(0.01, 1000, 10), (0.05, 40, 1), (0.1, 7, 3), (0.1, 7, 5), (0.3, 10, 10)]


@pytest.mark.parametrize(("dt", "num_steps", "stride"), GRIDS)
def test_late_times_are_a_closed_interval_counted_in_steps(dt, num_steps, stride):
    # Against rational arithmetic; at least the last saved time, which may be before t1.
    grid, step = Grid(dt, num_steps, stride), Fraction(str(dt))
    saved = [number * stride for number in range(num_steps // stride + 1)]
    assert grid.save_steps.tolist() == saved
    steps = [Fraction(0), Fraction(1, 2), *map(Fraction, range(1, num_steps + 1))]
    for length in steps:
        inside = [number >= num_steps - length for number in saved]
        inside[-1] = True
        for settle in (float(length * step), dt * float(length)):  # rounded differently
            assert grid.late(settle).tolist() == inside
    for settle in (0.0, np.nextafter(0.0, 1.0), 1e-9, dt / 2):
        assert np.flatnonzero(grid.late(settle)).tolist() == [len(saved) - 1]
    assert grid.late(num_steps * dt).all()


def test_a_state_that_blew_up_passes_nothing():
    class Since(eqx.Module):
        when: Float[Array, ""]

        def __call__(self, t, state, overlaps):
            return jnp.where(t >= self.when, 1, -1)  # a whole number is a real number

    model = Probe(lambda t, x, drive: x**3)
    for when, expected in [(0.3, 0.3), (0.0, 0.0), (0.7, np.inf), (5.0, np.inf)]:
        trajectory = solve(
            model,
            jnp.zeros(2),
            jnp.ones(2),
            save_every=0.1,
            throw=False,
            passage_fn=Since(jnp.asarray(when)),
        )
        assert trajectory.diverged_at == pytest.approx(0.6)
        # From −1 to 1 in the step before.
        half = 0.005 if 0 < expected < 1 else 0
        assert passage(trajectory) == pytest.approx(expected - half)


@pytest.mark.long
def test_first_passages_under_transformations():
    above = Above(jnp.asarray(0.3))

    def run(sigma, key, passage_fn=above, **options):
        noise = hj.AdditiveNoise(sigma)
        options |= {"passage_fn": passage_fn, "passage_since": 0.2}
        return solve(SMOOTH, noise=noise, key=key, **options)

    keys = jax.random.split(KEY, 4)
    together = jax.jit(jax.vmap(run, (None, 0)))(0.8, keys)
    alone = [passage(run(0.8, key)) for key in keys]
    np.testing.assert_allclose(together.passage_time, alone, atol=1e-12)

    def loss(sigma, passage_fn, **options):
        return jnp.mean(run(sigma, KEY, passage_fn, **options).overlaps)

    for differentiate in (
        jax.grad,
        lambda f: lambda s: jax.jvp(lambda s: f(s, adjoint=dfx.ForwardMode()), (s,), (1.0,))[1],
    ):
        with_it = differentiate(lambda s, **options: loss(s, above, **options))(0.8)
        without = differentiate(lambda s, **options: loss(s, None, **options))(0.8)
        np.testing.assert_allclose(with_it, without, rtol=1e-9)


@pytest.mark.long
def test_first_passages_of_adaptive_steps():
    controller = dfx.PIDController(rtol=1e-6, atol=1e-6)
    above = Above(jnp.asarray(0.2))
    options: dict[str, Any] = dict(x0=-X0, passage_fn=above, passage_since=0.2)
    adaptive = solve(SMOOTH, VALUES[0], stepsize_controller=controller, **options)
    fine = solve(SMOOTH, VALUES[0], dt=0.001, solver=dfx.Heun(), **options)
    assert np.isfinite(passage(fine))
    assert adaptive.passage_step is None  # adaptive steps have no numbers
    assert adaptive.passage_time is not None
    assert abs(float(adaptive.passage_time) - passage(fine)) < 0.02


class Turning(eqx.Module):
    """Another sign before a time than from it on."""

    when: Float[Array, ""]
    before: float = -3.0

    def __call__(self, t, state, overlaps):
        return jnp.where(t >= self.when, 1.0, self.before)


@pytest.mark.parametrize(
    ("when", "since", "ahead"),
    [(0.6, 0.0, 0.25), (0.0, 0.0, 0.0), (0.6, 0.6, 0.0), (0.6, 0.59, 0.25), (0.6, 0.595, 0.0)],
)
def test_a_passage_lies_between_two_looks_that_count(when, since, ahead):
    options: dict[str, Any] = {"passage_fn": Turning(jnp.asarray(when)), "passage_since": since}
    found = solve(SMOOTH, VALUES[0], t1=0.7, **options)
    assert found.passage_ahead == pytest.approx(ahead)
    assert passage(found) == pytest.approx(when - 0.01 * ahead)


@pytest.mark.slow
def test_a_step_up_to_a_new_input_is_not_cut():
    for onset, expected in ((0.6, 0.6), (0.59, 0.5975), (0.61, 0.5975)):
        shown = hj.Schedule([0.0, onset], np.stack([VALUES[0], VALUES[0]]))
        found = solve(SMOOTH, shown, t1=0.7, passage_fn=Turning(jnp.asarray(0.6)))
        assert passage(found) == pytest.approx(expected)


@pytest.mark.slow
def test_infinite_and_undefined_margins_are_not_cut():
    for before in (-jnp.inf, jnp.nan):
        turning = Turning(jnp.asarray(0.6), before)
        assert passage(solve(SMOOTH, VALUES[0], t1=0.7, passage_fn=turning)) == pytest.approx(0.6)


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "most"), [(dfx.Heun(), 0.3), (hj.ExponentialAdams(), 2.5)])
def test_passages_between_large_steps_are_right_to_second_order(solver, most):
    options: dict[str, Any] = {"x0": -X0, "passage_fn": Above(jnp.asarray(0.2)), "solver": solver}
    fine = passage(solve(SMOOTH, VALUES[0], dt=0.001, **options))
    for dt in (0.1, 0.05, 0.025):
        assert abs(passage(solve(SMOOTH, VALUES[0], dt=dt, **options)) - fine) < most * dt**2


@pytest.mark.slow
def test_a_passage_time_has_a_gradient():
    def time(strength):
        found = solve(SMOOTH, strength * VALUES[0], x0=-X0, passage_fn=Above(jnp.asarray(0.2)))
        return found.passage_time

    time, step = jax.jit(time), 1e-5
    slope = (time(1 + step) - time(1 - step)) / (2 * step)
    assert slope < 0
    np.testing.assert_allclose(jax.grad(time)(1.0), slope, rtol=1e-4)


# --- transformations -----------------------------------------------------------------------------


@pytest.mark.slow
def test_vmap_over_everything_equals_a_loop():
    keys = jax.random.split(KEY, 3)
    memories = jax.vmap(
        lambda key: hj.random_memories(key, num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS)
    )(keys)
    sigmas = jnp.array([0.1, 0.5, 2.0])

    def one(memories, weights, x0, sigma, key):
        schedule = hj.Schedule([0.0, 0.5, 1.2], hj.mixture(memories, weights))
        noise = hj.AdditiveNoise(sigma)
        return solve(hj.IDPHopfield(memories), schedule, x0, noise=noise, key=key).overlaps

    batch = (memories, jnp.stack([WEIGHTS, 2 * WEIGHTS, 3 * WEIGHTS]), memories[:, 0], sigmas, keys)
    together = jax.jit(jax.vmap(one))(*batch)
    for trial in range(3):
        alone = one(*(leaf[trial] for leaf in batch))
        np.testing.assert_allclose(together[trial], alone, atol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_vmap_over_modules_themselves():
    noise = eqx.filter_vmap(hj.AdditiveNoise)(jnp.array([0.0, 1.0]))
    schedule = eqx.filter_vmap(lambda scale: hj.Schedule([0.0, 0.5, 1.2], scale * VALUES))(
        jnp.array([1.0, 2.0])
    )
    model = hj.IDPHopfield(MEMORIES)
    batch = eqx.filter_vmap(lambda s, n: solve(model, s, noise=n, key=KEY))(schedule, noise)
    alone = solve(
        model,
        hj.Schedule([0.0, 0.5, 1.2], 2 * VALUES),
        noise=hj.AdditiveNoise(1.0),
        key=KEY,
    )
    np.testing.assert_allclose(batch.final_state[1], alone.final_state, atol=1e-9)


@pytest.mark.slow
def test_split_over_devices_equals_one_device():
    mesh = jax.make_mesh((2,), ("trials",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("trials")
    keys = jax.random.split(KEY, 8)

    def run(keys):
        noise = hj.AdditiveNoise(0.5)
        model = hj.IDPHopfield(MEMORIES)
        return jax.vmap(lambda key: solve(model, noise=noise, key=key).final_state)(keys)

    split = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    sharding = jax.sharding.NamedSharding(mesh, spec)
    automatic = jax.jit(run, in_shardings=sharding, out_shardings=sharding)
    np.testing.assert_allclose(split(keys), run(keys), atol=1e-9)
    np.testing.assert_allclose(automatic(keys), run(keys), atol=1e-9)


def loss(strength, sigma, *, adjoint=None, dtype=jnp.float64):
    trajectory = solve(
        hj.IDPHopfield(MEMORIES.astype(dtype)),
        strength * RETRIEVED["inputs"].astype(dtype),
        RETRIEVED["x0"],
        noise=hj.AdditiveNoise(sigma),
        key=KEY,
        adjoint=adjoint,
    )
    return jnp.mean(trajectory.overlaps[:, 0])


@functools.cache
def gradient(dtype: Any):
    at = jnp.asarray(0.9, dtype), jnp.asarray(2.0, dtype)
    return jax.grad(functools.partial(loss, dtype=dtype), argnums=(0, 1))(*at)


@pytest.mark.slow
def test_reverse_mode_gradient_against_central_differences():
    step = 1e-5
    strength = (loss(0.9 + step, 2.0) - loss(0.9 - step, 2.0)) / (2 * step)
    sigma = (loss(0.9, 2.0 + step) - loss(0.9, 2.0 - step)) / (2 * step)
    exact = gradient(jnp.float64)
    np.testing.assert_allclose(exact, (strength, sigma), rtol=1e-6, atol=1e-9)
    assert all(abs(g) > 1e-3 for g in exact)


@pytest.mark.long
def test_float32_gradient_agrees_with_float64_on_the_same_noise():
    single, double = gradient(jnp.float32), gradient(jnp.float64)
    assert single[0].dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adjoint", "solver"),
    [
        (dfx.ForwardMode(), dfx.Euler()),
        pytest.param(dfx.DirectAdjoint(), dfx.Euler(), marks=pytest.mark.long),
        pytest.param(dfx.DirectAdjoint(), dfx.ShARK(), marks=pytest.mark.long),
        pytest.param(dfx.ForwardMode(), dfx.ShARK(), marks=pytest.mark.long),
        pytest.param(dfx.DirectAdjoint(), dfx.Heun(), marks=pytest.mark.long),
    ],
)
def test_forward_mode_agrees_with_reverse_mode(adjoint, solver):
    def end(strength, adjoint):
        inputs = hj.Schedule([0.0, 0.5, 1.2], strength * VALUES)
        noise = hj.AdditiveNoise(1.0)
        options = dict(noise=noise, key=KEY, adjoint=adjoint, solver=solver)
        return solve(SMOOTH, inputs, t1=1.5, **options).overlaps[-1, 0]

    one = jnp.asarray(1.0)
    reverse = jax.grad(end)(one, None)
    forward = jax.jvp(lambda s: end(s, adjoint), (one,), (one,))[1]
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    if isinstance(adjoint, dfx.DirectAdjoint):
        np.testing.assert_allclose(jax.grad(end)(one, adjoint), reverse, rtol=1e-9)


class Counting(hj.AbstractActivation):
    """tanh(10 x) that counts how often it is traced."""

    scale: Float[Array, ""]
    traces: ClassVar[int] = 0

    def __call__(self, x):
        Counting.traces += 1
        return jnp.tanh(self.scale * x)

    def antiderivative(self, x):
        return x


def test_new_numbers_do_not_recompile():
    def run(scale, memories, weights, sigma, seed, x0):
        model = hj.IDPHopfield(memories, activation=Counting(jnp.asarray(scale)))
        schedule = hj.Schedule([0.0, 0.5, 1.2], hj.mixture(memories, weights))
        noise = hj.AdditiveNoise(sigma)
        return solve(model, schedule, x0, noise=noise, key=jax.random.key(seed))

    run(10.0, MEMORIES, WEIGHTS, 1.0, 0, X0)
    traces = Counting.traces
    assert traces > 0
    for number in range(1, 4):
        run(float(number), -MEMORIES, WEIGHTS * number, 1.0 + number, number, X0 * number)
        run(10.0, np.asarray(MEMORIES), WEIGHTS, jnp.asarray(1.5), number, np.asarray(X0))
        run(10.0, MEMORIES, WEIGHTS, number, number, X0)
    assert Counting.traces == traces


# --- divergence ----------------------------------------------------------------------------------


def cubic(t, x, drive):
    return x**3


@pytest.mark.slow
def test_divergence_alone_raises_and_names_the_time():
    model = Probe(cubic)
    with pytest.raises(hj.DivergenceError, match=r"by t = 0\.6 .*throw=False"):
        solve(model, jnp.zeros(2), jnp.ones(2), save_every=0.1)
    trajectory = solve(model, jnp.zeros(2), jnp.ones(2), save_every=0.1, throw=False)
    assert not trajectory.ok
    assert trajectory.diverged_at == pytest.approx(0.6)
    # tanh of an infinite state is 1, a perfect overlap to look at.
    before = np.asarray(trajectory.ts) < 0.59
    assert np.isfinite(trajectory.overlaps[before]).all()
    assert np.isnan(trajectory.overlaps[~before]).all()
    assert "diverged" in repr(trajectory)


@pytest.mark.slow
def test_divergence_inside_a_gradient_raises_nothing():
    model = Probe(cubic)
    jax.grad(lambda start: solve(model, jnp.zeros(2), start * jnp.ones(2)).final_state[0])(1.0)


def test_divergence_between_the_last_saved_time_and_the_end_is_noticed():
    model = Probe(cubic)
    trajectory = solve(model, jnp.zeros(2), jnp.ones(2), t1=0.6, save_every=0.5, throw=False)
    assert not trajectory.ok
    assert trajectory.diverged_at == pytest.approx(0.6)
    assert np.isfinite(trajectory.overlaps).all()


@pytest.mark.slow
def test_divergence_under_vmap_marks_that_trial_only():
    model = Probe(cubic)
    starts = jnp.array([[0.1, 0.1], [1.0, 1.0], [0.2, 0.2]])
    batch = jax.vmap(lambda x0: solve(model, jnp.zeros(2), x0))(starts)
    assert batch.ok.tolist() == [True, False, True]
    assert np.isfinite(batch.overlaps[jnp.array([0, 2])]).all()
    assert np.isnan(batch.overlaps[1, -1]).all()
    assert "2 of 3 ok" in repr(batch)


@pytest.mark.slow
def test_adaptive_steps_that_shrink_to_nothing_are_not_ok():
    model = Probe(cubic)
    controller = dfx.PIDController(rtol=1e-6, atol=1e-6)
    trajectory = solve(
        model, jnp.zeros(2), jnp.ones(2), stepsize_controller=controller, throw=False
    )
    assert not trajectory.ok
    assert trajectory.diverged_at < 0.6
    assert np.isnan(trajectory.overlaps[-1]).all()


# --- models of the user's own --------------------------------------------------------------------


class Layered(hj.AbstractHopfield):
    """A state of N + 1 entries, the last of which integrates the others."""

    memories: Float[Array, "P N"]
    tau: Float[Array, ""]

    @property
    def state_size(self):
        return self.memories.shape[1] + 1

    @property
    def fastest_time_constant(self):
        return self.tau

    def initial_state(self, x0):
        return jnp.append(x0, 0.0)

    def features(self, state):
        return state[:-1]

    def drive(self, u):
        return {"current": u}

    def drift(self, t, x, drive):
        return jnp.append((drive["current"] - x[:-1]) / self.tau, x[:-1].sum())

    def energy(self, x, u):
        return jnp.zeros(())

    @property
    def overlap_measures_size(self):
        return True

    def overlaps(self, x):
        return self.memories @ x[:-1]

    def saliency(self, u):
        return self.memories @ u


@pytest.mark.slow
def test_a_model_with_a_larger_state_and_an_array_time_constant():
    def run(tau):
        model = Layered(MEMORIES, jnp.asarray(tau))
        return solve(model, noise=hj.AdditiveNoise(0.1), key=KEY)

    trajectory = run(0.5)
    assert trajectory.final_state.shape == (NUM_NEURONS + 1,)
    np.testing.assert_allclose(jax.jit(run)(0.5).overlaps, trajectory.overlaps, atol=1e-9)
    with pytest.raises(ValueError, match="`dt` must not exceed the model's fastest time constant"):
        run(0.001)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("overlaps", lambda self, x: x[0]),
        ("overlaps", lambda self, x: (x, x)),
        ("initial_state", lambda self, x0: x0),
        ("drift", lambda self, t, x, drive: x[:3]),
        ("drift", lambda self, t, x, drive: x.astype(complex)),
        ("energy", lambda self, x, u: x**2),
        ("energy", lambda self, x, u: jnp.sum(x**2, keepdims=True)),
        ("energy", lambda self, x, u: None),
        ("energy", lambda self, x, u: 1 / 0),
    ],
)
def test_what_a_model_gives_is_checked_by_name(name, wrong):
    broken = type("Broken", (Layered,), {name: wrong})(MEMORIES, jnp.ones(()))
    trial = hj.Trial(broken, MEMORIES[0], X0)
    times: dict[str, Any] = {"t1": 1.0, "dt": 0.1}
    calls = [
        lambda: solve(broken),
        lambda: hj.solve_ensemble(trial, trials=2, key=KEY, progress=False, **times),
        lambda: theory.find_equilibrium(broken, MEMORIES[0], X0),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError), match=rf"`model\.{name}` must give") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("energy", [0.0, np.nan, 1])
def test_an_energy_of_pythons_own_numbers_is_one(energy):
    plain = type("Plain", (Layered,), {"energy": lambda self, x, u: energy})
    assert solve(plain(MEMORIES, jnp.ones(()))).ok


def test_integer_memories_of_a_model_are_refused():
    with pytest.raises(
        TypeError, match=r"`model\.memories` must be an array of float32 or float64"
    ):
        solve(Layered(MEMORIES.astype(int), jnp.ones(())))


# --- what comes back -----------------------------------------------------------------------------


@pytest.mark.slow
def test_saving_does_not_change_the_trajectory_and_saves_what_is_asked():
    model = hj.IDPHopfield(MEMORIES)
    noise = hj.AdditiveNoise(0.5)

    def observe(t, state):
        return {"t": t, "first": state[0]}

    full = solve(model, noise=noise, key=KEY, save_every=0.01, save_fn=observe)
    thin = solve(model, noise=noise, key=KEY, save_every=0.3)
    assert full.saved is not None
    assert thin.saved is None
    np.testing.assert_allclose(full.saved["t"], full.ts, atol=1e-12)
    np.testing.assert_allclose(full.saved["first"][0], X0[0])
    np.testing.assert_allclose(thin.ts, [0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
    np.testing.assert_allclose(thin.overlaps, full.overlaps[::30][: len(thin.ts)], atol=1e-9)
    np.testing.assert_allclose(thin.final_state, full.final_state, atol=1e-9)


def test_repr_tells_how_it_ended():
    text = repr(solve(hj.IDPHopfield(MEMORIES)))
    assert "101 saved times from 0 to 2, 4 memories, 60 state entries" in text
    assert "t = 2 " in text
    abstract = jax.eval_shape(lambda: solve(hj.IDPHopfield(MEMORIES)))
    assert "shape=(101, 4)" in repr(abstract)


@pytest.mark.slow
def test_float32_run_under_x64_stays_in_float32():
    model = hj.IDPHopfield(MEMORIES.astype(jnp.float32))
    trajectory = solve(model, noise=hj.AdditiveNoise(0.5), key=KEY)
    assert trajectory.overlaps.dtype == trajectory.final_state.dtype == jnp.float32
    double = solve(hj.IDPHopfield(MEMORIES), noise=hj.AdditiveNoise(0.5), key=KEY)
    np.testing.assert_allclose(trajectory.overlaps[:20], double.overlaps[:20], atol=2e-3)


def test_legacy_keys_give_the_same_noise():
    model = hj.IDPHopfield(MEMORIES)
    noise = hj.AdditiveNoise(0.5)
    old = solve(model, noise=noise, key=jax.random.PRNGKey(3))
    new = solve(model, noise=noise, key=jax.random.key(3))
    np.testing.assert_array_equal(old.overlaps, new.overlaps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tie_in_the_summary_does_not_hide_what_is_positive(dtype):
    rounded = dtype(0.8) * (1 + 2 * np.finfo(dtype).eps)
    rows = [
        ([-0.8, 0.3, 0.8], "+0.800 with memories[2]"),  # equal
        ([-rounded, 0.3, 0.8], "+0.800 with memories[2]"),  # but for rounding
        ([-0.81, 0.3, 0.8], "-0.810 with memories[0]"),  # clearly the stronger
        ([0.0, 0.0, 0.0], "+0.000 with memories[0]"),
        ([0.5, 0.5, -0.5], "+0.500 with memories[0]"),
        ([-0.5, -0.5, -0.4], "-0.500 with memories[0]"),
    ]
    overlaps = jnp.asarray(np.array([row for row, _ in rows], dtype))
    ts, end = jnp.arange(float(len(rows)), dtype=dtype), jnp.zeros(4, dtype)
    never = jnp.asarray(np.inf, dtype)
    grid = Grid(1.0, len(rows) - 1, 1)
    text = repr(hj.Trajectory(ts, overlaps, end, jnp.array(True), never, grid))
    for line, (_, shown) in zip(text.splitlines()[1:], rows, strict=True):
        assert line.endswith(f"strongest overlap {shown}")


@pytest.mark.slow
def test_an_input_without_a_sign_is_not_said_to_end_in_the_mirror_image():
    """Two complementary memories tie at all times: the one that is there is named."""
    patterns = np.array([[-1.0] * 4, [1.0] * 4])
    model = hj.ClassicHopfield(patterns, self_coupling=True)
    text = repr(hj.solve(model, np.zeros(4), np.ones(4), t1=1.0, dt=0.1))
    assert "with memories[1]" in text
    assert "with memories[0]" not in text
