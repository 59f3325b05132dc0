"""How long an intrusion may last before the network follows it, and whether it comes back.

Input 1 from t = 0 on, interrupted at t = 8 by input 2 for a duration that is swept. Run alone:
`python -m experiments.glitch_duration [--full] [--redraw]`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing, studies
from experiments.claims import Claim, above, below, claim, show
from experiments.common import Experiment, Sized
from experiments.protocols import PULSE, SAVE_EVERY
from experiments.studies import MODELS, select

BEFORE, SOON, LATER = 8.0, 5.0, 10.0  # the first two as in the paper's glitch
QUIET, NOISY = 0.0, 8.0
TRIALS = Sized(40, 300)
DURATIONS = Sized((1.5, 4.0, 8.0), (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0))
SOLVED, NOISES = Sized(("idp",), tuple(MODELS)), Sized((NOISY,), (QUIET, NOISY))
IGNORED = 2.0  # the paper's
MEASURED = {
    "followed": "P(memory 2\nat the glitch's end)",
    "soon": f"P(memory 1\n{SOON:g} after the glitch)",
    "later": f"P(memory 1\n{LATER:g} after the glitch)",
}


def around(trial: hj.Trial, trajectory: hj.Trajectory) -> dict[str, Float[Array, ""]]:
    """|m_2| at the glitch's end, |m_1| soon and later after it."""
    onsets = trial.inputs.onsets  # of the inputs or, where they are pulses, of their ends too
    end = jnp.round(onsets[2 * len(onsets) // 3] / SAVE_EVERY).astype(int)
    strength = jnp.abs(trajectory.overlaps)
    return {
        "followed": strength[end, 1],
        "soon": strength[end + round(SOON / SAVE_EVERY), 0],
        "later": strength[end + round(LATER / SAVE_EVERY), 0],
    }


def compute(full: bool) -> dict[str, Any]:
    trials, durations = TRIALS[full], DURATIONS[full]
    task = studies.paper(shown=(0, 1, 0), onsets=(0.0, BEFORE, BEFORE + durations[0]))
    duration_of = {(0.0, BEFORE, BEFORE + duration): duration for duration in durations}
    cells = [
        cell
        for cell in studies.grid(model=SOLVED[full], noise=NOISES[full], onsets=list(duration_of))
        # A pulse is shorter than its window.
        if cell["model"] != "classic_pulsed" or duration_of[cell["onsets"]] > PULSE
    ]
    paired = ("model", "noise")
    t1 = BEFORE + durations[-1] + LATER
    measures: dict[str, studies.Measure] = {"glitch": around}
    found = studies.run(task, cells, trials=trials, t1=t1, paired=paired, measures=measures)
    return {
        "settings": studies.settings(task, trials=trials, paired=paired, before=BEFORE),
        "results": [
            {
                "model": cell["model"],
                "noise": cell["noise"],
                "duration": duration_of[cell["onsets"]],
                **{name: studies.retrieved(data[f"glitch_{name}"]) for name in MEASURED},
            }
            for cell, data in found
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A row for each question, a column for each noise."""
    noises = sorted({cell["noise"] for cell in numbers["results"]})
    figure, axes = drawing.panels(
        len(MEASURED), len(noises), 4.6, sharex=True, sharey=True, squeeze=False
    )
    for column, noise in zip(axes.T, noises, strict=True):
        for ax, name in zip(column, MEASURED, strict=True):
            for place, model, label in studies.models(numbers):
                cells = select(numbers["results"], model=model, noise=noise)
                durations = [cell["duration"] for cell in cells]
                drawing.curve(ax, durations, [cell[name] for cell in cells], place, label)
        column[0].set_title(drawing.title_of_noise(noise))
        column[-1].set(xlabel="duration of the glitch\n(time constants)", xticks=range(0, 11, 2))
    for ax, ylabel in zip(axes[:, 0], MEASURED.values(), strict=True):
        ax.set_ylabel(ylabel)
    drawing.legend_below(figure, axes[0, 0], columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"]
    idp = select(results, model="idp", noise=NOISY)
    longest = idp[-1]
    found = [
        claim(
            f"IDP, σ = {NOISY:g}: forgets every glitch of up to {IGNORED:g} ({{}})",
            above([cell["soon"] for cell in idp if cell["duration"] <= IGNORED], 0.9),
        ),
        claim(
            f"IDP, σ = {NOISY:g}: follows an intrusion of {longest['duration']:g} ({{}})",
            above(longest["followed"], 0.9),
        ),
        claim(
            f"coming back from it within {SOON:g} is rarer: input 1 does not suppress memory 2",
            below(
                longest["soon"],
                longest["followed"],
                f"P = {{}}, within {LATER:g} {show(longest['later'])}",
            ),
        ),
    ]
    if not select(results, noise=QUIET):
        return found
    quiet, pulsed = (
        select(results, model=model, noise=QUIET)[-1] for model in ("idp", "classic_pulsed")
    )
    loud = [
        cell[name] for cell in studies.classic(select(results, noise=NOISY)) for name in MEASURED
    ]
    return [
        *found,
        claim(
            "without noise IDP is drawn away by it less often",
            below(quiet["followed"], longest["followed"], "P = {}"),
        ),
        claim(
            f"classic, pulsed, no noise: comes back from it within {LATER:g} more often than IDP",
            above(
                pulsed["later"],
                longest["later"],
                f"P = {{}}, within {SOON:g} {show(pulsed['soon'])}",
            ),
        ),
        claim(
            f"classic, constant or pulsed, σ = {NOISY:g}: neither memory, ever ({{}})",
            below(loud, 0.1),
        ),
    ]


def found(numbers: dict[str, Any]) -> list[str]:
    def at(name: str, duration: float, model: str = "idp", noise: float = NOISY) -> str:
        cells = select(numbers["results"], model=model, noise=noise, duration=duration)
        return show(*(cell[name] for cell in cells))

    return [
        f"Under noise of σ = {NOISY:g} IDP forgets intrusions of up to 2 (memory 1 again {SOON:g} "
        f"after one of 2: {at('soon', 2.0)}), follows those of 4 in {at('followed', 4.0)} and of "
        f"10 in {at('followed', 10.0)}, and then comes back slowly: {at('soon', 10.0)} after "
        f"{SOON:g}, {at('later', 10.0)} after {LATER:g}. Without noise the classic network with a "
        f"pulse does better then, {at('later', 10.0, 'classic_pulsed', QUIET)} after {LATER:g}, "
        f"but is never back in memory 1 within {SOON:g} of an intrusion of 2, "
        f"{at('soon', 2.0, 'classic_pulsed', QUIET)}."
    ]


EXPERIMENT = Experiment(
    "glitch_duration", compute, draw, claims, source="studies here", found=found
)

if __name__ == "__main__":
    EXPERIMENT.main()
