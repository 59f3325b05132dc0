"""Tuning by gradient: input strength, or any other number of a trial, through the stochastic solve.

The gradient is pathwise: a trial's noise is held fixed and its solution differentiated, which is
exact for the equation in steps. Trial j of step k has the key `fold_in(fold_in(k1, k), j)`, k1 from
`jax.random.split(key)`, so tuning that was interrupted goes on to the same numbers.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import numpy as np
from jaxtyping import Array, Key, PRNGKeyArray

from hopjax._checks import check_flag, check_instance
from hopjax._errors import names_keywords
from hopjax.engine import Device
from hopjax.ensemble import Asked, solve_ensemble
from hopjax.program import as_code_is, as_written, running
from hopjax.statistics import Interval
from hopjax.store import (
    Store,
    canonical,
    check_accept,
    check_version,
    describe,
    origin as origin_of,
    provenance,
    with_environment,
)
from hopjax.trials import Criterion, Trial
from hopjax.tuning.descent import History
from hopjax.tuning.kept import KeptTuning, here
from hopjax.tuning.losses import AbstractLoss
from hopjax.tuning.parameters import Tuned, Values, count, values_of
from hopjax.tuning.prepared import Objective, Prepared, Search, prepare, sorted_out
from hopjax.tuning.refine import best, gradients_at_the_end, refine
from hopjax.tuning.result import Told, Tuning, make_dataset
from hopjax.tuning.verdict import find_aims, find_notes, in_a_line

if TYPE_CHECKING:
    import optax


@names_keywords
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
    executor: Executor | None = None,
    progress: bool = True,
) -> Tuning:
    """Make a loss small by changing numbers of a trial, along its gradient.

    A step solves `trials` trials and differentiates. It has converged when the means of every
    parameter over the last `window` steps and over those before differ by less than `tolerance`,
    relative to its size, while its mean gradient over both is within 3 standard errors of zero, or
    1% of the largest; otherwise it ends after `steps`. The result is the mean over the window of
    the lowest loss, unless the step of the lowest loss has a clearly lower one on fresh trials.
    With the same trials in every step (`fresh=False`) it is that step. A step whose loss or
    gradient is not finite, as when a trial diverges, is skipped and counted, and the next one goes
    back halfway; ten in a row end it. At last, for up to four numbers, Newton steps on 8 further
    batches of `trials` go on from there to the minimum, and the scatter of the batches is the
    interval; and `verify` fresh trials say how often the target is retrieved. What counts as
    retrieved there is what it is in the losses, by one criterion.

    Example:
        ```python
        def of_strength(key, strength):
            u = strength * hj.mixture(memories, jnp.array([1.0, 0.3, 0.3]))
            return hj.Trial(model, u, 2.0 * memories[0], hj.AdditiveNoise(1.0))


        tuning = hj.tune(
            of_strength,
            {"strength": 1.5},
            loss=hj.OverlapLoss(goal=0.9),
            bounds={"strength": (0.0, None)},
            key=jax.random.key(0),
            t1=4.0,
            dt=0.02,
            trials=32,
        )
        tuning.parameters["strength"]
        ```

    Forward mode costs little more than a solve for each number, and no memory; reverse mode the
    same however many there are, and the states of all steps of a chunk of trials: the page "Speed"
    has the figures. Both laws of noise on the grid can be differentiated; increments do not depend
    on what is tuned.

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
        executor: whose workers solve the trials of a step, chunk by chunk, as for `Study.run`.
        progress: whether to show it on stderr: a bar on a terminal, else a line every 30 s.

    Returns:
        A `Tuning`.

    Raises:
        TypeError, ValueError: for a wrong argument, or parameters that went out of their range.
        TuningError: if the gradient at the start is zero, or the loss there not finite.
        StudyError: if the folder cannot be used, as for `Study.run`.
        WorkerError: where workers of the executor cannot go on.
    """
    flags = {"resume": resume, "elsewhere": elsewhere}
    for name, flag in flags.items():
        check_flag(flag, name)
    if folder is not None:
        check_instance(folder, (str, os.PathLike), "folder", "a path, or None")
    accept, version = check_accept(accept_changes), check_version(version)
    with as_code_is((trial, loss, optimiser, criterion, solver)):
        solving = Asked(
            t1=t1, dt=dt, save_every=save_every, criterion=criterion, chunk=chunk, solver=solver
        )
        objective = Objective(
            solving=solving,
            loss=loss,
            trials=trials,
            mode=mode,
            devices=devices,
            executor=executor,
            elsewhere=elsewhere,
        )
        search = Search(
            bounds=bounds,
            optimiser=optimiser,
            steps=steps,
            fresh=fresh,
            window=window,
            tolerance=tolerance,
            verify=verify,
            progress=progress,
        )
        job = prepare(trial, parameters, key, objective, search)
        if folder is None:
            history = job.descent.go_on(job.descent.begin(), lambda history: None)
            return _finish(job, history, provenance() | here())
    store, kept = Store(Path(folder)), KeptTuning(job, version)
    with store.locked():
        about, history, program = kept.open(
            store, resume=resume, elsewhere=elsewhere, accept=accept
        )
        # What JAX has kept of another program is not used.
        with running(program):
            history = job.descent.go_on(history, lambda history: kept.save(store, history, program))
            for there in job.environments:
                if (grown := with_environment(about, here() | there)) is not about:
                    store.write_manifest(about := grown)
            tuning = _finish(job, history, origin_of(about))
        store.write_result(tuning.history)
        return tuning


class Cost(NamedTuple):
    """What a tuning takes at most, but for compilation."""

    mode: str
    numbers: int  # tuned
    solves: int  # of trials, the differentiated ones counted once
    seconds: float


@as_written
def estimate_tuning(
    trial: Trial | Callable[..., Trial], parameters: Mapping[str, Any], *, key: Any, **options: Any
) -> Cost:
    """What `tune` with these arguments would take, from a first step."""
    job = prepare(trial, parameters, key, *sorted_out(options))
    descent = job.descent
    z, key = descent.begin().z, descent.keys.steps
    descent.check_start(descent.differentiate(z, key, "step 0"), z, key)
    start = time.perf_counter()
    descent.differentiate(z, key, "step 0")
    each = time.perf_counter() - start
    trials = descent.gradients.trials
    gradients = descent.steps + gradients_at_the_end(descent.start)
    mode = "forward" if descent.gradients.job.forward else "reverse"
    # A solve alone takes half of a gradient or less.
    seconds = each * (gradients + job.verify / (2 * trials))
    return Cost(mode, count(descent.start), gradients * trials + job.verify, seconds)


class _AtValues(eqx.Module):
    """A trial of a key, with fixed values."""

    make: Tuned
    values: Values

    def __call__(self, key: Key[Array, ""]) -> Trial:
        return self.make(key, self.values)


def _finish(job: Prepared, history: History, origin: Mapping[str, Any]) -> Tuning:
    """The result, its interval, and its retrieval on fresh trials."""
    descent, plan = job.descent, job.plan
    refined = refine(descent, best(descent, history))
    ensemble = solve_ensemble(
        _AtValues(descent.gradients.job.make, values_of(refined.z, descent.gradients.job.ranges)),
        trials=job.verify,
        key=descent.keys.verification,
        t1=plan.t1,
        dt=plan.dt,
        save_every=plan.save_every,
        criterion=plan.criterion,
        solver=plan.solver,
        **job.where,
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
    told = Told(values, intervals, written, aims, reason)
    paths = {name: descent.path(history, name) for name in values}
    attributes = {
        "mode": "forward" if descent.gradients.job.forward else "reverse",
        "trials": descent.gradients.trials,
        "key": canonical(describe(job.key)),
        "definition": canonical(job.definition()),
        **{name: str(value) for name, value in origin.items()},
    }
    dataset = make_dataset(history, paths, told, converged, refined.loss, ensemble, attributes)
    return Tuning(*told, converged, dataset, ensemble)
