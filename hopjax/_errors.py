"""What a wrong argument is told, and how: one sentence with its parts, and warnings."""

import functools
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class ArgumentError(ValueError):
    """An argument is wrong, as "Argument `dt` must be a positive number, got -0.1." says.

    The parts of the sentence are attributes. Where the kind of the argument is wrong it is an
    `ArgumentTypeError`, which is a `TypeError` too.

    Attributes:
        name: of the argument, such as "dt", or "sweep['noise']" for an entry of one.
        right: what it must be; or have, or give: `must` is that verb.
        got: what was given, in words; None where that is not told.
        must: the verb of `right`.
        hint: a remedy or a reason, or nothing.
        fits: names of other arguments that it does not fit, so that these may be wrong instead.
    """

    def __init__(
        self,
        name: str,
        right: str,
        got: Any = None,
        *,
        must: str = "be",
        hint: Any = "",
        instead: str = "",
        fits: tuple[str, ...] = (),
    ):
        super().__init__(name, right, got)
        self.name, self.right, self.must, self.fits = name, right, must, fits
        self.got, self.hint = None if got is None else str(got), str(hint)
        self._instead = instead  # the last clause, in place of what was given
        self._place = ""

    @property
    def predicate(self) -> str:
        """What the sentence says of the argument, in one line."""
        last = self._instead or ("" if self.got is None else f"got {self.got}")
        parts = [f"must {self.must} {self.right}", f", {last}" if last else ""]
        parts += [f": {self.hint}" if self.hint else ""]
        end = "" if self.hint.endswith((".", "?")) else "."
        return " ".join(f"{''.join(parts)}{end}{self._place}".split())

    def __str__(self) -> str:
        return f"Argument `{self.name}` {self.predicate}"

    def at(self, place: str) -> "ArgumentError":
        """The same error, which tells where it was found."""
        error = type(self).__new__(type(self), *self.args)  # a copy shares what dask knows of it
        vars(error).update(vars(self), _place=f" ({place})")
        return error


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument is of the wrong kind."""


def shown(value: Any) -> str:
    """A value for an error message: one short line, whatever it is."""
    try:
        text = str(value) if isinstance(value, np.generic) else repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or lists in lists without end
        return "what is too large to print"
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def warn(message: str) -> None:
    """A warning at the line outside this package that led to it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "hopjax":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def names_keywords(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Tell a call with too many arguments by position which ones are given by keyword.

    Python on its own only counts: "solve() takes 3 positional arguments but 5 were given".
    """
    parameters = inspect.signature(function).parameters.values()
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    name, uncounted = function.__qualname__.removesuffix(".__init__"), positional[:1] == ["self"]

    @functools.wraps(function)
    def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if len(args) > len(positional):
            raise TypeError(
                f"{name}() takes at most {len(positional) - uncounted} arguments by position, got "
                f"{len(args) - uncounted}; these must be given by keyword: {', '.join(keywords)}."
            )
        return function(*args, **kwargs)

    return checked
