"""The sequence with weights that are not scaled up, and a previous memory that is hardly shown.

The dominant memory is held as strongly as memories in the noise theory, not seven times more. Run
alone: `python -m experiments.unscaled [--full] [--redraw]`.
"""

from typing import Any

from matplotlib.figure import Figure

from experiments import drawing, studies
from experiments.claims import Claim, above, below, claim, show
from experiments.common import Experiment, Sized
from experiments.studies import WINDOW, only, select

TRIALS = Sized(40, 300)
PAPER_NOISES = (0.0, 0.5, 1.0, 2.0, 4.0)
MORE_NOISES = (0.25, 0.75, 1.25, 1.5, 1.75, 2.25, 2.5, 3.0)
NOISES = Sized(PAPER_NOISES, tuple(sorted(PAPER_NOISES + MORE_NOISES)))
SOLVED = Sized(("idp",), tuple(studies.MODELS))


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    cells = studies.grid(model=SOLVED[full], noise=NOISES[full])
    task = studies.paper(
        onsets=(0.0, WINDOW, 2 * WINDOW),
        shown=(0, 1, 2),
        previous=(0.05, 0.2),
        total_weight=None,
        law="binomial",
    )
    paired = ("model", "noise")
    return {
        "settings": studies.settings(task, trials=trials, paired=paired, **studies.OF_LONG_STEPS),
        "results": [
            cell | {"retrieved": retrieved}
            for cell, retrieved in studies.at_the_ends(
                task, cells, trials=trials, t1=3 * WINDOW, paired=paired
            )
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each window: how often its memory is retrieved at its end."""
    figure, axes = drawing.panels(1, 3, 1.9, sharey=True, sharex=True)
    for window, ax in enumerate(axes):
        for place, model, label in studies.models(numbers):
            cells = select(numbers["results"], model=model)
            noises = [cell["noise"] for cell in cells]
            drawing.curve(ax, noises, [cell["retrieved"][window] for cell in cells], place, label)
        ax.set(title=f"input {window + 1}", xlabel=r"noise $\sigma$", xticks=[0, 1, 2, 3, 4])
    axes[0].set_ylabel("P(retrieved)")
    drawing.legend_below(figure, axes[0], columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"]
    idp = {cell["noise"]: cell["retrieved"] for cell in select(results, model="idp")}
    found = [
        claim("IDP follows the three inputs without noise too ({})", above(idp[0.0], 0.75)),
        claim("IDP retrieves each of the three inputs at σ = 1 ({})", above(idp[1.0], 0.9)),
        claim("σ = 4 leaves no well: IDP retrieves none ({})", below(idp[4.0], 0.1)),
    ]
    if not select(results, model="classic"):
        return found
    pulsed = {cell["noise"]: cell["retrieved"] for cell in select(results, model="classic_pulsed")}
    constant = [window for cell in select(results, model="classic") for window in cell["retrieved"]]
    return [
        *found,
        claim(
            "classic, pulsed: retrieves each input up to σ = 0.5 ({}), none at σ = 1 ({})",
            above(pulsed[0.0] + pulsed[0.5], 0.5),
            below(pulsed[1.0], 0.1),
        ),
        claim("classic, constant: retrieves none at any noise ({})", below(constant, 0.1)),
    ]


def found(numbers: dict[str, Any]) -> list[str]:
    def third(noise: float, model: str = "idp") -> str:
        return show(only(numbers["results"], model=model, noise=noise)["retrieved"][2])

    return [
        "With weights as drawn, not scaled up, and the previous memory all but left out of the "
        f"input, IDP needs no noise, {third(0.0)} retrieve the third input, but is best near "
        f"σ = 1, {third(1.0)} there and {third(1.25)} at 1.25. Half do at σ = 2, none at 3: "
        f"{third(2.0)} and {third(3.0)}. The classic network with a pulse keeps up to σ = 0.5 "
        f"(third input: {third(0.5, 'classic_pulsed')}) and retrieves nothing at 1."
    ]


EXPERIMENT = Experiment("unscaled", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
