"""Files in TOML: reading them, and their mistakes told by line and key."""

import dataclasses
import difflib
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hopjax._checks import check_instance
from hopjax._errors import ArgumentError, shown
from hopjax.solving import ExponentialAdams

SOLVERS = {"euler": None, "exponential": ExponentialAdams()}  # None for the default

_T = TypeVar("_T")


class FileError(ValueError):
    """A file that describes a study or a tuning is wrong.

    The message begins with the file, the line and the key.
    """


@dataclasses.dataclass(frozen=True)
class Source:
    """Where things are in a file, and what it calls the arguments that they become."""

    path: Path
    content: Mapping[str, Any]
    # (table, key) -> line. A table itself has the key ""; each of several of one name counts as
    # "name[0]", "name[1]" too.
    lines: Mapping[tuple[str, str], int]
    aliases: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"correlation_time": "input_correlation_time"}  # of a `NoisyInput`
    )

    def wrong(self, table: str, key: str, what: str) -> FileError:
        """The error of a key."""
        name = table.partition("[")[0]
        places = [(table, key), (key, ""), (table, ""), ("", name)]
        line = next(filter(None, map(self.lines.get, places)), None)
        place = f"{self.path}:{line}" if line else f"{self.path}"
        key = key if len(key) < 80 and key.isprintable() else shown(key)
        where = f"[{name}] {key}".strip() if table else key
        return FileError(f"{place}: {where}: {what}")

    def written(self, table: str) -> Iterable[str]:
        """The keys that are written in a table, in any of several of that name, or at the top."""
        name, _, place = table.partition("[")
        found = self.content.get(name, {}) if name else self.content
        tables = found if isinstance(found, list) else [found]
        if place:
            tables = [tables[int(place.removesuffix("]"))]]
        return [key for each in tables if isinstance(each, dict) for key in each]

    def known(
        self,
        table: str,
        given: Iterable[str],
        names: tuple[str, ...],
        what: str = "key that is known here",
    ) -> None:
        """Refuse keys that are none of the names."""
        for key in given:
            if key not in names:
                close = difflib.get_close_matches(key[:80], names, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}."
                raise self.wrong(table, key, f"is no {what}: {hint}")

    def needs(self, content: dict[str, Any], what: Mapping[str, str]) -> None:
        """Refuse a file without one of these keys."""
        for name, right in what.items():
            if name not in content:
                raise self.wrong("", name, f"is missing, {right}.")

    def attempt(self, tables: tuple[str, ...], make: Callable[[], _T]) -> _T:
        """Make something; an argument's error becomes that of the key with its name."""
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise self._blame(error, tables) from error

    def _blame(self, error: Exception, tables: tuple[str, ...]) -> FileError:
        if not isinstance(error, ArgumentError):
            return FileError(f"{self.path}: {' '.join(str(error).split())}")
        name, what = self.aliases.get(error.name, error.name), error.predicate
        written = [(table, key) for table in (*tables, "") for key in self.written(table)]
        for table, key in written:
            if name == key or name.endswith(f"[{key!r}]"):  # such as sweep['noise']
                return self.wrong(table, key, what)
        # What is wrong was not written: then it is something else that does not fit it.
        for table, key in written:
            if key in error.fits:
                return self.wrong(table, key, f"does not fit: `{name}` {what}")
        return self.wrong("", name, what)


def read_file(
    path: str | os.PathLike[str],
    keys: tuple[str, ...],
    tables: tuple[str, ...],
    lists: tuple[str, ...],
) -> tuple[dict[str, Any], Source]:
    """What is in a file that may have these keys, tables and lists of tables, and where.

    A table may be a text instead where its name is "trial".

    Raises:
        FileError: if it cannot be read, is no TOML, or has other keys or no tables there.
    """
    check_instance(path, (str, os.PathLike), "path", "the path of a file")
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise FileError(f"{path}: is no text in UTF-8.") from None
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise _nested(Source(path, {}, _lines(text)), text) from None
    except ValueError as error:  # a TOMLDecodeError, or a number with thousands of digits
        found = re.search(r"\(at line (\d+)", str(error))
        place = f"{path}:{found[1]}" if found else f"{path}"
        raise FileError(f"{place}: is no TOML: {error}.") from None
    source = Source(path, content, _lines(text))
    source.known("", content, (*keys, *tables, *lists))
    for name, value in content.items():
        if name in keys or (name == "trial" and isinstance(value, str)):
            _check_depth(source, "", {name: value})
        elif name in tables:
            if not isinstance(value, dict):
                raise source.wrong("", name, f"must be a table, [{name}], got {shown(value)}.")
            _check_depth(source, name, value)
        elif isinstance(value, list):
            for place, each in enumerate(value):
                _check_depth(source, f"{name}[{place}]", each if isinstance(each, dict) else {})
    return content, source


_DEEPEST = 3  # levels of lists: values that are lists of pairs
_TOO_DEEP = f"must not be nested in more than {_DEEPEST} levels."


def _check_depth(source: Source, table: str, values: dict[str, Any]) -> None:
    """Refuse lists in lists, or tables in tables, without end."""
    for key, value in values.items():
        level = [value]
        for _ in range(_DEEPEST):
            level = [
                each
                for nested in level
                if isinstance(nested, (list, dict))
                for each in (nested.values() if isinstance(nested, dict) else nested)
            ]
        if any(isinstance(each, (list, dict)) for each in level):
            raise source.wrong(table, key, _TOO_DEEP)


def _nested(source: Source, text: str) -> FileError:
    """The error of a file that is nested too deeply to be read."""
    lines = text.splitlines()
    deepest = 1 + max(range(len(lines)), key=lambda place: len(re.findall(r"[\[{]", lines[place])))
    here = [place for place, line in source.lines.items() if line <= deepest and place[1]]
    table, key = max(here, key=lambda place: source.lines[place], default=("", ""))
    return source.wrong(table, key, _TOO_DEEP)


def check_tables(source: Source, content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of tables of a name."""
    tables = content[name]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise source.wrong("", name, f"must be tables, [[{name}]].")
    return tables


def read_solver(source: Source, content: dict[str, Any]) -> ExponentialAdams | None:
    """The solver that is named; None for the default."""
    name = content.get("solver", "euler")
    if not isinstance(name, str) or name not in SOLVERS:
        right = ", ".join(f'"{known}"' for known in SOLVERS)
        raise source.wrong("", "solver", f"must be one of {right}, got {shown(name)}.")
    return SOLVERS[name]


def tuples(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The first line of every key of every table."""
    lines: dict[tuple[str, str], int] = {}
    tables, count = ("",), Counter[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[{1,2}\s*([A-Za-z_][\w.-]*)\s*\]{1,2}\s*(#|$)", line):
            name = header[1]
            tables = (name, f"{name}[{count[name]}]")
            count[name] += 1
            for table in tables:
                lines.setdefault((table, ""), number)
            outer, _, inner = name.rpartition(".")
            if outer:
                lines.setdefault((outer, inner), number)
        elif key := re.match(r"\s*([\w\"'-]+)\s*(?:\.\s*([\w\"'-]+)[\s.\w\"'-]*)?=", line):
            first, second = (part and part.strip("\"'") for part in key.groups())
            for table in tables:
                lines.setdefault((table, first), number)
            if second:  # a table in a line: trial.noise = 1.0
                lines.setdefault((first, second), number)
    return lines
