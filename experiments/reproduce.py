"""Every experiment in one process, then the table *claim | measured here | holds?*.

`python -m experiments.reproduce` runs the quick sizes into figures/quick; `--full` runs the sizes
that are committed in figures. Exit status 1 if a claim fails or, at full size, is open.
"""

import argparse
import importlib
import pkgutil
import sys
import time

import experiments
from experiments.claims import print_claims
from experiments.common import FIGURES, QUICK, Experiment, add_options, use_all_cores


def find_experiments() -> list[Experiment]:
    """Those of all files of this folder that have one, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))
    modules = [importlib.import_module(f"experiments.{name}") for name in names]
    return [module.EXPERIMENT for module in modules if hasattr(module, "EXPERIMENT")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw every figure and check every claim.")
    add_options(parser)
    arguments = parser.parse_args()
    use_all_cores()
    claims = []
    start = time.perf_counter()
    found = find_experiments()
    for place, experiment in enumerate(found, start=1):
        began = time.perf_counter()
        claims += experiment.run(**vars(arguments))
        elapsed = time.perf_counter() - began
        print(
            f"[{place}/{len(found)}] {', '.join(experiment.files)} ({elapsed:.0f} s)",
            flush=True,
        )
    folder = (FIGURES if arguments.full else QUICK).relative_to(FIGURES.parent)
    print(f"\nFigures and numbers are in {folder}/ ({time.perf_counter() - start:.0f} s).\n")
    print_claims(claims)
    wrong = [claim for claim in claims if claim.fails or (arguments.full and not claim.holds)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
