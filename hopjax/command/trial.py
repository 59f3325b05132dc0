"""What a file is about: the standard retrieval, or a function of the user's, and its parameters."""

import dataclasses
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array, Key

from hopjax._checks import check_count
from hopjax._errors import shown
from hopjax.command.file import Source, tuples
from hopjax.tasks import Retrieval
from hopjax.trials import Criterion, marked, uncompiled

FIELDS = tuple(field.name for field in dataclasses.fields(Retrieval))
CRITERION = ("threshold", "mixed", "settle", "since", "mirror", "judge", "amplitude")


@dataclasses.dataclass(frozen=True)
class Subject:
    """What makes the trials of a file.

    Attributes:
        make: the class `Retrieval`, or the user's function.
        name: of the function, as the file has it; empty for the standard retrieval.
        table: the table that its parameters are set in.
        parameters: their names; None where it takes any.
        needed: those without a default.
    """

    make: Callable[..., Any]
    name: str
    table: str
    parameters: tuple[str, ...] | None
    needed: tuple[str, ...] = ()

    @property
    def tunable(self) -> tuple[str, ...] | None:
        """The names of parameters that may be tuned; None for any."""
        fractional, static = marked(self.make, "fractional"), marked(self.make, "static")
        return tuple(name for name in fractional if name not in static) or self.parameters

    def known(
        self,
        source: Source,
        table: str,
        given: Iterable[str],
        beside: tuple[str, ...] = (),
        tunable: bool = False,
    ) -> None:
        """Refuse keys that are none of its parameters; `beside` are other keys of the table."""
        names, what = (self.tunable if tunable else self.parameters), "key that is known here"
        if tunable:
            what = "number of the trial that can be tuned"
        if self.name:
            what = f"parameter of {self.name}"
        if names is not None:
            source.known(table, given, (*names, *beside), what)

    def trial(
        self, source: Source, content: dict[str, Any], varied: dict[str, Any], how: str
    ) -> Callable[..., Any]:
        """The function of a key and the varied parameters that makes a trial.

        Args:
            source: where things are.
            content: of the file.
            varied: the first values of those parameters that the file has elsewhere.
            how: they are varied, for messages.
        """
        set_here = content.get(self.table, {})
        self.known(source, self.table, set_here)
        for name in set_here:
            if name in varied:
                raise source.wrong(self.table, name, f"is {how} too: give it once.")
        fields = {name: tuples(value) for name, value in set_here.items()}
        if not self.name:
            # What is varied fits the rest; the rest alone may not.
            tables = (self.table, "sweep", "cells", "tune")
            return source.attempt(tables, lambda: self.make(**fields | varied))
        missing = [name for name in self.needed if name not in (*fields, *varied)]
        if missing:
            what = f"{self.name} needs {', '.join(missing)} too, neither set in [{self.table}] nor"
            known = ", ".join(self.parameters or self.needed)
            raise source.wrong("", "trial", f"{what} {how}; its parameters are {known}.")
        return partial(self.make, **fields) if fields else self.make


def read_subject(source: Source, content: dict[str, Any]) -> Subject:
    """What the file says under `trial`: a table, or "module:function".

    The module is looked for in the folder of the file, then in the working directory.

    Raises:
        FileError: where there is no such function, or it is none.
    """
    if not isinstance(content.get("trial", {}), str):
        if "parameters" in content:
            what = 'belongs to a function, trial = "module:function"; what is set of the standard '
            raise source.wrong("", "parameters", f"{what}retrieval is in [trial].")
        return Subject(Retrieval, "", "trial", FIELDS)
    name = content["trial"]
    module, _, path = name.partition(":")
    parts = [*module.split("."), *path.split(".")]
    if not all(part.isidentifier() for part in parts):
        right = 'must be a table, [trial], or a function, "module:function"'
        raise source.wrong("", "trial", f"{right}, got {shown(name)}.")
    found: Any = _import(source, module)
    for part in path.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__file__", None) or module
            raise source.wrong("", "trial", f"there is no {path} in {where}.")
        found = getattr(found, part)
    if isinstance(found, type) or not callable(found):
        kind = f"the class {path}" if isinstance(found, type) else shown(found)
        raise source.wrong("", "trial", f"{name} must be a function, got {kind}.")
    return Subject(found, name, "parameters", *_parameters(found))


def _import(source: Source, module: str) -> Any:
    """A module of the user's."""
    folders = [str(folder.resolve()) for folder in (source.path.parent, Path())]
    sys.path[:0] = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise source.wrong("", "trial", f"{module} imports {error.name}: {error}.") from error
        places = " or ".join(dict.fromkeys(folders))
        what = f"there is no module {error.name} in {places}, nor installed."
        raise source.wrong("", "trial", what) from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        raise source.wrong("", "trial", f"{module} cannot be imported: {reason}.") from error


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The names of a function's parameters beside the key, None for any; and those it needs."""
    if dataclasses.is_dataclass(function):  # such as a Retrieval
        return tuple(field.name for field in dataclasses.fields(function)), ()
    try:
        _, *parameters = inspect.signature(uncompiled(function)).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have none
        return None, ()
    named = [
        each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    needed = tuple(each.name for each in named if each.default is each.empty)
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None, needed
    return tuple(each.name for each in named), needed


def read_task(
    source: Source, content: dict[str, Any], subject: Subject, varied: dict[str, Any], how: str
) -> tuple[Callable[..., Any], Criterion, Key[Array, ""]]:
    """What makes the trials, the criterion, and the key of the seed.

    Args:
        source: where things are.
        content: of the file.
        subject: see there.
        varied: as for `Subject.trial`.
        how: see there.
    """
    criterion = content.get("criterion", {})
    source.known("criterion", criterion, CRITERION)
    trial = subject.trial(source, content, varied, how)
    judge = source.attempt(("criterion",), lambda: Criterion(**criterion))
    seed = source.attempt((), lambda: check_count(content["seed"], "seed", minimum=0))
    if seed >= 2**63:
        raise source.wrong("", "seed", f"must be below 2^63, got {shown(seed)}.")
    return trial, judge, jax.random.key(seed)
