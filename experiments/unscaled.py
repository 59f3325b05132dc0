"""The sequence with weights that are not scaled up, and a previous memory that is hardly shown.

The dominant memory is held as strongly as memories in the noise theory, not seven times more. Run
alone: `python -m experiments.unscaled [--full] [--redraw]`.
"""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.common import Claim, Experiment, show
from experiments.studies import (
    BY_WINDOW,
    MODELS,
    WINDOW,
    curve,
    grid,
    highest,
    lowest,
    models,
    paper,
    retrieved,
    run,
    select,
    settings,
)
from hopjax import plotting

QUICK_TRIALS, FULL_TRIALS = 40, 300
PAPER_NOISES = (0.0, 0.5, 1.0, 2.0, 4.0)
FULL_NOISES = tuple(sorted({*PAPER_NOISES, 0.25, 0.75, 1.25, 1.5, 1.75, 2.25, 2.5, 3.0}))
QUICK_MODELS = ("idp",)


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    cells = grid(
        model=tuple(MODELS) if full else QUICK_MODELS, noise=FULL_NOISES if full else PAPER_NOISES
    )
    task = paper(
        onsets=(0.0, WINDOW, 2 * WINDOW), shown=(0, 1, 2), previous=(0.05, 0.2), total_weight=None
    )
    paired = ("model", "noise")
    return {
        "settings": settings(task, trials=trials, paired=paired),
        "results": [
            cell
            | {
                "retrieved": [retrieved(overlaps) for overlaps in data["window_overlap"].T],
            }
            for cell, data in run(
                task, cells, trials=trials, t1=3 * WINDOW, paired=paired, measures=BY_WINDOW
            )
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each window: how often its memory is retrieved at its end."""
    figure, axes = plt.subplots(
        1, 3, figsize=(plotting.COLUMN_WIDTH, 1.9), sharey=True, sharex=True, layout="constrained"
    )
    for window, ax in enumerate(axes):
        for place, model, label in models(numbers):
            cells = select(numbers["results"], model=model)
            noises = [cell["noise"] for cell in cells]
            curve(ax, noises, [cell["retrieved"][window] for cell in cells], place, label)
        ax.set(title=f"input {window + 1}", xlabel=r"noise $\sigma$", xticks=[0, 1, 2, 3, 4])
    axes[0].set_ylabel("P(retrieved)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"]
    idp = {cell["noise"]: cell["retrieved"] for cell in select(results, model="idp")}
    found = [
        Claim(
            "IDP follows the three inputs without noise too (P > .8)",
            f"P ≥ {show(lowest(idp[0.0]))}",
            lowest(idp[0.0])["p"] > 0.8,
        ),
        Claim(
            "IDP retrieves each of the three inputs at σ = 1 (P > .9)",
            f"P ≥ {show(lowest(idp[1.0]))}",
            lowest(idp[1.0])["p"] > 0.9,
        ),
        Claim(
            "σ = 4 leaves no well: IDP retrieves none (P < .1)",
            f"P ≤ {show(highest(idp[4.0]))}",
            highest(idp[4.0])["high"] < 0.1,
        ),
    ]
    if not select(results, model="classic"):
        return found
    pulsed = {cell["noise"]: cell["retrieved"] for cell in select(results, model="classic_pulsed")}
    weak = lowest([window for noise in (0.0, 0.5) for window in pulsed[noise]])
    strong = highest(pulsed[1.0])
    constant = highest(
        [window for cell in select(results, model="classic") for window in cell["retrieved"]]
    )
    return [
        *found,
        Claim(
            "classic, pulsed: retrieves each input up to σ = 0.5 (P > .5), none at σ = 1 (P < .1)",
            f"P ≥ {show(weak)}, P ≤ {show(strong)}",
            weak["low"] > 0.5 and strong["high"] < 0.1,
        ),
        Claim(
            "classic, constant: retrieves none at any noise (P < .1)",
            f"P ≤ {show(constant)}",
            constant["high"] < 0.1,
        ),
    ]


EXPERIMENT = Experiment(
    name="unscaled",
    compute=compute,
    draw={"unscaled": draw},
    claims=claims,
    source="studies here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
