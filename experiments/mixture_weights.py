"""The weights of the memories in the three inputs, as bars: the first trial and the mean of all.

Run alone: `python -m experiments.mixture_weights [--full] [--redraw]`.
"""

from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.common import Claim, Experiment, proportion, rounded, run_trials, show
from experiments.protocols import NUM_INPUTS, NUM_MEMORIES, SEED, draw_weights, split_key
from hopjax import plotting

QUICK_TRIALS, FULL_TRIALS = 200, 2000


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    weights = run_trials(
        lambda key: draw_weights(split_key(key)[1]), jax.random.key(SEED), trials, "weights"
    )
    dominates = weights.argmax(axis=2) == np.arange(NUM_INPUTS)
    return {
        "settings": {"seed": SEED, "trials": trials, "num_memories": NUM_MEMORIES},
        "one_trial": rounded(weights[0]),
        "low": rounded(np.quantile(weights, 0.1, axis=0)),
        "mean": rounded(weights.mean(axis=0)),
        "high": rounded(np.quantile(weights, 0.9, axis=0)),
        "dominates": proportion(dominates),
    }


def draw(numbers: dict[str, Any]) -> Figure:
    figure, axes = plt.subplots(
        NUM_INPUTS,
        1,
        figsize=(plotting.COLUMN_WIDTH, 3.4),
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    one, low, mean, high = (
        np.array(numbers[name]) for name in ("one_trial", "low", "mean", "high")
    )
    for row, ax in enumerate(axes):
        colours = [plotting.OTHERS_COLOUR] * NUM_MEMORIES
        colours[row] = plotting.COLOURS[row]
        plotting.plot_weights(one[row], ax=ax, color=colours, label="one trial")
        ax.errorbar(
            np.arange(1, NUM_MEMORIES + 1),
            mean[row],
            np.stack([mean[row] - low[row], high[row] - mean[row]]),
            fmt="_",
            color="black",
            markersize=5,
            elinewidth=0.7,
            label="all trials: mean, 10%-90%",
        )
        ax.set(xlabel="" if row < NUM_INPUTS - 1 else r"memory $\mu$", title=f"input {row + 1}")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    dominates = numbers["dominates"]
    return [
        Claim(
            "each mixed input has the memory it is named after as its largest part",
            f"P = {show(dominates)}",
            dominates["p"] == 1.0,
        )
    ]


EXPERIMENT = Experiment(
    name="mixture_weights", compute=compute, draw={"mixture_weights": draw}, claims=claims
)

if __name__ == "__main__":
    EXPERIMENT.main()
