"""What is kept of many trials, with its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from hopjax._errors import ArgumentError
from hopjax.statistics import (
    Interval,
    censored_quantiles,
    histogram_quantiles,
    mean_share,
    wilson_interval,
)
from hopjax.trials import OUTCOMES, Criterion

OWN_NAMES = ("overlap", "ending")


class Variable(NamedTuple):
    """A labelled result: the names of its axes, its values, and what it is."""

    dims: tuple[str, ...]
    values: np.ndarray
    about: str


# Of every result that a dataset has: the names of its axes, and what it is.
_LABELS: dict[str, tuple[tuple[str, ...], str]] = {
    "retrieved": ((), "probability of retrieval"),
    "retrieved_low": ((), "lower end of its {interval}"),
    "retrieved_high": ((), "upper end of its {interval}"),
    "outcome_count": (("outcome_name",), "trials that ended so"),
    "target_memory": (("trial", "target_number"), "the right memories of each trial"),
    "overlap_mean": (("time",), "mean {what} with the target, without diverged trials"),
    "overlap_variance": (("time",), "variance of the {what} over trials"),
    "overlap_quantile": (("quantile_level", "time"), "quantiles of the {what}, exact to {width:g}"),
    "passed": (("time",), "share of trials that have had their first passage by then"),
    "passage_quantile": (
        ("quantile_level",),
        "time by which that share has passed, infinite where fewer ever do",
    ),
    "outcome": (("trial",), "how it ended: {outcomes}"),
    "share": (("trial",), "share of the judged times at which the memory was retrieved"),
    "memory": (("trial",), "memory with the strongest mean late overlap, -1 if it diverged"),
    "passage_time": (("trial",), "first passage, infinite if censored"),
    "final_overlap": (("trial",), "mean late overlap with the target, signed"),
    "final_energy": (("trial",), "energy at t1"),
    "diverged_at": (("trial",), "first saved time without a finite state"),
}
_AXES = {axis: None for axes, _ in _LABELS.values() for axis in axes}
RESERVED = (*_LABELS, *_AXES, "trials_done", "saved", "cell")  # names that a dataset has taken


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
            criterion's `since` on and measured from there; 0 if it was positive at `since`. It is
            looked at after every step, whatever is saved, and in between taken for linear (see
            `Trajectory.passage_ahead`). Infinite if it never was: a censored observation, which is
            never dropped.
        passed: share of all trials that have had their first passage by each time of `ts`.
        final_overlap: the mean late overlap with the target, with its sign.
        final_energy: E(x; u) at t1; NaN for trials that diverged.
        diverged_at: the first saved time without a finite state, infinite for all that went well.
        reduced: the results of your own reductions, by name.
        per_trial: those that are of every trial, each with the names of the axes of its results.
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
    per_trial: dict[str, Mapping[str, tuple[str, ...]]]
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
                raise ArgumentError("outcomes", f"some of {known}", repr(name))
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
        retrieved, low, high = self.retrieved
        values = {
            **{"retrieved": retrieved, "retrieved_low": low, "retrieved_high": high},
            "outcome_count": list(self.counts.values()),
            "target_memory": self.target,
            "overlap_quantile": self.overlap_quantiles(quantiles),
            "passage_quantile": self.passage_quantiles(quantiles),
        }
        words = {
            "what": "magnitude of the overlap" if self.criterion.mirror else "overlap",
            "interval": f"{'' if self.criterion.judge == 'instants' else 'Wilson '}95% interval",
            "width": self.edges[1] - self.edges[0],
            "outcomes": ", ".join(f"{number} {name}" for number, name in enumerate(OUTCOMES)),
        }
        variables = {
            name: Variable(
                dims,
                np.asarray(values[name] if name in values else getattr(self, name)),
                about.format(**words),
            )
            for name, (dims, about) in _LABELS.items()
        }
        for name, results in self.reduced.items():
            for field, values in results.items():
                dims = tuple(f"{name}_{field}_{axis}" for axis in range(values.ndim))
                if name in self.per_trial:
                    named = self.per_trial[name].get(field)
                    own = dims[1:] if named is None else (f"{name}_{axis}" for axis in named)
                    dims = ("trial", *own)
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
            f"  first passage  {tenth:.4g} (10%), {median:.4g} (median), {most:.4g} (90%); "
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
