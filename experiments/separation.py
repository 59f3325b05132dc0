"""Telling two nearly equal memories apart: how much of each memory an input should hold.

Memory 2 is memory 1 with a tenth of its signs changed, and the network is in memory 2. Inputs of
one energy, |u|²/N, are to bring it to memory 1. One that holds memory 1 alone holds most of memory
2 as well; one without any saliency of memory 2, its projection taken out, leaves little of memory
1. The weights of all other memories relative to that of memory 1 are tuned, beside brute force over
that of memory 2. Run alone: `python -m experiments.separation [--full] [--redraw]`.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, Measured, above, below, claim, measured, number, show
from experiments.common import Experiment, Sized
from experiments.numbers import constants, rounded
from hopjax import plotting

NUM_NEURONS = 512
DIFFERENT = 0.1  # share of neurons in which memories 1 and 2 differ
STRENGTH = 3.0  # of the input: the root mean square of u
NOISE = 2.0
DT, T1, SETTLE = 0.05, 10.0, 1.0
SOLVER = hj.ExponentialAdams()
THRESHOLD = 0.95  # of the overlap with memory 1: what has equal parts of both has 0.9
TEMPERATURE = 0.01
SEED = 2025
ALONE, PROJECTED = 0.0, -(1 - 2 * DIFFERENT)  # weights of memory 2

NUM_MEMORIES, STEPS, BATCH = Sized(2, 4), Sized(30, 100), Sized(32, 128)
TRIALS = Sized(150, 2000)
WEIGHTS = Sized(
    (PROJECTED, -0.4, ALONE),
    (PROJECTED, -0.7, -0.6, -0.55, -0.5, -0.45, -0.4, -0.35, -0.3, -0.2, -0.1, ALONE, 0.2),
)


def trial(key: Key[Array, ""], weights: Float[ArrayLike, " others"]) -> hj.Trial:
    """The input's weights of memories 2 and on; that of memory 1 is 1."""
    memory_key, rival_key = jax.random.split(key)
    weights = jnp.append(jnp.ones(1), jnp.asarray(weights))
    memories = hj.random_memories(
        memory_key, num_memories=weights.size, num_neurons=NUM_NEURONS, dtype=jnp.float32
    )
    memories = memories.at[1].set(hj.corrupt(rival_key, memories[0], DIFFERENT))
    u = hj.mixture(memories, weights)
    u = STRENGTH * u / jnp.sqrt(jnp.mean(u**2))
    x0 = STRENGTH * memories[1]
    noise = hj.AdditiveNoise(NOISE, "binomial")
    return hj.Trial(hj.IDPHopfield(memories), u, x0, noise, target=0)


def late(trial: hj.Trial, trajectory: hj.Trajectory) -> dict[str, Float[Array, " both"]]:
    """The overlaps with memories 1 and 2, averaged over the last time."""
    when = trajectory.grid.late(SETTLE)
    return {"overlap": jnp.abs(jnp.mean(trajectory.overlaps[when, :2], axis=0))}


CRITERION = hj.Criterion(THRESHOLD, settle=SETTLE)


def compute(full: bool) -> dict[str, Any]:
    others = NUM_MEMORIES[full] - 1
    tuning = hj.tune(
        trial,
        {"weights": np.zeros(others)},
        loss=hj.RetrievalLoss(temperature=TEMPERATURE),
        key=jax.random.key(SEED),
        t1=T1,
        dt=DT,
        solver=SOLVER,
        trials=BATCH[full],
        steps=STEPS[full],
        verify=TRIALS[full],
        criterion=CRITERION,
    )
    tuned, low, high = tuning.intervals["weights"]
    study = hj.Study(
        trial,
        {"weights": [(weight, *[0.0] * (others - 1)) for weight in WEIGHTS[full]]},
        trials=TRIALS[full],
        key=jax.random.key(SEED + 1),
        t1=T1,
        dt=DT,
        solver=SOLVER,
        criterion=CRITERION,
        reductions={"late": hj.PerTrial(late)},
        paired=["weights"],
    )
    data = study.run()
    cells = [data.isel(weights=place) for place in range(len(WEIGHTS[full]))]
    return {
        "settings": {"num_memories": NUM_MEMORIES[full], "solver": "ExponentialAdams"}
        | constants(
            globals(), "NUM_NEURONS DIFFERENT STRENGTH NOISE THRESHOLD TEMPERATURE DT T1 SEED"
        ),
        "path": rounded(tuning.history.weights),
        "reason": tuning.reason,
        "tuned": {
            "weights": rounded(tuned),
            "low": rounded(low),
            "high": rounded(high),
            "retrieved": interval(tuning.retrieved),
        },
        "brute_force": [
            {
                "weight": weight,
                "retrieved": interval((cell.retrieved, cell.retrieved_low, cell.retrieved_high)),
                "overlaps": rounded(cell.late_overlap.mean("trial")),
            }
            for weight, cell in zip(WEIGHTS[full], cells, strict=True)
        ],
    }


def interval(ends: Iterable[Any]) -> dict[str, float]:
    return {
        name: round(float(end), 4) for name, end in zip(("p", "low", "high"), ends, strict=True)
    }


def draw(numbers: dict[str, Any]) -> Figure:
    figure, axes = drawing.panels(3, 1, 4.4, height_ratios=[1.2, 1.2, 1])
    brute, tuned = numbers["brute_force"], numbers["tuned"]
    xs = [cell["weight"] for cell in brute]
    drawing.curve(axes[0], xs, [cell["retrieved"] for cell in brute], 0, "brute force")
    sides = [abs(number(tuned[end][0]) - tuned["weights"][0]) for end in ("low", "high")]
    drawing.error_bars(
        axes[0],
        tuned["weights"][0],
        [tuned["retrieved"]],
        xerr=np.nan_to_num(sides)[:, None],
        **drawing.look(1, linestyle="-", markersize=4, markerfacecolor=None, label="tuned"),
    )
    axes[0].set_ylabel("P(memory 1 retrieved)")
    axes[0].legend(loc="upper left")
    axes[0].sharex(axes[1])
    axes[0].tick_params(labelbottom=False)
    for memory in range(2):
        axes[1].plot(
            xs,
            [cell["overlaps"][memory] for cell in brute],
            label=f"memory {memory + 1}",
            **drawing.look(memory, markersize=2.5, markerfacecolor=None),
        )
    axes[1].axhline(numbers["settings"]["threshold"], color=plotting.OTHERS_COLOUR, linewidth=0.7)
    axes[1].set(ylabel="overlap $|m|$", xlabel="weight of memory 2 (that of memory 1 is 1)")
    axes[1].legend()
    for memory, path in enumerate(np.transpose(numbers["path"]), start=1):
        axes[2].plot(
            path,
            color=plotting.COLOURS[memory],
            linestyle=plotting.LINE_STYLES[memory],
            label=f"memory {memory + 1}",
        )
    axes[2].set(xlabel="step of tuning", ylabel="weight")
    axes[2].legend(ncols=3, loc="center right")
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    cells = {cell["weight"]: cell["retrieved"] for cell in numbers["brute_force"]}
    tuned, best = numbers["tuned"]["retrieved"], max(cells.values(), key=lambda each: each["p"])
    compared = f"P = {{}}, alone {show(cells[ALONE])}, without {show(cells[PROJECTED])}"
    return [
        claim(
            "tuned weights retrieve memory 1 more often than an input of memory 1 alone, and than "
            "one without memory 2's saliency",
            above(tuned, cells[ALONE], compared),
            above(tuned, cells[PROJECTED], ""),
        ),
        claim(
            "no weight of memory 2 does better by brute force (by .03)",
            below(best, measured(tuned).times(1, 0.03), "P ≤ {}"),
        ),
    ]


def found(numbers: dict[str, Any]) -> list[str]:
    tuned = numbers["tuned"]
    cells = {cell["weight"]: cell["retrieved"] for cell in numbers["brute_force"]}
    weight = Measured(*(tuned[end][0] for end in ("weights", "low", "high")))
    return [
        f"Two memories share {1 - DIFFERENT:.0%} of their signs. To move from the second to the "
        f"first under σ = {NOISE:g}, an input of a given energy should hold {weight} of the second "
        f"for 1 of the first: the first is then retrieved in {show(tuned['retrieved'])}, by an "
        f"input of the first alone in {show(cells[ALONE])}, and by one whose saliency of the "
        f"second is zero (weight {PROJECTED:.1f}) never, {show(cells[PROJECTED])}."
    ]


EXPERIMENT = Experiment("separation", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
