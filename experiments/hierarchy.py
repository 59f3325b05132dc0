"""Which memories exist, which are stable and how deep they lie, as their saliency grows.

Theory for orthogonal memories beside equilibria that Newton's method finds in networks of
orthogonal and of random memories, self-coupling kept. Run alone:
`python -m experiments.hierarchy [--full] [--redraw]`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, below, claim, every
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import constants, proportion, rounded
from hopjax import plotting, theory

SLOPE = 1.0  # the paper's; at d = 10 all curves are steps
COMPETITOR = 3.5  # saliency of memory 2
BACKGROUND = 0.5  # of the others
NUM_NEURONS, NUM_MEMORIES = 1024, 6
SALIENCIES = (1.2, 3.5)  # range of those of random memories
SEED = 2025

CURVE = np.linspace(0.25, 4, 161)  # saliencies of memory 1
STRIDE = Sized(16, 4)  # between those that are searched for numerically
NETWORKS = Sized(8, 100)


def orthogonal(saliencies: np.ndarray) -> dict[str, Any]:
    """Memory 1 at growing saliency beside its competitor, as `find_memory` finds it."""
    activation = hj.Tanh(SLOPE)
    memories = hj.orthogonal_memories(num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS)
    model = hj.IDPHopfield(memories, activation, self_coupling=True)
    weights = np.full((len(saliencies), NUM_MEMORIES), BACKGROUND)
    weights[:, 0], weights[:, 1] = saliencies, COMPETITOR
    kinds, amplitudes, energies = [], [], []
    for u in hj.mixture(memories, weights):
        found = theory.find_memory(model, u, 0)
        kinds.append(theory.classify(model, u, found, memory=0))
        amplitudes.append(np.mean(np.abs(found.state)))
        energies.append(float(found.energy) / NUM_NEURONS)
    exists = saliencies > np.asarray(theory.existence_threshold(activation))
    stable = saliencies > np.asarray(theory.stability_threshold(COMPETITOR, activation))
    predicted = np.where(stable & exists, "stable", np.where(exists, "saddle", "absent"))
    return {
        "saliency": rounded(saliencies),
        "kind": kinds,
        "predicted_kind": predicted.tolist(),
        "amplitude": rounded(amplitudes, 6),
        "energy": rounded(energies, 6),
    }


@jax.jit
def draw_network(key):
    """Random memories (P, N), a mixed input (N,) and its saliencies (P,)."""
    memory_key, weight_key = jax.random.split(key)
    memories = hj.random_memories(memory_key, num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS)
    low, high = SALIENCIES
    weights = jax.random.uniform(weight_key, (NUM_MEMORIES,), minval=low, maxval=high)
    u = hj.mixture(memories, weights)
    return memories, u, memories @ u / NUM_NEURONS


def random(networks: int) -> dict[str, Any]:
    """Saliency and depth of the memories that exist, in networks of random memories."""
    saliency, energy, ordered = [], [], []
    for key in jax.random.split(jax.random.key(SEED), networks):
        memories, u, alpha = draw_network(key)
        model = hj.IDPHopfield(memories, hj.Tanh(SLOPE), self_coupling=True)
        alpha = np.asarray(alpha)
        found = [theory.find_memory(model, u, memory) for memory in range(NUM_MEMORIES)]
        kinds = [theory.classify(model, u, each, memory=m) for m, each in enumerate(found)]
        there = np.array([kind != "absent" for kind in kinds])
        depth = np.array([float(each.energy) / NUM_NEURONS for each in found])
        saliency += alpha[there].tolist()
        energy += depth[there].tolist()
        ordered.append(int(np.argmin(np.where(there, depth, 0))) == int(np.argmax(alpha)))
    return {
        "saliency": rounded(saliency),
        "energy": rounded(energy),
        "deepest_is_most_salient": proportion(np.array(ordered)),
    }


def predict() -> dict[str, Any]:
    """The curves and thresholds of theory, and the graphical construction."""
    activation = hj.Tanh(SLOPE)
    z = np.linspace(0, 3, 61)
    exists = float(theory.existence_threshold(activation))
    stable = float(theory.stability_threshold(COMPETITOR, activation))
    construction = [0.7, exists, stable, 2.5]
    # All at once: one shape, one compilation.
    amplitude = theory.equilibrium_amplitude(np.append(CURVE, construction), activation)
    return {
        "construction": {
            "saliency": rounded(construction),
            "label": ["0.7", "$1/d$", r"$\alpha_\mathrm{stab}$", "2.5"],
            "z": rounded(z),
            "activity": rounded(activation(jnp.asarray(z))),
            "amplitude": rounded(amplitude[CURVE.size :]),
        },
        "theory": {
            "saliency": rounded(CURVE),
            "amplitude": rounded(amplitude[: CURVE.size], 6),
            "energy": rounded(theory.well_energy(CURVE, activation), 6),
            "mixture_energy": rounded(theory.mixture_energy(CURVE, activation)),
            "existence": rounded(exists),
            "stability": rounded(stable),
            "mixture_stability": rounded(theory.mixture_stability_threshold(activation)),
        },
    }


def search(full: bool) -> dict[str, Any]:
    """Where the flow and Newton's method lead."""
    return {
        "orthogonal": orthogonal(CURVE[:: STRIDE[full]]),
        "random": random(NETWORKS[full]),
    }


def compute(full: bool) -> dict[str, Any]:
    predicted, found = side_by_side(predict, lambda: search(full))
    settings = {"trials": NETWORKS[full], "random_saliencies": SALIENCIES}
    settings |= constants(globals(), "SEED SLOPE COMPETITOR BACKGROUND NUM_NEURONS NUM_MEMORIES")
    return {"settings": settings, **predicted, **found}


MARKERS = {"stable": ("o", plotting.COLOURS[0]), "saddle": ("X", plotting.COLOURS[1])}


def draw(numbers: dict[str, Any]) -> Figure:
    figure, axes = plt.subplot_mosaic(
        [["construction", "amplitude"], ["depth", "depth"]],
        figsize=(plotting.COLUMN_WIDTH, 4.0),
        height_ratios=[1, 1.25],
        layout="constrained",
    )
    drawing.letters(axes.values(), 13)
    draw_construction(axes["construction"], numbers["construction"])
    draw_amplitude(axes["amplitude"], numbers)
    draw_depth(axes["depth"], numbers)
    drawing.legend_below(figure, axes["amplitude"])
    return figure


def draw_construction(ax: Axes, construction: dict[str, Any]) -> None:
    z, activity = np.array(construction["z"]), np.array(construction["activity"])
    ax.plot(z, z, color="black", linewidth=0.8)
    rows = zip(*(construction[name] for name in ("saliency", "amplitude", "label")), strict=True)
    for place, (saliency, amplitude, label) in enumerate(rows):
        colour = plt.get_cmap("viridis")(0.85 - 0.27 * place)
        ax.plot(z, saliency * activity, color=colour, linestyle="--" if "$" in label else "-")
        ax.text(3.05, saliency * activity[-1], label, color=colour, va="center")
        if amplitude > 0:
            ax.plot(amplitude, amplitude, "o", color=colour, markersize=3.5)
    ax.text(3.05, 3.0, "$z$", va="center")
    ax.set(xlabel="amplitude $z$", ylabel=r"$\alpha\,\psi(z)$", xlim=(0, 3), ylim=(0, 3.1))
    ax.set_title(r"$z = \alpha\,\psi(z)$, thresholds dashed")


def draw_points(ax: Axes, orthogonal: dict[str, Any], quantity: str) -> None:
    kinds = np.array(orthogonal["kind"])
    for kind, (marker, colour) in MARKERS.items():
        chosen = kinds == kind
        points = (np.array(orthogonal[name])[chosen] for name in ("saliency", quantity))
        ax.plot(*points, marker, color=colour, markersize=3, label=f"found: {kind}")


def draw_thresholds(ax: Axes, numbers: dict[str, Any]) -> None:
    for threshold in ("existence", "stability"):
        ax.axvline(numbers["theory"][threshold], color="black", linewidth=0.6, linestyle=":")


def draw_amplitude(ax: Axes, numbers: dict[str, Any]) -> None:
    curve = numbers["theory"]["saliency"], numbers["theory"]["amplitude"]
    ax.plot(*curve, color="black", linewidth=0.8, label="theory")
    draw_points(ax, numbers["orthogonal"], "amplitude")
    draw_thresholds(ax, numbers)
    ax.text(0.62, 2.9, "absent", rotation=90, ha="center", va="center")
    middle = (numbers["theory"]["existence"] + numbers["theory"]["stability"]) / 2
    ax.text(middle, 2.9, "saddle", rotation=90, ha="center", va="center")
    ax.text(2.6, 3.3, "stable", ha="center", va="center")
    ax.set(xlabel=r"saliency $\alpha$", ylabel="amplitude $z$", xlim=(0.25, 4.1), ylim=(0, 4.1))
    ax.set_title(rf"beside a memory of {numbers['settings']['competitor']:g}")


def draw_depth(ax: Axes, numbers: dict[str, Any]) -> None:
    predicted = numbers["theory"]
    found = numbers["random"]["saliency"], numbers["random"]["energy"]
    grey = plotting.OTHERS_COLOUR
    ax.plot(*found, "o", color=grey, markersize=2.5, label="random memories")
    ax.plot(predicted["saliency"], predicted["energy"], color="black", linewidth=0.8)
    saliency = np.array(predicted["saliency"])
    mixture = np.array(predicted["mixture_energy"])
    stable = saliency > predicted["mixture_stability"]
    mixture, colour = np.where(stable, mixture, np.nan), plotting.COLOURS[2]
    ax.plot(saliency, mixture, color=colour, linestyle="--", label="theory: mixture of three")
    draw_points(ax, numbers["orthogonal"], "energy")
    draw_thresholds(ax, numbers)
    ax.set(xlabel=r"saliency $\alpha$", ylabel="energy per neuron", xlim=(0.25, 4.1))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[:2], labels[:2], loc="lower left", bbox_to_anchor=(0.32, 0.0))


def claims(numbers: dict[str, Any]) -> list[Claim]:
    found = numbers["orthogonal"]
    agree = np.array(found["kind"]) == np.array(found["predicted_kind"])
    exists = np.array(found["predicted_kind"]) != "absent"
    stride = len(numbers["theory"]["saliency"]) // (len(agree) - 1)
    differences = {
        quantity: np.max(
            np.abs(np.subtract(found[quantity], numbers["theory"][quantity][::stride]))[exists]
        )
        for quantity in ("amplitude", "energy")
    }
    depth = np.array(found["energy"])[exists]
    return [
        claim(
            "a memory exists above 1/d and is stable above α_stab",
            every(int(agree.sum()), agree.size, "{} of {} equilibria are of the predicted kind"),
        ),
        claim(
            "amplitude and depth are as predicted (orthogonal memories, ±2e-5)",
            below(differences["amplitude"], 2e-5, "within {:.1e}", symbol=""),
            below(differences["energy"], 2e-5, "{:.1e}", symbol=""),
        ),
        claim(
            "the more salient a memory, the deeper its well",
            every(
                int(np.sum(np.diff(depth) < 0)),
                depth.size - 1,
                f"depth grows in {{}} of {{}} steps between {depth.size} saliencies",
            ),
        ),
        claim(
            "random memories: the most salient one is the deepest ({})",
            above(numbers["random"]["deepest_is_most_salient"], 0.6),
        ),
    ]


EXPERIMENT = Experiment("hierarchy", compute, draw, claims)

if __name__ == "__main__":
    EXPERIMENT.main()
