"""A solve that goes on is one solve, to the bit; and a solve that starts at another time."""

# pyright: reportArgumentType=false

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from jaxtyping import Array, Float
from odd_models import Runaway
from refusals import NAN, assert_refused, each

import hopjax as hj
from hopjax.solving import check_problem

NUM_NEURONS, DT = 12, 0.1
keys = jax.random.split(jax.random.key(11), 4)
MEMORIES = hj.random_memories(keys[0], num_memories=3, num_neurons=NUM_NEURONS)
VALUES = hj.mixture(MEMORIES, jax.random.uniform(keys[1], (4, 3), minval=0.2, maxval=3.0))
X0 = jax.random.normal(keys[2], (NUM_NEURONS,))
KEY = keys[3]
MODEL = hj.IDPHopfield(MEMORIES, activation=hj.Tanh(1.5))
SCHEDULE = hj.Schedule([0.0, 0.4, 0.7, 1.1], VALUES)  # before the joins, at one and after them
NOISE = hj.AdditiveNoise(0.7)


# Bits are promised as users compile: without optimisation LLVM contracts one sum and not another.
pytestmark = pytest.mark.usefixtures("optimised")


def rotating(t):
    return jnp.cos(3 * t) * VALUES[0]


def save_all(t, state):
    return {"t": t, "state": state}


class Above(eqx.Module):
    """How far the overlap with the first memory is above a threshold."""

    threshold: Float[Array, ""]

    def __call__(self, t, state, overlaps):
        return overlaps[0] - self.threshold


class TwoStep(dfx.AbstractItoSolver):
    """Adams and Bashforth's two steps, the first of which, and one after a jump, is Euler's."""

    term_structure: ClassVar = dfx.MultiTerm[
        tuple[dfx.AbstractTerm[Any, Any], dfx.AbstractTerm[Any, Any]]
    ]
    interpolation_cls: ClassVar[Callable] = dfx.LocalLinearInterpolation

    def order(self, terms):
        return 2

    def strong_order(self, terms):
        return 1.0

    def init(self, terms, t0, t1, y0, args):
        return jnp.asarray(True), jnp.zeros_like(y0)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        new, last = solver_state
        drift, noise = terms.terms
        velocity = drift.vf(t0, y0, args)
        last = jnp.where(new | made_jump, velocity, last)
        change = drift.prod(1.5 * velocity - 0.5 * last, drift.contr(t0, t1))
        y1 = y0 + change + noise.prod(noise.vf(t0, y0, args), noise.contr(t0, t1))
        return (
            y1,
            None,
            {"y0": y0, "y1": y1},
            (jnp.asarray(False), velocity),
            dfx.RESULTS.successful,
        )

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


def solve(model: Any = MODEL, inputs: Any = SCHEDULE, x0: Any = X0, **changes: Any) -> Any:
    options: dict[str, Any] = {"t1": 0.7, "dt": DT, "noise": NOISE, "key": KEY, "save_every": 0.2}
    return hj.solve(model, inputs, x0, **options | changes)


def assert_parts_are(whole: Any, *parts: Any) -> None:
    """That parts tell what the whole tells, to the bit; joins may be saved in addition."""

    def told(part):
        return part.ts, part.overlaps, part.saved

    for name in ("final_state", "ok", "diverged_step", "passage", "passage_ahead"):
        last, expected = (getattr(each, name) for each in (parts[-1], whole))
        assert (last is None) == (expected is None), name
        if last is not None:
            np.testing.assert_array_equal(last, expected, name)
    assert parts[-1].grid.t1 == whole.grid.t1
    saved = [np.asarray(step) for part in parts for step in part.grid.save_steps]
    places = [saved.index(step) for step in whole.grid.save_steps]  # a join is there twice
    later = [len(saved) - 1 - saved[::-1].index(step) for step in whole.grid.save_steps]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *map(told, parts))
    for rows in (places, later):
        jax.tree.map(
            lambda part, all_of, rows=rows: np.testing.assert_array_equal(part[rows], all_of),
            joined,
            told(whole),
        )


# --- one solve and its parts ---------------------------------------------------------------------

NEWTON = optx.Newton(rtol=1e-8, atol=1e-8)
SLOW = pytest.mark.long
CASES = [
    (SCHEDULE, "gaussian", TwoStep()),
    (VALUES[0], "gaussian", dfx.ReversibleHeun()),
    (SCHEDULE, None, dfx.Bosh3()),
    (rotating, "two_point", None),
    *(
        pytest.param(inputs, law, solver, marks=SLOW)
        for inputs in (VALUES[0], SCHEDULE, rotating)
        for law, solvers in {
            "two_point": (dfx.Euler(), dfx.Heun(), dfx.ReversibleHeun(), TwoStep()),
            "gaussian": (
                *(dfx.Euler(), dfx.Midpoint(), dfx.Ralston(), dfx.EulerHeun(), dfx.ItoMilstein()),
                *(dfx.StratonovichMilstein(), dfx.SEA(), dfx.SRA1(), dfx.ShARK(), dfx.SPaRK()),
                *(dfx.GeneralShARK(), dfx.SlowRK(), TwoStep()),
            ),
            None: (
                *(dfx.Euler(), dfx.Tsit5(), dfx.Dopri8(), dfx.LeapfrogMidpoint()),
                *(dfx.ReversibleHeun(), dfx.Kvaerno3(root_finder=NEWTON)),
            ),
        }.items()
        for solver in solvers
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "law", "solver"), CASES)
def test_parts_are_one_solve_to_the_bit(inputs, law, solver):
    noise = None if law is None else hj.AdditiveNoise(0.7, law)
    options: dict[str, Any] = {"noise": noise, "solver": solver, "inputs": inputs}
    options |= {"save_fn": save_all, "passage_fn": Above(jnp.asarray(0.25))}
    whole, first = solve(t1=1.3, **options), solve(**options)
    # The join at .7 is at a switch and no multiple of .2.
    assert_parts_are(whole, first, first.resume(t1=1.3))


@pytest.mark.slow
def test_parts_in_single_precision_are_one_solve():
    model = hj.IDPHopfield(MEMORIES.astype(jnp.float32))
    options: dict[str, Any] = {"model": model, "dt": 0.01, "passage_fn": Above(jnp.asarray(0.9))}
    first = solve(t1=0.6, **options)
    assert_parts_are(solve(t1=1.2, **options), first, first.resume(t1=1.2))


@pytest.mark.slow
def test_the_state_that_goes_on_is_that_of_the_memory_neurons_too():
    model = hj.TwoLayerHopfield(MEMORIES, memory_time_constant=0.2)
    whole, first = (solve(model, t1=t1, solver=TwoStep()) for t1 in (1.2, 0.6))
    assert first.final_state.shape == (NUM_NEURONS + 3,)
    assert_parts_are(whole, first, first.resume(t1=1.2))


TRACED = []


def noted(t, state):
    TRACED.append(t)
    return state[0]


@pytest.mark.slow
def test_a_part_goes_on_again_without_compiling_anew():
    options: dict[str, Any] = {"solver": TwoStep(), "save_fn": noted}
    whole = solve(t1=1.6, **options)
    parts, traces = [solve(t1=0.4, **options)], [0]
    for t1 in (0.8, 1.2, 1.6):
        parts.append(parts[-1].resume(t1=t1))
        traces.append(len(TRACED))
    assert_parts_are(whole, *parts)
    assert traces[1] == traces[2] == traces[3] > 0
    # Nor do a learnt network and another input, each of which compiles once.
    learnt = eqx.tree_at(lambda model: model.memories, MODEL, -MEMORIES)
    for number, t1 in enumerate((0.8, 1.2)):
        changed = parts[number].resume(t1=t1, model=learnt, inputs=VALUES[number])
        traces.append(len(TRACED))
        assert not np.array_equal(changed.final_state, parts[number + 1].final_state)
    assert traces[-1] == traces[-2] > traces[1]


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.25, 0.47, 5.0])
def test_the_first_passage_of_all_parts_is_that_of_the_whole(threshold):
    above = Above(jnp.asarray(threshold))
    whole, first = (solve(t1=t1, passage_fn=above, passage_since=0.2) for t1 in (1.2, 0.6))
    second = first.resume(t1=1.2)
    assert_parts_are(whole, first, second)
    assert {0.25: 6, 0.47: 8, 5.0: -1}[threshold] == int(whole.passage_step)
    # Another function begins anew at the join, and counts from there or from a later time.
    anew = first.resume(t1=1.2, passage_fn=above)
    assert int(anew.passage_step) == {0.25: 6, 0.47: 8, 5.0: -1}[threshold]
    later = first.resume(t1=1.2, passage_since=1.0)
    assert int(later.passage_step) in (-1, *range(10, 13))


# --- changes -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_changed_input_is_a_switch_for_the_solver():
    # A schedule that switches at the join does the same.
    whole = solve(inputs=hj.Schedule([0.0, 0.6], VALUES[:2]), t1=1.2, solver=TwoStep())
    first = solve(inputs=VALUES[0], t1=0.6, solver=TwoStep())
    second = first.resume(t1=1.2, inputs=VALUES[1])
    np.testing.assert_allclose(second.final_state, whole.final_state, rtol=1e-12)
    np.testing.assert_allclose(second.overlaps, whole.overlaps[3:], rtol=1e-12)
    # And a changed model is one: the last drift of the old one is forgotten.
    shown = hj.DenseHopfield(MEMORIES, hj.PowerSeparation(3.0), hj.Tanh(1.5))
    second = first.resume(t1=0.7, model=shown, inputs=VALUES[1])
    anew = solve(shown, VALUES[1], None, t0=0.6, state0=first.final_state, t1=0.7, solver=TwoStep())
    np.testing.assert_array_equal(second.final_state, anew.final_state)


@pytest.mark.slow
def test_a_network_learns_and_is_steered_between_the_parts():
    first = solve(inputs=VALUES[0], t1=0.6)
    learnt = MODEL.with_memory(hj.random_memories(KEY, num_memories=1, num_neurons=NUM_NEURONS)[0])
    louder = hj.AdditiveNoise(1.4, "two_point")
    options: dict[str, Any] = {"t1": 1.2, "save_every": 0.3, "save_fn": save_all}
    second = first.resume(model=learnt, inputs=SCHEDULE, noise=louder, **options)
    assert second.overlaps.shape == (3, 4)
    np.testing.assert_allclose(second.ts, [0.6, 0.9, 1.2], rtol=1e-12)
    np.testing.assert_array_equal(second.saved["state"][0], first.final_state)
    # Euler has no state of its own: a new start is the same.
    anew = solve(learnt, SCHEDULE, None, t0=0.6, state0=first.final_state, noise=louder, **options)
    assert_parts_are(anew, second)


# --- transformations -----------------------------------------------------------------------------


@pytest.mark.slow
def test_parts_under_vmap_are_the_whole_under_vmap():
    keys = jax.random.split(KEY, 2)

    def run(key, t1, **options):
        return solve(key=key, t1=t1, solver=TwoStep(), **options)

    whole = jax.vmap(lambda key: run(key, 1.2))(keys)
    within = jax.vmap(lambda key: run(key, 0.6).resume(t1=1.2))(keys)
    np.testing.assert_array_equal(within.final_state, whole.final_state)
    np.testing.assert_array_equal(within.overlaps, whole.overlaps[:, 3:])
    # Out of vmap and into it again: with a model for each trial, which rounds differently.
    first = jax.vmap(lambda key: run(key, 0.6, resumable=True))(keys)
    again = jax.jit(jax.vmap(lambda part: part.resume(t1=1.2)))(first)
    np.testing.assert_allclose(again.final_state, whole.final_state, rtol=1e-12)
    one = jax.tree.map(lambda leaf: leaf[1], first).resume(t1=1.2)
    np.testing.assert_allclose(one.final_state, whole.final_state[1], rtol=1e-12)
    with pytest.raises(ValueError, match=r"use jax\.vmap for many"):
        first.resume(t1=1.2)


@pytest.mark.slow
def test_a_trajectory_holds_no_more_than_before_unless_it_is_asked_to():
    plain, asked = solve(), solve(resumable=True)
    assert len(jax.tree.leaves(plain)) == 5  # ts, overlaps, final_state, ok, diverged_step
    assert len(jax.tree.leaves(asked)) > 5
    moved = jax.tree.map(jnp.asarray, plain)
    assert_parts_are(plain, moved)
    with pytest.raises(hj.ArgumentError, match="Argument `resumable` must be True"):
        moved.resume(t1=1.4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reverse", pytest.param("forward", marks=SLOW)])
def test_the_derivative_through_parts_is_that_of_the_whole(mode):
    adjoint = None if mode == "reverse" else dfx.ForwardMode()

    def end(sigma, *ends):
        noise = hj.AdditiveNoise(sigma)
        options = {"noise": noise, "solver": TwoStep(), "adjoint": adjoint}
        part = solve(inputs=sigma * VALUES[0], t1=ends[0], **options)
        for t1 in ends[1:]:
            part = part.resume(t1=t1)
        return jnp.sum(part.final_state**2) + part.overlaps[-1, 0]

    differentiate = jax.value_and_grad if mode == "reverse" else _forward
    whole, parts = differentiate(end)(0.9, 1.2), differentiate(end)(0.9, 0.6, 1.2)
    assert parts[0] == whole[0]
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-12)
    if mode == "reverse":
        step = 1e-6
        central = (end(0.9 + step, 0.6, 1.2) - end(0.9 - step, 0.6, 1.2)) / (2 * step)
        np.testing.assert_allclose(parts[1], central, rtol=1e-6)


def _forward(function):
    return lambda at, *rest: jax.jvp(lambda x: function(x, *rest), (at,), (1.0,))


# --- a start at another time ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "law", ["gaussian", *(pytest.param(law, marks=SLOW) for law in ("two_point", "tree"))]
)
def test_a_solve_from_a_later_time_sees_the_same_noise_and_inputs(law):
    options: dict[str, Any] = {"noise": hj.AdditiveNoise(0.7, law), "t1": 1.2, "save_fn": save_all}
    whole = solve(save_every=0.1, **options)
    state = whole.saved["state"][7]
    late = solve(x0=None, t0=0.7, state0=state, **options)
    np.testing.assert_allclose(late.ts, [0.7, 0.8, 1.0, 1.2], rtol=1e-12)
    np.testing.assert_array_equal(late.final_state, whole.final_state)
    rows = np.array([7, 8, 10, 12])
    np.testing.assert_array_equal(late.overlaps, whole.overlaps[rows])
    jax.tree.map(
        lambda part, all_of: np.testing.assert_array_equal(part, all_of[rows]),
        late.saved,
        whole.saved,
    )


@pytest.mark.long
def test_a_solver_that_keeps_times_goes_on_from_a_later_start():
    options: dict[str, Any] = {"noise": None, "solver": dfx.LeapfrogMidpoint(), "t0": 0.4}
    whole, first = solve(t1=1.2, **options), solve(t1=0.8, **options)
    assert_parts_are(whole, first, first.resume(t1=1.2))


@pytest.mark.slow
def test_a_passage_counts_from_a_later_start():
    options: dict[str, Any] = {"x0": X0, "t0": 0.3, "passage_fn": Above(jnp.asarray(-9.0))}
    assert int(solve(**options).passage_step) == 3
    assert int(solve(passage_since=0.5, **options).passage_step) == 5


@pytest.mark.slow
def test_adaptive_steps_start_at_a_later_time():
    controller = dfx.PIDController(rtol=1e-7, atol=1e-7)
    options: dict[str, Any] = {"noise": None, "stepsize_controller": controller, "t1": 1.2}
    whole = solve(save_fn=save_all, **options)
    late = solve(x0=None, t0=0.6, state0=whole.saved["state"][3], **options)
    np.testing.assert_allclose(late.ts, whole.ts[3:], rtol=1e-12)
    np.testing.assert_allclose(late.overlaps, whole.overlaps[3:], atol=1e-6)
    np.testing.assert_allclose(late.final_state, whole.final_state, atol=1e-5)


@pytest.mark.parametrize(
    ("t0", "t1", "every"),
    [(10.0, 20.0, 0.1), (9.9, 20.0, 0.1), (10.0, 11.0, 0.01), (1.0, 3.0, 0.02)],
)
def test_about_a_hundred_times_are_saved_from_a_later_start_too(t0, t1, every):
    problem = check_problem(MODEL, VALUES[0], X0, t0=t0, t1=t1, dt=0.01)
    times = problem.grid.save_times
    np.testing.assert_allclose(times, np.arange(round((t1 - t0) / every) + 1) * every + t0)


# --- what ends badly -----------------------------------------------------------------------------


@pytest.mark.slow
def test_what_has_diverged_stays_so():
    model = Runaway(MEMORIES, hj.Tanh())
    options: dict[str, Any] = {"noise": None, "x0": jnp.ones(NUM_NEURONS), "throw": False}
    whole, first = (solve(model, VALUES[0], t1=t1, **options) for t1 in (2.8, 1.4))
    assert not first.ok
    assert_parts_are(whole, first, first.resume(t1=2.8, throw=False))
    with pytest.raises(hj.DivergenceError, match=f"by t = {float(first.diverged_at):g}"):
        first.resume(t1=2.8)


@functools.cache
def first():
    return solve(t1=0.4)


PID = dfx.PIDController(rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@each(
    (lambda: first().resume(t1=0.4), ValueError, "t1", "later than the start at 0.4, got 0.4"),
    (lambda: first().resume(t1=0.75), ValueError, "t1", "got 0.75"),
    (lambda: first().resume(t1="late"), TypeError, "t1", "late"),
    (lambda: first().resume(t1=1.0, model=MEMORIES), TypeError, "model", "a model such as"),
    (
        lambda: first().resume(t1=1.0, model=hj.TwoLayerHopfield(MEMORIES)),
        *(ValueError, "model", "have the N 12, a state of 12, dtype float64"),
    ),
    (
        lambda: first().resume(t1=1.0, model=hj.IDPHopfield(MEMORIES.astype(jnp.float32))),
        *(ValueError, "model", "got N 12, a state of 12, dtype float32"),
    ),
    (lambda: first().resume(t1=1.0, inputs=np.ones(7)), ValueError, "inputs", "got shape (7,)"),
    (lambda: first().resume(t1=1.0, noise=1.0), TypeError, "noise", "AdditiveNoise(8.0)"),
    (lambda: first().resume(t1=1.0, save_every=0.15), ValueError, "save_every", "got 0.15"),
    (lambda: first().resume(t1=1.0, save_fn=3), TypeError, "save_fn", "a function"),
    (lambda: first().resume(t1=1.0, passage_fn=3), TypeError, "passage_fn", "a function"),
    (lambda: first().resume(t1=1.0, passage_since=2.0), ValueError, "passage_since", "got 2"),
    (lambda: first().resume(t1=1.0, throw=1), TypeError, "throw", "True or False"),
    (
        lambda: first().resume(t1=1.0, noise=hj.AdditiveNoise(1.0, "tree")),
        *(ValueError, "noise", "got BrownianTree: its path depends on t1"),
    ),
    (
        lambda: solve(noise=hj.AdditiveNoise(1.0, "tree"), t1=0.4).resume(t1=1.0),
        *(ValueError, "noise", "got BrownianTree: its path depends on t1"),
    ),
    (
        lambda: solve(noise=None, t1=0.4).resume(t1=1.0, noise=NOISE),
        *(ValueError, "noise", "None where the solve that is resumed had none"),
    ),
    (
        lambda: solve(noise=None, t1=0.4, stepsize_controller=PID).resume(t1=1.0),
        *(ValueError, "stepsize_controller", "got PIDController: adaptive steps start anew"),
    ),
    # a start at another time
    (lambda: solve(t0=0.25), ValueError, "t0", "got 0.25: the nearest are 0.2 and 0.3"),
    (lambda: solve(t0=-0.1), ValueError, "t0", "zero or positive, got -0.1"),
    (lambda: solve(t0=0.7), ValueError, "t1", "later than the start at 0.7, got 0.7"),
    (lambda: solve(x0=None), TypeError, "x0", "given, or state0"),
    (lambda: solve(state0=X0), ValueError, "state0", "None where x0 is given"),
    (lambda: solve(x0=None, state0=np.ones(7)), ValueError, "state0", "got shape (7,)"),
    (lambda: solve(x0=None, state0=X0.at[3].set(NAN)), ValueError, "state0", "got nan"),
    (lambda: solve(resumable=1), TypeError, "resumable", "True or False"),
)
def test_wrong_ways_to_go_on(row):
    assert_refused(row)
