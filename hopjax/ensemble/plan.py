"""How trials are solved, and what is kept of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from hopjax._checks import cast_floats, check_count, check_fits, check_instance, check_number
from hopjax._errors import ArgumentError
from hopjax._keys import setting_and_noise
from hopjax.engine import CHUNK
from hopjax.ensemble.reductions import AbstractReduction, Histogram, Moments, Partial, PerTrial
from hopjax.ensemble.result import OWN_NAMES, RESERVED
from hopjax.solving import (
    PassageFunction,
    Problem,
    SaveFunction,
    Trajectory,
    check_problem,
    is_adaptive,
)
from hopjax.trials import Criterion, Trial, called, check_draws, solve_trial

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
        assert trajectory.passage_ahead is not None
        return {
            "passage": trajectory.passage,
            "passage_ahead": trajectory.passage_ahead,
            **{"outcome": ending.outcome, "memory": ending.memory, "positive": ending.positive},
            "target": trial.target,
            "final_overlap": ending.overlap,
            "final_energy": jnp.where(trajectory.ok, energy, jnp.nan),
            "diverged_step": trajectory.diverged_step,
        }


def standard_reductions(criterion: Criterion) -> dict[str, AbstractReduction]:
    """What is kept of all trials, whatever else is."""
    overlap = _TargetOverlap(criterion)
    low = 0.0 if criterion.mirror else -1.0
    histogram = Histogram(overlap, low=low, high=1.0, bin_width=BIN_WIDTH)
    return {
        "overlap": _Distribution(Moments(overlap), histogram),
        "ending": PerTrial(_Ending(criterion)),
    }


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
        return {**standard_reductions(self.criterion), **self.reductions}

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

    def solve(
        self,
        make: Callable[[Key[Array, ""]], Trial],
        key: Key[Array, ""],
        *,
        passages: bool = True,
        adjoint: dfx.AbstractAdjoint | None = None,
    ) -> tuple[Trial, Trajectory]:
        """The trial that `make` makes of its part of a trial's key, and its solution.

        Args:
            make: the trial as a function of a key.
            key: the trial's, of which the other part decides the noise.
            passages: as for `solve_trial`.
            adjoint: as for `solve`.
        """
        setting_key, noise_key = setting_and_noise(key)
        trial = self.prepare(make(setting_key))
        trajectory = solve_trial(
            trial,
            noise_key,
            self.criterion,
            passages=passages,
            t1=self.t1,
            dt=self.dt,
            save_every=self.save_every,
            save_fn=self.save_fn,
            passage_fn=self.passage_fn,
            solver=self.solver,
            stepsize_controller=self.stepsize_controller,
            adjoint=adjoint,
        )
        return trial, trajectory

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
        criterion = self.criterion
        check_draws(trial, problem, self._measures, criterion, make=make, function=function)

    def try_out(self, trial: Any, problem: Problem) -> None:
        """Call everything that a solve calls of a trial, which may be traced."""
        trial = self.prepare(trial)
        calls = called(trial, problem, self._measures, self.criterion)
        for call, point in calls.values():
            call(trial, point)

    @property
    def _measures(self) -> dict[str, Callable[[Trial, Trajectory], Any]]:
        """What is measured of a trial and its trajectory, by the names of arguments."""
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
        return measures


def check_trial(trial: Any) -> None:
    """Refuse what is not a trial."""
    check_instance(
        trial, Trial, "trial", "a Trial, or a function that makes one from a trial's key"
    )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How trials are to be solved and what is to be kept of them, as a user said it."""

    t1: Any
    dt: Any
    save_every: Any = None
    criterion: Any = None
    chunk: Any = None
    solver: Any = None
    stepsize_controller: Any = None
    save_fn: Any = None
    passage_fn: Any = None
    reductions: Any = None

    def plan(self, trials: int) -> Plan:
        """The same, checked, for so many trials."""
        criterion = Criterion() if self.criterion is None else self.criterion
        check_instance(criterion, Criterion, "criterion", "a Criterion such as Criterion(0.9)")
        save_every, chunk = self.save_every, self.chunk
        return Plan(
            t1=check_number(self.t1, "t1", positive=True),
            dt=check_number(self.dt, "dt", positive=True),
            save_every=None if save_every is None else check_number(save_every, "save_every"),
            chunk=min(CHUNK, trials) if chunk is None else check_count(chunk, "chunk"),
            solver=self.solver,
            stepsize_controller=self.stepsize_controller,
            criterion=criterion,
            save_fn=self.save_fn,
            passage_fn=self.passage_fn,
            reductions=_check_reductions(self.reductions),
        )


def _check_reductions(reductions: Any) -> dict[str, AbstractReduction]:
    """The user's, whose names leave ours alone."""
    reductions = {} if reductions is None else reductions
    check_instance(reductions, Mapping, "reductions", "a dict of reductions by name")
    for name, reduction in reductions.items():
        if not isinstance(name, str) or not name.isidentifier():
            right = "names that are identifiers"
            raise ArgumentError("reductions", right, repr(name), must="have")
        taken = [own for own in (*OWN_NAMES, *RESERVED) if f"{own}_".startswith(f"{name}_")]
        if taken:
            right, got = (
                "names that leave ours alone",
                f"{name!r}, which is in the way of {taken[0]}",
            )
            raise ArgumentError("reductions", right, got, must="have")
        right = "a reduction such as PerTrial(function)"
        check_instance(reduction, AbstractReduction, f"reductions[{name!r}]", right)
    return dict(reductions)
