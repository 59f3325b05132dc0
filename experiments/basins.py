"""How far from a memory a network may start, against the number of memories: basins of attraction.

The state starts in memory 1 with a share of its signs flipped; the memory itself, and not its
mirror image, has to be retrieved. The classic network is solved without a current. The input of IDP
holds memory 1 with weight 1 and all others with weight ½. Run alone:
`python -m experiments.basins [--full] [--redraw]`; the same by a file: `hopjax example basins`.
"""

from typing import Any

from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing, studies
from experiments.claims import Claim, Measured, above, below, claim
from experiments.common import Experiment, Sized
from experiments.numbers import proportion
from experiments.protocols import RETRIEVED
from experiments.studies import only, select

TRIALS, NEURONS = Sized(40, 160), 256
T1, DT = 20.0, 0.05
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "classic": ("classic, no current", {"model": "classic", "strength": 0.0}),
    "idp": ("IDP, weight ½ on others", {"model": "idp", "strength": 1.0}),
}
LOADS = Sized((0.1,), (0.02, 0.05, 0.1, 0.2, 0.4))
LOW, MIDDLE, HIGH = 0.02, 0.1, 0.4
CORRUPTIONS = Sized(
    (0.1, 0.3, 0.5), (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
)


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    task = hj.Retrieval(num_neurons=NEURONS, dominant=1.0, background=0.5, start="memory")
    cells = [
        fields | {"memory_load": load, "corruption": corruption}
        for _, fields in NETWORKS.values()
        for load in LOADS[full]
        for corruption in CORRUPTIONS[full]
    ]
    paired = ("model", "strength", "corruption")
    chunk = studies.CHUNK // 2
    results = studies.run(task, cells, trials=trials, t1=T1, dt=DT, paired=paired, chunk=chunk)
    return {
        "settings": studies.settings(task, trials=trials, paired=paired, t1=T1, dt=DT),
        "results": [
            cell | {"retrieved": proportion(data["final_overlap"].to_numpy() > RETRIEVED)}
            for cell, data in results
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each network, a curve for each load."""
    loads = sorted({cell["memory_load"] for cell in numbers["results"]})
    figure, axes = drawing.panels(2, 1, 3.4, sharex=True)
    for ax, (label, fields) in zip(axes, NETWORKS.values(), strict=True):
        for place, load in enumerate(loads):
            drawing.curve(ax, *along(numbers, load, fields), place, f"$P/N$ = {load:g}")
        ax.set_title(label)
        ax.set(ylabel="P(retrieved)", ylim=(-0.05, 1.05))
    axes[-1].set_xlabel("share of the signs flipped at the start")
    drawing.legend_below(figure, axes[0])
    return figure


def along(numbers: dict[str, Any], load: float, fields: dict[str, Any]) -> tuple[list, list]:
    """Shares of flipped signs, and what was retrieved there."""
    cells = select(numbers["results"], memory_load=load, **fields)
    return [cell["corruption"] for cell in cells], [cell["retrieved"] for cell in cells]


def edge(numbers: dict[str, Any], network: str, load: float) -> Measured:
    """The share of flipped signs at which half of the trials retrieve."""
    return studies.limit(*along(numbers, load, NETWORKS[network][1]))


def claims(numbers: dict[str, Any]) -> list[Claim]:
    def at(network: str, corruption: float) -> dict[str, Any]:
        fields = NETWORKS[network][1]
        cell = only(numbers["results"], memory_load=MIDDLE, corruption=corruption, **fields)
        return cell["retrieved"]

    found = [
        claim(
            f"load {MIDDLE:g}: IDP mends 30% of wrong signs more often than the classic network",
            above(at("idp", 0.3), at("classic", 0.3), "P = {}, classic {}"),
        ),
    ]
    if not numbers["full"]:
        return found
    found += [
        claim(
            f"the classic network's basins shrink from load {LOW:g} to {MIDDLE:g}",
            below(edge(numbers, "classic", MIDDLE), edge(numbers, "classic", LOW), "to {} from {}"),
        ),
        claim(
            f"IDP's shrink from load {MIDDLE:g} to {HIGH:g}",
            below(edge(numbers, "idp", HIGH), edge(numbers, "idp", MIDDLE), "to {} from {}"),
        ),
    ]
    return found


EXPERIMENT = Experiment("basins", compute, draw, claims, source="studies here")

if __name__ == "__main__":
    EXPERIMENT.main()
