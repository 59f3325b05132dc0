"""Noise on an input: its law, what it does to networks, and that a key and a step decide it."""

# pyright: reportArgumentType=false

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose, assert_array_equal
from odd_models import Integrator
from refusals import MEMORIES, ONES, assert_refused, assert_refused_at_run_time, each
from scipy import stats

import hopjax as hj
from hopjax._checks import is_traced
from hopjax._keys import input_key
from hopjax.noise.draws import normals

KEY = jax.random.key(5)
FALSE_ALARM = 1e-5  # of each statistical test below; the keys are fixed
NEURONS = 3000  # independent samples of one process
AMPLITUDE, TAU = 0.7, 0.3


def state(t, x):
    del t
    return x


def saved(inputs, *, t1=0.6, dt=0.1, key=KEY, **options):
    """The state of an integrator after every step."""
    zeros = jnp.zeros(NEURONS)
    trajectory = hj.solve(
        Integrator(jnp.ones((1, NEURONS)), hj.Tanh()),
        zeros if inputs is None else inputs,
        zeros,
        **{"t1": t1, "dt": dt, "key": key, "save_every": dt, "save_fn": state} | options,
    )
    return trajectory.saved if is_traced(trajectory) else np.asarray(trajectory.saved)


def coloured(amplitude=AMPLITUDE, tau=TAU, mean=None, **options):
    mean = jnp.zeros(NEURONS) if mean is None else mean
    return hj.NoisyInput(mean, amplitude, correlation_time=tau, **options)


def seen(inputs, dt=0.1, **options):
    """The input in every step."""
    return np.diff(saved(inputs, dt=dt, **options), axis=0) / dt


def agree(mean, expected, variance):
    """Whether a mean over the neurons is what it should be, given the variance of one."""
    z = (mean - expected) / np.sqrt(variance / NEURONS)
    return 2 * stats.norm.sf(abs(z)) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("dt", [0.1, 0.3])
def test_coloured_noise_has_the_law_of_ornstein_and_uhlenbeck_at_any_step(dt):
    steps = seen(coloured(), dt)
    for step in (0, len(steps) - 1):  # stationary from the start
        assert agree(steps[step].mean(), 0, AMPLITUDE**2)
        ends = stats.chi2.isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2], NEURONS)
        assert ends[0] < np.sum(steps[step] ** 2) / AMPLITUDE**2 < ends[1]
    assert stats.kstest(steps[-1] / AMPLITUDE, "norm").pvalue > FALSE_ALARM
    for lag in range(1, len(steps)):
        rho = np.exp(-lag * dt / TAU)
        product = (steps[0] * steps[lag]).mean()
        assert agree(product, AMPLITUDE**2 * rho, AMPLITUDE**4 * (1 + rho**2))
    pairs = steps[0, ::2] * steps[0, 1::2]  # neurons are independent
    assert agree(pairs.mean(), 0, 2 * AMPLITUDE**4)


@pytest.mark.slow
@pytest.mark.parametrize("dt", [0.1, 0.3])
def test_white_noise_adds_up_to_brownian_motion_at_any_step(dt):
    ends = saved(hj.NoisyInput(jnp.zeros(NEURONS), AMPLITUDE), dt=dt)
    assert stats.kstest(ends[-1] / (AMPLITUDE * np.sqrt(0.6)), "norm").pvalue > FALSE_ALARM
    first, last = ends[1], ends[-1] - ends[1]
    assert agree((first * last).mean(), 0, AMPLITUDE**4 * dt * (0.6 - dt))


@pytest.mark.slow
def test_white_noise_is_the_limit_of_coloured_noise():
    # Of standard deviation a/√(2τ): over T = 2 the variance of the integral is a² (T − τ + ...).
    tau, end, dt = 0.05, 2.0, 0.01
    steps = seen(coloured(1 / np.sqrt(2 * tau), tau), dt, t1=end)
    rho, count = np.exp(-dt / tau), round(end / dt)
    lags = np.arange(1, count)
    variance = dt**2 / (2 * tau) * (count + 2 * np.sum((count - lags) * rho**lags))
    integral = dt * steps.sum(axis=0)
    assert agree((integral**2).mean(), variance, 2 * variance**2)
    assert variance == pytest.approx(end - tau, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("tau", [None, TAU])
def test_noise_on_the_state_is_another_one_and_stays_what_it_was(tau):
    inputs, noise = coloured(tau=tau), hj.AdditiveNoise(1.0)
    both, on_input, on_state = saved(inputs, noise=noise), saved(inputs), saved(None, noise=noise)
    assert_allclose(both, on_input + on_state, rtol=0, atol=1e-9)
    own, other = (np.diff(each, axis=0) for each in (on_input, on_state))
    for step in range(len(own)):
        for beside in range(len(other)):
            product = own[step] * other[beside]
            assert agree(product.mean(), 0, own[step].var() * other[beside].var())


def loop(classic, tau, dt=0.05, steps=8):
    """The same by hand, with the matrix W."""
    rng = np.random.default_rng(1)
    memories, start = rng.choice([-1.0, 1.0], (3, 12)), rng.normal(size=12)
    mean = np.array([0.5, 3.0, 1.0]) @ memories
    amplitude = np.linspace(0.2, 0.9, 12)
    inputs = hj.NoisyInput(mean, amplitude, correlation_time=tau)
    model = (hj.ClassicHopfield if classic else hj.IDPHopfield)(memories)
    run = hj.solve(
        model, inputs, start, t1=steps * dt, dt=dt, key=KEY, save_every=dt, save_fn=state
    )
    key, x, z = input_key(KEY), start, None
    stream = jax.random.fold_in(key, 0) if tau is None else key

    def synapses(alpha):
        matrix = (memories.T * alpha) @ memories / 12
        return matrix - np.diag(np.diag(matrix))

    for step in range(steps):
        eta = np.asarray(normals(stream, jnp.asarray(step), 12), float)
        if tau is None:
            zeta = amplitude * eta / np.sqrt(dt)
        else:
            rho = np.exp(-dt / tau)
            z = eta if z is None else rho * z + np.sqrt(1 - rho**2) * eta
            zeta = amplitude * z
        u = mean + zeta
        matrix = synapses(np.ones(3)) if classic else synapses(memories @ u / 12)
        x = x + dt * (-x + matrix @ np.tanh(10 * x) + (u if classic else 0))
        assert_allclose(run.saved[step + 1], x, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("tau", [None, 0.2])
@pytest.mark.parametrize("classic", [True, False])
def test_networks_get_what_a_loop_by_hand_gives_them(classic, tau):
    loop(classic, tau)


def network(kind=hj.IDPHopfield):
    memories = np.random.default_rng(2).choice([-1.0, 1.0], (3, 16))
    return kind(memories), jnp.asarray(2.0 * memories[0] + memories[1]), 0.3 * memories[2]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, hj.ExponentialAdams()])
def test_white_noise_on_a_current_is_additive_noise(solver):
    model, u, x0 = network(hj.ClassicHopfield)
    settings = {"t1": 1.0, "dt": 0.05, "solver": solver}
    noisy = hj.solve(model, hj.NoisyInput(u, 0.4), x0, key=KEY, **settings)
    same = hj.solve(model, u, x0, noise=hj.AdditiveNoise(0.4), key=input_key(KEY), **settings)
    assert_allclose(noisy.final_state, same.final_state, rtol=EXACT)


@pytest.mark.slow
def test_every_stage_sees_the_value_at_the_beginning_of_a_step():
    assert_allclose(seen(coloured(), solver=dfx.Heun()), seen(coloured()), rtol=EXACT, atol=1e-9)


@pytest.mark.slow
def test_noise_comes_on_top_of_schedules_and_functions():
    ones = jnp.ones(NEURONS)
    noise = seen(coloured())
    schedule = hj.Schedule([0.0, 0.2], jnp.stack([ones, -ones]))
    for mean, values in ((schedule, [1, 1, -1, -1, -1, -1]), (lambda t: t * ones, None)):
        expected = noise + (0.1 * np.arange(6) if values is None else np.array(values))[:, None]
        assert_allclose(seen(coloured(mean=mean)), expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_key_and_a_step_decide_it():
    noisy = coloured()
    alone = saved(noisy)
    keys = jnp.stack([jax.random.key(1), KEY])
    batch = jax.vmap(lambda key: saved(noisy, key=key))(keys)
    assert_array_equal(batch[1], alone)
    assert not np.any(batch[0][1] == alone[1])
    # A key of its own, whatever that of the solve.
    frozen = coloured(key=KEY)
    assert_array_equal(saved(frozen, key=jax.random.key(9)), alone)
    assert_array_equal(saved(frozen, key=None), alone)
    # The first steps of a longer solve, and the last ones alone.
    assert_array_equal(saved(noisy, t1=0.3), alone[:4])
    later = saved(noisy, t0=0.3)
    assert_allclose(later - later[0], alone[3:] - alone[3], rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("tau", [None, 0.2])
@pytest.mark.parametrize("solver", [None, hj.ExponentialAdams()])
def test_parts_are_one_solve_to_the_bit(tau, solver):
    model, u, x0 = network()
    noisy = hj.NoisyInput(hj.Schedule([0.0, 0.5], jnp.stack([u, -u])), 0.8, correlation_time=tau)
    settings = {"dt": 0.05, "key": KEY, "noise": hj.AdditiveNoise(0.2), "solver": solver}
    settings["save_every"] = 0.2
    one = hj.solve(model, noisy, x0, t1=1.2, **settings)
    first = hj.solve(model, noisy, x0, t1=0.6, **settings)
    assert_array_equal(first.resume(t1=1.2).final_state, one.final_state)
    # The same process where the input is given anew.
    again = first.resume(t1=1.2, inputs=noisy)
    if solver is None:
        assert_allclose(again.final_state, one.final_state, rtol=EXACT, atol=EXACT)
    without = first.resume(t1=1.2, inputs=noisy.inputs)
    assert np.all(without.final_state != one.final_state)


@pytest.mark.slow
def test_gradients_are_those_of_differences():
    model, u, x0 = network()

    def final(parameters):
        amplitude, tau, scale = parameters
        noisy = hj.NoisyInput(scale * u, amplitude, correlation_time=tau)
        return jnp.sum(hj.solve(model, noisy, x0, t1=0.5, dt=0.05, key=KEY).final_state)

    at, step = jnp.array([0.8, 0.2, 0.3]), 1e-5
    run = jax.jit(jax.vmap(final))
    ends = run(at[None] + step * jnp.concatenate([jnp.eye(3), -jnp.eye(3)]))
    differences = (ends[:3] - ends[3:]) / (2 * step)
    assert np.all(np.abs(differences) > 1e-3)
    assert_allclose(jax.grad(final)(at), differences, rtol=1e-6)


@pytest.mark.slow
def test_each_trial_of_an_ensemble_has_its_own_and_tuning_sees_no_cost_in_it():
    memories, u, x0 = (jnp.asarray(each) for each in (network()[0].memories, *network()[1:]))

    def trial(key, amplitude=2.0):
        del key
        noisy = hj.NoisyInput(u, amplitude, correlation_time=0.2)
        return hj.Trial(hj.IDPHopfield(memories), noisy, x0)

    def final(trial, trajectory):
        return trajectory.final_state[0]

    settings = {"key": KEY, "t1": 0.4, "dt": 0.1, "reductions": {"x": hj.PerTrial(final)}}
    made = [
        hj.solve_ensemble(trial, trials=trials, chunk=2, progress=False, **settings)
        for trials in (4, 3)
    ]
    values = [np.asarray(each.reduced["x"]["values"]) for each in made]
    assert len(np.unique(values[0])) == 4
    assert_array_equal(values[1], values[0][:3])
    cost = hj.InputCost().measure(
        trial(KEY), hj.solve(trial(KEY).model, u, x0, t1=0.4, dt=0.1), hj.Criterion()
    )
    assert cost == pytest.approx(0.4 * float(jnp.mean(u**2)))


@pytest.mark.slow
def test_a_program_with_room_for_more_memories_gets_the_same_noise():
    model, u, x0 = network()
    noisy = hj.NoisyInput(u, 0.8)
    ends = [
        hj.solve(model, noisy, x0, t1=0.5, dt=0.05, key=KEY, capacity=capacity).final_state
        for capacity in (None, 5)
    ]
    assert_allclose(ends[0], ends[1], rtol=1e-9)


# What is refused.

IDP = hj.IDPHopfield(MEMORIES)
RIGHT = hj.NoisyInput(ONES, 0.5, correlation_time=0.2)


def solve(inputs=RIGHT, model=IDP, **options):
    return hj.solve(model, inputs, ONES, **{"t1": 1.0, "dt": 0.1, "key": KEY} | options)


@each(
    (lambda: hj.NoisyInput(ONES, -0.5), ValueError, "amplitude", "zero or positive, got -0.5"),
    (lambda: hj.NoisyInput(ONES, "much"), TypeError, "amplitude", "got 'much'"),
    (lambda: hj.NoisyInput(np.ones((2, 8)), 0.5), ValueError, "inputs", "got shape (2, 8)"),
    (lambda: hj.NoisyInput(RIGHT, 0.5), ValueError, "inputs", "without noise of its own"),
    (
        lambda: hj.NoisyInput(ONES, 0.5, correlation_time=0.0),
        *(ValueError, "correlation_time", "positive, got 0.0"),
    ),
    (lambda: solve(hj.NoisyInput(ONES, np.ones(3))), ValueError, "amplitude", "got shape (3,)"),
    (lambda: solve(hj.NoisyInput(np.ones(3), 0.5)), ValueError, "inputs", "shape (8,)"),
    (lambda: solve(key=None), ValueError, "key", "where there is noise on the input, got None"),
    (lambda: solve(dt=0.25), ValueError, "correlation_time", "at least dt = 0.25"),
    (
        lambda: solve(stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-3)),
        *(ValueError, "stepsize_controller", "on the grid of steps only, got PIDController"),
    ),
    (
        lambda: solve(hj.NoisyInput(ONES, 0.5), solver=dfx.Heun()),
        *(ValueError, "solver", "for white noise on the input, got Heun()"),
    ),
    (
        lambda: solve(hj.NoisyInput(ONES, 0.5), model=hj.DynamicAttention(MEMORIES, 0.5)),
        *(ValueError, "correlation_time", "that of DynamicAttention has no limit"),
    ),
    (lambda: hj.theory.report(IDP, RIGHT), ValueError, "u", "without noise of its own"),
    (
        lambda: hj.theory.noisy_flow(IDP, RIGHT, ONES, noise=0.5, t1=1.0, dt=0.1),
        *(ValueError, "inputs", "without noise of its own"),
    ),
)
def test_wrong_noisy_inputs(row):
    assert_refused(row)


@pytest.mark.slow
def test_wrong_noisy_inputs_under_a_trace():
    assert_refused_at_run_time(
        (lambda a: hj.NoisyInput(ONES, a).amplitude, 0.5, -0.5, "`amplitude` must be zero"),
        (
            lambda tau: solve(hj.NoisyInput(ONES, 0.5, correlation_time=tau)).final_state,
            *(0.2, 0.05, "`correlation_time` must be at least dt = 0.1"),
        ),
    )
