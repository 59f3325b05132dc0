"""A study as a TOML file; its mistakes are told with the line and the key."""

import dataclasses
import os
from typing import Any

import numpy as np

from hopjax._checks import check_number
from hopjax._errors import shown
from hopjax.command.file import Source, check_tables, read_file, read_solver, tuples
from hopjax.command.trial import Subject, read_subject, read_task
from hopjax.ensemble import PerTrial
from hopjax.study import OF_THE_SOLVE, Study, check_number_of_cells
from hopjax.tasks import Retrieval
from hopjax.trials import Visits

_PASSED_ON = (*OF_THE_SOLVE, "paired", "static", "chunk", "quantiles")
_TOP = ("trials", "seed", *_PASSED_ON, "solver")
_TABLES = ("criterion", "trial", "parameters", "sweep", "visits")
_VISITS = ("max_visits", "enter", "leave", "transitions")


def read_study(path: str | os.PathLike[str], *, trials: int | None = None) -> Study:
    """The study that a file describes; `trials` overrides the file's.

    Raises:
        FileError: for anything wrong in it, in one line.
    """
    content, source = read_file(path, _TOP, _TABLES, ("cells",))
    if ("cells", "") in source.lines:
        source = dataclasses.replace(source, aliases={**source.aliases, "sweep": "cells"})
    source.needs(content, dict.fromkeys(("trials", "seed"), "a whole number"))
    subject = read_subject(source, content)
    swept = _sweep(source, content, subject)
    # What is swept fits the rest in every cell, which the study looks at; the rest alone may not.
    first = {n: values[0] for n, values in swept.items()} if isinstance(swept, dict) else swept[0]
    times = [name for name in ("t1", "dt") if name not in first]
    source.needs(content, dict.fromkeys(times, "in time constants of a neuron"))
    own = {name: value for name, value in first.items() if name not in OF_THE_SOLVE}
    trial, judge, key = read_task(source, content, subject, own, "swept")
    options = {name: content[name] for name in _PASSED_ON if name in content}
    options |= {"trials": content["trials"] if trials is None else trials, "criterion": judge}
    options["solver"] = read_solver(source, content)
    if "visits" in content:
        options["reductions"] = {
            "visits": PerTrial(_visits(source, content["visits"], trial, swept))
        }
    tables = ("sweep", "cells", "", subject.table, "criterion")
    return source.attempt(tables, lambda: Study(trial, swept, key=key, **options))


def _visits(source: Source, given: dict[str, Any], trial: Any, swept: Any) -> Visits:
    """What is kept of the visits to memories."""
    source.known("visits", given, _VISITS)
    visits = source.attempt(("visits",), lambda: Visits(**given))
    if visits.transitions is None and isinstance(trial, Retrieval):
        cells = [swept] if isinstance(swept, dict) else swept
        for model in np.ravel([cell.get("model", trial.model) for cell in cells]).tolist():
            if model != "sequential":
                what = "needs transitions, which memory may follow which, where model = "
                raise source.wrong("", "visits", f"{what}{shown(model)}.")
    return visits


def _sweep(source: Source, content: dict[str, Any], subject: Subject) -> Any:
    """The grid, or the list of cells."""
    if ("sweep" in content) == ("cells" in content):
        raise source.wrong(
            "", "sweep", "give a table [sweep] of lists, or tables [[cells]], and not both."
        )
    if "cells" in content:
        cells = check_tables(source, content, "cells")
        if not cells or not cells[0]:
            raise source.wrong("cells", "", "must have at least one parameter.")
        for cell in cells:
            subject.known(source, "cells", cell, OF_THE_SOLVE)
        return [{name: tuples(value) for name, value in cell.items()} for cell in cells]
    sweep = content["sweep"]
    subject.known(source, "sweep", sweep, OF_THE_SOLVE)
    if not sweep:
        raise source.wrong("sweep", "", "must have at least one parameter.")
    return {name: _values(source, name, values) for name, values in sweep.items()}


def _values(source: Source, name: str, values: Any) -> list[Any]:
    if isinstance(values, dict):
        right = "{ start = 0.5, stop = 2.0, num = 4 }, with both ends, or a list"
        start, stop, number = map(values.get, ("start", "stop", "num"))
        if set(values) != {"start", "stop", "num"} or not all(
            isinstance(end, (int, float)) and not isinstance(end, bool) for end in (start, stop)
        ):
            raise source.wrong("sweep", name, f"must be {right}, got {shown(values)}.")
        if not isinstance(number, int) or isinstance(number, bool) or number < 2:
            raise source.wrong("sweep", name, f"must have num of at least 2, got {shown(number)}.")
        source.attempt(("sweep",), lambda: check_number_of_cells(name, number))
        ends = source.attempt(
            ("sweep",), lambda: [check_number(end, name) for end in (start, stop)]
        )
        spaced = source.attempt(("sweep",), lambda: np.linspace(ends[0], ends[1], number))
        # Twelve digits: 0.3 rather than 0.30000000000000004, as one would write it.
        return [float(f"{value:.12g}") for value in spaced]
    if not isinstance(values, list) or not values:
        raise source.wrong("sweep", name, f"must be a list of values, got {shown(values)}.")
    return [tuples(value) for value in values]
