"""What several pictures share: panels, error bars, the look of a place, legends, windows."""

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import measured
from hopjax import plotting
from hopjax.plotting.look import look_of, sides as sides


def panels(
    rows: int, columns: int, height: float, *, letters_at: float = 3.0, **options: Any
) -> tuple[Figure, Any]:
    """A figure of one column of a page, and its axes as `plt.subplots` returns them, lettered."""
    size = (plotting.COLUMN_WIDTH, height)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **options)
    letters(figure.axes, letters_at)
    return figure, axes


def letters(axes: Iterable[Axes], at: float = 3.0) -> None:
    """Call panels a, b, c ... at their upper left corners, if there are several.

    The layout knows nothing of the letters, which stand so many points left of the axis: where
    there is room in most figures, and beside the numbers where one is in the way.
    """
    panels = [*axes]
    for ax, letter in zip(panels, string.ascii_lowercase, strict=False):
        if len(panels) > 1:
            text = ax.annotate(
                letter,
                (0, 1),
                (-at, -1.5),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="right",
                fontweight="bold",
            )
            text.set_in_layout(False)


def with_ends(cells: Iterable[Any]) -> Float[np.ndarray, "3 n"]:
    """Of what was measured the values, and the lower and upper ends of their intervals."""
    return np.array([measured(cell) for cell in cells]).T


def error_bars(ax: Axes, xs: Any, cells: Iterable[Any], **look: Any) -> None:
    """What was measured, with its intervals."""
    middle, low, high = with_ends(cells)
    ax.errorbar(xs, middle, sides(middle, low, high), **look)


def curve(ax: Axes, xs: Any, proportions: Sequence[Any], place: int, label: str) -> None:
    """Proportions, such as `proportion` makes, with their intervals."""
    xs = np.array(xs, float)
    plotting.plot_proportions(xs, *with_ends(proportions), place=place, label=label, ax=ax)


def look(place: int, **changes: Any) -> dict[str, Any]:
    """Colour, line and marker of a place; all markers but the first are open."""
    colour, line, marker = look_of(place)
    return {
        "color": colour,
        "linestyle": line,
        "marker": marker,
        "markersize": 3,
        "markerfacecolor": None if place == 0 else "none",
    } | changes


def legend_below(
    figure: Figure,
    *axes: Axes,
    more: Mapping[str, Artist] | None = None,
    last: int | None = None,
    **options: Any,
) -> None:
    """One legend of the panels under all of them, `more` at its end; `last` goes after the rest."""
    entries = [entry for ax in axes for entry in zip(*ax.get_legend_handles_labels(), strict=True)]
    entries += [(handle, label) for label, handle in (more or {}).items()]
    if last is not None:
        entries.append(entries.pop(last))
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, **{"loc": "outside lower center", "ncols": 3} | options)


def title_of_noise(noise: float) -> str:
    return rf"noise $\sigma$ = {noise:g}" if noise else r"no noise, $\sigma$ = 0"


def mark_windows(
    ax: Axes, onsets: Sequence[float], pulse: float | None = None, shade: float = 0.07
) -> None:
    """A line where another input begins; where inputs are pulses, their time is shaded."""
    if pulse is not None:
        for onset in onsets:
            ax.axvspan(onset, onset + pulse, color="black", alpha=shade, linewidth=0, zorder=0)
    for onset in onsets[1:]:
        ax.axvline(onset, color="black", linewidth=0.4, alpha=0.4, zorder=0)


def over_time(rows: int, columns: int, height: float) -> tuple[Figure, Any]:
    """Rows of panels over one time, and a low last row for `strip_of_inputs`."""
    ratios = [*[1.0] * rows, 0.16]
    size = (plotting.COLUMN_WIDTH, height)
    options = {"height_ratios": ratios, "sharex": True, "squeeze": False}
    figure, axes = plt.subplots(rows + 1, columns, figsize=size, layout="constrained", **options)
    letters(axes[:-1].flat)
    return figure, axes


def strip_of_inputs(
    axes: Sequence[Axes], onsets: Sequence[float], shown: Sequence[int], t1: float
) -> None:
    """The last row of panels over time: which input is shown when."""
    for ax in axes:
        plotting.plot_shown(onsets, shown, t1, ax=ax)
    axes[0].set_ylabel("input", rotation=0, ha="right", va="center")
