"""A study as a page that can be clicked: one file with all that it needs, for any browser."""

import html
import importlib.resources
import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hopjax._errors import ArgumentError, shown
from hopjax.command.cells import axes_of, cells_of
from hopjax.command.show import rows_of, study_table, with_rows_free

if TYPE_CHECKING:
    import xarray as xr


def save_page(dataset: "xr.Dataset", path: str | Path) -> None:
    """Write a study as one HTML file that opens in any browser, without a network.

    P(retrieved) is a heat map of the two parameters that were swept most finely, or points along
    a single one; further parameters are chosen from lists. Of the cell that is clicked the page
    shows the mean overlap over time, how the trials ended, and their first passages; what is
    pointed at tells its number with a 95% interval. Below stand all cells as a table, and where
    the numbers come from.

    Args:
        dataset: of a study, as `Study.run` or `load_study` gives it.
        path: of the file.

    Raises:
        ImportError: where Altair is not installed, which comes with `hopjax[report]`.
        ValueError: if it is not the dataset of a study.
    """
    check_altair()
    import vl_convert

    from hopjax.command.charts import CELLS, charts

    if (title := dataset.attrs.get("title")) != "hopjax study":
        raise ArgumentError("dataset", "that of a study", f"one entitled {shown(title)}")
    dataset = with_rows_free(dataset)
    rows = rows_of(dataset)
    axes = axes_of(dataset, rows)
    cells = cells_of(rows, axes)
    signed = not dataset.attrs["mirror"]
    *others, last = (axis.words for axis in axes.values())
    words = f"{', '.join(others)} and {last}" if others else last
    page = importlib.resources.files("hopjax").joinpath("command", "page.html").read_text("utf-8")
    filled = string.Template(page).substitute(
        title=html.escape(f"Retrieval by {words}"),
        about=_about(dataset),
        table=html.escape(study_table(dataset)),
        provenance=_provenance(dataset),
        library=vl_convert.javascript_bundle(),  # pyright: ignore[reportCallIssue]
        spec=_for_script(charts([*axes.values()], cells, signed) | {"datasets": {CELLS: cells}}),
    )
    Path(path).write_text(filled, encoding="utf-8")


def check_altair() -> None:
    """Refuse a page where what draws it is not installed."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "A page needs Altair and vl-convert: pip install 'hopjax[report]'."
        ) from error


def _for_script(value: Any) -> str:
    """JSON inside a script, which "</script>" in a text would end."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")


def _about(dataset: "xr.Dataset") -> str:
    """The lines under the title."""
    about = dataset.attrs
    lines = [f"{about['trials']} trials in each cell; retrieved: {about['criterion']}."]
    if about["diverged"] != "none":
        lines.append(f"Diverged, and left out of means: {about['diverged']}.")
    lines.append("Click a cell to see its trials; point at something to read its number.")
    levels = dataset.quantile_level.values.tolist() if "quantile_level" in dataset.coords else []
    if len(levels) > 1:
        ends = f"from {levels[0]:g} to {levels[-1]:g}"
        lines.append(f"Bands: quantiles of the overlap {ends}; 95% intervals of first passages.")
    paragraphs = [f"<p>{html.escape(line)}</p>" for line in lines]
    if "unfinished" in about:
        line = html.escape(f"Unfinished: {about['unfinished']}.")
        paragraphs.insert(0, f'<p class="unfinished">{line}</p>')
    return "\n".join(paragraphs)


def _provenance(dataset: "xr.Dataset") -> str:
    """Everything that the dataset says of itself, as rows of a table."""
    pairs = ((html.escape(str(each)) for each in pair) for pair in dataset.attrs.items())
    return "\n".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in pairs)
