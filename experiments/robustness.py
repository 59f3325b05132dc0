"""Robustness of input-driven plasticity against noise and against unclear inputs.

Two inputs in a row: the first is to be retrieved from a random start, the second from memory 1.
The same memories, weights and noise for all models. Run alone:
`python -m experiments.robustness [--full] [--redraw]`.
"""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.common import Claim, Experiment, show
from experiments.studies import (
    BY_WINDOW,
    DOMINANT,
    MEAN_BACKGROUND,
    MODELS,
    QUICK_MODELS,
    WINDOW,
    classic,
    curve,
    grid,
    highest,
    lowest,
    models,
    only,
    paper,
    retrieved,
    run,
    select,
    settings,
)
from hopjax import plotting

QUICK_TRIALS, FULL_TRIALS = 40, 300
QUIET, NOISY = 0.0, 8.0
QUICK_NOISES = (QUIET, NOISY)
FULL_NOISES = (QUIET, 0.5, 1.0, 2.0, 4.0, 6.0, NOISY, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
QUICK_RATIOS = (1.0, 3.0)  # of the dominant weight to the mean of the others
FULL_RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0)
WIDE = (6.0, 10.0)  # a range of noise in which nothing much should change


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    solved = tuple(MODELS) if full else QUICK_MODELS
    ratio_of = {
        (ratio * MEAN_BACKGROUND, ratio * MEAN_BACKGROUND): ratio
        for ratio in (FULL_RATIOS if full else QUICK_RATIOS)
    }
    cells = grid(model=solved, noise=FULL_NOISES if full else QUICK_NOISES, dominant=[DOMINANT])
    cells += grid(model=solved, noise=(QUIET, NOISY), dominant=list(ratio_of))
    task, paired = paper(), ("model", "noise")
    return {
        "settings": settings(task, trials=trials, paired=paired),
        "results": [
            {
                "model": cell["model"],
                "noise": cell["noise"],
                "ratio": ratio_of.get(cell["dominant"]),  # none for the paper's weights
                "retrieved": [retrieved(overlaps) for overlaps in data["window_overlap"].T],
            }
            for cell, data in run(
                task, cells, trials=trials, t1=2 * WINDOW, paired=paired, measures=BY_WINDOW
            )
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """Rows: against noise, against the ratio of weights without and with noise."""
    figure, axes = plt.subplots(
        3, 2, figsize=(plotting.COLUMN_WIDTH, 4.6), sharey=True, sharex="row", layout="constrained"
    )
    ratio = "dominant / background weight"
    rows = [
        ({"ratio": None}, "noise", r"noise $\sigma$", "input {}, the paper's weights"),
        ({"noise": QUIET}, "ratio", ratio, "input {}, no noise"),
        ({"noise": NOISY}, "ratio", ratio, rf"input {{}}, noise $\sigma$ = {NOISY:g}"),
    ]
    for row, (fixed, name, xlabel, title) in zip(axes, rows, strict=True):
        for window, ax in enumerate(row):
            for place, model, label in models(numbers):
                cells = select(numbers["results"], model=model, **fixed)
                cells = [cell for cell in cells if cell[name] is not None]
                xs = [cell[name] for cell in cells]
                curve(ax, xs, [cell["retrieved"][window] for cell in cells], place, label)
            if name == "ratio":
                low, high = (weight / MEAN_BACKGROUND for weight in DOMINANT)
                ax.axvspan(low, high, color="black", alpha=0.06, linewidth=0, zorder=0)
            ax.set(xlabel=xlabel, title=title.format(window + 1))
        row[0].set_ylabel("P(retrieved)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles.append(Patch(color="black", alpha=0.06))
    labels.append("the paper's weights")
    figure.legend(handles, labels, loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"]
    usual = select(results, ratio=None)
    quiet, noisy = (
        {cell["model"]: cell["retrieved"] for cell in select(usual, noise=noise)}
        for noise in (QUIET, NOISY)
    )
    wide = [
        window
        for cell in select(usual, model="idp")
        if WIDE[0] <= cell["noise"] <= WIDE[1]
        for window in cell["retrieved"]
    ]
    loud = [
        window
        for cell in classic(results)
        if cell["noise"] >= NOISY
        for window in cell["retrieved"]
    ]
    clear, unclear = (
        only(results, model="idp", noise=NOISY, ratio=ratio)["retrieved"][1] for ratio in (3.0, 1.0)
    )
    return [
        Claim(
            f"IDP retrieves both inputs at every noise from {WIDE[0]:g} to {WIDE[1]:g} (P > .9)",
            f"P ≥ {show(lowest(wide))}",
            lowest(wide)["p"] > 0.9,
        ),
        Claim(
            "noise helps IDP to move on to input 2",
            f"P = {show(noisy['idp'][1])}, without noise {show(quiet['idp'][1])}",
            noisy["idp"][1]["low"] > quiet["idp"][1]["high"],
        ),
        Claim(
            f"classic networks retrieve no input under noise ≥ {NOISY:g}, clear or not (P < .1)",
            f"P ≤ {show(highest(loud))}",
            highest(loud)["high"] < 0.1,
        ),
        Claim(
            "without noise the classic network with a pulse moves on more often than IDP",
            f"P = {show(quiet['classic_pulsed'][1])}, IDP {show(quiet['idp'][1])}",
            quiet["classic_pulsed"][1]["low"] > quiet["idp"][1]["high"],
        ),
        Claim(
            f"IDP, σ = {NOISY:g}: a weight 3 times the others is enough (P > .9), an equal one not "
            "(P < .3)",
            f"P = {show(clear)} and {show(unclear)}",
            clear["p"] > 0.9 and unclear["p"] < 0.3,
        ),
    ]


EXPERIMENT = Experiment(
    name="robustness",
    compute=compute,
    draw={"robustness": draw},
    claims=claims,
    source="studies here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
