"""The cells of a sweep: their parameters, keys and programs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from hopjax._errors import ArgumentError, shown
from hopjax._keys import cell_key, data_of
from hopjax._steps import steps_of
from hopjax.engine import Chunk
from hopjax.ensemble import Asked, Plan
from hopjax.solving import Problem
from hopjax.store import digest, text
from hopjax.study.sweep import OF_THE_SOLVE, is_fractional, is_traced_kind
from hopjax.trials import Trial, marked, needed_as_numbers, uncompiled


class Cell(NamedTuple):
    """One combination of parameters."""

    parameters: dict[str, Any]
    name: str  # of its folder: the hash of its parameters
    key: Key[Array, ""]
    plan: Plan
    static: tuple[tuple[str, Any], ...]  # as they are: they may fix shapes or choices
    traced: dict[str, Any]  # numbers, which can change without compiling anew
    problem: Problem

    @property
    def program(self) -> str:
        """The name of the program that solves it: cells of one name are compiled together."""
        kinds = {
            name: [[np.shape(leaf), str(jnp.result_type(leaf))] for leaf in jax.tree.leaves(value)]
            for name, value in self.traced.items()
        }
        plan = self.plan
        return digest([self.static, kinds, plan.t1, plan.dt, plan.save_every])[:16]

    @property
    def products(self) -> int:
        """Of memories and neurons in a step of a trial."""
        return self.problem.model.memories.size

    @property
    def label(self) -> str:
        """The parameters, to print."""
        return label_of(self.parameters)

    def chunk(self, index: int) -> Chunk:
        """Its trials that are solved together, chunk by chunk."""
        start = index * self.plan.chunk
        return Chunk(data_of(self.key), start, self.traced, f" of the cell {self.label}")


def name_of(parameters: dict[str, Any]) -> str:
    """What a cell is called in a folder."""
    return digest(parameters)[:16]


def label_of(parameters: dict[str, Any]) -> str:
    """The parameters of a cell, to print."""
    return ", ".join(f"{name} = {text(value)}" for name, value in parameters.items())


class OfCell(eqx.Module):
    """The user's function with the parameters of a cell."""

    function: Callable[..., Trial]
    static: tuple[tuple[str, Any], ...] = eqx.field(static=True)

    def __call__(self, key, parameters) -> Trial:
        """The trial of a key, with the traced parameters."""
        return self.function(key, **dict(self.static), **parameters)


def make_cells(
    trial: Callable[..., Trial],
    points: list[dict[str, Any]],
    *,
    trials: int,
    key: Key[Array, ""],
    paired: tuple[str, ...],
    static: tuple[str, ...],
    chunk: int | None,
    settings: dict[str, Any],
) -> Iterator[Cell]:
    """The cells of the parameters in `points`, each of which is made and checked once.

    Raises:
        TypeError, ValueError: as for `Study`, naming the cell.
    """
    looked_at = set()
    for parameters in points:
        of_solve = {name: parameters[name] for name in OF_THE_SOLVE if name in parameters}
        own = {name: value for name, value in parameters.items() if name not in of_solve}
        named = {name: value for name, value in parameters.items() if name not in paired}
        try:
            plan = Asked(chunk=chunk, **(settings | of_solve)).plan(trials)
            make = partial(uncompiled(trial), key, **own)
            example = make()
            problem = plan.check(example)
            traced = {
                name: _argument(trial, name, value, plan)
                for name, value in own.items()
                if name not in static and is_traced_kind(value)
            }
            cell = Cell(
                parameters,
                name_of(parameters),
                cell_key(key, digest(named)),
                plan,
                tuple((name, value) for name, value in own.items() if name not in traced),
                traced,
                problem,
            )
            if cell.program not in looked_at:
                plan.check_draws(example, problem, make, trial)
                _check_static(trial, cell, own, static)
                looked_at.add(cell.program)
        except (TypeError, ValueError) as error:
            place = label_of(parameters)
            if isinstance(error, ArgumentError):
                raise error.at(f"In the cell {place}.") from error
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{' '.join(str(error).split())} (In the cell {place}.)") from error
        yield cell


def _argument(trial: Callable[..., Trial], name: str, value: Any, plan: Plan) -> Any:
    """A number as it is traced; of a time that must lie on a step the step, of fixed steps."""
    if name in marked(trial, "time") and not plan.adaptive:
        return steps_of(np.asarray(value, float), name, plan.dt)
    if is_fractional(value):
        return np.asarray(value, jnp.result_type(float))
    kind = jnp.iinfo(jnp.result_type(int))
    if not all(kind.min <= number <= kind.max for number in np.ravel(value).tolist()):
        raise ArgumentError(
            f"sweep[{name!r}]",
            f"whole numbers of {kind.bits} bits, where they are not in `static`",
            shown(value),
        )
    # A Python number takes the dtype of those beside it, traced too.
    return np.asarray(value, kind.dtype) if isinstance(value, tuple) else value


def _check_static(
    trial: Callable[..., Trial], cell: Cell, values: dict[str, Any], static: tuple[str, ...]
) -> None:
    """Refuse a function that needs Python's numbers where it is given traced ones."""

    def attempt(key: Key[Array, ""], **parameters: Any) -> None:
        cell.plan.try_out(trial(key, **parameters), cell.problem)

    names, error = needed_as_numbers(attempt, cell.key, values, cell.traced)
    if error is not None:
        called = ", ".join(f"`{name}`" for name in names)
        fix = f"parameter {called} fixes a shape or a choice"
        if len(names) > 1:
            fix = f"parameters {called} fix shapes or choices"
        listed = ", ".join(f'"{name}"' for name in dict.fromkeys([*static, *names]))
        raise ArgumentError("static", f"[{listed}]", hint=fix) from error
