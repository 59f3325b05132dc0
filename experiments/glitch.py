"""The paper's glitch: a short intrusion of input 2 into input 1, then lasting changes.

The inputs 1, 2, 1, 2, 3 are shown on [0, 8), [8, 10), [10, 15), [15, 19), [19, 25]. Run alone:
`python -m experiments.glitch [--full] [--redraw]`.
"""

from typing import Any

import numpy as np

from experiments.common import Claim, Experiment, proportion, rounded, show
from experiments.protocols import (
    GLITCH,
    KINDS,
    NOISE,
    RETRIEVED,
    at,
    draw_ensemble,
    draw_one_trial,
    run_protocol,
    settings,
    summarise,
)

QUICK_TRIALS, FULL_TRIALS = 200, 2000


def events(overlaps: np.ndarray) -> dict[str, Any]:
    """Which trials (trials,) did what the experiment asks about."""
    strength = np.abs(overlaps)
    return {
        "memory 1 before the glitch (t = 7.9)": strength[:, at(7.9), 0] > RETRIEVED,
        "memory 2 during the glitch": (strength[:, at(8.1) : at(10.0) + 1, 1] > RETRIEVED).any(1),
        "memory 1 after the glitch (t = 14.9)": strength[:, at(14.9), 0] > RETRIEVED,
        "memory 2 in its lasting window (15, 19]": (
            strength[:, at(15.1) : at(19.0) + 1, 1] > RETRIEVED
        ).any(1),
        "memory 3 at the end (t = 25)": strength[:, at(25.0), 2] > RETRIEVED,
    }


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    results: dict[str, Any] = {}
    for kind, name in KINDS.items():
        overlaps = run_protocol(
            GLITCH, kind=kind, noise=NOISE, trials=trials, label=f"glitch, {name}, σ = {NOISE:g}"
        )
        eroded = np.abs(overlaps[:, at(10.0), 0])
        results[kind] = {
            **summarise(GLITCH, overlaps),
            "events": {event: proportion(hit) for event, hit in events(overlaps).items()},
            "overlap_1_at_end_of_glitch": {
                "mean": rounded(np.nanmean(eroded)),
                "half_width": rounded(1.96 * np.nanstd(eroded, ddof=1) / np.sqrt(trials)),
            },
        }
    return {
        "settings": settings(GLITCH, trials),
        "noises": [NOISE],
        "results": {f"{NOISE:g}": results},
    }


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"][f"{NOISE:g}"]
    before, during, after, lasting, last = results["idp"]["events"].values()
    eroded = results["idp"]["overlap_1_at_end_of_glitch"]
    classic = [
        event
        for kind in ("classic_constant", "classic_pulsed")
        for event in results[kind]["events"].values()
    ]
    worst = max(classic, key=lambda event: event["high"])
    return [
        Claim(
            "IDP ignores a glitch of 2: memory 1 again 5 after it (P > .9)",
            f"P = {show(after)}, before {show(before)}",
            after["low"] > 0.9,
        ),
        Claim(
            "the glitch's own memory is never retrieved meanwhile (P < .05)",
            f"P = {show(during)}; |m1| falls to {eroded['mean']:.3f} ± {eroded['half_width']:.3f}",
            during["high"] < 0.05,
        ),
        Claim(
            "IDP follows a change that lasts 4 (P > .5)",
            f"P = {show(lasting)}",
            lasting["low"] > 0.5,
        ),
        Claim(
            "IDP follows a change that lasts 6 (P > .8)",
            f"P = {show(last)}",
            last["low"] > 0.8,
        ),
        Claim(
            "classic, constant or pulsed: none of these under noise (P < .05)",
            f"P ≤ {show(worst)}",
            worst["high"] < 0.05,
        ),
    ]


EXPERIMENT = Experiment(
    name="glitch",
    compute=compute,
    draw={"glitch_one_trial": draw_one_trial, "glitch_ensemble": draw_ensemble},
    claims=claims,
)

if __name__ == "__main__":
    EXPERIMENT.main()
