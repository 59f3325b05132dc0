"""The paper's sequence: three mixed inputs one after the other, with and without noise.

One trial as drawn in the paper, and many: in each window the network should move to the memory
that dominates the input. Run alone: `python -m experiments.sequence [--full] [--redraw]`.
"""

from typing import Any

import numpy as np

from experiments import prose, protocols
from experiments.claims import Claim, above, below, claim, measured, near, show
from experiments.common import Experiment, Sized, side_by_side
from experiments.protocols import MODELS, NOISE, RETRIEVED, SEQUENCE

TRIALS = Sized(200, 2000)
FLOWS = Sized(6, 200)  # of the first trials
SINCE = 1.0  # from when on flows and trials are compared


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    flows = min(FLOWS[full], trials)
    noises = [0.0, NOISE]
    results: dict[str, Any] = {}
    for noise in noises:
        results[f"{noise:g}"] = {
            model: run(model, noise, trials, flows if noise > 0 else 0) for model in MODELS
        }
    return {
        "settings": protocols.settings(SEQUENCE, trials),
        "flows": flows,
        "noises": noises,
        "results": results,
    }


def run(model: str, noise: float, trials: int, flows: int) -> dict[str, Any]:
    """Trials of one kind of network, and the flows of the first of them."""
    label = f"sequence, {MODELS[model]}, σ = {noise:g}"

    def solve() -> np.ndarray:
        return protocols.run_protocol(
            SEQUENCE, model=model, noise=noise, trials=trials, label=label
        )

    def follow() -> np.ndarray:
        label_of_flow = f"{label}, flow"
        return protocols.run_flow(
            SEQUENCE, model=model, noise=noise, trials=flows, label=label_of_flow
        )

    if not flows:
        return protocols.summarise(SEQUENCE, solve())
    overlaps, flow = side_by_side(solve, follow)
    return protocols.summarise(SEQUENCE, overlaps) | {
        "flow": protocols.compare(SEQUENCE, flow, overlaps, SINCE)
    }


def claims(numbers: dict[str, Any]) -> list[Claim]:
    noisy, quiet = (
        {
            model: [window["right"] for window in result["windows"]]
            for model, result in numbers["results"][noise].items()
        }
        for noise in (f"{NOISE:g}", "0")
    )
    compared = "P = {}, without noise {}"
    constant = numbers["results"][f"{NOISE:g}"]["classic"]["windows"]
    mean = max(window["mean_overlap"] for window in constant)
    return [
        *(
            claim(
                f"IDP retrieves input {place} of the sequence under noise ({{}})", above(right, 0.9)
            )
            for place, right in enumerate(noisy["idp"], start=1)
        ),
        *(
            claim(
                f"noise helps IDP to move to input {place}",
                above(noisy["idp"][place - 1], quiet["idp"][place - 1], compared),
            )
            for place in (2, 3)
        ),
        claim(
            "noise undoes what the classic network retrieves from a pulse (input 1)",
            below(noisy["classic_pulsed"][0], quiet["classic_pulsed"][0], compared),
        ),
        claim(
            "classic, constant: the right memory is the largest ({}), but not above "
            f"{RETRIEVED:g} ({{}})",
            above([window["largest"] for window in constant], 0.9),
            below(noisy["classic"], 0.05, f"above P ≤ {{}}, mean |m| at most {mean:.2f}"),
        ),
        *(
            claim(
                f"{MODELS[model]}: no input of the sequence is retrieved under noise ({{}})",
                below(noisy[model], 0.05),
            )
            for model in ("classic", "classic_pulsed")
        ),
        *(
            claim_of_flow(name, numbers["results"][f"{NOISE:g}"][model]["flow"])
            for model, name in MODELS.items()
        ),
    ]


def claim_of_flow(name: str, flow: dict[str, Any]) -> Claim:
    largest = flow["largest"]
    difference = measured([largest["difference"], *largest["interval"]])
    return claim(
        f"{name}: the median of the flows, without a free parameter, is that of the trials "
        f"(from t = {flow['since']:g} on, {{}} on average)",
        # The mean of absolute differences: chance makes it larger, so its bare value will do.
        near(
            flow["mean_difference"],
            0,
            0.02,
            f"{{:.4f}} on average; at most {difference:+.3f} at t = {largest['time']:g}",
        ),
        source="noise theory here",
    )


def found(numbers: dict[str, Any]) -> list[str]:
    noisy, quiet = (numbers["results"][noise] for noise in (f"{NOISE:g}", "0"))
    rows = {
        f"IDP, σ = {NOISE:g}": noisy["idp"],
        "IDP, no noise": quiet["idp"],
        f"classic, constant input, σ = {NOISE:g}": noisy["classic"],
        f"classic, pulsed input, σ = {NOISE:g}": noisy["classic_pulsed"],
        "classic, pulsed input, no noise": quiet["classic_pulsed"],
    }
    overlap = max(window["mean_overlap"] for window in noisy["classic"]["windows"])
    return [
        f"{numbers['settings']['trials']} trials with new memories, weights, starting states and "
        f"noise; retrieved means an overlap of magnitude above {RETRIEVED:g}.",
        prose.table(
            ["retrieved at the end of window", "1", "2", "3"],
            [
                [name, *(show(window["right"]) for window in result["windows"])]
                for name, result in rows.items()
            ],
        ),
        "Noise is what makes IDP follow a sequence: without it most trials stay in the first "
        "memory. Without noise the classic network does better, if its input is a pulse; under "
        "noise it retrieves nothing.",
        "The classic network with a constant input has the right memory as its largest overlap, "
        f"at |m| ≈ {overlap:.2f}: an answer, not a retrieval.",
    ]


EXPERIMENT = Experiment(
    "sequence",
    compute,
    {"sequence_one_trial": protocols.draw_one_trial, "sequence_ensemble": protocols.draw_ensemble},
    claims,
    found=found,
)

if __name__ == "__main__":
    EXPERIMENT.main()
