"""What there is of a study that runs, or was interrupted: read from its chunks as they are.

Nothing is locked or changed, and a chunk that comes meanwhile is there or is not. The manifest has
what the study's own code would know: its cells with their steps and what counts as retrieved. What
a user's own reductions kept is left out, as only their code can merge it.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int

from hopjax._errors import warn
from hopjax.ensemble import Ensemble, Totals, Variable, finish, standard_reductions
from hopjax.solving import Grid
from hopjax.store import (
    Damaged,
    Store,
    StudyError,
    has_result,
    load_result,
    looking_at,
    origin,
    plain,
    view_in,
)
from hopjax.study.cells import Cell, label_of, name_of
from hopjax.study.dataset import Table, attributes_of, make_dataset, words_for_diverged
from hopjax.trials import Criterion

if TYPE_CHECKING:
    import xarray as xr


def view_of(cells: list[Cell], grid: dict[str, list[Any]], quantiles: tuple[float, ...]) -> Any:
    """What a manifest has of a study so that others can look at it, as plain data."""
    criterion, adaptive = cells[0].plan.criterion, cells[0].plan.adaptive
    rows = []
    for cell in cells:
        steps, in_effect = cell.problem.grid, cell.plan.criterion.in_effect(cell.problem.model)
        rows.append([cell.name, steps.dt, steps.num_steps, steps.stride, in_effect.amplitude])
    return {
        "grid": grid,
        "cells": rows,
        "criterion": {name: getattr(criterion, name) for name in criterion.__dataclass_fields__},
        "adaptive": adaptive,
        "quantiles": list(quantiles),
    }


class _Viewed(NamedTuple):
    """A cell, as a manifest knows it."""

    parameters: dict[str, Any]
    name: str
    grid: Grid
    criterion: Criterion  # in effect


def is_unfinished_study(folder: Path) -> bool:
    """Whether a folder has a study without a result, or one of other trials or cells than it has.

    Raises:
        StudyError: if what there is cannot be read.
    """
    manifest = view_in(folder, "study")
    if manifest is None or not has_result(folder):
        return manifest is not None
    found = load_result(folder, "study")
    size = found["retrieved"].size if "retrieved" in found else None
    trials, cells = manifest.get("trials"), len(manifest["view"]["cells"])
    return found.attrs.get("trials", trials) != trials or (size or cells) != cells


def load_unfinished_study(folder: Path) -> "xr.Dataset":
    """The dataset of the chunks that there are.

    Raises:
        StudyError: if there is no study, or no chunk of it is finished.
    """
    with looking_at(folder, "study") as (store, manifest):
        return _dataset(store, manifest)


def _dataset(store: Store, manifest: dict[str, Any]) -> "xr.Dataset":
    view, trials, chunk = manifest["view"], manifest["trials"], manifest["definition"]["chunk"]
    cells, quantiles = _cells(manifest), tuple(view["quantiles"])
    read = functools.partial(_read, store, trials=trials, chunk=chunk, adaptive=view["adaptive"])
    found = [read(cell) for cell in cells]
    done = [len(numbers) for _, numbers in found]
    if not any(done):
        raise StudyError(f"No chunk of the study in {store.folder} is finished yet.")
    diverged, tables, like = [], [], None
    for cell, (ensemble, numbers) in zip(cells, found, strict=True):
        if ensemble is not None:
            some = numbers[ensemble.diverged]
            diverged += words_for_diverged(label_of(cell.parameters), some, len(numbers))
            variables = _scattered(ensemble.variables(quantiles), numbers, trials)
            like = like or variables
            tables.append((cell, variables))
        else:
            tables.append((cell, None))
    assert like is not None
    grid = {name: [plain(each, name) for each in values] for name, values in view["grid"].items()}
    definition, criterion = manifest["definition"], cells[0].criterion
    attributes = attributes_of(
        definition, definition["paired"], trials, criterion, origin(manifest), diverged
    )
    attributes["unfinished"] = f"{sum(done)} of {trials * len(cells)} trials are done"
    about = "trials that are done"
    return make_dataset(
        grid,
        [cell.parameters for cell in cells],
        [
            Table(
                cell.grid.save_times,
                (_empty(like, len(cell.grid.save_times)) if variables is None else variables)
                | {"trials_done": Variable((), np.asarray(number), about)},
            )
            for (cell, variables), number in zip(tables, done, strict=True)
        ],
        quantiles,
        attributes,
    )


def _cells(manifest: dict[str, Any]) -> list[_Viewed]:
    """The cells of the last run, in their order."""
    points = {}
    for given in manifest["cells"]:
        parameters = {name: plain(value, name) for name, value in given.items()}
        points[name_of(parameters)] = parameters
    view, cells = manifest["view"], []
    for name, dt, num_steps, stride, amplitude in view["cells"]:
        criterion = Criterion(**view["criterion"] | {"amplitude": amplitude})
        cells.append(_Viewed(points[name], name, Grid(dt, num_steps, stride), criterion))
    return cells


def _read(
    store: Store, cell: _Viewed, *, trials: int, chunk: int, adaptive: bool
) -> tuple[Ensemble | None, Int[np.ndarray, " n"]]:
    """The results of the trials of a cell that are there, and their numbers."""
    reductions = standard_reductions(cell.criterion)
    totals, numbers, there = Totals(reductions), [], store.chunks_of(cell.name)
    for index in range(-(-trials // chunk)):
        size = min(chunk, trials - index * chunk)
        path = store.chunk_path(cell.name, index, size, chunk)
        if path.name not in there:
            continue
        try:
            parts = store.read_chunk(path)
        except Damaged as damage:
            warn(f"The chunk {path} is damaged ({damage}) and left out.")
            continue
        totals.add({name: parts[name] for name in reductions})
        numbers.append(index * chunk + np.arange(size))
    if not numbers:
        return None, np.zeros(0, int)
    steps, criterion = cell.grid, cell.criterion
    ensemble = finish(reductions, criterion, steps, totals.all(), adaptive=adaptive)
    return ensemble, np.concatenate(numbers)


def _scattered(
    variables: dict[str, Variable], numbers: Int[np.ndarray, " n"], trials: int
) -> dict[str, Variable]:
    """What is of every trial at the place of the trial, NaN where it is not done."""
    found = {}
    for name, (dims, values, about) in variables.items():
        if dims[:1] == ("trial",):
            placed = np.full((trials, *values.shape[1:]), np.nan)
            placed[numbers] = values
            values = placed
        found[name] = Variable(dims, values, about)
    return found


def _empty(like: dict[str, Variable], times: int) -> dict[str, Variable]:
    """Of a cell without trials: NaN, and no trial that ended anyhow."""
    found = {}
    for name, (dims, values, about) in like.items():
        sizes = (times if dim == "time" else n for dim, n in zip(dims, values.shape, strict=True))
        fill = 0 if name == "outcome_count" else np.nan
        found[name] = Variable(dims, np.full(tuple(sizes), fill), about)
    return found
