"""Which memories exist and which are stable, over the plane of their saliencies.

Two orthogonal memories, no noise: what theory draws as lines the simulation finds by letting go a
network in each memory, exactly there and slightly beside it. Four neurons are the smallest network
with two orthogonal memories, and as good as any: with self-coupling kept the formulas hold for
every N. Run alone: `python -m experiments.phase_diagram [--full] [--redraw]`.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, claim, every
from experiments.common import Experiment, Sized
from experiments.landscape import INPUTS
from experiments.numbers import constants, rounded
from hopjax import theory

SLOPE = 1.0
# With four neurons every sum is exact in floating point, whatever its order: a network let go
# exactly in a memory stays on its ray, and rounding does not decide what exists.
NUM_NEURONS = 4
ALPHA_MAX = 4.0
CELLS = Sized(25, 121)
DT, T1 = 0.1, 300.0
NUDGE = 1e-3  # of the state along every memory, in units of 1/d
PRESENT = 0.1  # overlap above which a state counts as there

CATEGORIES = (  # by (memory 1, memory 2), each absent 0, saddle 1 or stable 2
    ((0, 0), "no memory"),
    ((2, 0), "only memory 1 exists"),
    ((0, 2), "only memory 2 exists"),
    ((2, 1), "both exist, only 1 stable"),
    ((1, 2), "both exist, only 2 stable"),
    ((2, 2), "both stable"),
)
GROUND = ("#EEEEEE", "#8FBFDC", "#F0B48A", "#C9E0EF", "#F9DEC9", "#A9D8C4")


@eqx.filter_jit
def let_go(
    model: hj.IDPHopfield, weights: Float[Array, "cells 2"], nudge: Float[Array, " N"]
) -> Float[Array, "cells memories 2"]:
    """|overlaps| at the end, for each saliency and each memory to start in."""

    def run(weight, memory):
        x0 = weight[memory] * model.memories[memory] + nudge
        u = hj.mixture(model.memories, weight)
        trajectory = hj.solve(model, u, x0, t1=T1, dt=DT, save_every=T1)
        return jnp.abs(trajectory.overlaps[-1])

    both = jax.vmap(run, (None, 0))
    return jax.vmap(both, (0, None))(weights, jnp.arange(2))


def simulate(weights: np.ndarray) -> np.ndarray:
    """Of each memory: absent 0, saddle 1, stable 2; for each pair of saliencies."""
    memories = hj.orthogonal_memories(num_memories=2, num_neurons=NUM_NEURONS, dtype=jnp.float32)
    model = hj.IDPHopfield(memories, hj.Tanh(SLOPE), self_coupling=True)
    # One neuron pushed: its state has equal parts along all memories and outside their plane.
    nudge = NUM_NEURONS * NUDGE / SLOPE * jnp.eye(1, NUM_NEURONS, dtype=jnp.float32)[0]
    alpha = jnp.asarray(weights, jnp.float32)
    # Zero times the nudge: one compilation serves both.
    beside, exact = (np.asarray(let_go(model, alpha, size * nudge)) for size in (1.0, 0.0))
    own, other = beside[:, [0, 1], [0, 1]], beside[:, [0, 1], [1, 0]]
    exists = exact[:, [0, 1], [0, 1]] > PRESENT
    stays = (own > PRESENT) & (own > other)
    return exists.astype(int) + (exists & stays)


def predict(weights: np.ndarray) -> np.ndarray:
    """The same by theory."""
    exists, stays = map(np.asarray, _predict(jnp.asarray(weights, jnp.float32)))
    return exists.astype(int) + (exists & stays)


@jax.jit
def _predict(alpha):
    activation = hj.Tanh(SLOPE)
    exists = alpha > theory.existence_threshold(activation)
    return exists, alpha > theory.stability_threshold(alpha[:, ::-1], activation)


def slowest_rate(weights: np.ndarray) -> np.ndarray:
    """The smallest |growth rate| of those that decide: what is slower than 1/T is not seen.

    These are the rates at the origin along each memory, dα − 1, and those at each memory along
    the other, α_ν ψ'(z) − 1.
    """
    return np.asarray(_slowest_rate(jnp.asarray(weights, jnp.float32)))


@jax.jit
def _slowest_rate(alpha):
    activation = hj.Tanh(SLOPE)
    origin = SLOPE * alpha - 1
    amplitude = theory.equilibrium_amplitude(alpha, activation)
    at_memory = alpha[:, ::-1] * activation.derivative(amplitude) - 1
    at_memory = jnp.where(amplitude > 0, at_memory, jnp.inf)
    return jnp.min(jnp.abs(jnp.concatenate([origin, at_memory], axis=1)), axis=1)


def resolution() -> float:
    """The slowest rate that is seen: growth by it takes the nudge to 10/d within the time given."""
    return math.log(10 / NUDGE) / T1


def compute(full: bool) -> dict[str, Any]:
    cells = CELLS[full]
    centres = (np.arange(cells) + 0.5) * ALPHA_MAX / cells
    weights = np.stack([part.ravel() for part in np.meshgrid(centres, centres)], axis=1)
    found, expected = (category(kinds) for kinds in (simulate(weights), predict(weights)))
    slowest = slowest_rate(weights)
    resolved = slowest > resolution()
    agree = found == expected
    return {
        "settings": {"self_coupling": True, "cells": cells}
        | constants(globals(), "NUM_NEURONS SLOPE ALPHA_MAX DT T1 NUDGE PRESENT"),
        "theory": lines(),
        "resolution": round(resolution(), 4),
        # A row for each α₂ from below, a digit for each α₁: the place in CATEGORIES, 9 for none.
        "found": ["".join(map(str, row)) for row in found.reshape(cells, cells)],
        "counts": {
            "resolved": int(resolved.sum()),
            "resolved_agree": int((agree & resolved).sum()),
            "close": int((~resolved).sum()),
            "close_agree": int((agree & ~resolved).sum()),
        },
        "largest_rate_missed": round(float(slowest[~agree].max(initial=0)), 4),
    }


def lines() -> dict[str, Any]:
    """The thresholds: of existence, and of stability beside each competitor."""
    activation = hj.Tanh(SLOPE)
    exists = float(theory.existence_threshold(activation))
    competitor = np.linspace(exists, ALPHA_MAX, 200)
    stable = theory.stability_threshold(competitor, activation)
    return {"exists": exists, "competitor": rounded(competitor), "stable": rounded(stable)}


def category(kinds: np.ndarray) -> np.ndarray:
    places = np.full(len(kinds), 9)
    for place, (pair, _) in enumerate(CATEGORIES):
        places[(kinds == pair).all(axis=1)] = place
    return places


def claims(numbers: dict[str, Any]) -> list[Claim]:
    counts = numbers["counts"]
    found = "".join(numbers["found"])
    kinds = {str(place) for place in range(len(CATEGORIES))}
    return [
        claim(
            "memories exist and are stable as predicted, wherever it shows in time "
            f"(|rate| > {numbers['resolution']:.3f})",
            every(
                counts["resolved_agree"],
                counts["resolved"],
                f"{{}} of {{}} cells; slower {counts['close_agree']} of {counts['close']}, missed "
                f"|rate| ≤ {numbers['largest_rate_missed']:.3f}",
            ),
        ),
        claim(
            "all six answers occur, and no other",
            every(len(kinds & set(found)), len(kinds), "{} of {} answers"),
            every(len(kinds & set(found)), len(set(found)), "of {1} that occur"),
        ),
    ]


PLACES = (  # of the names in the picture: centre and angle
    ((0.5, 0.5), 0),
    ((2.5, 0.5), 0),
    ((0.5, 2.5), 90),
    ((3.13, 1.2), 0),
    ((1.2, 3.13), 90),
    ((2.9, 2.9), 0),
)


def draw(numbers: dict[str, Any]) -> Figure:
    """What the simulation found as ground, what theory says as lines."""
    figure, ax = drawing.panels(1, 1, 3.75)
    found = np.array([list(map(int, row)) for row in numbers["found"]])
    found = np.where(found < len(GROUND), found, len(GROUND))
    ax.imshow(
        found,
        cmap=ListedColormap([*GROUND, "black"]),
        vmin=-0.5,
        vmax=len(GROUND) + 0.5,
        extent=(0, ALPHA_MAX, 0, ALPHA_MAX),
        origin="lower",
        interpolation="nearest",
    )
    draw_theory(ax, numbers["theory"])
    for ((x, y), angle), (_, name) in zip(PLACES, CATEGORIES, strict=True):
        ax.text(x, y, name, rotation=angle, ha="center", va="center", fontsize=6.5)
    for letter, (x, y) in zip("abcd", INPUTS, strict=True):
        ax.plot(x, y, "o", color="black", markersize=3)
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 6.5}
        ax.annotate(f"({letter})", (x, y), (3.5, 0), **beside)
    ax.set(
        xlim=(0, ALPHA_MAX),
        ylim=(0, ALPHA_MAX),
        xlabel=r"saliency $\alpha_1$ of memory 1 (units of $1/d$)",
        ylabel=r"saliency $\alpha_2$ of memory 2 (units of $1/d$)",
        xticks=range(5),
        yticks=range(5),
        aspect="equal",
    )
    ax.spines[["top", "right"]].set_visible(True)
    cells = numbers["settings"]["cells"]
    drawing.legend_below(
        figure,
        ax,
        title=f"colour: simulation of {cells} × {cells} pairs; lines: theory",
        columnspacing=1.2,
        handlelength=1.8,
        title_fontsize=6.5,
    )
    return figure


def draw_theory(ax: Axes, lines: dict[str, Any]) -> None:
    ax.axvline(lines["exists"], color="black", linewidth=0.8, linestyle="--")
    ax.axhline(lines["exists"], color="black", linewidth=0.8, linestyle="--", label="exists above")
    ax.plot(lines["stable"], lines["competitor"], color="black", linewidth=1.1)
    label = "stable above"
    ax.plot(lines["competitor"], lines["stable"], color="black", linewidth=1.1, label=label)
    ax.plot([], [], "o", color="black", markersize=3, label="landscapes (a) to (d)")


EXPERIMENT = Experiment("phase_diagram", compute, draw, claims)

if __name__ == "__main__":
    EXPERIMENT.main()
