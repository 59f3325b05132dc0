"""Tuning as a TOML file; its mistakes are told with the line and the key."""

import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hopjax._checks import check_array, check_number
from hopjax._errors import ArgumentError, shown
from hopjax.command.file import Source, check_tables, read_file, read_solver, tuples
from hopjax.command.trial import CRITERION, Subject, read_subject, read_task
from hopjax.tuning import (
    AbstractLoss,
    InputCost,
    OverlapLoss,
    RetrievalLoss,
    TimeLoss,
    WeightedSum,
    prepare,
    sorted_out,
)

_PASSED_ON = (
    *("t1", "dt", "save_every", "trials", "steps", "verify", "window", "tolerance"),
    *("fresh", "mode", "chunk"),
)
_TOP = ("seed", *_PASSED_ON, "solver", "optimiser", "learning_rate")
_TABLES = ("criterion", "trial", "parameters", "tune")
_LOSSES: dict[str, type[AbstractLoss]] = {
    "overlap": OverlapLoss,
    "retrieval": RetrievalLoss,
    "time": TimeLoss,
    "input_cost": InputCost,
}
_OPTIMISERS = ("adam", "lion", "rmsprop", "sgd")


class TuningArguments(NamedTuple):
    """What a file gives to `tune`."""

    trial: Callable[..., Any]
    parameters: dict[str, Any]
    options: dict[str, Any]


def read_tuning(path: str | os.PathLike[str]) -> TuningArguments:
    """What `tune` is to do by a file.

    Raises:
        FileError: for anything wrong in it, in one line.
    """
    content, source = read_file(path, _TOP, _TABLES, ("loss",))
    source.needs(
        content,
        {
            "seed": "a whole number",
            **dict.fromkeys(("t1", "dt"), "in time constants of a neuron"),
            "tune": "a table [tune] of what is tuned and from where",
            "loss": "a table [[loss]] of what is to become small",
        },
    )
    subject = read_subject(source, content)
    parameters, bounds = _parameters(source, content["tune"], subject)
    trial, criterion, key = read_task(source, content, subject, parameters, "tuned")
    options = {name: content[name] for name in _PASSED_ON if name in content}
    options |= {"loss": _loss(source, content), "bounds": bounds, "criterion": criterion}
    options["optimiser"] = _optimiser(source, content)
    options["solver"] = read_solver(source, content)
    tables = ("tune", "", subject.table, "criterion")
    asked = sorted_out(options)
    source.attempt(tables, lambda: prepare(trial, parameters, key, *asked))
    return TuningArguments(trial, parameters, options | {"key": key})


def _parameters(
    source: Source, table: dict[str, Any], subject: Subject
) -> tuple[dict[str, Any], dict[str, tuple[float | None, float | None]]]:
    """Starts and bounds."""
    subject.known(source, "tune", table, tunable=True)
    if not table:
        raise source.wrong("tune", "", "must have at least one parameter.")
    start, bounds = {}, {}
    for name, value in table.items():
        given = value if isinstance(value, dict) else {"start": value}
        if "start" not in given or not set(given) <= {"start", "low", "high"}:
            right = "a number, or { start = 2.0, low = 0.0, high = 10.0 } with or without bounds"
            raise source.wrong("tune", name, f"must be {right}, got {shown(value)}.")
        start[name] = tuples(given["start"])
        for end in ("low", "high"):
            try:
                if end in given:
                    check_number(given[end], end)
            except ArgumentError as error:
                raise source.wrong("tune", name, f"{end} {error.predicate}") from error
        if len(given) > 1:
            bounds[name] = (given.get("low"), given.get("high"))
    return start, bounds


def _loss(source: Source, content: dict[str, Any]) -> WeightedSum:
    """The sum of the losses."""
    tables = check_tables(source, content, "loss")
    if not tables:
        raise source.wrong("", "loss", "must be at least one table [[loss]].")
    terms = [_term(source, f"loss[{place}]", table) for place, table in enumerate(tables)]
    return WeightedSum(*zip(*terms, strict=True))


def _term(source: Source, name: str, table: dict[str, Any]) -> tuple[AbstractLoss, float]:
    """A loss and its weight."""
    right = "one of " + ", ".join(f'"{kind}"' for kind in _LOSSES)
    kind = table.get("kind")
    if kind is None:
        raise source.wrong(name, "kind", f"is missing, {right}.")
    if not isinstance(kind, str) or kind not in _LOSSES:
        raise source.wrong(name, "kind", f"must be {right}, got {shown(kind)}.")
    make = _LOSSES[kind]
    options = {key: value for key, value in table.items() if key not in ("kind", "weight")}
    for key in options:
        if key in CRITERION:
            what = (
                "belongs into the table [criterion], which all losses and the fresh trials share."
            )
            raise source.wrong(name, key, what)
    known = ("kind", "weight", *inspect.signature(make).parameters)
    source.known(name, options, known, f'key of the kind "{kind}"')
    weight = source.attempt((name,), lambda: _held(table.get("weight", 1.0), "weight"))
    return source.attempt((name,), lambda: make(**options)), weight


def _held(value: Any, name: str, *, positive: bool = False) -> float:
    """A number that the default float can hold."""
    number = check_number(value, name, positive=positive)
    check_array(number, name, ())
    return number


def _optimiser(source: Source, content: dict[str, Any]) -> Any:
    """One of Optax with its rate; None for the default of `tune`."""
    import optax  # here, so that other commands stay light

    name, rate = content.get("optimiser"), content.get("learning_rate")
    if name is None:
        if rate is not None:
            raise source.wrong("", "learning_rate", "must come with an optimiser.")
        return None
    if name not in _OPTIMISERS:
        right = ", ".join(f'"{known}"' for known in _OPTIMISERS)
        raise source.wrong("", "optimiser", f"must be one of {right}, got {shown(name)}.")
    if rate is None:
        raise source.wrong("", "optimiser", "must come with a learning_rate, a positive number.")
    rate = source.attempt((), lambda: _held(rate, "learning_rate", positive=True))
    return getattr(optax, name)(rate)
