"""Whether dt is small enough: the same trials in steps half as long."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import special

from hopjax._checks import check_count, check_number
from hopjax._errors import ArgumentError, names_keywords
from hopjax.engine import Device
from hopjax.ensemble.reductions import PerTrial
from hopjax.ensemble.result import Ensemble
from hopjax.ensemble.solve import solve_ensemble
from hopjax.inputs import NoisyInput
from hopjax.noise import AbstractLaw, Gaussian
from hopjax.program import as_written
from hopjax.statistics import Interval, mean_share, wilson_interval
from hopjax.trials import Criterion, Trial


class Change(NamedTuple):
    """A statistic in steps of dt and of dt/2, each with a 95% interval.

    Attributes:
        coarse: in steps of dt.
        fine: in steps of dt/2.
        change: from coarse to fine, by the scatter of the differences between equal trials.
    """

    coarse: Interval
    fine: Interval
    change: Interval

    @property
    def seen(self) -> bool:
        """Whether the interval of the change leaves out 0."""
        return not self.change.low <= 0 <= self.change.high

    @property
    def relative(self) -> float:
        """The change in units of the half width of the coarse interval.

        Where all trials give the same number, that has no width: any change is infinitely many.
        """
        half = float(self.coarse.high - self.coarse.low) / 2
        change = float(self.change.estimate)
        return change / half if half else math.copysign(math.inf, change) if change else 0.0

    @property
    def matters(self) -> bool:
        """Whether a change is seen, and larger than what the number of trials leaves open."""
        return self.seen and abs(self.relative) > 1

    @property
    def verdict(self) -> str:
        """The same in words."""
        if not self.seen:
            return "no change seen"
        return "MORE than its interval" if self.matters else "less than its interval"


@dataclass(frozen=True, repr=False)
class Convergence:
    """What `check_convergence` found.

    Attributes:
        dt: the longer step.
        changes: of each statistic, by name.
        coarse: the ensemble in steps of dt.
        fine: the same trials in steps of dt/2.
        same_noise: whether both follow the same Brownian motions.
    """

    dt: float
    changes: dict[str, Change]
    coarse: Ensemble
    fine: Ensemble
    same_noise: bool

    @property
    def converged(self) -> bool:
        """Whether no statistic changes by more than its interval at dt."""
        return not any(change.matters for change in self.changes.values())

    def __repr__(self) -> str:
        """A table of the changes."""
        noise = "same noise" if self.same_noise else "noise of their own"
        lines = [
            f"Convergence: dt = {self.dt:g} against {self.dt / 2:g}, {self.coarse.trials} trials, "
            f"{noise}"
        ]
        width = max(map(len, self.changes))
        for name, each in self.changes.items():
            lines.append(
                f"  {name:{width}}  {_text(each.coarse)}  "
                f"change {_text(each.change, '+')}: {each.verdict}"
            )
        word = "small enough" if self.converged else f"too large: try {self.dt / 2:g}"
        return "\n".join([*lines, f"dt = {self.dt:g} is {word}, for this number of trials"])


def _text(interval: Interval, sign: str = "") -> str:
    estimate, low, high = (f"{float(end):{sign}.3g}" for end in interval)
    return f"{estimate} [{low}, {high}]"


class _Refined(eqx.Module):
    """Trials whose Gaussian noise follows the same Brownian motions in steps half as long."""

    trial: Trial | Callable[[PRNGKeyArray], Trial]

    def __call__(self, key: PRNGKeyArray) -> Trial:
        return _refine(self.trial(key) if callable(self.trial) else self.trial)


def _refine(trial: Trial) -> Trial:
    if trial.noise is None or not isinstance(trial.noise.law, Gaussian):
        return trial
    law = trial.noise.law
    finer = Gaussian(refinement=law.refinement + 1, full_precision=law.full_precision)
    return eqx.tree_at(
        lambda trial: trial.noise.law,
        trial,
        finer,
        is_leaf=lambda leaf: isinstance(leaf, AbstractLaw),
    )


@names_keywords
@as_written
def check_convergence(
    trial: Trial | Callable[[PRNGKeyArray], Trial],
    *,
    trials: int,
    key: PRNGKeyArray,
    t1: float,
    dt: float,
    save_every: float | None = None,
    criterion: Criterion | None = None,
    reductions: Mapping[str, PerTrial] | None = None,
    chunk: int | None = None,
    devices: Sequence[Device] | None = None,
    solver: dfx.AbstractSolver | None = None,
    progress: bool = True,
) -> Convergence:
    """Solve the same trials in steps of dt and of dt/2, and tell how much each statistic changes.

    A step is short enough where halving it changes nothing by more than the interval that the
    number of trials leaves anyway. Trials have the same keys, and so the same memories, inputs and
    starts; with Gaussian noise on the state (and none on the input) they follow the same Brownian
    motions too, which makes small changes visible. Of a method of first order the error that is
    left at dt is about twice the change.

    Example:
        ```python
        convergence = hj.check_convergence(trial, trials=500, key=key, t1=10.0, dt=0.02)
        convergence.converged  # printed it is a table of what changes
        ```

    Args:
        trial: as for `solve_ensemble`.
        trials: how many.
        key: decides everything random.
        t1: end, as for `solve`.
        dt: the longer step.
        save_every: interval between saved times, a multiple of `dt`, the same for both; by default
            as for `solve` with `dt`.
        criterion: what counts as retrieved, as for `solve_ensemble`.
        reductions: further numbers of each trial, by name: a `PerTrial` of a function that gives
            one number.
        chunk: as for `solve_ensemble`.
        devices: as for `solve_ensemble`.
        solver: as for `solve`.
        progress: whether to show it on stderr: a bar on a terminal, else a line every 30 s.

    Returns:
        A `Convergence`: with a `Change` for the share that is retrieved, for how trials end
        otherwise, for the time of first passage (at most t1), for the overlap and the energy at the
        end, and for your numbers.

    Raises:
        TypeError, ValueError: for a wrong argument, as `solve_ensemble`.
    """
    check_count(trials, "trials", minimum=2)
    dt = check_number(dt, "dt", positive=True)
    settings: dict[str, Any] = {
        "trials": trials,
        "key": key,
        "t1": t1,
        "criterion": criterion,
        "reductions": reductions,
        "chunk": chunk,
        "devices": devices,
        "solver": solver,
        "progress": progress,
    }
    coarse = solve_ensemble(trial, dt=dt, save_every=save_every, **settings)
    every = save_every if save_every is not None else float(coarse.ts[1] - coarse.ts[0])
    fine = solve_ensemble(_Refined(trial), dt=dt / 2, save_every=every, **settings)
    first, second = (_numbers(each, t1, tuple(reductions or ())) for each in (coarse, fine))
    changes = {name: _change(first[name], second[name]) for name in first}
    told = {name: each for name, each in changes.items() if np.isfinite(each.change.estimate)}
    for name, count in coarse.counts.items():
        if count == fine.counts[name] == 0:
            told.pop(name, None)  # what never happened tells nothing
    example = trial(key) if callable(trial) else trial
    gaussian = example.noise is None or isinstance(example.noise.law, Gaussian)
    same = gaussian and not isinstance(example.inputs, NoisyInput)
    return Convergence(dt, told, coarse, fine, same)


def _numbers(
    ensemble: Ensemble, t1: float, names: Sequence[str]
) -> dict[str, Float[np.ndarray, " trials"]]:
    """What is compared of each trial."""
    criterion = ensemble.criterion
    found = {"retrieved": ensemble.share}
    for place, name in enumerate(ensemble.OUTCOMES):
        if name not in ("right", "mirror"):
            found[name] = (ensemble.outcome == place).astype(float)
    found["first passage"] = np.minimum(ensemble.passage_time, t1 - criterion.since)
    overlap = ensemble.final_overlap
    found["|m| at the end" if criterion.mirror else "m at the end"] = (
        abs(overlap) if criterion.mirror else overlap
    )
    found["final energy"] = ensemble.final_energy
    for name in names:
        values = np.asarray(next(iter(ensemble.reduced[name].values())), float)
        if values.shape != (ensemble.trials,):
            right = "one number for each trial"
            raise ArgumentError(
                f"reductions[{name!r}]", right, f"shape {values.shape}", must="give"
            )
        found[name] = values
    return found


def _change(coarse: Float[np.ndarray, " n"], fine: Float[np.ndarray, " n"]) -> Change:
    """Of the mean; trials that diverged in either are left out."""
    well = np.isfinite(coarse) & np.isfinite(fine)
    coarse, fine = coarse[well], fine[well]
    if len(coarse) < 2:
        nothing = Interval(*np.full(3, np.nan))
        return Change(nothing, nothing, nothing)
    shares = coarse.min() >= 0 and max(coarse.max(), fine.max()) <= 1 and fine.min() >= 0
    mean = mean_share if shares else _mean
    change = _mean(fine - coarse)
    if shares and not np.any(fine - coarse):  # no trial changed, but one in so many might
        most = wilson_interval(0, len(coarse)).high
        change = Interval(change.estimate, -most, most)
    return Change(mean(coarse), mean(fine), change)


def _mean(values: Float[np.ndarray, " n"]) -> Interval:
    """By Student's distribution."""
    size, mean = len(values), values.mean()
    half = special.stdtrit(size - 1, 0.975) * values.std(ddof=1) / np.sqrt(size)
    return Interval(mean, mean - half, mean + half)
