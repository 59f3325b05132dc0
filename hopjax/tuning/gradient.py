"""The gradient of a loss by the parameters of its trials, in chunks over devices.

A chunk of trials is solved and differentiated on one device, and gives the sums of what the loss
measured and of its derivatives. They are added up on the host, in order and in float64: a gradient
is the same to the bit on any number of devices.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from hopjax._errors import ArgumentTypeError
from hopjax._keys import data_of, key_of, trial_key
from hopjax.engine import (
    Checked,
    Checks,
    Chunk,
    Job as ChunkJob,
    OnDevices,
    OnWorkers,
    Program,
    Where,
    Workers,
    each_trial,
    place,
)
from hopjax.ensemble import Plan
from hopjax.program import Program as Traced, compiled, program_of
from hopjax.solving import Problem, Trajectory
from hopjax.trials import Criterion, Trial, blank_trajectory
from hopjax.tuning.losses import AbstractLoss, Term, parts_of, terms_of
from hopjax.tuning.parameters import Range, Tuned, Values, values_of

CHUNK = 16  # trials at a time on a device: enough for a CPU, and a reverse pass fits into memory


class Job(eqx.Module):
    """What is differentiated."""

    make: Tuned
    ranges: dict[str, Range]
    loss: AbstractLoss
    plan: Plan
    forward: bool = eqx.field(static=True)


class Found(NamedTuple):
    """A loss and its gradient, on the host."""

    loss: float
    error: float  # its standard error, from the scatter over trials; NaN for a single one
    gradient: dict[str, Float[np.ndarray, "..."]]  # by the free coordinates
    diverged: int  # trials
    means: list[float]  # of what was measured, and in forward mode their derivatives
    slopes: list[dict[str, Float[np.ndarray, "..."]]]
    terms: list[float]  # what each term of the loss adds to it

    @property
    def finite(self) -> bool:
        """Whether one can go on from here."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.norm))

    @property
    def norm(self) -> float:
        """The length of the gradient."""
        return length(self.gradient)


def length(gradient: Mapping[str, Float[np.ndarray, "..."]]) -> float:
    """Of a gradient by all parameters."""
    return float(np.sqrt(sum(np.sum(part**2) for part in gradient.values())))


class _Solved(NamedTuple):
    """A chunk of trials."""

    measured: list[Float[Array, " n"]]  # what the loss measures, number by number
    ok: Bool[Array, " n"]
    # For every number the derivatives of its sum over the chunk, {parameter: array}; in reverse
    # mode those of the weighted sum of all.
    slopes: list[Values] | Values | None


class _At(NamedTuple):
    """Where the trials of a chunk are solved."""

    z: Values
    weights: list[Any] | None  # of the numbers that the loss measures; None for no derivatives
    trials: np.ndarray  # how many there are in all


def _differentiate(
    job: Job, at: _At, key: Key[Array, ""], numbers: Int[Array, " n"], checks: Checks
) -> Checked:
    """A chunk of trials and the slopes of their sum, for the engine."""
    counted = numbers < at.trials

    def measure(values: Values, number: Int[Array, ""]):
        trial, trajectory = job.plan.solve(
            lambda setting_key: job.make(setting_key, values),
            trial_key(key, number),
            passages=False,
            adjoint=dfx.ForwardMode() if job.forward else None,
        )
        measured = jax.tree.leaves(job.loss.measure(trial, trajectory, job.plan.criterion))
        # The overlaps of a blown-up state may look perfect.
        ok = trajectory.ok
        return [jnp.where(ok, each, jnp.nan) for each in measured], ok

    def sums(z: Values):
        one = partial(measure, values_of(z, job.ranges))
        (measured, ok), bad = each_trial(one, numbers, checks)
        return [jnp.sum(each, where=counted) for each in measured], (measured, ok, bad)

    slopes = None
    if at.weights is None:
        _, (measured, ok, bad) = sums(at.z)
    elif job.forward:
        slopes, (measured, ok, bad) = jax.jacfwd(sums, has_aux=True)(at.z)
    else:
        _, pull_back, (measured, ok, bad) = jax.vjp(sums, at.z, has_aux=True)
        (slopes,) = pull_back(at.weights)
    return Checked(_Solved(measured, ok, slopes), bad)


@compiled
def _evaluate(loss: AbstractLoss, means: PyTree[Array]) -> tuple[Array, PyTree[Array]]:
    return jax.value_and_grad(loss.value)(means)


def weighted_sum(
    weights: Sequence[float], slopes: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The gradient, from the slopes of the means and the slope of the loss by each of them."""
    return {
        name: np.asarray(sum(by * each[name] for by, each in zip(weights, slopes, strict=True)))
        for name in slopes[0]
    }


@dataclass(frozen=True)
class Gradients:
    """The gradient of the loss of some trials, as a function of free coordinates and a key."""

    job: Job
    placed: OnDevices | OnWorkers
    structure: Any  # of what the loss measures: scalars
    dtypes: list[Any]
    trials: int
    chunk: int
    where: Where

    @classmethod
    def over(
        cls,
        job: Job,
        trial: Trial,
        problem: Problem,
        trials: int,
        chunk: int,
        where: Where,
    ) -> "Gradients":
        """On workers, or on as many of the devices as there are chunks.

        Raises:
            TypeError: for a loss that does not measure numbers of such a trial.
        """
        if not isinstance(where, Workers):
            where = where[: -(-trials // chunk)]
        trial = job.plan.prepare(trial)
        measured = _measured(job.loss, trial, problem, job.plan.criterion)
        leaves, structure = jax.tree.flatten(measured)
        placed = place(ChunkJob(Program(_differentiate, job, chunk), trials), where)
        dtypes = [leaf.dtype for leaf in leaves]
        return cls(job, placed, structure, dtypes, trials, chunk, where)

    def forward(self) -> "Gradients":
        """The same in forward mode."""
        job = dataclasses.replace(self.job, forward=True)
        program = Program(_differentiate, job, self.chunk)
        placed = place(ChunkJob(program, self.trials), self.where)
        return dataclasses.replace(self, job=job, placed=placed)

    def __call__(self, z: Values, key: Key[Array, ""], label: str) -> Found:
        """Of the trials with the keys `fold_in(key, j)`.

        Raises:
            OutOfRangeError: if parameters of a trial are out of their range, naming the trial.
        """
        weights = [jnp.ones((), dtype) for dtype in self.dtypes]
        alone = len(weights) == 1
        if not (self.job.forward or alone):
            # How much each number counts depends on the means: they come before the reverse pass.
            measured, _, _ = self._solve(z, key, None, label)
            _, by_mean = self.evaluate([float(each.mean()) for each in measured])
            weights = self._typed(by_mean)
        measured, ok, slopes = self._solve(z, key, weights, label)
        means = [float(each.mean()) for each in measured]
        loss, by_mean = self.evaluate(means)
        slopes = jax.tree.map(lambda each: np.asarray(each / self.trials), slopes)
        if self.job.forward:
            gradient = weighted_sum(by_mean, slopes)
        else:
            gradient = weighted_sum([by_mean[0] if alone else 1.0], [slopes])
        # The delta method: what a trial adds to the loss, by the slope of the loss there.
        shares = sum(by * each for by, each in zip(by_mean, measured, strict=True))
        error = np.std(shares, ddof=1) / np.sqrt(self.trials) if self.trials > 1 else np.nan
        return Found(
            loss=loss,
            error=float(error),
            gradient=gradient,
            diverged=int(np.sum(~ok)),
            means=means,
            slopes=slopes if self.job.forward else [],
            terms=self.by_term(means) if len(self.terms) > 1 else [loss],
        )

    def programs(self, z: Values, mark: Any) -> dict[str, Traced]:
        """Those of the value and of the gradient of one trial, and of the loss, in words."""
        weights = [np.ones((), dtype) for dtype in self.dtypes]
        one = np.zeros(2, np.uint32), np.zeros(1, int)

        def run(job: Job, at: _At, key: Array, numbers: Array) -> Checked:
            return _differentiate(job, at, key_of(key), numbers, [])

        def evaluate(loss: AbstractLoss, means: PyTree[Array]) -> Any:
            return jax.value_and_grad(loss.value)(means)

        means = jax.tree.unflatten(self.structure, weights)
        return {
            "a trial": program_of(run, self.job, _At(z, None, np.asarray(1)), *one, mark=mark),
            "a trial's gradient": program_of(
                run, self.job, _At(z, weights, np.asarray(1)), *one, mark=mark
            ),
            "the loss": program_of(evaluate, self.job.loss, means, mark=mark),
        }

    @property
    def terms(self) -> list[Term]:
        """The losses that add up."""
        return terms_of(self.job.loss)

    def places(self) -> list[list[int]]:
        """Which of the numbers that are measured each term looks at."""
        numbers = jax.tree.unflatten(self.structure, range(len(self.dtypes)))
        return [jax.tree.leaves(part) for part in parts_of(self.job.loss, numbers)]

    def by_term(self, means: Sequence[float]) -> list[float]:
        """What each term adds to the loss for some means of what is measured."""
        parts = parts_of(self.job.loss, jax.tree.unflatten(self.structure, self._typed(means)))
        return [
            term.weight * float(_evaluate(term.loss, part)[0])
            for term, part in zip(self.terms, parts, strict=True)
        ]

    def lengths_by_term(
        self, z: Values, key: Key[Array, ""], label: str, found: Found
    ) -> list[float]:
        """How long the gradient of each term is, where all of them together gave `found`."""
        places = self.places()
        if len(places) == 1:
            return [found.norm]
        _, by_mean = self.evaluate(found.means)
        shares = [
            [by if number in term else 0.0 for number, by in enumerate(by_mean)] for term in places
        ]
        if self.job.forward:
            return [length(weighted_sum(share, found.slopes)) for share in shares]
        lengths = []
        for share in shares:
            _, _, slopes = self._solve(z, key, self._typed(share), label)
            lengths.append(length(slopes) / self.trials)
        return lengths

    def evaluate(self, means: Sequence[float]) -> tuple[float, list[float]]:
        """The loss for some means of what is measured, and its slope by each of them."""
        means_of = jax.tree.unflatten(self.structure, self._typed(means))
        loss, slopes = _evaluate(self.job.loss, means_of)
        return float(loss), [float(slope) for slope in jax.tree.leaves(slopes)]

    def _typed(self, numbers: Sequence[float]) -> list[Array]:
        """One for each number that is measured, in its dtype."""
        return [jnp.asarray(each, dtype) for each, dtype in zip(numbers, self.dtypes, strict=True)]

    def _solve(
        self, z: Values, key: Key[Array, ""], weights: list[Array] | None, label: str
    ) -> tuple[list[np.ndarray], np.ndarray, Any]:
        """What was measured in each trial, which trials are ok, and the sums of the slopes."""
        at = _At(z, weights, np.asarray(self.trials, int))
        starts = range(0, self.trials, self.chunk)
        chunks = [Chunk(data_of(key), start, at, f" {label}") for start in starts]
        results = self.placed.run(chunks)
        solved: _Solved = jax.tree.map(lambda *each: np.stack(each), *results)
        measured, ok = jax.tree.map(
            lambda each: each.reshape(-1)[: self.trials], (solved.measured, solved.ok)
        )
        slopes = jax.tree.map(lambda each: np.sum(each, axis=0, dtype=float), solved.slopes)
        return [np.asarray(each, float) for each in measured], ok, slopes


def _measured(
    loss: AbstractLoss, trial: Trial, problem: Problem, criterion: Criterion
) -> PyTree[jax.ShapeDtypeStruct]:
    """What a loss measures, from the shapes of a solution."""

    def evaluate(trial: Trial, trajectory: Trajectory):
        measured = loss.measure(trial, trajectory, criterion)
        return measured, loss.value(measured)

    blank = blank_trajectory(trial, problem, criterion)
    measured, value = eqx.filter_eval_shape(evaluate, trial, blank)
    for what, tree in (("measure", measured), ("value", value)):
        right = [
            leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.floating)
            for leaf in jax.tree.leaves(tree)
        ]
        if not right or not all(right):
            got = " ".join(eqx.tree_pformat(tree, struct_as_array=True).split())
            raise ArgumentTypeError("loss", f"a `{what}` of real numbers", got, must="have")
    return measured
