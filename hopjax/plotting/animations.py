"""What moves: overlaps as they come, and states as a film; saved as GIF or MP4."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.animation import Animation, FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hopjax._checks import check_count, check_instance, check_number
from hopjax._errors import ArgumentError, names_keywords, shown
from hopjax.plotting.curves import plot_overlaps
from hopjax.plotting.pictures import frames_of, show, times_of

_FRAMES_PER_SECOND = 12


@names_keywords
def animate_overlaps(
    ts: Float[ArrayLike, " T"],
    overlaps: Float[ArrayLike, "T P"],
    *,
    highlight: Sequence[int] = (),
    ax: Axes | None = None,
) -> FuncAnimation:
    """One trajectory's overlaps as they come: `plot_overlaps`, one frame for each time.

    Args:
        ts: times, as in `Trajectory.ts`.
        overlaps: as in `Trajectory.overlaps`, or others that belong to memories.
        highlight: as for `plot_overlaps`.
        ax: where to draw; a new figure if not given. Its lines can be given another look later.

    Returns:
        What `save_animation` writes into a file, and `to_jshtml()` shows in a notebook.

    Raises:
        ValueError: if there is not one time for each row of overlaps.
    """
    values = np.asarray(overlaps, float)
    if values.ndim != 2 or 0 in values.shape:
        raise ArgumentError("overlaps", "shape (T, P)", f"shape {values.shape}", must="have")
    times = times_of(ts, len(values), "rows of overlaps")
    ax = plot_overlaps(times, values, highlight=highlight, ax=ax)
    lines = ax.get_lines()[-values.shape[1] :]
    if times[0] < times[-1]:
        ax.set_xlim(times[0], times[-1])

    def update(frame: int) -> list[Artist]:
        for line, course in zip(lines, values.T, strict=True):
            line.set_data(times[: frame + 1], course[: frame + 1])
        return [*lines]

    return _animation(ax, update, len(times))


@names_keywords
def animate_film(
    ts: Float[ArrayLike, " T"],
    states: Float[ArrayLike, "T N"] | Mapping[str, Float[ArrayLike, "T N"]],
    *,
    size: int | tuple[int, int] | None = None,
    captions: Sequence[str] | None = None,
    ax: Axes | Iterable[Axes] | None = None,
    **imshow,
) -> FuncAnimation:
    """States as moving pictures, one frame for each time; several films run side by side.

    Args:
        ts: the time of each picture.
        states: as for `plot_film`; or several by their names, which stand above them.
        size: of each picture, as for `plot_picture`.
        captions: what stands below the pictures, one text for each time; by default the time. An
            empty list leaves the place free.
        ax: where to draw, one for each film; a new figure if not given.
        **imshow: further arguments of `Axes.imshow`.

    Returns:
        What `save_animation` writes into a file, and `to_jshtml()` shows in a notebook.

    Raises:
        TypeError, ValueError: if there is not one neuron for each pixel, or not one state, caption
            and Axes where there must be one.
    """
    named = dict(states) if isinstance(states, Mapping) else {"": states}
    if not named:
        raise ArgumentError("states", "at least one film", "none", must="have")
    films = [frames_of(film, "states", size) for film in named.values()]
    times, *_ = [times_of(ts, len(film)) for film in films]
    if captions is None:
        captions = [f"$t$ = {time:g}" for time in times]
    if len(captions) not in (0, len(times)):
        right = f"one caption for each of the {len(times)} times, or none"
        raise ArgumentError("captions", right, len(captions), must="have")
    if ax is None:
        ax = _side_by_side(films)
    axes = [ax] if isinstance(ax, Axes) else list(ax)
    if len(axes) != len(films):
        right = f"one Axes for each of the {len(films)} films"
        raise ArgumentError("ax", right, len(axes), must="have")
    for each, name, film in zip(axes, named, films, strict=True):
        show(film[0], each, imshow)
        each.set_title(name)
    images = [each.images[-1] for each in axes]
    text = _figure_of(axes[0]).supxlabel("") if captions else None

    def update(frame: int) -> list[Artist]:
        for image, film in zip(images, films, strict=True):
            image.set_data(film[frame])
        if text is None:
            return [*images]
        text.set_text(captions[frame])
        return [*images, text]

    return _animation(axes[0], update, len(times))


@names_keywords
def save_animation(
    animation: Animation | Iterable[Animation],
    path: str | Path,
    *,
    frames_per_second: int = _FRAMES_PER_SECOND,
    dpi: float = 100.0,
) -> None:
    """Write an animation into a file, by its suffix: .gif, or .mp4 where ffmpeg is.

    Args:
        animation: of Matplotlib; or several of one figure, which move at the same time and for as
            long as the shortest of them.
        path: of the file.
        frames_per_second: how fast it moves; a GIF keeps hundredths of a second.
        dpi: pixels for each inch of the figure.

    Raises:
        TypeError: for what is no animation.
        ValueError: for animations of several figures or of none, another suffix, .mp4 where there
            is no ffmpeg, or numbers that are not positive.
    """
    several = [animation] if isinstance(animation, Animation) else list(animation)
    for each in several:
        check_instance(each, Animation, "animation", "an animation of Matplotlib, or several")
    if len({id(getattr(each, "_fig", None)) for each in several}) != 1:
        # Matplotlib would leave those of other figures out.
        raise ArgumentError("animation", "of one figure", f"{len(several)} animations")
    rate = check_count(frames_per_second, "frames_per_second")
    dpi = check_number(dpi, "dpi", positive=True)
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ArgumentError("path", "in .gif or .mp4", shown(str(path)), must="end")
    if suffix == ".mp4" and not FFMpegWriter.isAvailable():
        right = "in .gif where there is no ffmpeg, which writes .mp4"
        raise ArgumentError("path", right, shown(str(path)), must="end")
    writer = FFMpegWriter(fps=rate) if suffix == ".mp4" else PillowWriter(fps=rate)
    several[0].save(path, writer, dpi=dpi, extra_anim=several[1:])


def _side_by_side(films: list[Float[np.ndarray, "T rows columns"]]) -> list[Axes]:
    """A new figure for films of one size, as wide as figures are, or as high."""
    rows, columns = films[0].shape[1:]
    width, height = mpl.rcParams["figure.figsize"]
    texts = 5 * mpl.rcParams["font.size"] / 72  # names above, caption below, in inches
    pixel = min(width / (len(films) * columns), (height - texts) / rows)
    figsize = pixel * len(films) * columns, pixel * rows + texts
    axes = plt.subplots(1, len(films), squeeze=False, figsize=figsize, layout="constrained")[1]
    return [*axes[0]]


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _animation(ax: Axes, update, frames: int) -> FuncAnimation:
    interval = 1000 // _FRAMES_PER_SECOND
    return FuncAnimation(_figure_of(ax), update, frames, interval=interval, cache_frame_data=False)
