"""A study as a TOML file; its mistakes are told with the line and the key."""

import dataclasses
import difflib
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hopjax._checks import check_count
from hopjax.study import Study
from hopjax.tasks import Retrieval
from hopjax.trials import Criterion

_TOP = ("trials", "seed", "t1", "dt", "save_every", "paired", "chunk", "quantiles")
_TABLES = ("criterion", "trial", "sweep", "cells")
_CRITERION = ("threshold", "mixed", "settle", "since", "mirror")
_FIELDS = tuple(field.name for field in dataclasses.fields(Retrieval))
_SWEPT = (*_FIELDS, "t1", "dt", "save_every")


class StudyFileError(ValueError):
    """A study file is wrong; the message begins with the file, the line and the key."""


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where things are in the file."""

    path: Path
    lines: dict[tuple[str, str], int]  # (table, key) -> line; a table itself has the key ""

    def wrong(self, table: str, key: str, what: str) -> StudyFileError:
        line = next(filter(None, map(self.lines.get, [(table, key), (key, ""), (table, "")])), None)
        place = f"{self.path}:{line}" if line else f"{self.path}"
        where = f"[{table}] {key}".strip() if table else key
        return StudyFileError(f"{place}: {where}: {what}")

    def known(self, table: str, given: dict[str, Any], names: tuple[str, ...]) -> None:
        for key in given:
            if key not in names:
                close = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}."
                raise self.wrong(table, key, f"is no key that is known here: {hint}")

    def blame(self, error: Exception, tables: tuple[str, ...]) -> StudyFileError:
        """An argument's error as that of the key with its name."""
        message = " ".join(str(error).split())
        found = re.match(r"Argument `(?:sweep\['(\w+)'\]|(\w+))` (.*)", message)
        if not found:
            return StudyFileError(f"{self.path}: {message}")
        key, rest = found[1] or found[2], found[3]
        if key == "sweep" and ("cells", "") in self.lines:
            key = "cells"
        for table in tables:
            if (table, key) in self.lines:
                return self.wrong(table, key, rest)
        return self.wrong("", key, rest)


def read_study(path: Path, *, trials: int | None = None) -> Study:
    """The study that a file describes; `trials` overrides the file's.

    Raises:
        StudyFileError: for anything wrong in it, in one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise StudyFileError(f"{path}: is no text in UTF-8.") from None
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # a TOMLDecodeError, or a number with thousands of digits
        found = re.search(r"\(at line (\d+)", str(error))
        place = f"{path}:{found[1]}" if found else f"{path}"
        raise StudyFileError(f"{place}: is no TOML: {error}.") from None
    source = _Source(path, _lines(text))
    source.known("", content, (*_TOP, *_TABLES))
    for table in ("criterion", "trial", "sweep"):
        if not isinstance(content.get(table, {}), dict):
            raise source.wrong("", table, f"must be a table, [{table}], got {content[table]!r}.")
    for name in ("trials", "seed"):
        if name not in content:
            raise source.wrong("", name, "is missing, a whole number.")
    swept = _sweep(source, content)
    names = set(swept if isinstance(swept, dict) else swept[0])
    for name in ("t1", "dt"):
        if name not in content and name not in names:
            raise source.wrong("", name, "is missing, in time constants of a neuron.")
    criterion, trial = content.get("criterion", {}), content.get("trial", {})
    source.known("criterion", criterion, _CRITERION)
    source.known("trial", trial, _FIELDS)
    for name in trial:
        if name in names:
            raise source.wrong("trial", name, "is swept too: give it once.")
    trial = {name: _tuples(value) for name, value in trial.items()}
    seed = _try(source, (), lambda: check_count(content["seed"], "seed", minimum=0))
    if seed >= 2**63:
        raise source.wrong("", "seed", f"must be below 2^63, got {seed}.")
    # What is swept fits the rest in every cell, which the study looks at; the rest alone may not.
    first = {name: values[0] for name, values in swept.items()} if isinstance(swept, dict) else {}
    if isinstance(swept, list):
        first = dict(swept[0])
    start = {name: _tuples(first[name]) for name in _FIELDS if name in first}
    task = _try(source, ("trial", "sweep", "cells"), lambda: Retrieval(**(trial | start)))
    judge = _try(source, ("criterion",), lambda: Criterion(**criterion))
    return _try(
        source,
        ("sweep", "cells", "", "trial", "criterion"),
        lambda: Study(
            task,
            swept,
            trials=content["trials"] if trials is None else trials,
            key=jax.random.key(seed),
            criterion=judge,
            **{
                name: content[name]
                for name in ("t1", "dt", "save_every", "paired", "chunk", "quantiles")
                if name in content
            },
        ),
    )


def _try(source: _Source, tables: tuple[str, ...], make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise source.blame(error, tables) from error


def _sweep(source: _Source, content: dict[str, Any]) -> Any:
    """The grid, or the list of cells."""
    if ("sweep" in content) == ("cells" in content):
        raise source.wrong(
            "", "sweep", "give a table [sweep] of lists, or tables [[cells]], and not both."
        )
    if "cells" in content:
        cells = content["cells"]
        if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
            raise source.wrong("", "cells", "must be tables, [[cells]].")
        if not cells or not cells[0]:
            raise source.wrong("cells", "", "must have at least one parameter.")
        for cell in cells:
            source.known("cells", cell, _SWEPT)
        return [{name: _tuples(value) for name, value in cell.items()} for cell in cells]
    sweep = content["sweep"]
    source.known("sweep", sweep, _SWEPT)
    if not sweep:
        raise source.wrong("sweep", "", "must have at least one parameter.")
    return {name: _values(source, name, values) for name, values in sweep.items()}


def _values(source: _Source, name: str, values: Any) -> list[Any]:
    if isinstance(values, dict):
        right = "{ start = 0.5, stop = 2.0, num = 4 }, with both ends, or a list"
        start, stop, number = map(values.get, ("start", "stop", "num"))
        if set(values) != {"start", "stop", "num"} or not all(
            isinstance(end, (int, float)) and not isinstance(end, bool) for end in (start, stop)
        ):
            raise source.wrong("sweep", name, f"must be {right}, got {values}.")
        if not isinstance(number, int) or isinstance(number, bool) or number < 2:
            raise source.wrong("sweep", name, f"must have num of at least 2, got {number!r}.")
        # Twelve digits: 0.3 rather than 0.30000000000000004, as one would write it.
        if not math.isfinite(start or 0) or not math.isfinite(stop or 0):
            raise source.wrong("sweep", name, f"must be {right}, got {values}.")
        spaced = np.linspace(np.float64(start or 0), np.float64(stop or 0), number)
        return [float(f"{value:.12g}") for value in spaced]
    if not isinstance(values, list) or not values:
        raise source.wrong("sweep", name, f"must be a list of values, got {values!r}.")
    return [_tuples(value) for value in values]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The first line of every key of every table."""
    lines: dict[tuple[str, str], int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[{1,2}\s*([\w.-]+)\s*\]{1,2}", line):
            table = header[1]
            lines.setdefault((table, ""), number)
            if "." in table:
                lines.setdefault((table.rpartition(".")[0], table.rpartition(".")[2]), number)
        elif key := re.match(r"\s*\"?([\w-]+)\"?\s*=", line):
            lines.setdefault((table, key[1]), number)
    return lines
