"""Every time that is given, at every edge, against whole numbers and fractions.

The edges are 0, one ulp above 0, half a step, one step before the end, the end, and beyond. What a
time must become is computed with fractions of the decimals; what is tested gets floats, written in
all the ways in which they come about.
"""

import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from jax.core import Tracer
from numpy.testing import assert_allclose, assert_array_equal
from odd_models import Integrator

import hopjax as hj
from hopjax._checks import cast_floats
from hopjax._steps import Steps, first_step, last_step, latest_step, multiple_of, steps_of
from hopjax.solving import Grid, Trajectory, check_problem

ULP = float(np.nextafter(0.0, 1.0))
GRIDS = [("0.1", 7), ("0.05", 200), ("0.3", 10), ("0.01", 1000), ("0.003", 12345)]
GRIDS += [("0.01", 16_000_000)]
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def edges(step: Fraction, num_steps: int) -> list[Fraction]:
    """From 0 to the end, on steps and between them."""
    end = num_steps * step
    inner = [step / 2, step, 3 * step / 2, 3 * step, end / 2, end - step, end - step / 2, end]
    return [Fraction(0), Fraction(ULP), *inner]


def written(time: Fraction, step: Fraction, num_steps: int) -> list[float]:
    """The floats that stand for a time: typed, of steps, less than the end, of sums."""
    if 0 < time < step / 10:
        return [float(time)]
    end, dt = float(num_steps * step), float(step)
    found = [float(time), float(time / step) * dt, end - float(num_steps * step - time)]
    found.append(float(time - step) + dt if time > step else float(time))
    if time / step < 10_000:
        found.append(float(np.float32(float(time))))
    return found


def ceiling(value: Fraction) -> int:
    return -int(-value // 1)


# On the host.


@pytest.mark.parametrize(("dt", "num_steps"), GRIDS)
def test_a_time_is_a_step_or_lies_between_two(dt, num_steps):
    step = Fraction(dt)
    for time in [*edges(step, num_steps), (num_steps + 1) * step, (num_steps + 9) * step / 2]:
        for value in written(time, step, num_steps):
            assert first_step(value, float(dt)) == ceiling(time / step), (time, value)
            assert last_step(value, float(dt)) == time // step, (time, value)


def test_what_is_rounding_is_relative_to_the_time():
    assert first_step(0.1 + 0.2, 0.1) == first_step(0.3, 0.1) == first_step(0.1 * 3, 0.1) == 3
    assert first_step(0.3 * (1 + 1e-6), 0.1) == 4
    assert first_step(ULP, 0.1) == first_step(1e-30, 0.1) == 1
    assert last_step(0.3 * (1 - 1e-6), 0.1) == 2
    # A thousandth of a step at most, however long it takes.
    assert first_step(1e6 + 1e-5, 0.1) == 10**7
    assert first_step(1e6 + 2e-4, 0.1) == 10**7 + 1


@pytest.mark.parametrize(("dt", "num_steps"), GRIDS)
@pytest.mark.parametrize("stride", [1, 3])
def test_settle_is_a_closed_interval_with_at_least_the_last_saved_time(dt, num_steps, stride):
    if num_steps > 10**5:
        num_steps, stride = 10**5, 1000 * stride
    step = Fraction(dt)
    grid, criterion = Grid(float(dt), num_steps, stride), hj.Criterion
    numbers = range(0, num_steps + 1, stride)
    for time in edges(step, num_steps):
        expected = [n >= min(num_steps - time / step, numbers[-1]) for n in numbers]
        for settle in written(time, step, num_steps):
            assert_array_equal(grid.late(settle), expected)
            criterion(settle=settle).check_times(grid)
            count = criterion(settle=settle, judge="instants").judged_times(grid)
            assert count == (sum(expected) if settle else 1)
    for time in (num_steps * step + step / 2, num_steps * step * 2):
        with pytest.raises(ValueError, match="`settle` must be at most t1"):
            criterion(settle=float(time)).check_times(grid)


@pytest.mark.parametrize(("dt", "num_steps"), GRIDS)
def test_passages_are_measured_from_since_as_it_is_given(dt, num_steps):
    step, grid = Fraction(dt), Grid(float(dt), num_steps, 1)
    for time in edges(step, num_steps):
        for since in written(time, step, num_steps):
            assert grid.reaches(since)
            steps = np.array([-1, ceiling(time / step), num_steps])
            found = grid.times_since(steps, since)
            exact = [float(n * step - time) for n in steps[1:]]
            assert_allclose(found, [np.inf, *exact], rtol=1e-6, atol=1e-7 * float(time))
            assert (found >= 0).all()
            if time % step == 0:
                assert found[1] == 0
            below = pytest.raises(ValueError, match="`since` must be below t1")
            if time == num_steps * step:
                with below:
                    hj.Criterion(since=since).check_times(grid)
            else:
                hj.Criterion(since=since).check_times(grid)
    beyond = float(num_steps * step + step / 2)
    assert not grid.reaches(beyond)
    assert not grid.reaches(-ULP)
    with pytest.raises(ValueError, match="`since` must be below t1"):
        hj.Criterion(since=beyond).check_times(grid)


@pytest.mark.parametrize(("dt", "num_steps"), GRIDS)
def test_what_must_be_a_multiple_is_one_or_is_refused(dt, num_steps):
    step = Fraction(dt)
    for time in edges(step, num_steps):
        whole = time > 0 and time % step == 0
        for value in written(time, step, num_steps):
            if whole:
                assert multiple_of(value, "t1", float(dt)) == time / step
                assert steps_of(np.array(value), "pulse", float(dt)).numbers == time / step
                continue
            with pytest.raises(ValueError, match="Argument `t1` must be a"):
                multiple_of(value, "t1", float(dt))
            if time in (0, Fraction(ULP)):  # within a thousandth of step 0
                continue
            with pytest.raises(ValueError, match="Argument `pulse` must be whole multiples of dt"):
                steps_of(np.array(value), "pulse", float(dt))
    for never in (1e300, 2.0**54 * float(step)):
        with pytest.raises(ValueError, match="Argument `t1` must be below"):
            multiple_of(never, "t1", float(dt))
        # What begins then never does.
        late = min(Fraction(never) / step, latest_step())
        assert steps_of(np.array(never), "onsets", float(dt)).numbers >= late - late / 2**50


class Copy(Integrator):
    """The state sums up what was shown, its overlap has its sign, its energy is what is shown."""

    def energy(self, x, u):
        return jnp.sum(x * 0) + u[0]


def copy(dtype: Any = float) -> Copy:
    return Copy(jnp.ones((1, 2), dtype), hj.Tanh())


def grid_of(**options: Any) -> Grid:
    """That of a solve, without solving it."""
    problem = check_problem(copy(), np.ones(2), np.zeros(2), **options)
    return problem.grid


def test_the_times_of_a_solve_at_every_edge():
    step, num_steps = Fraction("0.1"), 70
    for time in edges(step, num_steps):
        for value in written(time, step, num_steps):
            if time > 0 and time % step == 0:
                assert grid_of(t1=value, dt=0.1).num_steps == time / step
                assert grid_of(t1=7.0, dt=0.1, save_every=value).stride == time / step
            else:
                with pytest.raises(ValueError, match="Argument `t1`"):
                    grid_of(t1=value, dt=0.1)
                with pytest.raises(ValueError, match="Argument `save_every`"):
                    grid_of(t1=7.0, dt=0.1, save_every=value)
    for dt, match in ((0.0, "dt"), (ULP, "t1"), (0.7, None), (0.71, "t1"), (1.4, "t1")):
        if match is None:
            assert grid_of(t1=0.7, dt=dt) == Grid(0.7, 1, 1)
            continue
        with pytest.raises(ValueError, match=f"Argument `{match}`"):
            grid_of(t1=0.7, dt=dt)
    with pytest.raises(ValueError, match="Argument `save_every` must not exceed t1"):
        grid_of(t1=0.7, dt=0.1, save_every=0.8)
    for beyond in (0.75, 0.8, -ULP):
        with pytest.raises(ValueError, match="Argument `passage_since` must be from 0 to t1"):
            grid_of(t1=0.7, dt=0.1, passage_since=beyond)


# Schedules.


def levels(size: int) -> Any:
    """Values that tell the windows apart."""
    return np.arange(1.0, size + 1)[:, None] * np.ones(2)


@pytest.mark.parametrize(("dt", "num_steps"), GRIDS)
def test_onsets_are_steps_at_every_edge(dt, num_steps):
    step = Fraction(dt)
    for time in [*edges(step, num_steps)[1:], (num_steps + 1) * step, 5 * num_steps * step]:
        for onset in written(time, step, num_steps):
            schedule = hj.Schedule([0.0, onset], levels(2))
            assert schedule.onsets.dtype == float
            assert schedule.onsets[1] == onset
            if time % step:
                with pytest.raises(ValueError, match="Argument `onsets` must be"):
                    schedule.onset_steps(float(dt))
                continue
            assert_array_equal(schedule.onset_steps(float(dt)), [0, time / step])
            on_grid = schedule.on_grid(float(dt))
            assert isinstance(on_grid.begins, Steps)
            assert on_grid.on_grid(float(dt)) is on_grid
            assert on_grid.onsets[1] == int(time / step) * float(dt)
            # The value at a time: with its onset, and until just before the next.
            for shown in (schedule, on_grid):
                assert (
                    shown.at(0)[0] == shown.at(ULP)[0] == shown.at(float(time - step / 2))[0] == 1
                )
                assert shown.at(float(time - step))[0] == 1
                assert shown.at(max(float(time), onset))[0] == 2
                assert shown.at(float(time + step / 2))[0] == 2
                assert shown.at(onset)[0] == shown.at(2 * onset)[0] == 2
    with pytest.raises(ValueError, match="Argument `t` must be zero or positive"):
        hj.Schedule([0.0], levels(1)).at(-ULP)


@pytest.mark.slow
@pytest.mark.parametrize(("dt", "num_steps"), GRIDS)
def test_pulses_are_steps_at_every_edge(dt, num_steps):
    step = Fraction(dt)
    start, trial = num_steps * step, hj.Trial(copy(), np.ones(2), np.zeros(2))
    schedule = hj.Schedule([0.0, float(start)], levels(2))
    for time in edges(step, num_steps):
        for pulse in written(time, step, num_steps):
            if not 0 < time < start:
                with pytest.raises(ValueError, match="Argument `duration` must be"):
                    schedule.pulsed(pulse).on_grid(float(dt))
                continue
            pulsed = schedule.pulsed(pulse, name="pulse")
            trial = eqx.tree_at(lambda trial: trial.inputs, trial, pulsed)
            if time % step:
                error = "at least one step" if time < step / 10 else "whole multiples"
                with pytest.raises(ValueError, match=f"Argument `pulse` must be {error}"):
                    pulsed.onset_steps(float(dt))
                continue
            steps = [0, time / step, num_steps, num_steps + time / step]
            assert_array_equal(pulsed.onset_steps(float(dt)), steps)
            # The same where either or both are steps already, and under a trace.
            length, onsets = int(time / step), np.array([0, num_steps])
            for both in (
                schedule.on_grid(float(dt)).pulsed(pulse),
                schedule.pulsed(Steps(np.array(length), float(dt))),
                schedule.on_grid(float(dt)).pulsed(Steps(np.array(length), float(dt))),
            ):
                assert_array_equal(both.onset_steps(float(dt)), steps)
            assert_array_equal(_pulsed(onsets, length, float(dt)), steps)
            assert trial.input_at(pulse)[0] == 0
            assert trial.input_at(float(time - step))[0] == 1


@eqx.filter_jit
def _pulsed(onsets: Any, length: Any, dt: float) -> Any:
    schedule = hj.Schedule(Steps(jnp.asarray(onsets), dt), levels(2))
    return schedule.pulsed(Steps(jnp.asarray(length), dt)).onset_steps(dt)


# Solves.

DT, NUM_STEPS = 0.1, 7
STEP = Fraction("0.1")


def always(t, state, overlaps):
    return 1.0 + 0 * t


def see_state(t, state):
    return state


def run(onset: Any, since: float, dtype: Any, **options: Any) -> hj.Trajectory:
    schedule = hj.Schedule([0.0, onset], levels(2).astype(dtype))
    options = {"t1": 0.7, "dt": DT, "save_every": DT, "save_fn": see_state} | options
    x0, of_noise = np.zeros(2, dtype), {"noise": None, "key": None}
    passages = {"passage_fn": always, "passage_since": since}
    return hj.solve(copy(dtype), schedule, x0, **of_noise, **passages, **options)


@pytest.mark.slow
@FLOATS
def test_a_solve_switches_and_passes_to_the_step(dtype):
    for time in edges(STEP, NUM_STEPS):
        for since in written(time, STEP, NUM_STEPS):
            whole = time > 0 and time % STEP == 0
            onset = int(time / STEP) if whole else 3
            found = run(since if whole else 0.3, since, dtype)
            assert found.passage_step == ceiling(time / STEP)
            assert found.passage_time == ceiling(time / STEP) * DT
            assert found.diverged_step == -1
            assert found.diverged_at == np.inf
            seen = np.diff(np.asarray(found.saved)[:, 0]) / DT
            assert_allclose(seen, [1] * onset + [2] * (NUM_STEPS - onset), rtol=1e-5)
            assert f"{found.passage_time:g}, {found.diverged_at:g}".endswith(", inf")


@pytest.mark.slow
@FLOATS
def test_adaptive_steps_keep_their_times(dtype):
    adaptive: dict[str, Any] = {"stepsize_controller": dfx.PIDController(rtol=1e-4, atol=1e-4)}
    for time in edges(STEP, NUM_STEPS):
        since = written(time, STEP, NUM_STEPS)[-1]
        found = run(0.3, since, dtype, **adaptive)
        assert found.passage_step is None
        assert found.passage_time is not None
        assert found.passage_time.dtype == dtype
        assert dtype(since) <= found.passage_time <= dtype(0.7) + 1e-15
        assert (found.diverged_step, found.diverged_at) == (-1, np.inf)
        assert_allclose(found.final_state, 0.3 + 2 * 0.4, rtol=1e-5)
    # Between steps of the grid as well.
    assert_allclose(run(0.24, 0.0, dtype, **adaptive).final_state, 0.24 + 2 * 0.46, rtol=1e-5)


class Late(eqx.Module):
    """Positive once the state is."""

    def __call__(self, t, state, overlaps):
        return state[0] - 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_a_passage_beyond_five_million_steps_is_exact():
    dtype, switch = jnp.float32, 5_386_936
    shown = np.array([[0.0, 0.0], [2000.0, 2000.0]], np.float32)
    trial = hj.Trial(
        copy(dtype), hj.Schedule([0.0, switch * 0.001], shown), np.zeros(2, np.float32)
    )
    times: dict[str, Any] = {"t1": 5400.0, "dt": 0.001, "save_every": 5400.0}
    ensemble = hj.solve_ensemble(
        trial, trials=1, key=jax.random.key(0), passage_fn=Late(), progress=False, **times
    )
    # From −0.5 to 1.5 in one step.
    assert ensemble.passage_time == pytest.approx((switch + 0.25) * 0.001, rel=1e-10)
    assert_array_equal(ensemble.passed, [0, 1])
    path = hj.solve(trial.model, trial.inputs, trial.x0, passage_fn=Late(), **times)
    assert path.passage_step == switch + 1
    assert path.passage_time == ensemble.passage_time
    # In float32 it would be that of another.
    assert round(float(np.float32(0.001) * np.float32(switch + 1)) / 0.001) != switch + 1


@FLOATS
def test_no_step_that_is_counted_has_the_time_of_another(dtype):
    grid = Grid(0.01, 2**24 - 1, 2**24 - 1)
    steps = np.array([-1, 0, 1, 5_000_001, 8_388_609, 16_777_215])
    path = Trajectory(
        *(jnp.zeros(2, dtype), jnp.zeros((2, 1), dtype), jnp.zeros(2, dtype), jnp.array(True)),
        diverged_step=jnp.asarray(steps),
        grid=grid,
        passage=jnp.asarray(steps),
        passage_ahead=jnp.zeros(steps.shape, dtype),
    )
    for times in (path.passage_time, path.diverged_at):
        assert times is not None
        assert times.dtype == float
        assert_array_equal(times, [np.inf, *(steps[1:] * 0.01)])
    # Under a trace in the dtype of the memories.
    times = jax.jit(lambda path: path.passage_time)(path)
    assert times.dtype == dtype
    assert_allclose(times, path.diverged_at, rtol=1e-6)


# Ensembles.

MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]], np.float32)


def trial(dtype: Any = np.float32, inputs: Any = None) -> hj.Trial:
    """One that is in memory 0 from the start to the end."""
    model = hj.IDPHopfield(MEMORIES.astype(dtype), hj.Tanh(10.0))
    shown = 3 * MEMORIES[0] if inputs is None else inputs
    return hj.Trial(model, shown, 2 * MEMORIES[0].astype(dtype), hj.AdditiveNoise(0.1))


def ensemble(one: Any, **options: Any) -> hj.Ensemble:
    options = {"t1": 10.0, "dt": 0.1, "save_every": 0.5} | options
    return hj.solve_ensemble(one, trials=3, key=jax.random.key(0), progress=False, **options)


@pytest.mark.slow
def test_a_settle_of_next_to_nothing_is_the_last_saved_time():
    found = ensemble(trial(), dt=0.05, criterion=hj.Criterion(0.9, settle=1e-9))
    assert found.counts["right"] == 3
    assert (found.final_overlap > 0.9).all()
    assert found.retrieved.estimate == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("since", "time"), [(0.24, 0.06), (0.25, 0.05), (0.1 + 0.2, 0.0), (ULP, 0.1)]
)
def test_a_passage_is_never_before_since(since, time):
    found = ensemble(trial(), criterion=hj.Criterion(0.9, since=since))
    assert_allclose(found.passage_time, time, atol=1e-12)
    assert (found.passage_time >= 0).all()
    first = ceiling(Fraction(str(round(since, 12))) / STEP) if since > 1e-12 else 1
    assert_array_equal(found.passed, np.arange(21) * 5 >= first)


@pytest.mark.slow
def test_adaptive_ensembles_judge_the_saved_times_and_never_pass_before_since():
    options: dict[str, Any] = {"stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)}
    quiet = eqx.tree_at(lambda trial: trial.noise, trial(), None)
    for settle, since in ((1e-9, ULP), (10.0, 9.95)):
        criterion = hj.Criterion(0.9, settle=settle, since=since)
        found = ensemble(quiet, criterion=criterion, **options)
        assert found.counts["right"] == 3
        assert (found.passage_time >= 0).all()
        assert np.isfinite(found.passage_time).all()
        assert found.passed[-1] == 1
        assert (np.diff(found.passed) >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_input_at_the_end_is_that_of_an_onset_at_the_end(adaptive):
    # 0.1 · 3 is above 0.3.
    options: dict[str, Any] = {"t1": 0.3, "dt": 0.1, "save_every": 0.1}
    if adaptive:
        options["stepsize_controller"] = dfx.PIDController(rtol=1e-3, atol=1e-3)
    for end in (0.3, 0.1 * 3, 0.1 + 0.2):
        schedule = hj.Schedule([0.0, end], levels(2).astype(np.float32))
        of_end = hj.Trial(copy(np.float32), schedule, np.zeros(2, np.float32))
        assert ensemble(of_end, **options).final_energy[0] == 2
        before = hj.Schedule([0.0, 0.4], levels(2).astype(np.float32))
        of_end = eqx.tree_at(lambda trial: trial.inputs, of_end, before)
        assert ensemble(of_end, **options).final_energy[0] == 1


# Losses.


def saved(dtype: Any, num_steps: int, stride: int) -> hj.Trajectory:
    """A trajectory without any overlap."""
    grid = Grid(DT, num_steps, stride)
    size = len(grid.save_steps)
    return Trajectory(
        *(jnp.asarray(grid.save_times, dtype), jnp.zeros((size, 2), dtype)),
        *(jnp.zeros(8, dtype), jnp.array(True), jnp.array(-1)),
        grid=grid,
    )


@pytest.mark.slow
@FLOATS
@pytest.mark.parametrize(("num_steps", "stride"), [(7, 1), (7, 2), (16_000_000, 160_000)])
def test_losses_integrate_whole_steps(dtype, num_steps, stride):
    path, one = saved(dtype, num_steps, stride), trial(dtype)
    last = (num_steps // stride) * stride
    wait = float(jax.nn.sigmoid(jnp.asarray(0.9 / 0.05, float)))
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    for time in edges(STEP, num_steps):
        for since in written(time, STEP, num_steps):
            loss, judge = cast_floats(hj.TimeLoss(), dtype), hj.Criterion(0.9, since=since)
            if time >= last * STEP:
                with pytest.raises(ValueError, match="`since` must be below the last saved time"):
                    loss.measure(one, path, judge)
                continue
            expected = wait * float(last * STEP - time)
            found = float(loss.measure(one, path, judge))
            assert found == pytest.approx(expected, rel=tolerance, abs=2e-7 * float(time))
            if time == 0 or time % STEP:
                continue
            # What the input costs, before and after an onset at this time.
            values = np.sqrt([[1.0], [3.0]]).astype(dtype) * np.ones((1, 8), dtype)
            shown = eqx.tree_at(lambda t: t.inputs, one, hj.Schedule([0.0, since], values))
            number = min(int(time / STEP), last)
            cost = float(STEP) * (number + 3 * (last - number))
            assert float(hj.InputCost().measure(shown, path, judge)) == pytest.approx(cost, 1e-5)


# Studies.


def numbers_of(trial: hj.Trial, trajectory: hj.Trajectory) -> Any:
    begins: Any = trial.inputs.begins
    return {"steps": begins.numbers, "same": trial.inputs.onset_steps(0.01)}


PULSES: dict[str, Any] = {"num_neurons": 8, "num_memories": 2, "model": "classic_pulsed"}
PULSES |= {"shown": (0, 1), "onsets": (0.0, 0.07), "pulse": 0.01}


def pulses(**changes: Any) -> Any:
    return hj.Retrieval(**(PULSES | changes))


def study_of(task: Any, sweep: Any, **options: Any) -> Any:
    options = {"t1": 0.1, "dt": 0.01, "save_every": 0.1} | options
    reductions = {"seen": hj.PerTrial(numbers_of)}
    key = jax.random.key(0)
    return hj.Study(task, sweep, trials=2, key=key, reductions=reductions, **options)


class Counted(hj.Retrieval):
    """How often it is traced."""

    traces = 0

    def __call__(self, key, **changes):
        type(self).traces += isinstance(key, Tracer)
        return super().__call__(key, **changes)


@pytest.mark.slow
def test_swept_times_are_steps_before_they_are_traced():
    # One program for all of them, at every edge and beyond 2²³ steps.
    onsets = [0.02, 0.07, 0.09, 0.1, 0.29, 83_886.09, 83_886.11]
    sweep = [{"onsets": (0.0, onset), "pulse": 0.01} for onset in onsets]
    sweep.append({"onsets": (0.0, 0.57), "pulse": 0.01 * 29})
    task = Counted(**{name: getattr(pulses(), name) for name in PULSES})
    study = study_of(task, sweep)
    Counted.traces = 0
    found = study.run(progress=False)
    assert Counted.traces == 1
    expected = [[0, 1, n, n + 1] for n in (2, 7, 9, 10, 29, 8_388_609, 8_388_611)]
    expected.append([0, 29, 57, 57 + 29])
    for name in ("seen_steps", "seen_same"):
        assert_array_equal(found[name].isel(trial=1), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"pulse": [0.01, 0.015]}, "pulse"),
        ({"pulse": [ULP]}, "pulse"),
        ({"pulse": [0.07]}, "pulse"),
        ({"pulse": [0.08]}, "pulse"),
        ({"onsets": [(0.0, 0.075)]}, "onsets"),
        ({"onsets": [(0.0, 0.005)]}, "pulse"),
        ({"onsets": [(0.005, 0.07)]}, "onsets"),
        ({"onsets": [(0.0, ULP)]}, "pulse"),
        ({"dt": [0.01, 0.025]}, "onsets"),
        ({"t1": [0.1, 0.105]}, "t1"),
        ({"save_every": [0.1, 0.015]}, "save_every"),
        ({"save_every": [0.2]}, "save_every"),
    ],
)
def test_a_study_names_the_time_that_is_no_multiple(wrong, name):
    given: dict[str, Any] = {"t1": 0.1, "dt": 0.01, "save_every": 0.1}
    given = {key: value for key, value in given.items() if key not in wrong}
    with pytest.raises(ValueError, match=f"^Argument `{name}`") as caught:
        hj.Study(pulses(), wrong, trials=2, key=jax.random.key(0), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_adaptive_studies_keep_swept_times():
    def numbers(trial, trajectory):
        return trial.inputs.onsets

    sweep = {"onsets": [(0.0, 0.0123), (0.0, 0.07)]}
    study = hj.Study(
        *(pulses(law="tree"), sweep),
        **{"trials": 2, "key": jax.random.key(0), "t1": 0.1, "dt": 0.01},
        stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-3),
        reductions={"seen": hj.PerTrial(numbers)},
    )
    found = study.run(progress=False)
    first = [[0, 0.01, 0.0123, 0.0223], [0, 0.01, 0.07, 0.08]]
    assert_allclose(found.seen_values.isel(trial=0), first, rtol=1e-6)


IN_FLOAT32 = """
    import jax
    import jax.numpy as jnp
    import numpy as np

    import hopjax as hj

    def begins(trial, trajectory):
        return trial.inputs.begins.numbers

    far = (0.0, 83_886.09)  # 8 388 609 steps of 0.01; in float32 another number of them
    values = np.ones((2, 8), np.float32)
    options = {"trials": 2, "key": jax.random.key(0), "t1": 0.1, "dt": 0.01}
    options["reductions"] = {"seen": hj.PerTrial(begins)}
    task = hj.Retrieval(num_neurons=8, num_memories=2, model="classic_pulsed", shown=(0, 1),
                        onsets=far, pulse=0.07)
    study = hj.Study(task, {"onsets": [far, (0.0, 0.29)], "pulse": [0.07, 0.06]}, **options)
    print(study.run(progress=False).seen_values.values[..., 0, :].reshape(-1, 4).tolist())
    model = hj.ClassicHopfield(values)
    shared = hj.Trial(model, hj.Schedule(far, values), values[0])

    def made(key):
        return hj.Trial(model, hj.Schedule(far, values), values[0])

    for trial in (shared, made):
        ensemble = hj.solve_ensemble(trial, progress=False, **options)
        print(ensemble.reduced["seen"]["values"][0].tolist())

    def loss(strength):  # shown for 3 steps of 10, 0.1 of time in all
        shown = strength * jnp.array([[1.0], [0.0], [0.0]]) * values[0]
        inputs = hj.Schedule([0.0, 0.03, 1e7], shown)
        trial = hj.Trial(model, inputs, values[0])
        path = hj.solve(model, inputs, values[0], t1=0.1, dt=0.01)
        return hj.InputCost().measure(trial, path, hj.Criterion())

    print(round(float(jax.jit(loss)(2.0)), 6))
"""


QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@pytest.mark.slow
def test_times_are_exact_in_the_default_precision():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IN_FLOAT32)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_ENABLE_X64": "0"} | QUICK,
        capture_output=True,
        text=True,
        check=False,
    )
    far, near = 8_388_609, 29
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str([[0, length, n, n + length] for n in (far, near) for length in (7, 6)]),
        *(str([0, far]), str([0, far])),
        "0.12",
    ]


def test_what_is_refused_is_shown_as_the_time_that_was_given():
    near = hj.Schedule([0.0, 0.5, 0.50001], levels(3))
    with pytest.raises(ValueError, match=r"Argument `onsets` .* apart, got 0\.50001 at"):
        near.on_grid(0.1)
    schedule = hj.Schedule([0.0, 0.5, 1.0], levels(3))
    with pytest.raises(ValueError, match=r"Argument `pulse` .* window .*, got 0\.49999 at"):
        schedule.pulsed(0.49999, name="pulse").on_grid(0.1)
    with pytest.raises(ValueError, match=r"Argument `pulse` .* step of dt = 0\.1, got 1e-09 at"):
        schedule.pulsed(1e-9, name="pulse").on_grid(0.1)
    # Its end is the next onset, but for rounding.
    with pytest.raises(ValueError, match="Argument `pulse` must be shorter than every window"):
        schedule.pulsed(np.nextafter(0.5, 0), name="pulse")
