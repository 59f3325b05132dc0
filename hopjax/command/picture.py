"""What the `hopjax` command draws of a study or a tuning."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hopjax.command.show import has_visits, rows_of, varied_of, with_rows_free
from hopjax.statistics import Interval
from hopjax.store import text
from hopjax.tuning import SHOWN, tuned_text, variable_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FORMATS = ("png", "pdf", "svg")
_LINES, _COURSES, _NUMBERS, _LABELS = 3, 6, 60, 16  # most that are drawn, written, or named
_TRIALS = 24  # most whose visits are drawn
_WORDS = {  # of `Retrieval` and `solve`
    "num_neurons": "number of neurons $N$",
    "num_memories": "number of memories $P$",
    "memory_load": "memory load $P/N$",
    "correlation": "overlap of memories",
    "slope": "slope of the activation $d$",
    "memory_time_constant": r"time constant of the memories $\tau_m$",
    "power": "power $n$",
    "beta": r"inverse temperature $\beta N$",
    "noise": r"noise $\sigma$",
    "dominant": "weight of the memory shown",
    "background": "weight of the others",
    "previous": "weight of the memory before",
    "strength": "strength of the input",
    "t1": "end $t_1$",
    "dt": r"step $\Delta t$",
}
OUTCOME_COLOURS = {  # colours: retrieved blue, else warm, nothing grey
    **{"right": "#0072B2", "mirror": "#56B4E9", "wrong": "#D55E00"},
    **{"mixture": "#E69F00", "none": "#BBBBBB", "diverged": "#000000"},
}


@contextlib.contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure of so many inches, to be drawn into a file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from hopjax import plotting

    with plotting.style():
        figure = plt.figure(figsize=size, layout="constrained")
        try:
            yield figure
            plotting.save_figure(figure, path)
        finally:
            plt.close(figure)


def draw_study(dataset: "xr.Dataset", path: Path) -> None:
    """A picture: P(retrieved), how trials ended, time courses and passages of some cells.

    Where the study kept `Visits` as "visits", those of some trials are below.
    """
    dataset = with_rows_free(dataset)
    rows = rows_of(dataset)
    varied = varied_of(dataset, rows)
    more = has_visits(rows)
    with _figure(path, (7.2, 8.1 if more else 5.4)) as figure:
        # Each with panels that are as wide as they can be.
        above, below, *last = figure.subfigures(2 + more, 1, squeeze=False)[:, 0]
        retrieved, outcomes = above.subplots(1, 2)
        courses, passages = below.subplots(1, 2)
        _draw_retrieved(dataset, rows, varied, retrieved)
        _draw_outcomes(
            rows, [label_of(rows, varied, n) for n in range(rows.sizes["row"])], outcomes
        )
        _draw_courses(dataset, rows, varied, courses, passages)
        for ax, letter in zip((retrieved, outcomes, courses, passages), "abcd", strict=True):
            ax.set_title(letter, loc="left", fontweight="bold")
        for part in last:
            _draw_visits(rows, varied, part)
        _say_unfinished(figure, dataset)


def _say_unfinished(figure: "Figure", dataset: "xr.Dataset") -> None:
    if "unfinished" in dataset.attrs:
        title = f"unfinished: {dataset.attrs['unfinished']}"
        figure.suptitle(title.replace("; ", ";\n"), fontsize=8)


def words_of(dataset: "xr.Dataset", name: str) -> str:
    """What a parameter is called under an axis; those of a user's function have no symbols."""
    kind = json.loads(dataset.attrs["definition"])["trial"]
    known = name in ("t1", "dt") or (isinstance(kind, dict) and kind.get("kind") == "Retrieval")
    return _WORDS.get(name, name.replace("_", " ")) if known else name


def label_of(rows: "xr.Dataset", names: list[str], place: int) -> str:
    """A cell, by what is varied."""
    return ", ".join(f"{name} = {text(rows[name].values[place].item())}" for name in names)


def _draw_retrieved(
    dataset: "xr.Dataset", rows: "xr.Dataset", varied: list[str], ax: "Axes"
) -> None:
    """P(retrieved) against one parameter, as lines with intervals or, if many, a heat map."""
    from hopjax import plotting

    numeric = [name for name in varied if rows[name].dtype.kind in "if"]
    x = max(numeric, key=lambda name: len({*rows[name].values.tolist()}), default=varied[0])
    others = [name for name in varied if name != x]
    labels = [label_of(rows, others, place) for place in range(rows.sizes["row"])]
    groups = list(dict.fromkeys(labels))
    ax.set_xlabel(words_of(dataset, x))
    if len(groups) > _LINES:
        _draw_map(dataset, rows, x, others, labels, ax)
        return
    for place, group in enumerate(groups):
        mine = [number for number, label in enumerate(labels) if label == group]
        part = rows.isel(row=mine).sortby(x)
        ends = (part[f"retrieved{end}"].values for end in ("", "_low", "_high"))
        plotting.plot_proportions(part[x].values, *ends, place=place, label=group or None, ax=ax)
    ax.set_ylabel("P(retrieved)")
    if groups != [""]:
        ax.legend(loc="best")


def _draw_map(
    dataset: "xr.Dataset",
    rows: "xr.Dataset",
    x: str,
    others: list[str],
    labels: list[str],
    ax: "Axes",
) -> None:
    """P(retrieved) as colours, of every value of a parameter and of all the others."""
    columns = sorted({*rows[x].values.tolist()})
    lines = list(dict.fromkeys(labels))
    table = np.full((len(lines), len(columns)), np.nan)
    for value, label, p in zip(rows[x].values, labels, rows.retrieved.values, strict=True):
        table[lines.index(label), columns.index(value)] = p
    image = ax.imshow(
        table, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="none"
    )
    ax.set_facecolor("0.9")  # no cell, or no trial of it yet
    if table.size <= _NUMBERS:
        for (line, column), p in np.ndenumerate(table):
            if np.isfinite(p):
                colour = "black" if p > 0.6 else "white"
                ax.text(column, line, f"{p:.2f}", ha="center", va="center", c=colour, fontsize=5.5)
    _name_ticks(ax.set_xticks, [text(each) for each in columns])
    (single,) = others if len(others) == 1 else ("",)
    _name_ticks(ax.set_yticks, [each.removeprefix(f"{single} = ") for each in lines])
    if single:
        ax.set_ylabel(words_of(dataset, single))
    half = np.nanmax(rows.retrieved_high.values - rows.retrieved_low.values) / 2
    ax.figure.colorbar(image, ax=ax, label="P(retrieved)")
    ax.set_title(f"95% intervals reach up to ±{half:.2f}", loc="right")


def _name_ticks(set_ticks: Any, names: list[str]) -> None:
    """Names along an axis of places, of every second or third one if there are many."""
    every = range(0, len(names), -(-len(names) // _LABELS))
    set_ticks([*every], [names[place] for place in every])


def _draw_outcomes(rows: "xr.Dataset", labels: list[str], ax: "Axes") -> None:
    """How trials ended, as stacked shares of each cell, in the order of the table."""
    counts = rows.outcome_count.transpose("row", "outcome_name").to_numpy().astype(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    left = np.zeros(len(labels))
    for name, share in zip(rows.outcome_name.values.tolist(), shares.T, strict=True):
        if share.any():
            ax.barh(
                np.arange(len(labels)), share, 0.85, left, color=OUTCOME_COLOURS[name], label=name
            )
        left += share
    _name_ticks(ax.set_yticks, labels)
    ax.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xlabel="share of trials that ended so")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, columnspacing=1.0)


def _draw_courses(
    dataset: "xr.Dataset", rows: "xr.Dataset", varied: list[str], courses: "Axes", passages: "Axes"
) -> None:
    """Mean overlap and share of first passages over time, of at most six cells."""
    from hopjax import plotting

    done, some = _some_cells(rows, _COURSES)
    level = rows.sizes.get("quantile_level", 0)
    for number, place in enumerate(some):
        row = rows.isel(row=place)
        ts = row["time"].to_numpy()
        look: dict[str, Any] = {"color": plotting.COLOURS[number]}
        look |= {"linestyle": plotting.LINE_STYLES[number]}
        if level > 1 and len(some) <= _LINES:
            low, high = (row.overlap_quantile.isel(quantile_level=end) for end in (0, -1))
            courses.fill_between(ts, low, high, alpha=0.2, linewidth=0, color=look["color"])
        courses.plot(ts, row.overlap_mean, label=label_of(rows, varied, place), **look)
        passages.plot(ts, row.passed, drawstyle="steps-post", **look)
    sign, lowest = ("|m|", 0) if dataset.attrs.get("mirror", 1) else ("m", -1)
    time = "time $t$ (time constants)"
    courses.set(xlabel=time, ylabel=f"mean overlap with the target ${sign}$")
    courses.set_ylim(lowest - 0.04, 1.04)
    passages.set(xlabel=time, ylabel="share with a first passage by then", ylim=(-0.04, 1.04))
    which = f"{len(some)} of {done} cells" if len(some) < done else None
    courses.figure.legend(
        *courses.get_legend_handles_labels(), title=which, loc="outside lower center", ncols=3
    )


def _draw_visits(rows: "xr.Dataset", varied: list[str], part: "SubFigure") -> None:
    """Which memories the first trials of at most three cells visited, a row for each trial."""
    from hopjax import plotting

    done, some = _some_cells(rows, _LINES)
    axes = part.subplots(1, len(some), sharex=True, sharey=True, squeeze=False)[0]
    named = {}
    for ax, place, letter in zip(axes, some, "efg", strict=False):
        cell = rows.isel(row=place, trial=slice(_TRIALS))
        names = ("order", "start", "dwell")
        plotting.plot_visits(*(cell[f"visits_{name}"].to_numpy() for name in names), ax=ax)
        ax.set(title=label_of(rows, varied, place), xlim=(0, np.nanmax(rows["time"])))
        ax.set_title(letter, loc="left", fontweight="bold")
        ax.label_outer()
        bars, labels = ax.get_legend_handles_labels()
        named |= dict(zip(labels, bars, strict=True))
    which = f"{len(some)} of {done} cells" if len(some) < done else None
    labels = sorted(named, key=lambda label: int(label.split()[-1]))
    handles = [named[label] for label in labels]
    part.legend(handles, labels, title=which, loc="outside lower center", ncols=6)


def _some_cells(rows: "xr.Dataset", most: int) -> tuple[int, list[int]]:
    """How many cells have trials, and which of these are drawn where there are many."""
    done = np.flatnonzero(np.isfinite(rows.retrieved.values))
    some = np.linspace(0, len(done) - 1, min(len(done), most)).round().astype(int)
    return len(done), done[some].tolist()


def _interval(dataset: "xr.Dataset", name: str, estimate: str = "") -> Interval:
    return Interval(*(dataset[name + end].to_numpy() for end in (estimate, "_low", "_high")))


def draw_tuning(dataset: "xr.Dataset", path: Path) -> None:
    """A picture: the loss over the steps, and below it the parameters with what was found."""
    from hopjax import plotting

    steps, names = dataset.step.to_numpy(), dataset.attrs["parameters"].split(", ")
    shown = names[: len(plotting.COLOURS)]
    unfinished = "unfinished" in dataset.attrs
    loss = _interval(dataset, "loss")
    found = None if unfinished else _interval(dataset, "tuned_loss")
    log = bool(np.nanmin(loss.estimate) > 0 and (found is None or found.estimate > 0))
    with _figure(path, (plotting.COLUMN_WIDTH, 3.4)) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        plotting.plot_descent(steps, *loss, tuned=found, log=log, ax=above)
        above.set(xlabel="", ylabel="loss, with 95% intervals")
        for place, name in enumerate(shown):
            values = dataset[variable_of(name)].to_numpy()
            label, tuned = name, None
            if not unfinished:
                ends = _interval(dataset, variable_of(name), "_tuned")
                tuned = Interval(*(np.ravel(part)[:SHOWN] for part in ends))
                label = f"{name} = {tuned_text(dataset, name)}" if values.ndim == 1 else name
            plotting.plot_descent(
                steps,
                values.reshape(len(steps), -1)[:, :SHOWN],
                tuned=tuned,
                place=place,
                label=label,
                ax=below,
            )
        below.set_ylabel(names[0] if len(names) == 1 else "parameters")
        more = len(names) - len(shown)
        title = f"and {more} more, not drawn" if more else None
        figure.legend(loc="outside lower center", title=title)
        _say_unfinished(figure, dataset)
