"""What a function that makes trials says of its parameters, and what it needs of them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Key

from hopjax._checks import collect_bad_values
from hopjax.program import tracing


def inside_partial(function: Any) -> Any:
    """The function some of whose arguments were given."""
    while isinstance(function, (functools.partial, eqx.Partial)):
        function = function.func
    return function


def marked(function: Callable, mark: str) -> tuple[str, ...]:
    """The fields of a dataclass whose metadata have a mark; none of any other function.

    The marks are "static", for what fixes shapes or choices though it may be a number,
    "fractional", for numbers that may be written as whole ones, and "time", for those that must
    lie on a step.
    """
    function = inside_partial(function)
    if not dataclasses.is_dataclass(function):
        return ()
    return tuple(field.name for field in dataclasses.fields(function) if field.metadata.get(mark))


def fractional(function: Callable) -> tuple[str, ...]:
    """Parameters that are declared to be fractional: marked so, or annotated as float."""
    function, said = inside_partial(function), marked(function, "fractional")
    try:
        signature = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions have none
        signature = {}
    kinds: dict[str, Any] = {name: each.annotation for name, each in signature.items()}
    fields = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    kinds |= {field.name: field.type for field in fields}
    annotated = (name for name, kind in kinds.items() if kind in (float, "float"))
    return (*said, *annotated)


def needed_as_numbers(
    make: Callable[..., Any],
    key: Key[Array, ""],
    values: Mapping[str, Any],
    traced: Mapping[str, Any],
) -> tuple[tuple[str, ...], Exception | None]:
    """The parameters whose values a function must know when it is traced, and how it fails.

    Those fix a shape or a choice. Each is found by tracing it alone. There are none where all can
    be traced; nor where none can, because then the function fails for another reason.

    Args:
        make: a function of a key and the parameters, which does not fail untraced.
        key: any.
        values: all parameters as the function gets them untraced.
        traced: as arrays, those that are to be traced.
    """

    def failure(*names: str) -> Exception | None:
        rest = {name: value for name, value in values.items() if name not in names}

        def trace(key: Key[Array, ""], some: dict[str, Any]) -> None:
            with collect_bad_values():  # values are looked at where the trial is solved
                make(key, **rest, **some)

        try:
            with tracing():
                jax.eval_shape(trace, key, {name: traced[name] for name in names})
        except Exception as error:  # of JAX, of Python or of a check, whatever asks for a number
            return error
        return None

    error = failure(*traced)
    if error is None or failure() is not None:
        return (), None
    return tuple(name for name in traced if failure(name)) or tuple(traced), error
