"""The weights of the memories in the three inputs, as bars: the first trial and the mean of all.

Run alone: `python -m experiments.mixture_weights [--full] [--redraw]`.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, claim, every
from experiments.common import Experiment, Sized
from experiments.numbers import proportion, rounded
from experiments.protocols import NUM_INPUTS, NUM_MEMORIES, SEED, SEQUENCE
from hopjax import plotting

TRIALS = Sized(200, 2000)


def draw_weights(key: Key[Array, ""]) -> Float[Array, "3 P"]:
    """Those of a trial: the saliencies of its inputs with memories that have no overlap."""
    task = SEQUENCE.task(memories="orthogonal")
    trial = task(jax.random.split(key)[0])
    return jax.vmap(trial.model.saliency)(trial.inputs.values)


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    weights = hj.map_trials(draw_weights, key=jax.random.key(SEED), trials=trials, label="weights")
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
    figure, axes = drawing.panels(NUM_INPUTS, 1, 3.4, sharex=True, sharey=True)
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
            drawing.sides(mean[row], low[row], high[row]),
            fmt="_",
            color="black",
            markersize=5,
            elinewidth=0.7,
            label="all trials: mean, 10%-90%",
        )
        ax.set(xlabel="" if row < NUM_INPUTS - 1 else r"memory $\mu$", title=f"input {row + 1}")
    drawing.legend_below(figure, axes[1], ncols=2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    dominates = numbers["dominates"]
    return [
        claim(
            "each mixed input has the memory it is named after as its largest part",
            every(dominates["count"], dominates["trials"]),
        )
    ]


EXPERIMENT = Experiment("mixture_weights", compute, draw, claims)

if __name__ == "__main__":
    EXPERIMENT.main()
