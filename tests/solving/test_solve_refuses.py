"""`solve` refuses arguments that do not fit together, and a state that blows up."""

# pyright: reportArgumentType=false

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odd_models import Runaway
from refusals import INF, KEY, MEMORIES, NAN, ONES, assert_refused, each, schedule, with_entry

import hopjax as hj

PID = dfx.PIDController(rtol=1e-3, atol=1e-3)
BATCHED = jax.vmap(hj.IDPHopfield)(np.stack(3 * [MEMORIES]))


def solve(**changes: Any) -> hj.Trajectory:
    """A correct call, but for the changes."""
    right: dict[str, Any] = {
        "model": hj.IDPHopfield(MEMORIES),
        "inputs": MEMORIES[0],
        "x0": ONES,
        "t1": 1.0,
        "dt": 0.1,
        "noise": None,
        "key": None,
    }
    return hj.solve(**(right | changes))


def noisy(noise: Any = None, **changes: Any) -> hj.Trajectory:
    """The same with noise."""
    return solve(**({"noise": noise or hj.AdditiveNoise(0.5), "key": KEY} | changes))


def two_layers(**options: Any) -> hj.TwoLayerHopfield:
    return hj.TwoLayerHopfield(MEMORIES, **options)


def scalar_input(t):
    return t


def matrix_input(t):
    return t * jnp.ones((8, 8))


def forgetful():
    return jnp.ones(8)


def half(t, x):
    return 0.5 * x


def short(t, x):
    return x[:3]


def condition(t, state, overlaps):
    return overlaps[0] > 0


def each_memory(t, state, overlaps):
    return overlaps - 0.5


def broken_passage(t, state, overlaps):
    raise KeyError("threshold")


def two_numbers(t, state, overlaps):
    return overlaps[0], overlaps[1]


SINGLE = hj.IDPHopfield(MEMORIES.astype(np.float32))


@each(
    (lambda: solve(model=BATCHED), ValueError, "model.memories", "got shape (3, 2, 8)"),
    (lambda: solve(x0=np.ones(7)), ValueError, "x0", "of shape (8,), got shape (7,)"),
    (lambda: solve(x0=0.0), ValueError, "x0", "got shape ()"),
    (lambda: solve(x0=np.ones((3, 8))), ValueError, "x0", "use jax.vmap"),
    (lambda: solve(model=two_layers(), x0=np.ones(10)), ValueError, "x0", "got shape (10,)"),
    # times
    (lambda: solve(dt=0.0), ValueError, "dt", "positive number, got 0.0"),
    (lambda: solve(dt=2.0, t1=4.0), ValueError, "dt", "time constant 1, got 2"),
    (
        lambda: solve(model=two_layers(memory_time_constant=0.05)),
        *(ValueError, "dt", "time constant 0.05, got 0.1"),
    ),
    (lambda: solve(t1=1.05), ValueError, "t1", "dt = 0.1, got 1.05: the nearest are 1 and 1.1"),
    (lambda: solve(t1=0.04), ValueError, "t1", "got 0.04"),
    (lambda: solve(t1=0.0), ValueError, "t1", "got 0.0"),
    (lambda: solve(t1=1e300), ValueError, "t1", "below 2^53 steps of dt = 0.1, got 1e+300"),
    (lambda: solve(model=SINGLE, t1=2e6), ValueError, "t1", "float32, got 20000000"),
    (lambda: solve(save_every=0.15), ValueError, "save_every", "got 0.15"),
    (lambda: solve(save_every=0), ValueError, "save_every", "got 0.0"),
    (lambda: solve(save_every=2.0), ValueError, "save_every", "not exceed t1 = 1, got 2"),
    # functions
    (lambda: solve(passage_fn=condition), TypeError, "passage_fn", "got dtype bool"),
    (lambda: solve(passage_fn=each_memory), ValueError, "passage_fn", "got shape (2,)"),
    (lambda: solve(passage_fn=two_numbers), ValueError, "passage_fn", "got tuple"),
    (lambda: solve(passage_fn=broken_passage), TypeError, "passage_fn", "KeyError: 'threshold'"),
    (lambda: solve(passage_fn=forgetful), TypeError, "passage_fn", "forgetful"),
    (lambda: solve(passage_since=-0.1), ValueError, "passage_since", "to t1 = 1, got -0.1"),
    (lambda: solve(passage_since=2.5), ValueError, "passage_since", "to t1 = 1, got 2.5"),
    # inputs
    (lambda: solve(inputs=np.ones(7)), ValueError, "inputs", "got shape (7,)"),
    (lambda: solve(inputs=np.ones((3, 8))), ValueError, "inputs", "got shape (3, 8)"),
    (lambda: solve(inputs=hj.Schedule), TypeError, "inputs", "Schedule"),
    (lambda: solve(inputs=scalar_input), ValueError, "inputs", "got shape ()"),
    (lambda: solve(inputs=matrix_input), ValueError, "inputs", "got shape (8, 8)"),
    (lambda: solve(inputs=forgetful), TypeError, "inputs", "forgetful"),
    (lambda: solve(inputs=schedule([0.0], np.ones((1, 9)))), ValueError, "inputs", "got (1, 9)"),
    (lambda: solve(inputs=schedule([0.0, 0.25])), ValueError, "onsets", "got 0.25"),
    # noise and key
    (lambda: noisy(hj.AdditiveNoise(np.ones(7))), ValueError, "noise.diffusion", "(7,)"),
    (
        lambda: noisy(hj.AdditiveNoise(ONES), model=two_layers()),
        ValueError,
        "noise.diffusion",
        "(8,)",
    ),
    (lambda: noisy(hj.MultiplicativeNoise(short)), ValueError, "noise.diffusion", "(3,)"),
    (lambda: noisy(key=None), ValueError, "key", "where there is noise, got None"),
    # solver, steps, adjoint
    (lambda: noisy(solver=dfx.Tsit5()), ValueError, "solver", "Tsit5()"),
    (
        lambda: solve(solver=dfx.KenCarp4(), stepsize_controller=PID),
        ValueError,
        "solver",
        "KenCarp4()",
    ),
    (lambda: noisy(solver=dfx.QUICSORT()), ValueError, "solver", "QUICSORT()"),
    (lambda: solve(solver=dfx.ShARK()), ValueError, "solver", "ShARK()"),
    (
        lambda: noisy(hj.MultiplicativeNoise(half), solver=dfx.Heun()),
        *(ValueError, "solver", "Heun()"),
    ),
    (
        lambda: noisy(solver=dfx.HalfSolver(dfx.Euler())),
        ValueError,
        "solver",
        "HalfSolver(Euler())",
    ),
    (
        lambda: noisy(hj.AdditiveNoise(1, "two_point"), solver=dfx.SEA()),
        *(ValueError, "solver", "SEA()"),
    ),
    (lambda: solve(solver=dfx.Euler(), stepsize_controller=PID), ValueError, "solver", "Euler()"),
    (lambda: solve(solver=dfx.ImplicitEuler()), ValueError, "solver", "ImplicitEuler()"),
    (
        lambda: noisy(stepsize_controller=PID),
        ValueError,
        "stepsize_controller",
        "got PIDController",
    ),
    (
        lambda: solve(stepsize_controller=dfx.StepTo(ts=[0.0, 0.5, 1.0])),
        *(TypeError, "stepsize_controller", "StepTo"),
    ),
    (lambda: solve(adjoint=dfx.BacksolveAdjoint()), TypeError, "adjoint", "BacksolveAdjoint"),
    (
        lambda: jax.jvp(lambda s: noisy(hj.AdditiveNoise(s)).overlaps, (0.5,), (1.0,)),
        *(ValueError, "adjoint", "RecursiveCheckpointAdjoint"),
    ),
    # while tracing
    (lambda: jax.jit(lambda x0: solve(x0=x0).overlaps)(np.ones(7)), ValueError, "x0", "shape (7,)"),
    (lambda: jax.jit(lambda dt: solve(dt=dt).overlaps)(0.1), TypeError, "dt", "traced"),
)
def test_wrong_solves(row):
    assert_refused(row)


def test_a_solve_under_jit_checks_its_arrays_at_run_time():
    @eqx.filter_jit
    def run(x0, u, onsets):
        inputs = hj.Schedule(onsets, jnp.stack([u, -u]))
        return solve(x0=x0, inputs=inputs).final_state

    x0, u, onsets = jnp.ones(8), jnp.asarray(MEMORIES[0]), jnp.array([0, 0.5])
    assert jnp.isfinite(run(x0, u, onsets)).all()
    for wrong, argument in (
        ((with_entry(x0, NAN), u, onsets), "x0"),
        ((x0, with_entry(u, INF), onsets), "values"),
        ((x0, u, onsets + 0.1), "onsets"),
        ((x0, u, with_entry(onsets, 0.55)), "onsets"),
    ):
        with pytest.raises(eqx.EquinoxRuntimeError, match=f"Argument `{argument}` must be"):
            run(*map(jnp.asarray, wrong))


@pytest.mark.slow
def test_divergence_names_its_time():
    runaway = Runaway(jnp.asarray(MEMORIES), hj.Tanh())
    wrong = {"model": runaway, "x0": np.ones(8), "t1": 5.0, "dt": 0.05, "save_every": 0.25}
    trajectory = solve(**wrong, throw=False)
    assert not trajectory.ok
    # Euler lags behind the exact 0.5; the first saved time after is what is known.
    assert 0.5 < trajectory.diverged_at < 1.5
    with pytest.raises(hj.DivergenceError) as caught:
        solve(**wrong)
    message = str(caught.value)
    assert "\n" not in message
    assert f"t = {float(trajectory.diverged_at):g} (looked at every 0.25)" in message
    assert "smaller dt than 0.05" in message
    assert isinstance(caught.value, RuntimeError)
