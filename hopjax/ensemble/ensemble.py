"""Many retrievals: one trial under vmap, chunks of trials over devices, running reductions.

Trial j of a key gets `fold_in(key, j)` and nothing else, so results depend neither on the chunk
size (but for rounding) nor on devices nor on how many other trials there are.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PRNGKeyArray

from hopjax._checks import (
    cast_floats,
    check_count,
    check_fits,
    check_flag,
    check_instance,
    check_key,
    check_number,
    check_takes,
    collect_bad_values,
    shown,
)
from hopjax.ensemble.reductions import (
    AbstractReduction,
    Histogram,
    Moments,
    Partial,
    PerTrial,
    Totals,
)
from hopjax.program import Program, as_written, compiled, program_of, under_this_mark
from hopjax.solving import (
    PassageFunction,
    Problem,
    SaveFunction,
    Trajectory,
    check_problem,
    is_adaptive,
)
from hopjax.statistics import (
    Interval,
    censored_quantiles,
    histogram_quantiles,
    mean_share,
    wilson_interval,
)
from hopjax.trials import OUTCOMES, Criterion, Trial, check_draws, solve_trial, uncompiled

CHUNK = 128  # trials that are solved together on a device, if there are as many
Device = Any  # jax.Device, which is a variable to type checkers
BIN_WIDTH = 0.005  # of the histogram of overlaps


class _TargetOverlap(eqx.Module):
    """The overlap with the strongest right memory at the saved times."""

    criterion: Criterion

    def __call__(self, trial: Trial, trajectory: Trajectory) -> Float[Array, " T"]:
        return self.criterion.of(trial.model, trial.target).strength(trajectory.overlaps)


class _Distribution(AbstractReduction):
    """Moments and histogram of one measure, which the device hands over once."""

    moments: Moments
    histogram: Histogram

    def measure(self, trial: Trial, trajectory: Trajectory) -> Array:
        return self.moments.measure(trial, trajectory)

    def summarise(self, measured: np.ndarray, ok: Bool[np.ndarray, " n"]) -> Partial:
        return self.moments.summarise(measured, ok) | self.histogram.summarise(measured, ok)

    def merge(self, first: Partial, second: Partial) -> Partial:
        return self.moments.merge(first, second) | self.histogram.merge(first, second)

    def finish(self, total: Partial) -> Partial:
        return self.moments.finish(total) | self.histogram.finish(total)


class _Ending(eqx.Module):
    """How a trial ended, in a few numbers."""

    criterion: Criterion

    def __call__(self, trial: Trial, trajectory: Trajectory) -> dict[str, Array]:
        ending = self.criterion.of(trial.model, trial.target).ending(trajectory)
        energy = trial.model.energy(trajectory.final_state, trial.input_at(trajectory.grid.t1))
        assert trajectory.passage is not None
        return {
            "passage": trajectory.passage,
            **{"outcome": ending.outcome, "memory": ending.memory, "positive": ending.positive},
            "target": trial.target,
            "final_overlap": ending.overlap,
            "final_energy": jnp.where(trajectory.ok, energy, jnp.nan),
            "diverged_step": trajectory.diverged_step,
        }


def _overlaps(trial: Trial, trajectory: Trajectory) -> Float[Array, "T P"]:
    return trajectory.overlaps


class Plan(eqx.Module):
    """How trials are solved and what is kept of them: the same for all cells of a study."""

    t1: float = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    save_every: float | None = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    solver: dfx.AbstractSolver | None
    stepsize_controller: dfx.AbstractStepSizeController | None
    criterion: Criterion
    save_fn: SaveFunction | None
    passage_fn: PassageFunction | None
    reductions: dict[str, AbstractReduction]

    @property
    def adaptive(self) -> bool:
        """Whether steps have times and no numbers."""
        return is_adaptive(self.stepsize_controller)

    @property
    def all_reductions(self) -> dict[str, AbstractReduction]:
        """The user's and our own."""
        overlap = _TargetOverlap(self.criterion)
        low = 0.0 if self.criterion.mirror else -1.0
        return {
            "overlap": _Distribution(
                Moments(overlap), Histogram(overlap, low=low, high=1.0, bin_width=BIN_WIDTH)
            ),
            "ending": PerTrial(_Ending(self.criterion)),
            **self.reductions,
        }

    def check(self, trial: Any) -> Problem:
        """Refuse a trial that cannot be solved; values are looked at where they are concrete."""
        check_trial(trial)
        problem = check_problem(
            trial.model,
            trial.inputs,
            jnp.nan_to_num(trial.x0),
            t1=self.t1,
            dt=self.dt,
            noise=trial.noise,
            key=jax.random.key(0),
            save_every=self.save_every,
            save_fn=self.save_fn,
            passage_fn=self.passage_fn,
            solver=self.solver,
            stepsize_controller=self.stepsize_controller,
        )
        self._check_memory(problem)
        self.criterion.check_times(problem.grid)
        return problem

    def prepare(self, trial: Any) -> Trial:
        """A trial as it is solved: its times numbers of steps, and its numbers of one dtype."""
        check_trial(trial)
        if not self.adaptive:
            trial = trial.on_grid(self.dt)
        return cast_floats(trial, trial.model.memories.dtype)

    def _check_memory(self, problem: Problem) -> None:
        """Refuse what has no room for the states and the saved overlaps of a chunk, by far."""
        model, grid = problem.model, problem.grid
        saved = (grid.num_steps // grid.stride + 1) * model.memories.shape[0]
        if self.save_every is not None:
            size = model.memories.itemsize * saved
            check_fits(size, "save_every", "the saved times of a trial", self.save_every)
        size = self.chunk * model.memories.itemsize * (saved + model.state_size)
        check_fits(size, "chunk", "a chunk of trials", self.chunk)

    def check_draws(
        self,
        trial: Any,
        problem: Problem,
        make: Callable[[], Trial] | None = None,
        function: Any = None,
    ) -> None:
        """Refuse a trial, or what is measured, that draws from anything but a key; see there."""
        measures: dict[str, Callable[[Trial, Trajectory], Any]] = {
            f"reductions[{name!r}]": reduction.measure
            for name, reduction in self.reductions.items()
        }
        save_fn, passage_fn = self.save_fn, self.passage_fn
        if save_fn is not None:
            measures["save_fn"] = lambda _, solved: save_fn(solved.ts[0], solved.final_state)
        if passage_fn is not None:
            measures["passage_fn"] = lambda _, solved: passage_fn(
                solved.ts[0], solved.final_state, solved.overlaps[0]
            )
        check_draws(trial, problem, measures, self.criterion, make=make, function=function)


def check_trial(trial: Any) -> None:
    """Refuse what is not a trial."""
    check_instance(
        trial, Trial, "trial", "a Trial, or a function that makes one from a trial's key"
    )


class Job(NamedTuple):
    """One chunk: `plan.chunk` trials of a base key and parameters, from number `start` on."""

    key: Key[Array, ""]
    parameters: Any
    start: int
    label: str = ""  # to say where a trial is


class _Measured(NamedTuple):
    """What the device hands to the host of a trial."""

    ok: Bool[Array, ""]
    bad: Bool[Array, " checks"]  # which runtime checks failed
    measures: dict[str, Any]  # by each reduction


def run_chunks(
    make: Callable[[Key[Array, ""], Any], Trial],
    plan: Plan,
    jobs: Iterable[Job],
    trials: int,
    devices: Sequence[Device],
    sink: Callable[[Job, dict[str, Partial]], Any] = lambda job, parts: parts,
) -> Iterator[Any]:
    """For each job `sink(job, parts)`, in their order.

    `parts` has a summary by each reduction, of those of the job's trials that are below `trials`.
    One job is solved on each device at a time; while they run, the host sums up those before and
    calls `sink`, in another thread.
    """
    mesh = jax.make_mesh((len(devices),), ("chunks",), axis_types=(AxisType.Auto,), devices=devices)
    reductions = plan.all_reductions
    # What all chunks share goes to the devices once.
    everywhere = NamedSharding(mesh, PartitionSpec())
    make, plan = eqx.filter_shard(make, everywhere), eqx.filter_shard(plan, everywhere)

    @under_this_mark
    def summarise(place: int, job: Job, measured: _Measured, messages: tuple[str, ...]) -> Any:
        size = min(plan.chunk, trials - job.start)
        ok, bad, measures = jax.tree.map(lambda leaf: np.asarray(leaf)[place, :size], measured)
        for trial, check in np.argwhere(bad)[:1]:
            raise ValueError(
                f"{messages[check][:-1]}, which it is not in trial {job.start + trial}{job.label}."
            )
        parts = {name: reductions[name].summarise(measures[name], ok) for name in reductions}
        return sink(job, parts)

    jobs = iter(jobs)
    with ThreadPoolExecutor(1) as pool:
        waiting = []
        while batch := list(itertools.islice(jobs, len(devices))):
            padded = batch + [batch[-1]] * (len(devices) - len(batch))
            # On CPUs this returns when all is computed: what else there is to do waits in `pool`.
            measured, messages = _run_chunks(
                make,
                plan,
                jax.tree.map(lambda *leaves: np.stack(leaves), *(job.parameters for job in padded)),
                np.stack([jax.random.key_data(job.key) for job in padded]),
                np.array([job.start for job in padded]),
                mesh,
            )
            yield from (future.result() for future in waiting)
            waiting = [
                pool.submit(summarise, place, job, measured, messages)
                for place, job in enumerate(batch)
            ]
        yield from (future.result() for future in waiting)


@compiled
def _run_chunks(
    make, plan: Plan, parameters, keys, starts, mesh: Mesh
) -> tuple[_Measured, tuple[str, ...]]:
    """A chunk on each device: what the reductions measure, of shape (devices, chunk, ...).

    And what is wrong where `bad` says so, one message for each check.
    """
    messages: list[str] = []
    arrays, static = eqx.partition((make, plan), eqx.is_array)
    each, same = PartitionSpec("chunks"), PartitionSpec()

    def chunk(arrays, parameters, keys, starts):
        make, plan = eqx.combine(arrays, static)
        (key,), (start,) = jax.random.wrap_key_data(keys, impl="threefry2x32"), starts
        parameters = jax.tree.map(lambda leaf: leaf[0], parameters)
        numbers = start + jnp.arange(plan.chunk)
        measured = jax.vmap(
            lambda number: _measure(
                make, plan, parameters, jax.random.fold_in(key, number), messages
            )
        )(numbers)
        return jax.tree.map(lambda leaf: leaf[None], measured)

    measured = jax.shard_map(
        chunk, mesh=mesh, in_specs=(same, each, each, each), out_specs=each, check_vma=False
    )(arrays, parameters, keys, starts)
    return measured, tuple(messages)


def trial_program(make, plan: Plan, parameters: Any) -> Program:
    """The program of one trial, of whatever key and numbers."""

    # A trial is solved as one of several: a batch of one has the rules for batches too.
    def run(given: Any, parameters: Any, keys: Array) -> _Measured:
        make, plan = given

        def measure(key_data: Array) -> _Measured:
            key = jax.random.wrap_key_data(key_data, impl="threefry2x32")
            return _measure(make, plan, parameters, key, [])

        return jax.vmap(measure)(keys)

    return program_of(run, (make, plan), parameters, np.zeros((1, 2), np.uint32))


def _measure(make, plan: Plan, parameters, key: Key[Array, ""], messages: list[str]) -> _Measured:
    """One trial; `messages` gets what the checks in `bad` say."""
    setting_key, noise_key = jax.random.split(key)
    with collect_bad_values() as values:
        trial = plan.prepare(make(setting_key, parameters))
        trajectory = solve_trial(
            trial,
            noise_key,
            plan.criterion,
            passages=True,
            t1=plan.t1,
            dt=plan.dt,
            save_every=plan.save_every,
            save_fn=plan.save_fn,
            passage_fn=plan.passage_fn,
            solver=plan.solver,
            stepsize_controller=plan.stepsize_controller,
        )
        measured = {
            name: reduction.measure(trial, trajectory)
            for name, reduction in plan.all_reductions.items()
        }
    messages[:] = values.messages
    bad = jnp.array(values.bad, bool).reshape(len(values.bad))
    return _Measured(trajectory.ok, bad, measured)


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
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    progress: bool = True,
) -> "Ensemble":
    """Solve many trials of one setting and keep their statistics.

    Trial j has the key `fold_in(key, j)`: the first thousand of a million are the thousand of a
    smaller ensemble. Same key and `chunk`: same bits, on any number of devices.

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
        solver: as for `solve`.
        stepsize_controller: as for `solve`.
        progress: whether to show a bar, on a terminal only.

    Returns:
        An `Ensemble`.

    Raises:
        TypeError, ValueError: for a wrong argument, a trial that cannot be solved or draws from
            anything but its key, or trajectories beyond `max_bytes`.
    """
    trials, key = check_trials(trials), check_key(key)
    trajectories = check_flag(trajectories, "trajectories")
    max_bytes = check_count(max_bytes, "max_bytes")
    check_flag(progress, "progress")
    plan = make_plan(
        trials=trials,
        t1=t1,
        dt=dt,
        save_every=save_every,
        criterion=criterion,
        save_fn=save_fn,
        passage_fn=passage_fn,
        reductions=reductions,
        chunk=chunk,
        solver=solver,
        stepsize_controller=stepsize_controller,
    )
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
            raise ValueError(
                f"Argument `trajectories` must be False, or `max_bytes` at least {size}, for "
                f"overlaps of shape {shape} ({size / 2**30:.2f} GiB), got max_bytes = {max_bytes}: "
                "save less often, or keep what you need by `reductions`."
            )
        plan = eqx.tree_at(
            lambda plan: plan.reductions,
            plan,
            {**plan.reductions, _TRAJECTORIES: PerTrial(_overlaps)},
        )
    jobs = [Job(key, {}, start) for start in range(0, trials, plan.chunk)]
    totals = Totals(plan.all_reductions)
    with progress_bar(trials, "trials", progress) as bar:
        for job, parts in zip(
            jobs, run_chunks(make, plan, jobs, trials, check_devices(devices)), strict=True
        ):
            totals.add(parts)
            bar.update(min(plan.chunk, trials - job.start))
    return make_ensemble(plan, problem, totals.all())


_TRAJECTORIES = "all overlaps"  # no name of the user's


def make_plan(
    *,
    trials: int,
    t1: Any,
    dt: Any,
    save_every: Any,
    criterion: Any,
    chunk: Any,
    solver: Any,
    stepsize_controller: Any,
    save_fn: Any = None,
    passage_fn: Any = None,
    reductions: Any = None,
) -> Plan:
    """The checked arguments that ensembles and studies share."""
    criterion = Criterion() if criterion is None else criterion
    right = "a Criterion such as Criterion(0.9)"
    check_instance(criterion, Criterion, "criterion", right)
    reductions = {} if reductions is None else reductions
    check_instance(reductions, Mapping, "reductions", "a dict of reductions by name")
    for name, reduction in reductions.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(
                f"Argument `reductions` must have names that are identifiers, got {name!r}."
            )
        taken = [own for own in (*_OWN_NAMES, *VARIABLES) if f"{own}_".startswith(f"{name}_")]
        if taken:
            raise ValueError(
                f"Argument `reductions` must have names that leave ours alone, got {name!r}, which "
                f"is in the way of {taken[0]}."
            )
        right = "a reduction such as PerTrial(function)"
        check_instance(reduction, AbstractReduction, f"reductions[{name!r}]", right)
    return Plan(
        t1=check_number(t1, "t1", positive=True),
        dt=check_number(dt, "dt", positive=True),
        save_every=None if save_every is None else check_number(save_every, "save_every"),
        chunk=min(CHUNK, trials) if chunk is None else check_count(chunk, "chunk"),
        solver=solver,
        stepsize_controller=stepsize_controller,
        criterion=criterion,
        save_fn=save_fn,
        passage_fn=passage_fn,
        reductions=dict(reductions),
    )


_OWN_NAMES = ("overlap", "ending")
# What `Ensemble.variables` names, and axes and attributes of a dataset.
VARIABLES = (
    *("retrieved", "retrieved_low", "retrieved_high", "outcome_count", "passed"),
    *("passage_quantile", "overlap_mean", "overlap_variance", "overlap_quantile", "outcome"),
    *("passage_time", "final_overlap", "final_energy", "diverged_at", "share", "memory"),
    *("target_memory", "target_number"),
    *("outcome_name", "quantile_level", "time", "trial", "saved", "cell"),
)


def check_trials(trials: Any, name: str = "trials") -> int:
    """A number of trials; their numbers enter the keys as 32 bits."""
    if check_count(trials, name) >= 2**31:
        raise ValueError(f"Argument `{name}` must be below 2^31, got {shown(trials)}.")
    return int(trials)


def check_devices(devices: Any) -> list[Device]:
    """The devices to work on: this process's, if none are given."""
    local = jax.local_devices()
    if devices is None:
        return local
    right = f"a list of some of this process's devices {local}"
    check_instance(devices, Sequence, "devices", right)
    some = list(devices)
    if not some or any(device not in local for device in some) or len(set(some)) < len(some):
        raise ValueError(f"Argument `devices` must be {right}, got {devices}.")
    return some


def progress_bar(total: int, label: str, show: bool, done: int = 0, unit: str = "trial"):
    """Trials (or other units) done, their rate and the time left; on a terminal only."""
    from tqdm import tqdm  # not at the top: importing hopjax stays light

    hide = None if show else True  # None: where there is no terminal
    return tqdm(total=total, initial=done, desc=label, unit=unit, disable=hide)


class Variable(NamedTuple):
    """A labelled result: the names of its axes, its values, and what it is."""

    dims: tuple[str, ...]
    values: np.ndarray
    about: str


@dataclass(frozen=True, repr=False)
class Ensemble:
    """What `solve_ensemble` keeps of many trials, on the host and in float64 where it is summed.

    Trials that diverged are counted, named by `diverged`, and left out of means, variances and
    histograms; they count as not retrieved, and as never passing unless they did before.

    Attributes:
        ts: saved times.
        overlap_mean: mean over trials of the overlap with the target at `ts`, of several right
            memories the one that is strongest then; of its magnitude if the criterion takes the
            mirror image for the memory (the default).
        overlap_variance: its variance over trials (unbiased).
        histogram: counts (T, bins) of that overlap at `ts`, in bins between `edges`.
        edges: ends of the bins (of width 0.005).
        target: the right memories of each trial.
        outcome: how each trial ended by its mean late overlaps, as an index into `OUTCOMES`.
        share: the share of the judged times at which the criterion's margin was positive; 1 or 0
            where the means are judged, or the end alone.
        memory: the memory with the strongest mean late overlap, the wrong one where a trial ended
            in a wrong memory; −1 for trials that diverged.
        passage_time: when the margin (or `passage_fn`) of each trial was first positive, from the
            criterion's `since` on and measured from there: the time of a step less `since`,
            whatever is saved; 0 if it was positive at `since`. Infinite if it never was: a
            censored observation, which is never dropped. With fixed steps it is exact, with
            adaptive ones as exact as the dtype of the solve.
        passed: share of all trials that have had their first passage by each time of `ts`.
        final_overlap: the mean late overlap with the target, with its sign.
        final_energy: E(x; u) at t1; NaN for trials that diverged.
        diverged_at: the first saved time without a finite state, infinite for all that went well.
        reduced: the results of your own reductions, by name.
        per_trial: the names of those that are of every trial.
        trajectories: overlaps (trials, T, P), if they were asked for.
        criterion: what counted as retrieved, with the least amplitude that was asked for.
    """

    ts: Float[np.ndarray, " T"]
    overlap_mean: Float[np.ndarray, " T"]
    overlap_variance: Float[np.ndarray, " T"]
    histogram: Int[np.ndarray, "T bins"]
    edges: Float[np.ndarray, " bins+1"]
    target: Int[np.ndarray, "trials R"]
    outcome: Int[np.ndarray, " trials"]
    share: Float[np.ndarray, " trials"]
    memory: Int[np.ndarray, " trials"]
    passage_time: Float[np.ndarray, " trials"]
    passed: Float[np.ndarray, " T"]
    final_overlap: Float[np.ndarray, " trials"]
    final_energy: Float[np.ndarray, " trials"]
    diverged_at: Float[np.ndarray, " trials"]
    reduced: dict[str, dict[str, np.ndarray]]
    per_trial: tuple[str, ...]
    trajectories: Float[np.ndarray, "trials T P"] | None
    criterion: Criterion

    OUTCOMES: ClassVar[tuple[str, ...]] = OUTCOMES

    @property
    def trials(self) -> int:
        """How many trials there were."""
        return len(self.outcome)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended in each of `OUTCOMES`."""
        counts = np.bincount(self.outcome, minlength=len(OUTCOMES)).tolist()
        return dict(zip(OUTCOMES, counts, strict=True))

    @property
    def retrieved(self) -> Interval:
        """Probability of retrieval with its 95% interval; out of all trials.

        Wilson's interval where each trial is judged once; with `judge="instants"` that of the mean
        of `share`, from its scatter over trials.
        """
        if self.criterion.judge == "instants":
            return mean_share(self.share)
        return self.probability("right", *(["mirror"] if self.criterion.mirror else []))

    def probability(self, *outcomes: str, confidence: float = 0.95) -> Interval:
        """Share of all trials that ended in one of the outcomes, with Wilson's interval."""
        for name in outcomes:
            if name not in OUTCOMES:
                known = ", ".join(OUTCOMES)
                raise ValueError(f"Argument `outcomes` must be some of {known}, got {name!r}.")
        count = sum(self.counts[name] for name in set(outcomes))
        interval = wilson_interval(count, self.trials, confidence=confidence)
        return Interval(*(np.asarray(end, float) for end in interval))

    @property
    def diverged(self) -> Int[np.ndarray, " k"]:
        """The numbers of the trials that diverged."""
        return np.flatnonzero(self.outcome == OUTCOMES.index("diverged"))

    @property
    def censored(self) -> int:
        """How many trials had no passage."""
        return int(np.isinf(self.passage_time).sum())

    def overlap_quantiles(
        self, q: Sequence[float] | Float[ArrayLike, " Q"]
    ) -> Float[np.ndarray, "Q T"]:
        """Quantiles over trials of the overlap at `ts`, exact to the width of a bin."""
        return histogram_quantiles(self.histogram, self.edges, q)

    def passage_quantiles(
        self, q: Sequence[float] | Float[ArrayLike, " Q"]
    ) -> Float[np.ndarray, " Q"]:
        """Times by which a share q of all trials has passed; infinite where fewer ever do."""
        return censored_quantiles(self.passage_time, q)

    def _wrong_ones(self) -> str:
        """In which wrong memories most trials ended, to print."""
        counts = np.bincount(self.memory[self.outcome == OUTCOMES.index("wrong")])
        most = np.argsort(-counts, kind="stable")[:3]
        found = [f"memories[{index}] {counts[index]}" for index in most if counts[index]]
        return ", ".join(found) + (", ..." if np.count_nonzero(counts) > 3 else "")

    def variables(self, quantiles: Sequence[float]) -> dict[str, Variable]:
        """Everything but trajectories and histogram, with the names of the axes."""
        what = "magnitude of the overlap" if self.criterion.mirror else "overlap"
        interval = "95% interval" if self.criterion.judge == "instants" else "Wilson 95% interval"
        p, low, high = self.retrieved
        trial = {
            "outcome": "how it ended: 0 "
            + ", ".join(f"{i} {o}" for i, o in enumerate(OUTCOMES))[2:],
            "share": "share of the judged times at which the memory was retrieved",
            "memory": "memory with the strongest mean late overlap, -1 if it diverged",
            "passage_time": "first passage, infinite if censored",
            "final_overlap": "mean late overlap with the target, signed",
            "final_energy": "energy at t1",
            "diverged_at": "first saved time without a finite state",
        }
        variables = {
            "retrieved": Variable((), np.asarray(p), "probability of retrieval"),
            "retrieved_low": Variable((), np.asarray(low), f"lower end of its {interval}"),
            "retrieved_high": Variable((), np.asarray(high), f"upper end of its {interval}"),
            "outcome_count": Variable(
                ("outcome_name",), np.array(list(self.counts.values())), "trials that ended so"
            ),
            "target_memory": Variable(
                ("trial", "target_number"), self.target, "the right memories of each trial"
            ),
            "overlap_mean": Variable(
                ("time",),
                self.overlap_mean,
                f"mean {what} with the target, without diverged trials",
            ),
            "overlap_variance": Variable(
                ("time",), self.overlap_variance, f"variance of the {what} over trials"
            ),
            "overlap_quantile": Variable(
                ("quantile_level", "time"),
                self.overlap_quantiles(quantiles),
                f"quantiles of the {what}, exact to {self.edges[1] - self.edges[0]:g}",
            ),
            "passed": Variable(
                ("time",), self.passed, "share of trials that have had their first passage by then"
            ),
            "passage_quantile": Variable(
                ("quantile_level",),
                self.passage_quantiles(quantiles),
                "time by which that share has passed, infinite where fewer ever do",
            ),
            **{
                name: Variable(("trial",), getattr(self, name), about)
                for name, about in trial.items()
            },
        }
        for name, results in self.reduced.items():
            for field, values in results.items():
                dims = tuple(f"{name}_{field}_{axis}" for axis in range(values.ndim))
                if name in self.per_trial:
                    dims = ("trial", *dims[1:])
                variables[f"{name}_{field}"] = Variable(dims, values, f"{field} of {name}")
        return variables

    def __repr__(self) -> str:
        """What was found."""
        p, low, high = self.retrieved
        sign = self.criterion.sign
        tenth, median, most = self.passage_quantiles([0.1, 0.5, 0.9])
        ends = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        wrong = self._wrong_ones()
        since = f", from t = {self.criterion.since:g} on" if self.criterion.since else ""
        lines = [
            f"Ensemble: {self.trials} trials, {len(self.ts)} saved times from 0 to {self.ts[-1]:g}",
            f"  retrieved      {p:.3f} [{low:.3f}, {high:.3f}]  ({self.criterion.in_words})",
            f"  target         {target_text(self.target) or 'differs between trials'}",
            f"  ended in       {ends}",
            *([f"  wrong ones     {wrong}"] if wrong else []),
            f"  first passage  {tenth:g} (10%), {median:g} (median), {most:g} (90%); "
            f"{self.censored} never{since}",
        ]
        energies = self.final_energy[np.isfinite(self.final_energy)]
        if self.counts["diverged"] < self.trials:
            bottom, top = self.overlap_quantiles([0.1, 0.9])[:, -1]
            lines += [
                f"  {sign} at t = {self.ts[-1]:<7g} {self.overlap_mean[-1]:.3f} mean, "
                f"{bottom:.3f} to {top:.3f} (10% to 90%)",
            ]
        if len(energies):
            lines.append(
                f"  final energy   {energies.mean():.4g} mean, {energies.min():.4g} to "
                f"{energies.max():.4g}"
            )
        if len(self.diverged):
            some = ", ".join(map(str, self.diverged[:5])) + (
                ", ..." if len(self.diverged) > 5 else ""
            )
            lines.append(f"  diverged       trials {some}: left out of means and histograms")
        return "\n".join(lines)


def target_text(targets: Int[np.ndarray, "trials R"]) -> str:
    """The right memories of all trials, to print; nothing where they differ."""
    if (targets != targets[:1]).any():
        return ""
    *others, last = dict.fromkeys(targets[0].astype(int).tolist())
    return f"memories {', '.join(map(str, others))} and {last}" if others else f"memory {last}"


def make_ensemble(plan: Plan, problem: Problem, totals: dict[str, Partial]) -> Ensemble:
    """Results from the merged summaries."""
    reductions = plan.all_reductions
    results = {name: reductions[name].finish(total) for name, total in totals.items()}
    overlap, ending = (results.pop(name) for name in _OWN_NAMES)
    kept = results.pop(_TRAJECTORIES, None)
    grid, since = problem.grid, plan.criterion.since
    passage = ending["passage"]
    if problem.method.adaptive:  # times, in the dtype of the solve
        saved_at = grid.save_times.astype(passage.dtype)
        passage_time = np.maximum(passage.astype(float) - since, 0)
    else:
        saved_at, passage_time = grid.save_steps, grid.times_since(passage, since)
    passed = np.sort(passage[passage >= 0]).searchsorted(saved_at, "right") / len(passage)
    return Ensemble(
        ts=grid.save_times,
        overlap_mean=overlap["mean"],
        overlap_variance=overlap["variance"],
        histogram=overlap["counts"],
        edges=overlap["edges"],
        target=ending["target"],
        outcome=ending["outcome"],
        share=ending["positive"] / plan.criterion.judged_times(grid),
        memory=ending["memory"],
        passage_time=passage_time,
        passed=passed,
        final_overlap=ending["final_overlap"].astype(float),
        final_energy=ending["final_energy"].astype(float),
        diverged_at=grid.times(ending["diverged_step"]),
        reduced=results,
        per_trial=tuple(name for name in results if isinstance(reductions[name], PerTrial)),
        trajectories=None if kept is None else kept["values"],
        criterion=plan.criterion.in_effect(problem.model),
    )
