"""A study's results as a labelled dataset."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hopjax.ensemble import Variable
from hopjax.store import canonical, labels
from hopjax.trials import OUTCOMES, Criterion

if TYPE_CHECKING:
    import xarray as xr


class Table(NamedTuple):
    """The results of a cell: its saved times, and variables by name."""

    ts: Float[np.ndarray, " T"]
    variables: dict[str, Variable]


def make_dataset(
    grid: dict[str, list[Any]],
    points: list[dict[str, Any]],
    tables: list[Table],
    quantiles: tuple[float, ...],
    attributes: dict[str, Any],
) -> "xr.Dataset":
    """One axis for every parameter of the grid, or one of cells if there is none.

    The tables are emptied on the way, so that nothing is held twice but one variable.
    Where cells have other saved times, time is a coordinate of every cell and ends in NaN.
    """
    import xarray as xr  # here, so that importing hopjax stays light

    from hopjax.store.labels import warn_of_names, with_labels

    shape = tuple(map(len, grid.values())) if grid else (len(points),)
    dims = tuple(grid) if grid else ("cell",)
    ts = [table.ts for table in tables]
    same_times = all(np.array_equal(ts[0], other) for other in ts)
    time = "time" if same_times else "saved"

    def stack(variables: list[Variable]) -> xr.Variable:
        first = variables[0]
        inner = tuple(time if dim == "time" else dim for dim in first.dims)
        values = _stack([variable.values for variable in variables])
        values = values.reshape(*shape, *values.shape[1:])
        return xr.Variable(dims + inner, values, {"long_name": first.about})

    names = [*tables[0].variables]
    variables = {name: stack([table.variables.pop(name) for table in tables]) for name in names}
    about = {"long_name": "time", "units": "time constants of a neuron"}
    coordinates: dict[str, Any] = {"outcome_name": list(OUTCOMES)}
    coordinates["quantile_level"] = list(quantiles)
    if same_times:
        coordinates["time"] = xr.Variable("time", ts[0], about)
    else:
        coordinates["time"] = xr.Variable((*dims, "saved"), _stack(ts).reshape(*shape, -1), about)
    if grid:
        coordinates |= {name: labels(values) for name, values in grid.items()}
    else:
        for name in points[0]:
            coordinates[name] = ("cell", labels([point[name] for point in points]))
    dataset = with_labels(xr.Dataset(variables, coordinates, attributes))
    warn_of_names(dataset)
    return dataset


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays along a new first axis; smaller ones end in NaN."""
    largest = tuple(np.max([array.shape for array in arrays], axis=0).astype(int))
    if all(array.shape == largest for array in arrays):
        return np.stack(arrays)
    stacked = np.full((len(arrays), *largest), np.nan)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return stacked


def words_for_diverged(label: str, numbers: Int[np.ndarray, " k"], trials: int) -> list[str]:
    """Which trials of a cell diverged, in words, if any did."""
    count = len(numbers)
    return [f"{label}: {count} of {trials}, the first is trial {numbers[0]}"] if count else []


def attributes_of(
    definition: dict[str, Any],
    paired: Sequence[str],
    trials: int,
    criterion: Criterion,
    origin: dict[str, Any],
    diverged: list[str],
) -> dict[str, Any]:
    """What a study's dataset says of itself.

    Args:
        definition: what defines the numbers.
        paired: parameters, in the order in which they were given.
        trials: in each cell.
        criterion: in effect.
        origin: where the numbers come from.
        diverged: which trials did.
    """
    return {
        "title": "hopjax study",
        "trials": trials,
        "chunk_size": definition["chunk"],
        **criterion.attributes,
        "paired": ", ".join(paired),
        "random numbers": "threefry2x32",
        "key": canonical(definition["key"]),
        "definition": canonical(definition),
        **{name: str(value) for name, value in origin.items()},
        "diverged": "; ".join(diverged) or "none",
    }
