"""Pictures of retrieval: Axes in, Axes out. Draws numbers that others computed.

Every function draws on the given Axes, or on a new figure, and returns the Axes. Memories to
tell apart get the colours of Okabe and Ito, which any colour vision separates; a line of its own
style repeats the distinction in black and white.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import ArrayLike, Float, Real
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hopjax._checks import check_sides
from hopjax._errors import ArgumentError, names_keywords

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
OTHERS_COLOUR = "#BBBBBB"
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
COLUMN_WIDTH = 3.5  # inches: one column of a journal page


def style() -> AbstractContextManager[None]:
    """Small print for figures of one column width: `with plotting.style(): ...`."""
    return mpl.rc_context(
        {
            "font.size": 7,
            "axes.titlesize": 7,
            "axes.labelsize": 7,
            "xtick.labelsize": 6.5,
            "ytick.labelsize": 6.5,
            "legend.fontsize": 6.5,
            "axes.linewidth": 0.6,
            "lines.linewidth": 1.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "savefig.dpi": 300,
        }
    )


@names_keywords
def plot_overlaps(
    ts: Float[ArrayLike, " T"],
    overlaps: Float[ArrayLike, "T P"],
    *,
    highlight: Sequence[int] = (),
    ax: Axes | None = None,
) -> Axes:
    """One trajectory's overlap with each memory over time.

    Example:
        ```python
        trajectory = hj.solve(model, u, x0, t1=10.0, dt=0.02)
        axes = hj.plotting.plot_overlaps(trajectory.ts, trajectory.overlaps, highlight=[0])
        axes.legend()
        axes.figure.savefig("overlaps.png")
        ```

    Args:
        ts: times, as in `Trajectory.ts`.
        overlaps: as in `Trajectory.overlaps`.
        highlight: memories drawn in colour and named in the legend; all others are grey. By
            default all are grey.
        ax: where to draw; a new figure if not given.
    """
    ax = _axes(ax)
    lines = ax.plot(ts, overlaps, color=OTHERS_COLOUR, linewidth=0.5, zorder=1)
    for place, memory in enumerate(highlight):
        lines[memory].set(
            color=COLOURS[place % len(COLOURS)],
            linestyle=LINE_STYLES[place % len(LINE_STYLES)],
            linewidth=mpl.rcParams["lines.linewidth"],
            zorder=3,
            label=f"memory {memory + 1}",
        )
    if len(lines) > len(highlight):
        others = next(line for memory, line in enumerate(lines) if memory not in highlight)
        others.set_label("other memories" if highlight else "memories")
    ax.set(xlabel="time $t$ (time constants)", ylabel=r"overlap $m_\mu$", ylim=(-1.08, 1.08))
    return ax


@names_keywords
def plot_band(
    ts: Float[ArrayLike, " T"],
    median: Float[ArrayLike, " T"],
    low: Float[ArrayLike, " T"],
    high: Float[ArrayLike, " T"],
    *,
    place: int = 0,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Median and band of a quantity over many trials, in the colour of the given place."""
    ax = _axes(ax)
    colour = COLOURS[place % len(COLOURS)]
    ax.fill_between(ts, low, high, color=colour, alpha=0.25, linewidth=0)
    ax.plot(ts, median, color=colour, linestyle=LINE_STYLES[place % len(LINE_STYLES)], label=label)
    ax.set_xlabel("time $t$ (time constants)")
    return ax


@names_keywords
def plot_proportions(
    x: Float[ArrayLike, " n"],
    estimate: Float[ArrayLike, " n"],
    low: Float[ArrayLike, " n"],
    high: Float[ArrayLike, " n"],
    *,
    place: int = 0,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Probabilities with the ends of their intervals, in the colour and marker of the place."""
    ax = _axes(ax)
    estimate, low, high = (np.asarray(values, float) for values in (estimate, low, high))
    ax.errorbar(
        x,
        estimate,
        # Rounding may put an end of an interval on the wrong side of the estimate.
        np.maximum([estimate - low, high - estimate], 0),
        color=COLOURS[place % len(COLOURS)],
        linestyle=LINE_STYLES[place % len(LINE_STYLES)],
        linewidth=0.6,
        elinewidth=0.7,
        marker=MARKERS[place % len(MARKERS)],
        markersize=3,
        markerfacecolor=None if place == 0 else "none",  # points on top of each other stay visible
        label=label,
    )
    ax.set_ylim(-0.04, 1.04)
    return ax


@names_keywords
def plot_descent(
    steps: Real[ArrayLike, " S"],
    values: Float[ArrayLike, "S *n"],
    low: Float[ArrayLike, " S"] | None = None,
    high: Float[ArrayLike, " S"] | None = None,
    *,
    tuned: tuple[Float[ArrayLike, "*n"], Float[ArrayLike, "*n"], Float[ArrayLike, "*n"]]
    | None = None,
    place: int = 0,
    label: str | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """A loss or a parameter over the steps of tuning, and to the right of them what was found.

    Args:
        steps: numbers of the steps, as `step` in the dataset of a tuning.
        values: one for each step, or several, which are lines of one colour. NaN leaves a gap.
        low: lower ends of a band around single values.
        high: its upper ends.
        tuned: (value, low, high), what was found and the ends of its interval: a number each, or
            one for each line. Ends that are NaN draw none.
        place: decides on the colour, the style of the line and the marker.
        label: of the line, in a legend.
        log: whether the axis is logarithmic. Its range is then that of the values alone, as ends
            of a band may be negative.
        ax: where to draw; a new figure if not given.
    """
    ax = _axes(ax)
    steps, values = np.asarray(steps), np.asarray(values, float)
    values = values.reshape(len(steps), -1)
    colour = COLOURS[place % len(COLOURS)]
    if low is not None and high is not None:
        ax.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
    dashes = LINE_STYLES[place % len(LINE_STYLES)]
    first, *_ = ax.plot(steps, values, color=colour, linestyle=dashes)
    first.set_label(label)
    if tuned is not None:
        estimate, lower, upper = (np.asarray(part, float).ravel() for part in tuned)
        width = max(steps[-1] - steps[0], 1)
        ax.errorbar(
            np.full(len(estimate), steps[-1] + (0.04 + 0.025 * place) * width),
            estimate,
            # As for proportions: rounding.
            np.maximum([estimate - lower, upper - estimate], 0),
            color=colour,
            linestyle="none",
            elinewidth=0.7,
            capsize=2,
            marker=MARKERS[place % len(MARKERS)],
            markersize=2.5,
        )
    if log:
        ax.set_yscale("log")
        shown = values if tuned is None else np.append(values, np.asarray(tuned[0], float))
        shown = shown[shown > 0]
        if shown.size:
            ax.set_ylim(shown.min() / 2, 2 * shown.max())
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("step")
    return ax


@names_keywords
def plot_shown(
    onsets: Sequence[float], shown: Sequence[int], t1: float, *, ax: Axes | None = None
) -> Axes:
    """A strip that says which memory dominates the input when, to be put under a time axis."""
    ax = _axes(ax)
    for start, end, memory in zip(onsets, [*onsets[1:], t1], shown, strict=True):
        ax.axvspan(start, end, color=COLOURS[memory % len(COLOURS)], alpha=0.85, linewidth=0)
        ax.text(
            (start + end) / 2,
            0.45,
            str(memory + 1),
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="center",
            color="white",
            fontweight="bold",
        )
    ax.set(xlim=(0, t1), ylim=(0, 1), yticks=[], xlabel="time $t$ (time constants)")
    ax.spines["left"].set_visible(False)
    return ax


@names_keywords
def plot_weights(weights: Float[ArrayLike, " P"], *, ax: Axes | None = None, **bar) -> Axes:
    """The weight of each memory in one mixed input, as bars; memories are counted from 1."""
    ax = _axes(ax)
    values = np.asarray(weights).tolist()
    ax.bar(range(1, len(values) + 1), values, **{"color": OTHERS_COLOUR, **bar})
    ax.set(xlabel=r"memory $\mu$", ylabel=r"weight $w_\mu$", xticks=range(1, len(values) + 1))
    return ax


@names_keywords
def plot_picture(
    state: Float[ArrayLike, " N"],
    *,
    size: int | tuple[int, int] | None = None,
    ax: Axes | None = None,
    **imshow,
) -> Axes:
    """A state or memory as a picture, one pixel for each neuron: −1 is black and +1 white.

    Args:
        state: the neurons, row by row.
        size: (rows, columns), or one integer for both; by default a square, which only a square
            number of neurons makes.
        ax: where to draw; a new figure if not given.
        **imshow: further arguments of `Axes.imshow`.

    Raises:
        TypeError, ValueError: if there is not one neuron for each pixel.
    """
    return _show(_frames([state], "state", size)[0], ax, imshow)


@names_keywords
def plot_film(
    ts: Float[ArrayLike, " T"],
    states: Float[ArrayLike, "T N"],
    *,
    size: int | tuple[int, int] | None = None,
    ax: Axes | None = None,
    **imshow,
) -> Axes:
    """A film strip: the pictures of several states side by side, with their times below.

    Args:
        ts: the time of each picture.
        states: as for `plot_picture`, one for each time; ten or so fit into a column's width.
        size: of each picture, as for `plot_picture`.
        ax: where to draw; a new figure of the shape of the strip if not given.
        **imshow: further arguments of `Axes.imshow`.

    Raises:
        TypeError, ValueError: if there is not one neuron for each pixel, or not one state for each
            time.
    """
    frames, times = _frames(states, "states", size), np.asarray(ts)
    if times.shape != (len(frames),):
        raise ArgumentError(
            "ts",
            f"one time for each of the {len(frames)} states",
            f"shape {times.shape}",
            must="have",
        )
    rows, columns = frames.shape[1:]
    pitch = columns + max(1, columns // 16)
    strip = np.full((rows, len(frames) * pitch - (pitch - columns)), np.nan)
    for place, frame in enumerate(frames):
        strip[:, place * pitch :][:, :columns] = frame
    if ax is None:
        pixel = min(np.asarray(mpl.rcParams["figure.figsize"]) / strip.shape[::-1])  # in inches
        margin, times_below = 0.1, 2.5 * mpl.rcParams["font.size"] / 72
        figsize = pixel * strip.shape[1] + margin, pixel * rows + times_below
        ax = plt.subplots(figsize=figsize, layout="constrained")[1]
    ax = _show(strip, ax, imshow)
    ax.set_xticks(np.arange(len(frames)) * pitch + columns / 2 - 0.5)
    ax.set_xticklabels([f"{t:g}" for t in times])
    ax.tick_params(length=0)
    return ax


def _frames(states: Any, name: str, size: Any) -> Float[np.ndarray, "T rows columns"]:
    pictures = np.asarray(states, float)
    shape = pictures.shape[1:] if name == "state" else pictures.shape
    if pictures.ndim != 2 or 0 in pictures.shape:
        right = "one state of N neurons" if name == "state" else "states of N neurons in rows"
        raise ArgumentError(name, right, f"shape {shape}")
    num_neurons = pictures.shape[1]
    side = math.isqrt(num_neurons)
    if size is None and side**2 != num_neurons:
        raise ArgumentError(
            "size", f"(rows, columns) for {num_neurons} neurons, which make no square", "None"
        )
    rows, columns = (side, side) if size is None else check_sides(size, "size")
    if rows * columns != num_neurons:
        raise ArgumentError(
            "size",
            f"one pixel for each of the {num_neurons} neurons",
            f"{rows} rows of {columns}",
            must="have",
        )
    return pictures.reshape(-1, rows, columns)


def _show(picture: Float[np.ndarray, "h w"], ax: Axes | None, imshow: dict) -> Axes:
    ax = _axes(ax)
    ax.imshow(picture, **{"cmap": "gray", "vmin": -1, "vmax": 1} | imshow)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
