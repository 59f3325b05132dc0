"""Many retrievals: one trial under vmap, chunks of trials over devices, running reductions.

Trial j of a key gets `fold_in(key, j)` and nothing else, so results depend neither on the chunk
size (but for rounding) nor on devices nor on how many other trials there are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from hopjax._checks import check_count, check_flag, check_key, check_takes
from hopjax._errors import ArgumentError, names_keywords
from hopjax._keys import data_of, key_of, trial_key
from hopjax.engine import (
    Checked,
    Checks,
    Chunk,
    Device,
    Job,
    Program as ChunkProgram,
    check_trials,
    check_where,
    each_trial,
    place,
    progress_bar,
)
from hopjax.ensemble.plan import Asked, Plan
from hopjax.ensemble.reductions import AbstractReduction, Partial, PerTrial, Totals
from hopjax.ensemble.result import OWN_NAMES, Ensemble
from hopjax.program import Program, as_written, is_installed, program_of
from hopjax.solving import Grid, PassageFunction, Problem, SaveFunction, Trajectory
from hopjax.trials import Criterion, Trial, uncompiled

_TRAJECTORIES = "all overlaps"  # no name of the user's


class _Measured(NamedTuple):
    """What the device hands to the host of a trial."""

    ok: Bool[Array, ""]
    measures: dict[str, Any]  # by each reduction


def _measure_trials(
    shared: tuple[Any, Plan],
    parameters: Any,
    key: Key[Array, ""],
    numbers: Int[Array, " n"],
    checks: Checks,
) -> Checked:
    """A chunk of trials, for a `Job`."""
    make, plan = shared

    def measure(number: Int[Array, ""]) -> _Measured:
        trial, trajectory = plan.solve(
            lambda setting_key: make(setting_key, parameters), trial_key(key, number)
        )
        reductions = plan.all_reductions
        measures = {name: each.measure(trial, trajectory) for name, each in reductions.items()}
        return _Measured(trajectory.ok, measures)

    return each_trial(measure, numbers, checks)


@dataclass(frozen=True)
class _Summarise:
    """Makes summaries of chunks, on the host of whoever solved them."""

    plan: Plan
    trials: int

    def __call__(self, chunk: Chunk, measured: _Measured) -> dict[str, Partial]:
        size = min(self.plan.chunk, self.trials - chunk.start)
        ok, measures = jax.tree.map(lambda leaf: leaf[:size], measured)
        reductions = self.plan.all_reductions
        return {name: each.summarise(measures[name], ok) for name, each in reductions.items()}


def summary_job(make: Callable[[Key[Array, ""], Any], Trial], plan: Plan, trials: int) -> Job:
    """Chunks of trials, each of which becomes a summary by each reduction.

    It is of those of the chunk's trials that are below `trials`.
    """
    program = ChunkProgram(_measure_trials, (make, plan), plan.chunk)
    return Job(program, trials, _Summarise(plan, trials), host=own_reductions(plan.reductions))


def own_reductions(
    reductions: Mapping[str, AbstractReduction],
) -> tuple[AbstractReduction, ...]:
    """Those of the user's, whose code runs on the host too."""
    return tuple(each for each in reductions.values() if not is_installed(type(each).__module__))


def trial_program(make, plan: Plan, parameters: Any) -> Program:
    """The program of one trial, of whatever key and numbers."""

    def run(shared: Any, parameters: Any, key: Array, numbers: Array) -> Checked:
        return _measure_trials(shared, parameters, key_of(key), numbers, [])

    # A trial is solved as one of several: a batch of one has the rules for batches too.
    one = np.zeros(2, np.uint32), np.zeros(1, int)
    return program_of(run, (make, plan), parameters, *one)


class _Shared(eqx.Module):
    """The same trial for every key."""

    trial: Trial

    def __call__(self, key, parameters) -> Trial:
        return self.trial


class _OfKey(eqx.Module):
    """The user's function of the key."""

    function: Callable[[Key[Array, ""]], Trial]

    def __call__(self, key, parameters) -> Trial:
        return self.function(key)


@names_keywords
@as_written
def solve_ensemble(
    trial: Trial | Callable[[PRNGKeyArray], Trial],
    *,
    trials: int,
    key: PRNGKeyArray,
    t1: float,
    dt: float,
    save_every: float | None = None,
    criterion: Criterion | None = None,
    save_fn: SaveFunction | None = None,
    passage_fn: PassageFunction | None = None,
    reductions: Mapping[str, AbstractReduction] | None = None,
    trajectories: bool = False,
    max_bytes: int = 2**30,
    chunk: int | None = None,
    devices: Sequence[Device] | None = None,
    executor: Executor | None = None,
    elsewhere: bool = False,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    progress: bool = True,
) -> "Ensemble":
    """Solve many trials of one setting and keep their statistics.

    Trial j has the key `fold_in(key, j)`: the first thousand of a million are the thousand of a
    smaller ensemble. Same key and `chunk`: same bits, on any number of devices.

    Example:
        ```python
        def trial(key):
            memory_key, start_key = jax.random.split(key)
            memories = hj.random_memories(memory_key, num_memories=3, num_neurons=64)
            u = hj.mixture(memories, jnp.array([3.0, 1.0, 1.0]))
            x0 = jax.random.normal(start_key, (64,))
            return hj.Trial(hj.IDPHopfield(memories), u, x0, hj.AdditiveNoise(0.5))


        ensemble = hj.solve_ensemble(trial, trials=200, key=jax.random.key(0), t1=10.0, dt=0.02)
        estimate, low, high = ensemble.retrieved  # a probability and its 95% interval
        ```

    Args:
        trial: a `Trial`, which all share but for their noise, or a function of a trial's key that
            makes one: what it draws from the key is new in each trial, anything else is shared.
            What it draws otherwise, as from NumPy's generator, is refused. A function defined
            once: a lambda made anew per call compiles anew per call.
        trials: how many.
        key: decides everything random.
        t1: end, as for `solve`.
        dt: step, as for `solve`.
        save_every: interval between saved times, as for `solve`.
        criterion: what counts as retrieved; `Criterion()` by default, |m| > 0.9 and the largest at
            the end.
        save_fn: further quantities at the saved times, as for `solve`: `save_fn(t, state)` ->
            arrays, which reductions find in `trajectory.saved`.
        passage_fn: what is positive at a passage, in place of the criterion's margin, as for
            `solve`: `passage_fn(t, state, overlaps)` -> a real number.
        reductions: more to be kept, by name: `Moments`, `Histogram` or `PerTrial` of a function
            of `Trial` and `Trajectory`, or your own `AbstractReduction`; found in `reduced`.
        trajectories: whether to keep all overlaps over time too (`trajectories`).
        max_bytes: the most memory that may take.
        chunk: trials solved together on a device; by default 128, or `trials` if these are fewer.
            Rounding depends on it, the noise does not. A GPU wants thousands at a time.
        devices: by default all local ones. (A CPU is one device, which uses some of its cores some
            of the time, unless `jax.config.update("jax_num_cpu_devices", n)` says otherwise.)
        executor: whose workers solve the trials in place of this process, as for `Study.run`.
        elsewhere: whether workers may have other software or processors than this process.
        solver: as for `solve`.
        stepsize_controller: as for `solve`.
        progress: whether to show it on stderr: a bar on a terminal, else a line every 30 s.

    Returns:
        An `Ensemble`.

    Raises:
        TypeError, ValueError: for a wrong argument, a trial that cannot be solved or draws from
            anything but its key, or trajectories beyond `max_bytes`.
        WorkerError: where workers of the executor cannot go on.
    """
    where = check_where(devices, executor, elsewhere)
    trials, key = check_trials(trials), check_key(key)
    trajectories = check_flag(trajectories, "trajectories")
    max_bytes = check_count(max_bytes, "max_bytes")
    check_flag(progress, "progress")
    plan = Asked(
        t1=t1,
        dt=dt,
        save_every=save_every,
        criterion=criterion,
        chunk=chunk,
        solver=solver,
        stepsize_controller=stepsize_controller,
        save_fn=save_fn,
        passage_fn=passage_fn,
        reductions=reductions,
    ).plan(trials)
    once, example, make = None, trial, None
    if callable(trial) and not isinstance(trial, type):
        check_takes(trial, "trial", "a trial's key", key)
        once = partial(uncompiled(trial), key)
        example, make = once(), _OfKey(trial)
    problem = plan.check(example)
    if make is None:
        make = _Shared(plan.prepare(trial))
    plan.check_draws(example, problem, once, trial)
    if trajectories:
        shape = (trials, len(problem.grid.save_times), problem.model.memories.shape[0])
        size = math.prod(shape) * problem.model.memories.dtype.itemsize
        if size > max_bytes:
            right = f"False, or `max_bytes` at least {size}, for overlaps of shape {shape}"
            raise ArgumentError(
                "trajectories",
                f"{right} ({size / 2**30:.2f} GiB)",
                f"max_bytes = {max_bytes}",
                hint="save less often, or keep what you need by `reductions`",
            )
        plan = eqx.tree_at(
            lambda plan: plan.reductions,
            plan,
            {**plan.reductions, _TRAJECTORIES: PerTrial(_overlaps)},
        )
    starts = range(0, trials, plan.chunk)
    chunks = [Chunk(data_of(key), start) for start in starts]
    totals = Totals(plan.all_reductions)
    with progress_bar(trials, "trials", progress) as bar:
        summaries = place(summary_job(make, plan, trials), where).run(chunks)
        for start, parts in zip(starts, summaries, strict=True):
            totals.add(parts)
            bar.update(min(plan.chunk, trials - start))
    return make_ensemble(plan, problem, totals.all())


def _overlaps(trial: Trial, trajectory: Trajectory) -> Float[Array, "T P"]:
    return trajectory.overlaps


def make_ensemble(plan: Plan, problem: Problem, totals: dict[str, Partial]) -> Ensemble:
    """Results from the merged summaries."""
    in_effect = plan.criterion.in_effect(problem.model)
    return finish(plan.all_reductions, in_effect, problem.grid, totals, adaptive=plan.adaptive)


def finish(
    reductions: Mapping[str, AbstractReduction],
    criterion: Criterion,
    grid: Grid,
    totals: Mapping[str, Partial],
    *,
    adaptive: bool,
) -> Ensemble:
    """Results from the merged summaries, without the model that they are of.

    Args:
        reductions: that made them, ours and maybe the user's.
        criterion: what counts as retrieved, in effect for the model.
        grid: the steps of the solves.
        totals: the summaries of all trials, by the names of the reductions.
        adaptive: whether steps have times and no numbers.
    """
    results = {name: reductions[name].finish(total) for name, total in totals.items()}
    overlap, ending = (results.pop(name) for name in OWN_NAMES)
    kept = results.pop(_TRAJECTORIES, None)
    since, passage = criterion.since, ending["passage"]
    if adaptive:  # times, in the dtype of the solve
        saved_at = grid.save_times.astype(passage.dtype)
        passage_time = np.maximum(passage.astype(float) - since, 0)
    else:
        ahead = ending["passage_ahead"].astype(float)
        saved_at, passage_time = grid.save_steps, grid.times_since(passage, since, ahead)
    passed = np.sort(passage[passage >= 0]).searchsorted(saved_at, "right") / len(passage)
    return Ensemble(
        ts=grid.save_times,
        overlap_mean=overlap["mean"],
        overlap_variance=overlap["variance"],
        histogram=overlap["counts"],
        edges=overlap["edges"],
        target=ending["target"],
        outcome=ending["outcome"],
        share=ending["positive"] / criterion.judged_times(grid),
        memory=ending["memory"],
        passage_time=passage_time,
        passed=passed,
        final_overlap=ending["final_overlap"].astype(float),
        final_energy=ending["final_energy"].astype(float),
        diverged_at=grid.times(ending["diverged_step"]),
        reduced=results,
        per_trial={
            name: each.axes for name in results if isinstance(each := reductions[name], PerTrial)
        },
        trajectories=None if kept is None else kept["values"],
        criterion=criterion,
    )
