"""Every experiment in one process, then the table *claim | measured here | holds?*.

`python -m experiments.reproduce` runs the quick sizes into figures/quick; `--full` runs the sizes
that are committed in figures. Exit status 1 if a claim does not hold.
"""

import argparse
import sys
import time

from experiments import (
    attention,
    capacity,
    continual,
    escape,
    firing_rate,
    flow_error,
    glitch,
    glitch_duration,
    hierarchy,
    landscape,
    mixture_weights,
    noise_window,
    phase_diagram,
    pictures,
    pulse,
    retrieval_time,
    robustness,
    separation,
    sequence,
    storage,
    tuned_strength,
    two_layer,
    unscaled,
)
from experiments.common import FIGURES, QUICK, print_claims, use_all_cores

EXPERIMENTS = (
    mixture_weights.EXPERIMENT,
    sequence.EXPERIMENT,
    glitch.EXPERIMENT,
    hierarchy.EXPERIMENT,
    landscape.EXPERIMENT,
    phase_diagram.EXPERIMENT,
    noise_window.EXPERIMENT,
    escape.EXPERIMENT,
    flow_error.EXPERIMENT,
    robustness.EXPERIMENT,
    retrieval_time.EXPERIMENT,
    unscaled.EXPERIMENT,
    glitch_duration.EXPERIMENT,
    capacity.EXPERIMENT,
    attention.EXPERIMENT,
    firing_rate.EXPERIMENT,
    two_layer.EXPERIMENT,
    storage.EXPERIMENT,
    continual.EXPERIMENT,
    pictures.EXPERIMENT,
    tuned_strength.EXPERIMENT,
    pulse.EXPERIMENT,
    separation.EXPERIMENT,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw every figure and check every claim.")
    parser.add_argument("--full", action="store_true", help="the committed sizes")
    parser.add_argument("--redraw", action="store_true", help="from the saved numbers only")
    arguments = parser.parse_args()
    use_all_cores()
    claims = []
    start = time.perf_counter()
    for number, experiment in enumerate(EXPERIMENTS, start=1):
        began = time.perf_counter()
        claims += experiment.run(full=arguments.full, redraw=arguments.redraw)
        elapsed = time.perf_counter() - began
        print(
            f"[{number}/{len(EXPERIMENTS)}] {', '.join(experiment.files)} ({elapsed:.0f} s)",
            flush=True,
        )
    folder = (FIGURES if arguments.full else QUICK).relative_to(FIGURES.parent)
    print(f"\nFigures and numbers are in {folder}/ ({time.perf_counter() - start:.0f} s).\n")
    print_claims(claims)
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
