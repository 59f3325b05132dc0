"""How long retrieval takes, against noise: from a random start, and from another memory.

First passages of |m| above 0.9 while the input is shown. Trials that never pass count as later
than all others. Run alone: `python -m experiments.retrieval_time [--full] [--redraw]`.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments import drawing, studies
from experiments.claims import Check, Claim, Measured, above, below, claim, number, show
from experiments.common import Experiment, Sized
from experiments.numbers import proportion, rounded
from experiments.studies import DOMINANT, SOLVED, WINDOW, only, select
from hopjax import plotting
from hopjax.statistics import censored_quantiles

TRIALS = Sized(40, 300)
QUIET, NOISY, LOUD = 0.0, 8.0, 16.0
NOISES = Sized(
    (QUIET, NOISY, LOUD),
    (QUIET, 1.0, 2.0, 3.0, 4.0, 6.0, NOISY, 10.0, 12.0, 14.0, LOUD, 18.0, 20.0, 22.0),
)
LEVELS = (0.1, 0.5, 0.9)
LATER = WINDOW + 1.0  # where medians are drawn that were not reached


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    # With this `dominant` these are the trials, and the programs, of `robustness`.
    cells = studies.grid(model=SOLVED[full], noise=NOISES[full], dominant=[DOMINANT])
    task, paired = studies.paper(), ("model", "noise")
    found = studies.run(
        task, cells, trials=trials, t1=2 * WINDOW, paired=paired, measures=studies.BY_WINDOW
    )
    passages = [(cell, data["window_passage"].values.T) for cell, data in found]
    return {
        "settings": studies.settings(task, trials=trials, paired=paired, levels=LEVELS),
        "results": [
            {
                "model": cell["model"],
                "noise": cell["noise"],
                "passage": [rounded(censored_quantiles(times, LEVELS)) for times in windows],
                "never": [proportion(~np.isfinite(times)) for times in windows],
            }
            for cell, windows in passages
        ],
        "medians": {
            f"{cell['noise']:g}": [median(times) for times in windows]
            for cell, windows in passages
            if cell["model"] == "idp" and cell["noise"] in (NOISY, LOUD)
        },
    }


def median(times: Float[np.ndarray, " trials"]) -> list[float | None]:
    """With the ends of its 95% interval, which are times of the ranks between which it lies."""
    half = min(0.98 / np.sqrt(len(times)), 0.5)
    return rounded(censored_quantiles(times, (0.5, 0.5 - half, 0.5 + half)))


def draw(numbers: dict[str, Any]) -> Figure:
    """Above, median and 10%-90% band of the first passage; below, the share without any.

    A median is open where more than half of the trials were censored, which makes it later.
    """
    figure, axes = drawing.panels(2, 2, 3.6, sharex=True, sharey="row", height_ratios=[1.5, 1])
    titles = ("input 1, from a random start", "input 2, from memory 1")
    for window, (title, (top, bottom)) in enumerate(zip(titles, axes.T, strict=True)):
        for place, model, label in studies.models(numbers):
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
            drawing.curve(bottom, noises, [cell["never"][window] for cell in cells], place, label)
        top.axhline(WINDOW, color="black", linewidth=0.5, linestyle=":")
        top.set(title=title, xlabel="", ylim=(0, LATER + 0.8))
        top.set_yticks([*range(0, 11, 2), LATER], [*map(str, range(0, 11, 2)), "later"])
        bottom.set_xlabel(r"noise $\sigma$")
    axes[0, 0].set_ylabel("time to retrieve (time constants)")
    axes[1, 0].set_ylabel(f"P(not within {WINDOW:g})")
    drawing.legend_below(figure, axes[1, 0], columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    quiet, noisy = (
        only(numbers["results"], model="idp", noise=noise)["never"][1] for noise in (QUIET, NOISY)
    )
    (first, second), (loud_first, loud_second) = (
        [Measured(*(np.inf if end is None else end for end in median)) for median in medians]
        for medians in numbers["medians"].values()
    )

    def text(median: Measured) -> str:
        return f"{median:.1f}" if np.isfinite(median.value) else f"over {WINDOW:g}"

    def later(loud: Measured, noisy: Measured) -> Check:
        return above(loud, noisy, f"median {text(loud)}, at σ = {NOISY:g} {text(noisy)}")

    return [
        claim(
            f"IDP, σ = {NOISY:g}: half have retrieved input 1 within 3, input 2 within 5",
            below(first, 3, "median {:.1f}"),
            below(second, 5, "{:.1f}"),
        ),
        claim(
            "moving from memory 1 to 2 takes longer than retrieving 1 from a random start",
            above(second, first, "median {:.1f}, from a random start {:.1f}"),
        ),
        claim(
            f"more IDP trials never move without noise than at σ = {NOISY:g}",
            above(quiet, noisy, "P(never) = {}, with it {}"),
        ),
        claim(
            f"strong noise slows IDP down: later at σ = {LOUD:g} than at {NOISY:g}, both inputs",
            later(loud_first, first),
            later(loud_second, second),
        ),
    ]


def found(numbers: dict[str, Any]) -> list[str]:
    idp = {cell["noise"]: cell for cell in select(numbers["results"], model="idp")}
    best = min(idp, key=lambda noise: idp[noise]["passage"][1][1] or np.inf)

    def passage(noise: float, window: int) -> str:
        low, median, high = idp[noise]["passage"][window]
        return f"{median:.1f} (10% to 90%: {low:.1f} to {high:.1f})"

    return [
        f"Without noise half of the trials have retrieved the first input by t = "
        f"{idp[QUIET]['passage'][0][1]:.1f}, at σ = {NOISY:g} by {passage(NOISY, 0)}. Moving to "
        f"the second takes {passage(best, 1)} at best, at σ = {best:g}; without noise "
        f"{show(idp[QUIET]['never'][1])} do not within {WINDOW:g}, at σ = {LOUD:g} "
        f"{show(idp[LOUD]['never'][1])}."
    ]


EXPERIMENT = Experiment("retrieval_time", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
