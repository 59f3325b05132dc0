"""Tuning by gradient: input strength, or any other number of a trial, through the stochastic solve.

The gradient is pathwise: a trial's noise is held fixed and its solution differentiated, which is
exact for the equation in steps. Trial j of step k has the key `fold_in(fold_in(k1, k), j)`, k1 from
`jax.random.split(key)`, so tuning that was interrupted goes on to the same numbers.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from hopjax._checks import (
    cast_floats,
    check_count,
    check_flag,
    check_instance,
    check_key,
    check_number,
    shown,
)
from hopjax.engine import Device, check_devices, check_trials
from hopjax.ensemble import Ensemble, Plan, make_plan, solve_ensemble
from hopjax.program import Program, as_code_is, as_written, reached, running, sources_of
from hopjax.solving import Trajectory
from hopjax.statistics import Interval
from hopjax.store import (
    Code,
    Damaged,
    Store,
    StudyError,
    accepted,
    begin,
    canonical,
    check_accept,
    check_version,
    describe,
    digest,
    environment,
    first_difference,
    go_on,
    make_code,
    origin,
    provenance,
    refuse_changes,
    version_of,
)
from hopjax.trials import OUTCOMES, Criterion, Trial, check_draws
from hopjax.tuning.descent import (
    Descent,
    History,
    TuningError as TuningError,
    promoting,
)
from hopjax.tuning.gradient import CHUNK, Gradients, Job
from hopjax.tuning.losses import AbstractLoss
from hopjax.tuning.parameters import Tuned, Values, count, make_ranges, select, values_of
from hopjax.tuning.verdict import Aim as Aim, find_aims, find_notes, in_a_line

if TYPE_CHECKING:
    import optax
    import xarray as xr

FORWARD_AT_MOST = 4  # numbers that forward mode is chosen for


@dataclass(frozen=True, repr=False)
class Tuning:
    """What `tune` found.

    Attributes:
        parameters: the tuned values by name, in float64 on the host.
        intervals: 95% intervals of them, from the scatter of batches of fresh trials: how far the
            minimum of the loss is known. NaN for more than four numbers, and where there is no
            minimum (a bound, a flat loss).
        notes: by name what is wrong with a parameter: that it is at its bound, not determined by
            the loss, or still moves, and how one knows; only where something is.
        aims: of the loss, or of each loss of a sum, what it measured and what it should be.
        reason: why it stopped, whether it converged, and all that is amiss, in one line.
        converged: whether it stopped by the rule of `tune`: then a minimum of the loss was found,
            which may be off the goal, as `aims` tell.
        history: the steps, and all of this, as a labelled dataset.
        ensemble: fresh trials with the tuned values.
    """

    parameters: dict[str, Float[np.ndarray, "..."]]
    intervals: dict[str, Interval]
    notes: dict[str, str]
    aims: tuple[Aim, ...]
    reason: str
    converged: bool
    history: "xr.Dataset"
    ensemble: Ensemble

    @property
    def retrieved(self) -> Interval:
        """The probability of retrieval on fresh trials, with its 95% interval."""
        return self.ensemble.retrieved

    def __repr__(self) -> str:
        """A line for every parameter, why it stopped, and the probability."""
        return summary(self.history)


def tune(
    trial: Trial | Callable[..., Trial],
    parameters: Mapping[str, Any],
    *,
    loss: AbstractLoss,
    key: PRNGKeyArray,
    t1: float,
    dt: float,
    trials: int = 128,
    steps: int = 100,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
    optimiser: "optax.GradientTransformation | None" = None,
    fresh: bool = True,
    window: int = 20,
    tolerance: float = 0.005,
    mode: str | None = None,
    verify: int = 2000,
    criterion: Criterion | None = None,
    save_every: float | None = None,
    solver: dfx.AbstractSolver | None = None,
    chunk: int | None = None,
    folder: str | Path | None = None,
    resume: bool = True,
    elsewhere: bool = False,
    accept_changes: str | None = None,
    version: str | None = None,
    devices: Sequence[Device] | None = None,
    progress: bool = True,
) -> Tuning:
    """Make a loss small by changing numbers of a trial, along its gradient.

    A step solves `trials` trials and differentiates. It has converged when the means of every
    parameter over the last `window` steps and over those before differ by less than `tolerance`,
    relative to its size, while its mean gradient over both is within 3 standard errors of zero, or
    1% of the largest; otherwise it ends after `steps`. The result is the mean over these two
    windows, that over the window of the lowest loss, or the step of the lowest loss: the first of
    them, unless the next has a clearly lower loss on fresh trials. With the same trials in every
    step (`fresh=False`) it is the step of the lowest loss. A step whose loss or gradient is not
    finite, as when a trial diverges, is skipped and counted, and the next one goes back halfway;
    ten in a row end it. At last, for up to four numbers, Newton steps on 8 further batches of
    `trials` go on from there to the minimum, and the scatter of the batches is the interval; and
    `verify` fresh trials say how often the target is retrieved. What counts as retrieved there is
    what it is in the losses, by one criterion.

    Forward mode costs little more than a solve for each number, and no memory; reverse mode the
    same however many there are, and the states of all steps of a chunk of trials: README has the
    figures. Both laws of noise on the grid can be differentiated; increments do not depend on what
    is tuned.

    Args:
        trial: a function of a trial's key and of the parameters, as for `Study`, or a `Trial`;
            draws from anything but the key are refused. Its right memories are those that it has
            at the start, also where tuning makes another one the most salient.
        parameters: what is tuned and from where, {name: number or array}. A name is an argument of
            the function, or the path of an array in the `Trial`, such as "noise.strength",
            "model.activation.slope" or "inputs.values"; None there begins with what the trial has.
        loss: what to make small, such as `RetrievalLoss()` or `OverlapLoss(goal=0.9)`.
        key: decides everything random.
        t1: end, as for `solve`.
        dt: step of the solve.
        trials: in each step. A squared distance to a `goal` carries their scatter: the fewer they
            are, the further its minimum is from the goal.
        steps: at most.
        bounds: {name: (low, high)}, None for no bound; (0.0, None) for positive numbers. They are
            never reached: a bounded parameter is transformed, low + s exp z above a bound.
        optimiser: of Optax; by default Adam without momentum, whose rate falls from 0.1 by a
            cosine. It sees free coordinates, in which steps are relative to the start.
        fresh: whether each step has trials of its own; otherwise all have those of the first one,
            so that the loss is a function without noise, whose minimum is that of these trials.
        window: see above.
        tolerance: see above.
        mode: "forward" or "reverse"; by default forward for at most four numbers.
        verify: how many fresh trials are solved at the end.
        criterion: what counts as retrieved, as for `solve_ensemble`: in the losses and for the
            fresh trials at the end.
        save_every: as for `solve`; losses see the saved times.
        solver: as for `solve`.
        chunk: trials solved together on a device; by default about 16. Rounding depends on it. All
            `trials` is fastest on one GPU.
        folder: where to keep what is done; None keeps nothing. The dataset goes into `result.nc`.
        resume: whether to go on with what the folder holds.
        elsewhere: as for `Study.run`.
        accept_changes: as for `Study.run`; what is computed again is the last step.
        version: as for `Study`.
        devices: as for `solve_ensemble`.
        progress: whether to show a bar, on a terminal only.

    Returns:
        A `Tuning`.

    Raises:
        TypeError, ValueError: for a wrong argument, or parameters that went out of their range.
        TuningError: if the gradient at the start is zero, or the loss there not finite.
        StudyError: if the folder cannot be used, as for `Study.run`.
    """
    flags = {"resume": resume, "elsewhere": elsewhere}
    for name, flag in flags.items():
        check_flag(flag, name)
    if folder is not None:
        check_instance(folder, (str, os.PathLike), "folder", "a path, or None")
    accept, version = check_accept(accept_changes), check_version(version)
    with as_code_is((trial, loss, optimiser, criterion, solver)):
        job = _prepare(
            trial,
            parameters,
            loss=loss,
            key=key,
            t1=t1,
            dt=dt,
            trials=trials,
            steps=steps,
            bounds=bounds,
            optimiser=optimiser,
            fresh=fresh,
            window=window,
            tolerance=tolerance,
            mode=mode,
            verify=verify,
            criterion=criterion,
            save_every=save_every,
            solver=solver,
            chunk=chunk,
            devices=devices,
            progress=progress,
        )
        if folder is None:
            history = job.descent.go_on(job.descent.begin(), lambda history: None)
            return _finish(job, history, provenance() | _here())
    store = Store(Path(folder))
    with store.locked():
        about, history, program = _open(store, job, version, resume, elsewhere, accept)
        path = store.folder / _STEPS
        # What JAX has kept of another program is not used.
        with running(program):
            history = job.descent.go_on(
                history, lambda history: store.write_chunk(path, history.pack(), program)
            )
            tuning = _finish(job, history, about)
        store.write_result(bytes(tuning.history.to_netcdf(engine="h5netcdf", format="NETCDF4")))
        return tuning


_STEP, _STEPS = "step", "steps.npz"  # the program of a tuning, and its file
SHOWN = 12  # entries of an array; the rest is not printed


def summary(dataset: "xr.Dataset") -> str:
    """What the dataset of a tuning says: the parameters, how often it retrieves, the steps."""
    about = dataset.attrs
    names, diverged = about["parameters"].split(", "), int(about["verified_diverged"])
    start, end = (
        _interval(dataset, name, place) for name, place in (("loss", 0), ("tuned_loss", ()))
    )
    lines = [f"Tuning: {about['reason']}"]
    for name in names:
        note = dataset[f"{variable_of(name)}_tuned"].attrs.get("note")
        lines.append(f"  {name} = {tuned_text(dataset, name)}" + (f": {note}" if note else ""))
    lines.append(f"  loss {start} at the start, {end} with what was tuned")
    for place, name in enumerate(dataset.term.to_numpy()):
        measured, error, goal, silent = (
            dataset[f"term_{what}"].to_numpy()[place]
            for what in ("measured", "error", "goal", "silent")
        )
        aim = f", {goal:g} wanted" if np.isfinite(goal) else ""
        quiet = "; all but no gradient at the start" if silent else ""
        lines.append(f"  {name} measured {measured:.4g} ± {error:.2g}{aim}{quiet}")
    return "\n".join(
        [
            *lines,
            f"  retrieved {_text(dataset, 'retrieved', '', '.3f')} of {about['verified']} fresh "
            "trials" + (f", of which {diverged} diverged" if diverged else ""),
            f"  {dataset.sizes['step']} steps of {about['trials']} trials in {about['mode']} mode: "
            f"{about['skipped']} skipped, {int(dataset.diverged.sum())} trials diverged",
        ]
    )


def _interval(dataset: "xr.Dataset", name: str, place: Any) -> str:
    value, low, high = (dataset[name + end].to_numpy()[place] for end in ("", "_low", "_high"))
    return f"{value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else "")


def tuned_text(dataset: "xr.Dataset", name: str) -> str:
    """What a parameter was tuned to, entry by entry with its interval."""
    return _text(dataset, variable_of(name), "_tuned", ".4g")


def _text(dataset: "xr.Dataset", name: str, estimate: str, form: str) -> str:
    ends = (dataset[name + end].to_numpy().ravel() for end in (estimate, "_low", "_high"))
    entries = list(zip(*ends, strict=True))
    shown = [
        f"{value:{form}}" + (f" [{low:{form}}, {high:{form}}]" if np.isfinite(low) else "")
        for value, low, high in entries[:SHOWN]
    ]
    more = [f"... ({len(entries)} in all)"] if len(entries) > SHOWN else []
    return ", ".join([*shown, *more])


class Cost(NamedTuple):
    """What a tuning takes at most, but for compilation."""

    mode: str
    numbers: int  # tuned
    solves: int  # of trials, the differentiated ones counted once
    seconds: float


@as_written
def estimate_tuning(
    trial: Trial | Callable[..., Trial], parameters: Mapping[str, Any], **options: Any
) -> Cost:
    """What `tune` with these arguments would take, from a first step."""
    job = _prepare(trial, parameters, **options)
    descent = job.descent
    z, key = descent.begin().z, descent.keys[0]
    descent.check_start(descent.differentiate(z, key, "step 0"), z, key)
    start = time.perf_counter()
    descent.differentiate(z, key, "step 0")
    each = time.perf_counter() - start
    trials = descent.gradients.trials
    gradients = descent.steps + descent.gradients_at_the_end
    mode = "forward" if descent.gradients.job.forward else "reverse"
    # A solve alone takes half of a gradient or less.
    seconds = each * (gradients + job.verify / (2 * trials))
    return Cost(mode, count(descent.start), gradients * trials + job.verify, seconds)


@as_written
def check_tuning(
    trial: Trial | Callable[..., Trial], parameters: Mapping[str, Any], **options: Any
) -> None:
    """Refuse what `tune` would refuse of these arguments; nothing is solved."""
    _prepare(trial, parameters, **options)


@dataclass(frozen=True)
class _Prepared:
    """The checked arguments of `tune`."""

    trial: Any
    plan: Plan
    key: Key[Array, ""]
    descent: Descent
    custom: bool  # whether the optimiser is the user's
    verify: int
    devices: list[Device]

    def code(self, version: str | None) -> Code:
        """The program of a step, traced afresh."""
        programs = self.descent.programs()
        hidden = [*dict.fromkeys(name for each in programs.values() for name in each.hidden)]
        whole = digest([each.digest for each in programs.values()])
        (mark,) = {each.mark for each in programs.values()}
        programs[_STEP] = Program(whole, tuple(hidden), mark)
        job = self.descent.gradients.job
        made_of = (self.trial, job.loss, self.descent.optimiser, self.plan.criterion)
        sources = sources_of(made_of)
        return make_code(programs, reached(), sources, version, _here())

    def definition(self, version: str | None = None) -> dict[str, Any]:
        """What decides the numbers beside the program, as plain data."""
        descent, job = self.descent, self.descent.gradients.job
        return {
            "tuning": describe(self.trial),
            "parameters": {
                name: np.asarray(value).tolist() for name, value in descent.start.items()
            },
            "bounds": {name: describe([item.low, item.high]) for name, item in job.ranges.items()},
            "loss": describe(job.loss),
            "criterion": describe(self.plan.criterion),
            "optimiser": "given" if self.custom else "default",
            "key": describe(self.key),
            **{name: getattr(self.plan, name) for name in ("t1", "dt", "save_every")},
            "solver": describe(self.plan.solver),
            "trials": descent.gradients.trials,
            "chunk": descent.gradients.chunk,
            **{name: getattr(descent, name) for name in ("steps", "window", "tolerance", "fresh")},
            "mode": "forward" if job.forward else "reverse",
            "version": version,
            "float": str(jnp.result_type(float)),
        }


def _prepare(
    trial: Any,
    parameters: Any,
    *,
    loss: Any,
    key: Any,
    t1: Any,
    dt: Any,
    trials: Any = 128,
    steps: Any = 100,
    bounds: Any = None,
    optimiser: Any = None,
    fresh: Any = True,
    window: Any = 20,
    tolerance: Any = 0.005,
    mode: Any = None,
    verify: Any = 2000,
    criterion: Any = None,
    save_every: Any = None,
    solver: Any = None,
    chunk: Any = None,
    devices: Any = None,
    progress: Any = True,
) -> _Prepared:
    """The door of `tune`."""
    key = check_key(key)
    check_instance(loss, AbstractLoss, "loss", "a loss such as RetrievalLoss()")
    trials = check_trials(trials)
    steps, verify = check_trials(steps, "steps"), check_trials(verify, "verify")
    window = check_count(window, "window")
    tolerance = check_number(tolerance, "tolerance", positive=True)
    fresh, progress = check_flag(fresh, "fresh"), check_flag(progress, "progress")
    if mode not in (None, "forward", "reverse"):
        right = '"forward", "reverse" or None'
        raise ValueError(f"Argument `mode` must be {right}, got {shown(mode)}.")
    devices = check_devices(devices)
    plan = make_plan(
        trials=trials,
        t1=t1,
        dt=dt,
        save_every=save_every,
        criterion=criterion,
        chunk=chunk,
        solver=solver,
        stepsize_controller=None,
    )
    if chunk is None:
        chunk = -(-trials // -(-trials // CHUNK))  # all of about one size
    on_grid = trial.on_grid(plan.dt) if isinstance(trial, Trial) else trial
    make, start, example = select(on_grid, parameters, key)
    _check_names(start)
    ranges = make_ranges(start, bounds)
    problem = plan.check(example)
    loss = cast_floats(loss, example.model.memories.dtype)
    again = partial(make, key, start)

    def measure(trial: Trial, trajectory: Trajectory) -> Any:
        return loss.measure(trial, trajectory, plan.criterion)

    check_draws(example, problem, {"loss": measure}, plan.criterion, make=again, function=trial)
    forward = count(start) <= FORWARD_AT_MOST if mode is None else mode == "forward"
    job = Job(make, ranges, loss, plan, forward)
    descent = Descent(
        gradients=Gradients.over(job, example, problem, trials, min(chunk, trials), devices),
        start=start,
        keys=tuple(jax.random.split(key)),
        steps=steps,
        fresh=fresh,
        window=window,
        tolerance=tolerance,
        optimiser=_optimiser(optimiser, steps, start),
        progress=progress,
    )
    return _Prepared(trial, plan, key, descent, optimiser is not None, verify, devices)


def _optimiser(optimiser: Any, steps: int, start: Values) -> "optax.GradientTransformation":
    """The user's, or the default."""
    import optax  # not at the top: importing hopjax stays light

    if optimiser is None:
        # Gradients far from a minimum are many times as large as those near it: no momentum, and
        # a short memory of their size.
        rate = optax.cosine_decay_schedule(0.1, steps, alpha=0.05)
        return optax.adam(rate, b1=0.0, b2=0.9, eps=1e-12)
    right = "one of Optax that needs gradients and the loss, such as optax.adam(0.1)"
    if not (hasattr(optimiser, "init") and hasattr(optimiser, "update")):
        raise TypeError(f"Argument `optimiser` must be {right}, got {type(optimiser).__name__}.")

    def try_out(z):
        update = optax.with_extra_args_support(optimiser).update
        return update(z, optimiser.init(z), z, value=jnp.zeros(()))

    try:
        with promoting():
            jax.eval_shape(try_out, start)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise TypeError(f"Argument `optimiser` must be {right}; this one fails: {reason}") from None
    return optimiser


class _AtValues(eqx.Module):
    """A trial of a key, with fixed values."""

    make: Tuned
    values: Values

    def __call__(self, key: Key[Array, ""]) -> Trial:
        return self.make(key, self.values)


def _finish(job: _Prepared, history: History, origin: Mapping[str, Any]) -> Tuning:
    """The result, its interval, and its retrieval on fresh trials."""
    descent, plan = job.descent, job.plan
    refined = descent.refine(descent.best(history))
    ensemble = solve_ensemble(
        _AtValues(descent.gradients.job.make, values_of(refined.z, descent.gradients.job.ranges)),
        trials=job.verify,
        key=jax.random.fold_in(descent.keys[1], 0),
        t1=plan.t1,
        dt=plan.dt,
        save_every=plan.save_every,
        criterion=plan.criterion,
        solver=plan.solver,
        devices=job.devices,
        progress=descent.progress,
    )
    found = descent.values(refined.z)
    values = {name: found[name] for name in descent.start}  # as given: JAX sorts them
    ends = [
        descent.values({name: refined.z[name] + sign * refined.half[name] for name in values})
        for sign in (-1, 1)
    ]
    intervals = {  # which end of z is the lower one depends on the bounds
        name: Interval(value, *(edge(*(end[name] for end in ends)) for edge in (np.fmin, np.fmax)))
        for name, value in values.items()
    }
    aims = find_aims(descent, history, refined)
    notes = {name: find_notes(descent, history, refined, name) for name in values}
    written = {
        name: ", ".join(f"{note.what} ({note.how})" for note in some)
        for name, some in notes.items()
        if some
    }
    converged = history.reason.startswith("converged")
    reason = in_a_line(history, refined, aims, notes, ensemble.retrieved, descent.gradients.terms)
    told = _Told(values, intervals, written, aims, reason)
    dataset = _dataset(job, history, told, converged, refined.loss, ensemble, origin)
    return Tuning(*told, converged, dataset, ensemble)


class _Told(NamedTuple):
    """The first fields of a `Tuning`."""

    parameters: dict[str, Float[np.ndarray, "..."]]
    intervals: dict[str, Interval]
    notes: dict[str, str]
    aims: tuple[Aim, ...]
    reason: str


# Variables of the dataset that are not parameters.
_OF_THE_RESULT = (
    *("step", "loss", "loss_low", "loss_high", "gradient_norm", "diverged", "skipped"),
    *("tuned_loss", "tuned_loss_low", "tuned_loss_high"),
    *("term", "term_loss", "term_measured", "term_error", "term_goal", "term_silent"),
    *("retrieved", "retrieved_low", "retrieved_high"),
)


def variable_of(name: str) -> str:
    """A parameter's name in the dataset."""
    return name.replace(".", "_")


def _check_names(start: Values) -> None:
    """Refuse parameters that would share a name in the dataset with something else."""
    taken = set(_OF_THE_RESULT)
    for name, value in start.items():
        axes = (f"_{axis}" for axis in range(value.ndim))
        variables = {variable_of(name) + end for end in ("", "_tuned", "_low", "_high", *axes)}
        if variables & taken:
            raise ValueError(
                "Argument `parameters` must have names that leave those of the result alone, got "
                f"{name!r}, which is in the way of {min(variables & taken)}."
            )
        taken |= variables


def _dataset(
    job: _Prepared,
    history: History,
    told: _Told,
    converged: bool,
    loss: Interval,
    ensemble: Ensemble,
    origin: Mapping[str, Any],
) -> "xr.Dataset":
    import xarray as xr  # here, so that importing hopjax stays light

    from hopjax.store.labels import warn_of_names

    half = 1.96 * history.array("error")
    steps = {
        "loss": (history.array("loss"), "loss of the step's trials"),
        "loss_low": (history.array("loss") - half, "lower end of its 95% interval"),
        "loss_high": (history.array("loss") + half, "upper end of its 95% interval"),
        "gradient_norm": (history.array("gradient_norm"), "length of the gradient by z"),
        "diverged": (history.array("diverged"), "trials that diverged"),
        "skipped": (history.array("skipped").astype(int), "1: not finite, and left out"),
    }
    variables: dict[str, Any] = {
        name: xr.Variable("step", values, {"long_name": about})
        for name, (values, about) in steps.items()
    }
    of_terms = {
        "measured": "mean of what a loss measures, with the tuned values",
        "error": "standard error of that",
        "goal": "what it should be, or be at least",
        "silent": "1: all but no gradient at the start",
    }
    for name, about in of_terms.items():
        values = np.array([getattr(aim, name) for aim in told.aims])
        values = values.astype(int) if name == "silent" else values
        variables[f"term_{name}"] = xr.Variable("term", values, {"long_name": about})
    shares, about = history.array("terms"), "what a loss adds to the whole at the step"
    variables["term_loss"] = xr.Variable(("step", "term"), shares, {"long_name": about})
    for name, interval in told.intervals.items():
        own = variable_of(name)
        dims = tuple(f"{own}_{axis}" for axis in range(np.ndim(interval.estimate)))
        path = job.descent.path(history, name)
        variables[own] = xr.Variable(("step", *dims), path, {"long_name": f"{name} at the step"})
        for end, values in zip(("tuned", "low", "high"), interval, strict=True):
            about = {"tuned": "tuned", "low": "lower end", "high": "upper end"}[end]
            variables[f"{own}_{end}"] = xr.Variable(dims, values, {"long_name": f"{name}: {about}"})
        variables[f"{own}_tuned"].attrs["note"] = told.notes.get(name, "")
    ends = zip(("", "_low", "_high"), loss, ensemble.retrieved, strict=True)
    for end, of_loss, of_retrieval in ends:
        about = {"": "", "_low": ", lower end", "_high": ", upper end"}[end]
        for name, what, value in (
            ("tuned_loss", "loss of a step's trials with the tuned values", of_loss),
            ("retrieved", "probability of retrieval with the tuned values", of_retrieval),
        ):
            variables[name + end] = xr.Variable((), value, {"long_name": what + about})
    attributes = {
        "title": "hopjax tuning",
        "reason": told.reason,
        "converged": int(converged),
        "parameters": ", ".join(told.intervals),
        "mode": "forward" if job.descent.gradients.job.forward else "reverse",
        "trials": job.descent.gradients.trials,
        "verified": ensemble.trials,
        "verified_diverged": int(np.sum(ensemble.outcome == OUTCOMES.index("diverged"))),
        "skipped": int(history.array("skipped").sum()),
        **ensemble.criterion.attributes,
        "random numbers": "threefry2x32",
        "key": canonical(describe(job.key)),
        "definition": canonical(job.definition()),
        **{name: str(value) for name, value in origin.items()},
    }
    coordinates = {
        "step": np.arange(len(history)),
        "term": np.array([aim.name for aim in told.aims], object),
    }
    dataset = xr.Dataset(variables, coordinates, attributes)
    warn_of_names(dataset)
    return dataset


def _here() -> dict[str, Any]:
    """What the bits of a tuning may depend on besides its definition."""
    return environment() | {"optax": version_of("optax")}


def _open(
    store: Store,
    job: _Prepared,
    version: str | None,
    resume: bool,
    elsewhere: bool,
    accept: str | None,
) -> tuple[dict[str, Any], History, str]:
    """Where the tuning in a folder was begun, its steps so far, and the program of a step."""
    manifest: dict[str, Any] | None = store.read_manifest()
    here, definition, path = _here(), job.definition(version), store.folder / _STEPS
    if manifest is None:
        for name in (_STEPS, "chunks"):
            if (store.folder / name).exists():
                raise StudyError(
                    f"The folder {store.folder} has {name} but no manifest.json: take another "
                    "folder, or put the manifest back."
                )
        manifest = begin(definition, here)
    elif not resume:
        raise StudyError(
            f"The folder {store.folder} holds something already, and resume is off: take another "
            "folder."
        )
    if "tuning" not in manifest["definition"]:
        raise StudyError(f"The folder {store.folder} holds a study: take another folder.")
    store.refuse_another(manifest, definition, "tuning")
    store.refuse_elsewhere(manifest, here, elsewhere)
    code = job.code(version)
    store.use(digest(manifest["definition"]), code.place)
    grown = go_on(
        manifest,
        code,
        accept,
        refuse=partial(refuse_changes, store.folder, manifest, code, str, "tuning"),
        try_again=partial(_refuse_other_numbers, store, job, code),
        set_aside=partial(_set_replaced_aside, store),
        here=here,
    )
    if canonical(grown) != canonical(manifest):
        store.write_manifest(grown)
    history = job.descent.begin()
    if path.exists():
        history = _read_steps(store, accepted(grown, _STEP))
    return origin(grown), history, code.digests[_STEP]


def _read_steps(store: Store, programs: Collection[str] | None = None) -> History:
    path = store.folder / _STEPS
    try:
        return History.unpack(store.read_chunk(path, programs))
    except Damaged as damage:
        raise StudyError(
            f"{path} is damaged ({damage}): move it away to tune anew, or take another folder."
        ) from None


def _set_replaced_aside(store: Store, names: list[str]) -> None:
    path = store.folder / _STEPS
    if names and path.exists():
        store.set_aside(path, "replaced")


def _refuse_other_numbers(store: Store, job: _Prepared, code: Code, names: list[str]) -> None:
    """Compute the last step again, which must give the same bits."""
    if not names or not (store.folder / _STEPS).exists():
        return
    history = _read_steps(store)
    cannot = f'The folder {store.folder} cannot go on with accept_changes="same": '
    if store.origin(store.folder / _STEPS)[1] != code.place:
        raise StudyError(f"{cannot}its last step was not computed in this environment.")
    if not len(history):
        return
    with running(code.digests[_STEP]):
        stored, found = job.descent.last_step(history)
    where = first_difference({"step": stored}, {"step": found})
    if where is not None:
        raise StudyError(f"{cannot}its last step has other numbers now, {where}.")
