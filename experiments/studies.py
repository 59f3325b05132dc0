"""What the studies share: the standard retrieval, a sweep as a list, windows, the three models.

A study is a sweep by `hj.Study` over fields of the standard retrieval. Its memories, weights,
starting states and noise are the same in cells that differ in paired parameters only.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import hopjax as hj
from experiments import protocols
from experiments.claims import Measured
from experiments.common import Sized
from experiments.numbers import proportion
from experiments.protocols import (
    BACKGROUND as BACKGROUND,
    DOMINANT as DOMINANT,
    DT,
    MODELS as MODELS,
    RETRIEVED,
    SAVE_EVERY,
    SEED,
)
from hopjax.statistics import first_passage_time

WINDOW = 10.0  # time constants for which each input is shown
CHUNK = 40  # trials at a time on each device: their memories fit into its cache
SOLVED = Sized(("idp", "classic_pulsed"), tuple(MODELS))  # compiling the third takes longer
MEAN_BACKGROUND = sum(BACKGROUND) / 2
# Steps that the ends of windows can be told by (`experiments/work_precision.py`), with "binomial".
LONG_DT, LONG_STEPS = 0.05, hj.ExponentialAdams()
OF_LONG_STEPS = {"dt": LONG_DT, "solver": "ExponentialAdams"}  # in the settings

Cell = dict[str, Any]
Cells = list[Cell]
Measure = Callable[[hj.Trial, hj.Trajectory], dict[str, Array]]


def paper(**changes: Any) -> hj.Retrieval:
    """The paper's inputs, two in a row."""
    return replace(protocols.paper(onsets=(0.0, WINDOW), shown=(0, 1)), **changes)


def grid(**values: Sequence[Any]) -> Cells:
    """Every combination of the values."""
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def by_window(trial: hj.Trial, trajectory: hj.Trajectory) -> dict[str, Float[Array, " W"]]:
    """For window j, which shows memory j: |m_j| at its end, and when it first was above 0.9."""
    each = round(WINDOW / SAVE_EVERY)
    ts, strength = trajectory.ts[: each + 1], jnp.abs(trajectory.overlaps)
    windows = range((len(trajectory.ts) - 1) // each)
    shown = jnp.stack([strength[j * each : (j + 1) * each + 1, j] for j in windows])
    return {"overlap": shown[:, -1], "passage": first_passage_time(ts, shown > RETRIEVED)}


BY_WINDOW: dict[str, Measure] = {"window": by_window}


def at_the_ends(
    task: hj.Retrieval, cells: Cells, *, trials: int, t1: float, paired: Sequence[str]
) -> Iterator[tuple[Cell, list[dict[str, float | int]]]]:
    """Each cell with how often the memory of each window is retrieved at its end, by long steps."""
    of_run = {"trials": trials, "t1": t1, "paired": paired, "measures": BY_WINDOW}
    for cell, data in run(task, cells, dt=LONG_DT, solver=LONG_STEPS, **of_run):
        yield cell, [retrieved(overlaps) for overlaps in data["window_overlap"].T]


def run(
    task: hj.Retrieval,
    cells: Cells,
    *,
    trials: int,
    t1: float,
    paired: Sequence[str],
    measures: dict[str, Measure] | None = None,
    dt: float = DT,
    solver: dfx.AbstractSolver | None = None,
    chunk: int = CHUNK,
) -> Iterator[tuple[Cell, Any]]:
    """Each cell with its part of the study's dataset; measures become variables there."""
    study = hj.Study(
        task,
        cells,
        trials=trials,
        key=jax.random.key(SEED),
        t1=t1,
        dt=dt,
        solver=solver,
        save_every=SAVE_EVERY,
        reductions={name: hj.PerTrial(measure) for name, measure in (measures or {}).items()},
        paired=paired,
        chunk=min(chunk, trials),
    )
    dataset = study.run()
    for place, cell in enumerate(study.cells):
        yield cell, dataset.isel(cell=place)


def retrieved(overlaps: Any) -> dict[str, float | int]:
    """How many of the trials' overlaps are above 0.9 in magnitude."""
    return proportion(np.abs(overlaps) > RETRIEVED)


def settings(task: hj.Retrieval, **more: Any) -> dict[str, Any]:
    """What defines a study, but for its cells."""
    return {
        "task": asdict(task),
        "seed": SEED,
        "dt": DT,
        "retrieved": RETRIEVED,
        **more,
    }


def select(results: Cells, **parameters: Any) -> Cells:
    """The cells with these parameters."""
    return [
        cell for cell in results if all(cell[name] == value for name, value in parameters.items())
    ]


def only(results: Cells, **parameters: Any) -> Cell:
    """The one cell with these parameters."""
    (cell,) = select(results, **parameters)
    return cell


def models(numbers: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    """Place, name and label of every model that was solved; a place is a colour."""
    return solved(numbers, "model", MODELS)


def solved(
    numbers: dict[str, Any], field: str, labels: dict[str, str]
) -> Iterator[tuple[int, str, str]]:
    """The same of what a field of the results says."""
    there = {cell[field] for cell in numbers["results"]}
    for place, (name, label) in enumerate(labels.items()):
        if name in there:
            yield place, name, label


def classic(results: Cells) -> Cells:
    """The cells of the classic network."""
    return [cell for cell in results if cell["model"] != "idp"]


def crossing(xs: Sequence[float], ps: Sequence[float], level: float = 0.5) -> float:
    """Where a falling curve passes the level, between points; NaN if it never does."""
    below = np.flatnonzero(np.asarray(ps) < level)
    if len(below) == 0 or below[0] == 0:
        return np.nan
    after = int(below[0])
    return float(np.interp(level, [ps[after], ps[after - 1]], [xs[after], xs[after - 1]]))


def limit(xs: Sequence[float], found: Cells) -> Measured:
    """Where half are retrieved, and where the ends of the interval pass ½."""
    return Measured(*(crossing(xs, [cell[end] for cell in found]) for end in ("p", "low", "high")))
