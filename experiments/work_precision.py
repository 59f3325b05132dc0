"""Which step for which accuracy: the error of statistics against what a solver costs.

Four kinds of noisy retrieval, each by several solvers, laws of the noise and steps. All errors are
those of statistics, against exponential steps of 0.0025, by common noise: from step to step along
exponential steps, whose noise is composed of that of finer ones, and at each step from these to
every other solver. Run alone: `python -m experiments.work_precision [--full] [--redraw]`, or with
`--costs` to time the solvers again and keep all errors.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import hopjax as hj
from experiments import competitors, drawing
from experiments.benchmark import built, in_turn, interval
from experiments.claims import Check, Claim, Measured, above, claim, measured, print_claims
from experiments.common import FIGURES, QUICK, Experiment, Sized, use_all_cores
from experiments.numbers import constants, read_json, rounded, write_json
from experiments.step_problems import PROBLEMS, SEED, Composed, Coupled, Kind, Problem, Statistic
from hopjax import plotting

REFERENCE = 0.0025
# Of each step of the exponential solver the finer one whose noise it is given.
FINER = Sized(
    {0.05: 0.01},
    {0.005: 0.0025, 0.01: 0.0025, 0.02: 0.01, 0.05: 0.01, 0.1: 0.05, 0.2: 0.1},
)
TOLERANCES = {"overlap": 0.01, "probability": 0.02, "time": 0.02}  # of times: relative
TRIALS = Sized(30, 1000)  # of each cell at most
RESAMPLINGS = 400
ROUNDS, STEPS_TIMED = Sized(3, 15), 100
EULER = "Euler, Gaussian"
COMPARED = 0.01  # Euler's steps that longer ones are compared with


@dataclass(frozen=True)
class Method:
    """A solver under a law of the noise."""

    solver: dfx.AbstractSolver
    law: str
    steps: tuple[float, ...]
    quickly: tuple[float, ...] = ()  # of the transition alone, at quick size
    evaluations: int = 1  # of the drift in each step

    @property
    def coupled(self) -> hj.AbstractLaw:
        """The law, near to normal numbers of the same key."""
        signs = {"two_point": 1, "binomial": 8}
        return Coupled(signs[self.law]) if self.law in signs else hj.Gaussian()

    def steps_in(self, problem: str, full: bool) -> tuple[float, ...]:
        """The steps that are tried."""
        if not full:
            return self.quickly if problem == "transition" else ()
        return self.steps


EXPONENTIAL_STEPS = hj.ExponentialAdams()
METHODS = {
    EULER: Method(dfx.Euler(), "gaussian", (0.0025, 0.005, 0.01, 0.02, 0.05), (0.01,)),
    "Euler, two-point": Method(dfx.Euler(), "two_point", (0.01, 0.02, 0.05)),
    "Heun, Gaussian": Method(dfx.Heun(), "gaussian", (0.02, 0.05, 0.1), evaluations=2),
    "ShARK, Gaussian": Method(dfx.ShARK(), "gaussian", (0.05, 0.1), evaluations=2),
    "exponential, Gaussian": Method(
        EXPONENTIAL_STEPS, "gaussian", (0.01, 0.02, 0.05, 0.1, 0.2), (0.05,)
    ),
    "exponential, binomial": Method(EXPONENTIAL_STEPS, "binomial", (0.05, 0.1, 0.2), (0.05,)),
    "exponential, two-point": Method(EXPONENTIAL_STEPS, "two_point", (0.02, 0.05, 0.1)),
}
EXPONENTIAL = "exponential, Gaussian"


Group = tuple[Kind, bool]
Found = dict[str, np.ndarray]  # what was measured of every trial, (cells, trials)


class Estimate(NamedTuple):
    """A difference, or a sum of independent ones, and its variance."""

    value: float
    variance: float

    def plus(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value + other.value, self.variance + other.variance)

    def minus(self, other: "Estimate") -> "Estimate":
        return self.plus(Estimate(-other.value, other.variance))

    def as_json(self, unit: float) -> dict[str, Any]:
        """With its 95% interval, in other units."""
        half = 1.96 * np.sqrt(self.variance)
        ends = {"mean": self.value, "low": self.value - half, "high": self.value + half}
        return {name: rounded(end / unit, 5) for name, end in ends.items()}


def trials_of(problem: Problem, dt: float, full: bool) -> int:
    """Of each cell, where the finest steps are so long."""
    most = problem.work / (problem.size * problem.t1 / dt) if full else TRIALS.quick
    return int(min(TRIALS[full], most))


def of_trials(found: Found, statistic: Statistic) -> Float[np.ndarray, " trials"]:
    values = found[statistic.name].astype(float)
    return values.ravel() if statistic.cell is None else values[statistic.cell]


def estimate(found: Found, statistic: Statistic) -> float:
    values = of_trials(found, statistic)
    return float(middle(values) if statistic.kind == "time" else values.mean())


def middle(values: Float[np.ndarray, "... trials"]) -> Float[np.ndarray, "..."]:
    """The median, infinite where half are."""
    return np.quantile(values, 0.5, axis=-1, method="inverted_cdf")


def difference(first: Found, second: Found, statistic: Statistic) -> Estimate:
    """How far apart two solves of the same trials are in a statistic.

    Pairs of trials are the unit of scatter: of means directly, of medians by bootstrap; and of
    probabilities as if two more pairs had differed (as Agresti and Min count), since where none
    differs the probabilities still may.
    """
    pair = np.stack([of_trials(each, statistic) for each in (first, second)])
    trials = pair.shape[1]
    if statistic.kind == "time":
        draws = np.random.default_rng(SEED).integers(trials, size=(RESAMPLINGS, trials))
        resampled = middle(pair[:, draws])
        one, other = middle(pair)
        return Estimate(float(one - other), float(np.var(resampled[0] - resampled[1])))
    apart = pair[0] - pair[1]
    more = 2 if statistic.kind == "probability" else 0
    return Estimate(float(apart.mean()), float((apart.var() * trials + more) / trials**2))


def measure(name: str, full: bool) -> dict[str, Any]:
    """The errors of all methods in a problem."""
    problem, finer = PROBLEMS[name], FINER[full]
    exponential, gaussian = METHODS[EXPONENTIAL].solver, hj.Gaussian()

    @cache
    def solve(law, solver, dt: float, finest: float) -> Found:
        return problem.solve(law, solver, dt, trials_of(problem, finest, full))

    def apart(first: Found, second: Found) -> list[Estimate]:
        return [difference(first, second, statistic) for statistic in problem.statistics]

    def sums(first: list[Estimate], second: list[Estimate]) -> list[Estimate]:
        return [one.plus(other) for one, other in zip(first, second, strict=True)]

    jax.clear_caches()  # a process can map only so many compiled programs into its memory
    root = min(finer.values())
    reference = solve(gaussian, exponential, root, root)
    values = [estimate(reference, statistic) for statistic in problem.statistics]
    zero = [Estimate(0.0, 0.0)] * len(values)
    # Of exponential steps, against the reference and against those of 0.01.
    errors, beyond = {root: zero}, {COMPARED: zero}
    for dt, finest in sorted(finer.items()):
        composed = Composed(round(dt / finest), finest)
        coarse, fine = (
            solve(law, exponential, step, finest)
            for law, step in ((composed, dt), (gaussian, finest))
        )
        level = apart(coarse, fine)
        errors[dt] = sums(level, errors[finest])
        if finest in beyond:
            beyond[dt] = sums(level, beyond[finest])
    units = [
        TOLERANCES[statistic.kind] * (value if statistic.kind == "time" else 1.0)
        for statistic, value in zip(problem.statistics, values, strict=True)
    ]

    def in_units(found: list[Estimate]) -> list[dict[str, Any]]:
        return [each.as_json(unit) for each, unit in zip(found, units, strict=True)]

    def own(method: Method, dt: float) -> list[Estimate]:
        """Against exponential steps of the same length."""
        if method is METHODS[EXPONENTIAL]:
            return zero
        mine = solve(method.coupled, method.solver, dt, dt)
        return apart(mine, solve(gaussian, exponential, dt, dt))

    euler, rows = own(METHODS[EULER], COMPARED), []
    for method, each in METHODS.items():
        for dt in each.steps_in(name, full):
            mine = own(each, dt)
            row = {"method": method, "dt": dt, "errors": in_units(sums(mine, errors[dt]))}
            if dt in beyond:
                found = zip(sums(mine, beyond[dt]), euler, strict=True)
                row["from_euler"] = in_units([one.minus(other) for one, other in found])
            rows.append(row)
    return {
        "statistics": [statistic._asdict() for statistic in problem.statistics],
        "reference": rounded(values),
        "tolerances": rounded(units, 5),
        "trials": {f"{dt:g}": trials_of(problem, dt, full) for dt in sorted(errors)},
        "cells": len(problem.cells["noise"]),
        "num_neurons": problem.size // len(problem.cells["noise"]),
        "errors": rows,
    }


def time_steps(full: bool) -> dict[str, Any]:
    """What a step costs by each method, side by side, in units of a step of Euler, Gaussian."""
    shown = [name for name, method in METHODS.items() if full or method.quickly]
    batch = competitors.CHUNK * jax.device_count()

    def make(solver: dfx.AbstractSolver, problem: competitors.Problem) -> Callable[[], Any]:
        one = partial(competitors.retrieve, problem=problem, dt=competitors.LONG_DT, solver=solver)
        shared = problem.model, problem.u, problem.noise
        return competitors.on_all_devices(one, problem, *shared)

    timed = [
        built(
            name,
            partial(make, METHODS[name].solver),
            competitors.Problem(1024, batch, METHODS[name].law, STEPS_TIMED),
        )
        for name in shown
    ]
    found = in_turn(*timed, rounds=ROUNDS[full])
    return {
        name: {
            "ms": interval(found[name])["ratio"],  # for 1000 steps
            "evaluations": METHODS[name].evaluations,
            "step": ratio_of(found[name], found[EULER]),
        }
        for name in shown
    }


def ratio_of(times: np.ndarray, others: np.ndarray) -> dict[str, float]:
    found = interval(times / others)
    return {"mean": found["ratio"], "low": found["low"], "high": found["high"]}


def compute(full: bool) -> dict[str, Any]:
    shown = [name for name in PROBLEMS if METHODS[EXPONENTIAL].steps_in(name, full)]
    return {
        "settings": {"laws": "gaussian, and sums of 1 and 8 signs coupled to it"}
        | constants(globals(), "SEED TOLERANCES RESAMPLINGS"),
        "problems": {name: measure(name, full) for name in shown},
        "costs": time_steps(full),
    }


def cost(numbers: dict[str, Any], method: str, dt: float) -> Measured:
    """Of a unit of time, where Euler's at 0.01 with Gaussian noise is 1."""
    return measured(numbers["costs"][method]["step"]).times(COMPARED / dt)


def rows_of(numbers: dict[str, Any], method: str, dt: float | None = None) -> list[dict[str, Any]]:
    """The errors of a method in all problems, with the name of the problem."""
    return [
        {"problem": name} | row
        for name, problem in numbers["problems"].items()
        for row in problem["errors"]
        if row["method"] == method and dt in (None, row["dt"])
    ]


def largest(error: Any) -> float:
    """How far from zero an interval reaches."""
    found = measured(error)
    return max(-found.low, found.high)


def safe_step(numbers: dict[str, Any], method: str, problem: str, group: Group) -> float | None:
    """The longest dt up to which all statistics of a group are within their tolerance (95%).

    None where the method was not tried, and 0 where no step of it is known to be so.
    """
    entry = numbers["problems"][problem]
    places = [place for place, each in enumerate(entry["statistics"]) if group_of(each) == group]
    rows = sorted(
        (row for row in rows_of(numbers, method) if row["problem"] == problem),
        key=lambda row: row["dt"],
    )
    safe = 0.0 if rows else None
    for row in rows:
        if not max(largest(row["errors"][place]) for place in places) <= 1:
            break
        safe = row["dt"]
    return safe


def group_of(statistic: dict[str, Any]) -> Group:
    """What a statistic is read with: its kind, and whether it is late."""
    return statistic["kind"], statistic["late"]


def groups(numbers: dict[str, Any]) -> list[tuple[str, Group]]:
    """Problems and groups of their statistics."""
    return [
        (name, group)
        for name, entry in numbers["problems"].items()
        for group in GROUPS
        if any(group_of(each) == group for each in entry["statistics"])
    ]


GROUPS: dict[Group, str] = {
    ("overlap", False): "overlaps on the way",
    ("probability", False): "probabilities on the way",
    ("time", False): "median times",
    ("overlap", True): "overlaps at the end",
    ("probability", True): "probabilities at the end",
}


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each problem, errors against cost; below, the longest steps that are safe."""
    problems, methods = list(numbers["problems"]), list(numbers["costs"])
    rows = -(-len(problems) // 2)
    figure, axes = plt.subplots(
        rows + 1,
        2,
        figsize=(plotting.COLUMN_WIDTH, 1.35 * rows + 0.5 + 0.19 * len(groups(numbers))),
        layout="constrained",
        height_ratios=[*[1.0] * rows, 0.14 * len(groups(numbers)) + 0.3],
        squeeze=False,
        sharey="row",
    )
    for ax in axes[-1]:
        ax.remove()
    for ax, name in zip(axes.flat, problems, strict=False):
        draw_errors(ax, numbers, name)
    for ax in axes[rows - 1]:
        ax.set_xlabel("cost (Euler, 0.01 = 1)")
    for ax in axes[:-1, 0]:
        ax.set_ylabel("largest error\n(tolerances)")
    for ax in axes[:rows].flat[len(problems) :]:
        ax.remove()
    drawing.letters(axes[:rows].flat[: len(problems)])
    note = "tolerances: 0.01 of an overlap, 0.02 of a probability, 2% of a median time"
    drawing.legend_below(figure, axes[0, 0], ncols=2, fontsize=6, title=note, title_fontsize=6)
    draw_table(figure.add_subplot(axes[0, 0].get_gridspec()[rows, :]), numbers, methods)
    return figure


def draw_errors(ax: Axes, numbers: dict[str, Any], problem: str) -> None:
    """The largest error of a problem, and how far the intervals of all its errors reach."""
    for place, method in enumerate(numbers["costs"]):
        found = [row for row in rows_of(numbers, method) if row["problem"] == problem]
        found.sort(key=lambda row: row["dt"])
        look: dict[str, Any] = drawing.look(place, label=method)
        costs = [cost(numbers, method, row["dt"]).value for row in found]
        errors = [max(abs(measured(each).value) for each in row["errors"]) for row in found]
        reach = [max(map(largest, row["errors"])) for row in found]
        ends = drawing.sides(np.array(errors), np.array(errors), np.array(reach))
        ax.errorbar(costs, errors, ends, linewidth=0.7, elinewidth=0.5, **look)
    ax.axhspan(0, 1, color="black", alpha=0.06, linewidth=0, zorder=0)
    ax.set(xscale="log", yscale="log", xlim=(0.02, 6), ylim=(0.03, 60))
    ax.set_title(PROBLEMS[problem].title)
    ax.set_xticks([0.1, 1], ["0.1", "1"])


def draw_table(ax: Axes, numbers: dict[str, Any], methods: list[str]) -> None:
    """For every group of statistics and every method the longest step that is safe."""
    shown = groups(numbers)
    found = [[safe_step(numbers, method, *group) for method in methods] for group in shown]
    shades = [[np.log(dt) if dt else np.nan for dt in row] for row in found]
    ax.imshow(shades, cmap="Greens", vmin=np.log(0.0005), vmax=np.log(0.4), aspect="auto")
    for row, cells in enumerate(found):
        for column, dt in enumerate(cells):
            text = "" if dt is None else f"{dt:g}" if dt else "none"
            ax.text(column, row, text, ha="center", va="center", fontsize=5.5)
    labels = [method.replace("exponential", "exp.") for method in methods]
    ax.set_xticks(range(len(methods)), labels, fontsize=5.5, rotation=35, ha="right")
    ax.set_yticks(
        range(len(shown)), [f"{name}: {GROUPS[group]}" for name, group in shown], fontsize=5.5
    )
    ax.tick_params(length=0)
    ax.set_title("longest step within tolerance (95%)", fontsize=6.5)
    for spine in ax.spines.values():
        spine.set_visible(False)


def no_worse(numbers: dict[str, Any], method: str, margin: float, dt: float = 0.05) -> Check:
    """No error of a mean is larger than Euler's by so many tolerances (95% each).

    By how much one is larger is at most how far the statistics are apart, for which the reference
    does not matter, and at most how far the intervals of the errors reach.
    """
    mine, apart = (means(numbers, method, dt, name) for name in ("errors", "from_euler"))
    euler = means(numbers, EULER, COMPARED)
    excess = [
        min(largest(one) - smallest(other), largest(between))
        for one, other, between in zip(mine, euler, apart, strict=True)
    ]
    least = [smallest(one) - largest(other) for one, other in zip(mine, euler, strict=True)]
    text = f"{sum(each < margin for each in excess)} of {len(excess)}"
    return Check("", text, max(excess) < margin, max(least) >= margin)


def errors_in(
    numbers: dict[str, Any], method: str, dt: float, name: str = "errors"
) -> Iterator[tuple[str, dict[str, Any], Measured]]:
    """All errors, in tolerances, with their problems and statistics."""
    for row in rows_of(numbers, method, dt):
        statistics = numbers["problems"][row["problem"]]["statistics"]
        for statistic, error in zip(statistics, row[name], strict=True):
            yield row["problem"], statistic, measured(error)


def means(numbers: dict[str, Any], method: str, dt: float, name: str = "errors") -> list[Measured]:
    """The errors, in tolerances, of all that are means over trials: of all but first passages."""
    found = errors_in(numbers, method, dt, name)
    return [error for _, statistic, error in found if statistic["kind"] != "time"]


def late_means(numbers: dict[str, Any], method: str, dt: float, *kinds: Kind) -> list[Measured]:
    """Those of late statistics of some kinds."""
    groups = [(kind, True) for kind in kinds]
    found = errors_in(numbers, method, dt)
    return [error for _, statistic, error in found if group_of(statistic) in groups]


def smallest(error: Any) -> float:
    """How near to zero an interval comes."""
    found = measured(error)
    return max(found.low, -found.high, 0.0)


def errors_of(
    numbers: dict[str, Any], method: str, dt: float, problem: str, kind: Kind
) -> list[Measured]:
    """The errors of a problem's statistics of a kind; those of times relative to them."""
    return [
        error.times(TOLERANCES[kind])
        for name, statistic, error in errors_in(numbers, method, dt)
        if (name, statistic["kind"]) == (problem, kind)
    ]


def extrapolated(numbers: dict[str, Any]) -> list[Measured]:
    """Errors of Euler's steps of 0.0025 and 0.01, extrapolated to none, in tolerances.

    Euler's are of first order, so that the limit is 4/3 of the one less 1/3 of the other.
    """
    found = []
    for fine in rows_of(numbers, EULER, REFERENCE):
        (coarse,) = (
            row for row in rows_of(numbers, EULER, COMPARED) if row["problem"] == fine["problem"]
        )
        for pair in zip(fine["errors"], coarse["errors"], strict=True):
            one, other = map(measured, pair)
            value = (4 * one.value - other.value) / 3
            half = np.hypot(4 * (one.high - one.value), other.high - other.value) / 3
            found.append(Measured(value, value - half, value + half))
    return found


def all_within(errors: list[Measured]) -> Check:
    """All errors are within their tolerances."""
    within = sum(largest(each) <= 1 for each in errors)
    some = any(smallest(each) > 1 for each in errors)
    return Check("", f"{within} of {len(errors)}", within == len(errors), some)


def claims(numbers: dict[str, Any]) -> list[Claim]:
    found = []
    for law, margin, least in (("Gaussian", 1, 3), ("binomial", 2, 6)):
        method = f"exponential, {law}"
        cheaper = Measured(1, 1, 1).over(cost(numbers, method, 0.05))
        found.append(
            claim(
                f"{method}, dt = 0.05: no overlap or probability is farther off than Euler's at "
                f"{COMPARED:g} by {margin} tolerance{'s' if margin > 1 else ''}, cheaper ({{}})",
                no_worse(numbers, method, margin),
                above(cheaper, least, "{:.1f} times cheaper", symbol="times"),
            )
        )
    if not numbers["full"]:
        return found
    late = late_means(numbers, EXPONENTIAL, 0.05, "overlap", "probability")
    late_shares = late_means(numbers, "exponential, binomial", 0.05, "probability")
    limits = extrapolated(numbers)
    agree = sum(limit.low <= 0 <= limit.high for limit in limits)
    farthest = max(limits, key=smallest)
    two_point = errors_of(numbers, "exponential, two-point", 0.05, "transition", "probability")
    delayed = errors_of(numbers, EXPONENTIAL, 0.05, "rates", "time")
    return [
        *found,
        claim(
            "exponential, Gaussian, dt = 0.05: where an input has been shown for long, overlaps "
            "and probabilities are within their tolerances",
            all_within(late),
        ),
        claim(
            "exponential, binomial, dt = 0.05: there probabilities are within their tolerance",
            all_within(late_shares),
        ),
        claim(
            f"Euler's steps of 0.01 and {REFERENCE:g}, extrapolated to none, are not found to be a "
            "tolerance from the reference",
            Check(
                "",
                f"0 in {agree} of {len(limits)} intervals, farthest {farthest:+.2f} tolerances",
                all(smallest(limit) < 1 for limit in limits),
                any(smallest(limit) >= 1 for limit in limits),
            ),
        ),
        claim(
            "two-point signs in steps of 0.05 shift the probability of a transition ({})",
            above(two_point, 0.02, "by {} or more", symbol="by"),
        ),
        claim(
            "what passes between steps is not seen: where an overlap fluctuates its median first "
            "passage is later (rate network, exponential steps of 0.05, relative)",
            above(delayed, 0, "by {}"),
        ),
    ]


EXPERIMENT = Experiment("work_precision", compute, draw, claims, source="studies here")


def main() -> None:
    """The command line, which has one flag more than those of other experiments."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--full", action="store_true")
    arguments, _ = parser.parse_known_args()
    if not arguments.costs:
        EXPERIMENT.main()
        return
    use_all_cores()
    path = (FIGURES if arguments.full else QUICK) / f"{EXPERIMENT.name}.json"
    numbers = read_json(path)
    write_json(path, numbers | {"costs": time_steps(arguments.full)})
    print_claims(EXPERIMENT.run(full=arguments.full, redraw=True))


if __name__ == "__main__":
    main()
