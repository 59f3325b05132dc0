"""Curves: overlaps over time, proportions with their intervals, losses over steps, inputs."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import ArrayLike, Float, Real
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hopjax._errors import names_keywords
from hopjax.plotting.look import COLOURS, OTHERS_COLOUR, axes_or_new, look_of, sides


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
    ax = _courses(ts, overlaps, highlight, ax)
    ax.set(ylabel=r"overlap $m_\mu$", ylim=(-1.08, 1.08))
    return ax


@names_keywords
def plot_saliencies(
    ts: Float[ArrayLike, " T"],
    saliencies: Float[ArrayLike, "T P"],
    *,
    threshold: float | None = None,
    highlight: Sequence[int] = (),
    ax: Axes | None = None,
) -> Axes:
    """One trajectory's saliency of each memory over time, as of a `SequentialHopfield`.

    Args:
        ts: times, as in `Trajectory.ts`.
        saliencies: one for each time and memory, as `slow_saliencies` of states that a solve saved.
        threshold: where a dotted line is drawn, such as `theory.existence_threshold`, below which
            a memory does not exist.
        highlight: as for `plot_overlaps`.
        ax: where to draw; a new figure if not given.
    """
    ax = _courses(ts, saliencies, highlight, ax)
    if threshold is not None:
        look = {"color": "black", "linestyle": ":", "linewidth": 0.6}
        ax.axhline(threshold, **look, zorder=2, label="existence threshold")
    ax.set(ylabel=r"saliency $\alpha_\mu$")
    return ax


def _courses(
    ts: Float[ArrayLike, " T"],
    values: Float[ArrayLike, "T P"],
    highlight: Sequence[int],
    ax: Axes | None,
) -> Axes:
    """One line for each memory over time."""
    ax = axes_or_new(ax)
    lines = ax.plot(ts, values, color=OTHERS_COLOUR, linewidth=0.5, zorder=1)
    for place, memory in enumerate(highlight):
        look = look_of(place)
        lines[memory].set(
            color=look.colour,
            linestyle=look.line,
            linewidth=mpl.rcParams["lines.linewidth"],
            zorder=3,
            label=f"memory {memory + 1}",
        )
    if len(lines) > len(highlight):
        others = next(line for memory, line in enumerate(lines) if memory not in highlight)
        others.set_label("other memories" if highlight else "memories")
    ax.set_xlabel("time $t$ (time constants)")
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
    ax = axes_or_new(ax)
    look = look_of(place)
    ax.fill_between(ts, low, high, color=look.colour, alpha=0.25, linewidth=0)
    ax.plot(ts, median, color=look.colour, linestyle=look.line, label=label)
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
    ax, look = axes_or_new(ax), look_of(place)
    estimate, low, high = (np.asarray(values, float) for values in (estimate, low, high))
    ax.errorbar(
        x,
        estimate,
        sides(estimate, low, high),
        color=look.colour,
        linestyle=look.line,
        linewidth=0.6,
        elinewidth=0.7,
        marker=look.marker,
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
        log: whether the axis is logarithmic. Its range is then that of the values alone. Ends of
            a band, or of the interval of what was found, that are zero or less have no place
            there: then all of them are drawn as far from the value, in relation to it, to
            either side as the interval is wide; that of 1 ± 2 reaches from e⁻² to e².
        ax: where to draw; a new figure if not given.
    """
    ax, look = axes_or_new(ax), look_of(place)
    steps, values = np.asarray(steps), np.asarray(values, float)
    values = values.reshape(len(steps), -1)
    if low is not None and high is not None:
        low, high = np.asarray(low, float), np.asarray(high, float)
        if log:
            low, high = _positive(values[:, 0], low, high)
        ax.fill_between(steps, low, high, color=look.colour, alpha=0.25, linewidth=0)
    first, *_ = ax.plot(steps, values, color=look.colour, linestyle=look.line)
    first.set_label(label)
    if tuned is not None:
        estimate, lower, upper = (np.asarray(part, float).ravel() for part in tuned)
        if log:
            lower, upper = _positive(estimate, lower, upper)
        width = max(steps[-1] - steps[0], 1)
        ax.errorbar(
            np.full(len(estimate), steps[-1] + (0.04 + 0.025 * place) * width),
            estimate,
            sides(estimate, lower, upper),
            color=look.colour,
            linestyle="none",
            elinewidth=0.7,
            capsize=2,
            marker=look.marker,
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


def _positive(
    values: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Ends of intervals on a logarithmic axis, which one from a standard error may leave."""
    if not (low <= 0).any():
        return low, high
    values = np.where(values > 0, values, np.nan)
    factor = np.exp(np.minimum((high - low) / (2 * values), 100))  # far outside the picture
    return values / factor, values * factor


@names_keywords
def plot_shown(
    onsets: Sequence[float], shown: Sequence[int], t1: float, *, ax: Axes | None = None
) -> Axes:
    """A strip that says which memory dominates the input when, to be put under a time axis."""
    ax = axes_or_new(ax)
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
    ax = axes_or_new(ax)
    values = np.asarray(weights).tolist()
    ax.bar(range(1, len(values) + 1), values, **{"color": OTHERS_COLOUR, **bar})
    ax.set(xlabel=r"memory $\mu$", ylabel=r"weight $w_\mu$", xticks=range(1, len(values) + 1))
    return ax
