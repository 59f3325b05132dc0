"""Which memory is visited when, in many trials at a glance."""

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MaxNLocator

from hopjax._errors import ArgumentError, names_keywords
from hopjax.plotting.look import COLOURS, axes_or_new, look_of

_HEIGHT = 0.8  # of the bars of a trial, whose row has the height 1
_HATCHES = (None, "/////", ".....", "xxxxx")  # where colours are used again


@names_keywords
def plot_visits(
    order: Int[ArrayLike, "*R V"],
    start: Float[ArrayLike, "*R V"],
    dwell: Float[ArrayLike, "*R V"],
    *,
    ax: Axes | None = None,
) -> Axes:
    """The visits of trials to memories over time: a row for each trial, a colour for each memory.

    Example:
        ```python
        network = hj.SequentialHopfield(memories, time_constant=10.0)
        trajectory = hj.solve(network, jnp.zeros(64), memories[0], t1=30.0, dt=0.1)
        visits = hj.Visits().of(trajectory.ts, trajectory.overlaps, network.transition_matrix)
        axes = hj.plotting.plot_visits(visits["order"], visits["start"], visits["dwell"])
        axes.legend()
        ```

    Args:
        order: the memories, as `Visits` has them: −1 where there were no more visits. Of one
            trajectory, or of R trials.
        start: when each visit began.
        dwell: how long it was; one that is not finite is not drawn.
        ax: where to draw; a new figure if not given.

    Raises:
        ValueError: if the three are not of one shape, (V,) or (R, V).
    """
    memories, begin, length = (np.asarray(each) for each in (order, start, dwell))
    if memories.ndim not in (1, 2):
        raise ArgumentError("order", "shape (V,) or (R, V)", f"shape {memories.shape}", must="have")
    for name, each in (("start", begin), ("dwell", length)):
        if each.shape != memories.shape:
            raise ArgumentError(name, f"shape {memories.shape}", f"shape {each.shape}", must="have")
    memories, begin, length = (np.atleast_2d(each) for each in (memories, begin, length))
    drawn = (memories >= 0) & np.isfinite(begin) & np.isfinite(length)
    ax = axes_or_new(ax)
    for memory in np.unique(memories[drawn]).astype(int).tolist():
        trials, places = np.nonzero(drawn & (memories == memory))
        left = begin[trials, places]
        right = left + length[trials, places]
        low, high = (trials + 1 + side * _HEIGHT / 2 for side in (-1, 1))
        corners = np.stack([left, low, left, high, right, high, right, low], axis=1)
        bars = PolyCollection(
            [*corners.reshape(-1, 4, 2)],
            facecolor=look_of(memory).colour,
            hatch=_HATCHES[memory // len(COLOURS) % len(_HATCHES)],
            edgecolor="white",
            linewidth=0,
            label=f"memory {memory + 1}",
        )
        ax.add_collection(bars)
    ax.autoscale_view()
    ax.set(xlabel="time $t$ (time constants)", ylabel="trial", ylim=(len(memories) + 0.5, 0.5))
    ax.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return ax
