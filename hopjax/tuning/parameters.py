"""What is tuned: numbers of a trial, by the name of an argument or by a path, and their bounds."""

import dataclasses
import difflib
import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hopjax._checks import check_array, check_instance, check_number, check_takes, check_values
from hopjax._errors import ArgumentError, ArgumentTypeError, shown
from hopjax.ensemble import check_trial
from hopjax.trials import Trial, default_target, marked, uncompiled

Values = dict[str, Float[Array, "..."]]


class Range(eqx.Module):
    """A parameter's bounds, by a transformation from free coordinates z.

    Without bounds θ = s z; above a bound θ = low + s exp z; below one θ = high − s exp z; between
    two θ = low + (high − low) / (1 + exp −z). s is the root mean square of the start, of its
    distance from the bound, or 1 where that is 0: a step of z is relative.
    """

    low: Float[Array, ""] | None
    high: Float[Array, ""] | None
    scale: Float[Array, ""]

    def value(self, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """θ(z)."""
        if self.low is not None and self.high is not None:
            return self.low + (self.high - self.low) * jax.nn.sigmoid(z)
        if self.low is not None:
            return self.low + self.scale * jnp.exp(z)
        return self.scale * z if self.high is None else self.high - self.scale * jnp.exp(z)

    def free(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """z(θ)."""
        if self.low is not None and self.high is not None:
            return jax.scipy.special.logit((value - self.low) / (self.high - self.low))
        if self.low is not None:
            return jnp.log((value - self.low) / self.scale)
        if self.high is not None:
            return jnp.log((self.high - value) / self.scale)
        return value / self.scale

    def nearness(self, value: Float[np.ndarray, "..."]) -> dict[str, Float[np.ndarray, "..."]]:
        """How far a value is from each bound, {"lower", "upper"}: of the range, or of the scale."""
        size = float(self.scale)
        if self.low is not None and self.high is not None:
            size = float(self.high - self.low)
        ends = {"lower": self.low, "upper": self.high}
        return {
            end: np.asarray(np.abs(value - float(bound)) / size)
            for end, bound in ends.items()
            if bound is not None
        }

    def grows_towards(self, end: str) -> bool:
        """Whether the free coordinate grows towards a bound."""
        return end == "upper" and self.low is not None


def values_of(z: Values, ranges: dict[str, Range]) -> Values:
    """Every parameter from its free coordinates."""
    return {name: ranges[name].value(part) for name, part in z.items()}


def count(values: Values) -> int:
    """How many numbers there are in all."""
    return sum(value.size for value in values.values())


class Tuned(eqx.Module):
    """The user's trial with other values: of arguments of a function, and at paths in the trial.

    Which memories are right is decided with the values at the `start`: tuning the input does not
    change it, though another memory may become the most salient one.
    """

    trial: Trial | Callable[..., Trial]
    paths: tuple[str, ...] = eqx.field(static=True)
    start: Values

    def __call__(self, key: Key[Array, ""], values: Values) -> Trial:
        """The trial of a key, with these values."""
        if isinstance(self.trial, Trial):
            trial = self.trial
        elif values is self.start:
            trial = self._of(key, values)
        else:
            with default_target(self._of(key, self.start).target):
                trial = self._of(key, values)
        return self.at_paths(trial, values)

    def _of(self, key: Key[Array, ""], values: Values) -> Trial:
        assert not isinstance(self.trial, Trial)
        named = {name: value for name, value in values.items() if name not in self.paths}
        trial = uncompiled(self.trial)(key, **named)
        check_trial(trial)
        return trial

    def at_paths(self, trial: Trial, values: Values) -> Trial:
        """A trial with the values at paths in the place of its own."""
        for path in self.paths:
            where = operator.attrgetter(path)
            trial = eqx.tree_at(where, trial, values[path].astype(where(trial).dtype))
        return trial


def select(
    trial: Trial | Callable[..., Trial], parameters: Any, key: Key[Array, ""]
) -> tuple[Tuned, Values, Trial]:
    """The trial as a function of a key and of values, these at the start, and what it then is."""
    if isinstance(trial, type) or not callable(trial):
        check_instance(trial, Trial, "trial", "a Trial, or a function that makes one from a key")
    check_instance(parameters, Mapping, "parameters", "a dict of starting values by name")
    if not parameters:
        raise ArgumentError("parameters", "at least one parameter", "none", must="have")
    for name in parameters:
        if not isinstance(name, str):
            raise ArgumentTypeError("parameters", "names", repr(name), must="have")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ArgumentError(
                "parameters",
                "names of arguments, or paths such as 'noise.strength'",
                repr(name),
                must="have",
            )
    paths = tuple(name for name in parameters if "." in name or isinstance(trial, Trial))
    given = {
        name: _as_start(value, name) for name, value in parameters.items() if name not in paths
    }
    if isinstance(trial, Trial):
        example = trial
    else:
        _check_arguments(trial, given)
        example = uncompiled(trial)(key, **given)
    check_trial(example)
    start = {}
    for name, value in parameters.items():
        if name not in paths:
            start[name] = given[name]
            continue
        found = _at_path(example, name)
        start[name] = _as_start(found if value is None else value, name)
        if start[name].shape != found.shape:
            raise ArgumentError(
                f"parameters[{name!r}]",
                f"the shape {found.shape} of what it replaces",
                start[name].shape,
                must="have",
            )
    make = Tuned(trial, paths, start)
    return make, start, make.at_paths(example, start)


def _as_start(value: Any, name: str) -> Float[Array, "..."]:
    where = f"parameters[{name!r}]"
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iufO":  # objects: integers beyond 64 bits, or no numbers
            raise TypeError
    except (TypeError, ValueError):
        raise ArgumentTypeError(where, "a number or an array of numbers", shown(value)) from None
    if array.size == 0:
        raise ArgumentError(where, "numbers", f"shape {array.shape}", must="have")
    return check_array(value, where).astype(jnp.result_type(float))


def _check_arguments(trial: Callable, given: Values) -> None:
    """Names that the function takes; a dataclass of a task says which of its fields are numbers."""
    if isinstance(trial, eqx.Partial):
        trial = functools.partial(trial.func, *trial.args, **trial.keywords)
    static, known = marked(trial, "static"), marked(trial, "fractional")
    if known:
        known = [name for name in known if name not in static]
    else:
        try:
            signature = inspect.signature(trial).parameters.values()
        except (TypeError, ValueError):  # some built-in functions have none
            return
        if any(each.kind is each.VAR_KEYWORD for each in signature):
            return
        known = [each.name for each in signature][1:]
    for name in given:
        if name not in known:
            raise ArgumentError(
                "parameters",
                "numbers that the trial takes",
                repr(name),
                must="name",
                hint=_hint(name, known),
            )
    right = " and the parameters ".join(["a key", *([", ".join(given)] if given else [])])
    check_takes(trial, "trial", right, None, **given)


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(known)}." if known else "it takes none."


def _at_path(trial: Trial, path: str) -> Float[Array, "..."]:
    """The array at a path such as "noise.strength"."""
    found: Any = trial
    for place, part in enumerate(path.split(".")):
        if not dataclasses.is_dataclass(found):
            known: list[str] = []
        else:
            known = [field.name for field in dataclasses.fields(found)]
        if part not in known:
            before = ".".join(["trial", *path.split(".")[:place]])
            hint = _hint(part, known) if known else f"{before} has no fields."
            raise ArgumentError(
                "parameters", "paths of arrays in the trial", repr(path), must="have", hint=hint
            )
        found = getattr(found, part)
    if not eqx.is_inexact_array(found):
        kind = f"of {found.dtype}" if eqx.is_array(found) else type(found).__name__
        raise ArgumentError(
            "parameters", "paths of arrays of floats", f"{path!r}, which is {kind}", must="have"
        )
    return found


def make_ranges(start: Values, bounds: Any) -> dict[str, Range]:
    """The range of every parameter, from the bounds that were given."""
    bounds = {} if bounds is None else bounds
    check_instance(bounds, Mapping, "bounds", "a dict of pairs (low, high) by name")
    for name in bounds:
        if name not in start:
            raise ArgumentError(
                "bounds", "parameters", repr(name), must="name", hint=_hint(name, list(start))
            )
    ranges = {}
    for name, value in start.items():
        pair = bounds.get(name, (None, None))
        where = f"bounds[{name!r}]"
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ArgumentTypeError(where, "a pair (low, high)", shown(pair))
        low, high = (None if end is None else check_number(end, where) for end in pair)
        if low is not None and high is not None and low >= high:
            raise ArgumentError(
                where, "its lower end below the upper one", f"({low:g}, {high:g})", must="have"
            )
        numbers = np.asarray(value, float)
        inside = (low is None or numbers > low) & (high is None or numbers < high)
        right = f"inside its bounds ({low}, {high})"
        check_values(value, ~np.asarray(inside), f"parameters[{name!r}]", right)
        distance = numbers - low if low is not None else numbers
        distance = high - numbers if low is None and high is not None else distance
        with np.errstate(over="ignore"):
            scale = float(np.sqrt(np.mean(distance**2))) or 1.0
        scale = scale if np.isfinite(scale) else float(np.abs(distance).max())
        low, high = (None if end is None else check_array(end, where, ()) for end in (low, high))
        ranges[name] = Range(low, high, jnp.asarray(scale, float))
    return ranges
