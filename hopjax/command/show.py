"""What the `hopjax` command prints and draws of a result."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hopjax.ensemble import target_text
from hopjax.statistics import Interval, censored_quantiles
from hopjax.store import text as _text
from hopjax.tuning import SHOWN, tuned_text, variable_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _cells(dataset: "xr.Dataset") -> "xr.Dataset":
    """One row for every cell, whether it was a grid or a list, of what is not empty."""
    empty = [name for name, variable in dataset.variables.items() if variable.size == 0]
    return dataset.drop_vars(empty).stack(row=dataset.retrieved.dims, create_index=False)


def _with_rows_free(dataset: "xr.Dataset") -> "xr.Dataset":
    """With another name for a parameter that is called as the axis of `_cells` is."""
    return dataset.rename({"row": "row "}) if "row" in dataset.variables else dataset


def _parameters(dataset: "xr.Dataset") -> list[str]:
    grid = list(dataset.retrieved.dims)
    if grid == ["cell"]:
        return [str(name) for name, c in dataset.coords.items() if c.dims == ("cell",)]
    return [str(name) for name in grid]


def _targets(rows: "xr.Dataset") -> list[str]:
    """The right memories in every row, to print."""
    found = rows.target_memory.transpose("row", "trial", "target_number").to_numpy()
    targets = []
    for cell in found.astype(float):
        # NaN: trials that are not done, and cells with fewer right memories than others.
        done = cell[~np.isnan(cell).all(axis=1)]
        targets.append(target_text(done[:, ~np.isnan(done).any(axis=0)]) if len(done) else "-")
    return [target or "differs between trials" for target in targets]


def study_table(dataset: "xr.Dataset") -> str:
    """A study's results: one line for every cell, plain text."""
    dataset = _with_rows_free(dataset)
    names, rows = _parameters(dataset), _cells(dataset)
    targets = _targets(rows)
    differ = len({*targets} - {"-"}) > 1
    unfinished = "unfinished" in dataset.attrs
    done = rows.trials_done.to_numpy() if unfinished else np.ones(rows.sizes["row"])
    head = [*names, *["trials"] * unfinished]
    head += ["retrieved", "95% interval", "median passage", "diverged"]
    lines = [[*head, "target"] if differ else head]
    middle = rows.passage_time.transpose("row", "trial").to_numpy()
    for place in range(rows.sizes["row"]):
        row = rows.isel(row=place)
        known = [*(_text(row[name].item()) for name in names), *[f"{done[place]:g}"] * unfinished]
        if not done[place]:
            lines.append([*known, *"-" * (len(lines[0]) - len(known))])
            continue
        times = middle[place][~np.isnan(middle[place])]
        lines.append(
            [
                *known,
                f"{row.retrieved.item():.3f}",
                f"[{row.retrieved_low.item():.3f}, {row.retrieved_high.item():.3f}]",
                f"{censored_quantiles(times, [0.5])[0]:.4g}",
                str(int(row.outcome_count.sel(outcome_name="diverged").item())),
                *([targets[place]] if differ else []),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(entry.rjust(width) for entry, width in zip(line, widths, strict=True))
        for line in lines
    ]
    about = dataset.attrs
    target = "differs between cells" if differ else next(each for each in targets if each != "-")
    if unfinished:
        text.insert(0, f"unfinished: {about['unfinished']}")
    text.append(
        f"{about['trials']} trials in each cell; target {target}; retrieved: {about['criterion']}"
    )
    if dataset.attrs["diverged"] != "none":
        text.append(f"diverged, and left out of means: {dataset.attrs['diverged']}")
    return "\n".join(text)


def _tuned(dataset: "xr.Dataset") -> list[str]:
    """The names of the parameters."""
    return dataset.attrs["parameters"].split(", ")


def _interval(dataset: "xr.Dataset", name: str, estimate: str = "") -> Interval:
    return Interval(*(dataset[name + end].to_numpy() for end in (estimate, "_low", "_high")))


def _found(dataset: "xr.Dataset", name: str) -> Interval:
    """What a parameter was tuned to."""
    return _interval(dataset, variable_of(name), "_tuned")


@contextlib.contextmanager
def _figure(path: Path, panels: int, height: float) -> Iterator[tuple["Figure", list["Axes"]]]:
    """Panels under each other in the width of a column, to be drawn into a file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from hopjax import plotting

    with plotting.style():
        figure, axes = plt.subplots(
            panels,
            figsize=(plotting.COLUMN_WIDTH, height),
            layout="constrained",
            sharex=True,
            squeeze=False,
        )
        try:
            yield figure, axes[:, 0].tolist()
            figure.savefig(path, metadata={"Software": None})
        finally:
            plt.close(figure)


def draw_study(dataset: "xr.Dataset", path: Path) -> None:
    """A picture: P(retrieved) with intervals against the first numeric parameter."""
    from hopjax import plotting

    dataset = _with_rows_free(dataset)
    names, rows = _parameters(dataset), _cells(dataset)
    numeric = [name for name in names if rows[name].dtype.kind in "if"]
    x = max(numeric, key=lambda name: len(set(rows[name].values.tolist())), default=names[0])
    others = [name for name in names if name != x]
    labels = [
        ", ".join(f"{name} = {_text(rows[name].values[place].item())}" for name in others)
        for place in range(rows.sizes["row"])
    ]
    groups = list(dict.fromkeys(labels))
    shown = groups[: len(plotting.COLOURS)]
    with _figure(path, 1, 2.6) as (figure, (ax,)):
        for place, group in enumerate(shown):
            mine = [number for number, label in enumerate(labels) if label == group]
            part = rows.isel(row=mine).sortby(x)
            plotting.plot_proportions(
                part[x].values,
                part.retrieved.values,
                part.retrieved_low.values,
                part.retrieved_high.values,
                place=place,
                label=group or None,
                ax=ax,
            )
        ax.set(xlabel=x, ylabel="P(retrieved)")
        if groups != [""]:
            _legend(figure, len(groups) - len(shown))


def draw_tuning(dataset: "xr.Dataset", path: Path) -> None:
    """A picture: the loss over the steps, and below it the parameters with what was found."""
    from hopjax import plotting

    steps, names = dataset.step.to_numpy(), _tuned(dataset)
    shown = names[: len(plotting.COLOURS)]
    loss, found = _interval(dataset, "loss"), _interval(dataset, "tuned_loss")
    positive = bool(np.nanmin(loss.estimate) > 0)
    with _figure(path, 2, 3.4) as (figure, (above, below)):
        plotting.plot_descent(steps, *loss, tuned=found, log=positive, ax=above)
        above.set(xlabel="", ylabel="loss")
        for place, name in enumerate(shown):
            values, found = dataset[variable_of(name)].to_numpy(), _found(dataset, name)
            single = values.ndim == 1
            plotting.plot_descent(
                steps,
                values.reshape(len(steps), -1)[:, :SHOWN],
                tuned=Interval(*(np.ravel(part)[:SHOWN] for part in found)),
                place=place,
                label=f"{name} = {tuned_text(dataset, name)}" if single else name,
                ax=below,
            )
        below.set_ylabel(names[0] if len(names) == 1 else "parameters")
        _legend(figure, len(names) - len(shown))


def _legend(figure: "Figure", more: int) -> None:
    figure.legend(loc="outside lower center", title=f"and {more} more, not drawn" if more else None)
