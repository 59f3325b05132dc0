"""The paper's glitch: a short intrusion of input 2 into input 1, then lasting changes.

The inputs 1, 2, 1, 2, 3 are shown on [0, 8), [8, 10), [10, 15), [15, 19), [19, 25]. Run alone:
`python -m experiments.glitch [--full] [--redraw]`.
"""

from typing import Any

import numpy as np

from experiments import protocols
from experiments.claims import Claim, above, below, claim, show
from experiments.common import Experiment, Sized
from experiments.numbers import mean, proportion
from experiments.protocols import GLITCH, MODELS, NOISE, RETRIEVED, at

TRIALS = Sized(200, 2000)


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
    trials = TRIALS[full]
    results: dict[str, Any] = {}
    for model, name in MODELS.items():
        overlaps = protocols.run_protocol(
            GLITCH, model=model, noise=NOISE, trials=trials, label=f"glitch, {name}, σ = {NOISE:g}"
        )
        eroded = np.abs(overlaps[:, at(10.0), 0])
        results[model] = {
            **protocols.summarise(GLITCH, overlaps),
            "events": {event: proportion(hit) for event, hit in events(overlaps).items()},
            "overlap_1_at_end_of_glitch": mean(eroded),
        }
    return {
        "settings": protocols.settings(GLITCH, trials),
        "noises": [NOISE],
        "results": {f"{NOISE:g}": results},
    }


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"][f"{NOISE:g}"]
    before, during, after, lasting, last = results["idp"]["events"].values()
    eroded = results["idp"]["overlap_1_at_end_of_glitch"]
    classic = [
        event
        for model in ("classic", "classic_pulsed")
        for event in results[model]["events"].values()
    ]
    return [
        claim(
            "IDP ignores a glitch of 2: memory 1 again 5 after it ({})",
            above(after, 0.9, f"P = {{}}, before {show(before)}"),
        ),
        claim(
            "the glitch's own memory is never retrieved meanwhile ({})",
            below(
                during,
                0.05,
                f"P = {{}}; |m1| falls to {eroded['mean']:.3f} ± {eroded['half_width']:.3f}",
            ),
        ),
        claim("IDP follows a change that lasts 4 ({})", above(lasting, 0.5)),
        claim("IDP follows a change that lasts 6 ({})", above(last, 0.8)),
        claim("classic, constant or pulsed: none of these under noise ({})", below(classic, 0.05)),
    ]


def found(numbers: dict[str, Any]) -> list[str]:
    idp = numbers["results"][f"{NOISE:g}"]["idp"]
    eroded = idp["overlap_1_at_end_of_glitch"]
    _, _, after, lasting, last = idp["events"].values()
    return [
        f"A glitch of 2 time constants wears the overlap of IDP down to {eroded['mean']:.3f} ± "
        f"{eroded['half_width']:.3f} and is then forgotten: retrieved again in {show(after)} of "
        f"the trials. A change that lasts 4 is followed in {show(lasting)}, one that lasts 6 in "
        f"{show(last)}."
    ]


EXPERIMENT = Experiment(
    "glitch",
    compute,
    {"glitch_one_trial": protocols.draw_one_trial, "glitch_ensemble": protocols.draw_ensemble},
    claims,
    found=found,
)

if __name__ == "__main__":
    EXPERIMENT.main()
