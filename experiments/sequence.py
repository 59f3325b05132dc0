"""The paper's sequence: three mixed inputs one after the other, with and without noise.

One trial as drawn in the paper, and many: in each window the network should move to the memory
that dominates the input. Run alone: `python -m experiments.sequence [--full] [--redraw]`.
"""

from typing import Any

import numpy as np

from experiments.common import Claim, Experiment, show, side_by_side
from experiments.protocols import (
    KINDS,
    NOISE,
    RETRIEVED,
    SEQUENCE,
    Kind,
    compare,
    draw_ensemble,
    draw_one_trial,
    run_flow,
    run_protocol,
    settings,
    summarise,
)

QUICK_TRIALS, FULL_TRIALS = 200, 2000
QUICK_FLOWS, FULL_FLOWS = 6, 200  # of the first trials
SINCE = 1.0  # from when on flows and trials are compared


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    flows = min(FULL_FLOWS if full else QUICK_FLOWS, trials)
    noises = [0.0, NOISE]
    results: dict[str, Any] = {}
    for noise in noises:
        results[f"{noise:g}"] = {
            kind: run(kind, noise, trials, flows if noise > 0 else 0) for kind in KINDS
        }
    return {
        "settings": settings(SEQUENCE, trials),
        "flows": flows,
        "noises": noises,
        "results": results,
    }


def run(kind: Kind, noise: float, trials: int, flows: int) -> dict[str, Any]:
    """Trials of one kind of network, and the flows of the first of them."""
    label = f"sequence, {KINDS[kind]}, σ = {noise:g}"

    def solve() -> np.ndarray:
        return run_protocol(SEQUENCE, kind=kind, noise=noise, trials=trials, label=label)

    def follow() -> np.ndarray:
        label_of_flow = f"{label}, flow"
        return run_flow(SEQUENCE, kind=kind, noise=noise, trials=flows, label=label_of_flow)

    if not flows:
        return summarise(SEQUENCE, solve())
    overlaps, flow = side_by_side(solve, follow)
    return summarise(SEQUENCE, overlaps) | {"flow": compare(SEQUENCE, flow, overlaps, SINCE)}


def claims(numbers: dict[str, Any]) -> list[Claim]:
    noisy, quiet = numbers["results"][f"{NOISE:g}"], numbers["results"]["0"]
    found = []
    for number, window in enumerate(noisy["idp"]["windows"], start=1):
        found.append(
            Claim(
                f"IDP retrieves input {number} of the sequence under noise (P > .9)",
                f"P = {show(window['right'])}",
                window["right"]["low"] > 0.9,
            )
        )
    for number in (2, 3):
        with_noise = noisy["idp"]["windows"][number - 1]["right"]
        without = quiet["idp"]["windows"][number - 1]["right"]
        found.append(
            Claim(
                f"noise helps IDP to move to input {number}",
                f"P = {show(with_noise)}, without noise {show(without)}",
                with_noise["low"] > without["high"],
            )
        )
    pulsed = [quiet["classic_pulsed"]["windows"][0], noisy["classic_pulsed"]["windows"][0]]
    found.append(
        Claim(
            "noise undoes what the classic network retrieves from a pulse (input 1)",
            f"P = {show(pulsed[1]['right'])}, without noise {show(pulsed[0]['right'])}",
            pulsed[1]["right"]["high"] < pulsed[0]["right"]["low"],
        )
    )
    constant = noisy["classic_constant"]["windows"]
    least = min((window["largest"] for window in constant), key=lambda largest: largest["low"])
    mean = max(window["mean_overlap"] for window in constant)
    found.append(
        Claim(
            "classic, constant: the right memory is the largest, but below .9 (P > .9)",
            f"P ≥ {show(least)}, mean |m| at most {mean:.2f}",
            least["low"] > 0.9 and mean < RETRIEVED,
        )
    )
    for kind in ("classic_constant", "classic_pulsed"):
        worst = max((w["right"] for w in noisy[kind]["windows"]), key=lambda right: right["high"])
        found.append(
            Claim(
                f"{KINDS[kind]}: no input of the sequence is retrieved under noise (P < .05)",
                f"P ≤ {show(worst)}",
                worst["high"] < 0.05,
            )
        )
    found += [claim_of_flow(name, noisy[kind]["flow"]) for kind, name in KINDS.items()]
    return found


def claim_of_flow(name: str, flow: dict[str, Any]) -> Claim:
    largest = flow["largest"]
    low, high = largest["interval"]
    return Claim(
        f"{name}: the median of the flows, without a free parameter, is that of the trials "
        f"(from t = {flow['since']:g} on, ±.02 on average)",
        f"{flow['mean_difference']:.4f} on average; at most {largest['difference']:+.3f} "
        f"[{low:+.3f}, {high:+.3f}] at t = {largest['time']:g}",
        flow["mean_difference"] <= 0.02,
        "noise theory here",
    )


EXPERIMENT = Experiment(
    name="sequence",
    compute=compute,
    draw={"sequence_one_trial": draw_one_trial, "sequence_ensemble": draw_ensemble},
    claims=claims,
)

if __name__ == "__main__":
    EXPERIMENT.main()
