"""How the pictures look: colours, lines and markers, small print, and files without a date."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
OTHERS_COLOUR = "#BBBBBB"
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
COLUMN_WIDTH = 3.5  # inches: one column of a journal page
_DATED: dict[str, dict[str, Any]] = {  # what a file must not say, to be the same again
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}


class Look(NamedTuple):
    """How what has a place among others is told from them."""

    colour: str
    line: Any  # a style of Matplotlib's
    marker: str


def look_of(place: int) -> Look:
    """A colour, and a line and a marker that tell the same without colours.

    Colours are used again after the last; other lines and markers then go with them.
    """
    again, first = divmod(place, len(COLOURS))
    line, marker = (first + again) % len(LINE_STYLES), (first + 3 * again) % len(MARKERS)
    return Look(COLOURS[first], LINE_STYLES[line], MARKERS[marker])


def sides(
    middle: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "2 n"]:
    """How far bars reach down and up; rounding may put an end on the wrong side."""
    return np.maximum([middle - low, high - middle], 0)


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


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure into a file, by its suffix: .png, .pdf, .svg, or another of Matplotlib's.

    Of these three a figure that is drawn again has the same bytes: they say no date.
    """
    with mpl.rc_context({"svg.hashsalt": "hopjax"}):
        figure.savefig(path, metadata=_DATED.get(Path(path).suffix.lower()))


def axes_or_new(ax: Axes | None) -> Axes:
    """The Axes that were given, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax
