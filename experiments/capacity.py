"""How many memories a network can hold, and what an input adds to that: retrieval against load.

The state starts in memory 1 with a tenth of its signs flipped. The input holds memory 1 with weight
1 and all others with weight b, so that b = 1 favours none. IDP takes it as plasticity, the classic
network as a current or, the textbook's case, not at all. IDP with b = 1 has the classic network's
synapses but for the crosstalk of the random memories in its saliencies.

That crosstalk predicts the limits: each neuron gets a random field of variance b² a (1 + a) from
the other memories at load a = P/N, and the classic network one of variance a. Run alone:
`python -m experiments.capacity [--full] [--redraw]`.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import hopjax as hj
from experiments.common import Claim, Experiment, show
from experiments.studies import (
    CHUNK,
    crossing,
    curve,
    only,
    retrieved,
    run,
    select,
    settings,
)
from hopjax import plotting

QUICK_TRIALS, FULL_TRIALS = 40, 160
QUICK_NEURONS, FULL_NEURONS = 256, 512
T1, DT = 20.0, 0.05
CORRUPTION = 0.1
CLASSIC_LIMIT = 0.138  # Amit, Gutfreund and Sompolinsky, Phys. Rev. Lett. 55, 1530 (1985)
QUICK_NOISES, FULL_NOISES = (0.0,), (0.0, 0.25, 0.5)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "half": ("IDP, $b$ = 0.5", {"model": "idp", "background": 0.5, "strength": 1.0}),
    "none": ("classic, no current", {"model": "classic", "background": 0.5, "strength": 0.0}),
    "current": (
        "classic, current, $b$ = 0.5",
        {"model": "classic", "background": 0.5, "strength": 1.0},
    ),
    "equal": ("IDP, $b$ = 1", {"model": "idp", "background": 1.0, "strength": 1.0}),
}
LOW, HIGH = 0.05, 0.2  # loads below and above the classic limit
QUICK_LOADS = dict.fromkeys(NETWORKS, (HIGH,))  # compiling another takes longer than solving it
FULL_LOADS = {
    "half": (LOW, 0.1, HIGH, 0.3, 0.4, 0.5, 0.6),
    "equal": (LOW, 0.1, 0.12, 0.14, 0.16, HIGH),
    "none": (LOW, 0.1, 0.12, 0.14, 0.16, HIGH),
    "current": (0.02, LOW, 0.1, HIGH),
}


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    task = hj.Retrieval(
        num_neurons=FULL_NEURONS if full else QUICK_NEURONS,
        dominant=1.0,
        start="memory",
        corruption=CORRUPTION,
    )
    cells = [
        fields | {"memory_load": load, "noise": noise}
        for network, (_, fields) in NETWORKS.items()
        for load in (FULL_LOADS if full else QUICK_LOADS)[network]
        for noise in (FULL_NOISES if full else QUICK_NOISES)
    ]
    paired = ("model", "background", "strength", "noise")
    results = run(
        task,
        cells,
        trials=trials,
        t1=T1,
        dt=DT,
        paired=paired,
        chunk=CHUNK // 5,  # more memories than elsewhere
    )
    return {
        "settings": settings(task, trials=trials, paired=paired, t1=T1, dt=DT),
        "results": [
            cell | {"retrieved": retrieved(data["final_overlap"])} for cell, data in results
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each noise."""
    noises = sorted({cell["noise"] for cell in numbers["results"]})
    figure, axes = plt.subplots(
        len(noises),
        1,
        figsize=(plotting.COLUMN_WIDTH, 0.9 + 1.15 * len(noises)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, noise in zip(axes[:, 0], noises, strict=True):
        for place, (label, fields) in enumerate(NETWORKS.values()):
            loads, found = along(numbers, noise, fields)
            curve(ax, loads, found, place, label)
        label = rf"classic limit {CLASSIC_LIMIT:g} ($\sigma$ = 0)"
        ax.axvline(CLASSIC_LIMIT, color="black", linewidth=0.5, linestyle=":", label=label)
        ax.text(0.62, 0.85, rf"$\sigma$ = {noise:g}", ha="right")
        ax.set(ylabel="P(retrieved)", xscale="log", xticks=[0.02, 0.05, 0.1, 0.2, 0.5])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
    axes[-1, 0].set_xlabel("load $P/N$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    order = [*range(1, len(labels)), 0]  # the line of the limit last
    figure.legend(
        [handles[place] for place in order],
        [labels[place] for place in order],
        loc="outside lower center",
        ncols=2,
    )
    return figure


def along(numbers: dict[str, Any], noise: float, fields: dict[str, Any]) -> tuple[list, list]:
    """Loads, and what was retrieved there."""
    cells = select(numbers["results"], noise=noise, **fields)
    return [cell["memory_load"] for cell in cells], [cell["retrieved"] for cell in cells]


def limit(numbers: dict[str, Any], network: str, noise: float = 0.0) -> float:
    """The load at which half of the trials retrieve."""
    loads, found = along(numbers, noise, NETWORKS[network][1])
    return crossing(loads, [cell["p"] for cell in found])


def by_crosstalk(background: float, classic: float) -> float:
    """The load a whose crosstalk, b² a (1 + a), is that of the classic network at its limit."""
    return (np.sqrt(1 + 4 * classic / background**2) - 1) / 2


def claims(numbers: dict[str, Any]) -> list[Claim]:
    def at(network: str, load: float) -> dict[str, Any]:
        cell = only(numbers["results"], memory_load=load, noise=0.0, **NETWORKS[network][1])
        return cell["retrieved"]

    half, none, equal = (at(network, HIGH) for network in ("half", "none", "equal"))
    found = [
        Claim(
            f"load {HIGH:g} is beyond the classic network (P < .3), not beyond IDP (P > .9)",
            f"P = {show(none)} and {show(half)}",
            none["p"] < 0.3 and half["p"] > 0.9,
        ),
        Claim(
            "IDP retrieves less often there if its input favours no memory, b = 1",
            f"P = {show(equal)}",
            equal["high"] < half["low"],
        ),
    ]
    if not numbers["full"]:
        return found
    low, undone = at("none", LOW), at("current", LOW)
    found.append(
        Claim(
            f"load {LOW:g}: the classic network retrieves (P > .9), with the current it does not",
            f"P = {show(low)}, with the current {show(undone)}",
            low["low"] > 0.9 and undone["high"] < 0.1,
        )
    )
    classic = limit(numbers, "none")
    for network in ("half", "equal"):
        background = NETWORKS[network][1]["background"]
        predicted, measured = by_crosstalk(background, classic), limit(numbers, network)
        found.append(
            Claim(
                f"IDP, b = {background:g}: half retrieve at the load predicted by crosstalk (±15%)",
                f"{measured:.3f}, predicted {predicted:.3f}; classic {classic:.3f}",
                abs(measured / predicted - 1) < 0.15,
            )
        )
    noisy = FULL_NOISES[-1]
    found.append(
        Claim(
            f"noise σ = {noisy:g} lowers the limits of IDP (b = 0.5) and of the classic network",
            f"to {limit(numbers, 'half', noisy):.3f} and {limit(numbers, 'none', noisy):.3f}",
            limit(numbers, "half", noisy) < limit(numbers, "half")
            and limit(numbers, "none", noisy) < classic,
        )
    )
    return found


EXPERIMENT = Experiment(
    name="capacity",
    compute=compute,
    draw={"capacity": draw},
    claims=claims,
    source="studies here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
