"""How long an intrusion may last before the network follows it, and whether it comes back.

Input 1 from t = 0 on, interrupted at t = 8 by input 2 for a duration that is swept. Run alone:
`python -m experiments.glitch_duration [--full] [--redraw]`.
"""

from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import hopjax as hj
from experiments.common import Claim, Experiment, show
from experiments.protocols import PULSE, SAVE_EVERY
from experiments.studies import (
    MODELS,
    classic,
    curve,
    grid,
    highest,
    lowest,
    models,
    paper,
    retrieved,
    run,
    select,
    settings,
)
from hopjax import plotting

BEFORE, SOON, LATER = 8.0, 5.0, 10.0  # the first two as in the paper's glitch
QUIET, NOISY = 0.0, 8.0
QUICK_TRIALS, FULL_TRIALS = 40, 300
QUICK_DURATIONS = (1.5, 4.0, 8.0)
FULL_DURATIONS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0)
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
    trials = FULL_TRIALS if full else QUICK_TRIALS
    durations = FULL_DURATIONS if full else QUICK_DURATIONS
    task = paper(shown=(0, 1, 0), onsets=(0.0, BEFORE, BEFORE + durations[0]))
    duration_of = {(0.0, BEFORE, BEFORE + duration): duration for duration in durations}
    cells = [
        cell
        for cell in grid(
            model=tuple(MODELS) if full else ("idp",),
            noise=(QUIET, NOISY) if full else (NOISY,),
            onsets=list(duration_of),
        )
        # A pulse is shorter than its window.
        if cell["model"] != "classic_pulsed" or duration_of[cell["onsets"]] > PULSE
    ]
    paired = ("model", "noise")
    t1 = BEFORE + durations[-1] + LATER
    found = run(task, cells, trials=trials, t1=t1, paired=paired, measures={"glitch": around})
    return {
        "settings": settings(task, trials=trials, paired=paired, before=BEFORE),
        "results": [
            {
                "model": cell["model"],
                "noise": cell["noise"],
                "duration": duration_of[cell["onsets"]],
                **{name: retrieved(data[f"glitch_{name}"]) for name in MEASURED},
            }
            for cell, data in found
        ],
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A row for each question, a column for each noise."""
    noises = sorted({cell["noise"] for cell in numbers["results"]})
    figure, axes = plt.subplots(
        len(MEASURED),
        len(noises),
        figsize=(plotting.COLUMN_WIDTH, 4.6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for column, noise in zip(axes.T, noises, strict=True):
        for ax, name in zip(column, MEASURED, strict=True):
            for place, model, label in models(numbers):
                cells = select(numbers["results"], model=model, noise=noise)
                durations = [cell["duration"] for cell in cells]
                curve(ax, durations, [cell[name] for cell in cells], place, label)
        column[0].set_title(rf"noise $\sigma$ = {noise:g}" if noise else r"no noise, $\sigma$ = 0")
        column[-1].set(xlabel="duration of the glitch\n(time constants)", xticks=range(0, 11, 2))
    for ax, ylabel in zip(axes[:, 0], MEASURED.values(), strict=True):
        ax.set_ylabel(ylabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"]
    idp = select(results, model="idp", noise=NOISY)
    short = lowest([cell["soon"] for cell in idp if cell["duration"] <= IGNORED])
    longest = idp[-1]
    found = [
        Claim(
            f"IDP, σ = {NOISY:g}: forgets every glitch of up to {IGNORED:g} (P > .9)",
            f"P ≥ {show(short)}",
            short["p"] > 0.9,
        ),
        Claim(
            f"IDP, σ = {NOISY:g}: follows an intrusion of {longest['duration']:g} (P > .9)",
            f"P = {show(longest['followed'])}",
            longest["followed"]["p"] > 0.9,
        ),
        Claim(
            f"coming back from it within {SOON:g} is rarer: input 1 does not suppress memory 2",
            f"P = {show(longest['soon'])}, within {LATER:g} {show(longest['later'])}",
            longest["soon"]["high"] < longest["followed"]["low"],
        ),
    ]
    if not select(results, noise=QUIET):
        return found
    quiet, pulsed = (
        select(results, model=model, noise=QUIET)[-1] for model in ("idp", "classic_pulsed")
    )
    loud = highest(
        [cell[name] for cell in classic(select(results, noise=NOISY)) for name in MEASURED]
    )
    return [
        *found,
        Claim(
            "without noise IDP is drawn away by it less often",
            f"P = {show(quiet['followed'])}",
            quiet["followed"]["high"] < longest["followed"]["low"],
        ),
        Claim(
            f"classic, pulsed, no noise: comes back from it within {LATER:g} more often than IDP",
            f"P = {show(pulsed['later'])}, within {SOON:g} {show(pulsed['soon'])}",
            pulsed["later"]["low"] > longest["later"]["high"],
        ),
        Claim(
            f"classic, constant or pulsed, σ = {NOISY:g}: neither memory, ever (P < .1)",
            f"P ≤ {show(loud)}",
            loud["high"] < 0.1,
        ),
    ]


EXPERIMENT = Experiment(
    name="glitch_duration",
    compute=compute,
    draw={"glitch_duration": draw},
    claims=claims,
    source="studies here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
