"""The panels of a page of a study, for Vega-Lite: one is clicked, the others show that cell."""

import json
from typing import Any

import altair as alt

from hopjax.command.cells import Axis
from hopjax.command.picture import OUTCOME_COLOURS

_WIDTH, _HEIGHT = 300, 220  # of a panel, in pixels: a phone has some 360
_BLUE, _RED, _NOTHING = OUTCOME_COLOURS["right"], OUTCOME_COLOURS["wrong"], "#EEEEEE"
_UPRIGHT = alt.Axis(labelAngle=0, labelOverlap="greedy")
CELLS = "cells"  # what the data are called


def charts(axes: list[Axis], cells: list[dict[str, Any]], signed: bool) -> dict[str, Any]:
    """The panels and their links, without the data.

    Args:
        axes: the parameters along x and y, and those that are chosen from lists.
        cells: what is drawn. One is clicked at the beginning: the first.
        signed: whether overlaps have a sign.
    """
    first, lists = cells[0], axes[2:]
    chosen = [
        alt.param(
            name=axis.field,
            value=first[axis.field],
            bind=alt.binding_select(options=[*axis.values.values()], name=axis.words),
        )
        for axis in lists
    ]
    listed = " && ".join(f"datum.{axis.field} === {axis.field}" for axis in lists) or "true"
    clicked = alt.selection_point(
        name="clicked",
        fields=["x", "y"],
        value=[{"x": first["x"], "y": first["y"]}],
        on="rect:click" if len(axes) > 1 else "symbol:click",  # not beside the cells
        clear=False,
        toggle=False,
        empty=False,
    )
    every = alt.Chart(alt.NamedData(CELLS)).transform_filter(listed)
    one = every.transform_filter(clicked)
    last = max(cell["time"][-1] for cell in cells)
    time = alt.X("time:Q", scale=alt.Scale(domain=[0, last]), title="time (time constants)")
    above = _map(every, axes, clicked) if len(axes) > 1 else _points(every, axes[0], clicked)
    courses = _courses(one, time, signed, "low" in first).properties(title=_title(axes))
    panels = [
        panel.properties(width=_WIDTH, height=_HEIGHT)
        for panel in (above, courses, _outcomes(one), _passages(one, time))
    ]
    panels[2] = panels[2].properties(height=60)
    whole = alt.concat(*panels, columns=2).add_params(*chosen)
    whole = whole.resolve_scale(color="independent").configure_view(stroke=None)
    return whole.configure_axis(titleFontWeight="normal", grid=False).to_dict()


def _title(axes: list[Axis]) -> alt.TitleParams:
    """Which cell was clicked: a line for each parameter."""
    parts = []
    for axis in axes:
        value = axis.field if axis.field.startswith("other") else f"clicked.{axis.field}[0]"
        parts.append(f"{json.dumps(f'{axis.words}: ')} + {value}")
    return alt.TitleParams(alt.ExprRef(f"[{', '.join(parts)}]"), anchor="start", fontSize=12)


def _interval(name: str) -> str:
    """How the 95% interval around what has a name is printed, as an expression of Vega."""
    low, high = (f"format(datum.{name}_{end}, '.3f')" for end in ("low", "high"))
    return f"'[' + {low} + ', ' + {high} + ']'"


def _retrieved(axes: list[Axis]) -> list[alt.Tooltip]:
    """What a cell that is pointed at tells."""
    return [
        *(alt.Tooltip(f"{axis.field}:N", title=axis.words) for axis in axes),
        alt.Tooltip("p:Q", title="P(retrieved)", format=".3f"),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("trials:Q", title="trials"),
    ]


def _map(every: alt.Chart, axes: list[Axis], clicked: alt.Parameter) -> alt.LayerChart:
    """P(retrieved) as colours; grey is where there is no cell, or no trial of it yet."""
    across, up = ([*axis.values.values()] for axis in axes[:2])
    base = every.encode(
        alt.X(
            "x:O", sort=across, scale=alt.Scale(domain=across), title=axes[0].words, axis=_UPRIGHT
        ),
        alt.Y("y:O", sort=up[::-1], scale=alt.Scale(domain=up[::-1]), title=axes[1].words),
    )
    base = base.transform_calculate(interval=_interval("p"))
    colours = alt.Scale(scheme="viridis", domain=[0, 1])
    cells = base.mark_rect(cursor="pointer").encode(
        color=alt.Color(
            "p:Q", scale=colours, title="P(retrieved)", legend=alt.Legend(orient="top")
        ),
        tooltip=_retrieved(axes),
    )
    frame = base.transform_filter(clicked).mark_rect(
        filled=False, stroke=_RED, strokeWidth=3, tooltip=None
    )
    layers = [cells.add_params(clicked), frame]
    return alt.LayerChart(layer=layers, view=alt.ViewBackground(fill=_NOTHING))


def _points(every: alt.Chart, axis: Axis, clicked: alt.Parameter) -> alt.LayerChart:
    """P(retrieved) along one parameter."""
    across = [*axis.values.values()]
    if axis.is_number:
        x = alt.X("number:Q", scale=alt.Scale(zero=False, nice=False, padding=10), title=axis.words)
    else:
        x = alt.X("x:O", sort=across, title=axis.words, axis=_UPRIGHT)
    base = every.transform_calculate(interval=_interval("p")).encode(x)
    p = alt.Y("p:Q", scale=alt.Scale(domain=[0, 1]), title="P(retrieved)")
    size = alt.condition(clicked, alt.value(150), alt.value(60))
    colour = alt.condition(clicked, alt.value(_RED), alt.value(_BLUE))
    layers = [
        base.mark_line(color=_BLUE).encode(y=p),
        base.mark_rule(color=_BLUE).encode(y="p_low:Q", y2="p_high:Q"),
        base.mark_circle(cursor="pointer", opacity=1)
        .encode(y=p, size=size, color=colour, tooltip=_retrieved([axis]))
        .add_params(clicked),
    ]
    return alt.LayerChart(layer=layers)


def _courses(one: alt.Chart, time: alt.X, signed: bool, band: bool) -> alt.LayerChart:
    """The mean overlap over time, and the band of the outermost quantiles that were kept."""
    names: list[str | alt.FieldName] = [
        "time",
        "mean",
        "mean_low",
        "mean_high",
        *(["low", "high"] if band else []),
    ]
    base = one.transform_flatten(names).transform_calculate(interval=_interval("mean"))
    base = base.encode(time)
    scale = alt.Scale(domain=[-1 if signed else 0, 1])
    mean = alt.Y("mean:Q", scale=scale, title=f"mean overlap {'m' if signed else '|m|'}")
    tooltip = [
        alt.Tooltip("time:Q"),
        alt.Tooltip("mean:Q", title="mean overlap", format=".3f"),
        alt.Tooltip("interval:N", title="95% interval"),
    ]
    layers = [
        base.mark_line(color=_BLUE).encode(y=mean),
        _pointed(base).encode(y=mean, tooltip=tooltip),
    ]
    if band:
        area = base.mark_area(color=_BLUE, opacity=0.25)
        layers.insert(0, area.encode(alt.Y("low:Q", scale=scale), alt.Y2("high:Q")))
    return alt.LayerChart(layer=layers)


def _outcomes(one: alt.Chart) -> alt.Chart:
    """How the trials ended, as shares of one bar."""
    names: list[str | alt.FieldName] = [
        "outcome",
        "place",
        "count",
        "share",
        "share_low",
        "share_high",
    ]
    base = one.transform_flatten(names).transform_calculate(interval=_interval("share"))
    known = alt.Scale(domain=[*OUTCOME_COLOURS], range=[*OUTCOME_COLOURS.values()])
    return base.mark_bar().encode(
        alt.X("share:Q", scale=alt.Scale(domain=[0, 1]), title="share of trials that ended so"),
        color=alt.Color(
            "outcome:N", scale=known, legend=alt.Legend(orient="top", columns=3), title=None
        ),
        order=alt.Order("place:Q"),
        tooltip=[
            alt.Tooltip("outcome:N", title="ended in"),
            alt.Tooltip("count:Q", title="trials"),
            alt.Tooltip("share:Q", format=".3f"),
            alt.Tooltip("interval:N", title="95% interval"),
        ],
    )


def _passages(one: alt.Chart, time: alt.X) -> alt.LayerChart:
    """The share of trials that have had their first passage, over time."""
    names: list[str | alt.FieldName] = ["time", "passed", "passed_low", "passed_high"]
    base = one.transform_flatten(names).transform_calculate(interval=_interval("passed"))
    base = base.encode(time)
    scale = alt.Scale(domain=[0, 1])
    passed = alt.Y("passed:Q", scale=scale, title="share with a first passage")
    area = base.mark_area(color=_BLUE, opacity=0.25, interpolate="step-after")
    tooltip = [
        alt.Tooltip("time:Q"),
        alt.Tooltip("passed:Q", title="share by then", format=".3f"),
        alt.Tooltip("interval:N", title="95% interval"),
    ]
    layers = [
        area.encode(alt.Y("passed_low:Q", scale=scale), alt.Y2("passed_high:Q")),
        base.mark_line(color=_BLUE, interpolate="step-after").encode(y=passed),
        _pointed(base).encode(y=passed, tooltip=tooltip),
    ]
    return alt.LayerChart(layer=layers)


def _pointed(base: alt.Chart) -> alt.Chart:
    """Points to point at, which are not seen."""
    return base.mark_circle(size=100, opacity=0)
