"""Whether a halved step shows what is known of the error of a step."""

# pyright: reportArgumentType=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import MEMORIES, ONES, assert_refused, each

import hopjax as hj

KEY = jax.random.key(3)
SETTINGS = {"key": KEY, "t1": 6.0, "progress": False}


def noise_alone(law):
    """A network without feedback: the state is an Ornstein-Uhlenbeck process."""

    def trial(key):
        del key
        memories = jnp.ones((1, 40))
        model = hj.ClassicHopfield(memories, hj.Tanh(1e-6))
        noise = hj.AdditiveNoise(1.0, law)
        return hj.Trial(model, jnp.zeros(40), jnp.zeros(40), noise, target=0)

    return trial


def square(trial, trajectory):
    return jnp.mean(trajectory.final_state**2)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["gaussian", "two_point"])
def test_the_bias_of_eulers_method_is_found(law):
    # The variance of its steps is σ²/2 / (1 − dt/2): 2/3, and 4/7 in steps half as long.
    dt = 0.5
    found = hj.check_convergence(
        noise_alone(law),
        trials=400,
        dt=dt,
        reductions={"square": hj.PerTrial(square)},
        **SETTINGS,
    )
    square_of = found.changes["square"]
    assert square_of.coarse.low < 0.5 / (1 - dt / 2) < square_of.coarse.high
    assert square_of.fine.low < 0.5 / (1 - dt / 4) < square_of.fine.high
    assert square_of.change.low < 0.5 / (1 - dt / 4) - 0.5 / (1 - dt / 2) < square_of.change.high
    assert square_of.matters
    assert square_of.relative < -1
    assert not found.converged
    assert found.same_noise == (law == "gaussian")
    # The same Brownian motion makes differences more certain than those of two ensembles.
    width = np.ptp(square_of.change[1:])
    apart = np.hypot(np.ptp(square_of.coarse[1:]), np.ptp(square_of.fine[1:]))
    assert (width < 0.8 * apart) == (law == "gaussian")
    text = repr(found)
    assert text.startswith("Convergence: dt = 0.5 against 0.25, 400 trials, ")
    assert "MORE than its interval" in text
    assert text.endswith("dt = 0.5 is too large: try 0.25, for this number of trials")


@pytest.mark.slow
def test_a_step_that_is_small_enough_is_told_so():
    start, noise = 2 * MEMORIES[0], hj.AdditiveNoise(0.3)
    trial = hj.Trial(hj.IDPHopfield(MEMORIES), start, start, noise)
    found = hj.check_convergence(trial, trials=3, dt=0.1, **SETTINGS)
    assert found.converged
    assert found.changes["retrieved"].change.estimate == 0
    assert found.changes["retrieved"].change.high > 0.3  # three trials tell little
    assert {"wrong", "diverged"} & set(found.changes) == set()
    assert "dt = 0.1 is small enough" in repr(found)
    assert found.coarse.ts == pytest.approx(found.fine.ts)


TRIAL = hj.Trial(hj.IDPHopfield(MEMORIES), MEMORIES[0], ONES)


def state(trial, trajectory):
    return trajectory.final_state


@pytest.mark.slow
@each(
    (
        lambda: hj.check_convergence(TRIAL, trials=1, dt=0.1, **SETTINGS),
        *(ValueError, "trials", "at least 2, got 1"),
    ),
    (
        lambda: hj.check_convergence(TRIAL, trials=3, dt=0.0, **SETTINGS),
        *(ValueError, "dt", "positive number, got 0.0"),
    ),
    (
        lambda: hj.check_convergence(
            TRIAL, trials=3, dt=0.1, reductions={"x": hj.PerTrial(state)}, **SETTINGS
        ),
        *(ValueError, "reductions['x']", "one number for each trial, got shape (3, 8)"),
    ),
)
def test_wrong_checks_of_convergence(row):
    assert_refused(row)


def test_where_nothing_scatters_any_change_counts():
    one = hj.Interval(*np.ones(3))
    assert hj.Change(one, one, hj.Interval(*np.zeros(3))).verdict == "no change seen"
    assert hj.Change(one, one, hj.Interval(*np.full(3, -0.1))).relative == -np.inf
    assert hj.Change(hj.Interval(0.5, 0.3, 0.7), one, hj.Interval(0.1, 0.05, 0.15)).verdict == (
        "less than its interval"
    )
