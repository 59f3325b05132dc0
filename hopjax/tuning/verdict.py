"""What came of a tuning, and what is amiss with it: its goals, its parameters, in words."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hopjax.statistics import Interval
from hopjax.tuning.descent import Descent, History
from hopjax.tuning.losses import RetrievalLoss, Term
from hopjax.tuning.refine import Refined

_OFF = 0.005  # a measured mean is off its goal by more than this, or not worth a word
_WITHOUT = "without an interval"  # which is nothing amiss, but wants a reason
_AT_BOUND = 0.02  # of the range, or of the distance at the start


class Aim(NamedTuple):
    """What a loss came to, or each loss of a sum; in the dataset `term_measured` and so on.

    Attributes:
        name: the loss.
        measured: the mean of what it measures, with the tuned values, on batches of fresh trials:
            an overlap, a probability, a time, a cost. Of a loss of several numbers its share of
            the whole.
        error: the standard error of that.
        goal: what it should be, or be at least; NaN if the loss has no goal.
        off: whether it is another one, by more than three standard errors and by more than .005.
        silent: whether the loss had all but no gradient at the start.
    """

    name: str
    measured: float
    error: float
    goal: float
    off: bool
    silent: bool


def _is_smooth(term: Term) -> bool:
    """Whether what a term measures is the smooth stand-in for how often it is retrieved."""
    return isinstance(term.loss, RetrievalLoss) and not term.loss.straight_through


def find_aims(descent: Descent, history: History, refined: Refined) -> tuple[Aim, ...]:
    """Of all terms of the loss."""
    aims = []
    for number, (term, ending) in enumerate(
        zip(descent.gradients.terms, refined.endings, strict=True)
    ):
        kind, goal = (None, np.nan) if term.aim is None else term.aim
        missing = goal - ending.measured
        missing = abs(missing) if kind == "goal" else missing
        error = ending.error if np.isfinite(ending.error) else 0.0
        off = bool(missing > max(3 * error, _OFF))
        aims.append(Aim(term.name, *ending, goal, off, number in history.silent))
    return tuple(aims)


def in_a_line(
    history: History,
    refined: Refined,
    aims: Sequence[Aim],
    notes: Mapping[str, Sequence["Note"]],
    retrieved: Interval,
    terms: Sequence[Term],
) -> str:
    """Why it stopped, and whatever is amiss, in a line."""
    stopped = history.reason
    parts = [stopped if stopped.startswith("converged") else f"did not converge: {stopped}"]
    for aim, term in zip(aims, terms, strict=True):
        if aim.off:
            where = f"{aim.measured:.3g} ± {aim.error:.2g} where {aim.goal:g} is wanted"
            parts.append(f"off its goal: {aim.name} measured {where}")
        elif _is_smooth(term) and term.aim is not None:
            # The smooth probability is where it should be, and another one is what counts.
            found, least = retrieved, aim.goal - _OFF
            above = term.aim[0] == "goal" and found.low > aim.goal + _OFF
            if found.high < least or above:
                where = f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"
                parts.append(
                    f"off its goal: retrieved {where} where {aim.goal:g} is wanted of the smooth "
                    "probability"
                )
    silent = [aim.name for aim in aims if aim.silent]
    if silent:
        parts.append(f"all but no gradient at the start: {', '.join(silent)}")
    if not refined.loss.estimate < history.array("loss")[0]:
        parts.append("the loss did not fall")
    amiss = [(name, note.what) for name, some in notes.items() for note in some]
    parts += [f"{name} is {what}" for name, what in amiss if what != _WITHOUT]
    return "; ".join(parts)


class Note(NamedTuple):
    """What is wrong with a parameter, and how one knows."""

    what: str
    how: str


def find_notes(descent: Descent, history: History, refined: Refined, name: str) -> tuple[Note, ...]:
    """What is wrong with a parameter of which no interval is known."""
    if not refined.why:
        return ()
    notes = []
    path, window = history.array(f"z:{name}"), min(descent.window, len(history))
    gradient = history.array(f"g:{name}")[-window:]
    item, value = descent.gradients.job.ranges[name], descent.values(refined.z)[name]
    bounds = {"lower": item.low, "upper": item.high}
    for end, distance in item.nearness(value).items():
        near = distance <= _AT_BOUND
        if np.any(near):
            which = "" if near.ndim == 0 else f" in entries {np.argwhere(near).tolist()}"
            # Steps go against the gradient.
            push = gradient.mean(axis=0) * (-1 if item.grows_towards(end) else 1)
            error = gradient.std(axis=0, ddof=1) / np.sqrt(window) if window > 1 else np.nan
            falls = np.any((push > 3 * error) & near)
            how = "the loss falls towards it" if falls else "the loss is flat there"
            notes.append(Note(f"at its {end} bound {bounds[end]:g}{which}", how))
    if refined.flat.get(name):
        notes.append(Note("not determined", f"{refined.why} along it"))
    if len(history) >= 2 * window and not history.reason.startswith("converged"):
        late, before = path[-window:].mean(axis=0), path[-2 * window : -window].mean(axis=0)
        spread = np.maximum(path[-window:].std(axis=0), descent.tolerance)
        if np.any(np.abs(late - before) > spread):
            ends = (descent.values({name: jnp.asarray(z)})[name] for z in (before, late))
            first, last = (np.array2string(end, precision=3, threshold=4) for end in ends)
            how = f"from {first} to {last} over the last {2 * window} steps"
            notes.append(Note("still on its way", how))
    return tuple(notes) or (Note(_WITHOUT, refined.why),)
