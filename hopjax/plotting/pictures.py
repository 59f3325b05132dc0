"""States as pictures: one, and several side by side."""

import math
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import ArrayLike, Float, Real
from matplotlib.axes import Axes

from hopjax._checks import check_sides
from hopjax._errors import ArgumentError, names_keywords
from hopjax.plotting.look import axes_or_new


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
    return show(frames_of([state], "state", size)[0], ax, imshow)


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
    frames = frames_of(states, "states", size)
    times = times_of(ts, len(frames))
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
    ax = show(strip, ax, imshow)
    ax.set_xticks(np.arange(len(frames)) * pitch + columns / 2 - 0.5)
    ax.set_xticklabels([f"{t:g}" for t in times])
    ax.tick_params(length=0)
    return ax


def times_of(ts: Any, number: int, things: str = "states") -> Real[np.ndarray, " T"]:
    """The times of so many states, or other things."""
    times = np.asarray(ts)
    if times.shape != (number,):
        right = f"one time for each of the {number} {things}"
        raise ArgumentError("ts", right, f"shape {times.shape}", must="have")
    return times


def frames_of(states: Any, name: str, size: Any) -> Float[np.ndarray, "T rows columns"]:
    """States as pictures of rows and columns."""
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


def show(picture: Float[np.ndarray, "h w"], ax: Axes | None, imshow: dict) -> Axes:
    """One picture, without an axis."""
    ax = axes_or_new(ax)
    ax.imshow(picture, **{"cmap": "gray", "vmin": -1, "vmax": 1} | imshow)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax
