"""What the `hopjax` command prints of a study."""

from typing import TYPE_CHECKING

import numpy as np

from hopjax.ensemble import target_text
from hopjax.statistics import censored_quantiles
from hopjax.store import text

if TYPE_CHECKING:
    import xarray as xr


def rows_of(dataset: "xr.Dataset") -> "xr.Dataset":
    """One row for every cell, whether it was a grid or a list, of what is not empty."""
    empty = [name for name, variable in dataset.variables.items() if variable.size == 0]
    return dataset.drop_vars(empty).stack(row=dataset.retrieved.dims, create_index=False)


def with_rows_free(dataset: "xr.Dataset") -> "xr.Dataset":
    """With another name for a parameter that is called as the axis of `rows_of` is."""
    return dataset.rename({"row": "row "}) if "row" in dataset.variables else dataset


def parameters_of(dataset: "xr.Dataset") -> list[str]:
    """The names of what was swept."""
    grid = list(dataset.retrieved.dims)
    if grid == ["cell"]:
        return [str(name) for name, c in dataset.coords.items() if c.dims == ("cell",)]
    return [str(name) for name in grid]


def varied_of(dataset: "xr.Dataset", rows: "xr.Dataset") -> list[str]:
    """The names of what differs between cells, or of one parameter if there is a single cell."""
    names = parameters_of(dataset)
    return [name for name in names if len({*map(str, rows[name].values)}) > 1] or names[:1]


def has_visits(rows: "xr.Dataset") -> bool:
    """Whether the study kept what `Visits` gives, under this name."""
    names = ("order", "start", "dwell", "run", "collapse")
    return {f"visits_{name}" for name in names} <= {*rows.data_vars}


def _targets(rows: "xr.Dataset") -> list[str]:
    """The right memories in every row, to print."""
    found = rows.target_memory.transpose("row", "trial", "target_number").to_numpy()
    targets = []
    for cell in found.astype(float):
        # NaN: trials that are not done, and cells with fewer right memories than others.
        done = cell[~np.isnan(cell).all(axis=1)]
        targets.append(target_text(done[:, ~np.isnan(done).any(axis=0)]) if len(done) else "-")
    return [target or "differs between trials" for target in targets]


def _sequences(row: "xr.Dataset") -> list[str]:
    """How many changes were right before the first that was not, and how many trials ended."""
    run, ended = np.median(row.visits_run), np.isfinite(row.visits_collapse).sum()
    return [f"{run:.4g}", str(int(ended))]


def study_table(dataset: "xr.Dataset") -> str:
    """A study's results: one line for every cell, plain text."""
    dataset = with_rows_free(dataset)
    names, rows = parameters_of(dataset), rows_of(dataset)
    targets = _targets(rows)
    differ = len({*targets} - {"-"}) > 1
    unfinished = "unfinished" in dataset.attrs
    done = rows.trials_done.to_numpy() if unfinished else np.ones(rows.sizes["row"])
    head = [*names, *["trials"] * unfinished]
    head += ["retrieved", "95% interval", "median passage", "diverged"]
    more = has_visits(rows)
    head += ["median run", "collapsed"] * more
    lines = [[*head, "target"] if differ else head]
    middle = rows.passage_time.transpose("row", "trial").to_numpy()
    for place in range(rows.sizes["row"]):
        row = rows.isel(row=place)
        known = [*(text(row[name].item()) for name in names), *[f"{done[place]:g}"] * unfinished]
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
                *(_sequences(row) if more else []),
                *([targets[place]] if differ else []),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    printed = [
        "  ".join(entry.rjust(width) for entry, width in zip(line, widths, strict=True))
        for line in lines
    ]
    about = dataset.attrs
    target = "differs between cells" if differ else next(each for each in targets if each != "-")
    if unfinished:
        printed.insert(0, f"unfinished: {about['unfinished']}")
    printed.append(
        f"{about['trials']} trials in each cell; target {target}; retrieved: {about['criterion']}"
    )
    if more:
        printed.append(
            "run: changes to the memory that follows, up to the first other one; collapsed: trials "
            "in no memory at the end"
        )
    if dataset.attrs["diverged"] != "none":
        printed.append(f"diverged, and left out of means: {dataset.attrs['diverged']}")
    return "\n".join(printed)
