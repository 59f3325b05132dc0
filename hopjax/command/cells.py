"""What a page of a study shows of every cell, as plain data."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hopjax.command.picture import words_of
from hopjax.command.show import varied_of
from hopjax.statistics import wilson_interval
from hopjax.store import text

if TYPE_CHECKING:
    import xarray as xr

_TIMES = 200  # most that are drawn of a cell
_ENDS = ("", "_low", "_high")  # of an interval, after the estimate
_SYMBOLS = {r"\sigma": "σ", r"\Delta ": "Δ", r"\tau_m": "τₘ", r"\beta ": "β", "t_1": "t₁", "$": ""}


class Axis(NamedTuple):
    """A parameter that is varied: its field in the cells, what it is called, and its values.

    Values are in their order, each with how it is printed.
    """

    field: str
    words: str
    values: dict[Any, str]

    @property
    def is_number(self) -> bool:
        """Whether its values can stand along a line."""
        return all(type(value) in (int, float) for value in self.values)


def axes_of(dataset: "xr.Dataset", rows: "xr.Dataset") -> dict[str, Axis]:
    """Of the parameters that are varied one goes along x, one along y, others are chosen."""
    values: dict[str, list[Any]] = {}
    for name in varied_of(dataset, rows):
        each = [*dict.fromkeys(rows[name].values.tolist())]
        values[name] = sorted(each) if rows[name].dtype.kind in "if" else each
    first = sorted(values, key=lambda name: (rows[name].dtype.kind not in "if", -len(values[name])))
    axes = {}
    for place, name in enumerate(first):
        printed = [text(value) for value in values[name]]
        if len({*printed}) < len(printed):  # they differ in digits that are not printed
            printed = [repr(value) for value in values[name]]
        field = "xy"[place] if place < 2 else f"other{place - 2}"
        labels = dict(zip(values[name], printed, strict=True))
        axes[name] = Axis(field, _without_tex(words_of(dataset, name)), labels)
    return axes


def cells_of(rows: "xr.Dataset", axes: dict[str, Axis]) -> list[dict[str, Any]]:
    """The numbers that are drawn of every cell that has trials, as plain data.

    A parameter is there as it is printed, and the one along x as `number` too where it is one.
    What is of every time, or of every outcome, is a list.
    """
    cells = []
    for place in np.flatnonzero(rows.outcome_count.sum("outcome_name").to_numpy()).tolist():
        cell = rows.isel(row=place)
        known: dict[str, Any] = {"y": ""}
        for name, axis in axes.items():
            value = cell[name].item()
            known[axis.field] = axis.values[value]
            if axis.field == "x" and axis.is_number:
                known["number"] = value
        cells.append(known | _numbers(cell))
    return cells


def _numbers(cell: "xr.Dataset") -> dict[str, Any]:
    """What was found in one cell, with 95% intervals, to four digits."""
    names, counts = cell.outcome_name.values.tolist(), cell.outcome_count.to_numpy().astype(int)
    trials = int(counts.sum())
    solved = max(trials - int(counts[names.index("diverged")]), 1)
    places = np.flatnonzero(np.isfinite(cell["time"].to_numpy()))
    some = np.linspace(0, len(places) - 1, min(len(places), _TIMES)).round().astype(int)
    places = places[some]
    time, mean, variance, passed = (
        cell[name].to_numpy()[places]
        for name in ("time", "overlap_mean", "overlap_variance", "passed")
    )
    half = 1.96 * np.sqrt(variance / solved)
    lists = {"time": time, "mean": mean, "mean_low": mean - half, "mean_high": mean + half}
    if cell.sizes.get("quantile_level", 0) > 1:
        quantiles = cell.overlap_quantile.transpose("quantile_level", ...).to_numpy()
        lists |= {"low": quantiles[0, places], "high": quantiles[-1, places]}
    for name, count in (("passed", np.rint(passed * trials).astype(int)), ("share", counts)):
        interval = wilson_interval(count, trials)
        lists |= {name + end: part for end, part in zip(_ENDS, interval, strict=True)}
    return {
        **{f"p{end}": _short(cell[f"retrieved{end}"].item()) for end in _ENDS},
        **{field: [*map(_short, values.tolist())] for field, values in lists.items()},
        **{"trials": trials, "outcome": names, "count": counts.tolist()},
        "place": [*range(len(names))],
    }


def _short(number: float) -> float | None:
    return float(f"{number:.4g}") if np.isfinite(number) else None


def _without_tex(words: str) -> str:
    for symbol, plain in _SYMBOLS.items():
        words = words.replace(symbol, plain)
    return words
