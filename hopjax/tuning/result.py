"""What a tuning found, as it is printed and as a labelled dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from hopjax._errors import ArgumentError
from hopjax.ensemble import Ensemble
from hopjax.statistics import Interval
from hopjax.trials import OUTCOMES
from hopjax.tuning.descent import History
from hopjax.tuning.parameters import Values
from hopjax.tuning.verdict import Aim

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 12  # entries of an array; the rest is not printed


@dataclass(frozen=True, repr=False)
class Tuning:
    """What `tune` found.

    Attributes:
        parameters: the tuned values by name, in float64 on the host.
        intervals: 95% intervals of them, from the scatter of batches of fresh trials: how far the
            minimum of the loss is known. NaN for more than four numbers, and where there is no
            minimum (a bound, a flat loss).
        notes: by name what is wrong with a parameter: that it is at its bound, not determined by
            the loss, or still moves, and how one knows; only where something is.
        aims: of the loss, or of each loss of a sum, what it measured and what it should be.
        reason: why it stopped, whether it converged, and all that is amiss, in one line.
        converged: whether it stopped by the rule of `tune`: then a minimum of the loss was found,
            which may be off the goal, as `aims` tell.
        history: the steps, and all of this, as a labelled dataset.
        ensemble: fresh trials with the tuned values.
    """

    parameters: dict[str, Float[np.ndarray, "..."]]
    intervals: dict[str, Interval]
    notes: dict[str, str]
    aims: tuple[Aim, ...]
    reason: str
    converged: bool
    history: "xr.Dataset"
    ensemble: Ensemble

    @property
    def retrieved(self) -> Interval:
        """The probability of retrieval on fresh trials, with its 95% interval."""
        return self.ensemble.retrieved

    def __repr__(self) -> str:
        """A line for every parameter, why it stopped, and the probability."""
        return summary(self.history)


def summary(dataset: "xr.Dataset") -> str:
    """What the dataset of a tuning says: the parameters, how often it retrieves, the steps."""
    about, names = dataset.attrs, dataset.attrs["parameters"].split(", ")
    steps = (
        f"  {dataset.sizes['step']} steps of {about['trials']} trials in {about['mode']} mode: "
        f"{about['skipped']} skipped, {int(dataset.diverged.sum())} trials diverged"
    )
    if "unfinished" in about:
        lines = [f"unfinished: {about['unfinished']}"]
        for name in names:
            first, last = (_entries(dataset[variable_of(name)][end]) for end in (0, -1))
            lines.append(f"  {name} = {first} at the start, {last} at the last step")
        first, last = (_interval(dataset, "loss", end) for end in (0, -1))
        return "\n".join([*lines, f"  loss {first} at the start, {last} at the last step", steps])
    diverged = int(about["verified_diverged"])
    start, end = (
        _interval(dataset, name, place) for name, place in (("loss", 0), ("tuned_loss", ()))
    )
    lines = [f"Tuning: {about['reason']}"]
    for name in names:
        note = dataset[f"{variable_of(name)}_tuned"].attrs.get("note")
        lines.append(f"  {name} = {tuned_text(dataset, name)}" + (f": {note}" if note else ""))
    lines.append(f"  loss {start} at the start, {end} with what was tuned")
    for place, name in enumerate(dataset.term.to_numpy()):
        measured, error, goal, silent = (
            dataset[f"term_{what}"].to_numpy()[place]
            for what in ("measured", "error", "goal", "silent")
        )
        aim = f", {goal:g} wanted" if np.isfinite(goal) else ""
        quiet = "; all but no gradient at the start" if silent else ""
        lines.append(f"  {name} measured {measured:.4g} ± {error:.2g}{aim}{quiet}")
    return "\n".join(
        [
            *lines,
            f"  retrieved {_text(dataset, 'retrieved', '', '.3f')} of {about['verified']} fresh "
            "trials" + (f", of which {diverged} diverged" if diverged else ""),
            steps,
        ]
    )


def _interval(dataset: "xr.Dataset", name: str, place: Any) -> str:
    value, low, high = (dataset[name + end].to_numpy()[place] for end in ("", "_low", "_high"))
    return f"{value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else "")


def tuned_text(dataset: "xr.Dataset", name: str) -> str:
    """What a parameter was tuned to, entry by entry with its interval."""
    return _text(dataset, variable_of(name), "_tuned", ".4g")


def _text(dataset: "xr.Dataset", name: str, estimate: str, form: str) -> str:
    ends = (dataset[name + end].to_numpy().ravel() for end in (estimate, "_low", "_high"))
    entries = list(zip(*ends, strict=True))
    return _listed(
        [
            f"{value:{form}}" + (f" [{low:{form}}, {high:{form}}]" if np.isfinite(low) else "")
            for value, low, high in entries
        ]
    )


def _entries(values: "xr.DataArray") -> str:
    return _listed([f"{value:.4g}" for value in values.to_numpy().ravel()])


def _listed(entries: list[str]) -> str:
    more = [f"... ({len(entries)} in all)"] if len(entries) > SHOWN else []
    return ", ".join([*entries[:SHOWN], *more])


class Told(NamedTuple):
    """The first fields of a `Tuning`."""

    parameters: dict[str, Float[np.ndarray, "..."]]
    intervals: dict[str, Interval]
    notes: dict[str, str]
    aims: tuple[Aim, ...]
    reason: str


# Variables of the dataset that are not parameters.
_OF_THE_RESULT = (
    *("step", "loss", "loss_low", "loss_high", "gradient_norm", "diverged", "skipped"),
    *("tuned_loss", "tuned_loss_low", "tuned_loss_high"),
    *("term", "term_loss", "term_measured", "term_error", "term_goal", "term_silent"),
    *("retrieved", "retrieved_low", "retrieved_high"),
)


def variable_of(name: str) -> str:
    """A parameter's name in the dataset."""
    return name.replace(".", "_")


def check_names(start: Values) -> None:
    """Refuse parameters that would share a name in the dataset with something else."""
    taken = set(_OF_THE_RESULT)
    for name, value in start.items():
        axes = (f"_{axis}" for axis in range(value.ndim))
        variables = {variable_of(name) + end for end in ("", "_tuned", "_low", "_high", *axes)}
        if variables & taken:
            got = f"{name!r}, which is in the way of {min(variables & taken)}"
            right = "names that leave those of the result alone"
            raise ArgumentError("parameters", right, got, must="have")
        taken |= variables


def course_of(history: History) -> dict[str, Any]:
    """The loss and its gradient at every step, as variables of a dataset."""
    import xarray as xr  # here, so that importing hopjax stays light

    half = 1.96 * history.array("error")
    steps = {
        "loss": (history.array("loss"), "loss of the step's trials"),
        "loss_low": (history.array("loss") - half, "lower end of its 95% interval"),
        "loss_high": (history.array("loss") + half, "upper end of its 95% interval"),
        "gradient_norm": (history.array("gradient_norm"), "length of the gradient by z"),
        "diverged": (history.array("diverged"), "trials that diverged"),
        "skipped": (history.array("skipped").astype(int), "1: not finite, and left out"),
    }
    return {
        name: xr.Variable("step", values, {"long_name": about})
        for name, (values, about) in steps.items()
    }


def terms_of(history: History) -> dict[str, Any]:
    """The parts of the loss at every step."""
    import xarray as xr

    about = {"long_name": "what a loss adds to the whole at the step"}
    return {"term_loss": xr.Variable(("step", "term"), history.array("terms"), about)}


def path_of(name: str, values: np.ndarray) -> dict[str, Any]:
    """A parameter at every step."""
    import xarray as xr

    own = variable_of(name)
    dims = tuple(f"{own}_{axis}" for axis in range(values.ndim - 1))
    return {own: xr.Variable(("step", *dims), values, {"long_name": f"{name} at the step"})}


def make_dataset(
    history: History,
    paths: Mapping[str, np.ndarray],
    told: Told,
    converged: bool,
    loss: Interval,
    ensemble: Ensemble,
    attributes: Mapping[str, Any],
) -> "xr.Dataset":
    """All of it, with its labels.

    Args:
        history: the steps.
        paths: by name the values of each parameter at every step.
        told: what was found.
        converged: whether a minimum of the loss was.
        loss: of the values that were found.
        ensemble: fresh trials with them.
        attributes: what defines the tuning, and where it was done.
    """
    import xarray as xr  # here, so that importing hopjax stays light

    from hopjax.store.labels import warn_of_names

    variables = course_of(history)
    of_terms = {
        "measured": "mean of what a loss measures, with the tuned values",
        "error": "standard error of that",
        "goal": "what it should be, or be at least",
        "silent": "1: all but no gradient at the start",
    }
    for name, about in of_terms.items():
        values = np.array([getattr(aim, name) for aim in told.aims])
        values = values.astype(int) if name == "silent" else values
        variables[f"term_{name}"] = xr.Variable("term", values, {"long_name": about})
    variables |= terms_of(history)
    for name, interval in told.intervals.items():
        own = variable_of(name)
        variables |= path_of(name, paths[name])
        dims = variables[own].dims[1:]
        for end, values in zip(("tuned", "low", "high"), interval, strict=True):
            about = {"tuned": "tuned", "low": "lower end", "high": "upper end"}[end]
            variables[f"{own}_{end}"] = xr.Variable(dims, values, {"long_name": f"{name}: {about}"})
        variables[f"{own}_tuned"].attrs["note"] = told.notes.get(name, "")
    ends = zip(("", "_low", "_high"), loss, ensemble.retrieved, strict=True)
    for end, of_loss, of_retrieval in ends:
        about = {"": "", "_low": ", lower end", "_high": ", upper end"}[end]
        for name, what, value in (
            ("tuned_loss", "loss of a step's trials with the tuned values", of_loss),
            ("retrieved", "probability of retrieval with the tuned values", of_retrieval),
        ):
            variables[name + end] = xr.Variable((), value, {"long_name": what + about})
    described = {
        "title": "hopjax tuning",
        "reason": told.reason,
        "converged": int(converged),
        "parameters": ", ".join(told.intervals),
        "verified": ensemble.trials,
        "verified_diverged": int(np.sum(ensemble.outcome == OUTCOMES.index("diverged"))),
        "skipped": int(history.array("skipped").sum()),
        **ensemble.criterion.attributes,
        "random numbers": "threefry2x32",
        **attributes,
    }
    coordinates = {
        "step": np.arange(len(history)),
        "term": np.array([aim.name for aim in told.aims], object),
    }
    dataset = xr.Dataset(variables, coordinates, described)
    warn_of_names(dataset)
    return dataset
