"""What is swept: names and plain values, checked and told apart."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hopjax._checks import size_within
from hopjax._errors import ArgumentError, ArgumentTypeError, shown
from hopjax.ensemble import RESERVED
from hopjax.store import canonical, plain

OF_THE_SOLVE = ("t1", "dt", "save_every")  # parameters that `solve` takes, not the trial
OF_THE_RESULT = ("key", *RESERVED)  # not to be swept
MOST_CELLS = 10**6


def check_names(names: Any, argument: str, known: list[str]) -> tuple[str, ...]:
    """Names of swept parameters."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ArgumentTypeError(argument, "a sequence of names", shown(names))
    for name in names:
        if name not in known:
            raise ArgumentError(
                argument, f"swept parameters ({', '.join(known)})", shown(name), must="name"
            )
    return tuple(names)


def _as_floats(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_as_floats, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1023 else math.inf
    return value


def check_sweep(
    sweep: Any, floats: tuple[str, ...]
) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    """The grid ({} for a list of cells) and the parameters of every cell."""
    if isinstance(sweep, Mapping):
        grid = {name: _check_values(name, values, floats) for name, values in sweep.items()}
        check_number_of_cells("sweep", math.prod(map(len, grid.values())))
        points = [
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ]
    elif isinstance(sweep, Sequence) and not isinstance(sweep, str):
        grid = {}
        check_number_of_cells("sweep", len(sweep))
        if not all(isinstance(cell, Mapping) for cell in sweep):
            raise ArgumentTypeError("sweep", "a grid {name: values} or a list of cells")
        names = list(sweep[0]) if sweep else []
        for cell in sweep:
            if set(cell) != set(names):
                raise ArgumentError(
                    "sweep",
                    "the same parameters in every cell",
                    f"{', '.join(names)} and {', '.join(map(str, cell))}",
                    must="have",
                )
        columns = {
            name: _check_values(name, [cell[name] for cell in sweep], floats, repeated=True)
            for name in names
        }
        points = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        seen: set[str] = set()
        for point in points:
            if canonical(point) in seen:
                raise ArgumentError("sweep", "no cell twice", shown(point), must="have")
            seen.add(canonical(point))
    else:
        raise ArgumentTypeError(
            "sweep", "a grid {name: values} or a list of cells", type(sweep).__name__
        )
    names = list(points[0]) if points else []
    if not names:
        raise ArgumentError("sweep", "at least one parameter with a value", "none", must="have")
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name in OF_THE_RESULT:
            raise ArgumentError(
                "sweep",
                f"names that are identifiers and none of {', '.join(OF_THE_RESULT)}",
                shown(name),
                must="have",
            )
    return grid, points


def check_number_of_cells(name: str, number: int) -> None:
    """Refuse a sweep that no one would live to see the end of."""
    if number > MOST_CELLS:
        raise ArgumentError(name, f"at most {MOST_CELLS} cells", shown(number), must="have")


def _check_values(
    name: Any, values: Any, floats: tuple[str, ...], repeated: bool = False
) -> list[Any]:
    """Plain values of one parameter, all fractional if one of them is."""
    where = f"sweep[{name!r}]"
    if isinstance(values, (np.ndarray, jax.Array)):
        values = np.asarray(values).tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ArgumentTypeError(where, "a sequence of values", shown(values))
    values = [plain(value, where) for value in values]
    if not values:
        raise ArgumentError(where, "at least one value", "none", must="have")
    if name in floats or any(map(is_fractional, values)):
        values = [plain(_as_floats(value), where) for value in values]
    for value in values:
        _check_kept(value, where)
    if not repeated and len({canonical(value) for value in values}) < len(values):
        raise ArgumentError(where, "no value twice", shown(values), must="have")
    called = {canonical(value): value for value in values if not isinstance(value, str)}
    for value in values:
        if isinstance(value, str) and value in called:
            raise ArgumentError(
                where,
                "a text that is the label of another value",
                f"{shown(value)} and {shown(called[value])}",
                must="not have",
            )
    return values


def _check_kept(value: Any, where: str) -> None:
    """Refuse what a dataset cannot keep, or the default float cannot hold."""
    if isinstance(value, tuple):
        for item in value:
            _check_kept(item, where)
    elif isinstance(value, float):
        kind = np.finfo(jnp.result_type(float))
        if abs(value) > float(kind.max):
            raise ArgumentError(where, size_within(kind.dtype), value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ArgumentError(where, "whole numbers of 64 bits", shown(value))
    elif isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
        raise ArgumentError(where, "texts that a file can hold", shown(value))


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return True


def is_traced_kind(value: Any) -> bool:
    """Whether a value can change without compiling anew: a number, or some on one axis."""
    numbers = value if isinstance(value, tuple) else (value,)
    return bool(numbers) and all(type(number) in (int, float) for number in numbers)


def is_fractional(value: Any) -> bool:
    """Whether a value is no whole number, or has one in it that is none."""
    return any(map(is_fractional, value)) if isinstance(value, tuple) else isinstance(value, float)
