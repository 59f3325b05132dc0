"""The cells of a sweep: their parameters, keys and programs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from hopjax._errors import ArgumentError
from hopjax._keys import cell_key, data_of
from hopjax._steps import steps_of
from hopjax.engine import Chunk
from hopjax.ensemble import Plan, make_plan
from hopjax.solving import Problem
from hopjax.store import canonical, digest, text
from hopjax.study.sweep import OF_THE_SOLVE, is_traced_kind
from hopjax.trials import Trial, uncompiled


class Cell(NamedTuple):
    """One combination of parameters."""

    parameters: dict[str, Any]
    name: str  # of its folder: the hash of its parameters
    key: Key[Array, ""]
    plan: Plan
    static: tuple[tuple[str, Any], ...]  # parameters that fix shapes or choices
    traced: dict[str, Any]  # numbers, which can change without compiling anew
    problem: Problem

    @property
    def program(self) -> str:
        """The name of the program that solves it: cells of one name are compiled together."""
        shapes = {name: np.shape(value) for name, value in self.traced.items()}
        plan = self.plan
        return digest([self.static, shapes, plan.t1, plan.dt, plan.save_every])[:16]

    @property
    def label(self) -> str:
        """The parameters, to print."""
        return ", ".join(f"{name} = {text(value)}" for name, value in self.parameters.items())

    def chunk(self, index: int) -> Chunk:
        """Its trials that are solved together, chunk by chunk."""
        start = index * self.plan.chunk
        return Chunk(data_of(self.key), start, self.traced, f" of the cell {self.label}")


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
        try:
            plan = make_plan(trials=trials, chunk=chunk, **(settings | of_solve))
            make = partial(uncompiled(trial), key, **own)
            example = make()
            problem = plan.check(example)
            traced = {
                name: _argument(trial, name, value, plan)
                for name, value in own.items()
                if name not in static and is_traced_kind(value)
            }
            # Draws outside the key are looked for once for each set of static values.
            fixed = {name: value for name, value in own.items() if name not in traced}
            if canonical(fixed) not in looked_at:
                plan.check_draws(example, problem, make, trial)
                looked_at.add(canonical(fixed))
        except (TypeError, ValueError) as error:
            cell = ", ".join(f"{name} = {text(value)}" for name, value in parameters.items())
            if isinstance(error, ArgumentError):
                raise error.at(f"In the cell {cell}.") from error
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{' '.join(str(error).split())} (In the cell {cell}.)") from error
        named = {name: value for name, value in parameters.items() if name not in paired}
        yield Cell(
            parameters,
            digest(parameters)[:16],
            cell_key(key, digest(named)),
            plan,
            tuple(fixed.items()),
            traced,
            problem,
        )


def _argument(trial: Callable[..., Trial], name: str, value: Any, plan: Plan) -> Any:
    """A number as it is traced; of a time that must lie on a step the step, of fixed steps."""
    if name in getattr(trial, "time_parameters", ()) and not plan.adaptive:
        return steps_of(np.asarray(value, float), name, plan.dt)
    return np.asarray(value, jnp.result_type(float))
