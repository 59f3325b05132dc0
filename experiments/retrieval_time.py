"""How long retrieval takes, against noise: from a random start, and from another memory.

First passages of |m| above 0.9 while the input is shown. Trials that never pass count as later
than all others. Run alone: `python -m experiments.retrieval_time [--full] [--redraw]`.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.common import Claim, Experiment, number, proportion, rounded, show
from experiments.studies import (
    BY_WINDOW,
    DOMINANT,
    MODELS,
    QUICK_MODELS,
    WINDOW,
    curve,
    grid,
    models,
    only,
    paper,
    run,
    select,
    settings,
)
from hopjax import plotting
from hopjax.statistics import censored_quantiles

QUICK_TRIALS, FULL_TRIALS = 40, 300
QUIET, NOISY, LOUD = 0.0, 8.0, 16.0
QUICK_NOISES = (QUIET, NOISY, LOUD)
FULL_NOISES = (QUIET, 1.0, 2.0, 3.0, 4.0, 6.0, NOISY, 10.0, 12.0, 14.0, LOUD, 18.0, 20.0, 22.0)
LEVELS = (0.1, 0.5, 0.9)
LATER = WINDOW + 1.0  # where medians are drawn that were not reached


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    cells = grid(
        model=tuple(MODELS) if full else QUICK_MODELS,
        noise=FULL_NOISES if full else QUICK_NOISES,
        dominant=[DOMINANT],  # with it these are the trials, and the programs, of `robustness`
    )
    task, paired = paper(), ("model", "noise")
    return {
        "settings": settings(task, trials=trials, paired=paired, levels=LEVELS),
        "results": [
            {
                "model": cell["model"],
                "noise": cell["noise"],
                "passage": [
                    rounded(censored_quantiles(times, LEVELS))
                    for times in data["window_passage"].values.T
                ],
                "never": [
                    proportion(~np.isfinite(times)) for times in data["window_passage"].values.T
                ],
            }
            for cell, data in run(
                task, cells, trials=trials, t1=2 * WINDOW, paired=paired, measures=BY_WINDOW
            )
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """Above, median and 10%-90% band of the first passage; below, the share without any.

    A median is open where more than half of the trials were censored, which makes it later.
    """
    figure, axes = plt.subplots(
        2,
        2,
        figsize=(plotting.COLUMN_WIDTH, 3.6),
        sharex=True,
        sharey="row",
        height_ratios=[1.5, 1],
        layout="constrained",
    )
    titles = ("input 1, from a random start", "input 2, from memory 1")
    for window, (title, (top, bottom)) in enumerate(zip(titles, axes.T, strict=True)):
        for place, model, label in models(numbers):
            cells = select(numbers["results"], model=model)
            noises = np.array([cell["noise"] for cell in cells])
            low, median, high = np.array(
                [[number(time) for time in cell["passage"][window]] for cell in cells]
            ).T
            passed, half = np.isfinite(low), np.isfinite(median)
            high = np.where(np.isfinite(high), high, WINDOW)  # as late as can be seen
            colour, marker = plotting.COLOURS[place], plotting.MARKERS[place]
            plotting.plot_band(noises, median, low, high, place=place, label=label, ax=top)
            if np.sum(passed) == 1:  # no band
                top.vlines(noises[passed], low[passed], high[passed], color=colour, linewidth=0.7)
            top.plot(noises, median, marker, color=colour, markersize=3)
            later = np.full(np.sum(~half), LATER + 0.45 * (1 - place))
            top.plot(noises[~half], later, marker, color=colour, markersize=3, fillstyle="none")
            curve(bottom, noises, [cell["never"][window] for cell in cells], place, label)
        top.axhline(WINDOW, color="black", linewidth=0.5, linestyle=":")
        top.set(title=title, xlabel="", ylim=(0, LATER + 0.8))
        top.set_yticks([*range(0, 11, 2), LATER], [*map(str, range(0, 11, 2)), "later"])
        bottom.set_xlabel(r"noise $\sigma$")
    axes[0, 0].set_ylabel("time to retrieve (time constants)")
    axes[1, 0].set_ylabel(f"P(not within {WINDOW:g})")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    quiet, noisy, loud = (
        only(numbers["results"], model="idp", noise=noise) for noise in (QUIET, NOISY, LOUD)
    )

    def late(time: float | None) -> float:
        return np.inf if time is None else time

    def text(time: float | None) -> str:
        return f"over {WINDOW:g}" if time is None else f"{time:.1f}"

    def times(window: list[float | None]) -> str:
        low, median, high = map(text, window)
        return f"{median} ({low} to {high})"

    first, second = noisy["passage"]
    loud_first, loud_second = loud["passage"]
    return [
        Claim(
            f"IDP, σ = {NOISY:g}: half have retrieved input 1 within 3, input 2 within 5",
            f"medians (10% to 90%) {times(first)} and {times(second)}",
            late(first[1]) < 3 and late(second[1]) < 5,
        ),
        Claim(
            "moving from memory 1 to 2 takes longer than retrieving 1 from a random start",
            f"medians {text(second[1])} and {text(first[1])}",
            late(second[1]) > late(first[1]),
        ),
        Claim(
            f"more IDP trials never move without noise than at σ = {NOISY:g}",
            f"P(never) = {show(quiet['never'][1])} and {show(noisy['never'][1])}",
            quiet["never"][1]["low"] > noisy["never"][1]["high"],
        ),
        Claim(
            f"strong noise slows IDP down: later at σ = {LOUD:g} than at {NOISY:g}, both inputs",
            f"medians (10% to 90%) {times(loud_first)} and {times(loud_second)}",
            late(loud_first[1]) > late(first[1]) and late(loud_second[1]) > late(second[1]),
        ),
    ]


EXPERIMENT = Experiment(
    name="retrieval_time",
    compute=compute,
    draw={"retrieval_time": draw},
    claims=claims,
    source="studies here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
