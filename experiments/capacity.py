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

import numpy as np
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing, studies
from experiments.claims import Claim, Measured, above, below, claim, near
from experiments.common import Experiment, Sized
from experiments.studies import only, select

TRIALS, NEURONS = Sized(40, 160), Sized(256, 512)
T1, DT = 20.0, 0.05
CORRUPTION = 0.1
CLASSIC_LIMIT = 0.138  # Amit, Gutfreund and Sompolinsky, Phys. Rev. Lett. 55, 1530 (1985)
NOISES = Sized((0.0,), (0.0, 0.25, 0.5))
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
LOADS: Sized[dict[str, tuple[float, ...]]] = Sized(
    dict.fromkeys(NETWORKS, (HIGH,)),  # compiling another takes longer than solving it
    {
        "half": (LOW, 0.1, HIGH, 0.3, 0.4, 0.5, 0.6),
        "equal": (LOW, 0.1, 0.12, 0.14, 0.16, HIGH),
        "none": (LOW, 0.1, 0.12, 0.14, 0.16, HIGH),
        "current": (0.02, LOW, 0.1, HIGH),
    },
)


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    task = hj.Retrieval(
        num_neurons=NEURONS[full], dominant=1.0, start="memory", corruption=CORRUPTION
    )
    cells = [
        fields | {"memory_load": load, "noise": noise}
        for network, (_, fields) in NETWORKS.items()
        for load in LOADS[full][network]
        for noise in NOISES[full]
    ]
    paired = ("model", "background", "strength", "noise")
    results = studies.run(
        task,
        cells,
        trials=trials,
        t1=T1,
        dt=DT,
        paired=paired,
        chunk=studies.CHUNK // 5,  # more memories than elsewhere
    )
    return {
        "settings": studies.settings(task, trials=trials, paired=paired, t1=T1, dt=DT),
        "results": [
            cell | {"retrieved": studies.retrieved(data["final_overlap"])} for cell, data in results
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each noise."""
    noises = sorted({cell["noise"] for cell in numbers["results"]})
    height = 0.9 + 1.15 * len(noises)
    figure, axes = drawing.panels(len(noises), 1, height, letters_at=20, sharex=True, squeeze=False)
    for ax, noise in zip(axes[:, 0], noises, strict=True):
        for place, (label, fields) in enumerate(NETWORKS.values()):
            loads, found = along(numbers, noise, fields)
            drawing.curve(ax, loads, found, place, label)
        label = rf"classic limit {CLASSIC_LIMIT:g} ($\sigma$ = 0)"
        ax.axvline(CLASSIC_LIMIT, color="black", linewidth=0.5, linestyle=":", label=label)
        ax.text(0.62, 0.85, rf"$\sigma$ = {noise:g}", ha="right")
        ax.set(ylabel="P(retrieved)", xscale="log", xticks=[0.02, 0.05, 0.1, 0.2, 0.5])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
    axes[-1, 0].set_xlabel("load $P/N$")
    drawing.legend_below(figure, axes[0, 0], last=0, ncols=2)  # the line of the limit last
    return figure


def along(numbers: dict[str, Any], noise: float, fields: dict[str, Any]) -> tuple[list, list]:
    """Loads, and what was retrieved there."""
    cells = select(numbers["results"], noise=noise, **fields)
    return [cell["memory_load"] for cell in cells], [cell["retrieved"] for cell in cells]


def limit(numbers: dict[str, Any], network: str, noise: float = 0.0) -> Measured:
    """The load at which half of the trials retrieve."""
    return studies.limit(*along(numbers, noise, NETWORKS[network][1]))


def by_crosstalk(background: float, classic: float) -> float:
    """The load a whose crosstalk, b² a (1 + a), is that of the classic network at its limit."""
    return (np.sqrt(1 + 4 * classic / background**2) - 1) / 2


def claims(numbers: dict[str, Any]) -> list[Claim]:
    def at(network: str, load: float) -> dict[str, Any]:
        cell = only(numbers["results"], memory_load=load, noise=0.0, **NETWORKS[network][1])
        return cell["retrieved"]

    half, none, equal = (at(network, HIGH) for network in ("half", "none", "equal"))
    found = [
        claim(
            f"load {HIGH:g} is beyond the classic network ({{}}), not beyond IDP ({{}})",
            below(none, 0.3, "P = {}"),
            above(half, 0.9, "IDP {}"),
        ),
        claim(
            "IDP retrieves less often there if its input favours no memory, b = 1",
            below(equal, half, "P = {}"),
        ),
    ]
    if not numbers["full"]:
        return found
    found.append(
        claim(
            f"load {LOW:g}: the classic network retrieves ({{}}), with the current it does not",
            above(at("none", LOW), 0.9),
            below(at("current", LOW), 0.1, "with the current {}"),
        )
    )
    classic = limit(numbers, "none")
    for network in ("half", "equal"):
        background = NETWORKS[network][1]["background"]
        predicted = Measured(*(by_crosstalk(background, end) for end in classic))
        found.append(
            claim(
                f"IDP, b = {background:g}: half retrieve at the load predicted by crosstalk (±25%)",
                near(
                    limit(numbers, network).over(predicted),
                    1,
                    0.25,
                    f"{limit(numbers, network)}, predicted {predicted}; classic {classic}",
                ),
            )
        )
    noisy = NOISES.full[-1]
    found.append(
        claim(
            f"noise σ = {noisy:g} lowers the limits of IDP (b = 0.5) and of the classic network",
            *(
                below(limit(numbers, network, noisy), limit(numbers, network), "to {} from {}")
                for network in ("half", "none")
            ),
        )
    )
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    classic, half, equal = (limit(numbers, network) for network in ("none", "half", "equal"))
    crosstalk = [by_crosstalk(background, classic.value) for background in (0.5, 1.0)]
    return [
        "Started from a memory with a tenth of the signs flipped, half of the classic networks of "
        f"{numbers['settings']['task']['num_neurons']} neurons retrieve at a load P/N of {classic} "
        "(without noise, without current). An input that holds that memory at weight 1 and all "
        f"others at ½ lets IDP go to {half}; the same input as a current undoes the classic "
        "network at a load of 0.02 already. An input that favours no memory leaves IDP below the "
        f"classic network: {equal}. Crosstalk alone, put at the classic network's limit, predicts "
        f"{crosstalk[0]:.3f} and {crosstalk[1]:.3f}."
    ]


EXPERIMENT = Experiment("capacity", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
