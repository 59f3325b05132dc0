"""The checked arguments of a tuning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from hopjax._checks import (
    cast_floats,
    check_count,
    check_flag,
    check_instance,
    check_key,
    check_number,
)
from hopjax._errors import ArgumentError, ArgumentTypeError, shown
from hopjax._keys import TuningKeys
from hopjax.engine import Workers, check_trials, check_where
from hopjax.ensemble import Asked, Plan
from hopjax.solving import Trajectory
from hopjax.store import describe
from hopjax.trials import Trial, check_draws
from hopjax.tuning.descent import Descent, promoting
from hopjax.tuning.gradient import CHUNK, Gradients, Job
from hopjax.tuning.losses import AbstractLoss
from hopjax.tuning.parameters import Range, Values, count, make_ranges, select
from hopjax.tuning.result import check_names

if TYPE_CHECKING:
    import optax

FORWARD_AT_MOST = 4  # numbers that forward mode is chosen for


@dataclass(frozen=True)
class Prepared:
    """The checked arguments of `tune`."""

    trial: Any
    plan: Plan
    key: Key[Array, ""]
    descent: Descent
    custom: bool  # whether the optimiser is the user's
    verify: int
    where: dict[str, Any]  # the devices or the executor, as `solve_ensemble` takes them

    @property
    def environments(self) -> list[dict[str, Any]]:
        """Of the workers that took part in the steps so far."""
        where = self.descent.gradients.where
        return where.environments if isinstance(where, Workers) else []

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


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is to be small, over which trials, as a user said it."""

    solving: Asked
    loss: Any
    trials: Any = 128
    mode: Any = None
    devices: Any = None
    executor: Any = None
    elsewhere: Any = False

    @property
    def where(self) -> dict[str, Any]:
        """Where to work, as `solve_ensemble` takes it."""
        return {name: getattr(self, name) for name in ("devices", "executor", "elsewhere")}


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a minimum is looked for, and until when, as a user said it."""

    bounds: Any = None
    optimiser: Any = None
    steps: Any = 100
    fresh: Any = True
    window: Any = 20
    tolerance: Any = 0.005
    verify: Any = 2000
    progress: Any = True


def sorted_out(options: Mapping[str, Any]) -> tuple[Objective, Search]:
    """Keyword arguments of `tune`, by what they are about."""

    def about(kind: Any) -> dict[str, Any]:
        return {each.name: options[each.name] for each in fields(kind) if each.name in options}

    solving = Asked(**about(Asked))
    return Objective(solving=solving, **about(Objective)), Search(**about(Search))


def prepare(
    trial: Any, parameters: Any, key: Any, objective: Objective, search: Search
) -> Prepared:
    """The door of `tune`."""
    key = check_key(key)
    steps, verify = check_trials(search.steps, "steps"), check_trials(search.verify, "verify")
    window = check_count(search.window, "window")
    tolerance = check_number(search.tolerance, "tolerance", positive=True)
    fresh, progress = check_flag(search.fresh, "fresh"), check_flag(search.progress, "progress")
    plan, start, gradients = differentiable(
        trial, parameters, key, lambda start: make_ranges(start, search.bounds), objective
    )
    check_names(start)
    descent = Descent(
        gradients=gradients,
        start=start,
        keys=TuningKeys.of(key),
        steps=steps,
        fresh=fresh,
        window=window,
        tolerance=tolerance,
        optimiser=_optimiser(search.optimiser, steps, start),
        progress=progress,
    )
    custom = search.optimiser is not None
    return Prepared(trial, plan, key, descent, custom, verify, objective.where)


def differentiable(
    trial: Any,
    parameters: Any,
    key: Key[Array, ""],
    ranges: Callable[[Values], dict[str, Range]],
    objective: Objective,
) -> tuple[Plan, Values, Gradients]:
    """How trials are solved, the parameters at the start, and the gradient of their loss.

    `ranges` makes those of the parameters from what they are at the start, `key` that of a trial
    that is made to look at it.
    """
    loss, mode, chunk = objective.loss, objective.mode, objective.solving.chunk
    check_instance(loss, AbstractLoss, "loss", "a loss such as RetrievalLoss()")
    trials = check_trials(objective.trials)
    if mode not in (None, "forward", "reverse"):
        raise ArgumentError("mode", '"forward", "reverse" or None', shown(mode))
    plan = objective.solving.plan(trials)
    if chunk is None:
        chunk = -(-trials // -(-trials // CHUNK))  # all of about one size
    on_grid = trial.on_grid(plan.dt) if isinstance(trial, Trial) else trial
    make, start, example = select(on_grid, parameters, key)
    within = ranges(start)
    problem = plan.check(example)
    loss = cast_floats(loss, example.model.memories.dtype)
    again = partial(make, key, start)

    def measure(trial: Trial, trajectory: Trajectory) -> Any:
        return loss.measure(trial, trajectory, plan.criterion)

    check_draws(example, problem, {"loss": measure}, plan.criterion, make=again, function=trial)
    forward = count(start) <= FORWARD_AT_MOST if mode is None else mode == "forward"
    job = Job(make, within, loss, plan, forward)
    size, where = min(chunk, trials), check_where(**objective.where)
    return plan, start, Gradients.over(job, example, problem, trials, size, where)


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
        raise ArgumentTypeError("optimiser", right, type(optimiser).__name__)

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
